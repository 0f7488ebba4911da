"""Finding records by their time: which stretch of which segment to look at, and looking there.

What a segment's index says is asked on the loop. Looking through headers and into a batch may take
long, so that is `Stretch`, which is for a thread: it has a file of its own, and what it looks at
does not change. Should the log be cut meanwhile, the file ends early, and that is said.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from minikafka.errors import CorruptMessageError
from minikafka.log.files import Disk
from minikafka.log.scan import scan
from minikafka.log.segment import Segment
from minikafka.model import BatchHeader
from minikafka.records.seek import first_from, newest_of

Found = tuple[int, int]  # offset, timestamp ms


@dataclass(frozen=True, slots=True)
class Stretch:
    """The batches of a segment between two positions; what is sought lies at or above
    `from_offset`. `close` it."""

    disk: Disk
    fd: int
    start: int
    end: int
    from_offset: int
    next_offset: int  # of the segment

    def first_from(self, timestamp_ms: int) -> Found | None:
        """The first record at or after this time. Raises OSError, CorruptMessageError."""
        for position, header in scan(self.disk, self.fd, self.start, self.end):
            if header.max_timestamp_ms >= timestamp_ms and header.next_offset > self.from_offset:
                batch = self._read(position, header)
                found = first_from(batch, header, timestamp_ms, self.from_offset)
                if found is not None:
                    return found
        return None

    def newest(self) -> Found | None:
        """The first record with the largest timestamp. Raises OSError, CorruptMessageError."""
        best: tuple[int, BatchHeader] | None = None
        for position, header in scan(self.disk, self.fd, self.start, self.end):
            counts = header.record_count > 0 and header.next_offset > self.from_offset
            if counts and (best is None or header.max_timestamp_ms > best[1].max_timestamp_ms):
                best = position, header
        if best is None or best[1].max_timestamp_ms < 0:
            return None
        return newest_of(self._read(*best), best[1], self.from_offset)

    def _read(self, position: int, header: BatchHeader) -> bytes:
        batch = self.disk.pread(self.fd, header.size_bytes, position)
        if len(batch) < header.size_bytes:
            raise CorruptMessageError(f"the log was cut at {position} while it was looked at")
        return batch

    def close(self) -> None:
        self.disk.close(self.fd)


def stretch_from(
    disk: Disk, segments: Sequence[Segment], from_offset: int, timestamp_ms: int
) -> Stretch | None:
    """Where the first record at or after this time is, at or above this offset; None: nowhere.
    Raises OSError."""
    for segment in segments[_index_of(segments, from_offset) :]:
        if segment.size_bytes and segment.max_timestamp()[0] >= timestamp_ms:
            start = max(segment.offset_before_timestamp(timestamp_ms), from_offset)
            return _stretch(disk, segment, start, from_offset)
    return None


def newest_stretches(disk: Disk, segments: Sequence[Segment], log_start: int) -> list[Stretch]:
    """Where the first record with the largest timestamp is, at or above the log's start: in one of
    these. Raises OSError."""
    best: Segment | None = None
    stretches = []
    for segment in segments[_index_of(segments, log_start) :]:
        newest_ms, offset = segment.max_timestamp() if segment.size_bytes else (-1, -1)
        if newest_ms < 0:
            continue
        if offset < log_start:  # what is left of this segment has another largest
            stretches.append(_stretch(disk, segment, log_start, log_start))
        elif best is None or newest_ms > best.max_timestamp()[0]:
            best = segment
    if best is not None:
        start = max(best.offset_before_timestamp(best.max_timestamp()[0]), log_start)
        stretches.append(_stretch(disk, best, start, log_start))
    return stretches


def _index_of(segments: Sequence[Segment], offset: int) -> int:
    return max(0, bisect_right(segments, offset, key=lambda segment: segment.base_offset) - 1)


def _stretch(disk: Disk, segment: Segment, start: int, from_offset: int) -> Stretch:
    segment.acquire()
    try:
        position = segment.position_of(start)
    finally:
        segment.release()
    fd = disk.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    return Stretch(disk, fd, position, segment.size_bytes, from_offset, segment.next_offset)
