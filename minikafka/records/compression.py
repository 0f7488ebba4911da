"""Compression codecs of record batches, by Kafka's numbers and names.

A codec's library is imported when the codec is first used. No state. Invariant: whatever the input,
`decompress` returns at most `max_bytes` bytes or raises CorruptMessageError; it never reserves
memory by a size that the input only claims.

The formats are those that Java clients read: gzip members; snappy in xerial's blocks of 32 KiB (raw
snappy is read as well); LZ4 standard frames with independent blocks (Java refuses linked ones);
Zstandard frames (KIP-110).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from typing import TypeVar

from minikafka.errors import CorruptMessageError, UnsupportedCompressionTypeError


class Codec(IntEnum):
    """Bits 0-2 of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


CODEC_NAMES = tuple(codec.name.lower() for codec in Codec)
MAX_DECOMPRESSED_BYTES = 256 * 1024 * 1024

_XERIAL_HEADER = b"\x82SNAPPY\x00" + b"\x00\x00\x00\x01" * 2  # version 1, readable by version 1
_XERIAL_MAGIC = _XERIAL_HEADER[:8]
_XERIAL_BLOCK_BYTES = 32 * 1024
_F = TypeVar("_F")

_BLOCK_LENGTH = Struct(">I")
_SNAPPY_MAX_RATIO = 64  # a copy element of 2 or 3 bytes yields at most 64
_CHUNK_BYTES = 1024 * 1024
_WBITS_GZIP = 31
_ZSTD_LEVEL = 3


def codec_named(name: str) -> Codec:
    """The codec of a configured name. UnsupportedCompressionTypeError names the valid ones."""
    try:
        return Codec(CODEC_NAMES.index(name))
    except ValueError:
        raise UnsupportedCompressionTypeError(
            f"unknown compression type {name!r}; valid are {', '.join(CODEC_NAMES)}"
        ) from None


def compress(codec: int, data: bytes) -> bytes:
    """`data` in the codec's format. UnsupportedCompressionTypeError for an unknown number."""
    return _for_number(_COMPRESSORS, codec)(data)


def decompress(codec: int, data: bytes, max_bytes: int = MAX_DECOMPRESSED_BYTES) -> bytes:
    """The opposite of `compress`.

    Raises UnsupportedCompressionTypeError for an unknown number, CorruptMessageError for data that
    is not of the codec's format or that grows beyond `max_bytes`.
    """
    if codec == Codec.NONE:
        return data
    decompressor = _for_number(_DECOMPRESSORS, codec)
    try:
        return decompressor(data, max_bytes)
    except (CorruptMessageError, MemoryError):
        raise
    except Exception as error:  # each library has its own kinds
        raise CorruptMessageError(
            f"{CODEC_NAMES[codec]} data of {len(data)} bytes cannot be decompressed: {error}"
        ) from error


def _for_number(table: tuple[_F, ...], codec: int) -> _F:
    if not 0 <= codec < len(table):
        valid = ", ".join(f"{codec.value} ({codec.name.lower()})" for codec in Codec)
        raise UnsupportedCompressionTypeError(f"unknown codec number {codec}; valid are {valid}")
    return table[codec]


def _too_large(codec: Codec, max_bytes: int) -> CorruptMessageError:
    return CorruptMessageError(
        f"{codec.name.lower()} data grows beyond {max_bytes} bytes when decompressed"
    )


def _as_is(data: bytes) -> bytes:
    return data


def _gzip(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=_WBITS_GZIP)
    return compressor.compress(data) + compressor.flush()


def _gunzip(data: bytes, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    room = max_bytes
    while data:  # a file may be several members
        member = zlib.decompressobj(_WBITS_GZIP)
        part = member.decompress(data, room + 1)
        room -= len(part)
        if room < 0:
            raise _too_large(Codec.GZIP, max_bytes)
        if not member.eof:
            raise CorruptMessageError("gzip data ends early")
        parts.append(part)
        data = member.unused_data
    return b"".join(parts)


def _snappy(data: bytes) -> bytes:
    import cramjam

    parts = [_XERIAL_HEADER]
    for start in range(0, len(data), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(data[start : start + _XERIAL_BLOCK_BYTES]))
        parts += (_BLOCK_LENGTH.pack(len(block)), block)
    return b"".join(parts)


def _unsnappy_block(block: bytes, max_bytes: int) -> bytes:
    import cramjam

    size = cramjam.snappy.decompress_raw_len(block)
    if size > max_bytes:
        raise _too_large(Codec.SNAPPY, max_bytes)
    if size > _SNAPPY_MAX_RATIO * len(block):
        raise CorruptMessageError(f"snappy block of {len(block)} bytes claims to hold {size} bytes")
    return bytes(cramjam.snappy.decompress_raw(block))


def _unsnappy(data: bytes, max_bytes: int) -> bytes:
    if not data.startswith(_XERIAL_MAGIC):
        return _unsnappy_block(data, max_bytes)
    parts: list[bytes] = []
    room = max_bytes
    position = len(_XERIAL_HEADER)
    while position < len(data):
        (length,) = _BLOCK_LENGTH.unpack_from(data, position)
        position += _BLOCK_LENGTH.size
        if length > len(data) - position:
            raise CorruptMessageError(
                f"snappy block claims {length} bytes; {len(data) - position} are there"
            )
        part = _unsnappy_block(data[position : position + length], room)
        room -= len(part)
        parts.append(part)
        position += length
    return b"".join(parts)


def _lz4(data: bytes) -> bytes:
    from lz4 import frame

    return bytes(frame.compress(data, block_linked=False, store_size=False))


def _unlz4(data: bytes, max_bytes: int) -> bytes:
    from lz4 import frame

    decompressor = frame.LZ4FrameDecompressor()
    parts: list[bytes] = []
    room = max_bytes
    while not decompressor.eof:
        part = decompressor.decompress(data, max_length=min(room + 1, _CHUNK_BYTES))
        data = b""
        room -= len(part)
        if room < 0:
            raise _too_large(Codec.LZ4, max_bytes)
        if not part and decompressor.needs_input and not decompressor.eof:
            raise CorruptMessageError("lz4 frame ends early")
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(data)


def _unzstd(data: bytes, max_bytes: int) -> bytes:
    import zstandard

    size = zstandard.frame_content_size(data)  # -1: not told
    if size > max_bytes:
        raise _too_large(Codec.ZSTD, max_bytes)
    # A reader, since nothing else bounds what comes out. It does not notice that a frame ends
    # early; the batch's CRC and record count do.
    reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
    parts: list[bytes] = []
    room = max_bytes
    while part := reader.read(min(room + 1, _CHUNK_BYTES)):
        room -= len(part)
        if room < 0:
            raise _too_large(Codec.ZSTD, max_bytes)
        parts.append(part)
    data_out = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(data_out) < size:
        raise CorruptMessageError(f"zstd frame claims {size} bytes; it holds {len(data_out)}")
    return data_out


_COMPRESSORS: tuple[Callable[[bytes], bytes], ...] = (_as_is, _gzip, _snappy, _lz4, _zstd)
_DECOMPRESSORS: tuple[Callable[[bytes, int], bytes], ...] = (
    lambda data, max_bytes: data,
    _gunzip,
    _unsnappy,
    _unlz4,
    _unzstd,
)
