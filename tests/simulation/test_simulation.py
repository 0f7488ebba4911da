"""The simulation as a test: it is the same in every process, some lives go well, and a few that
nobody has lived before. More of it: `make simulate SEEDS=0-1999 STEPS=500`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.amounts import amount
from tests.helpers.lives import recorded
from tests.simulation import life, shrink
from tests.simulation.actions import Action
from tests.simulation.mutations import MUTATIONS, applied

ROOT = Path(__file__).parents[2]


def _run(hash_seed: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation.run", *arguments],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def _last_line(hash_seed: str, *arguments: str) -> str:
    return _run(hash_seed, *arguments).stdout.splitlines()[-1]


def test_the_same_seeds_give_the_same_digest_in_every_process():
    one = _last_line("1", "--seeds", "0-5", "--steps", "120", "--jobs", "1")
    other = _last_line("77", "--seeds", "0-5", "--steps", "120", "--jobs", "2")
    assert one == other
    assert one.startswith("6 lives, 720 steps, 0 violations, digest ")


def test_a_life_that_is_told_is_the_life_that_was_lived():
    plain, told = life.live(3, 80), life.live(3, 80, story=True)
    assert plain.digest == told.digest
    assert len(told.lines) > len(plain.lines)


def test_a_life_can_be_replayed_from_its_actions():
    lived = life.live(4, 80)
    assert life.replay(4, lived.actions).digest == lived.digest


@pytest.mark.parametrize("seed", range(2000, 2000 + amount(4)))
def test_each_replicas_life_can_be_lived_again(seed):
    """Nothing that a replica of a real broker does hangs on anything but its events."""
    with recorded() as lives:
        assert life.live(seed, 400).violation is None
    assert sum(len(each.moments) for _, each in lives) > 50
    for partition, each in lives:
        again = each.live_again()
        assert (again.state, again.assignment, again.role, again.term) == (
            partition.state,
            partition.assignment,
            partition.role,
            partition.term,
        )


@pytest.mark.parametrize("seed", range(1000, 1000 + amount(10)))
def test_a_life_goes_well(seed):
    lived = life.live(seed, 200)
    assert lived.violation is None, "\n".join(lived.lines[-50:])


def test_who_was_shutting_down_when_all_was_healed_is_waited_for():
    """Two brokers of three ended only after everything was in sync, and nobody could take records
    with acks=all."""
    lived = life.live(243364223564269, 500)
    assert lived.violation is None, "\n".join(lived.lines[-50:])


def test_a_failure_is_shrunk_to_a_short_story():
    mutation = next(m for m in MUTATIONS if m.name == "acknowledgement without waiting")
    with applied(mutation):
        lived = next(
            outcome for seed in range(20) if (outcome := life.live(seed, 100)).violation is not None
        )
        shorter = shrink.shrink(lived, most=80)
        again = life.replay(lived.seed, shorter)
        assert again.violation == life.replay(lived.seed, shorter).violation
    assert again.violation is not None
    assert len(shorter) < 12
    assert all(isinstance(action, Action) for action in shorter)
    assert life.replay(lived.seed, shorter).violation is None


def test_lives_that_nobody_has_lived_before_go_well():
    """A few; CI has far more of them (.ci/run). The seeds come from the clock, and are told."""
    told = _run("0", "--fresh", str(amount(8)), "--steps", "500")
    assert told.returncode == 0, told.stdout
