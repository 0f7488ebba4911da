"""broker/groups/stored.py: of each key what counts, and what transactions have staged."""

from __future__ import annotations

from minikafka.broker.groups.stored import StoredGroups
from minikafka.core.groups.effects import (
    GroupRecord,
    GroupSnapshot,
    OffsetAndMetadata,
    OffsetRecord,
    Record,
)
from minikafka.model import TopicPartition

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


class Log(StoredGroups):
    """Gives the records their offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.end_offset = 0

    def add(self, *records: Record, producer_id: int | None = None) -> None:
        for record in records:
            if isinstance(record, OffsetRecord) and record.value is not None:
                value = record.value.at(self.end_offset)
                record = OffsetRecord(record.group_id, record.topic_partition, value)
            if producer_id is None:
                self.take(record, self.end_offset)
            else:
                self.stage(record, producer_id)
            self.end_offset += 1

    def marker(self, producer_id: int, *, commits: bool) -> None:
        self.end(producer_id, self.end_offset, commits=commits)
        self.end_offset += 1

    def committed(self, group_id: str = "g") -> dict[str, int]:
        """Topic to offset."""
        committed = self.offsets(group_id).committed
        return {each.topic: value.offset for each, value in committed.items()}


def offset(number: int) -> OffsetAndMetadata:
    return OffsetAndMetadata(number, -1, "", 0)


def snapshot(generation_id: int) -> GroupSnapshot:
    return GroupSnapshot("consumer", generation_id, None, None, 0, ())


def test_the_newest_of_each_key_counts() -> None:
    log = Log()
    for number in (1, 2):
        log.add(OffsetRecord("g", A, offset(number)), GroupRecord("g", snapshot(number)))
    log.add(OffsetRecord("offsets only", B, offset(3)))
    assert log.group_ids() == {"g", "offsets only"}
    assert (log.snapshot("g"), log.committed()) == (snapshot(2), {"a": 2})
    assert log.snapshot("offsets only") is None
    assert log.committed("offsets only") == {"b": 3}


def test_what_is_taken_away_is_gone_and_a_group_of_which_nothing_is_left_with_it() -> None:
    log = Log()
    log.add(OffsetRecord("g", A, offset(1)), OffsetRecord("g", B, offset(2)))
    log.add(GroupRecord("g", snapshot(1)), OffsetRecord("g", A, None))
    assert log.committed() == {"b": 2}
    log.add(GroupRecord("g", None))
    assert (log.snapshot("g"), log.group_ids()) == (None, {"g"})
    log.add(OffsetRecord("g", B, None))
    assert log.group_ids() == set()


def test_a_tombstone_of_what_is_not_there_leaves_nothing() -> None:
    log = Log()
    log.add(OffsetRecord("g", A, None), GroupRecord("g", None))
    assert (log.group_ids(), log.committed()) == (set(), {})


def test_what_is_staged_counts_when_its_producer_commits_in_whatever_groups_it_is() -> None:
    log = Log()
    log.add(OffsetRecord("g", A, offset(1)), OffsetRecord("h", B, offset(2)), producer_id=7)
    log.add(OffsetRecord("g", B, offset(3)), producer_id=8)
    assert (log.committed(), log.staging) == ({}, {7: {"g", "h"}, 8: {"g"}})
    log.marker(7, commits=True)
    assert (log.committed(), log.committed("h")) == ({"a": 1}, {"b": 2})
    assert log.offsets("g").staged() == {B}
    log.marker(8, commits=False)
    assert (log.committed(), log.staging) == ({"a": 1}, {})
    log.marker(8, commits=True)
    assert log.committed() == {"a": 1}, "nothing is staged any more"


def test_a_group_of_aborted_offsets_alone_is_not_there() -> None:
    log = Log()
    log.add(OffsetRecord("g", A, offset(1)), producer_id=7)
    assert log.group_ids() == {"g"}
    log.marker(7, commits=False)
    assert log.group_ids() == set()


def test_a_commit_leaves_alone_what_was_written_above_its_record_and_what_a_tombstone_took() -> (
    None
):
    log = Log()
    log.add(OffsetRecord("g", A, offset(1)), OffsetRecord("g", B, offset(1)), producer_id=7)
    log.add(OffsetRecord("g", A, offset(2)), OffsetRecord("g", B, None))
    log.marker(7, commits=True)
    assert log.committed() == {"a": 2}


def test_a_tombstone_that_takes_the_last_of_a_group_leaves_the_marker_nothing_to_do() -> None:
    log = Log()
    log.add(OffsetRecord("g", A, offset(1)), producer_id=7)
    log.add(OffsetRecord("g", A, None))
    assert log.group_ids() == set()
    log.marker(7, commits=True)
    assert log.group_ids() == set()


def test_of_a_transaction_only_offsets_are_taken() -> None:
    log = Log()
    log.add(GroupRecord("g", snapshot(1)), OffsetRecord("g", A, None), producer_id=7)
    assert (log.group_ids(), log.staging) == (set(), {})
