"""A ZooKeeper session of a command (a rolling restart, a barrier): kazoo's client, synchronous,
with what goes wrong in our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kazoo.client import KazooClient
from kazoo.exceptions import (
    CancelledError,
    ConnectionLoss,
    KazooException,
    SessionExpiredError,
)
from kazoo.handlers.threading import KazooTimeoutError

from minikafka.errors import NetworkError, UsageError
from minikafka.zookeeper.errors import ZooKeeperError
from minikafka.zookeeper.paths import Layout, split_connect


@contextmanager
def open_client(connect: str, timeout_s: float) -> Iterator[tuple[KazooClient, Layout]]:
    """A session with `host:port,…[/chroot]`, of that timeout. UsageError if no server can be
    reached in it."""
    hosts, layout = split_connect(connect)
    client = KazooClient(hosts=hosts, timeout=timeout_s)
    try:
        client.start(timeout=timeout_s)
    except KazooTimeoutError:
        raise UsageError(f"ZooKeeper cannot be reached at {hosts}: does it run?") from None
    try:
        yield client, layout
    finally:
        client.stop()
        client.close()


@contextmanager
def translated() -> Iterator[None]:
    """NetworkError and ZooKeeperError for kazoo's."""
    try:
        yield
    except (ConnectionLoss, SessionExpiredError, KazooTimeoutError, CancelledError) as error:
        raise NetworkError(f"the connection to ZooKeeper was lost ({type(error).__name__})") from (
            None
        )
    except KazooException as error:
        raise ZooKeeperError(f"ZooKeeper refused a request: {error!r}") from None
