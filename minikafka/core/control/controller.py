"""The controller: the one writer of leader, leader epoch and ISR (replication.md section 2).

Pure: a method takes an event and is an `Operation` (commands.py); what brokers are to
be told collects in `outbox`. All that is remembered is in `context`. A `Controller` lives for one
term: it is made when the election is won and dropped when the term ends, however it ends.

Where things are: election.py decides about one partition, alter_partition.py about a leader's
proposal, deciding.py turns decisions into States, topics.py is about topics,
reassigning.py about moving replicas, and this module about brokers, proposals, and
elections that are asked for.

Errors: `DeposedError` and `GaveUpError` end the term. MinikafkaErrors are the answer to a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from minikafka.api.outcomes import WriteOutcome
from minikafka.api.requests import AlterPartitionResult
from minikafka.config import validate_broker_overrides
from minikafka.config.overrides import DEFAULT_BROKER, broker_entity_name, merged
from minikafka.core.control.alter_partition import Applied, judge
from minikafka.core.control.commands import (
    AllocateProducerIds,
    ClearPreferredElection,
    DeposedError,
    Operation,
    ReadBrokerConfigs,
    StateChange,
    WriteBrokerConfig,
)
from minikafka.core.control.context import BrokerBatch
from minikafka.core.control.deciding import event
from minikafka.core.control.election import (
    Decision,
    PartitionView,
    controlled_shutdown,
    for_leaderless,
    preferred_election,
)
from minikafka.core.control.reassigning import Results
from minikafka.core.control.topics import TopicController
from minikafka.errors import (
    ElectionNotNeededError,
    EligibleLeadersNotAvailableError,
    InvalidRequestError,
    MinikafkaError,
    PreferredLeaderNotAvailableError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import (
    NO_LEADER,
    BrokerInfo,
    IsrProposal,
    PartitionMetadata,
    PartitionState,
    TopicDescription,
    TopicPartition,
)


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


class Controller(TopicController):
    """One term as the active controller."""

    # --- who lives ---

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
        self.context.take_brokers(read.brokers)
        yield from self.settle()
        yield from self.resume_reassignments()
        yield from self._welcome(sorted(read.brokers))
        yield from self.start_deletions(set(read.deletions))
        if read.preferred_election is not None:
            yield from self._run_preferred_election(read.preferred_election)

    @event
    def on_brokers(self, brokers: Mapping[int, BrokerInfo]) -> Operation[BrokerBatch]:
        """The live brokers as ZooKeeper has them now. Dead and bounced ones fail in one batch,
        before anybody who started counts as a candidate; then those who started are told all."""
        changed = brokers != self.context.brokers
        batch = self.context.take_brokers(brokers)
        for broker_id in batch.dead + batch.bounced:
            self.outbox.close(broker_id)
        if not changed:
            return batch
        yield from self.settle()
        yield from self._welcome(batch.started)
        self.outbox.announce()
        return batch

    def _welcome(self, broker_ids: Sequence[int]) -> Operation[None]:
        """Tell incarnations everything: each partition, and what they are to delete."""
        if not broker_ids:
            return
        told: list[PartitionMetadata] = []

        def gather(some: Sequence[TopicPartition]) -> Operation[None]:
            told.extend(self.context.metadata(tp) for tp in some)
            yield from ()

        yield from self.in_turns(self.context.present(self.context.states), gather)
        for broker_id in broker_ids:
            self.outbox.open(self.context.brokers[broker_id])
            for metadata in told:
                self.outbox.put_state(metadata, to=[broker_id])
            self.tell_dropped(broker_id)
            for name in sorted(self.context.deletions):
                self.tell_deletion(name, broker_id)

    @event
    def on_configs(self) -> Operation[None]:
        """Configurations changed: unclean elections may have become possible."""
        yield from self.settle()

    @event
    def alter_broker_config(
        self, broker: str, changes: Mapping[str, str | None]
    ) -> Operation[Results]:
        """Set overrides of a broker's configuration, or of that of all (DEFAULT_BROKER); None takes
        one away, which can also be done for a broker that has gone for good."""
        overrides = merged({}, changes)
        try:
            if broker_entity_name(broker) != DEFAULT_BROKER and overrides:
                self._require_live(int(broker))
            validate_broker_overrides(overrides)
        except MinikafkaError as refused:
            return [(broker, refused)]
        stored: Mapping[str, Mapping[str, str]] = yield ReadBrokerConfigs()
        name = broker_entity_name(broker)
        yield WriteBrokerConfig(name, merged(stored.get(name, {}), changes))
        return [(broker, None)]

    def _require_live(self, broker_id: int) -> None:
        if broker_id not in self.context.brokers:
            raise InvalidRequestError(
                f"there is no live broker {broker_id}: "
                f"there are {', '.join(map(str, sorted(self.context.brokers)))}"
            )

    @event
    def on_failed_replicas(
        self, broker_id: int, broker_epoch: int, replicas: Iterable[tuple[TopicPartition, str]]
    ) -> Operation[list[tuple[str, MinikafkaError | None]]]:
        """Disks failed under replicas (partition, topic id) of a broker: until its next
        incarnation they are in no ISR where another is in sync, and lead nothing. A log that the
        broker is to delete, or has deleted, does not matter any more."""
        self.check_incarnation(broker_id, broker_epoch)
        results: list[tuple[str, MinikafkaError | None]] = []
        for tp, topic_id in replicas:
            assignment, topic = self.context.assignment(tp), self.context.topic(tp.topic)
            if assignment is None or topic is None or topic.topic_id != topic_id:
                results.append((str(tp), _unknown(tp)))
                continue
            if broker_id not in assignment.replicas:
                results.append((str(tp), None))
                continue
            self.context.failed_replicas.setdefault(tp, {})[broker_id] = broker_epoch
            self.context.unsettled.add(tp)
            results.append((str(tp), None))
        yield from self.settle()
        return results

    @event
    def on_controlled_shutdown(
        self, broker_id: int, broker_epoch: int
    ) -> Operation[list[TopicPartition]]:
        """A broker wants to leave: its partitions get other leaders and it leaves every ISR that
        has another member. Returns what it still leads although there are other replicas."""
        self.check_incarnation(broker_id, broker_epoch)
        self.context.shutting_down[broker_id] = broker_epoch
        self.outbox.announce()

        def leave(some: Sequence[TopicPartition]) -> Operation[None]:
            yield from self.commit(
                lambda: self.changes(lambda view: controlled_shutdown(view, broker_id), some)
            )

        yield from self.in_turns(self.context.in_isr_of(broker_id), leave)
        return [
            tp
            for tp in self.context.in_isr_of(broker_id)
            if (view := self.context.view(tp)) is not None
            and view.state.leader == broker_id
            and len(view.assignment.replicas) > 1
        ]

    @event
    def on_word(self) -> Operation[None]:
        """A broker has acknowledged what it was told, and an election waited for that."""
        yield from self.settle()

    # --- proposals of leaders ---

    @event
    def alter_partition(
        self, broker_id: int, broker_epoch: int, proposals: Sequence[IsrProposal]
    ) -> Operation[list[AlterPartitionResult]]:
        """Leaders propose ISRs. Raises if the proposer's incarnation does not live."""
        self.check_incarnation(broker_id, broker_epoch)
        waiting: dict[TopicPartition, IsrProposal] = {}
        errors: dict[TopicPartition, MinikafkaError | None] = {}
        for proposal in proposals:
            if proposal.topic_partition in waiting:
                twice = f"{proposal.topic_partition} is in the request twice"
                raise InvalidRequestError(twice)
            waiting[proposal.topic_partition] = proposal

        def decide() -> list[StateChange]:
            """Judge what waits; a proposal that was written before a conflict elsewhere in the
            request is judged again, and found applied."""
            changes = []
            for tp, proposal in waiting.items():
                verdict, view = self._judge(broker_id, proposal)
                errors[tp] = verdict if isinstance(verdict, MinikafkaError) else None
                if view is not None and isinstance(verdict, Decision):
                    changes.append(self.change(tp, view, verdict))
            return changes

        yield from self.commit(decide)
        yield from self.retire_replicas(waiting)
        return [
            AlterPartitionResult(tp, errors[tp], self._known_state(p)) for tp, p in waiting.items()
        ]

    def _judge(
        self, broker_id: int, proposal: IsrProposal
    ) -> tuple[Decision | Applied | MinikafkaError, PartitionView | None]:
        tp = proposal.topic_partition
        view = self.context.view(tp)
        if view is None:
            return _unknown(tp), None
        if self.context.topics[tp.topic].topic_id != proposal.topic_id:
            return UnknownTopicIdError(f"{tp}: there is no topic of id {proposal.topic_id}"), None
        return judge(view, broker_id, proposal), view

    def _known_state(self, proposal: IsrProposal) -> PartitionState | None:
        topic = self.context.topic(proposal.topic_partition.topic)
        if topic is None or topic.topic_id != proposal.topic_id:
            return None
        return self.context.states.get(proposal.topic_partition)

    # --- elections that are asked for ---

    @event
    def elect_leaders(
        self, partitions: Sequence[TopicPartition], *, unclean: bool
    ) -> Operation[list[tuple[str, MinikafkaError | None]]]:
        """Preferred or unclean elections, of all partitions that need one if none are named."""
        return (yield from self._elect(partitions, unclean=unclean))

    def _elect(
        self, partitions: Sequence[TopicPartition], *, unclean: bool
    ) -> Operation[list[tuple[str, MinikafkaError | None]]]:
        named = list(dict.fromkeys(partitions)) or [tp for tp, _ in self.context.views()]
        errors = {tp: self._election_error(tp, unclean) for tp in named}
        wanted = [tp for tp in named if errors[tp] is None]
        yield from self.commit(
            lambda: (
                self.change(tp, view, decision)
                for tp in wanted
                if (view := self.view_to_elect(tp)) and (decision := _elected(view, unclean))
            )
        )
        yield from self.retire_replicas(wanted)
        return [
            (str(tp), error)
            for tp, error in errors.items()
            if partitions or not isinstance(error, ElectionNotNeededError)
        ]

    def _election_error(self, tp: TopicPartition, unclean: bool) -> MinikafkaError | None:
        """Why there is no such election, or None."""
        view = self.view_to_elect(tp)
        if view is None:
            return _unknown(tp)
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

    @event
    def on_preferred_election(self, partitions: Sequence[TopicPartition]) -> Operation[None]:
        """Someone left a work list in ZooKeeper; it goes when it is done."""
        yield from self._run_preferred_election(partitions)

    def _run_preferred_election(self, partitions: Sequence[TopicPartition]) -> Operation[None]:
        if partitions:
            yield from self._elect(partitions, unclean=False)
        outcome: WriteOutcome = yield ClearPreferredElection()
        self.require_term(outcome)

    @event
    def rebalance(self, imbalance_percent: int) -> Operation[int]:
        """Give leadership back to the preferred replicas of each live broker of whose preferred
        partitions more than `imbalance_percent` are led by others. Returns how many moved."""
        preferred: dict[int, list[TopicPartition]] = {}
        elsewhere: dict[int, list[TopicPartition]] = {}
        for tp, view in self.context.views():
            if view.assignment.in_progress:
                continue  # the end of it moves leadership, if need be
            first = view.assignment.replicas[0]
            preferred.setdefault(first, []).append(tp)
            if view.state.leader != first:
                elsewhere.setdefault(first, []).append(tp)
        wanted = [
            tp
            for broker_id, moved in sorted(elsewhere.items())
            if len(moved) * 100 > imbalance_percent * len(preferred[broker_id])
            for tp in moved
        ]
        before = self.counters.elections
        yield from self.commit(lambda: self.changes(preferred_election, wanted))
        return self.counters.elections - before

    # --- producer ids ---

    @event
    def allocate_producer_ids(
        self, broker_id: int, broker_epoch: int
    ) -> Operation[tuple[int, int]]:
        """A block of producer ids (first, exclusive end) for a live broker."""
        self.check_incarnation(broker_id, broker_epoch)
        block: tuple[int, int] = yield AllocateProducerIds(broker_id)
        return block


def _elected(view: PartitionView, unclean: bool) -> Decision | None:
    """A preferred election, or one where an admin accepts loss; a clean candidate is still taken
    first."""
    if not unclean:
        return preferred_election(view)
    decision = for_leaderless(view, unclean=True)
    return None if decision is None or decision.leader == NO_LEADER else decision


def _unknown(tp: TopicPartition) -> UnknownTopicOrPartitionError:
    return UnknownTopicOrPartitionError(f"there is no partition {tp}")
