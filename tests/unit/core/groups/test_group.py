"""core/groups/group.py: commits, expiry, deletion, restoring."""

from __future__ import annotations

import pytest

from minikafka.api.groups import CommittedOffset, GroupDescription, GroupProtocol
from minikafka.core.groups.effects import (
    GroupRecord,
    GroupSnapshot,
    MemberSnapshot,
    OffsetAndMetadata,
    OffsetRecord,
)
from minikafka.core.groups.group import Group
from minikafka.core.groups.lifecycle import GroupState
from minikafka.core.groups.offset_table import OffsetTable
from minikafka.core.groups.settings import GroupSettings
from minikafka.errors import (
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    GroupSubscribedToTopicError,
    IllegalGenerationError,
    NonEmptyGroupError,
    NotCoordinatorError,
    OffsetMetadataTooLargeError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from minikafka.model import TopicPartition
from tests.helpers.group_bench import DELAY_MS, RANGE, SESSION_MS, WALL_MS, GroupBench

ORDERS = TopicPartition("orders", 0)
RETENTION_MS = 1_000_000


@pytest.fixture
def bench() -> GroupBench:
    return GroupBench()


# --- committing ----------------------------------------------------------------------------------


def test_a_commit_counts_once_it_is_stored(bench: GroupBench) -> None:
    bench.writes_at_once = False
    token = bench.commit(7, metadata="note")
    assert token not in bench.answers
    assert bench.offset() == -1
    [append] = bench.unwritten
    assert append.records == (OffsetRecord("g", ORDERS, OffsetAndMetadata(7, 2, "note", WALL_MS)),)
    bench.written()
    assert bench.error(token) is None
    assert bench.group.fetch_offsets(None) == [CommittedOffset(ORDERS, 7, 2, "note")]
    assert bench.group.fetch_offsets([TopicPartition("x", 1)]) == [
        CommittedOffset(TopicPartition("x", 1))
    ]


def test_a_commit_that_cannot_be_stored_does_not_move_the_offset(bench: GroupBench) -> None:
    bench.commit(5)
    bench.writes_at_once = False
    token = bench.commit(7)
    bench.fail_writes(NotCoordinatorError())
    assert bench.error(token) is NotCoordinatorError
    assert bench.offset() == 5
    assert not bench.group.offsets.pending


def test_metadata_that_is_too_long_fails_its_partition(bench: GroupBench) -> None:
    assert bench.error(bench.commit(metadata="ä" * 9)) is OffsetMetadataTooLargeError
    assert bench.error(bench.commit(metadata="ä" * 8)) is None


def test_a_member_commits_under_its_id_and_generation(bench: GroupBench) -> None:
    bench.stable("a", "i", static=("i",))
    assert bench.error(bench.commit(1, member_id="a", generation_id=1)) is None
    assert bench.error(bench.commit(2, member_id="i", generation_id=1, instance_id="i")) is None
    assert bench.offset() == 2
    assert bench.error(bench.commit(member_id="a", generation_id=0)) is IllegalGenerationError
    assert bench.error(bench.commit(member_id="ghost", generation_id=1)) is UnknownMemberIdError
    assert bench.error(bench.commit(member_id="a", generation_id=-1)) is IllegalGenerationError
    assert bench.error(bench.commit(instance_id="i")) is not None


def test_who_is_no_member_commits_only_while_the_group_is_empty(bench: GroupBench) -> None:
    assert bench.error(bench.commit(3)) is None
    bench.stable("a")
    assert bench.error(bench.commit(4)) is UnknownMemberIdError
    bench.leave("a")
    assert bench.error(bench.commit(5)) is None
    assert bench.error(bench.commit(member_id="a", generation_id=1)) is UnknownMemberIdError


def test_commits_are_taken_while_others_join_but_not_before_the_assignment(
    bench: GroupBench,
) -> None:
    bench.stable("a", "b")
    joining = bench.join("a")
    bench.tick(SESSION_MS - 1)
    assert bench.error(bench.commit(member_id="b", generation_id=1)) is None
    bench.tick(SESSION_MS - 1)  # the commit was as good as a heartbeat
    assert joining not in bench.answers
    bench.join("b")
    assert bench.error(bench.commit(member_id="b", generation_id=2)) is RebalanceInProgressError


# --- deleting offsets ----------------------------------------------------------------------------


def test_offsets_of_topics_that_members_read_cannot_be_deleted(bench: GroupBench) -> None:
    bench.commit(1)
    bench.commit(2, topic="other")
    bench.stable("a")
    token = bench.delete_offsets("orders", "other", "nothing")
    errors = [each.error and type(each.error) for each in bench.answers[token].partitions]
    assert errors == [GroupSubscribedToTopicError, None, None]
    assert (bench.offset("orders"), bench.offset("other")) == (1, -1)
    assert bench.records[-1] == OffsetRecord("g", TopicPartition("other", 0), None)


def test_offsets_of_an_empty_group_can_be_deleted(bench: GroupBench) -> None:
    bench.commit(1)
    assert bench.error(bench.delete_offsets("orders")) is None
    assert bench.offset() == -1
    assert bench.error(bench.delete_offsets("orders")) is None
    assert bench.group.is_over


def test_a_deletion_of_offsets_that_cannot_be_stored_leaves_them(bench: GroupBench) -> None:
    bench.commit(1)
    bench.writes_at_once = False
    token = bench.delete_offsets("orders")
    bench.fail_writes(NotCoordinatorError())
    assert bench.error(token) is NotCoordinatorError
    assert bench.offset() == 1


def test_members_whose_topics_cannot_be_told_keep_all_offsets(bench: GroupBench) -> None:
    bench.commit(1)
    bench.join(fresh="a", protocol_type="connect")
    assert bench.error(bench.delete_offsets("orders")) is NonEmptyGroupError
    bench.leave("a")
    bench.tick(DELAY_MS)
    bench.join(fresh="a", protocols=(GroupProtocol("range", b"?"),))
    bench.tick(DELAY_MS)
    assert bench.error(bench.delete_offsets("orders")) is GroupSubscribedToTopicError


def test_offsets_of_deleted_topics_go_whoever_reads_them(bench: GroupBench) -> None:
    bench.commit(1)
    bench.commit(2, topic="kept")
    bench.stable("a")
    bench.apply(bench.group.forget_partitions(lambda each: each.topic == "orders"))
    assert bench.group.offsets.committed.keys() == {TopicPartition("kept", 0)}
    assert bench.group.forget_partitions(lambda each: each.topic == "orders") == []


# --- expiry --------------------------------------------------------------------------------------


def test_offsets_of_an_empty_group_expire_with_it_so_long_after_its_last_member(
    bench: GroupBench,
) -> None:
    bench.stable("a")
    bench.commit(1, member_id="a", generation_id=1)
    bench.tick(SESSION_MS)
    empty_since_ms = bench.now.ms
    assert bench.group.state is GroupState.EMPTY
    bench._go_to(empty_since_ms + RETENTION_MS - 1)
    assert bench.group.expire_offsets(RETENTION_MS, bench.now) == []
    bench._go_to(empty_since_ms + RETENTION_MS)
    bench.apply(bench.group.expire_offsets(RETENTION_MS, bench.now))
    assert bench.records[-2:] == [OffsetRecord("g", ORDERS, None), GroupRecord("g", None)]
    assert bench.group.is_over


def test_offsets_of_a_group_without_members_expire_each_after_its_commit(
    bench: GroupBench,
) -> None:
    bench.commit(1)
    bench._go_to(10)
    bench.commit(2, topic="later")
    bench._go_to(RETENTION_MS)
    bench.apply(bench.group.expire_offsets(RETENTION_MS, bench.now))
    assert bench.group.offsets.committed.keys() == {TopicPartition("later", 0)}


def test_in_a_stable_group_only_offsets_of_topics_that_nobody_reads_expire(
    bench: GroupBench,
) -> None:
    bench.commit(1)
    bench.commit(1, topic="forgotten")
    bench.stable("a")
    bench._go_to(bench.now.ms + RETENTION_MS)
    bench.apply(bench.group.expire_offsets(RETENTION_MS, bench.now))
    assert bench.group.offsets.committed.keys() == {ORDERS}
    bench.join("a")
    assert bench.group.expire_offsets(RETENTION_MS, bench.now) == []  # it is not stable now


def test_what_is_on_its_way_does_not_expire(bench: GroupBench) -> None:
    bench.commit(1)
    bench.commit(1, topic="other")
    bench._go_to(RETENTION_MS)
    bench.writes_at_once = False
    bench.commit(2)
    assert bench.group.expire_offsets(RETENTION_MS, bench.now) == []
    expired = bench.group.offsets.expired(bench.now.timestamp_ms, 0, lambda _: 0)
    assert expired == [TopicPartition("other", 0)]


def test_an_offset_with_an_expiry_of_its_own_expires_then(bench: GroupBench) -> None:
    value = OffsetAndMetadata(1, -1, "", 0, expire_timestamp_ms=WALL_MS + 5)
    bench.apply(bench.group.restore(None, OffsetTable({ORDERS: value}), bench.now))
    assert bench.group.expire_offsets(0, bench.now) == []
    bench._go_to(5)
    bench.apply(bench.group.expire_offsets(RETENTION_MS, bench.now))
    assert bench.group.is_over


def test_an_empty_group_whose_new_member_has_its_id_already_does_not_go(bench: GroupBench) -> None:
    bench.join(fresh="a", requires_id=True)
    assert bench.group.expire_offsets(0, bench.now) == []


# --- deleting ------------------------------------------------------------------------------------


def test_a_group_with_members_cannot_be_deleted(bench: GroupBench) -> None:
    bench.stable("a")
    assert bench.error(bench.delete()) is NonEmptyGroupError


def test_a_deleted_group_leaves_tombstones_and_is_over(bench: GroupBench) -> None:
    bench.commit(1)
    bench.writes_at_once = False
    bench.commit(2, topic="on-its-way")
    token = bench.delete()
    again = bench.delete()
    assert bench.error(again) is GroupIdNotFoundError
    assert bench.error(bench.commit(3)) is CoordinatorNotAvailableError
    assert bench.error(bench.delete_offsets("orders")) is GroupIdNotFoundError
    assert bench.group.fetch_offsets(None) == []
    assert bench.group.fetch_offsets([ORDERS]) == [CommittedOffset(ORDERS)]
    assert bench.group.expire_offsets(0, bench.now) == []
    assert bench.group.forget_partitions(lambda _: True) == []
    assert not bench.group.is_over
    bench.written()
    assert bench.error(token) is None
    assert bench.group.is_over
    assert bench.records[-3:] == [
        OffsetRecord("g", TopicPartition("on-its-way", 0), None),
        OffsetRecord("g", ORDERS, None),
        GroupRecord("g", None),
    ]


def test_a_group_whose_tombstones_cannot_be_stored_is_there_again(bench: GroupBench) -> None:
    bench.commit(1)
    bench.writes_at_once = False
    token = bench.delete()
    bench.fail_writes(NotCoordinatorError())
    assert bench.error(token) is NotCoordinatorError
    assert bench.group.state is GroupState.EMPTY
    assert bench.offset() == 1


# --- restoring and unloading ---------------------------------------------------------------------

STORED = MemberSnapshot("a", "i", "client", "host", 60_000, 8_000, RANGE[0].metadata, b"A")


def snapshot(*members: MemberSnapshot, leader_id: str | None = "b") -> GroupSnapshot:
    return GroupSnapshot("consumer", 4, "range" if members else None, leader_id, 17, members)


def test_a_group_is_restored_with_members_whose_sessions_begin_anew(bench: GroupBench) -> None:
    other = MemberSnapshot("b", None, "client", "host", 60_000, 9_000, RANGE[0].metadata, b"B")
    value = OffsetAndMetadata(1, -1, "", 0)
    bench.apply(
        bench.group.restore(snapshot(STORED, other), OffsetTable({ORDERS: value}), bench.now)
    )
    group = bench.group
    assert (group.state, group.generation.generation_id) == (GroupState.STABLE, 4)
    assert (group.members.leader_id, group.generation.subscribed_topics) == ("b", {"orders"})
    assert group.next_deadline_ms() == 8_000
    assert bench.heartbeat("a", 4, "i") is None
    assert bench.synced(bench.sync("b")).assignment == b"B"
    assert bench.offset() == 1
    assert bench.joined(bench.join("a", instance_id="i")).generation_id == 4


def test_an_empty_group_is_restored_with_its_generation_and_its_time(bench: GroupBench) -> None:
    bench.apply(bench.group.restore(snapshot(leader_id=None), OffsetTable(), bench.now))
    assert (bench.group.state, bench.group.generation.generation_id) == (GroupState.EMPTY, 4)
    assert bench.group.lifecycle.state_timestamp_ms == 17
    assert bench.group.generation.protocol_type == "consumer"
    assert not bench.group.is_over


def test_a_stored_group_of_an_old_format_is_empty_since_now(bench: GroupBench) -> None:
    old = GroupSnapshot("", 4, None, None, -1, ())
    bench.apply(bench.group.restore(old, OffsetTable(), bench.now))
    assert bench.group.lifecycle.state_timestamp_ms == WALL_MS
    assert bench.group.generation.protocol_type is None


def test_a_group_that_is_too_large_now_rebalances_at_once() -> None:
    bench = GroupBench(max_size=1)
    other = MemberSnapshot("b", None, "client", "host", 60_000, 9_000, RANGE[0].metadata, b"B")
    bench.apply(bench.group.restore(snapshot(STORED, other), OffsetTable(), bench.now))
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_whoever_waits_when_the_coordinator_moves_is_told(bench: GroupBench) -> None:
    bench.stable("a", "b")
    bench.join("a")
    joining = bench.join(fresh="c")
    bench.apply(bench.group.unload(NotCoordinatorError()))
    assert bench.error(joining) is NotCoordinatorError
    other = GroupBench()
    other.completing("a", "b")
    syncing = other.sync("b")
    other.apply(other.group.unload(NotCoordinatorError()))
    assert other.error(syncing) is NotCoordinatorError


# --- describing ----------------------------------------------------------------------------------


def test_a_stable_group_shows_what_its_members_told_and_were_given(bench: GroupBench) -> None:
    bench.stable("a")
    described = bench.group.describe()
    assert (described.state, described.protocol_type, described.protocol_name) == (
        "Stable",
        "consumer",
        "range",
    )
    [member] = described.members
    assert (member.member_id, member.metadata, member.assignment) == ("a", RANGE[0].metadata, b"a")
    assert (member.client_id, member.client_host) == ("client", "127.0.0.1")
    bench.join("a", protocols=(*RANGE, GroupProtocol("x", b"")))
    assert bench.group.describe().members[0].assignment == b""


def test_a_new_group_shows_nothing() -> None:
    group = Group("g", GroupSettings(), GroupBench().now)
    assert group.describe() == GroupDescription("g", None, "Empty", "", "", [])


def many_offsets(monkeypatch: pytest.MonkeyPatch) -> GroupBench:
    """Five, of which two go into a batch."""
    monkeypatch.setattr("minikafka.core.groups.offsets.MAX_BATCH_BYTES", 200)
    bench = GroupBench()
    for topic in ("a", "b", "c", "d", "e"):
        bench.commit(topic=topic)
    bench.writes_at_once = False
    return bench


def test_more_offsets_than_a_batch_takes_are_forgotten_in_several(monkeypatch):
    bench = many_offsets(monkeypatch)
    bench.apply(bench.group.forget_partitions(lambda each: each.topic in "abc"))
    assert [len(append.records) for append in bench.unwritten] == [2, 1]
    bench.written()
    assert [each.topic for each in bench.group.offsets.committed] == ["d", "e"]


def test_a_group_of_many_offsets_is_buried_in_several_batches(monkeypatch):
    bench = many_offsets(monkeypatch)
    token = bench.delete()
    assert [len(append.records) for append in bench.unwritten] == [2, 2, 2]
    bench.written()
    assert bench.error(token) is None
    assert bench.group.is_over
