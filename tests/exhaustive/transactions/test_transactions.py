"""Small searches, each to its end, after which every state heals; what they reach of the table;
rules switched off; and, where there is the time (`make long`), the searches whose numbers stand in
docs/transactions-coordinator.md."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.exhaustive.explore import Found, Limits
from tests.exhaustive.transactions.draft import Bounds
from tests.exhaustive.transactions.mutations import MUTATIONS
from tests.exhaustive.transactions.run import search, search_and_heal, search_mutated, tell
from tests.exhaustive.transactions.values import Budget
from tests.exhaustive.transactions.world import Model
from tests.helpers.amounts import IS_LONG

ROOT = Path(__file__).parents[3]


def bounds(*tv: int, partitions: int = 1, max_epoch: int = 2, **budget: int) -> Bounds:
    return Bounds(tv, partitions, max_epoch, Budget(**budget))


SEARCHES = {
    "TV2, three transactions": bounds(2, transactions=3),
    "TV2, two crashes": bounds(2, crashes=2),
    "TV2, a crash, a retry, a timeout": bounds(2, crashes=1, retries=1, timeouts=1),
    "TV2, another producer": bounds(2, 2, holds=1),
    "TV2, two partitions": bounds(2, partitions=2, crashes=1, retries=1),
    "TV2, a zombie coordinator": bounds(2, depositions=1, lost=1),
    "TV2, below the minimum": bounds(2, shrinks=1, timeouts=1, retries=1),
    "TV1, late requests": bounds(1, transactions=2, retries=1),
    "TV1, two retries": bounds(1, retries=2),
    "TV1, late markers": bounds(1, transactions=2, lost=1),
    "TV1, a timeout": bounds(1, retries=1, timeouts=1),
    "TV1, a crash": bounds(1, transactions=2, crashes=1),
    "TV1, another producer": bounds(1, 1),
    "TV1, a restart of the leader": bounds(1, transactions=2, restarts=1, lost=1),
    "TV1, another leader": bounds(1, transactions=2, moves=1, lost=1),
    "TV1 and TV2": bounds(1, 2, timeouts=1),
    "TV2, no epoch left": bounds(2, max_epoch=0, transactions=2, crashes=1),
    "TV2, no epoch left, late": bounds(2, max_epoch=0, retries=1, timeouts=1),
    "TV1, no epoch left": bounds(1, max_epoch=0, retries=1, timeouts=1),
    "TV2, no epoch left, another producer": bounds(2, 2, max_epoch=0),
}


@cache
def searched(within: Bounds) -> tuple[Found, Model]:
    return search_and_heal(within, Limits())


@pytest.mark.parametrize("within", SEARCHES.values(), ids=SEARCHES)
def test_no_interleaving_violates_anything_and_all_heal(within: Bounds) -> None:
    found, _ = searched(within)
    assert found.violation is None, "\n".join(tell(found.story, found.violation))
    assert found.complete


NONE, EMPTY, ONGOING = "none", "EMPTY", "ONGOING"
PREPARES = ("PREPARE_COMMIT", "PREPARE_ABORT")
COMPLETES = ("COMPLETE_COMMIT", "COMPLETE_ABORT")
ROWS = [
    *(("init", state, "-") for state in (NONE, EMPTY, ONGOING, *PREPARES, *COMPLETES)),
    ("init, going on", "ONGOING", "current"),
    ("init, going on", "COMPLETE_ABORT", "current"),
    ("init, going on", "COMPLETE_ABORT", "last"),
    ("init, going on", "EMPTY", "last"),
    ("init, going on", "EMPTY", "other"),
    ("init, going on", "PREPARE_ABORT", "current"),
    *(("add", state, "current") for state in (EMPTY, ONGOING, *PREPARES, *COMPLETES)),
    ("add", "COMPLETE_ABORT", "last"),
    ("add", "EMPTY", "other"),
    *(("verify", state, "current") for state in (ONGOING, "PREPARE_ABORT", "COMPLETE_ABORT")),
    ("verify", "COMPLETE_ABORT", "last"),
    ("verify", "EMPTY", "other"),
    *(("commit 4", state, "current") for state in (ONGOING, "PREPARE_COMMIT", "COMPLETE_COMMIT")),
    *(("abort 4", state, "current") for state in (ONGOING, "PREPARE_ABORT", "COMPLETE_ABORT")),
    *(("commit 4", state, "last") for state in ("PREPARE_ABORT", "COMPLETE_ABORT")),
    *(("abort 4", state, "last") for state in ("PREPARE_ABORT", "COMPLETE_ABORT")),
    *(("commit 5", state, "last") for state in (*PREPARES, *COMPLETES)),
    *(("abort 5", state, "last") for state in ("PREPARE_ABORT", "COMPLETE_ABORT")),
    *((f"{end} 5", ONGOING, "current") for end in ("commit", "abort")),
    ("abort 5", "EMPTY", "current"),
    ("abort 5", "EMPTY", "other"),
    ("timeout", ONGOING, "-"),
]


def test_the_searches_reach_the_rows_of_the_table() -> None:
    """All but those that no client gets to which follows the protocol (test_rules.py has all)."""
    reached = {row[:3] for within in SEARCHES.values() for row in searched(within)[1].rows}
    assert [row for row in ROWS if row not in reached] == []


# As the documentation states them: the bounds, and how many states and transitions there are.
STATED = [
    (bounds(2, transactions=2, crashes=2, retries=1), 81_559, 193_502),
    (bounds(2, transactions=2, crashes=1, retries=1, timeouts=1), 50_555, 117_131),
    (bounds(2, 2, transactions=2, retries=1), 90_385, 227_516),
    (bounds(2, partitions=2, transactions=2, crashes=1, retries=1), 43_268, 92_707),
    (bounds(1, transactions=2, retries=1, lost=1, timeouts=1), 58_092, 159_493),
    (bounds(1, transactions=2, depositions=1, lost=1), 45_097, 126_295),
    (bounds(1, transactions=2, moves=2, lost=1), 25_448, 56_457),
    (bounds(1, 1, transactions=1, retries=1), 20_723, 49_926),
    (bounds(1, 2, transactions=2), 9_589, 18_727),
    (bounds(1, crashes=1, retries=1, lost=1, timeouts=1, shrinks=1), 258_680, 810_436),
    (bounds(2, crashes=2, retries=1, lost=1, timeouts=1, shrinks=1), 661_018, 2_234_574),
]
# All at once, in as many steps, and how many states.
EVERYTHING = Budget(3, crashes=2, retries=1, lost=1, timeouts=1, holds=1, shrinks=1)
STATED_TO_A_DEPTH = [
    (Bounds((2, 2), partitions=2, budget=EVERYTHING), 17, 240_945),
    (Bounds((1, 1), partitions=2, budget=EVERYTHING), 17, 367_905),
]
takes_minutes = pytest.mark.skipif(not IS_LONG, reason="takes minutes: make long")


def row(within: Bounds, states: int, transitions: int) -> str:
    versions = " and ".join(f"TV{each}" for each in within.tv)
    budget = within.budget._asdict()
    count = budget.pop("transactions")
    troubles = ", ".join(f"{kind} {most}" for kind, most in budget.items() if most)
    cells = (versions, within.partitions, count, troubles, f"{states:,}", f"{transitions:,}")
    return "".join(f"| {cell} " for cell in cells) + "|"


@takes_minutes
@pytest.mark.parametrize(("within", "states", "transitions"), STATED)
def test_what_is_stated_holds(within: Bounds, states: int, transitions: int) -> None:
    found, _ = search(within, Limits())
    assert found.violation is None, "\n".join(tell(found.story, found.violation))
    assert (found.complete, found.states, found.transitions) == (True, states, transitions)


@takes_minutes
@pytest.mark.parametrize(("within", "depth", "states"), STATED_TO_A_DEPTH)
def test_what_is_stated_holds_to_a_depth(within: Bounds, depth: int, states: int) -> None:
    found, _ = search(within, Limits(depth=depth))
    assert found.violation is None, "\n".join(tell(found.story, found.violation))
    assert (found.depth, found.states) == (depth, states)


def test_the_documentation_states_what_is_held() -> None:
    text = (ROOT / "docs/transactions-coordinator.md").read_text()
    table = re.findall(r"^\| TV.*\|$", text, re.M)
    assert table == [row(*stated) for stated in STATED]
    for _, depth, states in STATED_TO_A_DEPTH:
        assert re.search(rf"to {depth}( events)? \({states:,}( states)?\)", text)
    noticed, covered = len(FOUND), len(REDUNDANT)
    assert f"{noticed} are noticed, and for {covered} it says" in re.sub(r"\s+", " ", text)


def test_a_search_comes_to_the_same_every_time() -> None:
    first, second = (search(bounds(2, crashes=1), Limits())[0] for _ in range(2))
    first.seconds = second.seconds = 0
    assert first == second


FOUND = [mutation for mutation in MUTATIONS if not mutation.why_not]
REDUNDANT = [mutation for mutation in MUTATIONS if mutation.why_not]


@pytest.mark.parametrize("mutation", FOUND, ids=lambda mutation: mutation.name)
def test_without_one_rule_something_is_violated(mutation) -> None:
    found, _ = search_mutated(mutation)
    assert found.violation is not None, f"not found: {mutation.rule}"
    assert found.violation.startswith(mutation.breaks)


@pytest.mark.parametrize("mutation", REDUNDANT, ids=lambda mutation: mutation.name)
def test_without_a_rule_that_others_cover_nothing_is_violated(mutation) -> None:
    found, _ = search_mutated(mutation)
    assert found.violation is None, "\n".join(tell(found.story, found.violation))
    assert found.complete
