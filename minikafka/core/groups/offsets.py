"""The offsets that a consumer group has committed, and when they may go.

State: committed offsets by partition, as they stand in `__consumer_offsets` below the high
watermark, and for each partition how many commits are on their way. Invariant: what is on its way
counts for nothing until it is committed, except that it keeps its partition from expiring.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from minikafka.api.groups import CommittedOffset
from minikafka.core.groups.effects import OffsetAndMetadata
from minikafka.model import TopicPartition

NO_EXPIRY = -1


class GroupOffsets:
    """See the module."""

    def __init__(self) -> None:
        self.committed: dict[TopicPartition, OffsetAndMetadata] = {}
        self.pending: Counter[TopicPartition] = Counter()

    def __bool__(self) -> bool:
        """Is anything committed, or about to be?"""
        return bool(self.committed or self.pending)

    def prepare(self, partitions: Iterable[TopicPartition]) -> None:
        """Commits of these are on their way."""
        self.pending.update(list(partitions))  # a mapping would be taken for counts

    def finish(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], committed: bool) -> None:
        """What was on its way is committed, or has failed."""
        self.pending.subtract(list(offsets))
        self.pending = +self.pending
        if committed:
            self.committed.update(offsets)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        for each in partitions:
            self.committed.pop(each, None)

    def fetch(self, partitions: Sequence[TopicPartition] | None) -> list[CommittedOffset]:
        """None: all there are."""
        wanted = sorted(self.committed) if partitions is None else partitions
        found = []
        for each in wanted:
            value = self.committed.get(each)
            if value is None:
                found.append(CommittedOffset(each))
            else:
                found.append(
                    CommittedOffset(each, value.offset, value.leader_epoch, value.metadata)
                )
        return found

    def expired(
        self,
        now_timestamp_ms: int,
        retention_ms: int,
        since: Callable[[OffsetAndMetadata], int],
        kept_topics: frozenset[str] = frozenset(),
    ) -> list[TopicPartition]:
        """The partitions whose offsets have not been needed for `retention_ms`, counted from
        `since`; none of `kept_topics`."""
        found = []
        for each, value in self.committed.items():
            if each in self.pending or each.topic in kept_topics:
                continue
            expires_at_ms = value.expire_timestamp_ms
            if expires_at_ms == NO_EXPIRY:
                expires_at_ms = since(value) + retention_ms
            if now_timestamp_ms >= expires_at_ms:
                found.append(each)
        return found
