"""Every callback of every asyncio loop in this process is timed, by the CPU time of its thread."""

from __future__ import annotations

import asyncio
import gc
import time
from types import TracebackType
from typing import Any, Self

# A step of a test itself may do what a test needs; what it calls directly is seen only if it is
# as slow as this.
_TESTS_MAY_MS = 1_000


class HeldLoops:
    """`found` are sentences about callbacks that took longer than `bound_ms`. What the garbage
    collector took meanwhile does not count: how much it has to look at is a matter of the tests
    that ran before."""

    def __init__(self, bound_ms: int) -> None:
        self._bound_s = bound_ms / 1000
        self._run = asyncio.Handle._run
        self._collecting_s = 0.0
        self._collected_s = 0.0
        self.found: list[str] = []

    def __enter__(self) -> Self:
        run, clock = asyncio.Handle._run, time.thread_time

        def timed(handle: asyncio.Handle) -> None:
            collected_s, start_s = self._collected_s, clock()
            described = handle._callback  # type: ignore[attr-defined]
            run(handle)  # type: ignore[arg-type]
            took_s = clock() - start_s
            if took_s > self._bound_s:
                self._judge(described, took_s - (self._collected_s - collected_s))

        self._run = run
        asyncio.Handle._run = timed  # type: ignore[method-assign,assignment]
        gc.callbacks.append(self._on_collection)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.Handle._run = self._run  # type: ignore[method-assign]
        gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collecting_s = time.thread_time()
        else:
            self._collected_s += time.thread_time() - self._collecting_s

    def _judge(self, callback: Any, took_s: float) -> None:
        task = getattr(callback, "__self__", None)
        coroutine = task.get_coro() if isinstance(task, asyncio.Task) else None
        code = getattr(coroutine, "cr_code", None)
        of_test = code is not None and "/tests/" in code.co_filename
        if took_s > (_TESTS_MAY_MS / 1000 if of_test else self._bound_s):
            what = getattr(coroutine, "__qualname__", None) or repr(callback)
            self.found.append(f"{what} held its loop for {took_s * 1000:.0f} ms of CPU")
