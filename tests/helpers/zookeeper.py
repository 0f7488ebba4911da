"""ZooKeeper for tests: servers, events, and a proxy that cuts a connection at a chosen request."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from minikafka.broker.ports import StoreEvent
from minikafka.errors import UsageError
from minikafka.model import BrokerInfo
from minikafka.zookeeper.servers import apache
from minikafka.zookeeper.servers.launcher import RunningZooKeeper, launch, parse_mode
from minikafka.zookeeper.session import ZooKeeperSession
from minikafka.zookeeper.stores.store import ZooKeeperStore
from tests.helpers.waiting import DEADLINE_S

ANY_PORT = 0
SHORT_SESSION_MS = 1_000

CREATE, DELETE, GET, SET, CREATE2, MULTI = 1, 2, 4, 5, 15, 14


def require(mode: str) -> None:
    """Skip the test if this machine lacks the ZooKeeper that it needs, or fail it if
    MINIKAFKA_REQUIRE_ZOOKEEPER=1."""
    if not mode.startswith("local"):
        return
    try:
        apache.find_installation()
    except UsageError as missing:
        if os.environ.get("MINIKAFKA_REQUIRE_ZOOKEEPER") == "1":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def start_zookeeper(mode: str, data_dir: Path, port: int = ANY_PORT) -> RunningZooKeeper:
    require(mode)
    return launch(parse_mode(mode), data_dir, port)


def broker(broker_id: int, storage_id: str = "disk") -> BrokerInfo:
    return BrokerInfo(
        broker_id,
        name=f"broker-{broker_id}",
        grpc_host="127.0.0.1",
        grpc_port=19_000 + broker_id,
        rack="r1",
        storage_id=storage_id,
    )


async def expect_event(
    store: ZooKeeperStore, wanted: StoreEvent, deadline_s: float = DEADLINE_S
) -> list[StoreEvent]:
    """Wait for an event; returns those that came before it."""
    before: list[StoreEvent] = []
    async with asyncio.timeout(deadline_s):
        while (event := await store.events.get()) is not wanted:
            before.append(event)
    return before


async def expire_session(session: ZooKeeperSession, hosts: str) -> None:
    """End the session of a live client at the server: another one takes it over and closes it."""
    usurper = KazooClient(hosts=hosts, timeout=10, client_id=session.client_id)
    await asyncio.to_thread(usurper.start)
    await asyncio.to_thread(usurper.stop)
    await asyncio.to_thread(usurper.close)


def connected_port(session: ZooKeeperSession) -> int:
    """The port of the server that a session is connected to."""
    assert session._client is not None
    port: int = session._client._connection._socket.getpeername()[1]
    return port


# --- the proxy -----------------------------------------------------------------------------------

_INT = struct.Struct(">i")
_REQUEST_HEAD = struct.Struct(">ii")  # xid, opcode


@dataclass
class _Cut:
    """Cut the connection when a request with this opcode comes: before it reaches the server, or
    after the server has answered it; or let the answer through with a wrong number."""

    opcode: int
    forward: bool
    garble: bool = False
    meanwhile: Callable[[], Awaitable[None]] | None = None
    xid: int | None = None


@dataclass
class ZooKeeperProxy:
    """Forwards connections to the server at `upstream`, frame by frame."""

    upstream: tuple[str, int]
    cuts: list[_Cut] = field(default_factory=list)
    cuts_done: int = 0
    refusing: bool = False
    deny_session: bool = False  # the next connection hears that its session has expired
    ignore_next: bool = False  # the next connection is taken and never answered
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def hosts(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.sever()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut_before_request(
        self, opcode: int, meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """The next such request does not reach the server. `meanwhile` runs before the client can
        connect again."""
        self.cuts.append(_Cut(opcode, forward=False, meanwhile=meanwhile))

    def cut_before_reply(
        self, opcode: int, meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """The next such request is carried out, but its answer does not come back."""
        self.cuts.append(_Cut(opcode, forward=True, meanwhile=meanwhile))

    def garble_reply(self, opcode: int) -> None:
        """The answer to the next such request has the number of another request."""
        self.cuts.append(_Cut(opcode, forward=True, garble=True))

    def sever(self) -> None:
        """Drop every connection."""
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.ignore_next:
                self.ignore_next = False
                await reader.read(-1)  # until the client gives up
            elif not self.refusing:
                await self._forward(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the ends is gone, which is what this is about
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(*self.upstream)
        self._writers |= {writer, upstream_writer}
        pumps = [
            asyncio.ensure_future(self._pump_requests(reader, upstream_writer)),
            asyncio.ensure_future(self._pump_replies(upstream_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            upstream_writer.close()
            self._writers.discard(upstream_writer)

    async def _pump_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(await _frame(reader))  # the connect request
        while True:
            frame = await _frame(reader)
            xid, opcode = _REQUEST_HEAD.unpack_from(frame, _INT.size)
            cut = next((c for c in self.cuts if c.opcode == opcode and c.xid is None), None)
            if cut is not None:
                cut.xid = xid
                if not cut.forward:
                    await self._end(cut)
                    return
            writer.write(frame)

    async def _pump_replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connect_reply = bytearray(await _frame(reader))
        if self.deny_session:
            self.deny_session = False
            _INT.pack_into(connect_reply, 8, 0)  # a timeout of 0: expired
        writer.write(connect_reply)
        while True:
            frame = bytearray(await _frame(reader))
            (xid,) = _INT.unpack_from(frame, _INT.size)
            cut = next((c for c in self.cuts if c.forward and c.xid == xid), None)
            if cut is not None and cut.garble:
                self.cuts.remove(cut)
                _INT.pack_into(frame, _INT.size, xid + 1_000)
            elif cut is not None:
                await self._end(cut)
                return
            writer.write(frame)

    async def _end(self, cut: _Cut) -> None:
        self.cuts.remove(cut)
        self.cuts_done += 1
        if cut.meanwhile is not None:
            await cut.meanwhile()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(_INT.size)
    return head + await reader.readexactly(_INT.unpack(head)[0])
