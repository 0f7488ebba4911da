"""The controller's judgement of one proposal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from minikafka.core.control.alter_partition import Applied, judge
from minikafka.core.control.election import Decision, PartitionView
from minikafka.core.control.incarnation import storage_mark
from minikafka.errors import (
    FencedLeaderEpochError,
    IneligibleReplicaError,
    InvalidRequestError,
    InvalidUpdateVersionError,
    MinikafkaError,
    NotControllerError,
)
from minikafka.model import Assignment, IsrProposal, PartitionState, TopicPartition
from tests.helpers.controller_bench import broker

TP = TopicPartition("t", 0)


def view(
    isr: Sequence[int] = (1, 2),
    *,
    shutting_down: Collection[int] = (),
    failed: Collection[int] = (),
) -> PartitionView:
    """Led by A in epoch 5, version 7; A to D live with broker epochs 10, 20, ...; D unassigned."""
    brokers = {b: broker(b, 10 * b) for b in (1, 2, 3, 4)}
    marks = {m: storage_mark(brokers[m]) for m in isr}
    return PartitionView(
        PartitionState(1, 5, tuple(isr), 1, 7, marks),
        Assignment((1, 2, 3, 5)),
        brokers,
        shutting_down,
        failed,
    )


def proposal(
    *isr: tuple[int, int], leader_epoch: int = 5, version: int = 7, reason: str = ""
) -> IsrProposal:
    return IsrProposal(TP, "id", leader_epoch, version, isr, reason)


A, B, C = (1, 10), (2, 20), (3, 30)


def error_of(verdict: object) -> type[MinikafkaError]:
    assert isinstance(verdict, MinikafkaError), verdict
    return type(verdict)


def test_an_expansion_is_taken_in_assignment_order() -> None:
    verdict = judge(view(), 1, proposal(C, A, B, reason="caught up"))
    assert verdict == Decision(1, (1, 2, 3), "C joined: caught up", admitted=frozenset({3}))


def test_a_removal_is_taken() -> None:
    assert judge(view(), 1, proposal(A)) == Decision(1, (1,), "B left")


def test_a_proposal_of_the_committed_isr_is_written_too() -> None:
    assert judge(view(), 1, proposal(A, B)) == Decision(1, (1, 2), "no change")


def test_a_swap_says_both() -> None:
    verdict = judge(view(), 1, proposal(A, C))
    assert verdict == Decision(1, (1, 3), "C joined, B left", admitted=frozenset({3}))


@pytest.mark.parametrize("ahead", [{"leader_epoch": 6}, {"version": 8}])
def test_a_proposal_from_the_future_says_that_the_controller_is_stale(
    ahead: dict[str, int],
) -> None:
    assert error_of(judge(view(), 1, proposal(A, **ahead))) is NotControllerError


def test_a_proposal_that_was_applied_already_is_a_success() -> None:
    assert judge(view(), 1, proposal(A, B, version=6)) == Applied()
    removed = proposal(A, B, leader_epoch=4, version=6)
    assert judge(view(), 1, removed) == Applied()
    assert judge(view(), 1, proposal(A, (2, -1), version=6)) == Applied()


@pytest.mark.parametrize(
    ("stale", "proposer"),
    [
        (proposal(A, version=6), 1),
        (proposal(A, B, version=5), 1),
        (proposal(A, (2, 19), version=6), 1),
        (proposal(A, B, version=6), 2),
    ],
    ids=["another ISR", "two versions ago", "another incarnation", "another proposer"],
)
def test_a_proposal_over_an_old_version_is_refused(stale: IsrProposal, proposer: int) -> None:
    assert error_of(judge(view(), proposer, stale)) is InvalidUpdateVersionError


def test_a_proposal_of_an_old_leader_epoch_is_refused() -> None:
    stale = proposal(A, leader_epoch=4, version=5)
    assert error_of(judge(view(), 1, stale)) is FencedLeaderEpochError


def test_only_the_leader_may_propose() -> None:
    assert error_of(judge(view(), 2, proposal(B))) is InvalidRequestError


@pytest.mark.parametrize("isr", [(), (B,), (A, A)], ids=["empty", "without leader", "twice"])
def test_an_isr_that_cannot_be_is_refused(isr: tuple[tuple[int, int], ...]) -> None:
    assert error_of(judge(view(), 1, proposal(*isr))) is InvalidRequestError


@pytest.mark.parametrize(
    ("seen", "member", "why"),
    [
        (view(), (4, 40), "not assigned"),
        (view(), (5, 50), "not alive"),
        (view(shutting_down=[3]), C, "shutting down"),
        (view(), (3, 29), "incarnation 29, it is 30"),
        (view(), (3, -1), "incarnation -1"),
        (view(failed=[3]), C, "disk failed"),
    ],
)
def test_a_member_that_may_not_join_is_refused(
    seen: PartitionView, member: tuple[int, int], why: str
) -> None:
    verdict = judge(seen, 1, proposal(A, B, member))
    assert error_of(verdict) is IneligibleReplicaError
    assert why in str(verdict)


def test_members_of_the_committed_isr_are_not_judged_again() -> None:
    """After INELIGIBLE a leader proposes the committed ISR: that must go through."""
    seen = view(shutting_down=[2], failed=[2])
    assert judge(seen, 1, proposal(A, (2, 99))) == Decision(1, (1, 2), "no change")
