"""kazoo's client: where one is opened and ended, and where kazoo's errors become ours.

Two kinds of caller. A session on the loop (session.py) begins a client without waiting for it, and
listens. Commands (looking/, recipes/) are synchronous: they have one for the time of a `with`.

What an error of kazoo's says:

- EXPECTED  ZooKeeper's answer to one request: a node is there, is not there, has another version or
            has children. Whoever asks is prepared for these, and catches them by kazoo's names
- lost      the connection or the session ended: a read may be asked again, a write may have been
            carried out or not (a closed connection is a SessionExpiredError to kazoo)
- the rest  an answer that has no place in the protocol: ZooKeeperError

kazoo logs under "kazoo"; each process sets what it wants to hear of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    CancelledError,
    ConnectionLoss,
    KazooException,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    OperationTimeoutError,
    SessionExpiredError,
    SessionMovedError,
)
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler

from minikafka.broker.ports import SessionLostError
from minikafka.errors import NetworkError, UsageError
from minikafka.zookeeper.errors import (
    ConnectionLostError,
    OutcomeUnknownError,
    ZooKeeperError,
)

log = logging.getLogger(__name__)

EXPECTED = (BadVersionError, NodeExistsError, NoNodeError, NotEmptyError)
# Not answered, or answered by a server that the session has left: did it happen?
# (RuntimeError is kazoo's for an answer that is out of order, upon which it gives up altogether.)
_UNKNOWN_OUTCOME = (
    ConnectionLoss,
    OperationTimeoutError,
    SessionMovedError,
    RuntimeError,
)
# Of a command; kazoo cancels what waits when its client stops.
_LOST = (ConnectionLoss, SessionExpiredError, CancelledError)

# How a session on the loop connects again: for ever, since only ZooKeeper can say that it is gone.
CONNECT_FOR_EVER: Mapping[str, Any] = {
    "max_tries": -1,
    "delay": 0.05,
    "backoff": 1.5,
    "max_jitter": 0.3,
    "max_delay": 0.5,
}
_STOP_TIMEOUT_S = 2.0


class SessionHandler(SequentialThreadingHandler):  # type: ignore[misc]
    """kazoo's threading handler, which also notes when the server was last heard of, and waits for
    a server for a third of the session timeout at most.

    kazoo itself gives a lone server the whole session timeout to accept a session: one that takes
    the connection and never answers, as a server that is just starting may, would cost the session.
    A third is also how often kazoo pings, so on a healthy connection the bound changes nothing.

    kazoo waits for its connection in `select`, the connection's socket first.
    """

    def __init__(self, session_timeout_ms: int) -> None:
        super().__init__()
        self._patience_s = session_timeout_ms / 3000
        self.last_heard = time.monotonic()

    def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["timeout"] = min(kwargs["timeout"], self._patience_s)
        return super().create_connection(*args, **kwargs)

    def select(
        self,
        readers: Sequence[Any],
        writers: Sequence[Any],
        others: Sequence[Any],
        timeout: float | None = None,
    ) -> Any:
        patience_s = self._patience_s if timeout is None else min(timeout, self._patience_s)
        ready = super().select(readers, writers, others, patience_s)
        if readers and readers[0] in ready[0]:
            self.last_heard = time.monotonic()
        return ready


# --- opening and ending --------------------------------------------------------------------------


def new_client(
    hosts: str,
    session_timeout_ms: int,
    handler: SequentialThreadingHandler | None = None,
    connection_retry: Mapping[str, Any] | None = None,
) -> KazooClient:
    """One that has not begun to connect. `hosts`: `host:port,…`, without a chroot. UsageError if
    that names no servers."""
    options: dict[str, Any] = {}
    if connection_retry is not None:
        options["connection_retry"] = dict(connection_retry)
    try:
        return KazooClient(
            hosts=hosts, timeout=session_timeout_ms / 1000, handler=handler, **options
        )
    except ValueError:
        raise UsageError(
            f"{hosts!r} does not name ZooKeeper servers: expected HOST:PORT[,HOST:PORT…]"
        ) from None


def unreachable(
    hosts: str, wait_ms: int, advice: str = "check the address and that it runs"
) -> UsageError:
    return UsageError(f"ZooKeeper cannot be reached at {hosts} within {wait_ms} ms: {advice}")


@contextmanager
def opened(hosts: str, session_timeout_ms: int, wait_ms: int) -> Iterator[KazooClient]:
    """A session for the time of a `with`. UsageError if no server can be reached in time."""
    client = new_client(hosts, session_timeout_ms)
    try:
        if not client.start_async().wait(wait_ms / 1000):
            raise unreachable(hosts, wait_ms)
        yield client
    finally:
        stopped = threading.Event()
        stop_client_in_thread(client, stopped.set)
        stopped.wait(_STOP_TIMEOUT_S)


def stop_client_in_thread(client: KazooClient, on_stopped: Callable[[], None]) -> None:
    """Stop a kazoo client, which can take long or for ever, in a thread that nobody has to join."""

    def stop() -> None:
        try:
            client.stop()
            client.close()
        except Exception:
            # Whatever kazoo stumbles over while it stops, the session ends by its timeout.
            log.warning("stopping the ZooKeeper client failed", exc_info=True)
        on_stopped()

    threading.Thread(target=stop, name="zookeeper-stop", daemon=True).start()


# --- errors --------------------------------------------------------------------------------------


def translated(error: Exception) -> Exception:
    """Of a session on the loop: an answer of EXPECTED as it is, SessionLostError,
    OutcomeUnknownError, or ZooKeeperError."""
    if isinstance(error, SessionExpiredError):
        return SessionLostError("the ZooKeeper session has expired")
    if isinstance(error, _UNKNOWN_OUTCOME):
        return OutcomeUnknownError(str(error) or type(error).__name__)
    return error if isinstance(error, EXPECTED) else _refused(error)


def _refused(error: Exception) -> ZooKeeperError:
    return ZooKeeperError(f"ZooKeeper refused a request: {error!r}")


def answer(client: KazooClient, result: Any, timeout_s: float) -> Any:
    """What a request of a command came to. Raises ConnectionLostError, NetworkError if ZooKeeper
    does not answer in time, or the kazoo error that it answered with."""
    try:
        return result.get(timeout=timeout_s)
    except client.handler.timeout_exception:
        raise NetworkError(
            f"ZooKeeper has not answered for {timeout_s:g} s: is it paused?"
        ) from None
    except _LOST:
        raise ConnectionLostError("the connection to ZooKeeper was lost") from None


@contextmanager
def translating() -> Iterator[None]:
    """ConnectionLostError and ZooKeeperError for all that kazoo raises in a command: whoever is
    prepared for an answer catches it within."""
    try:
        yield
    except (*_LOST, KazooTimeoutError):
        raise ConnectionLostError("the connection to ZooKeeper was lost") from None
    except KazooException as error:
        raise _refused(error) from None
