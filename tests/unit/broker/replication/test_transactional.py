"""Transactions at run time: a leader that waits for words and takes markers, a follower that gets
both, and consumers who want committed records only. Over real logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minikafka.api.requests import FetchPartition, FetchRequest, FetchResult
from minikafka.broker.replication.fetch import FetchHandler
from minikafka.broker.replication.produced import own_batch
from minikafka.broker.replication.replica import Replica
from minikafka.broker.replication.transactional import TransactionalAppend, end_transaction
from minikafka.core.replication.effects import RefuseWaiting, StoreEpochs, TransactionQuestion
from minikafka.core.replication.events import ReplicaFetched
from minikafka.core.replication.transactional import TransactionalProduce, TransactionEnd
from minikafka.errors import (
    CorruptMessageError,
    InvalidProducerEpochError,
    InvalidTxnStateError,
    KafkaStorageError,
    NotCoordinatorError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    OutOfOrderSequenceNumberError,
    TransactionAbortableError,
)
from minikafka.model import EndMarker
from minikafka.records.build import BatchBuilder
from minikafka.records.header import split, stamp
from minikafka.records.markers import build_marker, markers_in
from tests.helpers.core_builders import position
from tests.helpers.replicas import TOPIC_ID, TP, Bench, partition, settle
from tests.helpers.waiting import until

TXN = TransactionalProduce("orders", adds=False)


class Coordinators:
    """Those of the port. The test gives the words; each question is answered once."""

    def __init__(self) -> None:
        self.asked: list[TransactionQuestion] = []
        self.words: list[asyncio.Future[None]] = []

    async def is_in_transaction(self, question: TransactionQuestion) -> None:
        self.asked.append(question)
        self.words.append(asyncio.get_running_loop().create_future())
        await self.words[-1]

    async def answer(self, error: Exception | None = None, number: int = -1) -> None:
        word = self.words[number]
        word.set_result(None) if error is None else word.set_exception(error)
        await settle()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


@pytest.fixture
def coordinators(bench: Bench) -> Coordinators:
    coordinators = Coordinators()
    bench.manager.words.coordinators = coordinators
    return coordinators


def batch(sequence: int = 0, producer_epoch: int = 0, producer_id: int = 7) -> bytes:
    builder = BatchBuilder()
    builder.append(b"k", b"v", timestamp_ms=1000)
    return builder.build(
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=sequence,
        transactional=True,
    )


def produce(replica: Replica, sequence: int = 0, producer_id: int = 7) -> TransactionalAppend:
    waiting = TransactionalAppend(replica, own_batch(batch(sequence, producer_id=producer_id)), TXN)
    waiting.begin()
    return waiting


def end(producer_id: int = 7, *, commits: bool = True, producer_epoch: int = 0) -> TransactionEnd:
    return TransactionEnd(producer_id, producer_epoch, 3, commits, False)


def kinds(replica: Replica) -> list[str]:
    """What lies in its log."""
    data = replica.read(0, 10**6, replica.core.log_state.log_end_offset)
    headers = split(data) if data else []
    said = markers_in([data], headers)
    return [
        f"{header.producer_id}: "
        + (
            ("commit" if said[header.base_offset].commits else "abort")
            if header.base_offset in said
            else str(header.base_sequence)
        )
        for header in headers
    ]


# --- the word ------------------------------------------------------------------------------------


async def test_five_batches_wait_for_one_word_and_are_appended_in_order(
    bench: Bench, coordinators: Coordinators
) -> None:
    replica = await bench.lead(1)
    waiting = [produce(replica, sequence) for sequence in range(5)]
    await settle()
    [question] = coordinators.asked
    assert (question.topic_partition, question.transactional_id) == (TP, "orders")
    assert (question.producer_id, question.producer_epoch, question.adds) == (7, 0, False)
    assert kinds(replica) == []
    await coordinators.answer()
    assert kinds(replica) == [f"7: {sequence}" for sequence in range(5)]
    assert [each.base_offset for each in waiting] == [0, 1, 2, 3, 4]
    assert [await each.done for each in waiting] == [None] * 5
    assert len(coordinators.asked) == 1
    assert await produce(replica, 5).done is None
    assert await produce(replica, 5).done is None, "a repetition"
    assert kinds(replica)[5:] == ["7: 5"]


async def test_all_are_refused_alike(bench: Bench, coordinators: Coordinators) -> None:
    replica = await bench.lead(1)
    waiting = [produce(replica, sequence) for sequence in range(5)]
    await settle()
    no = InvalidProducerEpochError("fenced")
    await coordinators.answer(no)
    assert [await each.done for each in waiting] == [no] * 5
    assert kinds(replica) == []


async def test_a_coordinator_that_moved_is_asked_again(
    bench: Bench, coordinators: Coordinators
) -> None:
    replica = await bench.lead(1)
    waiting = produce(replica)
    await settle()
    await coordinators.answer(NotCoordinatorError("moved"))
    await until(lambda: len(coordinators.asked) == 2)
    await coordinators.answer()
    assert await waiting.done is None


async def test_from_the_first_that_cannot_be_appended_on_none_is(
    bench: Bench, coordinators: Coordinators
) -> None:
    """Or the second would be taken for the first of a producer that is not known."""
    replica = await bench.lead(1)
    first, second = produce(replica), produce(replica, 7)
    await settle()
    bench.overrides = {"t": {"min.insync.replicas": "2"}}
    await bench.manager.reload_configs()
    await coordinators.answer()
    assert isinstance(await first.done, NotEnoughReplicasError)
    assert isinstance(await second.done, NotEnoughReplicasError)
    assert kinds(replica) == []


async def test_one_that_is_out_of_order_stops_those_behind_it(
    bench: Bench, coordinators: Coordinators
) -> None:
    replica = await bench.lead(1)
    waiting = [produce(replica, sequence) for sequence in (0, 2, 3)]
    await settle()
    await coordinators.answer()
    assert await waiting[0].done is None
    assert isinstance(await waiting[1].done, OutOfOrderSequenceNumberError)
    assert isinstance(await waiting[2].done, OutOfOrderSequenceNumberError)


async def test_who_waits_is_given_up_with_all_behind_it(
    bench: Bench, coordinators: Coordinators
) -> None:
    replica = await bench.lead(1)
    first, second = produce(replica), produce(replica, 1)
    await settle()
    late = NotEnoughReplicasError("no word in time")
    first.give_up(late)
    assert (await first.done, await second.done) == (late, late)
    await coordinators.answer()
    assert kinds(replica) == []


async def test_who_waits_is_told_when_another_leads(
    bench: Bench, coordinators: Coordinators
) -> None:
    replica = await bench.lead(1)
    waiting = produce(replica)
    await settle()
    await bench.update(partition(2, 1, version=1), number=3)
    assert isinstance(await waiting.done, NotLeaderOrFollowerError)
    await coordinators.answer()


async def test_a_word_for_a_replica_that_is_gone_is_nobodys(
    bench: Bench, coordinators: Coordinators
) -> None:
    replica = await bench.lead(1)
    waiting = produce(replica)
    await settle()
    replica.stop(NotLeaderOrFollowerError("deleted"))
    assert isinstance(await waiting.done, NotLeaderOrFollowerError)
    await coordinators.answer()


async def test_without_coordinators_nothing_is_in_any_transaction(bench: Bench) -> None:
    replica = await bench.lead(1)
    waiting = produce(replica)
    assert isinstance(await waiting.done, InvalidTxnStateError)


async def test_a_bug_of_the_coordinator_fences_the_replica_that_asked(
    bench: Bench, coordinators: Coordinators
) -> None:
    replica = await bench.lead(1)
    waiting = produce(replica)
    await settle()
    await coordinators.answer(ZeroDivisionError())
    assert isinstance(await waiting.done, KafkaStorageError)
    assert isinstance(bench.ended.pop(), ZeroDivisionError)


async def test_a_bug_in_an_append_refuses_all_that_waited(
    bench: Bench, coordinators: Coordinators, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await bench.lead(1)
    waiting = [produce(replica, sequence) for sequence in range(2)]
    await settle()
    monkeypatch.setattr(waiting[0], "_append", lambda plan: 1 / 0)
    await coordinators.answer()
    for each in waiting:
        assert isinstance(await each.done, KafkaStorageError)
    assert isinstance(bench.ended.pop(), ZeroDivisionError)


async def test_an_answer_that_waits_behind_a_failure_is_given_all_the_same(
    bench: Bench, coordinators: Coordinators, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await bench.lead(1)
    waiting = TransactionalAppend(
        replica, own_batch(batch()), TXN
    )  # nobody but this effect knows of it
    monkeypatch.setattr(replica.log, "store_epochs", lambda entries: 1 / 0)
    no = InvalidProducerEpochError("fenced")
    replica.apply([StoreEpochs(()), RefuseWaiting(waiting, no)])
    assert await waiting.done is no
    assert isinstance(bench.ended.pop(), ZeroDivisionError)


# --- markers -------------------------------------------------------------------------------------


async def test_a_marker_is_confirmed_when_it_is_committed(
    bench: Bench, coordinators: Coordinators
) -> None:
    replica = await bench.lead(1, 2)
    waiting = produce(replica)
    await settle()
    await coordinators.answer()
    confirmed = end_transaction(replica, end(), 5_000)
    assert kinds(replica) == ["7: 0", "7: commit"]
    again = end_transaction(replica, end(), 5_000)
    assert len(kinds(replica)) == 2
    await settle()
    assert not any(each.done() for each in (waiting.done, confirmed, again))
    fetched(replica, 2)
    assert [await each for each in (waiting.done, confirmed, again)] == [None] * 3
    assert replica.core.log_state.last_stable_offset == 2


def fetched(replica: Replica, offset: int) -> None:
    """Broker 2 has all below."""
    at = position(offset, topic_id=TOPIC_ID)
    replica.on_follower_fetched(ReplicaFetched(2, 200, at), 1_000_000)


async def test_a_marker_refuses_what_waits_for_a_word(
    bench: Bench, coordinators: Coordinators
) -> None:
    replica = await bench.lead(1)
    waiting = produce(replica)
    await settle()
    assert await end_transaction(replica, end(commits=False), 5_000) is None
    assert isinstance(await waiting.done, TransactionAbortableError)
    await coordinators.answer()
    assert kinds(replica) == ["7: abort"]


# --- a follower ----------------------------------------------------------------------------------


def transaction_of(base_offset: int) -> tuple[bytes, list]:  # type: ignore[type-arg]
    one, two = batch(), build_marker(7, 0, EndMarker(False, 3), 1000)
    data = stamp(base_offset, len(one), 0) + one[16:]
    data += stamp(base_offset + 1, len(two), 0) + two[16:]
    return data, split(data)


async def test_a_follower_keeps_the_table_and_the_index_too(bench: Bench) -> None:
    await bench.follow()
    replica = bench.manager.find(TP)
    data, headers = transaction_of(0)
    replica.append_as_follower(data, headers, 1, 0)
    state = replica.core.log_state
    assert (state.high_watermark, state.last_stable_offset) == (1, 0)
    assert state.producers == replica.log.load_producers()
    assert list(replica.aborted(0, 10_000, 2)) == [(7, 0)]
    replica.append_as_follower(b"", [], 2, 0)
    assert state.last_stable_offset == 2


async def test_a_marker_that_cannot_be_read_is_not_taken_by_a_follower(bench: Bench) -> None:
    await bench.follow()
    replica = bench.manager.find(TP)
    builder = BatchBuilder()
    builder.append(b"", b"")
    data = builder.build(producer_id=7, producer_epoch=0, transactional=True, control=True)
    data = stamp(0, len(data), 0) + data[16:]
    with pytest.raises(CorruptMessageError, match="does not say what it is"):
        replica.append_as_follower(data, split(data), 0, 0)
    assert replica.core.log_state.log_end_offset == 0
    assert replica.core.failed is None


# --- consumers of committed records --------------------------------------------------------------


def consume(offset: int, max_wait_ms: int = 60_000, *, read_committed: bool = True) -> FetchRequest:
    partitions = [FetchPartition(TP, offset, 10_000)]
    return FetchRequest(max_wait_ms, 1, 10_000, partitions, read_committed=read_committed)


def offsets(result: FetchResult) -> list[int]:
    return [header.base_offset for header in split(result.records)] if result.records else []


async def open_transactions(bench: Bench, coordinators: Coordinators, *ids: int) -> Replica:
    replica = await bench.lead(1)
    for producer_id in ids:
        produce(replica, producer_id=producer_id)
        await settle()
        await coordinators.answer()
    return replica


async def test_committed_records_end_where_a_transaction_is_open(
    bench: Bench, coordinators: Coordinators
) -> None:
    replica = await open_transactions(bench, coordinators, 7, 8)
    handler = FetchHandler(bench.manager.find, bench.clock)
    [both] = await handler.fetch(consume(0, read_committed=False))
    assert (offsets(both), both.last_stable_offset, both.aborted) == ([0, 1], 0, None)
    for offset in (0, 1, 2):
        [none] = await handler.fetch(consume(offset, 0))
        assert (offsets(none), none.high_watermark, none.last_stable_offset) == ([], 2, 0)
        assert (none.error, none.aborted) == (None, ())
    await end_transaction(replica, end(7, commits=False), 5_000)
    [first] = await handler.fetch(consume(0))
    assert (offsets(first), first.last_stable_offset) == ([0], 1)
    assert list(first.aborted or ()) == [(7, 0)]
    await end_transaction(replica, end(8), 5_000)
    [all_] = await handler.fetch(consume(0))
    assert (offsets(all_), all_.last_stable_offset) == ([0, 1, 2, 3], 4)
    [rest] = await handler.fetch(consume(3))
    assert (offsets(rest), list(rest.aborted or ())) == ([3], [])


async def test_who_waits_for_committed_records_is_woken_by_the_marker_only(
    bench: Bench, coordinators: Coordinators
) -> None:
    replica = await open_transactions(bench, coordinators, 7)
    handler = FetchHandler(bench.manager.find, bench.clock)
    fetching = asyncio.ensure_future(handler.fetch(consume(0)))
    await settle()
    produce(replica, 1)
    await settle()
    assert not fetching.done()
    await end_transaction(replica, end(), 5_000)
    [result] = await fetching
    assert offsets(result) == [0, 1, 2]


async def test_as_much_is_waited_for_as_is_stable(bench: Bench, coordinators: Coordinators) -> None:
    await open_transactions(bench, coordinators, 7)
    handler = FetchHandler(bench.manager.find, bench.clock)
    request = consume(0, 60_000)
    request.min_bytes = 100
    fetching = asyncio.ensure_future(handler.fetch(request))
    await settle()
    assert not fetching.done()
    await end_transaction(bench.manager.find(TP), end(), 5_000)
    [result] = await fetching
    assert result.size_bytes >= 100
