"""A folder in which changes are announced: nodes with sequence numbers, which name what changed.

Whoever changes something announces it in the same transaction; readers watch the folder, and read
what was announced since. So what a change costs a reader does not grow with what there is.

State: the newest announcement that was read. All is to be read where that is gone (it outlived its
use, or the folder was made anew), where nothing was read yet, and where very many have come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from kazoo.exceptions import NoNodeError

from minikafka.zookeeper.session import gather_all
from minikafka.zookeeper.stores.coordination import Znodes

MAX_NEWS = 1_000
# Every broker has read a change long before, or will read everything anyway.
LIFETIME_MS = 15 * 60 * 1000
_S_BETWEEN_PURGES = 60.0
_PURGED_AT_ONCE = 1_000


class News(NamedTuple):
    """`announced`: (path, data) in order; None: nobody can tell. `newest`: to be marked once what
    they name has been read."""

    announced: list[tuple[str, bytes]] | None
    newest: str


class Announcements:
    """`prefix`: a path up to the sequence number."""

    def __init__(self, znodes: Znodes, prefix: str) -> None:
        self._znodes = znodes
        self.prefix = prefix
        self._folder = prefix.rpartition("/")[0]
        self._newest: str | None = None
        self._purge_at_s = 0.0

    async def news(self, notify: Callable[[], None]) -> News:
        paths = await self._paths(notify)
        newest = max(paths, default="")
        before = self._newest
        if before is None or (before and before not in paths):
            return News(None, newest)
        fresh = [path for path in paths if path > before]
        if len(fresh) > MAX_NEWS:
            return News(None, newest)
        nodes = await self._znodes.session.get_many(fresh)
        announced = [
            (path, node[0]) for path, node in zip(fresh, nodes, strict=True) if node is not None
        ]
        return News(announced if len(announced) == len(fresh) else None, newest)

    def mark(self, news: News) -> None:
        """All that they name has been read."""
        self._newest = news.newest

    async def _paths(self, notify: Callable[[], None] | None = None) -> list[str]:
        names = await self._znodes.children(self._folder, notify)
        paths = [f"{self._folder}/{name}" for name in names]
        return [path for path in paths if path.startswith(self.prefix)]

    async def maybe_purge(self) -> None:
        """Now and then, delete those that have outlived their use, by ZooKeeper's own clock, which
        has dated the newest of them."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._purge_at_s:
            return
        self._purge_at_s = now_s + _S_BETWEEN_PURGES
        paths = await self._paths()
        if not paths:
            return
        old = sorted(paths)[:_PURGED_AT_ONCE]
        nodes = await self._znodes.session.get_many([*old, max(paths)])
        newest = nodes.pop()
        if newest is None:
            return
        gone_ms = newest[1].mtime - LIFETIME_MS
        await gather_all(
            [
                self._delete(path)
                for path, node in zip(old, nodes, strict=True)
                if node is not None and node[1].mtime <= gone_ms
            ]
        )

    async def _delete(self, path: str) -> None:
        try:
            await self._znodes.session.repeat(lambda client: client.delete_async(path))
        except NoNodeError:
            return  # by another
