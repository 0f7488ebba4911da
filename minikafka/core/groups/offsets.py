"""The offsets that a consumer group has committed, how they move, and when they may go.

State: the table of what stands in `__consumer_offsets` (offset_table.py): committed below the high
watermark, staged by transactions; and for each partition how many plain commits are on their way.
Invariant: what is on its way counts for nothing until it is committed, except that it keeps its
partition from expiring. So does what is staged, and the group from ending.

Who may commit, and what is to be forgotten, is decided elsewhere (membership.py, group.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from minikafka.api.groups import (
    CommittedOffset,
    OffsetCommitPartition,
    OffsetCommitPartitionResult,
    OffsetCommitResult,
    OffsetDeleteResult,
)
from minikafka.core.groups.effects import (
    GroupRecord,
    Now,
    OffsetAndMetadata,
    OffsetRecord,
    Record,
)
from minikafka.core.groups.offset_table import OffsetTable
from minikafka.core.groups.outgoing import Outgoing
from minikafka.errors import (
    GroupSubscribedToTopicError,
    MinikafkaError,
    OffsetMetadataTooLargeError,
    UnstableOffsetCommitError,
)
from minikafka.model import TopicPartition

NO_EXPIRY = -1
# A batch of tombstones is smaller than what any topic takes by default (1 MiB).
MAX_BATCH_BYTES = 500_000
RECORD_BYTES = 64  # of one, without the names in it


@dataclass(frozen=True, slots=True)
class OffsetsWrite:
    """A commit is on its way; `results` are the request's, those that have failed already too."""

    token: object
    results: tuple[OffsetCommitPartitionResult, ...]
    offsets: Mapping[TopicPartition, OffsetAndMetadata]


@dataclass(frozen=True, slots=True)
class ForgetWrite:
    """That these offsets are forgotten is on its way."""

    token: object
    results: tuple[OffsetCommitPartitionResult, ...]
    partitions: tuple[TopicPartition, ...]


def offsets_to_write(
    partitions: Sequence[OffsetCommitPartition], max_metadata_bytes: int, now: Now
) -> tuple[tuple[OffsetCommitPartitionResult, ...], dict[TopicPartition, OffsetAndMetadata]]:
    """Of a commit: a result for each partition, with its error if it has one already, and what the
    others move to."""
    results = tuple(OffsetCommitPartitionResult(each.topic_partition) for each in partitions)
    offsets = {}
    for result, each in zip(results, partitions, strict=True):
        if len(each.metadata.encode()) > max_metadata_bytes:
            result.error = OffsetMetadataTooLargeError(
                f"the metadata is longer than offset.metadata.max.bytes, {max_metadata_bytes}"
            )
        else:
            offsets[each.topic_partition] = OffsetAndMetadata(
                each.offset, each.leader_epoch, each.metadata, now.timestamp_ms
            )
    return results, offsets


def records_of(
    group_id: str, offsets: Mapping[TopicPartition, OffsetAndMetadata]
) -> tuple[OffsetRecord, ...]:
    """The records that say so, in the same order."""
    return tuple(OffsetRecord(group_id, *each) for each in offsets.items())


def note_outcome(
    error: MinikafkaError | None,
    results: Iterable[OffsetCommitPartitionResult],
    written: Container[TopicPartition],
) -> None:
    """How the write ended, in the results of those that were in it."""
    for each in results:
        if each.error is None and each.topic_partition in written:
            each.error = error


class GroupOffsets:
    """See the module. Everybody may read `table` and `pending`."""

    def __init__(self, group_id: str, outgoing: Outgoing) -> None:
        self.table = OffsetTable()
        self.pending: Counter[TopicPartition] = Counter()
        self._group_id = group_id
        self._outgoing = outgoing

    def __bool__(self) -> bool:
        """Is anything committed, or about to be?"""
        return bool(self.table or self.pending)

    @property
    def committed(self) -> dict[TopicPartition, OffsetAndMetadata]:
        return self.table.committed

    def restore(self, table: OffsetTable) -> None:
        """As the log has them, which coordinators before have written."""
        self.table = table

    # --- committing ------------------------------------------------------------------------------

    def commit(
        self,
        partitions: Sequence[OffsetCommitPartition],
        max_metadata_bytes: int,
        token: object,
        now: Now,
    ) -> None:
        results, offsets = offsets_to_write(partitions, max_metadata_bytes, now)
        if not offsets:
            self._outgoing.reply(token, OffsetCommitResult(results))
            return
        self.pending.update(list(offsets))  # a mapping would be taken for counts
        records = records_of(self._group_id, offsets)
        self._outgoing.append(records, OffsetsWrite(token, results, offsets))

    def refuse_commit(
        self, partitions: Sequence[OffsetCommitPartition], error: MinikafkaError, token: object
    ) -> None:
        """None of them moves."""
        results = [OffsetCommitPartitionResult(each.topic_partition, error) for each in partitions]
        self._outgoing.reply(token, OffsetCommitResult(tuple(results)))

    def on_committed(
        self, write: OffsetsWrite, error: MinikafkaError | None, base_offset: int
    ) -> None:
        """What was on its way is committed, or has failed."""
        self.pending.subtract(list(write.offsets))
        self.pending = +self.pending
        if error is None:
            for record_offset, (each, value) in enumerate(write.offsets.items(), base_offset):
                self.table.put(each, value.at(record_offset))
        note_outcome(error, write.results, write.offsets)
        self._outgoing.reply(write.token, OffsetCommitResult(write.results))

    def stage(
        self,
        producer_id: int,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        base_offset: int,
    ) -> None:
        """What a transaction commits to is in the log."""
        for record_offset, (each, value) in enumerate(offsets.items(), base_offset):
            self.table.stage(producer_id, each, value.at(record_offset))

    def partitions(self, *, require_stable: bool) -> list[TopicPartition]:
        """All that there is something to be told of."""
        unstable = self.table.staged() if require_stable else set()
        return list(self.committed.keys() | unstable)

    def fetch(
        self, partitions: Sequence[TopicPartition], *, require_stable: bool
    ) -> list[CommittedOffset]:
        """`require_stable`: of what a transaction may yet move, only that."""
        committed = self.committed
        unstable = self.table.staged() if require_stable else set()
        found = []
        for each in partitions:
            value = committed.get(each)
            if unstable and each in unstable:
                error = UnstableOffsetCommitError(f"a transaction is about to commit {each}")
                found.append(CommittedOffset(each, error=error))
            elif value is None:
                found.append(CommittedOffset(each))
            else:
                found.append(
                    CommittedOffset(each, value.offset, value.leader_epoch, value.metadata)
                )
        return found

    # --- forgetting ------------------------------------------------------------------------------

    def delete(
        self, partitions: Sequence[TopicPartition], is_read: Callable[[str], bool], token: object
    ) -> None:
        """Somebody wants them to go, which those of topics that members read do not."""
        results = tuple(OffsetCommitPartitionResult(each) for each in partitions)
        for result in results:
            topic = result.topic_partition.topic
            if is_read(topic):
                result.error = GroupSubscribedToTopicError(
                    f"group {self._group_id!r} reads topic {topic!r} at the moment"
                )
        there = self.committed.keys() | self.table.staged()
        going = tuple(
            each.topic_partition
            for each in results
            if each.error is None and each.topic_partition in there
        )
        if going:
            self._outgoing.append(self._tombstones(going), ForgetWrite(token, results, going))
        else:
            self._outgoing.reply(token, OffsetDeleteResult(None, results))

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """They are to go, and nobody asks how that ends."""
        for some in self._in_batches(partitions):
            self._outgoing.append(self._tombstones(some), ForgetWrite(None, (), some))

    def known(self) -> Iterator[TopicPartition]:
        """Those with offsets, also those that are on their way or staged: they may be committed
        before a tombstone is. One may come more than once."""
        return chain(self.committed, self.pending, self.table.staged())

    def forget_all(self, end: GroupRecord, write: object) -> None:
        """All are to go. `end` is the last record, in the batch of which `write` is the note."""
        partitions = sorted(set(self.known()))
        *before, last = self._in_batches(partitions) if partitions else [()]
        for some in before:
            self._outgoing.append(self._tombstones(some), ForgetWrite(None, (), some))
        self._outgoing.append((*self._tombstones(last), end), write)

    def on_forgotten(
        self, write: ForgetWrite, error: MinikafkaError | None, base_offset: int
    ) -> None:
        """What was to be forgotten is, or has stayed."""
        if error is None:
            for record_offset, each in enumerate(write.partitions, base_offset):
                self.table.forget(each, record_offset)
        note_outcome(error, write.results, write.partitions)
        self._outgoing.reply(write.token, OffsetDeleteResult(None, write.results))

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
        staged = self.table.staged()
        for each, value in self.committed.items():
            if each in self.pending or each in staged or each.topic in kept_topics:
                continue
            expires_at_ms = value.expire_timestamp_ms
            if expires_at_ms == NO_EXPIRY:
                expires_at_ms = since(value) + retention_ms
            if now_timestamp_ms >= expires_at_ms:
                found.append(each)
        return found

    def _tombstones(self, partitions: Iterable[TopicPartition]) -> tuple[Record, ...]:
        return tuple(OffsetRecord(self._group_id, each, None) for each in partitions)

    def _in_batches(
        self, partitions: Iterable[TopicPartition]
    ) -> Iterator[tuple[TopicPartition, ...]]:
        """As many of their records as surely go into one batch of `__consumer_offsets`."""
        some: list[TopicPartition] = []
        size_bytes = 0
        for each in partitions:
            record_bytes = RECORD_BYTES + 4 * (len(self._group_id) + len(each.topic))
            if some and size_bytes + record_bytes > MAX_BATCH_BYTES:
                yield tuple(some)
                some, size_bytes = [], 0
            some.append(each)
            size_bytes += record_bytes
        if some:
            yield tuple(some)
