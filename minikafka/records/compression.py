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
from collections.abc import Callable, Iterator
from enum import IntEnum
from struct import Struct
from typing import TypeAlias, TypeVar

from minikafka.errors import CorruptMessageError, UnsupportedCompressionTypeError


class DecompressedTooLargeError(CorruptMessageError):
    """There is more in it than the caller wants to see."""


class Codec(IntEnum):
    """Bits 0-2 of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


CODEC_NAMES = tuple(codec.name.lower() for codec in Codec)
MAX_DECOMPRESSED_BYTES = 256 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
_LEAST_CHUNK_BYTES = 64 * 1024

Buffer: TypeAlias = bytes | bytearray | memoryview

_XERIAL_HEADER = b"\x82SNAPPY\x00" + b"\x00\x00\x00\x01" * 2  # version 1, readable by version 1
_XERIAL_MAGIC = _XERIAL_HEADER[:8]
_XERIAL_BLOCK_BYTES = 32 * 1024
_F = TypeVar("_F")

_BLOCK_LENGTH = Struct(">I")
_SNAPPY_MAX_RATIO = 64  # a copy element of 2 or 3 bytes yields at most 64
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


def compress(codec: int, data: bytes, level: int | None = None) -> bytes:
    """`data` in the codec's format. `level` is the codec's own, None for a fast one.
    UnsupportedCompressionTypeError for an unknown number."""
    return _for_number(_COMPRESSORS, codec)(data, level)


def decompress(codec: int, data: Buffer, max_bytes: int = MAX_DECOMPRESSED_BYTES) -> bytes:
    """The opposite of `compress`. Raises as `decompressed_chunks` does."""
    if codec == Codec.NONE:
        return bytes(data)
    parts = list(decompressed_chunks(codec, data, max_bytes))
    return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)


def decompressed_chunks(
    codec: int, data: Buffer, max_bytes: int = MAX_DECOMPRESSED_BYTES
) -> Iterator[Buffer]:
    """What is in `data`, a piece of about CHUNK_BYTES after the other (a snappy block is never
    divided), so that whoever reads on need not hold all of it.

    Raises UnsupportedCompressionTypeError for an unknown number, and while iterating
    CorruptMessageError for data that is not of the codec's format, or that has not ended after its
    end, and DecompressedTooLargeError where it grows beyond `max_bytes`.
    """
    chunks = _for_number(_DECOMPRESSORS, codec)(memoryview(data), max_bytes)
    return chunks if codec == Codec.NONE else _translated(codec, len(data), chunks)


def _translated(codec: int, size: int, chunks: Iterator[Buffer]) -> Iterator[Buffer]:
    try:
        yield from chunks
    except (CorruptMessageError, MemoryError):
        raise
    except Exception as error:  # each library has its own kinds
        raise CorruptMessageError(
            f"{CODEC_NAMES[codec]} data of {size} bytes cannot be decompressed: {error}"
        ) from error


def _for_number(table: tuple[_F, ...], codec: int) -> _F:
    if not 0 <= codec < len(table):
        valid = ", ".join(f"{codec.value} ({codec.name.lower()})" for codec in Codec)
        raise UnsupportedCompressionTypeError(f"unknown codec number {codec}; valid are {valid}")
    return table[codec]


def _too_large(codec: Codec, max_bytes: int) -> CorruptMessageError:
    return DecompressedTooLargeError(
        f"{codec.name.lower()} data grows beyond {max_bytes} bytes when decompressed"
    )


def _as_is(data: bytes, level: int | None) -> bytes:
    return data


def _gzip(data: bytes, level: int | None) -> bytes:
    compressor = zlib.compressobj(-1 if level is None else level, wbits=_WBITS_GZIP)
    return compressor.compress(data) + compressor.flush()


def _first_chunk_bytes(data: memoryview) -> int:
    """Room for what a batch of ordinary size and content holds."""
    return min(max(_LEAST_CHUNK_BYTES, 4 * len(data)), CHUNK_BYTES)


def _slices(data: memoryview, max_bytes: int) -> Iterator[Buffer]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _gunzip(data: memoryview, max_bytes: int) -> Iterator[Buffer]:
    rest: Buffer = data
    room = max_bytes
    while rest:  # a file may be several members
        member = zlib.decompressobj(_WBITS_GZIP)
        while not member.eof:
            part = member.decompress(rest, min(room + 1, CHUNK_BYTES))
            rest = member.unconsumed_tail
            room -= len(part)
            if room < 0:
                raise _too_large(Codec.GZIP, max_bytes)
            if part:
                yield part
            elif not rest and not member.eof:
                raise CorruptMessageError("gzip data ends early")
        rest = member.unused_data


def _snappy(data: bytes, level: int | None) -> bytes:
    import cramjam

    parts = [_XERIAL_HEADER]
    for start in range(0, len(data), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(data[start : start + _XERIAL_BLOCK_BYTES]))
        parts += (_BLOCK_LENGTH.pack(len(block)), block)
    return b"".join(parts)


def _unsnappy_block(block: memoryview, max_bytes: int) -> bytes:
    import cramjam

    size = cramjam.snappy.decompress_raw_len(block)
    if size > max_bytes:
        raise _too_large(Codec.SNAPPY, max_bytes)
    if size > _SNAPPY_MAX_RATIO * len(block):
        raise CorruptMessageError(f"snappy block of {len(block)} bytes claims to hold {size} bytes")
    return bytes(cramjam.snappy.decompress_raw(block))


def _unsnappy(data: memoryview, max_bytes: int) -> Iterator[Buffer]:
    if data[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        yield _unsnappy_block(data, max_bytes)
        return
    if data[: len(_XERIAL_HEADER)] != _XERIAL_HEADER:
        raise CorruptMessageError("snappy data is not of xerial's version 1, which all can read")
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
        yield part
        position += length


def _lz4(data: bytes, level: int | None) -> bytes:
    from lz4 import frame

    compressed = frame.compress(
        data, compression_level=level or 0, block_linked=False, store_size=False
    )
    return bytes(compressed)


def _unlz4(data: memoryview, max_bytes: int) -> Iterator[Buffer]:
    from lz4 import frame

    decompressor = frame.LZ4FrameDecompressor()
    rest: Buffer = data
    room = max_bytes
    size = _first_chunk_bytes(data)  # is allocated whatever comes out
    while not decompressor.eof:
        part = decompressor.decompress(rest, max_length=min(room + 1, size))
        rest, size = b"", CHUNK_BYTES
        room -= len(part)
        if room < 0:
            raise _too_large(Codec.LZ4, max_bytes)
        if part:
            yield part
        elif decompressor.needs_input and not decompressor.eof:
            raise CorruptMessageError("lz4 frame ends early")
    if decompressor.unused_data:
        raise CorruptMessageError("bytes follow the end of the lz4 frame")


def _zstd(data: bytes, level: int | None) -> bytes:
    import zstandard

    chosen = _ZSTD_LEVEL if level is None else level
    return zstandard.ZstdCompressor(level=chosen).compress(data)


def _unzstd(data: memoryview, max_bytes: int) -> Iterator[Buffer]:
    import zstandard

    size = zstandard.frame_content_size(data)  # -1: not told
    if size > max_bytes:
        raise _too_large(Codec.ZSTD, max_bytes)
    # A reader, since nothing else bounds what comes out. It does not notice that a frame ends
    # early; the batch's CRC and record count do.
    reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
    room = max_bytes
    told = 0 <= size < CHUNK_BYTES
    chunk_bytes = size + 1 if told else _first_chunk_bytes(data)
    while part := reader.read(min(room + 1, chunk_bytes)):
        room -= len(part)
        if room < 0:
            raise _too_large(Codec.ZSTD, max_bytes)
        yield part
        chunk_bytes = _LEAST_CHUNK_BYTES if told else CHUNK_BYTES
    if max_bytes - room < size:
        raise CorruptMessageError(f"zstd frame claims {size} bytes; it holds {max_bytes - room}")


_COMPRESSORS: tuple[Callable[[bytes, int | None], bytes], ...] = (
    _as_is,
    _gzip,
    _snappy,
    _lz4,
    _zstd,
)
_DECOMPRESSORS: tuple[Callable[[memoryview, int], Iterator[Buffer]], ...] = (
    _slices,
    _gunzip,
    _unsnappy,
    _unlz4,
    _unzstd,
)
