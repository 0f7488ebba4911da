"""Long work on the loop, in slices: nobody else waits for the end of it.

    async for item in in_slices(request.topics):
        ...

goes through the items as `for` does, and lets others run whenever a slice has been used up. What is
in the middle of its work waits in one queue, of which one is let on in a turn of the loop: however
many work at the same time, everybody else waits for one slice of one of them.

What a slice leaves must be whole: while this waits, others change whatever they change.

    await aside(decode, frame)

is for work that cannot be cut: it goes on in a thread, one at a time over all doors, which has to
`give_way` to the loop often, since the two share one interpreter.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter, sleep
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

P = ParamSpec("P")
T = TypeVar("T")

SLICE_S = 0.01
UPKEEP = 0.1  # of a slice, for what nobody waits for: a request may meet one at each of its steps
_GIVE_WAY_S = 0.00005

_aside = ThreadPoolExecutor(1, "aside")  # its thread comes with the first work


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


class in_slices(AsyncIterator[T]):
    """The items, with a break whenever a slice has been used up since the last.

    No generator: a loop keeps account of those, which costs more than a short list of items."""

    __slots__ = ("_end_s", "_items", "_slice_s")

    def __init__(self, items: Iterable[T], share: float = 1.0) -> None:
        """`share`: how much of SLICE_S is a slice."""
        self._items = iter(items)
        self._slice_s = SLICE_S * share
        self._end_s = perf_counter() + self._slice_s

    async def __anext__(self) -> T:
        if perf_counter() >= self._end_s:
            await next_turn()
            self._end_s = perf_counter() + self._slice_s
        for item in self._items:
            return item
        raise StopAsyncIteration


async def aside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns or raises, done in the thread beside the loop."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_aside, partial(work, *args, **kwargs))


def give_way() -> None:
    """Let the loop have the interpreter, if it waits for it: for work that is done aside.

    A sleep of nothing would have it back before the other has woken."""
    sleep(_GIVE_WAY_S)
