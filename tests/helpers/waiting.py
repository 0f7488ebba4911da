"""Waiting for conditions, with a deadline."""

from __future__ import annotations

import asyncio
import inspect
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
