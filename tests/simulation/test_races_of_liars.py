"""A client that lies, floods and stops, beside honest ones (liar.py)."""

from __future__ import annotations

import pytest

from tests.simulation.directed import DirectedCluster
from tests.simulation.liar import KNOWN, must_be_refused

BOUND_MS = 60
TRUTHS = ("the-truth", "the-truth,-compressed")


@pytest.mark.parametrize("lie", KNOWN)
def test_a_lie_is_refused_or_stored_as_anybody_can_read_it(lie):
    with DirectedCluster("ABC", minimum=2) as cluster:
        cluster.produce("A", run_ms=20)
        before = cluster.end_of("A")
        for seed in range(3):
            cluster.do(f"lie A t-0 {lie} {seed}", run_ms=20)
        if must_be_refused(KNOWN[lie]):
            assert cluster.end_of("A") == before
        if lie in TRUTHS:
            assert cluster.end_of("A") > before
        cluster.produce("A", run_ms=20)
        assert cluster.acknowledged == 2
        cluster.end()


def test_who_is_honest_is_served_while_a_liar_floods():
    with DirectedCluster("ABC", minimum=2) as cluster:
        for round in range(3):
            for lie in KNOWN:
                cluster.do(f"lie A t-0 {lie} {round} 10")
            cluster.produce("A", run_ms=BOUND_MS, more="producer 0")
            assert cluster.acknowledged == round + 1
            assert cluster.isr == "ABC"
        assert all(host.alive for host in cluster.world.hosts.values())
        cluster.end()


def test_a_leader_that_takes_over_reads_what_a_liar_has_left():
    with DirectedCluster("ABC", minimum=2, controller="C") as cluster:
        for lie in KNOWN:
            cluster.do(f"lie A t-0 {lie} 1")
        cluster.produce("A", run_ms=50)
        cluster.do("kill A")
        cluster.until(lambda: cluster.leader == "B")
        for lie in KNOWN:
            cluster.do(f"lie B t-0 {lie} 2", run_ms=2)
        cluster.do("restart A")
        cluster.until(lambda: cluster.isr == "ABC")
        cluster.produce("B", run_ms=50)
        cluster.end()
