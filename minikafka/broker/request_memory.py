"""The memory of requests that are not answered yet, over all doors and connections of a broker
(queued.max.request.bytes). When it is full, doors stop reading until answers have left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class RequestMemory:
    """A request is let in while the limit is not reached; besides, each connection may hold one
    that is not let in yet."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.used_bytes = 0
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def has_room(self) -> bool:
        return self.used_bytes < self._limit_bytes

    async def wait_for_room(self) -> None:
        while not self.has_room:
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def wake(room: asyncio.Future[None] = room) -> None:
                if not room.done():
                    room.set_result(None)

            self.call_when_room(wake)
            await room

    def call_when_room(self, wake: Callable[[], None]) -> None:
        """Call `wake` once, when there may be room again; it looks for itself."""
        self._waiting[wake] = None

    def take(self, size_bytes: int) -> None:
        self.used_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        self.used_bytes -= size_bytes
        assert self.used_bytes >= 0
        if self._waiting and self.has_room:
            waiting, self._waiting = self._waiting, {}
            for wake in waiting:
                wake()
