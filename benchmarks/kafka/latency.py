"""The latency of records that are sent at a fixed rate, whatever the cluster does.

The load is open: each record has a time at which it is due, is handed over then whether or not the
answers to those before have come, and its latency counts from that time. So a stall counts for
every record that it held up (no coordinated omission), and what the client is late by itself counts
too; it is told as well, so that a run in which the client had no processor can be told from one in
which the cluster was slow.

`end_to_end` is until a consumer has the record, in a process of its own; both processes read the
same clock. `lone` is until the acknowledgement, for records that are by themselves.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import struct
import time
from array import array
from collections.abc import Sequence
from typing import Any

from benchmarks.kafka.conditions import Watch
from benchmarks.kafka.payload import payload_pool
from benchmarks.kafka.rdkafka import DRAIN_TIMEOUT_S, FROM_END, Consumer, Message, Producer
from benchmarks.kafka.system import FailedError

_BATCH = 1_000
_STAMP = struct.Struct("<qq")  # when the record was due, in ns, and its number
_TICK_S = 0.001
_LONE_BYTES = 1024
PERCENTILES = (50.0, 99.0, 99.9)


def due_by(passed_s: float, interval_s: float, total: int) -> int:
    """How many records are due when so much time has passed; the first is at once."""
    return min(int(passed_s / interval_s) + 1, total)


def summary_ms(taken_ns: Sequence[int]) -> dict[str, float]:
    ordered = sorted(taken_ns)
    last = len(ordered) - 1
    found = {f"p{p:g}_ms": ordered[round(last * p / 100)] / 1e6 for p in PERCENTILES}
    return found | {"max_ms": ordered[-1] / 1e6}


# --- to a consumer --------------------------------------------------------------------------------


def end_to_end(options: argparse.Namespace) -> dict[str, Any]:
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
    sent: dict[str, Any] = {}
    try:
        if os.read(ready, 1):
            sent = _send_at_rate(options, total, child)
    finally:
        with os.fdopen(outcome) as stream:
            text = stream.read()
        os.waitpid(child, 0)
    received = json.loads(text or '{"error": "the consumer died"}')
    if "error" in received:
        raise FailedError(received["error"])
    return received | sent


def _send_at_rate(options: argparse.Namespace, total: int, consumer_pid: int) -> dict[str, Any]:
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
    beside = [os.getpid(), consumer_pid, *options.beside]
    late_ns = array("q")
    sent = number = 0
    watch = None
    begin = window_begin = time.monotonic()
    while sent < total:
        now = time.monotonic()
        if watch is None and now - begin >= options.warm_up:
            window_begin, watch = now, Watch(options.pids, beside)
        due = min(due_by(now - begin, interval_s, total) - sent, _BATCH)
        if due > 0:
            if watch is not None:
                late_ns.append(int((now - begin - sent * interval_s) * 1e9))
            numbers = range(sent, sent + due)
            messages, _held = stamped(pool, options.size, numbers, begin, interval_s)
            sent += producer.send(messages, number % options.partitions, copy=True)
            number += 1
        producer.poll(0)
        wait_s = begin + sent * interval_s - time.monotonic()
        if wait_s > 0:
            time.sleep(max(wait_s, _TICK_S))
    if watch is None:
        raise FailedError("the load ended before the warm-up was over: make it longer")
    conditions, took_s = watch.end(), time.monotonic() - window_begin
    producer.wait_for(total)
    producer.close()
    gigabytes = took_s * options.rate_mb / 1e3
    return {
        "sent": sent,
        "late_p99_ms": summary_ms(late_ns)["p99_ms"],
        "brokers_cpu_s_per_gb": conditions.brokers_cores * took_s / gigabytes,
        "conditions": conditions.document(),
    }


def stamped(
    pool: ctypes.Array[ctypes.c_char], size: int, numbers: range, begin: float, interval_s: float
) -> tuple[ctypes.Array[Message], bytearray]:
    """Records with these numbers, each with the time at which it is due; and what they refer to by
    address alone, to be held until they are copied."""
    messages = (Message * len(numbers))()
    buffers = bytearray(len(numbers) * size)
    payloads = ctypes.addressof((ctypes.c_char * len(buffers)).from_buffer(buffers))
    for index, number in enumerate(numbers):
        offset = number * 97 % (len(pool) - size)
        at = index * size
        buffers[at : at + size] = pool[offset : offset + size]
        _STAMP.pack_into(buffers, at, int((begin + number * interval_s) * 1e9), number)
        messages[index].payload = payloads + at
        messages[index].size = size
    return messages, buffers


def _receive(options: argparse.Namespace, total: int, skipped: int, ready: int) -> dict[str, Any]:
    settings = {"bootstrap.servers": options.bootstrap, "fetch.wait.max.ms": "100"}
    consumer = Consumer(options.topic, settings)
    consumer.start(options.partitions, FROM_END)
    while consumer.read_one(500, 0) is not None:
        pass
    os.write(ready, b"r")
    taken_ns = array("q")
    deadline = time.monotonic() + options.warm_up + options.seconds + DRAIN_TIMEOUT_S
    count = 0
    while count < total:
        head = consumer.read_one(100, _STAMP.size)
        if head is None:
            if time.monotonic() > deadline:
                raise FailedError(f"{count} of {total} records came back")
            continue
        count += 1
        due_ns, number = _STAMP.unpack(head)
        if number >= skipped:
            taken_ns.append(time.monotonic_ns() - due_ns)
    consumer.close()
    return {"received": count} | summary_ms(taken_ns)


# --- to the acknowledgement -----------------------------------------------------------------------


def lone(options: argparse.Namespace) -> dict[str, Any]:
    """Records of 1 KiB to one partition, `--interval-ms` apart, without lingering: no batch, and on
    an unhurried cluster never two at once. The producer is idempotent, so acknowledgements come in
    the order in which records were sent."""
    producer = Producer(
        options.topic,
        {
            "bootstrap.servers": options.bootstrap,
            "acks": "all",
            "linger.ms": "0",
            "socket.nagle.disable": "true",
            # So that a record that is sent again is acknowledged in its turn.
            "enable.idempotence": "true",
        },
    )
    pool = payload_pool()
    interval_s = options.interval_ms / 1e3
    total = int((options.warm_up + options.seconds) / interval_s)
    skipped = int(options.warm_up / interval_s)
    taken_ns, late_ns = array("q"), array("q")
    watch, sent = None, 0
    begin = time.monotonic()
    deadline = begin + total * interval_s + DRAIN_TIMEOUT_S
    while producer.acknowledged < total:
        now = time.monotonic()
        if watch is None and sent >= skipped:
            watch = Watch(options.pids, [os.getpid(), *options.beside])
        due = due_by(now - begin, interval_s, total)
        if sent < due:
            late_ns.append(int((now - begin - sent * interval_s) * 1e9))
            messages, _held = stamped(pool, _LONE_BYTES, range(sent, due), begin, interval_s)
            sent += producer.send(messages, 0, copy=True)
        next_s = begin + sent * interval_s - time.monotonic() if sent < total else 1.0
        before = producer.acknowledged
        producer.poll(max(int(next_s * 1e3), 0))
        arrived = time.monotonic()
        for number in range(before, producer.acknowledged):
            if number >= skipped:
                taken_ns.append(int((arrived - begin - number * interval_s) * 1e9))
        if arrived > deadline:
            raise FailedError(f"{producer.acknowledged} of {total} records were acknowledged")
    if watch is None:
        raise FailedError("the load ended before the warm-up was over: make it longer")
    conditions = watch.end()
    producer.close()
    late = {"late_p99_ms": summary_ms(late_ns)["p99_ms"], "conditions": conditions.document()}
    return summary_ms(taken_ns) | late
