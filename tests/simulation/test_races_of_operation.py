"""Races of transactions with those who run a cluster: another version of the protocol, too few
replicas for a coordinator, an administrator. Nos. 41, 42 and 44 of transactions.md section 10, each
as a scenario of the whole runtime with the coordinators of the product. Its clients are led by the
hand (hand.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from minikafka.api.groups import COORDINATES_TRANSACTIONS
from minikafka.api.transactions import AbortPartition
from minikafka.core.replication.producer_state import ProducerState
from minikafka.core.transactions.values import TransactionState
from minikafka.errors import (
    CoordinatorNotAvailableError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    MinikafkaError,
    TransactionAbortableError,
)
from minikafka.model import TRANSACTIONS_TOPIC
from tests.simulation.directed import T0, DirectedCluster
from tests.simulation.hand import TV1, TV2, Hand, begun, coordinator, is_quiet, shard_of, state_of
from tests.simulation.network import Exchange

VERSIONS = pytest.mark.parametrize("version", [TV1, TV2])
OUTCOMES = pytest.mark.parametrize("outcome", ["commit", "abort"])


def producer_at(cluster: DirectedCluster, leader: str, producer_id: int) -> ProducerState | None:
    """What this leader of t-0 knows of a producer."""
    replica = cluster.player.host(leader).replica(T0)
    assert replica is not None
    return replica.core.log_state.producers.get(producer_id)


# --- 41: the version of the protocol changes -----------------------------------------------------


def level_of(cluster: DirectedCluster, name: str) -> int:
    """Of transaction.version, as this broker tells its clients; 0: nothing is finalized."""
    process = cluster.player.host(name).process
    if process is None or process.broker is None or process.broker.service.features is None:
        return 0
    [feature] = process.broker.service.features.features
    return feature.finalized_level


def of_level(cluster: DirectedCluster, name: str, level: int) -> None:
    cluster.player.host(name).transaction_level = level


def test_race_41_there_are_no_transactions_before_all_brokers_know_of_them():
    cluster = DirectedCluster("ABC", controller="C")
    of_level(cluster, "C", 0)
    with cluster:
        hand = Hand(cluster, TV1)
        found = cluster.world.loop.create_task(
            cluster.world.coordinated.find(hand.client.transactional_id, COORDINATES_TRANSACTIONS),
            context=cluster.world.context,
        )
        cluster.until(found.done)
        assert isinstance(found.exception(), CoordinatorNotAvailableError)
        assert TRANSACTIONS_TOPIC not in cluster.world.topics
        cluster.do("kill C")
        of_level(cluster, "C", 2)
        cluster.do("restart C")
        cluster.until(lambda: [level_of(cluster, name) for name in "ABC"] == [2, 2, 2])
        hand.begin()
        hand.transact()
        cluster.end()


@OUTCOMES
def test_race_41_the_feature_appears_under_a_transaction_of_the_first_version(outcome):
    """It ends by an EndTxn of the second: its client learnt of it meanwhile."""
    cluster = DirectedCluster("ABC", controller="C")
    of_level(cluster, "C", 1)
    with cluster:
        cluster.until(lambda: [level_of(cluster, name) for name in "ABC"] == [1, 1, 1])
        hand = Hand(cluster, TV1)
        hand.begin()
        hand.transact()
        before = hand.producer
        assert hand.write() is None
        cluster.do("kill C")
        of_level(cluster, "C", 2)
        cluster.do("restart C")
        cluster.until(lambda: [level_of(cluster, name) for name in "ABC"] == [2, 2, 2])
        late = hand.batch()
        assert hand.end(outcome, version=TV2) is None
        assert hand.producer == (before[0], before[1] + 1)
        hand.client.version = TV2
        fenced = hand.settled(lambda: hand.send_batch(late))
        assert isinstance(fenced, InvalidProducerEpochError | TransactionAbortableError)
        hand.transact()
        hand.transact("abort")
        cluster.do(f"txn-consume {cluster.leader} t-0 0", run_ms=100)
        cluster.end()


# --- 42: the coordinator's own partition ---------------------------------------------------------


def test_race_42_the_epoch_of_a_coordinators_partition_moves_amid_its_markers():
    """Its leader stays, so nothing is read anew; who waits for an end is told that it is done."""
    with DirectedCluster("AB", controller="B") as cluster:
        hand = begun(cluster, TV2, "B")
        shard = shard_of(cluster, hand)
        epoch = shard.partition.leader_epoch
        assert hand.write() is None
        held = cluster.hold("replica_fetch", target="B")
        cluster.run(600)
        sent = hand.send_end("commit")
        cluster.run(20)
        assert not sent.done(), "it is in the log, and not committed"
        cluster.do("kill C")
        cluster.do("expire-dead C")
        cluster.until(lambda: shard.partition.leader_epoch > epoch)
        cluster.pass_all()
        cluster.break_off(held)
        assert hand.answer(sent) is None
        hand.decided("commit")
        assert shard_of(cluster, hand) is shard
        cluster.until(lambda: is_quiet(cluster, hand))
        hand.transact()
        cluster.do("restart C")
        cluster.do("txn-consume A t-0 0", run_ms=100)
        cluster.end()


@VERSIONS
def test_race_42_too_few_replicas_for_a_minute_delay_what_was_decided(version):
    """What is open waits for its abort as well, though its time is over."""
    with DirectedCluster("ABC", controller="B") as cluster:
        hand = begun(cluster, version, "B")
        assert hand.write() is None
        other = next(s for s in range(30) if s > hand.slot and coordinator(cluster, s) == "B")
        idle = Hand(cluster, version, other)
        idle.begin()
        assert idle.write() is None
        shard = shard_of(cluster, hand)
        held = cluster.hold("write_markers")
        assert hand.end("commit") is None
        cluster.until(lambda: held)
        for name in "AC":
            cluster.do(f"kill {name}")
            cluster.do(f"expire-dead {name}")
        cluster.until(lambda: cluster.leads("B"))
        cluster.pass_all()
        cluster.run(60_000)
        assert shard_of(cluster, hand) is shard
        assert state_of(cluster, hand) is TransactionState.PREPARE_COMMIT
        assert state_of(cluster, idle) is TransactionState.ONGOING
        assert isinstance(idle.answer(idle.send_end("commit")), CoordinatorNotAvailableError)
        for name in "AC":
            cluster.do(f"restart {name}")
        cluster.until(lambda: is_quiet(cluster, hand) and is_quiet(cluster, idle))
        assert state_of(cluster, hand) is TransactionState.COMPLETE_COMMIT
        assert state_of(cluster, idle) is TransactionState.COMPLETE_ABORT
        cluster.do("txn-consume B t-0 0", run_ms=100)
        cluster.end()


# --- 44: an administrator ------------------------------------------------------------------------


def aborted_by_hand(cluster: DirectedCluster, producer: tuple[int, int]) -> MinikafkaError | None:
    """The answer of A to an administrator's abort at t-0; A does not wait for what it asks of
    others."""
    process = cluster.player.host("A").process
    assert process is not None
    assert process.broker is not None
    wanted = [AbortPartition(T0, *producer, -1)]
    service = process.broker.service
    work = service.transactions.abort_partitions(wanted)
    task = cluster.world.loop.create_task(work, context=process.context)
    cluster.until(task.done)
    [error] = task.result()
    return error


@contextmanager
def ending(version: int) -> Iterator[tuple[DirectedCluster, Hand, tuple[int, int], list[Exchange]]]:
    """An abort is decided; its markers are on their way to A. Gives the producer that wrote, and
    the messages."""
    with DirectedCluster("ABC") as cluster:
        hand = begun(cluster, version)
        assert hand.write() is None
        producer = hand.producer
        held = cluster.hold("write_markers", target="A")
        assert hand.end("abort") is None
        cluster.until(lambda: held)
        cluster.pass_all()
        yield cluster, hand, producer, held
        cluster.do("txn-consume A t-0 0", run_ms=100)
        cluster.end()


@VERSIONS
def test_race_44_an_administrator_aborts_before_the_markers_come(version):
    with ending(version) as (cluster, hand, producer, held):
        assert aborted_by_hand(cluster, producer) is None
        assert cluster.end_of("A") == 2
        cluster.release(held)
        cluster.until(lambda: is_quiet(cluster, hand))
        assert cluster.end_of("A") == (2 if version == TV1 else 3), "another epoch is news"
        hand.transact()


@VERSIONS
def test_race_44_an_administrator_aborts_what_has_ended(version):
    """The next produce waits for its word meanwhile, and is not touched."""
    with ending(version) as (cluster, hand, producer, held):
        cluster.release(held)
        cluster.until(lambda: is_quiet(cluster, hand))
        if version == TV1:
            assert hand.settled(hand.send_add) is None
        words = cluster.hold("check_partitions")
        sent = hand.send_batch(hand.batch())
        cluster.until(lambda: words)
        end = cluster.end_of("A")
        error = aborted_by_hand(cluster, producer)
        assert isinstance(error, InvalidProducerIdMappingError)
        assert cluster.end_of("A") == end
        cluster.pass_all()
        cluster.release(words)
        assert hand.answer(sent) is None
        assert hand.end("commit") is None


def test_race_44_an_administrator_comes_too_late_for_the_next_transaction():
    """In TV2 that has another epoch. (In TV1 nothing tells them apart.)"""
    with ending(TV2) as (cluster, hand, producer, held):
        cluster.release(held)
        assert hand.write() is None
        error = aborted_by_hand(cluster, producer)
        assert isinstance(error, InvalidProducerEpochError)
        assert hand.write() is None
        assert hand.end("commit") is None


@VERSIONS
def test_race_44_an_administrator_goes_past_the_epoch_that_is_ending(version):
    """The partition wants no markers any more: the transaction is over all the same."""
    with ending(version) as (cluster, hand, producer, held):
        producer_id, epoch = producer
        assert aborted_by_hand(cluster, (producer_id, epoch + 3)) is None
        end = cluster.end_of("A")
        cluster.release(held)
        cluster.until(lambda: is_quiet(cluster, hand))
        assert cluster.end_of("A") == end
        known = producer_at(cluster, "A", producer_id)
        assert known is not None
        assert (known.producer_epoch, known.is_open) == (epoch + 3, False)
        while hand.producer[1] < epoch + 3:
            assert isinstance(hand.write(), InvalidProducerEpochError)
            hand.begin()
        hand.transact()
