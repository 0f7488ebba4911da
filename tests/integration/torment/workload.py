"""Producers and consumers that write down everything they do.

- `Producer`: keeps a few records on their way to every partition, at a steady pace, and remembers
  what became of each. Now and then it is closed in the middle of that and a new one takes over.
- `Follower`: reads all partitions from the beginning and stays, by `poll` or by `poll_batches`.
- librdkafka.py: the same by librdkafka, and a group of members that come and go.
- `PassingTopics` (passing.py): topics that come and go.
- `Transacting` (transacting.py): transactions, of our client, of librdkafka and of Java.
- `Rereader`: again and again a new consumer that reads a stretch somewhere in the middle, and asks
  for the end of each partition.

All of them go on through every error that our client calls retriable; an error that ends one of
them is an anomaly, in `Workload.failures`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from minikafka.client import AsyncAdmin, AsyncConsumer, AsyncProducer, ConsumerRecord, Delivery
from minikafka.client.producing.fate import certainly_not_written
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition
from tests.clients.clients import Client
from tests.helpers.waiting import until
from tests.integration.torment.checker import FINAL
from tests.integration.torment.history import (
    FAILED,
    NEVER,
    OK,
    UNKNOWN,
    End,
    History,
    Poll,
    Seek,
    Send,
)
from tests.integration.torment.librdkafka import (
    GROUP,
    KafkaFollower,
    KafkaMember,
    KafkaProducer,
    Outlet,
    OwnMember,
)
from tests.integration.torment.passing import PassingTopics
from tests.integration.torment.transacting import Transacting
from tests.integration.torment.values import decode, encode, now, patiently

_TICK_S = 0.05
_ON_THE_WAY = 40  # records of one producer for one partition without an outcome
_BURST = 3
_POLL_MS = 300
_STRETCH = 400  # offsets that a rereader reads in each partition
_CALL_S = 40.0
_FINAL_S = 90.0


@dataclass(frozen=True)
class ProducerKind:
    """`life_s`: after which another instance takes over; None: never."""

    name: str
    acks: str | int = "all"
    compression: str = "none"
    linger_ms: float = 0
    delivery_timeout_ms: float = 120_000
    life_s: float | None = None


PRODUCERS = (
    ProducerKind("patient"),
    ProducerKind("hasty", compression="lz4", linger_ms=5, delivery_timeout_ms=4_000),
    ProducerKind("mortal", delivery_timeout_ms=20_000, life_s=12),
    ProducerKind("careless", acks=1, delivery_timeout_ms=10_000),
)


class Producer:
    """One kind of producer, in one instance after the other; their names are in the values."""

    def __init__(
        self,
        kind: ProducerKind,
        bootstrap: str,
        partitions: Sequence[TopicPartition],
        history: History,
        rng: random.Random,
    ) -> None:
        self._kind = kind
        self._bootstrap = bootstrap
        self._partitions = partitions
        self._history = history
        self._rng = rng
        self._stop = asyncio.Event()

    async def run(self) -> None:
        instance = 0
        while not self._stop.is_set():
            instance += 1
            await self._live(f"{self._kind.name}.{instance}")

    def stop(self) -> None:
        self._stop.set()

    async def _live(self, name: str) -> None:
        kind = self._kind
        producer = AsyncProducer(
            self._bootstrap,
            acks=kind.acks,
            compression=kind.compression,
            linger_ms=kind.linger_ms,
            delivery_timeout_ms=kind.delivery_timeout_ms,
            request_timeout_ms=10_000,
        )
        await patiently(producer.start)
        born = time.monotonic()
        lanes = [_Lane(name, kind, each, self._history) for each in self._partitions]
        try:
            while not self._stop.is_set():
                if kind.life_s is not None and time.monotonic() - born > kind.life_s:
                    break
                for lane in lanes:
                    await lane.send(producer, self._rng.randint(0, _BURST))
                await pace(self._stop)
            # At the very end everything gets its outcome; in between it may be cut short.
            await producer.close(None if self._stop.is_set() else self._rng.choice((0, 500, None)))
        finally:
            await producer.close(0)
            for lane in lanes:
                lane.give_up()


class _Lane:
    """The records of one producer for one partition. `waiting`: value to start time."""

    def __init__(
        self, name: str, kind: ProducerKind, partition: TopicPartition, history: History
    ) -> None:
        self._name = name
        self._once = kind.acks == "all"
        self._partition = partition
        self._history = history
        self._next = 0
        self._waiting: dict[str, float] = {}

    async def send(self, producer: AsyncProducer, count: int) -> None:
        for _ in range(min(count, _ON_THE_WAY - len(self._waiting))):
            value = f"{self._name}:{self._next}"
            self._next += 1
            self._waiting[value] = now()
            topic, number = self._partition.topic, self._partition.partition
            try:
                delivery = await producer.send(topic, encode(value), partition=number)
            except MinikafkaError as error:  # it was not taken: it cannot have been written
                self._record(value, FAILED, -1, error)
            else:
                delivery.add_done_callback(lambda done, value=value: self._done(value, done))

    def _done(self, value: str, delivery: Delivery) -> None:
        error = delivery.exception()
        if error is None:
            self._record(value, OK, delivery.result().offset, None)
        else:
            known = isinstance(error, MinikafkaError) and certainly_not_written(error)
            self._record(value, FAILED if known else UNKNOWN, -1, error)

    def give_up(self) -> None:
        for value in list(self._waiting):
            self._record(value, UNKNOWN, -1, None, NEVER)

    def _record(
        self, value: str, outcome: str, offset: int, error: BaseException | None, said: str = ""
    ) -> None:
        if error is not None:
            said = f"{getattr(error, 'name', type(error).__name__)}: {error}"
        start = self._waiting.pop(value)
        self._history.add(
            Send(
                self._name,
                str(self._partition),
                value,
                start,
                now(),
                outcome,
                offset,
                self._once,
                said,
            )
        )


class Follower:
    """A consumer of everything, from the beginning. `next_offsets`: where it goes on."""

    def __init__(
        self,
        name: str,
        bootstrap: str,
        partitions: Sequence[TopicPartition],
        history: History,
        batches: bool,
    ) -> None:
        self.name = name
        self._consumer = AsyncConsumer(bootstrap, auto_offset_reset="error")
        self._partitions = partitions
        self._history = history
        self._batches = batches
        self._stop = asyncio.Event()
        self.next_offsets = dict.fromkeys(partitions, 0)

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        await patiently(self._consumer.start)
        try:
            self._consumer.assign(self._partitions)
            for each in self._partitions:
                self._consumer.seek(each, 0)
                self._history.add(Seek(self.name, str(each), now(), 0))
            while not self._stop.is_set():
                if self._batches:
                    await self._poll_batches()
                else:
                    await self._poll()
        finally:
            await self._consumer.close()

    async def _poll(self) -> None:
        start = now()
        records = await self._consumer.poll(_POLL_MS)
        by_partition: dict[TopicPartition, list[ConsumerRecord]] = {}
        for record in records:
            key = TopicPartition(record.topic, record.partition)
            by_partition.setdefault(key, []).append(record)
        for each, taken in by_partition.items():
            self._add(each, start, taken, -1)

    async def _poll_batches(self) -> None:
        start = now()
        for chunk in await self._consumer.poll_batches(_POLL_MS):
            self._add(chunk.topic_partition, start, list(chunk.records()), chunk.high_watermark)

    def _add(
        self,
        partition: TopicPartition,
        start: float,
        records: Sequence[ConsumerRecord],
        high_watermark: int,
    ) -> None:
        values = [(record.offset, decode(record.value)) for record in records]
        self._history.add(Poll(self.name, str(partition), start, now(), values, high_watermark))
        self.next_offsets[partition] = records[-1].offset + 1


class Rereader:
    """New consumers, one after the other, each for a stretch of every partition."""

    def __init__(
        self,
        bootstrap: str,
        history: History,
        follower: Follower,
        rng: random.Random,
    ) -> None:
        self._bootstrap = bootstrap
        self._history = history
        self._follower = follower
        self._rng = rng
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                await self._read(f"rereader.{number}")
            except (MinikafkaError, TimeoutError) as error:
                if isinstance(error, MinikafkaError) and not error.retriable:
                    raise
            await pace(self._stop, 1.0)

    async def _read(self, name: str) -> None:
        consumer = AsyncConsumer(self._bootstrap, auto_offset_reset="error", max_block_ms=10_000)
        async with asyncio.timeout(_CALL_S), consumer:
            goals = dict(self._follower.next_offsets)
            consumer.assign(goals)
            for each, known in goals.items():
                first = self._rng.randint(max(known - _STRETCH, 0), known)
                consumer.seek(each, first)
                self._history.add(Seek(name, str(each), now(), first))
            while goals and not self._stop.is_set():
                start = now()
                for chunk in await consumer.poll_batches(_POLL_MS):
                    each = chunk.topic_partition
                    values = [(record.offset, decode(record.value)) for record in chunk.records()]
                    self._history.add(
                        Poll(name, str(each), start, now(), values, chunk.high_watermark)
                    )
                    if chunk.next_offset >= goals.get(each, 0):
                        goals.pop(each, None)
                goals = {each: goal for each, goal in goals.items() if goal > 0}
                await self._ask_for_ends(name, consumer)

    async def _ask_for_ends(self, name: str, consumer: AsyncConsumer) -> None:
        start = now()
        for each, offset in (await consumer.end_offsets(self._follower.next_offsets)).items():
            self._history.add(End(name, str(each), start, now(), offset))


@dataclass
class Workload:
    """All of them. `failures`: what ended one of them, which must not happen."""

    bootstrap: str
    kafka_bootstrap: str
    partitions: Sequence[TopicPartition]
    history: History
    rng: random.Random
    exists: Callable[[str], Awaitable[bool | None]]
    java: Sequence[Client] = ()
    failures: list[str] = field(default_factory=list)
    _committed: str = ""  # what the group was last seen to have

    def start(self) -> None:
        common = (self.bootstrap, self.partitions, self.history)
        self._producers = [
            Producer(kind, *common, random.Random(self.rng.random())) for kind in PRODUCERS
        ]
        followers = [Follower("poller", *common, False), Follower("batcher", *common, True)]
        self._rereader = Rereader(
            self.bootstrap, self.history, followers[0], random.Random(self.rng.random())
        )
        self.passing = PassingTopics(self.bootstrap, self.exists)
        self.transacting = Transacting(
            self.bootstrap, self.kafka_bootstrap, random.Random(self.rng.random()), self.java
        )
        outlet = Outlet(self.history, asyncio.get_running_loop(), self.failures)
        through_kafka = (self.kafka_bootstrap, outlet, self.partitions)
        self._kafka_producer = KafkaProducer(
            "librdkafka", *through_kafka, random.Random(self.rng.random())
        )
        self.followers: list[Follower | KafkaFollower] = [
            *followers,
            KafkaFollower("kafka-follower", *through_kafka),
        ]
        self._members = [
            KafkaMember("staying-member", *through_kafka, None),
            KafkaMember("passing-member", *through_kafka, random.Random(self.rng.random())),
            OwnMember(*common),
        ]
        self._producing = [self._task(each.run()) for each in self._senders]
        self._consuming = [self._task(each.run()) for each in self._readers]

    @property
    def _senders(self) -> list[Producer | KafkaProducer | PassingTopics | Transacting]:
        return [*self._producers, self._kafka_producer, self.passing, self.transacting]

    @property
    def _readers(self) -> list[Follower | KafkaFollower | Rereader | KafkaMember | OwnMember]:
        return [*self.followers, self._rereader, *self._members]

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work
            except (MinikafkaError, TimeoutError, OSError) as error:
                self.failures.append(f"a client gave up: {type(error).__name__}: {error}")

        return asyncio.create_task(guarded(), name=work.__qualname__)

    async def stop_producing(self) -> None:
        """Until every record has its outcome."""
        for each in self._senders:
            each.stop()
        _, stuck = await asyncio.wait(self._producing, timeout=_FINAL_S)
        if stuck:
            names = ", ".join(sorted(task.get_name() for task in stuck))
            self.failures.append(f"did not end within {_FINAL_S:g} s: {names}")

    async def catch_up(self) -> None:
        """Read everything back, and have the followers read to the same end."""
        await self.transacting.read_back()
        try:
            ends = await self._read_everything()
        except (MinikafkaError, TimeoutError) as error:
            self.failures.append(f"reading back failed: {type(error).__name__}: {error}")
            return

        def caught_up() -> bool:
            return all(
                follower.next_offsets[each] >= end
                for follower in self.followers
                for each, end in ends.items()
            )

        try:
            await until(caught_up, _FINAL_S)
        except AssertionError:
            behind = {follower.name: follower.next_offsets for follower in self.followers}
            self.failures.append(f"consumers did not reach {ends}: {behind}")
        try:
            await until(lambda: self._group_is_through(ends), _FINAL_S)
        except AssertionError:
            self.failures.append(f"the group has not committed {ends} ({self._committed})")

    async def _group_is_through(self, ends: dict[TopicPartition, int]) -> bool:
        try:
            async with AsyncAdmin(self.bootstrap) as admin:
                offsets = await admin.group_offsets(GROUP)
        except MinikafkaError as error:
            self._committed = str(error)
            return False
        self._committed = str(offsets)
        return all(each in offsets and offsets[each].offset >= end for each, end in ends.items())

    async def _read_everything(self) -> dict[TopicPartition, int]:
        consumer = AsyncConsumer(self.bootstrap, auto_offset_reset="error")
        async with asyncio.timeout(_FINAL_S), consumer:
            ends = await consumer.end_offsets(self.partitions)
            consumer.assign(self.partitions)
            for each in self.partitions:
                consumer.seek(each, 0)
                self.history.add(Seek(FINAL, str(each), now(), 0))
            left = {each for each, end in ends.items() if end > 0}
            while left:
                start = now()
                for chunk in await consumer.poll_batches(1_000):
                    each = chunk.topic_partition
                    values = [(record.offset, decode(record.value)) for record in chunk.records()]
                    self.history.add(
                        Poll(FINAL, str(each), start, now(), values, chunk.high_watermark)
                    )
                    if chunk.next_offset >= ends[each]:
                        left.discard(each)
        return ends

    async def close(self) -> None:
        for each in (*self._senders, *self._readers):
            each.stop()
        tasks = [*self._producing, *self._consuming]
        _, stuck = await asyncio.wait(tasks, timeout=_CALL_S + 5)
        for task in stuck:
            task.cancel()
        if stuck:
            self.failures.append(f"{len(stuck)} clients did not end within {_CALL_S + 5:g} s")
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def pace(stop: asyncio.Event, seconds: float = _TICK_S) -> None:
    """A turn of the clock; at once when told to stop."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
