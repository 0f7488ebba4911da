"""Reading the records of a batch.

    length            varint   bytes after this field
    attributes        int8     unused
    timestamp delta   varlong  to the batch's base timestamp
    offset delta      varint   to the batch's base offset
    key length        varint   -1: null      then the key
    value length      varint   -1: null      then the value
    header count      varint   then each: key length, key (UTF-8), value length (-1: null), value

Varints are zigzag, little end first, seven bits a byte (Kafka protocol guide, "Record"). The common
lengths of one and two bytes are decoded in line: this loop is what a Python consumer's speed is.

No state. Invariant: corrupt input ends in CorruptMessageError; every record takes at least one byte
of input, so no count that the input claims can make the loop long or the memory large.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from minikafka.errors import CorruptMessageError
from minikafka.model import BatchHeader
from minikafka.records.compression import MAX_DECOMPRESSED_BYTES, decompress
from minikafka.records.header import (
    CODEC_MASK,
    HEADER_BYTES,
    TIMESTAMP_TYPE_LOG_APPEND,
    Buffer,
)

_MAX_VARINT_BITS = 70


class Record(NamedTuple):
    """One record as a consumer sees it. `headers` are (key, value) in the producer's order."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


_make_record = partial(tuple.__new__, Record)


class KeyedRecord(NamedTuple):
    """As much of a record as compaction asks for. It lies at `start` .. `end` of the decompressed
    records; its timestamp delta at `delta_start` .. `delta_end`. `tombstone`: its value is null."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    tombstone: bool
    start: int
    delta_start: int
    delta_end: int
    end: int


def iter_records(
    batch: Buffer, header: BatchHeader, max_bytes: int = MAX_DECOMPRESSED_BYTES
) -> Iterator[Record]:
    """The records of one batch (`batch` begins with its header), decompressed (to at most
    `max_bytes`).

    Raises CorruptMessageError while iterating, after the records before the damage, and
    UnsupportedCompressionTypeError for a codec that there is none of. The CRC is not checked here.
    """
    data = decompressed(batch, header, max_bytes)
    try:
        yield from _records(data, header)
    except (IndexError, UnicodeDecodeError) as error:
        raise CorruptMessageError(
            f"record batch with base offset {header.base_offset} has a malformed record: {error}"
        ) from error


def decompressed(
    batch: Buffer, header: BatchHeader, max_bytes: int = MAX_DECOMPRESSED_BYTES
) -> bytes:
    """The records of one batch as plain bytes. Raises as `iter_records` does."""
    body = memoryview(batch)[HEADER_BYTES : header.size_bytes]
    return decompress(header.attributes & CODEC_MASK, body, max_bytes)


def iter_keys(data: bytes, header: BatchHeader) -> Iterator[KeyedRecord]:
    """The records of a batch without values and headers, from what `decompressed` gave.

    Raises CorruptMessageError while iterating, after the records before the damage.
    """
    try:
        yield from _keys(data, header)
    except IndexError as error:
        raise _malformed(header, str(error)) from error


def _keys(data: bytes, header: BatchHeader) -> Iterator[KeyedRecord]:
    log_append = header.attributes & TIMESTAMP_TYPE_LOG_APPEND
    position = 0
    for _ in range(header.record_count):
        start = position
        length, position = _varint(data, position)
        record_end = position + length
        if length <= 0 or record_end > len(data):
            raise _malformed(header, "its length is impossible")
        delta_start = position + 1  # after the attributes
        timestamp_delta, delta_end = _varint(data, delta_start)
        offset_delta, position = _varint(data, delta_end)
        key_length, position = _varint(data, position)
        key = None if key_length < 0 else data[position : position + key_length]
        position += max(key_length, 0)
        value_length, position = _varint(data, position)
        fits = position + max(value_length, 0) < record_end  # the header count comes after it
        if not fits or not 0 <= offset_delta <= header.last_offset_delta:
            raise _malformed(header, "its fields do not fit its length or its batch")
        timestamp_ms = (
            header.max_timestamp_ms if log_append else header.base_timestamp_ms + timestamp_delta
        )
        yield KeyedRecord(
            header.base_offset + offset_delta,
            timestamp_ms,
            key,
            value_length < 0,
            start,
            delta_start,
            delta_end,
            record_end,
        )
        position = record_end
    if position != len(data):
        raise _malformed(header, f"{len(data) - position} bytes follow the last one")


def _records(data: bytes, header: BatchHeader) -> Iterator[Record]:
    base_offset, base_timestamp_ms = header.base_offset, header.base_timestamp_ms
    last_offset_delta = header.last_offset_delta
    log_append = header.attributes & TIMESTAMP_TYPE_LOG_APPEND
    make_record = _make_record
    position, end = 0, len(data)
    for _ in range(header.record_count):
        # Length. Everything else is checked against where it says that the record ends.
        byte = data[position]
        if not byte & 0x81:  # one byte, not negative
            position += 1
            record_end = position + (byte >> 1)
        else:
            length, position = _varint(data, position)
            record_end = position + length
        position += 1  # attributes
        if record_end > end or record_end <= position:
            raise _malformed(header, "its length is impossible")
        # Timestamp delta, offset delta.
        byte = data[position]
        if byte < 0x80:
            timestamp_delta = (byte >> 1) ^ -(byte & 1)
            position += 1
        else:
            timestamp_delta, position = _varint(data, position)
        byte = data[position]
        if byte < 0x80:
            offset_delta = (byte >> 1) ^ -(byte & 1)
            position += 1
        else:
            offset_delta, position = _varint(data, position)
        # Key, value. A slice that is too long fails the last check.
        byte = data[position]
        if byte == 1:
            key = None
            position += 1
        else:
            length, position = (
                (byte >> 1, position + 1) if not byte & 0x81 else _varint(data, position)
            )
            if length < 0:
                raise _malformed(header, "its key has a negative length")
            key = data[position : position + length]
            position += length
        byte = data[position]
        if byte == 1:
            value = None
            position += 1
        else:
            length, position = (
                (byte >> 1, position + 1) if not byte & 0x81 else _varint(data, position)
            )
            if length < 0:
                raise _malformed(header, "its value has a negative length")
            value = data[position : position + length]
            position += length
        if data[position] == 0:
            headers: tuple[tuple[str, bytes | None], ...] = ()
            position += 1
        else:
            headers, position = _headers(data, position, record_end)
        if position != record_end or not 0 <= offset_delta <= last_offset_delta:
            raise _malformed(header, "its fields do not fit its length or its batch")
        timestamp_ms = (
            header.max_timestamp_ms if log_append else base_timestamp_ms + timestamp_delta
        )
        yield make_record((base_offset + offset_delta, timestamp_ms, key, value, headers))
    if position != end:
        raise _malformed(header, f"{end - position} bytes follow the last one")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """(value, position after it) of a zigzag varint of any length up to ten bytes."""
    byte = data[position]
    second = data[position + 1] if byte >= 0x80 else 0
    if byte >= 0x80 and second < 0x80:
        value = (byte & 0x7F) | (second << 7)
        return (value >> 1) ^ -(value & 1), position + 2
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
        if shift >= _MAX_VARINT_BITS:
            raise IndexError("a varint is longer than ten bytes")


def _headers(
    data: bytes, position: int, record_end: int
) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    count, position = _varint(data, position)
    if not 0 <= count <= record_end - position:  # a header takes two bytes at least
        raise IndexError(f"header count {count}")
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        length, position = _varint(data, position)
        if length < 0 or position + length > record_end:
            raise IndexError(f"header key length {length}")
        key = data[position : position + length].decode()
        position += length
        length, position = _varint(data, position)
        if length < -1 or position + length > record_end:
            raise IndexError(f"header value length {length}")
        headers.append((key, None if length < 0 else data[position : position + length]))
        position += max(length, 0)
    return tuple(headers), position


def _malformed(header: BatchHeader, why: str) -> CorruptMessageError:
    return CorruptMessageError(
        f"record batch with base offset {header.base_offset} has a malformed record: {why}"
    )
