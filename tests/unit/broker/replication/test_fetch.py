"""Fetches of consumers and followers at a leader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from minikafka.api.requests import (
    FetchPartition,
    FetchRequest,
    FetchResult,
    FollowerPosition,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
)
from minikafka.broker.replication import fetch as fetch_module
from minikafka.broker.replication.fetch import FetchHandler
from minikafka.core.replication.effects import Role
from minikafka.core.replication.leader import Leader
from minikafka.errors import (
    BrokerNotAvailableError,
    FencedLeaderEpochError,
    InconsistentTopicIdError,
    KafkaStorageError,
    NotLeaderOrFollowerError,
    OffsetOutOfRangeError,
    StaleBrokerEpochError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import TopicPartition
from minikafka.records.header import split
from tests.helpers.brokers import batch_of
from tests.helpers.core_builders import leader_of
from tests.helpers.replicas import TOPIC_ID, TP, Bench, partition, settle

OTHER = TopicPartition("u", 0)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


@pytest.fixture
def handler(bench: Bench) -> FetchHandler:
    return FetchHandler(bench.manager.find, bench.clock, throttle=bench.manager.leader_throttle)


def append(bench: Bench, *values: bytes, tp: TopicPartition = TP) -> None:
    replica = bench.manager.find(tp)
    batch = batch_of(*values)
    plan = replica.core.plan_append(split(batch), 1)
    replica.append_as_leader([batch], plan.headers)


def position(
    fetch_offset: int = 0,
    tp: TopicPartition = TP,
    *,
    last_fetched_epoch: int = -1,
    leader_epoch: int = 0,
    topic_id: str = TOPIC_ID,
) -> FollowerPosition:
    return FollowerPosition(tp, topic_id, fetch_offset, last_fetched_epoch, leader_epoch, 0)


def request(
    *positions: FollowerPosition,
    replica_id: int = 2,
    broker_epoch: int = 200,
    max_wait_ms: int = 60_000,
    max_bytes: int = 10_000,
    partition_max_bytes: int = 10_000,
) -> ReplicaFetchRequest:
    return ReplicaFetchRequest(
        replica_id, broker_epoch, max_wait_ms, 1, max_bytes, partition_max_bytes, positions
    )


async def start(
    handler: FetchHandler, request: ReplicaFetchRequest
) -> asyncio.Future[ReplicaFetchResponse]:
    fetching = asyncio.ensure_future(handler.replica_fetch(request))
    await settle()
    return fetching


def consume(
    offset: int, tp: TopicPartition = TP, *, max_wait_ms: int = 60_000, min_bytes: int = 1
) -> FetchRequest:
    return FetchRequest(max_wait_ms, min_bytes, 10_000, [FetchPartition(tp, offset, 10_000)])


async def consume_later(
    handler: FetchHandler, request: FetchRequest
) -> asyncio.Future[list[FetchResult]]:
    fetching = asyncio.ensure_future(handler.fetch(request))
    await settle()
    assert not fetching.done()
    return fetching  # type: ignore[return-value]


# --- followers -----------------------------------------------------------------------------------


async def test_a_follower_waits_for_records_and_is_woken_by_them(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1, 2)
    fetching = await start(handler, request(position()))
    assert not fetching.done()
    append(bench, b"a")
    (result,) = (await fetching).results
    assert (result.high_watermark, result.log_end_offset) == (0, 1)
    assert b"a" in result.records


async def test_a_follower_out_of_sync_waits_for_the_leaders_throttle_and_others_do_not(
    bench: Bench, handler: FetchHandler
) -> None:
    bench.overrides = {"t": {"leader.replication.throttled.replicas": "0:1"}}
    bench.broker_overrides = {"1": {"leader.replication.throttled.rate": "100000"}}
    await bench.manager.reload_configs()
    await bench.lead(1, 2)
    await bench.update(partition(tp=OTHER, isr=(1, 2)))
    for tp in (TP, OTHER):
        append(bench, b"a" * 200_000, tp=tp)
    committed = request(position(1, last_fetched_epoch=0), position(1, OTHER, last_fetched_epoch=0))
    await handler.replica_fetch(replace(committed, max_wait_ms=0))
    outside = {"replica_id": 3, "broker_epoch": 300, "partition_max_bytes": 1_000_000}
    outside["max_bytes"] = 1_000_000
    for expected in (True, False):  # a second's worth is there, and more goes only afterwards
        fetched = await handler.replica_fetch(request(position(), max_wait_ms=0, **outside))
        assert bool(fetched.results[0].records) is expected
    both = await handler.replica_fetch(
        request(position(), position(0, OTHER), max_wait_ms=0, **outside)
    )
    assert {r.topic_partition: bool(r.records) for r in both.results} == {OTHER: True, TP: False}
    in_sync = await handler.replica_fetch(request(position(), max_wait_ms=0))
    assert in_sync.results[0].records
    bench.clock.now_ms += 1_100
    fetched = await handler.replica_fetch(request(position(), max_wait_ms=0, **outside))
    assert fetched.results[0].records


async def test_a_wait_ends_in_time_also_while_the_throttle_holds_back_what_there_is(
    bench: Bench,
) -> None:
    """It did not: the loop stood until the throttle let go."""
    bench.overrides = {"t": {"leader.replication.throttled.replicas": "0:1"}}
    bench.broker_overrides = {"1": {"leader.replication.throttled.rate": "1000"}}
    await bench.manager.reload_configs()
    await bench.lead(1)  # alone in sync: what it appends is committed, and 3 is out of sync
    append(bench, b"a" * 8_000)

    def now_ms() -> int:
        bench.clock.now_ms += 3
        return bench.clock.now_ms

    handler = FetchHandler(bench.manager.find, now_ms, throttle=bench.manager.leader_throttle)
    outside = {"replica_id": 3, "broker_epoch": 300}
    first = await handler.replica_fetch(request(position(), max_wait_ms=0, **outside))
    assert first.results[0].records
    began_ms = bench.clock.now_ms
    held_back = await handler.replica_fetch(request(position(), max_wait_ms=60, **outside))
    assert not held_back.results[0].records
    assert bench.clock.now_ms - began_ms < 200


async def test_an_empty_wait_ends_with_the_offsets_of_every_partition(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1, 2)
    await bench.update(partition(tp=OTHER))
    both = request(position(), position(0, OTHER), max_wait_ms=0)
    for _ in range(2):
        results = (await handler.replica_fetch(both)).results
        assert [result.topic_partition for result in results] == [TP, OTHER]


async def test_an_answer_with_records_also_tells_what_is_new_of_quiet_partitions(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1, 2)
    await bench.update(partition(tp=OTHER, isr=(1, 2)))
    append(bench, b"quiet", tp=OTHER)
    first = await handler.replica_fetch(request(position(), position(0, OTHER)))
    # This fetch commits the record of the quiet partition; the busy one answers it.
    append(bench, b"busy")
    quiet = replace(
        request(position(1, OTHER, last_fetched_epoch=0)),
        session_id=first.session_id,
        session_epoch=1,
    )
    results = (await handler.replica_fetch(quiet)).results
    assert [(r.topic_partition, r.high_watermark) for r in results] == [(TP, 0), (OTHER, 1)]
    append(bench, b"busy")
    busy = replace(quiet, positions=[position(1, last_fetched_epoch=0)], session_epoch=2)
    results = (await handler.replica_fetch(busy)).results
    assert [(r.topic_partition, r.high_watermark) for r in results] == [(TP, 1)]


async def test_a_role_or_epoch_that_changes_wakes_the_follower_with_the_state(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1, 2, 3)
    fetching = await start(handler, request(position()))
    await bench.update(partition(1, 1, isr=(1, 2), version=1))
    (result,) = (await fetching).results
    assert isinstance(result.error, FencedLeaderEpochError)
    assert result.state is not None
    assert result.state.leader_epoch == 1
    fetching = await start(handler, request(position(leader_epoch=1)))
    await bench.update(partition(2, 2, isr=(1, 2), version=2))
    (result,) = (await fetching).results
    assert isinstance(result.error, NotLeaderOrFollowerError)


async def test_a_deletion_wakes_followers_and_consumers(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1, 2)
    fetching = await start(handler, request(position()))
    consuming = await consume_later(handler, consume(0))
    topics = [("t", TOPIC_ID)]
    await bench.update(deletions=[(TP, TOPIC_ID)], deleted_topics=topics)
    (result,) = (await fetching).results
    assert isinstance(result.error, UnknownTopicOrPartitionError)
    assert isinstance((await consuming)[0].error, UnknownTopicOrPartitionError)


async def test_an_error_in_one_partition_leaves_the_others_their_records(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1, 2)
    append(bench, b"a")
    third = TopicPartition("v", 0)
    await bench.update(partition(tp=third, isr=(1, 2)))
    unknown, foreign = position(0, OTHER), position(0, third, topic_id="another")
    results = (await handler.replica_fetch(request(unknown, foreign, position()))).results
    assert isinstance(results[0].error, UnknownTopicOrPartitionError)
    assert isinstance(results[1].error, InconsistentTopicIdError)
    assert b"a" in results[2].records


async def test_out_of_range_and_divergence_carry_what_the_follower_needs(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1, 2)
    append(bench, b"a", b"b")
    (result,) = (await handler.replica_fetch(request(position(9)))).results
    assert isinstance(result.error, OffsetOutOfRangeError)
    assert (result.log_start_offset, result.log_end_offset) == (0, 2)
    diverging = position(9, last_fetched_epoch=0)
    (result,) = (await handler.replica_fetch(request(diverging))).results
    assert result.diverging is not None
    assert result.diverging.offset == 2


async def test_a_fetch_of_an_older_incarnation_counts_for_nothing(
    bench: Bench, handler: FetchHandler
) -> None:
    replica = await bench.lead(1, 2)
    append(bench, b"a")
    await handler.replica_fetch(request(position()))
    old = request(position(1, last_fetched_epoch=0), broker_epoch=199)
    with pytest.raises(StaleBrokerEpochError):
        await handler.replica_fetch(old)
    # Nor where the leader has lost sight of the next one's session.
    fresh = FetchHandler(bench.manager.find, bench.clock)
    (result,) = (await fresh.replica_fetch(old)).results
    assert isinstance(result.error, StaleBrokerEpochError)
    assert replica.core.log_state.high_watermark == 0


async def test_an_answer_is_bounded_but_every_follower_gets_on(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1, 2)
    await bench.update(partition(tp=OTHER, isr=(1, 2)))
    for tp in (TP, OTHER):
        append(bench, b"x" * 500, tp=tp)
        append(bench, b"y" * 500, tp=tp)
    tight = request(position(), position(0, OTHER), max_bytes=100)
    results = (await handler.replica_fetch(tight)).results
    assert [len(split(r.records)) for r in results] == [1, 0]


async def test_a_position_counts_once_when_its_fetch_arrives(
    bench: Bench, handler: FetchHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await bench.lead(1, 2)
    leader = leader_of(replica.core)
    counted: list[int] = []
    record = leader.record_replica_fetch

    def count(*arguments: object) -> object:
        counted.append(1)
        return record(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(leader, "record_replica_fetch", count)
    fetching = await start(handler, request(position()))
    append(bench, b"a")
    await fetching
    assert counted == [1]


@pytest.mark.parametrize("by", ["consumer", "follower"])
async def test_a_read_that_fails_fences_the_replica(
    bench: Bench, handler: FetchHandler, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    replica = await bench.lead(1)
    append(bench, b"a")

    def fail(*_: object) -> bytes:
        raise KafkaStorageError("Input/output error")

    monkeypatch.setattr(replica.log, "read", fail)
    if by == "consumer":
        error = (await handler.fetch(consume(0)))[0].error
    else:
        error = (await handler.replica_fetch(request(position()))).results[0].error
    assert isinstance(error, KafkaStorageError)
    assert replica.core.role is Role.FAILED
    assert bench.manager.failed == {TP: TOPIC_ID}


# --- consumers -----------------------------------------------------------------------------------


async def test_a_consumer_waits_for_as_many_bytes_as_it_wants(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1)
    fetching = await consume_later(handler, consume(0, min_bytes=200))
    append(bench, b"a")
    await settle()
    assert not fetching.done()
    append(bench, b"b" * 200)
    (result,) = await fetching
    assert len(split(result.records)) == 2


async def test_a_consumer_that_waits_in_vain_gets_an_empty_answer(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1, 2)
    append(bench, b"not committed")
    (result,) = await handler.fetch(consume(0, max_wait_ms=0))
    assert (result.records, result.high_watermark, result.error) == (b"", 0, None)


async def test_a_consumer_is_told_who_leads(bench: Bench, handler: FetchHandler) -> None:
    bench.manager.on_registered(100)
    await bench.update(partition(2, 3))
    (result,) = await handler.fetch(consume(0))
    assert isinstance(result.error, NotLeaderOrFollowerError)
    assert result.leader_hint is not None
    assert (result.leader_hint.leader, result.leader_hint.leader_epoch) == (2, 3)


async def test_a_replica_without_a_state_leads_nothing(bench: Bench) -> None:
    replica = await bench.lead(1)
    replica.core.state = None
    replica.core._leader = None
    (result,) = await FetchHandler(lambda _: replica, bench.clock).fetch(consume(0))
    assert isinstance(result.error, NotLeaderOrFollowerError)
    assert result.leader_hint is None


async def test_a_broker_out_of_touch_gives_what_it_has_but_keeps_nobody_waiting(
    bench: Bench,
) -> None:
    """Others may have elected another leader: a consumer that waited for nothing looks for it."""

    def out_of_touch(leader: Leader, acks: int) -> None:
        raise BrokerNotAvailableError("another broker may lead by now")

    await bench.lead(1)
    handler = FetchHandler(bench.manager.find, bench.clock, out_of_touch)
    append(bench, b"committed")
    (result,) = await handler.fetch(consume(0))
    assert (result.error, bool(result.records)) == (None, True)
    (result,) = await handler.fetch(consume(1, max_wait_ms=0))
    assert isinstance(result.error, BrokerNotAvailableError)


async def test_a_consumer_cannot_make_the_broker_read_more_than_its_limit(
    bench: Bench, handler: FetchHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.lead(1)
    for _ in range(3):
        append(bench, b"x" * 500)
    monkeypatch.setattr(fetch_module, "MAX_FETCH_BYTES", 1_200)
    greedy = FetchRequest(0, 1, 2**31, [FetchPartition(TP, 0, 2**31)] * 2)
    results = await handler.fetch(greedy)
    assert [len(split(result.records)) for result in results] == [2, 1]


async def test_a_fetch_that_is_given_up_leaves_nothing_behind(
    bench: Bench, handler: FetchHandler
) -> None:
    replica = await bench.lead(1)
    fetching = await consume_later(handler, consume(0))
    assert len(replica._consumer_waiters) == 1
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)
    assert not replica._consumer_waiters


# --- what waiting costs --------------------------------------------------------------------------


class Reads:
    """Counts the bytes that are read from the disk of a bench."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        pread = bench.logs.disk.pread

        def counting(fd: int, size_bytes: int, position: int) -> bytes:
            data = pread(fd, size_bytes, position)
            self.sizes.append(len(data))
            return data

        monkeypatch.setattr(bench.logs.disk, "pread", counting)

    @property
    def total_bytes(self) -> int:
        return sum(self.sizes)


async def test_a_consumer_that_waits_for_many_bytes_has_them_read_once(
    bench: Bench, handler: FetchHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.lead(1)
    reads = Reads(bench, monkeypatch)
    wanted = FetchRequest(60_000, 1 << 20, 1 << 21, [FetchPartition(TP, 0, 1 << 21)])
    fetching = await consume_later(handler, wanted)
    while not fetching.done():
        append(bench, b"x" * 1024)
        await settle(4)
    (result,) = await fetching
    assert 1 << 20 <= len(result.records) < (1 << 20) + 1200
    of_lookups = reads.total_bytes - len(result.records)
    assert 0 <= of_lookups <= 50 * 4096, reads.sizes


async def test_a_follower_waits_for_as_many_bytes_as_it_wants_and_has_them_read_once(
    bench: Bench, handler: FetchHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.lead(1, 2)
    reads = Reads(bench, monkeypatch)
    patient = replace(request(position()), min_bytes=2_000)
    fetching = await start(handler, patient)
    for _ in range(10):
        append(bench, b"x" * 100)
        await settle()
        assert (fetching.done(), reads.sizes) == (False, [])
    append(bench, b"x" * 1_000)
    (result,) = (await fetching).results
    assert len(split(result.records)) == 11
    assert reads.total_bytes == len(result.records)


async def test_a_follower_that_waits_for_bytes_is_answered_when_it_is_to_hear_something(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1, 2, 3)
    patient = replace(request(position()), min_bytes=2**31 - 1, max_bytes=2**31 - 1)
    fetching = await start(handler, patient)
    append(bench, b"a")
    await settle()
    assert not fetching.done()
    await bench.update(partition(1, 1, isr=(1, 2), version=1))
    (result,) = (await fetching).results
    assert isinstance(result.error, FencedLeaderEpochError)
    short = replace(patient, max_wait_ms=20, positions=[position(leader_epoch=1)])
    (result,) = (await handler.replica_fetch(short)).results
    assert b"a" in result.records


async def test_a_fetch_of_many_partitions_looks_only_at_those_that_changed(
    bench: Bench,
) -> None:
    await bench.lead(1)
    others = [TopicPartition("many", index) for index in range(600)]
    await bench.update(*(partition(tp=tp, isr=(1,)) for tp in others))
    looked_at: list[TopicPartition] = []

    def find(topic_partition: TopicPartition) -> object:
        looked_at.append(topic_partition)
        return bench.manager.find(topic_partition)

    handler = FetchHandler(find, bench.clock)  # type: ignore[arg-type]
    wanted = FetchRequest(60_000, 400, 10_000, [FetchPartition(tp, 0, 10_000) for tp in others])
    fetching = await consume_later(handler, wanted)
    assert looked_at == others
    looked_at.clear()
    for index in (3, 500, 3):
        append(bench, b"x" * 50, tp=others[index])
        append(bench, b"nobody waits for this")
        await settle()
        assert not fetching.done()
    assert looked_at == [others[index] for index in (3, 500, 3)]
    append(bench, b"x" * 200, tp=others[0])
    results = await fetching
    found = {r.topic_partition.partition: len(split(r.records)) for r in results if r.records}
    assert found == {0: 1, 3: 2, 500: 1}
    assert not any(bench.manager.find(tp)._consumer_waiters for tp in others)


async def test_what_is_appended_while_a_large_fetch_is_looked_at_in_slices_is_not_missed(
    bench: Bench, handler: FetchHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.lead(1)
    await bench.update(partition(tp=OTHER, isr=(1,)))
    monkeypatch.setattr(fetch_module, "_SLICE", 1)
    both = FetchRequest(60_000, 1, 10_000, [FetchPartition(tp, 0, 10_000) for tp in (TP, OTHER)])
    fetching = asyncio.ensure_future(handler.fetch(both))
    await asyncio.sleep(0)  # it has looked at the first, and lets others run
    append(bench, b"in between")
    results = await fetching
    assert [bool(result.records) for result in results] == [True, False]


@pytest.mark.parametrize(
    "limits",
    [
        {"min_bytes": 0},
        {"min_bytes": -1},
        {"min_bytes": -(2**31)},
        {"max_wait_ms": 0},
        {"max_wait_ms": -1},
        {"max_wait_ms": -(2**31)},
        {"max_bytes": 0},
        {"max_bytes": -1},
        {"partitions": []},
    ],
)
async def test_a_fetch_that_wants_nothing_or_has_no_time_is_answered_at_once(
    bench: Bench, handler: FetchHandler, limits: dict[str, object]
) -> None:
    await bench.lead(1)
    results = await handler.fetch(replace(consume(0), **limits))  # type: ignore[arg-type]
    assert [(result.error, result.records) for result in results] == (
        [] if "partitions" in limits else [(None, b"")]
    )


async def test_more_bytes_than_an_answer_may_hold_are_not_waited_for(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1)
    most = 2**31 - 1
    greedy = FetchRequest(most, most, 1_000, [FetchPartition(TP, 0, most)])
    fetching = await consume_later(handler, greedy)
    append(bench, b"x" * 500)
    await settle()
    assert not fetching.done()
    append(bench, b"x" * 500)
    (result,) = await fetching
    assert len(split(result.records)) == 1  # the second would not fit


async def test_a_partition_that_is_named_twice_is_counted_and_answered_twice(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1)
    twice = FetchRequest(60_000, 150, 10_000, [FetchPartition(TP, 0, 10_000)] * 2)
    fetching = await consume_later(handler, twice)
    append(bench, b"x" * 20)
    assert [len(split(result.records)) for result in await fetching] == [1, 1]


async def test_only_what_is_committed_counts_for_a_consumer(
    bench: Bench, handler: FetchHandler
) -> None:
    await bench.lead(1, 2)
    fetching = await consume_later(handler, consume(0, min_bytes=100))
    append(bench, b"x" * 500)
    await settle()
    assert not fetching.done()
    await handler.replica_fetch(request(position(), max_wait_ms=0))
    await handler.replica_fetch(request(position(1, last_fetched_epoch=0), max_wait_ms=0))
    (result,) = await fetching
    assert len(split(result.records)) == 1


async def test_a_count_that_fails_fences_the_replica_and_ends_the_wait(
    bench: Bench, handler: FetchHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await bench.lead(1)
    fetching = await consume_later(handler, consume(0, min_bytes=1_000))

    def fail(*_: object) -> int:
        raise KafkaStorageError("Input/output error")

    monkeypatch.setattr(replica.log, "size_of", fail)
    append(bench, b"a")
    (result,) = await fetching
    assert isinstance(result.error, KafkaStorageError)
    assert replica.core.role is Role.FAILED
