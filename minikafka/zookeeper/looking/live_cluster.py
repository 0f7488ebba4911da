"""What a mirror of the tree says of the cluster: the same kind of update as brokers tell watchers.

State: the mirror (live_tree.py). Nothing is told that is half there: a partition needs its topic's
node and its own, and a controller the epoch of its election, which is of the same transaction.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping

from minikafka.api.requests import ClusterUpdate
from minikafka.model import BrokerInfo, PartitionMetadata, TopicDescription, TopicPartition
from minikafka.zookeeper import codec
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.node import Node

log = logging.getLogger(__name__)

_BROKER = re.compile(r"/brokers/ids/([0-9]+)")
_TOPIC = re.compile(r"/brokers/topics/([^/]+)")
_STATE = re.compile(r"/brokers/topics/([^/]+)/partitions/([0-9]+)/state")
_IDS = "/brokers/ids"
_CONTROLLER = "/controller"
_CONTROLLER_EPOCH = "/controller_epoch"


class LiveCluster:
    """`nodes` is the mirror; `update` is called after each of its changes."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._topic_ids: dict[str, str] = {}

    @property
    def vacant_epoch(self) -> int:
        """The epoch of the last controller if there is none now, else -1."""
        epoch = self._nodes.get(_CONTROLLER_EPOCH)
        if _CONTROLLER in self._nodes or epoch is None or not epoch.data.isdigit():
            return -1
        return int(epoch.data)

    def update(self, changed: Collection[str], gone: Collection[str]) -> ClusterUpdate:
        """The news in these paths."""
        paths = [*changed, *gone]
        topics = {match[1] for path in paths if (match := _TOPIC.fullmatch(path))}
        keys = {(match[1], int(match[2])) for path in changed if (match := _STATE.fullmatch(path))}
        descriptions = {name: self._topic(name) for name in topics | {key[0] for key in keys}}
        deleted = self._deletions(topics, descriptions)
        partitions = []
        for name, description in descriptions.items():
            if description is None:
                continue
            self._topic_ids[name] = description.topic_id
            wanted = (
                description.assignments
                if name in topics
                else [number for topic, number in keys if topic == name]
            )
            found = (self._partition(description, number) for number in wanted)
            partitions += [each for each in found if each is not None]
        brokers = self._brokers() if any(path.startswith(_IDS) for path in paths) else None
        controller_id, controller_epoch = self._controller()
        return ClusterUpdate(partitions, deleted, brokers, controller_id, controller_epoch)

    def _deletions(
        self, topics: Collection[str], descriptions: Mapping[str, TopicDescription | None]
    ) -> list[tuple[str, str]]:
        deleted = []
        for name in topics:
            known = self._topic_ids.get(name)
            description = descriptions[name]
            if known is not None and (description is None or description.topic_id != known):
                deleted.append((name, known))
                del self._topic_ids[name]
        return deleted

    def _topic(self, name: str) -> TopicDescription | None:
        path = f"/brokers/topics/{name}"
        node = self._nodes.get(path)
        if node is None:
            return None
        try:
            return codec.decode_topic(path, node.data, name)
        except CorruptNodeError as error:
            log.warning("%s", error.message)
            return None

    def _partition(self, topic: TopicDescription, number: int) -> PartitionMetadata | None:
        path = f"/brokers/topics/{topic.name}/partitions/{number}/state"
        node = self._nodes.get(path)
        assignment = topic.assignments.get(number)
        if node is None or assignment is None:
            return None
        try:
            state = codec.decode_state(path, node.data, node.stat.version)
        except CorruptNodeError as error:
            log.warning("%s", error.message)
            return None
        key = TopicPartition(topic.name, number)
        return PartitionMetadata(key, topic.topic_id, assignment, state)

    def _brokers(self) -> list[BrokerInfo]:
        found = []
        for path, node in self._nodes.items():
            match = _BROKER.fullmatch(path)
            if match is None:
                continue
            try:
                found.append(codec.decode_broker(path, node.data, int(match[1]), node.stat.czxid))
            except CorruptNodeError as error:
                log.warning("%s", error.message)
        return found

    def _controller(self) -> tuple[int, int]:
        """(id, epoch), (-1, -1) unless both are of one election."""
        controller = self._nodes.get(_CONTROLLER)
        epoch = self._nodes.get(_CONTROLLER_EPOCH)
        if controller is None or epoch is None or controller.stat.czxid != epoch.stat.mzxid:
            return -1, -1
        try:
            node = codec.decode_controller(_CONTROLLER, controller.data)
            return node.broker_id, codec.decode_controller_epoch(_CONTROLLER_EPOCH, epoch.data)
        except CorruptNodeError as error:
            log.warning("%s", error.message)
            return -1, -1
