"""Producers that commit what a consumer has read as part of their transactions, over whole brokers:
what is read, changed and written comes through exactly once, whoever dies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from minikafka.client.consuming.consumer import AsyncConsumer
from minikafka.client.producing.producer import AsyncProducer
from minikafka.errors import MinikafkaError, UnknownMemberIdError
from minikafka.model import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, TopicPartition
from tests.helpers.brokers import BrokerCluster
from tests.helpers.service_channel import ServiceChannel
from tests.helpers.waiting import until

SETTINGS = {
    "transaction.state.log.num.partitions": "1",
    "offsets.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "50",
    "group.min.session.timeout.ms": "100",
}
QUICK = {
    "heartbeat_interval_ms": 50,
    "session_timeout_ms": 20_000,
    "max_poll_interval_ms": 60_000,
    "auto_commit": False,
}
SOURCE, TARGET = TopicPartition("source", 0), TopicPartition("target", 0)
ADDRESSES = [f"127.0.0.1:{number}" for number in (1, 2, 3)]


class Bench:
    def __init__(self, path: Path) -> None:
        self.cluster = BrokerCluster(path, SETTINGS)

    async def start(self) -> None:
        await self.cluster.start(1, 2, 3)
        await self.cluster.create_topic("source", [1, 2, 3])
        await self.cluster.create_topic("target", [2, 3, 1])

    def options(self) -> dict[str, Any]:
        return {
            "bootstrap": ADDRESSES,
            "connect": lambda address: ServiceChannel(self.cluster, address),
        }

    def producer(self) -> AsyncProducer:
        return AsyncProducer(**self.options(), transactional_id="copier", request_timeout_ms=2_000)

    def consumer(self) -> AsyncConsumer:
        return AsyncConsumer(
            **self.options(),
            auto_offset_reset="earliest",
            isolation="read_committed",
            fetch_max_wait_ms=50,
        )

    async def kill_leader(self, topic_partition: TopicPartition) -> None:
        state = self.cluster.state(topic_partition)
        assert state is not None
        await self.cluster.kill(state.leader)

    async def restart(self) -> None:
        for number in (1, 2, 3):
            if number not in self.cluster.running:
                await self.cluster.start(number)


@pytest.fixture
async def bench(tmp_path: Path) -> Any:
    bench = Bench(tmp_path)
    await bench.start()
    yield bench
    await bench.cluster.close()


async def read_target(bench: Bench, count: int) -> list[bytes | None]:
    values: list[bytes | None] = []
    async with bench.consumer() as consumer:
        consumer.assign([TARGET])

        async def enough() -> bool:
            values.extend(record.value for record in await consumer.poll(100))
            return len(values) >= count

        await until(enough)
        end = (await consumer.end_offsets([TARGET]))[TARGET]

        async def at_the_end() -> bool:
            values.extend(record.value for record in await consumer.poll(50))
            return await consumer.position(TARGET) >= end

        await until(at_the_end)
    return values


async def copy(bench: Bench, last: bytes, committed: list[bytes | None]) -> None:
    """One life of a copier: until it has copied the last record. Ends as if it crashed where
    something fails: the next life goes on where the transactions say."""
    async with bench.consumer() as consumer, bench.producer() as producer:
        await producer.init_transactions()
        consumer.subscribe("source", "copiers", **QUICK)
        while not committed or committed[-1] != last:
            records = await consumer.poll(200, 7)
            if not records:
                continue
            async with producer.transaction():
                for record in records:
                    await producer.send("target", record.value, partition=0)
                ends = {SOURCE: records[-1].offset + 1}
                await producer.send_offsets(ends, consumer)
            committed += [record.value for record in records]


async def test_what_is_aborted_is_read_again(bench: Bench) -> None:
    for number in range(10):
        await bench.cluster.produce_until_acked(SOURCE, b"%d" % number)
    async with bench.consumer() as consumer, bench.producer() as producer:
        await producer.init_transactions()
        consumer.subscribe("source", "copiers", **QUICK)
        read: list[Any] = []

        async def enough() -> bool:
            read.extend(await consumer.poll(100))
            return len(read) >= 10

        await until(enough)
        producer.begin()
        await producer.send_offsets({SOURCE: 4}, consumer)
        await producer.commit()
        producer.begin()
        await producer.send("target", b"aborted", partition=0)
        await producer.send_offsets({SOURCE: 10}, consumer)
        await producer.abort()
        assert await consumer.committed(SOURCE) == {SOURCE: 4}
        gone = consumer.membership()._replace(member_id="somebody", generation_id=99)

        class Gone:
            def membership(self) -> Any:
                return gone

        producer.begin()
        with pytest.raises(UnknownMemberIdError):
            await producer.send_offsets({SOURCE: 10}, Gone())
        await producer.abort()
    committed: list[bytes | None] = []
    await copy(bench, b"9", committed)
    assert committed == [b"%d" % number for number in range(4, 10)]
    assert await read_target(bench, 6) == committed


@pytest.mark.parametrize(
    "victim",
    [TARGET, TopicPartition(TRANSACTIONS_TOPIC, 0), TopicPartition(OFFSETS_TOPIC, 0)],
    ids=lambda each: each.topic,
)
async def test_everything_comes_through_once_whoever_dies(
    bench: Bench, victim: TopicPartition
) -> None:
    values: list[bytes | None] = [b"%d" % number for number in range(300)]
    committed: list[bytes | None] = []

    async def live() -> None:
        while True:
            try:
                await copy(bench, b"299", committed)
            except MinikafkaError:
                continue
            return

    copier = asyncio.ensure_future(live())
    for number, value in enumerate(values):
        assert value is not None
        await bench.cluster.produce_until_acked(SOURCE, value)
        if number in (100, 200):
            await until(lambda: len(committed) > number // 2)  # noqa: B023
            await bench.kill_leader(victim)
        if number in (150, 250):
            await bench.restart()
    await asyncio.wait_for(copier, 60)
    assert await read_target(bench, len(values)) == values
