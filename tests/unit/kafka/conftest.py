"""A Kafka listener over a broker that does as it is told, and a client that speaks in frames."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from minikafka.api.features import Features
from minikafka.api.requests import (
    ClusterMetadata,
    FetchRequest,
    FetchResult,
    ProduceRequest,
    ProduceResult,
)
from minikafka.broker.counters import RequestCounters
from minikafka.broker.request_memory import RequestMemory
from minikafka.kafka.acceptor import ServedListener
from minikafka.kafka.admission import ConnectionLimits
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.server import SEND_FILES_FROM_BYTES, KafkaServer
from minikafka.model import BrokerInfo
from tests.helpers.kio_messages import read_response, written_request
from tests.helpers.listeners import plaintext_at, start_plaintext
from tests.helpers.loops import LOOPS

MAX_REQUEST_BYTES = 10_000


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS


class ObedientBroker:
    """Every call is noted; `answers` are given out when they are there."""

    def __init__(self) -> None:
        self.produced: list[ProduceRequest] = []
        self.produce_answers: asyncio.Queue[Sequence[ProduceResult]] = asyncio.Queue()
        self.fetched: list[FetchRequest] = []
        self.fetch_answers: asyncio.Queue[Sequence[FetchResult]] = asyncio.Queue()
        self.cluster = ClusterMetadata(
            "cluster",
            1,
            1,
            [BrokerInfo(1, "A", "127.0.0.1", 1, plaintext_at("127.0.0.1", 9092))],
            [],
        )
        self.metadata_gate = asyncio.Event()
        self.metadata_gate.set()

    def produce(self, request: ProduceRequest) -> Awaitable[Sequence[ProduceResult]]:
        self.produced.append(request)
        return self.produce_answers.get()

    async def fetch(self, request: FetchRequest) -> Sequence[FetchResult]:
        self.fetched.append(request)
        return await self.fetch_answers.get()

    async def metadata(self, topics: object, allow_auto_create: bool) -> ClusterMetadata:
        await self.metadata_gate.wait()
        return self.cluster


class Client:
    """One connection. Requests are written by kio, answers read by it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._last_id = 0

    def send_frame(self, frame: bytes) -> None:
        self.writer.write(struct.pack(">i", len(frame)) + frame)

    def send(self, api: ApiKey, version: int, values: dict[str, Any]) -> int:
        """Returns the correlation id."""
        self._last_id += 1
        tags = b"\x00" if version >= APIS[api].first_flexible else b""
        head = struct.pack(">hhi", api, version, self._last_id) + b"\x00\x04test" + tags
        self.send_frame(head + written_request(api, version, values))
        return self._last_id

    async def receive_frame(self) -> bytes:
        async with asyncio.timeout(10):
            (size,) = struct.unpack(">i", await self.reader.readexactly(4))
            return await self.reader.readexactly(size)

    async def receive(self, api: ApiKey, version: int) -> tuple[int, Any]:
        """(correlation id, response)."""
        frame = await self.receive_frame()
        (correlation_id,) = struct.unpack_from(">i", frame)
        has_tags = version >= APIS[api].first_flexible and api is not ApiKey.API_VERSIONS
        return correlation_id, read_response(api, version, frame, 4 + has_tags)

    async def ask(self, api: ApiKey, version: int, values: dict[str, Any]) -> Any:
        sent = self.send(api, version, values)
        correlation_id, response = await self.receive(api, version)
        assert correlation_id == sent
        return response

    async def receive_end(self) -> None:
        """The broker closes the connection, and nothing came before."""
        async with asyncio.timeout(10):
            try:
                assert await self.reader.read() == b""
            except ConnectionResetError:
                return


class Ground:
    """The listener under test and what is around it."""

    def __init__(self) -> None:
        self.broker = ObedientBroker()
        self.memory = RequestMemory(1_000_000)
        self.counters = RequestCounters()
        self.listener: KafkaServer | None = None
        self.port = 0
        self._clients: list[Client] = []

    async def start(
        self,
        *,
        max_idle_ms: int = 600_000,
        max_queued_bytes: int = 1_000_000,
        serving: bool = True,
        limits: ConnectionLimits | None = None,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        send_files_from_bytes: int | None = SEND_FILES_FROM_BYTES,
        features: Callable[[], Features | None] = lambda: None,
    ) -> None:
        self.memory = RequestMemory(max_queued_bytes)
        self.listener = KafkaServer(
            self.broker,  # type: ignore[arg-type]
            self.memory,
            max_request_bytes=max_request_bytes,
            max_idle_ms=max_idle_ms,
            max_fetch_sessions=10,
            counters=self.counters,
            limits=limits,
            send_files_from_bytes=send_files_from_bytes,
            features=features,
        )
        self.port = await start_plaintext(self.listener, serving=serving)

    async def start_listeners(
        self, listeners: Sequence[ServedListener], **more: Any
    ) -> Mapping[str, int]:
        """Their ports by name."""
        self.listener = KafkaServer(
            self.broker,  # type: ignore[arg-type]
            self.memory,
            max_request_bytes=MAX_REQUEST_BYTES,
            max_idle_ms=600_000,
            max_fetch_sessions=10,
            counters=self.counters,
            **more,
        )
        return await self.listener.start(listeners)

    async def connect(self, port: int | None = None) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", port or self.port))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            client.writer.close()
        if self.listener is not None:
            await self.listener.stop()
            await self.listener.stop()


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    ground = Ground()
    try:
        yield ground
    finally:
        await ground.close()
