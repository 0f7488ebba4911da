"""broker/groups/stored.py: of each key, the newest record."""

from __future__ import annotations

from minikafka.broker.groups.stored import StoredGroups
from minikafka.core.groups.effects import (
    GroupRecord,
    GroupSnapshot,
    OffsetAndMetadata,
    OffsetRecord,
)
from minikafka.model import TopicPartition

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


def offset(number: int) -> OffsetAndMetadata:
    return OffsetAndMetadata(number, -1, "", 0)


def snapshot(generation_id: int) -> GroupSnapshot:
    return GroupSnapshot("consumer", generation_id, None, None, 0, ())


def test_the_newest_of_each_key_counts() -> None:
    stored = StoredGroups()
    for number in (1, 2):
        stored.take(OffsetRecord("g", A, offset(number)))
        stored.take(GroupRecord("g", snapshot(number)))
    stored.take(OffsetRecord("offsets only", B, offset(3)))
    assert stored.group_ids() == {"g", "offsets only"}
    assert (stored.snapshot("g"), stored.offsets("g")) == (snapshot(2), {A: offset(2)})
    assert stored.snapshot("offsets only") is None
    assert stored.offsets("offsets only") == {B: offset(3)}


def test_what_is_taken_away_is_gone_and_a_group_of_which_nothing_is_left_with_it() -> None:
    stored = StoredGroups()
    stored.take(OffsetRecord("g", A, offset(1)))
    stored.take(OffsetRecord("g", B, offset(2)))
    stored.take(GroupRecord("g", snapshot(1)))
    stored.take(OffsetRecord("g", A, None))
    assert stored.offsets("g") == {B: offset(2)}
    stored.take(GroupRecord("g", None))
    assert (stored.snapshot("g"), stored.group_ids()) == (None, {"g"})
    stored.take(OffsetRecord("g", B, None))
    assert stored.group_ids() == set()


def test_a_tombstone_of_what_is_not_there_leaves_nothing() -> None:
    stored = StoredGroups()
    stored.take(OffsetRecord("g", A, None))
    stored.take(GroupRecord("g", None))
    assert (stored.group_ids(), stored.offsets("g")) == (set(), {})
