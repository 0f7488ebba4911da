"""A mirror of everything below a path of ZooKeeper, kept current by watches. Reads only.

State: the nodes as they were last read, and the paths that have to be read (again). A read arms
the node's watches before it reads, so no change falls between; what a watch tells is only that it
is time to read. Watches die with the connection, so after each new one everything is read again.

The mirror is bounded: beyond `limit` nodes further ones are not followed, and `is_whole` is false.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from kazoo.exceptions import NoNodeError

from minikafka.broker.ports import SessionLostError
from minikafka.errors import MinikafkaError
from minikafka.zookeeper.node import Node, node_stat
from minikafka.zookeeper.paths import Layout, split_connect
from minikafka.zookeeper.session import SessionChange, Watcher, ZooKeeperSession, gather_all

log = logging.getLogger(__name__)

_READS_AT_ONCE = 64
_RETRY_S = 0.5
_CONNECTION_TIMEOUT_MS = 5_000

# (changed nodes by path, gone paths); paths are under the chroot.
OnChange = Callable[[Mapping[str, Node], Collection[str]], None]
# (is connected, why not)
OnTouch = Callable[[bool, str], None]


class LiveTree:
    """`await run()` never returns; cancel it. Callbacks are called on its loop, never blocking."""

    def __init__(
        self,
        connect: str,
        on_change: OnChange,
        on_touch: OnTouch,
        *,
        session_timeout_ms: int = 6_000,
        limit: int = 5_000,
    ) -> None:
        """`connect`: `host:port,…[/chroot]`."""
        self._hosts, self.layout = split_connect(connect)
        self._session_timeout_ms = session_timeout_ms
        self._on_change = on_change
        self._on_touch = on_touch
        self._limit = limit
        self.nodes: dict[str, Node] = {}
        self._children: dict[str, frozenset[str]] = {}
        self._watchers: dict[str, Watcher] = {}
        self._to_read: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._session: ZooKeeperSession | None = None

    @property
    def is_whole(self) -> bool:
        return len(self.nodes) < self._limit

    async def run(self) -> None:
        """Follow the tree, through lost connections and lost sessions, for ever."""
        while True:
            session = ZooKeeperSession(
                self._hosts, self._session_timeout_ms, _CONNECTION_TIMEOUT_MS, self._on_session
            )
            self._session = session
            self._watchers.clear()
            try:
                await session.start()
                self._begin_again()
                await self._follow(session)
            except MinikafkaError as error:
                self._on_touch(False, error.message)
            finally:
                await session.close()
            await asyncio.sleep(_RETRY_S)

    def _on_session(self, change: SessionChange) -> None:
        if change is SessionChange.SUSPENDED:
            self._on_touch(False, "the connection to ZooKeeper is lost")
        else:
            self._begin_again()

    def _begin_again(self) -> None:
        for path in ["/", *self.nodes]:
            self._to_read[path] = None
        self._wake.set()

    async def _follow(self, session: ZooKeeperSession) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._to_read:
                paths = list(self._to_read)[:_READS_AT_ONCE]
                for path in paths:
                    del self._to_read[path]
                try:
                    found = await gather_all([self._read(session, path) for path in paths])
                except SessionLostError:
                    # Out of touch for long: all is read again with the next session.
                    self._to_read.update(dict.fromkeys(paths))
                    break
                self._take(dict(zip(paths, found, strict=True)))
            else:
                if session.connected:
                    self._on_touch(True, "")

    async def _read(
        self, session: ZooKeeperSession, path: str
    ) -> tuple[Node, frozenset[str]] | None:
        watcher = self._watchers.get(path)
        if watcher is None:
            watcher = self._watchers[path] = session.watcher(lambda: self._on_watch(path))
        real = self.layout.root + path.rstrip("/") or "/"
        try:
            # The names first: a child that comes after is told by its watch.
            names = await session.repeat(
                lambda client: client.get_children_async(real, watch=watcher)
            )
            data, stat = await session.repeat(lambda client: client.get_async(real, watch=watcher))
        except NoNodeError:
            return None
        return Node(path, data or b"", node_stat(stat)), frozenset(names)

    def _on_watch(self, path: str) -> None:
        self._to_read[path] = None
        self._wake.set()

    def _take(self, found: Mapping[str, tuple[Node, frozenset[str]] | None]) -> None:
        changed: dict[str, Node] = {}
        gone: set[str] = set()
        for path, read in found.items():
            if read is None:
                self._drop(path, gone)
                continue
            node, names = read
            if self.nodes.get(path) != node:
                self.nodes[path] = changed[path] = node
            before = self._children.get(path, frozenset())
            self._children[path] = names
            for name in before - names:
                self._drop(_join(path, name), gone)
            for name in sorted(names - before):
                if len(self.nodes) + len(self._to_read) < self._limit:
                    self._to_read[_join(path, name)] = None
        gone = {path for path in gone if path not in self.nodes}
        if changed or gone:
            self._on_change({p: n for p, n in changed.items() if p not in gone}, gone)

    def _drop(self, path: str, gone: set[str]) -> None:
        for name in self._children.pop(path, ()):
            self._drop(_join(path, name), gone)
        self._to_read.pop(path, None)
        self._watchers.pop(path, None)
        if self.nodes.pop(path, None) is not None:
            gone.add(path)


def _join(parent: str, name: str) -> str:
    return f"/{name}" if parent == "/" else f"{parent}/{name}"


__all__ = ["Layout", "LiveTree", "Node"]
