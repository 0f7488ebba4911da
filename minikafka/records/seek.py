"""Finding one record of a batch by its time, however many there are and whatever they hold.

The records are walked over piece by piece as they are decompressed (walk.py), so the memory is that
of a piece and of the largest record. Where compaction has left gaps, each record is looked at by
itself. No state. Everything raises CorruptMessageError for records that cannot be read, and
UnsupportedCompressionTypeError for a codec that there is none of.
"""

from __future__ import annotations

from minikafka.model import BatchHeader
from minikafka.records.header import TIMESTAMP_TYPE_LOG_APPEND, Buffer
from minikafka.records.pieces import pieces
from minikafka.records.read import decompressed, iter_keys
from minikafka.records.walk import NAMED_AT_MOST, walk

_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1
Found = tuple[int, int]  # offset, timestamp ms


def first_from(
    batch: Buffer, header: BatchHeader, timestamp_ms: int, from_offset: int
) -> Found | None:
    """The first record at or after this time, and at or above this offset."""
    if header.attributes & TIMESTAMP_TYPE_LOG_APPEND:
        late = header.max_timestamp_ms >= timestamp_ms and from_offset <= header.last_offset
        return (max(header.base_offset, from_offset), header.max_timestamp_ms) if late else None
    if not _is_whole(header):
        return _first_of_some(batch, header, timestamp_ms, from_offset)
    least = max(from_offset - header.base_offset, 0)
    for piece in pieces(batch, header, keyed=False, times=(_MIN_INT64, timestamp_ms - 1)):
        named = piece.walked.untimely or ()
        place = next((each for each in named if each >= least), None)
        if place is not None:
            return header.base_offset + place, _timestamp_of(piece.data, header, piece.first, place)
        if len(named) == NAMED_AT_MOST:  # all of them below the offset, and there may be more
            return _first_of_some(batch, header, timestamp_ms, from_offset)
    return None


def _timestamp_of(data: Buffer, header: BatchHeader, first: int, place: int) -> int:
    before = walk(
        data, 0, place - first, first, header.base_timestamp_ms, False, _MIN_INT64, _MAX_INT64
    )
    found = walk(data, before[0], 1, place, header.base_timestamp_ms, False, _MIN_INT64, _MAX_INT64)
    return found[3]


def newest_of(batch: Buffer, header: BatchHeader, from_offset: int) -> Found | None:
    """The first of the records with the largest timestamp, of those at or above this offset; None
    if none has a timestamp."""
    if header.attributes & TIMESTAMP_TYPE_LOG_APPEND:
        return max(header.base_offset, from_offset), header.max_timestamp_ms
    if from_offset > header.base_offset or not _is_whole(header):
        return _newest_of_some(batch, header, from_offset)
    best_ms, place = -1, -1
    for piece in pieces(batch, header, keyed=False, times=(_MIN_INT64, _MAX_INT64)):
        if piece.walked.max_ms > best_ms:
            best_ms, place = piece.walked.max_ms, piece.walked.max_index
    return None if place < 0 else (header.base_offset + place, best_ms)


def _is_whole(header: BatchHeader) -> bool:
    return header.record_count == header.last_offset_delta + 1


def _first_of_some(
    batch: Buffer, header: BatchHeader, timestamp_ms: int, from_offset: int
) -> Found | None:
    for record in iter_keys(decompressed(batch, header), header):
        if record.timestamp_ms >= timestamp_ms and record.offset >= from_offset:
            return record.offset, record.timestamp_ms
    return None


def _newest_of_some(batch: Buffer, header: BatchHeader, from_offset: int) -> Found | None:
    best: Found | None = None
    for record in iter_keys(decompressed(batch, header), header):
        if record.offset >= from_offset and record.timestamp_ms > (best[1] if best else -1):
            best = record.offset, record.timestamp_ms
    return best
