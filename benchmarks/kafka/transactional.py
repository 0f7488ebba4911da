"""Loads of transactions: librdkafka's, as a program would do them.

Every transaction waits until its records are acknowledged, and commits then. So the commit by
itself can be told from the whole, which has its records and the coordinator's word on their
partitions in it.

`one_record` is a closed load: each producer begins the next transaction when the last is over.
`stream` hands over records as fast as they are taken, in transactions or without any. `fill` makes
what readers are to read. `steady` is open: a transaction has a time at which it is due, and the
whole of it counts from there.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.kafka.conditions import Watch
from benchmarks.kafka.latency import summary_ms
from benchmarks.kafka.payload import payload_pool
from benchmarks.kafka.rdkafka import Producer, TransactionalProducer, batch_of
from benchmarks.kafka.system import FailedError
from benchmarks.kafka.window import Window, own_cpu_s

_STREAM_BATCH = 250
# Of the stream, in the client: at 60 MB/s what is on its way when a transaction ends takes 50 ms.
_STREAM_QUEUE = 3_000
_FILL_BATCH = 300
ABORTED_EVERY = 10
_STEADY_BATCH = 2


def _transactional(options: argparse.Namespace, number: int = 0) -> TransactionalProducer:
    producer = TransactionalProducer(
        options.topic,
        {
            "bootstrap.servers": options.bootstrap,
            "transactional.id": f"{options.topic}-{number}",
            "linger.ms": "0",
            "socket.nagle.disable": "true",
            # The library says whenever it asks again; what does not come to an end is told anyway.
            "log_level": "0",
        },
    )
    producer.init()
    return producer


# --- as many as there can be ----------------------------------------------------------------------


def one_record(options: argparse.Namespace) -> dict[str, Any]:
    """Transactions of one record: `--producers` side by side, each to the partitions in turn."""
    producers = [_transactional(options, number) for number in range(options.producers)]
    stop = threading.Event()
    with ThreadPoolExecutor(options.producers) as threads:
        each = [
            threads.submit(_one_after_another, options, producer, number, stop)
            for number, producer in enumerate(producers)
        ]
        try:
            time.sleep(options.warm_up)
            watch, begin_ns = Watch(options.pids, [os.getpid(), *options.beside]), _now_ns()
            own_before_s = own_cpu_s()
            time.sleep(options.seconds)
            conditions, end_ns = watch.end(), _now_ns()
            own_s = own_cpu_s() - own_before_s
        finally:
            stop.set()
        every = [taken for future in each for taken in future.result()]
    counted = [taken for taken in every if begin_ns <= taken[0] < end_ns]
    if not counted:
        raise FailedError("no transaction was committed in the time that counts")
    return {
        "transactions_per_s": len(counted) * 1e9 / (end_ns - begin_ns),
        "brokers_cpu_ms": conditions.brokers_cores * (end_ns - begin_ns) / 1e6 / len(counted),
        "client_cpu_ms": own_s * 1e3 / len(counted),
        "commit": summary_ms([commit_ns for _, commit_ns, _ in counted]),
        "whole": summary_ms([whole_ns for _, _, whole_ns in counted]),
        "conditions": conditions.document(),
    }


_Taken = tuple[int, int, int]  # when it was over, how long the commit took, and the whole; ns


def _one_after_another(
    options: argparse.Namespace, producer: TransactionalProducer, number: int, stop: threading.Event
) -> list[_Taken]:
    pool = payload_pool()
    record = batch_of(pool, options.size, 1, number)
    taken: list[_Taken] = []
    while not stop.is_set():
        partition = (number + len(taken)) % options.partitions
        begin_ns = _now_ns()
        producer.begin()
        producer.send(record, partition)
        producer.wait_for(len(taken) + 1)
        sent_ns = _now_ns()
        producer.commit()
        end_ns = _now_ns()
        taken.append((end_ns, end_ns - sent_ns, end_ns - begin_ns))
    producer.close()
    return taken


def _now_ns() -> int:
    return time.monotonic_ns()


# --- a stream -------------------------------------------------------------------------------------


def stream(options: argparse.Namespace) -> dict[str, Any]:
    """Records as fast as they are taken: in transactions that end after `--transaction-ms`, or of
    an idempotent producer. What counts is committed, or acknowledged."""
    settings = {
        "bootstrap.servers": options.bootstrap,
        "linger.ms": f"{options.linger_ms:g}",
        "queue.buffering.max.messages": f"{_STREAM_QUEUE}",
        "log_level": "0",
    }
    if options.transaction_ms:
        own = settings | {"transactional.id": options.topic}
        producer = TransactionalProducer(options.topic, own)
        producer.init()
        return _stream_of_transactions(options, producer)
    return _stream_of_records(
        options, Producer(options.topic, settings | {"enable.idempotence": "true"})
    )


def _stream_of_records(options: argparse.Namespace, producer: Producer) -> dict[str, Any]:
    batches = _Batches(options)
    window = Window(options.warm_up, options.seconds, options.pids, options.beside)
    while not window.is_over(producer.acknowledged):
        batches.send_next(producer)
    figures = window.figures(producer.acknowledged, options.size)
    producer.wait_for(batches.sent)
    producer.close()
    return figures


def _stream_of_transactions(
    options: argparse.Namespace, producer: TransactionalProducer
) -> dict[str, Any]:
    batches = _Batches(options)
    window = Window(options.warm_up, options.seconds, options.pids, options.beside)
    taken_ns = array("q")
    while not window.is_over(batches.sent):
        begin_ns = _now_ns()
        producer.begin()
        while _now_ns() - begin_ns < options.transaction_ms * 1e6:
            batches.send_next(producer)
        producer.wait_for(batches.sent)
        producer.commit()
        taken_ns.append(_now_ns() - begin_ns)
    figures = window.figures(batches.sent, options.size)
    producer.close()
    return figures | {"whole": summary_ms(taken_ns)}


class _Batches:
    """Each partition in turn gets a batch, as a sticky partitioner would do it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._pool = payload_pool()
        self._batches = [
            batch_of(self._pool, options.size, _STREAM_BATCH, seed) for seed in range(16)
        ]
        self._partitions = options.partitions
        self._number = self.sent = 0

    def send_next(self, producer: Producer) -> None:
        batch = self._batches[self._number % len(self._batches)]
        taken = producer.send(batch, self._number % self._partitions)
        self.sent += taken
        self._number += 1
        producer.poll(0 if taken == len(batch) else 1)


# --- what is read ---------------------------------------------------------------------------------


def fill(options: argparse.Namespace) -> dict[str, Any]:
    """`--count` transactions with some records in each partition; of every ten one is aborted."""
    producer = _transactional(options)
    pool = payload_pool()
    batch = batch_of(pool, options.size, _FILL_BATCH, 0)
    sent = aborted = 0
    for number in range(options.count):
        producer.begin()
        for partition in range(options.partitions):
            taken = producer.send(batch, partition)
            if taken < len(batch):
                raise FailedError("the client's queue is full")
            sent += taken
        producer.wait_for(sent)
        if number % ABORTED_EVERY:
            producer.commit()
        else:
            producer.abort()
            aborted += options.partitions * len(batch)
    producer.close()
    return {"records": sent, "aborted": aborted}


# --- at a modest rate -----------------------------------------------------------------------------


def steady(options: argparse.Namespace) -> dict[str, Any]:
    """`--rate` transactions a second, each with two records in every partition. How late the client
    is by itself is counted from when it could have begun: a transaction that takes long delays the
    next, and that is the cluster's."""
    producer = _transactional(options)
    pool = payload_pool()
    batch = batch_of(pool, options.size, _STEADY_BATCH, 0)
    interval_s = 1 / options.rate
    skipped = int(options.warm_up * options.rate)
    total = skipped + int(options.seconds * options.rate)
    commit_ns, whole_ns, late_ns = array("q"), array("q"), array("q")
    watch, sent = None, 0
    begin = free = time.monotonic()
    for number in range(total):
        due = begin + number * interval_s
        time.sleep(max(due - time.monotonic(), 0))
        begun = time.monotonic()
        if number == skipped:
            watch = Watch(options.pids, [os.getpid(), *options.beside])
        producer.begin()
        for partition in range(options.partitions):
            sent += producer.send(batch, partition)
        producer.wait_for(sent)
        acknowledged = time.monotonic()
        producer.commit()
        over = time.monotonic()
        if number >= skipped:
            late_ns.append(int((begun - max(due, free)) * 1e9))
            commit_ns.append(int((over - acknowledged) * 1e9))
            whole_ns.append(int((over - due) * 1e9))
        free = over
    if watch is None:
        raise FailedError("the load ended before the warm-up was over: make it longer")
    conditions = watch.end()
    producer.close()
    return {
        "commit": summary_ms(commit_ns),
        "whole": summary_ms(whole_ns),
        "late_p99_ms": summary_ms(late_ns)["p99_ms"],
        "conditions": conditions.document(),
    }
