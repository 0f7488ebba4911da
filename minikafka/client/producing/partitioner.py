"""Which partition a record goes to, as Kafka's clients decide, so that a key has one home whatever
client wrote it.

With a key: murmur2 of the key (31 low bits) modulo the number of partitions (Kafka's
BuiltInPartitioner). Without: one random partition until it has had a batch's worth of bytes, then
another (KIP-480, KIP-794), preferring partitions that have a leader.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache

from minikafka.client.backoff import Random

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=65_536)
def murmur2(data: bytes) -> int:
    """MurmurHash2 (32 bits, unsigned) with Kafka's seed. Keys repeat, so it is remembered."""
    length = len(data)
    state = _SEED ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        block = int.from_bytes(data[start : start + 4], "little") * _MULTIPLIER & _MASK
        block = (block ^ block >> 24) * _MULTIPLIER & _MASK
        state = (state * _MULTIPLIER & _MASK) ^ block
    if whole != length:
        state = (state ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    state = (state ^ state >> 13) * _MULTIPLIER & _MASK
    return state ^ state >> 15


def partition_for_key(key: bytes, partition_count: int) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % partition_count


class StickyPartitioner:
    """Partitions for the keyless records of one topic.

    State: the partition that it sticks to and how many bytes it has had.
    """

    __slots__ = ("_partition", "_random", "_switch_bytes", "_taken_bytes")

    def __init__(self, switch_bytes: int, uniform: Random = random.random) -> None:
        self._switch_bytes = switch_bytes
        self._random = uniform
        self._partition = -1
        self._taken_bytes = 0

    def choose(self, size_bytes: int, partition_count: int, available: Sequence[int]) -> int:
        """The partition of a record of this size. `available`: those with a leader, in order."""
        if self._partition < 0 or self._taken_bytes >= self._switch_bytes:
            self._switch(partition_count, available)
        self._taken_bytes += size_bytes
        return self._partition

    def keep_to(self, available: Sequence[int]) -> None:
        """Leave a partition that has no leader any more."""
        if self._partition not in available:
            self._partition = -1

    def _switch(self, partition_count: int, available: Sequence[int]) -> None:
        self._taken_bytes = 0
        candidates = available or range(partition_count)
        others = [partition for partition in candidates if partition != self._partition]
        choices = others or candidates
        self._partition = choices[int(self._random() * len(choices))]
