"""The sparse indexes of one segment: offset -> position, and timestamp -> offset.

On disk as Kafka has them, big-endian:

    .index      (offset - base offset: uint32, position: uint32)                   ascending in both
    .timeindex  (timestamp_ms: int64, offset - base offset: uint32)                ascending in both

An offset entry names the last offset of a batch and where that batch begins, as Kafka's own tools
check it; a time entry says that up to and including `offset` no record is newer than `timestamp`.
The position 0 needs no entry. Whoever looks for an offset begins at the last entry at or below it:
what lies before that entry's batch ends before the offset.

The segment that is appended to holds its indexes in memory (`SegmentIndex`); they are written when
it is rolled or closed, or comes to rest (segment.py). A closed segment's indexes stay on disk and
are searched there (`IndexFile`), so that an idle segment costs no memory. Both can be rebuilt from
the segment, and after a crash are.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import islice
from operator import lt
from struct import Struct

OFFSET_ENTRY = Struct(">II")
TIME_ENTRY = Struct(">qI")
MAX_RELATIVE_OFFSET = 2**31 - 1
_PAGE_BYTES = 4096


class SegmentIndex:
    """Both indexes of one segment in memory. Offsets are relative to the segment's base offset."""

    __slots__ = ("offsets", "positions", "time_offsets", "timestamps")

    def __init__(self) -> None:
        self.offsets = array("I")
        self.positions = array("I")
        self.timestamps = array("q")
        self.time_offsets = array("I")

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, offset: int, position: int) -> None:
        """A batch that ends with `offset` begins at `position`."""
        self.offsets.append(offset)
        self.positions.append(position)

    def add_time(self, timestamp_ms: int, offset: int) -> None:
        """No record up to `offset` is newer; entries that say nothing new are left out."""
        if not self.timestamps or timestamp_ms > self.timestamps[-1]:
            self.timestamps.append(timestamp_ms)
            self.time_offsets.append(offset)

    def floor_offset(self, offset: int) -> tuple[int, int]:
        """(offset, position) of the last entry at or below `offset`; (0, 0) if there is none."""
        return self._entry(bisect_right(self.offsets, offset) - 1)

    def floor_position(self, position: int) -> tuple[int, int]:
        """(offset, position) of the last entry at or below `position`; (0, 0) if there is none."""
        return self._entry(bisect_right(self.positions, position) - 1)

    def offset_before_timestamp(self, timestamp_ms: int) -> int:
        """An offset such that all records below it are older than `timestamp_ms`."""
        index = bisect_left(self.timestamps, timestamp_ms) - 1
        return self.time_offsets[index] if index >= 0 else 0

    def truncate(self, offset: int, position: int) -> None:
        """Drop what names a batch at or above `position`, or a time at or above `offset`."""
        keep = bisect_left(self.positions, position)
        del self.offsets[keep:], self.positions[keep:]
        keep = bisect_left(self.time_offsets, offset)
        del self.timestamps[keep:], self.time_offsets[keep:]

    def encode_offsets(self) -> bytes:
        words = array("I", bytes(OFFSET_ENTRY.size * len(self.offsets)))
        words[0::2] = self.offsets
        words[1::2] = self.positions
        return _big_endian(words)

    def encode_times(self) -> bytes:
        halves = array("I", self.timestamps.tobytes())
        high = 1 if sys.byteorder == "little" else 0
        words = array("I", bytes(TIME_ENTRY.size * len(self.timestamps)))
        words[0::3] = halves[high::2]
        words[1::3] = halves[1 - high :: 2]
        words[2::3] = self.time_offsets
        return _big_endian(words)

    @classmethod
    def decode(cls, offsets: bytes, times: bytes) -> SegmentIndex | None:
        """The indexes from their files; None unless both are well-formed and ascending."""
        if len(offsets) % OFFSET_ENTRY.size or len(times) % TIME_ENTRY.size:
            return None
        index = cls()
        words = _words(offsets)
        index.offsets, index.positions = words[0::2], words[1::2]
        words = _words(times)
        halves = array("I", bytes(index.timestamps.itemsize * (len(words) // 3)))
        high = 1 if sys.byteorder == "little" else 0
        halves[high::2] = words[0::3]
        halves[1 - high :: 2] = words[1::3]
        index.timestamps.frombytes(halves.tobytes())
        index.time_offsets = words[2::3]
        columns = (index.offsets, index.positions, index.timestamps, index.time_offsets)
        return index if all(map(_ascends, columns)) else None

    def _entry(self, index: int) -> tuple[int, int]:
        return (self.offsets[index], self.positions[index]) if index >= 0 else (0, 0)


NO_ENTRIES = SegmentIndex()  # one for all segments that have none: never added to


class IndexFile:
    """A sorted index on disk, for closed segments: searched by reading a page of it at a time, of
    which the last one is kept. Entries are OFFSET_ENTRY's or TIME_ENTRY's."""

    __slots__ = ("_first", "_page", "_pread", "_struct", "count")

    def __init__(self, pread: Callable[[int, int], bytes], size_bytes: int, entry: Struct) -> None:
        self._pread = pread
        self._struct = entry
        self.count = size_bytes // entry.size
        self._first = 0  # the entry that the page begins with
        self._page = b""

    def entry(self, index: int) -> tuple[int, int]:
        size = self._struct.size
        at = (index - self._first) * size
        if not 0 <= at < len(self._page):
            entries = _PAGE_BYTES // size
            self._first = index - index % entries
            wanted = min(entries, self.count - self._first) * size
            self._page = self._pread(wanted, self._first * size)
            at = (index - self._first) * size
            if len(self._page) < wanted:
                raise OSError(f"the index ends before entry {self._first + wanted // size}")
        first, second = self._struct.unpack_from(self._page, at)
        return first, second

    def floor(self, value: int, field: int) -> tuple[int, int] | None:
        """The last entry whose `field` (0 or 1) is at or below `value`."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if self.entry(middle)[field] <= value:
                low = middle + 1
            else:
                high = middle
        return self.entry(low - 1) if low else None


def _ascends(column: array[int]) -> bool:
    return all(map(lt, column, islice(column, 1, None)))


def _words(content: bytes) -> array[int]:
    words = array("I", content)
    if sys.byteorder == "little":
        words.byteswap()
    return words


def _big_endian(words: array[int]) -> bytes:
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes()
