"""A watcher hears of what its caller may describe, and anew when that changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from minikafka.api.requests import ClusterUpdate, UpdateStateRequest
from minikafka.broker.guard import service_for
from minikafka.broker.metadata import MetadataCache
from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from minikafka.security.acl import Entry, Operation, Pattern, Permission, ResourceType
from minikafka.security.authorizer import Authorizer
from minikafka.security.principal import Caller, Principal

ALICE = Caller(Principal("User", "alice"), "10.1.2.3", "INSIDE")
DESCRIBE = Entry(ALICE.principal, "*", Operation.DESCRIBE, Permission.ALLOW)
Heard = tuple[list[str], list[tuple[str, str]]]  # topics, and those that are deleted


class Ground:
    """A cluster of what the controller says."""

    def __init__(self) -> None:
        self.cache = MetadataCache()
        self.authorizer = Authorizer()
        self.epoch = 0
        raw: Any = _Raw(self.cache)
        self.updates: AsyncIterator[ClusterUpdate] = service_for(
            raw, self.authorizer, ALICE
        ).watch()

    def may(self, topic: str, *, describe: bool = True) -> None:
        self.authorizer.put(Pattern(ResourceType.TOPIC, topic), [DESCRIBE] if describe else [])

    def say(self, *topics: str, deleted: tuple[tuple[str, str], ...] = ()) -> None:
        partitions = [partition(topic) for topic in topics]
        brokers = [BrokerInfo(1, "A", "h", 1)]
        self.cache.apply(
            UpdateStateRequest(1, 1, 1, brokers, [], partitions, deleted_topics=deleted)
        )

    async def hear(self) -> Heard:
        async with asyncio.timeout(10):
            update = await anext(self.updates)
        return [each.topic_partition.topic for each in update.partitions], [*update.deleted_topics]


class _Raw:
    groups = transactions = None

    def __init__(self, cache: MetadataCache) -> None:
        self.watch = cache.watch


def partition(topic: str) -> PartitionMetadata:
    state = PartitionState(1, 0, (1,), 1, 0)
    return PartitionMetadata(TopicPartition(topic, 0), f"id-{topic}", Assignment((1,)), state)


@pytest.fixture
async def ground() -> AsyncGenerator[Ground, None]:
    ground = Ground()
    yield ground
    assert isinstance(ground.updates, AsyncGenerator)
    await ground.updates.aclose()
    assert not ground.cache._watchers


async def test_what_may_not_be_described_is_not_heard_of(ground: Ground) -> None:
    ground.may("a")
    ground.say("a", "b")
    assert await ground.hear() == (["a"], [])
    ground.say("c")
    ground.say(deleted=(("b", "id-b"), ("a", "id-a")))
    assert await ground.hear() == ([], [("a", "id-a")])


async def test_where_all_may_be_described_updates_are_handed_through(ground: Ground) -> None:
    ground.may("*")
    ground.say("a", "b")
    assert await anext(ground.updates) == ground.cache.everything()


async def test_a_topic_that_may_be_described_from_now_on_is_news(ground: Ground) -> None:
    ground.may("a")
    ground.say("a", "b")
    await ground.hear()
    ground.may("b")
    assert await ground.hear() == (["a", "b"], [])


async def test_a_topic_that_may_not_be_described_any_more_is_gone(ground: Ground) -> None:
    ground.may("a")
    ground.may("b")
    ground.say("a", "b")
    await ground.hear()
    ground.may("b", describe=False)
    assert await ground.hear() == (["a"], [("b", "id-b")])
    ground.say(deleted=(("b", "id-b"),))
    ground.say(deleted=(("a", "id-a"),))
    assert await ground.hear() == ([], [("a", "id-a")])


async def test_what_was_deleted_while_the_entries_changed_is_told(ground: Ground) -> None:
    ground.may("*")
    ground.say("a", "b")
    await ground.hear()
    ground.say(deleted=(("a", "id-a"),))
    ground.may("c")
    assert await ground.hear() == (["b"], [("a", "id-a")])
