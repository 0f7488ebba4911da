"""Those who deleted topics and hear of it when they are gone.

State: who waits, and for which topics. Nobody waits longer than `wait_ms`, nor past the end of the
term, nor for a broker that is not there: the marker of a deletion is durable, the topics will go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from minikafka.core.control.controller import Controller


@dataclass(slots=True)
class _Wait:
    names: frozenset[str]
    future: asyncio.Future[None]


class DeletionWaits:
    """Of one term, whose core is only read here."""

    def __init__(self, core: Controller, wait_ms: int) -> None:
        self._core = core
        self._wait_ms = wait_ms
        self._waits: list[_Wait] = []
        self._ended = False

    async def until_gone(self, names: frozenset[str]) -> None:
        """Wait for the deletion of topics that were marked."""
        wait = _Wait(names, asyncio.get_running_loop().create_future())
        if self._ended or self._is_over(wait):
            return
        self._waits.append(wait)
        await asyncio.wait({wait.future}, timeout=self._wait_ms / 1000)
        self._waits.remove(wait)

    def check(self) -> None:
        """An event is over: end the waits that it was the last of."""
        for wait in self._waits:
            if not wait.future.done() and self._is_over(wait):
                wait.future.set_result(None)

    def end(self) -> None:
        """The term is over: nobody waits any more."""
        self._ended = True
        for wait in self._waits:
            if not wait.future.done():
                wait.future.set_result(None)

    def _is_over(self, wait: _Wait) -> bool:
        remaining = wait.names & self._core.context.deletions
        return all(self._core.waits_for_absent(name) for name in remaining)
