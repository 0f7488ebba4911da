"""Takes the connections of one listener of the Kafka door, by hand: so that who may not come in is
sent away before anything is done for them, and TLS takes the certificate of the moment.

State: the sockets; what is being established (`_establishing`); whether accepting waits, because of
too many handshakes or because the system had no descriptor left. A connection is made before it is
established: it counts for the limits from then on, and can be closed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from minikafka.config.properties import Endpoint
from minikafka.model import SecurityProtocol
from minikafka.security.mechanism import MechanismKind
from minikafka.security.principal import Principal, plain_address

log = logging.getLogger(__name__)

BACKLOG = 512
MAX_HANDSHAKES = 64  # of a listener at once
HANDSHAKE_TIMEOUT_S = 10.0
_ACCEPTED_AT_ONCE = 32
_PAUSE_S = 1.0
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class ServedListener:
    """One listener as it is to be served. `tls` gives the context for the next connection,
    `name_of` the name that a client's certificate (in DER) stands for, or a ValueError;
    `mechanisms` are what a client may prove its name by, and `max_reauth_ms` tells after what time
    it has to do so again (0: never)."""

    name: str
    host: str
    port: int
    protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    tls: Callable[[], ssl.SSLContext] | None = None
    name_of: Callable[[bytes], Principal] | None = None
    mechanisms: Mapping[str, MechanismKind] | None = None
    max_reauth_ms: int = 0

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.host, self.port)


class Newcomer(asyncio.Protocol):
    """A connection before it is established. `establishing` is set until it is, or is not."""

    establishing: asyncio.Task[None] | None = None

    def abandon(self) -> None:
        """It was not established. Nothing if it has ended already."""
        raise NotImplementedError


class Acceptor:
    """`begin(listener, host)` makes the protocol of a connection from an address; None: it may not
    come in."""

    def __init__(
        self,
        listener: ServedListener,
        begin: Callable[[ServedListener, str], Newcomer | None],
    ) -> None:
        self.listener = listener
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._establishing: set[asyncio.Task[None]] = set()
        self._accepting = False
        self._pause: asyncio.TimerHandle | None = None

    async def bind(self) -> int:
        """Take the port, and return it: a free one for port 0. Connections are refused until
        `listen`. PortTakenError, or UsageError if the host is not this machine's."""
        host, port = self.listener.endpoint
        try:
            found = await self._loop.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, kind, number, _, address in dict.fromkeys(found):
                bound = socket.socket(family, kind, number)
                self._sockets.append(bound)
                bound.setblocking(False)
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                bound.bind((address[0], port, *address[2:]))
                port = port or bound.getsockname()[1]
        except OSError as failure:
            self._close_sockets()
            raise self.listener.endpoint.cannot_listen(failure, "listeners") from None
        return port

    def listen(self) -> None:
        """Take connections from now on. PortTakenError if another process was quicker."""
        try:
            for each in self._sockets:
                each.listen(BACKLOG)
        except OSError as failure:
            endpoint = Endpoint(*self._sockets[0].getsockname()[:2])
            raise endpoint.cannot_listen(failure, "listeners") from None
        self._accept()

    async def close(self) -> None:
        """Idempotent. What is established stays."""
        self._wait()
        if self._pause is not None:
            self._pause.cancel()
        self._close_sockets()
        establishing = list(self._establishing)
        for task in establishing:
            task.cancel()
        if establishing:
            await asyncio.wait(establishing)

    def _close_sockets(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets = []

    # --- accepting ---

    def _accept(self) -> None:
        self._pause = None
        if not self._accepting and len(self._establishing) < MAX_HANDSHAKES:
            self._accepting = True
            for each in self._sockets:
                self._loop.add_reader(each, self._on_readable, each)

    def _wait(self) -> None:
        if self._accepting:
            self._accepting = False
            for each in self._sockets:
                self._loop.remove_reader(each)

    def _on_readable(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if not self._accepting:
                return
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as failure:
                if failure.errno not in _NO_DESCRIPTORS:
                    raise
                log.error("no connections are taken for %.0f s: %s", _PAUSE_S, failure.strerror)
                self._wait()
                self._pause = self._loop.call_later(_PAUSE_S, self._accept)
                return
            self._take(accepted, address[0])

    def _take(self, accepted: socket.socket, address: str) -> None:
        accepted.setblocking(False)
        newcomer = self._begin(self.listener, str(plain_address(address.partition("%")[0])))
        if newcomer is None:
            accepted.close()
            return
        task = self._loop.create_task(self._establish(accepted, newcomer))
        newcomer.establishing = task
        self._establishing.add(task)
        task.add_done_callback(self._establishing.discard)
        if len(self._establishing) >= MAX_HANDSHAKES:
            self._wait()

    async def _establish(self, accepted: socket.socket, newcomer: Newcomer) -> None:
        """A task of its own: a handshake takes as long as the client makes it take."""
        tls = self.listener.tls
        established = False
        try:
            await self._loop.connect_accepted_socket(
                lambda: newcomer,
                accepted,
                ssl=None if tls is None else tls(),
                ssl_handshake_timeout=None if tls is None else HANDSHAKE_TIMEOUT_S,
            )
            established = True
        except asyncio.CancelledError:
            pass  # somebody has closed it
        except OSError as failure:  # an SSLError, mostly: it is the client's
            log.info("a handshake on %s failed: %s", self.listener.name, failure)
        except Exception as failure:
            log.error("a connection to %s was lost", self.listener.name, exc_info=failure)
        finally:
            if not established:
                accepted.close()
                newcomer.abandon()
            newcomer.establishing = None
            if self._pause is None and self._sockets:
                self._loop.call_soon(self._accept)
