"""Races of reassignments (replication.md section 8, no. 13, and what else can befall a partition
whose replicas move). See test_races_of_leaders.py.
"""

from __future__ import annotations

import pytest

from minikafka.model import Assignment
from tests.simulation.network import Exchange
from tests.simulation.stage import T0, Stage


def assignment(stage: Stage) -> Assignment:
    found = stage.ledger.assigned
    assert found is not None
    return found


def replicas(stage: Stage) -> str:
    """Once nothing is under way any more, and nothing is to be deleted."""
    found = assignment(stage)
    assert not found.in_progress, found
    assert not found.dropped, found
    return "".join(stage.world.name(replica) for replica in found.replicas)


def version_of(stage: Stage, name: str) -> int:
    """The version of the State that a broker holds of t-0."""
    replica = stage.player.host(name).replica(T0)
    assert replica is not None
    assert replica.core.state is not None
    return replica.core.state.partition_version


def is_over(stage: Stage) -> bool:
    return not assignment(stage).in_progress


@pytest.mark.parametrize("target", ["CD", "BC", "B", "ABCD", "BA"])
def test_replicas_move_while_records_come_in(target):
    with Stage("AB", brokers=5, minimum=2, controller="E") as stage:
        for _ in range(5):
            stage.produce("A", run_ms=5)
        stage.do(f"reassign E t-0 {target}")
        for _ in range(20):
            stage.produce(stage.leader, run_ms=7)
        stage.end()
        assert replicas(stage) == target


@pytest.mark.parametrize("after_ms", [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20])
def test_race_13_a_controller_dies_while_replicas_move(after_ms):
    with Stage("AB", brokers=5, controller="E") as stage:
        stage.produce("A", run_ms=20)
        stage.do("reassign E t-0 CD", run_ms=after_ms)
        stage.do("kill E", run_ms=10)
        stage.produce("A", "1", run_ms=4_000)
        stage.end()
        assert replicas(stage) in ("CD", "AB")


@pytest.mark.parametrize("fault", ["lost", "applied"])
@pytest.mark.parametrize("nth", range(8))
@pytest.mark.parametrize("dies", [False, True])
def test_race_12_and_13_the_connection_breaks_at_each_write_of_a_reassignment(nth, fault, dies):
    with Stage("AB", brokers=5, controller="E") as stage:
        stage.produce("A", run_ms=20)
        for _ in range(nth):
            stage.do("fault E pass")
        stage.do(f"fault E {fault}")
        stage.do("reassign E t-0 CD")
        stage.until(lambda: not stage.world.zookeeper.faults.get(5) or is_over(stage))
        if dies:
            stage.do("kill E", run_ms=3_500)
        stage.end()
        assert replicas(stage) in ("CD", "AB")


@pytest.mark.parametrize("who", ["A", "B", "C", "D"])
@pytest.mark.parametrize("disk", ["kill", "replace-disk", "power"])
def test_a_replica_dies_while_replicas_move(who, disk):
    """The old leader, an old follower, a new one; with and without its disk."""
    with Stage("AB", brokers=5, minimum=2, controller="E") as stage:
        stage.produce("A", run_ms=20)
        stage.hold("replica_fetch", source="D", target="A")
        stage.do("reassign E t-0 CD", run_ms=60)
        assert stage.isr == "ABC"
        stage.do(
            "power D 0"
            if disk == "power" and who == "D"
            else f"{disk} {who}".replace(f"power {who}", f"power {who} 0"),
            run_ms=3_000,
        )
        stage.pass_all()
        if stage.leader != "none":
            stage.produce(stage.leader, run_ms=50)
        stage.do(f"restart {who}", run_ms=3_000)
        stage.end()
        assert replicas(stage) == "CD"


def test_a_cancelled_reassignment_leaves_no_trace():
    with Stage("AB", brokers=5, minimum=2, controller="E") as stage:
        stage.hold("replica_fetch", source="D", target="A")
        stage.do("reassign E t-0 CD", run_ms=60)
        stage.produce("A", run_ms=20)
        assert (stage.isr, stage.end_of("C")) == ("ABC", 1)
        stage.do("reassign A t-0 cancel", run_ms=60)
        assert (replicas(stage), stage.isr) == ("AB", "AB")
        assert (stage.end_of("C"), stage.end_of("D")) == (-1, -1)
        stage.pass_all()
        stage.end()


def test_a_broker_that_was_away_deletes_the_log_that_it_should_not_have():
    with Stage("AB", brokers=4, controller="D") as stage:
        stage.produce("A", run_ms=20)
        stage.do("kill B", run_ms=3_000)
        stage.do("reassign D t-0 AC", run_ms=200)
        assert assignment(stage) == Assignment((1, 3), dropped=(2,))
        assert stage.end_of("B") == 1
        stage.do("depose", run_ms=1_000)
        stage.do("restart B", run_ms=3_000)
        assert stage.end_of("B") == -1
        stage.end()
        assert replicas(stage) == "AC"


def test_a_topic_is_deleted_while_its_replicas_move():
    with Stage("AB", brokers=4, controller="D") as stage:
        stage.produce("A", run_ms=20)
        stage.do("kill B", run_ms=3_000)
        held = stage.hold("replica_fetch", source="C")
        stage.do("reassign D t-0 C", run_ms=50)
        stage.do("delete D t", run_ms=200)
        stage.release(held)
        stage.pass_all()
        stage.do("restart B")
        stage.until(lambda: stage.said("topic t is gone"))
        assert not any(host.disk.logs for host in stage.world.hosts.values())
        stage.do("create D t AB", run_ms=300)
        stage.produce("A", run_ms=50)
        stage.end()


def dropped_and_wanted_again(stage: Stage) -> list[Exchange]:
    """B is dropped and added again; the message that it is to delete its log is on its way."""
    stage.produce("A", run_ms=20)
    held = stage.hold("update_state", source="D", target="B", where=lambda e: bool(e.request.drops))
    stage.do("reassign D t-0 AC")
    stage.until(lambda: held)
    stage.pass_all()
    stage.hold("update_state", source="D", target="B")
    stage.do("reassign D t-0 ABC", run_ms=50)
    return held


def test_race_13_a_late_drop_leaves_a_replica_alone_that_is_wanted_again():
    """It has heard of that from the leader: it follows, and is in sync."""
    with Stage("AB", brokers=4, controller="D") as stage:
        held = dropped_and_wanted_again(stage)
        stage.until(lambda: stage.isr == "ABC")
        stage.produce("A", run_ms=20)
        stage.release(held)
        assert stage.end_of("B") == 2
        stage.pass_all()
        stage.end()
        assert replicas(stage) == "ABC"


def a_proposal_on_its_way(stage: Stage, joiner: str) -> list[Exchange]:
    """A proposes that a replica that was away joins the ISR again; that is held back. The answer
    will bring the State as it is by then, without the assignment."""
    stage.produce("A", run_ms=50)
    stage.do(f"kill {joiner}")
    stage.until(lambda: joiner not in stage.isr)
    held = stage.hold("alter_partition", source="A")
    stage.do(f"restart {joiner}")
    stage.until(lambda: held)
    return held


def test_race_13_what_a_replica_fetched_before_it_was_dropped_counts_for_nothing():
    """The leader has heard of the State without B in an answer to a proposal, and then of the one
    with which B is added again; nothing in between. B does not fetch; its position of before would
    let it in, with a message on its way that makes it delete its log."""
    with Stage("ABCE", brokers=5, controller="D") as stage:
        proposal = a_proposal_on_its_way(stage, "E")
        drop = stage.hold("update_state", source="D", target="B")
        told = stage.hold("update_state", source="D", target="A")
        stage.hold("replica_fetch", source="B", target="A")
        stage.do("reassign D t-0 AC")
        stage.until(lambda: drop and is_over(stage))
        stage.release(proposal)
        stage.until(lambda: version_of(stage, "A") == stage.state.partition_version)
        stage.do("reassign D t-0 ABC", run_ms=50)
        stage.pass_all()
        stage.hold("replica_fetch", source="B", target="A")
        stage.hold("update_state", source="D", target="B")
        stage.break_off(told, run_ms=500)
        assert stage.isr == "AC"
        stage.release(drop)
        stage.pass_all()
        stage.end()
        assert replicas(stage) == "ABC"


def test_race_13_a_leader_takes_the_assignment_that_comes_after_its_state():
    """It hears of the State in the answer to a proposal, which says nothing of the assignment."""
    with Stage("ABC", brokers=5, controller="E") as stage:
        proposal = a_proposal_on_its_way(stage, "C")
        told = stage.hold("update_state", source="E", target="A")
        stage.do("reassign E t-0 ABD", run_ms=50)
        stage.hold("replica_fetch", source="C", target="A")
        stage.release(proposal)
        stage.until(lambda: version_of(stage, "A") == stage.state.partition_version)
        stage.pass_all()
        stage.break_off(told)
        stage.until(lambda: "D" in stage.isr, most_ms=5_000)
        stage.end()
        assert replicas(stage) == "ABD"


def test_a_replica_whose_log_failed_and_was_deleted_comes_back_with_a_new_one():
    """Found by a walk (seed 647): its disk had been full, in the same incarnation. The controller
    kept it out of the ISR for that, though it had dropped that log long ago."""
    with Stage("AB", controller="C") as stage:
        stage.do("fill B")
        stage.produce("A", run_ms=50)
        assert stage.isr == "A"
        stage.do("free B")
        stage.do("reassign C t-0 A")
        stage.until(lambda: stage.end_of("B") == -1 and not assignment(stage).dropped)
        stage.do("reassign C t-0 AB")
        stage.until(lambda: stage.isr == "AB")
        stage.end()


def test_a_replica_that_comes_back_does_not_lead_before_it_knows():
    """Found by a walk (seed 43971827268275): with nobody in sync it was elected, against the rule
    of clean elections, while the message was on its way that makes it delete its log."""
    with Stage("AB", controller="C", configs="unclean.leader.election.enable=true") as stage:
        stage.produce("A", run_ms=50)
        drop = stage.hold("update_state", source="C", target="B", answers=False)
        stage.do("reassign C t-0 A")
        stage.until(lambda: drop and is_over(stage))
        stage.do("kill A", run_ms=5_000)
        assert stage.leader == "none"
        stage.do("reassign C t-0 AB", run_ms=100)
        assert stage.leader == "none"
        stage.pass_all()
        stage.release(drop)
        stage.until(lambda: stage.leader == "B")
        stage.do("restart A")
        stage.end()
        assert replicas(stage) == "AB"
