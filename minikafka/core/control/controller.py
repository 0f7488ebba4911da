"""The controller: the one writer of leader, leader epoch and ISR (replication.md section 2).

Pure: a method takes an event and is an `Operation` (commands.py); what brokers are to be told
collects in `outbox`. All that is remembered is in `context`. A `Controller` lives for one term: it
is made when the election is won and dropped when the term ends, however it ends.

It is the one door to its parts, and says what follows what. The parts know the context, the outbox
and the two writers (state_writer.py, topic_nodes.py), and not each other:

    brokers.py        who lives, leaves, has failed; their configuration
    topics.py         creation, partitions, configuration; first States
    deletions.py      topics that are to go
    elections.py      where there is no leader, and those that are asked for
    proposals.py      leaders want other ISRs
    reassignments.py  replicas move

Modules that are called after one thing (election.py, alter_partition.py, reassignment.py,
assignment.py, incarnation.py) hold the rules about one: pure functions.

Invariants: one event is handled to its end before the next begins, and leaves nothing unsettled.
Errors: `DeposedError` and `GaveUpError` end the term. MinikafkaErrors are the answer to a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from minikafka.api.requests import AlterPartitionResult, CreateTopic
from minikafka.core.control.brokers import Brokers
from minikafka.core.control.commands import DeposedError, Operation, PartitionResults, Results
from minikafka.core.control.context import BrokerBatch, ClusterContext, ControllerCounters
from minikafka.core.control.deletions import Deletions
from minikafka.core.control.elections import Elections
from minikafka.core.control.outbox import Outbox
from minikafka.core.control.proposals import Proposals
from minikafka.core.control.reassignments import Reassignments
from minikafka.core.control.state_writer import StateWriter
from minikafka.core.control.topic_nodes import TopicNodes
from minikafka.core.control.topics import NewTopicDefaults, Topics
from minikafka.core.control.turns import in_turns
from minikafka.errors import MinikafkaError
from minikafka.model import (
    Assignment,
    BrokerInfo,
    IsrProposal,
    PartitionState,
    TopicDescription,
    TopicPartition,
)

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClusterRead:
    """All that a new controller reads, after `sync`."""

    brokers: Mapping[int, BrokerInfo]
    topics: Mapping[str, TopicDescription]
    states: Mapping[TopicPartition, PartitionState]
    deletions: frozenset[str] = frozenset()
    preferred_election: tuple[TopicPartition, ...] | None = None
    # Topics and partitions that are there and whose nodes cannot be read: they are left alone.
    unreadable_topics: frozenset[str] = frozenset()
    unreadable: frozenset[TopicPartition] = frozenset()


def event(
    handle: Callable[Concatenate[Controller, P], Operation[T]],
) -> Callable[Concatenate[Controller, P], Operation[T]]:
    """Marks a method as the handling of one event: asserts that no other is under way, and leaves
    nothing unsettled (after a conflict, what was read again)."""

    @wraps(handle)
    def handle_alone(self: Controller, /, *args: P.args, **kwargs: P.kwargs) -> Operation[T]:
        assert self._handling is None, f"{handle.__name__} came while handling {self._handling}"
        self._handling = handle.__name__
        try:
            result = yield from handle(self, *args, **kwargs)
            while self.context.unsettled:
                yield from self._settle()
            return result
        finally:
            self._handling = None

    return handle_alone


class Controller:
    """One term as the active controller. `unclean_allowed(topic)` and `min_insync(topic)` are the
    topic's unclean.leader.election.enable and min.insync.replicas as they are now."""

    def __init__(
        self,
        controller_id: int,
        controller_epoch: int,
        unclean_allowed: Callable[[str], bool],
        min_insync: Callable[[str], int] = lambda topic: 1,
    ) -> None:
        context = self.context = ClusterContext(controller_id, controller_epoch)
        outbox = self.outbox = Outbox()
        states = self._states = StateWriter(context, outbox)
        nodes = TopicNodes(context)
        self._brokers = Brokers(context, outbox, states)
        self._topics = Topics(context, outbox, states, nodes)
        self._deletions = Deletions(context, outbox, nodes)
        self._elections = Elections(context, outbox, states, unclean_allowed)
        self._proposals = Proposals(context, states)
        self._reassignments = Reassignments(context, outbox, states, nodes, min_insync)
        self._handling: str | None = None  # the event that is under way

    # --- for reading ---

    @property
    def counters(self) -> ControllerCounters:
        """What happened in this term."""
        return self._states.counters

    @property
    def awaits_word(self) -> bool:
        """Whether an election waits for a broker to acknowledge what it was told: see `on_word`."""
        return self._elections.awaits_word

    def reassignments(self) -> dict[TopicPartition, Assignment]:
        """Those that are under way."""
        return self._reassignments.under_way()

    def waits_for_absent(self, name: str) -> bool:
        """Whether the deletion of a topic has to wait for a broker that is not there."""
        return self._deletions.waits_for_absent(name)

    # --- the standing rules ---

    def _settle(self) -> Operation[None]:
        """Bring every partition to where it should be, seeing who lives, and then let whoever can
        leave for good, leave. What has not changed since the last time, and lacks nothing, is not
        looked at."""
        context = self.context
        changed, context.unsettled = context.unsettled, set()
        self._elections.look_anew()
        to_see = context.present(changed | context.leaderless | context.stateless)
        try:
            yield from in_turns(to_see, self._settle_some)
        except BaseException:  # it was broken off: the next event looks again
            context.unsettled |= changed
            raise
        yield from in_turns(list(self.reassignments()), self._reassignments.retire)

    def _settle_some(self, some: Sequence[TopicPartition]) -> Operation[None]:
        """Failures first; then elections where there is no leader; then new partitions."""
        yield from self._brokers.remove_failed(some)
        yield from self._elections.elect_leaderless(some)
        yield from self._topics.create_states(some)

    # --- brokers ---

    @event
    def load(self, read: ClusterRead) -> Operation[None]:
        """Take over: failed members leave, leaderless partitions get leaders, everybody hears
        everything, deletions and elections that were begun go on."""
        assert not self.context.brokers, "a term is loaded once"
        newest = max((s.controller_epoch for s in read.states.values()), default=-1)
        if newest > self.context.controller_epoch:
            raise DeposedError(f"controller epoch {newest} has written States already")
        for topic in read.topics.values():
            self.context.put_topic(topic)
        for tp, state in read.states.items():
            self.context.put_state(tp, state)
        self.context.unsettled.update(read.states)
        self.context.unreadable_topics = read.unreadable_topics
        self.context.unreadable.update(read.unreadable)
        self.context.deletions.update(read.deletions & read.topics.keys())
        self._brokers.take(read.brokers)
        yield from self._settle()
        yield from self._reassignments.resume()
        yield from self._welcome(sorted(read.brokers))
        yield from self._deletions.start(set(read.deletions))
        if read.preferred_election is not None:
            yield from self._run_preferred_election(read.preferred_election)

    @event
    def on_brokers(self, brokers: Mapping[int, BrokerInfo]) -> Operation[BrokerBatch]:
        """The live brokers as ZooKeeper has them now. Dead and bounced ones fail in one batch,
        before anybody who started counts as a candidate; then those who started are told all."""
        changed = brokers != self.context.brokers
        batch = self._brokers.take(brokers)
        if not changed:
            return batch
        yield from self._settle()
        yield from self._welcome(batch.started)
        self.outbox.announce()
        return batch

    def _welcome(self, broker_ids: Sequence[int]) -> Operation[None]:
        """Tell incarnations everything: each partition, and what they are to delete."""
        if not broker_ids:
            return
        yield from self._brokers.tell_states(broker_ids)
        for broker_id in broker_ids:
            self._reassignments.tell_dropped(broker_id)
            self._deletions.tell_all(broker_id)

    @event
    def on_word(self) -> Operation[None]:
        """A broker has acknowledged what it was told, and an election waited for that."""
        yield from self._settle()

    @event
    def on_configs(self) -> Operation[None]:
        """Configurations changed: unclean elections may have become possible."""
        yield from self._settle()

    @event
    def alter_broker_config(
        self, broker: str, changes: Mapping[str, str | None]
    ) -> Operation[Results]:
        """Set overrides of a broker, or of all; None takes one away."""
        return (yield from self._brokers.alter_config(broker, changes))

    @event
    def on_failed_replicas(
        self, broker_id: int, broker_epoch: int, replicas: Iterable[tuple[TopicPartition, str]]
    ) -> Operation[PartitionResults]:
        """Disks failed under replicas (partition, topic id) of a broker."""
        results = self._brokers.note_failed_replicas(broker_id, broker_epoch, replicas)
        yield from self._settle()
        return results

    @event
    def on_controlled_shutdown(
        self, broker_id: int, broker_epoch: int
    ) -> Operation[list[TopicPartition]]:
        """A broker wants to leave. Returns what it still leads although there are others."""
        return (yield from self._brokers.shut_down(broker_id, broker_epoch))

    @event
    def allocate_producer_ids(
        self, broker_id: int, broker_epoch: int
    ) -> Operation[tuple[int, int]]:
        """A block of producer ids (first, exclusive end) for a live broker."""
        return (yield from self._brokers.allocate_producer_ids(broker_id, broker_epoch))

    # --- proposals of leaders ---

    @event
    def alter_partition(
        self, broker_id: int, broker_epoch: int, proposals: Sequence[IsrProposal]
    ) -> Operation[list[AlterPartitionResult]]:
        """Leaders propose ISRs. Raises if the proposer's incarnation does not live."""
        self._brokers.check_incarnation(broker_id, broker_epoch)
        errors = yield from self._proposals.carry_out(broker_id, proposals)
        yield from self._reassignments.retire(errors)
        return self._proposals.answers(proposals, errors)

    # --- elections that are asked for ---

    @event
    def elect_leaders(
        self, partitions: Sequence[TopicPartition], *, unclean: bool
    ) -> Operation[PartitionResults]:
        """Preferred or unclean elections, of all partitions that need one if none are named."""
        errors = yield from self._elect(partitions, unclean=unclean)
        return list(errors.items())

    def _elect(
        self, partitions: Sequence[TopicPartition], *, unclean: bool
    ) -> Operation[dict[TopicPartition, MinikafkaError | None]]:
        errors = yield from self._elections.elect(partitions, unclean=unclean)
        elected = [tp for tp, error in errors.items() if error is None]
        yield from self._reassignments.retire(elected)
        return errors

    @event
    def on_preferred_election(self, partitions: Sequence[TopicPartition]) -> Operation[None]:
        """Someone left a work list in ZooKeeper; it goes when it is done."""
        yield from self._run_preferred_election(partitions)

    def _run_preferred_election(self, partitions: Sequence[TopicPartition]) -> Operation[None]:
        if partitions:
            yield from self._elect(partitions, unclean=False)
        yield from self._elections.clear_work_list()

    @event
    def rebalance(self, imbalance_percent: int) -> Operation[int]:
        """Give leadership back to preferred replicas where too much of it moved away. Returns how
        many moved."""
        return (yield from self._elections.rebalance(imbalance_percent))

    # --- reassignments ---

    @event
    def alter_partition_reassignments(
        self, targets: Mapping[TopicPartition, Sequence[int] | None]
    ) -> Operation[PartitionResults]:
        """Move partitions to other replicas, in order of preference; None cancels."""
        errors = yield from self._reassignments.alter(targets)
        yield from self._settle()
        return list(errors.items())

    # --- topics ---

    @event
    def create_topics(
        self,
        topics: Sequence[CreateTopic],
        chance: NewTopicDefaults,
        *,
        validate_only: bool = False,
    ) -> Operation[Results]:
        """Make topics, or only say whether they could be made."""
        results = yield from self._topics.create(topics, chance, validate_only=validate_only)
        yield from self._settle()
        return results

    @event
    def create_partitions(
        self,
        name: str,
        total_count: int,
        assignments: Sequence[Sequence[int]],
        *,
        validate_only: bool = False,
    ) -> Operation[Results]:
        """Give a topic more partitions, or only say whether it can have them."""
        results = yield from self._topics.create_partitions(
            name, total_count, assignments, validate_only=validate_only
        )
        if not validate_only and all(error is None for _, error in results):
            yield from self._settle()
        return results

    @event
    def alter_topic_config(
        self, name: str, changes: Mapping[str, str | None]
    ) -> Operation[Results]:
        """Set overrides of a topic; None takes one away."""
        return (yield from self._topics.alter_config(name, changes))

    @event
    def on_topics(
        self,
        topics: Mapping[str, TopicDescription],
        unreadable: frozenset[str] = frozenset(),
    ) -> Operation[None]:
        """The topics as ZooKeeper has them now: new ones and new partitions get their States. One
        that is there and cannot be read (`unreadable`) stays as it was known."""
        self._topics.take(topics, unreadable)
        yield from self._states.read_unreadable()
        yield from self._settle()

    # --- deletions ---

    @event
    def delete_topics(self, names: Sequence[str], *, enabled: bool = True) -> Operation[Results]:
        """Mark topics as deleted and begin to delete them. `enabled`: delete.topic.enable."""
        return (yield from self._deletions.mark(names, enabled=enabled))

    @event
    def on_deletions(self, marked: Iterable[str]) -> Operation[None]:
        """The deletion markers as ZooKeeper has them now."""
        yield from self._deletions.start(set(marked))

    @event
    def on_replicas_deleted(
        self, broker_id: int, replicas: Iterable[tuple[TopicPartition, str]]
    ) -> Operation[None]:
        """A broker has deleted replicas (partition, topic id)."""
        dropped = self._deletions.note_deleted_replicas(broker_id, replicas)
        yield from self._reassignments.forget_dropped(broker_id, dropped)
        yield from self._deletions.finish()
