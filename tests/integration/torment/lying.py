"""The liar (liar.py) as part of a run: started, ended, and what comes of it told.

`disturbed` is about the honest: while there is no fault but the liar, every partition goes on to
take records.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable

from tests.integration.torment.availability import longest_gap
from tests.integration.torment.history import OK, History, Operation, Send
from tests.integration.torment.processes import Child
from tests.integration.torment.world import LIED_TO, World

_BOUND_S = 3.0  # without a record acknowledged in some partition
_END_S = 30.0


class LiarProcess:
    """Nothing at all unless `wanted`."""

    def __init__(self, world: World, seed: int, wanted: bool) -> None:
        self._wanted = wanted
        self._child = Child("liar", world.directory / "liar.log")
        self._command = [
            *(sys.executable, "-m", "tests.integration.torment.liar"),
            *("--bootstrap", world.kafka_bootstrap, "--seed", str(seed)),
            *("--own", ",".join(LIED_TO)),
            *("--others", ",".join(map(str, world.partitions))),
        ]

    def start(self) -> None:
        if self._wanted:
            self._child.start(self._command)

    def kill_now(self) -> None:
        self._child.kill_now()

    async def end(self, tell: Callable[[str], None]) -> list[str]:
        """What is wrong with how it fared; it is told what it did."""
        if not self._wanted:
            return []
        try:
            await self._child.terminate(_END_S)
        except AssertionError:
            return [f"the liar does not end: {self._child.tail()}"]
        if self._child.status != 0:
            return [f"the liar ended with status {self._child.status}: {self._child.tail()}"]
        tally = json.loads(self._child.tail(1))
        did = ", ".join(f"{times} {name}" for name, times in sorted(tally["did"].items()))
        tell(f"the liar: {did}")
        for name, times in sorted(tally["answers"].items()):
            tell(f"  {name}: {times}")
        problems = [
            f"the liar was believed, {times} times: {name}"
            for name, times in tally["believed"].items()
        ]
        if not tally["answers"].get("the truth was taken"):
            problems.append("the liar came back with the truth, and none of it was taken")
        return problems


async def disturbed(world: World, history: History, calm_s: float) -> list[str]:
    """Wait for so long, in which there is no fault; then, which partitions took nothing for too
    long a time."""
    start = time.monotonic()
    await asyncio.sleep(calm_s)
    end = time.monotonic()
    partitions = [str(each) for each in world.partitions]
    return [
        f"with the liar alone {partition} took no record for {gap_s:.1f} s, {_BOUND_S:g} may be"
        for partition, gap_s in silences(history.operations, partitions, start, end).items()
        if gap_s > _BOUND_S
    ]


def silences(
    operations: Iterable[Operation], partitions: Iterable[str], start: float, end: float
) -> dict[str, float]:
    """By partition, the longest time between `start` and `end` without a record acknowledged with
    acks=all."""
    taken: dict[str, list[float]] = {each: [] for each in partitions}
    for each in operations:
        if isinstance(each, Send) and each.once and each.outcome == OK and each.end >= start:
            taken[each.partition].append(each.end)
    return {
        partition: longest_gap(sorted(times), start, end, end) for partition, times in taken.items()
    }
