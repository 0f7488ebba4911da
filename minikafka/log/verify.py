"""Checking the CRCs of a log's files while the log is in use: for jobs, in a thread. No state.

Works on the files by path, read only, and takes no part in what the log does to them: a segment
that is gone meanwhile was deleted or compacted, and the next one is looked at.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

from minikafka.errors import CorruptMessageError
from minikafka.log.segment import LOG_SUFFIX, offset_name
from minikafka.records.header import HEADER_BYTES, crc_of, parse_header


@dataclass(frozen=True, slots=True)
class VerifiedSlice:
    """`segment` (a base offset) and `position`: where to go on, unless `done`."""

    segment: int
    position: int
    done: bool
    batches: int
    size_bytes: int
    damage: tuple[str, ...]


def verify_slice(
    directory: Path, segment: int, position: int, max_bytes: int, end_offset: int
) -> VerifiedSlice:
    """Check batches from a position on until `max_bytes` are read, the segment ends, or a batch
    begins at or above `end_offset`. At least one batch. Never raises for what the files hold; an
    OSError of the disk is damage too."""
    names = sorted(path.name for path in directory.glob(f"*{LOG_SUFFIX}"))
    index = bisect_left(names, offset_name(segment, LOG_SUFFIX))
    if index == len(names):
        return VerifiedSlice(segment, position, True, 0, 0, ())
    base_offset = int(names[index].removesuffix(LOG_SUFFIX))
    if base_offset != segment:
        segment, position = base_offset, 0
    after = VerifiedSlice(segment + 1, 0, index + 1 == len(names), 0, 0, ())
    if base_offset >= end_offset:
        return VerifiedSlice(segment, position, True, 0, 0, ())
    try:
        fd = os.open(directory / names[index], os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return after
    try:
        return _verify(fd, names[index], after, segment, position, max_bytes, end_offset)
    except OSError as error:
        damage = f"{names[index]} at {position}: {error.strerror or error}"
        return VerifiedSlice(after.segment, 0, after.done, 0, 0, (damage,))
    finally:
        os.close(fd)


def _verify(
    fd: int,
    name: str,
    after: VerifiedSlice,
    segment: int,
    position: int,
    max_bytes: int,
    end_offset: int,
) -> VerifiedSlice:
    begin, batches = position, 0
    damage: list[str] = []
    size_bytes = os.fstat(fd).st_size
    while position < size_bytes and (position - begin < max_bytes or not batches):
        try:
            header = parse_header(os.pread(fd, HEADER_BYTES, position))
            if header.base_offset >= end_offset:
                return VerifiedSlice(segment, position, True, batches, position - begin, (*damage,))
            batch = os.pread(fd, header.size_bytes, position)
            if len(batch) < header.size_bytes:
                raise CorruptMessageError(
                    f"a batch of {header.size_bytes} bytes is cut off after {len(batch)}"
                )
        except CorruptMessageError as error:
            damage.append(f"{name} at {position}: {error}; the rest of the segment is unread")
            read = position - begin
            return VerifiedSlice(after.segment, 0, after.done, batches, read, (*damage,))
        if crc_of(batch, 0, header.size_bytes) != header.crc:
            damage.append(
                f"{name} at {position}: the batch of offsets {header.base_offset} to "
                f"{header.base_offset + header.last_offset_delta} fails its CRC"
            )
        batches += 1
        position += header.size_bytes
    read = position - begin
    if position >= size_bytes:
        return VerifiedSlice(after.segment, 0, after.done, batches, read, (*damage,))
    return VerifiedSlice(segment, position, False, batches, read, (*damage,))
