"""The files that logs keep open: those of the active segments, as many as there is room for.

A broker may hold more partitions than its process may have files. An active segment that has not
been used for long lets go of its file and opens it anew when it is written to or read next.

State: the active segments with an open file, the oldest first; each says by `used` whether it was
needed since it was looked at last (a second chance, which costs an append no more than setting
that). Invariants: no more than `limit` of them; the one that was opened last is never let go of.
For the log's thread only.
"""

from __future__ import annotations

import logging
from typing import Protocol

UNLIMITED = 1 << 30
_logger = logging.getLogger("minikafka.log")


class Holder(Protocol):
    """Somebody with an open file (a Segment)."""

    used: bool

    def let_go(self) -> None:
        """Close the file; it can be opened again. OSError, but it is closed."""


class OpenFiles:
    """See the module."""

    __slots__ = ("_holders", "limit")

    def __init__(self, limit: int = UNLIMITED) -> None:
        self.limit = max(limit, 1)
        self._holders: dict[Holder, None] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def opened(self, holder: Holder) -> None:
        """It has an open file now: another one may have to let go of its own."""
        self._holders.pop(holder, None)
        while len(self._holders) >= self.limit:
            self._let_go_of_one()
        self._holders[holder] = None

    def closed(self, holder: Holder) -> None:
        self._holders.pop(holder, None)

    def _let_go_of_one(self) -> None:
        while True:
            oldest = next(iter(self._holders))
            del self._holders[oldest]
            if not oldest.used:
                try:
                    oldest.let_go()
                except OSError as error:  # its next fsync tells, if anything was lost
                    _logger.error("%r: its file was not closed well: %s", oldest, error)
                return
            oldest.used = False
            self._holders[oldest] = None
