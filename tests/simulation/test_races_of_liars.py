"""A client that lies, floods and stops, beside honest ones (liar.py)."""

from __future__ import annotations

import pytest

from tests.simulation.liar import KNOWN, must_be_refused
from tests.simulation.stage import Stage

BOUND_MS = 60
TRUTHS = ("the-truth", "the-truth,-compressed")


@pytest.mark.parametrize("lie", KNOWN)
def test_a_lie_is_refused_or_stored_as_anybody_can_read_it(lie):
    with Stage("ABC", minimum=2) as stage:
        stage.produce("A", run_ms=20)
        before = stage.end_of("A")
        for seed in range(3):
            stage.do(f"lie A t-0 {lie} {seed}", run_ms=20)
        if must_be_refused(KNOWN[lie]):
            assert stage.end_of("A") == before
        if lie in TRUTHS:
            assert stage.end_of("A") > before
        stage.produce("A", run_ms=20)
        assert stage.acknowledged == 2
        stage.end()


def test_who_is_honest_is_served_while_a_liar_floods():
    with Stage("ABC", minimum=2) as stage:
        for round in range(3):
            for lie in KNOWN:
                stage.do(f"lie A t-0 {lie} {round} 10")
            stage.produce("A", run_ms=BOUND_MS, more="producer 0")
            assert stage.acknowledged == round + 1
            assert stage.isr == "ABC"
        assert all(host.alive for host in stage.world.hosts.values())
        stage.end()


def test_a_leader_that_takes_over_reads_what_a_liar_has_left():
    with Stage("ABC", minimum=2, controller="C") as stage:
        for lie in KNOWN:
            stage.do(f"lie A t-0 {lie} 1")
        stage.produce("A", run_ms=50)
        stage.do("kill A")
        stage.until(lambda: stage.leader == "B")
        for lie in KNOWN:
            stage.do(f"lie B t-0 {lie} 2", run_ms=2)
        stage.do("restart A")
        stage.until(lambda: stage.isr == "ABC")
        stage.produce("B", run_ms=50)
        stage.end()
