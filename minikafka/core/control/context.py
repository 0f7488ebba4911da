"""What the controller knows: the cluster as ZooKeeper holds it, and three small sets of its own.

State: live brokers, topics with their assignments, the State of each partition (all three are
copies of ZooKeeper's), and what concerns single incarnations: who is shutting down, whose disk
failed, which replicas of topics under deletion are gone. The phases of a partition (nonexistent,
new, online, offline) and of a replica follow from these: nothing keeps a second truth. Beside them
lie indexes of them (who is in which ISR, what has no leader), so that an event costs what it is
about and not what there is.

Invariants: the indexes are right whenever nothing is being changed (`check_indexes`); an entry
about an incarnation goes as soon as that incarnation is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter

from minikafka.core.control.election import PartitionView
from minikafka.model import (
    NO_LEADER,
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicDescription,
    TopicPartition,
)


@dataclass(slots=True)
class ControllerCounters:
    """What happened in this term, for metrics."""

    elections: int = 0
    unclean_elections: int = 0
    isr_shrinks: int = 0
    isr_expands: int = 0

    def __add__(self, other: ControllerCounters) -> ControllerCounters:
        """What happened in two terms."""
        return ControllerCounters(
            self.elections + other.elections,
            self.unclean_elections + other.unclean_elections,
            self.isr_shrinks + other.isr_shrinks,
            self.isr_expands + other.isr_expands,
        )


@dataclass(frozen=True, slots=True)
class BrokerBatch:
    """How the live brokers changed: ids, ascending. `bounced` came back as another incarnation
    before it was seen to be gone."""

    dead: tuple[int, ...] = ()
    bounced: tuple[int, ...] = ()
    new: tuple[int, ...] = ()

    @property
    def started(self) -> tuple[int, ...]:
        return tuple(sorted(self.bounced + self.new))


@dataclass(slots=True)
class ClusterContext:
    """The controller's copy of the cluster. Empty at the begin of a term."""

    controller_id: int
    controller_epoch: int
    brokers: dict[int, BrokerInfo] = field(default_factory=dict)
    topics: dict[str, TopicDescription] = field(default_factory=dict)
    states: dict[TopicPartition, PartitionState] = field(default_factory=dict)
    deletions: set[str] = field(default_factory=set)
    # What is there and cannot be read: nothing is decided about it, and nothing made in its place.
    unreadable_topics: frozenset[str] = frozenset()
    unreadable: set[TopicPartition] = field(default_factory=set)
    # Replicas that have deleted their log: (partition, topic id, broker id).
    deleted_replicas: set[tuple[TopicPartition, str, int]] = field(default_factory=set)
    # Broker id -> the broker epoch that this is about.
    shutting_down: dict[int, int] = field(default_factory=dict)
    failed_replicas: dict[TopicPartition, dict[int, int]] = field(default_factory=dict)
    # What people call the brokers, those that were seen in this term and are dead too.
    names: dict[int, str] = field(default_factory=dict)
    # Which partitions there is something to do about, so that nobody walks over all of them.
    in_isr: dict[int, set[TopicPartition]] = field(default_factory=dict)  # by member
    leaderless: set[TopicPartition] = field(default_factory=set)
    stateless: set[TopicPartition] = field(default_factory=set)
    moving: set[TopicPartition] = field(default_factory=set)  # whose reassignment is in progress
    dropping: set[TopicPartition] = field(default_factory=set)  # with replicas still to go
    unsettled: set[TopicPartition] = field(default_factory=set)  # of which something has changed

    # --- questions ---

    def partitions(self) -> Iterator[tuple[TopicPartition, Assignment]]:
        """Every partition, in order, of the topics that are not being deleted."""
        for name in sorted(self.topics.keys() - self.deletions):
            for partition, assignment in sorted(self.topics[name].assignments.items()):
                yield TopicPartition(name, partition), assignment

    def assignment(self, topic_partition: TopicPartition) -> Assignment | None:
        """The assignment of a partition, None if there is no such one or it is being deleted."""
        topic = self.topic(topic_partition.topic)
        return None if topic is None else topic.assignments.get(topic_partition.partition)

    def topic(self, name: str) -> TopicDescription | None:
        """The topic, None if there is none or it is being deleted."""
        return None if name in self.deletions else self.topics.get(name)

    def view(self, topic_partition: TopicPartition) -> PartitionView | None:
        """What decisions about a partition rest on; None while it has no State."""
        assignment = self.assignment(topic_partition)
        state = self.states.get(topic_partition)
        if assignment is None or state is None:
            return None
        failed = self.failed_replicas.get(topic_partition, {})
        return PartitionView(
            state,
            assignment,
            brokers=self.brokers,
            shutting_down=self.shutting_down,
            failed=failed,
            names=self.names,
        )

    def views(self) -> Iterator[tuple[TopicPartition, PartitionView]]:
        """Every partition that has a State, in order."""
        for topic_partition, _ in self.partitions():
            if (view := self.view(topic_partition)) is not None:
                yield topic_partition, view

    def metadata(self, topic_partition: TopicPartition) -> PartitionMetadata:
        """What brokers are told of a partition that has a State."""
        topic = self.topics[topic_partition.topic]
        assignment = topic.assignments[topic_partition.partition]
        return PartitionMetadata(
            topic_partition,
            topic.topic_id,
            replace(assignment, dropped=()) if assignment.dropped else assignment,
            self.states[topic_partition],
        )

    def undeleted_replicas(self, name: str) -> list[tuple[TopicPartition, str, int]]:
        """The replicas of a topic under deletion that have not yet deleted their log, members of
        an ISR outside the assignment and those that a reassignment has dropped included."""
        topic = self.topics[name]
        found: list[tuple[TopicPartition, str, int]] = []
        for partition, assignment in sorted(topic.assignments.items()):
            tp = TopicPartition(name, partition)
            state = self.states.get(tp)
            isr = state.isr if state else ()
            replicas = sorted({*assignment.replicas, *assignment.dropped, *isr})
            found.extend((tp, topic.topic_id, replica) for replica in replicas)
        return [entry for entry in found if entry not in self.deleted_replicas]

    def offline_partitions(self) -> list[TopicPartition]:
        """Partitions without a leader, or that never had one."""
        return self.present(self.leaderless | self.stateless)

    def present(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Those that there are and that are not being deleted, in order."""
        found = [tp for tp in partitions if self.assignment(tp) is not None]
        return sorted(found, key=attrgetter("topic", "partition"))

    def in_isr_of(self, broker_id: int) -> list[TopicPartition]:
        """The partitions in whose ISR a broker is, in order."""
        return self.present(self.in_isr.get(broker_id, ()))

    def check_indexes(self) -> None:
        """Asserts that the indexes are as the whole says: for tests, since it walks over all."""
        in_isr: dict[int, set[TopicPartition]] = {}
        for tp, state in self.states.items():
            for member in state.isr:
                in_isr.setdefault(member, set()).add(tp)
        assert {m: some for m, some in self.in_isr.items() if some} == in_isr
        assert self.leaderless == {tp for tp, s in self.states.items() if s.leader == NO_LEADER}
        there = dict(self.partitions())
        for index, wanted in (
            (self.stateless, {tp for tp in there if tp not in self.states}),
            (self.moving, {tp for tp, a in there.items() if a.in_progress}),
            (self.dropping, {tp for tp, a in there.items() if a.dropped}),
        ):
            assert {tp for tp in index if tp in there} == wanted

    # --- changes ---

    def put_state(self, topic_partition: TopicPartition, state: PartitionState) -> None:
        """What was written, or read."""
        self.drop_state(topic_partition)
        self.states[topic_partition] = state
        for member in state.isr:
            self.in_isr.setdefault(member, set()).add(topic_partition)
        if state.leader == NO_LEADER:
            self.leaderless.add(topic_partition)
        self.stateless.discard(topic_partition)

    def drop_state(self, topic_partition: TopicPartition) -> None:
        """There is none, or none that can be read."""
        known = self.states.pop(topic_partition, None)
        if known is not None:
            for member in known.isr:
                self.in_isr[member].discard(topic_partition)
            self.leaderless.discard(topic_partition)
            self.stateless.add(topic_partition)

    def put_topic(self, topic: TopicDescription) -> None:
        """A topic, as it was written or read."""
        known = self.topics.get(topic.name)
        self.topics[topic.name] = topic
        before = {} if known is None else known.assignments
        for partition, assignment in topic.assignments.items():
            if before.get(partition) == assignment:
                continue
            tp = TopicPartition(topic.name, partition)
            (self.moving.add if assignment.in_progress else self.moving.discard)(tp)
            (self.dropping.add if assignment.dropped else self.dropping.discard)(tp)
            if tp not in self.states:
                self.stateless.add(tp)

    def take_brokers(self, brokers: Mapping[int, BrokerInfo]) -> BrokerBatch:
        """Replace the live set; says how it changed. What was about incarnations gone goes."""
        known = self.brokers
        batch = BrokerBatch(
            dead=tuple(sorted(known.keys() - brokers.keys())),
            bounced=tuple(
                sorted(
                    b
                    for b in known.keys() & brokers.keys()
                    if brokers[b].broker_epoch > known[b].broker_epoch
                )
            ),
            new=tuple(sorted(brokers.keys() - known.keys())),
        )
        self.brokers = dict(brokers)
        for broker_id in batch.dead + batch.bounced + batch.new:
            self.unsettled |= self.in_isr.get(broker_id, set())
        self.names.update({b: broker.name for b, broker in brokers.items()})
        current = {b: broker.broker_epoch for b, broker in brokers.items()}
        self.shutting_down = {
            b: epoch for b, epoch in self.shutting_down.items() if current.get(b) == epoch
        }
        for tp, failed in list(self.failed_replicas.items()):
            remaining = {b: epoch for b, epoch in failed.items() if current.get(b) == epoch}
            if remaining:
                self.failed_replicas[tp] = remaining
            else:
                del self.failed_replicas[tp]
        return batch

    def forget_topic(self, name: str) -> None:
        """A topic is gone from ZooKeeper."""
        del self.topics[name]
        self.deletions.discard(name)
        self.deleted_replicas = {entry for entry in self.deleted_replicas if entry[0].topic != name}
        for tp in [tp for tp in self.states if tp.topic == name]:
            self.drop_state(tp)
        for tp in [tp for tp in self.failed_replicas if tp.topic == name]:
            del self.failed_replicas[tp]
        for some in (
            self.unreadable,
            self.stateless,
            self.moving,
            self.dropping,
            self.unsettled,
        ):
            some.difference_update([tp for tp in some if tp.topic == name])
