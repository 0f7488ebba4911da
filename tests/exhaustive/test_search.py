"""Small searches, each to its end or to a stated depth (run.py does larger ones)."""

from __future__ import annotations

import pytest

from tests.exhaustive.explore import Explorer, Limits
from tests.exhaustive.heal import Healing
from tests.exhaustive.machine import Bounds
from tests.exhaustive.replica import LiveReplica
from tests.exhaustive.run import search
from tests.exhaustive.term import LiveTerm
from tests.exhaustive.values import Budget, Term
from tests.exhaustive.world import Model

SEARCHES = {
    "a crash and a laggard": (Bounds(2, budget=Budget(lags=1)), Limits()),
    "a crash and a lost disk": (Bounds(2, budget=Budget(losses=1)), Limits()),
    "both below the minimum": (Bounds(2, 2, Budget(1, 2), acks=(-1, 1)), Limits()),
    "a zombie": (Bounds(2, budget=Budget(1, 0, expiries=1, lags=1)), Limits()),
    "two controllers": (Bounds(2, budget=Budget(1, 1, failovers=1)), Limits()),
    "connection loss": (Bounds(2, budget=Budget(1, 1, faults=1)), Limits()),
    "retention": (Bounds(2, budget=Budget(2, 1, retentions=2)), Limits()),
    "late messages": (Bounds(2, budget=Budget(1, 1, late=1, lags=1)), Limits(depth=12)),
    "three replicas": (Bounds(3, budget=Budget(1, 1)), Limits()),
    "three and a laggard": (Bounds(3, budget=Budget(2, 1, lags=1)), Limits(depth=8)),
}


@pytest.mark.parametrize(("bounds", "limits"), SEARCHES.values(), ids=SEARCHES)
def test_no_interleaving_violates_anything(bounds, limits):
    found, story = search(bounds, limits)
    assert found.violation is None, "\n".join(story)
    assert found.complete or found.depth == limits.depth


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(2, budget=Budget(1, 1, lags=1)),
        Bounds(2, budget=Budget(1, 1, losses=1)),
        Bounds(2, budget=Budget(2, 1, retentions=1)),
        Bounds(2, budget=Budget(1, 1, lags=1), unclean=True),
    ],
    ids=["a laggard", "a lost disk", "retention", "unclean elections"],
)
def test_every_state_heals(bounds):
    model = Model(bounds)
    explorer = Explorer(model, model.start(), Limits())
    explorer.run()
    healing = Healing(model)
    for world in explorer.worlds():
        verdict = healing.verdict(world)
        assert verdict is None, (verdict, model.brokers(world), model.zookeeper(world))


def test_a_search_comes_to_the_same_every_time():
    bounds = Bounds(2, budget=Budget(lags=1, late=1))
    first, second = (search(bounds, Limits(depth=7))[0] for _ in range(2))
    first.seconds = second.seconds = 0
    assert first == second


def test_a_core_that_is_built_from_a_value_is_that_value():
    model = Model(Bounds(2, budget=Budget(1, 1, lags=1, losses=1)))
    Explorer(model, model.start(), Limits()).run()
    values, zookeeper = model.parts.values, model.zookeeper(model.start())
    for broker_id, number in {key[:2] for key in model._steps}:
        broker = values[number]
        assert LiveReplica(model.replica, broker_id, broker).value() == broker
    for term in values:
        if isinstance(term, Term):
            assert LiveTerm(model.term, term, zookeeper, None).value() == term
