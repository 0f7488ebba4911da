"""The offsets of a group as the log has them: what is committed, and what transactions have staged.

Records and markers come in as they lie in the log: while it is read, and later as they are appended
and committed. Both ways lead through the same few methods, so memory is what a replay of the log
gives, or of the log that compaction has left (transactions.md, T8).

    put      a plain record is committed
    forget   a tombstone is committed: it takes what lies below it, staged or not
    stage    a record of a transaction is in the log, committed or not
    end      a marker of its producer is in the log: what it ends waits for it
    settle   that marker is committed: what it commits counts, what it aborts is gone

State: committed offsets by partition, staged ones by producer id, and those whose marker is not
committed yet by the offset of the marker. Invariant: of a partition the value of the highest record
offset counts, of those that are committed and have no tombstone above them. A committed transaction
leaves alone what was written above its own record, since that is what compaction keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from minikafka.core.groups.effects import OffsetAndMetadata
from minikafka.model import TopicPartition

Offsets = dict[TopicPartition, OffsetAndMetadata]


class OffsetTable:
    """See the module. Everybody may read `committed`."""

    __slots__ = ("_ending", "_staged", "committed")

    def __init__(self, committed: Mapping[TopicPartition, OffsetAndMetadata] | None = None) -> None:
        self.committed: Offsets = dict(committed or {})
        self._staged: dict[int, Offsets] = {}  # by producer id
        self._ending: dict[int, tuple[bool, Offsets]] = {}  # by marker: does it commit, what

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, OffsetTable)
            and self.committed == other.committed
            and self._staged == other._staged
            and self._ending == other._ending
        )

    def __bool__(self) -> bool:
        return bool(self.committed or self._staged or self._ending)

    @property
    def any_staged(self) -> bool:
        return bool(self._staged or self._ending)

    def staged(self) -> set[TopicPartition]:
        """Of which partitions a transaction may yet move the offset."""
        return {each for offsets in self._all_staged() for each in offsets}

    def _all_staged(self) -> Iterator[Offsets]:
        yield from self._staged.values()
        for _, offsets in self._ending.values():
            yield offsets

    # --- plain records ---------------------------------------------------------------------------

    def put(self, topic_partition: TopicPartition, value: OffsetAndMetadata) -> None:
        known = self.committed.get(topic_partition)
        if known is None or known.record_offset < value.record_offset:
            self.committed[topic_partition] = value

    def forget(self, topic_partition: TopicPartition, record_offset: int) -> None:
        for offsets in (self.committed, *self._all_staged()):
            value = offsets.get(topic_partition)
            if value is not None and value.record_offset < record_offset:
                del offsets[topic_partition]
        self._staged = {each: offsets for each, offsets in self._staged.items() if offsets}
        self._ending = {each: ending for each, ending in self._ending.items() if ending[1]}

    # --- transactions ----------------------------------------------------------------------------

    def stage(
        self, producer_id: int, topic_partition: TopicPartition, value: OffsetAndMetadata
    ) -> None:
        self._staged.setdefault(producer_id, {})[topic_partition] = value

    def end(self, producer_id: int, marker_offset: int, *, commits: bool) -> None:
        offsets = self._staged.pop(producer_id, None)
        if offsets is not None:
            self._ending[marker_offset] = (commits, offsets)

    def settle(self, marker_offset: int) -> None:
        commits, offsets = self._ending.pop(marker_offset, (False, {}))
        for topic_partition, value in offsets.items() if commits else ():
            self.put(topic_partition, value)
