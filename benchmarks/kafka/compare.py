"""minikafka and Apache Kafka side by side on this machine (`make bench-kafka`).

    python -m benchmarks.kafka.compare [--quick] [--rounds 3] [--only throughput,latency] [--json F]

Both systems in turn, several rounds: three brokers and one ZooKeeper server, started anew each
time, with the same settings (system.py), under the same load (load.py) of the same client. A table
of medians and of ratios goes to standard output, remarks go to standard error, and `--json` keeps
every figure. A full round takes about eight minutes, `--quick` about one and a half.

What other processes of this machine used meanwhile is told along: read nothing into a
round in which that was much.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from benchmarks.kafka import measure, procfs, report
from benchmarks.kafka.apache import ApacheKafka
from benchmarks.kafka.mini import MiniKafka
from benchmarks.kafka.system import FailedError, System, pids
from minikafka.errors import UsageError

_WITH_DEATHS = {"failover", "partitions"}
_MAKERS = {"minikafka": MiniKafka, "apache": ApacheKafka}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Compare minikafka with Apache Kafka.")
    parser.add_argument("--quick", action="store_true", help="one round of the least")
    parser.add_argument("--rounds", type=int, help="3, and with --quick 1")
    parser.add_argument("--only", help=f"of {','.join(measure.MEASUREMENTS)}")
    parser.add_argument("--systems", default="apache,minikafka")
    parser.add_argument("--json", type=Path, help="write all figures into this file")
    options = parser.parse_args(arguments)
    chosen = list(measure.MEASUREMENTS) if options.only is None else options.only.split(",")
    systems = options.systems.split(",")
    unknown = {*chosen} - {*measure.MEASUREMENTS} | ({*systems} - {*_MAKERS})
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    plan = measure.QUICK if options.quick else measure.Plan()
    rounds: dict[str, list[measure.Figures]] = {system: [] for system in systems}
    status = 0
    try:
        for number in range(options.rounds or (1 if options.quick else 3)):
            for system in systems:
                rounds[system].append(_round(system, number, chosen, plan))
    except (FailedError, UsageError) as error:
        print(f"Error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    rows = report.compared(rounds, "minikafka", "apache")
    Console(width=None if sys.stdout.isatty() else 120).print(
        report.table(rows, "minikafka", "apache")
    )
    if options.json:
        document = {"machine": _machine(), "rounds": rounds, "compared": rows}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return status


def _round(name: str, number: int, chosen: list[str], plan: measure.Plan) -> measure.Figures:
    with tempfile.TemporaryDirectory(prefix="bench-kafka-") as path, _started(name, path) as system:
        figures: measure.Figures = {"start of three brokers and ZooKeeper, s": _started_s[-1]}
        if {"throughput", "latency", "memory", "partitions"} & {*chosen}:
            if "idle" in chosen:
                figures |= measure.idle(system, plan)
            _say(name, number, "warming up")
            measure.warm_up(system, plan)
        for each in chosen:
            if each == "idle" and "idle broker, % of a core" in figures:
                continue
            begin, (busy_s, ours_s) = time.monotonic(), _usage(system)
            figures |= measure.MEASUREMENTS[each](system, plan)
            took_s, (busy_after_s, ours_after_s) = time.monotonic() - begin, _usage(system)
            remark = f"{each} took {took_s:.0f} s"
            if each not in _WITH_DEATHS:  # there the sums are not those of the same processes
                others_s = busy_after_s - busy_s - (ours_after_s - ours_s)
                share = max(others_s, 0.0) / max(took_s, 1.0) / (os.cpu_count() or 1) * 100
                figures[f"others on this machine during {each}, %"] = share
                remark += f", others used {share:.0f} % of the machine"
            _say(name, number, remark)
    return figures


_started_s: list[float] = []


@contextmanager
def _started(name: str, path: str) -> Iterator[System]:
    system: System = _MAKERS[name](Path(path))
    begin = time.monotonic()
    try:
        system.start()
        _started_s.append(time.monotonic() - begin)
        yield system
    finally:
        system.stop()


def _usage(system: System) -> tuple[float, float]:
    """(the machine's CPU seconds, those of them that are ours)"""
    ours = [*pids(system), *system.zookeeper_pids]
    return procfs.busy_s(), procfs.cpu_s(ours) + procfs.own_s()


def _say(name: str, number: int, what: str) -> None:
    print(f"round {number + 1}, {name}: {what}", file=sys.stderr, flush=True)


def _machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
