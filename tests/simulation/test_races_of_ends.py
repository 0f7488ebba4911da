"""Races of ends of transactions, and of what surrounds them: nos. 25 and 28 to 30 of
transactions.md section 10, each as a scenario of the whole runtime with the coordinators of the
product. Its clients are led by the hand (hand.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import pytest

from minikafka.broker.transactions import shards
from minikafka.core.transactions.settings import TransactionSettings
from minikafka.core.transactions.values import TransactionState
from minikafka.errors import (
    ConcurrentTransactionsError,
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    MinikafkaError,
    ProducerFencedError,
    TransactionAbortableError,
)
from minikafka.model import TopicPartition
from minikafka.records.header import is_control, split
from tests.simulation.coordinated import TIMEOUT_MS
from tests.simulation.directed import T0, DirectedCluster
from tests.simulation.hand import (
    TV1,
    TV2,
    Hand,
    Sent,
    begun,
    coordinator,
    has_coordinator,
    is_quiet,
    state_of,
)

VERSIONS = pytest.mark.parametrize("version", [TV1, TV2])
OUTCOMES = pytest.mark.parametrize("outcome", ["commit", "abort"])
U0 = TopicPartition("u", 0)
LAST = 2  # epoch of a client, where there are few


def dies(cluster: DirectedCluster, hand: Hand) -> str:
    """Its coordinator is killed, and another takes over. Returns who died."""
    name = coordinator(cluster, hand.slot)
    cluster.do(f"kill {name}")
    cluster.do(f"expire-dead {name}", run_ms=50)
    cluster.until(
        lambda: has_coordinator(cluster, hand) and coordinator(cluster, hand.slot) != name
    )
    return name


# --- 25: one end after the other -----------------------------------------------------------------


@VERSIONS
@OUTCOMES
def test_race_25_an_end_while_the_last_one_completes_is_told_to_come_again(version, outcome):
    """Never that it is done, nor that it is fenced."""
    other = {"commit": "abort", "abort": "commit"}[outcome]
    with DirectedCluster("ABC") as cluster:
        hand = begun(cluster, version)
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
        hand = begun(cluster, version)
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
        hand = begun(cluster, version)
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
        hand = begun(cluster, TV2)
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
        hand = begun(cluster, TV2)
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
        hand = begun(cluster, version)
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
        hand = begun(cluster, version)
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
        hand = begun(cluster, TV2)
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
