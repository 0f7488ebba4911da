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


class Desk:
    """A post office with broker A (epoch 10) as its customer."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.peers = FakePeers()
        self.in_touch = asyncio.Event()
        self.in_touch.set()
        self.answers: list[tuple[BrokerInfo, UpdateStateResponse]] = []
        self.failures: list[Exception] = []
        self.office = ControllerChannelManager(
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
    def address(letter: UpdateStateBatch) -> UpdateStateRequest:
        return UpdateStateRequest(
            1,
            1,
            letter.broker.broker_epoch,
            [],
            [],
            letter.partitions,
            letter.deletions,
            letter.deleted_topics,
            drops=letter.drops,
        )

    def versions(self) -> list[list[int]]:
        return [
            [m.state.partition_version for m in request.partitions]
            for request in self.peers.brokers[1].requests
        ]

    async def post(self, version: int) -> None:
        self.outbox.put_state(told(version))
        self.office.wake()
        await quiet(20)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    yield made
    made.office.close()


async def test_letters_go_in_order_one_at_a_time_and_merged(desk: Desk) -> None:
    await desk.post(1)
    desk.peers.hold(1)
    for version in (2, 3, 4):
        await desk.post(version)
    desk.peers.release(1)
    await quiet()
    assert desk.versions() == [[1], [2], [4]]
    assert len(desk.answers) == 3


async def test_what_cannot_be_delivered_is_tried_again_with_the_newest(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.peers.down.add(1)
    await desk.post(1)
    await desk.post(2)
    await eventually(lambda: len(desk.peers.attempts) > 5)
    desk.peers.down.clear()
    await quiet()
    assert desk.versions() == [[2]]
    assert len([r for r in caplog.records if "cannot be told" in r.getMessage()]) == 1


async def test_a_new_incarnation_gets_a_new_sender_and_the_old_one_ends(desk: Desk) -> None:
    desk.peers.hold(1)
    await desk.post(1)
    desk.outbox.open(broker(1, 11))
    await desk.post(5)
    desk.peers.release(1)
    await quiet()
    assert desk.peers.brokers[1].broker_epoch == 11
    assert desk.versions() == [[5]]


async def test_a_broker_that_is_gone_is_told_nothing_more(desk: Desk) -> None:
    desk.peers.down.add(1)
    await desk.post(1)
    desk.outbox.close(1)
    desk.office.wake()
    await quiet()
    attempts = len(desk.peers.attempts)
    await quiet()
    assert len(desk.peers.attempts) == attempts


async def test_out_of_touch_nothing_is_sent(desk: Desk) -> None:
    desk.in_touch.clear()
    await desk.post(1)
    assert desk.peers.attempts == []
    desk.in_touch.set()
    await quiet()
    assert desk.versions() == [[1]]


async def test_an_incarnation_that_says_it_is_over_is_left_alone(desk: Desk) -> None:
    desk.peers.answer(1, StaleBrokerEpochError("I am another by now"))
    await desk.post(1)
    await desk.post(2)
    assert len(desk.peers.attempts) == 1
    assert desk.failures == []


@pytest.mark.parametrize("answer", [StaleControllerEpochError("deposed")])
async def test_a_broker_that_knows_a_later_controller_ends_it(
    desk: Desk, answer: StaleControllerEpochError
) -> None:
    desk.peers.answer(1, NetworkError("once"), answer)
    await desk.post(1)
    assert desk.failures == [answer]


async def test_deletions_are_asked_for_until_they_are_done(desk: Desk) -> None:
    desk.peers.answer(1, UpdateStateResponse(), UpdateStateResponse())
    desk.outbox.put_deletion(1, TP, "id")
    await desk.post(1)
    await quiet()
    requests = desk.peers.brokers[1].requests
    assert [(r.partitions, r.deletions) for r in requests] == [((), ((TP, "id"),))]
    assert len(desk.answers) == 3


async def test_replicas_that_have_moved_are_dropped_until_it_is_done(desk: Desk) -> None:
    desk.peers.answer(1, UpdateStateResponse())
    other = TopicPartition("t", 1)
    moved = PartitionMetadata(other, "id", Assignment((2,)), PartitionState(2, 0, (2,), 1, 3))
    desk.outbox.put_drop(1, moved)
    await desk.post(1)
    await quiet()
    requests = desk.peers.brokers[1].requests
    assert [r.drops for r in requests] == [((other, "id", 3),)]
    assert len(desk.answers) == 2


async def test_a_closed_office_begins_nothing(desk: Desk) -> None:
    desk.office.close()
    await desk.post(1)
    assert desk.peers.attempts == []


def test_the_wait_doubles_up_to_a_bound() -> None:
    office = ControllerChannelManager(
        Outbox(),
        Desk.address,
        FakePeers().update_state,
        in_touch=asyncio.Event(),
        on_answer=lambda who, answer: None,
        on_failure=lambda failure: None,
        backoff_ms=100,
    )
    assert [office._backoff_s(n) for n in (1, 2, 4, 5, 1000)] == [0.1, 0.2, 0.8, 1.0, 1.0]
