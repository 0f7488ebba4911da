"""The controller's work on brokers: who lives, who leaves, whose disk failed, how they are
configured.

Who is dead, bounced or shutting down is in the context. Members of an ISR that have failed leave it
in one batch (`remove_failed`), whichever event brought that to light.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from minikafka.config import validate_broker_overrides
from minikafka.config.overrides import DEFAULT_BROKER, broker_entity_name, merged
from minikafka.core.control.commands import (
    AllocateProducerIds,
    Operation,
    PartitionResults,
    ReadBrokerConfigs,
    Results,
    WriteBrokerConfig,
    require_term,
)
from minikafka.core.control.context import BrokerBatch, ClusterContext
from minikafka.core.control.election import after_failures, controlled_shutdown
from minikafka.core.control.outbox import Outbox
from minikafka.core.control.state_writer import StateWriter
from minikafka.core.control.turns import in_turns
from minikafka.errors import (
    InvalidRequestError,
    MinikafkaError,
    NotControllerError,
    StaleBrokerEpochError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import BrokerInfo, PartitionMetadata, TopicPartition


class Brokers:
    """Their incarnations, and what becomes of those."""

    def __init__(self, context: ClusterContext, outbox: Outbox, states: StateWriter) -> None:
        self._context = context
        self._outbox = outbox
        self._states = states

    def check_incarnation(self, broker_id: int, broker_epoch: int) -> None:
        """Raises unless this incarnation lives: StaleBrokerEpochError for one that is over,
        NotControllerError (ask again) for one that this controller has not heard of."""
        broker = self._context.brokers.get(broker_id)
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

    # --- who lives ---

    def take(self, brokers: Mapping[int, BrokerInfo]) -> BrokerBatch:
        """The live brokers as ZooKeeper has them now; who is gone is told nothing more."""
        batch = self._context.take_brokers(brokers)
        for broker_id in batch.dead + batch.bounced:
            self._outbox.close(broker_id)
        return batch

    def remove_failed(self, among: Sequence[TopicPartition]) -> Operation[None]:
        """The failure batch: whoever is not in sync any more leaves the ISRs of these."""
        yield from self._states.commit_rule(after_failures, among)

    def tell_states(self, broker_ids: Sequence[int]) -> Operation[None]:
        """Tell incarnations that have started about each partition."""
        told: list[PartitionMetadata] = []

        def gather(some: Sequence[TopicPartition]) -> Operation[None]:
            told.extend(self._context.metadata(tp) for tp in some)
            yield from ()

        yield from in_turns(self._context.present(self._context.states), gather)
        for broker_id in broker_ids:
            self._outbox.open(self._context.brokers[broker_id])
            for metadata in told:
                self._outbox.put_state(metadata, to=[broker_id])

    # --- who leaves, whose disk failed ---

    def shut_down(self, broker_id: int, broker_epoch: int) -> Operation[list[TopicPartition]]:
        """A broker wants to leave: its partitions get other leaders and it leaves every ISR that
        has another member. Returns what it still leads although there are other replicas."""
        context = self._context
        self.check_incarnation(broker_id, broker_epoch)
        context.shutting_down[broker_id] = broker_epoch
        self._outbox.announce()
        leave = partial(controlled_shutdown, leaver=broker_id)
        yield from in_turns(context.in_isr_of(broker_id), partial(self._states.commit_rule, leave))
        return [
            tp
            for tp in context.in_isr_of(broker_id)
            if (view := context.view(tp)) is not None
            and view.state.leader == broker_id
            and len(view.assignment.replicas) > 1
        ]

    def note_failed_replicas(
        self, broker_id: int, broker_epoch: int, replicas: Iterable[tuple[TopicPartition, str]]
    ) -> PartitionResults:
        """Disks failed under replicas (partition, topic id) of a broker: until its next
        incarnation they are in no ISR where another is in sync, and lead nothing. A log that the
        broker is to delete, or has deleted, does not matter any more."""
        context = self._context
        self.check_incarnation(broker_id, broker_epoch)
        results: PartitionResults = []
        for tp, topic_id in replicas:
            assignment, topic = context.assignment(tp), context.topic(tp.topic)
            if assignment is None or topic is None or topic.topic_id != topic_id:
                unknown = UnknownTopicOrPartitionError(f"there is no partition {tp}")
                results.append((tp, unknown))
                continue
            if broker_id in assignment.replicas:
                context.failed_replicas.setdefault(tp, {})[broker_id] = broker_epoch
                context.unsettled.add(tp)
            results.append((tp, None))
        return results

    # --- what they are given ---

    def alter_config(self, broker: str, changes: Mapping[str, str | None]) -> Operation[Results]:
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
        require_term((yield WriteBrokerConfig(name, merged(stored.get(name, {}), changes))))
        return [(broker, None)]

    def _require_live(self, broker_id: int) -> None:
        if broker_id not in self._context.brokers:
            raise InvalidRequestError(
                f"there is no live broker {broker_id}: "
                f"there are {', '.join(map(str, sorted(self._context.brokers)))}"
            )

    def allocate_producer_ids(
        self, broker_id: int, broker_epoch: int
    ) -> Operation[tuple[int, int]]:
        """A block of producer ids (first, exclusive end) for a live broker."""
        self.check_incarnation(broker_id, broker_epoch)
        block: tuple[int, int] = yield AllocateProducerIds(broker_id)
        return block
