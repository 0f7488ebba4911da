"""Walking over the batches of a segment file, header by header."""

from __future__ import annotations

from collections.abc import Iterator

from minikafka.errors import CorruptMessageError
from minikafka.log.files import Disk
from minikafka.model import BatchHeader
from minikafka.records.header import HEADER_BYTES, parse_header, verify_crc

_HEADERS_CHUNK_BYTES = 16 * 1024
_VERIFY_CHUNK_BYTES = 1024 * 1024


def scan(
    disk: Disk, fd: int, start: int, end: int, verify_from_offset: int | None = None
) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each batch between two positions of an open segment file.

    Batches with base offset at or above `verify_from_offset` are read whole and checked against
    their CRC; None checks none. Raises CorruptMessageError at the first batch that is not wholly
    there, not well-formed or fails its CRC, after yielding those before it. Memory: one chunk, or
    one batch if that is larger.
    """
    chunk_bytes = _HEADERS_CHUNK_BYTES
    position = start
    buffer, buffer_start = b"", start
    while position < end:
        at = position - buffer_start
        if at + HEADER_BYTES > len(buffer):
            buffer, buffer_start, at = disk.pread(fd, chunk_bytes, position), position, 0
        header = parse_header(buffer, at)
        if header.size_bytes > end - position:
            raise CorruptMessageError(
                f"record batch at position {position} claims {header.size_bytes} bytes; "
                f"{end - position} are there"
            )
        if header.last_offset_delta < 0:
            raise CorruptMessageError(
                f"record batch at position {position} has last offset delta "
                f"{header.last_offset_delta}; it cannot be negative"
            )
        if verify_from_offset is not None and header.base_offset >= verify_from_offset:
            chunk_bytes = _VERIFY_CHUNK_BYTES
            if at + header.size_bytes > len(buffer):
                wanted = max(chunk_bytes, header.size_bytes)
                buffer, buffer_start, at = disk.pread(fd, wanted, position), position, 0
            verify_crc(buffer, at, header)
        yield position, header
        position += header.size_bytes
