"""Runs the dashboard: the socket, the sources, the web server. On the caller's event loop, and
without touching signals: who runs it cancels it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from minikafka.config.properties import is_loopback
from minikafka.dashboard.control import Act
from minikafka.dashboard.history import BrokerView
from minikafka.dashboard.hub import Hub
from minikafka.dashboard.sources import LookAtProcesses, Sources, wall_ms
from minikafka.dashboard.state import DashboardState
from minikafka.dashboard.web import Web
from minikafka.errors import UsageError
from minikafka.model import join_address

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
MAX_CONNECTIONS = 128
MAX_HEAD_BYTES = 16_384
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Subject:
    """The cluster that is looked at. `brokers`: those known beforehand."""

    addresses: tuple[str, ...]
    brokers: tuple[BrokerView, ...]
    zookeeper: str | None
    processes: LookAtProcesses | None


class _Patient(H11Protocol):
    """One connection to a browser. What a peer can make this server hold is bounded:
    MAX_CONNECTIONS, MAX_HEAD_BYTES of a request each, which has to be there within PATIENCE_S."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._cycle_seen: object = None
        self._patience: asyncio.TimerHandle | None = None
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._patience = self.loop.call_later(PATIENCE_S, self._look)

    def _look(self) -> None:
        """Each request makes a new cycle, when its head is there."""
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self.cycle is self._cycle_seen:
            self.transport.abort()
            return
        self._cycle_seen = self.cycle
        self._arm()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are the command's."""
        yield


def bind(host: str, port: int | None) -> socket.socket:
    """A listening socket. None: DEFAULT_PORT, or any other if that is taken. Raises UsageError."""
    try:
        return _bind(host, DEFAULT_PORT if port is None else port)
    except OSError as error:
        if port is None:
            with contextlib.suppress(OSError):
                return _bind(host, 0)
        why = (error.strerror or str(error)).lower()
        at = host if port is None else join_address(host, port)
        raise UsageError(f"the dashboard cannot listen at {at}: {why}") from None


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(64)
    except BaseException:
        listening.close()
        raise
    return listening


def own_hosts(host: str, port: int) -> Collection[str] | None:
    """The values of `Host` that mean this server; None where they cannot be known."""
    if not is_loopback(host):
        return None
    names = {"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host}
    return {f"{name}:{port}" for name in names} | (names if port == 80 else set())


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listening: socket.socket, hub: Hub) -> AsyncIterator[None]:
    """The web server for the time of a `with`."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=1,
        ws="none",
        http=_Patient,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listening]))
    try:
        await server.ready.wait()
        yield
    finally:
        hub.close()
        server.should_exit = True
        await task


async def run(
    subject: Subject,
    listening: socket.socket,
    act: Act | None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve until cancelled. `on_ready` gets the link, with the token in it if `act` is given."""
    hub = Hub()
    dashboard_state = DashboardState(wall_ms(), hub.publish)
    dashboard_state.expect(subject.brokers)
    names = {each.broker_id: each.name for each in subject.brokers}
    sources = Sources(
        dashboard_state, subject.addresses, names, subject.zookeeper, subject.processes
    )
    token = secrets.token_urlsafe(24) if act is not None else None
    host, port = listening.getsockname()[:2]
    web = Web(dashboard_state, hub, act, token)
    async with serving(web.app(own_hosts(host, port)), listening, hub):
        on_ready(f"http://{join_address(host, port)}/" + (f"#token={token}" if token else ""))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sources.run())
            tasks.create_task(web.beat())
