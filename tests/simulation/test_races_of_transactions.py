"""Races of transactions, each as a scenario of the whole runtime (nos. 18, 19, 22 to 24 and 31).
Their coordinator is played (transactions.py). What needs files or compaction is in tests/unit/log.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.directed import T0, DirectedCluster
from tests.simulation.disk import SEGMENT_BATCHES

ONE_EPOCH, NEW_EPOCHS, FENCED = 0, 1, 2  # slots of producers


def written(cluster: DirectedCluster, leader: str, slot: int) -> None:
    """A batch of its transaction, acknowledged."""
    before = cluster.acknowledged
    cluster.do(f"txn-write {leader} t-0 {slot}")
    cluster.until(lambda: cluster.acknowledged > before)


def ended(cluster: DirectedCluster, slot: int, outcome: str = "commit") -> None:
    cluster.do(f"txn-end {slot} {outcome}")
    cluster.until(lambda: cluster.world.transactions.producers[slot].transaction is None)


def stable(cluster: DirectedCluster, name: str) -> int:
    replica = cluster.player.host(name).replica(T0)
    assert replica is not None
    return replica.core.log_state.last_stable_offset


@pytest.mark.parametrize("slot", [ONE_EPOCH, NEW_EPOCHS])
def test_transactions_follow_one_another(slot):
    with DirectedCluster("ABC") as cluster:
        for outcome in ("commit", "abort", "commit", "commit"):
            for _ in range(2):
                written(cluster, "A", slot)
            cluster.do("txn-consume A t-0 0", run_ms=50)
            ended(cluster, slot, outcome)
            cluster.do("txn-consume A t-0 0", run_ms=50)
        assert stable(cluster, "A") == 12
        cluster.end()


def test_who_reads_committed_records_does_not_see_what_is_open():
    with DirectedCluster("ABC") as cluster:
        cluster.produce("A", run_ms=50)
        written(cluster, "A", NEW_EPOCHS)
        cluster.produce("A", run_ms=50)
        assert stable(cluster, "A") == 1
        cluster.do("txn-consume A t-0 0", run_ms=50)
        cluster.do("txn-consume A t-0 2", run_ms=400)  # above the last stable offset: it waits
        ended(cluster, NEW_EPOCHS, "abort")
        cluster.do("txn-consume A t-0 1", run_ms=50)
        cluster.end()


@pytest.mark.parametrize("slot", [ONE_EPOCH, NEW_EPOCHS, FENCED])
def test_race_18_what_arrives_after_its_transaction_has_ended_opens_nothing(slot):
    with DirectedCluster("ABC") as cluster:
        held = cluster.hold("produce", target="A")
        cluster.do(f"txn-write A t-0 {slot}", run_ms=20)
        assert held
        cluster.pass_all()
        ended(cluster, slot, "abort")
        cluster.release(held, run_ms=200)
        assert stable(cluster, "A") == cluster.end_of("A")
        cluster.end()


@pytest.mark.parametrize("slot", [ONE_EPOCH, FENCED])
def test_race_19_a_word_that_comes_after_the_marker_is_void(slot):
    with DirectedCluster("ABC") as cluster:
        transactions = cluster.world.transactions
        transactions.word_gate = cluster.world.loop.create_future()
        cluster.do(f"txn-write A t-0 {slot}", run_ms=50)
        assert cluster.end_of("A") == 0
        ended(cluster, slot, "abort")
        transactions.word_gate.set_result(None)
        transactions.word_gate = None
        cluster.run(100)
        assert cluster.end_of("A") == 1, "the marker alone"
        cluster.end()


def test_race_22_a_late_marker_does_not_end_the_next_transaction():
    with DirectedCluster("ABC") as cluster:
        written(cluster, "A", NEW_EPOCHS)
        held = cluster.hold("marker", target="A")
        cluster.do(f"txn-end {NEW_EPOCHS} abort", run_ms=50)
        cluster.pass_all()
        cluster.break_off(held, run_ms=300)
        cluster.until(lambda: cluster.world.transactions.producers[NEW_EPOCHS].transaction is None)
        written(cluster, "A", NEW_EPOCHS)
        cluster.release(held, run_ms=100)
        written(cluster, "A", NEW_EPOCHS)
        assert stable(cluster, "A") == 2
        ended(cluster, NEW_EPOCHS)
        cluster.do("txn-consume A t-0 2", run_ms=50)
        cluster.end()


def test_race_22_an_old_coordinator_is_fenced():
    with DirectedCluster("ABC") as cluster:
        written(cluster, "A", NEW_EPOCHS)
        held = cluster.hold("marker", target="A")
        cluster.do(f"txn-end {NEW_EPOCHS} commit", run_ms=50)
        cluster.do("txn-coordinator")
        cluster.pass_all()
        cluster.break_off(held, run_ms=300)
        cluster.until(lambda: cluster.world.transactions.producers[NEW_EPOCHS].transaction is None)
        end = cluster.end_of("A")
        cluster.release(held, run_ms=100)
        assert cluster.end_of("A") == end
        cluster.end()


@pytest.mark.parametrize("outcome", ["commit", "abort"])
def test_race_23_a_leader_dies_between_marker_and_high_watermark(outcome):
    with DirectedCluster("ABC", controller="C") as cluster:
        written(cluster, "A", NEW_EPOCHS)
        cluster.run(600)  # the high watermark is told
        for name in "BC":
            cluster.do(f"cut-one-way {name} A")
        cluster.do(f"txn-end {NEW_EPOCHS} {outcome}", run_ms=50)
        assert cluster.end_of("A") == 2
        assert stable(cluster, "A") == 0
        cluster.do("txn-consume A t-0 0", run_ms=20)
        cluster.do("kill A")
        cluster.do("heal")
        cluster.until(lambda: cluster.leader == "B")
        cluster.until(lambda: cluster.world.transactions.producers[NEW_EPOCHS].transaction is None)
        cluster.do("restart A", run_ms=500)
        cluster.do("txn-consume B t-0 0", run_ms=50)
        cluster.end()


def test_race_24_a_restart_between_the_first_offset_and_the_marker():
    """A snapshot lies above both: it has to say that the marker is not committed yet."""
    with DirectedCluster("AB", controller="C", minimum=2) as cluster:
        written(cluster, "A", NEW_EPOCHS)
        cluster.run(1_500)  # the high watermark is checkpointed
        cluster.do("cut-one-way B A")
        cluster.do(f"txn-end {NEW_EPOCHS} abort", run_ms=20)
        for _ in range(SEGMENT_BATCHES):
            cluster.produce("A", "1", run_ms=2)
        assert cluster.end_of("A") == 2 + SEGMENT_BATCHES
        assert stable(cluster, "A") == 0
        cluster.do("kill B")
        cluster.do("kill A")
        cluster.do("heal")
        cluster.do("expire-dead A")
        cluster.do("expire-dead B", run_ms=200)
        cluster.do("restart A")
        cluster.until(lambda: cluster.leader == "A")
        cluster.until(lambda: cluster.leads("A"))
        assert stable(cluster, "A") == 0
        cluster.do("restart B")
        cluster.end()


@pytest.mark.parametrize("outcome", ["commit", "abort"])
def test_race_31_a_replica_that_begins_inside_a_transaction_leads(outcome):
    with DirectedCluster("ABC", controller="B") as cluster:
        written(cluster, "A", NEW_EPOCHS)
        cluster.produce("A", run_ms=50)
        written(cluster, "A", NEW_EPOCHS)
        cluster.run(600)
        cluster.do("delete-records A t-0 2", run_ms=600)
        cluster.do("replace-disk C")
        cluster.do("expire-dead C", run_ms=300)
        cluster.do("restart C")
        cluster.until(lambda: cluster.isr == "ABC")
        cluster.do("kill A")
        cluster.do("expire-dead A")
        cluster.do("reassign B t-0 CB", run_ms=500)
        cluster.until(lambda: cluster.leader in "BC")
        ended(cluster, NEW_EPOCHS, outcome)
        leader = cluster.leader
        cluster.until(lambda: stable(cluster, leader) == cluster.end_of(leader))
        cluster.do("restart A")
        cluster.end()


def test_words_are_asked_for_again_while_the_coordinator_moves():
    with DirectedCluster("ABC") as cluster:
        asked = []
        transactions = cluster.world.transactions
        word = transactions._word

        def moving(question):
            from minikafka.errors import NotCoordinatorError

            asked.append(question)
            return NotCoordinatorError("moved") if len(asked) < 3 else word(question)

        transactions._word = moving
        written(cluster, "A", NEW_EPOCHS)
        assert len(asked) == 3
        assert len(set(asked)) == 1
        ended(cluster, NEW_EPOCHS)
        cluster.end()


def test_a_transaction_of_a_producer_that_waits_ends_with_the_leader():
    with DirectedCluster("ABC", controller="C") as cluster:
        gate: asyncio.Future[None] = cluster.world.loop.create_future()
        cluster.world.transactions.word_gate = gate
        cluster.do(f"txn-write A t-0 {ONE_EPOCH}", run_ms=50)
        cluster.do("kill A")
        cluster.until(lambda: cluster.leader == "B")
        gate.set_result(None)
        cluster.world.transactions.word_gate = None
        written(cluster, "B", ONE_EPOCH)
        ended(cluster, ONE_EPOCH)
        cluster.do("restart A", run_ms=300)
        cluster.end()
