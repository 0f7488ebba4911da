"""Measures what a log costs that nobody reads or writes: open files and memory.

    python -m benchmarks.idle_logs [--logs 2000,10000] [--records 0,3] [--trace] [--replicas]

For each pair: a store with so many logs in a temporary directory, each with so many records of 1
KiB, reopened by another process of this script. Prints, in that one, the open files, the bytes a
log by /proc/self/smaps_rollup (what the process has to itself), and with --trace those by
tracemalloc and where they come from. --replicas: with a replica (leader of three in sync) on top of
each log. Nothing of it is a matter of time, so the machine need not be at rest.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

from minikafka.broker.counters import BrokerCounters
from minikafka.broker.replication.replica import Replica
from minikafka.config import TopicConfig
from minikafka.log.files import Disk
from minikafka.log.store import DiskLogStore
from minikafka.model import Assignment, IsrProposal, PartitionState, TopicPartition
from minikafka.records.build import BatchBuilder
from minikafka.records.compression import Codec
from minikafka.records.header import STAMP_BYTES, parse_header, stamp

_TOPIC_ID = "idle-topic-id"
_CONFIG = TopicConfig(retention_ms=-1)
_SHOWN = 25


class _QuickDisk(Disk):
    @staticmethod
    def fsync(fd: int) -> None:
        """What is measured is not durable."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="What idle logs cost.")
    parser.add_argument("--logs", default="2000,10000")
    parser.add_argument("--records", default="0,3")
    parser.add_argument("--max-open-files", type=int, default=384)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--replicas", action="store_true")
    parser.add_argument("--look-at", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.look_at is not None:
        asyncio.run(_look(options, Path(options.look_at)))
        return 0
    print("| logs | records | open files | USS a log, bytes | traced a log |")
    print("|---|---|---|---|---|", flush=True)
    for logs in map(int, options.logs.split(",")):
        for records in map(int, options.records.split(",")):
            _measure(arguments, logs, records, options.max_open_files)
    return 0


def _measure(arguments: list[str], logs: int, records: int, max_open_files: int) -> None:
    with tempfile.TemporaryDirectory(prefix="minikafka-idle-") as path:
        asyncio.run(_fill(Path(path), logs, records, max_open_files))
        command = [sys.executable, "-m", "benchmarks.idle_logs", *arguments, "--look-at", path]
        command += ["--logs", str(logs), "--records", str(records)]
        subprocess.run(command, check=True)


def _names(logs: int) -> list[TopicPartition]:
    return [TopicPartition("idle", number) for number in range(logs)]


def _open(path: Path, max_open_files: int) -> DiskLogStore:
    disk = _QuickDisk()
    return DiskLogStore(path, "cluster", 1, _CONFIG, disk=disk, max_open_files=max_open_files)


async def _fill(path: Path, logs: int, records: int, max_open_files: int) -> None:
    store = _open(path, max_open_files)
    for name in _names(logs):
        log = store.open(name, _TOPIC_ID, _CONFIG)
        for offset in range(records):
            builder = BatchBuilder()
            builder.append(b"k", bytes(1024), (), 1000 + offset)
            data = builder.build(Codec.NONE, -1, -1, -1)
            batch = stamp(offset, len(data), 0) + data[STAMP_BYTES:]
            log.append([batch], [parse_header(batch)])
        log.set_high_watermark(records)
    await store.close(True)


def _uss_bytes() -> int:
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    fields = (line.split() for line in lines if line.startswith(("Private_", "Swap:")))
    return sum(int(words[1]) for words in fields) * 1024


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class _Owner:
    def on_role_changed(self, replica: Replica) -> None: ...
    def on_isr_proposal(self, replica: Replica, proposal: IsrProposal) -> None: ...
    def on_storage_failed(self, replica: Replica) -> None: ...
    def on_bug(self, error: Exception) -> None: ...


async def _look(options: argparse.Namespace, path: Path) -> None:
    logs = int(options.logs)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    names = _names(logs)
    files_before, uss_before = _open_files(), _uss_bytes()
    if options.trace:
        tracemalloc.start(1)
    store = _open(path, options.max_open_files)
    logs_there = [store.open(name, _TOPIC_ID, _CONFIG) for name in names]
    if options.replicas:
        replicas = _replicas(logs_there)
        assert len(replicas) == logs
    del logs_there, names
    uss, files = _uss_bytes() - uss_before, _open_files() - files_before
    traced = tracemalloc.get_traced_memory()[0] if options.trace else 0
    print(f"| {logs} | {options.records} | {files} | {uss // logs} | {traced // logs or ''} |")
    if options.trace:
        for each in tracemalloc.take_snapshot().statistics("lineno")[:_SHOWN]:
            frame = each.traceback[0]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            print(f"    {each.size / logs:8.1f} bytes a log in {each.count / logs:5.1f}  {where}")
    await store.close(True)


def _replicas(logs: list) -> list[Replica]:  # type: ignore[type-arg]
    counters, owner = BrokerCounters(), _Owner()
    eligible = {1: 11, 2: 22, 3: 33}
    found = []
    for log in logs:
        replica = Replica(
            log.topic_partition,
            _TOPIC_ID,
            1,
            11,
            log,
            _CONFIG,
            30_000,
            eligible,
            owner,
            lambda: 0,
            counters,
        )
        state = PartitionState(1, 0, (1, 2, 3), 1, 0, {1: "a@11", 2: "b@22", 3: "c@33"})
        replica.adopt(state, Assignment((1, 2, 3)))
        found.append(replica)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
