"""Watching a cluster through one broker."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from minikafka.api.requests import ClusterUpdate
from minikafka.errors import BrokerNotAvailableError, NetworkError
from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from minikafka.rpc.tuning import Keepalive


def partition(topic: str) -> PartitionMetadata:
    state = PartitionState(1, 0, (1,), 1, 0)
    return PartitionMetadata(TopicPartition(topic, 0), f"id of {topic}", Assignment((1,)), state)


def update(*topics: str, controller: int = 1, brokers: Any = None) -> ClusterUpdate:
    return ClusterUpdate(
        [partition(topic) for topic in topics], (), brokers, controller, controller
    )


async def soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, 20)


async def test_a_watcher_hears_everything_and_then_every_change(loopback: Any) -> None:
    await loopback.start()
    watch = loopback.channel().watch()
    broker = BrokerInfo(1, "A", "h", 1)
    loopback.service.updates.put_nowait(update("a", "b", brokers=(broker,)))
    loopback.service.updates.put_nowait(update("b"))
    first, second = await soon(anext(watch)), await soon(anext(watch))
    assert [each.topic_partition.topic for each in first.partitions] == ["a", "b"]
    assert first.brokers == (broker,)
    assert [each.topic_partition.topic for each in second.partitions] == ["b"]
    assert second.brokers is None
    await watch.aclose()
    await soon(loopback.service.watch_ended.wait())


async def test_a_watcher_of_some_topics_hears_of_those_and_of_brokers_and_controllers(
    loopback: Any,
) -> None:
    await loopback.start()
    watch = loopback.channel().watch(["a"])
    broker = BrokerInfo(1, "A", "h", 1)
    deleted = update()
    deleted.deleted_topics = [("a", "id of a"), ("b", "id of b")]
    for each in (
        update("b"),  # the first update is passed on, though nothing in it is wanted
        update("b"),
        update("a", "b"),
        update("b"),
        update("b", brokers=(broker,)),
        deleted,
        update("b", controller=2),
    ):
        loopback.service.updates.put_nowait(each)
    heard = [await soon(anext(watch)) for _ in range(5)]
    topics = [[each.topic_partition.topic for each in one.partitions] for one in heard]
    assert topics == [[], ["a"], [], [], []]
    assert heard[2].brokers == (broker,)
    assert heard[3].deleted_topics == (("a", "id of a"),)
    assert heard[4].controller_id == 2
    await watch.aclose()


async def test_a_watch_that_fails_raises_the_typed_error(loopback: Any) -> None:
    await loopback.start()
    watch = loopback.channel().watch()
    loopback.service.updates.put_nowait(BrokerNotAvailableError("not yet"))
    with pytest.raises(BrokerNotAvailableError, match="not yet"):
        await soon(anext(watch))


async def test_a_watch_ends_with_a_network_error_when_the_broker_stops(loopback: Any) -> None:
    server = await loopback.start()
    watch = loopback.channel().watch()
    loopback.service.updates.put_nowait(update("a"))
    await soon(anext(watch))
    waiting = asyncio.ensure_future(anext(watch))
    await server.stop(0)
    with pytest.raises(NetworkError):
        await soon(waiting)


async def test_a_watch_of_a_silent_peer_ends_with_a_network_error(
    loopback: Any, silent_port: int
) -> None:
    channel = loopback.channel(f"127.0.0.1:{silent_port}", request_timeout_ms=100)
    with pytest.raises(NetworkError):
        await soon(anext(channel.watch()))


async def test_keepalive_finds_out_that_a_broker_is_stopped_when_no_timeout_would(
    loopback: Any, broker_process: Any
) -> None:
    port = int(await soon(broker_process.stdout.readline()))
    channel = loopback.channel(f"127.0.0.1:{port}", keepalive=Keepalive(50, 50))
    watch = channel.watch()
    await soon(anext(watch))
    broker_process.send_signal(signal.SIGSTOP)
    with pytest.raises(NetworkError):
        await soon(anext(watch))
