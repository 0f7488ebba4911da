"""The records of a batch, decompressed and walked over piece by piece (walk.py).

What a piece ends inside of is kept for the next one, so the memory is that of a piece and of the
largest record. No state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from minikafka.errors import CorruptMessageError
from minikafka.model import BatchHeader
from minikafka.records.compression import (
    CHUNK_BYTES,
    MAX_DECOMPRESSED_BYTES,
    Codec,
    DecompressedTooLargeError,
    decompressed_chunks,
)
from minikafka.records.header import CODEC_MASK, HEADER_BYTES, Buffer
from minikafka.records.walk import walk


class Walked(NamedTuple):
    """What `walk` says."""

    position: int
    walked: int
    wanted: int
    max_ms: int
    max_index: int
    keyless: list[int] | None
    untimely: list[int] | None
    problem: str | None


_NOTHING = Walked(0, 0, 0, -1, -1, None, None, None)


class Piece(NamedTuple):
    """`data` begins with the record at the place `first` of the batch, and ends with `chunk`: what
    was decompressed last."""

    data: Buffer
    first: int
    walked: Walked
    chunk: Buffer


class WrongRecordError(CorruptMessageError):
    """The records are not what the header says. `place`: which one is wrong, from 0; -1: none that
    can be named."""

    def __init__(self, message: str, place: int = -1, problem: str = "") -> None:
        super().__init__(message)
        self.place = place
        self.problem = problem


def pieces(
    batch: Buffer,
    header: BatchHeader,
    *,
    keyed: bool,
    times: tuple[int, int],
    max_bytes: int = MAX_DECOMPRESSED_BYTES,
) -> Iterator[Piece]:
    """Walk over all records of the batch that `batch` begins with. `keyed` and `times` (oldest,
    newest) are those of `walk`.

    Raises while iterating WrongRecordError where the records are not those that the header counts,
    and what `decompressed_chunks` raises.
    """
    count, seen, wanted = header.record_count, 0, 0
    rest = bytearray()  # of a record that goes on in the next chunk
    for chunk in _chunks(memoryview(batch)[HEADER_BYTES : header.size_bytes], header, max_bytes):
        if rest:
            rest += chunk
        data: Buffer = rest or chunk
        if len(data) < wanted:
            yield Piece(data, seen, _NOTHING, chunk)
            continue
        walked = Walked(*walk(data, 0, count - seen, seen, header.base_timestamp_ms, keyed, *times))
        place = seen + walked.walked
        if walked.problem is not None:
            raise WrongRecordError(
                f"record {place} of the batch is wrong: {walked.problem}", place, walked.problem
            )
        if place == count and walked.position < len(data):
            raise WrongRecordError(f"bytes follow the {count} records that the batch counts")
        yield Piece(data, seen, walked, chunk)
        seen, wanted = place, walked.wanted
        rest = bytearray(memoryview(data)[walked.position :])
    if seen < count:
        raise WrongRecordError(f"the batch counts {count} records and holds {seen}")


def _chunks(body: memoryview, header: BatchHeader, max_bytes: int) -> Iterable[Buffer]:
    """At least one."""
    codec = header.attributes & CODEC_MASK
    if codec != Codec.NONE:
        return decompressed_chunks(codec, body, max_bytes)
    if len(body) > max_bytes:
        raise DecompressedTooLargeError(f"the records have {len(body)} bytes, above {max_bytes}")
    return (body,) if len(body) <= CHUNK_BYTES else decompressed_chunks(codec, body, max_bytes)
