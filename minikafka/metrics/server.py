"""The HTTP server of /metrics: GET and HEAD of one path, for Prometheus and for people with curl.

h11 reads requests and frames answers; one connection serves one request. What a peer can make this
server hold is bounded: MAX_CONNECTIONS, MAX_REQUEST_BYTES each, for at most PATIENCE_S. Scrapes
take turns, so that several Prometheus servers do not multiply the work of one moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import h11

from minikafka.config.properties import Endpoint

logger = logging.getLogger(__name__)

PATH = "/metrics"
PATIENCE_S = 10.0
MAX_REQUEST_BYTES = 16_384
MAX_CONNECTIONS = 32
_READ_BYTES = 4_096
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of Prometheus's text format
_TEXT = "text/plain; charset=utf-8"


class MetricsServer:
    """`render` gives the text of the metrics."""

    def __init__(self, render: Callable[[], Awaitable[bytes]]) -> None:
        self._render = render
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which is a free one for port 0. PortTakenError, or
        UsageError if the host is not this machine's."""
        try:
            self._server = await asyncio.start_server(self._accept, host, port)
        except OSError as failure:
            raise Endpoint(host, port).cannot_listen(failure, "metrics.listener") from None
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Take no more connections and end those that are there. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._answer(reader, writer)
        except (TimeoutError, OSError) as failure:
            logger.debug("a scrape ended early: %r", failure)
        except Exception:
            logger.exception("the metrics could not be told")
        finally:
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # the peer does not read
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST_BYTES)
        try:
            request = await _read_request(connection, reader)
        except h11.RemoteProtocolError as error:
            if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                status = HTTPStatus(error.error_status_hint)
                await _send(connection, writer, status, _TEXT, f"{error}\n".encode())
            return
        if request is None:
            return
        status, content_type, body = await self._content(request)
        with_body = request.method != b"HEAD"
        await _send(connection, writer, status, content_type, body, with_body=with_body)

    async def _content(self, request: h11.Request) -> tuple[HTTPStatus, str, bytes]:
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        if path != PATH:
            return HTTPStatus.NOT_FOUND, _TEXT, f"there is only {PATH} here\n".encode()
        if request.method not in (b"GET", b"HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"only GET and HEAD are served\n"
        async with self._one_at_a_time:
            return HTTPStatus.OK, CONTENT_TYPE, await self._render()


async def _read_request(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> h11.Request | None:
    """The head of the request; None if the peer went away before it was whole."""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if isinstance(event, h11.ConnectionClosed):
            return None
        assert event is h11.NEED_DATA, event
        connection.receive_data(await reader.read(_READ_BYTES))


async def _send(
    connection: h11.Connection,
    writer: asyncio.StreamWriter,
    status: HTTPStatus,
    content_type: str,
    body: bytes,
    *,
    with_body: bool = True,
) -> None:
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", "GET, HEAD"))
    response = h11.Response(status_code=status, headers=headers, reason=status.phrase)
    writer.write(connection.send(response) or b"")
    if with_body:
        writer.write(connection.send(h11.Data(data=body)) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()
