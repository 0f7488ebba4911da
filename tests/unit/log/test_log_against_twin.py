"""The log on disk against a deliberately naive twin: a list of batches in memory.

Hypothesis makes the histories: appends, truncations, restarts of all kinds, retention, flushes,
crashes with and without a torn tail, of a log that is awake or at rest. After each step the log
must hold what the twin holds.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from minikafka.core.replication.epochs import EpochCache
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.log import checkpoints
from minikafka.log.partition_log import DiskLog
from minikafka.model import BatchHeader, EpochEntry
from minikafka.records.header import parse_header, split
from tests.helpers.amounts import amount
from tests.unit.log.helpers import CONFIG, TOPIC_ID, TP, append, at_time, batch, newest, open_store

CONFIG_SMALL = replace(CONFIG, segment_bytes=700, index_interval_bytes=150)
MAX_OFFSET = 200


class Twin:
    """Everything a log should be, without files: batches that were never truncated, oldest first
    (also those that retention has deleted), and four offsets."""

    def __init__(self, start: int = 0) -> None:
        self.batches: list[tuple[BatchHeader, bytes]] = []
        self.log_start_offset = self.log_end_offset = self.high_watermark = start
        self.epochs = EpochCache()

    def append(self, data: bytes) -> None:
        header = parse_header(data)
        self.epochs.assign(header.leader_epoch, header.base_offset)
        self.batches.append((header, data))
        self.log_end_offset = header.next_offset

    def truncate(self, offset: int) -> None:
        cut = [header for header, _ in self.batches if header.next_offset > offset]
        self.batches = [entry for entry in self.batches if entry[0].next_offset <= offset]
        self.log_end_offset = min(offset, self.log_end_offset)
        if cut:
            self.log_end_offset = min(cut[0].base_offset, self.log_end_offset)
        self.epochs.truncate_from_end(self.log_end_offset)
        self.high_watermark = min(self.high_watermark, self.log_end_offset)
        self.log_start_offset = min(self.log_start_offset, self.log_end_offset)

    def read(self, offset: int, max_bytes: int, end_offset: int) -> bytes:
        result = b""
        for header, data in self.batches:
            if header.next_offset > offset:
                if header.next_offset > end_offset or (result and len(result + data) > max_bytes):
                    break
                result += data
        return result

    def producers(self) -> ProducerStateTable:
        table = ProducerStateTable()
        for header, _ in self.batches:
            table.update(header)
        return table

    def offset_for_timestamp(self, timestamp_ms: int) -> tuple[int, int] | None:
        for header, _ in self.batches:
            for delta in range(header.record_count):
                offset = header.base_offset + delta
                found_ms = header.base_timestamp_ms + delta
                if found_ms >= timestamp_ms and offset >= self.log_start_offset:
                    return offset, found_ms
        return None

    def max_timestamp(self) -> tuple[int, int] | None:
        records = [
            (header.base_offset + delta, header.base_timestamp_ms + delta)
            for header, _ in self.batches
            for delta in range(header.record_count)
            if header.base_offset + delta >= self.log_start_offset
        ]
        return max(records, key=lambda record: record[1], default=None)

    def known_epochs(self, entries: list[EpochEntry]) -> list[EpochEntry]:
        """Entries as far as they speak of records that are there."""
        cache = EpochCache(entries)
        cache.truncate_from_start(self.log_start_offset)
        cache.truncate_from_end(self.log_end_offset)
        return cache.entries()


SAID = (checkpoints.HIGH_WATERMARKS, checkpoints.RECOVERY_POINTS, checkpoints.LOG_STARTS)


class LogMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="minikafka-twin-"))
        self.generation = 0
        self.loop = asyncio.new_event_loop()
        self.sequences: dict[int, int] = {}
        self.leader_epoch = 0
        self.packed_entries: int | None = None  # up to so many stay in memory; None: it is awake

    @property
    def directory(self) -> Path:
        return self.root / str(self.generation)

    @property
    def log(self) -> DiskLog:
        return self.store.logs()[TP]  # type: ignore[return-value]

    @initialize()
    def begin(self) -> None:
        self.store = open_store(self.directory, CONFIG_SMALL)
        self.store.open(TP, TOPIC_ID, CONFIG_SMALL)
        self.twin = Twin()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.loop.run_until_complete(self.store.close(False))
        self.loop.close()
        shutil.rmtree(self.root)

    # --- rules -----------------------------------------------------------------------------------

    @rule(packed_entries=st.sampled_from([None, -1, 32]))
    def rest_before_what_comes(self, packed_entries: int | None) -> None:
        """From now on, before each step (what must hold wakes it)."""
        self.packed_entries = packed_entries

    def rest(self) -> None:
        if self.packed_entries is None:
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("minikafka.log.segment._PACKED_ENTRIES", self.packed_entries)
            for _ in range(2):
                self.store.open_files.rest_idle(0)
        assert self.log._active._fd == -1

    @rule(
        counts=st.lists(st.integers(1, 4), min_size=1, max_size=3),
        size=st.sampled_from([0, 10, 100, 900]),
        timestamp_ms=st.integers(0, 100),
        producer_id=st.integers(-1, 2),
        bump=st.booleans(),
    )
    def append(
        self, counts: list[int], size: int, timestamp_ms: int, producer_id: int, bump: bool
    ) -> None:
        if self.twin.log_end_offset > MAX_OFFSET:
            return
        self.leader_epoch += bump
        self.rest()
        epochs_before = self.twin.epochs.entries()
        batches, offset = [], self.twin.log_end_offset
        for count in counts:
            sequence = self.sequences.get(producer_id, 0)
            self.sequences[producer_id] = sequence + count
            data = batch(
                offset,
                count,
                self.leader_epoch,
                b"x" * size,
                timestamp_ms,
                producer_id=producer_id,
                producer_epoch=0,
                base_sequence=sequence,
            )
            batches.append(data)
            self.twin.append(data)
            offset += count
        if self.twin.epochs.entries() != epochs_before:
            self.log.store_epochs(self.twin.epochs.entries())
        append(self.log, *batches)

    @rule(back=st.integers(0, 40))
    def truncate(self, back: int) -> None:
        offset = max(self.twin.log_end_offset - back, 0)
        self.rest()
        first_base = self.log._segments[0].base_offset
        self.log.truncate_to(offset)
        if offset < first_base:
            self.twin = Twin(offset)
        else:
            self.twin.truncate(offset)

    @rule(offset=st.integers(0, 50))
    def restart_at(self, offset: int) -> None:
        self.rest()
        self.log.restart_at(offset)
        self.twin = Twin(offset)

    @rule(share=st.floats(0, 1))
    def raise_high_watermark(self, share: float) -> None:
        span = self.twin.log_end_offset - self.twin.high_watermark
        self.twin.high_watermark += int(span * share)
        self.log.set_high_watermark(self.twin.high_watermark)

    @rule(share=st.floats(0, 1))
    def advance_log_start(self, share: float) -> None:
        span = self.twin.high_watermark - self.twin.log_start_offset
        self.twin.log_start_offset += int(span * share)
        self.log.advance_log_start(self.twin.log_start_offset)

    @rule(retention_bytes=st.sampled_from([-1, 0, 1000, 3000]), now_ms=st.integers(0, 300))
    def retain(self, retention_bytes: int, now_ms: int) -> None:
        config = replace(CONFIG_SMALL, retention_bytes=retention_bytes, retention_ms=150)
        self.log.configure(config)
        self.rest()
        start = self.log.retain(now_ms)
        self.log.configure(CONFIG_SMALL)
        assert self.twin.log_start_offset <= start
        assert start <= max(self.twin.high_watermark, self.twin.log_start_offset)
        self.twin.log_start_offset = start

    @rule()
    def flush(self) -> None:
        assert self.loop.run_until_complete(self.log.flush()) == self.twin.log_end_offset

    @rule()
    def checkpoint(self) -> None:
        self.loop.run_until_complete(self.store.checkpoint())
        log = self.log
        assert {name: self.said(name) for name in SAID} == {
            checkpoints.HIGH_WATERMARKS: log.high_watermark,
            checkpoints.RECOVERY_POINTS: log.recovery_point,
            checkpoints.LOG_STARTS: log.log_start_offset,
        }
        assert not log.owes_epochs

    def said(self, name: str) -> int:
        return checkpoints.read_offsets(self.store.disk, self.directory / name).get(TP, 0)

    @rule()
    def restart_cleanly(self) -> None:
        self.rest()
        self.loop.run_until_complete(self.store.close(True))
        self.store = open_store(self.directory, CONFIG_SMALL)
        self.after_restart()
        assert self.log.high_watermark == self.twin.high_watermark
        assert self.log.log_start_offset == self.twin.log_start_offset
        assert self.log.recovery_point == self.twin.log_end_offset

    @rule(boot=st.sampled_from(["boot-1", "boot-2"]))
    def crash(self, boot: str) -> None:
        self.crash_and_reopen(0, boot)
        assert self.log.log_end_offset == self.twin.log_end_offset
        self.after_crash()

    @precondition(lambda self: self.twin.batches)
    @rule(missing=st.integers(1, 1500))
    def crash_of_the_host(self, missing: int) -> None:
        """The tail above the recovery point is gone, wherever the page cache had got to."""
        recovery_point = self.log.recovery_point
        start = self.twin.log_start_offset
        self.crash_and_reopen(missing, "boot-2")
        end = self.log.log_end_offset
        assert recovery_point <= end <= self.twin.log_end_offset
        if end < start:
            self.twin.log_start_offset = end
        self.twin.truncate(end)
        assert self.twin.log_end_offset == end
        self.after_crash()

    def crash_and_reopen(self, missing: int, boot: str) -> None:
        active = self.log._active
        active.acquire()
        keep = active.position_of(max(self.log.recovery_point, active.base_offset))
        name = active.path.name
        self.rest()
        old = self.directory
        self.generation += 1
        shutil.copytree(old, self.directory)
        self.loop.run_until_complete(self.store.close(False))
        shutil.rmtree(old)
        path = self.directory / str(TP) / name
        if missing:
            os.truncate(path, max(path.stat().st_size - missing, keep))
        self.store = open_store(self.directory, CONFIG_SMALL, boot_id=boot)

    def after_crash(self) -> None:
        assert self.log.log_start_offset <= self.twin.log_start_offset
        self.twin.log_start_offset = self.log.log_start_offset
        assert self.log.high_watermark <= self.twin.high_watermark, "never ahead of the truth"
        self.twin.high_watermark = self.log.high_watermark
        self.after_restart()

    def after_restart(self) -> None:
        self.store.open(TP, TOPIC_ID, CONFIG_SMALL)
        self.twin.epochs.truncate_from_end(self.twin.log_end_offset)

    # --- what must hold --------------------------------------------------------------------------

    @invariant()
    def offsets_agree(self) -> None:
        log, twin = self.log, self.twin
        assert log.log_end_offset == twin.log_end_offset
        assert log.log_start_offset == twin.log_start_offset
        assert log.high_watermark == twin.high_watermark
        assert log.recovery_point <= log.log_end_offset

    @invariant()
    def everything_can_be_read(self) -> None:
        log, twin = self.log, self.twin
        start, end = log.log_start_offset, log.log_end_offset
        assert log.read(start, 10**9, end) == twin.read(start, 10**9, end)
        for offset in range(start, end, 7):
            for max_bytes in (0, 400):
                for end_offset in (end, (offset + end) // 2 + 1):
                    size_bytes = log.size_of(offset, max_bytes, end_offset)
                    found = log.read(offset, max_bytes, end_offset)
                    assert len(found) == size_bytes, (offset, max_bytes, end_offset)
                    assert found == twin.read(offset, max_bytes, end_offset), (offset, end_offset)

    @invariant()
    def timestamps_agree(self) -> None:
        assert newest(self.log) == self.twin.max_timestamp()
        for timestamp_ms in (0, 30, 60, 99):
            found = at_time(self.log, timestamp_ms)
            assert found == self.twin.offset_for_timestamp(timestamp_ms)

    @invariant()
    def producers_agree(self) -> None:
        assert self.log.load_producers() == self.twin.producers()

    @invariant()
    def epochs_agree(self) -> None:
        found = self.twin.known_epochs(list(self.log.recovered().epochs))
        assert found == self.twin.known_epochs(self.twin.epochs.entries())

    @invariant()
    def the_size_is_that_of_the_files(self) -> None:
        files = list((self.directory / str(TP)).glob("*.log"))
        assert self.log.size_bytes == sum(path.stat().st_size for path in files)
        assert len(split(b"".join(path.read_bytes() for path in sorted(files)))) >= 0


LogMachine.TestCase.settings = settings(
    max_examples=amount(25),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLogAgainstTwin = LogMachine.TestCase
