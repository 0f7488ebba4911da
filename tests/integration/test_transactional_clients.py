"""client/producing/transactions.py: transactional producers over whole brokers that may die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from minikafka.api.requests import CreateTopic, CreateTopicsRequest
from minikafka.broker.coordinators.topic import partition_for
from minikafka.broker.transactions.coordinator import TransactionCoordinator
from minikafka.client.administering.admin import AsyncAdmin
from minikafka.client.administering.transaction_admin import OpenTransaction
from minikafka.client.consuming.consumer import AsyncConsumer
from minikafka.client.producing.producer import AsyncProducer
from minikafka.errors import (
    InvalidProducerIdMappingError,
    InvalidTransactionTimeoutError,
    MinikafkaError,
    ProducerFencedError,
    TransactionAbortableError,
    TransactionalIdNotFoundError,
)
from minikafka.model import TRANSACTIONS_TOPIC, TopicPartition
from tests.helpers.brokers import BrokerCluster
from tests.helpers.service_channel import ServiceChannel
from tests.helpers.waiting import until

STATE_PARTITIONS = 4
SETTINGS = {
    "transaction.state.log.num.partitions": str(STATE_PARTITIONS),
    "offsets.topic.num.partitions": "2",
    "transaction.max.timeout.ms": "60000",
}
T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
ID = "orders"


class Bench:
    """Three brokers. Topic t has two partitions; 2 leads the first, 3 the second."""

    def __init__(self, path: Path) -> None:
        self.cluster = BrokerCluster(path, SETTINGS)

    async def start(self) -> None:
        await self.cluster.start(1, 2, 3)
        topic = CreateTopic("t", -1, -1, {}, {0: [2, 3, 1], 1: [3, 2, 1]})
        response = await self.cluster.service(1).administer(CreateTopicsRequest([topic]), 5000)
        assert response.results[0].error is None

    def _options(self) -> dict[str, Any]:
        return {
            "bootstrap": [f"127.0.0.1:{number}" for number in (1, 2, 3)],
            "connect": lambda address: ServiceChannel(self.cluster, address),
        }

    @asynccontextmanager
    async def producer(self, **options: Any) -> AsyncIterator[AsyncProducer]:
        options.setdefault("request_timeout_ms", 2_000)
        async with AsyncProducer(**self._options(), transactional_id=ID, **options) as producer:
            yield producer

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AsyncAdmin]:
        async with AsyncAdmin(**self._options()) as admin:
            yield admin

    async def read(self, count: int, isolation: str = "read_committed") -> list[bytes]:
        """All that is there, once there are `count` values, and nothing is open any more."""
        async with AsyncConsumer(
            **self._options(),
            auto_offset_reset="earliest",
            isolation=isolation,
            fetch_max_wait_ms=50,
        ) as consumer:
            consumer.assign([T0, T1])
            values: list[bytes] = []

            async def enough() -> bool:
                values.extend(record.value or b"" for record in await consumer.poll(100))
                return len(values) >= count

            await until(enough)
            ends = await consumer.end_offsets([T0, T1])

            async def at_the_end() -> bool:
                values.extend(record.value or b"" for record in await consumer.poll(50))
                return all([await consumer.position(each) >= ends[each] for each in ends])

            await until(at_the_end)
            return values

    def leader(self, topic_partition: TopicPartition) -> int:
        state = self.cluster.state(topic_partition)
        assert state is not None
        return state.leader

    def coordinator(self) -> int:
        return self.leader(TopicPartition(TRANSACTIONS_TOPIC, partition_for(ID, STATE_PARTITIONS)))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    await bench.start()
    yield bench
    await bench.cluster.close()


async def test_what_is_committed_is_read_and_what_is_aborted_is_not(bench: Bench) -> None:
    async with bench.producer() as producer:
        await producer.init_transactions()
        for number in range(6):
            producer.begin()
            await producer.send("t", b"%d-a" % number, partition=0)
            await producer.send("t", b"%d-b" % number, partition=1)
            await (producer.commit() if number % 2 else producer.abort())
    wanted = [b"%d-%s" % (number, part) for number in (1, 3, 5) for part in (b"a", b"b")]
    assert sorted(await bench.read(6)) == wanted


async def test_a_second_producer_of_the_id_fences_the_first(bench: Bench) -> None:
    async with bench.producer() as first, bench.producer() as second:
        await first.init_transactions()
        first.begin()
        await (await first.send("t", b"old", partition=0))
        await second.init_transactions()
        with pytest.raises(ProducerFencedError):
            await first.commit()
        async with second.transaction():
            await second.send("t", b"new", partition=0)
    assert await bench.read(1) == [b"new"]


async def test_one_that_takes_too_long_is_aborted_and_the_producer_goes_on(bench: Bench) -> None:
    async with bench.producer(transaction_timeout_ms=300) as producer:
        await producer.init_transactions()
        producer.begin()
        await (await producer.send("t", b"slow", partition=0))
        async with bench.admin() as admin:

            async def timed_out() -> bool:
                [found] = await admin.describe_transactions([ID])
                return found.state in ("PrepareAbort", "CompleteAbort")

            await until(timed_out)
        with pytest.raises(TransactionAbortableError):
            await producer.commit()
        await producer.abort()
        async with producer.transaction():
            await producer.send("t", b"next", partition=0)
    assert await bench.read(1) == [b"next"]


async def test_a_timeout_above_the_maximum_is_refused(bench: Bench) -> None:
    async with bench.producer(transaction_timeout_ms=60_001) as producer:
        with pytest.raises(InvalidTransactionTimeoutError):
            await producer.init_transactions()


Fault = Callable[[Bench], Awaitable[None]]


async def _kill_coordinator(bench: Bench) -> None:
    await bench.cluster.kill(bench.coordinator())


async def _kill_leader(bench: Bench) -> None:
    await bench.cluster.kill(bench.leader(T0))


async def _restart(bench: Bench) -> None:
    for number in (1, 2, 3):
        if number not in bench.cluster.running:
            await bench.cluster.start(number)


class Stream:
    """Transactions one after another, every third aborted, each with some records in both
    partitions. `committed`: what has to be read in the end."""

    def __init__(self, producer: AsyncProducer) -> None:
        self.committed: list[bytes] = []
        self.failed: list[MinikafkaError] = []
        self.number = 0
        self._producer = producer

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.number += 1
            values = [b"%d-%d" % (self.number, n) for n in range(8)]
            self._producer.begin()
            try:
                for n, value in enumerate(values):
                    await self._producer.send("t", value, partition=n % 2)
                    await asyncio.sleep(0)
                if self.number % 3:
                    await self._producer.commit()
                    self.committed += values
                    continue
                await self._producer.flush()
            except MinikafkaError as error:
                self.failed.append(error)
            await self._producer.abort()


@pytest.mark.parametrize("fault", [_kill_coordinator, _kill_leader])
async def test_every_value_is_read_once_whoever_dies_meanwhile(bench: Bench, fault: Fault) -> None:
    async with bench.producer() as producer:
        await producer.init_transactions()
        stream, stop = Stream(producer), asyncio.Event()
        running = asyncio.ensure_future(stream.run(stop))

        async def until_more(count: int) -> None:
            wanted = stream.number + count
            await until(lambda: stream.number >= wanted or running.done())

        for _ in range(2):
            await until_more(10)
            await fault(bench)
            await until_more(10)
            await _restart(bench)
        await until_more(10)
        stop.set()
        await running
    values = await bench.read(len(stream.committed))
    assert sorted(values) == sorted(stream.committed)
    for part in (0, 1):
        in_order = [each for each in stream.committed if int(each.split(b"-")[1]) % 2 == part]
        assert [each for each in values if int(each.split(b"-")[1]) % 2 == part] == in_order


async def test_an_abort_may_overtake_the_records(bench: Bench) -> None:
    """It waits for no answer; what arrives late must not get into the next transaction."""
    wanted = []
    async with bench.producer() as producer:
        await producer.init_transactions()
        for number in range(60):
            producer.begin()
            dropped = await producer.send("t", b"dropped-%d" % number, partition=number % 2)
            for _ in range(number % 12):  # turns of the loop, so that it is here or there by now
                await asyncio.sleep(0)
            await producer.abort()
            assert dropped.done()
            async with producer.transaction():
                wanted.append(b"%d" % number)
                await producer.send("t", wanted[-1], partition=number % 2)
    assert sorted(await bench.read(len(wanted))) == sorted(wanted)


async def test_an_end_whose_coordinator_dies_is_repeated_at_the_next(bench: Bench) -> None:
    async with bench.producer() as producer:
        await producer.init_transactions()
        for number in range(4):
            producer.begin()
            await (await producer.send("t", b"%d" % number, partition=number % 2))
            ending = asyncio.ensure_future(producer.commit() if number < 3 else producer.abort())
            await asyncio.sleep(0)
            await _kill_coordinator(bench)
            await ending
            await _restart(bench)
    assert sorted(await bench.read(3)) == [b"0", b"1", b"2"]


async def test_admin_sees_transactions_and_their_producers(bench: Bench) -> None:
    async with bench.producer() as producer, bench.admin() as admin:
        await producer.init_transactions()
        producer.begin()
        await (await producer.send("t", b"a", partition=0))
        [listed] = await admin.list_transactions()
        assert (listed.transactional_id, listed.state) == (ID, "Ongoing")
        assert await admin.list_transactions(["PrepareCommit"]) == []
        described, unknown = await admin.describe_transactions([ID, "bills"])
        assert (described.state, list(described.partitions)) == ("Ongoing", [T0])
        assert isinstance(unknown.error, TransactionalIdNotFoundError)
        [producers] = await admin.describe_producers([T0])
        [active] = producers.producers
        assert active.producer_id == listed.producer_id
        assert active.open_first_offset == 0
        assert await admin.find_hanging_transactions(max_age_ms=0) == []  # its coordinator has it
        assert await admin.open_transactions([T0, T1]) == [OpenTransaction(T0, active, ID)]
        await producer.commit()


async def test_a_transaction_that_hangs_is_found_and_aborted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def said_yes(_coordinator: TransactionCoordinator, _question: object) -> None:
        """As after a fault: the leader believes what the coordinator does not know."""

    async with bench.producer() as producer, bench.admin() as admin:
        await producer.init_transactions()
        monkeypatch.setattr(TransactionCoordinator, "is_in_transaction", said_yes)
        producer.begin()
        await (await producer.send("t", b"hangs", partition=0))
        monkeypatch.undo()
        assert await admin.max_transaction_timeout_ms() == 60_000
        assert await admin.find_hanging_transactions() == []  # it is not old enough
        [hanging] = await admin.find_hanging_transactions(max_age_ms=0)
        assert (hanging.topic_partition, hanging.owner) == (T0, None)
        assert await admin.find_hanging_transactions([T1], max_age_ms=0) == []
        active = hanging.producer
        await admin.abort_transaction(T0, active.producer_id, active.producer_epoch)
        assert await admin.find_hanging_transactions(max_age_ms=0) == []
        with pytest.raises(InvalidProducerIdMappingError):
            await admin.abort_transaction(T0, active.producer_id, active.producer_epoch)
        await producer.abort()
        async with producer.transaction():
            await producer.send("t", b"next", partition=0)
    assert await bench.read(1) == [b"next"]
