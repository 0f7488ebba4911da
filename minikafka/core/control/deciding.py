"""The trunk of the controller's core: how a decision becomes a State, and the state of a term.

`ControllerBase` holds the context (what is known), the outbox (what is to be told) and counters;
`commit` is the only way in which a State changes: decide, write fenced, take over what was written,
tell the brokers; whatever met a conflict is read again and decided again.

Invariants: a State is told only after it has been written; what is decided follows from the context
alone, so that deciding again is right after any conflict; one event is handled to its end before
the next begins; every State that is written obeys `check_transition`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control.commands import (
    DeposedError,
    GaveUpError,
    NextTurn,
    Operation,
    ReadStates,
    StateChange,
    WriteStates,
)
from minikafka.core.control.context import ClusterContext, ControllerCounters
from minikafka.core.control.election import (
    Decision,
    PartitionView,
    after_failures,
    first_state,
    for_leaderless,
    next_state,
)
from minikafka.core.control.outbox import Outbox
from minikafka.errors import NotControllerError, StaleBrokerEpochError
from minikafka.model import NO_LEADER, PartitionState, TopicPartition

MAX_CONFLICTS = 10
AT_ONCE = 200  # partitions that are worked on in one turn

P = ParamSpec("P")
T = TypeVar("T")


class ControllerBase:
    """One term of a controller. `unclean_allowed(topic)` and `min_insync(topic)` are the topic's
    unclean.leader.election.enable and min.insync.replicas as they are now."""

    def __init__(
        self,
        controller_id: int,
        controller_epoch: int,
        unclean_allowed: Callable[[str], bool],
        min_insync: Callable[[str], int] = lambda topic: 1,
    ) -> None:
        self.context = ClusterContext(controller_id, controller_epoch)
        self.outbox = Outbox()
        self.counters = ControllerCounters()
        self.unclean_allowed = unclean_allowed
        self.min_insync = min_insync
        self.awaits_word = False  # an election waits for a replica to acknowledge what it is
        self._handling: str | None = None

    def begin(self, event_name: str) -> None:
        assert self._handling is None, f"{event_name} came while handling {self._handling}"
        self._handling = event_name

    def end(self) -> None:
        self._handling = None

    # --- writing States ---

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
                view = self.context.view(tp)
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
            raise DeposedError(f"controller epoch {self.context.controller_epoch} is over")
        return [
            change.topic_partition
            for change, outcome in zip(changes, outcomes, strict=True)
            if outcome is WriteOutcome.CONFLICT
        ]

    def _adopt(self, change: StateChange, *, tell: bool) -> None:
        self.context.put_state(change.topic_partition, change.new)
        if tell:
            self.outbox.put_state(self.context.metadata(change.topic_partition))
        old_isr = set(change.old.isr) if change.old else set(change.new.isr)
        old_leader = change.old.leader if change.old else NO_LEADER
        self.counters.elections += change.new.leader not in (old_leader, NO_LEADER)
        self.counters.unclean_elections += change.unclean
        self.counters.isr_shrinks += bool(old_isr - set(change.new.isr))
        self.counters.isr_expands += bool(set(change.new.isr) - old_isr)

    def _read_again(self, conflicts: list[TopicPartition]) -> Operation[None]:
        topics = {tp.topic: self.context.topics[tp.topic] for tp in conflicts}
        found: dict[TopicPartition, PartitionState | None] = yield ReadStates(topics)
        for tp in conflicts:
            state = found.get(tp)
            if state is None:
                self.context.drop_state(tp)
                if tp in found:
                    self.context.unreadable.add(tp)
                continue
            if state.controller_epoch > self.context.controller_epoch:
                raise DeposedError(f"{tp} was written by controller epoch {state.controller_epoch}")
            self.context.put_state(tp, state)
            self.context.unsettled.add(tp)
            self.outbox.put_state(self.context.metadata(tp))

    def read_unreadable(self) -> Operation[None]:
        """Look again at the partitions whose State could not be read."""
        context = self.context
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
                context.put_state(tp, state)
                context.unsettled.add(tp)
                self.outbox.put_state(context.metadata(tp))

    # --- the standing rules ---

    def settle(self) -> Operation[None]:
        """Bring every partition to where it should be, seeing who lives: failures first; then
        elections where there is no leader; then States for new partitions. What has not changed
        since the last time, and lacks nothing, is not looked at."""
        context = self.context
        changed, context.unsettled = context.unsettled, set()
        self.awaits_word = False
        to_see = context.present(changed | context.leaderless | context.stateless)
        try:
            yield from self.in_turns(to_see, self._settle_some)
        except BaseException:  # it was broken off: the next event looks again
            context.unsettled |= changed
            raise

    def _settle_some(self, some: Sequence[TopicPartition]) -> Operation[None]:
        yield from self.commit(lambda: self.changes(after_failures, some))
        yield from self.commit(lambda: self._offline_elections(some))
        yield from self.commit(lambda: self._births(some))

    def in_turns(
        self,
        partitions: Sequence[TopicPartition],
        work: Callable[[Sequence[TopicPartition]], Operation[None]],
    ) -> Operation[None]:
        """Work on many partitions, and let others have their turn in between."""
        for start in range(0, len(partitions), AT_ONCE):
            if start:
                yield NextTurn()
            yield from work(partitions[start : start + AT_ONCE])

    def _offline_elections(self, among: Sequence[TopicPartition]) -> Iterator[StateChange]:
        for tp in among:
            view = self.view_to_elect(tp)
            if view is not None and view.state.leader == NO_LEADER:
                decision = for_leaderless(view, unclean=self.unclean_allowed(tp.topic))
                if decision is not None:
                    yield self.change(tp, view, decision)
                self.awaits_word |= bool(view.untold)

    def view_to_elect(self, tp: TopicPartition) -> PartitionView | None:
        """The view of a partition; without a leader it says which replicas do not know yet that
        they are being added."""
        view = self.context.view(tp)
        if view is None or view.state.leader != NO_LEADER:
            return view
        adding = [b for b in view.assignment.adding if b in view.brokers]
        untold = frozenset(b for b in adding if not self.outbox.has_heard(b, tp))
        return replace(view, untold=untold) if untold else view

    def changes(
        self,
        rule: Callable[[PartitionView], Decision | None],
        among: Iterable[TopicPartition],
    ) -> Iterator[StateChange]:
        """What a rule changes among these partitions."""
        for tp in among:
            view = self.context.view(tp)
            if view is not None and (decision := rule(view)) is not None:
                yield self.change(tp, view, decision)

    def change(
        self, topic_partition: TopicPartition, view: PartitionView, decision: Decision
    ) -> StateChange:
        new = next_state(view, decision, self.context.controller_epoch)
        return StateChange(
            topic_partition,
            view.state,
            new,
            decision.reason,
            decision.unclean,
            decision.reassigned,
        )

    def _births(self, among: Sequence[TopicPartition]) -> Iterator[StateChange]:
        context = self.context
        for tp in among:
            assignment = context.assignment(tp)
            if assignment and tp not in context.states and tp not in context.unreadable:
                state = first_state(
                    assignment, context.brokers, context.shutting_down, context.controller_epoch
                )
                if state is not None:
                    yield StateChange(tp, None, state, "created")

    def check_incarnation(self, broker_id: int, broker_epoch: int) -> None:
        """Raises unless this incarnation lives: StaleBrokerEpochError for one that is over,
        NotControllerError (ask again) for one that this controller has not heard of."""
        broker = self.context.brokers.get(broker_id)
        if broker is None or broker.broker_epoch < broker_epoch:
            raise NotControllerError(
                f"this controller does not see broker {broker_id} with broker epoch {broker_epoch} "
                "alive: try again"
            )
        if broker.broker_epoch > broker_epoch:
            raise StaleBrokerEpochError(
                f"broker epoch {broker_epoch} of broker {broker_id} is over, it is "
                f"{broker.broker_epoch} now"
            )


Handler = TypeVar("Handler", bound=ControllerBase)


def event(
    handle: Callable[Concatenate[Handler, P], Operation[T]],
) -> Callable[Concatenate[Handler, P], Operation[T]]:
    """Marks a method as the handling of one event: asserts that no other is under way, and leaves
    nothing unsettled (after a conflict, what was read again)."""

    @wraps(handle)
    def handle_alone(self: Handler, /, *args: P.args, **kwargs: P.kwargs) -> Operation[T]:
        self.begin(handle.__name__)
        try:
            result = yield from handle(self, *args, **kwargs)
            while self.context.unsettled:
                yield from self.settle()
            return result
        finally:
            self.end()

    return handle_alone


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
