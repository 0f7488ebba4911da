"""Waiting for conditions, with a deadline."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 20.0
_POLL_S = 0.02


async def until(probe: Callable[[], T | Awaitable[T]], deadline_s: float = DEADLINE_S) -> T:
    """The first true value of `probe`, which may be a coroutine function."""
    end = time.monotonic() + deadline_s
    never = asyncio.Event()
    while True:
        found = probe()
        value: T = await found if inspect.isawaitable(found) else found
        if value:
            return value
        assert time.monotonic() < end, f"still {value!r} after {deadline_s:g} s"
        try:
            await asyncio.wait_for(never.wait(), _POLL_S)
        except TimeoutError:
            continue


def happens(probe: Callable[[], T], within_s: float) -> T:
    """For tests without a loop: the first true value of `probe`, or what it is when the time is
    over."""
    end = time.monotonic() + within_s
    never = threading.Event()
    while not (found := probe()):
        left_s = end - time.monotonic()
        if left_s <= 0:
            break
        never.wait(min(_POLL_S, left_s))
    return found
