"""Races of messages between brokers: late, twice, out of order, or of incarnations that are over
(replication.md section 8, nos. 4, 7, 8 and 9). See test_races_of_leaders.py.
"""

from __future__ import annotations

from tests.simulation.stage import Stage, a_term_that_a_missed


def test_race_4_an_old_message_after_a_newer_one_changes_nothing():
    with Stage("ABC", controller="C") as stage:
        held = stage.hold("update_state", source="C", target="A")
        stage.do("terminate B", run_ms=400)
        assert held
        stage.pass_all()
        stage.break_off(held)
        stage.run(300)
        epoch = stage.state.leader_epoch
        stage.release(held, run_ms=500)
        replica = stage.player.host("A").replica(stage.ledger.topic_partition)
        assert replica is not None
        assert replica.core.leader_epoch == epoch
        stage.end()


def test_race_4_an_old_answer_to_a_proposal_after_a_newer_state_changes_nothing():
    """The State travels in the controller's answer, too, and the answer is slow (R3)."""
    with Stage("ABC", controller="C") as stage:
        stage.do("kill B", run_ms=3_000)
        answers = stage.hold("alter_partition", source="A", answers=True)
        stage.do("restart B")
        stage.until(lambda: stage.isr == "ABC")
        stage.pass_all()
        stage.do("kill B", run_ms=3_000)
        assert stage.isr == "AC"
        for answer in answers:
            answer.release_answer()
        stage.run(50)
        replica = stage.player.host("A").replica(stage.ledger.topic_partition)
        assert replica is not None
        assert replica.core.state == stage.state
        stage.end()


def test_race_4_an_old_list_of_live_brokers_after_a_newer_one_is_passed_over():
    """Found by a walk: a message of the controller that lay in a buffer told the leader of a
    cluster without C. The leader took C for ineligible, and C never came into the ISR again."""
    with Stage("ABC", controller="B") as stage:
        stage.do("kill C")
        held = stage.hold("update_state", source="B", target="A")
        stage.until(lambda: stage.isr == "AB")
        stage.until(lambda: held)
        stage.pass_all()
        stage.break_off(held)
        stage.do("restart C")
        stage.until(lambda: stage.isr == "ABC")
        stage.run(500)
        stage.release(held)
        broker = stage.player.host("A").process.broker
        assert 3 in broker.metadata.eligible
        stage.end()


def test_race_4_a_leader_that_missed_a_term_forgets_where_its_followers_were():
    """A leads, B leads, A leads again, and A has heard nothing of B's term (R4). In that term C cut
    off records that A had sent it: where C was before says nothing."""
    with a_term_that_a_missed() as (stage, _):
        stage.produce("A", "1", run_ms=20)
        stage.pass_all()
        stage.end()


def test_race_7_a_follower_dies_with_its_addition_in_flight_and_returns_empty():
    """KIP-903: the copy of the proposal that is still on its way is of an incarnation that is
    over."""
    with Stage("AB", controller="C") as stage:
        stage.do("kill B", run_ms=3_000)
        stage.produce("A", run_ms=20)
        held = stage.hold("alter_partition")
        stage.do("restart B")
        stage.until(lambda: held)
        stage.do("replace-disk B")
        stage.hold("replica_fetch", source="B")
        stage.do("restart B")
        stage.until(lambda: stage.world.hosts[2].process.broker is not None)
        stage.until(lambda: stage.world.hosts[2].process.broker.replicas.broker_epoch > 0)
        stage.run(100)
        stage.release(held)
        assert stage.isr == "A"
        stage.end()


def test_race_7_an_addition_that_was_applied_counts_though_nobody_told_the_leader():
    """R5: what the leader has proposed may be in force, from the moment of the proposal."""
    settings = {"replica.lag.time.max.ms": "600"}
    with Stage("AB", controller="C", settings=settings) as stage:
        stage.do("kill B", run_ms=3_000)
        assert stage.isr == "A"
        stage.unanswered("alter_partition", "A")
        stage.hold("update_state", target="A")
        stage.do("restart B")
        broker = stage.player.host("A").process.broker
        broker.metadata.eligible[2] = _epoch_when_registered(stage)
        stage.until(lambda: stage.isr == "AB")
        stage.do("cut-one-way B A")
        stage.produce("A", run_ms=1_000)  # by then it is no outsider that is about to join, either
        stage.produce("A", run_ms=200)
        assert stage.acknowledged == 0
        stage.pass_all()
        stage.end()


def _epoch_when_registered(stage: Stage) -> int:
    """Of B, which the leader would have been told in a message that is held back."""
    process = stage.player.host("B").process
    stage.until(lambda: process.broker is not None and process.broker.replicas.broker_epoch > 0)
    return process.broker.replicas.broker_epoch


def test_race_7_a_bounced_follower_without_its_log_and_a_dead_leader_in_one_event():
    """The dead and the bounced fail together: failing the dead leader first would elect the
    follower whose disk is gone, and take the dead leader, who has everything, out of the ISR."""
    with Stage("AB", brokers=4, controller="C") as stage:
        stage.produce("A", run_ms=50)
        stage.do("cut C Z")  # the controller misses what happens now
        stage.do("replace-disk B")
        stage.do("expire-dead B")
        stage.do("restart B", run_ms=100)
        stage.do("kill A")
        stage.do("expire-dead A")
        stage.do("heal", run_ms=2_000)
        assert stage.acknowledged == 1
        stage.do("restart A")
        stage.until(lambda: stage.leader == "A")
        stage.end()


def test_race_8_a_refused_addition_and_then_the_delayed_copy_of_it():
    with Stage("AB", controller="C") as stage:
        stage.do("kill B", run_ms=3_000)
        stage.produce("A", run_ms=20)
        held = stage.hold("alter_partition")
        stage.do("restart B")
        stage.until(lambda: held)
        stage.do("terminate B", run_ms=100)
        stage.pass_all()
        stage.break_off(held, run_ms=500)
        stage.produce("A", run_ms=20)
        stage.do("restart B", run_ms=20)
        stage.release(held, run_ms=500)
        stage.end()


def test_race_8_a_refused_addition_is_not_forgotten_while_a_copy_of_it_is_on_its_way():
    """B is refused since it shuts down. The next term of the controller does not know that, and
    finds nothing wrong with the first copy of the proposal, unless the leader has voided it."""
    with Stage("AB", controller="C") as stage:
        stage.do("kill B", run_ms=3_000)
        copies = stage.hold("alter_partition", source="A")
        stage.do("restart B")
        stage.until(lambda: copies)
        stage.pass_all()
        stage.hold("update_state", target="A")
        stage.hold("controlled_shutdown", source="B", answers=True)
        stage.do("terminate B", run_ms=20)
        stage.break_off(copies, run_ms=100)  # the next copy is refused
        for name in "AAAABBBB":  # so that C can be elected again
            stage.do(f"fault {name} lost")
        stage.do("expire C")
        stage.until(lambda: stage.world.zookeeper.jump_the_queue(stage.player.host("C").number))
        stage.until(lambda: _is_active(stage, "C"))
        stage.release(copies)
        stage.pass_all()
        stage.end()


def _is_active(stage: Stage, name: str) -> bool:
    broker = stage.player.host(name).process.broker
    return broker.controller.active and stage.world.controller() is stage.player.host(name)


def test_race_8_a_broker_that_shuts_down_does_not_join_again():
    """KIP-841: its leader has not heard that it leaves, and learns the State from an answer."""
    settings = {"replica.lag.time.max.ms": "600"}
    with Stage("ABC", brokers=4, controller="D", settings=settings) as stage:
        stage.hold("update_state", target="A")
        stage.hold("controlled_shutdown", source="C", answers=True)
        stage.do("terminate C", run_ms=20)
        assert stage.isr == "AB"
        stage.do("cut A B")  # A proposes to drop B, and gets the State without C in the answer
        stage.produce("A", "1")
        stage.until(lambda: stage.isr == "A")
        stage.run(500)
        assert stage.isr == "A"
        stage.pass_all()
        stage.end()


def test_race_9_a_fetch_of_an_older_incarnation_comes_after_one_of_the_next():
    """KAFKA-15221. B is outside the ISR all the time, so no epoch tells the two apart."""
    with Stage("AB", controller="C") as stage:
        stage.do("kill B", run_ms=3_000)
        stage.hold("alter_partition", source="A")
        stage.do("restart B", run_ms=300)
        held = stage.hold("replica_fetch", source="B")
        stage.produce("A", "1", run_ms=600)
        assert held
        stage.do("kill B")
        stage.do("expire-dead B", run_ms=50)
        stage.pass_all()
        stage.hold("alter_partition", source="A")
        stage.do("restart B", run_ms=500)
        stage.release(held[:1])
        stage.pass_all()
        stage.end()


def test_race_9_a_fetch_from_before_a_term_that_its_leader_missed():
    """C fetched from A; then B led, and C cut its log; A leads again, with its log as it was, and
    only now the fetch arrives: offset and last epoch are right, the leader epoch is old (R7)."""
    with a_term_that_a_missed() as (stage, old):
        stage.release(old[:1])
        stage.end()


def test_race_9_a_reply_from_before_a_term_that_its_follower_missed():
    """A's reply to C is slow. Meanwhile A was follower and cut the record that is in it, and leads
    again. C, which was asleep, hears of the new epoch first and then gets the reply: offset and
    last epoch are as when it asked."""
    settings = {"replica.lag.time.max.ms": "20000", "zookeeper.session.timeout.ms": "6000"}
    with Stage("BAC", brokers=4, controller="D", settings=settings) as stage:
        stage.do("kill B")
        stage.do("expire-dead B")
        stage.until(lambda: stage.leader == "A")
        stage.do("restart B")
        stage.until(lambda: stage.isr == "ABC")
        stage.run(100)
        stage.hold("replica_fetch", source="B", target="A")
        replies = stage.hold("replica_fetch", source="C", target="A", answers=True)
        stage.run(600)  # until C has fetched anew
        stage.produce("A", "1", run_ms=20)
        stage.do("pause C", run_ms=5)
        held = stage.hold("update_state", target="C")
        stage.do("elect D t-0 preferred", run_ms=20)
        assert stage.leader == "B"
        stage.produce("B", "1", run_ms=300)
        assert stage.end_of("A") == stage.end_of("B") == 1
        stage.do("kill B")
        stage.do("expire-dead B", run_ms=100)
        assert stage.leader == "A"
        stage.pass_all()
        stage.break_off(held, run_ms=300)
        for reply in replies:
            reply.release_answer()
        stage.do("resume C", run_ms=100)
        stage.pass_all()
        stage.end()


def test_race_9_a_late_fetch_and_a_late_reply_count_for_nothing():
    with Stage("AB", controller="C") as stage:
        stage.produce("A", run_ms=20)
        held = stage.hold("replica_fetch", source="B")
        stage.produce("A", "1", run_ms=600)
        stage.break_off(held)
        stage.pass_all()
        stage.do("kill A", run_ms=2_500)
        assert stage.leader == "B"
        stage.produce("B", run_ms=20)
        stage.do("restart A", run_ms=2_500)
        stage.do("elect C t-0 preferred", run_ms=300)
        assert stage.leader == "A"
        stage.release(held)
        stage.produce("A", run_ms=50)
        stage.end()
