"""Races of transactions whose coordinators are those of the product (coordinated.py): nos. 17, 20,
22, 25 to 27 and 43 of transactions.md section 10, each as a scenario of the whole runtime."""

from __future__ import annotations

import pytest

from minikafka.model import TRANSACTIONS_TOPIC
from tests.simulation.directed import DirectedCluster

TV1, TV2 = 1, 2
VERSIONS = pytest.mark.parametrize("version", [TV1, TV2])


def settled(cluster: DirectedCluster) -> None:
    """Until no client is at work."""
    cluster.until(lambda: not cluster.world.coordinated.at_work)


def outcomes(cluster: DirectedCluster) -> list[str | None]:
    return [attempt.outcome for attempt in cluster.world.coordinated.attempts]


def coordinator(cluster: DirectedCluster, slot: int) -> str:
    """The name of the broker that coordinates this id."""
    for host in cluster.world.hosts.values():
        process = host.process
        if process is None or process.broker is None or process.ended:
            continue
        topic = process.broker.service._transactions_topic
        if topic.partition_of("") is not None:
            return cluster.world.name(topic.coordinator_of(f"orders-{slot}").broker_id)
    raise AssertionError("there is no coordinator yet")


def begun(cluster: DirectedCluster, version: int, slot: int = 0) -> None:
    """Its client has a producer id, and has done one transaction."""
    cluster.do(f"transact {slot} {version} commit t-0")
    settled(cluster)


def begun_elsewhere(cluster: DirectedCluster, version: int, where: str = "") -> int:
    """As `begun`, of an id that another broker coordinates than leads t-0, which is A; or this one.
    Returns the slot."""
    begun(cluster, version)
    for slot in range(9):
        name = coordinator(cluster, slot)
        if name == where or (not where and name != "A"):
            begun(cluster, version, slot)
            return slot
    raise AssertionError("there is no such id")


@VERSIONS
def test_transactions_follow_one_another(version):
    with DirectedCluster("ABC") as cluster:
        for outcome in ("commit", "abort", "commit", "commit"):
            cluster.do(f"transact 0 {version} {outcome} t-0")
            cluster.do("txn-consume A t-0 0")
            settled(cluster)
        cluster.do("txn-consume A t-0 0", run_ms=100)
        assert outcomes(cluster) == ["commit", "abort", "commit", "commit"]
        assert TRANSACTIONS_TOPIC in cluster.world.topics
        cluster.end()


def test_race_17_an_end_that_comes_late_does_not_end_the_next_transaction():
    """In version 1 it has the same epoch: what tells it is the connection that it came on."""
    with DirectedCluster("ABC") as cluster:
        begun(cluster, TV1)
        late = cluster.hold("end")
        cluster.do("transact 0 1 commit t-0")
        cluster.until(lambda: late)
        cluster.pass_all()
        cluster.break_off(late)
        settled(cluster)
        next_end = cluster.hold("end")
        cluster.do("transact 0 1 abort t-0")
        cluster.until(lambda: next_end)
        cluster.pass_all()
        cluster.release(late, run_ms=300)
        cluster.do("txn-consume A t-0 0", run_ms=100)
        cluster.release(next_end)
        settled(cluster)
        assert outcomes(cluster) == ["commit", "commit", "abort"]
        cluster.end()


def test_race_17_what_is_added_late_belongs_to_no_later_transaction():
    with DirectedCluster("ABC") as cluster:
        begun(cluster, TV1)
        late = cluster.hold("add")
        cluster.do("transact 0 1 commit t-0")
        cluster.until(lambda: late)
        cluster.pass_all()
        cluster.break_off(late)
        settled(cluster)
        cluster.release(late, run_ms=300)
        assert cluster.world.coordinated.unsettled() is None, "nothing is open"
        cluster.end()


@VERSIONS
@pytest.mark.parametrize("outcome", ["commit", "abort"])
@pytest.mark.parametrize("when", ["end", "write_markers"])
def test_race_20_a_coordinator_dies_and_the_next_one_ends_it_alike(version, outcome, when):
    """Before it hears of the end, or when it has decided and nobody knows."""
    with DirectedCluster("ABC") as cluster:
        slot = begun_elsewhere(cluster, version)
        held = cluster.hold(when)
        cluster.do(f"transact {slot} {version} {outcome} t-0")
        cluster.until(lambda: held)
        name = coordinator(cluster, slot)
        cluster.do(f"kill {name}", run_ms=10)
        cluster.pass_all()
        cluster.until(lambda: coordinator(cluster, slot) != name)
        settled(cluster)
        cluster.do(f"restart {name}", run_ms=500)
        cluster.end()
        assert outcomes(cluster)[-1] == outcome


def test_race_20_what_is_not_committed_is_told_to_nobody():
    """The record of the end is lost with its coordinator, and the next one aborts."""
    with DirectedCluster("ABC", controller="C") as cluster:
        begun(cluster, TV2)
        name = coordinator(cluster, 0)
        end = cluster.hold("end")
        cluster.do("transact 0 2 commit t-0")
        cluster.until(lambda: end)
        cluster.pass_all()
        for other in "ABC".replace(name, ""):
            cluster.do(f"cut {other} {name}")
        first = end[0]
        cluster.hold("end", where=lambda exchange: exchange is not first)
        cluster.release([first], run_ms=200)
        cluster.do(f"kill {name}")
        cluster.do("heal")
        cluster.until(lambda: coordinator(cluster, 0) != name)
        cluster.run(4_000)
        cluster.pass_all()
        cluster.do(f"restart {name}", run_ms=500)
        for leader in "AB":
            cluster.do(f"txn-consume {leader} t-0 0", run_ms=100)
        settled(cluster)
        cluster.end()
        assert outcomes(cluster) == ["commit", "abort"]


def test_race_20_a_coordinator_that_wakes_up_takes_no_end_for_a_repetition():
    """Found by a walk (version 1): others lead its ids, and it does not know. There the epoch is
    that of the transaction before, so that an end of the next one looks like that one's again."""
    settings = {"zookeeper.session.timeout.ms": "600"}
    with DirectedCluster("ABC", settings=settings) as cluster:
        slot = begun_elsewhere(cluster, TV1)
        cluster.until(lambda: cluster.world.coordinated.unsettled() is None)
        name = coordinator(cluster, slot)
        cluster.do(f"pause {name}")
        cluster.until(lambda: coordinator(cluster, slot) != name)
        end = cluster.hold("end")
        cluster.do(f"transact {slot} 1 commit t-0")
        cluster.until(lambda: end)
        first = end[0]
        first.target = cluster.player.host(name).number
        cluster.do(f"resume {name}")
        cluster.release([first], run_ms=5)
        assert outcomes(cluster)[-1] is None
        cluster.run(4_000)
        cluster.pass_all()
        cluster.do("txn-consume A t-0 0", run_ms=100)
        settled(cluster)
        cluster.end()
        assert outcomes(cluster)[-1] == "abort"


@VERSIONS
def test_race_21_an_end_waits_for_replicas_and_is_decided_once(version):
    """It is in the log when too few are left in sync, and is committed when they are back."""
    with DirectedCluster("ABC", controller="B") as cluster:
        slot = begun_elsewhere(cluster, version, "B")
        cluster.do(f"transact {slot} {version} commit t-0")
        settled(cluster)
        end = cluster.hold("end")
        cluster.do(f"transact {slot} {version} commit t-0")
        cluster.until(lambda: end)
        cluster.pass_all()
        for other in "AC":
            cluster.do(f"cut-one-way {other} B")
        cluster.release(end, run_ms=4_000)
        cluster.do("heal")
        settled(cluster)
        cluster.do("txn-consume A t-0 0", run_ms=500)
        cluster.end()
        assert outcomes(cluster)[-1] == "commit"


@VERSIONS
def test_race_22_markers_that_were_given_up_end_nothing_later(version):
    with DirectedCluster("ABC") as cluster:
        slot = begun_elsewhere(cluster, version)
        held = cluster.hold("write_markers")
        cluster.do(f"transact {slot} {version} abort t-0")
        cluster.run(300)
        cluster.pass_all()
        cluster.break_off(held)
        settled(cluster)
        end = cluster.hold("end")
        cluster.do(f"transact {slot} {version} commit t-0")
        cluster.until(lambda: end)
        cluster.pass_all()
        cluster.release(held, run_ms=300)
        cluster.do("txn-consume A t-0 0", run_ms=100)
        cluster.release(end)
        settled(cluster)
        cluster.end()
        assert outcomes(cluster)[2:] == ["abort", "commit"]


@VERSIONS
@pytest.mark.parametrize("held_kind", ["add", "produce", "end"])
def test_race_26_a_successor_fences_whoever_is_at_work(version, held_kind):
    if (version, held_kind) == (TV2, "add"):
        pytest.skip("nothing is added there")
    with DirectedCluster("ABC") as cluster:
        begun(cluster, version)
        held = cluster.hold(held_kind)
        cluster.do(f"transact 0 {version} commit t-0")
        cluster.until(lambda: held)
        cluster.pass_all()
        cluster.do(f"transact 0 {version} commit t-0", run_ms=400)
        cluster.release(held, run_ms=500)
        settled(cluster)
        cluster.end()
        by_name = {each.name: each.outcome for each in cluster.world.coordinated.attempts[1:]}
        assert by_name["orders-0.1"] == "commit"
        assert by_name["orders-0.0"] != "commit"


@VERSIONS
def test_race_27_a_transaction_that_takes_too_long_is_aborted_and_its_producer_goes_on(version):
    with DirectedCluster("ABC") as cluster:
        begun(cluster, version)
        held = cluster.hold("end")
        cluster.do(f"transact 0 {version} commit t-0")
        cluster.until(lambda: held)
        cluster.run(4_000)
        cluster.pass_all()
        settled(cluster)
        cluster.do(f"transact 0 {version} commit t-0")
        settled(cluster)
        cluster.end()
        first, late, last = outcomes(cluster)
        assert (first, last) == ("commit", "commit")
        assert late != "commit"


@VERSIONS
@pytest.mark.parametrize("order", ["ABC", "CBA", "BCA"])
def test_race_43_all_die_when_it_is_decided_and_come_back(version, order):
    with DirectedCluster("ABC") as cluster:
        begun(cluster, version)
        cluster.hold("write_markers")
        cluster.do(f"transact 0 {version} commit t-0", run_ms=150)
        for name in "ABC":
            cluster.do(f"kill {name}")
        cluster.pass_all()
        for name in order:
            cluster.do(f"restart {name}", run_ms=300)
        settled(cluster)
        cluster.end()
        assert outcomes(cluster) in (["commit", "commit"], ["commit", "abort"])
