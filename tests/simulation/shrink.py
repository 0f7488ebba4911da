"""Shortens the actions of a life that failed: whatever can be left out, while it still fails alike.

First everything after the failure goes, then ever smaller pieces (delta debugging), and at last the
time that the world runs after each action is rounded. An action decides its own chance by its seed,
so the others keep their meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.simulation import life
from tests.simulation.actions import Action

MAX_REPLAYS = 600


def shrink(outcome: life.Outcome, most: int = MAX_REPLAYS) -> list[Action]:
    """The shortest list that was found within so many replays."""
    assert outcome.violation is not None
    return _Shrinker(outcome, most).shrink()


class _Shrinker:
    def __init__(self, outcome: life.Outcome, most: int) -> None:
        self._seed = outcome.seed
        self._kind = _kind(outcome.violation)
        self._left = most
        self._best = list(outcome.actions)

    def shrink(self) -> list[Action]:
        size = max(1, len(self._best) // 2)
        while size and self._left > 0:
            removed = self._remove_pieces(size)
            if not removed or size > 1:
                size //= 2
        return self._best

    def _remove_pieces(self, size: int) -> bool:
        """One pass, from the end on."""
        removed = False
        at = len(self._best) - size
        while at > -size and self._left > 0:
            start = max(0, at)
            if self._fails(self._best[:start] + self._best[start + size :]):
                removed = True
            elif size == 1 and 0 <= at < len(self._best):
                self._round(at)
            at -= size
        return removed

    def _round(self, at: int) -> None:
        action = self._best[at]
        rounded = replace(action, run_ms=float(round(action.run_ms)))
        if rounded != action:
            self._fails([*self._best[:at], rounded, *self._best[at + 1 :]])

    def _fails(self, actions: Sequence[Action]) -> bool:
        self._left -= 1
        outcome = life.replay(self._seed, actions)
        if outcome.violation is None or _kind(outcome.violation) != self._kind:
            return False
        self._best = list(outcome.actions)  # without those after the failure
        return True


def _kind(violation: str | None) -> str:
    """The invariant, and of a bug what it says first."""
    words = (violation or "").split()
    return " ".join(words[:6]) if "bug:" in words else " ".join(words[:2])


def as_code(seed: int, actions: Sequence[Action]) -> str:
    """For a test: what `life.replay` takes."""
    lines = [
        f"    Action({action.words!r}, {action.run_ms!r}, {action.seed})," for action in actions
    ]
    return "\n".join([f"replay({seed}, [", *lines, "])"])
