"""ZooKeeper's own calls, one method each, for people who learn and for `minikafka lab`: create,
delete, set, get, exists, children, sync, multi, and watches. Synchronous.

A refusal is a `RefusedError` with ZooKeeper's name of it (BADVERSION, NODEEXISTS, NONODE,
NOTEMPTY ...). Versions are as in ZooKeeper: -1 is any. Watches fire once, on a thread of kazoo.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.protocol.states import EventType, KazooState, WatchedEvent

from minikafka.errors import NetworkError
from minikafka.zookeeper.client import answer, opened
from minikafka.zookeeper.errors import ZooKeeperError
from minikafka.zookeeper.looking.inspect import Inspector
from minikafka.zookeeper.node import Node, node_stat

DEFAULT_SESSION_TIMEOUT_MS = 10_000
_TIMEOUT_S = 15.0
_RETRY_S = 0.1

# The names of the protocol (zookeeper.protocol's KeeperException.Code) for kazoo's classes.
_CODES = {
    "BadVersionError": "BADVERSION",
    "NodeExistsError": "NODEEXISTS",
    "NoNodeError": "NONODE",
    "NotEmptyError": "NOTEMPTY",
    "NoChildrenForEphemeralsError": "NOCHILDRENFOREPHEMERALS",
    "RolledBackError": "rolled back",
    "RuntimeInconsistency": "not tried",
}

Watch = Callable[[str, str], None]  # (what happened, path), for example ("DELETED", "/controller")


class RefusedError(ZooKeeperError):
    """ZooKeeper answered with an error; `reason` is its name in the protocol."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Operation:
    """One part of a `multi`. `version` as in ZooKeeper; not of a create."""

    kind: Literal["create", "delete", "set", "check"]
    path: str
    data: bytes = b""
    version: int = -1


class PlainClient:
    """One session. `states` are what kazoo has said of it so far: CONNECTED, SUSPENDED, LOST."""

    def __init__(self, client: KazooClient) -> None:
        self._client = client
        self.inspector = Inspector(client, "", round(_TIMEOUT_S * 1000))
        self.states: list[str] = [KazooState.CONNECTED]
        client.add_listener(self._on_state)

    @property
    def session_id(self) -> int:
        client_id = self._client.client_id
        return int(client_id[0]) if client_id else 0

    @property
    def last_zxid(self) -> int:
        """The latest transaction that this client has heard of."""
        return int(self._client.last_zxid)

    def create(
        self, path: str, data: bytes = b"", *, ephemeral: bool = False, sequential: bool = False
    ) -> str:
        """The path that was made: with ten digits at its end if `sequential`."""
        sent = self._client.create_async(path, data, ephemeral=ephemeral, sequence=sequential)
        return str(self._wait(sent, f"create {path}"))

    def delete(self, path: str, version: int = -1) -> None:
        self._wait(self._client.delete_async(path, version), f"delete {path}")

    def set(self, path: str, data: bytes, version: int = -1) -> int:
        """The new version."""
        stat = self._wait(self._client.set_async(path, data, version), f"setData {path}")
        return int(stat.version)

    def set_all(self, path: str, values: Sequence[bytes]) -> None:
        """Set one after another without waiting for each."""
        sent = [self._client.set_async(path, value) for value in values]
        for each in sent:
            self._wait(each, f"setData {path}")

    def get(self, path: str, watch: Watch | None = None) -> Node:
        data, stat = self._read(
            lambda: self._client.get_async(path, watch=_as_kazoo(watch)), f"getData {path}"
        )
        return Node(path, data, node_stat(stat))

    def exists(self, path: str, watch: Watch | None = None) -> bool:
        found = self._read(
            lambda: self._client.exists_async(path, watch=_as_kazoo(watch)), f"exists {path}"
        )
        return found is not None

    def children(self, path: str, watch: Watch | None = None) -> list[str]:
        names = self._read(
            lambda: self._client.get_children_async(path, watch=_as_kazoo(watch)),
            f"getChildren {path}",
        )
        return sorted(names)

    def sync(self, path: str = "/") -> None:
        self._read(lambda: self._client.sync_async(path), f"sync {path}")

    def multi(self, operations: Sequence[Operation]) -> list[str]:
        """What became of each: "ok", or the reason. If one fails, none has happened."""
        transaction = self._client.transaction()
        for each in operations:
            if each.kind == "create":
                transaction.create(each.path, each.data)
            elif each.kind == "delete":
                transaction.delete(each.path, each.version)
            elif each.kind == "set":
                transaction.set_data(each.path, each.data, each.version)
            else:
                transaction.check(each.path, each.version)
        results = self._wait(transaction.commit_async(), "multi")
        return [_code(each) if isinstance(each, Exception) else "ok" for each in results]

    def delete_tree(self, path: str) -> None:
        """`path` with everything below it, if it is there."""
        with suppress(RefusedError):
            for name in self.children(path):
                self.delete_tree(f"{path}/{name}")
            self.delete(path)

    def read_later(self, path: str, *, sync: bool = False) -> Callable[[], bytes]:
        """Send a read now, after a sync if asked for, and return a function that waits for it."""
        if sync:
            self._client.sync_async(path)
        sent = self._client.get_async(path)
        return lambda: bytes(self._wait(sent, f"getData {path}")[0])

    def write_and_read_later(self, path: str, data: bytes) -> Callable[[], bytes]:
        """Send a write and a read, and return a function that waits for what was read."""
        self._client.set_async(path, data)
        return self.read_later(path)

    def _read(self, request: Callable[[], Any], what: str) -> Any:
        """What changes nothing is asked again after a lost connection."""
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                return self._wait(request(), what)
            except NetworkError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_S)

    def _wait(self, result: Any, what: str) -> Any:
        try:
            return answer(self._client, result, _TIMEOUT_S)
        except NetworkError as error:
            raise NetworkError(f"{what}: {error.message}") from None
        except KazooException as error:
            raise RefusedError(_code(error), what) from None

    def _on_state(self, state: str) -> None:
        self.states.append(state)


@contextmanager
def open_plain(
    hosts: str, session_timeout_ms: int = DEFAULT_SESSION_TIMEOUT_MS
) -> Iterator[PlainClient]:
    """A session for the time of a `with`. UsageError if no server can be reached."""
    with opened(hosts, session_timeout_ms, round(_TIMEOUT_S * 1000)) as client:
        yield PlainClient(client)


def _as_kazoo(watch: Watch | None) -> Callable[[WatchedEvent], None] | None:
    if watch is None:
        return None

    def on_event(event: WatchedEvent) -> None:
        if event.type != EventType.NONE:  # that one says only that the watch is gone
            watch(event.type, event.path)

    return on_event


def _code(error: Exception) -> str:
    name = type(error).__name__
    return _CODES.get(name, name)
