"""Races of controllers, sessions and topics (replication.md section 8, nos. 2 and 10 to 14). See
test_races_of_leaders.py.
"""

from __future__ import annotations

import pytest

from minikafka.zookeeper import codec
from minikafka.zookeeper.stores.candidates import in_order
from tests.simulation.directed import DirectedCluster

LAG_MS = 2_000


def test_race_2_a_paused_controller_is_deposed_and_its_message_comes_late():
    with DirectedCluster("ABC", controller="C") as cluster:
        held = cluster.hold("update_state", source="C")
        cluster.do("expire B", run_ms=100)
        assert len(held) >= 1
        cluster.do("pause C")
        cluster.until(lambda: cluster.world.controller() not in (None, cluster.player.host("C")))
        cluster.pass_all()
        cluster.run(500)
        cluster.produce(cluster.leader, run_ms=50)
        cluster.release(held)
        cluster.do("resume C", run_ms=500)
        cluster.end()


def test_race_2_a_deposed_controller_writes_nothing():
    with DirectedCluster("ABC", controller="C") as cluster:
        cluster.do("pause C")
        cluster.do("expire C", run_ms=500)
        cluster.do("kill B", run_ms=10)
        cluster.do("resume C", run_ms=3_000)
        cluster.end()


def test_race_2_a_message_of_the_old_controller_comes_before_the_first_of_the_new_one():
    """ZooKeeper has told A who is elected; that is enough to refuse the old one."""
    with DirectedCluster("ABC", controller="C") as cluster:
        held = cluster.hold("update_state", target="A")
        cluster.do("expire B", run_ms=100)
        assert held
        old = list(held)
        cluster.do("pause C")
        cluster.do("expire C")
        cluster.until(
            lambda: cluster.player.host("A").process.broker.metadata.controller_epoch == 2
        )
        cluster.run(5)
        cluster.release(old)
        cluster.pass_all()
        cluster.do("resume C", run_ms=500)
        cluster.end()


def test_the_death_of_the_controller_wakes_one_of_those_who_wait():
    """Each time: the next in line. The count is what the brokers themselves have said; who is woken
    because one in the middle of the queue went is not counted."""
    with DirectedCluster("ABC", brokers=8, controller="H") as cluster:
        waiting = 7
        for _ in range(2):
            died = cluster.world.controller()
            cluster.do(f"kill {_in_line(cluster)[2].name}")
            cluster.run(3_000)
            waiting -= 1
            cluster.do(f"kill {died.name}")
            cluster.until(lambda died=died: _took_over_from(cluster, died.number))
            path = "/controller_queue"
            takeover = codec.decode_takeover(path, cluster.world.zookeeper.data(path))
            assert (takeover.woken, takeover.waiting) == (1, waiting)
            waiting -= 1
        cluster.end()


def _in_line(cluster):
    names = in_order(cluster.world.zookeeper.tree.children("/controller_queue"))
    return [cluster.world.hosts[int(name.split("-")[1])] for name in names]


def _took_over_from(cluster, number):
    path = "/controller_queue"
    takeover = codec.decode_takeover(path, cluster.world.zookeeper.data(path))
    return takeover.previous_id == number


def test_race_2_somebody_deletes_the_controllers_node_while_it_writes():
    """Its session lives on. Its write got lost and is sent again after another has been elected:
    but for the fence of the controller epoch it would count (KAFKA-6082)."""
    with DirectedCluster("ABC", controller="C") as cluster:
        cluster.do("fault C lost")
        cluster.do("expire B")
        cluster.until(lambda: cluster.said("which is lost"))
        cluster.do("depose")
        cluster.until(lambda: cluster.world.controller() not in (None, cluster.player.host("C")))
        winner = cluster.world.controller().name
        cluster.do(f"pause {winner}", run_ms=600)
        cluster.do(f"resume {winner}", run_ms=500)
        cluster.end()


def test_race_2_a_controller_that_takes_over_slowly_finds_the_work_of_a_later_one():
    """Found by a walk (seed 0): it was deposed while it read, and decided on what it had read;
    only an assertion stopped it."""
    with DirectedCluster("ABC", brokers=4, controller="D") as cluster:
        cluster.do("expire D")
        cluster.until(lambda: cluster.world.controller() not in (None, cluster.player.host("D")))
        slow = cluster.world.controller().name
        runtime = cluster.player.host(slow).process.broker.controller
        cluster.until(lambda: runtime.controller_epoch == 2 and not runtime.active)
        cluster.do(f"pause {slow}")
        cluster.do("depose")
        cluster.until(lambda: cluster.world.controller() not in (None, cluster.player.host(slow)))
        cluster.until(lambda: _is_loaded(cluster))
        later = cluster.world.controller().name
        member = next(name for name in "ABC" if name not in (slow, later))
        epoch = cluster.state.leader_epoch
        cluster.do(f"expire {member}")
        cluster.until(lambda: cluster.state.leader_epoch > epoch)
        other = next(name for name in "ABC" if name not in (slow, member))
        cluster.do(f"pause {later}")
        cluster.do(f"expire {other}")
        cluster.do(f"resume {slow}", run_ms=300)
        cluster.do(f"resume {later}", run_ms=300)
        cluster.end()


def _is_loaded(cluster: DirectedCluster) -> bool:
    broker = cluster.world.controller().process.broker
    return broker is not None and broker.controller.active


def test_race_10_a_session_ends_while_the_process_lives_on():
    with DirectedCluster("ABC", controller="C") as cluster:
        cluster.produce("A", run_ms=20)
        for name in "ABC":
            cluster.do(f"expire {name}", run_ms=5)
            cluster.produce("A", "1", run_ms=5)
            cluster.run(1_500)
        cluster.end()


def test_race_10_a_restarted_broker_waits_for_the_node_of_its_predecessor():
    with DirectedCluster("ABC", controller="C") as cluster:
        cluster.do("kill A", run_ms=10)
        cluster.do("restart A", run_ms=700)
        assert cluster.world.hosts[1].process.broker.replicas.broker_epoch == -1
        cluster.run(3_000)
        assert cluster.world.hosts[1].process.broker.replicas.broker_epoch > 0
        cluster.end()


def test_race_10_a_broker_that_started_dirty_keeps_its_log_over_an_expired_session():
    """Found by a walk (seed 108): its host had gone down once. It was in sync again, alone even,
    when its session ended and it registered anew, saying once more that it had started dirty. So it
    was taken for one that had lost its log, and the partition went offline for good, with all of it
    there."""
    with DirectedCluster("AB", controller="C") as cluster:
        cluster.do("power A 0.5")
        cluster.do("restart A", run_ms=3_500)
        assert cluster.isr == "AB"
        cluster.do("kill B", run_ms=3_500)
        assert (cluster.leader, cluster.isr) == ("A", "A")
        cluster.produce("A", run_ms=20)
        cluster.do("expire A", run_ms=1_500)
        assert (cluster.leader, cluster.isr) == ("A", "A")
        cluster.end()


@pytest.mark.parametrize("pause_ms", [LAG_MS // 2, LAG_MS + 500, 2 * LAG_MS])
@pytest.mark.parametrize("who", ["leader", "follower", "controller"])
def test_race_11_a_process_stands_still_and_clocks_jump(who, pause_ms):
    name = {"leader": "A", "follower": "B", "controller": "C"}[who]
    with DirectedCluster("AB", controller="C") as cluster:
        cluster.produce("A", run_ms=20)
        cluster.do("clock A 60000")
        cluster.do("clock B -60000")
        cluster.produce("A")
        cluster.do(f"pause {name}", run_ms=pause_ms)
        cluster.produce("B", run_ms=5)
        cluster.produce("A", run_ms=5)
        cluster.do(f"resume {name}", run_ms=100)
        cluster.produce("A", run_ms=100)
        cluster.end()


@pytest.mark.parametrize("fault", ["lost", "applied"])
@pytest.mark.parametrize("nth", range(6))
def test_race_12_the_connection_breaks_at_each_write_of_the_controller(nth, fault):
    with DirectedCluster("ABC", controller="C", minimum=2) as cluster:
        cluster.produce("A", run_ms=20)
        for _ in range(nth):
            cluster.do("fault C pass")
        cluster.do(f"fault C {fault}")
        cluster.do("kill A", run_ms=20)
        cluster.do("restart A", run_ms=2_500)
        cluster.do("create C u AB", run_ms=500)
        cluster.do("delete C u", run_ms=1_000)
        cluster.do("configure C t min.insync.replicas=1", run_ms=500)
        cluster.do("producer C 1", run_ms=500)
        cluster.end()


@pytest.mark.parametrize("fault", ["lost", "applied"])
def test_race_12_the_connection_breaks_at_an_election(fault):
    with DirectedCluster("ABC", controller="C") as cluster:
        for name in "AB":
            cluster.do(f"fault {name} {fault}")
        cluster.do("kill C", run_ms=3_500)
        assert cluster.world.controller() is not None
        cluster.end()


def test_race_13_a_controller_dies_between_writing_and_telling():
    with DirectedCluster("ABC", brokers=4, controller="D") as cluster:
        cluster.produce("A", run_ms=20)
        held = cluster.hold("update_state", source="D")
        cluster.do("kill A")
        cluster.until(lambda: cluster.leader == "B")
        cluster.do("kill D", run_ms=50)
        cluster.pass_all()
        assert held
        cluster.until(lambda: cluster.world.controller() not in (None, cluster.player.host("D")))
        cluster.run(1_000)
        cluster.produce("B", run_ms=50)
        assert cluster.acknowledged == 2
        cluster.end()


@pytest.mark.parametrize("after_ms", [1, 3, 6, 10])
def test_race_13_a_controller_dies_while_it_deletes_a_topic(after_ms):
    with DirectedCluster("ABC", brokers=4, controller="D") as cluster:
        cluster.produce("A", run_ms=20)
        cluster.do("create D u AB", run_ms=300)
        cluster.do("delete D u", run_ms=after_ms)
        cluster.do("kill D", run_ms=4_000)
        cluster.end()
        assert not cluster.world.zookeeper.tree.children("/admin/delete_topics")


def test_race_14_a_topic_is_made_anew_while_a_replica_sleeps():
    with DirectedCluster("ABC", controller="B") as cluster:
        cluster.produce("A", run_ms=50)
        cluster.do("pause C")
        cluster.do("delete A t", run_ms=200)
        cluster.do("kill C", run_ms=2_500)
        cluster.do("restart C")
        cluster.until(lambda: cluster.said("topic t is gone"))
        cluster.do("create A t ABC min.insync.replicas=2", run_ms=500)
        cluster.produce("A", run_ms=50)
        assert cluster.acknowledged == 1
        cluster.end()


def test_race_14_a_late_message_about_a_deleted_topic_leaves_the_new_one_alone():
    """Found by a walk (seed 29): a message of the controller lay in a buffer while the topic was
    deleted and made again. It named the old topic id, and so the leader dropped the new topic's
    replica and deleted its log, with records that had been acknowledged."""
    with DirectedCluster("AB", controller="C") as cluster:
        held = cluster.hold("update_state", source="C", target="A")
        cluster.do("kill B")
        cluster.until(lambda: held)
        cluster.pass_all()
        cluster.break_off(held)
        cluster.do("restart B", run_ms=3_000)
        cluster.do("delete C t")
        cluster.until(lambda: cluster.said("topic t is gone"))
        cluster.do("create C t AB", run_ms=500)
        cluster.produce("A", run_ms=50)
        assert cluster.acknowledged == 1
        cluster.release(held)
        assert cluster.end_of("A") == 1
        cluster.end()


def test_race_14_a_late_record_for_a_deleted_topic_is_not_taken_for_one_for_the_new_topic():
    """Found by a walk (seed 21): requests name topics by name alone, so a producer's record for the
    deleted topic is appended to the new one. What it sends to that itself has the same sequence."""
    with DirectedCluster("AB", controller="C") as cluster:
        held = cluster.hold("produce", target="A")
        cluster.produce("A", more="producer 0", run_ms=20)
        cluster.pass_all()
        cluster.do("delete C t")
        cluster.until(lambda: cluster.said("topic t is gone"))
        cluster.do("create C t AB", run_ms=500)
        cluster.release(held)
        assert (cluster.end_of("A"), cluster.acknowledged) == (1, 1)
        cluster.produce("A", more="producer 0", run_ms=50)
        assert (cluster.end_of("A"), cluster.acknowledged) == (2, 2)
        cluster.end()
