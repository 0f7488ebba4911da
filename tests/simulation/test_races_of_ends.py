"""Races of ends of transactions, and of what surrounds them: nos. 25, 28 to 30, 41, 42 and 44 of
transactions.md section 10, each as a scenario of the whole runtime with the coordinators of the
product. Its clients are led by the hand (hand.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import pytest

from minikafka.api.transactions import AbortPartition
from minikafka.broker.transactions import shards
from minikafka.broker.transactions.shard import TransactionShard
from minikafka.core.replication.producer_state import ProducerState
from minikafka.core.transactions.settings import TransactionSettings
from minikafka.core.transactions.values import TransactionState
from minikafka.errors import (
    ConcurrentTransactionsError,
    CoordinatorNotAvailableError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    MinikafkaError,
    ProducerFencedError,
    TransactionAbortableError,
)
from minikafka.model import TRANSACTIONS_TOPIC, TopicPartition
from minikafka.records.header import is_control, split
from tests.simulation.coordinated import TIMEOUT_MS
from tests.simulation.directed import T0, DirectedCluster
from tests.simulation.hand import TV1, TV2, Hand, Sent, coordinator, slot_of

VERSIONS = pytest.mark.parametrize("version", [TV1, TV2])
OUTCOMES = pytest.mark.parametrize("outcome", ["commit", "abort"])
U0 = TopicPartition("u", 0)
LAST = 2  # epoch of a client, where there are few


def begun_elsewhere(cluster: DirectedCluster, version: int, where: str = "BC") -> Hand:
    """A client with a producer id and epoch, which one of these brokers coordinates; t-0 is led by
    another, A, so that its markers go over the network."""
    Hand(cluster, version, slot=99).begin()
    cluster.until(lambda: slot_of(cluster, *where) >= 0)
    hand = Hand(cluster, version, slot_of(cluster, *where))
    hand.begin()
    return hand


def shard_of(cluster: DirectedCluster, hand: Hand) -> TransactionShard:
    process = cluster.player.host(coordinator(cluster, hand.slot)).process
    assert process is not None
    assert process.broker is not None
    return process.broker.service.transaction_shards.of_id(hand.client.transactional_id)


def state_of(cluster: DirectedCluster, hand: Hand) -> TransactionState:
    value = shard_of(cluster, hand).coordinator.value(hand.client.transactional_id)
    assert value is not None
    return value.state


def is_quiet(cluster: DirectedCluster, hand: Hand) -> bool:
    """Nothing of it is under way, says who coordinates it, if anybody does."""
    try:
        return shard_of(cluster, hand).serving and state_of(cluster, hand).is_quiet
    except MinikafkaError:
        return False


def producer_at(cluster: DirectedCluster, leader: str, producer_id: int) -> ProducerState | None:
    """What this leader of t-0 knows of a producer."""
    replica = cluster.player.host(leader).replica(T0)
    assert replica is not None
    return replica.core.log_state.producers.get(producer_id)


def dies(cluster: DirectedCluster, hand: Hand) -> str:
    """Its coordinator is killed, and another takes over. Returns who died."""
    name = coordinator(cluster, hand.slot)
    cluster.do(f"kill {name}")
    cluster.do(f"expire-dead {name}", run_ms=50)
    cluster.until(
        lambda: has_coordinator(cluster, hand) and coordinator(cluster, hand.slot) != name
    )
    return name


def has_coordinator(cluster: DirectedCluster, hand: Hand) -> bool:
    """Is there one as far as is known?"""
    try:
        return bool(coordinator(cluster, hand.slot))
    except CoordinatorNotAvailableError:
        return False


# --- 25: one end after the other -----------------------------------------------------------------


@VERSIONS
@OUTCOMES
def test_race_25_an_end_while_the_last_one_completes_is_told_to_come_again(version, outcome):
    """Never that it is done, nor that it is fenced."""
    other = {"commit": "abort", "abort": "commit"}[outcome]
    with DirectedCluster("ABC") as cluster:
        hand = begun_elsewhere(cluster, version)
        assert hand.write() is None
        held = cluster.hold("write_markers")
        first = hand.producer
        assert hand.answer(hand.send_end(outcome)) is None
        hand.decided(outcome)
        cluster.until(lambda: held)
        again = hand.answer(hand.send_end(outcome, known=first))
        assert isinstance(again, ConcurrentTransactionsError)
        otherwise = hand.answer(hand.send_end(other, known=first))
        if version == TV2 and other == "commit":
            assert isinstance(otherwise, TransactionAbortableError)
        else:
            assert isinstance(otherwise, InvalidTxnStateError)
        if version == TV2:
            for next_outcome in ("commit", "abort"):
                ended_next = hand.answer(hand.send_end(next_outcome))
                assert isinstance(ended_next, ConcurrentTransactionsError)
        assert state_of(cluster, hand).is_prepare
        cluster.pass_all()
        cluster.release(held)
        cluster.until(lambda: is_quiet(cluster, hand))
        assert hand.answer(hand.send_end(outcome, known=first)) is None, "a repetition"
        hand.transact()
        cluster.do("txn-consume A t-0 0", run_ms=100)
        cluster.end()


@VERSIONS
def test_race_25_a_transaction_to_which_nobody_wrote_is_committed(version):
    with DirectedCluster("ABC") as cluster:
        hand = begun_elsewhere(cluster, version)
        assert hand.settled(hand.send_add) is None
        assert hand.end("commit") is None
        cluster.until(lambda: is_quiet(cluster, hand))
        assert cluster.end_of("A") == 1, "its marker"
        hand.transact()
        cluster.do("txn-consume A t-0 0", run_ms=100)
        cluster.end()


# --- 28: the last epochs -------------------------------------------------------------------------


@contextmanager
def few_epochs(*, epoch: int, version: int = TV2) -> Iterator[tuple[DirectedCluster, Hand]]:
    """No client holds an epoch above LAST; one that writes has this one."""
    few = partial(TransactionSettings, max_epoch=LAST)
    with patch.object(shards, "TransactionSettings", few), DirectedCluster("ABC") as cluster:
        hand = begun_elsewhere(cluster, version)
        while hand.producer[1] < epoch:
            hand.begin()
        assert hand.write() is None
        yield cluster, hand


def lost(cluster: DirectedCluster, hand: Hand, sent: Sent) -> None:
    """The coordinator has done what it was asked for, and dies before anybody hears of it."""
    cluster.run(150)
    assert not sent.done()
    cluster.pass_all()
    dead = dies(cluster, hand)
    cluster.do(f"restart {dead}", run_ms=200)
    assert isinstance(hand.answer(sent), MinikafkaError)


def after(producer: tuple[int, int]) -> tuple[int, int]:
    """The next epoch; in place of one above the last, -1 for another producer id and 0."""
    producer_id, epoch = producer
    return (producer_id, epoch + 1) if epoch < LAST else (-1, 0)


def assert_follows(hand: Hand, before: tuple[int, int]) -> None:
    producer_id, epoch = after(before)
    if producer_id == before[0]:
        assert hand.producer == (producer_id, epoch)
    else:
        assert hand.producer[0] != before[0]
        assert hand.producer[1] == 0


EPOCHS = pytest.mark.parametrize("epoch", [LAST - 1, LAST])


@EPOCHS
@OUTCOMES
def test_race_28_an_end_at_the_last_epochs_whose_answer_is_lost(epoch, outcome):
    with few_epochs(epoch=epoch) as (cluster, hand):
        before = hand.producer
        cluster.hold("end", answers=True)
        lost(cluster, hand, hand.send_end(outcome))
        assert hand.end(outcome) is None
        assert_follows(hand, before)
        hand.transact()
        hand.transact("abort")
        cluster.end()


@EPOCHS
@VERSIONS
def test_race_28_a_fence_at_the_last_epochs_whose_answer_is_lost(epoch, version):
    with few_epochs(epoch=epoch, version=version) as (cluster, hand):
        before = hand.producer
        successor = Hand(cluster, version, hand.slot, number=1)
        cluster.hold("init", answers=True)
        lost(cluster, hand, successor.send_init())
        successor.begin()
        assert successor.producer > before
        assert successor.producer[1] <= LAST
        successor.transact()
        fenced = hand.answer(hand.send_end("commit"))
        assert isinstance(fenced, ProducerFencedError | InvalidProducerIdMappingError)
        cluster.end()
        assert cluster.world.coordinated.attempts[0].outcome != "commit"


@EPOCHS
def test_race_28_a_timeout_at_the_last_epochs(epoch):
    """Its coordinator dies, the next one aborts; the producer finds out, and goes on."""
    with few_epochs(epoch=epoch) as (cluster, hand):
        before = hand.producer
        dead = dies(cluster, hand)
        cluster.do(f"restart {dead}", run_ms=TIMEOUT_MS)
        cluster.until(lambda: is_quiet(cluster, hand))
        assert isinstance(hand.end("commit"), TransactionAbortableError)
        cluster.hold("end", answers=True)
        lost(cluster, hand, hand.send_end("abort"))
        assert hand.end("abort") is None
        assert_follows(hand, before)
        hand.transact()
        cluster.end()


@EPOCHS
@VERSIONS
def test_race_28_who_goes_on_at_the_last_epochs_and_hears_nothing(epoch, version):
    with few_epochs(epoch=epoch, version=version) as (cluster, hand):
        before = hand.producer
        cluster.hold("init", answers=True)
        lost(cluster, hand, hand.send_init(before))
        assert hand.init(before) is None
        assert hand.producer > before
        assert hand.producer[1] <= LAST
        hand.transact()
        cluster.end()


@EPOCHS
def test_race_28_a_timeout_at_the_last_epochs_of_the_first_version(epoch):
    """An abort tells its producer nothing of the epoch: it gets the next one by an Init."""
    with few_epochs(epoch=epoch, version=TV1) as (cluster, hand):
        before = hand.producer
        dead = dies(cluster, hand)
        cluster.do(f"restart {dead}", run_ms=TIMEOUT_MS)
        cluster.until(lambda: is_quiet(cluster, hand))
        assert isinstance(hand.end("commit"), ProducerFencedError)
        assert hand.end("abort") is None
        assert hand.producer == before
        cluster.hold("init", answers=True)
        lost(cluster, hand, hand.send_init(before))
        assert hand.init(before) is None
        assert_follows(hand, before)
        hand.transact()
        cluster.end()


def test_race_28_producers_of_one_coordinator_get_ids_of_their_own():
    """All need another one in the same moment."""
    with few_epochs(epoch=LAST) as (cluster, hand):
        name = coordinator(cluster, hand.slot)
        slots = [slot for slot in range(30) if coordinator(cluster, slot) == name][1:4]
        others = [Hand(cluster, TV2, slot) for slot in slots]
        sent = [(each, each.send_init()) for each in others]
        sent.append((hand, hand.send_end("commit")))
        for each, init in sent:
            if each.answer(init) is not None:
                each.begin()
        assert len({each.producer[0] for each in others}) == len(others)
        cluster.end()


# --- 29: an answer to Init -----------------------------------------------------------------------


@pytest.mark.parametrize("where", ["here", "at the next coordinator"])
def test_race_29_an_init_whose_answer_is_lost_is_repeated(where):
    """Who goes on is told the same again; who is new gets the next epoch."""
    with DirectedCluster("ABC") as cluster:
        hand = begun_elsewhere(cluster, TV2)
        first = hand.producer
        for known in (first, (-1, -1)):
            held = cluster.hold("init", answers=True)
            sent = hand.send_init(known)
            cluster.until(lambda held=held: held)
            if where == "here":
                cluster.run(150)
                assert not sent.done()
                cluster.pass_all()
                cluster.break_off(held)
                assert isinstance(hand.answer(sent), MinikafkaError)
            else:
                lost(cluster, hand, sent)
            assert hand.init(known) is None
            hand.transact()
            assert hand.producer[0] == first[0]
        assert hand.producer == (first[0], first[1] + 1 + 1 + 2 + 1), "Inits and ends, each once"
        cluster.end()


def test_race_29_an_init_that_another_one_overtook_is_no_repetition():
    with DirectedCluster("ABC") as cluster:
        hand = begun_elsewhere(cluster, TV2)
        before = hand.producer
        held = cluster.hold("init", answers=True)
        sent = hand.send_init(before)
        cluster.run(150)
        cluster.pass_all()
        cluster.break_off(held)
        assert isinstance(hand.answer(sent), MinikafkaError)
        successor = Hand(cluster, TV2, hand.slot, number=1)
        successor.begin()
        producer_id, epoch = before
        for known in (epoch, epoch + 1):  # what it had, and what it would have heard
            assert isinstance(hand.init((producer_id, known)), ProducerFencedError)
        successor.transact()
        cluster.end()


# --- 30: topics that go --------------------------------------------------------------------------


def is_deleted(cluster: DirectedCluster, topic: str) -> bool:
    known = cluster.world.zookeeper.tree.node(f"/brokers/topics/{topic}") is None
    return known and not cluster.world.is_marked_deleted(topic)


def deleted(cluster: DirectedCluster, topic: str) -> None:
    cluster.do(f"delete A {topic}")
    cluster.until(lambda: is_deleted(cluster, topic))


@VERSIONS
@OUTCOMES
@pytest.mark.parametrize("when", ["Ongoing", "Prepare"])
@pytest.mark.parametrize("anew", [False, True])
def test_race_30_a_topic_of_a_transaction_is_deleted(version, outcome, when, anew):
    """The transaction ends at what is left; what is made anew has none of it."""
    with DirectedCluster("ABC") as cluster:
        cluster.do("create A u ABC", run_ms=200)
        hand = begun_elsewhere(cluster, version)
        assert hand.write() is None
        assert hand.write(U0) is None
        held = cluster.hold("write_markers")
        if when == "Prepare":
            assert hand.end(outcome) is None
            cluster.until(lambda: held)
            assert state_of(cluster, hand).is_prepare
        deleted(cluster, "u")
        if anew:
            cluster.do("create A u ABC", run_ms=300)
        if when == "Ongoing":
            assert hand.end(outcome) is None
        cluster.pass_all()
        cluster.break_off(held)
        cluster.until(lambda: is_quiet(cluster, hand))
        if anew:
            replica = cluster.player.host("A").replica(U0)
            assert replica is not None
            end = replica.core.log_state.log_end_offset
            data = replica.read(0, 10_000, end)
            assert all(is_control(header) for header in (split(data) if data else ()))
            assert replica.core.log_state.last_stable_offset == end
        cluster.do("txn-consume A t-0 0", run_ms=100)
        hand.transact()
        cluster.end()


@VERSIONS
def test_race_30_the_next_coordinator_ends_what_is_left_of_a_decision(version):
    """The topic goes while nobody coordinates: who takes over has it in a Prepare, and knows from
    the controller that it is no more."""
    with DirectedCluster("ABC") as cluster:
        cluster.do("create A u ABC", run_ms=200)
        hand = begun_elsewhere(cluster, version)
        assert hand.write() is None
        assert hand.write(U0) is None
        held = cluster.hold("write_markers")
        assert hand.end("commit") is None
        cluster.until(lambda: held)
        dead = coordinator(cluster, hand.slot)
        cluster.do(f"pause {dead}")
        cluster.do("delete A u")
        cluster.until(lambda: cluster.world.is_marked_deleted("u") or is_deleted(cluster, "u"))
        cluster.do(f"kill {dead}")
        cluster.do(f"expire-dead {dead}", run_ms=50)
        cluster.pass_all()
        cluster.until(lambda: has_coordinator(cluster, hand))
        cluster.do(f"restart {dead}")
        cluster.until(lambda: is_deleted(cluster, "u") and is_quiet(cluster, hand))
        assert state_of(cluster, hand) is TransactionState.COMPLETE_COMMIT
        cluster.do("txn-consume A t-0 0", run_ms=100)
        cluster.end()


def test_race_30_a_coordinator_that_has_just_started_takes_no_topic_for_deleted():
    """It reads its records before a controller has told it which topics there are."""
    with DirectedCluster("ABC", controller="A") as cluster:
        hand = begun_elsewhere(cluster, TV2)
        assert hand.write() is None
        held = cluster.hold("write_markers")
        assert hand.end("commit") is None
        cluster.until(lambda: held)
        for name in "ABC":
            cluster.do(f"kill {name}")
        cluster.pass_all()
        forgetful = cluster.hold(
            "update_state", where=lambda exchange: _tells_of_t(exchange.request)
        )
        for name in "ABC":
            cluster.do(f"restart {name}", run_ms=100)
        cluster.run(2_000)
        cluster.pass_all()
        cluster.break_off(forgetful)
        cluster.until(lambda: cluster.leader != "none" and has_coordinator(cluster, hand))
        cluster.until(lambda: is_quiet(cluster, hand))
        cluster.do(f"txn-consume {cluster.leader} t-0 0", run_ms=100)
        cluster.end()


def _tells_of_t(request):
    return request.full or any(each.topic_partition == T0 for each in request.partitions)


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
            cluster.world.coordinated._find_coordinator(hand.client),
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
        hand = begun_elsewhere(cluster, TV2, "B")
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
        hand = begun_elsewhere(cluster, version, "B")
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
def ending(version: int) -> Iterator[tuple[DirectedCluster, Hand, tuple[int, int], list]]:
    """An abort is decided; its markers are on their way to A. Gives the producer that wrote, and
    the messages."""
    with DirectedCluster("ABC") as cluster:
        hand = begun_elsewhere(cluster, version)
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
