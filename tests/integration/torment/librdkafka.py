"""The same by librdkafka, the client of most languages, through Kafka's protocol; and a group.

- `KafkaProducer`: idempotent, acks=all, a few records on their way to every partition.
- `KafkaFollower`: reads all partitions from the beginning and stays.
- A group of three: one `KafkaMember` that stays, one that leaves and comes again, and an
  `OwnMember` by our own client, through the other door. They commit what they have been given, say
  what they were told of each commit, and ask what is committed when they are assigned something.

librdkafka blocks, so each of them works in a thread, and hands what it did to the loop. State: a
thread belongs to one object, which alone speaks to its client; `stop` is the only word across.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
)
from confluent_kafka import TopicPartition as KafkaPartition

from minikafka.client import AsyncConsumer
from minikafka.errors import (
    IllegalGenerationError,
    MinikafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from minikafka.model import TopicPartition
from tests.integration.torment.history import (
    FAILED,
    NEVER,
    NOTHING,
    OK,
    UNKNOWN,
    Commit,
    Committed,
    History,
    Operation,
    Poll,
    Seek,
    Send,
)
from tests.integration.torment.values import decode, encode, now, patiently

GROUP = "tormented"
_TICK_S = 0.05
_ON_THE_WAY = 40
_BURST = 3
_POLL_S = 0.3
_TAKEN = 500  # records at once
_CALL_S = 10.0
_LIFE_S = (8.0, 20.0)  # of a member that comes and goes
_MESSAGE_TIMEOUT_MS = 90_000
_SESSION_TIMEOUT_MS = 6_000
# A commit that failed like this was never sent. No other error is certain: clients repeat a commit
# that was not answered, and the repetition may be fenced where the first had been written.
_NOT_SENT = (KafkaError._NO_OFFSET,)
_FENCED = (IllegalGenerationError, UnknownMemberIdError, RebalanceInProgressError)
_COMMON: dict[str, Any] = {
    "log_level": 2,
    "enable.sparse.connections": False,
    "reconnect.backoff.max.ms": 1_000,
    "socket.timeout.ms": 10_000,
    "topic.metadata.refresh.interval.ms": 5_000,
}


@dataclass
class Outlet:
    """Where a thread puts what it did. `failures`: what ended it, which must not happen."""

    history: History
    loop: asyncio.AbstractEventLoop
    failures: list[str] = field(default_factory=list)

    def add(self, operation: Operation) -> None:
        self.loop.call_soon_threadsafe(self.history.add, operation)


class _Threaded:
    """`run` lives as long as the thread does."""

    def __init__(self, name: str, bootstrap: str, outlet: Outlet) -> None:
        self.name = name
        self._bootstrap = bootstrap
        self._outlet = outlet
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        with ThreadPoolExecutor(1, self.name) as own:
            await asyncio.get_running_loop().run_in_executor(own, self._guarded)

    def _guarded(self) -> None:
        try:
            self._work()
        except KafkaException as error:
            self._fail(error.args[0])

    def _fail(self, error: KafkaError) -> None:
        self._outlet.failures.append(f"{self.name} (librdkafka): {error.name()}: {error.str()}")
        self._stop.set()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fail(error)

    def _work(self) -> None:
        raise NotImplementedError


class KafkaProducer(_Threaded):
    """Sends until it is stopped, and ends when every record has its outcome."""

    def __init__(
        self,
        name: str,
        bootstrap: str,
        outlet: Outlet,
        partitions: Sequence[TopicPartition],
        rng: random.Random,
    ) -> None:
        super().__init__(name, bootstrap, outlet)
        self._rng = rng
        self._next = dict.fromkeys(partitions, 0)
        self._waiting: dict[TopicPartition, dict[str, float]] = {each: {} for each in partitions}

    def _work(self) -> None:
        producer = Producer(
            _COMMON
            | {
                "bootstrap.servers": self._bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "compression.type": "lz4",
                "message.timeout.ms": _MESSAGE_TIMEOUT_MS,
                "error_cb": self._on_error,
            }
        )
        try:
            while not self._stop.is_set():
                for each in self._waiting:
                    self._send(producer, each)
                producer.poll(_TICK_S)
        finally:
            producer.flush(_MESSAGE_TIMEOUT_MS / 1000)
            for each, waiting in self._waiting.items():
                for value in list(waiting):
                    self._record(each, value, UNKNOWN, -1, NEVER)

    def _send(self, producer: Producer, to: TopicPartition) -> None:
        waiting = self._waiting[to]
        for _ in range(min(self._rng.randint(0, _BURST), _ON_THE_WAY - len(waiting))):
            value = f"{self.name}:{self._next[to]}"
            self._next[to] += 1
            waiting[value] = now()

            def done(error: KafkaError | None, message: Message, value: str = value) -> None:
                if error is None:
                    # No offset: acknowledged along with a later batch, its own answer being lost.
                    offset = message.offset()
                    self._record(to, value, OK, -1 if offset is None else offset, "")
                else:
                    self._record(to, value, UNKNOWN, -1, f"{error.name()}: {error.str()}")

            producer.produce(to.topic, encode(value), partition=to.partition, on_delivery=done)

    def _record(self, to: TopicPartition, value: str, outcome: str, offset: int, said: str) -> None:
        start = self._waiting[to].pop(value)
        self._outlet.add(Send(self.name, str(to), value, start, now(), outcome, offset, True, said))


class _Reading(_Threaded):
    """What a follower and a member have in common. `next_offsets`: where it goes on."""

    def __init__(
        self, name: str, bootstrap: str, outlet: Outlet, partitions: Sequence[TopicPartition]
    ) -> None:
        super().__init__(name, bootstrap, outlet)
        self.next_offsets = dict.fromkeys(partitions, 0)

    def _consumer(self, **more: object) -> Consumer:
        return Consumer(
            _COMMON
            | {
                "bootstrap.servers": self._bootstrap,
                "auto.offset.reset": "error",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "fetch.wait.max.ms": 200,
                "error_cb": self._on_error,
                **more,
            }
        )

    def _take(self, consumer: Consumer, by: str) -> bool:
        """Give out what came; False if nothing did."""
        start = now()
        taken: dict[TopicPartition, list[tuple[int, str]]] = {}
        for message in consumer.consume(_TAKEN, _POLL_S):
            error = message.error()
            if error is None:
                each = TopicPartition(message.topic() or "", message.partition() or 0)
                taken.setdefault(each, []).append((message.offset() or 0, decode(message.value())))
            elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                self._fail(error)
        for each, records in taken.items():
            self._outlet.add(Poll(by, str(each), start, now(), records))
            self.next_offsets[each] = records[-1][0] + 1
        return bool(taken)


class KafkaFollower(_Reading):
    """A consumer of everything, from the beginning."""

    def _work(self) -> None:
        consumer = self._consumer(**{"group.id": self.name})
        try:
            for each in self.next_offsets:
                self._outlet.add(Seek(self.name, str(each), now(), 0))
            consumer.assign(
                [KafkaPartition(each.topic, each.partition, 0) for each in self.next_offsets]
            )
            while not self._stop.is_set():
                self._take(consumer, self.name)
        finally:
            consumer.close()


class KafkaMember(_Reading):
    """A member of the group: in one life after the other, or (`life_s` is None) in one. A life has
    a name of its own in the history."""

    def __init__(
        self,
        name: str,
        bootstrap: str,
        outlet: Outlet,
        partitions: Sequence[TopicPartition],
        rng: random.Random | None,
    ) -> None:
        super().__init__(name, bootstrap, outlet, partitions)
        self._rng = rng
        self._topics = sorted({each.topic for each in partitions})
        self._lives = 0

    def _work(self) -> None:
        while not self._stop.is_set():
            self._lives += 1
            self._live(f"{self.name}.{self._lives}")

    def _live(self, by: str) -> None:
        own: dict[TopicPartition, int] = {}  # the next offset that is ours to commit

        def assigned(consumer: Consumer, given: list[KafkaPartition]) -> None:
            own.clear()
            own.update(self._begin(consumer, by, given))

        def revoked(consumer: Consumer, _: list[KafkaPartition]) -> None:
            self._commit(consumer, by, own)
            own.clear()

        def lost(_: Consumer, __: list[KafkaPartition]) -> None:
            own.clear()

        consumer = self._consumer(
            **{"group.id": GROUP, "session.timeout.ms": _SESSION_TIMEOUT_MS},
            **{"heartbeat.interval.ms": 500, "partition.assignment.strategy": "range"},
        )
        end = None if self._rng is None else now() + self._rng.uniform(*_LIFE_S)
        try:
            consumer.subscribe(self._topics, on_assign=assigned, on_revoke=revoked, on_lost=lost)
            while not self._stop.is_set() and (end is None or now() < end):
                if self._take(consumer, by):
                    moved = {each: self.next_offsets[each] for each in own}
                    changed = {each: to for each, to in moved.items() if to > own[each]}
                    self._commit(consumer, by, changed)
                    own.update(changed)
        finally:
            consumer.close()

    def _begin(
        self, consumer: Consumer, by: str, given: list[KafkaPartition]
    ) -> dict[TopicPartition, int]:
        """Ask what is committed until it is known, and go on there."""
        start = now()
        while not self._stop.is_set():
            try:
                found = consumer.committed(given, timeout=_CALL_S)
            except KafkaException:
                continue  # the coordinator moves
            if any(each.error for each in found):
                continue
            begin = {}
            for each in found:
                partition = TopicPartition(each.topic, each.partition)
                nothing = each.offset in (OFFSET_INVALID, NOTHING)
                begin[partition] = 0 if nothing else each.offset
                said = NOTHING if nothing else each.offset
                self._outlet.add(Committed(by, str(partition), start, now(), said))
                self._outlet.add(Seek(by, str(partition), now(), begin[partition]))
            self.next_offsets.update(begin)
            consumer.assign(
                [KafkaPartition(each.topic, each.partition, to) for each, to in begin.items()]
            )
            return begin
        return {}

    def _commit(self, consumer: Consumer, by: str, offsets: dict[TopicPartition, int]) -> None:
        if not offsets:
            return
        start = now()
        wanted = [
            KafkaPartition(each.topic, each.partition, offset) for each, offset in offsets.items()
        ]
        try:
            told = consumer.commit(offsets=wanted, asynchronous=False) or []
            errors = {(each.topic, each.partition): each.error for each in told}
        except KafkaException as problem:
            errors = {(each.topic, each.partition): problem.args[0] for each in wanted}
        for each, offset in offsets.items():
            error = errors.get((each.topic, each.partition))
            outcome = OK if error is None else FAILED if error.code() in _NOT_SENT else UNKNOWN
            said = "" if error is None else error.name()
            self._outlet.add(Commit(by, str(each), start, now(), offset, outcome, said))


class OwnMember:
    """A member by our own client, through gRPC, which stays."""

    name = "own-member"

    def __init__(
        self, bootstrap: str, partitions: Sequence[TopicPartition], history: History
    ) -> None:
        self._bootstrap = bootstrap
        self._history = history
        self._topics = sorted({each.topic for each in partitions})
        self._stop = asyncio.Event()
        self._fresh: set[TopicPartition] = set()  # assigned, and nothing was read since

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        consumer = AsyncConsumer(self._bootstrap, auto_offset_reset="earliest")
        await patiently(consumer.start)
        try:
            consumer.subscribe(
                self._topics,
                GROUP,
                auto_commit=False,
                session_timeout_ms=_SESSION_TIMEOUT_MS,
                heartbeat_interval_ms=500,
                on_assigned=self._fresh.update,
            )
            while not self._stop.is_set():
                await self._turn(consumer)
        finally:
            await consumer.close()

    async def _turn(self, consumer: AsyncConsumer) -> None:
        start = now()
        taken: dict[TopicPartition, list[tuple[int, str]]] = {}
        for record in await consumer.poll(_POLL_S * 1000):
            each = TopicPartition(record.topic, record.partition)
            taken.setdefault(each, []).append((record.offset, decode(record.value)))
        for each, records in taken.items():
            if each in self._fresh:
                self._fresh.discard(each)
                self._history.add(Seek(self.name, str(each), start, records[0][0]))
            self._history.add(Poll(self.name, str(each), start, now(), records))
        if taken:
            await self._commit(consumer, {each: rows[-1][0] + 1 for each, rows in taken.items()})

    async def _commit(self, consumer: AsyncConsumer, offsets: dict[TopicPartition, int]) -> None:
        start = now()
        outcome, said = OK, ""
        try:
            await consumer.commit(offsets)
        except MinikafkaError as error:
            if not (error.retriable or isinstance(error, _FENCED)):
                raise
            outcome, said = UNKNOWN, error.name
        for each, offset in offsets.items():
            self._history.add(Commit(self.name, str(each), start, now(), offset, outcome, said))
