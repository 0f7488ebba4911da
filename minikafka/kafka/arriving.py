"""What has arrived at the Kafka door and is not under way yet, over all connections; and whom the
door stops reading when that is too much.

A client may send a part of a request and then nothing, and others may wait for the memory that it
takes. So:

- Large requests are read on until three quarters of the share are in use. Beyond that only the one
  of which the least is missing is: so each becomes whole, and leaves, one after the other.
- Small ones (SMALL_BYTES) have all of the share: ordinary requests do not wait for large ones.
- Every connection may send a first piece, and there may be many connections: where more than the
  share is in use, those are closed of which the most is missing.
- Who then sends more slowly than PACE_BYTES_PER_S, after PATIENCE_S, is closed.

State: a `_Part` for each connection that holds anything, with what is charged for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from minikafka.broker.request_memory import RequestMemory
from minikafka.kafka.frames import FrameSplitter

log = logging.getLogger(__name__)

SMALL_BYTES = 64 * 1024
PATIENCE_S = 10.0
PACE_BYTES_PER_S = 256 * 1024


class Sender(Protocol):
    """A connection. `read_on` after it was told to stop."""

    @property
    def splitter(self) -> FrameSplitter: ...
    def read_on(self) -> None: ...
    def close(self, reason: str = "") -> None: ...


@dataclass(slots=True)
class _Part:
    """`number` is that of the half-sent request on its connection, `began_s` when it began, later
    by the time in which it was not read."""

    charged_bytes: int
    number: int
    began_s: float
    stopped_s: float | None = None


class Arriving:
    """`now` in seconds."""

    def __init__(self, memory: RequestMemory, now: Callable[[], float]) -> None:
        self._memory = memory
        self._now = now
        self._parts: dict[Sender, _Part] = {}

    def on_part(self, sender: Sender, waiting_bytes: int) -> bool:
        """Something has arrived or has been started: `waiting_bytes` are whole requests. Whether to
        read on."""
        splitter = sender.splitter
        charged = splitter.held_bytes + waiting_bytes
        part = self._parts.get(sender)
        if part is None:
            if not charged:
                return True
            part = self._parts[sender] = _Part(0, 0, self._now())
        self._memory.arrive(charged - part.charged_bytes)
        part.charged_bytes = charged
        if part.number != splitter.unfinished_count:
            part.number, part.began_s = splitter.unfinished_count, self._now()
        if not charged:
            self.forget(sender)
            return True
        if not splitter.size_bytes or self._may_go_on(sender):
            return True
        if part.stopped_s is None:
            part.stopped_s = self._now()
        self._let_on()
        self._make_room()
        return part.stopped_s is None

    def forget(self, sender: Sender) -> None:
        """Nothing of it is left."""
        part = self._parts.pop(sender, None)
        if part is not None:
            self._memory.arrive(-part.charged_bytes)
            self._let_on()

    def check(self) -> None:
        """To be called about every second: end those that others wait for."""
        if all(part.stopped_s is None for part in self._parts.values()):
            return
        now_s = self._now()
        for sender, part in list(self._parts.items()):
            stopped_s = 0.0 if part.stopped_s is None else now_s - part.stopped_s
            time_s = now_s - part.began_s - stopped_s - PATIENCE_S
            size = sender.splitter.size_bytes
            arrived = size - sender.splitter.missing_bytes
            if size and time_s > 0 and arrived < time_s * PACE_BYTES_PER_S:
                sender.close(
                    f"{arrived} of {size} bytes of a request have arrived, and others wait for the "
                    "memory (queued.max.request.bytes)"
                )
        self._let_on()

    def _may_go_on(self, sender: Sender) -> bool:
        memory = self._memory
        if sender.splitter.size_bytes <= SMALL_BYTES:
            return memory.arriving_bytes <= memory.half_bytes
        if memory.arriving_bytes <= memory.half_bytes * 3 // 4:
            return True
        return memory.has_room and sender is self._nearest_to_its_end()

    def _make_room(self) -> None:
        while self._memory.arriving_bytes > self._memory.half_bytes:
            large = (each for each in self._parts if each.splitter.size_bytes > SMALL_BYTES)
            farthest = max(large, key=lambda each: each.splitter.missing_bytes, default=None)
            if farthest is None:
                return
            size = farthest.splitter.size_bytes
            self.forget(farthest)
            farthest.close(
                f"a request of {size} bytes was begun, and others need the memory "
                "(queued.max.request.bytes)"
            )

    def _nearest_to_its_end(self) -> Sender | None:
        half_sent = (sender for sender in self._parts if sender.splitter.size_bytes)
        return min(half_sent, key=lambda sender: sender.splitter.missing_bytes, default=None)

    def _let_on(self) -> None:
        """Read those again that may go on."""
        for sender, part in list(self._parts.items()):
            if part.stopped_s is not None and self._may_go_on(sender):
                part.began_s += self._now() - part.stopped_s
                part.stopped_s = None
                sender.read_on()
