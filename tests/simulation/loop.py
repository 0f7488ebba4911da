"""An asyncio event loop in virtual time, on which every process of a simulated cluster runs.

State: the time, what is ready to run, and a heap of timers. Nothing waits for anything: when
nothing is ready the time jumps to the next timer. No selector, no thread, no real clock, and ties
are broken by order of creation; so what runs when depends on nothing but what was asked for.

A `Process` is a group of callbacks that can be held (SIGSTOP) or dropped for good (SIGKILL): every
callback and task carries its process in its context (`contextvars`), as do those that it makes. A
process that was killed runs no code at all any more, not even `finally`: its handles are dropped
but kept until the end of the life, so that no coroutine of it is closed in the middle of things.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from enum import Enum
from heapq import heappop, heappush
from math import inf
from typing import Any

from minikafka import turns

START_S = 1_000.0
OFF_LOOP_S = 0.003  # how long work in a thread takes
# So many callbacks without any time passing: something runs in circles.
MAX_CALLBACKS_AT_ONCE = 100_000


class Status(Enum):
    """RUNNING, HELD (SIGSTOP) or ENDED."""

    RUNNING = "running"
    HELD = "held"
    ENDED = "ended"


class Process:
    """What belongs together and stops together. `context` is for everything that starts in it."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.name = name
        self.status = Status.RUNNING
        self.loop = loop
        self.held: list[Handle] = []
        self.dropped: list[Handle] = []
        self.context = contextvars.copy_context()
        self.context.run(CURRENT.set, self)

    @property
    def running(self) -> bool:
        return self.status is Status.RUNNING

    @property
    def ended(self) -> bool:
        return self.status is Status.ENDED

    def hold(self) -> None:
        if self.status is Status.RUNNING:
            self.status = Status.HELD

    def go_on(self) -> None:
        """What became due meanwhile runs now, in the order in which it became due."""
        if self.status is Status.HELD:
            self.status = Status.RUNNING
            self.loop.ready_again(self.held)
            self.held = []

    def end(self) -> None:
        self.status = Status.ENDED
        self.dropped += self.held
        self.held = []

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of this process, made from outside."""
        return self.loop.create_task(work, context=self.context)


CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Handle:
    """A callback that waits for its turn. `when` is 0 unless it is a timer."""

    __slots__ = ("_args", "_callback", "_context", "_is_cancelled", "_when")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[object, ...],
        context: contextvars.Context,
        when: float = 0.0,
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._is_cancelled = False
        self._when = when

    def cancel(self) -> None:
        self._is_cancelled = True

    def cancelled(self) -> bool:
        return self._is_cancelled

    def when(self) -> float:
        return self._when


class CirclingError(Exception):
    """Callbacks make callbacks for ever and no time passes."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """`on_exception` hears of exceptions that no task or future carries."""

    def __init__(self, on_exception: Callable[[dict[str, Any]], None]) -> None:
        self._now = START_S
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._sequence = 0
        self._on_exception = on_exception
        self.handles_run = 0

    # --- running ---------------------------------------------------------------------------------

    def run_for(self, duration_s: float) -> None:
        """Let the world run for so long."""
        self.run_until(self._now + duration_s)

    def run_until(self, end_s: float) -> None:
        timers = self._timers
        before = events._get_running_loop(), turns.SLICE_S
        events._set_running_loop(self)
        turns.SLICE_S = inf  # where work is cut would depend on the real clock
        try:
            self._run_ready()
            while timers and timers[0][0] <= end_s:
                when, _, handle = heappop(timers)
                if handle._is_cancelled:
                    continue
                if when > self._now:
                    self._now = when
                self._ready.append(handle)
                self._run_ready()
            self._now = end_s
        finally:
            events._set_running_loop(before[0])
            turns.SLICE_S = before[1]

    def _run_ready(self) -> None:
        ready, current = self._ready, CURRENT
        count = 0
        while ready:
            handle = ready.popleft()
            if handle._is_cancelled:
                continue
            process = handle._context.get(current)
            if process is not None and process.status is not Status.RUNNING:
                # Held for later, or dropped.
                (process.held if process.status is Status.HELD else process.dropped).append(handle)
                continue
            count += 1
            if count > MAX_CALLBACKS_AT_ONCE:
                raise CirclingError(f"{handle._callback!r} {handle._args!r}")
            try:
                handle._context.run(handle._callback, *handle._args)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                self._on_exception({"message": "a callback failed", "exception": error})
        self.handles_run += count

    def ready_again(self, handles: list[Handle]) -> None:
        self._ready.extend(handles)

    # --- the loop's interface, as far as it is used ----------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: object,
        context: contextvars.Context | None = None,
    ) -> Handle:  # type: ignore[override]
        handle = Handle(callback, args, context or contextvars.copy_context())
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def run_in_executor(  # type: ignore[override]
        self, executor: None, func: Callable[..., Any], *args: object
    ) -> asyncio.Future[Any]:
        """There are no threads: the work takes a while, and is done then, in one go."""
        done: asyncio.Future[Any] = self.create_future()

        def work() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:
                done.set_exception(error)

        self.call_later(OFF_LOOP_S, work)
        return done

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: object,
        context: contextvars.Context | None = None,
    ) -> Handle:  # type: ignore[override]
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: object,
        context: contextvars.Context | None = None,
    ) -> Handle:  # type: ignore[override]
        handle = Handle(callback, args, context or contextvars.copy_context(), when)
        self._sequence += 1
        heappush(self._timers, (when, self._sequence, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        return task

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: Handle) -> None:
        """asyncio's own handles tell; ours are passed over when their time comes."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Only of failures that are found while things run: one that comes to light when an object
        is collected comes at a time that depends on the collector."""
