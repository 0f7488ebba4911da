"""Logs that nobody reads or writes keep no file open and no index in memory, and are as they were
when they are asked for something."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from minikafka.errors import KafkaStorageError, ResourceShortageError
from minikafka.log import segment as segments
from minikafka.log.lending import LentRange
from minikafka.log.open_files import OpenFiles
from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from minikafka.model import TopicPartition
from tests.helpers.amounts import amount
from tests.unit.log.helpers import (
    CONFIG,
    TOPIC_ID,
    append_values,
    batch,
    close,
    crashed_copy,
    newest,
    open_store,
    read_all,
)
from tests.unit.log.test_open_files import CountingDisk, Holder

LOGS = [TopicPartition("idle", number) for number in range(6)]
INDEXED = replace(CONFIG, index_interval_bytes=1)
MANY = 2 * segments._PACKED_ENTRIES  # records, each with an entry: too many to be packed


class BreakingDisk(CountingDisk):
    """Raises `error` at one operation on a path that ends so."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks: tuple[str, str, OSError] | None = None

    def _look(self, operation: str, path: object) -> None:
        if self.breaks is None:
            return
        breaks, suffix, error = self.breaks
        if breaks == operation and str(path).endswith(suffix):
            raise error

    def open(self, *arguments: Any) -> int:  # type: ignore[override]
        self._look("open", arguments[0])
        return super().open(*arguments)

    def unlink(self, *arguments: Any) -> None:  # type: ignore[override]
        self._look("unlink", arguments[0])
        os.unlink(*arguments)


def rest_all(store: DiskLogStore) -> None:
    """As if nobody had used any log for long."""
    for _ in range(2):
        store.open_files.rest_idle(0)


def filled(tmp_path: Path, records: int, disk: CountingDisk) -> tuple[DiskLogStore, DiskLog]:
    store = open_store(tmp_path / "data", INDEXED, disk=disk)
    log = store.open(LOGS[0], TOPIC_ID, INDEXED)
    append_values(log, *(b"%d" % number for number in range(records)))
    return store, log


def index_files(log: DiskLog) -> list[str]:
    return sorted(path.suffix for path in log.directory.glob("*index"))


@pytest.mark.parametrize("records", [0, 1, 10, MANY])
def test_a_log_at_rest_holds_nothing_and_goes_on_as_if_it_had_not_rested(
    tmp_path: Path, records: int
) -> None:
    disk = CountingDisk()
    store, log = filled(tmp_path, records, disk)
    before, newest_before = read_all(log), newest(log)
    rest_all(store)
    active = log._active
    assert (disk.opened, store.open_files.awake, log._hints) == (set(), 0, {})
    assert active._index is segments.NO_ENTRIES
    assert index_files(log) == ([".index", ".timeindex"] if records == MANY else [])
    assert newest(log) == newest_before
    assert read_all(log) == before
    assert index_files(log) == []
    append_values(log, b"more")
    assert len(read_all(log)) == records + 1
    rest_all(store)
    close(store)
    store = open_store(tmp_path / "data", INDEXED)
    assert len(read_all(store.open(LOGS[0], TOPIC_ID, INDEXED))) == records + 1
    close(store)


@pytest.mark.parametrize("records", [10, MANY])
def test_a_process_that_is_killed_while_its_logs_rest_loses_nothing(
    tmp_path: Path, records: int
) -> None:
    store, log = filled(tmp_path, records, CountingDisk())
    rest_all(store)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(copy, INDEXED)
    log = store.open(LOGS[0], TOPIC_ID, INDEXED)
    assert len(read_all(log)) == records
    assert index_files(log) == []
    close(store)


def test_only_who_has_not_been_used_for_that_long_rests() -> None:
    now = 0.0
    open_files = OpenFiles(monotonic=lambda: now)
    used, idle = Holder(), Holder()
    for holder in (used, idle):
        open_files.opened(holder)
    now = 50.0
    used.used = True
    open_files.rest_idle(60.0)
    assert (used.open, idle.open) == (True, True)
    now = 60.0
    open_files.rest_idle(60.0)
    assert (used.open, idle.open, open_files.awake, len(open_files)) == (True, False, 1, 1)
    now = 119.0
    open_files.rest_idle(60.0)
    assert used.open
    now = 120.0
    open_files.rest_idle(60.0)
    assert (used.open, open_files.awake) == (False, 0)


def test_a_log_without_a_file_because_of_others_comes_to_rest_as_well(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data", INDEXED, disk=CountingDisk(), max_open_files=1)
    logs = [store.open(name, TOPIC_ID, INDEXED) for name in LOGS]
    for log in logs:
        append_values(log, b"a", b"b", b"c")
    assert (len(store.open_files), store.open_files.awake) == (1, len(LOGS))
    rest_all(store)
    assert (len(store.open_files), store.open_files.awake) == (0, 0)
    assert all(log._active._index is segments.NO_ENTRIES for log in logs)
    assert all(len(read_all(log)) == 3 for log in logs)
    close(store)


async def test_checkpoints_have_idle_logs_rest(tmp_path: Path) -> None:
    now = 0.0
    disk = CountingDisk()
    store = open_store(tmp_path / "data", INDEXED, disk=disk, monotonic=lambda: now)
    log = store.open(LOGS[0], TOPIC_ID, INDEXED)
    append_values(log, b"a")
    for _ in range(2):
        now += 1_000.0
        await store.checkpoint()
    assert (disk.opened, log.recovery_point) == (set(), 0)
    assert await log.flush() == 1  # what was written before it rested is fsynced still
    await store.close(True)


SHORTAGE = OSError(errno.EMFILE, "Too many open files")
BROKEN = OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("operation", "suffix"),
    [("open", ".log"), ("open", ".index"), ("open", ".timeindex"), ("unlink", ".timeindex")],
)
@pytest.mark.parametrize("act", ["read", "append"])
def test_a_log_that_cannot_wake_for_want_of_files_is_asked_again(
    tmp_path: Path, operation: str, suffix: str, act: str
) -> None:
    disk = BreakingDisk()
    store, log = filled(tmp_path, MANY, disk)
    other = store.open(LOGS[1], TOPIC_ID, INDEXED)
    rest_all(store)
    disk.breaks = (operation, f"idle-0/{0:020d}{suffix}", SHORTAGE)
    with pytest.raises(ResourceShortageError, match="Too many open files"):
        do(log, act)
    assert (log.failure, disk.opened) == (None, set())
    append_values(other, b"is not disturbed")
    disk.breaks = None
    do(log, act)
    assert len(read_all(log)) == log.log_end_offset == MANY + (act == "append")
    close(store)


@pytest.mark.parametrize(("operation", "suffix"), [("open", ".log"), ("open", ".index")])
@pytest.mark.parametrize("act", ["read", "append"])
def test_a_log_whose_disk_fails_when_it_is_to_wake_is_fenced_and_no_other_is(
    tmp_path: Path, operation: str, suffix: str, act: str
) -> None:
    disk = BreakingDisk()
    store, log = filled(tmp_path, MANY, disk)
    other = store.open(LOGS[1], TOPIC_ID, INDEXED)
    rest_all(store)
    disk.breaks = (operation, f"idle-0/{0:020d}{suffix}", BROKEN)
    with pytest.raises(KafkaStorageError, match=f"{act} of idle-0 .*Input/output error"):
        do(log, act)
    assert log.failed
    append_values(other, b"is not disturbed")
    assert len(read_all(other)) == 1
    disk.breaks = None
    close(store)


@pytest.mark.parametrize("act", ["read", "append"])
def test_a_log_whose_file_is_gone_when_it_is_to_wake_is_fenced(tmp_path: Path, act: str) -> None:
    store, log = filled(tmp_path, 3, CountingDisk())
    rest_all(store)
    (log.directory / f"{0:020d}.log").unlink()
    with pytest.raises(KafkaStorageError, match="No such file"):
        do(log, act)
    assert log.failed
    close(store)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("how", [Path.unlink, damage])
@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
def test_indexes_that_were_lost_while_a_log_rested_are_made_anew(
    tmp_path: Path, suffix: str, how: Callable[[Path], None]
) -> None:
    disk = CountingDisk()
    store, log = filled(tmp_path, MANY, disk)
    before = read_all(log)
    rest_all(store)
    how(log.directory / f"{0:020d}{suffix}")
    assert log.read(MANY - 1, 1, MANY) == batch(MANY - 1, value=b"%d" % (MANY - 1))
    assert read_all(log) == before
    assert len(log._active._index) == 1  # at wider intervals
    assert disk.opened == {log._active._fd}
    append_values(log, b"more")
    assert len(read_all(log)) == MANY + 1
    close(store)


def test_a_log_that_cannot_write_its_indexes_stays_awake_and_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = BreakingDisk()
    store, log = filled(tmp_path, MANY, disk)
    disk.breaks = ("open", ".timeindex.tmp", OSError(errno.ENOSPC, "No space left on device"))
    rest_all(store)
    assert "cannot rest: [Errno 28] No space left" in caplog.text
    assert (store.open_files.awake, disk.opened, log.failure) == (1, set(), None)
    append_values(log, b"more")
    assert len(read_all(log)) == MANY + 1
    disk.breaks = None
    rest_all(store)
    assert store.open_files.awake == 0
    assert len(read_all(log)) == MANY + 1
    close(store)


def do(log: DiskLog, act: str) -> None:
    if act == "read":
        log.read(0, 1000, log.log_end_offset)
    else:
        append_values(log, b"x")


def test_old_segments_of_a_log_share_what_stands_for_their_indexes(tmp_path: Path) -> None:
    config = replace(INDEXED, segment_bytes=200)
    disk = CountingDisk()
    store = open_store(tmp_path / "data", config, disk=disk)
    log = store.open(LOGS[0], TOPIC_ID, config)
    append_values(log, *(b"x" * 50 for _ in range(40)))
    read_all(log)
    closed = log._segments[:-1]
    assert len(closed) > 10
    assert {id(each._index) for each in closed} == {id(segments.NO_ENTRIES)}
    assert disk.opened == {log._active._fd}
    close(store)


LIMITED = """
import asyncio, os, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from minikafka.descriptors import descriptor_budget
from tests.unit.log.helpers import *
from tests.unit.log.test_resting import rest_all

def files():
    return len(os.listdir("/proc/self/fd"))

names = [TopicPartition("many", number) for number in range(300)]
budget = descriptor_budget().files
assert budget <= 32, budget
for round in range(2):
    before = files()
    store = open_store(Path(sys.argv[1]), disk=QuickDisk(), max_open_files=budget)
    logs = [store.open(name, TOPIC_ID, CONFIG) for name in names]
    assert files() <= before + 2, files()
    for _ in range(2):
        for log in logs:
            append_values(log, b"x")
            assert len(read_all(log)) == log.log_end_offset
    assert budget <= files() - before <= budget + 2, files()
    asyncio.run(store.checkpoint())
    rest_all(store)
    rest_all(store)
    assert files() <= before + 2, files()
    close(store)
print("done")
"""


def test_many_logs_live_in_a_process_that_may_have_few_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "done\n", done.stderr


class BudgetMachine(RuleBasedStateMachine):
    """Logs that share few files: never more than the budget are open, besides one that a call of a
    log opens for itself; what is lent stays; and what was appended is there."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="minikafka-budget-"))
        self.disk = CountingDisk()
        self.limit = 8
        config = replace(INDEXED, segment_bytes=2_000)
        self.store = open_store(
            self.directory / "data", config, disk=self.disk, max_open_files=self.limit
        )
        self.logs = [
            self.store.open(TopicPartition("t", number), TOPIC_ID, config) for number in range(12)
        ]
        self.kept: list[list[bytes]] = [[] for _ in self.logs]
        self.lent: list[tuple[LentRange, bytes]] = []

    def teardown(self) -> None:
        for each, _ in self.lent:
            each.release()
        asyncio.run(self.store.close(True))
        assert not self.disk.opened
        shutil.rmtree(self.directory)

    @rule(number=st.integers(0, 11), count=st.integers(1, 12), size=st.sampled_from([1, 400]))
    def append(self, number: int, count: int, size: int) -> None:
        log, kept = self.logs[number], self.kept[number]
        for _ in range(count):
            value = b"%d" % log.log_end_offset * size
            append_values(log, value)
            kept.append(batch(len(kept), value=value))

    @rule(number=st.integers(0, 11), share=st.floats(0, 1))
    def read(self, number: int, share: float) -> None:
        log, kept = self.logs[number], self.kept[number]
        offset = int(len(kept) * share)
        assert log.read(offset, 10**9, log.log_end_offset) == b"".join(kept[offset:])

    @rule(number=st.integers(0, 11), back=st.integers(0, 10))
    def truncate(self, number: int, back: int) -> None:
        log, kept = self.logs[number], self.kept[number]
        if not self.lent:
            log.truncate_to(max(0, len(kept) - back))
            del kept[log.log_end_offset :]

    @rule(number=st.integers(0, 11), share=st.floats(0, 1))
    def lend(self, number: int, share: float) -> None:
        log, kept = self.logs[number], self.kept[number]
        offset = int(len(kept) * share)
        pieces = log.pieces(offset, 10**9, log.log_end_offset, 1, lambda error: None)
        for piece in pieces:
            size = len(piece)
            if isinstance(piece, LentRange):
                whole, at = b"".join(kept), len(b"".join(kept[:offset]))
                self.lent.append((piece, whole[at : at + size]))
            while size > 0:
                size -= len(kept[offset])
                offset += 1

    @precondition(lambda self: self.lent)
    @rule()
    def read_what_was_lent(self) -> None:
        piece, content = self.lent.pop()
        try:
            assert piece.read() == content
        finally:
            piece.release()

    @rule()
    def rest(self) -> None:
        rest_all(self.store)
        assert len(self.store.open_files) == 0
        assert len(self.disk.opened) == len(self.lent)

    @rule(most=st.integers(1, 3))
    def rest_some(self, most: int) -> None:
        for log in self.logs[:most]:
            log._active.used = False
        self.store.open_files.rest_idle(0)

    @rule(number=st.integers(0, 11))
    def flush(self, number: int) -> None:
        assert asyncio.run(self.logs[number].flush()) == len(self.kept[number])

    @invariant()
    def no_more_is_open_than_the_budget_allows(self) -> None:
        held = {log._active._fd for log in self.logs} - {-1}
        assert held == self.disk.opened - {piece._fd for piece, _ in self.lent}
        assert len(held) == len(self.store.open_files)
        assert len(held) + 2 * len(self.lent) <= self.limit
        assert self.disk.most <= self.limit + 3  # an index, or a file that is written as a whole


BudgetMachine.TestCase.settings = settings(
    max_examples=amount(15),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestBudget = BudgetMachine.TestCase
