"""Requests of every API and version, nearly right: what a seed gives is written down and sent.

The shapes are kio's, which were made of Kafka's own definitions; the writing is our own, because
what is wanted here is also what no writer allows: null where nothing may be null, an array that
claims two thousand million items, a string that is longer than the request.

A request is a function of a seed, a worker, a number and the time of records alone.
"""

from __future__ import annotations

import random
import struct
import uuid
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin

from kio.index import load_request_schema

from minikafka.kafka.apis import APIS, ApiKey
from tests.fuzz import batches

PARTITIONS = 3
MANY = 30
_MANNERS, _HOW_OFTEN = ("whole", "half", "many", "length"), (94, 2, 2, 2)
_LENGTHS = (-(2**31), -1, 0, 1, 7, 8, 90_000_000, 2**31 - 1)
TOPICS = tuple(f"fuzz-{number}" for number in range(4))
_MADE = tuple(f"fuzz-made-{number}" for number in range(6))
_GROUPS = tuple(f"fuzz-group-{number}" for number in range(5))
_MEMBERS = ("", "member-1", "consumer-that-was-never-there")
# Of topics: what fuzzed requests do to a broker, or to all, must not reach the honest client.
_CONFIGS = (
    *("retention.ms", "cleanup.policy", "max.message.bytes", "segment.bytes", "segment.ms"),
    *("min.insync.replicas", "compression.type", "message.timestamp.type", "no.such.config"),
    *("retention.bytes", "flush.messages", "unclean.leader.election.enable", "preallocate"),
)
_VALUES = (
    "",
    "0",
    "-1",
    "1",
    "1000",
    "2147483647",
    "compact",
    "delete,compact",
    "lz4",
    "soon",
    "x",
)
_INTEGERS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint16": 17, "error_code": 16}
_TIMES = {"timedelta_i32": 32, "timedelta_i64": 64, "datetime_i64": 64}
_PACK = {8: ">b", 16: ">h", 17: ">H", 32: ">i", 64: ">q"}
# Of these the honest client would suffer by right, or the cluster would only be filled.
_SMALL_COUNTS = {"num_partitions", "count", "replication_factor"}


@dataclass(frozen=True)
class Fuzzed:
    """A request and how it is sent: `whole`, only a `half`, `many` times without a look at the
    answers, or behind another length than its own."""

    api: ApiKey
    version: int
    data: bytes
    manner: str = "whole"
    length: int | None = None

    @property
    def wire(self) -> bytes:
        """All that is sent."""
        length = len(self.data) if self.length is None else self.length
        framed = struct.pack(">i", length) + self.data
        if self.manner == "half":
            return framed[: len(framed) // 2]
        return framed * MANY if self.manner == "many" else framed

    def __str__(self) -> str:
        framed = self.wire[: 4 + len(self.data)]
        return f"{self.api.name} version {self.version} ({self.manner}): {framed.hex()}"


def request(seed: int, worker: int, number: int, now_ms: int) -> Fuzzed:
    """The request with this number; its number is its correlation id."""
    chance = random.Random(f"{seed} {worker} {number}")
    # Produce is where the records come in.
    api = ApiKey.PRODUCE if chance.random() < 0.3 else chance.choice(list(APIS))
    low, high, first_flexible = APIS[api]
    if api is ApiKey.PRODUCE:
        low = 3  # of those before there is no definition: batches of older formats
    version = chance.randint(low, high)
    out = bytearray(struct.pack(">hhi", api, version, number))
    out += _short_string(chance.choice(("fuzz", "", None, "f" * 300)))
    flexible = version >= first_flexible
    if flexible:
        out += _tags(chance)
    # Without them there would soon be nothing to produce to.
    topics = _MADE if api is ApiKey.DELETE_TOPICS else (*TOPICS, *TOPICS, *_MADE)
    out += Writer(chance, flexible, now_ms, topics).message(load_request_schema(int(api), version))
    if chance.random() < 0.15:
        _damage(chance, out)
    manner = chance.choices(_MANNERS, _HOW_OFTEN)[0]
    length = chance.choice(_LENGTHS) if manner == "length" else None
    return Fuzzed(api, version, bytes(out), manner, length)


def _damage(chance: random.Random, out: bytearray) -> None:
    """Any bytes of the body, as if they had been garbled, cut off or repeated."""
    kind = chance.randrange(3)
    if kind == 0 and len(out) > 8:
        for _ in range(chance.randint(1, 8)):
            out[chance.randrange(8, len(out))] = chance.randrange(256)
    elif kind == 1:
        del out[chance.randint(8, len(out)) :]
    else:
        out += chance.randbytes(chance.randint(1, 50))


def _short_string(text: str | None) -> bytes:
    return b"\xff\xff" if text is None else struct.pack(">h", len(text)) + text.encode()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _tags(chance: random.Random) -> bytes:
    """Mostly none; at times some that nobody knows, or a claim of very many."""
    if chance.random() < 0.95:
        return b"\0"
    if chance.random() < 0.3:
        return _varint(chance.choice((10_001, 2**31 - 1, 2**32 - 1, 2**35)))
    count = chance.randint(1, 4)
    tags = [(chance.randrange(20), chance.randbytes(chance.randrange(10))) for _ in range(count)]
    body = b"".join(_varint(tag) + _varint(len(data)) + data for tag, data in tags)
    return _varint(count) + body


@dataclass
class Writer:
    """Writes values that it makes up, field by field. `wildness`: how often one is not ordinary."""

    chance: random.Random
    flexible: bool
    now_ms: int
    topics: tuple[str, ...]
    wildness: float = 0.0

    def __post_init__(self) -> None:
        # Most requests have one fault or none: with more, none but the first is ever seen.
        self.wildness = self.chance.choice((0.0, 0.02, 0.05, 0.3))

    @property
    def wild(self) -> bool:
        return self.chance.random() < self.wildness

    def message(self, definition: Any) -> bytes:
        out, tagged = bytearray(), []
        for name, hint, kind, tag in _fields_of(definition):
            if tag is not None:
                if self.chance.random() < 0.3:
                    tagged.append((tag, self.field(name, hint, kind)))
                continue
            out += self.field(name, hint, kind)
        if self.flexible:
            if tagged and not self.wild:
                out += _varint(len(tagged))
                for tag, data in tagged:
                    out += _varint(tag) + _varint(len(data)) + data
            else:
                out += _tags(self.chance)
        return bytes(out)

    def field(self, name: str, hint: Any, kind: str) -> bytes:
        inner, nullable = _without_none(hint)
        null = self.chance.random() < 0.15 if nullable else self.wild and self.wild
        if get_origin(inner) is tuple:
            return self.array(name, get_args(inner)[0], kind, null)
        if is_dataclass(inner):
            if nullable:
                return b"\xff" if null else b"\x01" + self.message(inner)
            return self.message(inner)
        return self.plain(name, kind, null)

    def array(self, name: str, item: Any, kind: str, null: bool) -> bytes:
        if null:
            return self.count(-1)
        if self.wild and self.chance.random() < 0.3:
            return self.count(self.chance.choice((1, 1_000, 1_000_001, 2**31 - 1, -2, -(2**31))))

        def one() -> bytes:
            if is_dataclass(item):
                return self.message(item)
            return self.plain(name, kind, False)

        if self.wild:
            # One thing again and again, as much as a small request can hold.
            written = one()
            times = min(self.chance.choice((2, 100, 3_000)), 200_000 // max(1, len(written)))
            return self.count(times) + written * times
        count = self.chance.choice((0, 1, 1, 1, 2, 3))
        return self.count(count) + b"".join(one() for _ in range(count))

    def count(self, number: int) -> bytes:
        if self.flexible:
            return _varint((number + 1) % 2**32)
        return struct.pack(">i", number)

    def plain(self, name: str, kind: str, null: bool) -> bytes:
        bits = _INTEGERS.get(kind) or _TIMES.get(kind)
        if bits is not None:
            return struct.pack(_PACK[bits], self.integer(name, bits))
        if kind == "string":
            return self.string(None if null else self.text(name))
        if kind == "bytes":
            return self.binary(None if null else self.chance.randbytes(self.chance.randrange(40)))
        if kind == "records":
            return self.binary(None if null else batches.any_records(self.chance, self.now_ms))
        if kind == "bool":
            return bytes(
                [self.chance.choice((0, 1, 2, 255)) if self.wild else self.chance.randrange(2)]
            )
        if kind == "float64":
            return struct.pack(">d", self.chance.choice((0.0, -1.0, float("nan"), 1e308)))
        assert kind == "uuid", kind
        return uuid.UUID(int=self.chance.choice((0, 1, self.chance.getrandbits(128)))).bytes

    def integer(self, name: str, bits: int) -> int:
        low, high = (0, 2**16 - 1) if bits == 17 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if self.wild:
            near = (low, low + 1, -2, -1, 0, 1, 2, high - 1, high, self.chance.randint(low, high))
            return max(low, self.chance.choice(near))
        ordinary = _ORDINARY_NUMBERS.get(name)
        if ordinary is None and ("timeout" in name or "max_wait" in name):
            ordinary = (0, 100, 6_000)
        chosen = self.chance.choice(ordinary or (-1, 0, 1, 2))
        return max(low, min(high, chosen))

    def text(self, name: str) -> str:
        if self.wild:
            odd = (
                "",
                ".",
                "..",
                "a" * 249,
                "b" * 32_000,
                "\0",
                "\x1b[31mred",
                "naïve/世界",
                "/",
                "%s",
            )
            return self.chance.choice(odd)
        for part, words in _WORDS.items():
            if part in name:
                return self.chance.choice(words)
        return self.chance.choice(self.topics)

    def string(self, text: str | None) -> bytes:
        if text is None:
            return b"\0" if self.flexible else b"\xff\xff"
        data = text.encode()
        claimed = len(data)
        if self.wild and self.wild:
            claimed = self.chance.choice((claimed + 1, 0, 32_767))
        if self.flexible:
            return _varint(claimed + 1) + data
        return struct.pack(">h", claimed) + data

    def binary(self, data: bytes | None) -> bytes:
        return self.count(-1) if data is None else self.count(len(data)) + data


_ORDINARY_NUMBERS = {
    "index": tuple(range(PARTITIONS)),
    "partition": tuple(range(PARTITIONS)),
    "partition_index": tuple(range(PARTITIONS)),
    "partition_indexes": tuple(range(PARTITIONS)),
    "partitions": tuple(range(PARTITIONS)),
    "acks": (-1, -1, -1, 1, 0),
    "replica_id": (-1, -1, -1, 1, 2),
    "fetch_offset": (0, 0, 1, 10, 1_000_000),
    "timestamp": (-1, -2, -3, 0, 1_700_000_000_000),
    "max_bytes": (1, 1_000, 1_000_000),
    "partition_max_bytes": (0, 1, 1_000, 1_000_000),
    "min_bytes": (0, 1),
    "resource_type": (2, 2, 2, 4),
    "config_operation": (0, 1, 2, 3),
    "num_partitions": (-1, 1, 2),
    "replication_factor": (-1, 1, 3),
    "count": (1, 4, 5, 6),
    "broker_ids": (1, 2, 3),
    "replicas": (1, 2, 3),
    "key_type": (0, 0, 1),
    "committed_offset": (0, 1, 100),
    "offset": (-1, 0, 1, 100),
}
_WORDS = {
    "group": _GROUPS,
    "member": _MEMBERS,
    "transactional": ("fuzz-transaction", ""),
    "key": _GROUPS,
    "resource_name": (*TOPICS, *TOPICS, "1", "2", ""),
    "configuration": _CONFIGS,
    "config": _CONFIGS,
    "protocol": ("consumer", "range", ""),
    "reason": ("", "because"),
    "value": _VALUES,
    "rack": ("", "rack"),
    "states": ("Stable", "Empty", "No"),
    "state_filters": ("Ongoing", "Empty", "No"),
}


@cache
def _fields_of(definition: Any) -> tuple[tuple[str, Any, str, int | None], ...]:
    """Name, type, Kafka's name of the type, tag."""
    found = []
    within_config = "Config" in definition.__name__ and "Resource" not in definition.__name__
    for each in fields(definition):
        # `name` is that of a setting there, and of a topic elsewhere.
        name = "config" if within_config and each.name == "name" else each.name
        kind = each.metadata.get("kafka_type", "")
        found.append((name, each.type, kind, each.metadata.get("tag")))
    return tuple(found)


def _without_none(hint: Any) -> tuple[Any, bool]:
    arguments = get_args(hint)
    if NoneType not in arguments:
        return hint, False
    return next(argument for argument in arguments if argument is not NoneType), True
