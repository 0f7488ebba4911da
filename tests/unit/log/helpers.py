"""Batches, stores and disks for the tests of log/."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from minikafka.config import TopicConfig
from minikafka.log.files import Disk
from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from minikafka.model import BatchHeader, TopicPartition
from minikafka.records.build import BatchBuilder
from minikafka.records.compression import Codec
from minikafka.records.header import STAMP_BYTES, parse_header, split, stamp

TP = TopicPartition("orders", 0)
TOPIC_ID = "topic-id-1"
CLUSTER = "cluster-1"
CONFIG = replace(TopicConfig(), index_interval_bytes=100, retention_ms=-1, segment_ms=10**12)


def batch(
    base_offset: int,
    count: int = 1,
    leader_epoch: int = 0,
    value: bytes = b"value",
    timestamp_ms: int = 1000,
    codec: Codec = Codec.NONE,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
) -> bytes:
    """A batch as it stands in a log; record i has timestamp_ms + i."""
    builder = BatchBuilder()
    for index in range(count):
        builder.append(b"k", value, (), timestamp_ms + index)
    data = builder.build(codec, producer_id, producer_epoch, base_sequence)
    return stamp(base_offset, len(data), leader_epoch) + data[STAMP_BYTES:]


Pair = tuple[bytes | None, bytes | None]


def keyed(
    base_offset: int,
    *pairs: Pair,
    leader_epoch: int = 0,
    timestamp_ms: int = 1000,
    codec: Codec = Codec.NONE,
    producer_id: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
) -> bytes:
    """A batch of these keys and values as it stands in a log; record i has timestamp_ms + i."""
    builder = BatchBuilder()
    for index, (key, value) in enumerate(pairs):
        builder.append(key, value, (), timestamp_ms + index)
    epoch = 0 if producer_id >= 0 else -1
    data = builder.build(codec, producer_id, epoch, base_sequence, transactional)
    return stamp(base_offset, len(data), leader_epoch) + data[STAMP_BYTES:]


def marker(base_offset: int, producer_id: int, commit: bool, timestamp_ms: int = 1000) -> bytes:
    """The control batch that ends a transaction."""
    builder = BatchBuilder()
    builder.append(struct.pack(">hh", 0, int(commit)), struct.pack(">hi", 0, 0), (), timestamp_ms)
    data = builder.build(Codec.NONE, producer_id, 0, -1, transactional=True, control=True)
    return stamp(base_offset, len(data), 0) + data[STAMP_BYTES:]


def append_keyed(log: DiskLog, *pairs: Pair, **options: Any) -> None:
    """One batch of one record per pair, at the log's end."""
    for pair in pairs:
        append(log, keyed(log.log_end_offset, pair, **options))


def append(log: DiskLog, *batches: bytes) -> list[BatchHeader]:
    headers = [parse_header(one) for one in batches]
    log.append(list(batches), headers)
    return headers


def append_values(log: DiskLog, *values: bytes, leader_epoch: int = 0) -> None:
    """One batch of one record per value, at the log's end."""
    for value in values:
        append(log, batch(log.log_end_offset, value=value, leader_epoch=leader_epoch))


def read_all(log: DiskLog) -> list[tuple[int, int]]:
    """(base offset, size) of every batch, through reads from the log's start to its end."""
    offset, found = log.log_start_offset, []
    while offset < log.log_end_offset:
        headers = split(log.read(offset, 1000, log.log_end_offset))
        assert headers, offset
        found += [(header.base_offset, header.size_bytes) for header in headers]
        offset = headers[-1].next_offset
    return found


def open_store(
    directory: Path,
    config: TopicConfig = CONFIG,
    *,
    boot_id: str = "boot-1",
    **options: Any,
) -> DiskLogStore:
    return DiskLogStore(directory, CLUSTER, 1, config, boot_id=boot_id, **options)


def crashed_copy(directory: Path, target: Path) -> Path:
    """What a killed process leaves behind: the files as they are now, nothing written later."""
    shutil.copytree(directory, target)
    return target


def close(store: DiskLogStore, clean: bool = True) -> None:
    asyncio.run(store.close(clean))


class FaultyDisk(Disk):
    """Fails on demand: `full_after` bytes (None: never), or any operation named in `broken`."""

    def __init__(self) -> None:
        self.full_after: int | None = None
        self.broken: set[str] = set()
        self.fsyncs = 0

    def _check(self, operation: str) -> None:
        if operation in self.broken:
            raise OSError(errno.EIO, f"{operation} failed")

    def writev(self, fd: int, buffers: Sequence[Any]) -> int:  # type: ignore[override]
        self._check("writev")
        if self.full_after is None:
            return os.writev(fd, buffers)
        data = b"".join(buffers)[: self.full_after]
        if not data:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.full_after -= len(data)
        return os.write(fd, data)

    def pread(self, fd: int, size: int, position: int) -> bytes:  # type: ignore[override]
        self._check("pread")
        return os.pread(fd, size, position)

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        self._check("fsync")
        self.fsyncs += 1
        os.fsync(fd)

    def ftruncate(self, fd: int, size: int) -> None:  # type: ignore[override]
        self._check("ftruncate")
        os.ftruncate(fd, size)


class QuickDisk(FaultyDisk):
    """Does not wait for the disk: for tests that ask what a killed process leaves behind."""

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        self._check("fsync")
        self.fsyncs += 1


def at_time(log: DiskLog, timestamp_ms: int) -> tuple[int, int] | None:
    """(offset, timestamp) of the first record from this time on."""
    return asyncio.run(log.offset_for_timestamp(timestamp_ms))


def newest(log: DiskLog) -> tuple[int, int] | None:
    return asyncio.run(log.max_timestamp())
