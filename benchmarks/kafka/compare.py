"""minikafka and Apache Kafka side by side on this machine (`make bench-kafka`).

    python -m benchmarks.kafka.compare [--quick | --long] [--rounds 3] [--peers kafka-3.9,kafka-4]
                                       [--only throughput,latency] [--json FILE]

The systems in turn (ours, a peer, the next, ours, …), several rounds: three brokers, started anew
each time, with the same settings (system.py), under the same load (load.py) of the same client.
Peers are Apache Kafka 3.9 with one ZooKeeper server, as minikafka has one, and Apache Kafka 4 in
KRaft mode (kraft.py); `--peers none` measures minikafka alone. Tables of medians, of their spread
and of ratios go to standard output, remarks go to standard error, and `--json` keeps every figure
of every round, after each of them; plot.py draws it. `--quick` shows in some minutes that all of it
works.

What other processes of this machine used meanwhile, and what waited for the processor, is told
along; what was measured so is no comparison, and is listed apart (conditions.py).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from rich.console import Console

from benchmarks.kafka import measure, plan, procfs, report
from benchmarks.kafka.apache import ApacheKafka
from benchmarks.kafka.conditions import disturbed
from benchmarks.kafka.found import Found
from benchmarks.kafka.kraft import KraftKafka
from benchmarks.kafka.mini import MiniKafka
from benchmarks.kafka.system import FailedError, System, pids
from minikafka.errors import UsageError

OURS = "minikafka"
_MAKERS = {OURS: MiniKafka, "kafka-3.9": ApacheKafka, "kafka-4": KraftKafka}
_START = "start of the cluster, s"
PEERS = [name for name in _MAKERS if name != OURS]


def main(arguments: list[str]) -> int:
    options = parse_options(arguments)
    chosen_plan = plan.QUICK if options.quick else plan.LONG if options.long else plan.FULL
    systems = [OURS, *options.peers]
    rounds: dict[str, list[Found]] = {system: [] for system in systems}
    status = 0
    try:
        for number in range(options.rounds or (1 if options.quick else 3)):
            for system in systems:
                rounds[system].append(Found())
                if not _goes_through(system, number, options.only, chosen_plan, rounds[system][-1]):
                    status = 1
                if options.json:
                    _write(options.json, arguments, rounds, options.peers)
    except UsageError as error:
        print(f"Error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    console = Console(width=None if sys.stdout.isatty() else 140)
    rows = report.compared(rounds, OURS, options.peers)
    console.print(report.table(rows, OURS, options.peers))
    if without := report.left_out(rounds):
        console.print(report.table_left_out(without))
    return status


def parse_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare minikafka with Apache Kafka.")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="one round of the least")
    extent.add_argument("--long", action="store_true", help="10,000 partitions too, and longer")
    parser.add_argument("--rounds", type=int, help="3, and with --quick 1")
    parser.add_argument("--only", help=f"of {','.join(measure.MEASUREMENTS)}")
    parser.add_argument("--peers", default=",".join(PEERS), help="or none")
    parser.add_argument("--json", type=Path, help="write all figures into this file")
    options = parser.parse_args(arguments)
    options.only = list(measure.MEASUREMENTS) if options.only is None else options.only.split(",")
    options.peers = [] if options.peers == "none" else options.peers.split(",")
    unknown = {*options.only} - {*measure.MEASUREMENTS} | ({*options.peers} - {*PEERS})
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


def _write(
    path: Path, arguments: list[str], rounds: dict[str, list[Found]], peers: list[str]
) -> None:
    document = {
        "command": ["python", "-m", "benchmarks.kafka.compare", *arguments],
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "titles": {name: maker(Path()).title for name, maker in _MAKERS.items()},
        "rounds": {name: [each.document() for each in found] for name, found in rounds.items()},
        "compared": report.compared(rounds, OURS, peers),
        "no comparison": report.left_out(rounds),
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


# --- a round of a system --------------------------------------------------------------------------


def _goes_through(
    name: str, number: int, chosen: list[str], how_much: plan.Plan, found: Found
) -> bool:
    """Whether all was measured. One system's failure is kept with what it had found until then, and
    is not the end of a run of hours."""
    try:
        _round(name, number, chosen, how_much, found)
    except (FailedError, KafkaException, subprocess.TimeoutExpired) as error:
        found.failed = str(error)
        _say(name, number, f"Error: {error}")
        return False
    return True


def _round(name: str, number: int, chosen: list[str], how_much: plan.Plan, found: Found) -> None:
    """On one cluster, all but what wants one of its own."""
    together = [each for each in chosen if each not in measure.ALONE]
    alone = [[each] for each in chosen if each in measure.ALONE]
    for part in ([together] if together else []) + alone:
        with _started(name, found) as system:
            _measure(system, name, number, part, how_much, found)


def _measure(
    system: System, name: str, number: int, chosen: list[str], how_much: plan.Plan, found: Found
) -> None:
    if "idle" in chosen:  # before anything has been asked of it
        _one("idle", system, name, number, how_much, found)
    if {"throughput", "latency", "memory", "partitions"} & {*chosen}:
        _say(name, number, "warming up")
        measure.warm_up(system, how_much)
    for each in chosen:
        if each != "idle":
            _one(each, system, name, number, how_much, found)


def _one(
    what: str, system: System, name: str, number: int, how_much: plan.Plan, found: Found
) -> None:
    begin = _Usage.now(system)
    measured = measure.MEASUREMENTS[what](system, how_much)
    took_s, others, stolen = _Usage.now(system).since(begin, measured.gone_cpu_s)
    measured.note({f"others on this machine during {what}, %": others * 100})
    whole = None if what in measure.JUDGED_BY_THEMSELVES else disturbed(others, stolen)
    found.add(measured, whole)
    remark = f"{what} took {took_s:.0f} s, others used {others:.0%} of the machine"
    _say(name, number, remark)
    for why in dict.fromkeys(measured.no_comparison.values()):
        figures = [each for each, own in measured.no_comparison.items() if own == why]
        _say(name, number, f"no comparison: {figures[0]} and {len(figures) - 1} more: {why}")
    if whole:
        _say(name, number, f"no comparison: {what}: {whole}")


@contextmanager
def _started(name: str, found: Found) -> Iterator[System]:
    with tempfile.TemporaryDirectory(prefix="bench-kafka-") as path:
        system: System = _MAKERS[name](Path(path))
        try:
            _start(system, found)
            yield system
        finally:
            system.stop()


def _start(system: System, found: Found) -> None:
    system.prepare()
    machine, own_s, begin = procfs.machine(), procfs.own_s(), time.monotonic()
    system.start()
    took_s, after = time.monotonic() - begin, procfs.machine()
    used_s = procfs.cpu_s([*pids(system), *system.zookeeper_pids]) + procfs.own_s() - own_s
    whole = took_s * (os.cpu_count() or 1)
    others = (after.busy_s - machine.busy_s - used_s) / whole
    why = disturbed(others, (after.stolen_s - machine.stolen_s) / whole)
    if _START not in found.figures:  # the first of a round, if there are several
        found.note({_START: took_s, "start of the cluster, CPU-s": used_s}, why)


class _Usage:
    """CPU-seconds until now: of the machine, and of what belongs to this comparison."""

    def __init__(self, machine: procfs.Machine, ours_s: float) -> None:
        self._at, self._machine, self._ours_s = time.monotonic(), machine, ours_s

    @staticmethod
    def now(system: System) -> _Usage:
        ours = procfs.cpu_s([*pids(system), *system.zookeeper_pids]) + procfs.own_s()
        return _Usage(procfs.machine(), ours)

    def since(self, before: _Usage, gone_cpu_s: float) -> tuple[float, float, float]:
        """Seconds; and, as shares of the machine, what others used and what was stolen."""
        took_s = self._at - before._at
        whole = max(took_s, 1.0) * (os.cpu_count() or 1)
        busy_s = self._machine.busy_s - before._machine.busy_s
        stolen_s = self._machine.stolen_s - before._machine.stolen_s
        ours_s = self._ours_s + gone_cpu_s - before._ours_s
        return took_s, max(busy_s - ours_s, 0.0) / whole, stolen_s / whole


def _say(name: str, number: int, what: str) -> None:
    print(f"round {number + 1}, {name}: {what}", file=sys.stderr, flush=True)


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
