"""How much is tried by tests that generate what they try (tests/helpers/amounts.py)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.amounts import VARIABLE, amount, choose, sample

TESTS = Path(__file__).parents[1]


def test_a_tenth_or_ten_times_as_much_as_usual_and_never_next_to_nothing() -> None:
    assert [amount(150, chosen) for chosen in ("quick", "usual", "long")] == [15, 150, 1500]
    assert [amount(25, chosen) for chosen in ("quick", "usual", "long")] == [5, 25, 250]
    assert [amount(4, chosen) for chosen in ("quick", "usual", "long")] == [4, 4, 40]


def test_some_of_many_cases_while_one_works_and_else_all_of_them() -> None:
    assert sample(range(13), "quick") == range(2, 13, 5)
    assert list(sample("abcde", "quick")) == list("abcde")
    assert sample(range(13), "usual") == sample(range(13), "long") == range(13)


def test_the_usual_unless_the_environment_says_so_and_no_other_word_is_taken() -> None:
    assert choose({}) == choose({VARIABLE: ""}) == "usual"
    assert choose({VARIABLE: "long"}) == "long"
    with pytest.raises(ValueError, match="'more': expected one of quick, usual, long"):
        choose({VARIABLE: "more"})


def test_whoever_says_how_many_examples_there_are_asks_how_many() -> None:
    fixed = [
        f"{path.relative_to(TESTS)}: {said}"
        for path in TESTS.rglob("*.py")
        for said in re.findall(r"max_examples=\d+", path.read_text())
    ]
    assert fixed == []
