"""Putting a compacted segment in the place of those that it was made of, so that a crash at any
moment leaves either them or it.

    <base>.log.cleaned, .index.cleaned, .timeindex.cleaned, .txnindex.cleaned
                                                              being written: worth nothing
    <base>-<end>.swap                                         written and fsynced: it counts
    <base>.log, .index, .timeindex, .txnindex                 in place

The rename to `.swap` decides. Its name says which offsets the new segment stands for (<end> is
exclusive), so that a start after a crash knows which segments it replaces, whatever is left of
them. Indexes that are missing are made anew when they are first used; but no transaction index
means that there is nothing in it: so it is in place before the segment is, and a start that
finishes a swap leaves one without a byte, which is made anew (aborted.py). No state.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from minikafka.log.files import Disk
from minikafka.log.segment import (
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    Segment,
    offset_name,
)

CLEANED_SUFFIX = ".cleaned"
_INDEXES = (INDEX_SUFFIX, TIME_INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX)
_SWAP = re.compile(r"(\d{20})-(\d{20})\.swap")


def stage(disk: Disk, segment: Segment) -> Path:
    """Give a segment that is wholly on the disk the name by which it counts; the rename becomes
    durable with the next fsync of the folder. Raises OSError."""
    name = f"{segment.base_offset:020d}-{segment.next_offset:020d}.swap"
    staged = segment.path.with_name(name)
    disk.rename(segment.path, staged)
    return staged


def complete(
    disk: Disk,
    staged: Path,
    segment: Segment,
    old: Sequence[Segment],
    *,
    has_aborted: bool = False,
) -> list[Path]:
    """Set the old segments aside, the oldest first, and put the new one in their place; returns the
    files to be unlinked. Raises OSError: then neither may be whole until the next start."""
    files: list[Path] = []
    for each in old:
        files += (
            each.path,
            each.file(INDEX_SUFFIX),
            each.file(TIME_INDEX_SUFFIX),
            each.file(TRANSACTION_INDEX_SUFFIX),
        )
        if each is not old[0]:  # the producers before the first are those before the new one
            files.append(each.file(SNAPSHOT_SUFFIX))
    gone = disk.set_aside(files)
    written = [segment.file(suffix) for suffix in (INDEX_SUFFIX, TIME_INDEX_SUFFIX)]
    aborted = segment.file(TRANSACTION_INDEX_SUFFIX)
    segment.suffix = ""
    if has_aborted:
        disk.rename(aborted, segment.file(TRANSACTION_INDEX_SUFFIX))
    disk.rename(staged, segment.path)
    for path, suffix in zip(written, (INDEX_SUFFIX, TIME_INDEX_SUFFIX), strict=True):
        disk.rename(path, segment.file(suffix))
    return gone


def finish_interrupted(disk: Disk, directory: Path) -> None:
    """At the start, before segments are looked for: finish what was staged. Raises OSError."""
    for staged in disk.names(directory, ".swap"):
        match = _SWAP.fullmatch(staged)
        if match is None:
            continue
        base, end = int(match[1]), int(match[2])
        for name in disk.names(directory, LOG_SUFFIX):
            stem = name.removesuffix(LOG_SUFFIX)
            if stem.isdecimal() and base < int(stem) < end:
                for suffix in (*_INDEXES, SNAPSHOT_SUFFIX, LOG_SUFFIX):
                    disk.remove(directory / offset_name(int(stem), suffix))
        for suffix in (INDEX_SUFFIX, TIME_INDEX_SUFFIX):
            disk.remove(directory / offset_name(base, suffix))
        unmade = directory / offset_name(base, TRANSACTION_INDEX_SUFFIX)
        disk.write_file(unmade, b"", durable=True)
        disk.rename(directory / staged, directory / offset_name(base, LOG_SUFFIX))
        disk.sync_directory(directory)
