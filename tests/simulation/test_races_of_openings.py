"""Races of what opens a transaction, and of who reads: nos. 18, 33 to 35 and 40 of transactions.md
section 10, each as a scenario of the whole runtime with the coordinators of the product. Its
clients are led by the hand (hand.py)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from minikafka.api.requests import (
    LATEST_TIMESTAMP,
    FetchPartition,
    FetchRequest,
    ListOffsetsPartition,
)
from minikafka.api.transactions import CheckedPartition, CheckPartitionsResult
from minikafka.core.replication.producer_state import ProducerState
from minikafka.errors import (
    ConcurrentTransactionsError,
    InvalidProducerEpochError,
    InvalidTxnStateError,
    MinikafkaError,
    NetworkError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    OffsetNotAvailableError,
    TransactionAbortableError,
)
from tests.simulation.directed import T0, DirectedCluster
from tests.simulation.hand import TV1, TV2, Hand, Sent, begun, coordinator
from tests.simulation.network import Exchange

VERSIONS = pytest.mark.parametrize("version", [TV1, TV2])
OUTCOMES = pytest.mark.parametrize("outcome", ["commit", "abort"])


def producer_at(cluster: DirectedCluster, leader: str, hand: Hand) -> ProducerState | None:
    """What this leader of t-0 knows of it."""
    replica = cluster.player.host(leader).replica(T0)
    assert replica is not None
    return replica.core.log_state.producers.get(hand.producer[0])


def stable(cluster: DirectedCluster, name: str) -> int:
    replica = cluster.player.host(name).replica(T0)
    assert replica is not None
    return replica.core.log_state.last_stable_offset


def sequences(cluster: DirectedCluster, name: str, hand: Hand) -> list[int]:
    """Of its batches in the log of t-0 there, in order; -1 for a marker."""
    log = cluster.world.ledger.log_of(cluster.ledger, cluster.player.host(name).number)
    assert log is not None
    producer_id = hand.producer[0]
    headers = [batch.header for batch in log.batches]
    return [each.base_sequence for each in headers if each.producer_id == producer_id]


# --- 18: what comes after its end ----------------------------------------------------------------


def test_race_18_what_is_late_is_fenced_whatever_its_coordinator_says():
    """One that was deposed, and does not know, believes the transaction to be open."""
    with DirectedCluster("ABC") as cluster:
        hand = begun(cluster, TV2)
        hand.transact()
        late = hand.batch(producer_epoch=hand.producer[1] - 1)
        end = cluster.end_of("A")
        yes = cluster.hold("check_partitions")
        sent = hand.send_batch(late)
        cluster.run(100)
        for question in yes:  # none, since what is fenced is not asked about
            question.answer.set_result(CheckPartitionsResult([CheckedPartition(T0, None)]))
        assert isinstance(hand.answer(sent), InvalidProducerEpochError)
        assert cluster.end_of("A") == end
        cluster.end()


# --- 33: a long silence --------------------------------------------------------------------------

IDLE = {  # what of a day is a second here
    "producer.id.expiration.ms": "1000",
    "log.retention.check.interval.ms": "200",
}


def silent(cluster: DirectedCluster, hand: Hand) -> None:
    """Until nobody knows any more that it ever wrote."""
    cluster.until(lambda: all(producer_at(cluster, name, hand) is None for name in "ABC"))


@VERSIONS
@OUTCOMES
def test_race_33_a_producer_writes_again_after_a_day(version, outcome):
    with DirectedCluster("ABC", settings=IDLE) as cluster:
        hand = begun(cluster, version)
        for _ in range(3):
            assert hand.write() is None
        assert hand.end("commit") is None
        silent(cluster, hand)
        for _ in range(2):
            assert hand.write() is None
        assert hand.end(outcome) is None
        first, then = ([0, 1, 2], [3, 4] if version == TV1 else [0, 1])
        cluster.until(lambda: sequences(cluster, "A", hand) == [*first, -1, *then, -1])
        cluster.do("txn-consume A t-0 0", run_ms=100)
        cluster.end()


@VERSIONS
def test_race_33_after_a_day_the_first_transaction_is_an_empty_one(version):
    """Its marker alone makes the producer known again; what comes next may follow on anything in
    TV1, and begins with 0 in TV2."""
    with DirectedCluster("ABC", settings=IDLE) as cluster:
        hand = begun(cluster, version)
        hand.transact()
        silent(cluster, hand)
        assert hand.settled(hand.send_add) is None
        assert hand.end("commit") is None
        cluster.until(lambda: producer_at(cluster, "A", hand) is not None)
        hand.transact()
        second = 1 if version == TV1 else 0
        cluster.until(lambda: sequences(cluster, "A", hand) == [0, -1, -1, second, -1])
        cluster.end()


@VERSIONS
def test_race_33_who_has_a_transaction_open_is_not_forgotten(version):
    """However silent it is: its marker has to find what is open."""
    with DirectedCluster("ABC", settings=IDLE) as cluster:
        hand = begun(cluster, version)
        assert hand.write() is None
        cluster.run(2_500)
        for name in "ABC":
            known = producer_at(cluster, name, hand)
            assert known is not None
            assert known.open_first_offset == 0
        assert hand.end("commit") is None
        cluster.until(lambda: stable(cluster, "A") == 2)
        cluster.do("txn-consume A t-0 0", run_ms=100)
        cluster.end()


# --- 34: answers ---------------------------------------------------------------------------------


def test_race_34_a_reader_begins_anywhere():
    """As in test_races_of_logs.py, but through the leader's fetches: aborted twice and committed of
    one producer, another one around it, and markers of transactions to which nobody wrote."""
    with DirectedCluster("ABC") as cluster:
        hand = begun(cluster, TV2)
        around, empty = (Hand(cluster, TV2, slot) for slot in (hand.slot + 1, hand.slot + 2))
        for each in (around, empty):
            each.begin()
        assert around.write() is None
        for outcome in ("abort", "abort", "commit"):
            hand.transact(outcome)
        for _ in range(6):
            assert empty.settled(empty.send_add) is None
            assert empty.end("abort") is None
        assert around.end("abort") is None
        around.transact()
        batches, markers = 5, 11
        cluster.until(lambda: stable(cluster, "A") == batches + markers)
        for offset in range(batches + markers):
            cluster.do(f"txn-consume A t-0 {offset}", run_ms=10)
        read = [each for each in cluster.world.coordinated.attempts if each.outcome == "commit"]
        assert len(read) == 2
        cluster.end()


# --- 35: readers and a new leader ----------------------------------------------------------------


def asked(cluster: DirectedCluster, name: str, kind: str, serve) -> Sent:
    world = cluster.world
    number = cluster.player.host(name).number
    exchange = Exchange(world.network, None, number, kind, None, serve, 5_000)
    return world.loop.create_task(exchange.result(), context=world.context)


def end_told(cluster: DirectedCluster, name: str) -> int | MinikafkaError:
    """Where a reader of committed records is told that t-0 ends."""
    wanted = [ListOffsetsPartition(T0, LATEST_TIMESTAMP, read_committed=True)]
    task = asked(cluster, name, "list_offsets", lambda service: service.list_offsets(wanted))
    cluster.until(task.done)
    [result] = task.result()
    return result.error or result.offset


@OUTCOMES
def test_race_35_a_reader_above_the_stable_offset_of_a_new_leader_waits(outcome):
    """And the end that it is told never falls: a new leader does not say until it knows."""
    with DirectedCluster("ABC", controller="C") as cluster:
        hand = begun(cluster, TV2)
        hand.transact()
        cluster.until(lambda: end_told(cluster, "A") == 2)
        cluster.run(600)  # the high watermark is told
        assert hand.write() is None
        told = cluster.hold("replica_fetch", target="A", answers=True)
        assert hand.end(outcome) is None
        cluster.until(lambda: cluster.end_of("B") == 4 or told)
        cluster.pass_all()
        for exchange in told:
            exchange.release_answer()
        cluster.until(lambda: end_told(cluster, "A") == 4)
        for name in "BC":
            cluster.do(f"cut-one-way A {name}")
        cluster.do("kill A")
        fetches = [cluster.hold("replica_fetch", target=name) for name in "BC"]
        cluster.do("heal")
        cluster.until(lambda: cluster.leader == "B" and cluster.leads("B"))
        ends = [end_told(cluster, "B")]
        request = FetchRequest(
            1_000, 1, 10_000, [FetchPartition(T0, 4, 1_000)], read_committed=True
        )
        task = asked(cluster, "B", "fetch", lambda service: service.fetch(request))
        cluster.run(100)
        assert not task.done(), "it waits, though it is above what is known to be stable"
        ends.append(end_told(cluster, "B"))
        cluster.pass_all()
        for held in fetches:
            cluster.break_off(held)
        cluster.until(lambda: not isinstance(end_told(cluster, "B"), OffsetNotAvailableError))
        ends.append(end_told(cluster, "B"))
        known = [each for each in ends if isinstance(each, int)]
        assert all(each >= 4 for each in known), ends
        assert known
        cluster.until(task.done)
        [result] = task.result()
        assert result.error is None
        cluster.do("restart A")
        cluster.do("txn-consume B t-0 0", run_ms=100)
        cluster.end()


# --- 40: five batches wait for a word ------------------------------------------------------------


def five(cluster: DirectedCluster, hand: Hand, *, first_timeout_ms: int = 4_000) -> list[Sent]:
    """Five batches, sent one after the other."""
    sent = []
    for number in range(5):
        timeout_ms = 4_000 if number else first_timeout_ms
        sent.append(hand.send_batch(hand.batch(), timeout_ms=timeout_ms))
        cluster.run(5)
    return sent


def answers(hand: Hand, sent: Sequence[Sent]) -> list[type | None]:
    found = [hand.answer(each) for each in sent]
    return [None if each is None else type(each) for each in found]


def waiting(
    cluster: DirectedCluster, version: int, *, added: bool = True, **options: int
) -> tuple[Hand, list[Exchange], list[Sent]]:
    """Its client, the question under way, and its five batches; none is in the log."""
    hand = begun(cluster, version)
    if added and version == TV1:
        assert hand.settled(hand.send_add) is None
    words = cluster.hold("check_partitions", source="A")
    sent = five(cluster, hand, **options)
    cluster.until(lambda: words)
    assert len(words) == 1, "one question for all"
    assert cluster.end_of("A") == 0
    return hand, words, sent


@VERSIONS
def test_race_40_five_batches_wait_for_a_word_and_follow_in_order(version):
    with DirectedCluster("ABC") as cluster:
        hand, words, sent = waiting(cluster, version)
        cluster.pass_all()
        cluster.release(words)
        assert answers(hand, sent) == [None] * 5
        assert sequences(cluster, "A", hand) == [0, 1, 2, 3, 4]
        assert hand.end("commit") is None
        cluster.run(300)
        cluster.do("txn-consume A t-0 0", run_ms=100)
        cluster.end()


def test_race_40_five_batches_of_no_transaction_are_refused_alike():
    with DirectedCluster("ABC") as cluster:
        hand, words, sent = waiting(cluster, TV1, added=False)
        cluster.pass_all()
        cluster.release(words)
        [refused] = set(answers(hand, sent))
        assert refused in (InvalidTxnStateError, TransactionAbortableError)
        assert cluster.end_of("A") == 0
        cluster.end()


@VERSIONS
def test_race_40_the_question_for_five_batches_is_lost_and_asked_again(version):
    with DirectedCluster("ABC") as cluster:
        hand, words, sent = waiting(cluster, version)
        cluster.pass_all()
        cluster.break_off(words)
        assert answers(hand, sent) == [None] * 5
        assert sequences(cluster, "A", hand) == [0, 1, 2, 3, 4]
        cluster.release(words)
        assert hand.end("commit") is None
        cluster.end()


@VERSIONS
def test_race_40_the_coordinator_of_five_batches_dies(version):
    """The next one is asked; what was added is in its log, and what was not is added there."""
    with DirectedCluster("ABC") as cluster:
        hand, _, sent = waiting(cluster, version)
        name = coordinator(cluster, hand.slot)
        cluster.do(f"kill {name}")
        cluster.do(f"expire-dead {name}", run_ms=50)
        cluster.pass_all()
        cluster.until(lambda: coordinator(cluster, hand.slot) != name)
        assert answers(hand, sent) == [None] * 5
        assert sequences(cluster, "A", hand) == [0, 1, 2, 3, 4]
        cluster.do(f"restart {name}")
        assert hand.end("commit") is None
        cluster.end()


@VERSIONS
def test_race_40_no_word_comes_in_time_for_five_batches(version):
    """The first one gives up, and the others with it: they follow on what is not there."""
    with DirectedCluster("ABC") as cluster:
        hand, words, sent = waiting(cluster, version, first_timeout_ms=500)
        late = NotEnoughReplicasError if version == TV1 else ConcurrentTransactionsError
        assert hand.answer(sent[0]) is not None
        cluster.pass_all()
        cluster.release(words, run_ms=200)
        assert answers(hand, sent) == [late] * 5
        assert cluster.end_of("A") == 0
        cluster.end()


@VERSIONS
def test_race_40_the_leader_of_five_batches_changes(version):
    """None is appended there, whatever its coordinator says later; the next one has all, in order,
    when they are sent again."""
    with DirectedCluster("ABC", controller="C") as cluster:
        hand = begun(cluster, version, "C")
        if version == TV1:
            assert hand.settled(hand.send_add) is None
        words = cluster.hold("check_partitions", source="A")
        batches = [hand.batch() for _ in range(5)]
        sent = []
        for each in batches:
            sent.append(hand.send_batch(each))
            cluster.run(5)
        cluster.until(lambda: words)
        cluster.do("reassign C t-0 BCA", run_ms=200)
        cluster.do("elect C t-0 preferred")
        cluster.until(lambda: cluster.leader == "B" and cluster.leads("B"))
        assert set(answers(hand, sent)) <= {NotLeaderOrFollowerError, NetworkError}
        cluster.pass_all()
        cluster.release(words, run_ms=200)
        assert cluster.end_of("A") == cluster.end_of("B") == 0
        for each in batches:
            assert hand.settled(lambda each=each: hand.send_batch(each)) is None
        assert sequences(cluster, "B", hand) == [0, 1, 2, 3, 4]
        assert hand.end("commit") is None
        cluster.run(300)
        cluster.do("txn-consume B t-0 0", run_ms=100)
        cluster.end()
