"""core/groups/static_members.py: who comes back under a new member id."""

from __future__ import annotations

import pytest

from minikafka.api.groups import GroupProtocol
from minikafka.core.groups.lifecycle import GroupState
from minikafka.errors import (
    FencedInstanceIdError,
    NotCoordinatorError,
    UnknownMemberIdError,
)
from tests.helpers.group_bench import DELAY_MS, RANGE, SESSION_MS, GroupBench, subscription

OTHER = (GroupProtocol("roundrobin", subscription("orders")),)
BOTH = RANGE + OTHER


@pytest.fixture
def bench() -> GroupBench:
    return GroupBench()


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
