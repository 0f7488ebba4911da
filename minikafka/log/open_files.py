"""What logs keep open and in memory: that of the active segments which are used, within a budget.

A broker may hold more partitions than its process may have files, and most of them are idle. So an
active segment that others need the room of lets go of its file, and one that has not been used for
long *rests*: it lets go of its indexes, too. Both are had anew when it is written to or read next.

State: the active segments with an open file, and those awake, whoever was looked at longest ago
first; each says by `used` whether it was needed since (a second chance, which costs an append no
more than setting that); and how many ranges of files are lent to be sent (lending.py). Invariants:
no more than `limit` files, of which those of ranges are a quarter at most, so that clients that do
not read cannot have them all; whoever has an open file is awake; the one that was opened last is
never let go of. For the log's thread only: a call of a log is over before anybody else is asked to
let go, and what other threads read or fsync they open for themselves.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

UNLIMITED = 1 << 30
IDLE_S = 60.0
_RESTS_AT_ONCE = 256  # in one turn of the loop
_FILES_OF_RANGE = 2  # its file, and one of the socket while it waits for room in that
_logger = logging.getLogger("minikafka.log")


class Holder(Protocol):
    """Somebody with an open file (a Segment)."""

    used: bool

    def let_go(self) -> None:
        """Close the file; it can be opened again. OSError, but it is closed."""

    def rest(self) -> None:
        """Close the file and keep nothing in memory. OSError: it may have to be tried again."""


class OpenFiles:
    """See the module."""

    __slots__ = ("_awake", "_holders", "_monotonic", "lent", "limit")

    def __init__(
        self, limit: int = UNLIMITED, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = max(limit, 1)
        self.lent = 0
        self._monotonic = monotonic
        self._holders: OrderedDict[Holder, None] = OrderedDict()
        self._awake: OrderedDict[Holder, float] = OrderedDict()  # when it was looked at last, s

    def __len__(self) -> int:
        return len(self._holders)

    @property
    def awake(self) -> int:
        """How many do not rest."""
        return len(self._awake)

    def opened(self, holder: Holder) -> None:
        """It has an open file now: another one may have to let go of its own."""
        self._holders.pop(holder, None)
        while len(self._holders) >= self._room:
            self._let_go_of_one()
        self._holders[holder] = None
        self._looked_at(holder)

    def closed(self, holder: Holder) -> None:
        """It is no active segment any more."""
        self._holders.pop(holder, None)
        self._awake.pop(holder, None)

    @property
    def _room(self) -> int:
        return max(1, self.limit - _FILES_OF_RANGE * self.lent)

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

    def rest_idle(self, idle_s: float = IDLE_S) -> None:
        """Who has not been used for so long rests. A few hundred at once: call it every now and
        then."""
        before = self._monotonic() - idle_s
        for _ in range(min(_RESTS_AT_ONCE, len(self._awake))):
            holder, seen = next(iter(self._awake.items()))
            if seen > before:
                return
            self._looked_at(holder)
            if holder.used:
                holder.used = False
                continue
            self._holders.pop(holder, None)
            try:
                holder.rest()
            except OSError as error:  # it is tried again when it is idle once more
                _logger.error("%r: cannot rest: %s", holder, error)
            else:
                del self._awake[holder]

    def _looked_at(self, holder: Holder) -> None:
        self._awake[holder] = self._monotonic()
        self._awake.move_to_end(holder)

    def _let_go_of_one(self) -> None:
        while True:
            oldest, _ = self._holders.popitem(last=False)
            if not oldest.used:
                try:
                    oldest.let_go()
                except OSError as error:  # its next fsync tells, if anything was lost
                    _logger.error("%r: its file was not closed well: %s", oldest, error)
                return
            oldest.used = False
            self._holders[oldest] = None
            self._looked_at(oldest)
