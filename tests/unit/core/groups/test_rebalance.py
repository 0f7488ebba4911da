"""core/groups/rebalance.py: from one generation to the next."""

from __future__ import annotations

import pytest

from minikafka.api.groups import GroupProtocol
from minikafka.core.groups.effects import GroupRecord, GroupSnapshot, MemberSnapshot
from minikafka.core.groups.lifecycle import GroupState
from minikafka.errors import (
    CoordinatorNotAvailableError,
    IllegalGenerationError,
    InconsistentGroupProtocolError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from tests.helpers.group_bench import (
    DELAY_MS,
    RANGE,
    REBALANCE_MS,
    SESSION_MS,
    WALL_MS,
    GroupBench,
    subscription,
)

A_B_C = tuple(GroupProtocol(name, b"") for name in "ABC")
C_A = (GroupProtocol("C", b""), GroupProtocol("A", b""))


@pytest.fixture
def bench() -> GroupBench:
    return GroupBench()


def test_the_first_rebalance_waits_again_for_each_one_who_comes(bench: GroupBench) -> None:
    first = bench.join(fresh="a")
    bench.tick(DELAY_MS - 1)
    bench.join(fresh="b")
    bench.tick(DELAY_MS)
    assert first not in bench.answers
    bench.tick(1)
    assert len(bench.joined(first).members) == 2


def test_the_first_rebalance_waits_no_longer_than_the_rebalance_timeout(bench: GroupBench) -> None:
    first = bench.join(fresh="a", rebalance_timeout_ms=5_000)
    bench.tick(DELAY_MS - 1)
    bench.join(fresh="b", rebalance_timeout_ms=5_000)
    bench.tick(2_000)
    bench.join(fresh="c", rebalance_timeout_ms=5_000)
    assert first not in bench.answers
    bench.tick(1)
    assert len(bench.joined(first).members) == 3


def test_a_rebalance_timeout_below_the_delay_is_not_extended(bench: GroupBench) -> None:
    first = bench.join(fresh="a", rebalance_timeout_ms=1_000)
    bench.join(fresh="b", rebalance_timeout_ms=1_000)
    bench.tick(DELAY_MS)
    assert len(bench.joined(first).members) == 2


def test_a_later_rebalance_ends_as_soon_as_all_have_joined(bench: GroupBench) -> None:
    bench.stable("a", "b")
    tokens = [bench.join(fresh="c"), bench.join("a"), bench.join("b")]
    assert {bench.joined(token).generation_id for token in tokens} == {2}


def test_who_does_not_join_within_the_rebalance_timeout_is_out(bench: GroupBench) -> None:
    bench.stable("a", "b")
    token = bench.join("a")
    for _ in range(REBALANCE_MS // 5_000):
        assert token not in bench.answers
        bench.heartbeat("b")
        bench.tick(5_000)
    assert [each.member_id for each in bench.joined(token).members] == ["a"]
    assert isinstance(bench.heartbeat("b"), UnknownMemberIdError)


def test_a_leader_who_does_not_join_again_leads_no_more(bench: GroupBench) -> None:
    bench.stable("a", "b")
    token = bench.join(fresh="c")
    bench.join("b")
    bench.leave("a")
    assert bench.joined(token).leader_id == "b"


def test_a_static_leader_who_does_not_join_in_time_stays_a_member_but_does_not_lead(
    bench: GroupBench,
) -> None:
    bench.stable("i", "b", static=("i",))
    token = bench.join(fresh="c")
    bench.join("b")
    while token not in bench.answers:
        bench.heartbeat("i")
        bench.tick(5_000)
    result = bench.joined(token)
    assert result.leader_id == "b"
    assert [each.member_id for each in bench.group.members] == ["i", "b", "c"]


def test_static_members_none_of_whom_joins_are_waited_for_until_their_sessions_end(
    bench: GroupBench,
) -> None:
    bench.stable("i", "j", "b", static=("i", "j"))
    bench.leave("b")
    for _ in range(2 * REBALANCE_MS // 5_000):
        bench.heartbeat("i")
        bench.heartbeat("j")
        bench.tick(5_000)
    assert bench.group.state is GroupState.PREPARING_REBALANCE
    assert bench.group.generation.generation_id == 1
    bench.tick(SESSION_MS)
    assert bench.group.state is GroupState.EMPTY


def test_the_protocol_is_chosen_by_vote_among_those_that_all_support(bench: GroupBench) -> None:
    tokens = [
        bench.join(fresh="a", protocols=A_B_C),
        bench.join(fresh="b", protocols=C_A),
        bench.join(fresh="c", protocols=C_A),
    ]
    bench.tick(3 * DELAY_MS)
    assert {bench.joined(token).protocol_name for token in tokens} == {"C"}


# --- syncing -------------------------------------------------------------------------------------


def test_assignments_are_given_out_once_they_are_stored(bench: GroupBench) -> None:
    bench.completing("a", "b")
    bench.writes_at_once = False
    b = bench.sync("b")
    a = bench.sync("a", [("a", b"A"), ("b", b"B")], protocol_type="consumer", protocol_name="range")
    assert not {a, b} & bench.answers.keys()
    [append] = bench.unwritten
    member = ("client", "127.0.0.1", REBALANCE_MS, SESSION_MS, RANGE[0].metadata)
    assert append.records == (
        GroupRecord(
            "g",
            GroupSnapshot(
                "consumer",
                1,
                "range",
                "a",
                WALL_MS + bench.now.ms,
                (
                    MemberSnapshot("a", None, *member, b"A"),
                    MemberSnapshot("b", None, *member, b"B"),
                ),
            ),
        ),
    )
    bench.written()
    assert (bench.synced(a).assignment, bench.synced(b).assignment) == (b"A", b"B")
    assert (bench.synced(a).protocol_type, bench.synced(a).protocol_name) == ("consumer", "range")
    assert bench.group.state is GroupState.STABLE
    assert bench.synced(bench.sync("b")).assignment == b"B"


def test_whoever_the_leader_forgets_is_assigned_nothing(bench: GroupBench) -> None:
    bench.completing("a", "b")
    b = bench.sync("b")
    bench.sync("a", [("a", b"A"), ("stranger", b"S")])
    assert bench.synced(b).assignment == b""


def test_an_assignment_that_cannot_be_stored_is_told_to_all_and_they_join_again(
    bench: GroupBench,
) -> None:
    bench.completing("a", "b")
    bench.writes_at_once = False
    tokens = [bench.sync("b"), bench.sync("a")]
    bench.fail_writes(CoordinatorNotAvailableError())
    assert [bench.error(token) for token in tokens] == [CoordinatorNotAvailableError] * 2
    assert bench.group.state is GroupState.PREPARING_REBALANCE


@pytest.mark.parametrize("again", [False, True])
def test_an_assignment_that_is_stored_too_late_counts_for_nothing(
    bench: GroupBench, again: bool
) -> None:
    bench.completing("a", "b")
    bench.writes_at_once = False
    token = bench.sync("a", [("a", b"old")])
    bench.join(fresh="c")
    assert bench.error(token) is RebalanceInProgressError
    if again:
        bench.join("a")
        bench.join("b")
        assert bench.group.generation.generation_id == 2
    bench.written()
    assert bench.group.state is not GroupState.STABLE


def test_a_sync_that_is_repeated_replaces_the_first(bench: GroupBench) -> None:
    bench.completing("a", "b")
    first, second = bench.sync("b"), bench.sync("b")
    assert bench.error(first) is RebalanceInProgressError
    bench.sync("a", [("b", b"B")])
    assert bench.synced(second).assignment == b"B"


def test_a_sync_must_be_of_a_member_its_generation_and_protocol(bench: GroupBench) -> None:
    assert bench.error(bench.sync("a")) is UnknownMemberIdError
    bench.completing("a", "b")
    assert bench.error(bench.sync("ghost")) is UnknownMemberIdError
    assert bench.error(bench.sync("a", generation_id=0)) is IllegalGenerationError
    assert bench.error(bench.sync("a", protocol_type="x")) is InconsistentGroupProtocolError
    assert bench.error(bench.sync("a", protocol_name="x")) is InconsistentGroupProtocolError
    bench.join(fresh="c")
    assert bench.error(bench.sync("a")) is RebalanceInProgressError


def test_who_does_not_sync_in_time_is_out_and_the_others_rebalance(bench: GroupBench) -> None:
    bench.completing("a", "b", "c")
    bench.sync("a")
    for _ in range(REBALANCE_MS // 5_000):
        bench.heartbeat("a")
        bench.heartbeat("b")
        bench.heartbeat("c")
        bench.tick(5_000)
    assert [each.member_id for each in bench.group.members] == ["a"]
    assert bench.group.state is GroupState.PREPARING_REBALANCE


def test_a_leader_who_never_syncs_ends_the_wait_of_the_others(bench: GroupBench) -> None:
    bench.completing("a", "b")
    waiting = bench.sync("b")
    while waiting not in bench.answers:
        bench.heartbeat("a")
        bench.tick(5_000)
    assert bench.error(waiting) is RebalanceInProgressError
    assert [each.member_id for each in bench.group.members] == ["b"]


def test_who_waits_for_an_answer_needs_no_heartbeat(bench: GroupBench) -> None:
    bench.completing("a", "b")
    waiting = bench.sync("b")
    for _ in range(4):
        bench.heartbeat("a")
        bench.tick(SESSION_MS - 1)
    bench.sync("a", [("b", b"B")])
    assert bench.synced(waiting).assignment == b"B"
    bench.tick(SESSION_MS - 1)
    assert bench.heartbeat("b") is None


def test_when_all_have_synced_nothing_is_due_but_the_sessions(bench: GroupBench) -> None:
    bench.stable("a", "b")
    assert bench.group.next_deadline_ms() == bench.now.ms + SESSION_MS


def test_sessions_that_end_together_end_the_group_in_one_go(bench: GroupBench) -> None:
    bench.stable("a", "b", "c")
    bench.tick(SESSION_MS)
    assert bench.group.state is GroupState.EMPTY
    assert bench.group.next_deadline_ms() is None


def test_time_that_comes_too_early_changes_nothing(bench: GroupBench) -> None:
    bench.completing("a", "b")
    before = bench.group.next_deadline_ms()
    assert bench.group.on_time(bench.now) == []
    assert bench.group.next_deadline_ms() == before


def test_topics_are_known_of_consumers_whose_subscriptions_can_be_read(bench: GroupBench) -> None:
    bench.join(fresh="a", protocols=(GroupProtocol("range", subscription("x", "y")),))
    bench.join(fresh="b", protocols=(GroupProtocol("range", subscription("z")),))
    bench.tick(2 * DELAY_MS)
    assert bench.group.generation.subscribed_topics == {"x", "y", "z"}
    bench.join("a", protocols=(GroupProtocol("range", b"\0"),))
    bench.join("b")
    assert bench.group.generation.generation_id == 2
    assert bench.group.generation.subscribed_topics is None


def test_an_assertion_tells_what_came_before(bench: GroupBench) -> None:
    bench.stable("a")
    assert "generation 1" in bench.group.lifecycle.explain("something")
    with pytest.raises(AssertionError, match="the assignment is stored"):
        bench.group.lifecycle.enter(GroupState.EMPTY, bench.now, "a bug")
