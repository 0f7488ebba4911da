"""What becomes of one partition: the election strategies and the rules of the ISR.

Every function looks at a `PartitionView` (the State as written, the assignment, who lives now) and
answers with a `Decision`, or None when nothing is to be changed; `next_state` turns a decision into
the State to be written. No function remembers anything, so that deciding again after a conflict,
or by another controller, comes to the same (replication.md section 2).

Invariants of every State that `next_state` makes: the version is one higher; leader_epoch is one
higher exactly if the leader or the assignment changed or a member left the ISR (rule R2); the
leader is in the ISR or there is none; members outside the assignment are tolerated (KAFKA-9672).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from minikafka.core.control.incarnation import Standing, standing, storage_mark
from minikafka.model import (
    NO_LEADER,
    Assignment,
    BrokerInfo,
    PartitionState,
    broker_name,
)


class Condition(Enum):
    """A member of the ISR as it is now; the value finishes the sentence "E ..."."""

    HEALTHY = "is in sync"
    DEAD = "died"
    RETURNED = "restarted"
    LOST = "lost its log"
    FAILED = "has a failed disk"


@dataclass(frozen=True, slots=True)
class PartitionView:
    """All that a decision about one partition rests on. `brokers` are the live ones, `failed` the
    replicas of this partition whose disk failed in their present incarnation, `names` what people
    call brokers, dead ones too. `untold`: replicas that are being added and have not acknowledged
    that: they may still be deleting the log that they had when they were dropped before."""

    state: PartitionState
    assignment: Assignment
    brokers: Mapping[int, BrokerInfo]
    shutting_down: Collection[int] = ()
    failed: Collection[int] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    untold: Collection[int] = ()

    def condition(self, member: int) -> Condition:
        """How a member of the ISR is."""
        broker = self.brokers.get(member)
        if broker is None:
            return Condition.DEAD
        found = standing(self.state.isr_storage.get(member), broker)
        if found is Standing.LOST:
            return Condition.LOST
        if member in self.failed:
            return Condition.FAILED
        return Condition.RETURNED if found is Standing.RETURNED else Condition.HEALTHY

    def members(self, *conditions: Condition) -> tuple[int, ...]:
        """The members of the ISR in one of these conditions, in order of preference."""
        return self.ordered(m for m in self.state.isr if self.condition(m) in conditions)

    def usable(self, replica: int) -> bool:
        """Whether a replica lives and has a disk that works, in the ISR or not."""
        return replica in self.brokers and replica not in self.failed

    def ordered(self, members: Iterable[int]) -> tuple[int, ...]:
        """In the order of the assignment; those outside it last, by number."""
        rank = {replica: index for index, replica in enumerate(self.assignment.replicas)}
        return tuple(sorted(set(members), key=lambda m: (rank.get(m, len(rank)), m)))

    def staying(self, members: Iterable[int]) -> tuple[int, ...]:
        """Those that are not shutting down."""
        return tuple(m for m in members if m not in self.shutting_down)

    def name(self, broker_id: int) -> str:
        return self.names.get(broker_id) or broker_name(broker_id)

    def explain(self, members: Iterable[int]) -> str:
        """Why members leave: `E died, D restarted`."""
        return ", ".join(f"{self.name(m)} {self.condition(m).value}" for m in members)


@dataclass(frozen=True, slots=True)
class Decision:
    """The leader and ISR that a partition shall have, and why, in words for people. `admitted`:
    members whose mark is taken anew from their registration; the others keep theirs.
    `reassigned`: the assignment changes with it."""

    leader: int
    isr: tuple[int, ...]
    reason: str
    admitted: frozenset[int] = frozenset()
    unclean: bool = False
    reassigned: bool = False


def next_state(view: PartitionView, decision: Decision, controller_epoch: int) -> PartitionState:
    """The State that carries a decision out, one version on."""
    old = view.state
    assert decision.leader == NO_LEADER or decision.leader in decision.isr
    left = set(old.isr) - set(decision.isr)
    bump = decision.leader != old.leader or bool(left) or decision.reassigned
    marks = {m: old.isr_storage[m] for m in decision.isr if m in old.isr_storage}
    marks |= {m: storage_mark(view.brokers[m]) for m in decision.isr if m in decision.admitted}
    return PartitionState(
        leader=decision.leader,
        leader_epoch=old.leader_epoch + bump,
        isr=decision.isr,
        controller_epoch=controller_epoch,
        partition_version=old.partition_version + 1,
        isr_storage=marks,
    )


def first_state(
    assignment: Assignment,
    brokers: Mapping[int, BrokerInfo],
    shutting_down: Collection[int],
    controller_epoch: int,
) -> PartitionState | None:
    """The State that a new partition begins with: ISR = live replicas, leader = first of them.
    None while no replica lives: then it stays New."""
    live = [r for r in assignment.replicas if r in brokers]
    members = tuple(r for r in live if r not in shutting_down) or tuple(live)
    if not members:
        return None
    marks = {m: storage_mark(brokers[m]) for m in members}
    return PartitionState(members[0], 0, members, controller_epoch, 0, marks)


# --- failures and starts -------------------------------------------------------------------------


def after_failures(view: PartitionView) -> Decision | None:
    """The failure batch: members that died, restarted, or whose disk failed leave the ISR, all at
    once. If none would be left there is no leader, and all stay members whose log is not lost:
    nothing can commit without a leader, so each remains a clean candidate."""
    state = view.state
    if state.leader == NO_LEADER:
        return None
    healthy = view.members(Condition.HEALTHY)
    gone = view.ordered(set(state.isr) - set(healthy))
    if not gone:
        return None
    if healthy:
        keeps = state.leader in healthy
        leader = state.leader if keeps else (view.staying(healthy) or healthy)[0]
        return Decision(leader, healthy, view.explain(gone))
    kept = view.ordered(m for m in state.isr if view.condition(m) is not Condition.LOST)
    return Decision(NO_LEADER, kept, view.explain(gone) + ", nobody in sync is left")


def for_leaderless(view: PartitionView, *, unclean: bool) -> Decision | None:
    """The offline election: first assigned live member of the ISR that has its log; the new ISR is
    all of those. Failing that, members that came back without their log leave; and if `unclean`
    (the topic allows it), any replica that lives leads."""
    if view.state.leader != NO_LEADER:
        return None
    intact = view.members(Condition.HEALTHY, Condition.RETURNED)
    candidates = view.staying(intact) or intact
    if candidates:
        leader = candidates[0]
        reason = f"{view.name(leader)} is back with its log"
        return Decision(leader, candidates, reason, admitted=frozenset(candidates))
    if unclean and (decision := unclean_election(view)) is not None:
        return decision
    lost = view.members(Condition.LOST)
    if not lost:
        return None
    return Decision(NO_LEADER, view.ordered(set(view.state.isr) - set(lost)), view.explain(lost))


def unclean_election(view: PartitionView) -> Decision | None:
    """A replica from outside the ISR leads alone: what only the others held is lost. One that a
    reassignment adds has least of it, has to know of it, and one that has lost its own log comes
    last."""
    adding = view.assignment.adding
    ranked = sorted(view.assignment.replicas, key=lambda replica: replica in adding)
    live = tuple(r for r in ranked if view.usable(r) and r not in view.untold)
    lost = view.members(Condition.LOST)
    live = tuple(r for r in live if r not in lost) or live
    candidates = view.staying(live) or live
    if not candidates:
        return None
    leader = candidates[0]
    reason = f"unclean election of {view.name(leader)}: records that it lacks are lost"
    return Decision(leader, (leader,), reason, admitted=frozenset({leader}), unclean=True)


# --- elections that someone asks for -------------------------------------------------------------


def preferred_election(view: PartitionView) -> Decision | None:
    """Leadership to the first assigned replica, if it is healthy, in the ISR and stays."""
    preferred = view.assignment.replicas[0]
    fit = view.staying(view.members(Condition.HEALTHY))
    if view.state.leader in (preferred, NO_LEADER) or preferred not in fit:
        return None
    return Decision(preferred, view.state.isr, f"{view.name(preferred)} is the preferred leader")


def controlled_shutdown(view: PartitionView, leaver: int) -> Decision | None:
    """`leaver` hands leadership to the first healthy member that stays, and leaves the ISR; the
    last member stays in it (KIP-841 keeps it out until its next incarnation)."""
    state = view.state
    if leaver not in state.isr or state.leader == NO_LEADER:
        return None
    rest = view.ordered(set(state.isr) - {leaver})
    leader = state.leader
    if leader == leaver:
        heirs = view.staying(m for m in rest if view.condition(m) is Condition.HEALTHY)
        if not heirs:
            return None
        leader = heirs[0]
    return Decision(leader, rest, f"{view.name(leaver)} is shutting down")
