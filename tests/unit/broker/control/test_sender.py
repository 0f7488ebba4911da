"""Delivery of what the controller has to tell: order, merging, retries, incarnations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from minikafka.api.requests import UpdateStateRequest, UpdateStateResponse
from minikafka.broker.control.sender import ControllerChannelManager
from minikafka.core.control.outbox import Outbox, UpdateStateBatch
from minikafka.errors import NetworkError, StaleBrokerEpochError, StaleControllerEpochError
from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from tests.helpers.control_plane import FakePeers, eventually, quiet
from tests.helpers.controller_bench import broker

TP = TopicPartition("t", 0)


def told(version: int) -> PartitionMetadata:
    return PartitionMetadata(TP, "id", Assignment((1,)), PartitionState(1, 0, (1,), 1, version))


class Channels:
    """The channels of a controller that has one broker to tell: A, of epoch 10."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.peers = FakePeers()
        self.in_touch = asyncio.Event()
        self.in_touch.set()
        self.answers: list[tuple[BrokerInfo, UpdateStateResponse]] = []
        self.failures: list[Exception] = []
        self.manager = ControllerChannelManager(
            self.outbox,
            self.address,
            self.peers.update_state,
            in_touch=self.in_touch,
            on_answer=lambda who, answer: self.answers.append((who, answer)),
            on_failure=self.failures.append,
            backoff_ms=0,
            max_backoff_ms=0,
        )
        self.outbox.open(broker(1, 10))

    @staticmethod
    def address(message: UpdateStateBatch) -> UpdateStateRequest:
        return UpdateStateRequest(
            1,
            1,
            message.broker.broker_epoch,
            [],
            [],
            message.partitions,
            message.deletions,
            message.deleted_topics,
            drops=message.drops,
        )

    def versions(self) -> list[list[int]]:
        return [
            [m.state.partition_version for m in request.partitions]
            for request in self.peers.brokers[1].requests
        ]

    async def post(self, version: int) -> None:
        self.outbox.put_state(told(version))
        self.manager.wake()
        await quiet(20)


@pytest.fixture
async def channels() -> AsyncIterator[Channels]:
    made = Channels()
    yield made
    made.manager.close()


async def test_messages_go_in_order_one_at_a_time_and_merged(channels: Channels) -> None:
    await channels.post(1)
    channels.peers.hold(1)
    for version in (2, 3, 4):
        await channels.post(version)
    channels.peers.release(1)
    await quiet()
    assert channels.versions() == [[1], [2], [4]]
    assert len(channels.answers) == 3


async def test_what_cannot_be_delivered_is_tried_again_with_the_newest(
    channels: Channels, caplog: pytest.LogCaptureFixture
) -> None:
    channels.peers.down.add(1)
    await channels.post(1)
    await channels.post(2)
    await eventually(lambda: len(channels.peers.attempts) > 5)
    channels.peers.down.clear()
    await quiet()
    assert channels.versions() == [[2]]
    assert len([r for r in caplog.records if "cannot be told" in r.getMessage()]) == 1


async def test_a_new_incarnation_gets_a_new_sender_and_the_old_one_ends(channels: Channels) -> None:
    channels.peers.hold(1)
    await channels.post(1)
    channels.outbox.open(broker(1, 11))
    await channels.post(5)
    channels.peers.release(1)
    await quiet()
    assert channels.peers.brokers[1].broker_epoch == 11
    assert channels.versions() == [[5]]


async def test_a_broker_that_is_gone_is_told_nothing_more(channels: Channels) -> None:
    channels.peers.down.add(1)
    await channels.post(1)
    channels.outbox.close(1)
    channels.manager.wake()
    await quiet()
    attempts = len(channels.peers.attempts)
    await quiet()
    assert len(channels.peers.attempts) == attempts


async def test_out_of_touch_nothing_is_sent(channels: Channels) -> None:
    channels.in_touch.clear()
    await channels.post(1)
    assert channels.peers.attempts == []
    channels.in_touch.set()
    await quiet()
    assert channels.versions() == [[1]]


async def test_an_incarnation_that_says_it_is_over_is_left_alone(channels: Channels) -> None:
    channels.peers.answer(1, StaleBrokerEpochError("I am another by now"))
    await channels.post(1)
    await channels.post(2)
    assert len(channels.peers.attempts) == 1
    assert channels.failures == []


@pytest.mark.parametrize("answer", [StaleControllerEpochError("deposed")])
async def test_a_broker_that_knows_a_later_controller_ends_it(
    channels: Channels, answer: StaleControllerEpochError
) -> None:
    channels.peers.answer(1, NetworkError("once"), answer)
    await channels.post(1)
    assert channels.failures == [answer]


async def test_deletions_are_asked_for_until_they_are_done(channels: Channels) -> None:
    channels.peers.answer(1, UpdateStateResponse(), UpdateStateResponse())
    channels.outbox.put_deletion(1, TP, "id")
    await channels.post(1)
    await quiet()
    requests = channels.peers.brokers[1].requests
    assert [(r.partitions, r.deletions) for r in requests] == [((), ((TP, "id"),))]
    assert len(channels.answers) == 3


async def test_replicas_that_have_moved_are_dropped_until_it_is_done(channels: Channels) -> None:
    channels.peers.answer(1, UpdateStateResponse())
    other = TopicPartition("t", 1)
    moved = PartitionMetadata(other, "id", Assignment((2,)), PartitionState(2, 0, (2,), 1, 3))
    channels.outbox.put_drop(1, moved)
    await channels.post(1)
    await quiet()
    requests = channels.peers.brokers[1].requests
    assert [r.drops for r in requests] == [((other, "id", 3),)]
    assert len(channels.answers) == 2


async def test_channels_that_are_closed_begin_nothing(channels: Channels) -> None:
    channels.manager.close()
    await channels.post(1)
    assert channels.peers.attempts == []


def test_the_wait_doubles_up_to_a_bound() -> None:
    manager = ControllerChannelManager(
        Outbox(),
        Channels.address,
        FakePeers().update_state,
        in_touch=asyncio.Event(),
        on_answer=lambda who, answer: None,
        on_failure=lambda failure: None,
        backoff_ms=100,
    )
    assert [manager._backoff_s(n) for n in (1, 2, 4, 5, 1000)] == [0.1, 0.2, 0.8, 1.0, 1.0]
