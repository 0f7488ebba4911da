"""core/groups/lifecycle.py and core/groups/outgoing.py: the state of a group, and its effects."""

from __future__ import annotations

import pytest

from minikafka.api.groups import GroupProtocol, JoinGroupResult, SyncGroupResult
from minikafka.core.groups.effects import Append, DeleteGroupResult, GroupRecord, Now, Reply
from minikafka.core.groups.lifecycle import GroupState, Lifecycle
from minikafka.core.groups.members import Member
from minikafka.core.groups.outgoing import Outgoing
from minikafka.errors import (
    CoordinatorNotAvailableError,
    NotCoordinatorError,
    RebalanceInProgressError,
)


def test_a_state_follows_only_those_that_kafka_has_before_it() -> None:
    lifecycle = Lifecycle("g", Now(0, 100))
    lifecycle.enter(GroupState.PREPARING_REBALANCE, Now(1, 101), "a joins")
    with pytest.raises(AssertionError, match=r"from PreparingRebalance.*at 1: a joins"):
        lifecycle.enter(GroupState.STABLE, Now(2, 102), "a bug")
    assert (lifecycle.state, lifecycle.state_timestamp_ms) == (
        GroupState.PREPARING_REBALANCE,
        101,
    )


def test_a_dead_group_and_one_that_gathers_refuse_what_they_cannot_serve() -> None:
    lifecycle = Lifecycle("g", Now(0, 100))
    lifecycle.refuse_if_dead()
    lifecycle.refuse_while_joining()
    lifecycle.enter(GroupState.PREPARING_REBALANCE, Now(1, 101), "a joins")
    with pytest.raises(RebalanceInProgressError):
        lifecycle.refuse_while_joining()
    lifecycle.enter(GroupState.EMPTY, Now(1, 101), "a leaves")
    lifecycle.enter(GroupState.DEAD, Now(2, 102), "somebody deletes it")
    with pytest.raises(CoordinatorNotAvailableError):
        lifecycle.refuse_if_dead()


def test_effects_are_taken_once_in_order_and_writes_are_under_way_until_they_end() -> None:
    outgoing = Outgoing()
    record = GroupRecord("g", None)
    outgoing.append((record,), "note")
    outgoing.reply(7, DeleteGroupResult(None))
    assert outgoing.take() == [Append((record,), "note"), Reply(7, DeleteGroupResult(None))]
    assert outgoing.take() == []
    assert outgoing.writes_under_way
    outgoing.on_appended()
    assert not outgoing.writes_under_way
    with pytest.raises(AssertionError, match="nobody asked for"):
        outgoing.on_appended()


def test_a_member_that_waits_is_refused_once_and_one_that_does_not_is_not() -> None:
    outgoing, error = Outgoing(), NotCoordinatorError("moved")
    protocols = (GroupProtocol("range", b""),)
    member = Member("a", None, "client", "host", protocols, 1, 1, 1, join_token=1, sync_token=2)
    for _ in range(2):
        outgoing.refuse_join(member, error)
        outgoing.refuse_sync(member, error)
    assert outgoing.take() == [
        Reply(1, JoinGroupResult(error, "a")),
        Reply(2, SyncGroupResult(error)),
    ]
