"""core/groups/membership.py: who comes to a group, who stays and who goes."""

from __future__ import annotations

import pytest

from minikafka.api.groups import GroupProtocol, JoinedMember, LeavingMember
from minikafka.core.groups.admission import MAX_MEMBER_BYTES, MAX_PROTOCOLS, MAX_TEXT
from minikafka.core.groups.generation import MAX_GENERATION
from minikafka.core.groups.lifecycle import GroupState
from minikafka.core.groups.members import MAX_PENDING
from minikafka.errors import (
    CoordinatorNotAvailableError,
    FencedInstanceIdError,
    GroupMaxSizeReachedError,
    IllegalGenerationError,
    InconsistentGroupProtocolError,
    InvalidRequestError,
    InvalidSessionTimeoutError,
    MemberIdRequiredError,
    NotCoordinatorError,
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


@pytest.mark.parametrize("timeout_ms", [5_999, 1_800_001])
def test_a_session_timeout_out_of_bounds_is_refused(bench: GroupBench, timeout_ms: int) -> None:
    assert bench.error(bench.join(session_timeout_ms=timeout_ms)) is InvalidSessionTimeoutError


def test_members_must_have_type_and_protocol_in_common(bench: GroupBench) -> None:
    assert bench.error(bench.join(protocols=())) is InconsistentGroupProtocolError
    assert bench.error(bench.join(protocol_type="")) is InconsistentGroupProtocolError
    bench.stable("a")
    assert bench.error(bench.join(protocols=OTHER)) is InconsistentGroupProtocolError
    assert bench.error(bench.join(protocol_type="connect")) is InconsistentGroupProtocolError


def test_a_group_that_all_have_left_while_it_gathered_takes_any_type(bench: GroupBench) -> None:
    bench.join(fresh="a")
    bench.leave("a")
    token = bench.join(fresh="b", protocol_type="connect", protocols=OTHER)
    bench.tick(2 * DELAY_MS)
    assert bench.joined(token).protocol_type == "connect"


def test_a_full_group_takes_nobody_but_those_who_are_in_it() -> None:
    bench = GroupBench(max_size=2)
    bench.join(fresh="late", requires_id=True)
    bench.join(fresh="a")
    bench.join(fresh="i", instance_id="i")
    bench.tick(SESSION_MS - 1)
    bench.sync("i")
    bench.sync("a")
    assert bench.error(bench.join()) is GroupMaxSizeReachedError
    assert bench.error(bench.join("late")) is GroupMaxSizeReachedError
    assert bench.group.members.pending == {}
    assert bench.error(bench.join(fresh="i2", instance_id="i")) is None
    bench.join("a")
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_while_a_group_gathers_those_who_have_joined_count_as_its_size() -> None:
    bench = GroupBench(max_size=2)
    bench.join(fresh="a", requires_id=True)
    first = bench.join("a")
    bench.join(fresh="b")
    assert bench.error(bench.join(fresh="c")) is GroupMaxSizeReachedError
    bench.join("a")
    assert bench.error(first) is RebalanceInProgressError  # only since it has asked again


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


# --- static members ------------------------------------------------------------------------------


def test_a_static_member_comes_back_to_a_stable_group_without_a_rebalance(
    bench: GroupBench,
) -> None:
    bench.stable("a", "i", static=("i",))
    bench.writes_at_once = False
    token = bench.join(fresh="i2", instance_id="i")
    assert token not in bench.answers  # not before the new id is stored
    bench.written()
    result = bench.joined(token)
    assert (result.error, result.member_id, result.leader_id) == (None, "i2", "a")
    assert (result.skip_assignment, list(result.members)) == (False, [])
    assert bench.group.state is GroupState.STABLE
    assert bench.synced(bench.sync("i2", instance_id="i")).assignment == b"i"
    assert isinstance(bench.heartbeat("i", instance_id="i"), FencedInstanceIdError)
    assert bench.error(bench.join("i", instance_id="i")) is FencedInstanceIdError


def test_a_static_leader_who_comes_back_leads_and_is_told_to_assign_nothing(
    bench: GroupBench,
) -> None:
    bench.stable("i", "b", static=("i",))
    result = bench.joined(bench.join(fresh="i2", instance_id="i"))
    assert (result.leader_id, result.skip_assignment, len(result.members)) == ("i2", True, 2)


def test_a_static_leader_that_cannot_skip_the_assignment_is_told_that_it_does_not_lead(
    bench: GroupBench,
) -> None:
    bench.stable("i", "b", static=("i",))
    result = bench.joined(bench.join(fresh="i2", instance_id="i", skips=False))
    assert (result.leader_id, result.skip_assignment, list(result.members)) == ("i", False, [])
    assert bench.group.members.leader_id == "i2"


def test_if_the_new_id_of_a_static_member_cannot_be_stored_the_old_one_stays(
    bench: GroupBench,
) -> None:
    bench.stable("a", "i", static=("i",))
    bench.writes_at_once = False
    token = bench.join(fresh="i2", instance_id="i", protocols=BOTH, session_timeout_ms=9_000)
    bench.fail_writes(NotCoordinatorError())
    assert bench.error(token) is NotCoordinatorError
    assert bench.heartbeat("i", instance_id="i") is None
    assert bench.group.members["i"].session_timeout_ms == SESSION_MS
    assert bench.group.members["i"].protocols == RANGE


def test_a_rebalance_that_begins_while_the_new_id_is_stored_answers_the_static_member(
    bench: GroupBench,
) -> None:
    bench.stable("a", "i", static=("i",))
    bench.writes_at_once = False
    token = bench.join(fresh="i2", instance_id="i")
    bench.join("a")
    assert bench.joined(token).generation_id == 2
    bench.written()
    assert bench.group.state is GroupState.COMPLETING_REBALANCE


def test_a_static_member_that_has_not_synced_may_still_come_back(bench: GroupBench) -> None:
    bench.completing("a", "i", static=("i",))
    bench.sync("a", [("a", b"A"), ("i", b"I")])
    bench.join(fresh="i2", instance_id="i")
    assert bench.group.rebalance.awaiting_sync == {"i2"}
    assert bench.synced(bench.sync("i2")).assignment == b"I"


def test_a_static_member_that_comes_back_while_it_is_assigned_begins_a_rebalance(
    bench: GroupBench,
) -> None:
    bench.completing("a", "i", static=("i",))
    waiting = bench.sync("i")
    bench.join(fresh="i2", instance_id="i")
    assert bench.error(waiting) is FencedInstanceIdError
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_a_static_member_that_changes_the_choice_of_protocol_begins_a_rebalance(
    bench: GroupBench,
) -> None:
    bench.join(fresh="a", protocols=OTHER + RANGE)
    bench.join(fresh="i", instance_id="i", protocols=OTHER + RANGE)
    bench.tick(2 * DELAY_MS)
    bench.sync("i")
    bench.sync("a")
    bench.join(fresh="i2", instance_id="i", protocols=RANGE)
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_a_second_static_member_of_the_same_instance_fences_the_first_while_it_waits(
    bench: GroupBench,
) -> None:
    first = bench.join(fresh="i1", instance_id="i")
    second = bench.join(fresh="i2", instance_id="i")
    assert bench.error(first) is FencedInstanceIdError
    bench.tick(2 * DELAY_MS)
    assert bench.joined(second).member_id == "i2"


def test_an_instance_that_the_group_does_not_have_is_unknown(bench: GroupBench) -> None:
    bench.stable("a")
    assert isinstance(bench.heartbeat("a", instance_id="nobody"), UnknownMemberIdError)


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


@pytest.mark.parametrize(
    "protocols",
    [
        [GroupProtocol(f"p{number}", b"") for number in range(MAX_PROTOCOLS + 1)],
        [GroupProtocol("p" * (MAX_TEXT + 1), b"")],
        [GroupProtocol("range", bytes(MAX_MEMBER_BYTES))],
    ],
    ids=["protocols", "a name", "metadata"],
)
def test_a_member_that_tells_too_much_is_refused_and_the_others_do_not_hear_of_it(
    bench: GroupBench, protocols: list[GroupProtocol]
) -> None:
    bench.stable("a")
    token = bench.join(fresh="b", protocols=[*RANGE, *protocols])
    assert bench.error(token) is InvalidRequestError
    assert bench.group.state is GroupState.STABLE


def test_texts_that_could_not_be_stored_are_refused(bench: GroupBench) -> None:
    assert bench.error(bench.join(instance_id="i" * (MAX_TEXT + 1))) is InvalidRequestError
    assert bench.error(bench.join(protocol_type="t" * (MAX_TEXT + 1))) is InvalidRequestError


def test_members_together_tell_no_more_than_a_group_takes(bench: GroupBench) -> None:
    large = [GroupProtocol("range", bytes(MAX_MEMBER_BYTES - 100))]
    waiting = [bench.join(fresh=f"m{number}", protocols=large) for number in range(16)]
    assert not any(token in bench.answers for token in waiting)
    assert bench.error(bench.join(fresh="late", protocols=large)) is GroupMaxSizeReachedError
    # Who is there already may say the same again.
    again = bench.join("m0", protocols=large)
    assert again not in bench.answers


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


def test_after_the_last_generation_comes_the_first(bench: GroupBench) -> None:
    bench.group.generation.generation_id = MAX_GENERATION
    bench.completing("a")
    assert bench.group.generation.generation_id == 1


def test_a_subscription_to_more_topics_than_anybody_looks_at_is_not_known(
    bench: GroupBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minikafka.core.groups.members.MAX_SUBSCRIBED", 3)
    for name in ("a", "b"):
        bench.join(fresh=name, protocols=[GroupProtocol("range", subscription("s", "t"))])
    bench.tick(3 * DELAY_MS)
    assert bench.group.generation.subscribed_topics is None
