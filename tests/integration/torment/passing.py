"""Topics that come and go while everything else happens.

One name after another is created, written to, read back and deleted; then the same names come
again, so that brokers that slept through a deletion meet another topic of that name. What must hold
of each life of a topic: it has the records that were acknowledged in this life, each once, and none
of another life; and when it was deleted and all is healed, it is gone, from ZooKeeper and from
every disk.

State: the topic of this moment, and what is wrong so far (`anomalies`).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from minikafka.client import AsyncAdmin, AsyncConsumer, AsyncProducer
from minikafka.errors import (
    InvalidReplicationFactorError,
    MinikafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import TopicPartition
from tests.helpers.waiting import until
from tests.integration.torment.checker import Anomaly

_NAMES = ("passing-a", "passing-b")
_RECORDS = 30
_CONFIGS = {"min.insync.replicas": "2", "file.delete.delay.ms": "500"}
_PARTITIONS = 2
_REPLICAS = 3
_CALL_MS = 15_000
_END_S = 60.0
_AGAIN_S = 0.2


class PassingTopics:
    """`exists` asks ZooKeeper whether a topic is there, or on its way out; OSError or a retriable
    error: it cannot be told now."""

    def __init__(self, bootstrap: str, exists: Callable[[str], Awaitable[bool | None]]) -> None:
        self._bootstrap = bootstrap
        self._exists = exists
        self._stop = asyncio.Event()
        self.lives = 0
        self.anomalies: list[Anomaly] = []

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Until told to stop; the life that was begun is lived to its end."""
        async with (
            AsyncAdmin(self._bootstrap) as admin,
            AsyncProducer(
                self._bootstrap, delivery_timeout_ms=_CALL_MS, max_block_ms=_CALL_MS / 3
            ) as producer,
        ):
            while not self._stop.is_set():
                name = _NAMES[self.lives % len(_NAMES)]
                self.lives += 1
                await self._live(name, admin, producer)

    async def _live(self, name: str, admin: AsyncAdmin, producer: AsyncProducer) -> None:
        await _persist(
            lambda: admin.create_topic(name, _PARTITIONS, _REPLICAS, _CONFIGS, wait=False),
            TopicAlreadyExistsError,  # an earlier attempt of ours: it was gone before
        )
        values = [f"{name}/{self.lives}:{number}" for number in range(_RECORDS)]
        acknowledged = await self._write(name, values, producer)
        read = await self._read(name)
        if read is not None:
            self._judge(name, values, acknowledged, read)
        await _persist(lambda: admin.delete_topic(name), UnknownTopicOrPartitionError)
        await self._until_gone(name)

    async def _write(self, name: str, values: list[str], producer: AsyncProducer) -> set[str]:
        deliveries = {}
        for number, value in enumerate(values):
            try:
                deliveries[value] = await producer.send(
                    name, value.encode(), partition=number % _PARTITIONS
                )
            except MinikafkaError:  # it does not know the topic yet
                continue
        acknowledged = set()
        for value, delivery in deliveries.items():
            try:
                await delivery
                acknowledged.add(value)
            except MinikafkaError:
                continue
        return acknowledged

    async def _read(self, name: str) -> list[str] | None:
        """All values; None if it could not be read in the time of the faults."""
        found: list[str] = []
        partitions = [TopicPartition(name, number) for number in range(_PARTITIONS)]
        try:
            async with (
                asyncio.timeout(_CALL_MS / 1000),
                AsyncConsumer(self._bootstrap, auto_offset_reset="error") as consumer,
            ):
                ends = await consumer.end_offsets(partitions)
                consumer.assign(partitions)
                for each in partitions:
                    consumer.seek(each, 0)
                while sum(ends.values()) > len(found):
                    records = await consumer.poll(1_000)
                    found += [(record.value or b"").decode() for record in records]
        except (MinikafkaError, TimeoutError):
            return None
        return found

    def _judge(self, name: str, sent: list[str], acknowledged: set[str], read: list[str]) -> None:
        times = Counter(read)
        problems = {
            "lost": sorted(acknowledged - set(read)),
            "duplicate": sorted(value for value, count in times.items() if count > 1),
            "phantom": sorted(set(read) - set(sent)),
        }
        for kind, values in problems.items():
            if values:
                life = f"in life {self.lives}: {', '.join(values[:5])}, {len(values)} in all"
                self.anomalies.append(Anomaly(kind, name, life))

    async def _until_gone(self, name: str) -> None:
        """As long as it takes while there are faults; at the end there is a deadline for it all."""

        async def gone() -> bool:
            return await self._exists(name) is False

        await until(gone, math.inf)


def left_behind(data_dirs: Iterable[Path]) -> list[Path]:
    """Folders of topics that are gone."""
    return [
        folder
        for directory in data_dirs
        for name in _NAMES
        for folder in directory.glob(f"{name}-*")
    ]


async def check_disks(data_dirs: Iterable[Path]) -> list[Anomaly]:
    """That nothing of a deleted topic stays on any disk."""
    folders = list(data_dirs)
    try:
        await until(lambda: not left_behind(folders), _END_S)
    except AssertionError:
        return [Anomaly("left behind", each.name, str(each)) for each in left_behind(folders)]
    return []


async def _persist(
    attempt: Callable[[], Awaitable[None]], done_already: type[MinikafkaError]
) -> None:
    """Until it is done, through all that may pass."""
    while True:
        try:
            return await attempt()
        except done_already:
            return None
        except MinikafkaError as error:
            # With a broker down there are too few for the replicas.
            if not error.retriable and not isinstance(error, InvalidReplicationFactorError):
                raise
        await asyncio.sleep(_AGAIN_S)
