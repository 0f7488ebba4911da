"""Races of controllers, sessions and topics (replication.md section 8, nos. 2 and 10 to 14). See
test_races_of_leaders.py.
"""

from __future__ import annotations

import pytest

from minikafka.zookeeper import codec
from minikafka.zookeeper.stores.candidates import in_order
from tests.simulation.stage import Stage

LAG_MS = 2_000


def test_race_2_a_paused_controller_is_deposed_and_its_message_comes_late():
    with Stage("ABC", controller="C") as stage:
        held = stage.hold("update_state", source="C")
        stage.do("expire B", run_ms=100)
        assert len(held) >= 1
        stage.do("pause C")
        stage.until(lambda: stage.world.controller() not in (None, stage.player.host("C")))
        stage.pass_all()
        stage.run(500)
        stage.produce(stage.leader, run_ms=50)
        stage.release(held)
        stage.do("resume C", run_ms=500)
        stage.end()


def test_race_2_a_deposed_controller_writes_nothing():
    with Stage("ABC", controller="C") as stage:
        stage.do("pause C")
        stage.do("expire C", run_ms=500)
        stage.do("kill B", run_ms=10)
        stage.do("resume C", run_ms=3_000)
        stage.end()


def test_race_2_a_message_of_the_old_controller_comes_before_the_first_of_the_new_one():
    """ZooKeeper has told A who is elected; that is enough to refuse the old one."""
    with Stage("ABC", controller="C") as stage:
        held = stage.hold("update_state", target="A")
        stage.do("expire B", run_ms=100)
        assert held
        old = list(held)
        stage.do("pause C")
        stage.do("expire C")
        stage.until(lambda: stage.player.host("A").process.broker.metadata.controller_epoch == 2)
        stage.run(20)
        stage.release(old)
        stage.pass_all()
        stage.do("resume C", run_ms=500)
        stage.end()


def test_the_death_of_the_controller_wakes_one_of_those_who_wait():
    """Each time: the next in line. The count is what the brokers themselves have said; who is woken
    because one in the middle of the queue went is not counted."""
    with Stage("ABC", brokers=8, controller="H") as stage:
        waiting = 7
        for _ in range(2):
            died = stage.world.controller()
            stage.do(f"kill {_in_line(stage)[2].name}")
            stage.run(3_000)
            waiting -= 1
            stage.do(f"kill {died.name}")
            stage.until(lambda died=died: _took_over_from(stage, died.number))
            path = "/controller_queue"
            takeover = codec.decode_takeover(path, stage.world.zookeeper.data(path))
            assert (takeover.woken, takeover.waiting) == (1, waiting)
            waiting -= 1
        stage.end()


def _in_line(stage):
    names = in_order(stage.world.zookeeper.tree.children("/controller_queue"))
    return [stage.world.hosts[int(name.split("-")[1])] for name in names]


def _took_over_from(stage, number):
    path = "/controller_queue"
    takeover = codec.decode_takeover(path, stage.world.zookeeper.data(path))
    return takeover.previous_id == number


def test_race_2_somebody_deletes_the_controllers_node_while_it_writes():
    """Its session lives on. Its write got lost and is sent again after another has been elected:
    but for the fence of the controller epoch it would count (KAFKA-6082)."""
    with Stage("ABC", controller="C") as stage:
        stage.do("fault C lost")
        stage.do("expire B")
        stage.until(lambda: stage.said("which is lost"))
        stage.do("depose")
        stage.until(lambda: stage.world.controller() not in (None, stage.player.host("C")))
        winner = stage.world.controller().name
        stage.do(f"pause {winner}", run_ms=600)
        stage.do(f"resume {winner}", run_ms=500)
        stage.end()


def test_race_2_a_controller_that_takes_over_slowly_finds_the_work_of_a_later_one():
    """Found by a walk (seed 0): it was deposed while it read, and decided on what it had read;
    only an assertion stopped it."""
    with Stage("ABC", brokers=4, controller="D") as stage:
        stage.do("expire D")
        stage.until(lambda: stage.world.controller() not in (None, stage.player.host("D")))
        slow = stage.world.controller().name
        runtime = stage.player.host(slow).process.broker.controller
        stage.until(lambda: runtime.controller_epoch == 2 and not runtime.active)
        stage.do(f"pause {slow}")
        stage.do("depose")
        stage.until(lambda: stage.world.controller() not in (None, stage.player.host(slow)))
        stage.until(lambda: _is_loaded(stage))
        later = stage.world.controller().name
        member = next(name for name in "ABC" if name not in (slow, later))
        epoch = stage.state.leader_epoch
        stage.do(f"expire {member}")
        stage.until(lambda: stage.state.leader_epoch > epoch)
        other = next(name for name in "ABC" if name not in (slow, member))
        stage.do(f"pause {later}")
        stage.do(f"expire {other}")
        stage.do(f"resume {slow}", run_ms=300)
        stage.do(f"resume {later}", run_ms=300)
        stage.end()


def _is_loaded(stage: Stage) -> bool:
    broker = stage.world.controller().process.broker
    return broker is not None and broker.controller.active


def test_race_10_a_session_ends_while_the_process_lives_on():
    with Stage("ABC", controller="C") as stage:
        stage.produce("A", run_ms=20)
        for name in "ABC":
            stage.do(f"expire {name}", run_ms=5)
            stage.produce("A", "1", run_ms=5)
            stage.run(1_500)
        stage.end()


def test_race_10_a_restarted_broker_waits_for_the_node_of_its_predecessor():
    with Stage("ABC", controller="C") as stage:
        stage.do("kill A", run_ms=10)
        stage.do("restart A", run_ms=700)
        assert stage.world.hosts[1].process.broker.replicas.broker_epoch == -1
        stage.run(3_000)
        assert stage.world.hosts[1].process.broker.replicas.broker_epoch > 0
        stage.end()


def test_race_10_a_broker_that_started_dirty_keeps_its_log_over_an_expired_session():
    """Found by a walk (seed 108): its host had gone down once. It was in sync again, alone even,
    when its session ended and it registered anew, saying once more that it had started dirty. So it
    was taken for one that had lost its log, and the partition went offline for good, with all of it
    there."""
    with Stage("AB", controller="C") as stage:
        stage.do("power A 0.5")
        stage.do("restart A", run_ms=3_500)
        assert stage.isr == "AB"
        stage.do("kill B", run_ms=3_500)
        assert (stage.leader, stage.isr) == ("A", "A")
        stage.produce("A", run_ms=20)
        stage.do("expire A", run_ms=1_500)
        assert (stage.leader, stage.isr) == ("A", "A")
        stage.end()


@pytest.mark.parametrize("pause_ms", [LAG_MS // 2, LAG_MS + 500, 2 * LAG_MS])
@pytest.mark.parametrize("who", ["leader", "follower", "controller"])
def test_race_11_a_process_stands_still_and_clocks_jump(who, pause_ms):
    name = {"leader": "A", "follower": "B", "controller": "C"}[who]
    with Stage("AB", controller="C") as stage:
        stage.produce("A", run_ms=20)
        stage.do("clock A 60000")
        stage.do("clock B -60000")
        stage.produce("A")
        stage.do(f"pause {name}", run_ms=pause_ms)
        stage.produce("B", run_ms=5)
        stage.produce("A", run_ms=5)
        stage.do(f"resume {name}", run_ms=100)
        stage.produce("A", run_ms=100)
        stage.end()


@pytest.mark.parametrize("fault", ["lost", "applied"])
@pytest.mark.parametrize("nth", range(6))
def test_race_12_the_connection_breaks_at_each_write_of_the_controller(nth, fault):
    with Stage("ABC", controller="C", minimum=2) as stage:
        stage.produce("A", run_ms=20)
        for _ in range(nth):
            stage.do("fault C pass")
        stage.do(f"fault C {fault}")
        stage.do("kill A", run_ms=20)
        stage.do("restart A", run_ms=2_500)
        stage.do("create C u AB", run_ms=500)
        stage.do("delete C u", run_ms=1_000)
        stage.do("configure C t min.insync.replicas=1", run_ms=500)
        stage.do("producer C 1", run_ms=500)
        stage.end()


@pytest.mark.parametrize("fault", ["lost", "applied"])
def test_race_12_the_connection_breaks_at_an_election(fault):
    with Stage("ABC", controller="C") as stage:
        for name in "AB":
            stage.do(f"fault {name} {fault}")
        stage.do("kill C", run_ms=3_500)
        assert stage.world.controller() is not None
        stage.end()


def test_race_13_a_controller_dies_between_writing_and_telling():
    with Stage("ABC", brokers=4, controller="D") as stage:
        stage.produce("A", run_ms=20)
        held = stage.hold("update_state", source="D")
        stage.do("kill A")
        stage.until(lambda: stage.leader == "B")
        stage.do("kill D", run_ms=50)
        stage.pass_all()
        assert held
        stage.until(lambda: stage.world.controller() not in (None, stage.player.host("D")))
        stage.run(1_000)
        stage.produce("B", run_ms=50)
        assert stage.acknowledged == 2
        stage.end()


@pytest.mark.parametrize("after_ms", [1, 3, 6, 10])
def test_race_13_a_controller_dies_while_it_deletes_a_topic(after_ms):
    with Stage("ABC", brokers=4, controller="D") as stage:
        stage.produce("A", run_ms=20)
        stage.do("create D u AB", run_ms=300)
        stage.do("delete D u", run_ms=after_ms)
        stage.do("kill D", run_ms=4_000)
        stage.end()
        assert not stage.world.zookeeper.tree.children("/admin/delete_topics")


def test_race_14_a_topic_is_made_anew_while_a_replica_sleeps():
    with Stage("ABC", controller="B") as stage:
        stage.produce("A", run_ms=50)
        stage.do("pause C")
        stage.do("delete A t", run_ms=200)
        stage.do("kill C", run_ms=2_500)
        stage.do("restart C")
        stage.until(lambda: stage.said("topic t is gone"))
        stage.do("create A t ABC min.insync.replicas=2", run_ms=500)
        stage.produce("A", run_ms=50)
        assert stage.acknowledged == 1
        stage.end()


def test_race_14_a_late_message_about_a_deleted_topic_leaves_the_new_one_alone():
    """Found by a walk (seed 29): a message of the controller lay in a buffer while the topic was
    deleted and made again. It named the old topic id, and so the leader dropped the new topic's
    replica and deleted its log, with records that had been acknowledged."""
    with Stage("AB", controller="C") as stage:
        held = stage.hold("update_state", source="C", target="A")
        stage.do("kill B")
        stage.until(lambda: held)
        stage.pass_all()
        stage.break_off(held)
        stage.do("restart B", run_ms=3_000)
        stage.do("delete C t")
        stage.until(lambda: stage.said("topic t is gone"))
        stage.do("create C t AB", run_ms=500)
        stage.produce("A", run_ms=50)
        assert stage.acknowledged == 1
        stage.release(held)
        assert stage.end_of("A") == 1
        stage.end()


def test_race_14_a_late_record_for_a_deleted_topic_is_not_taken_for_one_for_the_new_topic():
    """Found by a walk (seed 21): requests name topics by name alone, so a producer's record for the
    deleted topic is appended to the new one. What it sends to that itself has the same sequence."""
    with Stage("AB", controller="C") as stage:
        held = stage.hold("produce", target="A")
        stage.produce("A", more="producer 0", run_ms=20)
        stage.pass_all()
        stage.do("delete C t")
        stage.until(lambda: stage.said("topic t is gone"))
        stage.do("create C t AB", run_ms=500)
        stage.release(held)
        assert (stage.end_of("A"), stage.acknowledged) == (1, 1)
        stage.produce("A", more="producer 0", run_ms=50)
        assert (stage.end_of("A"), stage.acknowledged) == (2, 2)
        stage.end()
