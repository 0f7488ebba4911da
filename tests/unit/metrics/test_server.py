"""The HTTP server of /metrics over TCP: what it serves, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from minikafka.errors import UsageError
from minikafka.metrics import server as server_module
from minikafka.metrics.server import CONTENT_TYPE, MAX_REQUEST_BYTES, MetricsServer
from tests.helpers.waiting import until

TEXT = b"# HELP a A.\n# TYPE a gauge\na 1.0\n"


class Ground:
    def __init__(self) -> None:
        self.scrapes = 0
        self.at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.server = MetricsServer(self.render)
        self.port = 0

    async def render(self) -> bytes:
        self.scrapes += 1
        self.at_once += 1
        assert self.at_once == 1, "scrapes take turns"
        await self.gate.wait()
        self.at_once -= 1
        return TEXT

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """(head, body) of the answer, which ends the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        async with asyncio.timeout(30):
            writer.write(request)
            answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head, body


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    ground = Ground()
    ground.port = await ground.server.start("127.0.0.1", 0)
    yield ground
    ground.gate.set()
    await ground.server.stop()
    await ground.server.stop()


def get(target: str = "/metrics", method: str = "GET", headers: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()


async def test_metrics_are_served_in_prometheus_text_format(ground: Ground) -> None:
    head, body = await ground.ask(get())
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Type: {CONTENT_TYPE}".encode() in head
    assert f"Content-Length: {len(TEXT)}".encode() in head
    assert body == TEXT


async def test_a_query_is_ignored_as_prometheus_may_send_parameters(ground: Ground) -> None:
    assert (await ground.ask(get("/metrics?collect[]=x")))[1] == TEXT


async def test_head_has_the_length_and_no_body(ground: Ground) -> None:
    head, body = await ground.ask(get(method="HEAD"))
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(TEXT)}".encode() in head
    assert body == b""


async def test_an_old_client_is_served_too(ground: Ground) -> None:
    assert (await ground.ask(b"GET /metrics HTTP/1.0\r\n\r\n"))[1] == TEXT


@pytest.mark.parametrize("target", ["/", "/metricsx", "/metrics/", "//metrics", "/%6detrics"])
async def test_any_other_path_is_not_found(ground: Ground, target: str) -> None:
    head, body = await ground.ask(get(target))
    assert head.startswith(b"HTTP/1.1 404 ")
    assert b"/metrics" in body
    assert ground.scrapes == 0


async def test_other_methods_are_refused_with_those_that_are_served(ground: Ground) -> None:
    head, _ = await ground.ask(get(method="POST", headers="Content-Length: 0\r\n"))
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: GET, HEAD" in head


async def test_what_is_no_http_is_refused(ground: Ground) -> None:
    head, _ = await ground.ask(b"\x00\x01\x02 no http at all\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")


async def test_a_request_that_does_not_end_is_refused(ground: Ground) -> None:
    begun = get(headers="X-Long: ")[:-2]
    head, _ = await ground.ask(begun + b"x" * (MAX_REQUEST_BYTES + 1 - len(begun)))
    assert head.startswith(b"HTTP/1.1 431 ")
    assert ground.scrapes == 0


async def test_who_goes_away_before_asking_disturbs_nobody(ground: Ground) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", ground.port)
    writer.write(b"GET /metr")
    writer.close()
    assert (await ground.ask(get()))[1] == TEXT


async def test_scrapes_at_the_same_time_take_turns(ground: Ground) -> None:
    ground.gate.clear()
    asking = [asyncio.ensure_future(ground.ask(get())) for _ in range(3)]
    await until(lambda: ground.scrapes == 1)
    ground.gate.set()
    assert [body for _, body in await asyncio.gather(*asking)] == [TEXT] * 3


async def test_who_asks_nothing_is_sent_away_after_a_while(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "PATIENCE_S", 0.05)
    assert await ground.ask(b"") == (b"", b"")


async def test_more_connections_than_there_may_be_are_closed(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 1)
    ground.gate.clear()
    first = asyncio.ensure_future(ground.ask(get()))
    await until(lambda: ground.scrapes == 1)
    with contextlib.suppress(ConnectionError):  # the same, told more rudely
        assert await ground.ask(get()) == (b"", b"")
    assert ground.scrapes == 1
    ground.gate.set()
    assert (await first)[1] == TEXT


async def test_a_bug_ends_the_connection_and_the_next_scrape_is_served(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> bytes:
        raise RuntimeError("a bug")

    monkeypatch.setattr(ground.server, "_render", fail)
    assert await ground.ask(get()) == (b"", b"")
    assert "a bug" in caplog.text
    monkeypatch.undo()
    assert (await ground.ask(get()))[1] == TEXT


async def test_stopping_ends_connections_that_wait(ground: Ground) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ground.port)
    await until(lambda: ground.server._connections)
    await ground.server.stop()
    async with asyncio.timeout(30):
        assert await reader.read() == b""
    writer.close()


async def test_a_port_that_is_taken_is_named(ground: Ground) -> None:
    other = MetricsServer(ground.render)
    with pytest.raises(UsageError, match=rf"port {ground.port} .*metrics\.listener"):
        await other.start("127.0.0.1", ground.port)
    with pytest.raises(UsageError, match="cannot listen on"):
        await other.start("192.0.2.1", 0)
