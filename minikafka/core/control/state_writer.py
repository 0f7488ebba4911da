"""How a decision becomes a State: the only way in which the controller changes one.

Decide, write fenced, take over what was written, tell the brokers; whatever met a conflict is read
again and decided again.

State: the counters of the term. What was written goes into the context, what is to be told into
the outbox.

Invariants: a State is told only after it has been written; what is decided follows from the context
alone, so that deciding again is right after any conflict; every State that is written obeys
`check_transition`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control.commands import (
    DeposedError,
    GaveUpError,
    Operation,
    ReadStates,
    StateChange,
    WriteStates,
)
from minikafka.core.control.context import ClusterContext, ControllerCounters
from minikafka.core.control.election import Decision, PartitionView, next_state
from minikafka.core.control.outbox import Outbox
from minikafka.model import NO_LEADER, PartitionState, TopicPartition

MAX_CONFLICTS = 10


class StateWriter:
    """Writes States, and reads again those that somebody else has written."""

    def __init__(self, context: ClusterContext, outbox: Outbox) -> None:
        self._context = context
        self._outbox = outbox
        self.counters = ControllerCounters()

    # --- writing ---

    def commit(
        self, decide: Callable[[], Iterable[StateChange]], *, tell: bool = True
    ) -> Operation[None]:
        """Write all that `decide` wants. After conflicts: read those States, and decide again.
        Without `tell` the caller has more to write before brokers hear of it."""
        for _ in range(MAX_CONFLICTS):
            changes = tuple(decide())
            if not changes:
                return
            conflicts = yield from self._write(changes, tell=tell)
            if not conflicts:
                return
            yield from self._read_again(conflicts)
        raise GaveUpError(f"conflicts in {MAX_CONFLICTS} writes on end")

    def commit_rule(
        self,
        rule: Callable[[PartitionView], Decision | None],
        among: Sequence[TopicPartition],
    ) -> Operation[None]:
        """Write what `rule` decides of each of these partitions."""

        def decide() -> Iterator[StateChange]:
            for tp in among:
                view = self._context.view(tp)
                if view is not None and (decision := rule(view)) is not None:
                    yield self.change(tp, view, decision)

        yield from self.commit(decide)

    def commit_once(
        self,
        among: Sequence[TopicPartition],
        rule: Callable[[TopicPartition, PartitionView], Decision | None],
        *,
        tell: bool = True,
    ) -> Operation[list[TopicPartition]]:
        """Write what `rule` decides of each of these partitions, once, even if it would decide the
        same of the State that this makes. Returns where something was written."""
        written: dict[TopicPartition, PartitionState] = {}

        def decide() -> Iterator[StateChange]:
            for tp in among:
                view = self._context.view(tp)
                if view is None:
                    written.pop(tp, None)
                elif tp not in written or view.state != written[tp]:
                    written.pop(tp, None)
                    if (decision := rule(tp, view)) is not None:
                        change = self.change(tp, view, decision)
                        written[tp] = change.new
                        yield change

        yield from self.commit(decide, tell=tell)
        return list(written)

    def change(
        self, topic_partition: TopicPartition, view: PartitionView, decision: Decision
    ) -> StateChange:
        """The change of State that carries a decision out."""
        new = next_state(view, decision, self._context.controller_epoch)
        return StateChange(
            topic_partition,
            view.state,
            new,
            decision.reason,
            decision.unclean,
            decision.reassigned,
        )

    def _write(
        self, changes: tuple[StateChange, ...], *, tell: bool
    ) -> Operation[list[TopicPartition]]:
        """Returns the partitions whose write met a conflict."""
        for change in changes:
            check_transition(change)
        outcomes: list[WriteOutcome] = yield WriteStates(changes)
        assert len(outcomes) == len(changes)
        for change, outcome in zip(changes, outcomes, strict=True):
            if outcome is WriteOutcome.WRITTEN:
                self._adopt(change, tell=tell)
        if WriteOutcome.DEPOSED in outcomes:
            raise DeposedError(f"controller epoch {self._context.controller_epoch} is over")
        return [
            change.topic_partition
            for change, outcome in zip(changes, outcomes, strict=True)
            if outcome is WriteOutcome.CONFLICT
        ]

    def _adopt(self, change: StateChange, *, tell: bool) -> None:
        self._context.put_state(change.topic_partition, change.new)
        if tell:
            self._outbox.put_state(self._context.metadata(change.topic_partition))
        old_isr = set(change.old.isr) if change.old else set(change.new.isr)
        old_leader = change.old.leader if change.old else NO_LEADER
        self.counters.elections += change.new.leader not in (old_leader, NO_LEADER)
        self.counters.unclean_elections += change.unclean
        self.counters.isr_shrinks += bool(old_isr - set(change.new.isr))
        self.counters.isr_expands += bool(set(change.new.isr) - old_isr)

    # --- reading again ---

    def _read_again(self, conflicts: list[TopicPartition]) -> Operation[None]:
        context = self._context
        topics = {tp.topic: context.topics[tp.topic] for tp in conflicts}
        found: dict[TopicPartition, PartitionState | None] = yield ReadStates(topics)
        for tp in conflicts:
            state = found.get(tp)
            if state is None:
                context.drop_state(tp)
                if tp in found:
                    context.unreadable.add(tp)
                continue
            if state.controller_epoch > context.controller_epoch:
                raise DeposedError(f"{tp} was written by controller epoch {state.controller_epoch}")
            self._take(tp, state)

    def read_unreadable(self) -> Operation[None]:
        """Look again at the partitions whose State could not be read."""
        context = self._context
        if not context.unreadable:
            return
        names = {tp.topic for tp in context.unreadable}
        topics = {name: topic for name in names if (topic := context.topics.get(name)) is not None}
        found: dict[TopicPartition, PartitionState | None] = yield ReadStates(topics)
        for tp in sorted(context.unreadable):
            if tp in found and found[tp] is None:
                continue
            context.unreadable.discard(tp)
            if (state := found.get(tp)) is not None and context.assignment(tp) is not None:
                self._take(tp, state)

    def _take(self, topic_partition: TopicPartition, state: PartitionState) -> None:
        """A State as somebody else has written it: it is looked at before the event ends."""
        self._context.put_state(topic_partition, state)
        self._context.unsettled.add(topic_partition)
        self._outbox.put_state(self._context.metadata(topic_partition))


def check_transition(change: StateChange) -> None:
    """Asserts invariants 1 and 3 of replication.md section 7 of a State before it is written."""
    old, new = change.old, change.new
    assert new.leader == NO_LEADER or new.leader in new.isr, change
    assert len(set(new.isr)) == len(new.isr), change
    assert set(new.isr_storage) <= set(new.isr), change
    if old is None:
        assert (new.leader_epoch, new.partition_version) == (0, 0), change
        assert new.leader in new.isr, change
        return
    left = set(old.isr) - set(new.isr)
    bump = new.leader != old.leader or bool(left) or change.reassigned
    assert new.partition_version == old.partition_version + 1, change
    assert new.leader_epoch == old.leader_epoch + bump, change
    assert new.controller_epoch >= old.controller_epoch, change
