"""What watchers hear of a cluster, merged into one picture and a list of what changed. Pure.

Several brokers tell the same story, each at its own pace, and a paused one falls silent: so a
watcher listens to all of them and this module sorts out what is news. For one topic id the states
of a partition are ordered by partition_version (rule R3 of replication.md), so an older one is no
news; an incarnation of a broker, known by its broker epoch, comes once and goes once; a controller
is news if its epoch is higher.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from minikafka.api.requests import ClusterUpdate
from minikafka.model import (
    NO_LEADER,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
    broker_name,
    describe_state,
)


@dataclass(frozen=True, slots=True)
class PartitionChanged:
    """`before` is None for a partition that was not known."""

    partition: PartitionMetadata
    before: PartitionState | None


@dataclass(frozen=True, slots=True)
class TopicDeleted:
    name: str


@dataclass(frozen=True, slots=True)
class BrokerCame:
    broker: BrokerInfo


@dataclass(frozen=True, slots=True)
class BrokerGone:
    broker: BrokerInfo


@dataclass(frozen=True, slots=True)
class ControllerChanged:
    controller_id: int
    controller_epoch: int


Change = PartitionChanged | TopicDeleted | BrokerCame | BrokerGone | ControllerChanged


@dataclass(slots=True)
class Board:
    """The merged picture. `names` begins with what is known beforehand (broker id to name)."""

    names: dict[int, str] = field(default_factory=dict)
    brokers: dict[int, BrokerInfo] = field(default_factory=dict)
    partitions: dict[TopicPartition, PartitionMetadata] = field(default_factory=dict)
    controller_id: int = -1
    controller_epoch: int = -1
    _heard: dict[str, dict[int, BrokerInfo]] = field(default_factory=dict)
    _gone: set[tuple[int, int]] = field(default_factory=set)
    _deleted_ids: set[str] = field(default_factory=set)

    def apply(self, source: str, update: ClusterUpdate) -> list[Change]:
        """Take in what `source` (an address) said; returns the news in it."""
        changes: list[Change] = []
        # A broker that has just started tells of none at all, itself included: no controller has
        # spoken to it yet. That says nothing of those that it told of before it died.
        if update.brokers:
            changes += self._apply_brokers(source, update.brokers)
        if update.controller_epoch > self.controller_epoch or (
            update.controller_epoch == self.controller_epoch and self.controller_id < 0
        ):
            moved = (update.controller_id, update.controller_epoch) != (
                self.controller_id,
                self.controller_epoch,
            )
            self.controller_id = update.controller_id
            self.controller_epoch = update.controller_epoch
            if moved and update.controller_id >= 0:
                changes.append(ControllerChanged(update.controller_id, update.controller_epoch))
        for name, topic_id in update.deleted_topics:
            changes += self._apply_deletion(name, topic_id)
        for partition in update.partitions:
            changes += self._apply_partition(partition)
        return changes

    def _apply_brokers(self, source: str, brokers: Iterable[BrokerInfo]) -> list[Change]:
        heard = {broker.broker_id: broker for broker in brokers}
        missed = self._heard.get(source, {})
        self._heard[source] = heard
        changes: list[Change] = []
        for broker_id, broker in missed.items():
            incarnation = (broker_id, broker.broker_epoch)
            now = heard.get(broker_id)
            if now is not None and now.broker_epoch == broker.broker_epoch:
                continue
            if incarnation not in self._gone:
                self._gone.add(incarnation)
                self.brokers.pop(broker_id, None)
                changes.append(BrokerGone(broker))
        for broker_id, broker in heard.items():
            self.names[broker_id] = broker.name
            held = self.brokers.get(broker_id)
            known = held is not None and held.broker_epoch >= broker.broker_epoch
            if not known and (broker_id, broker.broker_epoch) not in self._gone:
                self.brokers[broker_id] = broker
                changes.append(BrokerCame(broker))
        return changes

    def _apply_deletion(self, name: str, topic_id: str) -> list[Change]:
        held = [key for key, each in self.partitions.items() if each.topic_id == topic_id]
        self._deleted_ids.add(topic_id)
        for key in held:
            del self.partitions[key]
        return [TopicDeleted(name)] if held else []

    def _apply_partition(self, partition: PartitionMetadata) -> list[Change]:
        held = self.partitions.get(partition.topic_partition)
        if partition.topic_id in self._deleted_ids:
            return []
        before = None
        if held is not None and held.topic_id == partition.topic_id:
            before = held.state
            if partition.state.partition_version <= before.partition_version:
                return []
        self.partitions[partition.topic_partition] = partition
        return [PartitionChanged(partition, before)]

    def name(self, broker_id: int) -> str:
        return self.names.get(broker_id) or broker_name(broker_id)

    def describe(self, partition: PartitionMetadata) -> str:
        """The state in the words of the slide."""
        state = partition.state
        return describe_state(state.leader, state.leader_epoch, state.isr, self.names)

    def describe_change(self, change: Change) -> str:
        """One line for a person: `orders-0 Leader=A Epoch=1 ISR={A,B,C,D}`, or what else is new."""
        match change:
            case PartitionChanged(partition, _):
                return f"{partition.topic_partition} {self.describe(partition)}"
            case TopicDeleted(name):
                return f"topic {name} was deleted"
            case BrokerCame(broker):
                return f"broker {self.name(broker.broker_id)} is in the cluster"
            case BrokerGone(broker):
                return f"broker {self.name(broker.broker_id)} left the cluster"
            case ControllerChanged(controller_id, controller_epoch):
                return f"controller {self.name(controller_id)} (epoch {controller_epoch})"


def is_leaderless(partition: PartitionMetadata) -> bool:
    return partition.state.leader == NO_LEADER


def is_under_replicated(partition: PartitionMetadata) -> bool:
    """Fewer replicas in sync than are assigned; those that are being added do not count yet."""
    return not set(partition.assignment.origin) <= set(partition.state.isr)
