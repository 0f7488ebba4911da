"""The transactions of a partition that a reader of committed records must not come upon yet: open
ones, and those whose marker is not committed (the last stable offset is below both).

State: the first offsets of all of them, with the offset of the marker that ended them, or OPEN.
Invariants: a first offset is that of one transaction; markers rise in the order in which they
ended transactions; what is ended by a marker below the high watermark goes when that is told
(`settle`), so the first of them never falls while the log only grows.

Transactions open in the order of their first offsets: three queues are enough, whose entries are
passed over once they do not hold any more.
"""

from __future__ import annotations

from bisect import insort
from collections import deque

OPEN = -1


class UnstableTransactions:
    """`awaited`: those that have a marker, in the order of the markers, as (marker's offset, first
    offset)."""

    __slots__ = ("_markers", "_open", "_order", "awaited")

    def __init__(self) -> None:
        self._markers: dict[int, int] = {}  # first offset to marker's offset
        self._order: deque[int] = deque()  # first offsets, and some that have gone
        self._open: deque[int] = deque()  # the same, of those that are open
        self.awaited: deque[tuple[int, int]] = deque()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnstableTransactions) and self._markers == other._markers

    def __len__(self) -> int:
        return len(self._markers)

    def open(self, first_offset: int) -> None:
        """A transaction begins here; above all that are known, unless it is restored."""
        assert first_offset not in self._markers, (first_offset, self._markers)
        self._markers[first_offset] = OPEN
        _enter(self._order, first_offset)
        _enter(self._open, first_offset)

    def end(self, first_offset: int, marker_offset: int) -> None:
        """Its marker is in the log."""
        assert self._markers[first_offset] == OPEN, (first_offset, self._markers)
        self._markers[first_offset] = marker_offset
        self.awaited.append((marker_offset, first_offset))

    def settle(self, high_watermark: int) -> None:
        """All below is committed: what has its marker there is stable."""
        awaited = self.awaited
        while awaited and awaited[0][0] < high_watermark:
            del self._markers[awaited.popleft()[1]]

    def first(self) -> int | None:
        """Where the first of them begins."""
        order = self._order
        while order and order[0] not in self._markers:
            order.popleft()
        return order[0] if order else None

    def first_open(self) -> int | None:
        """Where the first begins that has no marker."""
        open_ = self._open
        while open_ and self._markers.get(open_[0]) != OPEN:
            open_.popleft()
        return open_[0] if open_ else None

    def ended(self) -> list[tuple[int, int]]:
        """(first offset, marker's offset) of those that have one, in the order of the markers."""
        return [(first, marker) for marker, first in self.awaited]

    def check(self) -> None:
        """Assert the invariants."""
        markers = [marker for marker, _ in self.awaited]
        assert markers == sorted(markers), markers
        ended = {first: marker for marker, first in self.awaited}
        assert ended == {f: m for f, m in self._markers.items() if m != OPEN}, self._markers
        for queue in (self._order, self._open):
            assert list(queue) == sorted(queue), queue


def _enter(queue: deque[int], offset: int) -> None:
    if queue and offset < queue[-1]:
        insort(queue, offset)
    else:
        queue.append(offset)
