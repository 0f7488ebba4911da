"""What clients make the Kafka door hold is counted, and nobody can have all of it for himself."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from minikafka.api.requests import FetchResult
from minikafka.broker.request_memory import RequestMemory
from minikafka.kafka import server as kafka_server
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.arriving import PACE_BYTES_PER_S, PATIENCE_S, SMALL_BYTES, Arriving
from minikafka.kafka.frames import FrameSplitter
from minikafka.model import TopicPartition
from tests.helpers.waiting import until
from tests.unit.kafka.conftest import Client, Ground
from tests.unit.kafka.test_admission import Clock
from tests.unit.kafka.test_server import METADATA, bystander_is_served, fetch

MB = 1_000_000


# --- the buffer of a frame -----------------------------------------------------------------------


def test_a_buffer_grows_with_what_has_arrived_and_not_with_what_is_claimed() -> None:
    splitter = FrameSplitter(200 * MB)
    assert list(splitter.feed(struct.pack(">i", 100 * MB) + bytes(10))) == []
    assert (splitter.size_bytes, splitter.missing_bytes) == (100 * MB, 100 * MB - 10)
    assert splitter.held_bytes <= 20
    list(splitter.feed(bytes(5_000)))
    assert 5_010 <= splitter.held_bytes <= 10_020


def test_a_large_frame_is_put_together_without_being_memory_before_it_has_come() -> None:
    splitter = FrameSplitter(200 * MB)
    body = bytes(range(256)) * 40_000
    stream = memoryview(struct.pack(">i", len(body)) + body + struct.pack(">i", 9) + b"follower!")
    found = []
    for start in range(0, len(stream), 999_983):
        found += [bytes(frame) for frame in splitter.feed(bytes(stream[start : start + 999_983]))]
    assert found == [body, b"follower!"]
    list(splitter.feed(struct.pack(">i", 100 * MB) + bytes(MB)))
    assert splitter.held_bytes == MB


def test_a_whole_frame_takes_what_it_has_and_nothing_after() -> None:
    splitter = FrameSplitter(MB)
    list(splitter.feed(struct.pack(">i", 1_000) + bytes(700)))
    [frame] = splitter.feed(bytes(300))
    assert len(frame) == 1_000
    assert (splitter.held_bytes, splitter.size_bytes, splitter.missing_bytes) == (0, 0, 0)


# --- who may send on -----------------------------------------------------------------------------


class Sender:
    """A connection that sends a request of `size`."""

    def __init__(self, arriving: Arriving, size: int) -> None:
        self.splitter = FrameSplitter(500 * MB)
        self.arriving = arriving
        self.size = size
        self.reads = True
        self.closed = ""
        list(self.splitter.feed(struct.pack(">i", size)))

    def send(self, size: int) -> None:
        """Raises AssertionError if nobody would read it."""
        assert self.reads
        frames = list(self.splitter.feed(bytes(size)))
        self.reads = self.arriving.on_part(self, sum(map(len, frames)))

    def started(self) -> None:
        self.arriving.on_part(self, 0)

    def read_on(self) -> None:
        self.reads = True

    def close(self, reason: str = "") -> None:
        self.closed = reason
        self.arriving.forget(self)


class Door:
    def __init__(self, limit: int = 400 * MB) -> None:
        self.clock = Clock()
        self.memory = RequestMemory(limit)
        self.arriving = Arriving(self.memory, self.clock)

    def sender(self, size: int) -> Sender:
        return Sender(self.arriving, size)


def test_what_is_half_sent_takes_no_more_than_its_share() -> None:
    door = Door(40 * MB)
    senders = [door.sender(90 * MB) for _ in range(12)]
    for _ in range(900):
        for sender in senders:
            if sender.reads:
                sender.send(10_000)
    assert [sender.reads for sender in senders].count(True) == 1, "one comes to its end"
    others = sum(sender.splitter.held_bytes for sender in senders if not sender.reads)
    assert others <= door.memory.half_bytes


def fill(door: Door) -> list[Sender]:
    """Large requests, until the share of large ones is in use."""
    senders = [door.sender(90 * MB) for _ in range(40)]
    while all(sender.reads for sender in senders):
        for sender in senders:
            if sender.reads:
                sender.send(500_000)
    while sum(sender.reads for sender in senders) > 1:
        for sender in senders:
            if sender.reads:
                sender.send(1_000)
    assert not any(sender.closed for sender in senders)
    return senders


def test_small_requests_are_read_while_large_ones_wait() -> None:
    door = Door()
    fill(door)
    small = door.sender(SMALL_BYTES)
    small.send(SMALL_BYTES // 2)
    assert small.reads


def test_of_large_requests_the_one_that_is_nearest_to_its_end_goes_on() -> None:
    door = Door()
    large = fill(door)
    honest = door.sender(MB)
    honest.send(MB // 2)
    assert honest.reads
    honest.send(MB // 2)
    honest.started()
    assert sum(sender.reads for sender in large) >= 1
    assert door.memory.arriving_bytes == sum(sender.splitter.held_bytes for sender in large)


def test_nobody_goes_on_while_what_is_under_way_is_full() -> None:
    door = Door()
    large = fill(door)
    door.memory.take(door.memory.half_bytes)
    next(sender for sender in large if sender.reads).send(1_000)
    assert not any(sender.reads for sender in large)
    door.memory.give_back(door.memory.half_bytes)
    door.arriving.check()
    assert sum(sender.reads for sender in large) == 1


def test_who_goes_away_leaves_room_for_others() -> None:
    door = Door()
    large = fill(door)
    for sender in large[:20]:
        sender.close()
    assert all(sender.reads for sender in large[20:])
    for sender in large[20:]:
        sender.close()
    assert door.memory.arriving_bytes == 0


def test_of_too_many_first_pieces_those_of_the_largest_requests_are_given_up() -> None:
    door = Door(40 * MB)
    honest = door.sender(MB)
    honest.send(MB // 2)
    hostile = [door.sender((10 + number) * MB) for number in range(100)]
    for sender in hostile:
        sender.send(256_000)
    assert door.memory.arriving_bytes <= door.memory.half_bytes
    assert "others need the memory" in hostile[-1].closed
    assert not hostile[0].closed
    assert not honest.closed


def test_who_sends_slowly_while_others_wait_is_closed_and_who_was_stopped_is_not() -> None:
    door = Door()
    large = fill(door)
    [slow] = [sender for sender in large if sender.reads]
    arrived = 90 * MB - slow.splitter.missing_bytes
    door.clock.now_s += PATIENCE_S + arrived / PACE_BYTES_PER_S - 0.1
    door.arriving.check()
    assert not any(sender.closed for sender in large)
    door.clock.now_s += 0.2
    door.arriving.check()
    assert "wait for the memory" in slow.closed
    assert [sender for sender in large if sender.closed] == [slow]


def test_who_sends_slowly_is_left_alone_while_there_is_room_for_all() -> None:
    door = Door()
    slow = door.sender(90 * MB)
    slow.send(10)
    door.clock.now_s += 300
    door.arriving.check()
    assert slow.closed == ""


def test_each_request_of_a_connection_has_its_own_time() -> None:
    door = Door()
    busy = door.sender(MB)
    busy.send(MB // 2)
    door.clock.now_s += 300
    list(busy.splitter.feed(bytes(MB // 2) + struct.pack(">i", MB)))
    busy.send(10)
    fill(door)
    door.clock.now_s += PATIENCE_S - 1
    door.arriving.check()
    assert busy.closed == ""


# --- the account ---------------------------------------------------------------------------------


def test_a_fetch_may_read_half_of_what_is_left_however_many_there_are() -> None:
    memory = RequestMemory(1_000)
    for _ in range(100):
        memory.take(memory.read_room_bytes)
    assert memory.used_bytes < memory.half_bytes == 500


async def test_what_is_handed_over_counts_until_a_door_has_it() -> None:
    memory = RequestMemory(1_000)
    memory.take(100)
    memory.hand_over(100)
    assert memory.used_bytes == 100
    await until(lambda: memory.used_bytes == 0)


# --- on connections ------------------------------------------------------------------------------


async def test_half_sent_requests_are_in_the_account_and_leave_it_with_their_connections(
    ground: Ground,
) -> None:
    await ground.start(max_request_bytes=100 * MB)
    clients = [await ground.connect() for _ in range(3)]
    for client in clients:
        client.writer.write(struct.pack(">i", 90 * MB) + bytes(50_000))
    await until(lambda: ground.memory.arriving_bytes >= 150_000)
    assert ground.memory.arriving_bytes <= 300_000
    for client in clients:
        client.writer.close()
    await until(lambda: ground.memory.arriving_bytes == 0)


async def test_clients_that_send_half_of_large_requests_keep_nobody_from_small_ones(
    ground: Ground,
) -> None:
    await ground.start(max_queued_bytes=2 * MB, max_request_bytes=100 * MB)
    hostile = [await ground.connect() for _ in range(12)]
    for client in hostile:
        client.writer.write(struct.pack(">i", 90 * MB) + bytes(MB))
    await until(lambda: ground.memory.arriving_bytes > 700_000)
    honest = await ground.connect()
    for _ in range(20):
        await bystander_is_served(honest)
    # All have sent a megabyte, and what is held is a matter of the limit and of one that goes on.
    assert ground.memory.arriving_bytes < 6 * MB


async def test_answers_that_are_not_read_are_in_the_account_until_they_are(ground: Ground) -> None:
    await ground.start(max_queued_bytes=100 * MB)
    client = await ground.connect()
    transport: Any = client.writer.transport
    transport.pause_reading()
    await send_large_answer(ground, client)
    await until(lambda: ground.memory.used_bytes > 10 * MB)
    transport.resume_reading()
    await client.receive(ApiKey.FETCH, 12)
    await until(lambda: ground.memory.used_bytes == 0)


async def send_large_answer(ground: Ground, client: Client) -> None:
    answer = [FetchResult(TopicPartition("t", 0), None, 1, 0, bytes(20 * MB))]
    ground.broker.fetch_answers.put_nowait(answer)
    client.send(ApiKey.FETCH, 12, fetch())


async def test_who_reads_nothing_is_closed_when_memory_is_scarce(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_server, "READING_PATIENCE_S", 0.2)
    await ground.start(max_queued_bytes=20 * MB)
    hostile, honest = await ground.connect(), await ground.connect()
    transport: Any = hostile.writer.transport
    transport.pause_reading()
    await send_large_answer(ground, hostile)
    await until(lambda: ground.memory.used_bytes > 10 * MB)
    honest.send(ApiKey.METADATA, 9, METADATA)
    async with asyncio.timeout(20):
        await honest.receive(ApiKey.METADATA, 9)
    assert ground.memory.used_bytes == 0


async def test_a_client_that_goes_away_leaves_none_of_its_answers_in_the_account(
    ground: Ground,
) -> None:
    await ground.start(max_queued_bytes=100 * MB)
    client = await ground.connect()
    transport: Any = client.writer.transport
    transport.pause_reading()
    await send_large_answer(ground, client)
    await until(lambda: ground.memory.used_bytes > 10 * MB)
    transport.abort()
    await until(lambda: ground.memory.used_bytes == 0)
