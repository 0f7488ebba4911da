"""Every file operation fails, with every kind of exception, at every point of what a log does (but
see `steps_of`): the operation is undone or the log is fenced, nothing else is, and what was
acknowledged is there when the log is opened anew."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.errors import InvalidRecordError, KafkaStorageError, MinikafkaError
from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from minikafka.model import EpochEntry, TopicPartition
from minikafka.records.header import parse_header, split
from tests.helpers import amounts
from tests.unit.log.helpers import (
    CONFIG,
    TOPIC_ID,
    TP,
    QuickDisk,
    append,
    at_time,
    batch,
    close,
    keyed,
    newest,
    open_store,
)

OTHER = TopicPartition("others", 3)
SMALL = replace(CONFIG, segment_bytes=300, retention_ms=5_000, file_delete_delay_ms=0)
COMPACTED = replace(
    CONFIG,
    cleanup_policy=("compact",),
    segment_bytes=400,
    min_cleanable_dirty_ratio=0.01,
    file_delete_delay_ms=0,
)
OPERATIONS = (
    *("open", "close", "writev", "pread", "fsync", "ftruncate"),
    *("rename", "unlink", "rmdir", "mkdir", "listdir", "stat"),
)
ERRORS: dict[str, Callable[[], Exception]] = {
    "EIO": lambda: OSError(errno.EIO, "Input/output error"),
    "EMFILE": lambda: OSError(errno.EMFILE, "Too many open files"),
    "MemoryError": MemoryError,
    "bug": lambda: OverflowError("too large"),
}
FOR_GOOD = "EIO, from there on for good"
CASES = ("EIO", FOR_GOOD, "EMFILE", "MemoryError", "bug")


class FailingDisk(QuickDisk):
    """Counts what it is asked for; the operation of number `fail_at` raises (and, `for_good`, all
    that come after it). A write that fails has written half of it, a close has closed."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.fail_at: int | None = None
        self.for_good = False
        self.error: Callable[[], Exception] = MemoryError
        self.failed: list[str] = []
        for name in OPERATIONS:
            setattr(self, name, self._failing(name, getattr(self, name)))

    def _failing(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            self.count += 1
            at = self.fail_at
            if at is None or (self.count < at if self.for_good else self.count != at):
                return operation(*arguments)
            self.failed.append(name)
            if name == "close":
                operation(*arguments)
            if name == "writev":
                data = b"".join(arguments[1])
                os.write(arguments[0], data[: len(data) // 2])
            raise self.error()

        return run

    def arm(self, at: int, case: str) -> None:
        self.count, self.fail_at, self.for_good = 0, at, case == FOR_GOOD
        self.error = ERRORS[case.split(",")[0]]

    def heal(self) -> None:
        self.fail_at = None


# --- what is there before ------------------------------------------------------------------------


def fill(store: DiskLogStore, config: Any = SMALL) -> DiskLog:
    """Segments, two epochs, an idempotent producer, some of it flushed and checkpointed."""
    log = store.open(TP, TOPIC_ID, config)
    store.open(OTHER, TOPIC_ID, CONFIG)
    append(store.logs()[OTHER], batch(0))
    for number in range(12):
        offset = log.log_end_offset
        append(
            log,
            keyed(
                offset,
                (b"key%d" % (number % 3), b"%d" % number),
                leader_epoch=number // 6,
                timestamp_ms=1000 + number,
                producer_id=7,
                base_sequence=number,
            ),
        )
        if number == 8:
            log.store_epochs([EpochEntry(0, 0), EpochEntry(1, 6)])
            log.set_high_watermark(9)
            asyncio.run(log.flush())
            asyncio.run(store.checkpoint())
    log.set_high_watermark(log.log_end_offset)
    return log


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory, if there is such a place: these tests make thousands of small files."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that was closed."""
    directory = tmp_path_factory.mktemp("begin") / "data"
    store = open_store(directory, disk=QuickDisk())
    fill(store)
    close(store)
    return directory


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose process was killed."""
    directory = tmp_path_factory.mktemp("killed")
    store = open_store(directory / "data", disk=QuickDisk())
    fill(store)
    shutil.copytree(directory / "data", directory / "copy")
    close(store)
    return directory / "copy"


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("compacted") / "data"
    store = open_store(directory, COMPACTED, disk=QuickDisk())
    log = fill(store, COMPACTED)
    append(log, keyed(log.log_end_offset, (b"last", b"one"), leader_epoch=1))
    asyncio.run(log.flush())
    log.set_high_watermark(log.log_end_offset)
    close(store)
    return directory


def contents(log: DiskLog) -> dict[int, bytes]:
    """The batches by offset."""
    found: dict[int, bytes] = {}
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        data = log.read(offset, 10_000, log.log_end_offset)
        if not data:
            break
        position = 0
        for header in split(data):
            found[header.base_offset] = data[position : position + header.size_bytes]
            position += header.size_bytes
            offset = header.next_offset
    return found


# --- what is done --------------------------------------------------------------------------------


@dataclass
class Told:
    """What a scenario has been told of: batches that must be there, and what may be gone."""

    acknowledged: dict[int, bytes]
    removable_below: int = 0
    removable_from: int = 10**9
    by_key: bool = False


def acknowledge(log: DiskLog, told: Told, *batches: bytes) -> None:
    append(log, *batches)
    for data in batches:
        told.acknowledged[parse_header(data).base_offset] = data


def append_some(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    acknowledge(log, told, batch(12, leader_epoch=1, producer_id=7, producer_epoch=0))
    acknowledge(log, told, batch(13, leader_epoch=1), batch(14, leader_epoch=1))


def append_and_roll(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    for number in range(5):
        data = batch(
            12 + number,
            value=b"x" * 150,
            leader_epoch=1,
            producer_id=9,
            producer_epoch=0,
            base_sequence=number,
        )
        acknowledge(log, told, data)


def huge(base_offset: int, claimed: int = 2**31 - 1) -> bytes:
    """A batch of one record that takes very many offsets."""
    data = bytearray(batch(base_offset, leader_epoch=1))
    struct.pack_into(">i", data, 23, claimed - 1)
    from minikafka.records.header import crc_of

    struct.pack_into(">I", data, 17, crc_of(bytes(data), 0, len(data)))
    return bytes(data)


def append_huge(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    step = 2**31 - 1
    acknowledge(log, told, huge(12), huge(12 + step), huge(12 + 2 * step))
    acknowledge(log, told, batch(12 + 3 * step, leader_epoch=1))


def truncate(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    told.removable_from = 5
    log.truncate_to(5)
    told.removable_from = 10**9
    told.acknowledged = {at: data for at, data in told.acknowledged.items() if at < 5}
    log.store_epochs([EpochEntry(0, 0), EpochEntry(2, 5)])
    acknowledge(log, told, batch(5, leader_epoch=2))


def restart(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    told.acknowledged = {}
    log.restart_at(100)
    log.store_epochs([EpochEntry(2, 100)])
    acknowledge(log, told, batch(100, leader_epoch=2))


def retain(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    told.removable_below = 10
    log.retain(1009 + SMALL.retention_ms)


def advance(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    told.removable_below = 8
    log.advance_log_start(8)


def store_epochs(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    log.store_epochs([EpochEntry(0, 0), EpochEntry(1, 6), EpochEntry(2, 12)])
    acknowledge(log, told, batch(12, leader_epoch=2))


def flush(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    append_some(store, log, told)
    asyncio.run(log.flush())


def checkpoint(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    append_some(store, log, told)
    told.removable_below = 4
    log.advance_log_start(4)
    asyncio.run(store.checkpoint())


def compact(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    told.by_key = True
    asyncio.run(store.compact(10_000_000))


def read(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    assert contents(log) == told.acknowledged
    at_time(log, 1003)
    newest(log)
    log.load_producers()


def shut(store: DiskLogStore, log: DiskLog, told: Told) -> None:
    append_some(store, log, told)
    close(store)


Scenario = Callable[[DiskLogStore, DiskLog, Told], None]
SCENARIOS: tuple[Scenario, ...] = (
    append_some,
    append_and_roll,
    append_huge,
    truncate,
    restart,
    retain,
    advance,
    store_epochs,
    flush,
    checkpoint,
    compact,
    read,
    shut,
)


# --- what has to hold ----------------------------------------------------------------------------


def check_opened_anew(directory: Path, told: Told, config: Any, case: str) -> None:
    store = open_store(directory, config, disk=QuickDisk())
    log = store.open(TP, TOPIC_ID, config)
    found = contents(log)
    if told.by_key:
        check_newest(found, told.acknowledged, case)
    else:
        for offset, data in told.acknowledged.items():
            if told.removable_below <= offset < told.removable_from:
                assert found.get(offset) == data, (case, offset)
    headers = [parse_header(data) for data in found.values()]
    check_epochs(log, headers, case)
    check_producers(log, headers, told, case)
    end = log.log_end_offset
    append(log, batch(end, leader_epoch=9))
    assert end in contents(log), case
    assert contents(store.open(OTHER, TOPIC_ID, CONFIG)), case
    close(store)


def check_newest(found: dict[int, bytes], before: dict[int, bytes], case: str) -> None:
    """Compaction may take what has a newer record of its key: here, all but the last four."""
    kept = sorted(before)[-4:]
    assert [found.get(offset) for offset in kept] == [before[offset] for offset in kept], case


def check_epochs(log: DiskLog, headers: Sequence[Any], case: str) -> None:
    epochs = log.recovered().epochs
    starts = [entry.start_offset for entry in epochs]
    assert starts == sorted(set(starts)), case
    assert all(at <= log.log_end_offset for at in starts), case
    for header in headers:
        known = [entry.leader_epoch for entry in epochs if entry.start_offset <= header.base_offset]
        # The epoch of offsets that nothing was written to yet may be stored already.
        assert header.leader_epoch in known or not known, (case, header, epochs)


def check_producers(log: DiskLog, headers: Sequence[Any], told: Told, case: str) -> None:
    if told.by_key or told.removable_below:
        return  # what is gone is remembered in snapshots
    expected = ProducerStateTable()
    for header in headers:
        expected.update(header)
    assert log.load_producers() == expected, case


def steps_of(total: int, case: str) -> range:
    """Each step fails with EIO, with all that comes after it, and with one of the other errors, in
    turn: all of them at each step take minutes, and are for who has the time."""
    turns = 1 if amounts.IS_LONG or case in ("EIO", FOR_GOOD) else 3
    every = turns * (30 if amounts.IS_QUICK else 1)
    return range(1 + CASES.index(case) % min(every, total), total + 1, every)


def run_once(
    scenario: Scenario, source: Path, target: Path, arm: Callable[[FailingDisk], None]
) -> tuple[FailingDisk, Told, DiskLogStore, DiskLog]:
    config = COMPACTED if scenario is compact else SMALL
    shutil.copytree(source, target)
    disk = FailingDisk()
    store = open_store(target, config, disk=disk)
    log = store.open(TP, TOPIC_ID, config)
    log.set_high_watermark(log.log_end_offset)
    told = Told(contents(log))
    disk.count = 0
    arm(disk)
    try:
        scenario(store, log, told)
    except MinikafkaError:
        assert disk.failed, "nothing failed, and yet it was refused"
    return disk, told, store, log


@pytest.mark.parametrize("error", CASES)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_whatever_fails_the_log_is_fenced_or_as_it_was_and_all_that_was_acknowledged_stays(
    scenario: Scenario,
    error: str,
    begin: Path,
    compacted: Path,
    tmp_path: Path,
) -> None:
    source = compacted if scenario is compact else begin
    config = COMPACTED if scenario is compact else SMALL
    disk, _, store, _ = run_once(scenario, source, tmp_path / "count", lambda disk: None)
    total = disk.count
    close(store)
    assert total > 1
    for step in steps_of(total, error):
        case = f"{scenario.__name__} step {step} of {total}: {error}"
        where = tmp_path / str(step)
        disk, told, store, log = run_once(
            scenario, source, where, lambda disk, at=step: disk.arm(at, error)
        )
        case += f" at {disk.failed[:1]}"
        disk.heal()
        if log.failure is None and not log.closed:
            assert log.log_end_offset >= max(told.acknowledged, default=0), case
            epoch = log.recovered().epochs[-1].leader_epoch if log.recovered().epochs else 0
            acknowledge(log, told, batch(log.log_end_offset, leader_epoch=epoch))
        elif not log.closed:
            with pytest.raises(KafkaStorageError):
                append(log, batch(log.log_end_offset, leader_epoch=5))
        if not log.closed:
            other = store.open(OTHER, TOPIC_ID, CONFIG)
            append(other, batch(other.log_end_offset))  # no other log is fenced
        copy = tmp_path / f"{step}-killed"
        shutil.copytree(where, copy)
        try:
            close(store)
        except KafkaStorageError:
            assert log.failure is not None or scenario is shut, case
        if error == "EIO" or step % 2:
            check_opened_anew(copy, told, config, case + ", then killed")
        if error == "EIO" or not step % 2:
            check_opened_anew(where, told, config, case + ", then closed")
        shutil.rmtree(copy)
        shutil.rmtree(where)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("kind", ["begin", "killed"])
def test_whatever_fails_while_a_directory_is_opened_the_next_start_has_all_of_it(
    kind: str, error: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: Path = request.getfixturevalue(kind)

    def opened(at: int | None) -> FailingDisk:
        directory = tmp_path / str(at)
        shutil.copytree(source, directory)
        disk = FailingDisk()
        if at is not None:
            disk.arm(at, error)
        try:
            store = open_store(directory, SMALL, disk=disk)
        except (KafkaStorageError, MemoryError, RuntimeError, ArithmeticError, struct.error):
            pass  # of the directory itself
        else:
            disk.heal()
            found = {tp for tp in (TP, OTHER) if tp in store.logs()}
            assert found, "one log has kept the others from being opened"
            for tp in {TP, OTHER} - found:
                with pytest.raises(KafkaStorageError, match=r"cannot be opened: .*; stop the"):
                    store.open(tp, TOPIC_ID, SMALL)
            close(store)
        return disk

    disk = opened(None)
    reference = open_store(tmp_path / "None", SMALL, disk=QuickDisk())
    told = Told(contents(reference.logs()[TP]))
    close(reference)
    for step in steps_of(disk.count, error):
        opened(step)
        check_opened_anew(tmp_path / str(step), told, SMALL, f"{kind} step {step}: {error}")
        shutil.rmtree(tmp_path / str(step))


@pytest.mark.parametrize("clean", [False, True])
def test_a_segment_that_an_earlier_version_let_overflow_is_one_offline_log_and_is_not_cut(
    tmp_path: Path, clean: bool
) -> None:
    store = open_store(tmp_path / "data", disk=QuickDisk())
    fill(store)
    path = store.logs()[OTHER].directory / "00000000000000000000.log"
    close(store, clean)
    step = 2**31 - 1
    with path.open("ab") as file:
        file.write(b"".join(huge(1 + number * step) for number in range(4)) + batch(1))
    size_bytes = path.stat().st_size
    for _ in range(2):
        store = open_store(tmp_path / "data", disk=QuickDisk())
        with pytest.raises(KafkaStorageError, match=r"others-3 .* claims offsets up to 6442450941"):
            store.open(OTHER, TOPIC_ID, CONFIG)
        assert len(contents(store.open(TP, TOPIC_ID, SMALL))) == 12
        close(store, clean)
    assert path.stat().st_size == size_bytes
    store = open_store(tmp_path / "data", disk=QuickDisk())
    store.delete(OTHER, TOPIC_ID)
    assert contents(store.open(OTHER, TOPIC_ID, CONFIG)) == {}
    close(store)


def test_batches_that_claim_all_offsets_get_a_segment_each_and_no_offset_is_given_twice(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path / "data", disk=QuickDisk())
    log = store.open(TP, TOPIC_ID, CONFIG)
    step = 2**31 - 1
    append(log, batch(0))
    append(log, *(huge(1 + number * step) for number in range(4)))
    append(log, batch(1 + 4 * step))
    assert sorted(int(path.stem) for path in log.directory.glob("*.log")) == [
        0,
        *(1 + number * step for number in range(1, 4)),
    ]
    before = contents(log)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "data", copy)
    close(store)
    for directory in (copy, tmp_path / "data"):
        store = open_store(directory, disk=QuickDisk())
        assert store.logs()[TP].log_end_offset == 2 + 4 * step
        assert contents(store.logs()[TP]) == before
        close(store)


@pytest.mark.parametrize(
    ("bases", "why"),
    [
        ([2], "where 3 comes next"),
        ([3, 3], "where 4 comes next"),
        ([4, 3], "where 5 comes next"),
        ([3, 2**63 - 1], "the largest offset is"),
        ([2**40], "fits no segment that begins at 3"),
    ],
)
def test_what_cannot_follow_is_refused_before_a_byte_is_written(
    tmp_path: Path, bases: list[int], why: str
) -> None:
    store = open_store(tmp_path / "data", disk=QuickDisk())
    log = store.open(TP, TOPIC_ID, CONFIG)
    append(log, batch(0, 3))
    with pytest.raises(InvalidRecordError, match=why):
        append(log, *map(batch, bases))
    assert (log.directory / "00000000000000000000.log").stat().st_size == log.size_bytes
    append(log, batch(3))
    assert log.log_end_offset == 4
    close(store)


def test_bytes_that_are_not_those_of_the_headers_fence_the_log_and_are_cut_back(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path / "data", disk=QuickDisk())
    log = store.open(TP, TOPIC_ID, CONFIG)
    append(log, batch(0, 3))
    with pytest.raises(KafkaStorageError, match="74 were told"):
        log.append([batch(3) + b"more"], [parse_header(batch(3))])
    assert (log.directory / "00000000000000000000.log").stat().st_size == log.size_bytes
    close(store)
