"""At the end everything that is stored is read by clients that nobody here wrote.

kafka-python and aiokafka read every partition, from its first record to its end; each takes batches
apart by its own code (pure Python, and Cython), and checks their CRCs. What they find must be the
same. A batch that one of them cannot read, or at which it stops, is an anomaly.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence

import aiokafka
import kafka

from minikafka.model import TopicPartition
from tests.integration.torment.checker import Anomaly

_READ_S = 90.0  # of one reader, all partitions
_POLL_MS = 1_000

# Of a partition: how many records, and a digest of their offsets, keys and values.
Found = dict[TopicPartition, tuple[int, str]]


async def read_by_strangers(bootstrap: str, partitions: Sequence[TopicPartition]) -> list[Anomaly]:
    anomalies: list[Anomaly] = []
    found: dict[str, Found] = {}
    addresses = bootstrap.split(",")
    readers: dict[str, Callable[[], object]] = {
        "kafka-python": lambda: asyncio.to_thread(_by_kafka_python, addresses, partitions),
        "aiokafka": lambda: _by_aiokafka(addresses, partitions),
    }
    for name, read in readers.items():
        try:
            found[name] = await read()  # type: ignore[misc]
        except Exception as error:  # whatever a library says when it cannot read what is there
            told = f"{type(error).__name__}: {error}"
            anomalies.append(Anomaly("unreadable", "-", f"{name}: {told}"))
    if len(found) == len(readers):
        first, second = found.values()
        anomalies += [
            Anomaly("read differently", str(each), f"{list(found)}: {first[each]}, {second[each]}")
            for each in partitions
            if first[each] != second[each]
        ]
    return anomalies


class _Digest:
    """Of what was read of one partition, record by record."""

    def __init__(self) -> None:
        self.records = 0
        self._digest = hashlib.blake2b(digest_size=8)

    def add(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        self.records += 1
        self._digest.update(repr((offset, key, value)).encode())

    @property
    def told(self) -> tuple[int, str]:
        return self.records, self._digest.hexdigest()


def _by_kafka_python(addresses: Sequence[str], partitions: Sequence[TopicPartition]) -> Found:
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=addresses, enable_auto_commit=False, check_crcs=True
    )
    found: Found = {}
    try:
        deadline = time.monotonic() + _READ_S
        for each in partitions:  # one by one, so that it is known where it stops
            there = kafka.TopicPartition(each.topic, each.partition)
            consumer.assign([there])
            consumer.seek_to_beginning(there)
            end = consumer.end_offsets([there])[there]
            digest = _Digest()
            while (position := consumer.position(there)) < end:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{each} is read up to {position} of {end} only")
                for records in consumer.poll(timeout_ms=_POLL_MS).values():
                    for record in records:
                        digest.add(record.offset, record.key, record.value)
            found[each] = digest.told
    finally:
        consumer.close()
    return found


async def _by_aiokafka(addresses: Sequence[str], partitions: Sequence[TopicPartition]) -> Found:
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=list(addresses), enable_auto_commit=False, check_crcs=True
    )
    found: Found = {}
    await consumer.start()
    try:
        deadline = time.monotonic() + _READ_S
        for each in partitions:
            there = aiokafka.TopicPartition(each.topic, each.partition)
            consumer.assign([there])
            await consumer.seek_to_beginning(there)
            end = (await consumer.end_offsets([there]))[there]
            digest = _Digest()
            while (position := await consumer.position(there)) < end:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{each} is read up to {position} of {end} only")
                for records in (await consumer.getmany(there, timeout_ms=_POLL_MS)).values():
                    for record in records:
                        digest.add(record.offset, record.key, record.value)
            found[each] = digest.told
    finally:
        await consumer.stop()
    return found
