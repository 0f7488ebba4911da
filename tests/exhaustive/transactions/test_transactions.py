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
from tests.exhaustive.transactions.group import LiveGroup
from tests.exhaustive.transactions.mutations import MUTATIONS
from tests.exhaustive.transactions.run import search, search_and_heal, search_mutated, tell
from tests.exhaustive.transactions.values import Budget, Data
from tests.exhaustive.transactions.world import Model
from tests.helpers.amounts import IS_LONG

ROOT = Path(__file__).parents[3]


def bounds(
    *tv: int, partitions: int = 1, max_epoch: int = 2, group: bool = False, **budget: int
) -> Bounds:
    return Bounds(tv, partitions, max_epoch, Budget(**budget), group)


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
    "offsets, TV2": bounds(2, transactions=2, plain=1, group=True),
    "offsets, TV2, another leader": bounds(2, moves=1, lost=1, plain=1, group=True),
    "offsets, TV2, a restart of the leader": bounds(2, restarts=1, retries=1, group=True),
    "offsets, TV2, and records": bounds(2, partitions=2, crashes=1, moves=1, group=True),
    "offsets, TV2, another producer": bounds(2, 2, group=True),
    "offsets, TV1, late requests": bounds(1, transactions=2, retries=1, group=True),
    "offsets, TV1, a timeout": bounds(1, timeouts=1, retries=1, plain=1, group=True),
    "offsets, TV1 and TV2": bounds(1, 2, group=True),
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
COMMIT, ABORT = "PREPARE_COMMIT", "PREPARE_ABORT"
COMMITTED, ABORTED = "COMPLETE_COMMIT", "COMPLETE_ABORT"
CONCURRENT, ABORTABLE = "CONCURRENT_TRANSACTIONS", "TRANSACTION_ABORTABLE"
FENCED, INVALID, MAPPING = "PRODUCER_FENCED", "INVALID_TXN_STATE", "INVALID_PRODUCER_ID_MAPPING"
ANOTHER = "; another id"  # where no epoch is left
IDS = ("", ANOTHER)
# The table of docs/transactions-coordinator.md: event, state, whose epoch, decision.
ROWS = [
    ("init", NONE, "-", EMPTY + ANOTHER),
    *(("init", state, "-", EMPTY + id) for state in (EMPTY, COMMITTED, ABORTED) for id in IDS),
    *(("init", ONGOING, "-", ABORT + id) for id in IDS),
    *(("init", state, "-", "held") for state in (COMMIT, ABORT)),
    *(("init, going on", ONGOING, "current", ABORT + id) for id in IDS),
    ("init, going on", ABORT, "current", "held"),
    *(("init, going on", ABORTED, "current", EMPTY + id) for id in IDS),
    *(("init, going on", state, "last", "ok") for state in (EMPTY, ABORTED)),
    ("init, going on", EMPTY, "other", FENCED),
    *(("add", state, "current", ONGOING) for state in (EMPTY, ONGOING, COMMITTED, ABORTED)),
    ("add", ONGOING, "current", "ok"),
    *(("add", state, "current", "held") for state in (COMMIT, ABORT)),
    *(("add", state, "last", word) for state in (ABORT, ABORTED) for word in (ABORTABLE, FENCED)),
    *(("add", EMPTY, "other", word) for word in (FENCED, MAPPING)),
    ("verify", ONGOING, "current", "ok"),
    ("verify", ABORT, "current", CONCURRENT),
    ("verify", ABORTED, "current", ABORTABLE),
    *(("verify", state, "last", ABORTABLE) for state in (ABORT, ABORTED)),
    ("verify", EMPTY, "other", FENCED),
    *(
        (f"{end} 4", state, "current", decision)
        for end, prepare, complete in (("commit", COMMIT, COMMITTED), ("abort", ABORT, ABORTED))
        for state, decision in ((ONGOING, prepare), (prepare, CONCURRENT), (complete, "ok"))
    ),
    *((f"{end} 4", EMPTY, "other", FENCED) for end in ("commit", "abort")),
    *(("commit 4", state, "last", FENCED) for state in (ABORT, ABORTED)),
    *(("abort 4", *row) for row in ((ABORT, "last", CONCURRENT), (ABORTED, "last", "ok"))),
    *(("commit 5", ONGOING, "current", COMMIT + id) for id in IDS),
    *(("abort 5", ONGOING, "current", ABORT + id) for id in IDS),
    *(("abort 5", EMPTY, "current", ABORTED + id) for id in IDS),
    *(("commit 5", *row) for row in ((COMMIT, "last", CONCURRENT), (COMMITTED, "last", "ok"))),
    *(("abort 5", *row) for row in ((ABORT, "last", CONCURRENT), (ABORTED, "last", "ok"))),
    *(("commit 5", state, "last", ABORTABLE) for state in (ABORT, ABORTED)),
    *((f"{end} 5", EMPTY, "other", FENCED) for end in ("commit", "abort")),
    ("commit 5", EMPTY, "other", MAPPING),
    *(("timeout", ONGOING, "-", ABORT + id) for id in IDS),
]
# No client gets to these that follows the protocol; tests/unit/core/transactions has all of them.
NEVER = {
    "who goes on with a higher epoch does so after an abort, or in a transaction": [
        ("init, going on", EMPTY, "current"),
        ("init, going on", COMMITTED, "current"),
    ],
    "who has an epoch has it of a record that is committed, and nothing is forgotten": [
        (request, NONE, "-") for request in ("init, going on", "add", "verify", "commit 4")
    ],
    "a transaction is ended by whoever has begun it, and by the same word until it is answered": [
        *((f"{end} 4", EMPTY, "current") for end in ("commit", "abort")),
        *(("commit 4", state, "current") for state in (ABORT, ABORTED)),
        *(("abort 4", state, "current") for state in (COMMIT, COMMITTED)),
        *(("abort 5", state, "last") for state in (COMMIT, COMMITTED)),
    ],
    "in TV2 nobody commits what has not begun": [
        ("commit 5", state, "current") for state in (EMPTY, COMMIT, ABORT, COMMITTED, ABORTED)
    ],
    "an end in TV2 is repeated with the epoch that it had": [
        ("abort 5", state, "current") for state in (COMMIT, ABORT)
    ],
}


@cache
def reached() -> frozenset[tuple[str, ...]]:
    rows = {row for within in SEARCHES.values() for row in searched(within)[1].rows}
    return frozenset((*row[:3], row[4]) for row in rows)


def test_the_searches_reach_the_rows_of_the_table() -> None:
    assert [row for row in ROWS if row not in reached()] == []


def test_of_the_rows_that_are_not_reached_it_is_said_why() -> None:
    seen = {row[:3] for row in reached()}
    assert {why: [row for row in rows if row in seen] for why, rows in NEVER.items()} == {
        why: [] for why in NEVER
    }


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
    (bounds(2, transactions=2, moves=1, plain=1, group=True), 9_067, 16_707),
    (bounds(2, transactions=2, restarts=1, lost=1, plain=1, group=True), 42_389, 111_611),
    (bounds(2, transactions=2, crashes=1, retries=1, group=True), 15_968, 33_242),
    (bounds(2, partitions=2, crashes=1, moves=1, group=True), 6_787, 12_779),
    (bounds(1, transactions=2, retries=1, plain=1, group=True), 17_248, 37_950),
    (bounds(1, 2, transactions=2, plain=1, group=True), 60_323, 140_593),
]
# All at once, in as many steps, and how many states.
EVERYTHING = Budget(3, crashes=2, retries=1, lost=1, timeouts=1, holds=1, shrinks=1)
OFFSETS_TOO = EVERYTHING._replace(moves=1, plain=1)
STATED_TO_A_DEPTH = [
    (Bounds((2, 2), partitions=2, budget=EVERYTHING), 17, 240_945),
    (Bounds((1, 1), partitions=2, budget=EVERYTHING), 17, 367_905),
    (Bounds((1, 2), partitions=2, budget=EVERYTHING), 14, 55_894),
    (Bounds((2, 2), partitions=2, budget=OFFSETS_TOO, group=True), 10, 37_692),
    (Bounds((1, 1), partitions=2, budget=OFFSETS_TOO, group=True), 11, 62_106),
    (Bounds((1, 2), partitions=2, budget=OFFSETS_TOO, group=True), 13, 157_036),
]
takes_minutes = pytest.mark.skipif(not IS_LONG, reason="takes minutes: make long")


def row(within: Bounds, states: int, transitions: int) -> str:
    versions = " and ".join(f"TV{each}" for each in within.tv)
    budget = within.budget._asdict()
    count = budget.pop("transactions")
    troubles = ", ".join(f"{kind} {most}" for kind, most in budget.items() if most)
    partitions = f"{within.partitions}{' (offsets)' if within.group else ''}"
    cells = (versions, partitions, count, troubles, f"{states:,}", f"{transitions:,}")
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
    prose = re.sub(r"\s+", " ", text)
    for _, depth, states in STATED_TO_A_DEPTH:
        assert re.search(rf"to {depth}( events)? \({states:,}( states)?\)", prose)
    noticed, covered = len(FOUND), len(REDUNDANT)
    assert f"{noticed} are noticed, and for {covered} it says" in prose


def test_a_search_comes_to_the_same_every_time() -> None:
    first, second = (search(bounds(2, crashes=1), Limits())[0] for _ in range(2))
    first.seconds = second.seconds = 0
    assert first == second


def test_a_group_that_is_built_from_a_value_is_that_value() -> None:
    model = searched(SEARCHES["offsets, TV2, another leader"])[1]
    parts = {each.group for each in model.parts.values if isinstance(each, Data)}
    assert len(parts) > 100
    for part in parts:
        assert part is not None
        assert LiveGroup(part).memory() == part.memory


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
