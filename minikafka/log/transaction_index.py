"""Which transactions of a log were aborted: what a reader of committed records passes over.

A file `<base offset>.txnindex` as Kafka has it lies beside the segment that holds the markers. For
each abort marker that ended anything, big-endian, 34 bytes, by rising last offset:

    version              int16   0
    producer id          int64
    first offset         int64   of the transaction, in this log
    last offset          int64   the marker
    last stable offset   int64   where the first transaction began that was open then, or what comes
                                 after the marker: whatever ends later begins there or above

There is no file where there is no entry. So a file that is missing is taken for none, and one that
cannot be written fences its log.

State: for each segment that has a file, its entries, once they were asked for; which files have
changed since the last fsync. For the log's thread only; all methods may raise OSError.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from minikafka.log.files import FILE_MODE, Disk
from minikafka.log.segment import TRANSACTION_INDEX_SUFFIX, offset_name
from minikafka.model import AbortedTransaction

_ENTRY = Struct(">hqqqq")
_VERSION = 0
_APPEND_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
assert _ENTRY.size == 34


class AbortedEntry(NamedTuple):
    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


def encode(entries: Iterable[AbortedEntry]) -> bytes:
    return b"".join(_ENTRY.pack(_VERSION, *entry) for entry in entries)


def decode(content: bytes, base_offset: int, next_offset: int) -> list[AbortedEntry]:
    """The entries of the file of a segment of these offsets. ValueError if it cannot be that."""
    if len(content) % _ENTRY.size:
        raise ValueError(f"{len(content)} bytes are no whole number of entries")
    entries: list[AbortedEntry] = []
    least = base_offset
    for version, *values in _ENTRY.iter_unpack(content):
        entry = AbortedEntry(*values)
        if version != _VERSION:
            raise ValueError(f"an entry of version {version}; {_VERSION} is supported")
        if not least <= entry.last_offset < next_offset or entry.first_offset >= entry.last_offset:
            raise ValueError(f"{entry} does not belong between {least} and {next_offset}")
        least = entry.last_offset + 1
        entries.append(entry)
    return entries


class TransactionIndex:
    """Of one log. `bases`: the segments with a file, which has been checked."""

    def __init__(self, disk: Disk, directory: Path, bases: Iterable[int]) -> None:
        self._disk = disk
        self._directory = directory
        self._entries: dict[int, list[AbortedEntry] | None] = dict.fromkeys(sorted(bases))
        self._changed: set[int] = set()
        self._taken: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def append(self, base_offset: int, entries: Sequence[AbortedEntry]) -> None:
        """These ended in the segment that begins there, the last one of the log."""
        content = encode(entries)
        fd = self._disk.open(self._path(base_offset), _APPEND_FLAGS, FILE_MODE)
        try:
            self._disk.write_all(fd, [content], len(content))
        finally:
            self._disk.close(fd)
        self._changed.add(base_offset)
        known = self._entries.setdefault(base_offset, [])
        if known is not None:
            known += entries

    def find(self, offset: int, end_offset: int) -> list[AbortedTransaction]:
        """Those of which records may lie from `offset` up to `end_offset` (exclusive), by their
        first offsets."""
        found: list[AbortedEntry] = []
        bases = list(self._entries)  # ascending
        for base_offset in bases[max(0, bisect_right(bases, offset) - 1) :]:
            entries = self._of(base_offset)
            for entry in entries[bisect_left(entries, offset, key=_last_offset) :]:
                if entry.first_offset < end_offset:
                    found.append(entry)
                if entry.last_stable_offset >= end_offset:
                    return _by_first(found)
        return _by_first(found)

    def of_segments(self, bases: Iterable[int]) -> list[AbortedEntry]:
        """All entries of these segments."""
        return [entry for base in bases if base in self._entries for entry in self._of(base)]

    def _of(self, base_offset: int) -> list[AbortedEntry]:
        entries = self._entries[base_offset]
        if entries is None:
            content = self._disk.read_file(self._path(base_offset))
            try:
                entries = decode(content, base_offset, 2**63)
            except ValueError as error:
                raise OSError(f"{self._path(base_offset)} is damaged: {error}") from error
            if not entries:
                raise OSError(f"{self._path(base_offset)} has lost its entries")
            self._entries[base_offset] = entries
        return entries

    def truncate(self, offset: int) -> None:
        """The log was cut to `offset`: what ended there or above has not ended. Files of segments
        that went are gone already."""
        for base_offset in list(self._entries):
            if base_offset >= offset:
                self._drop(base_offset)
                continue
            entries = self._of(base_offset)
            keep = bisect_left(entries, offset, key=_last_offset)
            if keep == len(entries):
                continue
            if keep == 0:
                self._drop(base_offset)
                continue
            fd = self._disk.open(self._path(base_offset), os.O_WRONLY | os.O_CLOEXEC)
            try:
                self._disk.ftruncate(fd, keep * _ENTRY.size)
            finally:
                self._disk.close(fd)
            del entries[keep:]
            self._changed.add(base_offset)

    def _drop(self, base_offset: int) -> None:
        self._disk.remove(self._path(base_offset))
        self.forget([base_offset])

    def forget(self, bases: Iterable[int]) -> None:
        """These segments have gone, with their files."""
        for base_offset in bases:
            self._entries.pop(base_offset, None)
            self._changed.discard(base_offset)

    def replaced(self, base_offset: int, has_file: bool) -> None:
        """This segment is another one now, wholly on the disk (compaction)."""
        self.forget([base_offset])
        if has_file:
            self._entries[base_offset] = None
            self._entries = dict(sorted(self._entries.items()))

    # --- making it durable -----------------------------------------------------------------------

    def take_changed(self) -> list[Path]:
        """The files that an fsync has to take along now."""
        self._taken, self._changed = self._changed, set()
        return [self._path(base_offset) for base_offset in sorted(self._taken)]

    def put_back(self) -> None:
        """That fsync could not be made."""
        self._changed |= self._taken.intersection(self._entries)

    def _path(self, base_offset: int) -> Path:
        return self._directory / offset_name(base_offset, TRANSACTION_INDEX_SUFFIX)


def _last_offset(entry: AbortedEntry) -> int:
    return entry.last_offset


def _by_first(entries: Sequence[AbortedEntry]) -> list[AbortedTransaction]:
    found = [AbortedTransaction(entry.producer_id, entry.first_offset) for entry in entries]
    found.sort(key=lambda each: each.first_offset)
    return found
