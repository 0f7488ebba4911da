"""What a broker knows of the cluster, and those who watch it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from minikafka.api.requests import ClusterUpdate, UpdateStateRequest
from minikafka.broker import metadata as metadata_module
from minikafka.broker.metadata import MetadataCache
from minikafka.errors import BrokerNotAvailableError, UnknownTopicOrPartitionError
from minikafka.model import PartitionMetadata, TopicPartition
from tests.helpers.replicas import BROKERS, TP, partition

OTHER = TopicPartition("u", 0)


def message(*partitions: PartitionMetadata, **changes: object) -> UpdateStateRequest:
    request = UpdateStateRequest(2, 1, 100, BROKERS, [3], partitions)
    return replace(request, **changes)  # type: ignore[arg-type]


async def hear(updates: object) -> ClusterUpdate:
    return await asyncio.wait_for(anext(updates), 10)  # type: ignore[call-overload, no-any-return]


def test_brokers_that_leave_are_known_but_may_not_join_an_isr() -> None:
    cache = MetadataCache()
    eligible = cache.eligible
    cache.apply(message())
    assert set(cache.brokers) == {1, 2, 3}
    assert cache.shutting_down == {3}
    assert eligible == {1: 100, 2: 200}
    cache.apply(message(brokers=BROKERS[:1], shutting_down=[]))
    assert eligible == {1: 100}


def test_what_is_not_known_is_not_denied_before_a_controller_has_spoken() -> None:
    cache = MetadataCache()
    assert isinstance(cache.missing("there is no topic 't'"), BrokerNotAvailableError)
    cache.apply(message())
    missing = cache.missing("there is no topic 't'")
    assert isinstance(missing, UnknownTopicOrPartitionError)
    assert str(missing) == "there is no topic 't'"


def test_a_state_only_gets_newer() -> None:
    cache = MetadataCache()
    cache.apply(message(partition(1, 3, version=7)))
    cache.apply(message(partition(2, 2, version=6)))
    known = cache.partition(TP)
    assert known is not None
    assert known.state.leader == 1
    assert cache.partition(TopicPartition("t", 1)) is None
    assert cache.partition(OTHER) is None


async def test_a_topic_that_was_made_again_is_told_as_deleted_and_new() -> None:
    cache = MetadataCache()
    second = TopicPartition("t", 1)
    cache.apply(message(partition(version=5), partition(tp=second)))
    updates = cache.watch()
    await hear(updates)
    cache.apply(message(partition(topic_id="new")))
    update = await hear(updates)
    assert update.deleted_topics == [("t", partition().topic_id)]
    assert [each.topic_id for each in update.partitions] == ["new"]
    assert cache.partition(second) is None
    assert cache.topic_id("t") == "new"


def test_a_deletion_of_an_earlier_topic_of_that_name_changes_nothing() -> None:
    cache = MetadataCache()
    cache.apply(message(partition()))
    cache.apply(message(deleted_topics=[("t", "older"), ("never", "was")]))
    assert cache.topic_id("t") == partition().topic_id
    cache.apply(message(deleted_topics=[("t", partition().topic_id)]))
    assert cache.topic_id("t") is None


def test_a_full_message_makes_it_forget_all_topics_that_it_does_not_name() -> None:
    cache = MetadataCache()
    cache.apply(message(partition(), partition(tp=OTHER)))
    cache.apply(message(partition(tp=OTHER), full=True))
    assert set(cache.topics) == {"u"}


async def test_watchers_hear_of_the_controller_and_old_news_is_dropped() -> None:
    cache = MetadataCache()
    updates = cache.watch()
    await hear(updates)
    cache.set_controller(2, 5)
    assert (await hear(updates)).controller_id == 2
    cache.set_controller(3, 4)
    cache.set_controller(2, 5)
    cache.set_controller(-1, 5)
    update = await hear(updates)
    assert (update.controller_id, update.controller_epoch) == (-1, 5)
    cache.apply(message(brokers=[], shutting_down=[], controller_epoch=6))
    assert (await hear(updates)).controller_epoch == 6


async def test_a_message_without_news_is_not_told() -> None:
    cache = MetadataCache()
    cache.apply(message(partition()))
    updates = cache.watch()
    await hear(updates)
    cache.apply(message(partition()))
    cache.apply(message(partition(version=1)))
    update = await hear(updates)
    assert [each.state.partition_version for each in update.partitions] == [1]
    assert update.brokers is None


async def test_a_watcher_that_falls_behind_hears_everything_and_all_deletions(
    monkeypatch: object,
) -> None:
    cache = MetadataCache()
    metadata_module.WATCHER_QUEUE, before = 3, metadata_module.WATCHER_QUEUE
    try:
        updates = cache.watch()
        await hear(updates)
    finally:
        metadata_module.WATCHER_QUEUE = before
    cache.apply(message(partition(tp=OTHER)))
    cache.apply(message(deleted_topics=[("u", partition().topic_id)]))
    for version in range(9):
        cache.apply(message(partition(version=version)))
    update = await hear(updates)
    assert update.deleted_topics == [("u", partition().topic_id)]
    seen = update.partitions
    while seen[-1].state.partition_version < 8:
        seen = (await hear(updates)).partitions
    assert list(cache.topics) == ["t"]


async def test_a_watcher_that_leaves_is_forgotten() -> None:
    cache = MetadataCache()
    updates = cache.watch()
    await hear(updates)
    assert len(cache._watchers) == 1
    await updates.aclose()
    assert not cache._watchers


async def test_one_can_wait_for_topics_to_have_leaders() -> None:
    cache = MetadataCache()
    assert await cache.wait_for_topics([], 0)
    assert not await cache.wait_for_topics(["t"], 0)
    waiting = asyncio.ensure_future(cache.wait_for_topics(["t", "t"], 20_000))
    await asyncio.sleep(0)
    cache.apply(message(partition(-1)))
    cache.apply(message(partition(1, 1, version=1)))
    assert await waiting
    assert not cache._watchers
