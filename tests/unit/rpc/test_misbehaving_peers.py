"""Peers that end streams, answer what nobody asked, or send what is no message."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from minikafka.api.requests import (
    FetchRequest,
    FetchResult,
    ProducePartition,
    ProduceRequest,
    ProduceResult,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
)
from minikafka.broker.counters import RequestCounters
from minikafka.broker.request_memory import RequestMemory
from minikafka.errors import NetworkError, UnknownServerError, UnsupportedVersionError
from minikafka.model import BrokerInfo, TopicPartition
from minikafka.rpc import hot
from minikafka.rpc.channel import BrokerChannel
from minikafka.rpc.streams import Streams

TP = TopicPartition("topic", 0)
PRODUCE = ProduceRequest(-1, 30_000, [ProducePartition(TP, b"x")])
FETCH = ReplicaFetchRequest(1, 1, 30_000, 1, 1, 1, [])
Answer = Callable[[Any, Any], Any]


async def soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, 20)


@pytest.fixture
async def rogue() -> AsyncIterator[Any]:
    """Starts a server that treats every stream as the test says; gives its port."""
    servers = []

    async def start(behaviour: Answer) -> int:
        handler = grpc.stream_stream_rpc_method_handler(behaviour)
        streaming = {"Produce": handler, "Fetch": handler}
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler("minikafka.v1.ClientService", streaming),
                grpc.method_handlers_generic_handler(
                    "minikafka.v1.ReplicationService", {"Replicate": handler}
                ),
            ]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return port

    yield start
    for server in servers:
        await server.stop(None)


async def ends_the_stream(_: Any, context: Any) -> None:
    await context.read()


async def sends_no_message(_: Any, context: Any) -> None:
    await context.read()
    await context.write(b"\xff\xff\xff")
    await context.read()


async def raises(_: Any, context: Any) -> None:
    await context.read()
    raise KeyError("a bug")


BEHAVIOURS = [
    (ends_the_stream, NetworkError, "ended the"),
    (sends_no_message, NetworkError, "sent an unreadable answer"),
    (raises, UnknownServerError, "127.0.0.1"),
]


@pytest.mark.parametrize(("behaviour", "error", "what"), BEHAVIOURS)
async def test_a_produce_stream_that_goes_wrong_fails_what_is_outstanding(
    loopback: Any, rogue: Any, behaviour: Answer, error: type[Exception], what: str
) -> None:
    channel = loopback.channel(f"127.0.0.1:{await rogue(behaviour)}")
    for _ in range(2):  # the second opens a stream of its own
        with pytest.raises(error, match=what):
            await soon(channel.produce(PRODUCE))


@pytest.mark.parametrize(("behaviour", "error", "what"), BEHAVIOURS)
async def test_a_replication_stream_that_goes_wrong_is_closed(
    loopback: Any, rogue: Any, behaviour: Answer, error: type[Exception], what: str
) -> None:
    leader = BrokerInfo(1, "A", "127.0.0.1", await rogue(behaviour))
    stream = loopback.peers().open_replication(leader)
    with pytest.raises(error, match=what):
        await soon(stream.fetch(FETCH))
    with pytest.raises(NetworkError, match="closed"):
        await soon(stream.fetch(FETCH))


async def test_an_answer_that_nobody_asked_for_is_dropped(loopback: Any, rogue: Any) -> None:
    async def answers_too_much(_: Any, context: Any) -> None:
        correlation_id, _request = hot.fetch_from_wire(await context.read())
        for answered in (correlation_id + 1_000, correlation_id):
            await context.write(hot.fetched_to_wire(answered, [FetchResult(TP)]))
        await context.read()

    channel = loopback.channel(f"127.0.0.1:{await rogue(answers_too_much)}")
    assert await soon(channel.fetch(FetchRequest(30_000, 1, 1, []))) == [FetchResult(TP)]


async def test_a_stream_that_ends_between_two_requests_is_opened_anew_by_the_second(
    loopback: Any, rogue: Any, until: Any
) -> None:
    async def answers_once(_: Any, context: Any) -> None:
        correlation_id, _request = hot.produce_from_wire(await context.read())
        await context.write(hot.produced_to_wire(correlation_id, [ProduceResult(TP, None, 5)]))

    channel: BrokerChannel = loopback.channel(f"127.0.0.1:{await rogue(answers_once)}")
    for _ in range(3):
        assert await soon(channel.produce(PRODUCE)) == [ProduceResult(TP, None, 5)]
        await until(lambda: channel._produce._stream.broken)  # type: ignore[union-attr]


async def test_a_broker_without_the_method_is_an_unsupported_version(
    loopback: Any, rogue: Any
) -> None:
    channel = loopback.channel(f"127.0.0.1:{await rogue(ends_the_stream)}")
    with pytest.raises(UnsupportedVersionError):
        await soon(channel.metadata())


class _Gone:
    """The context of a stream whose client goes away while an answer is written."""

    def __init__(self) -> None:
        self.writing = asyncio.Event()

    async def read(self) -> bytes:
        return hot.replicate_to_wire(FETCH)

    async def write(self, answer: bytes) -> None:
        self.writing.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("the stream is gone") from None


async def test_a_write_that_fails_as_its_client_goes_away_is_no_unheard_failure(
    loopback: Any,
) -> None:
    complaints: list[dict[str, Any]] = []
    loopback.service.replies["replica_fetch"] = ReplicaFetchResponse([])
    asyncio.get_running_loop().set_exception_handler(lambda _, each: complaints.append(each))
    memory = RequestMemory(10_000)
    streams = Streams(
        loopback.service,
        max_request_bytes=10_000,
        memory=memory,
        counters=RequestCounters(),
    )
    context = _Gone()
    serving = asyncio.ensure_future(streams.replicate(None, context))  # type: ignore[arg-type]
    await soon(context.writing.wait())
    serving.cancel()
    await soon(asyncio.wait({serving}))
    assert serving.cancelled()
    del serving, context
    gc.collect()
    assert complaints == []
