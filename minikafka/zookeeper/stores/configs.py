"""The configurations of topics and brokers, and the announcements of their changes.

Whoever writes a configuration announces it in the same transaction, under `/config/changes`, by a
node with a sequence number that names the topic or the broker; readers watch that folder. So what a
change costs a reader does not grow with the number of topics: it reads the announcements that it
has not read before, and what they name.

State: what is held of every node; the newest announcement that has been read. All is read anew when
nothing has been read on this connection, or when that announcement is gone (it outlived its use
meanwhile, or the folder was made anew), or when one does not say what has changed. Who writes by
hand announces it as well, or is heard of then.

A node that cannot be read counts as it was before, and is looked at again with every change; where
nothing is known of a topic's, nothing of the topic is deleted for its age or size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol, TypeVar

from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import ZnodeStat

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import StoreEvent
from minikafka.zookeeper import codec
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.session import ZooKeeperSession, gather_all
from minikafka.zookeeper.stores.fenced import FencedWriter
from minikafka.zookeeper.unreadable import UnreadableNodes
from minikafka.zookeeper.watches import Watches

# Every broker has read a configuration change long before, or will read everything anyway.
_CONFIG_CHANGE_LIFETIME_MS = 15 * 60 * 1000
_S_BETWEEN_PURGES = 60.0
_KEEP_ALL = {"retention.ms": "-1", "retention.bytes": "-1"}

T = TypeVar("T")


class ReadNode(Protocol):
    """(is it there, what it holds); one that cannot be read is watched."""

    def __call__(
        self, path: str, event: StoreEvent, decode: Callable[[bytes, ZnodeStat], T], /
    ) -> Awaitable[tuple[bool, T | None]]: ...


class ConfigNodes:
    """See the module. All calls raise SessionLostError and ZooKeeperError."""

    def __init__(
        self,
        session: ZooKeeperSession,
        layout: Layout,
        watches: Watches,
        unreadable: UnreadableNodes,
        fenced: FencedWriter,
        read: ReadNode,
    ) -> None:
        self._session = session
        self._layout = layout
        self._watches = watches
        self._unreadable = unreadable
        self._fenced = fenced
        self._read_node = read
        self._held: dict[str, dict[str, str]] = {}  # by path
        self._newest: str | None = None  # announcement that was read; None: all is to be read
        self._connection = 0
        self._reading = asyncio.Lock()
        self._purge_at_s = 0.0

    def on_new_connection(self) -> None:
        """Changes may have been announced, and the announcements purged, unseen."""
        self._connection += 1
        self._newest = None

    # --- reading ---------------------------------------------------------------------------------

    async def read(self, parent: str) -> dict[str, dict[str, str]]:
        """Overrides by topic, or by broker: of all nodes under one of the two folders."""
        async with self._reading:
            await self._catch_up()
        below = f"{parent}/"
        return {
            path.removeprefix(below): overrides
            for path, overrides in self._held.items()
            if path.startswith(below)
        }

    async def _catch_up(self) -> None:
        connection = self._connection
        folder = self._layout.config_changes
        names = await self._watches.children(folder, StoreEvent.CONFIG_CHANGED)
        announced = self._ours(f"{folder}/{name}" for name in names)
        paths = await self._announced_since(announced)
        if paths is None:
            paths = await self._all_paths()
        await gather_all([self._read(path) for path in paths])
        if self._connection == connection:
            self._newest = max(announced, default="")

    def _ours(self, paths: Iterable[str]) -> list[str]:
        return [path for path in paths if path.startswith(self._layout.config_change_prefix)]

    async def _announced_since(self, announced: list[str]) -> set[str] | None:
        """The nodes that have changed, and those that could not be read; None: who knows."""
        newest = self._newest
        if newest is None or (newest and newest not in announced):
            return None
        news = [path for path in announced if path > newest]
        found = await gather_all([self._session.get(path) for path in news])
        folders = (f"{self._layout.topic_configs}/", f"{self._layout.broker_configs}/")
        paths = {path for path in self._unreadable.nodes if path.startswith(folders)}
        for path, node in zip(news, found, strict=True):
            if node is None:
                return None
            try:
                changed = self._layout.config(codec.decode_config_change(path, node[0]))
            except CorruptNodeError:
                return None
            if changed is not None:
                paths.add(changed)
        return paths

    async def _all_paths(self) -> set[str]:
        """Also those that are held: some of them may be gone."""
        paths = set(self._held)
        for parent in (self._layout.topic_configs, self._layout.broker_configs):
            paths.update(await self._children(parent))
        return paths

    async def _children(self, parent: str) -> list[str]:
        names: list[str] = await self._session.repeat(
            lambda client: client.get_children_async(parent)
        )
        return [f"{parent}/{name}" for name in names]

    async def _read(self, path: str) -> None:
        there, overrides = await self._read_node(
            path, StoreEvent.CONFIG_CHANGED, lambda data, _: codec.decode_config(path, data)
        )
        if overrides is not None:
            self._held[path] = overrides
        elif there:
            of_topic = path.startswith(self._layout.topic_configs)
            self._held.setdefault(path, dict(_KEEP_ALL) if of_topic else {})
        else:
            self._held.pop(path, None)

    # --- writing ---------------------------------------------------------------------------------

    async def write(
        self, path: str, overrides: Mapping[str, str], entity_path: str
    ) -> WriteOutcome:
        """Fenced, and announced. WRITTEN or DEPOSED; CorruptNodeError for a node that holds what
        cannot be read."""
        data = codec.encode_config(overrides)
        outcome = await self._fenced.write_config(path, data, entity_path)
        if outcome is WriteOutcome.WRITTEN:
            await self.maybe_purge()
        return outcome

    async def maybe_purge(self) -> None:
        """Now and then, delete the announcements that have outlived their use, by ZooKeeper's own
        clock, which has dated the newest of them."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._purge_at_s:
            return
        self._purge_at_s = now_s + _S_BETWEEN_PURGES
        paths = self._ours(await self._children(self._layout.config_changes))
        nodes = await gather_all([self._session.get(path) for path in paths])
        dated = sorted(
            (node[1].mtime, path)
            for path, node in zip(paths, nodes, strict=True)
            if node is not None
        )
        for timestamp_ms, path in dated[:-1]:
            if timestamp_ms + _CONFIG_CHANGE_LIFETIME_MS <= dated[-1][0]:
                await self._delete_if_present(path)

    async def _delete_if_present(self, path: str) -> None:
        try:
            await self._session.repeat(lambda client: client.delete_async(path))
        except NoNodeError:
            return
