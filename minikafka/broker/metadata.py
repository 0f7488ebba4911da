"""What a broker knows of the whole cluster from the controller's UpdateState messages.

State: live brokers, those of them that shut down, every partition's assignment and State, who is
controller. Invariant: for one topic id, a partition's State only ever gets newer (rule R3).
Watchers (`minikafka topics describe --watch`) get a queue each that is never longer than
WATCHER_QUEUE: one who falls behind hears everything anew, and what was deleted meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence

from minikafka.api.requests import ClusterUpdate, UpdateStateRequest
from minikafka.errors import (
    BrokerNotAvailableError,
    MinikafkaError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import BrokerInfo, PartitionMetadata, TopicPartition

WATCHER_QUEUE = 1000

Deleted = list[tuple[str, str]]  # topics, name and id
# A list stands for everything, preceded by these deletions.
_Queue = asyncio.Queue[ClusterUpdate | Deleted]


class MetadataCache:
    """`eligible` maps brokers that may join an ISR (live, not shutting down) to their epochs; it is
    one dict for life, so that partitions may hold on to it."""

    def __init__(self) -> None:
        self.brokers: dict[int, BrokerInfo] = {}
        self.shutting_down: set[int] = set()
        self.eligible: dict[int, int] = {}
        self.topics: dict[str, dict[int, PartitionMetadata]] = {}
        self.controller_id = -1
        self.controller_epoch = -1
        self._complete_in_epoch = -1  # of the controller that has told all topics
        self._last_controller_id = -1  # the last that was somebody, and not this moment's nobody
        self._watchers: dict[_Queue, None] = {}  # in the order in which they came

    def topic_id(self, topic: str) -> str | None:
        """The id of a topic, or None if there is no such topic."""
        partitions = self.topics.get(topic)
        return next(iter(partitions.values())).topic_id if partitions else None

    def missing(self, problem: str) -> MinikafkaError:
        """What to answer about a topic or partition that is not here. Until a controller has told
        of the cluster, nobody may conclude that there is none."""
        if self.brokers:
            return UnknownTopicOrPartitionError(problem)
        return BrokerNotAvailableError("the broker has not heard of the cluster from a controller")

    @property
    def is_complete(self) -> bool:
        """Has the present controller told all topics that there are? Who lacks one that existed
        when somebody heard of it was deleted then."""
        return self._complete_in_epoch == self.controller_epoch >= 0

    def partition(self, topic_partition: TopicPartition) -> PartitionMetadata | None:
        return self.topics.get(topic_partition.topic, {}).get(topic_partition.partition)

    def set_controller(self, controller_id: int, controller_epoch: int) -> None:
        """Who is controller, by ZooKeeper or by its own word; older news is dropped."""
        if controller_epoch < self.controller_epoch:
            return
        known = (self.controller_id, self.controller_epoch)
        self._set_controller(controller_id, controller_epoch)
        if known != (controller_id, controller_epoch):
            self._announce([], [], None)

    def _set_controller(self, controller_id: int, controller_epoch: int) -> None:
        self.controller_id, self.controller_epoch = controller_id, controller_epoch
        if controller_id >= 0:
            self._last_controller_id = controller_id

    def last_controller(self) -> tuple[int, str]:
        """Id and name of who was controller last, if there is none now; -1: not known."""
        broker = self.brokers.get(self._last_controller_id)
        return self._last_controller_id, broker.name if broker else str(self._last_controller_id)

    def apply(self, request: UpdateStateRequest) -> None:
        """Take over an UpdateState message; its fencing has been checked."""
        before = (self.controller_id, self.controller_epoch)
        self._set_controller(request.controller_id, request.controller_epoch)
        controller_changed = before != (self.controller_id, self.controller_epoch)
        brokers = {broker.broker_id: broker for broker in request.brokers}
        brokers_changed = brokers != self.brokers
        self.brokers, self.shutting_down = brokers, set(request.shutting_down)
        self.eligible.clear()
        self.eligible.update(
            (broker.broker_id, broker.broker_epoch)
            for broker in request.brokers
            if broker.broker_id not in self.shutting_down
        )
        if request.full:
            self._complete_in_epoch = request.controller_epoch
        to_delete = list(request.deleted_topics)
        if request.full:
            to_delete += self._topics_beside(request)
        to_delete += self._replaced_topics(request)
        deleted = [item for item in to_delete if self._delete(*item)]
        news = [metadata for metadata in request.partitions if self._take(metadata)]
        if news or deleted or brokers_changed or controller_changed:
            self._announce(news, deleted, list(request.brokers) if brokers_changed else None)

    def _topics_beside(self, request: UpdateStateRequest) -> list[tuple[str, str]]:
        """The topics that are known here and not named in the message, with their ids."""
        named = {metadata.topic_partition.topic for metadata in request.partitions}
        return [
            (topic, next(iter(partitions.values())).topic_id)
            for topic, partitions in self.topics.items()
            if topic not in named
        ]

    def _replaced_topics(self, request: UpdateStateRequest) -> list[tuple[str, str]]:
        """Topics that were deleted and made again under the same name, with their old ids."""
        named = dict.fromkeys((m.topic_partition.topic, m.topic_id) for m in request.partitions)
        replaced: dict[tuple[str, str], None] = {}
        for topic, named_id in named:
            topic_id = self.topic_id(topic)
            if topic_id is not None and topic_id != named_id:
                replaced[topic, topic_id] = None
        return list(replaced)

    def _take(self, metadata: PartitionMetadata) -> bool:
        partitions = self.topics.setdefault(metadata.topic_partition.topic, {})
        known = partitions.get(metadata.topic_partition.partition)
        if known is not None and known.topic_id == metadata.topic_id:
            version, known_version = metadata.state.partition_version, known.state.partition_version
            if version < known_version or (version == known_version and metadata == known):
                return False
        partitions[metadata.topic_partition.partition] = metadata
        return True

    def _delete(self, topic: str, topic_id: str) -> bool:
        if self.topic_id(topic) != topic_id:
            return False
        del self.topics[topic]
        return True

    # --- watchers --------------------------------------------------------------------------------

    def _announce(
        self,
        partitions: list[PartitionMetadata],
        deleted: list[tuple[str, str]],
        brokers: list[BrokerInfo] | None,
    ) -> None:
        update = ClusterUpdate(
            partitions, deleted, brokers, self.controller_id, self.controller_epoch
        )
        for queue in self._watchers:
            if queue.full():
                missed: Deleted = []
                while not queue.empty():
                    item = queue.get_nowait()
                    missed += item if isinstance(item, list) else item.deleted_topics
                queue.put_nowait([*missed, *deleted])
            else:
                queue.put_nowait(update)

    def everything(self, deleted: Sequence[tuple[str, str]] = ()) -> ClusterUpdate:
        """The whole of it, as a watcher hears it first; `deleted` topics are gone before that."""
        return ClusterUpdate(
            [metadata for topic in self.topics.values() for metadata in topic.values()],
            list(deleted),
            list(self.brokers.values()),
            self.controller_id,
            self.controller_epoch,
        )

    async def watch(self) -> AsyncGenerator[ClusterUpdate, None]:
        """Everything, then every change."""
        queue: _Queue = asyncio.Queue(WATCHER_QUEUE)
        self._watchers[queue] = None
        try:
            yield self.everything()
            while True:
                update = await queue.get()
                yield self.everything(update) if isinstance(update, list) else update
        finally:
            self._watchers.pop(queue, None)

    async def wait_for_topics(self, topics: Iterable[str], timeout_ms: int) -> bool:
        """Wait until every one of these topics is known with a leader in each partition; False if
        that did not come about in time."""
        wanted = set(topics)

        def known() -> bool:
            return all(
                topic in self.topics
                and all(metadata.state.leader >= 0 for metadata in self.topics[topic].values())
                for topic in wanted
            )

        if known():
            return True
        queue: _Queue = asyncio.Queue(WATCHER_QUEUE)
        self._watchers[queue] = None
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while not known():
                    await queue.get()
        except TimeoutError:
            return False
        finally:
            self._watchers.pop(queue, None)
        return True
