"""The Kafka v2 record batch: its layout, and what is done with a batch without looking inside.

    offset  size  field
         0     8  base offset                int64
         8     4  batch length               int32   bytes after this field: size - 12
        12     4  partition leader epoch     int32
        16     1  magic                      int8    2
        17     4  CRC-32C                    uint32  of everything from the attributes to the end
        21     2  attributes                 int16   bits 0-2 codec, 3 timestamp type,
                                                     4 transactional, 5 control,
                                                     6 delete horizon
        23     4  last offset delta          int32
        27     8  base timestamp             int64   ms; of the first record, or the delete
                                                     horizon: what the records' deltas count from
        35     8  max timestamp              int64   ms
        43     8  producer id                int64   -1: not idempotent
        51     2  producer epoch             int16
        53     4  base sequence              int32
        57     4  record count               int32
        61        records                    compressed as a whole if there is a codec

All big-endian (Kafka protocol guide, "Record Batch"; KIP-98). The first sixteen bytes lie outside
the CRC: a broker gives a batch its offset and epoch by putting a new `stamp` before the rest of the
bytes, which it neither copies nor decompresses.

No state. Invariant: a header that `parse_header` returned has magic 2 and a length that holds at
least a header; nothing here allocates by a length that it read.
"""

from __future__ import annotations

from struct import Struct

from crc32c import crc32c

from minikafka.errors import CorruptMessageError, InvalidRecordError
from minikafka.model import CONTROL as CONTROL
from minikafka.model import TRANSACTIONAL as TRANSACTIONAL
from minikafka.model import BatchHeader

Buffer = bytes | bytearray | memoryview

MAGIC = 2
HEADER_BYTES = 61
LENGTH_PREFIX_BYTES = 12  # base offset and batch length: what the batch length does not count
STAMP_BYTES = 16
CRC_START = 21  # the attributes are the first byte under the CRC

CODEC_MASK = 0x07
TIMESTAMP_TYPE_LOG_APPEND = 0x08
DELETE_HORIZON = 0x40  # set by compaction (KIP-534)

_HEADER = Struct(">qiibIhiqqqhii")
_STAMP = Struct(">qii")
_MAGIC_AND_CRC = Struct(">bI")
_AFTER_CRC = Struct(">hiqqqhii")
assert (_HEADER.size, _STAMP.size) == (HEADER_BYTES, STAMP_BYTES)
assert STAMP_BYTES + _MAGIC_AND_CRC.size + _AFTER_CRC.size == HEADER_BYTES


def parse_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """Decode the header at `position`. The batch itself may reach beyond the buffer.

    Raises CorruptMessageError if the header is not whole, has another magic than 2 or an impossible
    length.
    """
    try:
        (
            base_offset,
            batch_length,
            leader_epoch,
            magic,
            crc,
            attributes,
            last_offset_delta,
            base_timestamp_ms,
            max_timestamp_ms,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count,
        ) = _HEADER.unpack_from(buffer, position)
    except Exception as error:
        raise CorruptMessageError(
            f"a record batch needs a header of {HEADER_BYTES} bytes; "
            f"{max(len(buffer) - position, 0)} are left at position {position}"
        ) from error
    if magic != MAGIC:
        raise CorruptMessageError(
            f"record batch at position {position} has magic {magic}; only {MAGIC} is supported"
        )
    if batch_length < HEADER_BYTES - LENGTH_PREFIX_BYTES:
        raise CorruptMessageError(
            f"record batch at position {position} claims a length of {batch_length} bytes; "
            f"the least is {HEADER_BYTES - LENGTH_PREFIX_BYTES}"
        )
    return BatchHeader(
        base_offset,
        batch_length + LENGTH_PREFIX_BYTES,
        leader_epoch,
        crc,
        attributes,
        last_offset_delta,
        base_timestamp_ms,
        max_timestamp_ms,
        producer_id,
        producer_epoch,
        base_sequence,
        record_count,
    )


def split(buffer: Buffer) -> list[BatchHeader]:
    """The headers of all batches of a buffer, in order; batch i begins where batch i-1 ends.

    Raises CorruptMessageError for a bad header or a batch that the buffer does not hold wholly, and
    InvalidRecordError for an offset range or a record count below zero. For followers and readers;
    what a client produced is checked by records/check.py.
    """
    headers = []
    position, end = 0, len(buffer)
    while position < end:
        header = parse_header(buffer, position)
        position += header.size_bytes
        if position > end:
            raise CorruptMessageError(
                f"record batch at position {position - header.size_bytes} claims "
                f"{header.size_bytes} bytes; {end - position + header.size_bytes} are there"
            )
        if header.last_offset_delta < 0 or header.record_count < 0:
            raise InvalidRecordError(
                f"record batch has last offset delta {header.last_offset_delta} and record count "
                f"{header.record_count}; neither may be negative"
            )
        headers.append(header)
    return headers


def crc_of(buffer: Buffer, position: int, size_bytes: int) -> int:
    """The CRC-32C that the batch of `size_bytes` at `position` should carry; copies nothing."""
    return int(crc32c(memoryview(buffer)[position + CRC_START : position + size_bytes]))


def verify_crc(buffer: Buffer, position: int, header: BatchHeader) -> None:
    """Raises CorruptMessageError if the batch at `position` is not what its CRC says."""
    actual = crc_of(buffer, position, header.size_bytes)
    if actual != header.crc:
        raise CorruptMessageError(
            f"record batch at position {position} (base offset {header.base_offset}, "
            f"{header.size_bytes} bytes) has CRC-32C {actual:#010x}, not {header.crc:#010x}"
        )


def stamp(base_offset: int, size_bytes: int, leader_epoch: int) -> bytes:
    """The first 16 bytes of a batch of `size_bytes` with this offset and epoch. A broker appends
    `[stamp(...), memoryview(batch)[STAMP_BYTES:]]`."""
    return _STAMP.pack(base_offset, size_bytes - LENGTH_PREFIX_BYTES, leader_epoch)


def restated(
    header: BatchHeader, attributes: int, max_timestamp_ms: int, body: Buffer
) -> tuple[BatchHeader, bytes]:
    """A batch of the same records with other attributes and another largest timestamp, and with
    `body` after its header: (its header, its bytes from STAMP_BYTES to the end of the header)."""
    fields = _AFTER_CRC.pack(
        attributes,
        header.last_offset_delta,
        header.base_timestamp_ms,
        max_timestamp_ms,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        header.record_count,
    )
    crc = int(crc32c(body, crc32c(fields)))
    changed = header._replace(
        size_bytes=HEADER_BYTES + len(body),
        crc=crc,
        attributes=attributes,
        max_timestamp_ms=max_timestamp_ms,
    )
    return changed, _MAGIC_AND_CRC.pack(MAGIC, crc) + fields


def is_control(header: BatchHeader) -> bool:
    """A batch of transaction markers: it takes offsets, but no consumer sees its records."""
    return bool(header.attributes & CONTROL)


def is_transactional(header: BatchHeader) -> bool:
    return bool(header.attributes & TRANSACTIONAL)


def delete_horizon_ms(header: BatchHeader) -> int | None:
    """From when on (wall clock) compaction may drop the tombstones or the marker of this batch;
    None until it has come upon it for the first time (KIP-534)."""
    return header.base_timestamp_ms if header.attributes & DELETE_HORIZON else None
