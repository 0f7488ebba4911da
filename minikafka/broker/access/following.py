"""What keeps a cache up to date with ZooKeeper.

State: whether something may have changed that was not read yet, and since when (`behind_ms`);
whether only reading all will do: at first, and after each new connection, since changes may have
been announced, and the announcements have gone, unseen. One reads at a time.

Out of touch, the cache goes on as it is, and tells its age.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from minikafka.broker.ports import SessionLostError, StoreEvent
from minikafka.errors import MinikafkaError

log = logging.getLogger(__name__)

RETRY_S = 1.0

Read = Callable[[bool], Awaitable[None]]


class Following:
    """`read(everything)` brings the cache up to date, and has `on_change` called when something
    changes after that. `what` is followed, for the log."""

    def __init__(self, what: str, read: Read, now_ms: Callable[[], int]) -> None:
        self._what = what
        self._read = read
        self._now_ms = now_ms
        self._due = asyncio.Event()
        self._everything = True
        self._behind_since_ms: int | None = now_ms()
        self._turn = asyncio.Lock()

    def on_change(self) -> None:
        """Something may have changed. A bound method is the same each time, by equality, so that
        one watch is set for it."""
        if self._behind_since_ms is None:
            self._behind_since_ms = self._now_ms()
        self._due.set()

    def on_store_event(self, event: StoreEvent) -> None:
        if event is StoreEvent.SUSPENDED and self._behind_since_ms is None:
            self._behind_since_ms = self._now_ms()
        elif event in (StoreEvent.RECONNECTED, StoreEvent.LOST):
            self._everything = True
            self.on_change()

    def behind_ms(self) -> int:
        """0: what is known here is all that there is. Else for how long that is not sure."""
        return 0 if self._behind_since_ms is None else self._now_ms() - self._behind_since_ms

    async def catch_up(self) -> None:
        """Read what was written before this was called. Raises SessionLostError, MinikafkaError."""
        async with self._turn:
            everything, self._everything = self._everything, False
            self._due.clear()
            try:
                await self._read(everything)
            except BaseException:
                self._everything |= everything
                self.on_change()
                raise
            if not self._due.is_set():
                self._behind_since_ms = None

    async def run(self) -> None:
        """Catch up whenever something has changed, for ever. That it cannot be done is told
        once."""
        failing = False
        while True:
            await self._due.wait()
            try:
                await self.catch_up()
                failing = False
            except (SessionLostError, MinikafkaError) as error:
                level = logging.DEBUG if failing else logging.WARNING
                failing = True
                log.log(level, "%s cannot be read anew, what is known holds: %s", self._what, error)
                await asyncio.sleep(RETRY_S)
