"""broker/coordinators/partition.py: what a coordinator writes and reads, over a real replica."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minikafka.broker.coordinators.partition import CoordinatorPartition, Done
from minikafka.broker.replication.produce import ProduceHandler
from minikafka.broker.replication.produced import RecordChecker
from minikafka.broker.replication.replica import Replica
from minikafka.broker.replication.transactional import end_transaction
from minikafka.core.replication.events import ReplicaFetched
from minikafka.core.replication.transactional import TransactionEnd
from minikafka.errors import (
    MinikafkaError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
)
from minikafka.records.build import BatchBuilder
from minikafka.records.header import split, stamp
from tests.helpers.brokers import batch_of
from tests.helpers.core_builders import position
from tests.helpers.replicas import TOPIC_ID, Bench, partition, settle


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    bench.overrides = {"t": {"min.insync.replicas": "2"}}
    yield bench
    await bench.close()


class Written:
    """What has become of what was written, in the order in which it was told."""

    def __init__(self, bench: Bench, replica: Replica) -> None:
        handler = ProduceHandler(bench.manager.find, lambda *_: None, RecordChecker(lambda: 0))
        self.partition = CoordinatorPartition(replica, handler.append)
        self.told: list[tuple[str, MinikafkaError | None]] = []

    def done(self, name: str) -> Done:
        return lambda error: self.told.append((name, error))

    def append(self, name: str) -> None:
        self.partition.append(batch_of(name.encode()), self.done(name))


def fetched(replica: Replica, offset: int) -> None:
    """Broker 2 has all below."""
    at = position(offset, current_epoch=replica.core.leader_epoch, topic_id=TOPIC_ID)
    replica.on_follower_fetched(ReplicaFetched(2, 200, at), 1_000_000)


def adopt(replica: Replica, *isr: int, leader_epoch: int, version: int) -> None:
    told = partition(1, leader_epoch, isr, version)
    replica.adopt(told.state, told.assignment)


async def test_too_few_replicas_delay_what_is_in_the_log_and_refuse_what_is_not(
    bench: Bench,
) -> None:
    replica = await bench.lead(1, 2)
    written = Written(bench, replica)
    written.append("one")
    written.partition.when_committed(1, written.done("also one"))
    written.append("two")
    adopt(replica, 1, leader_epoch=1, version=1)
    await settle()
    assert written.told == []
    written.append("refused")
    assert written.told == [], "never within the call"
    await settle()
    [(name, error)] = written.told
    assert (name, type(error)) == ("refused", NotEnoughReplicasError)
    adopt(replica, 1, 2, leader_epoch=1, version=2)
    await settle()
    assert len(written.told) == 1
    fetched(replica, 2)
    await settle()
    assert written.told[1:] == [("one", None), ("also one", None), ("two", None)]


async def test_what_was_committed_before_the_coordinator_hears_of_the_shrink_is_committed(
    bench: Bench,
) -> None:
    """And nothing that came after it is told before it."""
    replica = await bench.lead(1, 2)
    written = Written(bench, replica)
    written.append("one")
    adopt(replica, 1, leader_epoch=1, version=1)
    adopt(replica, 1, 2, leader_epoch=1, version=2)
    written.append("two")
    fetched(replica, 2)
    assert written.told == []
    await settle()
    assert written.told == [("one", None), ("two", None)]


async def test_the_end_of_the_leadership_is_the_end_of_the_wait(bench: Bench) -> None:
    replica = await bench.lead(1, 2)
    written = Written(bench, replica)
    written.append("one")
    adopt(replica, 1, leader_epoch=1, version=1)
    await settle()
    told = partition(2, 2, (2,), 2)
    replica.adopt(told.state, told.assignment)
    await settle()
    [(name, error)] = written.told
    assert (name, type(error)) == ("one", NotLeaderOrFollowerError)


async def test_a_shrink_that_is_heard_of_after_the_end_waits_for_nothing(bench: Bench) -> None:
    replica = await bench.lead(1, 2)
    written = Written(bench, replica)
    written.append("one")
    adopt(replica, 1, leader_epoch=1, version=1)
    written.partition.end()
    await settle()
    [(name, error)] = written.told
    assert (name, type(error)) == ("one", NotEnoughReplicasAfterAppendError)


# --- reading -------------------------------------------------------------------------------------


class Read:
    """All that is read, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def take(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        self.seen.append((offset, value))

    def stage(
        self, record_offset: int, key: bytes | None, value: bytes | None, producer_id: int
    ) -> None:
        self.seen.append((record_offset, value, producer_id))

    def end(self, marker_offset: int, producer_id: int, *, commits: bool) -> None:
        self.seen.append((marker_offset, producer_id, commits))


def staged(replica: Replica, *values: bytes) -> None:
    """Part of the transaction of producer 7, whatever its coordinator would say."""
    builder = BatchBuilder()
    for value in values:
        builder.append(b"k", value)
    batch = builder.build(producer_id=7, producer_epoch=0, transactional=True)
    [header] = split(batch)
    header = header._replace(base_offset=replica.core.log_state.log_end_offset, leader_epoch=0)
    replica.append_as_leader(
        [stamp(header.base_offset, header.size_bytes, 0), batch[16:]], [header]
    )


async def test_what_transactions_have_written_and_their_ends_are_told_apart_and_in_order(
    bench: Bench,
) -> None:
    bench.overrides = {}
    replica = await bench.lead(1)
    written = Written(bench, replica)
    written.append("plain")
    staged(replica, b"a", b"b")
    written.append("between")
    await end_transaction(replica, TransactionEnd(7, 0, 3, True, False), 5_000)
    staged(replica, b"c")
    await end_transaction(replica, TransactionEnd(7, 0, 3, False, False), 5_000)
    read, plain = Read(), Read()
    assert await written.partition.read(read.take, read)
    assert read.seen == [
        (0, b"plain"),
        (1, b"a", 7),
        (2, b"b", 7),
        (3, b"between"),
        (4, 7, True),
        (5, b"c", 7),
        (6, 7, False),
    ]
    assert await written.partition.read(plain.take)
    assert [offset for offset, _ in plain.seen] == [0, 1, 2, 3, 5], "who has no transactions"
