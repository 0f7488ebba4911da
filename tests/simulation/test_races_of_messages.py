"""Races of messages between brokers: late, twice, out of order, or of incarnations that are over
(replication.md section 8, nos. 4, 7, 8 and 9). See test_races_of_leaders.py.
"""

from __future__ import annotations

from tests.simulation.directed import DirectedCluster, a_term_that_a_missed


def test_race_4_an_old_message_after_a_newer_one_changes_nothing():
    with DirectedCluster("ABC", controller="C") as cluster:
        held = cluster.hold("update_state", source="C", target="A")
        cluster.do("terminate B", run_ms=400)
        assert held
        cluster.pass_all()
        cluster.break_off(held)
        cluster.run(300)
        epoch = cluster.state.leader_epoch
        cluster.release(held, run_ms=500)
        replica = cluster.player.host("A").replica(cluster.ledger.topic_partition)
        assert replica is not None
        assert replica.core.leader_epoch == epoch
        cluster.end()


def test_race_4_an_old_answer_to_a_proposal_after_a_newer_state_changes_nothing():
    """The State travels in the controller's answer, too, and the answer is slow (R3)."""
    with DirectedCluster("ABC", controller="C") as cluster:
        cluster.do("kill B", run_ms=3_000)
        answers = cluster.hold("alter_partition", source="A", answers=True)
        cluster.do("restart B")
        cluster.until(lambda: cluster.isr == "ABC")
        cluster.pass_all()
        cluster.do("kill B", run_ms=3_000)
        assert cluster.isr == "AC"
        for answer in answers:
            answer.release_answer()
        cluster.run(50)
        replica = cluster.player.host("A").replica(cluster.ledger.topic_partition)
        assert replica is not None
        assert replica.core.state == cluster.state
        cluster.end()


def test_race_4_an_old_list_of_live_brokers_after_a_newer_one_is_passed_over():
    """Found by a walk: a message of the controller that lay in a buffer told the leader of a
    cluster without C. The leader took C for ineligible, and C never came into the ISR again."""
    with DirectedCluster("ABC", controller="B") as cluster:
        cluster.do("kill C")
        held = cluster.hold("update_state", source="B", target="A")
        cluster.until(lambda: cluster.isr == "AB")
        cluster.until(lambda: held)
        cluster.pass_all()
        cluster.break_off(held)
        cluster.do("restart C")
        cluster.until(lambda: cluster.isr == "ABC")
        cluster.run(500)
        cluster.release(held)
        broker = cluster.player.host("A").process.broker
        assert 3 in broker.metadata.eligible
        cluster.end()


def test_race_4_a_leader_that_missed_a_term_forgets_where_its_followers_were():
    """A leads, B leads, A leads again, and A has heard nothing of B's term (R4). In that term C cut
    off records that A had sent it: where C was before says nothing."""
    with a_term_that_a_missed() as (cluster, _):
        cluster.produce("A", "1", run_ms=20)
        cluster.pass_all()
        cluster.end()


def test_race_7_a_follower_dies_with_its_addition_in_flight_and_returns_empty():
    """KIP-903: the copy of the proposal that is still on its way is of an incarnation that is
    over."""
    with DirectedCluster("AB", controller="C") as cluster:
        cluster.do("kill B", run_ms=3_000)
        cluster.produce("A", run_ms=20)
        held = cluster.hold("alter_partition")
        cluster.do("restart B")
        cluster.until(lambda: held)
        cluster.do("replace-disk B")
        cluster.hold("replica_fetch", source="B")
        cluster.do("restart B")
        cluster.until(lambda: cluster.world.hosts[2].process.broker is not None)
        cluster.until(lambda: cluster.world.hosts[2].process.broker.replicas.broker_epoch > 0)
        cluster.run(100)
        cluster.release(held)
        assert cluster.isr == "A"
        cluster.end()


def test_race_7_an_addition_that_was_applied_counts_though_nobody_told_the_leader():
    """R5: what the leader has proposed may be in force, from the moment of the proposal."""
    settings = {"replica.lag.time.max.ms": "600"}
    with DirectedCluster("AB", controller="C", settings=settings) as cluster:
        cluster.do("kill B", run_ms=3_000)
        assert cluster.isr == "A"
        cluster.unanswered("alter_partition", "A")
        cluster.hold("update_state", target="A")
        cluster.do("restart B")
        broker = cluster.player.host("A").process.broker
        broker.metadata.eligible[2] = _epoch_when_registered(cluster)
        cluster.until(lambda: cluster.isr == "AB")
        cluster.do("cut-one-way B A")
        cluster.produce(
            "A", run_ms=1_000
        )  # by then it is no outsider that is about to join, either
        cluster.produce("A", run_ms=200)
        assert cluster.acknowledged == 0
        cluster.pass_all()
        cluster.end()


def _epoch_when_registered(cluster: DirectedCluster) -> int:
    """Of B, which the leader would have been told in a message that is held back."""
    process = cluster.player.host("B").process
    cluster.until(lambda: process.broker is not None and process.broker.replicas.broker_epoch > 0)
    return process.broker.replicas.broker_epoch


def test_race_7_a_bounced_follower_without_its_log_and_a_dead_leader_in_one_event():
    """The dead and the bounced fail together: failing the dead leader first would elect the
    follower whose disk is gone, and take the dead leader, who has everything, out of the ISR."""
    with DirectedCluster("AB", brokers=4, controller="C") as cluster:
        cluster.produce("A", run_ms=50)
        cluster.do("cut C Z")  # the controller misses what happens now
        cluster.do("replace-disk B")
        cluster.do("expire-dead B")
        cluster.do("restart B", run_ms=100)
        cluster.do("kill A")
        cluster.do("expire-dead A")
        cluster.do("heal", run_ms=2_000)
        assert cluster.acknowledged == 1
        cluster.do("restart A")
        cluster.until(lambda: cluster.leader == "A")
        cluster.end()


def test_race_8_a_refused_addition_and_then_the_delayed_copy_of_it():
    with DirectedCluster("AB", controller="C") as cluster:
        cluster.do("kill B", run_ms=3_000)
        cluster.produce("A", run_ms=20)
        held = cluster.hold("alter_partition")
        cluster.do("restart B")
        cluster.until(lambda: held)
        cluster.do("terminate B", run_ms=100)
        cluster.pass_all()
        cluster.break_off(held, run_ms=500)
        cluster.produce("A", run_ms=20)
        cluster.do("restart B", run_ms=20)
        cluster.release(held, run_ms=500)
        cluster.end()


def test_race_8_a_refused_addition_is_not_forgotten_while_a_copy_of_it_is_on_its_way():
    """B is refused since it shuts down. The next term of the controller does not know that, and
    finds nothing wrong with the first copy of the proposal, unless the leader has voided it."""
    with DirectedCluster("AB", controller="C") as cluster:
        cluster.do("kill B", run_ms=3_000)
        copies = cluster.hold("alter_partition", source="A")
        cluster.do("restart B")
        cluster.until(lambda: copies)
        cluster.pass_all()
        cluster.hold("update_state", target="A")
        cluster.hold("controlled_shutdown", source="B", answers=True)
        cluster.do("terminate B", run_ms=20)
        cluster.break_off(copies, run_ms=100)  # the next copy is refused
        for name in "AAAABBBB":  # so that C can be elected again
            cluster.do(f"fault {name} lost")
        cluster.do("expire C")
        cluster.until(
            lambda: cluster.world.zookeeper.jump_the_queue(cluster.player.host("C").number)
        )
        cluster.until(lambda: _is_active(cluster, "C"))
        cluster.release(copies)
        cluster.pass_all()
        cluster.end()


def _is_active(cluster: DirectedCluster, name: str) -> bool:
    broker = cluster.player.host(name).process.broker
    return broker.controller.active and cluster.world.controller() is cluster.player.host(name)


def test_race_8_a_broker_that_shuts_down_does_not_join_again():
    """KIP-841: its leader has not heard that it leaves, and learns the State from an answer."""
    settings = {"replica.lag.time.max.ms": "600"}
    with DirectedCluster("ABC", brokers=4, controller="D", settings=settings) as cluster:
        cluster.hold("update_state", target="A")
        cluster.hold("controlled_shutdown", source="C", answers=True)
        cluster.do("terminate C", run_ms=20)
        assert cluster.isr == "AB"
        cluster.do("cut A B")  # A proposes to drop B, and gets the State without C in the answer
        cluster.produce("A", "1")
        cluster.until(lambda: cluster.isr == "A")
        cluster.run(500)
        assert cluster.isr == "A"
        cluster.pass_all()
        cluster.end()


def test_race_9_a_fetch_of_an_older_incarnation_comes_after_one_of_the_next():
    """KAFKA-15221. B is outside the ISR all the time, so no epoch tells the two apart."""
    with DirectedCluster("AB", controller="C") as cluster:
        cluster.do("kill B", run_ms=3_000)
        cluster.hold("alter_partition", source="A")
        cluster.do("restart B", run_ms=300)
        held = cluster.hold("replica_fetch", source="B")
        cluster.produce("A", "1", run_ms=600)
        assert held
        cluster.break_off(held[:1])  # what is not of its session is no fetch: so ask in full
        cluster.until(lambda: len(held) > 1)
        cluster.do("kill B")
        cluster.do("expire-dead B", run_ms=50)
        cluster.pass_all()
        cluster.hold("alter_partition", source="A")
        cluster.do("restart B", run_ms=500)
        cluster.release(held[1:2])
        cluster.pass_all()
        cluster.end()


def test_race_9_a_fetch_from_before_a_term_that_its_leader_missed():
    """C fetched from A; then B led, and C cut its log; A leads again, with its log as it was, and
    only now the fetch arrives: offset and last epoch are right, the leader epoch is old (R7)."""
    with a_term_that_a_missed() as (cluster, old):
        cluster.release(old[:1])
        cluster.end()


def test_race_9_a_reply_from_before_a_term_that_its_follower_missed():
    """A's reply to C is slow. Meanwhile A was follower and cut the record that is in it, and leads
    again. C, which was asleep, hears of the new epoch first and then gets the reply: offset and
    last epoch are as when it asked."""
    settings = {"replica.lag.time.max.ms": "20000", "zookeeper.session.timeout.ms": "6000"}
    with DirectedCluster("BAC", brokers=4, controller="D", settings=settings) as cluster:
        cluster.do("kill B")
        cluster.do("expire-dead B")
        cluster.until(lambda: cluster.leader == "A")
        cluster.do("restart B")
        cluster.until(lambda: cluster.isr == "ABC")
        cluster.run(100)
        cluster.hold("replica_fetch", source="B", target="A")
        replies = cluster.hold("replica_fetch", source="C", target="A", answers=True)
        cluster.run(600)  # until C has fetched anew
        cluster.produce("A", "1", run_ms=20)
        cluster.do("pause C", run_ms=5)
        held = cluster.hold("update_state", target="C")
        cluster.do("elect D t-0 preferred", run_ms=20)
        assert cluster.leader == "B"
        cluster.produce("B", "1", run_ms=300)
        assert cluster.end_of("A") == cluster.end_of("B") == 1
        cluster.do("kill B")
        cluster.do("expire-dead B", run_ms=100)
        assert cluster.leader == "A"
        cluster.pass_all()
        cluster.break_off(held, run_ms=300)
        for reply in replies:
            reply.release_answer()
        cluster.do("resume C", run_ms=100)
        cluster.pass_all()
        cluster.end()


def test_race_9_a_late_fetch_and_a_late_reply_count_for_nothing():
    with DirectedCluster("AB", controller="C") as cluster:
        cluster.produce("A", run_ms=20)
        held = cluster.hold("replica_fetch", source="B")
        cluster.produce("A", "1", run_ms=600)
        cluster.break_off(held)
        cluster.pass_all()
        cluster.do("kill A", run_ms=2_500)
        assert cluster.leader == "B"
        cluster.produce("B", run_ms=20)
        cluster.do("restart A", run_ms=2_500)
        cluster.do("elect C t-0 preferred", run_ms=300)
        assert cluster.leader == "A"
        cluster.release(held)
        cluster.produce("A", run_ms=50)
        cluster.end()
