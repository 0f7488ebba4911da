"""Record batches that are wrong in one place or more, under the checksum that they should have."""

from __future__ import annotations

import gzip
import random
import struct
from typing import Any

import cramjam
import lz4.frame
from crc32c import crc32c

_NO_NUMBERS = (-1, -1, -1)
_WILD_32 = (-(2**31), -2, -1, 0, 1, 2, 1_000_000, 2**31 - 2, 2**31 - 1)
_WILD_64 = (-(2**63), -2, -1, 0, 1, 2**31, 2**62, 2**63 - 1)
# A small thing that gets large; the budget for it is what is tried.
_BOMB_BYTES = 30_000_000


def any_records(chance: random.Random, now_ms: int) -> bytes:
    """What stands where record batches belong: mostly one batch, with one fault or none."""
    kind = chance.random()
    if kind < 0.03:
        return chance.randbytes(chance.randrange(200))
    if kind < 0.06:
        return batch(chance, now_ms) + batch(chance, now_ms)
    data = bytearray(batch(chance, now_ms))
    if kind < 0.10:
        del data[chance.randrange(len(data)) :]
    elif kind < 0.14:
        data += chance.randbytes(chance.randrange(1, 80))
    elif kind < 0.18:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)  # the checksum tells
    return bytes(data)


def batch(chance: random.Random, now_ms: int) -> bytes:
    count = chance.choice((1, 1, 2, 3, 20))
    wild = _Wild(chance, chance.choice((0.0, 0.0, 0.04, 0.15)))
    body = b"".join(_record(wild, number) for number in range(count))
    codec = chance.choice((0, 0, 1, 2, 3, 4))
    packed = _packed(wild, codec, body)
    producer, epoch, sequence = _NO_NUMBERS
    if chance.random() < 0.3:
        producer = chance.choice((0, 1, 2, 1000, 2**62))
        epoch = chance.choice((0, 0, 1, 32_767))
        sequence = chance.choice((0, 0, 1, 5, 2**31 - 1))
    rest = struct.pack(
        ">hiqqqhii",
        wild.one(codec, (5, 7, 8, 16, 32, 48, 64, -1, 2**15 - 1)),
        wild.one(count - 1, _WILD_32),
        wild.one(now_ms, _WILD_64),
        wild.one(now_ms + count - 1, _WILD_64),
        wild.one(producer, _WILD_64),
        wild.one(epoch, (-(2**15), -2, -1, 0, 2**15 - 1)),
        wild.one(sequence, _WILD_32),
        wild.one(count, _WILD_32),
    )
    rest += packed
    length = 4 + 1 + 4 + len(rest)
    return (
        struct.pack(
            ">qiibI",
            wild.one(0, _WILD_64),
            wild.one(length, (*_WILD_32, length - 1, length + 1, 49)),
            wild.one(-1, _WILD_32),
            wild.one(2, (-1, 0, 1, 3, 127)),
            crc32c(rest),
        )
        + rest
    )


class _Wild:
    def __init__(self, chance: random.Random, how: float) -> None:
        self.chance, self._how = chance, how

    def one(self, right: Any, wrong: Any) -> Any:
        return self.chance.choice(wrong) if self.now else right

    @property
    def now(self) -> bool:
        return self.chance.random() < self._how


def _record(wild: _Wild, number: int) -> bytes:
    chance = wild.chance
    body = bytes([wild.one(0, (1, 255))])
    body += _zigzag(wild.one(number, _WILD_64))  # of time
    body += _zigzag(wild.one(number, _WILD_32))  # of offset
    body += _blob(wild, chance.choice((None, b"", b"key", b"k" * 200)))
    body += _blob(wild, chance.choice((None, b"", b"value", b"v" * 1_000)))
    headers = chance.choice((0, 0, 0, 1, 2))
    body += _zigzag(wild.one(headers, _WILD_32))
    for _ in range(headers):
        body += _blob(wild, wild.one(b"name", (None, b"", b"\xff\xfe"))) + _blob(wild, b"h")
    return _zigzag(wild.one(len(body), (*_WILD_32, len(body) - 1, len(body) + 1))) + body


def _blob(wild: _Wild, data: bytes | None) -> bytes:
    if data is None:
        return _zigzag(wild.one(-1, (-2, -(2**31))))
    return _zigzag(wild.one(len(data), (*_WILD_32, len(data) + 1))) + data


def _zigzag(number: int) -> bytes:
    number = ((number << 1) ^ (number >> 63)) & (2**64 - 1)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _packed(wild: _Wild, codec: int, body: bytes) -> bytes:
    if codec == 0:
        return body
    if wild.now:
        kind = wild.chance.randrange(3)
        if kind == 0:
            return wild.chance.randbytes(len(body))  # none of the codec's
        if kind == 1:
            body = bytes(_BOMB_BYTES) if wild.chance.random() < 0.1 else b""
        else:
            return _compressed(codec, body)[: -wild.chance.randint(1, 4)]
    return _compressed(codec, body)


def _compressed(codec: int, body: bytes) -> bytes:
    if codec == 1:
        return gzip.compress(body, mtime=0)
    if codec == 2:
        return bytes(cramjam.snappy.compress_raw(body))
    if codec == 3:
        return bytes(lz4.frame.compress(body))
    return bytes(cramjam.zstd.compress(body))
