"""Building a batch record by record, fast: the inner loop of a Python producer.

State of a BatchBuilder: the records so far, encoded (records/read.py has the layout of a record),
their number, the first and the largest timestamp. Invariants: offset deltas count from 0 without a
gap; the batch has base offset 0 and leader epoch -1, as producers send it (the broker stamps both).

Varints that take one or two bytes (below 8192 when zigzagged from 0 up) come from a table.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from crc32c import crc32c

from minikafka.errors import InvalidRecordError
from minikafka.model import NO_EPOCH
from minikafka.records.compression import Codec, compress
from minikafka.records.header import (
    CONTROL,
    CRC_START,
    HEADER_BYTES,
    LENGTH_PREFIX_BYTES,
    MAGIC,
    TRANSACTIONAL,
)

RECORD_OVERHEAD_BYTES = (
    36  # of a record without headers, at most: 1 + 5 varints of their full length
)
_HEADER_OVERHEAD_BYTES = 10
NO_TIMESTAMP = -1

_AFTER_CRC = Struct(">hiqqqhii")
_BEFORE_CRC_END = Struct(">qiibI")
assert (_AFTER_CRC.size, _BEFORE_CRC_END.size) == (HEADER_BYTES - CRC_START, CRC_START)


def encode_varint(value: int) -> bytes:
    """`value` (64 bits, signed) as a zigzag varint."""
    rest = (value << 1) ^ (value >> 63)
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


_TABLE_SIZE = 8192
_TABLE = [encode_varint(value) for value in range(64)] + [
    bytes((value << 1 & 0x7F | 0x80, value >> 6)) for value in range(64, _TABLE_SIZE)
]


class BatchBuilder:
    """Collects records and makes one batch of them. Not thread-safe; of no use after `build`."""

    __slots__ = ("_base_timestamp_ms", "_max_timestamp_ms", "_parts", "_size_bytes", "record_count")

    def __init__(self) -> None:
        self.record_count = 0
        self._parts: list[bytes] = []
        self._size_bytes = HEADER_BYTES
        self._base_timestamp_ms = NO_TIMESTAMP
        self._max_timestamp_ms = NO_TIMESTAMP

    @property
    def size_bytes(self) -> int:
        """The size of the batch so far, before compression."""
        return self._size_bytes

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes | None]] = (),
        timestamp_ms: int = NO_TIMESTAMP,
    ) -> int:
        """Add a record; returns its offset delta."""
        offset_delta = self.record_count
        if offset_delta == 0:
            self._base_timestamp_ms = self._max_timestamp_ms = timestamp_ms
            prefix = b"\x00\x00"
        else:
            timestamp_delta = timestamp_ms - self._base_timestamp_ms
            if timestamp_ms > self._max_timestamp_ms:
                self._max_timestamp_ms = timestamp_ms
            if 0 <= timestamp_delta < _TABLE_SIZE:
                prefix = b"\x00" + _TABLE[timestamp_delta]
            else:
                prefix = b"\x00" + encode_varint(timestamp_delta)
        offset_code = (
            _TABLE[offset_delta] if offset_delta < _TABLE_SIZE else encode_varint(offset_delta)
        )
        if key is None:
            key_code, key = b"\x01", b""
        else:
            length = len(key)
            key_code = _TABLE[length] if length < _TABLE_SIZE else encode_varint(length)
        if value is None:
            value_code, value = b"\x01", b""
        else:
            length = len(value)
            value_code = _TABLE[length] if length < _TABLE_SIZE else encode_varint(length)
        tail = _encode_headers(headers) if headers else b"\x00"
        record = b"".join((prefix, offset_code, key_code, key, value_code, value, tail))
        length = len(record)
        length_code = _TABLE[length] if length < _TABLE_SIZE else encode_varint(length)
        self._parts += (length_code, record)
        self._size_bytes += len(length_code) + length
        self.record_count = offset_delta + 1
        return offset_delta

    def build(
        self,
        codec: Codec = Codec.NONE,
        producer_id: int = -1,
        producer_epoch: int = -1,
        base_sequence: int = -1,
        transactional: bool = False,
        control: bool = False,
    ) -> bytes:
        """The batch, compressed as a whole. InvalidRecordError if it holds no record."""
        if self.record_count == 0:
            raise InvalidRecordError("a record batch must hold at least one record")
        records = b"".join(self._parts)
        if codec is not Codec.NONE:
            records = compress(codec, records)
        attributes = codec | (TRANSACTIONAL if transactional else 0) | (CONTROL if control else 0)
        after_crc = _AFTER_CRC.pack(
            attributes,
            self.record_count - 1,
            self._base_timestamp_ms,
            self._max_timestamp_ms,
            producer_id,
            producer_epoch,
            base_sequence,
            self.record_count,
        )
        before_crc_end = _BEFORE_CRC_END.pack(
            0,
            HEADER_BYTES - LENGTH_PREFIX_BYTES + len(records),
            NO_EPOCH,
            MAGIC,
            crc32c(records, crc32c(after_crc)),
        )
        return b"".join((before_crc_end, after_crc, records))


def record_size_bound(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]] = ()
) -> int:
    """What a record adds to a batch at most, in bytes: for asking before `append`."""
    size = RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
    for name, content in headers:
        size += _HEADER_OVERHEAD_BYTES + 4 * len(name) + len(content or b"")  # UTF-8: 4 at most
    return size


def _encode_headers(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    encoded: list[bytes] = [b""]
    count = 0
    for name, content in headers:
        name_bytes = name.encode()
        encoded += (encode_varint(len(name_bytes)), name_bytes)
        encoded += (b"\x01",) if content is None else (encode_varint(len(content)), content)
        count += 1
    encoded[0] = encode_varint(count)
    return b"".join(encoded)
