"""Tells who holds the loop: for tests, and for a person who looks for a stall.

    MINIKAFKA_LOOP_WATCH=100              a broker logs an error when its loop was held for 100 ms
    MINIKAFKA_LOOP_WATCH=100:/some/file   and appends it to that file

What counts is the CPU time of the loop's thread between two beats of a timer, not the time on the
wall: a machine that is busy with others makes nothing slower here. While a beat is due, a thread
looks where the loop is; so the line says what it did.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

VARIABLE = "MINIKAFKA_LOOP_WATCH"
_BEAT_S = 0.01


class Wanted(NamedTuple):
    """What VARIABLE says."""

    bound_ms: int
    file: str


def wanted() -> Wanted | None:
    """None where nobody asks for a watch."""
    bound, _, file = os.environ.get(VARIABLE, "").partition(":")
    return Wanted(int(bound), file) if bound.isdigit() else None


class LoopWatch:
    """`on_held` gets the milliseconds and the lines of the stack, on the loop, afterwards. To be
    started and stopped on the loop that it is to watch."""

    def __init__(self, bound_ms: int, on_held: Callable[[int, str], None]) -> None:
        self._bound_s = bound_ms / 1000
        self._on_held = on_held
        self._thread_id = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._thread_id)
        self._beat_cpu_s = time.thread_time()
        self._beats = 0
        self._seen = ""
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="loop watch", daemon=True)

    def start(self) -> None:
        self._beat_cpu_s = time.thread_time()
        self._arm()
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        self._thread.join()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_BEAT_S, self._beat)

    def _beat(self) -> None:
        now_s = time.thread_time()
        held_s, self._beat_cpu_s = now_s - self._beat_cpu_s, now_s
        self._beats += 1
        seen, self._seen = self._seen, ""
        if held_s > self._bound_s:
            self._on_held(round(held_s * 1000), seen or "nobody saw by what")
        self._arm()

    def _look(self) -> None:
        looked_at = -1
        while not self._stopped.wait(_BEAT_S):
            beats, beat_cpu_s = self._beats, self._beat_cpu_s
            if beats == looked_at or time.clock_gettime(self._clock) - beat_cpu_s < self._bound_s:
                continue
            frame = sys._current_frames().get(self._thread_id)
            if frame is not None and beats == self._beats:
                self._seen = _lines(frame)
                looked_at = beats


def _lines(frame: FrameType) -> str:
    """The stack as one line a frame, the innermost last, without what every loop has."""
    summary = traceback.extract_stack(frame)
    own = [each for each in summary if "/asyncio/" not in each.filename]
    return "; ".join(
        f"{each.name} ({each.filename.rpartition('/')[2]}:{each.lineno})" for each in own[-8:]
    )
