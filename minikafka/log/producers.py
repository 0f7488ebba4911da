"""Producer snapshots: the idempotent producers of a log as they were at one offset.

A file `<offset>.snapshot` holds the state before the batch at `offset`:

    crc          uint32   CRC-32C of what follows
    version      int16    2
    count        int32    producers, then for each, the one that appended last at the end:
        producer id int64, producer epoch int16, active ms int64, batches int8, then for each batch,
        oldest first:
            first sequence int32, last sequence int32, base offset int64, last offset int64

A snapshot of another version is taken for damaged.

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
    ProducedBatch,
    ProducerState,
    ProducerStateTable,
)
from minikafka.log.files import Disk
from minikafka.log.segment import SNAPSHOT_SUFFIX, Segment, offset_name

_CRC = Struct(">I")
_HEAD = Struct(">hi")
_PRODUCER = Struct(">qhqb")
_BATCH = Struct(">iiqq")
_VERSION = 2
_logger = logging.getLogger("minikafka.log")


def copy_producers(table: ProducerStateTable) -> ProducerStateTable:
    """An independent copy (the batches themselves are frozen)."""
    copy = ProducerStateTable()
    for producer_id, state in table.items():
        copied = ProducerState(state.producer_epoch, list(state.batches), state.active_ms)
        copy.restore(producer_id, copied)
    return copy


def write_snapshot(
    disk: Disk, directory: Path, offset: int, table: ProducerStateTable, durable: bool
) -> None:
    """Raises OSError."""
    parts = [_HEAD.pack(_VERSION, len(table))]
    for producer_id, state in table.items():
        parts.append(
            _PRODUCER.pack(producer_id, state.producer_epoch, state.active_ms, len(state.batches))
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
    content = b"".join(parts)
    path = directory / offset_name(offset, SNAPSHOT_SUFFIX)
    disk.write_file(path, _CRC.pack(crc32c(content)) + content, durable)


def read_snapshot(disk: Disk, path: Path) -> ProducerStateTable | None:
    """None if the file is damaged."""
    content = disk.read_file(path)
    try:
        if _CRC.unpack_from(content)[0] != crc32c(content[_CRC.size :]):
            raise ValueError("its CRC is wrong")
        version, count = _HEAD.unpack_from(content, _CRC.size)
        if version != _VERSION:
            raise ValueError(f"version {version}; {_VERSION} is supported")
        table = ProducerStateTable()
        position = _CRC.size + _HEAD.size
        for _ in range(count):
            producer_id, producer_epoch, active_ms, batches = _PRODUCER.unpack_from(
                content, position
            )
            position += _PRODUCER.size
            state = ProducerState(producer_epoch, active_ms=active_ms)
            for _ in range(batches):
                state.batches.append(ProducedBatch(*_BATCH.unpack_from(content, position)))
                position += _BATCH.size
            table.restore(producer_id, state)
    except (ValueError, StructError) as error:
        _logger.warning("producer snapshot %s is damaged and not used: %s", path, error)
        return None
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
            for _, header in segment.headers(start):
                if header.base_offset >= start:
                    table.update(header)
    return table
