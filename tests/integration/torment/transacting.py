"""Transactions while everything else happens: over a few partitions of a topic of their own.

Two of our own producers, one of librdkafka (which speaks the older version of the protocol), and
those of Java 3.9 and 4 where they are there (java_transactor.py) do one transaction after the
other. Some are aborted. A producer ends now and then, or is left as it is in the middle of a
transaction, and the next one of the same transactional id takes over: who was left is a zombie. A
reader of committed records reads all of it from the beginning and stays.

What must hold of each attempt, in the words of Jepsen's list: of one whose commit was acknowledged
every record is read, once (lost write, duplicate, unseen); of one that was aborted none (G1a,
aborted read); of one whose end is not known all or none (torn). Records of one producer are read in
the order in which they were sent, and the reader has seen what is there in the end, in that order
(inconsistent offsets, non-monotonic polls). And when all is healed every transaction ends (hung).

State: the attempts, with what is known of their outcome, and what is wrong so far (`anomalies`).
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import KafkaException
from confluent_kafka import Producer as KafkaProducer

from minikafka.client import AsyncAdmin, AsyncConsumer, AsyncProducer
from minikafka.errors import (
    InvalidReplicationFactorError,
    MinikafkaError,
    TopicAlreadyExistsError,
    UsageError,
)
from minikafka.model import TopicPartition
from tests.clients.clients import Client
from tests.helpers.waiting import until
from tests.integration.torment.attempts import (
    ABORTED,
    CALL_MS,
    COMMITTED,
    PARTITIONS,
    TIMEOUT_MS,
    TOPIC,
    UNKNOWN,
    Attempt,
    Attempts,
)
from tests.integration.torment.checker import Anomaly
from tests.integration.torment.java_transactor import JavaTransactor
from tests.integration.torment.values import decode, encode, patiently

_CONFIGS = {"min.insync.replicas": "2"}
_CALL_S = 15.0
_LIFE = (5, 25)  # transactions of a producer
_PAUSE_S = 0.05
_POLL_MS = 300
_FINAL_S = 90.0
_TOLD = 3

Read = dict[TopicPartition, list[tuple[int, str]]]  # offsets and values


class Transacting:
    """All of it. `run` until told to stop, then `read_back`. `java`: those of its clients that are
    there."""

    def __init__(
        self, bootstrap: str, kafka_bootstrap: str, rng: random.Random, java: Sequence[Client]
    ) -> None:
        self._bootstrap = bootstrap
        self._kafka_bootstrap = kafka_bootstrap
        self._rng = rng
        self._java = java
        self._stop = threading.Event()
        self._reading_ends = asyncio.Event()
        self._read: Read = {each: [] for each in PARTITIONS}
        self.attempts = Attempts()
        self.anomalies: list[Anomaly] = []
        self._reader: asyncio.Task[None] | None = None

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        await self._create()
        self._reader = asyncio.create_task(self._follow())
        own = [self._go_on(f"own-{number}", random.Random(self._rng.random())) for number in (0, 1)]
        through_kafka = [
            _KafkaTransactor(
                self.attempts, self._kafka_bootstrap, random.Random(self._rng.random())
            ),
            *(
                JavaTransactor(
                    client, self._kafka_bootstrap, self.attempts, random.Random(self._rng.random())
                )
                for client in self._java
            ),
        ]
        await asyncio.gather(*own, *(each.run(self._stop) for each in through_kafka))

    async def _create(self) -> None:
        async with AsyncAdmin(self._bootstrap) as admin:
            while not self._stop.is_set():
                try:
                    await admin.create_topic(TOPIC, len(PARTITIONS), 3, _CONFIGS)
                    return
                except TopicAlreadyExistsError:
                    return
                except MinikafkaError as error:
                    known = isinstance(error, InvalidReplicationFactorError)
                    if not error.retriable and not known:
                        raise
                    await asyncio.sleep(_PAUSE_S)

    # --- our own producers -----------------------------------------------------------------------

    async def _go_on(self, transactional_id: str, rng: random.Random) -> None:
        left: list[AsyncProducer] = []  # zombies
        try:
            while not self._stop.is_set():
                producer = AsyncProducer(
                    self._bootstrap,
                    transactional_id=transactional_id,
                    transaction_timeout_ms=TIMEOUT_MS,
                    delivery_timeout_ms=CALL_MS,
                    max_block_ms=CALL_MS,
                    request_timeout_ms=5_000,
                )
                left.append(producer)
                await patiently(producer.start)
                await patiently(producer.init_transactions)
                for _ in range(rng.randint(*_LIFE)):
                    if self._stop.is_set() or not await self._transact(
                        producer, self.attempts.begin(transactional_id), rng
                    ):
                        break
                if rng.random() < 0.5:
                    await self._leave_open(producer, transactional_id)
                else:
                    await left.pop().close(0)
        finally:
            for producer in left:
                await producer.close(0)

    async def _leave_open(self, producer: AsyncProducer, transactional_id: str) -> None:
        """In the middle of a transaction, which its successor or the time aborts."""
        try:
            producer.begin()
            await self._send(producer, self.attempts.begin(transactional_id), PARTITIONS[:2], 1)
        except MinikafkaError:
            return

    @staticmethod
    async def _send(
        producer: AsyncProducer, attempt: Attempt, partitions: Sequence[TopicPartition], count: int
    ) -> None:
        for each in partitions:
            for _ in range(count):
                value = attempt.next_value(each)
                await producer.send(TOPIC, encode(value), partition=each.partition)

    async def _transact(
        self, producer: AsyncProducer, attempt: Attempt, rng: random.Random
    ) -> bool:
        """Whether this producer can go on."""
        wanted = COMMITTED if rng.random() < 0.7 else ABORTED
        partitions = rng.sample(PARTITIONS, rng.choice((1, 2, 2, 3)))
        try:
            producer.begin()
            await self._send(producer, attempt, partitions, rng.randint(1, 3))
            await asyncio.sleep(_PAUSE_S * rng.random())
            if wanted == COMMITTED:
                await _insist(producer.commit)
            else:
                await _insist(producer.abort)
            attempt.outcome = wanted
            return True
        except MinikafkaError:
            pass
        try:
            await _insist(producer.abort)
            attempt.outcome = ABORTED
            return True
        except MinikafkaError:
            return False  # fenced, or nobody answers: the next one takes over

    # --- reading ---------------------------------------------------------------------------------

    async def _follow(self) -> None:
        consumer = AsyncConsumer(
            self._bootstrap, auto_offset_reset="error", isolation="read_committed"
        )
        await patiently(consumer.start)
        async with consumer:
            consumer.assign(PARTITIONS)
            for each in PARTITIONS:
                consumer.seek(each, 0)
            while not self._reading_ends.is_set():
                for record in await consumer.poll(_POLL_MS):
                    self._note(self._read, record.topic, record.partition, record)

    def _note(self, into: Read, topic: str, partition: int, record: object) -> None:
        found = into[TopicPartition(topic, partition)]
        offset, value = record.offset, decode(record.value)  # type: ignore[attr-defined]
        if found and offset <= found[-1][0]:
            said = f"offset {offset} ({value}) after {found[-1][0]}"
            self._tell("non-monotonic poll", f"{topic}-{partition}", [said])
        found.append((offset, value))

    async def read_back(self) -> None:
        """When all is healed and everybody has stopped."""
        if self._reader is None:
            return
        try:
            final = await self._read_everything()
            if final is not None:
                await until(lambda: self._read == final or self._is_ahead(final), _FINAL_S)
        except AssertionError:
            counts = {str(each): (len(self._read[each]), len(final[each])) for each in PARTITIONS}
            self._tell("inconsistent offsets", TOPIC, [f"seen and there: {counts}"])
        except (MinikafkaError, TimeoutError) as error:
            self._tell("stuck", TOPIC, [f"reading back failed: {error}"])
        finally:
            self._reading_ends.set()
            await asyncio.wait([self._reader], timeout=_CALL_S)
        if final is not None:
            self._judge(final)

    def _is_ahead(self, final: Read) -> bool:
        """The reader has all of it, and perhaps what came later."""
        return all(self._read[each][: len(final[each])] == final[each] for each in PARTITIONS)

    async def _read_everything(self) -> Read | None:
        """None, and an anomaly, if a transaction does not end."""
        final: Read = {each: [] for each in PARTITIONS}
        committed = AsyncConsumer(
            self._bootstrap, auto_offset_reset="error", isolation="read_committed"
        )
        plain = AsyncConsumer(self._bootstrap, auto_offset_reset="error")
        async with asyncio.timeout(2 * _FINAL_S), committed, plain:
            deadline = time.monotonic() + _FINAL_S
            while True:
                stable = await committed.end_offsets(PARTITIONS)
                ends = await plain.end_offsets(PARTITIONS)
                if stable == ends:
                    break
                if time.monotonic() > deadline:
                    self._tell("hung", TOPIC, [f"stable up to {stable}, of {ends}"])
                    return None
                await asyncio.sleep(_PAUSE_S)
            committed.assign(PARTITIONS)
            for each in PARTITIONS:
                committed.seek(each, 0)
            left = set(PARTITIONS)
            while left:
                for record in await committed.poll(_POLL_MS):
                    self._note(final, record.topic, record.partition, record)
                left = {each for each in left if await committed.position(each) < ends[each]}
        return final

    # --- judging ---------------------------------------------------------------------------------

    def _judge(self, final: Read) -> None:
        for partition, records in final.items():
            times = Counter(value for _, value in records)
            known = {
                value for attempt in self.attempts for value in attempt.values.get(partition, ())
            }
            place = str(partition)
            self._tell("duplicate", place, [v for v, count in times.items() if count > 1])
            self._tell("phantom", place, sorted(times.keys() - known))
        seen = {value for records in final.values() for _, value in records}
        for attempt in self.attempts:
            values = {value for of in attempt.values.values() for value in of}
            there = values & seen
            if attempt.outcome == COMMITTED and there != values:
                self._tell("lost", TOPIC, [f"{attempt.name}: {sorted(values - there)}"])
            if attempt.outcome == ABORTED and there:
                self._tell("aborted read", TOPIC, [f"{attempt.name}: {sorted(there)}"])
            if attempt.outcome == UNKNOWN and there and there != values:
                self._tell("torn", TOPIC, [f"{attempt.name}: {sorted(values - there)} lacks"])
        for partition, records in final.items():
            order = {value: at for at, (_, value) in enumerate(records)}
            for attempt in self.attempts:
                places = [order[v] for v in attempt.values.get(partition, ()) if v in order]
                if places != sorted(places):
                    self._tell("order", str(partition), [attempt.name])

    def _tell(self, kind: str, where: str, what: Sequence[str]) -> None:
        if what:
            said = f"{', '.join(what[:_TOLD])}, {len(what)} in all"
            self.anomalies.append(Anomaly(kind, where, said))

    def describe(self) -> str:
        by_client: dict[str, Counter[str]] = {}
        for attempt in self.attempts:
            outcomes = by_client.setdefault(attempt.name.rpartition(".")[0], Counter())
            outcomes[attempt.outcome] += 1
        return f"{len(self.attempts)} transactions: " + "; ".join(
            f"{name} "
            + ", ".join(f"{found[each]} {each}" for each in (COMMITTED, ABORTED, UNKNOWN))
            for name, found in sorted(by_client.items())
        )


async def _insist(end: object) -> None:
    """An end without an answer is asked for again, the same one, as its producer demands."""
    for _ in range(3):
        try:
            await end()  # type: ignore[operator]
            return
        except UsageError:
            raise
        except MinikafkaError as error:
            if not error.retriable:
                raise
            last = error
    raise last


class _KafkaTransactor:
    """The same by librdkafka, in a thread of its own."""

    def __init__(self, attempts: Attempts, bootstrap: str, rng: random.Random) -> None:
        self._attempts = attempts
        self._bootstrap = bootstrap
        self._rng = rng

    async def run(self, stop: threading.Event) -> None:
        with ThreadPoolExecutor(1, "kafka-transactor") as own:
            await asyncio.get_running_loop().run_in_executor(own, self._work, stop)

    def _work(self, stop: threading.Event) -> None:
        zombies: deque[KafkaProducer] = deque(maxlen=2)  # which live on
        while not stop.is_set():
            producer = KafkaProducer(
                {
                    "bootstrap.servers": self._bootstrap,
                    "transactional.id": "kafka-0",
                    "transaction.timeout.ms": TIMEOUT_MS,
                    "message.timeout.ms": TIMEOUT_MS,
                    "socket.timeout.ms": 5_000,
                    "log_level": 0,
                    "reconnect.backoff.max.ms": 1_000,
                }
            )
            if not self._initialised(producer, stop):
                continue
            for _ in range(self._rng.randint(*_LIFE)):
                if stop.is_set() or not self._transact(producer):
                    break
            if self._rng.random() < 0.5:
                zombies.append(producer)

    @staticmethod
    def _initialised(producer: KafkaProducer, stop: threading.Event) -> bool:
        while not stop.is_set():
            try:
                producer.init_transactions(_CALL_S)
                return True
            except KafkaException as error:
                if not error.args[0].retriable():
                    return False
        return False

    def _transact(self, producer: KafkaProducer) -> bool:
        attempt = self._attempts.begin("kafka-0")
        wanted = COMMITTED if self._rng.random() < 0.7 else ABORTED
        try:
            producer.begin_transaction()
            for each in self._rng.sample(PARTITIONS, self._rng.choice((1, 2, 3))):
                for _ in range(self._rng.randint(1, 3)):
                    value = attempt.next_value(each)
                    producer.produce(TOPIC, encode(value), partition=each.partition)
            self._end(producer, wanted)
            attempt.outcome = wanted
            return True
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                return False
        except BufferError:
            return False
        try:
            self._end(producer, ABORTED)
            attempt.outcome = ABORTED
            return True
        except KafkaException:
            return False

    @staticmethod
    def _end(producer: KafkaProducer, outcome: str) -> None:
        end = producer.commit_transaction if outcome == COMMITTED else producer.abort_transaction
        for _ in range(3):
            try:
                end(_CALL_S)
                return
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                last = error
        raise last
