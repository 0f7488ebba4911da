"""A timer for each of many things, known by name.

A deadline that has moved on is noticed when the old one has come: one that moves with every
heartbeat costs no timer. When a timer is due is kept here: on uvloop one that is due at once is a
plain handle and cannot say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    """`now_ms` is the clock of the deadlines; `on_due(name)` is called when one has come, or would
    have if it had not moved on: whoever is called looks for itself, and arms anew."""

    def __init__(self, now_ms: Callable[[], int], on_due: Callable[[str], None]) -> None:
        self._now_ms = now_ms
        self._on_due = on_due
        self._loop = asyncio.get_running_loop()
        self._armed: dict[str, tuple[float, asyncio.Handle]] = {}  # when, of the loop's time

    def arm(self, name: str, deadline_ms: int | None) -> None:
        """None: nothing is waited for."""
        if deadline_ms is None:
            self.cancel(name)
            return
        when_s = self._loop.time() + max(deadline_ms - self._now_ms(), 0) / 1000
        if (armed := self._armed.get(name)) is not None:
            armed_s, timer = armed
            if armed_s <= when_s:
                return
            timer.cancel()
        self._armed[name] = (when_s, self._loop.call_at(when_s, self._on_timer, name))

    def cancel(self, name: str) -> None:
        if (armed := self._armed.pop(name, None)) is not None:
            armed[1].cancel()

    def close(self) -> None:
        for _, timer in self._armed.values():
            timer.cancel()
        self._armed.clear()

    def _on_timer(self, name: str) -> None:
        del self._armed[name]
        self._on_due(name)
