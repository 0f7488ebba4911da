"""Breadth-first search through every state of the world that can be reached within the bounds.

Purpose: `explore` visits each distinct state once, depth by depth, so that the first violation that
it meets has a shortest story. A state is kept as packed numbers, exactly: no two states are taken
for one, as a hash of fixed length might do.

State: for each state its parent and the event that led to it, by number, for the story.
"""

from __future__ import annotations

import gc
import struct
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.exhaustive.machine import Event, Violation, World
from tests.exhaustive.values import Interner
from tests.exhaustive.world import Model


@dataclass
class Found:
    """`depth`: the last that was searched whole, or the number of events of the story.
    `complete`: no state is left unvisited, however deep. `levels`: new states at each depth.
    `story`: the events up to the violation, that one included."""

    states: int = 1
    transitions: int = 0
    depth: int = 0
    seconds: float = 0.0
    complete: bool = False
    violation: str | None = None
    story: list[Event] = field(default_factory=list)
    levels: list[int] = field(default_factory=lambda: [1])


@dataclass(frozen=True)
class Limits:
    """Where a search ends: at this depth, or (whichever comes first) after so many states or
    seconds; the last two end it in the middle of a depth, which then does not count."""

    depth: int = 1000
    states: int = 2**31
    seconds: float = float("inf")


class Explorer:
    """One search. `progress` is told after each depth."""

    def __init__(
        self,
        model: Model,
        start: World,
        limits: Limits,
        progress: Callable[[Found], None] = lambda _: None,
    ) -> None:
        self.model = model
        self.start = start
        self.limits = limits
        self.progress = progress
        self.found = Found()
        self._packed = struct.Struct(f"{len(start)}I")
        self._seen = {self._packed.pack(*start): None}  # ordered
        self._parents = array("Q", [0])
        self._events = array("L", [0])
        self._names = Interner()

    def run(self) -> Found:
        """The collector finds no garbage in a search, and would look through all states for it."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._run()
        finally:
            if collecting:
                gc.enable()

    def _run(self) -> Found:
        found, started = self.found, time.monotonic()
        level = [(0, self.start)]
        while level and found.depth < self.limits.depth:
            deeper = self._expand(level, started)
            found.seconds = time.monotonic() - started
            if deeper is None:
                return found
            found.depth += 1
            if deeper:
                found.levels.append(len(deeper))
                self.progress(found)
            level = deeper
        found.complete = not level
        return found

    def _expand(
        self, level: list[tuple[int, World]], started: float
    ) -> list[tuple[int, World]] | None:
        """The next depth; None if the search ends here."""
        found, seen, pack = self.found, self._seen, self._packed.pack
        deeper: list[tuple[int, World]] = []
        for index, world in level:
            for event, after in self.model.successors(world):
                found.transitions += 1
                if isinstance(after, Violation):
                    found.violation = str(after)
                    found.story = [*self.story(index), event]
                    found.depth = len(found.story)
                    return None
                key = pack(*after)
                if key in seen:
                    continue
                seen[key] = None
                self._parents.append(index)
                self._events.append(self._names.number(event))
                deeper.append((len(seen) - 1, after))
            found.states = len(seen)
            if len(seen) > self.limits.states:
                return None
            if time.monotonic() - started > self.limits.seconds:
                return None
        return deeper

    def worlds(self) -> Iterator[World]:
        """Every state that was visited, in the order of `story`."""
        return map(self._packed.unpack, self._seen)

    def story(self, index: int) -> list[Event]:
        """The events from the start to this state."""
        events: list[Event] = []
        while index:
            events.append(self._names.values[self._events[index]])
            index = self._parents[index]
        return events[::-1]
