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

from tests.simulation.disk import SEGMENT_BATCHES
from tests.simulation.network import Exchange
from tests.simulation.stage import Stage, a_term_that_a_missed

SESSION_MS = 1_500


@pytest.mark.parametrize("acks", ["1", "all"])
def test_race_1_a_zombie_leader_that_is_cut_off_cannot_commit(acks):
    with Stage("ABC", controller="C") as stage:
        stage.produce("A", run_ms=20)
        stage.do("isolate A")
        stage.produce("A", acks, run_ms=5)
        stage.until(lambda: stage.leader == "B")
        stage.produce("A", acks, run_ms=5)
        stage.produce("B", run_ms=20)
        assert stage.acknowledged == 2
        stage.do("heal", run_ms=3_000)
        assert stage.said("A cuts t-0")
        stage.end()


def test_race_1_a_zombie_that_is_in_sync_alone_keeps_what_it_commits():
    with Stage("AB", controller="C") as stage:
        stage.do("kill B", run_ms=3_000)
        assert stage.isr == "A"
        stage.do("cut A Z", run_ms=SESSION_MS - 700)
        stage.produce("A", run_ms=20)
        assert stage.acknowledged == 1
        stage.run(2_000)
        assert (stage.leader, stage.isr) == ("none", "A")
        stage.do("restart B", run_ms=500)
        stage.do("heal")
        stage.end()


def test_nobody_waits_for_a_follower_whose_disk_is_full():
    """It was caught up, and it lives: the leader waited for it as for one that is about to join."""
    with Stage("ABC", controller="A") as stage:
        stage.produce("A", run_ms=20)
        stage.do("fill C")
        stage.produce("A", run_ms=50)
        assert stage.isr == "AB"
        assert stage.acknowledged == 2
        stage.produce("A", run_ms=20)
        assert stage.acknowledged == 3
        stage.end()


def test_records_that_all_have_are_taken_while_nobody_reaches_zookeeper():
    with Stage("ABC", minimum=2, controller="C") as stage:
        stage.produce("A", run_ms=20)
        for name in "ABC":
            stage.do(f"cut {name} Z")
        stage.run(3 * SESSION_MS)  # in ZooKeeper all sessions are over by now
        for _ in range(3):
            stage.produce("A", run_ms=50)
        assert stage.acknowledged == 4
        stage.produce("A", "1", run_ms=50)
        assert stage.end_of("A") == 4
        stage.do("heal", run_ms=3_000)
        stage.end()


@pytest.mark.parametrize("first", ["B", "C"])
def test_what_was_taken_without_zookeeper_survives_whoever_comes_back_first(first):
    with Stage("ABC", minimum=1, controller="C") as stage:
        stage.produce("A", run_ms=20)
        for name in "ABC":
            stage.do(f"cut {name} Z")
        stage.run(3 * SESSION_MS)
        stage.produce("A", run_ms=50)
        assert stage.acknowledged == 2
        stage.do(f"heal {first} Z")
        stage.until(lambda: stage.leader == first)
        stage.produce("A", run_ms=5)  # A has not heard of it
        stage.produce(first, run_ms=50)
        stage.run(2_500)
        before = stage.end_of("A")
        stage.produce("A", run_ms=50)  # by now it knows that it may not
        assert stage.end_of("A") == before
        stage.do("heal", run_ms=3_000)
        stage.end()


@pytest.mark.parametrize(
    ("minimum", "answer"), [(2, "at 1"), (3, "NOT_ENOUGH_REPLICAS_AFTER_APPEND")]
)
@pytest.mark.parametrize("how", ["death", "lag"])
def test_race_3_a_shrink_while_a_produce_request_waits(minimum, answer, how):
    settings = {"replica.lag.time.max.ms": "600"}
    with Stage("ABC", minimum=minimum, controller="B", settings=settings) as stage:
        stage.produce("A", run_ms=50)
        stage.do("kill C" if how == "death" else "cut A C")
        stage.produce("A", run_ms=10)
        stage.until(lambda: stage.isr == "AB")
        stage.run(500)
        [told] = [line for line in stage.world.lines if "A t-0 acks=all" in line][1:]
        assert told.endswith(f": {answer}")
        stage.end()


def test_race_5_epochs_of_one_record_on_alternating_leaders():
    with Stage("AB", controller="C") as stage:
        for _ in range(3):
            for one, other in (("A", "B"), ("B", "A")):
                stage.produce(stage.leader, "1", run_ms=1)
                stage.do(f"kill {one}", run_ms=2_500)
                stage.produce(other, "1", run_ms=1)
                stage.do(f"restart {one}")
                stage.run(2_500)
        stage.end()


def test_race_5_a_log_is_cut_at_the_largest_epoch_that_both_know():
    """KIP-279. B ends with an epoch that A missed, A with one that B does not know."""
    with a_term_that_a_missed(before=1) as (stage, _):
        stage.pass_all()
        stage.do("heal")
        stage.do("restart B", run_ms=2_000)
        stage.end()


def test_race_5_a_log_is_not_cut_to_its_own_high_watermark():
    """KIP-101. B has a record too many, and has not heard that the one before it is committed."""
    with Stage("ACB", brokers=4, controller="D") as stage:
        asked = stage.hold("replica_fetch", source="B", target="A")
        stage.run(600)
        stage.hold("replica_fetch", source="C", answers=True, where=_is_at(1))
        stage.produce("A", "1", run_ms=10)
        stage.produce("A", "1", run_ms=10)
        stage.pass_all()
        stage.release(asked)
        assert stage.ledger.committed_end == 1
        assert [stage.end_of(name) for name in "ACB"] == [2, 1, 2]
        stage.do("kill A")
        stage.do("expire-dead A", run_ms=100)
        assert stage.leader == "C"
        assert stage.said("B cuts t-0 from 2 to 1")
        stage.end()


def _is_at(offset: int) -> Callable[[Exchange], bool]:
    """A fetch from this offset."""
    return lambda exchange: exchange.request.positions[0].fetch_offset == offset


def test_race_5_an_acknowledgement_never_refers_to_a_record_that_took_its_place():
    """KAFKA-1148. A waits for B with a record; B leads without it; A cuts it, gets another one in
    its place, and leads again: who waited must not be told that all is well."""
    with _a_record_that_is_replaced("A") as stage:
        stage.do("kill B")
        stage.do("expire-dead B", run_ms=300)
        assert stage.leader == "A"
        assert stage.acknowledged == 0
        stage.end()


def test_race_5_a_producer_sends_again_what_was_cut():
    """KAFKA-12153: A must not take it for the repetition of what it has no more."""
    with _a_record_that_is_replaced("A", "producer 0") as stage:
        stage.do("kill B")
        stage.do("expire-dead B", run_ms=300)
        stage.produce("A", more="producer 0", run_ms=100)
        assert stage.acknowledged == 1
        stage.end()


@contextmanager
def _a_record_that_is_replaced(leader: str, producer: str = "") -> Iterator[Stage]:
    """A record of A's that B has not got; B leads; at the same offset A has a record of B's now."""
    with Stage("BA", controller="C", settings={"replica.lag.time.max.ms": "20000"}) as stage:
        stage.do("kill B")
        stage.do("expire-dead B")
        stage.until(lambda: stage.leader == leader)
        stage.do("restart B")
        stage.until(lambda: stage.isr == "AB")
        stage.hold("replica_fetch", source="B", target="A")
        stage.run(600)
        stage.produce("A", more=producer, run_ms=20)
        assert (stage.end_of("A"), stage.end_of("B")) == (1, 0)
        stage.do("elect C t-0 preferred", run_ms=20)
        assert stage.leader == "B"
        stage.produce("B", "1", run_ms=300)
        stage.pass_all()
        yield stage


def test_race_6_a_new_leader_does_not_know_yet_where_the_end_is():
    """KIP-207: a consumer was told 1, and must not be told 0."""
    with Stage("ABC", controller="C") as stage:
        stage.produce("A", run_ms=10)
        stage.do("latest A t-0", run_ms=10)
        stage.do("kill A")
        stage.do("expire-dead A")
        stage.hold("replica_fetch", source="C", target="B")
        stage.until(lambda: stage.world.leads(stage.player.host("B"), stage.ledger.topic_partition))
        stage.do("latest B t-0", run_ms=10)
        stage.pass_all()
        stage.run(3_000)
        stage.do("latest B t-0", run_ms=10)
        assert stage.ledger.shown == {0: 1, 1: 1}
        stage.end()


def test_race_6_records_that_were_deleted_come_back_with_their_epochs():
    """Found by a walk (seed 10): the leader is killed right after DeleteRecords and a new epoch.
    Its log start was not on the disk yet, but the epochs without those of what was deleted were."""
    with Stage("ABC", controller="C") as stage:
        for _ in range(2):
            stage.produce("A", run_ms=100)
        stage.run(1_500)
        stage.do("delete-records A t-0 2", run_ms=20)
        stage.do("expire B", run_ms=100)  # a new epoch: it is stored at once
        stage.do("kill A")
        stage.do("restart A", run_ms=3_000)
        stage.end()


def test_race_6_a_follower_without_a_log_begins_where_the_leaders_begins_inside_a_batch():
    """KAFKA-6975: records were deleted up to the middle of a batch, which is there as a whole."""
    with Stage("AB", controller="C") as stage:
        stage.do("produce A t-0 all 2", run_ms=100)
        stage.do("produce A t-0 all 1", run_ms=100)
        stage.do("delete-records A t-0 1", run_ms=700)
        stage.do("replace-disk B")
        stage.do("restart B", run_ms=4_000)
        assert (stage.isr, stage.end_of("B")) == ("AB", 3)
        stage.end()


@pytest.mark.parametrize("members", ["B", "ABC"])
def test_race_6_what_was_acknowledged_is_on_every_disk_where_that_is_asked_for(members):
    with Stage(members, controller="C", configs="flush.before.ack=true") as stage:
        for _ in range(3):
            stage.produce(stage.leader, run_ms=2)
        stage.run(50)
        assert stage.acknowledged == 3
        for name in members:
            stage.do(f"power {name} 0")
        assert {name: stage.end_of(name) for name in members} == dict.fromkeys(members, 3)


@pytest.mark.parametrize("how", ["kill", "power 0", "power 0.5", "replace-disk"])
@pytest.mark.parametrize("members", ["A", "AB", "ABC"])
def test_race_6_a_leader_restarts(how, members):
    """With its log, with less of it, with none; the high watermark checkpoint is old."""
    verb, _, survives = how.partition(" ")
    with Stage(members, controller="C" if len(members) < 3 else "B") as stage:
        for _ in range(3):
            stage.produce("A", run_ms=2)
        stage.run(20)
        stage.produce("A", "1", run_ms=1)
        stage.do(f"{verb} A {survives}".strip())
        stage.do("restart A", run_ms=3_500)
        assert stage.acknowledged == 3
        if verb != "kill" and members == "A":
            assert (stage.leader, stage.isr) == ("none", "")
            return
        stage.end()


@pytest.mark.parametrize("deaths", list(permutations("ABC")), ids="".join)
@pytest.mark.parametrize("returns", list(permutations("ABC")), ids="".join)
def test_race_15_all_die_in_every_order_and_return_in_every_order(deaths, returns):
    with Stage("ABC", brokers=4, controller="D") as stage:
        for name in deaths:
            stage.produce(stage.leader, run_ms=20)
            stage.do(f"kill {name}")
            stage.until(lambda name=name: stage.leader != name and name not in _live_isr(stage))
            stage.run(50)
        for name in returns:
            stage.do(f"restart {name}", run_ms=300)
        assert stage.acknowledged == 3
        stage.end()


def _live_isr(stage: Stage) -> str:
    return stage.isr if stage.leader != "none" else ""


def test_retention_took_what_an_unclean_election_replaced_and_the_replica_follows():
    """A, elected uncleanly, retains nothing of what it had instead of B's records; then B is
    elected uncleanly. All that A has left contradicts B's log, so it is cut to where it begins."""
    configs = "unclean.leader.election.enable=true retention.ms=3000"
    with Stage("AB", controller="C", configs=configs) as stage:
        stage.produce("A", run_ms=100)
        stage.do("kill A")
        stage.until(lambda: stage.leader == "B")
        for _ in range(1, SEGMENT_BATCHES):
            stage.produce("B", "1", run_ms=5)
        stage.do("kill B")
        stage.do("restart A")
        stage.until(lambda: stage.leader == "A")
        for _ in range(1, SEGMENT_BATCHES + 1):
            stage.produce("A", run_ms=5)
        stage.until(lambda: stage.start_of("A") == SEGMENT_BATCHES)
        stage.do("kill A")
        stage.do("restart B")
        stage.until(lambda: stage.leader == "B")
        stage.produce("B", run_ms=5)
        stage.do("restart A")
        cut = f"A cuts t-0 from {SEGMENT_BATCHES + 1} to {SEGMENT_BATCHES}"
        stage.until(lambda: stage.said(cut))
        stage.end()


def test_a_high_watermark_of_records_that_are_lost_does_not_come_back_for_others():
    """A and C lose what was committed, C is elected uncleanly, and appends what A has not got: of
    its old high watermark nothing may be left, though C is killed and leads anew."""
    configs = "unclean.leader.election.enable=true"
    with Stage("BAC", brokers=4, controller="D", configs=configs) as stage:
        for _ in range(3):
            stage.produce("B", run_ms=20)
        stage.until(lambda: _checkpointed(stage, "C") == 3)
        for name in "CA":
            stage.do(f"power {name} 0.4")
            stage.do(f"restart {name}")
            stage.do(f"expire-dead {name}")
        stage.do("kill B")
        stage.do("expire-dead B")
        stage.until(lambda: stage.isr == "AC")
        leader = stage.leader
        follower = "A" if leader == "C" else "C"
        kept = stage.end_of(follower)
        assert kept < 3
        stage.do(f"kill {follower}")
        for _ in range(3):
            stage.produce(leader, "1", run_ms=2)
        stage.do(f"kill {leader}")
        stage.do("pause D")  # it finds both back at once
        for name in (leader, follower):
            stage.do(f"restart {name}")
            stage.do(f"expire-dead {name}")
        stage.run(400)
        stage.hold("replica_fetch", source=follower)
        stage.do("resume D")
        host = stage.player.host(leader)
        stage.until(lambda: stage.world.leads(host, stage.ledger.topic_partition))
        stage.run(100)
        log = stage.world.ledger.log_of(stage.ledger, host.number)
        assert log is not None
        assert stage.isr == "AC"
        assert (log.end, log.high_watermark) == (kept + 3, kept)
        stage.pass_all()
        stage.end()


def _checkpointed(stage: Stage, name: str) -> int:
    log = stage.world.ledger.log_of(stage.ledger, stage.player.host(name).number)
    assert log is not None
    return log.checkpointed_high_watermark
