"""The demo's producer, and the count of what became of its records.

Every record carries its number as its key, so that what was acknowledged can be held against what
is read back: a record is lost if it was acknowledged and is not there (with that value), duplicated
if it is there twice. One that was not acknowledged may be there or not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from minikafka.errors import MinikafkaError

if TYPE_CHECKING:
    from minikafka.client import AsyncProducer
    from minikafka.client.producing.accumulator import Delivery

_LINES_AT_ONCE = 40
_PAUSE_S = 0.02  # 2000 records a second


class DemoLoad:
    """Sends the lines over and over until `stop`. `acknowledged`: record number to offset;
    `failed`: record number to the error."""

    def __init__(self, producer: AsyncProducer, topic: str, lines: Sequence[bytes]) -> None:
        self._producer = producer
        self._topic = topic
        self._lines = lines
        self._stopping = asyncio.Event()
        self._news = asyncio.Condition()
        self.sent = 0
        self.acknowledged: dict[int, int] = {}
        self.failed: dict[int, BaseException] = {}

    def value_of(self, number: int) -> bytes:
        return self._lines[number % len(self._lines)]

    async def run(self) -> None:
        """Until `stop`; then every record has its outcome."""
        while not self._stopping.is_set():
            for _ in range(_LINES_AT_ONCE):
                number = self.sent
                self.sent += 1
                delivery = await self._producer.send(
                    self._topic, self.value_of(number), key=b"%d" % number
                )
                delivery.add_done_callback(partial(self._count, number))
            await asyncio.sleep(_PAUSE_S)
            async with self._news:
                self._news.notify_all()
        await self._producer.flush()

    def stop(self) -> None:
        self._stopping.set()

    async def wait_acknowledged(self, more: int, timeout_s: float) -> bool:
        """Wait until that many more records are acknowledged; False if that takes too long."""
        wanted = len(self.acknowledged) + more
        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: len(self.acknowledged) >= wanted)
        except TimeoutError:
            return False
        return True

    def _count(self, number: int, delivery: Delivery) -> None:
        error = delivery.exception()
        if error is None:
            self.acknowledged[number] = delivery.result().offset
        else:
            self.failed[number] = error


@dataclass(frozen=True, slots=True)
class Audit:
    """What is left of it. `extra`: records that are there without having been acknowledged."""

    acknowledged: int
    read_back: int
    lost: tuple[int, ...]
    duplicated: tuple[int, ...]
    extra: int

    @property
    def clean(self) -> bool:
        return not self.lost and not self.duplicated


def audit(
    acknowledged: Mapping[int, int],
    values: Sequence[bytes],
    read_back: Iterable[tuple[int, bytes | None, bytes | None]],
) -> Audit:
    """`acknowledged`: record number to offset. `values`: record n was values[n % len]. `read_back`:
    (offset, key, value) of everything in the partition."""
    at: dict[int, tuple[int, bytes | None]] = {}
    times: Counter[int] = Counter()
    count = 0
    for offset, key, value in read_back:
        number = int(key or b"-1")
        at.setdefault(number, (offset, value))
        times[number] += 1
        count += 1
    lost = tuple(
        number
        for number, offset in sorted(acknowledged.items())
        if at.get(number) != (offset, values[number % len(values)])
    )
    duplicated = tuple(sorted(number for number, seen in times.items() if seen > 1))
    extra = sum(1 for number in times if number not in acknowledged)
    return Audit(len(acknowledged), count, lost, duplicated, extra)


async def read_everything(
    addresses: Sequence[str], topic: str, timeout_s: float
) -> list[tuple[int, bytes | None, bytes | None]]:
    """(offset, key, value) of each record of partition 0. Raises MinikafkaError if the end is not
    reached in time."""
    from minikafka.client import AsyncConsumer
    from minikafka.model import TopicPartition

    partition = TopicPartition(topic, 0)
    found: list[tuple[int, bytes | None, bytes | None]] = []
    async with AsyncConsumer(addresses, auto_offset_reset="earliest") as consumer:
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.assign([partition])
        try:
            async with asyncio.timeout(timeout_s):
                while await consumer.position(partition) < end:
                    records = await consumer.poll(500, 5000)
                    found += [(each.offset, each.key, each.value) for each in records]
        except TimeoutError:
            raise MinikafkaError(
                f"read {len(found)} records of {partition} within {timeout_s:.0f} s, but not up to "
                f"offset {end}"
            ) from None
    return found
