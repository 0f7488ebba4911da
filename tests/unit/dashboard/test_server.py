"""What a peer can make the dashboard hold is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from minikafka.dashboard import server
from minikafka.dashboard.hub import Hub

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _hello(request: Request) -> Response:
    return PlainTextResponse("hello")


class Served:
    def __init__(self, port: int) -> None:
        self.port = port
        self.opened: list[asyncio.StreamWriter] = []

    async def connect(self) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.opened.append(writer)
        return reader, writer


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    listening = server.bind("127.0.0.1", 0)
    there = Served(listening.getsockname()[1])
    app = Starlette(routes=[Route("/", _hello)])
    async with server.serving(app, listening, Hub()):
        yield there
        for writer in there.opened:
            writer.close()


async def answer_of(connection: Connection, sent: bytes) -> bytes:
    """What comes until the connection ends, or a whole answer is there."""
    reader, writer = connection
    writer.write(sent)
    received = b""
    async with asyncio.timeout(20):
        while b"hello" not in received:
            try:
                piece = await reader.read(4_096)
            except ConnectionResetError:
                break
            if not piece:
                break
            received += piece
    return received


async def test_a_connection_serves_one_request_after_the_other(served: Served) -> None:
    connection = await served.connect()
    for _ in range(3):
        assert b"200 OK" in await answer_of(connection, GET)


async def test_one_connection_too_many_is_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    first, second = await served.connect(), await served.connect()
    assert b"200 OK" in await answer_of(first, GET)
    assert b"200 OK" in await answer_of(second, GET)
    assert await answer_of(await served.connect(), GET) == b""
    assert b"200 OK" in await answer_of(first, GET)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: localhost\r\nA: "])
async def test_who_does_not_finish_the_head_of_a_request_is_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server, "PATIENCE_S", 0.2)
    assert await answer_of(await served.connect(), sent) == b""
    connection = await served.connect()
    assert b"200 OK" in await answer_of(connection, GET)
    assert await answer_of(connection, sent) == b"", "nor the head of the second one"


async def test_a_head_without_end_is_refused(served: Served) -> None:
    endless = b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * (2 * server.MAX_HEAD_BYTES)
    assert b"hello" not in await answer_of(await served.connect(), endless)
