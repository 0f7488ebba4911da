"""The files that logs keep open: those of the active segments, as many as there is room for.

A broker may hold more partitions than its process may have files. An active segment that has not
been used for long lets go of its file and opens it anew when it is written to or read next.

State: the active segments with an open file, the oldest first; each says by `used` whether it was
needed since it was looked at last (a second chance, which costs an append no more than setting
that); and how many ranges of files are lent to be sent (lending.py). Invariants: no more than
`limit` files, of which those of ranges are a quarter at most, so that clients that do not read
cannot have them all; the one that was opened last is never let go of. For the log's thread only.
"""

from __future__ import annotations

import logging
from typing import Protocol

UNLIMITED = 1 << 30
_FILES_OF_RANGE = 2  # its file, and one of the socket while it waits for room in that
_logger = logging.getLogger("minikafka.log")


class Holder(Protocol):
    """Somebody with an open file (a Segment)."""

    used: bool

    def let_go(self) -> None:
        """Close the file; it can be opened again. OSError, but it is closed."""


class OpenFiles:
    """See the module."""

    __slots__ = ("_holders", "lent", "limit")

    def __init__(self, limit: int = UNLIMITED) -> None:
        self.limit = max(limit, 1)
        self.lent = 0
        self._holders: dict[Holder, None] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def opened(self, holder: Holder) -> None:
        """It has an open file now: another one may have to let go of its own."""
        self._holders.pop(holder, None)
        while len(self._holders) >= self._room:
            self._let_go_of_one()
        self._holders[holder] = None

    def closed(self, holder: Holder) -> None:
        self._holders.pop(holder, None)

    @property
    def _room(self) -> int:
        return self.limit - _FILES_OF_RANGE * self.lent

    @property
    def may_lend(self) -> bool:
        return self.lent < self.limit // (4 * _FILES_OF_RANGE)

    def lend(self) -> None:
        """One more range has files of its own, until `give_back`. The logs may have to let go of
        theirs."""
        assert self.may_lend
        self.lent += 1
        while len(self._holders) > self._room:
            self._let_go_of_one()

    def give_back(self) -> None:
        self.lent -= 1
        assert self.lent >= 0

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
