"""How much memory each broker has, over its life, and whether that stays below a bound.

State: the most that was seen of each broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from tests.integration.torment.checker import Anomaly
from tests.integration.torment.processes import Child

# What clients may make a broker hold (queued.max.request.bytes, in world.py), as much again as one
# half of it for what malloc does not give back, and what a broker has by itself under this load.
BOUND_BYTES = 134_217_728 + 67_108_864 + 90_000_000
_LOOK_S = 0.5


def resident_bytes(pid: int) -> int:
    """0 of a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


class MemoryWatch:
    def __init__(self, brokers: Mapping[int, Child]) -> None:
        self._brokers = brokers
        self.most_bytes = dict.fromkeys(brokers, 0)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            for broker_id, child in self._brokers.items():
                if child.is_running:
                    now_bytes = resident_bytes(child.pid)
                    self.most_bytes[broker_id] = max(self.most_bytes[broker_id], now_bytes)
            await asyncio.sleep(_LOOK_S)

    def describe(self) -> str:
        most = ", ".join(f"{number / 1e6:.0f}" for number in self.most_bytes.values())
        return f"memory of the brokers, at most: {most} MB"

    def anomalies(self) -> list[Anomaly]:
        return [
            Anomaly(
                "memory", f"broker {each}", f"{most / 1e6:.0f} MB, {BOUND_BYTES / 1e6:.0f} may be"
            )
            for each, most in self.most_bytes.items()
            if most > BOUND_BYTES
        ]
