"""Races of the offsets of groups, in transactions and beside them (nos. 36 to 39 of transactions.md
section 10), each as a scenario of the whole runtime. Coordinators are those of the product."""

from __future__ import annotations

import pytest

from minikafka.model import OFFSETS_TOPIC, TopicPartition
from tests.simulation.actions import group_key
from tests.simulation.directed import DirectedCluster
from tests.simulation.test_races_of_coordinators import TV1, TV2, VERSIONS, outcomes, settled

KEY = group_key("g:t-0")


def committed(cluster: DirectedCluster) -> None:
    """A plain commit, acknowledged."""
    cluster.do("offset-commit g:t-0")
    cluster.until(lambda: not cluster.world.members.at_work)


def told(cluster: DirectedCluster, how: str = "stable") -> int:
    """What the group is told, once it is told anything."""
    members = cluster.world.members
    members.told.pop(KEY, None)
    cluster.do(f"offset-fetch g:t-0 {how}")
    cluster.until(lambda: not members.at_work)
    return members.told.get(KEY, -2)


def last(cluster: DirectedCluster) -> int:
    """The offset that was sent last."""
    return max(cluster.world.grouped.sent)


@VERSIONS
def test_offsets_of_a_transaction_count_when_it_is_committed(version):
    with DirectedCluster("ABC") as cluster:
        committed(cluster)
        before = last(cluster)
        assert told(cluster) == before
        for outcome in ("abort", "commit", "commit", "abort"):
            cluster.do(f"transact 0 {version} {outcome} t-0 g:t-0")
            settled(cluster)
            cluster.run(100)
            before = last(cluster) if outcome == "commit" else before
            assert told(cluster) == before
        cluster.end()
