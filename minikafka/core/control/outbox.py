"""What the controller still has to tell each broker, merged.

State per live broker: the newest State of each partition that it has not acknowledged, replicas to
delete, topics to forget. One message at a time is on its way to a broker; what was in a message
that failed goes back under what has been added since.

Invariants: everything is addressed to one incarnation (broker epoch) and goes with it; of one topic
id a broker is told versions in rising order, though perhaps not all of them; a message is read in
the order States, deletions, drops, topics to forget; a topic that is to be forgotten has no State
waiting; a replica that is to be dropped has none waiting that counts on it.

A drop (a reassignment has moved the replica away) is ordered among the States by a version: should
it arrive late, when the replica is wanted again, the broker has a newer State and keeps its log. A
deletion (the topic is deleted) is final. Until a newer State is acknowledged, nobody knows whether
the broker still carries a drop out (`has_heard`). All is bounded by the number of brokers times
partitions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from minikafka.model import BrokerInfo, PartitionMetadata, TopicPartition

ReplicaKey = tuple[TopicPartition, str]  # with the topic id
Drop = tuple[TopicPartition, str, int]  # and the version up to which it holds


_in_order = attrgetter("topic", "partition")


@dataclass(frozen=True, slots=True)
class UpdateStateBatch:
    """One message to one incarnation of a broker. It may be empty but for the list of live brokers,
    which the sender adds. `full`: it names every partition there is."""

    broker: BrokerInfo
    partitions: tuple[PartitionMetadata, ...] = ()
    deletions: tuple[ReplicaKey, ...] = ()
    deleted_topics: tuple[tuple[str, str], ...] = ()
    full: bool = False
    drops: tuple[Drop, ...] = ()


@dataclass(slots=True)
class _Box:
    broker: BrokerInfo
    full: bool = True  # until the first message is acknowledged
    partitions: dict[TopicPartition, PartitionMetadata] = field(default_factory=dict)
    deletions: dict[ReplicaKey, None] = field(default_factory=dict)
    deleted_topics: dict[tuple[str, str], None] = field(default_factory=dict)
    due: bool = True  # something is to be said, if only who lives
    drops: dict[ReplicaKey, int] = field(default_factory=dict)
    on_its_way: UpdateStateBatch | None = None

    def reconcile(self, metadata: PartitionMetadata) -> None:
        """A State that waits: it annuls a drop if it counts on the replica, and else lets it hold
        for this State, too."""
        replica = (metadata.topic_partition, metadata.topic_id)
        if replica not in self.drops:
            return
        if self.broker.broker_id in (*metadata.assignment.replicas, *metadata.state.isr):
            del self.drops[replica]
        else:
            self.drops[replica] = max(self.drops[replica], metadata.state.partition_version)


class Outbox:
    """Waiting messages by broker."""

    def __init__(self) -> None:
        self._boxes: dict[int, _Box] = {}

    def brokers(self) -> dict[int, BrokerInfo]:
        """Whom there is a box for, by id: the incarnations that are told everything."""
        return {broker_id: box.broker for broker_id, box in self._boxes.items()}

    def open(self, broker: BrokerInfo) -> None:
        """Begin anew for this incarnation; what an earlier one was owed is dropped."""
        self._boxes[broker.broker_id] = _Box(broker)

    def close(self, broker_id: int) -> None:
        """The broker is gone, and what it was owed with it."""
        self._boxes.pop(broker_id, None)

    def announce(self) -> None:
        """Tell everybody, if only who lives."""
        for box in self._boxes.values():
            box.due = True

    def put_state(self, metadata: PartitionMetadata, to: Iterable[int] | None = None) -> None:
        """A partition's newest State, to these brokers (None: all). An older one goes."""
        for box in self._chosen(to):
            waiting = box.partitions.get(metadata.topic_partition)
            assert (
                waiting is None
                or waiting.topic_id != metadata.topic_id
                or waiting.state.partition_version <= metadata.state.partition_version
            ), f"{metadata.topic_partition}: an older State after a newer one"
            box.partitions[metadata.topic_partition] = metadata
            box.reconcile(metadata)
            box.due = True

    def put_deletion(self, broker_id: int, topic_partition: TopicPartition, topic_id: str) -> None:
        """A replica to stop and delete; nothing if that broker has no box (it is told later)."""
        for box in self._chosen([broker_id]):
            box.deletions[topic_partition, topic_id] = None
            box.due = True

    def put_drop(self, broker_id: int, metadata: PartitionMetadata) -> None:
        """A replica that this State does not count on any more: to stop and delete."""
        for box in self._chosen([broker_id]):
            assert broker_id not in (*metadata.assignment.replicas, *metadata.state.isr), metadata
            replica = (metadata.topic_partition, metadata.topic_id)
            box.drops[replica] = metadata.state.partition_version
            box.due = True

    def is_to_go(self, broker_id: int, topic_partition: TopicPartition, topic_id: str) -> bool:
        """Is this replica still to be deleted, by a message that was not taken yet?"""
        box, replica = self._boxes.get(broker_id), (topic_partition, topic_id)
        return box is not None and (replica in box.deletions or replica in box.drops)

    def has_heard(self, broker_id: int, topic_partition: TopicPartition) -> bool:
        """Has this broker acknowledged the newest State of the partition? Then it carries out
        nothing any more that an older one, or an earlier controller, wanted."""
        box = self._boxes.get(broker_id)
        if box is None or box.full or topic_partition in box.partitions:
            return False
        message = box.on_its_way
        return message is None or not (
            message.full or any(m.topic_partition == topic_partition for m in message.partitions)
        )

    def put_deleted_topic(self, name: str, topic_id: str, to: Iterable[int] | None = None) -> None:
        """A topic to forget; its waiting States go."""
        for box in self._chosen(to):
            for tp, waiting in list(box.partitions.items()):
                if tp.topic == name and waiting.topic_id == topic_id:
                    del box.partitions[tp]
            box.deleted_topics[name, topic_id] = None
            box.due = True

    def take(self, broker_id: int, broker_epoch: int) -> UpdateStateBatch | None:
        """All that waits for this incarnation, as one message; None if there is nothing to say."""
        box = self._boxes.get(broker_id)
        if box is None or box.broker.broker_epoch != broker_epoch or not box.due:
            return None
        message = UpdateStateBatch(
            box.broker,
            tuple(box.partitions[tp] for tp in sorted(box.partitions, key=_in_order)),
            tuple(box.deletions),
            tuple(box.deleted_topics),
            box.full,
            tuple((tp, topic_id, version) for (tp, topic_id), version in box.drops.items()),
        )
        self._boxes[broker_id] = _Box(box.broker, full=False, due=False, on_its_way=message)
        return message

    def acknowledge(self, message: UpdateStateBatch) -> None:
        """The broker has done what this message said, or has answered what it could not."""
        box = self._boxes.get(message.broker.broker_id)
        if box is not None and box.on_its_way is message:
            box.on_its_way = None

    def put_back(self, message: UpdateStateBatch) -> None:
        """A message was not acknowledged: what it said waits again, unless something newer does."""
        box = self._boxes.get(message.broker.broker_id)
        if box is None or box.broker.broker_epoch != message.broker.broker_epoch:
            return
        box.on_its_way = None
        box.full = box.full or message.full
        for metadata in message.partitions:
            tp = metadata.topic_partition
            if (tp.topic, metadata.topic_id) not in box.deleted_topics:
                box.partitions.setdefault(tp, metadata)
        for tp, topic_id, version in message.drops:
            box.drops.setdefault((tp, topic_id), version)
        for metadata in box.partitions.values():
            box.reconcile(metadata)
        box.deletions = dict.fromkeys([*message.deletions, *box.deletions])
        box.deleted_topics = dict.fromkeys([*message.deleted_topics, *box.deleted_topics])
        box.due = True

    def _chosen(self, to: Iterable[int] | None) -> list[_Box]:
        ids = self._boxes.keys() if to is None else to
        return [self._boxes[broker_id] for broker_id in ids if broker_id in self._boxes]
