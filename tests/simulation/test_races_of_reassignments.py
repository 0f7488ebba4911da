"""Races of reassignments (replication.md section 8, no. 13, and what else can befall a partition
whose replicas move). See test_races_of_leaders.py.
"""

from __future__ import annotations

import pytest

from minikafka.model import Assignment
from tests.simulation.directed import T0, DirectedCluster
from tests.simulation.network import Exchange


def assignment(cluster: DirectedCluster) -> Assignment:
    found = cluster.ledger.assigned
    assert found is not None
    return found


def replicas(cluster: DirectedCluster) -> str:
    """Once nothing is under way any more, and nothing is to be deleted."""
    found = assignment(cluster)
    assert not found.in_progress, found
    assert not found.dropped, found
    return "".join(cluster.world.name(replica) for replica in found.replicas)


def version_of(cluster: DirectedCluster, name: str) -> int:
    """The version of the State that a broker holds of t-0."""
    replica = cluster.player.host(name).replica(T0)
    assert replica is not None
    assert replica.core.state is not None
    return replica.core.state.partition_version


def is_over(cluster: DirectedCluster) -> bool:
    return not assignment(cluster).in_progress


@pytest.mark.parametrize("target", ["CD", "BC", "B", "ABCD", "BA"])
def test_replicas_move_while_records_come_in(target):
    with DirectedCluster("AB", brokers=5, minimum=2, controller="E") as cluster:
        for _ in range(5):
            cluster.produce("A", run_ms=5)
        cluster.do(f"reassign E t-0 {target}")
        for _ in range(20):
            cluster.produce(cluster.leader, run_ms=7)
        cluster.end()
        assert replicas(cluster) == target


@pytest.mark.parametrize("after_ms", [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20])
def test_race_13_a_controller_dies_while_replicas_move(after_ms):
    with DirectedCluster("AB", brokers=5, controller="E") as cluster:
        cluster.produce("A", run_ms=20)
        cluster.do("reassign E t-0 CD", run_ms=after_ms)
        cluster.do("kill E", run_ms=10)
        cluster.produce("A", "1", run_ms=4_000)
        cluster.end()
        assert replicas(cluster) in ("CD", "AB")


@pytest.mark.parametrize("fault", ["lost", "applied"])
@pytest.mark.parametrize("nth", range(8))
@pytest.mark.parametrize("dies", [False, True])
def test_race_12_and_13_the_connection_breaks_at_each_write_of_a_reassignment(nth, fault, dies):
    with DirectedCluster("AB", brokers=5, controller="E") as cluster:
        cluster.produce("A", run_ms=20)
        for _ in range(nth):
            cluster.do("fault E pass")
        cluster.do(f"fault E {fault}")
        cluster.do("reassign E t-0 CD")
        cluster.until(lambda: not cluster.world.zookeeper.faults.get(5) or is_over(cluster))
        if dies:
            cluster.do("kill E", run_ms=3_500)
        cluster.end()
        assert replicas(cluster) in ("CD", "AB")


@pytest.mark.parametrize("who", ["A", "B", "C", "D"])
@pytest.mark.parametrize("disk", ["kill", "replace-disk", "power"])
def test_a_replica_dies_while_replicas_move(who, disk):
    """The old leader, an old follower, a new one; with and without its disk."""
    with DirectedCluster("AB", brokers=5, minimum=2, controller="E") as cluster:
        cluster.produce("A", run_ms=20)
        cluster.hold("replica_fetch", source="D", target="A")
        cluster.do("reassign E t-0 CD", run_ms=60)
        assert cluster.isr == "ABC"
        cluster.do(
            "power D 0"
            if disk == "power" and who == "D"
            else f"{disk} {who}".replace(f"power {who}", f"power {who} 0"),
            run_ms=3_000,
        )
        cluster.pass_all()
        if cluster.leader != "none":
            cluster.produce(cluster.leader, run_ms=50)
        cluster.do(f"restart {who}", run_ms=3_000)
        cluster.end()
        assert replicas(cluster) == "CD"


def test_a_cancelled_reassignment_leaves_no_trace():
    with DirectedCluster("AB", brokers=5, minimum=2, controller="E") as cluster:
        cluster.hold("replica_fetch", source="D", target="A")
        cluster.do("reassign E t-0 CD", run_ms=60)
        cluster.produce("A", run_ms=20)
        assert (cluster.isr, cluster.end_of("C")) == ("ABC", 1)
        cluster.do("reassign A t-0 cancel", run_ms=60)
        assert (replicas(cluster), cluster.isr) == ("AB", "AB")
        assert (cluster.end_of("C"), cluster.end_of("D")) == (-1, -1)
        cluster.pass_all()
        cluster.end()


def test_a_broker_that_was_away_deletes_the_log_that_it_should_not_have():
    with DirectedCluster("AB", brokers=4, controller="D") as cluster:
        cluster.produce("A", run_ms=20)
        cluster.do("kill B", run_ms=3_000)
        cluster.do("reassign D t-0 AC", run_ms=200)
        assert assignment(cluster) == Assignment((1, 3), dropped=(2,))
        assert cluster.end_of("B") == 1
        cluster.do("depose", run_ms=1_000)
        cluster.do("restart B", run_ms=3_000)
        assert cluster.end_of("B") == -1
        cluster.end()
        assert replicas(cluster) == "AC"


def test_a_topic_is_deleted_while_its_replicas_move():
    with DirectedCluster("AB", brokers=4, controller="D") as cluster:
        cluster.produce("A", run_ms=20)
        cluster.do("kill B", run_ms=3_000)
        held = cluster.hold("replica_fetch", source="C")
        cluster.do("reassign D t-0 C", run_ms=50)
        cluster.do("delete D t", run_ms=200)
        cluster.release(held)
        cluster.pass_all()
        cluster.do("restart B")
        cluster.until(lambda: cluster.said("topic t is gone"))
        assert not any(host.disk.logs for host in cluster.world.hosts.values())
        cluster.do("create D t AB", run_ms=300)
        cluster.produce("A", run_ms=50)
        cluster.end()


def dropped_and_wanted_again(cluster: DirectedCluster) -> list[Exchange]:
    """B is dropped and added again; the message that it is to delete its log is on its way."""
    cluster.produce("A", run_ms=20)
    held = cluster.hold(
        "update_state", source="D", target="B", where=lambda e: bool(e.request.drops)
    )
    cluster.do("reassign D t-0 AC")
    cluster.until(lambda: held)
    cluster.pass_all()
    cluster.hold("update_state", source="D", target="B")
    cluster.do("reassign D t-0 ABC", run_ms=50)
    return held


def test_race_13_a_late_drop_leaves_a_replica_alone_that_is_wanted_again():
    """It has heard of that from the leader: it follows, and is in sync."""
    with DirectedCluster("AB", brokers=4, controller="D") as cluster:
        held = dropped_and_wanted_again(cluster)
        cluster.until(lambda: cluster.isr == "ABC")
        cluster.produce("A", run_ms=20)
        cluster.release(held)
        assert cluster.end_of("B") == 2
        cluster.pass_all()
        cluster.end()
        assert replicas(cluster) == "ABC"


def a_proposal_on_its_way(cluster: DirectedCluster, joiner: str) -> list[Exchange]:
    """A proposes that a replica that was away joins the ISR again; that is held back. The answer
    will bring the State as it is by then, without the assignment."""
    cluster.produce("A", run_ms=50)
    cluster.do(f"kill {joiner}")
    cluster.until(lambda: joiner not in cluster.isr)
    held = cluster.hold("alter_partition", source="A")
    cluster.do(f"restart {joiner}")
    cluster.until(lambda: held)
    return held


def test_race_13_what_a_replica_fetched_before_it_was_dropped_counts_for_nothing():
    """The leader has heard of the State without B in an answer to a proposal, and then of the one
    with which B is added again; nothing in between. B does not fetch; its position of before would
    let it in, with a message on its way that makes it delete its log."""
    with DirectedCluster("ABCE", brokers=5, controller="D") as cluster:
        proposal = a_proposal_on_its_way(cluster, "E")
        drop = cluster.hold("update_state", source="D", target="B")
        told = cluster.hold("update_state", source="D", target="A")
        cluster.hold("replica_fetch", source="B", target="A")
        cluster.do("reassign D t-0 AC")
        cluster.until(lambda: drop and is_over(cluster))
        cluster.release(proposal)
        cluster.until(lambda: version_of(cluster, "A") == cluster.state.partition_version)
        cluster.do("reassign D t-0 ABC", run_ms=50)
        cluster.pass_all()
        cluster.hold("replica_fetch", source="B", target="A")
        cluster.hold("update_state", source="D", target="B")
        cluster.break_off(told, run_ms=500)
        assert cluster.isr == "AC"
        cluster.release(drop)
        cluster.pass_all()
        cluster.end()
        assert replicas(cluster) == "ABC"


def test_race_13_a_leader_takes_the_assignment_that_comes_after_its_state():
    """It hears of the State in the answer to a proposal, which says nothing of the assignment."""
    with DirectedCluster("ABC", brokers=5, controller="E") as cluster:
        proposal = a_proposal_on_its_way(cluster, "C")
        told = cluster.hold("update_state", source="E", target="A")
        cluster.do("reassign E t-0 ABD", run_ms=50)
        cluster.hold("replica_fetch", source="C", target="A")
        cluster.release(proposal)
        cluster.until(lambda: version_of(cluster, "A") == cluster.state.partition_version)
        cluster.pass_all()
        cluster.break_off(told)
        # Sooner than another State comes, which would bring the assignment as well.
        cluster.until(lambda: "D" in cluster.isr, most_ms=1_000)
        cluster.end()
        assert replicas(cluster) == "ABD"


def test_a_replica_whose_log_failed_and_was_deleted_comes_back_with_a_new_one():
    """Found by a walk (seed 647): its disk had been full, in the same incarnation. The controller
    kept it out of the ISR for that, though it had dropped that log long ago."""
    with DirectedCluster("AB", controller="C") as cluster:
        cluster.do("fill B")
        cluster.produce("A", run_ms=50)
        assert cluster.isr == "A"
        cluster.do("free B")
        cluster.do("reassign C t-0 A")
        cluster.until(lambda: cluster.end_of("B") == -1 and not assignment(cluster).dropped)
        cluster.do("reassign C t-0 AB")
        cluster.until(lambda: cluster.isr == "AB")
        cluster.end()


def test_a_replica_that_comes_back_does_not_lead_before_it_knows():
    """Found by a walk (seed 43971827268275): with nobody in sync it was elected, against the rule
    of clean elections, while the message was on its way that makes it delete its log."""
    with DirectedCluster(
        "AB", controller="C", configs="unclean.leader.election.enable=true"
    ) as cluster:
        cluster.produce("A", run_ms=50)
        drop = cluster.hold("update_state", source="C", target="B", answers=False)
        cluster.do("reassign C t-0 A")
        cluster.until(lambda: drop and is_over(cluster))
        cluster.do("kill A", run_ms=5_000)
        assert cluster.leader == "none"
        cluster.do("reassign C t-0 AB", run_ms=100)
        assert cluster.leader == "none"
        cluster.pass_all()
        cluster.release(drop)
        cluster.until(lambda: cluster.leader == "B")
        cluster.do("restart A")
        cluster.end()
        assert replicas(cluster) == "AB"


def test_a_leader_that_hears_of_two_wishes_late_counts_who_has_left_between_them():
    """One replica is wanted, and then two again, before the leader hears of either: it still counts
    the one that has fetched the record and is gone by now. One copy is what was asked for."""
    with DirectedCluster("AC", brokers=5, minimum=2, controller="E") as cluster:
        cluster.produce("A", run_ms=50)
        told = cluster.hold("update_state", source="E", target="A")
        fetched = cluster.hold(
            "replica_fetch", source="C", where=lambda _: cluster.end_of("C") == 2
        )
        cluster.produce("A")
        cluster.until(lambda: fetched)
        assert cluster.ledger.committed_end == 1
        cluster.do("reassign E t-0 A")
        cluster.until(lambda: cluster.said("C deletes its log"))
        cluster.do("reassign E t-0 BA", run_ms=50)
        cluster.release(fetched)
        cluster.until(lambda: cluster.ledger.committed_end == 2)
        assert cluster.isr == "A"
        cluster.break_off(told)
        cluster.pass_all()
        cluster.end()
        assert replicas(cluster) == "BA"
