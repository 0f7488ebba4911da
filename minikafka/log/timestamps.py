"""Finding offsets by timestamp: time index, then batch headers, then the records of one batch."""

from __future__ import annotations

from collections.abc import Sequence

from minikafka.errors import CorruptMessageError
from minikafka.log.segment import NO_TIMESTAMP, Segment
from minikafka.model import BatchHeader
from minikafka.records.header import (
    CODEC_MASK,
    TIMESTAMP_TYPE_LOG_APPEND,
    delete_horizon_ms,
)
from minikafka.records.read import iter_records


def offset_for_timestamp(
    segments: Sequence[Segment], log_start_offset: int, timestamp_ms: int
) -> tuple[int, int] | None:
    """(offset, timestamp) of the first record at or after `timestamp_ms` and the log's start.

    A compressed batch is not opened: it answers with its first offset, and with its largest
    timestamp if its base timestamp is too early. Raises OSError.
    """
    for segment in segments:
        if segment.size_bytes == 0 or segment.max_timestamp()[0] < timestamp_ms:
            continue
        start = max(segment.offset_before_timestamp(timestamp_ms), log_start_offset)
        for position, header in segment.headers(start):
            if header.max_timestamp_ms >= timestamp_ms and header.next_offset > log_start_offset:
                found = _in_batch(segment, position, header, log_start_offset, timestamp_ms)
                if found is not None:
                    return found
    return None


def max_timestamp(segments: Sequence[Segment], log_start_offset: int) -> tuple[int, int] | None:
    """(last offset of the first batch with the largest timestamp, that timestamp); None for a log
    without timestamps. Raises OSError."""
    best: tuple[int, int] | None = None
    for segment in segments:
        if segment.size_bytes == 0:
            continue
        timestamp_ms, offset = segment.max_timestamp()
        if offset < log_start_offset:
            timestamp_ms, offset = _max_from(segment, log_start_offset)
        if timestamp_ms > (best[1] if best else NO_TIMESTAMP):
            best = (offset, timestamp_ms)
    return best


def _max_from(segment: Segment, offset: int) -> tuple[int, int]:
    best = (NO_TIMESTAMP, offset)
    for _, header in segment.headers(offset):
        if header.max_timestamp_ms > best[0] and header.record_count:
            best = (header.max_timestamp_ms, header.last_offset)
    return best


def _in_batch(
    segment: Segment,
    position: int,
    header: BatchHeader,
    log_start_offset: int,
    timestamp_ms: int,
) -> tuple[int, int] | None:
    first_offset = max(header.base_offset, log_start_offset)
    if header.attributes & (CODEC_MASK | TIMESTAMP_TYPE_LOG_APPEND):
        append_time = header.attributes & TIMESTAMP_TYPE_LOG_APPEND
        begins_late = header.base_timestamp_ms >= timestamp_ms
        if begins_late and not append_time and delete_horizon_ms(header) is None:
            return first_offset, header.base_timestamp_ms
        return first_offset, header.max_timestamp_ms
    batch = segment.read(position, position + header.size_bytes)  # open: headers() is under way
    try:
        for record in iter_records(batch, header):
            if record.timestamp_ms >= timestamp_ms and record.offset >= log_start_offset:
                return record.offset, record.timestamp_ms
    except CorruptMessageError:
        return first_offset, header.max_timestamp_ms  # the producer's fault: as if it were opaque
    return None
