"""Measures what sleeping partitions cost: a lone record with acks=all, and a broker at rest.

    python -m benchmarks.sleeping [--partitions 0,500,3000] [--records 300] [--rounds 3]
                                  [--idle-s 20] [--patience-s 1800]

For each number: a new cluster of three brokers with the embedded ZooKeeper in a temporary
directory, so many partitions with three replicas that nobody writes to, and one partition that gets
one record after another. Prints p50 and p99 of a record, and the CPU of the busiest broker at rest,
in percent of one core, each of the rounds' least, median and most. The machine should be at rest
otherwise; where it is not, the least says most. It ends, and says so, when the partitions are not
in sync, or the brokers not at rest, after `--patience-s`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException

from benchmarks.kafka.mini import MiniKafka
from benchmarks.kafka.procfs import cpu_s
from benchmarks.kafka.system import FailedError, wait_until
from minikafka.client import AsyncProducer
from minikafka.errors import MinikafkaError
from tests.helpers import kafka_probe

_PER_TOPIC = 500
_WARM_UP = 50
_LOOK_S = 5.0
_QUIETER = 0.8
_QUIET = 20.0  # percent of a core
_LATE = (KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT)  # it may come about yet


class Round(NamedTuple):
    """Of a lone record, ms; of the busiest broker at rest, percent of a core."""

    p50_ms: float
    p99_ms: float
    idle: float


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="What sleeping partitions cost.")
    parser.add_argument("--partitions", default="0,500,3000")
    parser.add_argument("--records", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle-s", type=float, default=20.0)
    parser.add_argument("--patience-s", type=float, default=1800.0)
    options = parser.parse_args(arguments)
    print(f"Least / median / most of {options.rounds} rounds of {options.records} records.\n")
    print("| sleeping partitions | in sync after, s | p50, ms | p99, ms | broker at rest, % |")
    print("|---|---|---|---|---|", flush=True)
    try:
        with asyncio.Runner() as runner:  # one for all: gRPC keeps to the first loop
            for count in map(int, options.partitions.split(",")):
                print(_line(count, *measure(count, options, runner)), flush=True)
    except (FailedError, MinikafkaError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


def _line(count: int, made_s: float, rounds: Sequence[Round]) -> str:
    p50_ms, p99_ms, idle = zip(*rounds, strict=True)
    return (
        f"| {count} | {made_s:.0f} | {spread(p50_ms, 2)} | {spread(p99_ms, 2)} | "
        f"{spread(idle, 1)} |"
    )


def spread(values: Sequence[float], digits: int) -> str:
    """Least, median and most."""
    return " / ".join(f"{each:.{digits}f}" for each in (min(values), median(values), max(values)))


def measure(
    partitions: int, options: argparse.Namespace, runner: asyncio.Runner
) -> tuple[float, list[Round]]:
    """How long the partitions took until they were in sync, and the rounds. FailedError."""
    with tempfile.TemporaryDirectory(prefix="minikafka-sleeping-") as path:
        cluster = MiniKafka(Path(path))
        try:
            cluster.start()
            began_s = time.monotonic()
            left_s = _Patience(options.patience_s)
            _create(cluster, "awake", 1, left_s)
            for first in range(0, partitions, _PER_TOPIC):
                more = min(_PER_TOPIC, partitions - first)
                _create(cluster, f"asleep{first}", more, left_s)
            made_s = time.monotonic() - began_s
            _wait_for_rest(cluster, left_s)
            rounds = []
            for _ in range(options.rounds):
                idle = _at_rest(cluster, options.idle_s)
                taken_ms = sorted(
                    runner.run(_lone_records(cluster.grpc_addresses, options.records))
                )
                p50_ms, p99_ms = (taken_ms[len(taken_ms) * n // 100] for n in (50, 99))
                rounds.append(Round(p50_ms, p99_ms, idle))
            return made_s, rounds
        finally:
            cluster.stop()


class _Patience:
    """How much of it is left, in seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end_s = time.monotonic() + seconds

    def __call__(self) -> float:
        return self._end_s - time.monotonic()


def _create(cluster: MiniKafka, name: str, partitions: int, left_s: Callable[[], float]) -> None:
    """Until every broker knows that all replicas are in sync. FailedError."""
    try:
        cluster.create_topic(name, partitions)
    except KafkaException as error:
        if error.args[0].code() not in _LATE:
            raise
    addresses = [member.address for member in cluster.members]

    def whole() -> bool:
        views = [kafka_probe.metadata(address, [name]) for address in addresses]
        return all(
            view is not None
            and len(view.isr) == partitions
            and all(len(isr) == len(addresses) for isr in view.isr.values())
            for view in views
        )

    wait_until(whole, f"the {partitions} partitions of {name} to be in sync", max(left_s(), 0))


def _wait_for_rest(cluster: MiniKafka, left_s: _Patience) -> None:
    """Until what creating the topics has brought on is over: the brokers do little, and get no
    quieter. FailedError."""
    before, now = 100.0, _at_rest(cluster, _LOOK_S)
    while now > _QUIET or now < _QUIETER * before:
        if left_s() < 0:
            raise FailedError(
                f"the brokers are not at rest {left_s.seconds:g} s after the start: {now:.0f} %"
            )
        before, now = now, _at_rest(cluster, _LOOK_S)


def _at_rest(cluster: MiniKafka, seconds: float) -> float:
    pids = [member.pid for member in cluster.members]
    before = [cpu_s([pid]) for pid in pids]
    time.sleep(seconds)
    return max(
        100 * (cpu_s([pid]) - then) / seconds for pid, then in zip(pids, before, strict=True)
    )


async def _lone_records(bootstrap: list[str], records: int) -> list[float]:
    """How long each took, ms, one after the other."""
    taken_ms = []
    async with AsyncProducer(bootstrap, acks="all", linger_ms=0) as producer:
        for number in range(_WARM_UP + records):
            began_s = time.perf_counter()
            await (await producer.send("awake", b"a record", partition=0))
            if number >= _WARM_UP:
                taken_ms.append(1_000 * (time.perf_counter() - began_s))
    return taken_ms


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
