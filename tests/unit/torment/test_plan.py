"""The plan of faults comes from its seed alone."""

from __future__ import annotations

from itertools import islice

from tests.integration.torment.faults import KINDS
from tests.integration.torment.nemesis import plan

COUNT = 3 * len(KINDS)


def test_a_seed_gives_the_same_plan_again_and_another_seed_another_one() -> None:
    first, again, other = (list(islice(plan(seed, list(KINDS)), COUNT)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_every_kind_comes_before_any_comes_again() -> None:
    steps = list(islice(plan(7, list(KINDS)), COUNT))
    for start in range(0, COUNT, len(KINDS)):
        assert {step.kind for step in steps[start : start + len(KINDS)]} == set(KINDS)


def test_every_fault_is_held_for_a_time_of_its_kind() -> None:
    for step in islice(plan(7, list(KINDS)), COUNT):
        shortest, longest = KINDS[step.kind].hold_s
        assert shortest <= step.hold_s <= longest
