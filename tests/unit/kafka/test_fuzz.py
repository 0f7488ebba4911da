"""Damaged requests of real clients, and noise, go through a connection: each is answered or ends
its connection, quickly, and none leaves anything in the account."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from typing import Any

import pytest

from minikafka.api.requests import FetchRequest, FetchResult, ProduceRequest, ProduceResult
from minikafka.broker.request_memory import RequestMemory
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.handlers.cluster import HANDLERS
from minikafka.kafka.server import KafkaServer
from tests.clients.record import captured
from tests.helpers.amounts import amount
from tests.helpers.listeners import PLAINTEXT_LISTENER

MAX_REQUEST_BYTES = 1_000_000
MAX_HELD_BYTES = 4 * MAX_REQUEST_BYTES
MAX_CPU_S = 0.3  # of one request, here where each line may be traced
ROUNDS = 400
EXTREMES = (0, 1, -1, -2, 2**31 - 1, -(2**31), 2**24, 255, 1_000_001, 99_999)

REQUESTS = [
    data
    for _, key, version, data in captured()
    if (api := APIS.get(key)) and api.min_version <= version <= api.max_version  # type: ignore[call-overload]
]


class Broker:
    """Whatever is asked of it succeeds with nothing."""

    async def fetch(self, request: FetchRequest) -> list[FetchResult]:
        return [FetchResult(item.topic_partition) for item in request.partitions]

    def produce(self, request: ProduceRequest) -> asyncio.Future[list[ProduceResult]]:
        done: asyncio.Future[list[ProduceResult]] = asyncio.get_running_loop().create_future()
        done.set_result([ProduceResult(item.topic_partition) for item in request.partitions])
        return done


class Transport:
    """What a connection writes to; it reads at once."""

    def __init__(self) -> None:
        self.closed = False
        self.written_bytes = 0

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    def get_write_buffer_size(self) -> int:
        return 0

    def writelines(self, pieces: list[bytes]) -> None:
        self.written_bytes += sum(map(len, pieces))

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None:
        self.closed = True


def damaged(chance: random.Random, request: bytes) -> bytes:
    """The same request, but for something that a liar would say."""
    data = bytearray(request)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(8, len(data)) if len(data) > 8 else 0
        match chance.randrange(6):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at : at + 4] = struct.pack(">i", chance.choice(EXTREMES))
            case 2:
                data[at : at + 2] = struct.pack(">h", chance.choice((-1, -2, 0, 2**15 - 1)))
            case 3:
                data[at:at] = b"\xff" * chance.randint(1, 12)
            case 4:
                piece = bytes(data[at : at + chance.randint(1, 40)])
                data[at:at] = piece * chance.choice((1, 10, 1_000, 20_000))
            case 5:
                del data[at : at + chance.randint(1, 30)]
    return bytes(data[:MAX_REQUEST_BYTES])


def framed(chance: random.Random, request: bytes) -> bytes:
    size = len(request)
    if not chance.randrange(20):
        size = chance.choice((*EXTREMES, size - 1, size + 1))
    return struct.pack(">i", size) + request


async def _nothing(service: object, call: Any, request: Any) -> dict[str, Any]:
    raise NothingToSay


class NothingToSay(Exception):
    """Instead of an answer: the request was read."""


@pytest.mark.parametrize("seed", range(amount(4)))
async def test_damaged_requests_are_read_or_refused_quickly_and_leave_nothing_behind(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for api, handler in HANDLERS.items():
        monkeypatch.setitem(HANDLERS, api, handler._replace(answer=_nothing))
    memory = RequestMemory(MAX_HELD_BYTES)
    listener = KafkaServer(
        Broker(),  # type: ignore[arg-type]
        memory,
        max_request_bytes=MAX_REQUEST_BYTES,
        max_idle_ms=60_000,
        max_fetch_sessions=5,
    )
    chance = random.Random(seed)
    for number in range(ROUNDS):
        connection = listener._begin(PLAINTEXT_LISTENER, "127.0.0.1")
        assert connection is not None
        transport = Transport()
        connection.connection_made(transport)  # type: ignore[arg-type]
        request = chance.choice(REQUESTS) if chance.randrange(10) else chance.randbytes(200)
        stream = framed(chance, damaged(chance, request)) + framed(chance, request)
        start_s = time.thread_time()
        while stream and not transport.closed:
            piece, stream = stream[: (cut := chance.randint(1, 300_000))], stream[cut:]
            connection.data_received(piece)
            assert memory.used_bytes + memory.arriving_bytes <= MAX_HELD_BYTES, (seed, number)
        assert time.thread_time() - start_s < MAX_CPU_S, (seed, number)
        async with asyncio.timeout(20):
            while connection._tasks:
                await asyncio.wait(set(connection._tasks))
                await asyncio.sleep(0)
        connection.connection_lost(None)
        assert (memory.used_bytes, memory.arriving_bytes) == (0, 0), (seed, number)
    unexpected = {
        repr(record.exc_info[1])
        for record in caplog.records
        if record.exc_info and not isinstance(record.exc_info[1], NothingToSay)
    }
    assert unexpected == set()


def test_there_is_something_to_damage() -> None:
    assert len(REQUESTS) > 20
    assert {ApiKey.PRODUCE, ApiKey.FETCH} <= {struct.unpack_from(">h", r)[0] for r in REQUESTS}
