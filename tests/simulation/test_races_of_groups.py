"""Races of the offsets of groups, in transactions and beside them (nos. 17 and 36 to 39 of
transactions.md section 10), each as a scenario of the whole runtime. Coordinators are those of the
product. What is told, and what a coordinator knows, is judged in all of them (grouped.py)."""

from __future__ import annotations

import pytest

from minikafka.broker.groups.shard import GroupShard
from minikafka.model import OFFSETS_TOPIC, TopicPartition
from tests.simulation.actions import group_key
from tests.simulation.directed import DirectedCluster
from tests.simulation.group_log import Written
from tests.simulation.grouped import service_of
from tests.simulation.network import Exchange
from tests.simulation.test_races_of_coordinators import (
    TV1,
    VERSIONS,
    coordinator,
    outcomes,
    settled,
)

KEY = group_key("g:t-0")
GROUPS = TopicPartition(OFFSETS_TOPIC, 0)
NOT_TOLD = -2
OUTCOMES = pytest.mark.parametrize("outcome", ["commit", "abort"])


def at_rest(cluster: DirectedCluster) -> None:
    """Until no client of a group is at work."""
    cluster.until(lambda: not cluster.world.members.at_work)


def commit(cluster: DirectedCluster, key: str = "g:t-0") -> int:
    """A plain one, acknowledged; returns the offset."""
    cluster.do(f"offset-commit {key}")
    at_rest(cluster)
    return sent(cluster)


def told(cluster: DirectedCluster, key: str = "g:t-0", how: str = "stable") -> int:
    """What is told of the offset, or NOT_TOLD if nothing is in the time that a client takes."""
    members = cluster.world.members
    members.told.pop(group_key(key), None)
    cluster.do(f"offset-fetch {key} {how}")
    at_rest(cluster)
    return members.told.get(group_key(key), NOT_TOLD)


def sent(cluster: DirectedCluster) -> int:
    """The offset that was sent last."""
    return max(cluster.world.grouped.sent)


def leader_of_groups(cluster: DirectedCluster) -> str:
    """As ZooKeeper has it: the name of the broker that coordinates all groups."""
    ledger = cluster.world.ledger.current(GROUPS)
    assert ledger is not None
    assert ledger.state is not None
    return "none" if ledger.state.leader == -1 else cluster.world.name(ledger.state.leader)


def shard_at(cluster: DirectedCluster, name: str) -> GroupShard | None:
    """The groups there, read or not."""
    service = service_of(cluster.player.host(name))
    return None if service is None else service.group_shards._shards.get(0)


def begun(cluster: DirectedCluster, version: int, where: str = "") -> tuple[int, int]:
    """A group with an offset, and a client with a producer id whose coordinator is another broker
    than that of the group; or that one (`where`). Returns the client's slot, and the offset."""
    offset = commit(cluster)
    cluster.do(f"transact 0 {version} commit t-0")
    settled(cluster)
    for slot in range(9):
        name = coordinator(cluster, slot)
        if name == where or (not where and name != leader_of_groups(cluster)):
            cluster.do(f"transact {slot} {version} commit t-0")
            settled(cluster)
            return slot, offset
    raise AssertionError("there is no such id")


def staged(cluster: DirectedCluster, slot: int, version: int, outcome: str) -> list[Exchange]:
    """A transaction has an offset of the group in it; gives its end, on its way."""
    ends = cluster.hold("end")
    cluster.do(f"transact {slot} {version} {outcome} t-0 g:t-0")
    cluster.until(lambda: ends)
    cluster.pass_all()
    return ends


def ended(cluster: DirectedCluster, ends: list[Exchange]) -> None:
    cluster.release(ends)
    settled(cluster)


def died(cluster: DirectedCluster, name: str) -> None:
    """It is killed, and another broker has taken its place for the groups."""
    cluster.do(f"kill {name}")
    cluster.until(lambda: leader_of_groups(cluster) not in (name, "none"))


def restarted(cluster: DirectedCluster, name: str) -> None:
    cluster.do(f"restart {name}")
    ledger = cluster.world.ledger.current(GROUPS)
    assert ledger is not None
    cluster.until(lambda: ledger.state is not None and len(ledger.state.isr) == 3)


@VERSIONS
def test_offsets_of_a_transaction_count_when_it_is_committed(version):
    with DirectedCluster("ABC") as cluster:
        expected = commit(cluster)
        assert told(cluster) == expected
        for outcome in ("abort", "commit", "commit", "abort"):
            ended(cluster, staged(cluster, 0, version, outcome))
            expected = sent(cluster) if outcome == "commit" else expected
            assert told(cluster) == expected
        cluster.end()


def test_who_wants_stable_offsets_waits_for_the_end_of_a_transaction():
    """Until its marker is committed, which is after its end is."""
    with DirectedCluster("ABC") as cluster:
        slot, before = begun(cluster, TV1)
        ends = staged(cluster, slot, TV1, "commit")
        assert told(cluster) == NOT_TOLD
        assert told(cluster, how="any") == before
        markers = cluster.hold("write_markers", target=leader_of_groups(cluster))
        cluster.release(ends, run_ms=200)
        assert markers
        assert told(cluster) == NOT_TOLD
        cluster.pass_all()
        cluster.release(markers)
        settled(cluster)
        assert told(cluster) == sent(cluster)
        cluster.end()


def test_race_17_offsets_that_come_late_are_part_of_no_later_transaction():
    """In version 1 it has the same epoch."""
    with DirectedCluster("ABC") as cluster:
        slot, _ = begun(cluster, TV1)
        late = cluster.hold("txn_offset_commit")
        cluster.do(f"transact {slot} 1 commit t-0 g:t-0")
        cluster.until(lambda: late)
        cluster.pass_all()
        cluster.break_off(late)
        settled(cluster)
        expected = sent(cluster)
        ends = staged(cluster, slot, TV1, "abort")
        cluster.release(late, run_ms=300)
        ended(cluster, ends)
        assert told(cluster) == expected
        assert outcomes(cluster)[-2:] == ["commit", "abort"]
        cluster.end()


# --- 36 ------------------------------------------------------------------------------------------


class Against:
    """What happens to an offset besides a transaction. `do` does it, and returns what the group is
    told then if nothing else has come."""

    def __init__(self, cluster: DirectedCluster, what: str, key: str) -> None:
        self.cluster, self.what, self.key = cluster, what, key

    def do(self) -> int:
        cluster = self.cluster
        match self.what:
            case "a commit":
                return commit(cluster, self.key)
            case "a deletion of the offset":
                cluster.do(f"offset-delete {self.key}")
            case "a deletion of the group":
                cluster.do("group-delete g")
            case "expiry":
                leader = leader_of_groups(cluster)
                cluster.do(f"clock {leader} 70000", run_ms=700)
                cluster.do(f"clock {leader} -70000")
            case "a deletion of the topic":
                cluster.do("delete A u", run_ms=500)
        at_rest(cluster)
        return -1


@OUTCOMES
@pytest.mark.parametrize(
    "what",
    ["a commit", "a deletion of the offset", "a deletion of the group", "expiry"],
)
def test_race_36_the_later_of_two_records_counts(what, outcome):
    """Something else happens to the offset before it is staged, while it is, and after its end; and
    whoever coordinates next says the same. What is staged does not expire."""
    settings = {"offsets.retention.check.interval.ms": "300"}
    with DirectedCluster("ABC", settings=settings) as cluster:
        against = Against(cluster, what, "g:t-0")
        commits = outcome == "commit"
        commit(cluster)

        before = against.do()
        ended(cluster, staged(cluster, 0, TV1, outcome))
        value = sent(cluster) if commits else before
        assert told(cluster) == value

        value = commit(cluster)
        ends = staged(cluster, 1, 2, outcome)
        in_transaction = sent(cluster)
        other = against.do()
        ended(cluster, ends)
        if what != "expiry":
            value = other
        elif commits:
            value = in_transaction
        assert told(cluster) == value

        ended(cluster, staged(cluster, 1, 2, outcome))
        told(cluster)
        value = against.do()
        assert told(cluster) == value

        name = leader_of_groups(cluster)
        died(cluster, name)
        assert told(cluster) == value
        restarted(cluster, name)
        cluster.end()


@OUTCOMES
@pytest.mark.parametrize("verb", ["offset-commit g:t-0", "offset-delete g:t-0", "group-delete g"])
def test_race_36_what_lies_above_a_marker_that_is_not_committed_counts(verb, outcome):
    """They are committed at once, by the same fetches of followers."""
    with DirectedCluster("ABC") as cluster:
        slot, _ = begun(cluster, TV1)
        name = leader_of_groups(cluster)
        ends = staged(cluster, slot, TV1, outcome)
        fetches = cluster.hold("replica_fetch", target=name)
        replica = cluster.player.host(name).replica(GROUPS)
        assert replica is not None
        log = replica.core.log_state
        for do in (lambda: cluster.release(ends), lambda: cluster.do(verb)):
            end_offset = log.log_end_offset
            do()
            cluster.until(lambda end_offset=end_offset: log.log_end_offset > end_offset)
        assert log.high_watermark < log.log_end_offset
        cluster.pass_all()
        cluster.release(fetches)
        settled(cluster)
        at_rest(cluster)
        assert told(cluster) == (sent(cluster) if verb.startswith("offset-commit") else -1)
        cluster.end()


@OUTCOMES
def test_race_36_the_offsets_of_a_topic_go_with_it(outcome):
    with DirectedCluster("ABC") as cluster:
        against = Against(cluster, "a deletion of the topic", "g:u-0")
        cluster.do("create A u ABC", run_ms=300)
        commit(cluster, "g:u-0")
        ends = cluster.hold("end")
        cluster.do(f"transact 0 2 {outcome} t-0 g:u-0")
        cluster.until(lambda: ends)
        cluster.pass_all()
        gone = against.do()
        ended(cluster, ends)
        assert told(cluster, "g:u-0") == gone
        name = leader_of_groups(cluster)
        died(cluster, name)
        assert told(cluster, "g:u-0") == gone
        restarted(cluster, name)
        cluster.end()


# --- 37 ------------------------------------------------------------------------------------------


@OUTCOMES
@VERSIONS
def test_race_37_a_marker_waits_while_the_groups_are_read(version, outcome):
    """The next coordinator has a record of its predecessor's that it cannot know to be committed
    yet, so it does not know its groups: a marker that it took would end nothing."""
    settings = {"replica.lag.time.max.ms": "20000"}
    with DirectedCluster("ABC", settings=settings) as cluster:
        commit(cluster)
        replicas = cluster.world.topics[OFFSETS_TOPIC].assignments[0].replicas
        name, successor, third = (cluster.world.name(each) for each in replicas)
        slot, before = begun(cluster, version, third)
        ends = staged(cluster, slot, version, outcome)
        expected = sent(cluster) if outcome == "commit" else before
        cluster.hold("replica_fetch", target=name)
        cluster.do("offset-commit h:t-0", run_ms=50)
        fetches = cluster.hold("replica_fetch", source=third, target=successor)
        died(cluster, name)
        assert leader_of_groups(cluster) == successor
        cluster.until(lambda: shard_at(cluster, successor) is not None)
        cluster.release(ends, run_ms=300)
        shard = shard_at(cluster, successor)
        assert shard is not None
        assert not shard.loaded
        cluster.do("offset-fetch g:t-0 stable", run_ms=100)
        assert KEY not in cluster.world.members.told
        cluster.pass_all()
        cluster.release(fetches)
        cluster.until(lambda: shard.loaded)
        settled(cluster)
        at_rest(cluster)
        assert told(cluster) == expected
        cluster.do(f"restart {name}", run_ms=500)
        cluster.end()


@OUTCOMES
@pytest.mark.parametrize("kept", [True, False])
def test_race_37_a_coordinator_dies_when_the_marker_is_in_its_log(outcome, kept):
    """And in the others', or not; nobody knows that it is committed. The offset counts at the next
    one all the same, and before that nobody is told what it may replace."""
    with DirectedCluster("ABC") as cluster:
        slot, before = begun(cluster, TV1)
        name = leader_of_groups(cluster)
        ends = staged(cluster, slot, TV1, outcome)
        expected = sent(cluster) if outcome == "commit" else before
        cluster.hold("replica_fetch", target=name)
        if not kept:
            cluster.do("offset-commit h:t-0", run_ms=50)
        replica = cluster.player.host(name).replica(GROUPS)
        assert replica is not None
        end_offset = replica.core.log_state.log_end_offset
        cluster.release(ends)
        cluster.until(lambda: replica.core.log_state.log_end_offset > end_offset)
        assert replica.core.log_state.high_watermark <= end_offset
        cluster.do("offset-fetch g:t-0 stable", run_ms=200)
        assert KEY not in cluster.world.members.told
        died(cluster, name)
        cluster.pass_all()
        settled(cluster)
        at_rest(cluster)
        assert told(cluster) == expected
        restarted(cluster, name)
        assert told(cluster) == expected
        cluster.end()


# --- 38 ------------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("how", ["it leaves", "another joins"])
def test_race_38_a_generation_ends_while_its_offsets_wait_for_the_word(version, how):
    """Nothing of them is in the log, and the transaction cannot be committed."""
    with DirectedCluster("ABC") as cluster:
        slot, before = begun(cluster, version)
        cluster.do("group-join g")
        at_rest(cluster)
        held = cluster.hold(
            "check_partitions", where=lambda exchange: GROUPS in exchange.request.partitions
        )
        cluster.do(f"transact {slot} {version} commit t-0 g:t-0")
        cluster.until(lambda: held)
        cluster.pass_all()
        refused = sent(cluster)
        cluster.do("group-leave g" if how == "it leaves" else "group-join g")
        at_rest(cluster)
        cluster.release(held)
        settled(cluster)
        assert outcomes(cluster)[-1] == "abort"
        assert cluster.said("UnknownMemberIdError")
        assert told(cluster) == before
        entries = cluster.world.grouped.entries
        assert refused not in {each.value for each in entries if isinstance(each, Written)}
        ended(cluster, staged(cluster, slot, version, "commit"))
        assert told(cluster) == sent(cluster)
        cluster.end()


# --- 39 ------------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("how", ["dies", "leads no more"])
def test_race_39_the_group_moves_between_its_being_added_and_its_offsets(version, how):
    with DirectedCluster("ABC") as cluster:
        slot, _ = begun(cluster, version)
        first = leader_of_groups(cluster)
        if how == "leads no more":
            died(cluster, first)
            restarted(cluster, first)
        name = leader_of_groups(cluster)
        held = cluster.hold("txn_offset_commit")
        cluster.do(f"transact {slot} {version} commit t-0 g:t-0")
        cluster.until(lambda: held)
        cluster.pass_all()
        expected = sent(cluster)
        if how == "dies":
            died(cluster, name)
        else:
            cluster.do(f"elect A {GROUPS} preferred")
            cluster.until(lambda: leader_of_groups(cluster) == first)
        cluster.release(held)
        settled(cluster)
        assert outcomes(cluster)[-1] == "commit"
        assert told(cluster) == expected
        if how == "dies":
            restarted(cluster, name)
        cluster.end()
