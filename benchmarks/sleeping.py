"""Measures what sleeping partitions cost: a lone record with acks=all, and a broker at rest.

    python -m benchmarks.sleeping [--partitions 0,500,3000] [--records 300] [--idle-s 20]

For each number: a new cluster of three brokers with the embedded ZooKeeper in a temporary
directory, so many partitions with three replicas that nobody writes to, and one partition that gets
one record after another. Prints p50 and p99 of a record, and the CPU of the busiest broker at rest,
in percent of one core. The machine should be at rest otherwise: repeat, and take the least.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.kafka.mini import MiniKafka
from benchmarks.kafka.procfs import cpu_s
from minikafka.client import AsyncProducer

_PER_TOPIC = 500
_WARM_UP = 50
_LOOK_S = 5.0
_QUIETER = 0.8


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="What sleeping partitions cost.")
    parser.add_argument("--partitions", default="0,500,3000")
    parser.add_argument("--records", type=int, default=300)
    parser.add_argument("--idle-s", type=float, default=20.0)
    options = parser.parse_args(arguments)
    print("| sleeping partitions | p50, ms | p99, ms | broker at rest, % |")
    print("|---|---|---|---|", flush=True)
    for count in map(int, options.partitions.split(",")):
        p50_ms, p99_ms, idle = measure(count, options.records, options.idle_s)
        print(f"| {count} | {p50_ms:.2f} | {p99_ms:.2f} | {idle:.1f} |", flush=True)
    return 0


def measure(partitions: int, records: int, idle_s: float) -> tuple[float, float, float]:
    """p50 and p99 of a lone record, ms; CPU of the busiest broker at rest, percent."""
    with tempfile.TemporaryDirectory(prefix="minikafka-sleeping-") as path:
        cluster = MiniKafka(Path(path))
        try:
            cluster.start()
            cluster.create_topic("awake", 1)
            for first in range(0, partitions, _PER_TOPIC):
                cluster.create_topic(f"asleep{first}", min(_PER_TOPIC, partitions - first))
            _wait_for_rest(cluster)
            idle = _at_rest(cluster, idle_s)
            taken_ms = sorted(asyncio.run(_lone_records(cluster.grpc_addresses, records)))
        finally:
            cluster.stop()
    return taken_ms[len(taken_ms) // 2], taken_ms[len(taken_ms) * 99 // 100], idle


def _wait_for_rest(cluster: MiniKafka) -> None:
    """Until what creating the topics has brought on is over: the brokers get no quieter."""
    before, now = 100.0, _at_rest(cluster, _LOOK_S)
    while now < _QUIETER * before:
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
