"""flush.messages and flush.ms: what is fsynced without being asked."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minikafka.errors import KafkaStorageError
from minikafka.log.flushing import FlushSchedule
from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from tests.helpers.waiting import until
from tests.unit.log.helpers import CONFIG, TOPIC_ID, TP, FaultyDisk, append_values, open_store


class Ground:
    """One log over a disk that counts and fails; `configure` alters its settings."""

    def __init__(self, path: Path) -> None:
        self.disk = FaultyDisk()
        self.store: DiskLogStore = open_store(path, disk=self.disk)
        self.log: DiskLog = self.store.open(TP, TOPIC_ID, CONFIG)
        self.disk.fsyncs = 0

    def configure(self, **settings: Any) -> None:
        self.log.configure(replace(CONFIG, **settings))

    @property
    def flushes(self) -> FlushSchedule:
        flushes = self.log._flushes
        assert flushes is not None
        return flushes

    async def settle(self) -> None:
        """Let everything run that has begun, fsyncs included."""
        for _ in range(20):
            await asyncio.sleep(0)
        flushes = self.log._flushes
        if flushes is not None and flushes._task is not None:
            await flushes._task


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    ground = Ground(tmp_path)
    yield ground
    with nullcontext() if ground.log.failure is None else pytest.raises(KafkaStorageError):
        await ground.store.close(False)


async def test_without_settings_nothing_is_flushed_unasked(ground: Ground) -> None:
    append_values(ground.log, b"a", b"b", b"c")
    await ground.settle()
    assert (ground.log.recovery_point, ground.disk.fsyncs) == (0, 0)


async def test_so_many_records_are_flushed_together(ground: Ground) -> None:
    ground.configure(flush_messages=3)
    append_values(ground.log, b"a", b"b")
    await ground.settle()
    assert ground.log.recovery_point == 0
    append_values(ground.log, b"c")
    await until(lambda: ground.log.recovery_point == 3)
    append_values(ground.log, b"d", b"e")
    await ground.settle()
    assert ground.log.recovery_point == 3
    append_values(ground.log, b"f", b"g", b"h", b"i")
    await until(lambda: ground.log.recovery_point >= 6)
    await ground.settle()
    assert 6 <= ground.log.recovery_point <= 9


async def test_what_is_appended_during_a_flush_is_counted_for_the_next(ground: Ground) -> None:
    ground.configure(flush_messages=2)
    append_values(ground.log, b"a", b"b")
    await asyncio.sleep(0)  # the flush has taken what it takes
    append_values(ground.log, b"c", b"d", b"e")
    await until(lambda: ground.log.recovery_point == 5)


async def test_what_was_appended_is_flushed_after_a_time(ground: Ground) -> None:
    ground.configure(flush_ms=20)
    append_values(ground.log, b"a", b"b")
    await ground.settle()
    assert ground.log.recovery_point == 0
    await until(lambda: ground.log.recovery_point == 2)
    append_values(ground.log, b"c")
    await until(lambda: ground.log.recovery_point == 3)


async def test_a_time_of_zero_flushes_at_once(ground: Ground) -> None:
    ground.configure(flush_ms=0)
    append_values(ground.log, b"a")
    await until(lambda: ground.log.recovery_point == 1)


@pytest.mark.parametrize("settings", [{"flush_ms": 20}, {"flush_messages": 2}])
async def test_settings_that_change_count_for_what_is_there_already(
    ground: Ground, settings: dict[str, int]
) -> None:
    ground.configure(flush_ms=10**9, flush_messages=10**9)
    append_values(ground.log, b"a", b"b")
    await ground.settle()
    ground.configure(**settings)
    await until(lambda: ground.log.recovery_point == 2)


async def test_a_log_that_is_closed_is_not_flushed_any_more(ground: Ground) -> None:
    ground.configure(flush_ms=20)
    append_values(ground.log, b"a")
    timer = ground.flushes._timer
    assert timer is not None
    ground.store.delete(TP, TOPIC_ID)
    await until(lambda: ground.flushes._timer is None)
    assert (ground.flushes._task, ground.disk.fsyncs) == (None, 0)


async def test_a_flush_that_fails_fences_the_log(ground: Ground) -> None:
    ground.configure(flush_messages=1)
    ground.disk.broken = {"fsync"}
    append_values(ground.log, b"a")
    await until(lambda: ground.log.failure is not None)
    await ground.settle()
    assert ground.flushes._timer is None


async def test_a_flush_that_lacked_a_descriptor_is_tried_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failed = ground.disk.open, []

    def first_without(*arguments: Any, **more: Any) -> int:
        if not failed:
            failed.append(arguments)
            raise OSError(errno.EMFILE, "Too many open files")
        return real(*arguments, **more)

    append_values(ground.log, b"a")  # its file is open now
    monkeypatch.setattr(ground.disk, "open", first_without)
    ground.configure(flush_ms=20)
    append_values(ground.log, b"b")
    await until(lambda: ground.log.recovery_point == 2)
    assert (ground.log.failure, len(failed)) == (None, 1)


def test_without_a_loop_a_log_is_flushed_by_whoever_uses_it(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.configure(flush_messages=1, flush_ms=0)
    append_values(ground.log, b"a")
    assert ground.log.recovery_point == 0
    asyncio.run(ground.store.close(False))
