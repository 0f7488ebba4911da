"""Carries out a plan of faults, and tells what it did.

The plan is drawn from a seed and from nothing else: the same seed gives the same kinds, in the same
order, with the same times and the same choices of whom to hit (as far as there still is such a
one). Each kind comes once, in random order, before any comes again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.helpers.waiting import until
from tests.integration.torment.faults import KINDS
from tests.integration.torment.history import Fault as FaultRecord
from tests.integration.torment.history import History
from tests.integration.torment.world import World

WRITE_WAIT_S = 60.0


@dataclass(frozen=True)
class Step:
    """`settles`: afterwards, wait until the cluster is whole and every partition was written to;
    else only for `pause_s`."""

    number: int
    kind: str
    choices: str  # the seed of the fault's own random numbers
    hold_s: float
    settles: bool
    pause_s: float


def plan(seed: int, kinds: Sequence[str]) -> Iterator[Step]:
    rng = random.Random(seed)
    number = 0
    while True:
        for kind in rng.sample(kinds, len(kinds)):
            number += 1
            yield Step(
                number,
                kind,
                f"{seed}/{number}",
                round(rng.uniform(*KINDS[kind].hold_s), 2),
                rng.random() < 0.6,
                round(rng.uniform(0.2, 3.0), 2),
            )


@dataclass
class Nemesis:
    """`problems`: what the cluster did not do though it should have."""

    world: World
    history: History
    tell: Callable[[str], None]
    problems: list[str] = field(default_factory=list)

    async def run(self, steps: Iterator[Step], deadline: float) -> None:
        """Until the time (monotonic) is over; then everything is taken back."""
        for step in steps:
            if time.monotonic() >= deadline:
                return
            await self.carry_out(step)

    async def carry_out(self, step: Step) -> None:
        fault = KINDS[step.kind](self.world, random.Random(step.choices))
        start = time.monotonic()
        what = "not to its end"
        try:
            what = await fault.inject()
            self.tell(f"#{step.number} {step.kind}: {what}, for {step.hold_s:g} s")
            await asyncio.sleep(step.hold_s)
        except AssertionError as problem:  # a rolling restart whose cluster was not whole again
            self.problems.append(f"#{step.number} {step.kind}: {problem}")
        finally:
            await fault.recover()
            self.history.add(FaultRecord(step.kind, what, start, time.monotonic()))
        self.problems += [f"#{step.number} {step.kind}: {each}" for each in fault.problems]
        if not step.settles:
            await asyncio.sleep(step.pause_s)
            return
        healed = time.monotonic()
        try:
            await self.world.until_whole()
            whole = time.monotonic()
            await until(lambda: not self._not_written_since(healed), WRITE_WAIT_S)
        except AssertionError as problem:
            silent = self._not_written_since(healed)
            said = f"; nothing was acknowledged in {', '.join(silent)}" if silent else ""
            self.problems.append(f"#{step.number} {step.kind}: afterwards {problem}{said}")
        else:
            self.tell(
                f"#{step.number} whole again after {whole - healed:.1f} s, all partitions "
                f"written within {time.monotonic() - healed:.1f} s"
            )

    def _not_written_since(self, moment: float) -> list[str]:
        names = [str(each) for each in self.world.partitions]
        return [each for each in names if self.history.last_ok.get(each, 0) <= moment]
