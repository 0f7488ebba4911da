"""core/groups/membership.py: who comes to a group, who stays and who goes."""

from __future__ import annotations

import pytest

from minikafka.api.groups import GroupProtocol, JoinedMember, LeavingMember
from minikafka.core.groups.lifecycle import GroupState
from minikafka.core.groups.members import MAX_PENDING
from minikafka.errors import (
    CoordinatorNotAvailableError,
    FencedInstanceIdError,
    IllegalGenerationError,
    MemberIdRequiredError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from tests.helpers.group_bench import DELAY_MS, RANGE, SESSION_MS, GroupBench, subscription

OTHER = (GroupProtocol("roundrobin", subscription("orders")),)
BOTH = RANGE + OTHER


@pytest.fixture
def bench() -> GroupBench:
    return GroupBench()


# --- joining -------------------------------------------------------------------------------------


def test_a_member_without_an_id_is_given_one_and_told_to_join_again_with_it(
    bench: GroupBench,
) -> None:
    first = bench.joined(bench.join(fresh="m", requires_id=True))
    assert isinstance(first.error, MemberIdRequiredError)
    assert first.member_id == "m"
    assert bench.group.state is GroupState.EMPTY
    second = bench.join("m")
    bench.tick(DELAY_MS)
    assert bench.joined(second).generation_id == 1


def test_an_id_that_nobody_joins_with_is_forgotten_after_the_session_timeout(
    bench: GroupBench,
) -> None:
    bench.join(fresh="m", requires_id=True)
    bench.tick(SESSION_MS - 1)
    assert not bench.group.is_over
    bench.tick(1)
    assert bench.group.is_over
    assert bench.error(bench.join("m")) is UnknownMemberIdError


def test_a_pending_id_holds_a_rebalance_up_until_it_is_forgotten_or_leaves(
    bench: GroupBench,
) -> None:
    bench.stable("a")
    bench.join(fresh="b", requires_id=True)
    again = bench.join("a")
    assert again not in bench.answers
    assert bench.leave("b")[0].error is None
    assert bench.joined(again).generation_id == 2


def test_the_leader_is_told_of_all_members_and_the_others_of_none(bench: GroupBench) -> None:
    a, b = bench.join(fresh="a"), bench.join(fresh="b", instance_id="i")
    bench.tick(2 * DELAY_MS)
    metadata = RANGE[0].metadata
    result = bench.joined(a)
    assert (result.generation_id, result.leader_id, result.member_id) == (1, "a", "a")
    assert (result.protocol_type, result.protocol_name) == ("consumer", "range")
    assert list(result.members) == [
        JoinedMember("a", None, metadata),
        JoinedMember("b", "i", metadata),
    ]
    result = bench.joined(b)
    assert (result.leader_id, result.member_id, list(result.members)) == ("a", "b", [])


def test_a_join_that_is_repeated_is_answered_once_and_replaces_the_first(
    bench: GroupBench,
) -> None:
    bench.join(fresh="m", requires_id=True)
    first = bench.join("m")
    second = bench.join("m")
    assert bench.error(first) is RebalanceInProgressError
    bench.tick(2 * DELAY_MS)
    assert bench.joined(second).generation_id == 1


def test_who_missed_the_answer_to_its_join_gets_it_again_without_a_rebalance(
    bench: GroupBench,
) -> None:
    bench.completing("a", "b")
    leader, other = bench.joined(bench.join("a")), bench.joined(bench.join("b"))
    assert (leader.generation_id, len(leader.members)) == (1, 2)
    assert (other.generation_id, len(other.members)) == (1, 0)
    assert bench.group.state is GroupState.COMPLETING_REBALANCE


def test_who_joins_with_other_protocols_while_the_group_is_assigned_begins_a_rebalance(
    bench: GroupBench,
) -> None:
    bench.completing("a", "b")
    waiting = bench.sync("b")
    bench.join("b", protocols=BOTH)
    assert bench.error(waiting) is RebalanceInProgressError
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_a_stable_group_rebalances_for_its_leader_and_for_a_changed_member_only(
    bench: GroupBench,
) -> None:
    bench.stable("a", "b")
    same = bench.joined(bench.join("b"))
    assert (same.generation_id, same.leader_id, list(same.members)) == (1, "a", [])
    assert bench.group.state is GroupState.STABLE
    by_leader = bench.join("a")
    assert by_leader not in bench.answers
    bench.join("b")
    bench.sync("b")
    bench.sync("a")
    changed = bench.join("b", protocols=BOTH)
    assert changed not in bench.answers
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_a_member_that_nobody_knows_is_told_so(bench: GroupBench) -> None:
    assert bench.error(bench.join("ghost")) is UnknownMemberIdError
    bench.stable("a")
    assert bench.error(bench.join("ghost")) is UnknownMemberIdError
    assert isinstance(bench.heartbeat("ghost"), UnknownMemberIdError)


def test_a_new_member_whose_client_is_gone_is_dropped_after_five_minutes(
    bench: GroupBench,
) -> None:
    bench.stable("a", "b")
    token = bench.join(fresh="c", rebalance_timeout_ms=10**9)
    for _ in range(60):
        bench.heartbeat("a")
        bench.heartbeat("b")
        bench.tick(5_000)
    assert bench.error(token) is UnknownMemberIdError


# --- heartbeats, leaving -------------------------------------------------------------------------


def test_heartbeats_keep_a_session_and_tell_of_a_rebalance(bench: GroupBench) -> None:
    bench.stable("a", "b")
    for _ in range(4):
        bench.tick(SESSION_MS - 1)
        assert bench.heartbeat("a") is None
        assert bench.heartbeat("b") is None
    bench.join("a")
    assert isinstance(bench.heartbeat("b"), RebalanceInProgressError)
    assert isinstance(bench.heartbeat("b", generation_id=7), IllegalGenerationError)


def test_heartbeats_are_taken_while_the_group_is_assigned(bench: GroupBench) -> None:
    bench.completing("a", "b")
    assert bench.heartbeat("b") is None


def test_a_member_without_a_heartbeat_is_out_and_the_others_rebalance(bench: GroupBench) -> None:
    bench.stable("a", "b")
    bench.tick(SESSION_MS - 1)
    bench.heartbeat("a")
    bench.tick(1)
    assert isinstance(bench.heartbeat("a"), RebalanceInProgressError)
    result = bench.joined(bench.join("a"))
    assert (result.generation_id, len(result.members)) == (2, 1)


def test_members_leave_by_member_id_and_by_instance_id(bench: GroupBench) -> None:
    bench.stable("a", "i", "j", static=("i", "j"))
    left = bench.leave(
        LeavingMember("", "i"),
        LeavingMember("", "nobody"),
        LeavingMember("i", "j"),
        LeavingMember("a"),
        LeavingMember("a"),
    )
    assert [type(each.error) if each.error else None for each in left] == [
        None,
        UnknownMemberIdError,
        FencedInstanceIdError,
        None,
        UnknownMemberIdError,
    ]
    assert [each.member_id for each in bench.group.members] == ["j"]


def test_when_the_last_member_leaves_the_group_is_empty_and_that_is_stored(
    bench: GroupBench,
) -> None:
    bench.stable("a")
    bench.leave("a")
    assert bench.group.state is GroupState.EMPTY
    assert bench.records[-1].value is not None
    assert bench.records[-1].value.members == ()
    assert bench.group.generation.generation_id == 2
    assert not bench.group.is_over


def test_a_group_that_is_being_deleted_takes_no_members(bench: GroupBench) -> None:
    bench.commit()
    bench.writes_at_once = False
    bench.delete()
    assert bench.error(bench.join()) is CoordinatorNotAvailableError
    assert bench.error(bench.sync("a")) is CoordinatorNotAvailableError
    assert isinstance(bench.heartbeat("a"), CoordinatorNotAvailableError)
    with pytest.raises(CoordinatorNotAvailableError):
        bench.leave("a")


# --- more than a group takes ---------------------------------------------------------------------


def test_of_ids_that_nobody_joins_with_the_oldest_goes(bench: GroupBench) -> None:
    for number in range(MAX_PENDING + 1):
        bench.join(fresh=f"m{number}", requires_id=True)
    assert len(bench.group.members.pending) == MAX_PENDING
    assert bench.error(bench.join("m0")) is UnknownMemberIdError
    bench.join("m1")
    assert "m1" in bench.group.members


def test_static_members_with_no_time_to_join_do_not_keep_the_group_busy(bench: GroupBench) -> None:
    token = bench.join(fresh="a", instance_id="a", rebalance_timeout_ms=0)
    bench.tick(2 * DELAY_MS)
    bench.sync("a", [("a", b"")])
    assert bench.error(token) is None
    # It is thrown into a rebalance by one who goes again.
    bench.join(fresh="b")
    bench.leave("b")
    before = bench.group.next_deadline_ms()
    bench.apply(bench.group.on_time(bench.now))
    after = bench.group.next_deadline_ms()
    assert before is not None
    assert after is not None
    assert after > bench.now.ms
