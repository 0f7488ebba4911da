"""Messages to every browser that listens, as server-sent events.

A message is encoded once. A browser that does not keep up loses its stream instead of the
dashboard its memory: it connects again by itself, and begins with the whole picture.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

_WAITING_AT_MOST = 2_000
_END = ""


def encode(kind: str, document: Any) -> str:
    """One server-sent event. JSON has no newlines of its own, so one data line will do."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return f"event: {kind}\ndata: {text}\n\n"


class Hub:
    """`subscribe` and `publish` on one event loop."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[str]] = set()
        self._closed = False

    def __len__(self) -> int:
        """How many listen."""
        return len(self._queues)

    def publish(self, kind: str, document: Any) -> None:
        if not self._queues:
            return
        text = encode(kind, document)
        for queue in list(self._queues):
            if queue.qsize() >= _WAITING_AT_MOST:
                self._end(queue)
            else:
                queue.put_nowait(text)

    async def subscribe(self, beginning: Callable[[], list[str]]) -> AsyncIterator[str]:
        """Encoded events: the `beginning`, then all that is published from then on."""
        if self._closed:
            return
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._queues.add(queue)
        try:
            for text in beginning():
                yield text
            while (text := await queue.get()) != _END:
                yield text
        finally:
            self._queues.discard(queue)

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        for queue in list(self._queues):
            self._end(queue)

    def _end(self, queue: asyncio.Queue[str]) -> None:
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(_END)
        self._queues.discard(queue)
