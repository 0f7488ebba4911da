"""A load generator on librdkafka, for any cluster that speaks Kafka's protocol.

    python -m benchmarks.kafka.load produce BOOTSTRAP TOPIC [--size 1024] [--acks all] [--codec lz4]
    python -m benchmarks.kafka.load consume BOOTSTRAP TOPIC
    python -m benchmarks.kafka.load latency BOOTSTRAP TOPIC --rate-mb 10
    python -m benchmarks.kafka.load lone BOOTSTRAP TOPIC --interval-ms 20
    python -m benchmarks.kafka.load transactions BOOTSTRAP TOPIC [--producers 8]
    python -m benchmarks.kafka.load stream BOOTSTRAP TOPIC [--transaction-ms 100]
    python -m benchmarks.kafka.load fill BOOTSTRAP TOPIC --count 100
    python -m benchmarks.kafka.load steady BOOTSTRAP TOPIC --rate 20

The topic is there already, with `--partitions` partitions. A document of figures goes to standard
output. What comes before `--warm-up` seconds have passed does not count. With `--pids` the CPU time
of those processes, the brokers, over the same stretch is told along; `--beside` names processes
that belong to the system and are no brokers.

What `latency` and `lone` measure, and from when on, is told in latency.py; the four that do
transactions are in transactional.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.kafka import latency, transactional
from benchmarks.kafka.payload import payload_pool
from benchmarks.kafka.rdkafka import DRAIN_TIMEOUT_S, FROM_BEGINNING, Consumer, Producer, batch_of
from benchmarks.kafka.system import FailedError, wait_until
from benchmarks.kafka.window import Window

_BATCH = 1_000


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
    batches = [batch_of(pool, options.size, _BATCH, number) for number in range(16)]
    before = [producer.end_offset(partition) for partition in range(options.partitions)]
    sent = number = 0
    window = Window(options.warm_up, options.seconds, options.pids, options.beside)
    while not window.is_over(producer.acknowledged):
        # Each partition in turn gets a whole batch, as a sticky partitioner would do it.
        taken = producer.send(batches[number % 16], number % options.partitions)
        sent += taken
        number += 1
        producer.poll(0 if taken == _BATCH else 5)
    figures = window.figures(producer.acknowledged, options.size)
    producer.wait_for(sent)

    def grown() -> int:
        """What clients can read: with acks=1 that is behind what was acknowledged."""
        after = [producer.end_offset(partition) for partition in range(options.partitions)]
        return sum(after) - sum(before)

    what = f"{sent} acknowledged records to be in the log"
    wait_until(lambda: grown() >= sent, what, DRAIN_TIMEOUT_S)
    if grown() != sent:
        raise FailedError(f"{sent} acknowledged, but the log grew by {grown()}")
    producer.close()
    return figures | {"total_records": sent}


def consume(options: argparse.Namespace) -> dict[str, Any]:
    """Read from the beginning to the end, over and over until the time is over."""
    # By default librdkafka asks for nothing for a second once its queue is full, as it is whenever
    # a broker is faster than its reader: 70 instead of 420 MB/s.
    settings = {
        "bootstrap.servers": options.bootstrap,
        "fetch.queue.backoff.ms": "1",
        "isolation.level": options.isolation,
    }
    consumer = Consumer(options.topic, settings)
    ends = (consumer.end_offset(partition) for partition in range(options.partitions))
    per_pass = options.visible or sum(ends)
    if per_pass == 0:
        raise FailedError(f"{options.topic} is empty: produce something first")
    window = Window(options.warm_up, options.seconds, options.pids, options.beside)
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
        elif time.monotonic() - last_progress > DRAIN_TIMEOUT_S:
            raise FailedError(f"nothing came for {DRAIN_TIMEOUT_S:g} s")
    figures = window.figures(done, options.size)
    consumer.close()
    return figures


# --- the command line ----------------------------------------------------------------------------


LOADS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "produce": produce,
    "consume": consume,
    "latency": latency.end_to_end,
    "lone": latency.lone,
    "transactions": transactional.one_record,
    "stream": transactional.stream,
    "fill": transactional.fill,
    "steady": transactional.steady,
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
    parser.add_argument(
        "--isolation", choices=["read_committed", "read_uncommitted"], default="read_committed"
    )
    parser.add_argument("--visible", type=int, help="records that a reader sees; all, if not told")
    parser.add_argument("--producers", type=int, default=1, help="of transactions, side by side")
    parser.add_argument("--transaction-ms", type=float, default=0.0, help="of stream; 0: none")
    parser.add_argument("--count", type=int, default=100, help="transactions that fill")
    parser.add_argument("--rate", type=float, default=20.0, help="steady transactions a second")
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
