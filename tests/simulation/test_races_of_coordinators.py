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
