"""Watches of ZooKeeper, and the events that they become.

A read arms the watch of its node and reads in one request, so no change falls between. A watch is
good for one event and dies with the connection: `rearm` sets every watch again that a read has set
since the start. What the event tells is only that it is time to read again.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import ZnodeStat

from minikafka.broker.ports import StoreEvent
from minikafka.zookeeper.errors import ZooKeeperError
from minikafka.zookeeper.session import Watcher, ZooKeeperSession, gather_all

_Kind = Literal["children", "data"]


class EventQueue(asyncio.Queue[StoreEvent]):
    """A queue that holds each event at most once: one that comes again moves to the end. So it is
    bounded, and the last change of the session is always heard after those before it."""

    def _init(self, maxsize: int) -> None:
        self._events: dict[StoreEvent, None] = {}
        # asyncio.Queue asks this for the number of events.
        self._queue = self._events

    def _put(self, item: StoreEvent) -> None:
        self._events.pop(item, None)
        self._events[item] = None

    def _get(self) -> StoreEvent:
        event = next(iter(self._events))
        del self._events[event]
        return event


class Watches:
    """Reads that arm watches. `_armed` is every (kind, path) that was read, with its event."""

    def __init__(self, session: ZooKeeperSession, events: EventQueue) -> None:
        self._session = session
        self._events = events
        self._armed: dict[tuple[_Kind, str], StoreEvent] = {}
        self._watchers: dict[StoreEvent, Watcher] = {}

    async def children(self, path: str, event: StoreEvent) -> list[str]:
        """The children of `path`, one of the persistent nodes; `event` when they change."""
        watcher = self._arm("children", path, event)
        try:
            found: list[str] = await self._session.repeat(
                lambda client: client.get_children_async(path, watch=watcher)
            )
        except NoNodeError:
            raise ZooKeeperError(f"{path} is gone from ZooKeeper: a broker's start makes it") from (
                None
            )
        return found

    async def data(self, path: str, event: StoreEvent) -> tuple[bytes, ZnodeStat] | None:
        """What `path` holds, or None if it is not there; `event` when it is made, changed or
        deleted."""
        watcher = self._arm("data", path, event)
        while True:
            found = await self._session.get(path, watcher)
            if found is not None or not await self._exists(path, watcher):
                return found

    async def existing(self, path: str, event: StoreEvent) -> tuple[bytes, ZnodeStat] | None:
        """As `data`, for who does not wait for `path` to be made: if it is not there, nothing is
        watched."""
        found = await self._session.get(path, self._arm("data", path, event))
        if found is None:
            self.forget(path)
        return found

    async def once(self, path: str, event: StoreEvent) -> tuple[bytes, ZnodeStat] | None:
        """As `existing`, for this connection only."""
        found = await self.existing(path, event)
        self.forget(path)
        return found

    def keep_only(self, event: StoreEvent) -> None:
        """Arm nothing else again, unless it is read again."""
        self._armed = {key: armed for key, armed in self._armed.items() if armed is event}

    def forget(self, path: str) -> None:
        """Do not arm the data watch of `path` again, unless it is read again."""
        self._armed.pop(("data", path), None)

    async def rearm(self) -> None:
        """Arm everything again, after a new connection."""
        await gather_all(
            [self._rearm(kind, path, event) for (kind, path), event in self._armed.items()]
        )

    async def _rearm(self, kind: _Kind, path: str, event: StoreEvent) -> None:
        watcher = self._arm(kind, path, event)
        if kind == "data":
            await self._exists(path, watcher)
            return
        try:
            await self._session.repeat(
                lambda client: client.get_children_async(path, watch=watcher)
            )
        except NoNodeError:
            # Gone since it was read: whoever reads it again hears so.
            self._armed.pop((kind, path), None)

    async def _exists(self, path: str, watcher: Watcher) -> Any:
        return await self._session.repeat(lambda client: client.exists_async(path, watch=watcher))

    def _arm(self, kind: _Kind, path: str, event: StoreEvent) -> Watcher:
        self._armed[kind, path] = event
        watcher = self._watchers.get(event)
        if watcher is None:
            watcher = self._session.watcher(lambda: self._events.put_nowait(event))
            self._watchers[event] = watcher
        return watcher
