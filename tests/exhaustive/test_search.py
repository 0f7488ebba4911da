"""Small searches, each to its end or to a stated depth (run.py does larger ones); and, where there
is the time (`make long`), those whose numbers stand in docs/reliability.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.exhaustive.explore import Explorer, Limits
from tests.exhaustive.heal import Healing
from tests.exhaustive.machine import Bounds
from tests.exhaustive.replica import LiveReplica
from tests.exhaustive.run import search
from tests.exhaustive.term import LiveTerm
from tests.exhaustive.values import Budget, Term
from tests.exhaustive.world import Model
from tests.helpers.amounts import IS_LONG

ROOT = Path(__file__).parents[2]
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


# As docs/reliability.md states them: the bounds, and how many states and transitions there are.
STATED = [
    (Bounds(2, budget=Budget(2, 1, lags=1)), 26_604, 88_326),
    (Bounds(2, budget=Budget(1, 1, losses=1, lags=1, late=1)), 201_102, 780_931),
    (Bounds(2, budget=Budget(1, 1, failovers=1, late=1)), 150_862, 575_169),
    (Bounds(2, budget=Budget(1, 1, losses=1, expiries=1)), 123_030, 415_097),
    (Bounds(2, budget=Budget(2, 0, retentions=2, lags=1, late=1)), 159_362, 730_492),
    (Bounds(3, budget=Budget(1, 1, losses=1)), 49_963, 202_426),
    (Bounds(3, budget=Budget(1, 0, expiries=1)), 50_632, 228_365),
]
# The bounds, how many events deep, and how many states.
STATED_TO_A_DEPTH = [
    (Bounds(3, budget=Budget(1, 1, lags=1)), 19, 1_407_189),
    (Bounds(2, budget=Budget(2, 2, losses=1)), 23, 169_256),
]
takes_minutes = pytest.mark.skipif(not IS_LONG, reason="takes minutes: make long")


@takes_minutes
@pytest.mark.parametrize(("bounds", "states", "transitions"), STATED)
def test_what_is_stated_holds(bounds, states, transitions):
    found, story = search(bounds, Limits())
    assert found.violation is None, "\n".join(story)
    assert (found.complete, found.states, found.transitions) == (True, states, transitions)


@takes_minutes
@pytest.mark.parametrize(("bounds", "depth", "states"), STATED_TO_A_DEPTH)
def test_what_is_stated_holds_to_a_depth(bounds, depth, states):
    found, story = search(bounds, Limits(depth=depth))
    assert found.violation is None, "\n".join(story)
    assert (found.depth, found.states) == (depth, states)


def test_the_documentation_states_what_is_held():
    text = (ROOT / "docs/reliability.md").read_text()
    for _, depth, states in STATED_TO_A_DEPTH:
        assert re.search(rf"to {depth}( events)? \({states:,}( states)?\)", text)
    rows = re.findall(
        r"^\| (\d) \| (\d) \| (\d) \| (\d) \| .*\| ([\d,]+) \| ([\d,]+) \|$", text, re.M
    )
    numbers = [tuple(int(cell.replace(",", "")) for cell in row) for row in rows]
    assert numbers == [
        (bounds.replicas, *bounds.budget[:3], states, transitions)
        for bounds, states, transitions in STATED
    ]


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
