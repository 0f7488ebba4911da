"""A broker's gRPC server over a fake service, and clients of it, on loopback."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from minikafka.api.access import ScramDescription
from minikafka.api.metrics import BrokerMetrics
from minikafka.api.requests import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    ClusterMetadata,
    ClusterUpdate,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    ControllerRequest,
    ControllerResponse,
    DeleteRecordsRequest,
    DeleteRecordsResult,
    FetchRequest,
    FetchResult,
    ListOffsetsPartition,
    ListOffsetsResult,
    PartitionStatus,
    ProduceRequest,
    ProduceResult,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    TopicConfigEntry,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.config.overrides import ConfigDescription
from minikafka.model import BrokerInfo, TopicPartition
from minikafka.rpc.channel import BrokerChannel
from minikafka.rpc.peers import GrpcPeers
from minikafka.rpc.server import GrpcServer
from minikafka.security.acl import EntryFilter
from minikafka.security.authorizer import Rule

DEADLINE_S = 20.0


class Calls:
    """The calls of one method: what was asked, and a future for each answer, the test's to give."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.answers: list[asyncio.Future[Any]] = []
        self._arrived = asyncio.Condition()
        self._notices: set[asyncio.Task[None]] = set()

    def arrive(self, request: Any) -> asyncio.Future[Any]:
        self.requests.append(request)
        self.answers.append(asyncio.get_running_loop().create_future())
        notice = asyncio.ensure_future(self._notify())
        self._notices.add(notice)
        notice.add_done_callback(self._notices.discard)
        self.answers[-1].add_done_callback(lambda _: self.on_change())
        return self.answers[-1]

    def on_change(self) -> None:
        notice = asyncio.ensure_future(self._notify())
        self._notices.add(notice)
        notice.add_done_callback(self._notices.discard)

    async def _notify(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async def wait() -> None:
            async with self._arrived:
                await self._arrived.wait_for(condition)

        await asyncio.wait_for(wait(), DEADLINE_S)

    async def count(self, wanted: int) -> None:
        await self.until(lambda: len(self.requests) >= wanted)


class FakeService:
    """Answers with what the test puts into `replies` by method (a value to return or an exception
    to raise), else waits for the test to settle the future in `calls`."""

    def __init__(self) -> None:
        self.replies: dict[str, Any] = {}
        self.calls: dict[str, Calls] = {}
        self.updates: asyncio.Queue[ClusterUpdate | Exception] = asyncio.Queue()
        self.watch_ended = asyncio.Event()

    def of(self, method: str) -> Calls:
        return self.calls.setdefault(method, Calls())

    def _answer(self, method: str, request: Any) -> asyncio.Future[Any]:
        answer = self.of(method).arrive(request)
        if method in self.replies:
            reply = self.replies[method]
            if isinstance(reply, Exception):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)
        return answer

    def produce(self, request: ProduceRequest) -> Awaitable[Sequence[ProduceResult]]:
        if isinstance(refusal := self.replies.get("produce refuses"), Exception):
            raise refusal
        return self._answer("produce", request)

    async def fetch(self, request: FetchRequest) -> Sequence[FetchResult]:
        return await self._answer("fetch", request)

    async def list_offsets(
        self, partitions: Sequence[ListOffsetsPartition]
    ) -> Sequence[ListOffsetsResult]:
        return await self._answer("list_offsets", partitions)

    async def metadata(
        self, topics: Sequence[str] | None, allow_auto_create: bool
    ) -> ClusterMetadata:
        return await self._answer("metadata", (topics, allow_auto_create))

    async def watch(self) -> AsyncIterator[ClusterUpdate]:
        try:
            while True:
                update = await self.updates.get()
                if isinstance(update, Exception):
                    raise update
                yield update
        finally:
            self.watch_ended.set()

    async def delete_records(self, request: DeleteRecordsRequest) -> Sequence[DeleteRecordsResult]:
        return await self._answer("delete_records", request)

    async def describe_partitions(
        self, partitions: Sequence[TopicPartition]
    ) -> Sequence[PartitionStatus]:
        return await self._answer("describe_partitions", partitions)

    async def describe_topic_configs(self, topic: str) -> Sequence[TopicConfigEntry]:
        return await self._answer("describe_topic_configs", topic)

    async def broker_metrics(self) -> BrokerMetrics:
        return await self._answer("broker_metrics", None)

    async def describe_configs(self, topic: str) -> Sequence[ConfigDescription]:
        return await self._answer("describe_configs", topic)

    async def describe_broker_configs(self, broker: str) -> Sequence[ConfigDescription]:
        return await self._answer("describe_broker_configs", broker)

    async def describe_acls(self, asked: EntryFilter) -> Sequence[Rule]:
        return await self._answer("describe_acls", asked)

    async def describe_scram(self, users: Sequence[str] | None) -> Sequence[ScramDescription]:
        return await self._answer("describe_scram", users)

    async def init_producer_id(self) -> tuple[int, int]:
        return await self._answer("init_producer_id", None)

    async def administer(self, request: ControllerRequest, timeout_ms: int) -> ControllerResponse:
        return await self._answer("administer", (request, timeout_ms))

    async def replica_fetch(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse:
        return await self._answer("replica_fetch", request)

    async def update_state(self, request: UpdateStateRequest) -> UpdateStateResponse:
        return await self._answer("update_state", request)

    async def alter_partition(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        return await self._answer("alter_partition", request)

    async def controlled_shutdown(
        self, request: ControlledShutdownRequest
    ) -> ControlledShutdownResponse:
        return await self._answer("controlled_shutdown", request)

    async def controller_call(self, request: ControllerRequest) -> ControllerResponse:
        return await self._answer("controller_call", request)


class Loopback:
    """A running server over `service`, with what connects to it; all of it ends with the test."""

    def __init__(self) -> None:
        self.service = FakeService()
        self.port = 0
        self.server: GrpcServer | None = None
        self._servers: list[GrpcServer] = []
        self._channels: list[BrokerChannel] = []
        self._peers: list[GrpcPeers] = []

    async def start(self, port: int = 0, **options: Any) -> GrpcServer:
        self.server = GrpcServer(self.service, **options)
        self._servers.append(self.server)
        self.port = await self.server.start("127.0.0.1", port)
        return self.server

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def broker(self, broker_epoch: int = 7) -> BrokerInfo:
        return BrokerInfo(1, "A", "127.0.0.1", self.port, broker_epoch=broker_epoch)

    def channel(self, address: str | None = None, **options: Any) -> BrokerChannel:
        self._channels.append(BrokerChannel(address or self.address, **options))
        return self._channels[-1]

    def peers(self, **options: Any) -> GrpcPeers:
        self._peers.append(GrpcPeers(**options))
        return self._peers[-1]

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()
        for peers in self._peers:
            await peers.close()
        for server in self._servers:
            await server.stop(0)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Let the loop run until a condition holds, up to the deadline."""

    async def run_until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110  (nothing tells when it does)
                await asyncio.sleep(0)

    return run_until


@pytest.fixture
async def loopback() -> AsyncIterator[Loopback]:
    """Nothing listens yet: the test starts the server."""
    it = Loopback()
    yield it
    await it.close()


@pytest.fixture
def silent_port() -> Any:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that refuses connections: held for the time of the test, and nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


BROKER_IN_A_PROCESS = """
import asyncio
from minikafka.api.requests import ClusterUpdate
from minikafka.rpc.server import GrpcServer

class Service:
    def produce(self, request):
        print("got it", flush=True)
        return asyncio.get_running_loop().create_future()

    async def watch(self):
        yield ClusterUpdate((), (), None, 1, 1)
        await asyncio.Event().wait()

async def main():
    server = GrpcServer(Service())
    print(await server.start("127.0.0.1", 0), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def broker_process() -> AsyncIterator[asyncio.subprocess.Process]:
    """A broker that never answers a produce request; its first line of output is its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BROKER_IN_A_PROCESS, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
