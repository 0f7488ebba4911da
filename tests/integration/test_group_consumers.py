"""group.py, subscribing.py, coordinator.py: consumers in groups, over whole brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from minikafka.api.requests import CreatePartitionsRequest, CreateTopic, CreateTopicsRequest
from minikafka.broker.coordinators.topic import partition_for
from minikafka.client.administering.admin import AsyncAdmin
from minikafka.client.consuming.consumer import AsyncConsumer
from minikafka.errors import (
    FencedInstanceIdError,
    GroupIdNotFoundError,
    GroupSubscribedToTopicError,
    MinikafkaError,
    NonEmptyGroupError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    UsageError,
)
from minikafka.model import TopicPartition
from tests.helpers.brokers import BrokerCluster
from tests.helpers.service_channel import ServiceChannel
from tests.helpers.waiting import until

SETTINGS = {
    "group.initial.rebalance.delay.ms": "50",
    "group.min.session.timeout.ms": "100",
    "offsets.topic.num.partitions": "2",
}
# Sessions that no busy machine ends.
QUICK = {"heartbeat_interval_ms": 50, "session_timeout_ms": 20_000, "max_poll_interval_ms": 60_000}


class Bench:
    def __init__(self, path: Path) -> None:
        self.cluster = BrokerCluster(path, SETTINGS)

    async def topic(self, name: str, partitions: int) -> None:
        replicas = sorted(self.cluster.running)
        assignments = dict.fromkeys(range(partitions), replicas)
        request = CreateTopicsRequest([CreateTopic(name, -1, -1, {}, assignments)])
        response = await self.cluster.service(1).administer(request, 5000)
        assert response.results[0].error is None

    async def produce(self, topic: str, partition: int, *values: bytes) -> None:
        await self.cluster.produce_until_acked(TopicPartition(topic, partition), *values)

    @asynccontextmanager
    async def consumer(self, **options: Any) -> AsyncIterator[AsyncConsumer]:
        async with AsyncConsumer(
            [f"127.0.0.1:{number}" for number in sorted(self.cluster.running)],
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
            connect=lambda address: ServiceChannel(self.cluster, address),  # type: ignore[arg-type]
            **options,
        ) as consumer:
            yield consumer

    async def settle(self, *consumers: AsyncConsumer, partitions: int) -> None:
        """Poll all of them until each partition is somebody's, and everybody is done joining."""

        async def settled() -> bool:
            await asyncio.gather(*(each.poll(20) for each in consumers))
            assigned = [partition for each in consumers for partition in each.assignment()]
            joined = all(each.in_group for each in consumers)
            return joined and len(assigned) == len(set(assigned)) == partitions

        await until(settled)

    def coordinator(self, group_id: str) -> int:
        number = partition_for(group_id, 2)
        anyone = next(iter(self.cluster.running.values())).broker
        known = anyone.metadata.partition(TopicPartition("__consumer_offsets", number))
        assert known is not None
        return known.state.leader


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.cluster.close()


async def read(consumer: AsyncConsumer, count: int) -> list[bytes | None]:
    values: list[bytes | None] = []

    async def enough() -> bool:
        values.extend(record.value for record in await consumer.poll(100))
        return len(values) >= count

    await until(enough)
    return values


async def read_until(consumer: AsyncConsumer, value: bytes) -> None:
    async def read_it() -> bool:
        return value in [record.value for record in await consumer.poll(100)]

    await until(read_it)


async def test_a_member_says_who_it_is_once_it_is_one(bench: Bench) -> None:
    await bench.cluster.start(1)
    await bench.topic("t", 1)
    async with bench.consumer() as consumer:
        with pytest.raises(UsageError, match="in no group"):
            consumer.membership()
        consumer.subscribe("t", "g", auto_commit=False, instance_id="i", **QUICK)
        with pytest.raises(UnknownMemberIdError, match="poll first"):
            consumer.membership()
        await bench.settle(consumer, partitions=1)
        group_id, generation_id, member_id, instance_id, commits_itself = consumer.membership()
        assert (group_id, generation_id, instance_id, commits_itself) == ("g", 1, "i", False)
        assert member_id


async def test_a_member_goes_on_where_the_one_before_it_ended(bench: Bench) -> None:
    await bench.cluster.start(1)
    await bench.topic("t", 1)
    await bench.produce("t", 0, b"1", b"2")
    async with bench.consumer() as consumer:
        consumer.subscribe("t", "g", **QUICK)
        assert await read(consumer, 2) == [b"1", b"2"]
    await bench.produce("t", 0, b"3")
    async with bench.consumer() as consumer:
        consumer.subscribe(["t"], "g", **QUICK)
        assert await read(consumer, 1) == [b"3"]


async def test_what_was_given_last_does_not_count_as_done_when_its_user_fails(
    bench: Bench,
) -> None:
    await bench.cluster.start(1)
    await bench.topic("t", 1)
    await bench.produce("t", 0, b"1", b"2", b"3")

    async def fail() -> None:
        async with bench.consumer() as consumer:
            consumer.subscribe("t", "g", **QUICK)
            await until(lambda: consumer.poll(100, max_records=2))
            await until(lambda: consumer.poll(100, max_records=1))
            raise RuntimeError("in the middle of record 3")

    with pytest.raises(RuntimeError):
        await fail()
    async with bench.consumer() as consumer:
        consumer.subscribe("t", "g", **QUICK)
        assert await read(consumer, 1) == [b"3"]


async def test_members_share_the_partitions_and_take_over_from_who_leaves(bench: Bench) -> None:
    await bench.cluster.start(1)
    await bench.topic("t", 4)
    heard: list[tuple[str, Sequence[TopicPartition]]] = []
    async with bench.consumer() as a, bench.consumer() as b:
        a.subscribe(
            "t",
            "g",
            on_assigned=lambda given: heard.append(("assigned", given)),
            on_revoked=lambda taken: heard.append(("revoked", taken)),
            **QUICK,
        )
        await bench.settle(a, partitions=4)
        b.subscribe("t", "g", **QUICK)
        await bench.settle(a, b, partitions=4)
        assert len(a.assignment()) == len(b.assignment()) == 2
        await b.unsubscribe()
        await bench.settle(a, partitions=4)
    assert [(what, len(partitions)) for what, partitions in heard] == [
        ("assigned", 4),
        ("revoked", 4),
        ("assigned", 2),
        ("revoked", 2),
        ("assigned", 4),
        ("revoked", 4),
    ]


async def test_a_group_survives_the_death_of_its_coordinator(bench: Bench) -> None:
    await bench.cluster.start(1, 2, 3)
    await bench.topic("t", 2)
    for number in range(10):
        await bench.produce("t", number % 2, b"%d" % number)
    async with bench.consumer() as a, bench.consumer() as b:
        a.subscribe("t", "g", auto_commit=False, **QUICK)
        b.subscribe("t", "g", auto_commit=False, **QUICK)
        await bench.settle(a, b, partitions=2)
        await asyncio.gather(a.commit(), b.commit())
        generation = a._group.generation_id if a._group else -1
        await bench.cluster.kill(bench.coordinator("g"))
        await bench.produce("t", 0, b"more")
        await bench.produce("t", 1, b"more")
        await asyncio.gather(read_until(a, b"more"), read_until(b, b"more"))
        await asyncio.gather(a.commit(), b.commit())
        assert a._group is not None
        assert a._group.generation_id == generation  # nobody had to join again
    async with bench.consumer() as c:
        c.subscribe("t", "g", **QUICK)
        await bench.settle(c, partitions=2)
        committed = await c.committed()
        assert set(committed.values()) == {6}


async def test_offsets_are_committed_by_hand(bench: Bench) -> None:
    await bench.cluster.start(1)
    await bench.topic("t", 1)
    await bench.produce("t", 0, b"1", b"2", b"3")
    tp = TopicPartition("t", 0)
    async with bench.consumer() as consumer:
        consumer.subscribe("t", "g", auto_commit=False, **QUICK)
        async for record in consumer:
            assert record.value == b"1"
            break
        await consumer.commit()
        assert await consumer.committed(tp) == {tp: 1}
        await consumer.commit({tp: 2})
        assert await consumer.committed() == {tp: 2}
        with pytest.raises(UnknownTopicOrPartitionError):
            await consumer.commit({TopicPartition("t", 7): 1})
    async with bench.consumer() as consumer:
        consumer.subscribe("t", "g", auto_commit=False, **QUICK)
        assert await read(consumer, 1) == [b"3"]


async def test_what_was_given_before_the_last_poll_is_committed_now_and_then(
    bench: Bench,
) -> None:
    await bench.cluster.start(1)
    await bench.topic("t", 1)
    await bench.produce("t", 0, b"1", b"2")
    tp = TopicPartition("t", 0)
    async with bench.consumer() as consumer:
        consumer.subscribe("t", "g", auto_commit_interval_ms=10, **QUICK)
        assert await read(consumer, 2) == [b"1", b"2"]

        async def committed() -> bool:
            await consumer.poll(20)
            return (await consumer.committed(tp))[tp] == 2

        await until(committed)


async def test_a_static_member_comes_back_without_a_rebalance_and_its_double_is_fenced(
    bench: Bench,
) -> None:
    await bench.cluster.start(1)
    await bench.topic("t", 2)
    async with bench.consumer() as other:
        other.subscribe("t", "g", **QUICK)
        async with bench.consumer() as first:
            first.subscribe("t", "g", instance_id="i", **QUICK)
            await bench.settle(other, first, partitions=2)
        assert other._group is not None
        generation = other._group.generation_id
        async with bench.consumer() as second, bench.consumer() as double:
            second.subscribe("t", "g", instance_id="i", **QUICK)
            await bench.settle(other, second, partitions=2)
            assert other._group.generation_id == generation
            double.subscribe("t", "g", instance_id="i", **QUICK)
            await bench.settle(other, double, partitions=2)

            async def fenced() -> bool:
                try:
                    await second.poll(20)
                except FencedInstanceIdError:
                    return True
                return False

            await until(fenced)


async def test_a_member_that_does_not_poll_is_out_and_comes_back_with_its_next_poll(
    bench: Bench,
) -> None:
    await bench.cluster.start(1)
    await bench.topic("t", 1)
    async with bench.consumer() as consumer:
        consumer.subscribe("t", "g", **{**QUICK, "max_poll_interval_ms": 200})
        await bench.settle(consumer, partitions=1)
        group = consumer._group
        assert group is not None
        await until(lambda: group.member_id == "")
        with pytest.raises(UnknownMemberIdError):
            await consumer.commit({TopicPartition("t", 0): 1})
        await bench.settle(consumer, partitions=1)


async def test_a_member_that_waits_for_records_in_a_poll_stays(bench: Bench) -> None:
    await bench.cluster.start(1)
    await bench.topic("t", 1)
    async with bench.consumer() as consumer:
        consumer.subscribe("t", "g", **{**QUICK, "max_poll_interval_ms": 200})
        assert await consumer.poll(1_000) == []
        assert consumer._group is not None
        assert (consumer._group.generation_id, consumer._group.must_join) == (1, False)


async def test_new_partitions_are_assigned(bench: Bench) -> None:
    await bench.cluster.start(1)
    await bench.topic("t", 1)
    async with bench.consumer(metadata_max_age_ms=50) as consumer:
        consumer.subscribe("t", "g", **QUICK)
        await bench.settle(consumer, partitions=1)
        await bench.cluster.service(1).administer(CreatePartitionsRequest("t", 3), 5000)
        await bench.settle(consumer, partitions=3)


async def test_a_topic_that_comes_later_is_assigned_then(bench: Bench) -> None:
    await bench.cluster.start(1)
    async with bench.consumer(metadata_max_age_ms=50) as consumer:
        consumer.subscribe("t", "g", **QUICK)
        await bench.settle(consumer, partitions=0)
        await bench.topic("t", 2)
        await bench.settle(consumer, partitions=2)


async def test_batches_are_read_in_a_group_too(bench: Bench) -> None:
    await bench.cluster.start(1)
    await bench.topic("t", 1)
    await bench.produce("t", 0, b"1", b"2")
    async with bench.consumer() as consumer:
        consumer.subscribe("t", "g", **QUICK)
        batches = await until(lambda: consumer.poll_batches(100))
        assert sum(batch.record_count for batch in batches) == 2


async def test_what_makes_no_sense_is_refused(bench: Bench) -> None:
    await bench.cluster.start(1)
    async with bench.consumer() as consumer:
        with pytest.raises(UsageError, match="subscribe first"):
            await consumer.commit()
        with pytest.raises(UsageError, match="at least one topic"):
            consumer.subscribe([], "g")
        with pytest.raises(UsageError, match="session_timeout_ms"):
            consumer.subscribe("t", "g", session_timeout_ms=0)
        consumer.subscribe("t", "g", **{**QUICK, "session_timeout_ms": 50})
        with pytest.raises(UsageError, match="unsubscribe first"):
            consumer.subscribe("t", "g")
        with pytest.raises(UsageError, match="unsubscribe first"):
            consumer.assign([("t", 0)])
        with pytest.raises(MinikafkaError, match=r"group\.min\.session\.timeout\.ms"):
            await consumer.poll(5_000)


# --- administration ------------------------------------------------------------------------------


async def test_groups_are_listed_described_reset_and_deleted(bench: Bench) -> None:
    await bench.cluster.start(1, 2)
    await bench.topic("t", 2)
    tp = TopicPartition("t", 0)
    admin = AsyncAdmin(
        ["127.0.0.1:1", "127.0.0.1:2"],
        request_timeout_ms=15_000,
        connect=lambda address: ServiceChannel(bench.cluster, address),  # type: ignore[arg-type]
    )
    async with admin, bench.consumer() as consumer:
        consumer.subscribe("t", "g", client_id="me", **QUICK)
        await bench.settle(consumer, partitions=2)
        await bench.produce("t", 0, b"1", b"2")
        await read(consumer, 2)
        await consumer.commit()
        await admin.alter_group_offsets("other", {tp: 1})
        await admin.alter_group_offsets("other", {})
        assert [(each.group_id, each.state) for each in await admin.list_groups()] == [
            ("g", "Stable"),
            ("other", "Empty"),
        ]
        assert [each.group_id for each in await admin.list_groups(["empty"])] == ["other"]
        described, nothing = await admin.describe_groups(["g", "nothing"])
        assert [each.client_id for each in described.members] == ["me"]
        assert (nothing.state, nothing.error) == ("Dead", None)
        assert (await admin.group_offsets("g"))[tp].offset == 2
        with pytest.raises(UnknownMemberIdError, match="only they can commit"):
            await admin.alter_group_offsets("g", {tp: 0})
        forgotten = await admin.delete_group_offsets("g", [tp])
        assert isinstance(forgotten[tp], GroupSubscribedToTopicError)
        with pytest.raises(GroupIdNotFoundError):
            await admin.delete_group_offsets("nothing", [tp])
        deleted = await admin.delete_groups(["g", "other", "nothing"])
        assert [each.error and type(each.error) for each in deleted] == [
            NonEmptyGroupError,
            None,
            GroupIdNotFoundError,
        ]
        await bench.cluster.kill(2)
        assert [each.group_id for each in await admin.list_groups()] == ["g"]
