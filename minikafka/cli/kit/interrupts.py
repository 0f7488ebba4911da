"""Ctrl-C and its relatives (SIGTERM, SIGHUP) for commands that have something to end.

A signal does what the command asked for last: at first it raises KeyboardInterrupt, so that a start
is broken off and cleaned up; later it may set an event, or say "hurry" to a shutdown under way.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _raise() -> None:
    raise KeyboardInterrupt


class Interrupts:
    """`with Interrupts() as interrupts: ...` in the main thread. `count`: signals so far."""

    def __init__(self) -> None:
        self.count = 0
        self._action: Callable[[], object] = _raise
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def then(self, action: Callable[[], object]) -> None:
        """From now on a signal calls `action`, in the main thread."""
        self._action = action

    def ignore_but_count(self) -> Callable[[], bool]:
        """From now on signals only count. Returns a function that says whether one came since."""
        begin = self.count
        self._action = lambda: None
        return lambda: self.count > begin

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self._action()
