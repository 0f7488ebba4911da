"""What happens to a znode, or to all below it, as it happens: `minikafka zk watch`. Synchronous.

ZooKeeper's watches are hints, each good for one event: this reads a node with its watches set,
compares with what it knew, tells the difference, and waits for the next hint. So between two reads
several changes may have become one (the version tells), but the last one is always told. Watches
die with the connection; when it is back everything is read again.

State: what is known of each node. kazoo's threads only put hints into a queue.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import EventType, KazooState, WatchedEvent

from minikafka.zookeeper.client import answer
from minikafka.zookeeper.errors import ConnectionLostError
from minikafka.zookeeper.node import Node, join_path, node_stat

_POLL_S = 0.5  # how long Ctrl-C may wait


class What(Enum):
    PRESENT = "present"  # at the beginning
    ABSENT = "absent"  # at the beginning
    CREATED = "created"
    CHANGED = "changed"  # the data were set
    DELETED = "deleted"
    CHILDREN = "children"  # came or went; only of a node whose children are not watched themselves
    DISCONNECTED = "disconnected"
    CONNECTED = "connected"  # again: everything has been read anew


@dataclass(frozen=True, slots=True)
class Change:
    """`node` is the node as it is now, where it is there. `added` and `removed` are names."""

    what: What
    path: str
    timestamp_ms: int
    node: Node | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class _Hint(Enum):
    STOP = "stop"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


class NodeWatch:
    """Over a started client. `root`: the chroot; paths are below it."""

    def __init__(
        self, client: KazooClient, root: str, path: str, *, recursive: bool, timeout_ms: int
    ) -> None:
        self._client = client
        self._root = root
        self._path = path
        self._recursive = recursive
        self._timeout_s = timeout_ms / 1000
        self._known: dict[str, tuple[Node, frozenset[str]]] = {}
        self._hints: queue.SimpleQueue[str | _Hint] = queue.SimpleQueue()
        self._began = False

    def stop(self) -> None:
        """End `changes`; from any thread."""
        self._hints.put(_Hint.STOP)

    def changes(self) -> Iterator[Change]:
        """First what there is, then what happens, until `stop`."""
        self._client.add_listener(self._on_state)
        try:
            yield from self._begin()
            while True:
                try:
                    hint = self._hints.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if hint is _Hint.STOP:
                    return
                if hint is _Hint.DISCONNECTED:
                    yield self._change(What.DISCONNECTED, self._path)
                elif hint is _Hint.CONNECTED:
                    yield self._change(What.CONNECTED, self._path)
                    yield from self._look_at_all()
                elif isinstance(hint, str) and self._is_watched(hint):
                    yield from self._look(hint)
        finally:
            self._client.remove_listener(self._on_state)

    # --- kazoo's threads ---

    def _on_event(self, event: WatchedEvent) -> None:
        if event.type != EventType.NONE:
            self._hints.put(event.path[len(self._root) :] or "/")

    def _on_state(self, state: str) -> None:
        connected = state == KazooState.CONNECTED
        self._hints.put(_Hint.CONNECTED if connected else _Hint.DISCONNECTED)

    # --- looking ---

    def _is_watched(self, path: str) -> bool:
        return path == self._path or path in self._known

    def _begin(self) -> Iterator[Change]:
        found = list(self._look(self._path))
        self._began = True
        yield from found or [self._change(What.ABSENT, self._path)]

    def _look_at_all(self) -> Iterator[Change]:
        for path in [self._path, *self._known]:
            if self._is_watched(path):
                yield from self._look(path)

    def _look(self, path: str) -> list[Change]:
        """Read a node and say what is new. Out of touch: nothing, as all will be read again."""
        try:
            found = self._read(path)
        except ConnectionLostError:
            return []
        known = self._known.get(path)
        if found is None:
            return self._gone(path)
        node, names = found
        changes: list[Change] = []
        if known is not None and known[0].stat.czxid != node.stat.czxid:
            changes += self._gone(path)
            known = None
        self._known[path] = (node, names)
        if known is None:
            what = What.CREATED if self._began else What.PRESENT
            changes.append(self._change(what, path, node))
        elif known[0].stat.version != node.stat.version:
            changes.append(self._change(What.CHANGED, path, node))
        before = known[1] if known is not None else frozenset()
        added, removed = tuple(sorted(names - before)), tuple(sorted(before - names))
        if self._recursive:
            for name in (*removed, *added):
                changes += self._look(join_path(path, name))
        elif known is not None and (added or removed):
            changes.append(self._change(What.CHILDREN, path, node, added, removed))
        return changes

    def _gone(self, path: str) -> list[Change]:
        """What was known there and below, the deepest first."""
        below = "" if path == "/" else path
        gone = [known for known in self._known if known == path or known.startswith(f"{below}/")]
        gone.sort(key=lambda known: (-known.count("/"), known))
        for known in gone:
            del self._known[known]
        return [self._change(What.DELETED, known) for known in gone]

    def _read(self, path: str) -> tuple[Node, frozenset[str]] | None:
        """With the watches set. Of the path itself also the one for its creation."""
        full = (self._root + path).rstrip("/") or "/"
        while True:
            try:
                data, stat = self._answer(self._client.get_async(full, watch=self._on_event))
                names = self._answer(self._client.get_children_async(full, watch=self._on_event))
                return Node(path, data, node_stat(stat)), frozenset(names)
            except NoNodeError:
                if path != self._path:
                    return None
            if self._answer(self._client.exists_async(full, watch=self._on_event)) is None:
                return None

    def _answer(self, result: Any) -> Any:
        return answer(self._client, result, self._timeout_s)

    def _change(
        self,
        what: What,
        path: str,
        node: Node | None = None,
        added: tuple[str, ...] = (),
        removed: tuple[str, ...] = (),
    ) -> Change:
        return Change(what, path, int(time.time() * 1000), node, added, removed)
