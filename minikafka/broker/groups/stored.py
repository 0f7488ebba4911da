"""What is stored of the groups of one partition of `__consumer_offsets`: of each key, the newest
record.

State: groups and offsets, by group id. A record without a value takes away what was there; a group
has an entry only while something is left of it.
"""

from __future__ import annotations

from minikafka.core.groups.effects import GroupSnapshot, OffsetAndMetadata, OffsetRecord, Record
from minikafka.model import TopicPartition


class StoredGroups:
    """See the module. Takes the records in the order of the log."""

    def __init__(self) -> None:
        self._snapshots: dict[str, GroupSnapshot] = {}
        self._offsets: dict[str, dict[TopicPartition, OffsetAndMetadata]] = {}

    def take(self, record: Record) -> None:
        if isinstance(record, OffsetRecord):
            self._take_offset(record)
        elif record.value is None:
            self._snapshots.pop(record.group_id, None)
        else:
            self._snapshots[record.group_id] = record.value

    def _take_offset(self, record: OffsetRecord) -> None:
        of_group = self._offsets.setdefault(record.group_id, {})
        if record.value is None:
            of_group.pop(record.topic_partition, None)
            if not of_group:
                del self._offsets[record.group_id]
        else:
            of_group[record.topic_partition] = record.value

    def group_ids(self) -> set[str]:
        return self._snapshots.keys() | self._offsets.keys()

    def snapshot(self, group_id: str) -> GroupSnapshot | None:
        """None: only offsets are stored of it."""
        return self._snapshots.get(group_id)

    def offsets(self, group_id: str) -> dict[TopicPartition, OffsetAndMetadata]:
        return self._offsets.get(group_id, {})
