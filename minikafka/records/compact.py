"""Taking records out of a finished batch: what compaction does to one (records/header.py and
records/read.py have the layouts).

A batch that loses records keeps its base offset, last offset delta, leader epoch and producer
fields, so that offsets, epochs and sequences read as before; the records that stay are copied byte
for byte, for their deltas count from a base that stays as well. One that loses all of them may stay
as a header alone: it says where the log goes on, and how far a producer has come (KAFKA-5490).

A batch with tombstones (or a transaction marker) gets a delete horizon when compaction comes upon
it for the first time: its base timestamp becomes the time from which they may go, and the
timestamp deltas are rewritten to count from that (KIP-534). So it outlives restarts, and replicas
that copy the batch agree on it.

Pure, without state.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from crc32c import crc32c

from minikafka.model import BatchHeader
from minikafka.records.build import NO_TIMESTAMP, encode_varint
from minikafka.records.compression import compress
from minikafka.records.header import (
    CODEC_MASK,
    CRC_START,
    DELETE_HORIZON,
    HEADER_BYTES,
    LENGTH_PREFIX_BYTES,
    MAGIC,
    TIMESTAMP_TYPE_LOG_APPEND,
    Buffer,
    delete_horizon_ms,
)
from minikafka.records.read import KeyedRecord, decompressed, iter_keys

_BEFORE_CRC_END = Struct(">qiibI")
_AFTER_CRC = Struct(">hiqqqhii")
assert (_BEFORE_CRC_END.size, _AFTER_CRC.size) == (CRC_START, HEADER_BYTES - CRC_START)


def filter_batch(
    batch: Buffer,
    header: BatchHeader,
    keep: Callable[[KeyedRecord], bool],
    horizon_ms: int,
    *,
    is_marker: bool = False,
) -> Buffer | None:
    """The batch with the records that `keep` wants: `batch` itself if nothing changes, None if no
    record stays. `horizon_ms` becomes the delete horizon if it has none and a tombstone stays, or
    if `is_marker` (of a transaction without records).

    Raises CorruptMessageError or UnsupportedCompressionTypeError for records that cannot be read.
    """
    data = decompressed(batch, header)
    kept = [record for record in iter_keys(data, header) if keep(record)]
    if not kept:
        return None
    needs_horizon = delete_horizon_ms(header) is None and (
        is_marker or any(record.tombstone for record in kept)
    )
    if needs_horizon:
        header = header._replace(attributes=header.attributes | DELETE_HORIZON)
        base_timestamp_ms = horizon_ms
        parts = [_rebased(data, record, header, horizon_ms) for record in kept]
    elif len(kept) == header.record_count:
        return batch
    else:
        base_timestamp_ms = header.base_timestamp_ms
        parts = [data[record.start : record.end] for record in kept]
    if header.attributes & TIMESTAMP_TYPE_LOG_APPEND:
        max_timestamp_ms = header.max_timestamp_ms
    else:
        max_timestamp_ms = max(record.timestamp_ms for record in kept)
    records = compress(header.attributes & CODEC_MASK, b"".join(parts))
    return _assemble(
        header._replace(
            base_timestamp_ms=base_timestamp_ms,
            max_timestamp_ms=max_timestamp_ms,
            record_count=len(kept),
        ),
        records,
    )


def empty_batch(header: BatchHeader) -> bytes:
    """The batch without records: it keeps the producer's last sequence."""
    codec_and_horizon = CODEC_MASK | DELETE_HORIZON
    return _assemble(
        header._replace(
            attributes=header.attributes & ~codec_and_horizon,
            base_timestamp_ms=NO_TIMESTAMP,
            record_count=0,
        ),
        b"",
    )


def filler_batch(base_offset: int, next_offset: int, leader_epoch: int) -> bytes:
    """An empty batch of no producer that covers base_offset .. next_offset (exclusive)."""
    delta = next_offset - base_offset - 1
    return _assemble(
        BatchHeader(
            base_offset, 0, leader_epoch, 0, 0, delta, NO_TIMESTAMP, NO_TIMESTAMP, -1, -1, -1, 0
        ),
        b"",
    )


def _rebased(
    data: bytes, record: KeyedRecord, header: BatchHeader, base_timestamp_ms: int
) -> bytes:
    """The record with its timestamp delta counted from another base."""
    delta_ms = 0
    if not header.attributes & TIMESTAMP_TYPE_LOG_APPEND:
        delta_ms = record.timestamp_ms - base_timestamp_ms
    attributes = data[record.delta_start - 1 : record.delta_start]
    body = attributes + encode_varint(delta_ms) + data[record.delta_end : record.end]
    return encode_varint(len(body)) + body


def _assemble(header: BatchHeader, records: bytes) -> bytes:
    """The batch of these fields; size and CRC in `header` are not used."""
    after_crc = _AFTER_CRC.pack(
        header.attributes,
        header.last_offset_delta,
        header.base_timestamp_ms,
        header.max_timestamp_ms,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        header.record_count,
    )
    before_crc_end = _BEFORE_CRC_END.pack(
        header.base_offset,
        HEADER_BYTES - LENGTH_PREFIX_BYTES + len(records),
        header.leader_epoch,
        MAGIC,
        crc32c(records, crc32c(after_crc)),
    )
    return b"".join((before_crc_end, after_crc, records))
