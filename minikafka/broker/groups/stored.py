"""What is stored of the groups of one partition of `__consumer_offsets`, when it is read from the
beginning: of each key what counts, and what transactions have staged that are still open.

State: groups and tables of offsets, by group id; and in which groups a producer has something
staged. A record without a value takes away what was there; a group has an entry only while
something is left of it. All that is read is committed, so a marker takes effect at once.
"""

from __future__ import annotations

from minikafka.core.groups.effects import GroupSnapshot, OffsetRecord, Record
from minikafka.core.groups.offset_table import OffsetTable


class StoredGroups:
    """See the module. Takes records and markers in the order of the log."""

    def __init__(self) -> None:
        self.staging: dict[int, set[str]] = {}  # producer id -> group ids
        self._snapshots: dict[str, GroupSnapshot] = {}
        self._offsets: dict[str, OffsetTable] = {}

    def take(self, record: Record, record_offset: int) -> None:
        """A plain one, at this offset."""
        if isinstance(record, OffsetRecord):
            self._take_offset(record, record_offset)
        elif record.value is None:
            self._snapshots.pop(record.group_id, None)
        else:
            self._snapshots[record.group_id] = record.value

    def _take_offset(self, record: OffsetRecord, record_offset: int) -> None:
        table = self._table(record.group_id)
        if record.value is None:
            table.forget(record.topic_partition, record_offset)
            self._drop_if_empty(record.group_id)
        else:
            table.put(record.topic_partition, record.value)

    def stage(self, record: Record, producer_id: int) -> None:
        """One of a transaction: only offsets are ever staged."""
        if isinstance(record, OffsetRecord) and record.value is not None:
            table = self._table(record.group_id)
            table.stage(producer_id, record.topic_partition, record.value)
            self.staging.setdefault(producer_id, set()).add(record.group_id)

    def end(self, producer_id: int, marker_offset: int, *, commits: bool) -> None:
        """A marker of this producer."""
        for group_id in self.staging.pop(producer_id, ()):
            table = self._offsets.get(group_id)
            if table is not None:
                table.end(producer_id, marker_offset, commits=commits)
                table.settle(marker_offset)
                self._drop_if_empty(group_id)

    def _table(self, group_id: str) -> OffsetTable:
        table = self._offsets.get(group_id)
        if table is None:
            table = self._offsets[group_id] = OffsetTable()
        return table

    def _drop_if_empty(self, group_id: str) -> None:
        if not self._offsets[group_id]:
            del self._offsets[group_id]

    def group_ids(self) -> set[str]:
        return self._snapshots.keys() | self._offsets.keys()

    def snapshot(self, group_id: str) -> GroupSnapshot | None:
        """None: only offsets are stored of it."""
        return self._snapshots.get(group_id)

    def offsets(self, group_id: str) -> OffsetTable:
        return self._offsets.get(group_id) or OffsetTable()
