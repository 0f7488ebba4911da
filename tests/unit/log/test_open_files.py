"""More logs than files may be open."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from minikafka.errors import KafkaStorageError, ResourceShortageError
from minikafka.log import checkpoints
from minikafka.log.files import Disk
from minikafka.log.open_files import OpenFiles
from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from minikafka.model import EpochEntry, TopicPartition
from tests.unit.log.helpers import (
    CONFIG,
    TOPIC_ID,
    QuickDisk,
    append_values,
    close,
    crashed_copy,
    open_store,
    read_all,
)
from tests.unit.log.test_partition_log import SMALL


class Holder:
    def __init__(self) -> None:
        self.used = False
        self.open = True

    def let_go(self) -> None:
        self.open = False

    def rest(self) -> None:
        self.open = False


class CountingDisk(QuickDisk):
    """Refuses more open files than `limit`, as the system does."""

    def __init__(self, limit: int = 10**9) -> None:
        super().__init__()
        self.limit = limit
        self.opened: set[int] = set()
        self.most = 0

    def open(self, *arguments: Any) -> int:  # type: ignore[override]
        if len(self.opened) >= self.limit:
            raise OSError(errno.EMFILE, "Too many open files")
        fd = os.open(*arguments)
        self.opened.add(fd)
        self.most = max(self.most, len(self.opened))
        return fd

    def close(self, fd: int) -> None:  # type: ignore[override]
        os.close(fd)
        self.opened.discard(fd)


def test_the_holder_that_was_opened_first_lets_go_first_unless_it_was_used_since() -> None:
    open_files = OpenFiles(3)
    holders = [Holder() for _ in range(6)]
    for holder in holders[:3]:
        open_files.opened(holder)
    holders[0].used = True
    open_files.opened(holders[3])
    assert [holder.open for holder in holders[:4]] == [True, False, True, True]
    holders[2].used = holders[3].used = True
    open_files.opened(holders[4])  # 0 has had its second chance
    assert [holder.open for holder in holders[:5]] == [False, False, True, True, True]
    open_files.closed(holders[4])
    open_files.opened(holders[5])
    assert len(open_files) == 3
    assert all(holder.open for holder in holders[2:])


LOGS = [TopicPartition("many", number) for number in range(40)]


def open_logs(store: DiskLogStore) -> list[DiskLog]:
    return [store.open(tp, TOPIC_ID, SMALL) for tp in LOGS]


def test_many_logs_live_on_few_open_files(tmp_path: Path) -> None:
    disk = CountingDisk(limit=8)
    store = open_store(tmp_path / "data", disk=disk, max_open_files=4)
    logs = open_logs(store)
    for number in range(12):
        for log in logs:
            append_values(log, b"%d" % number)
    for log in logs:
        log.truncate_to(10)
        log.store_epochs([EpochEntry(0, 0)])
        append_values(log, b"x")
        assert [offset for offset, _ in read_all(log)] == list(range(11))
    logs[0].restart_at(100)
    logs[0].store_epochs([EpochEntry(0, 100)])
    append_values(logs[0], b"y")
    asyncio.run(store.checkpoint())

    async def flush() -> None:
        assert await asyncio.gather(*(log.flush() for log in logs)) == [101] + 39 * [11]

    asyncio.run(flush())
    assert len(store.open_files) <= 4
    assert disk.most <= 8
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    assert not disk.opened
    for directory in (copy, tmp_path / "data"):
        disk = CountingDisk(limit=8)
        store = open_store(directory, SMALL, disk=disk, max_open_files=4)
        for log in open_logs(store)[1:]:
            assert [offset for offset, _ in read_all(log)] == list(range(11))
        close(store)
        assert not disk.opened


def test_a_log_without_a_file_to_be_had_refuses_for_now_and_is_not_fenced(tmp_path: Path) -> None:
    disk = CountingDisk()
    store = open_store(tmp_path / "data", disk=disk, max_open_files=1)
    first, second = open_logs(store)[:2]
    append_values(first, b"a")
    append_values(second, b"b")
    disk.limit = 0
    with pytest.raises(ResourceShortageError, match="Too many open files; nothing was changed"):
        append_values(first, b"c")
    with pytest.raises(ResourceShortageError):
        first.read(0, 100, 1)
    assert first.failure is None
    disk.limit = 10**9
    append_values(first, b"c")
    assert len(read_all(first)) == 2
    close(store)


def test_a_roll_without_a_file_to_be_had_changes_nothing(tmp_path: Path) -> None:
    disk = CountingDisk()
    store = open_store(tmp_path / "data", disk=disk)
    log = store.open(LOGS[0], TOPIC_ID, SMALL)
    append_values(log, b"x" * 200)
    for free in range(2):
        disk.limit = len(disk.opened) + free
        with pytest.raises(ResourceShortageError):
            append_values(log, b"y" * 200)
        assert [path.name for path in log.directory.glob("*.log")] == ["00000000000000000000.log"]
    disk.limit = 10**9
    append_values(log, b"y" * 200)
    assert len(read_all(log)) == 2
    close(store)


async def test_a_flush_without_a_file_to_be_had_can_be_repeated(tmp_path: Path) -> None:
    disk = CountingDisk()
    store = open_store(tmp_path / "data", disk=disk)
    log = store.open(LOGS[0], TOPIC_ID, CONFIG)
    append_values(log, b"a")
    disk.limit = 0
    with pytest.raises(ResourceShortageError):
        await log.flush()
    assert (log.failure, log.recovery_point) == (None, 0)
    disk.limit = 10**9
    before = disk.fsyncs
    assert await log.flush() == 1
    assert disk.fsyncs - before == 3  # the segment, partition.metadata, the folder
    await store.close(True)


def test_a_log_that_cannot_be_created_leaves_nothing_behind(tmp_path: Path) -> None:
    disk = CountingDisk()
    store = open_store(tmp_path / "data", disk=disk)
    disk.limit = 0
    with pytest.raises(KafkaStorageError, match=r"cannot be opened: .*Too many open files"):
        store.open(LOGS[0], TOPIC_ID, CONFIG)
    disk.limit = 10**9
    log = store.open(LOGS[0], TOPIC_ID, CONFIG)
    assert log.read(0, 1, 1) == b""
    append_values(log, b"a")
    close(store)


async def test_as_many_threads_as_are_wanted_work_for_the_logs(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    class Waiting(QuickDisk):
        def fsync(self, fd: int) -> None:  # type: ignore[override]
            if armed:
                together.wait(timeout=10)

    armed = False
    store = open_store(tmp_path / "data", disk=Waiting(), threads=3)
    logs = open_logs(store)[:3]
    for log in logs:
        append_values(log, b"a")
        await log.flush()
        append_values(log, b"b")
    armed = True
    assert await asyncio.gather(*(log.flush() for log in logs)) == [2, 2, 2]
    armed = False
    await store.close(True)


async def test_recovery_points_are_left_as_they_are_unless_they_are_wanted(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data", disk=QuickDisk())
    log = open_logs(store)[0]
    append_values(log, b"a", b"b")
    await log.flush()
    log.set_high_watermark(2)
    await store.checkpoint(recovery_points=False)

    def stored(name: str) -> int | None:
        return checkpoints.read_offsets(Disk(), tmp_path / "data" / name).get(LOGS[0])

    assert (stored(checkpoints.HIGH_WATERMARKS), stored(checkpoints.RECOVERY_POINTS)) == (2, None)
    await store.checkpoint()
    assert stored(checkpoints.RECOVERY_POINTS) == 2
    log.truncate_to(1)  # no file says more than the log holds
    assert (stored(checkpoints.HIGH_WATERMARKS), stored(checkpoints.RECOVERY_POINTS)) == (1, 1)
    await store.close(True)
