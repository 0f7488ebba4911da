"""The account of what clients make a broker hold, over all doors and connections
(queued.max.request.bytes).

One half is for what arrives: requests of which a part is there, and whole ones that are not started
yet. The other is for what is under way: requests that are not answered yet, and answers that their
clients have not read. While that half is full no door starts another request; while the first is,
doors stop reading (kafka/arriving.py says whom). Neither keeps the other from becoming less.

docs/decisions/0013-memory-of-clients.md has the reasons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class RequestMemory:
    """`used_bytes` is what is under way, `arriving_bytes` what arrives. Requests are started while
    the limit of their half is not reached, so the last one may go beyond it."""

    def __init__(self, limit_bytes: int) -> None:
        self.half_bytes = max(1, limit_bytes // 2)
        self.used_bytes = 0
        self.arriving_bytes = 0
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def has_room(self) -> bool:
        return self.used_bytes < self.half_bytes

    @property
    def scarce(self) -> bool:
        """Half of it is in use: who does not read its answers keeps others from theirs."""
        return 2 * self.used_bytes >= self.half_bytes

    @property
    def read_room_bytes(self) -> int:
        """How much one fetch may read now: half of what is left, so that there is always some."""
        return max(0, self.half_bytes - self.used_bytes) // 2

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

    def hand_over(self, size_bytes: int, turns: int = 4) -> None:
        """What was taken, and is handed to a door now, counts until the door has taken it over,
        which it does in the next turns of the loop."""
        if not size_bytes:
            return
        if turns:
            asyncio.get_running_loop().call_soon(self.hand_over, size_bytes, turns - 1)
        else:
            self.give_back(size_bytes)

    def arrive(self, size_bytes: int) -> None:
        """More has arrived, or less of it is left."""
        self.arriving_bytes += size_bytes
        assert self.arriving_bytes >= 0
