"""Producer snapshots: the idempotent producers of a log as they were at one offset, and the
transactions that were not stable then.

A file `<offset>.snapshot` holds the state before the batch at `offset`:

    crc          uint32   CRC-32C of what follows
    version      int16    3
    count        int32    producers, then for each, the one that appended last at the end:
        producer id int64, producer epoch int16, active ms int64, coordinator epoch int32,
        open first offset int64, last timestamp ms int64, marker end int64, starts anywhere int8,
        batches int8, then for each batch, oldest first:
            first sequence int32, last sequence int32, base offset int64, last offset int64
    count        int32    ended transactions whose marker was not known to be committed, then for
                          each, in the order of the markers:
        first offset int64, marker's offset int64

Version 2 had of producers no more than id, epoch, active ms and batches, and no transactions; it
can be read. A snapshot of another version is taken for damaged.

The state at the log's end is the newest intact snapshot and a replay of the batch headers after it.
A snapshot is written when a segment is rolled (at the new segment's base offset) and when the log
is closed; those above a truncation are removed, so that none ever speaks of records that are not
there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from struct import Struct
from struct import error as StructError

from crc32c import crc32c

from minikafka.core.replication.producer_state import (
    NO_TRANSACTION,
    ProducedBatch,
    ProducerState,
    ProducerStateTable,
)
from minikafka.errors import CorruptMessageError
from minikafka.log.files import Disk
from minikafka.log.segment import SNAPSHOT_SUFFIX, Segment, offset_name
from minikafka.log.transaction_index import AbortedEntry
from minikafka.model import CONTROL, BatchHeader, EndMarker
from minikafka.records.markers import read_marker

_CRC = Struct(">I")
_HEAD = Struct(">hi")
_PRODUCER = {2: Struct(">qhqb"), 3: Struct(">qhqiqqqbb")}
_BATCH = Struct(">iiqq")
_COUNT = Struct(">i")
_ENDED = Struct(">qq")
_VERSION = _WITH_TRANSACTIONS = 3
_logger = logging.getLogger("minikafka.log")


def write_snapshot(
    disk: Disk, directory: Path, offset: int, table: ProducerStateTable, durable: bool
) -> None:
    """Raises OSError."""
    parts = [_HEAD.pack(_VERSION, len(table))]
    pack = _PRODUCER[_VERSION].pack
    for producer_id, state in table.items():
        parts.append(
            pack(
                producer_id,
                state.producer_epoch,
                state.active_ms,
                state.coordinator_epoch,
                state.open_first_offset,
                state.last_timestamp_ms,
                state.marker_end,
                state.starts_anywhere,
                len(state.batches),
            )
        )
        parts += [
            _BATCH.pack(
                batch.first_sequence,
                batch.last_sequence,
                batch.base_offset,
                batch.last_offset,
            )
            for batch in state.batches
        ]
    ended = table.unstable.ended()
    parts.append(_COUNT.pack(len(ended)))
    parts += [_ENDED.pack(*each) for each in ended]
    content = b"".join(parts)
    path = directory / offset_name(offset, SNAPSHOT_SUFFIX)
    disk.write_file(path, _CRC.pack(crc32c(content)) + content, durable)


def read_snapshot(disk: Disk, path: Path) -> ProducerStateTable | None:
    """None if the file is damaged."""
    content = disk.read_file(path)
    try:
        if _CRC.unpack_from(content)[0] != crc32c(content[_CRC.size :]):
            raise ValueError("its CRC is wrong")
        return _decoded(content)
    except (ValueError, StructError) as error:
        _logger.warning("producer snapshot %s is damaged and not used: %s", path, error)
        return None


def _decoded(content: bytes) -> ProducerStateTable:
    version, count = _HEAD.unpack_from(content, _CRC.size)
    if version not in _PRODUCER:
        raise ValueError(f"version {version}; {min(_PRODUCER)} to {_VERSION} are supported")
    layout = _PRODUCER[version]
    table = ProducerStateTable()
    position = _CRC.size + _HEAD.size
    for _ in range(count):
        producer_id, producer_epoch, active_ms, *more, batches = layout.unpack_from(
            content, position
        )
        position += layout.size
        state = ProducerState(producer_epoch, active_ms=active_ms)
        if more:
            state.coordinator_epoch, state.open_first_offset, state.last_timestamp_ms = more[:3]
            state.marker_end, state.starts_anywhere = more[3], bool(more[4])
        for _ in range(batches):
            state.batches.append(ProducedBatch(*_BATCH.unpack_from(content, position)))
            position += _BATCH.size
        table.restore(producer_id, state)
    if version >= _WITH_TRANSACTIONS:
        (ended,) = _COUNT.unpack_from(content, position)
        position += _COUNT.size
        for first_offset, marker_offset in _ENDED.iter_unpack(
            content[position : position + ended * _ENDED.size]
        ):
            table.restore_ended(first_offset, marker_offset)
    return table


def snapshot_offsets(disk: Disk, directory: Path) -> list[int]:
    """The offsets of all snapshots of a log, ascending."""
    found = disk.names(directory, SNAPSHOT_SUFFIX)
    names = (name.removesuffix(SNAPSHOT_SUFFIX) for name in found)
    return sorted(int(name) for name in names if name.isdecimal())


def remove_snapshots(disk: Disk, directory: Path, offsets: Iterable[int]) -> None:
    for offset in offsets:
        disk.remove(directory / offset_name(offset, SNAPSHOT_SUFFIX))


def load_producers(
    disk: Disk, directory: Path, segments: Iterable[Segment], log_end_offset: int
) -> ProducerStateTable:
    """The state at `log_end_offset`. Raises OSError."""
    table, start = ProducerStateTable(), 0
    for offset in reversed(snapshot_offsets(disk, directory)):
        if offset <= log_end_offset:
            snapshot = read_snapshot(disk, directory / offset_name(offset, SNAPSHOT_SUFFIX))
            if snapshot is not None:
                table, start = snapshot, offset
                break
    for segment in segments:
        if segment.next_offset > start:
            replay(segment, start, table)
    return table


def replay(segment: Segment, start: int, table: ProducerStateTable) -> list[AbortedEntry]:
    """Take what lies in a segment from `start` on into the table; what the transaction index says
    of the same. Only control batches are looked into. Raises OSError."""
    entries: list[AbortedEntry] = []
    for position, header in segment.headers(start):
        if header.base_offset < start:
            continue
        if header.attributes & CONTROL:
            entry = take_marker(table, header, _read_marker(segment, position, header))
            if entry is not None:
                entries.append(entry)
        else:
            table.update(header)
    return entries


def _read_marker(segment: Segment, position: int, header: BatchHeader) -> EndMarker | None:
    try:
        return read_marker(segment.read(position, position + header.size_bytes), header)
    except CorruptMessageError as error:
        raise OSError(str(error)) from error


def take_marker(
    table: ProducerStateTable, header: BatchHeader, marker: EndMarker | None
) -> AbortedEntry | None:
    """Take a control batch into the table; the entry of the index, if it aborts anything."""
    first_offset = table.update(header, marker)
    if marker is None or marker.commits or first_offset == NO_TRANSACTION:
        return None
    first_open = table.unstable.first_open()
    stable = header.next_offset if first_open is None else first_open
    return AbortedEntry(header.producer_id, first_offset, header.base_offset, stable)
