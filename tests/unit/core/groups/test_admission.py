"""core/groups/admission.py: who may join."""

from __future__ import annotations

import pytest

from minikafka.api.groups import GroupProtocol, JoinedMember
from minikafka.core.groups.admission import MAX_MEMBER_BYTES, MAX_PROTOCOLS, MAX_TEXT
from minikafka.core.groups.lifecycle import GroupState
from minikafka.errors import (
    FencedInstanceIdError,
    GroupMaxSizeReachedError,
    InconsistentGroupProtocolError,
    InvalidRequestError,
    InvalidSessionTimeoutError,
    RebalanceInProgressError,
)
from tests.helpers.group_bench import DELAY_MS, RANGE, SESSION_MS, GroupBench, subscription

OTHER = (GroupProtocol("roundrobin", subscription("orders")),)
BOTH = RANGE + OTHER


@pytest.fixture
def bench() -> GroupBench:
    return GroupBench()


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


def test_an_id_that_was_given_out_does_not_take_the_place_of_a_static_member(
    bench: GroupBench,
) -> None:
    bench.stable("i", static=("i",))
    bench.join(fresh="m", requires_id=True)
    assert bench.error(bench.join("m", instance_id="i")) is FencedInstanceIdError
    assert bench.heartbeat("i", instance_id="i") is None
    bench.tick(SESSION_MS)
    assert bench.group.state is GroupState.EMPTY


def test_an_id_that_was_given_out_may_become_a_static_member_of_a_new_instance(
    bench: GroupBench,
) -> None:
    bench.join(fresh="m", requires_id=True)
    token = bench.join("m", instance_id="i")
    bench.tick(2 * DELAY_MS)
    assert bench.joined(token).members == (JoinedMember("m", "i", RANGE[0].metadata),)
