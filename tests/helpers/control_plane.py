"""The other ends of the controller's messages, in memory: brokers that keep what they are told.

`FakePeers` is a part of the `Peers` port (UpdateState only): a `ToldBroker` for each incarnation
adopts States by rule R3, deletes replicas, and checks what every broker may count on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from minikafka.api.requests import UpdateStateRequest, UpdateStateResponse
from minikafka.errors import MinikafkaError, NetworkError, StaleBrokerEpochError
from minikafka.model import BrokerInfo, PartitionMetadata, TopicPartition


@dataclass
class ToldBroker:
    """What one incarnation of a broker was told."""

    broker_epoch: int
    requests: list[UpdateStateRequest] = field(default_factory=list)
    partitions: dict[TopicPartition, PartitionMetadata] = field(default_factory=dict)
    deleted: list[tuple[TopicPartition, str]] = field(default_factory=list)
    live: list[int] = field(default_factory=list)
    shutting_down: list[int] = field(default_factory=list)

    def take(self, request: UpdateStateRequest) -> UpdateStateResponse:
        self.requests.append(request)
        for metadata in request.partitions:
            held = self.partitions.get(metadata.topic_partition)
            if (
                held is None
                or held.topic_id != metadata.topic_id
                or held.state.partition_version < metadata.state.partition_version
            ):
                self.partitions[metadata.topic_partition] = metadata
        deleted = [*request.deletions, *((tp, topic_id) for tp, topic_id, _ in request.drops)]
        self.deleted.extend(deleted)
        for name, topic_id in request.deleted_topics:
            for tp, metadata in list(self.partitions.items()):
                if tp.topic == name and metadata.topic_id == topic_id:
                    del self.partitions[tp]
        self.live = [broker.broker_id for broker in request.brokers]
        self.shutting_down = list(request.shutting_down)
        return UpdateStateResponse(deleted=deleted)


class FakePeers:
    """Delivers UpdateState. Tests make brokers unreachable (`down`), inject answers, hold messages
    back (`hold`: those to that broker wait until `release`)."""

    def __init__(self) -> None:
        self.brokers: dict[int, ToldBroker] = {}
        self.down: set[int] = set()
        self.attempts: list[int] = []
        self._answers: dict[int, deque[MinikafkaError | UpdateStateResponse]] = defaultdict(deque)
        self._held: dict[int, asyncio.Event] = {}

    def answer(self, broker_id: int, *answers: MinikafkaError | UpdateStateResponse) -> None:
        """The next messages to that broker are answered so."""
        self._answers[broker_id].extend(answers)

    def hold(self, broker_id: int) -> None:
        self._held[broker_id] = asyncio.Event()

    def release(self, broker_id: int) -> None:
        self._held.pop(broker_id).set()

    async def update_state(
        self, broker: BrokerInfo, request: UpdateStateRequest, timeout_ms: int = 1000
    ) -> UpdateStateResponse:
        self.attempts.append(broker.broker_id)
        await asyncio.sleep(0)
        if broker.broker_id in self._held:
            await self._held[broker.broker_id].wait()
        if broker.broker_id in self.down:
            raise NetworkError(f"broker {broker.broker_id} does not answer")
        told = self.brokers.get(broker.broker_id)
        if told is None or told.broker_epoch < request.target_broker_epoch:
            told = self.brokers[broker.broker_id] = ToldBroker(request.target_broker_epoch)
        if told.broker_epoch > request.target_broker_epoch:
            raise StaleBrokerEpochError("that incarnation is over")
        if self._answers[broker.broker_id]:
            answer = self._answers[broker.broker_id].popleft()
            if isinstance(answer, MinikafkaError):
                raise answer
            return answer
        return told.take(request)

    async def close(self) -> None:
        pass


async def eventually(condition: Callable[[], object], what: str = "", turns: int = 20_000) -> None:
    """Let the event loop turn until the condition holds; fails after so many turns."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError(f"it never came to pass: {what or condition}")


async def quiet(turns: int = 200) -> None:
    """Let everything happen that is ready to happen."""
    for _ in range(turns):
        await asyncio.sleep(0)
