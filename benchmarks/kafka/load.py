"""A load generator on librdkafka, for any cluster that speaks Kafka's protocol.

    python -m benchmarks.kafka.load produce BOOTSTRAP TOPIC [--size 1024] [--acks all] [--codec lz4]
    python -m benchmarks.kafka.load consume BOOTSTRAP TOPIC
    python -m benchmarks.kafka.load latency BOOTSTRAP TOPIC --rate-mb 10

The topic is there already, with `--partitions` partitions. A document of figures goes to standard
output. What comes before `--warm-up` seconds have passed does not count. With `--pids` the CPU time
of those processes over the same stretch is told along.

`latency` runs a producer at a fixed rate and, in a process of its own, a consumer: each record
carries the time at which it was due (not at which it was sent, so a stall of the cluster counts for
every record that it held up), and both processes read the same clock.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import resource
import struct
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.kafka import procfs
from benchmarks.kafka.rdkafka import FROM_BEGINNING, FROM_END, Consumer, Message, Producer
from benchmarks.kafka.system import FailedError

_BATCH = 1_000
_POOL_BYTES = 4 * 1024 * 1024
_STAMP = struct.Struct("<q")
_DRAIN_TIMEOUT_S = 60.0
_TICK_S = 0.001
PERCENTILES = (50.0, 99.0, 99.9)


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


def payload_pool() -> ctypes.Array[ctypes.c_char]:
    """Text like that of events in JSON, which lz4 makes about two and a half times smaller."""
    chance = random.Random(1)
    parts: list[bytes] = []
    size = 0
    while size < _POOL_BYTES:
        parts.append(
            b'{"user":%d,"session":"%016x","path":"/item/%d","took_ms":%d,"ok":true}'
            % (
                chance.randrange(10**9),
                chance.getrandbits(64),
                chance.randrange(10**5),
                chance.randrange(900),
            )
        )
        size += len(parts[-1])
    return ctypes.create_string_buffer(b"".join(parts), size)


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


# --- latency -------------------------------------------------------------------------------------


def latency(options: argparse.Namespace) -> dict[str, Any]:
    total = int(options.rate_mb * 1e6 / options.size * (options.warm_up + options.seconds))
    skipped = int(options.rate_mb * 1e6 / options.size * options.warm_up)
    ready, ready_by_child = os.pipe()
    outcome, outcome_by_child = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(ready)
            os.close(outcome)
            figures = _receive(options, total, skipped, ready_by_child)
            os.write(outcome_by_child, json.dumps(figures).encode())
            status = 0
        except FailedError as error:
            os.write(outcome_by_child, json.dumps({"error": str(error)}).encode())
        finally:
            os._exit(status)
    os.close(ready_by_child)
    os.close(outcome_by_child)
    try:
        if os.read(ready, 1):
            sent = _send_at_rate(options, total)
    finally:
        with os.fdopen(outcome) as stream:
            text = stream.read()
        os.waitpid(child, 0)
    received = json.loads(text or '{"error": "the consumer died"}')
    if "error" in received:
        raise FailedError(received["error"])
    return received | sent


def _send_at_rate(options: argparse.Namespace, total: int) -> dict[str, Any]:
    producer = Producer(
        options.topic,
        {
            "bootstrap.servers": options.bootstrap,
            "acks": options.acks,
            "compression.type": options.codec,
            "linger.ms": f"{options.linger_ms:g}",
            "queue.buffering.max.messages": "1000000",
        },
    )
    pool = payload_pool()
    interval_s = options.size / (options.rate_mb * 1e6)
    sent = number = 0
    cpu_before_s, window_begin = 0.0, None
    begin = time.monotonic()
    while sent < total:
        now = time.monotonic()
        if window_begin is None and now - begin >= options.warm_up:
            window_begin, cpu_before_s = now, procfs.cpu_s(options.pids)
        due = min(int((now - begin) / interval_s) + 1, total) - sent
        if due > 0:
            due = min(due, _BATCH)
            messages = (Message * due)()
            buffers = bytearray(due * options.size)
            payloads = (ctypes.c_char * len(buffers)).from_buffer(buffers)
            for index in range(due):
                offset = (sent + index) * 97 % (len(pool) - options.size)
                at = index * options.size
                buffers[at : at + options.size] = pool[offset : offset + options.size]
                stamp = begin + (sent + index) * interval_s
                _STAMP.pack_into(buffers, at, int(stamp * 1e9))
                messages[index].payload = ctypes.addressof(payloads) + at
                messages[index].size = options.size
            taken = producer.send(messages, number % options.partitions, copy=True)
            sent += taken
            number += 1
        producer.poll(0)
        wait_s = begin + sent * interval_s - time.monotonic()
        if wait_s > 0:
            time.sleep(max(wait_s, _TICK_S))
    took_s = time.monotonic() - (window_begin or begin)
    cpu = procfs.cpu_s(options.pids) - cpu_before_s
    _wait(lambda: (producer.poll(20), producer.acknowledged == total)[1], "acknowledgements")
    producer.close()
    gigabytes = took_s * options.rate_mb / 1e3
    return {"sent": sent, "brokers_cpu_s_per_gb": cpu / gigabytes}


def _receive(options: argparse.Namespace, total: int, skipped: int, ready: int) -> dict[str, Any]:
    settings = {"bootstrap.servers": options.bootstrap, "fetch.wait.max.ms": "100"}
    consumer = Consumer(options.topic, settings)
    consumer.start(options.partitions, FROM_END)
    while consumer.read_one(500, 0) is not None:
        pass
    os.write(ready, b"r")
    taken_ns = array("q")
    deadline = time.monotonic() + options.warm_up + options.seconds + _DRAIN_TIMEOUT_S
    count = 0
    while count < total:
        head = consumer.read_one(100, _STAMP.size)
        if head is None:
            if time.monotonic() > deadline:
                raise FailedError(f"{count} of {total} records came back")
            continue
        count += 1
        if count > skipped:
            taken_ns.append(time.monotonic_ns() - _STAMP.unpack(head)[0])
    consumer.close()
    return {"received": count} | summary_ms(taken_ns)


def summary_ms(taken_ns: Sequence[int]) -> dict[str, float]:
    ordered = sorted(taken_ns)
    last = len(ordered) - 1
    found = {f"p{p:g}_ms": ordered[round(last * p / 100)] / 1e6 for p in PERCENTILES}
    return found | {"max_ms": ordered[-1] / 1e6}


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DRAIN_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise FailedError(f"waited {_DRAIN_TIMEOUT_S:g} s for {what}")


# --- the command line ----------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Load a cluster that speaks Kafka's protocol.")
    parser.add_argument("what", choices=["produce", "consume", "latency"])
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
    parser.add_argument("--pids", type=lambda text: [int(p) for p in text.split(",")], default=[])
    options = parser.parse_args(arguments)
    try:
        figures = {"produce": produce, "consume": consume, "latency": latency}[options.what](
            options
        )
    except FailedError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
