"""A load generator on librdkafka, for any cluster that speaks Kafka's protocol.

    python -m benchmarks.kafka.load produce BOOTSTRAP TOPIC [--size 1024] [--acks all] [--codec lz4]
    python -m benchmarks.kafka.load consume BOOTSTRAP TOPIC
    python -m benchmarks.kafka.load latency BOOTSTRAP TOPIC --rate-mb 10
    python -m benchmarks.kafka.load lone BOOTSTRAP TOPIC --interval-ms 20

The topic is there already, with `--partitions` partitions. A document of figures goes to standard
output. What comes before `--warm-up` seconds have passed does not count. With `--pids` the CPU time
of those processes, the brokers, over the same stretch is told along; `--beside` names processes
that belong to the system and are no brokers.

What `latency` and `lone` measure, and from when on, is told in latency.py.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.kafka import latency, procfs
from benchmarks.kafka.payload import payload_pool
from benchmarks.kafka.rdkafka import FROM_BEGINNING, Consumer, Message, Producer
from benchmarks.kafka.system import FailedError

_BATCH = 1_000
_DRAIN_TIMEOUT_S = 60.0


class Window:
    """The stretch that counts: begins `warm_up_s` after the start and lasts `seconds`."""

    def __init__(self, warm_up_s: float, seconds: float, pids: Sequence[int]) -> None:
        self._pids = pids
        self._begin = time.monotonic() + warm_up_s
        self._end = self._begin + seconds
        self._first: tuple[float, int, float, float] | None = None

    def is_over(self, records: int) -> bool:
        """To be asked all the time, with how many records are done by now."""
        now = time.monotonic()
        if self._first is None and now >= self._begin:
            self._first = (now, records, procfs.cpu_s(self._pids), _own_cpu_s())
        return now >= self._end

    def figures(self, records: int, size: int) -> dict[str, Any]:
        if self._first is None:
            raise FailedError("the load ended before the warm-up was over: make it longer")
        begin, before, cpu_before_s, own_before_s = self._first
        seconds, count = time.monotonic() - begin, records - before
        if count == 0:
            raise FailedError("no record came through in the time that counts")
        gigabytes = count * size / 1e9
        return {
            "records": count,
            "seconds": seconds,
            "records_per_s": count / seconds,
            "mb_per_s": count * size / seconds / 1e6,
            "brokers_cpu_s_per_gb": (procfs.cpu_s(self._pids) - cpu_before_s) / gigabytes,
            "client_cpu_s_per_gb": (_own_cpu_s() - own_before_s) / gigabytes,
        }


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- throughput ----------------------------------------------------------------------------------


def produce(options: argparse.Namespace) -> dict[str, Any]:
    producer = Producer(
        options.topic,
        {
            "bootstrap.servers": options.bootstrap,
            "acks": options.acks,
            "compression.type": options.codec,
            "linger.ms": f"{options.linger_ms:g}",
            "enable.idempotence": "true" if options.idempotent else "false",
            "queue.buffering.max.messages": "500000",
            "queue.buffering.max.kbytes": str(256 * 1024),
        },
    )
    pool = payload_pool()
    batches = [_batch(pool, options.size, number) for number in range(16)]
    before = [producer.end_offset(partition) for partition in range(options.partitions)]
    sent = number = 0
    window = Window(options.warm_up, options.seconds, options.pids)
    while not window.is_over(producer.acknowledged):
        # Each partition in turn gets a whole batch, as a sticky partitioner would do it.
        taken = producer.send(batches[number % 16], number % options.partitions)
        sent += taken
        number += 1
        producer.poll(0 if taken == _BATCH else 5)
    figures = window.figures(producer.acknowledged, options.size)
    _wait(lambda: (producer.poll(20), producer.acknowledged == sent)[1], "acknowledgements")

    def grown() -> int:
        """What clients can read: with acks=1 that is behind what was acknowledged."""
        after = [producer.end_offset(partition) for partition in range(options.partitions)]
        return sum(after) - sum(before)

    _wait(lambda: grown() >= sent, f"{sent} acknowledged records to be in the log")
    if grown() != sent:
        raise FailedError(f"{sent} acknowledged, but the log grew by {grown()}")
    producer.close()
    return figures | {"total_records": sent}


def _batch(
    pool: ctypes.Array[ctypes.c_char], size: int, seed: int, count: int = _BATCH
) -> ctypes.Array[Message]:
    chance = random.Random(seed)
    messages = (Message * count)()
    start = ctypes.addressof(pool)
    for message in messages:
        message.payload = start + chance.randrange(len(pool) - size)
        message.size = size
    return messages


def consume(options: argparse.Namespace) -> dict[str, Any]:
    """Read from the beginning to the end, over and over until the time is over."""
    # By default librdkafka asks for nothing for a second once its queue is full, as it is whenever
    # a broker is faster than its reader: 70 instead of 420 MB/s.
    settings = {"bootstrap.servers": options.bootstrap, "fetch.queue.backoff.ms": "1"}
    consumer = Consumer(options.topic, settings)
    per_pass = sum(consumer.end_offset(partition) for partition in range(options.partitions))
    if per_pass == 0:
        raise FailedError(f"{options.topic} is empty: produce something first")
    window = Window(options.warm_up, options.seconds, options.pids)
    done, in_pass = 0, per_pass
    last_progress = time.monotonic()
    while not window.is_over(done):
        if in_pass >= per_pass:
            consumer.stop()
            consumer.start(options.partitions, FROM_BEGINNING)
            in_pass = 0
        count = consumer.read(20)
        done += count
        in_pass += count
        if count:
            last_progress = time.monotonic()
        elif time.monotonic() - last_progress > _DRAIN_TIMEOUT_S:
            raise FailedError(f"nothing came for {_DRAIN_TIMEOUT_S:g} s")
    figures = window.figures(done, options.size)
    consumer.close()
    return figures


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DRAIN_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise FailedError(f"waited {_DRAIN_TIMEOUT_S:g} s for {what}")


# --- the command line ----------------------------------------------------------------------------


LOADS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "produce": produce,
    "consume": consume,
    "latency": latency.end_to_end,
    "lone": latency.lone,
}


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Load a cluster that speaks Kafka's protocol.")
    parser.add_argument("what", choices=list(LOADS))
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("--partitions", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="bytes of a record")
    parser.add_argument("--acks", choices=["0", "1", "all"], default="all")
    parser.add_argument(
        "--codec", choices=["none", "gzip", "snappy", "lz4", "zstd"], default="none"
    )
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--warm-up", type=float, default=4.0)
    parser.add_argument("--linger-ms", type=float, default=5.0, help="5, as librdkafka has it")
    parser.add_argument("--idempotent", action="store_true")
    parser.add_argument("--rate-mb", type=float, default=1.0, help="of latency: MB a second")
    parser.add_argument("--interval-ms", type=float, default=20.0, help="between lone records")
    parser.add_argument("--pids", type=_numbers, default=[])
    parser.add_argument("--beside", type=_numbers, default=[])
    options = parser.parse_args(arguments)
    try:
        figures = LOADS[options.what](options)
    except FailedError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
