"""What a client can say that is not so: record batches, and requests. Pure.

Each lie about a batch has a verdict: REFUSED, and then nothing of it may ever be stored; or EITHER,
where a broker may take it in its own way (times that nobody has, epochs that it sets anyway). What
is taken must be readable by anybody for ever after.
"""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import cramjam
import lz4.frame
import zstandard
from crc32c import crc32c

REFUSED, EITHER = "refused", "either"
NOW_MS = 1_700_000_000_000
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
_BEFORE_CRC = struct.Struct(">qiibI")
_AFTER_CRC = struct.Struct(">hiqqqhii")
_BOMB_BYTES = 256 * 1024 * 1024


def varint(number: int) -> bytes:
    """Zigzag, as record batches have it."""
    rest = ((number << 1) ^ (number >> 63)) & (1 << 64) - 1
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*encoded, rest])


def record(number: int, value: bytes = b"of a liar", **lies: Any) -> bytes:
    """`lies`: length, key_length, headers (their number) in place of what is so."""
    key = b"key-%d" % (number % 5)
    body = b"".join(
        (
            b"\0",
            varint(lies.get("timestamp_delta", number)),
            varint(lies.get("delta", number)),
            varint(lies.get("key_length", len(key))) + key,
            varint(len(value)) + value,
            varint(lies.get("headers", 0)),
        )
    )
    return varint(lies.get("length", len(body))) + body


def batch(payload: bytes, records: int, **lies: Any) -> bytes:
    """Under a right CRC, unless `crc` is one of the `lies`: each names a field of the header."""
    after = _AFTER_CRC.pack(
        lies.get("attributes", 0),
        lies.get("last_delta", records - 1),
        lies.get("base_timestamp", NOW_MS),
        lies.get("max_timestamp", NOW_MS + records - 1),
        lies.get("producer_id", -1),
        lies.get("producer_epoch", -1),
        lies.get("base_sequence", -1),
        lies.get("count", records),
    )
    after += payload
    head = _BEFORE_CRC.pack(
        lies.get("base_offset", 0),
        lies.get("length", _BEFORE_CRC.size - 12 + len(after)),
        lies.get("leader_epoch", -1),
        lies.get("magic", 2),
        crc32c(after) ^ lies.get("crc", 0),
    )
    return head + after


def honest(records: int = 3, **lies: Any) -> bytes:
    """Plain records; what is in `lies` is not so."""
    return batch(b"".join(map(record, range(records))), records, **lies)


def _squeezed(codec: int, squeeze: Callable[[bytes], bytes], **lies: Any) -> bytes:
    payload = squeeze(b"".join(map(record, range(20))))
    return batch(payload, 20, attributes=codec, **lies)


def _snappy(data: bytes) -> bytes:
    """In the frames of Java's library, as Kafka's clients write them."""
    packed = bytes(cramjam.snappy.compress_raw(data))
    return b"\x82SNAPPY\0" + struct.pack(">iii", 1, 1, len(packed)) + packed


@cache
def _bomb() -> bytes:
    """A few kilobytes that become very many."""
    packer = zstandard.ZstdCompressor().compressobj()
    piece = bytes(1 << 20)
    parts = [packer.compress(piece) for _ in range(_BOMB_BYTES >> 20)]
    return b"".join([*parts, packer.flush()])


CODECS: dict[int, Callable[[bytes], bytes]] = {
    GZIP: gzip.compress,
    SNAPPY: _snappy,
    LZ4: lz4.frame.compress,
    ZSTD: zstandard.compress,
}

Make = Callable[[random.Random], bytes]


@dataclass(frozen=True)
class Lie:
    name: str
    verdict: str
    make: Make


def _one(**lies: Any) -> bytes:
    return batch(record(0, **lies), 1)


def _any_codec(rng: random.Random, squeeze: Callable[[bytes], bytes]) -> bytes:
    codec = rng.choice(list(CODECS))
    return _squeezed(codec, lambda data: squeeze(CODECS[codec](data)))


_LARGEST = 2**31 - 1


def _of_another_number(rng: random.Random) -> bytes:
    codec = rng.choice(list(CODECS))
    return _squeezed(codec, CODECS[codec], count=21, last_delta=20)


def _of_no_time(rng: random.Random) -> bytes:
    at = rng.choice((-1, 0, -(2**40), 2**62))
    return honest(base_timestamp=at, max_timestamp=at)


def _of_no_largest_time(rng: random.Random) -> bytes:
    return honest(max_timestamp=rng.choice((-1, 0, 2**62)))


def _of_its_own_epoch(rng: random.Random) -> bytes:
    base_offset, leader_epoch = rng.choice((-5, 10**12)), rng.choice((-9, 10**6))
    return honest(base_offset=base_offset, leader_epoch=leader_epoch)


def _of_somebody_else(rng: random.Random) -> bytes:
    return honest(
        producer_id=rng.randrange(1_000),
        producer_epoch=rng.randrange(3),
        base_sequence=rng.choice((0, 5, _LARGEST, -4)),
    )


def _noise_as_compressed(rng: random.Random) -> bytes:
    return _any_codec(rng, lambda data: b"\x17" + rng.randbytes(60))


_REFUSED: dict[str, Make] = {
    "a wrong CRC": lambda rng: honest(crc=1 << rng.randrange(32)),
    "a count above that of the records": lambda rng: honest(3, count=4, last_delta=3),
    "a count below that of the records": lambda rng: honest(3, count=2, last_delta=1),
    "two thousand million records": lambda rng: honest(1, count=_LARGEST, last_delta=_LARGEST - 1),
    "a last offset far away": lambda rng: honest(3, last_delta=_LARGEST - 1),
    "a last offset below none": lambda rng: honest(3, last_delta=-2),
    "no records at all": lambda rng: batch(b"", 0, last_delta=0),
    "a count below none": lambda rng: honest(2, count=-5),
    "a record longer than its batch": lambda rng: _one(length=5_000),
    "a record of no length": lambda rng: _one(length=0),
    "a record of a length below none": lambda rng: _one(length=-7),
    "a key longer than its record": lambda rng: _one(key_length=900),
    "headers that are not there": lambda rng: _one(headers=rng.choice((9, 10**6))),
    "headers below none": lambda rng: _one(headers=-3),
    "noise for records": lambda rng: batch(rng.randbytes(80) + b"\xff" * 12, 3),
    "noise that is said to be compressed": _noise_as_compressed,
    "compressed records that are cut short": lambda rng: _any_codec(
        rng, lambda data: data[: len(data) // 2]
    ),
    "compressed records of another number": _of_another_number,
    "a codec that there is not": lambda rng: honest(attributes=rng.choice((5, 6, 7))),
    "a format that there is not": lambda rng: honest(magic=rng.choice((3, 9, -1))),
    "a length beyond the request": lambda rng: honest(length=10_000),
    "a length within the header": lambda rng: honest(length=rng.choice((0, 7, -1))),
    "half a header": lambda rng: honest()[: rng.randrange(1, 61)],
    "a batch that is cut short": lambda rng: honest()[: -rng.randrange(1, 20)],
    "two batches": lambda rng: honest() + honest(),
    "a mark of a transaction's end": lambda rng: honest(1, attributes=0x20),
    "records of no transaction": lambda rng: honest(attributes=0x10),
    "a batch that is too large": lambda rng: batch(record(0, bytes(1_200_000)), 1),
}
_EITHER: dict[str, Make] = {
    "a bomb": lambda rng: batch(_bomb(), 1, attributes=ZSTD),
    "times that nobody has": _of_no_time,
    "a largest time that is none": _of_no_largest_time,
    "the time of the append": lambda rng: honest(attributes=0x08),
    "a horizon for deletes": lambda rng: honest(attributes=0x40),
    "an offset and an epoch of its own": _of_its_own_epoch,
    "offsets that go back": lambda rng: batch(
        record(0) + record(1, delta=0) + record(2, delta=1), 3
    ),
    "a producer without a sequence": lambda rng: honest(producer_id=77),
    "a number of somebody else": _of_somebody_else,
}
LIES = tuple(
    Lie(name, verdict, make)
    for verdict, known in ((REFUSED, _REFUSED), (EITHER, _EITHER))
    for name, make in known.items()
)
TRUTH = Lie("the truth", EITHER, lambda rng: honest(rng.randrange(1, 9)))
SQUEEZED_TRUTH = Lie(
    "the truth, compressed", EITHER, lambda rng: _any_codec(rng, lambda data: data)
)
