"""Listening to all brokers at once: one that dies or falls silent hides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from minikafka.api.requests import ClusterUpdate
from minikafka.errors import NetworkError
from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from minikafka.watching.board import Change, PartitionChanged
from minikafka.watching.feed import ClusterFeed

DEADLINE_S = 10


class FakeBroker:
    """Says what is put into `told`; an error ends the stream."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[ClusterUpdate | NetworkError] = asyncio.Queue()
        self.watched: list[Sequence[str]] = []
        self.closed = 0

    async def watch(self, topics: Sequence[str]) -> AsyncIterator[ClusterUpdate]:
        self.watched.append(topics)
        while True:
            item = await self.told.get()
            if isinstance(item, NetworkError):
                raise item
            yield item

    async def close(self) -> None:
        self.closed += 1


def state(version: int) -> PartitionMetadata:
    return PartitionMetadata(
        TopicPartition("orders", 0),
        "t1",
        Assignment((1,)),
        PartitionState(1, 0, (1,), 1, version),
    )


def update(version: int, brokers: Sequence[BrokerInfo] | None = None) -> ClusterUpdate:
    return ClusterUpdate([state(version)], (), brokers, -1, -1)


async def next_versions(changes: AsyncIterator[list[Change]]) -> list[int]:
    news = await asyncio.wait_for(anext(changes), DEADLINE_S)
    return [
        each.partition.state.partition_version
        for each in news
        if isinstance(each, PartitionChanged)
    ]


async def test_the_others_go_on_telling_when_one_falls_silent() -> None:
    brokers = {"h:1": FakeBroker(), "h:2": FakeBroker()}
    async with ClusterFeed(list(brokers), connect=brokers.__getitem__) as feed:
        changes = feed.changes()
        brokers["h:1"].told.put_nowait(update(0))
        assert await next_versions(changes) == [0]
        brokers["h:2"].told.put_nowait(update(1))  # and h:1 says nothing any more
        assert await next_versions(changes) == [1]


async def test_a_stream_that_breaks_is_opened_again() -> None:
    broker = FakeBroker()
    async with ClusterFeed(["h:1"], connect=lambda _: broker, retry_s=0) as feed:
        changes = feed.changes()
        broker.told.put_nowait(update(0))
        assert await next_versions(changes) == [0]
        broker.told.put_nowait(NetworkError("gone"))
        broker.told.put_nowait(update(1))
        assert await next_versions(changes) == [1]
        assert len(broker.watched) == 2
        assert broker.closed == 1


async def test_brokers_that_are_named_are_listened_to_as_well() -> None:
    brokers = {"h:1": FakeBroker(), "h:2": FakeBroker()}
    async with ClusterFeed(["h:1"], connect=brokers.__getitem__) as feed:
        changes = feed.changes()
        infos = [BrokerInfo(1, "A", "h", 1, broker_epoch=1), BrokerInfo(2, "B", "h", 2)]
        brokers["h:1"].told.put_nowait(update(0, infos))
        assert await next_versions(changes) == [0]
        brokers["h:2"].told.put_nowait(update(1))
        assert await next_versions(changes) == [1]


async def test_only_the_topics_that_were_asked_for_are_watched() -> None:
    broker = FakeBroker()
    async with ClusterFeed(["h:1"], topics=["orders"], connect=lambda _: broker) as feed:
        changes = feed.changes()
        broker.told.put_nowait(update(0))
        await next_versions(changes)
    assert broker.watched == [("orders",)]
    assert broker.closed == 1


async def test_it_is_said_once_when_nobody_is_left_who_tells_anything() -> None:
    brokers = {"h:1": FakeBroker(), "h:2": FakeBroker()}
    said: asyncio.Queue[str] = asyncio.Queue()
    async with ClusterFeed(
        list(brokers), connect=brokers.__getitem__, retry_s=0, on_silence=said.put_nowait
    ) as feed:
        changes = feed.changes()
        brokers["h:1"].told.put_nowait(NetworkError("refused"))
        brokers["h:2"].told.put_nowait(update(0))
        assert await next_versions(changes) == [0]
        assert said.empty()
        brokers["h:2"].told.put_nowait(NetworkError("gone"))
        sentence = await asyncio.wait_for(said.get(), DEADLINE_S)
        assert sentence == "no broker answers (gone); trying again"
        brokers["h:2"].told.put_nowait(NetworkError("still gone"))
        brokers["h:2"].told.put_nowait(update(1))
        assert await next_versions(changes) == [1]
        assert said.empty()


async def test_a_broker_that_has_just_started_and_knows_nobody_says_nothing_of_the_others() -> None:
    fake = FakeBroker()
    known = [BrokerInfo(each, "AB"[each - 1], "127.0.0.1", each, broker_epoch=1) for each in (1, 2)]
    async with ClusterFeed(["a:1"], connect=lambda _: fake, retry_s=0) as feed:
        changes = feed.changes()
        await fake.told.put(update(1, known))
        await next_versions(changes)
        await fake.told.put(NetworkError("it was killed"))
        await fake.told.put(update(2, []))
        assert await next_versions(changes) == [2]
        assert set(feed.board.brokers) == {1, 2}


async def test_somebody_else_than_a_broker_can_tell_as_well() -> None:
    async with ClusterFeed(["a:1"], connect=lambda _: FakeBroker(), retry_s=0) as feed:
        assert not feed.is_heard
        await feed.tell("zookeeper", update(3))
        assert await next_versions(feed.changes()) == [3]
