"""A plain read-only client for people: `minikafka zk tree|get|ls|watch PATH`. Synchronous.

Paths are under the chroot of the connect string, if it has one. A server of an ensemble may lag
behind; a linearizable read begins with `sync`, after which it shows nothing older than the moment
when it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError

from minikafka.broker.ports import Takeover
from minikafka.errors import UsageError
from minikafka.zookeeper import codec
from minikafka.zookeeper.client import answer, opened
from minikafka.zookeeper.errors import NodeNotFoundError, ZooKeeperError
from minikafka.zookeeper.node import Node, join_path, node_stat
from minikafka.zookeeper.paths import Layout, split_connect
from minikafka.zookeeper.stores.candidates import broker_of, in_order

if TYPE_CHECKING:
    from minikafka.zookeeper.looking.watching import NodeWatch

DEFAULT_TIMEOUT_MS = 10_000
_READS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class ControllerView:
    """`queue`: broker ids, first in line first. `names` of the live brokers."""

    controller_id: int  # -1: nobody
    since_timestamp_ms: int | None
    controller_epoch: int  # -1: there never was one
    takeover: Takeover | None  # of this controller or, for a moment, of the one before
    queue: tuple[int, ...]
    names: dict[int, str]


class Inspector:
    """Reads of one connection. NodeNotFoundError if the path is not there, NetworkError if the
    connection is lost or an answer takes longer than the timeout."""

    def __init__(
        self, client: KazooClient, root: str, timeout_ms: int, *, linearizable: bool = False
    ) -> None:
        self._client = client
        self._root = root
        self._timeout_ms = timeout_ms
        self._timeout_s = timeout_ms / 1000
        self._linearizable = linearizable

    def get(self, path: str) -> Node:
        path = _checked(path)
        self._begin()
        found = self._read([path])[0]
        if found is None:
            raise NodeNotFoundError(path)
        return found[0]

    def ls(self, path: str) -> list[str]:
        """The names of the children, in order."""
        path = _checked(path)
        self._begin()
        found = self._read([path])[0]
        if found is None:
            raise NodeNotFoundError(path)
        return found[1]

    def tree(self, path: str = "/") -> Node:
        """The node with everything below it. What vanishes while it is read is left out."""
        path = _checked(path)
        self._begin()
        nodes: dict[str, tuple[Node, list[str]]] = {}
        level = [path]
        while level:
            found = [node for node in self._read(level) if node is not None]
            nodes.update((node.path, (node, names)) for node, names in found)
            level = [join_path(node.path, name) for node, names in found for name in names]
        if path not in nodes:
            raise NodeNotFoundError(path)
        return _assemble(path, nodes)

    def controller(self) -> ControllerView:
        """Who is controller, how it came to be it, and who waits."""
        self._begin()
        layout = Layout()
        paths = [layout.controller, layout.controller_epoch, layout.controller_queue]
        controller, epoch, queue, ids = self._read([*paths, layout.broker_ids])
        names: dict[int, str] = {}
        if ids is not None:
            for found in self._read(
                [layout.broker(int(name)) for name in ids[1] if name.isdecimal()]
            ):
                if found is not None:
                    number = int(found[0].name)
                    names[number] = codec.decode_broker(
                        found[0].path, found[0].data, number, 0
                    ).name
        node, data = None, b""
        if controller is not None:
            node = codec.decode_controller(layout.controller, controller[0].data)
        if queue is not None:
            data = queue[0].data
        return ControllerView(
            controller_id=-1 if node is None else node.broker_id,
            since_timestamp_ms=None if node is None else node.timestamp_ms,
            controller_epoch=(
                codec.decode_controller_epoch(layout.controller_epoch, epoch[0].data)
                if epoch is not None
                else -1
            ),
            takeover=codec.decode_takeover(layout.controller_queue, data) if data else None,
            queue=tuple(
                broker_id
                for name in in_order(queue[1] if queue is not None else ())
                if (broker_id := broker_of(name)) is not None
            ),
            names=names,
        )

    def watch(self, path: str, *, recursive: bool = False) -> NodeWatch:
        """What is there and what happens, by its `changes`."""
        from minikafka.zookeeper.looking.watching import NodeWatch

        return NodeWatch(
            self._client,
            self._root,
            _checked(path),
            recursive=recursive,
            timeout_ms=self._timeout_ms,
        )

    def _begin(self) -> None:
        if self._linearizable:
            self._wait("/", self._client.sync_async("/"))

    def _read(self, paths: Sequence[str]) -> list[tuple[Node, list[str]] | None]:
        """Each node with the names of its children; None where there is none."""
        read: list[tuple[Node, list[str]] | None] = []
        for start in range(0, len(paths), _READS_AT_ONCE):
            requests = [
                (
                    path,
                    self._client.get_async(self._root + path.rstrip("/") or "/"),
                    self._client.get_children_async(self._root + path.rstrip("/") or "/"),
                )
                for path in paths[start : start + _READS_AT_ONCE]
            ]
            read += [self._answer(path, data, children) for path, data, children in requests]
        return read

    def _answer(self, path: str, data: Any, children: Any) -> tuple[Node, list[str]] | None:
        try:
            found, stat = self._wait(path, data)
            names = self._wait(path, children)
        except NoNodeError:
            return None
        return Node(path, found, node_stat(stat)), sorted(names)

    def _wait(self, path: str, result: Any) -> Any:
        try:
            return answer(self._client, result, self._timeout_s)
        except NoNodeError:
            raise
        except KazooException as error:
            raise ZooKeeperError(f"ZooKeeper refused to read {path}: {error!r}") from None


@contextmanager
def open_inspector(
    connect: str, timeout_ms: int = DEFAULT_TIMEOUT_MS, *, linearizable: bool = False
) -> Iterator[Inspector]:
    """Connect to `host:port,…[/chroot]`. UsageError if no server can be reached in time."""
    hosts, layout = split_connect(connect)
    with opened(hosts, timeout_ms, timeout_ms) as client:
        yield Inspector(client, layout.root, timeout_ms, linearizable=linearizable)


def _checked(path: str) -> str:
    if path == "/":
        return path
    if not path.startswith("/") or path.endswith("/") or "//" in path:
        raise UsageError(f"{path!r} is no path of a node: expected one like /brokers/ids")
    return path


def _assemble(path: str, nodes: dict[str, tuple[Node, list[str]]]) -> Node:
    node, names = nodes[path]
    paths = [join_path(path, name) for name in names]
    children = tuple(_assemble(child, nodes) for child in paths if child in nodes)
    return Node(node.path, node.data, node.stat, children)
