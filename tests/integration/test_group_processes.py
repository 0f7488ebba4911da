"""A consumer group on brokers as processes, through kill -9 of its coordinators."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikafka.client import AsyncAdmin, AsyncConsumer
from minikafka.errors import MinikafkaError
from minikafka.model import OFFSETS_TOPIC, TopicPartition, broker_name
from tests.helpers.processes import Load, ProcessCluster
from tests.helpers.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

GROUP = "workers"
MEMBERS = 3
PARTITIONS = 6
SETTINGS = ("offsets.topic.num.partitions=5",)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ProcessCluster]:
    cluster = ProcessCluster(tmp_path)
    try:
        cluster.up(3, "embedded", *SETTINGS)
        yield cluster
    finally:
        cluster.down()


class Worker:
    """A member that keeps what it was given, and commits after each poll."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.seen: Counter[tuple[int, int]] = Counter()
        self.commits = 0
        self.stop = asyncio.Event()

    async def run(self) -> None:
        async with AsyncConsumer(self.bootstrap, auto_offset_reset="earliest") as consumer:
            consumer.subscribe("t", GROUP, auto_commit=False, heartbeat_interval_ms=300)
            while not self.stop.is_set():
                for record in await consumer.poll(200):
                    self.seen[record.partition, record.offset] += 1
                try:
                    await consumer.commit()
                    self.commits += 1
                except MinikafkaError:
                    continue  # a rebalance: whoever has the partition reads it again


async def coordinator(admin: AsyncAdmin) -> str:
    """The name of the broker that coordinates the group."""
    from minikafka.broker.coordinators.topic import partition_for

    topic = await admin.describe_topic(OFFSETS_TOPIC)
    number = partition_for(GROUP, len(topic.partitions))
    return broker_name(topic.partitions[number].state.leader)


async def test_a_group_reads_everything_while_its_coordinators_are_killed(
    cluster: ProcessCluster,
) -> None:
    async with AsyncAdmin(cluster.bootstrap) as admin:
        await admin.create_topic("t", PARTITIONS, 3)
        workers = [Worker(cluster.bootstrap) for _ in range(MEMBERS)]
        running = [asyncio.create_task(worker.run()) for worker in workers]
        async with Load(cluster.bootstrap, "t", partitions=PARTITIONS) as load:
            await load.more(100)

            def all_have_seen() -> bool:
                """And none of them has ended, which nobody would notice."""
                for task in running:
                    if task.done():
                        task.result()
                return all(worker.seen for worker in workers)

            await until(all_have_seen, 60)
            for _ in range(2):
                victim = await coordinator(admin)
                before = [worker.commits for worker in workers]
                cluster.kill(victim)

                async def moved(dead: str = victim) -> bool:
                    return await coordinator(admin) not in (dead, broker_name(-1))

                await until(moved, 60)
                await load.more(50)
                await until(
                    lambda marks=before: all(
                        worker.commits > mark + 3
                        for worker, mark in zip(workers, marks, strict=True)
                    ),
                    60,
                )
                await until(lambda dead=victim: restarted(cluster, dead), 90)
        total = len(load.acknowledged)
        assert not load.failed
        await until(lambda: len(Counter(k for w in workers for k in w.seen)) >= total, 60)
        committed = await until(lambda: everything(admin, total), 60)
        assert committed
        for worker in workers:
            worker.stop.set()
        await asyncio.gather(*running)
        [described] = await admin.describe_groups([GROUP])
        assert described.state == "Empty"
        committed_before = await offsets(admin)
        cluster.kill(await coordinator(admin))
        await until(lambda: answers(admin, committed_before), 60)


def restarted(cluster: ProcessCluster, name: str) -> bool:
    """Its port may be taken by somebody else's cluster meanwhile; then it gets another."""
    return cluster.minikafka("restart", name, check=False).returncode == 0


async def offsets(admin: AsyncAdmin) -> dict[TopicPartition, int]:
    found = await admin.group_offsets(GROUP)
    return {each: value.offset for each, value in found.items()}


async def everything(admin: AsyncAdmin, total: int) -> bool:
    return sum((await offsets(admin)).values()) == total


async def answers(admin: AsyncAdmin, expected: dict[TopicPartition, int]) -> bool:
    try:
        return await offsets(admin) == expected
    except MinikafkaError:
        return False
