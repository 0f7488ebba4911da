"""One walk over the records of a batch, to see that they are what its header says: no record is
made, no byte copied (records/read.py has the layout of a record).

    walk(data, start, count, first, base_timestamp_ms, keyed, oldest_ms, newest_ms)

walks over at most `count` records from the position `start` of `data` on. The first of them has to
have the offset delta `first`, and each that follows one more. It ends where the data ends inside of
a record, so that a batch can be walked over piece by piece, as it is decompressed. What comes out:

    position    after the last whole record
    walked      how many records were whole and right
    wanted      how many bytes the next record needs, counted from `position` (one more than are
                there if its length is not whole yet); 0 if there is no next, or it is wrong
    max_ms      the largest timestamp; -1 if none is above that
    max_index   the offset delta of the first record that has it; -1
    keyless     if `keyed`: the offset deltas of records without a key; None without any
    untimely    those of records whose timestamp is not -1, nor within oldest_ms .. newest_ms; None
    problem     what is wrong with the record at `position`, or None

A record's attributes mean nothing so far. Above 127 they are refused all the same: aiokafka reads
them as a varint, and would find no record after that.

The lists name 1,000 at most. The compiled twin, `_walk.c`, does the same some hundred times as
fast; an installation without it gets by with this one. `COMPILED` tells which of the two `walk` is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Walked: TypeAlias = tuple[int, int, int, int, int, list[int] | None, list[int] | None, str | None]
Walk: TypeAlias = Callable[
    [bytes | bytearray | memoryview, int, int, int, int, bool, int, int], Walked
]

NAMED_AT_MOST = 1000
_MIN_INT32, _MAX_INT32 = -(2**31), 2**31 - 1
_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1
_LENGTH_BYTES_MAX = 5


class _WrongRecord(Exception):
    """The message says what is wrong."""


def walk_in_python(
    data: bytes | bytearray | memoryview,
    start: int,
    count: int,
    first: int,
    base_timestamp_ms: int,
    keyed: bool,
    oldest_ms: int,
    newest_ms: int,
) -> Walked:
    """See the module."""
    position, end = start, len(data)
    if not 0 <= start <= end:
        raise ValueError("the start is outside of the data")
    walked = wanted = 0
    max_ms = max_index = -1
    keyless: list[int] = []
    untimely: list[int] = []
    problem = None
    while walked < count:
        try:
            length, at = _int32(data, position, end)
        except IndexError:
            if end - position < _LENGTH_BYTES_MAX:
                wanted = end - position + 1
            else:
                problem = "its length is impossible"
            break
        if length <= 0:
            problem = "its length is impossible"
            break
        if length > end - at:
            wanted = at - position + length
            break
        index = first + walked
        try:
            timestamp_ms, key_length = _record(data, at, at + length, index, base_timestamp_ms)
        except _WrongRecord as wrong:
            problem = str(wrong)
            break
        if timestamp_ms > max_ms:
            max_ms, max_index = timestamp_ms, index
        if keyed and key_length < 0 and len(keyless) < NAMED_AT_MOST:
            keyless.append(index)
        timely = timestamp_ms == -1 or oldest_ms <= timestamp_ms <= newest_ms
        if not timely and len(untimely) < NAMED_AT_MOST:
            untimely.append(index)
        walked += 1
        position = at + length
    return position, walked, wanted, max_ms, max_index, keyless or None, untimely or None, problem


def _record(
    data: bytes | bytearray | memoryview, at: int, end: int, index: int, base_timestamp_ms: int
) -> tuple[int, int]:
    """(timestamp, key length) of the record that lies after its length. _WrongRecord."""
    if data[at] & 0x80:
        raise _WrongRecord("its attributes are above 127")
    try:
        delta_ms, at = _varint(data, at + 1, end, 10)
        delta, at = _int32(data, at, end)
    except IndexError:
        raise _WrongRecord("its timestamp or its offset does not fit") from None
    if delta != index:
        raise _WrongRecord("its offset delta is not its place in the batch")
    timestamp_ms = base_timestamp_ms + delta_ms
    if not _MIN_INT64 <= timestamp_ms <= _MAX_INT64:
        raise _WrongRecord("its timestamp is beyond 64 bits")
    key_length, at = _bytes(data, at, end, "its key does not fit")
    _, at = _bytes(data, at, end, "its value does not fit")
    if at == end:
        raise _WrongRecord("its header count is missing")
    at = at + 1 if data[at] == 0 else _headers(data, at, end)
    if at != end:
        raise _WrongRecord("its fields do not fill its length")
    return timestamp_ms, key_length


def _headers(data: bytes | bytearray | memoryview, at: int, end: int) -> int:
    try:
        count, at = _int32(data, at, end)
    except IndexError:
        count = -1
    if count < 0:
        raise _WrongRecord("its header count is impossible")
    for _ in range(count):
        length, after = _bytes(data, at, end, "a header's key does not fit")
        if length < 0:
            raise _WrongRecord("a header's key does not fit")
        try:
            bytes(data[after - length : after]).decode()
        except UnicodeDecodeError:
            raise _WrongRecord("a header's key is not UTF-8") from None
        _, at = _bytes(data, after, end, "a header's value does not fit")
    return at


def _bytes(
    data: bytes | bytearray | memoryview, at: int, end: int, problem: str
) -> tuple[int, int]:
    """(length, position after the bytes) of bytes with their length before them; -1: null."""
    try:
        length, at = _int32(data, at, end)
    except IndexError:
        raise _WrongRecord(problem) from None
    if length < -1 or length > end - at:
        raise _WrongRecord(problem)
    return length, at + max(length, 0)


def _int32(data: bytes | bytearray | memoryview, at: int, end: int) -> tuple[int, int]:
    value, at = _varint(data, at, end, _LENGTH_BYTES_MAX)
    if not _MIN_INT32 <= value <= _MAX_INT32:
        raise IndexError
    return value, at


def _varint(
    data: bytes | bytearray | memoryview, at: int, end: int, longest: int
) -> tuple[int, int]:
    """(value, position after it) of a zigzag varint; IndexError if it does not end in time."""
    bits = shift = 0
    for position in range(at, min(at + longest, end)):
        byte = data[position]
        if shift == 63 and byte > 1:
            raise IndexError
        bits |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (bits >> 1) ^ -(bits & 1), position + 1
        shift += 7
    raise IndexError


walk: Walk
try:
    from minikafka.records import _walk
except ImportError:  # no compiler where it was installed
    walk, COMPILED = walk_in_python, False
else:
    walk, COMPILED = _walk.walk, True
