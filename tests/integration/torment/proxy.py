"""A network for machines without namespaces: a proxy before each broker's listener, and one between
each broker and each ZooKeeper server; all of it on the loopback interface.

A broker's proxy finds out who calls by the owner of the calling socket (/proc), so that a cut is
between two nodes here, too. What is cut is held back until `heal`, as TCP would send it again then;
a new connection is taken and never gets further. On a slow link every piece waits.

State: the cuts, and the connections by their two ends.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from minikafka.zookeeper.servers.addresses import Ports
from tests.integration.torment.network import (
    CLIENTS,
    ZOOKEEPER,
    Address,
    Door,
    Doors,
    broker_node,
)

_HOST = "127.0.0.1"
_CHUNK_BYTES = 1 << 16
_DELAY_S = (0.04, 0.12)


class Proxies:
    """`Network` of proxies, in the loop of the test."""

    def __init__(self, brokers: Sequence[int]) -> None:
        self.description = "proxies on the loopback interface (no namespaces here)"
        ports = Ports.choose(_HOST, 2 * len(brokers), 0)
        free = iter([Address(_HOST, each.client) for each in ports])
        self._listeners = {each: (next(free), next(free)) for each in brokers}
        self._proxies: dict[tuple[str, str, int], Address] = {}
        self._servers: list[asyncio.Server] = []
        self._pids: dict[int, str] = {}
        self._blocked: set[tuple[str, str]] = set()
        self._slow: set[str] = set()
        self._unplugged: set[str] = set()
        self._healed = asyncio.Event()
        self._connections: dict[asyncio.Task[None], tuple[str, str]] = {}

    async def start(self, zookeepers: int) -> None: ...

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def zookeeper_host(self) -> str:
        return _HOST

    async def zookeeper_connect(self, node: str, servers: Sequence[Address]) -> str:
        return ",".join([str(await self._proxy_to(node, ZOOKEEPER, each)) for each in servers])

    async def broker_doors(self, broker_id: int) -> Doors:
        node = broker_node(broker_id)
        grpc, kafka = self._listeners[broker_id]
        return Doors(
            Door(grpc, await self._proxy_to("", node, grpc)),
            Door(kafka, await self._proxy_to("", node, kafka)),
        )

    def command_at(self, node: str, command: Sequence[str]) -> list[str]:
        return list(command)

    def started(self, node: str, pid: int) -> None:
        self._pids[pid] = node

    # --- faults ----------------------------------------------------------------------------------

    def block(self, source: str, target: str) -> None:
        self._blocked.add((source, target))

    def slow(self, node: str) -> None:
        self._slow.add(node)

    def unplug(self, node: str) -> None:
        self._unplugged.add(node)
        for task, ends in list(self._connections.items()):
            if node in ends:
                task.cancel()

    def heal(self) -> None:
        self._blocked.clear()
        self._slow.clear()
        self._unplugged.clear()
        self._healed.set()
        self._healed = asyncio.Event()

    # --- connections -----------------------------------------------------------------------------

    async def _proxy_to(self, source: str, target: str, upstream: Address) -> Address:
        """A proxy's address; `source` is empty if anybody may call it."""
        key = (source, target, upstream.port)
        if key not in self._proxies:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                port = writer.get_extra_info("peername")[1]
                caller = source or await asyncio.to_thread(self._who_calls_from, port)
                await self._serve(caller, target, upstream, reader, writer)

            server = await asyncio.start_server(serve, _HOST, 0)
            self._servers.append(server)
            self._proxies[key] = Address(*server.sockets[0].getsockname())
        return self._proxies[key]

    def _who_calls_from(self, port: int) -> str:
        """The node whose process owns the socket with this local port."""
        inode = ""
        for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = row.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[9] != "0":
                inode = f"socket:[{fields[9]}]"
        for pid, node in list(self._pids.items()):
            with suppress(OSError):
                if any(os.readlink(each) == inode for each in Path(f"/proc/{pid}/fd").iterdir()):
                    return node
        return CLIENTS

    async def _serve(
        self,
        source: str,
        target: str,
        upstream: Address,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = (source, target)
        upstream_writer: asyncio.StreamWriter | None = None
        try:
            if {source, target} & self._unplugged:
                return
            await self._passable(source, target)
            await self._passable(target, source)
            upstream_reader, upstream_writer = await asyncio.open_connection(*upstream)
            pumps = [
                asyncio.ensure_future(self._pump(source, target, reader, upstream_writer)),
                asyncio.ensure_future(self._pump(target, source, upstream_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            return  # nobody listens, as when a broker is down; or `unplug` and `close` end it
        finally:
            writer.close()
            if upstream_writer is not None:
                upstream_writer.close()
            del self._connections[task]

    async def _pump(
        self,
        source: str,
        target: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        while True:
            try:
                data = await reader.read(_CHUNK_BYTES)
            except OSError:
                data = b""
            if {source, target} & self._slow:
                await asyncio.sleep(random.uniform(*_DELAY_S))
            await self._passable(source, target)
            if not data:
                return
            writer.write(data)
            await writer.drain()

    async def _passable(self, source: str, target: str) -> None:
        while (source, target) in self._blocked:
            await self._healed.wait()
