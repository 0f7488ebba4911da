"""Which batches fit behind the end of a log, looked at before a byte of them is written. No state.

Offsets are int64, but within a segment Kafka counts them in 31 bits from its base offset, and
positions in 31 bits from its begin. A batch may claim up to 2^31 offsets in few bytes: then each
one needs a segment of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from minikafka.errors import InvalidRecordError
from minikafka.log.files import Buffer
from minikafka.log.index import MAX_RELATIVE_OFFSET
from minikafka.model import BatchHeader

MAX_OFFSET = 2**63 - 1
MAX_SEGMENT_BYTES = 2**31 - 1


def measure(log_end_offset: int, headers: Sequence[BatchHeader]) -> tuple[int, int]:
    """(bytes, next offset) of batches that are to follow on the log's end. InvalidRecordError if
    they do not follow on one another, or would lead beyond what offsets there are."""
    size_bytes, next_offset = 0, log_end_offset
    for header in headers:
        base_offset, last_delta = header.base_offset, header.last_offset_delta
        if base_offset < next_offset or last_delta < 0:
            raise InvalidRecordError(
                f"a batch of offsets {base_offset} to {base_offset + last_delta} cannot be "
                f"appended where {next_offset} comes next"
            )
        next_offset = base_offset + last_delta + 1
        size_bytes += header.size_bytes
    if next_offset > MAX_OFFSET:
        raise InvalidRecordError(
            f"the log would end at offset {next_offset}; the largest offset is {MAX_OFFSET}"
        )
    return size_bytes, next_offset


def fits_one_segment(log_end_offset: int, size_bytes: int, next_offset: int) -> bool:
    """Do they fit at least in a segment that begins at the log's end?"""
    return (
        next_offset - 1 - log_end_offset <= MAX_RELATIVE_OFFSET and size_bytes <= MAX_SEGMENT_BYTES
    )


def one_by_one(
    log_end_offset: int, buffers: Sequence[Buffer], headers: Sequence[BatchHeader]
) -> Iterator[tuple[list[Buffer], list[BatchHeader]]]:
    """Batches that do not fit one segment together, each by itself. InvalidRecordError, before the
    first is given, if one does not even fit alone."""
    end = log_end_offset
    for header in headers:
        if not fits_one_segment(end, header.size_bytes, header.next_offset):
            raise InvalidRecordError(
                f"a batch of {header.size_bytes} bytes and offsets {header.base_offset} to "
                f"{header.last_offset} fits no segment that begins at {end}"
            )
        end = header.next_offset
    return _pieces(memoryview(b"".join(buffers)), headers)


def _pieces(
    content: memoryview, headers: Sequence[BatchHeader]
) -> Iterator[tuple[list[Buffer], list[BatchHeader]]]:
    position = 0
    for header in headers:
        yield [content[position : position + header.size_bytes]], [header]
        position += header.size_bytes
