"""The thread behind the clients for code without asyncio (sync.py), and how they call into it.

One background thread of the process runs one event loop (uvloop where there is one) for all of
them, from the first client to the last: gRPC's asyncio side wants to live in one loop. Nothing of
the async clients is touched from another thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from minikafka.errors import UsageError

_T = TypeVar("_T")


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class LoopThread:
    """The background thread, counted: it ends with the last client that uses it, and a later client
    starts another one. The loop stays: gRPC may still have a word for it after a client is closed,
    and must not find it closed as well."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def acquire(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            self._users += 1
            if self._loop is None:
                self._loop = _new_event_loop()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="minikafka-client", daemon=True
                )
                self._thread.start()
            return self._loop

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._loop is None or self._thread is None:
                return
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._thread = None


loop_thread = LoopThread()


class Blocking:
    """What the three clients share: an async client on the background loop."""

    def __init__(self) -> None:
        self._loop = loop_thread.acquire()
        self._open = True
        self._close_lock = threading.Lock()

    def _call(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float | None = None) -> _T:
        """Run it on the loop and wait. TimeoutError cancels it."""
        if asyncio._get_running_loop() is self._loop:
            coroutine.close()
            raise UsageError(
                "a blocking call from the client's own thread (from a callback?) would wait for "
                "itself; call it from another thread, or use the async client"
            )
        if not self._open:
            coroutine.close()
            raise UsageError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()  # also for KeyboardInterrupt while waiting
            raise

    def _start(self, start: Coroutine[Any, Any, None], close: Callable[[], Any]) -> None:
        try:
            self._call(start)
        except BaseException:
            self._close(close())
            raise

    def _close(self, close: Coroutine[Any, Any, None]) -> None:
        with self._close_lock:
            if not self._open:
                close.close()
                return
            try:
                self._call(close)
            finally:
                self._open = False
                loop_thread.release()
