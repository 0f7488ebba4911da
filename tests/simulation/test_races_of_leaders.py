"""Races of leaders and their logs (replication.md section 8, nos. 1, 3, 5, 6 and 15), each as a
scenario of the whole runtime: real brokers, real ZooKeeper session, simulated network, disks, time.

tests/scenarios plays the same races over the core alone, step by step; here the paths of messages
and sessions are in them. The others are in test_races_of_messages.py and
test_races_of_controllers.py. The steps of a reassignment (13) are in
test_races_of_reassignments.py. Not there: transactions (16), which come later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations

import pytest

from tests.simulation.directed import T0, DirectedCluster, a_term_that_a_missed
from tests.simulation.disk import SEGMENT_BATCHES
from tests.simulation.network import Exchange

SESSION_MS = 1_500


@pytest.mark.parametrize("acks", ["1", "all"])
def test_race_1_a_zombie_leader_that_is_cut_off_cannot_commit(acks):
    with DirectedCluster("ABC", controller="C") as cluster:
        cluster.produce("A", run_ms=20)
        cluster.do("isolate A")
        cluster.produce("A", acks, run_ms=5)
        cluster.until(lambda: cluster.leader == "B")
        cluster.produce("A", acks, run_ms=5)
        cluster.produce("B", run_ms=20)
        assert cluster.acknowledged == 2
        cluster.do("heal", run_ms=3_000)
        assert cluster.said("A cuts t-0")
        cluster.end()


def test_race_1_a_zombie_that_is_in_sync_alone_keeps_what_it_commits():
    with DirectedCluster("AB", controller="C") as cluster:
        cluster.do("kill B", run_ms=3_000)
        assert cluster.isr == "A"
        cluster.do("cut A Z", run_ms=SESSION_MS - 700)
        cluster.produce("A", run_ms=20)
        assert cluster.acknowledged == 1
        cluster.run(2_000)
        assert (cluster.leader, cluster.isr) == ("none", "A")
        cluster.do("restart B", run_ms=500)
        cluster.do("heal")
        cluster.end()


def test_nobody_waits_for_a_follower_whose_disk_is_full():
    """It was caught up, and it lives: the leader waited for it as for one that is about to join."""
    with DirectedCluster("ABC", controller="A") as cluster:
        cluster.produce("A", run_ms=20)
        cluster.do("fill C")
        cluster.produce("A", run_ms=50)
        assert cluster.isr == "AB"
        assert cluster.acknowledged == 2
        cluster.produce("A", run_ms=20)
        assert cluster.acknowledged == 3
        cluster.end()


def test_records_that_all_have_are_taken_while_nobody_reaches_zookeeper():
    with DirectedCluster("ABC", minimum=2, controller="C") as cluster:
        cluster.produce("A", run_ms=20)
        for name in "ABC":
            cluster.do(f"cut {name} Z")
        cluster.run(3 * SESSION_MS)  # in ZooKeeper all sessions are over by now
        for _ in range(3):
            cluster.produce("A", run_ms=50)
        assert cluster.acknowledged == 4
        cluster.produce("A", "1", run_ms=50)
        assert cluster.end_of("A") == 4
        cluster.do("heal", run_ms=3_000)
        cluster.end()


@pytest.mark.parametrize("first", ["B", "C"])
def test_what_was_taken_without_zookeeper_survives_whoever_comes_back_first(first):
    with DirectedCluster("ABC", minimum=1, controller="C") as cluster:
        cluster.produce("A", run_ms=20)
        for name in "ABC":
            cluster.do(f"cut {name} Z")
        cluster.run(3 * SESSION_MS)
        cluster.produce("A", run_ms=50)
        assert cluster.acknowledged == 2
        cluster.do(f"heal {first} Z")
        cluster.until(lambda: cluster.leader == first)
        cluster.produce("A", run_ms=5)  # A has not heard of it
        cluster.produce(first, run_ms=50)
        cluster.run(2_500)
        before = cluster.end_of("A")
        cluster.produce("A", run_ms=50)  # by now it knows that it may not
        assert cluster.end_of("A") == before
        cluster.do("heal", run_ms=3_000)
        cluster.end()


@pytest.mark.parametrize(
    ("minimum", "answer"), [(2, "at 1"), (3, "NOT_ENOUGH_REPLICAS_AFTER_APPEND")]
)
@pytest.mark.parametrize("how", ["death", "lag"])
def test_race_3_a_shrink_while_a_produce_request_waits(minimum, answer, how):
    settings = {"replica.lag.time.max.ms": "600"}
    with DirectedCluster("ABC", minimum=minimum, controller="B", settings=settings) as cluster:
        cluster.produce("A", run_ms=50)
        cluster.do("kill C" if how == "death" else "cut A C")
        cluster.produce("A", run_ms=10)
        cluster.until(lambda: cluster.isr == "AB")
        cluster.run(500)
        [told] = [line for line in cluster.world.lines if "A t-0 acks=all" in line][1:]
        assert told.endswith(f": {answer}")
        cluster.end()


def test_race_5_epochs_of_one_record_on_alternating_leaders():
    with DirectedCluster("AB", controller="C") as cluster:
        for _ in range(3):
            for one, other in (("A", "B"), ("B", "A")):
                cluster.produce(cluster.leader, "1", run_ms=1)
                cluster.do(f"kill {one}", run_ms=2_500)
                cluster.produce(other, "1", run_ms=1)
                cluster.do(f"restart {one}")
                cluster.run(2_500)
        cluster.end()


def test_race_5_a_log_is_cut_at_the_largest_epoch_that_both_know():
    """KIP-279. B ends with an epoch that A missed, A with one that B does not know."""
    with a_term_that_a_missed(before=1) as (cluster, _):
        cluster.pass_all()
        cluster.do("heal")
        cluster.do("restart B", run_ms=2_000)
        cluster.end()


def test_race_5_a_log_is_not_cut_to_its_own_high_watermark():
    """KIP-101. B has a record too many, and has not heard that the one before it is committed."""
    with DirectedCluster("ACB", brokers=4, controller="D") as cluster:
        asked = cluster.hold("replica_fetch", source="B", target="A")
        cluster.run(600)
        cluster.hold("replica_fetch", source="C", answers=True, where=_is_at(1))
        cluster.produce("A", "1", run_ms=10)
        cluster.produce("A", "1", run_ms=10)
        cluster.pass_all()
        cluster.release(asked)
        assert cluster.ledger.committed_end == 1
        assert [cluster.end_of(name) for name in "ACB"] == [2, 1, 2]
        cluster.do("kill A")
        cluster.do("expire-dead A", run_ms=100)
        assert cluster.leader == "C"
        assert cluster.said("B cuts t-0 from 2 to 1")
        cluster.end()


def _is_at(offset: int) -> Callable[[Exchange], bool]:
    """A fetch from this offset."""
    return lambda exchange: exchange.request.positions[0].fetch_offset == offset


def test_race_5_an_acknowledgement_never_refers_to_a_record_that_took_its_place():
    """KAFKA-1148. A waits for B with a record; B leads without it; A cuts it, gets another one in
    its place, and leads again: who waited must not be told that all is well."""
    with _a_record_that_is_replaced("A") as cluster:
        cluster.do("kill B")
        cluster.do("expire-dead B", run_ms=300)
        assert cluster.leader == "A"
        assert cluster.acknowledged == 0
        cluster.end()


def test_race_5_a_producer_sends_again_what_was_cut():
    """KAFKA-12153: A must not take it for the repetition of what it has no more."""
    with _a_record_that_is_replaced("A", "producer 0") as cluster:
        cluster.do("kill B")
        cluster.do("expire-dead B", run_ms=300)
        cluster.produce("A", more="producer 0", run_ms=100)
        assert cluster.acknowledged == 1
        cluster.end()


@contextmanager
def _a_record_that_is_replaced(leader: str, producer: str = "") -> Iterator[DirectedCluster]:
    """A record of A's that B has not got; B leads; at the same offset A has a record of B's now."""
    with DirectedCluster(
        "BA", controller="C", settings={"replica.lag.time.max.ms": "20000"}
    ) as cluster:
        cluster.do("kill B")
        cluster.do("expire-dead B")
        cluster.until(lambda: cluster.leader == leader)
        cluster.do("restart B")
        cluster.until(lambda: cluster.isr == "AB")
        cluster.hold("replica_fetch", source="B", target="A")
        cluster.run(600)
        cluster.produce("A", more=producer, run_ms=20)
        assert (cluster.end_of("A"), cluster.end_of("B")) == (1, 0)
        cluster.do("elect C t-0 preferred", run_ms=20)
        assert cluster.leader == "B"
        cluster.produce("B", "1", run_ms=300)
        cluster.pass_all()
        yield cluster


def test_race_6_a_new_leader_does_not_know_yet_where_the_end_is():
    """KIP-207: a consumer was told 1, and must not be told 0."""
    with DirectedCluster("ABC", controller="C") as cluster:
        cluster.produce("A", run_ms=10)
        cluster.do("latest A t-0", run_ms=10)
        cluster.do("kill A")
        cluster.do("expire-dead A")
        cluster.hold("replica_fetch", source="C", target="B")
        cluster.until(lambda: cluster.leads("B"))
        cluster.do("latest B t-0", run_ms=10)
        cluster.pass_all()
        cluster.run(3_000)
        cluster.do("latest B t-0", run_ms=10)
        assert cluster.ledger.shown == {0: 1, 1: 1}
        cluster.end()


def test_race_6_who_has_not_what_the_new_leader_began_with_does_not_join():
    """KAFKA-7128: its high watermark is behind what was acknowledged; who is as far as that is not
    in sync."""
    settings = {"replica.lag.time.max.ms": "20000"}
    with DirectedCluster("ABCD", brokers=5, controller="E", settings=settings) as cluster:
        cluster.do("kill D")
        cluster.until(lambda: cluster.isr == "ABC")
        cluster.hold("replica_fetch", source="D", target="A")
        cluster.do("restart D", run_ms=500)
        does_not_hear = cluster.hold(
            "replica_fetch", source="B", where=lambda _: cluster.end_of("B") == 1, answers=True
        )
        cluster.produce("A", run_ms=10)
        assert does_not_hear
        assert cluster.acknowledged == 1
        cluster.do("kill A")
        cluster.do("expire-dead A")
        cluster.hold("replica_fetch", source="C", target="B")
        held = cluster.hold(
            "replica_fetch", source="D", where=lambda _: cluster.leads("B"), answers=True
        )
        cluster.until(lambda: held)
        cluster.run(500)
        assert (cluster.leader, cluster.end_of("D")) == ("B", 0)
        for name in "BC":
            cluster.do(f"kill {name}")
            cluster.do(f"expire-dead {name}", run_ms=500)
        cluster.pass_all()
        cluster.end()


def test_race_6_records_that_were_deleted_come_back_with_their_epochs():
    """Found by a walk (seed 10): the leader is killed right after DeleteRecords and a new epoch.
    Its log start was not on the disk yet, but the epochs without those of what was deleted were."""
    with DirectedCluster("ABC", controller="C") as cluster:
        for _ in range(2):
            cluster.produce("A", run_ms=100)
        cluster.run(1_500)
        cluster.do("delete-records A t-0 2", run_ms=20)
        cluster.do("expire B", run_ms=100)  # a new epoch: it is stored at once
        cluster.do("kill A")
        cluster.do("restart A", run_ms=3_000)
        cluster.end()


def test_race_6_a_follower_without_a_log_begins_where_the_leaders_begins_inside_a_batch():
    """KAFKA-6975: records were deleted up to the middle of a batch, which is there as a whole."""
    with DirectedCluster("AB", controller="C") as cluster:
        cluster.do("produce A t-0 all 2", run_ms=100)
        cluster.do("produce A t-0 all 1", run_ms=100)
        cluster.do("delete-records A t-0 1", run_ms=700)
        cluster.do("replace-disk B")
        cluster.do("restart B", run_ms=4_000)
        assert (cluster.isr, cluster.end_of("B")) == ("AB", 3)
        cluster.end()


@pytest.mark.parametrize("members", ["B", "ABC"])
def test_race_6_what_was_acknowledged_is_on_every_disk_where_that_is_asked_for(members):
    with DirectedCluster(members, controller="C", configs="flush.before.ack=true") as cluster:
        for _ in range(3):
            cluster.produce(cluster.leader, run_ms=2)
        cluster.run(50)
        assert cluster.acknowledged == 3
        for name in members:
            cluster.do(f"power {name} 0")
        assert {name: cluster.end_of(name) for name in members} == dict.fromkeys(members, 3)


@pytest.mark.parametrize("how", ["kill", "power 0", "power 0.5", "replace-disk"])
@pytest.mark.parametrize("members", ["A", "AB", "ABC"])
def test_race_6_a_leader_restarts(how, members):
    """With its log, with less of it, with none; the high watermark checkpoint is old."""
    verb, _, survives = how.partition(" ")
    with DirectedCluster(members, controller="C" if len(members) < 3 else "B") as cluster:
        for _ in range(3):
            cluster.produce("A", run_ms=2)
        cluster.run(20)
        cluster.produce("A", "1", run_ms=1)
        cluster.do(f"{verb} A {survives}".strip())
        cluster.do("restart A", run_ms=3_500)
        assert cluster.acknowledged == 3
        if verb != "kill" and members == "A":
            assert (cluster.leader, cluster.isr) == ("none", "")
            return
        cluster.end()


@pytest.mark.parametrize("deaths", list(permutations("ABC")), ids="".join)
@pytest.mark.parametrize("returns", list(permutations("ABC")), ids="".join)
def test_race_15_all_die_in_every_order_and_return_in_every_order(deaths, returns):
    with DirectedCluster("ABC", brokers=4, controller="D") as cluster:
        for name in deaths:
            cluster.produce(cluster.leader, run_ms=20)
            cluster.do(f"kill {name}")
            cluster.until(
                lambda name=name: cluster.leader != name and name not in _live_isr(cluster)
            )
            cluster.run(50)
        for name in returns:
            cluster.do(f"restart {name}", run_ms=300)
        assert cluster.acknowledged == 3
        cluster.end()


def _live_isr(cluster: DirectedCluster) -> str:
    return cluster.isr if cluster.leader != "none" else ""


def leads(cluster: DirectedCluster, name: str) -> bool:
    """Does it know that it leads?"""
    replica = cluster.player.host(name).replica(T0)
    return replica is not None and replica.core.is_leader


def test_retention_took_what_an_unclean_election_replaced_and_the_replica_follows():
    """A, elected uncleanly, retains nothing of what it had instead of B's records; then B is
    elected uncleanly. All that A has left contradicts B's log, so it is cut to where it begins."""
    configs = "unclean.leader.election.enable=true retention.ms=3000"
    with DirectedCluster("AB", controller="C", configs=configs) as cluster:
        cluster.produce("A", run_ms=100)
        cluster.do("kill A")
        cluster.until(lambda: cluster.leader == "B")
        for _ in range(1, SEGMENT_BATCHES):
            cluster.produce("B", "1", run_ms=5)
        cluster.do("kill B")
        cluster.do("restart A")
        cluster.until(lambda: leads(cluster, "A"))
        for _ in range(1, SEGMENT_BATCHES + 1):
            cluster.produce("A", run_ms=5)
        cluster.until(lambda: cluster.start_of("A") == SEGMENT_BATCHES)
        cluster.do("kill A")
        cluster.do("restart B")
        cluster.until(lambda: cluster.leader == "B")
        cluster.produce("B", run_ms=5)
        cluster.do("restart A")
        cut = f"A cuts t-0 from {SEGMENT_BATCHES + 1} to {SEGMENT_BATCHES}"
        cluster.until(lambda: cluster.said(cut))
        cluster.end()


def test_a_high_watermark_of_records_that_are_lost_does_not_come_back_for_others():
    """A and C lose what was committed, C is elected uncleanly, and appends what A has not got: of
    its old high watermark nothing may be left, though C is killed and leads anew."""
    configs = "unclean.leader.election.enable=true"
    with DirectedCluster("BAC", brokers=4, controller="D", configs=configs) as cluster:
        for _ in range(3):
            cluster.produce("B", run_ms=20)
        cluster.until(lambda: _checkpointed(cluster, "C") == 3)
        for name in "CA":
            cluster.do(f"power {name} 0.4")
            cluster.do(f"restart {name}")
            cluster.do(f"expire-dead {name}")
        cluster.do("kill B")
        cluster.do("expire-dead B")
        cluster.until(lambda: cluster.isr == "AC")
        leader = cluster.leader
        follower = "A" if leader == "C" else "C"
        kept = cluster.end_of(follower)
        assert kept < 3
        cluster.do(f"kill {follower}")
        for _ in range(3):
            cluster.produce(leader, "1", run_ms=2)
        cluster.do(f"kill {leader}")
        cluster.do("pause D")  # it finds both back at once
        for name in (leader, follower):
            cluster.do(f"restart {name}")
            cluster.do(f"expire-dead {name}")
        cluster.run(400)
        cluster.hold("replica_fetch", source=follower)
        cluster.do("resume D")
        host = cluster.player.host(leader)
        cluster.until(lambda: cluster.world.leads(host, cluster.ledger.topic_partition))
        cluster.run(100)
        log = cluster.world.ledger.log_of(cluster.ledger, host.number)
        assert log is not None
        assert cluster.isr == "AC"
        assert (log.end, log.high_watermark) == (kept + 3, kept)
        cluster.pass_all()
        cluster.end()


def _checkpointed(cluster: DirectedCluster, name: str) -> int:
    log = cluster.world.ledger.log_of(cluster.ledger, cluster.player.host(name).number)
    assert log is not None
    return log.checkpointed_high_watermark
