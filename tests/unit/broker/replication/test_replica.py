"""A replica at run time: flushing before acknowledging, failing disks, what has left the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minikafka.api.requests import ProducePartition, ProduceRequest, ProduceResult
from minikafka.broker.replication.produce import ProduceHandler
from minikafka.broker.replication.produced import RecordChecker
from minikafka.broker.replication.replica import FetchWaiter, Replica
from minikafka.core.replication.effects import (
    HighWatermarkAdvanced,
    ProposeIsr,
    RestartLog,
    Role,
    StoreEpochs,
    TruncateLog,
)
from minikafka.errors import (
    KafkaStorageError,
    NotLeaderOrFollowerError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import IsrProposal
from tests.helpers.brokers import batch_of
from tests.helpers.replicas import TP, Bench, partition, settle
from tests.helpers.waiting import until


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()
    assert not bench.ended, bench.ended


class Fsync:
    """The log's flush, held back until the test lets it go."""

    def __init__(self, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.error: KafkaStorageError | None = None
        self._go = asyncio.Event()
        self._flush = replica.log.flush
        monkeypatch.setattr(replica.log, "flush", self._held)

    async def _held(self) -> int:
        self.calls += 1
        await self._go.wait()
        if self.error is not None:
            raise self.error
        return await self._flush()

    def go(self) -> None:
        self._go.set()


def produce(bench: Bench, acks: int, timeout_ms: int = 20_000) -> asyncio.Future[ProduceResult]:
    handler = ProduceHandler(
        bench.manager.find, lambda leader, acks: None, RecordChecker(lambda: 5_000)
    )
    request = ProduceRequest(acks, timeout_ms, [ProducePartition(TP, batch_of(b"x"))])

    async def first() -> ProduceResult:
        return (await waiting)[0]

    waiting = handler.produce(request)
    return asyncio.ensure_future(first())


FLUSH = {"t": {"flush.before.ack": "true"}}


@pytest.mark.parametrize("acks", [1, -1])
async def test_a_record_counts_only_when_it_is_on_the_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, acks: int
) -> None:
    bench.overrides = FLUSH
    replica = await bench.lead(1)
    fsync = Fsync(replica, monkeypatch)
    waiting = produce(bench, acks)
    await settle()
    assert not waiting.done()
    assert replica.core.log_state.high_watermark == 0
    fsync.go()
    assert (await waiting).error is None
    assert replica.core.log_state.high_watermark == 1


async def test_an_append_at_the_moment_when_a_flush_ends_is_flushed_too(bench: Bench) -> None:
    bench.overrides = FLUSH
    replica = await bench.lead(1)
    first = produce(bench, -1)
    second: list[asyncio.Future[ProduceResult]] = []
    # Called when the first is committed: after the flush, before the end of its task is told.
    committed = replica.park(1)
    committed.add_done_callback(lambda _: second.append(produce(bench, -1)))
    assert (await first).error is None
    await until(lambda: second)
    assert (await asyncio.wait_for(second[0], 10)).error is None


async def test_a_new_leader_flushes_what_it_has_before_it_calls_it_committed(
    bench: Bench,
) -> None:
    bench.overrides = FLUSH
    await bench.lead(1)
    assert (await produce(bench, -1)).error is None
    replica = bench.manager.replicas[TP]
    replica.core.log_state.flushed_offset = (
        0  # as after a restart: the page cache may be all there is
    )
    replica.core.log_state.high_watermark = 0
    await bench.update(partition(2, 1, version=1))
    await bench.update(partition(1, 2, isr=(1,), version=2))
    await until(lambda: replica.core.log_state.high_watermark == 1)


async def test_a_log_that_was_just_opened_counts_as_not_flushed(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    bench.overrides = FLUSH
    await bench.lead(1)
    assert (await produce(bench, 1)).error is None
    await bench.close()
    bench = Bench(tmp_path)
    bench.overrides = FLUSH
    bench.manager.on_registered(100)
    await bench.update(partition(-1, isr=(1,)))
    assert bench.manager.replicas[TP].must_flush
    await bench.close()


@pytest.mark.parametrize("settings", [{"flush_before_ack": True}, {"flush_messages": 1}])
async def test_flush_before_ack_that_is_switched_on_flushes_what_is_there(
    bench: Bench, settings: dict[str, Any]
) -> None:
    """Kafka fsyncs each record before it answers where flush.messages is 1."""
    replica = await bench.lead(1)
    assert (await produce(bench, 1)).error is None
    assert not replica.must_flush
    replica.configure(replace(replica.config, **settings))
    await until(lambda: not replica.must_flush)
    assert replica.core.log_state.flushed_offset == 1


async def test_who_waits_for_the_disk_of_a_leader_that_is_none_any_more_is_told_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.overrides = FLUSH
    replica = await bench.lead(1)
    fsync = Fsync(replica, monkeypatch)
    waiting = produce(bench, 1)
    await settle()
    await bench.update(partition(2, 1, version=1))
    assert isinstance((await waiting).error, NotLeaderOrFollowerError)
    fsync.go()
    await until(lambda: replica._flush is None)


async def test_a_disk_that_is_slow_to_flush_ends_in_a_time_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.overrides = FLUSH
    fsync = Fsync(await bench.lead(1), monkeypatch)
    result = await produce(bench, 1, timeout_ms=1)
    assert isinstance(result.error, RequestTimedOutError)
    fsync.go()
    await until(lambda: not bench.manager.replicas[TP].must_flush)


@pytest.mark.parametrize("acks", [1, -1])
async def test_a_flush_that_fails_fences_the_replica(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, acks: int
) -> None:
    bench.overrides = FLUSH
    replica = await bench.lead(1)
    fsync = Fsync(replica, monkeypatch)
    fsync.error = KafkaStorageError("Input/output error")
    waiting = produce(bench, acks)
    fsync.go()
    assert isinstance((await waiting).error, KafkaStorageError)
    assert replica.core.role is Role.FAILED
    assert bench.manager.something_failed.is_set()


async def test_a_replica_that_left_the_broker_takes_nothing_any_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.overrides = FLUSH
    replica = await bench.lead(1)
    fsync = Fsync(replica, monkeypatch)
    waiting = [produce(bench, 1), produce(bench, -1)]
    await settle()
    late = replica.flush()
    await bench.update(deletions=[(TP, replica.topic_id)])
    for each in waiting:
        assert isinstance((await each).error, UnknownTopicOrPartitionError)
    follows = partition(2, 5, version=9)
    replica.adopt(follows.state, follows.assignment)
    proposal = IsrProposal(TP, replica.topic_id, 0, 0, ((1, 100),))
    replica.on_proposal_answered(proposal, None, follows.state)
    replica.fail_storage(KafkaStorageError("closed"))
    fsync.go()
    await late
    assert replica.core.leader_epoch == 0
    assert not bench.manager.failed
    assert not bench.peers.streams


async def test_epochs_that_cannot_be_stored_fence_the_replica_before_it_serves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.manager.on_registered(100)
    await bench.update(partition(2))
    replica = bench.manager.replicas[TP]

    def fail(_: object) -> None:
        raise KafkaStorageError("Read-only file system")

    monkeypatch.setattr(replica.log, "store_epochs", fail)
    response = await bench.update(partition(1, 1, version=1))
    assert replica.core.role is Role.FAILED
    assert [tp for tp, _ in response.failed] == [TP]
    assert bench.manager.failed == {TP: replica.topic_id}


async def test_waiters_whose_record_is_committed_hear_it_though_a_file_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await bench.lead(1, 2)
    waiting = produce(bench, -1)
    await settle()

    def fail(_: object) -> None:
        raise KafkaStorageError("Read-only file system")

    monkeypatch.setattr(replica.log, "store_epochs", fail)
    await bench.update(partition(1, 1, isr=(1,), version=1))
    assert (await waiting).error is None
    assert replica.core.role is Role.FAILED


@pytest.mark.parametrize(
    ("effect", "method"),
    [
        (TruncateLog(0), "truncate_to"),
        (TruncateLog(0, committed_lost=True), "truncate_to"),
        (RestartLog(7), "restart_at"),
        (StoreEpochs(()), "store_epochs"),
    ],
)
async def test_every_file_effect_that_fails_fences_and_voids_the_rest(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, effect: TruncateLog, method: str
) -> None:
    replica = await bench.lead(1)

    def fail(_: object) -> None:
        raise KafkaStorageError("No space left on device")

    monkeypatch.setattr(replica.log, method, fail)
    proposal = IsrProposal(TP, replica.topic_id, 0, 0, ((1, 100),))
    replica.apply([effect, HighWatermarkAdvanced(99), ProposeIsr(proposal)])
    assert replica.core.role is Role.FAILED
    assert replica.log.recovered().high_watermark == 0
    assert not bench.proposals._waiting
    replica.fail_storage(KafkaStorageError("again"))
    assert bench.manager.failed == {TP: replica.topic_id}


async def test_a_waiter_that_is_cancelled_can_still_be_woken() -> None:
    waiter = FetchWaiter()
    waiting = asyncio.ensure_future(waiter.wait(10))
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    waiter.wake(TP)
    assert waiting.cancelled()
    assert waiter.take_changed() == [TP]
