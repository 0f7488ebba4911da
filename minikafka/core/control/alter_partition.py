"""The controller's judgement of a leader's proposal to change the ISR (KIP-497, 841, 903).

Pure functions over one partition; the order of the checks is part of the protocol:

1. ahead of what the controller knows: the controller is the stale one (KAFKA-14154);
2. already applied: success, so that a leader whose answer was lost gets one;
3. behind: refused with the State to catch up with (KAFKA-2729);
4. not the leader, or an ISR that cannot be: refused, a bug of the proposer;
5. a new member must be assigned, live, staying, of the incarnation that the leader saw, and with a
   disk that works.

Members that are in the ISR already are not judged again: if one has restarted, the failure batch
removes it by its mark, and the no-op proposal that a leader makes after INELIGIBLE_REPLICA must
never be refused for a member that it did not add.
"""

from __future__ import annotations

from dataclasses import dataclass

from minikafka.core.control.election import Decision, PartitionView
from minikafka.core.control.incarnation import marked_epoch
from minikafka.errors import (
    FencedLeaderEpochError,
    IneligibleReplicaError,
    InvalidRequestError,
    InvalidUpdateVersionError,
    MinikafkaError,
    NotControllerError,
)
from minikafka.model import UNKNOWN_BROKER_EPOCH, IsrProposal


@dataclass(frozen=True, slots=True)
class Applied:
    """The State is what was proposed: nothing to write."""


def judge(
    view: PartitionView, proposer: int, proposal: IsrProposal
) -> Decision | Applied | MinikafkaError:
    """What to do about a proposal of the live incarnation of `proposer`: write, nothing, refuse."""
    state = view.state
    if (
        proposal.leader_epoch > state.leader_epoch
        or proposal.partition_version > state.partition_version
    ):
        return NotControllerError(
            f"{proposal.topic_partition}: proposed over leader epoch {proposal.leader_epoch}, "
            f"version {proposal.partition_version}, but this controller knows only epoch "
            f"{state.leader_epoch}, version {state.partition_version}: ask the newer controller"
        )
    if _is_applied(view, proposer, proposal):
        return Applied()
    return _refusal(view, proposer, proposal) or _decision(view, proposal)


def _is_applied(view: PartitionView, proposer: int, proposal: IsrProposal) -> bool:
    """Whether the State is the one that this proposal led to: the next version, the same leader,
    the same members in the same incarnations."""
    state = view.state
    if (
        proposal.partition_version + 1 != state.partition_version
        or state.leader != proposer
        or proposal.members != set(state.isr)
    ):
        return False
    return all(
        broker_epoch in (UNKNOWN_BROKER_EPOCH, marked_epoch(state.isr_storage.get(member)))
        for member, broker_epoch in proposal.isr
    )


def _refusal(view: PartitionView, proposer: int, proposal: IsrProposal) -> MinikafkaError | None:
    state, tp = view.state, proposal.topic_partition
    if proposal.leader_epoch < state.leader_epoch:
        return FencedLeaderEpochError(
            f"{tp}: leader epoch {proposal.leader_epoch} is over, it is {state.leader_epoch}"
        )
    if proposal.partition_version < state.partition_version:
        return InvalidUpdateVersionError(
            f"{tp}: version {proposal.partition_version} is over, it is {state.partition_version}"
        )
    if proposer != state.leader:
        return InvalidRequestError(f"{tp}: broker {proposer} does not lead it")
    if proposer not in proposal.members or len(proposal.members) != len(proposal.isr):
        return InvalidRequestError(
            f"{tp}: {sorted(m for m, _ in proposal.isr)} is no in-sync replica set: expected each "
            f"member once, the leader {proposer} among them"
        )
    for member, broker_epoch in proposal.isr:
        if member not in state.isr and (why := _ineligible(view, member, broker_epoch)):
            return IneligibleReplicaError(f"{tp}: {view.name(member)} cannot join: {why}")
    return None


def _ineligible(view: PartitionView, member: int, broker_epoch: int) -> str | None:
    """Why a replica may not join the ISR, or None."""
    broker = view.brokers.get(member)
    if member not in view.assignment.replicas:
        return "it is not assigned"
    if member in view.assignment.adding and member in view.assignment.removing:
        return "its reassignment was cancelled"
    if broker is None:
        return "it is not alive"
    if member in view.shutting_down:
        return "it is shutting down"
    if broker.broker_epoch != broker_epoch:
        return f"the leader saw incarnation {broker_epoch}, it is {broker.broker_epoch} now"
    if member in view.failed:
        return "its disk failed"
    return None


def _decision(view: PartitionView, proposal: IsrProposal) -> Decision:
    old = set(view.state.isr)
    joined = view.ordered(proposal.members - old)
    left = view.ordered(old - proposal.members)
    words = [f"{view.name(m)} joined" for m in joined] + [f"{view.name(m)} left" for m in left]
    what = ", ".join(words) or "no change"
    reason = f"{what}: {proposal.reason}" if proposal.reason else what
    return Decision(
        view.state.leader, view.ordered(proposal.members), reason, admitted=frozenset(joined)
    )
