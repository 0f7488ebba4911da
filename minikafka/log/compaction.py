"""One round of compaction over closed segments: which records may go, and the segments without
them. Reads and writes files; touches no log.

The round maps the keys of the *dirty* part (what was appended since the last round) to their newest
offsets, as far as memory goes, and then rewrites everything from the log's first segment up to
where the map ends: a record stays if its key has no newer one. Offsets, batch boundaries, epochs
and sequences stay (records/compact.py).

What stays besides:

- tombstones, until their delete horizon: `delete.retention.ms` after the first round that saw them;
- the last batch of each idempotent producer that is remembered, emptied if need be (KAFKA-5490);
- the last batch of each new segment, emptied if need be: so a segment ends where the next begins,
  and recovery can still tell a lost tail;
- the first batch of each leader epoch, emptied if need be: so a follower that never had the rest
  still learns where the epoch began (replication.md, no. 15);
- transaction markers while records of their transaction are left, then like tombstones; but the
  last one of each producer that is remembered, which says what its epoch is.

Records of aborted transactions go. A round ends below the first transaction that is not decided
within the closed segments, so nothing at or above the last stable offset is ever judged.

State of a `Round`: the map and how far it goes; the transactions' markers; producers with
transactional records since their last marker; the leader epoch that was reached. Invariants:
`end_offset` is a batch boundary and at most the end of the segments given. All methods except
`stop.set` are for one thread, which gives way to the broker's loop every now and then.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minikafka.config import TopicConfig
from minikafka.log.files import Buffer, Disk
from minikafka.log.index import MAX_RELATIVE_OFFSET, OFFSET_ENTRY, TIME_ENTRY
from minikafka.log.scan import scan
from minikafka.log.segment import TRANSACTION_INDEX_SUFFIX, Segment
from minikafka.log.swap import CLEANED_SUFFIX
from minikafka.log.transaction_index import AbortedEntry, encode
from minikafka.model import BatchHeader
from minikafka.records.compact import empty_batch, filler_batch, filter_batch
from minikafka.records.header import (
    delete_horizon_ms,
    is_control,
    is_transactional,
    parse_header,
    verify_crc,
)
from minikafka.records.markers import read_marker
from minikafka.records.read import KeyedRecord, decompressed, iter_keys

ENTRY_BYTES = 160  # of a key in the map, besides the key itself: dict slot, two objects
_WRITE_BYTES = 256 * 1024
_WORK_S = 0.001
_REST_S = 0.000_5


class StoppedError(Exception):
    """The round was given up: the log was cut, deleted or closed under it."""


@dataclass(frozen=True)
class Source:
    """A closed segment as the round reads it."""

    base_offset: int
    next_offset: int
    size_bytes: int
    path: Path


@dataclass
class Round:
    """See the module. `last_offsets` are those of the last batches of remembered producers,
    `last_markers` those of their last markers; `aborted`: what the transaction index says of the
    sources. `map_bytes` bounds the map's memory (it holds at least one batch)."""

    disk: Disk
    directory: Path
    config: TopicConfig
    sources: Sequence[Source]
    first_dirty_offset: int
    last_offsets: Mapping[int, int]
    now_ms: int
    map_bytes: int
    rest: Callable[[float], None] = time.sleep
    stop: threading.Event = field(default_factory=threading.Event)
    last_markers: Collection[int] = ()
    aborted: Sequence[AbortedEntry] = ()

    def __post_init__(self) -> None:
        self.end_offset = self.first_dirty_offset
        self._newest: dict[bytes, int] = {}
        self._markers: dict[int, tuple[list[int], list[bool]]] = {}  # offsets, committed
        self._with_records: set[int] = set()
        self._epoch: int | None = None  # of the batch that was written last
        self._rested = time.monotonic()

    # --- mapping ---------------------------------------------------------------------------------

    def map_keys(self) -> None:
        """Find the newest offset of each key of the dirty part. Raises OSError,
        CorruptMessageError, UnsupportedCompressionTypeError, StoppedError."""
        dirty = [each for each in self.sources if each.next_offset > self.first_dirty_offset]
        limit = self._find_markers(dirty)
        used_bytes = 0
        for source in dirty:
            for header, batch in self._batches(source):
                if header.next_offset <= self.first_dirty_offset:
                    continue
                if header.base_offset >= limit or used_bytes > self.map_bytes:
                    return
                used_bytes += self._map_batch(header, batch)
                self.end_offset = header.next_offset
            self.end_offset = max(self.end_offset, min(source.next_offset, limit))

    def _map_batch(self, header: BatchHeader, batch: bytes) -> int:
        if header.record_count == 0 or is_control(header) or self._is_aborted(header):
            return 0
        newest, added_bytes = self._newest, 0
        for record in iter_keys(decompressed(batch, header), header):
            key = record.key
            if key is not None:
                if key not in newest:
                    added_bytes += ENTRY_BYTES + len(key)
                newest[key] = record.offset
        return added_bytes

    def _find_markers(self, dirty: Sequence[Source]) -> int:
        """Learn how transactions ended; returns where the first undecided one begins, or the end of
        the segments."""
        undecided: dict[int, int] = {}  # producer id -> first offset
        for source in dirty:
            for header, position, fd in self._headers(source):
                if not is_transactional(header) or not header.record_count:
                    continue  # a batch that was emptied may have lost its marker already
                if header.next_offset <= self.first_dirty_offset:
                    continue  # decided, or an earlier round would have ended there
                if not is_control(header):
                    undecided.setdefault(header.producer_id, header.base_offset)
                    continue
                marker = read_marker(self.disk.pread(fd, header.size_bytes, position), header)
                if marker is not None:
                    offsets, committed = self._markers.setdefault(header.producer_id, ([], []))
                    offsets.append(header.base_offset)
                    committed.append(marker.commits)
                    undecided.pop(header.producer_id, None)
        return min(undecided.values(), default=self.sources[-1].next_offset)

    def _is_aborted(self, header: BatchHeader) -> bool:
        """Does this batch of records belong to an aborted transaction? What an earlier round has
        left does not."""
        if not is_transactional(header) or header.next_offset <= self.first_dirty_offset:
            return False
        offsets, committed = self._markers[header.producer_id]
        return not committed[bisect_right(offsets, header.base_offset)]

    # --- rewriting -------------------------------------------------------------------------------

    def groups(self) -> list[tuple[Source, ...]]:
        """The segments to rewrite, in order; each group becomes one that is no larger than segments
        are meant to be."""
        groups: list[tuple[Source, ...]] = []
        for source in self.sources:
            if source.base_offset >= self.end_offset:
                break
            if groups and self._fits((*groups[-1], source)):
                groups[-1] += (source,)
            else:
                groups.append((source,))
        return groups

    def _fits(self, group: Sequence[Source]) -> bool:
        size_bytes = sum(source.size_bytes for source in group)
        entries = size_bytes // max(self.config.index_interval_bytes, 1) + len(group)
        index_bytes = entries * max(OFFSET_ENTRY.size, TIME_ENTRY.size)
        return (
            size_bytes <= self.config.segment_bytes
            and index_bytes <= self.config.segment_index_bytes
            and group[-1].next_offset - group[0].base_offset <= MAX_RELATIVE_OFFSET
        )

    def rewrite(self, group: Sequence[Source]) -> Segment | None:
        """Write what stays of a group as one new segment, all of it on the disk when this returns;
        None if that is everything (and it is one segment already). Groups come in order.

        Raises as `map_keys` does; then nothing is left of it.
        """
        segment = Segment.create(self.disk, self.directory, group[0].base_offset, CLEANED_SUFFIX)
        try:
            changed = self._write(segment, group) or len(group) > 1
            if changed and segment.size_bytes:
                assert segment.next_offset == group[-1].next_offset, (segment, group)
                segment.seal()
                self._write_aborted(segment)
                return segment
        except BaseException:
            discard(self.disk, segment)
            raise
        discard(self.disk, segment)
        return None

    def aborted_in(self, segment: Segment) -> list[AbortedEntry]:
        """What its transaction index has to say: the round takes every aborted record below its
        end, and in time the markers too. Of a marker that is gone, a reader would not learn where
        the aborted records of its producer end."""
        return [
            entry
            for entry in self.aborted
            if segment.base_offset <= entry.last_offset < segment.next_offset
            and entry.last_offset >= self.end_offset
        ]

    def _write_aborted(self, segment: Segment) -> None:
        entries = self.aborted_in(segment)
        if entries:
            path = segment.file(TRANSACTION_INDEX_SUFFIX)
            self.disk.write_file(path, encode(entries), durable=True)

    def _write(self, segment: Segment, group: Sequence[Source]) -> bool:
        """Whether anything differs from what was there."""
        changed = False
        buffers: list[Buffer] = []
        size_bytes = 0
        end = group[-1].next_offset
        header: BatchHeader | None = None
        for source in group:
            for header, batch in self._batches(source):
                stays = self._what_stays(header, batch, end)
                changed = changed or stays is not batch
                if stays is None:
                    continue
                buffers.append(stays)
                size_bytes += len(stays)
                if size_bytes >= _WRITE_BYTES:
                    self._append(segment, buffers, size_bytes)
                    buffers, size_bytes = [], 0
        if header is not None and header.next_offset < end:  # what lay there was never here
            buffers.append(filler_batch(header.next_offset, end, header.leader_epoch))
            size_bytes, changed = size_bytes + len(buffers[-1]), True
        if buffers:
            self._append(segment, buffers, size_bytes)
        return changed

    def _append(self, segment: Segment, buffers: Sequence[Buffer], size_bytes: int) -> None:
        headers = [parse_header(buffer) for buffer in buffers]
        segment.append(buffers, headers, size_bytes, self.config.index_interval_bytes)

    def _what_stays(self, header: BatchHeader, batch: bytes, end_of_group: int) -> Buffer | None:
        """The batch itself, another in its place, or nothing."""
        begins_epoch = header.leader_epoch != self._epoch
        self._epoch = header.leader_epoch
        if header.base_offset >= self.end_offset:
            return batch
        stays: Buffer | None = None
        if header.record_count and is_control(header):
            stays = self._what_stays_of_marker(header, batch)
        elif header.record_count and not self._is_aborted(header):
            stays = filter_batch(batch, header, self._keeper(header), self._horizon_ms)
            if stays is not None and is_transactional(header):
                self._with_records.add(header.producer_id)
        if stays is not None:
            return stays
        is_last_of_producer = self.last_offsets.get(header.producer_id) == header.last_offset
        if begins_epoch or is_last_of_producer or header.next_offset == end_of_group:
            return batch if header.record_count == 0 else empty_batch(header)
        return None

    @property
    def _horizon_ms(self) -> int:
        return self.now_ms + self.config.delete_retention_ms

    def _keeper(self, header: BatchHeader) -> Callable[[KeyedRecord], bool]:
        newest = self._newest
        tombstones_stay = not self._is_past_horizon(header)

        def keep(record: KeyedRecord) -> bool:
            key = record.key
            if key is None or newest.get(key, -1) > record.offset:
                return False
            return tombstones_stay or not record.tombstone

        return keep

    def _what_stays_of_marker(self, header: BatchHeader, batch: bytes) -> Buffer | None:
        if header.producer_id in self._with_records:
            self._with_records.remove(header.producer_id)
            return batch
        if self._is_past_horizon(header) and header.base_offset not in self.last_markers:
            return None
        return filter_batch(batch, header, lambda record: True, self._horizon_ms, is_marker=True)

    def _is_past_horizon(self, header: BatchHeader) -> bool:
        horizon_ms = delete_horizon_ms(header)
        return horizon_ms is not None and self.now_ms >= horizon_ms

    # --- reading ---------------------------------------------------------------------------------

    def _headers(self, source: Source) -> Iterator[tuple[BatchHeader, int, int]]:
        """(header, position, open file) of each batch."""
        fd = self.disk.open(source.path, 0)
        try:
            for position, header in scan(self.disk, fd, 0, source.size_bytes):
                self._breathe()
                yield header, position, fd
        finally:
            self.disk.close(fd)

    def _batches(self, source: Source) -> Iterator[tuple[BatchHeader, bytes]]:
        """Each batch whole. The CRC is checked: damage must not get a new one that is right."""
        for header, position, fd in self._headers(source):
            batch = self.disk.pread(fd, header.size_bytes, position)
            verify_crc(batch, 0, header)
            yield header, batch

    def _breathe(self) -> None:
        """Let the loop have the interpreter; and end if nobody wants the result."""
        if self.stop.is_set():
            raise StoppedError
        if time.monotonic() - self._rested >= _WORK_S:
            self.rest(_REST_S)
            self._rested = time.monotonic()


def discard(disk: Disk, segment: Segment) -> None:
    """Remove a new segment that is not in place."""
    segment.deactivate(write_indexes=False)
    for path in segment.files():
        disk.remove(path)
