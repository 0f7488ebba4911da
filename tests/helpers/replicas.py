"""One broker's replicas without a broker: real replicas over real logs, and a clock that tests set.

Broker 1 is the one at hand; the broker epoch of broker n is 100 * n, as in core_builders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path

from minikafka import turns
from minikafka.api.requests import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    ReplicaFetchResult,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.broker.metadata import MetadataCache
from minikafka.broker.ports import ReplicationStream
from minikafka.broker.replication.isr_proposals import IsrProposals
from minikafka.broker.replication.replica import Replica
from minikafka.broker.replication.replica_manager import ReplicaManager, StoredConfigs
from minikafka.broker.replication.replicator import Replicator
from minikafka.config import parse_broker_config
from minikafka.errors import NetworkError
from minikafka.log.store import DiskLogStore
from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from minikafka.records.header import split, stamp
from tests.helpers.brokers import batch_of
from tests.helpers.waiting import DEADLINE_S

TP = TopicPartition("t", 0)
TOPIC_ID = "topic-id-of-t"
BROKERS = tuple(
    BrokerInfo(n, "ABC"[n - 1], "127.0.0.1", 1, storage_id=f"disk{n}", broker_epoch=100 * n)
    for n in (1, 2, 3)
)


_IN_ONE_GO = 10  # partitions of a message
_SLICE_S = turns.SLICE_S


@dataclass
class Clock:
    now_ms: int = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


class ScriptedStream(ReplicationStream):
    """A leader whose answers the test gives: `requests` are what it was asked, `answer` ends the
    fetch that waits."""

    def __init__(self, leader: BrokerInfo) -> None:
        self.leader = leader
        self.requests: list[ReplicaFetchRequest] = []
        self.closed = False
        self._answer: asyncio.Future[ReplicaFetchResponse] | None = None

    async def fetch(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse:
        self.requests.append(request)
        self._answer = asyncio.get_running_loop().create_future()
        return await self._answer

    @property
    def waiting(self) -> bool:
        return self._answer is not None and not self._answer.done()

    def answer(self, *results: ReplicaFetchResult, session_id: int = 0) -> None:
        assert self._answer is not None
        self._answer.set_result(ReplicaFetchResponse(results, session_id))

    def fail(self, error: BaseException) -> None:
        assert self._answer is not None
        self._answer.set_exception(error)

    def close(self) -> None:
        self.closed = True


@dataclass
class ScriptedPeers:
    streams: list[ScriptedStream] = field(default_factory=list)

    def open_replication(self, leader: BrokerInfo) -> ScriptedStream:
        self.streams.append(ScriptedStream(leader))
        return self.streams[-1]


class Bench:
    """The replicas of broker 1. Messages of the controller come by `update`."""

    def __init__(self, path: Path, settings: dict[str, str] | None = None) -> None:
        self.clock = Clock()
        self.config = parse_broker_config(
            {
                "broker.id": "1",
                "zookeeper.connect": "127.0.0.1:1",
                "log.dirs": str(path / "data"),
                "replica.lag.time.max.ms": "1000",
                "replica.fetch.wait.max.ms": "500",
                "replica.fetch.backoff.ms": "50",
                **(settings or {}),
            }
        )
        self.logs = DiskLogStore(path / "data", "cluster", 1, self.config.topic_defaults())
        self.metadata = MetadataCache()
        self.peers = ScriptedPeers()
        self.ended: list[BaseException | None] = []
        self.overrides: dict[str, dict[str, str]] = {}
        self.broker_overrides: dict[str, dict[str, str]] = {}
        self.now_timestamp_ms = 1_700_000_000_000
        self.reads = 0
        self.while_reading: Callable[[], None] = lambda: None
        self._in_one_go = 0  # updates under way that are not to be cut
        self.replicator = Replicator(
            self.config,
            self.peers,  # type: ignore[arg-type]
            lambda broker_id: self.metadata.brokers.get(broker_id),
            lambda: (1, self.manager.broker_epoch),
            self.clock,
            self.ended.append,
        )
        self.asked: list[AlterPartitionRequest] = []
        self.proposals = IsrProposals(self._alter_partition, lambda: (1, 100), lambda: True)
        self.manager = ReplicaManager(
            self.config,
            self.logs,
            self.metadata,
            self.replicator,
            self.proposals,
            self._read_configs,
            self.clock,
            lambda: self.now_timestamp_ms,
            self.ended.append,
        )

    async def _read_configs(self) -> StoredConfigs:
        self.reads += 1
        await asyncio.sleep(0)
        self.while_reading()
        return StoredConfigs(
            {topic: dict(overrides) for topic, overrides in self.overrides.items()},
            {broker: dict(overrides) for broker, overrides in self.broker_overrides.items()},
        )

    async def _alter_partition(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        self.asked.append(request)
        raise NetworkError("no controller in this test")

    async def close(self) -> None:
        turns.SLICE_S = _SLICE_S
        await self.replicator.close()
        self.manager.close(NetworkError("the test is over"))
        await self.logs.close(clean=False)

    # --- what the controller says ----------------------------------------------------------------

    def message(self, *partitions: PartitionMetadata, **changes: object) -> UpdateStateRequest:
        request = UpdateStateRequest(2, 1, 100, BROKERS, [], partitions)
        return replace(request, **changes)  # type: ignore[arg-type]

    async def update(
        self, *partitions: PartitionMetadata, **changes: object
    ) -> UpdateStateResponse:
        """A few partitions in one go, however slow the machine: where it is cut would depend on the
        clock."""
        few = len(partitions) <= _IN_ONE_GO
        if few:
            self._in_one_go += 1
            turns.SLICE_S = inf
        try:
            return await self.manager.update_state(self.message(*partitions, **changes))
        finally:
            self._in_one_go -= few
            if not self._in_one_go:  # updates may overlap
                turns.SLICE_S = _SLICE_S

    async def lead(self, *isr: int) -> Replica:
        """Broker 1 registers and leads `t-0` of replicas 1, 2, 3 with this ISR."""
        self.manager.on_registered(100)
        await self.update(partition(1, isr=isr or (1,)))
        return self.manager.replicas[TP]

    async def follow(self, leader: int = 2) -> ScriptedStream:
        """Broker 1 registers and follows; returns the stream, with a fetch waiting on it."""
        self.manager.on_registered(100)
        await self.update(partition(leader, isr=(1, 2, 3)))
        return await self.stream()

    async def stream(self, count: int = 1, requests: int = 1) -> ScriptedStream:
        """Once the `count`th stream has been opened and the `requests`th fetch waits on it."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if len(self.peers.streams) >= count:
                    stream = self.peers.streams[count - 1]
                    if len(stream.requests) >= requests and stream.waiting:
                        return stream
                assert not self.ended, self.ended
                await asyncio.sleep(0)


def partition(
    leader: int = 1,
    leader_epoch: int = 0,
    isr: Sequence[int] = (1, 2, 3),
    version: int = 0,
    *,
    tp: TopicPartition = TP,
    topic_id: str = TOPIC_ID,
    replicas: tuple[int, ...] = (1, 2, 3),
) -> PartitionMetadata:
    state = PartitionState(leader, leader_epoch, tuple(isr), 1, version)
    return PartitionMetadata(tp, topic_id, Assignment(replicas), state)


def stored(base_offset: int, *values: bytes, leader_epoch: int = 0) -> bytes:
    """A batch as a leader keeps it."""
    batch = batch_of(*values)
    header = split(batch)[0]
    return stamp(base_offset, header.size_bytes, leader_epoch) + batch[16:]


async def settle(rounds: int = 20) -> None:
    """Let everything run that can run now."""
    for _ in range(rounds):
        await asyncio.sleep(0)
