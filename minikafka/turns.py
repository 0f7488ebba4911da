"""Long work on the loop, in slices: nobody else waits for the end of it.

    async for item in in_slices(request.topics):
        ...

goes through the items as `for` does, and lets others run whenever SLICE_S has been used up. What is
in the middle of its work waits in one queue, of which one is let on in a turn of the loop: however
many work at the same time, everybody else waits for one slice of one of them.

What a slice leaves must be whole: while this waits, others change whatever they change.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from time import perf_counter
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

SLICE_S = 0.01


class _Queue:
    """Those that wait for their turn, first come first served: one in a turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def turn(self) -> None:
        mine = self._loop.create_future()
        if not self._waiting:
            self._loop.call_soon(self._next)
        self._waiting.append(mine)
        await mine

    def _next(self) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # else it was cancelled
                first.set_result(None)
                break
        if self._waiting:
            self._loop.call_soon(self._next)


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()


async def next_turn() -> None:
    """Let others run, and wait for the turn of this one."""
    loop = asyncio.get_running_loop()
    queue = _queues.get(loop)
    if queue is None:
        queue = _queues[loop] = _Queue(loop)
    await queue.turn()


async def in_slices(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, with a break whenever SLICE_S has been used up since the last."""
    end_s = perf_counter() + SLICE_S
    for item in items:
        if perf_counter() >= end_s:
            await next_turn()
            end_s = perf_counter() + SLICE_S
        yield item
