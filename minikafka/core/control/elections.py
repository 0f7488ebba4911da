"""The controller's work on elections: where there is no leader, and where somebody asks for one.

election.py decides about one partition. A partition without a leader gets one whenever that is
possible (`elect_leaderless`), a preferred replica gets leadership back when a person, a work list
or the automatic rebalance wants it.

State: `awaits_word`, whether an election waits for a replica to acknowledge what it is; found anew
each time that all is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control.commands import (
    ClearPreferredElection,
    Operation,
    StateChange,
    require_term,
)
from minikafka.core.control.context import ClusterContext
from minikafka.core.control.election import (
    Decision,
    PartitionView,
    for_leaderless,
    preferred_election,
)
from minikafka.core.control.outbox import Outbox
from minikafka.core.control.state_writer import StateWriter
from minikafka.errors import (
    ElectionNotNeededError,
    EligibleLeadersNotAvailableError,
    MinikafkaError,
    PreferredLeaderNotAvailableError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import NO_LEADER, TopicPartition


class Elections:
    """`unclean_allowed(topic)`: the topic's unclean.leader.election.enable as it is now."""

    def __init__(
        self,
        context: ClusterContext,
        outbox: Outbox,
        states: StateWriter,
        unclean_allowed: Callable[[str], bool],
    ) -> None:
        self._context = context
        self._outbox = outbox
        self._states = states
        self._unclean_allowed = unclean_allowed
        self._awaits_word = False

    @property
    def awaits_word(self) -> bool:
        """Whether an election waits for a replica to acknowledge what it is."""
        return self._awaits_word

    def look_anew(self) -> None:
        """All partitions without a leader are about to be looked at."""
        self._awaits_word = False

    def elect_leaderless(self, among: Sequence[TopicPartition]) -> Operation[None]:
        """Leaders for those of these partitions that have none, where there is a candidate."""
        yield from self._states.commit(lambda: self._leaderless(among))

    def _leaderless(self, among: Sequence[TopicPartition]) -> Iterator[StateChange]:
        for tp in among:
            view = self._view(tp)
            if view is not None and view.state.leader == NO_LEADER:
                decision = for_leaderless(view, unclean=self._unclean_allowed(tp.topic))
                if decision is not None:
                    yield self._states.change(tp, view, decision)
                self._awaits_word |= bool(view.untold)

    def _view(self, tp: TopicPartition) -> PartitionView | None:
        """The view of a partition; without a leader it says which replicas do not know yet that
        they are being added."""
        view = self._context.view(tp)
        if view is None or view.state.leader != NO_LEADER:
            return view
        adding = [b for b in view.assignment.adding if b in view.brokers]
        untold = frozenset(b for b in adding if not self._outbox.has_heard(b, tp))
        return replace(view, untold=untold) if untold else view

    # --- elections that are asked for ---

    def elect(
        self, partitions: Sequence[TopicPartition], *, unclean: bool
    ) -> Operation[dict[TopicPartition, MinikafkaError | None]]:
        """Preferred or unclean elections, of all partitions that need one if none are named. Where
        there is no error, there was one."""
        named = list(dict.fromkeys(partitions)) or [tp for tp, _ in self._context.views()]
        errors = {tp: self._refusal(tp, unclean) for tp in named}
        wanted = [tp for tp in named if errors[tp] is None]
        yield from self._states.commit(
            lambda: (
                self._states.change(tp, view, decision)
                for tp in wanted
                if (view := self._view(tp)) and (decision := _elected(view, unclean))
            )
        )
        if partitions:
            return errors
        return {tp: e for tp, e in errors.items() if not isinstance(e, ElectionNotNeededError)}

    def _refusal(self, tp: TopicPartition, unclean: bool) -> MinikafkaError | None:
        """Why there is no such election, or None."""
        view = self._view(tp)
        if view is None:
            return UnknownTopicOrPartitionError(f"there is no partition {tp}")
        preferred = view.assignment.replicas[0]
        if view.state.leader != NO_LEADER if unclean else view.state.leader == preferred:
            return ElectionNotNeededError(f"{tp}: {view.name(view.state.leader)} leads already")
        if _elected(view, unclean) is not None:
            return None
        if unclean and view.untold:
            new = ", ".join(view.name(b) for b in sorted(view.untold))
            return EligibleLeadersNotAvailableError(f"{tp}: {new}: not told yet: try again")
        if unclean:
            return EligibleLeadersNotAvailableError(f"{tp}: no replica is alive")
        return PreferredLeaderNotAvailableError(
            f"{tp}: {view.name(preferred)} is not alive, not in sync or about to leave"
        )

    def clear_work_list(self) -> Operation[None]:
        """The preferred elections that somebody wrote into ZooKeeper are done."""
        outcome: WriteOutcome = yield ClearPreferredElection()
        require_term(outcome)

    def rebalance(self, imbalance_percent: int) -> Operation[int]:
        """Give leadership back to the preferred replicas of each live broker of whose preferred
        partitions more than `imbalance_percent` are led by others. Returns how many moved."""
        before = self._states.counters.elections
        wanted = self._imbalanced(imbalance_percent)
        yield from self._states.commit_rule(preferred_election, wanted)
        return self._states.counters.elections - before

    def _imbalanced(self, imbalance_percent: int) -> list[TopicPartition]:
        preferred: dict[int, list[TopicPartition]] = {}
        elsewhere: dict[int, list[TopicPartition]] = {}
        for tp, view in self._context.views():
            if view.assignment.in_progress:
                continue  # the end of it moves leadership, if need be
            first = view.assignment.replicas[0]
            preferred.setdefault(first, []).append(tp)
            if view.state.leader != first:
                elsewhere.setdefault(first, []).append(tp)
        return [
            tp
            for broker_id, moved in sorted(elsewhere.items())
            if len(moved) * 100 > imbalance_percent * len(preferred[broker_id])
            for tp in moved
        ]


def _elected(view: PartitionView, unclean: bool) -> Decision | None:
    """A preferred election, or one where an admin accepts loss; a clean candidate is still taken
    first."""
    if not unclean:
        return preferred_election(view)
    decision = for_leaderless(view, unclean=True)
    return None if decision is None or decision.leader == NO_LEADER else decision
