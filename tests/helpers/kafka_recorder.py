"""A proxy in front of one broker that keeps the requests of Kafka clients, by API and version.

The broker must advertise the proxy's address, or clients go past it after their first question.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

MAX_REQUEST_BYTES = 600
_HEAD = struct.Struct(">hh")


@dataclass
class Recorder:
    """Forwards from `port` to `target` (HOST:PORT), in a thread of its own. `requests`: per
    (API key, version) the smallest request and the largest of those that are small enough, without
    the four bytes of length."""

    port: int
    target: str
    requests: dict[tuple[int, int], list[bytes]] = field(default_factory=dict)
    _ready: threading.Event = field(default_factory=threading.Event)
    _end: Callable[[], object] = lambda: None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        assert self._thread is not None
        self._end()
        self._thread.join()

    async def _run(self) -> None:
        ending, loop = asyncio.Event(), asyncio.get_running_loop()
        self._end = lambda: loop.call_soon_threadsafe(ending.set)
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._ready.set()
        await ending.wait()
        server.close()

    def take(self) -> dict[tuple[int, int], list[bytes]]:
        """What was kept since the last time."""
        found, self.requests = self.requests, {}
        return found

    def keep(self, request: bytes) -> None:
        if not _HEAD.size <= len(request) <= MAX_REQUEST_BYTES:
            return
        kept = self.requests.setdefault(_HEAD.unpack_from(request), [])
        kept.append(request)
        kept.sort(key=len)
        del kept[1:-1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            there_reader, there_writer = await asyncio.open_connection(host, int(port))
            back = asyncio.ensure_future(_copy(there_reader, writer))
            try:
                while True:
                    head = await reader.readexactly(4)
                    request = await reader.readexactly(struct.unpack(">i", head)[0])
                    self.keep(request)
                    there_writer.write(head + request)
                    await there_writer.drain()
            finally:
                there_writer.close()
                back.cancel()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
