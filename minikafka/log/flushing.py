"""flush.messages and flush.ms of one log: when what was appended is fsynced without being asked.

State: the flush under way that was begun here, and the timer of the oldest records that are not
durable and not taken by it. Nobody waits for these flushes, and they share the fsyncs of those who
do (group_commit.py). Invariant: while there is something to flush and flush.ms is set, a flush is
under way or a timer runs.

All methods are for the broker's loop; without one that runs they do nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from minikafka.config import TopicConfig
from minikafka.config.properties import INT64_MAX


def flushes_unasked(config: TopicConfig) -> bool:
    """Is there anything for a schedule to do?"""
    return not config.flush_messages == config.flush_ms == INT64_MAX


class FlushSchedule:
    """`flush` makes the log durable; `unflushed` tells how many records are not, 0 once the log is
    closed or can do no more."""

    def __init__(
        self, flush: Callable[[], Coroutine[Any, Any, int]], unflushed: Callable[[], int]
    ) -> None:
        self._flush = flush
        self._unflushed = unflushed
        self._messages = self._ms = INT64_MAX
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[int] | None = None

    def configure(self, config: TopicConfig) -> None:
        """What is there already counts as new, from now on."""
        if (config.flush_messages, config.flush_ms) == (self._messages, self._ms):
            return
        self._messages, self._ms = config.flush_messages, config.flush_ms
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.look()

    @property
    def idle(self) -> bool:
        """Nothing is ever to be flushed without being asked."""
        return self._messages == self._ms == INT64_MAX

    def look(self) -> None:
        """Something was appended, or the settings changed."""
        if self.idle or self._task is not None or not (unflushed := self._unflushed()):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # no loop, no broker: whoever uses the log calls flush
        if unflushed >= self._messages or self._ms == 0:
            self._begin(loop)
        elif self._timer is None and self._ms < INT64_MAX:
            self._timer = loop.call_later(self._ms / 1000, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if self._task is None and self._unflushed():
            self._begin(asyncio.get_running_loop())

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._task = loop.create_task(self._flush())
        self._task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[int]) -> None:
        """A flush that failed has fenced the log and said so, or is to be tried again later: at the
        next append, or after flush.ms."""
        self._task = None
        if task.cancelled():
            return
        if task.exception() is None:
            self.look()  # for what was appended meanwhile
        elif self._timer is None and self._unflushed() and 0 < self._ms < INT64_MAX:
            self._timer = task.get_loop().call_later(self._ms / 1000, self._on_time)
