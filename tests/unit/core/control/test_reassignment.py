"""What becomes of the replicas of one partition: who is taken in, who may leave, and when."""

from __future__ import annotations

import pytest

from minikafka.core.control import reassignment
from minikafka.core.control.election import PartitionView
from minikafka.core.control.incarnation import storage_mark
from minikafka.errors import InvalidReplicaAssignmentError
from minikafka.model import Assignment, BrokerInfo, PartitionState
from tests.helpers.controller_bench import broker


def view(
    assignment: Assignment,
    isr: tuple[int, ...],
    leader: int,
    *,
    live: tuple[int, ...] = (1, 2, 3, 4, 5),
    shutting_down: tuple[int, ...] = (),
    failed: tuple[int, ...] = (),
) -> PartitionView:
    brokers: dict[int, BrokerInfo] = {b: broker(b, broker_epoch=b) for b in (1, 2, 3, 4, 5)}
    marks = {member: storage_mark(brokers[member]) for member in isr}
    state = PartitionState(leader, 3, isr, 1, 7, marks)
    alive = {b: info for b, info in brokers.items() if b in live}
    return PartitionView(state, assignment, alive, shutting_down, failed)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ([], "empty"),
        ([1, 2, 1], "twice"),
        ([1, -1], "0 or more"),
        ([1, 8, 9], "no live broker 8, 9: expected some of 1, 3"),
    ],
)
def test_a_target_that_cannot_be_is_refused(target: list[int], words: str) -> None:
    with pytest.raises(InvalidReplicaAssignmentError, match=words):
        reassignment.validate_target(target, (1, 2), (1, 3))


def test_a_replica_that_is_there_already_may_be_down() -> None:
    reassignment.validate_target([2, 3], (1, 2), (1, 3))


def test_it_begins_with_the_replicas_of_both() -> None:
    begun = reassignment.begin(Assignment((1, 2)), (3, 2))
    assert begun == Assignment((3, 2, 1), adding=(3,), removing=(1,))
    assert (begun.origin, begun.target) == ((2, 1), (3, 2))


def test_one_that_goes_elsewhere_lets_those_leave_whom_it_added() -> None:
    begun = reassignment.begin(Assignment((1, 2)), (3, 4))
    assert reassignment.begin(begun, (4, 5)) == Assignment(
        (4, 5, 1, 2, 3), adding=(4, 5, 3), removing=(1, 2, 3)
    )


def test_one_that_is_cancelled_goes_back_to_its_origin() -> None:
    begun = reassignment.begin(Assignment((1, 2)), (3, 2))
    cancelled = reassignment.begin(begun, begun.origin)
    assert cancelled == Assignment((2, 1, 3), adding=(3,), removing=(3,))
    assert reassignment.begin(cancelled, cancelled.origin) == cancelled


def test_who_is_wanted_again_is_not_to_delete_its_log() -> None:
    assert reassignment.begin(Assignment((1,), dropped=(2, 3)), (1, 2)) == Assignment(
        (1, 2), adding=(2,), dropped=(3,)
    )


def test_nobody_leaves_before_the_whole_target_is_in_sync() -> None:
    moving = reassignment.begin(Assignment((1, 2)), (3, 4))
    assert reassignment.retirement(view(moving, (1, 2, 3), 1), 1) is None
    assert reassignment.retirement(view(Assignment((1, 2)), (1, 2), 1), 1) is None


def test_nobody_leaves_while_nobody_leads() -> None:
    moving = reassignment.begin(Assignment((1, 2)), (3,))
    assert reassignment.retirement(view(moving, (3, 1), -1), 1) is None


def test_the_leader_moves_into_the_target_and_the_others_leave() -> None:
    moving = reassignment.begin(Assignment((1, 2)), (3, 4))
    step = reassignment.retirement(view(moving, (1, 2, 3, 4), 1), 1)
    assert step is not None
    decision = step.decision
    assert (decision.leader, decision.isr, decision.reassigned) == (3, (3, 4), True)
    assert decision.reason == "A,B left: the reassignment is complete"
    assert step.assignment == Assignment((3, 4), dropped=(1, 2))


def test_a_leader_that_stays_goes_on_leading() -> None:
    moving = reassignment.begin(Assignment((1, 2)), (3, 1))
    step = reassignment.retirement(view(moving, (1, 2, 3), 1), 1)
    assert step is not None
    assert (step.decision.leader, step.decision.isr) == (1, (3, 1))


def test_more_replicas_are_complete_without_anybody_leaving() -> None:
    growing = reassignment.begin(Assignment((1,)), (1, 2))
    step = reassignment.retirement(view(growing, (1, 2), 1), 1)
    assert step is not None
    assert (step.decision.isr, step.assignment) == ((1, 2), Assignment((1, 2)))
    assert step.decision.reason == "the reassignment is complete"


@pytest.mark.parametrize(
    ("live", "shutting_down", "failed", "leader"),
    [
        ((1, 2, 3, 4), (3,), (), 4),
        ((1, 2, 3, 4), (3, 4), (), 3),
        ((1, 2, 4), (), (), 4),
        ((1, 2, 3, 4), (), (3,), 4),
        ((1, 2), (), (), None),
    ],
)
def test_the_new_leader_lives_and_stays_if_there_is_such_a_one(
    live: tuple[int, ...],
    shutting_down: tuple[int, ...],
    failed: tuple[int, ...],
    leader: int | None,
) -> None:
    moving = reassignment.begin(Assignment((1, 2)), (3, 4))
    seen = view(moving, (1, 2, 3, 4), 1, live=live, shutting_down=shutting_down, failed=failed)
    step = reassignment.retirement(seen, 1)
    assert (None if step is None else step.decision.leader) == leader


def test_who_is_not_wanted_any_more_leaves_at_once() -> None:
    cancelled = reassignment.begin(reassignment.begin(Assignment((1, 2)), (3, 4)), (1, 2))
    step = reassignment.retirement(view(cancelled, (1, 3), 1), 1)
    assert step is not None
    assert (step.decision.leader, step.decision.isr) == (1, (1,))
    assert step.decision.reason == "C,D left: it is no longer to be added"
    assert step.assignment == Assignment((1, 2), dropped=(3, 4))


def test_who_leads_and_is_not_wanted_any_more_hands_over() -> None:
    replaced = reassignment.begin(reassignment.begin(Assignment((1, 2)), (3,)), (4,))
    step = reassignment.retirement(view(replaced, (1, 2, 3), 3), 2)
    assert step is not None
    assert (step.decision.leader, step.decision.isr) == (1, (1, 2))
    assert step.assignment == Assignment((4, 1, 2), adding=(4,), removing=(1, 2), dropped=(3,))


@pytest.mark.parametrize(
    ("isr", "leader", "min_insync"),
    [((3,), 3, 1), ((1, 3), 1, 2), ((1, 3), 1, 3), ((3, 1), -1, 1), ((1, 3), -1, 1)],
)
def test_the_isr_keeps_whom_it_needs(isr: tuple[int, ...], leader: int, min_insync: int) -> None:
    """D, who is not in it, can go; C is needed until enough of the others are in sync."""
    cancelled = reassignment.begin(reassignment.begin(Assignment((1, 2)), (3, 4)), (1, 2))
    step = reassignment.retirement(view(cancelled, isr, leader), min_insync)
    assert step is not None
    assert (step.decision.leader, set(step.decision.isr)) == (leader, set(isr))
    assert step.assignment == Assignment((1, 2, 3), adding=(3,), removing=(3,), dropped=(4,))
    assert reassignment.retirement(view(step.assignment, isr, leader), min_insync) is None


def test_the_minimum_is_never_more_than_there_were_replicas() -> None:
    cancelled = reassignment.begin(reassignment.begin(Assignment((1,)), (3,)), (1,))
    assert reassignment.retirement(view(cancelled, (1, 3), 1), 3) is not None


def test_a_log_that_is_deleted_is_not_asked_for_again() -> None:
    assignment = Assignment((1,), dropped=(2, 3))
    assert reassignment.without_dropped(assignment, 2) == Assignment((1,), dropped=(3,))
