"""Whole brokers in one process: the real runtime, core and logs, over an in-memory ZooKeeper and a
network of direct calls. For tests of the broker's runtime without processes and ports.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from minikafka.api.features import MAX_TRANSACTION_LEVEL
from minikafka.api.requests import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    ControllerRequest,
    ControllerResponse,
    CreateTopic,
    CreateTopicsRequest,
    FetchPartition,
    FetchRequest,
    ProducePartition,
    ProduceRequest,
    ProduceResult,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.api.transactions import (
    CheckPartitionsRequest,
    CheckPartitionsResult,
    WriteMarkersRequest,
    WriteMarkersResult,
)
from minikafka.broker.access.access import Access
from minikafka.broker.broker import Broker
from minikafka.broker.ports import Peers, ReplicationStream
from minikafka.broker.service import Service
from minikafka.config import parse_broker_config
from minikafka.errors import MinikafkaError, NetworkError
from minikafka.log.store import DiskLogStore
from minikafka.model import BrokerInfo, PartitionState, TopicPartition
from minikafka.records.build import BatchBuilder
from minikafka.records.header import split
from minikafka.records.read import iter_records
from tests.helpers.cluster_store import FakeClusterStore, FakeZooKeeper
from tests.helpers.listeners import plaintext_at
from tests.helpers.waiting import until

T = TypeVar("T")

FAST = {
    "replica.lag.time.max.ms": "400",
    "replica.fetch.wait.max.ms": "100",
    "replica.fetch.backoff.ms": "50",
    "controlled.shutdown.retry.backoff.ms": "100",
    "zookeeper.session.timeout.ms": "1000",
}


@dataclass
class Network:
    """Who can be reached by whom. `cut` holds directed pairs (from, to)."""

    services: dict[int, Service] = field(default_factory=dict)
    cut: set[tuple[int, int]] = field(default_factory=set)
    calls: set[asyncio.Task[object]] = field(default_factory=set)
    ends: dict[asyncio.Task[object], tuple[int, int]] = field(default_factory=dict)

    def isolate(self, broker_id: int) -> None:
        """Cut this broker off from all others, both ways, and break what is under way."""
        for other in list(self.services):
            if other != broker_id:
                self.cut |= {(broker_id, other), (other, broker_id)}
        for task, ends in list(self.ends.items()):
            if broker_id in ends:
                task.cancel()

    def heal(self) -> None:
        self.cut.clear()

    async def call(
        self, source: int, target: int, what: Callable[[Service], Awaitable[T]], timeout_ms: int
    ) -> T:
        if (source, target) in self.cut or target not in self.services:
            raise NetworkError(f"broker {target} cannot be reached from {source}")
        task = asyncio.ensure_future(what(self.services[target]))
        self.ends[task] = (source, target)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await asyncio.shield(task)
        except TimeoutError:
            raise NetworkError(f"broker {target} did not answer in {timeout_ms} ms") from None
        except asyncio.CancelledError:
            if task.cancelled() and (source, target) in self.cut:
                raise NetworkError(f"the connection to broker {target} broke") from None
            if task.cancelled() and target not in self.services:
                raise NetworkError(f"broker {target} went away") from None
            raise
        finally:
            self.ends.pop(task, None)
            task.cancel()


class LocalStream(ReplicationStream):
    def __init__(self, network: Network, source: int, target: int) -> None:
        self._network, self._ends = network, (source, target)

    async def fetch(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse:
        return await self._network.call(
            *self._ends, lambda service: service.replica_fetch(request), request.max_wait_ms + 1000
        )

    def close(self) -> None:
        """The call is cancelled by who awaits it."""


class LocalPeers(Peers):
    def __init__(self, network: Network, source: int) -> None:
        self._network, self._source = network, source

    def open_replication(self, leader: BrokerInfo) -> ReplicationStream:
        return LocalStream(self._network, self._source, leader.broker_id)

    async def update_state(
        self, broker: BrokerInfo, request: UpdateStateRequest, timeout_ms: int
    ) -> UpdateStateResponse:
        return await self._network.call(
            self._source, broker.broker_id, lambda to: to.update_state(request), timeout_ms
        )

    async def alter_partition(
        self, controller: BrokerInfo, request: AlterPartitionRequest, timeout_ms: int
    ) -> AlterPartitionResponse:
        return await self._network.call(
            self._source, controller.broker_id, lambda to: to.alter_partition(request), timeout_ms
        )

    async def controlled_shutdown(
        self, controller: BrokerInfo, request: ControlledShutdownRequest, timeout_ms: int
    ) -> ControlledShutdownResponse:
        return await self._network.call(
            self._source,
            controller.broker_id,
            lambda to: to.controlled_shutdown(request),
            timeout_ms,
        )

    async def controller_call(
        self, controller: BrokerInfo, request: ControllerRequest, timeout_ms: int
    ) -> ControllerResponse:
        return await self._network.call(
            self._source, controller.broker_id, lambda to: to.controller_call(request), timeout_ms
        )

    async def check_partitions(
        self, coordinator: BrokerInfo, request: CheckPartitionsRequest, timeout_ms: int
    ) -> CheckPartitionsResult:
        return await self._network.call(
            self._source,
            coordinator.broker_id,
            lambda to: to.check_partitions(request),
            timeout_ms,
        )

    async def write_markers(
        self, leader: BrokerInfo, request: WriteMarkersRequest, timeout_ms: int
    ) -> WriteMarkersResult:
        return await self._network.call(
            self._source, leader.broker_id, lambda to: to.write_markers(request), timeout_ms
        )

    async def close(self) -> None:
        pass


@dataclass
class Running:
    broker: Broker
    store: FakeClusterStore
    logs: DiskLogStore


class BrokerCluster:
    """Brokers 1..n (A, B, C, …) of one cluster, each with a directory under `path`."""

    def __init__(self, path: Path, settings: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.settings = {**FAST, **(settings or {})}
        self.zookeeper = FakeZooKeeper()
        self.network = Network()
        self.running: dict[int, Running] = {}
        self.transaction_levels: dict[int, int] = {}  # where it is not the highest
        self.access: Callable[[], Access] | None = None  # made anew for each broker

    async def start(self, *broker_ids: int) -> None:
        for broker_id in broker_ids:
            await self._start_one(broker_id)

    async def _start_one(self, broker_id: int) -> None:
        config = parse_broker_config(
            {
                "broker.id": str(broker_id),
                "zookeeper.connect": "127.0.0.1:1",
                "log.dirs": str(self.path / f"broker-{broker_id}"),
                **self.settings,
            }
        )
        store = FakeClusterStore(self.zookeeper)
        await store.start()
        logs = DiskLogStore(
            Path(config.log_dirs), await store.cluster_id(), broker_id, config.topic_defaults()
        )
        info = BrokerInfo(
            broker_id,
            config.name,
            "127.0.0.1",
            broker_id,
            plaintext_at(f"host-{broker_id}", 9090 + broker_id),
            storage_id=logs.storage_id,
            dirty=logs.dirty,
            transaction_level=self.transaction_levels.get(broker_id, MAX_TRANSACTION_LEVEL),
        )
        broker = Broker(
            config,
            info,
            await store.cluster_id(),
            logs,
            store,
            LocalPeers(self.network, broker_id),
            lambda: time.monotonic_ns() // 1_000_000,
            lambda: time.time_ns() // 1_000_000,
            access=None if self.access is None else self.access(),
        )
        self.network.services[broker_id] = broker.service
        self.running[broker_id] = Running(broker, store, logs)
        await broker.start()
        await asyncio.wait_for(broker.wait_until_serving(), 10)

    async def kill(self, broker_id: int) -> None:
        """As by SIGKILL: nothing is flushed or told; the session ends."""
        running = self.running.pop(broker_id)
        self.network.isolate(broker_id)
        del self.network.services[broker_id]
        for task in running.broker._tasks:
            task.remove_done_callback(running.broker._on_task_done)
            task.cancel()
        await asyncio.gather(*running.broker._tasks, return_exceptions=True)
        await running.broker.controller.stop(resign=False)
        await running.broker.replicator.close()
        for replica in running.broker.replicas.replicas.values():
            replica.stop(NetworkError("killed"))
        await running.logs.close(clean=False)
        self.network.heal()
        running.store.expire()
        await running.store.close()

    async def stop(self, broker_id: int) -> None:
        """As by SIGTERM."""
        running = self.running[broker_id]
        await running.broker.shut_down()
        del self.running[broker_id], self.network.services[broker_id]
        await running.broker.close()
        await running.store.close()

    async def close(self) -> None:
        for broker_id in list(self.running):
            running = self.running.pop(broker_id)
            await running.broker.close()
            await running.store.close()

    # --- using it --------------------------------------------------------------------------------

    def service(self, broker_id: int) -> Service:
        return self.running[broker_id].broker.service

    async def create_topic(
        self, name: str, replicas: Sequence[int], configs: Mapping[str, str] | None = None
    ) -> TopicPartition:
        topic = CreateTopic(name, -1, -1, configs or {}, {0: list(replicas)})
        anyone = next(iter(self.running))
        response = await self.service(anyone).administer(CreateTopicsRequest([topic]), 5000)
        for result in response.results:
            if result.error is not None:
                raise result.error
        topic_partition = TopicPartition(name, 0)
        for replica in replicas:
            await self.until_state(topic_partition, lambda _: True, at=replica)
        return topic_partition

    def state(
        self, topic_partition: TopicPartition, at: int | None = None
    ) -> PartitionState | None:
        """The State as broker `at` (any) knows it."""
        broker_id = next(iter(self.running)) if at is None else at
        known = self.running[broker_id].broker.metadata.partition(topic_partition)
        return None if known is None else known.state

    async def until_state(
        self,
        topic_partition: TopicPartition,
        wanted: Callable[[PartitionState], bool],
        at: int | None = None,
    ) -> PartitionState:
        def look() -> PartitionState | None:
            state = self.state(topic_partition, at)
            return state if state is not None and wanted(state) else None

        found = await until(look)
        assert found is not None
        return found

    async def produce(
        self,
        topic_partition: TopicPartition,
        *values: bytes,
        acks: int = -1,
        timeout_ms: int = 5000,
    ) -> ProduceResult:
        """Produce once, at the leader as anybody knows it."""
        state = self.state(topic_partition)
        assert state is not None
        request = ProduceRequest(
            acks, timeout_ms, [ProducePartition(topic_partition, batch_of(*values))]
        )
        return (await self.service(state.leader).produce(request))[0]

    async def produce_until_acked(
        self, topic_partition: TopicPartition, *values: bytes
    ) -> ProduceResult:
        """Produce with acks=all, again and again until it succeeds."""

        async def attempt() -> ProduceResult | None:
            try:
                result = await self.produce(topic_partition, *values, timeout_ms=1000)
            except (MinikafkaError, KeyError):
                return None
            return result if result.error is None else None

        found = await until(attempt)
        assert found is not None
        return found

    async def read_all(self, topic_partition: TopicPartition) -> list[bytes]:
        """All committed values, read at the leader."""
        state = await self.until_state(topic_partition, lambda state: state.leader >= 0)
        values: list[bytes] = []
        offset = 0
        while True:
            request = FetchRequest(
                0, 1, 10_000_000, [FetchPartition(topic_partition, offset, 10_000_000)]
            )
            result = (await self.service(state.leader).fetch(request))[0]
            if result.error is not None:
                raise result.error
            if not result.records:
                return values
            at = 0
            for header in split(result.records):
                batch = result.records[at : at + header.size_bytes]
                at += header.size_bytes
                offset = header.next_offset
                values += [record.value or b"" for record in iter_records(batch, header)]


def batch_of(
    *values: bytes,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    timestamp_ms: int = 1_700_000_000_000,
) -> bytes:
    """One v2 batch of these values."""
    builder = BatchBuilder()
    for value in values:
        builder.append(None, value, (), timestamp_ms)
    return builder.build(0, producer_id, producer_epoch, base_sequence)
