"""The controller's work on topics: creation, more partitions, configuration, what others did.

Creation writes the configuration and the topic with its assignment, then the States; whichever
controller comes upon a partition whose State is missing writes it (`create_states`).

Errors are per topic, in the results; names are checked before anything is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

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
    Operation,
    ReadTopicConfigs,
    Results,
    StateChange,
    WriteTopicConfig,
    require_term,
)
from minikafka.core.control.context import ClusterContext
from minikafka.core.control.election import first_state
from minikafka.core.control.outbox import Outbox
from minikafka.core.control.state_writer import StateWriter
from minikafka.core.control.topic_nodes import TopicNodes
from minikafka.errors import (
    InvalidPartitionsError,
    InvalidReplicaAssignmentError,
    InvalidRequestError,
    MinikafkaError,
    ReassignmentInProgressError,
    TopicAlreadyExistsError,
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


class Topics:
    """Those that there are; of those that are to go, see deletions.py."""

    def __init__(
        self, context: ClusterContext, outbox: Outbox, states: StateWriter, nodes: TopicNodes
    ) -> None:
        self._context = context
        self._outbox = outbox
        self._states = states
        self._nodes = nodes

    # --- creation ---

    def create(
        self,
        topics: Sequence[CreateTopic],
        chance: NewTopicDefaults,
        *,
        validate_only: bool = False,
    ) -> Operation[Results]:
        """Make topics, without their States, or only say whether they could be made."""
        results: Results = []
        named = Counter(topic.name for topic in topics)
        for topic in topics:
            error: MinikafkaError | None = None
            try:
                if named[topic.name] > 1:
                    raise InvalidRequestError(f"topic {topic.name} is in the request twice")
                description = self._plan(topic, chance)
                if not validate_only and not (
                    yield from self._nodes.create(description, topic.configs)
                ):
                    raise TopicAlreadyExistsError(f"topic {topic.name} already exists")
            except MinikafkaError as refused:
                error = refused.with_traceback(None)
            results.append((topic.name, error))
        return results

    def _plan(self, topic: CreateTopic, chance: NewTopicDefaults) -> TopicDescription:
        """What is to be written for a topic. Raises what is wrong with it."""
        validate_topic_name(topic.name, self._context.topics)
        if topic.name in self._context.unreadable_topics:
            raise TopicAlreadyExistsError(
                f"topic {topic.name} already exists, and its node in ZooKeeper cannot be read"
            )
        if topic.name in self._context.deletions:
            raise TopicAlreadyExistsError(f"topic {topic.name} is still being deleted: try later")
        if topic.name in self._context.topics:
            raise TopicAlreadyExistsError(f"topic {topic.name} already exists")
        validate_topic_overrides(topic.configs)
        brokers = self._placement_brokers()
        if topic.assignments:
            if (topic.num_partitions, topic.replication_factor) != (-1, -1):
                raise InvalidRequestError(
                    f"topic {topic.name}: give either replica assignments, or a number of "
                    "partitions and a replication factor"
                )
            placed = explicit_assignments(topic.assignments, self._context.brokers)
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
        shutting_down = self._context.shutting_down
        return [b for i, b in sorted(self._context.brokers.items()) if i not in shutting_down]

    def create_states(self, among: Sequence[TopicPartition]) -> Operation[None]:
        """The first States of those of these partitions that have none."""
        yield from self._states.commit(lambda: self._births(among))

    def _births(self, among: Sequence[TopicPartition]) -> Iterator[StateChange]:
        context = self._context
        for tp in among:
            assignment = context.assignment(tp)
            if assignment and tp not in context.states and tp not in context.unreadable:
                state = first_state(
                    assignment, context.brokers, context.shutting_down, context.controller_epoch
                )
                if state is not None:
                    yield StateChange(tp, None, state, "created")

    def _known(self, name: str) -> TopicDescription:
        topic = self._context.topic(name)
        if topic is None:
            raise UnknownTopicOrPartitionError(f"there is no topic {name}")
        return topic

    # --- more partitions ---

    def create_partitions(
        self,
        name: str,
        total_count: int,
        assignments: Sequence[Sequence[int]],
        *,
        validate_only: bool = False,
    ) -> Operation[Results]:
        """Give a topic more partitions, without their States, or only say whether it can have them;
        `assignments` for the new ones in order, or empty."""
        try:
            topic = self._plan_partitions(self._known(name), total_count, assignments)
            if validate_only:
                return [(name, None)]
            if not (yield from self._nodes.update(topic)):
                raise UnknownTopicOrPartitionError(f"topic {name} has just been changed: try again")
        except MinikafkaError as refused:
            return [(name, refused)]
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
                p: chosen_replicas(p, replicas, factor, self._context.brokers)
                for p, replicas in zip(added, chosen, strict=True)
            }
        return TopicDescription(topic.name, topic.topic_id, {**old, **placed})

    # --- configuration ---

    def alter_config(self, name: str, changes: Mapping[str, str | None]) -> Operation[Results]:
        """Set overrides; None takes one away."""
        try:
            self._known(name)
            validate_topic_overrides({k: v for k, v in changes.items() if v is not None})
        except MinikafkaError as refused:
            return [(name, refused)]
        configs: Mapping[str, Mapping[str, str]] = yield ReadTopicConfigs()
        merged = {**configs.get(name, {}), **changes}
        overrides = {k: v for k, v in merged.items() if v is not None}
        require_term((yield WriteTopicConfig(name, overrides)))
        return [(name, None)]

    # --- what others did to topics ---

    def take(self, topics: Mapping[str, TopicDescription], unreadable: frozenset[str]) -> None:
        """The topics as ZooKeeper has them now. One that is there and cannot be read (`unreadable`)
        stays as it was known."""
        context = self._context
        context.unreadable_topics = unreadable
        for name, known in list(context.topics.items()):
            if name in unreadable:
                continue
            found = topics.get(name)
            if found is None or found.topic_id != known.topic_id:
                context.forget_topic(name)
                self._outbox.put_deleted_topic(name, known.topic_id)
        for topic in topics.values():
            context.put_topic(topic)
