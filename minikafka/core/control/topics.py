"""The controller's work on topics: creation, more partitions, configuration, deletion.

Creation writes the configuration, then the topic with its assignment, then the States; whichever
controller comes upon a topic whose States are missing writes them (`settle`). Deletion is durable
with its marker: every replica deletes its log, those on brokers that are down when they come back;
when all have, the nodes go, the marker last. Any controller resumes it from the marker.

Errors are per topic, in the results; names are checked before anything is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from minikafka.api.outcomes import WriteOutcome
from minikafka.api.requests import CreateTopic
from minikafka.config import validate_topic_overrides
from minikafka.core.control.assignment import (
    chosen_replicas,
    explicit_assignments,
    place_replicas,
    ring_index,
    validate_counts,
    validate_topic_name,
)
from minikafka.core.control.commands import (
    CreateTopicNode,
    MarkTopicDeleted,
    Operation,
    ReadTopicConfigs,
    RemoveTopic,
    WriteTopicConfig,
)
from minikafka.core.control.deciding import event
from minikafka.core.control.reassigning import ReassignmentController, Results
from minikafka.errors import (
    InvalidPartitionsError,
    InvalidReplicaAssignmentError,
    InvalidRequestError,
    MinikafkaError,
    ReassignmentInProgressError,
    TopicAlreadyExistsError,
    TopicDeletionDisabledError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import BrokerInfo, TopicDescription, TopicPartition


@dataclass(frozen=True, slots=True)
class NewTopicDefaults:
    """Where randomness comes from: `number(n)` is one of 0..n-1, `topic_id()` a new 22-character
    id. `num_partitions` and `replication_factor` are what -1 stands for."""

    number: Callable[[int], int]
    topic_id: Callable[[], str]
    num_partitions: int = 1
    replication_factor: int = 1


class TopicController(ReassignmentController):
    """The part of the controller that is about topics."""

    # --- creation ---

    @event
    def create_topics(
        self,
        topics: Sequence[CreateTopic],
        chance: NewTopicDefaults,
        *,
        validate_only: bool = False,
    ) -> Operation[Results]:
        """Make topics, or only say whether they could be made."""
        results: Results = []
        stale_configs: set[str] | None = None
        named = Counter(topic.name for topic in topics)
        for topic in topics:
            error: MinikafkaError | None = None
            try:
                if named[topic.name] > 1:
                    raise InvalidRequestError(f"topic {topic.name} is in the request twice")
                description = self._plan_topic(topic, chance)
                if not validate_only:
                    if stale_configs is None:
                        stale_configs = set((yield ReadTopicConfigs()))
                    if topic.configs or topic.name in stale_configs:
                        yield WriteTopicConfig(topic.name, topic.configs)
                    yield from self._create(description)
            except MinikafkaError as refused:
                error = refused.with_traceback(None)
            results.append((topic.name, error))
        yield from self.settle()
        return results

    def _plan_topic(self, topic: CreateTopic, chance: NewTopicDefaults) -> TopicDescription:
        """What is to be written for a topic. Raises what is wrong with it."""
        validate_topic_name(topic.name, self.context.topics)
        if topic.name in self.context.unreadable_topics:
            raise TopicAlreadyExistsError(
                f"topic {topic.name} already exists, and its node in ZooKeeper cannot be read"
            )
        if topic.name in self.context.deletions:
            raise TopicAlreadyExistsError(f"topic {topic.name} is still being deleted: try later")
        if topic.name in self.context.topics:
            raise TopicAlreadyExistsError(f"topic {topic.name} already exists")
        validate_topic_overrides(topic.configs)
        brokers = self._placement_brokers()
        if topic.assignments:
            if (topic.num_partitions, topic.replication_factor) != (-1, -1):
                raise InvalidRequestError(
                    f"topic {topic.name}: give either replica assignments, or a number of "
                    "partitions and a replication factor"
                )
            placed = explicit_assignments(topic.assignments, self.context.brokers)
        else:
            count = topic.num_partitions if topic.num_partitions != -1 else chance.num_partitions
            factor = topic.replication_factor
            factor = factor if factor != -1 else chance.replication_factor
            validate_counts(count, factor, len(brokers))
            start, shift = chance.number(len(brokers)), chance.number(len(brokers))
            placed = place_replicas(brokers, range(count), factor, start, shift)
        return TopicDescription(topic.name, chance.topic_id(), placed)

    def _placement_brokers(self) -> list[BrokerInfo]:
        """Where new replicas may go: brokers that live and stay."""
        shutting_down = self.context.shutting_down
        return [b for i, b in sorted(self.context.brokers.items()) if i not in shutting_down]

    def _create(self, topic: TopicDescription) -> Operation[None]:
        outcome: WriteOutcome = yield CreateTopicNode(topic)
        self.require_term(outcome)
        if outcome is WriteOutcome.CONFLICT:
            raise TopicAlreadyExistsError(f"topic {topic.name} already exists")
        self.context.put_topic(topic)

    def _known_topic(self, name: str) -> TopicDescription:
        topic = self.context.topic(name)
        if topic is None:
            raise UnknownTopicOrPartitionError(f"there is no topic {name}")
        return topic

    # --- more partitions ---

    @event
    def create_partitions(
        self,
        name: str,
        total_count: int,
        assignments: Sequence[Sequence[int]],
        *,
        validate_only: bool = False,
    ) -> Operation[Results]:
        """Give a topic more partitions, or only say whether it can have them; `assignments` for the
        new ones in order, or empty."""
        try:
            topic = self._plan_partitions(self._known_topic(name), total_count, assignments)
            if validate_only:
                return [(name, None)]
            if not (yield from self.update_topic(topic)):
                raise UnknownTopicOrPartitionError(f"topic {name} has just been changed: try again")
        except MinikafkaError as refused:
            return [(name, refused)]
        yield from self.settle()
        return [(name, None)]

    def _plan_partitions(
        self, topic: TopicDescription, total_count: int, chosen: Sequence[Sequence[int]]
    ) -> TopicDescription:
        old = topic.assignments
        if any(assignment.in_progress for assignment in old.values()):
            raise ReassignmentInProgressError(f"topic {topic.name} is being reassigned: try later")
        added = range(len(old), total_count)
        if not added:
            raise InvalidPartitionsError(
                f"Topic {topic.name} currently has {len(old)} partitions, which is not less than "
                f"the requested {total_count}: partitions can only be added."
            )
        factor = len(old[0].replicas)
        brokers = self._placement_brokers()
        if not chosen:
            validate_counts(total_count, factor, len(brokers))
            start = ring_index(brokers, old[0].replicas[0])
            placed = place_replicas(brokers, added, factor, start, start)
        elif len(chosen) != len(added):
            raise InvalidReplicaAssignmentError(
                f"{len(chosen)} assignments for {len(added)} new partitions: expected one for each"
            )
        else:
            placed = {
                p: chosen_replicas(p, replicas, factor, self.context.brokers)
                for p, replicas in zip(added, chosen, strict=True)
            }
        return TopicDescription(topic.name, topic.topic_id, {**old, **placed})

    # --- configuration ---

    @event
    def alter_topic_config(
        self, name: str, changes: Mapping[str, str | None]
    ) -> Operation[Results]:
        """Set overrides; None takes one away."""
        try:
            self._known_topic(name)
            validate_topic_overrides({k: v for k, v in changes.items() if v is not None})
        except MinikafkaError as refused:
            return [(name, refused)]
        configs: Mapping[str, Mapping[str, str]] = yield ReadTopicConfigs()
        merged = {**configs.get(name, {}), **changes}
        yield WriteTopicConfig(name, {k: v for k, v in merged.items() if v is not None})
        return [(name, None)]

    # --- what others did to topics ---

    @event
    def on_topics(
        self,
        topics: Mapping[str, TopicDescription],
        unreadable: frozenset[str] = frozenset(),
    ) -> Operation[None]:
        """The topics as ZooKeeper has them now: new ones and new partitions get their States. One
        that is there and cannot be read (`unreadable`) stays as it was known."""
        self.context.unreadable_topics = unreadable
        self._take_topics(topics)
        yield from self.read_unreadable()
        yield from self.settle()

    def _take_topics(self, topics: Mapping[str, TopicDescription]) -> None:
        context = self.context
        for name, known in list(context.topics.items()):
            if name in context.unreadable_topics:
                continue
            found = topics.get(name)
            if found is None or found.topic_id != known.topic_id:
                context.forget_topic(name)
                self.outbox.put_deleted_topic(name, known.topic_id)
        for topic in topics.values():
            context.put_topic(topic)

    # --- deletion ---

    @event
    def delete_topics(self, names: Sequence[str], *, enabled: bool = True) -> Operation[Results]:
        """Mark topics as deleted and begin to delete them; one that is marked already is fine.
        `enabled`: delete.topic.enable."""
        if not enabled:
            refused = TopicDeletionDisabledError("delete.topic.enable=false on the controller")
            return [(name, refused) for name in names]
        results: Results = []
        for name in names:
            if name in self.context.topics:
                yield MarkTopicDeleted(name)
                results.append((name, None))
            else:
                unknown = UnknownTopicOrPartitionError(f"there is no topic {name}")
                results.append((name, unknown))
        yield from self.start_deletions({name for name, error in results if error is None})
        return results

    @event
    def on_deletions(self, marked: Iterable[str]) -> Operation[None]:
        """The deletion markers as ZooKeeper has them now."""
        yield from self.start_deletions(set(marked))

    def start_deletions(self, marked: set[str]) -> Operation[None]:
        """Stop and delete the replicas of topics that are marked. A marker for a topic that does
        not exist goes, lest it strike a later one of that name."""
        for name in sorted(marked - self.context.topics.keys() - self.context.unreadable_topics):
            self.require_term((yield RemoveTopic(TopicDescription(name, "", {}))))
        for name in sorted((marked & self.context.topics.keys()) - self.context.deletions):
            self.context.deletions.add(name)
            for broker_id in self.outbox.brokers():
                self.tell_deletion(name, broker_id)
        yield from self._finish_deletions()

    def tell_deletion(self, name: str, broker_id: int) -> None:
        """Let a broker forget a topic, and delete the replicas that it has of it."""
        for tp, topic_id, replica in self.context.undeleted_replicas(name):
            if replica == broker_id:
                self.outbox.put_deletion(broker_id, tp, topic_id)
        topic_id = self.context.topics[name].topic_id
        self.outbox.put_deleted_topic(name, topic_id, to=[broker_id])

    @event
    def on_replicas_deleted(
        self, broker_id: int, replicas: Iterable[tuple[TopicPartition, str]]
    ) -> Operation[None]:
        """A broker has deleted replicas (partition, topic id)."""
        dropped: list[TopicPartition] = []
        for tp, topic_id in replicas:
            topic = self.context.topics.get(tp.topic)
            if topic is None or topic.topic_id != topic_id:
                continue
            if self.outbox.is_to_go(broker_id, tp, topic_id):
                continue  # it may have become a replica since, and is to be deleted again
            if tp.topic in self.context.deletions:
                self.context.deleted_replicas.add((tp, topic_id, broker_id))
            else:
                dropped.append(tp)
        yield from self.forget_dropped(broker_id, dropped)
        yield from self._finish_deletions()

    def _finish_deletions(self) -> Operation[None]:
        for name in sorted(self.context.deletions):
            if self.context.undeleted_replicas(name):
                continue
            outcome: WriteOutcome = yield RemoveTopic(self.context.topics[name])
            self.require_term(outcome)
            if outcome is WriteOutcome.WRITTEN:
                self.context.forget_topic(name)

    def waits_for_absent(self, name: str) -> bool:
        """Whether the deletion of a topic has to wait for a broker that is not there."""
        return name in self.context.deletions and any(
            replica not in self.context.brokers
            for _, _, replica in self.context.undeleted_replicas(name)
        )
