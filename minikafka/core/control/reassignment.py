"""What becomes of the replicas of one partition that is reassigned (replication.md section 2).

A reassignment lives in the assignment alone: `target` is what there shall be, `origin` what there
was, `adding` and `removing` the differences. Replicas leave for good in a fixed order, each step
written before the next:

    State       the leader moves to one who stays, the leavers leave the ISR, the epoch moves
    assignment  without the leavers; they are in `dropped` now
    brokers     hear of both, and the leavers are told to delete their logs
    assignment  without those who have; nothing else remembers that there is something to delete

So a replica is told to go only when neither State nor assignment counts on it, and whoever becomes
controller in between finds in the two what is left to do.

Who leaves, and when: all of `removing` once the whole target is in sync. Replicas that were to be
added and are not wanted any more (the reassignment was cancelled or replaced) leave at once, unless
the ISR needs them: those who stay must be as many as min.insync.replicas asks for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from minikafka.core.control.election import Condition, Decision, PartitionView
from minikafka.errors import InvalidReplicaAssignmentError
from minikafka.model import NO_LEADER, Assignment


@dataclass(frozen=True, slots=True)
class Retirement:
    """Replicas leave: first the State as decided, then the assignment."""

    decision: Decision
    assignment: Assignment


def validate_target(
    target: Sequence[int], origin: Sequence[int], available: Collection[int]
) -> None:
    """Raises InvalidReplicaAssignmentError, as Kafka does: for none, for one twice, for numbers
    that no broker has, and for new replicas on brokers that are not `available`. A replica that is
    there already may be on a broker that is down."""
    what = f"replicas {list(target)}"
    if not target:
        raise InvalidReplicaAssignmentError("the list of replicas is empty: expected broker ids")
    if len(set(target)) != len(target):
        raise InvalidReplicaAssignmentError(f"{what} name a broker twice")
    if min(target) < 0:
        raise InvalidReplicaAssignmentError(f"{what}: a broker id is 0 or more")
    missing = sorted(set(target) - set(origin) - set(available))
    if missing:
        raise InvalidReplicaAssignmentError(
            f"{what}: no live broker {', '.join(map(str, missing))}: expected some of "
            f"{', '.join(map(str, sorted(available)))}"
        )


def begin(assignment: Assignment, target: Sequence[int]) -> Assignment:
    """The assignment with which a reassignment begins, or one that is under way goes elsewhere;
    back to its origin if it is cancelled. Who was being added stays in it until it can leave."""
    origin = assignment.origin
    replicas = tuple(dict.fromkeys((*target, *origin, *assignment.replicas)))
    return Assignment(
        replicas,
        adding=_without(replicas, origin),
        removing=_without(replicas, target),
        dropped=_without(assignment.dropped, target),
    )


def announcement(view: PartitionView) -> Decision:
    """The State with which the replicas hear of an assignment that is new: only the epoch moves."""
    target = ",".join(view.name(replica) for replica in view.assignment.target)
    reason = f"its replicas shall be {target}"
    return Decision(view.state.leader, view.state.isr, reason, reassigned=True)


def retirement(view: PartitionView, min_insync: int) -> Retirement | None:
    """Who can leave now, if anybody; or, if nobody has to, that the target is complete."""
    assignment, state = view.assignment, view.state
    if not assignment.in_progress:
        return None
    complete = state.leader != NO_LEADER and set(state.isr).issuperset(assignment.target)
    leaving = assignment.removing if complete else _unwanted(view, min_insync)
    if not complete and not leaving:
        return None
    remaining = view.ordered(set(state.isr).difference(leaving))
    leader = state.leader
    if leader in leaving:
        healthy = [member for member in remaining if view.condition(member) is Condition.HEALTHY]
        heirs = view.staying(healthy) or healthy
        if not heirs:
            return None
        leader = heirs[0]
    after = Assignment(
        _without(assignment.replicas, leaving),
        adding=() if complete else _without(assignment.adding, leaving),
        removing=_without(assignment.removing, leaving),
        dropped=(*assignment.dropped, *leaving),
    )
    names = ",".join(view.name(replica) for replica in leaving)
    reason = "the reassignment is complete" if complete else "it is no longer to be added"
    reason = f"{names} left: {reason}" if names else reason
    return Retirement(Decision(leader, remaining, reason, reassigned=True), after)


def _unwanted(view: PartitionView, min_insync: int) -> tuple[int, ...]:
    """The replicas that were to be added, are not any more, and that nobody needs."""
    assignment, state = view.assignment, view.state
    unwanted = [replica for replica in assignment.adding if replica in assignment.removing]
    outside = _without(unwanted, state.isr)
    if state.leader == NO_LEADER:
        return outside  # each member of the ISR is a clean candidate, and may be the last
    staying = set(state.isr).difference(unwanted)
    if len(staying) < max(1, min(min_insync, len(assignment.origin))):
        return outside
    return tuple(unwanted)


def without_dropped(assignment: Assignment, broker_id: int) -> Assignment:
    """A broker has deleted the log of a replica that was dropped."""
    return replace(assignment, dropped=_without(assignment.dropped, [broker_id]))


def _without(replicas: Iterable[int], gone: Collection[int]) -> tuple[int, ...]:
    return tuple(replica for replica in replicas if replica not in gone)
