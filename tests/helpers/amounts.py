"""How much is tried by tests that generate what they try: examples of Hypothesis, seeds, searches.

One knob for all, the environment variable MINIKAFKA_AMOUNT: `usual` is what is written in the
tests, and what CI runs; `quick` is a tenth of it (`make quick`), `long` ten times as much (`make
long`). The mutations are looked for with the usual amount, whatever is chosen.

Where every case of many is a test of its own, `quick` takes some of them (`sample`). Few tests know
more than that: where every step of something fails in turn, `long` is all of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

VARIABLE = "MINIKAFKA_AMOUNT"
AMOUNTS = {"quick": Fraction(1, 10), "usual": Fraction(1), "long": Fraction(10)}
_LEAST = 5  # where there are fewer as it is, all of them


def choose(environment: Mapping[str, str]) -> str:
    chosen = environment.get(VARIABLE) or "usual"
    if chosen not in AMOUNTS:
        raise ValueError(f"{VARIABLE} is {chosen!r}: expected one of {', '.join(AMOUNTS)}")
    return chosen


CHOSEN = choose(os.environ)
T = TypeVar("T")
IS_LONG = CHOSEN == "long"
IS_QUICK = CHOSEN == "quick"


def amount(usual: int, chosen: str = CHOSEN) -> int:
    """As many as there shall be, where `usual` is what CI runs."""
    return max(min(usual, _LEAST), int(usual * AMOUNTS[chosen]))


def sample(cases: Sequence[T], chosen: str = CHOSEN) -> Sequence[T]:
    """All of them, or for `quick` every fifth, the last among them, if they are many."""
    if chosen != "quick" or len(cases) <= _LEAST:
        return cases
    return cases[(len(cases) - 1) % 5 :: 5]
