"""Under what conditions something was measured, and whether that is a comparison.

A latency of a system that waited for the processor is the machine's, not the system's: a ratio
of two of them says who came to the machine at the better moment. So each measurement is watched
(`Watch`), and judged by rules that are the same for every system (`why_no_comparison`). What is
judged so is told with its reason, and is in no table of ratios.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.kafka import procfs

# Of the whole machine. Others may not have had more of it, nor a hypervisor.
MOST_OTHERS = 0.10
MOST_STOLEN = 0.05
# At a fixed rate: without a free core a queue grows, whatever the system is.
MOST_BUSY = 0.97
# Of the time in which threads of brokers could have run: more, and they waited longer than they
# ran.
MOST_WAITED = 0.5
# An append to three logs in memory takes milliseconds; half a second is a queue.
MOST_P50_MS = 500.0
# The client's own lateness may be this share of the latency that it measured.
MOST_LATE = 0.5
LEAST_LATE_MS = 20.0


@dataclass(frozen=True)
class Conditions:
    """Over a stretch. `brokers_cores` is CPU-seconds a second of all brokers; all others are
    shares: of the time in which the brokers' threads were runnable, or of all cores of the
    machine."""

    brokers_cores: float
    brokers_waited: float
    machine_busy: float
    others: float
    stolen: float

    def document(self) -> dict[str, float]:
        return asdict(self)

    @staticmethod
    def of(document: dict[str, Any]) -> Conditions:
        return Conditions(**document)


def conditions_over(
    seconds: float,
    cores: int,
    machine: tuple[procfs.Machine, procfs.Machine],
    brokers: procfs.Scheduled,
    beside_s: float,
) -> Conditions:
    """`beside_s`: CPU-seconds of what belongs to the measurement and is no broker."""
    before, after = machine
    whole = seconds * cores
    busy_s, stolen_s = after.busy_s - before.busy_s, after.stolen_s - before.stolen_s
    runnable_s = brokers.ran_s + brokers.waited_s
    return Conditions(
        brokers_cores=brokers.ran_s / seconds,
        brokers_waited=brokers.waited_s / runnable_s if runnable_s else 0.0,
        machine_busy=(busy_s + stolen_s) / whole,
        others=max(busy_s - brokers.ran_s - beside_s, 0.0) / whole,
        stolen=stolen_s / whole,
    )


class Watch:
    """From now until `end`: `brokers` and what is `beside` them are processes that live so long."""

    def __init__(self, brokers: Sequence[int], beside: Sequence[int]) -> None:
        self._brokers, self._beside = brokers, beside
        self._begin, self._machine = time.monotonic(), procfs.machine()
        self._threads, self._beside_s = procfs.schedule(brokers), procfs.cpu_s(beside)

    def end(self) -> Conditions:
        return conditions_over(
            time.monotonic() - self._begin,
            os.cpu_count() or 1,
            (self._machine, procfs.machine()),
            procfs.between(self._threads, procfs.schedule(self._brokers)),
            procfs.cpu_s(self._beside) - self._beside_s,
        )


def disturbed(others: float, stolen: float) -> str | None:
    """Why a measurement of any kind is no comparison."""
    if others > MOST_OTHERS:
        return f"other processes had {others:.0%} of the machine"
    if stolen > MOST_STOLEN:
        return f"{stolen:.0%} of the machine was stolen by its host"
    return None


def starved(conditions: Conditions, p50_ms: float, p99_ms: float, late_p99_ms: float) -> str | None:
    """Why a latency at a fixed rate is no comparison, other than `disturbed`. Busy and waited count
    only together: a system may use a core to its end, and threads may wake in crowds."""
    if p50_ms > MOST_P50_MS:
        return f"starved: a p50 of {p50_ms:.0f} ms is a queue"
    if conditions.machine_busy > MOST_BUSY and conditions.brokers_waited > MOST_WAITED:
        return (
            f"starved: its brokers waited for a core {conditions.brokers_waited:.0%} of the time, "
            f"on a machine that was {conditions.machine_busy:.0%} busy"
        )
    if late_p99_ms > max(LEAST_LATE_MS, MOST_LATE * p99_ms):
        return f"the client was late itself, by {late_p99_ms:.0f} ms (p99)"
    return None


def why_no_comparison(
    conditions: Conditions, p50_ms: float, p99_ms: float, late_p99_ms: float
) -> str | None:
    reasons = (
        starved(conditions, p50_ms, p99_ms, late_p99_ms),
        disturbed(conditions.others, conditions.stolen),
    )
    return "; ".join(reason for reason in reasons if reason) or None
