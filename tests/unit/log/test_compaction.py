"""Compaction: the newest value of each key stays, where it was; the rest goes in its time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minikafka.config import TopicConfig
from minikafka.log import checkpoints
from minikafka.log.cleaner import cleanable
from minikafka.log.files import Disk
from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from minikafka.model import EpochEntry
from minikafka.records.compression import Codec
from minikafka.records.header import delete_horizon_ms, is_control, split, verify_crc
from minikafka.records.read import Record, iter_records
from tests.helpers.waiting import until
from tests.unit.log.helpers import (
    CONFIG,
    TOPIC_ID,
    TP,
    QuickDisk,
    append,
    append_keyed,
    at_time,
    close,
    crashed_copy,
    keyed,
    marker,
    newest,
)
from tests.unit.log.helpers import open_store as open_any_store

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
COMPACTED = replace(
    CONFIG, cleanup_policy="compact", segment_bytes=400, min_cleanable_dirty_ratio=0.0
)
BIG = replace(COMPACTED, segment_bytes=100_000)


def open_store(
    directory: Path, config: TopicConfig = CONFIG, *, disk: QuickDisk | None = None, **options: Any
) -> DiskLogStore:
    return open_any_store(directory, config, disk=disk or QuickDisk(), **options)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskLogStore]:
    store = open_store(tmp_path / "data")
    yield store
    close(store)


@pytest.fixture
def log(store: DiskLogStore) -> DiskLog:
    return store.open(TP, TOPIC_ID, COMPACTED)


def roll(log: DiskLog) -> None:
    """Close the active segment, and commit and flush all."""
    log._roll()
    commit(log)


def commit(log: DiskLog) -> None:
    """Commit all, and flush it, unless a loop runs that does so in the background."""
    log.set_high_watermark(log.log_end_offset)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(log.flush())


def compact(store: DiskLogStore, now_ms: int = NOW_MS) -> int:
    """Rounds until nothing is left to do; returns how many."""
    count = 0
    while asyncio.run(store.compact(now_ms)):
        count += 1
    return count


def records_of(log: DiskLog, offset: int | None = None) -> list[Record]:
    """What a consumer sees from `offset` on, in reads of every size."""
    at = log.log_start_offset if offset is None else offset
    start, found = at, []
    while at < log.log_end_offset:
        data = log.read(at, 150, log.log_end_offset)
        if not data:
            break
        position = 0
        for header in split(data):
            verify_crc(data, position, header)
            found += iter_records(data[position : position + header.size_bytes], header)
            position += header.size_bytes
            at = header.next_offset
    return [record for record in found if record.offset >= start]


def contents(log: DiskLog) -> list[tuple[int, bytes | None, bytes | None]]:
    return [(record.offset, record.key, record.value) for record in records_of(log)]


def bases(log: DiskLog) -> list[int]:
    return sorted(int(path.stem) for path in log.directory.glob("*.log"))


def headers(log: DiskLog) -> list:  # type: ignore[type-arg]
    return split(log.read(log.log_start_offset, 10**9, log.log_end_offset))


# --- what stays ----------------------------------------------------------------------------------


def test_the_newest_value_of_each_key_stays_at_its_offset(
    store: DiskLogStore, log: DiskLog
) -> None:
    for number in range(30):
        append_keyed(log, (b"key%d" % (number % 3), b"%d" % number))
    commit(log)
    first_active = bases(log)[-1]
    assert compact(store) == 1
    closed = [entry for entry in contents(log) if entry[0] < first_active]
    assert closed == [
        (offset, b"key%d" % (offset % 3), b"%d" % offset)
        for offset in range(first_active - 3, first_active)
    ]
    active = [entry for entry in contents(log) if entry[0] >= first_active]
    assert len(active) == 30 - first_active, "what is not closed is not touched"
    assert log.clean_offset == first_active
    assert log.log_end_offset == 30


def test_offsets_in_a_hole_read_what_comes_next(store: DiskLogStore, log: DiskLog) -> None:
    for number in range(40):
        append_keyed(log, (b"key%d" % (number % 4), b"%d" % number))
    roll(log)
    compact(store)
    everything = records_of(log)
    for offset in range(41):
        expected = [record for record in everything if record.offset >= offset]
        assert records_of(log, offset) == expected
        for end_offset in range(offset, 41):
            found = split(log.read(offset, 10**9, end_offset))
            assert all(header.next_offset <= end_offset for header in found)


def test_records_without_a_key_go(store: DiskLogStore, log: DiskLog) -> None:
    append_keyed(log, (None, b"a"), (b"k", b"b"), (None, b"c"), (b"l", b"d"))
    roll(log)
    compact(store)
    assert contents(log) == [(1, b"k", b"b"), (3, b"l", b"d")]


@pytest.mark.parametrize("codec", list(Codec))
def test_compressed_batches_lose_records_and_stay_compressed(
    store: DiskLogStore, log: DiskLog, codec: Codec
) -> None:
    append(log, keyed(0, (b"a", b"1"), (b"b", b"1"), (b"c", b"1"), codec=codec))
    append(log, keyed(3, (b"b", b"2"), (b"a", b"2"), (b"a", b"3"), codec=codec))
    roll(log)
    compact(store)
    assert contents(log) == [(2, b"c", b"1"), (3, b"b", b"2"), (5, b"a", b"3")]
    assert [header.attributes & 7 for header in headers(log)] == [codec, codec]


def test_what_is_not_committed_or_not_flushed_is_not_touched(
    store: DiskLogStore, log: DiskLog
) -> None:
    for number in range(20):
        append_keyed(log, (b"k", b"%d" % number))
    asyncio.run(log.flush())
    assert compact(store) == 0
    limit = bases(log)[2]
    log.set_high_watermark(limit)
    assert compact(store) == 1
    assert [offset for offset, _, _ in contents(log)] == list(range(limit - 1, 20))


def test_a_segment_that_was_flushed_before_it_was_closed_is_not_waited_for(
    store: DiskLogStore, log: DiskLog
) -> None:
    append_keyed(log, (b"a", b"1"))
    roll(log)
    append_keyed(log, (b"a", b"2"))
    commit(log)
    log._roll()
    assert compact(store) == 1
    assert bases(log) == [0, 2]
    append_keyed(log, (b"c", b"1"))
    assert asyncio.run(log.flush()) == 3


def test_a_second_round_takes_what_the_first_one_left(store: DiskLogStore, log: DiskLog) -> None:
    append_keyed(log, (b"a", b"1"), (b"b", b"1"))
    roll(log)
    append_keyed(log, (b"a", b"2"))
    roll(log)
    compact(store)
    append_keyed(log, (b"b", b"2"), (b"c", b"1"))
    roll(log)
    compact(store)
    assert contents(log) == [(2, b"a", b"2"), (3, b"b", b"2"), (4, b"c", b"1")]


def test_a_log_with_nothing_to_take_out_is_left_as_it_is(store: DiskLogStore, log: DiskLog) -> None:
    append_keyed(log, (b"a", b"1"), (b"b", b"1"))
    roll(log)
    path = log.directory / "00000000000000000000.log"
    before = path.stat().st_ino
    assert compact(store) == 1
    assert path.stat().st_ino == before
    assert not list(log.directory.glob("*.cleaned"))


# --- tombstones ----------------------------------------------------------------------------------


def test_a_tombstone_stays_for_its_time_across_restarts_and_then_goes(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, BIG)
    append_keyed(log, (b"gone", b"1"), (b"kept", b"1"), (b"gone", None))
    roll(log)
    compact(store)
    assert contents(log) == [(1, b"kept", b"1"), (2, b"gone", None)]
    assert [delete_horizon_ms(header) for header in headers(log)][-1] == NOW_MS + DAY_MS
    close(store)
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, BIG)
    append_keyed(log, *[(b"more", b"%d" % number) for number in range(9)])
    roll(log)
    compact(store, NOW_MS + DAY_MS - 1)
    assert (2, b"gone", None) in contents(log)
    append_keyed(log, *[(b"more", b"%d" % number) for number in range(9)])
    roll(log)
    compact(store, NOW_MS + DAY_MS)
    assert contents(log) == [(1, b"kept", b"1"), (20, b"more", b"8")]
    close(store)


def test_timestamps_are_found_in_batches_with_a_delete_horizon(
    store: DiskLogStore, log: DiskLog
) -> None:
    append(log, keyed(0, (b"a", b"1"), (b"b", None), codec=Codec.GZIP, timestamp_ms=5000))
    append(log, keyed(2, (b"c", b"1"), (b"d", None), timestamp_ms=6000))
    roll(log)
    compact(store)
    assert [delete_horizon_ms(header) for header in headers(log)] == [NOW_MS + DAY_MS] * 2
    assert at_time(log, 5500) == (2, 6000)
    assert at_time(log, 5001) == (1, 5001)
    assert newest(log) == (3, 6001)


# --- what stays besides --------------------------------------------------------------------------


def test_the_last_batch_of_a_producer_stays_emptied(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, BIG)
    for sequence in range(3):
        append(log, keyed(sequence, (b"k", b"1"), producer_id=7, base_sequence=sequence))
    append_keyed(log, (b"k", b"newest"))
    roll(log)
    compact(store)
    assert contents(log) == [(3, b"k", b"newest")]
    found = [
        (header.last_offset, header.base_sequence, header.record_count) for header in headers(log)
    ]
    assert found == [(0, 0, 0), (2, 2, 0), (3, -1, 1)], "the first of the epoch stays as well"
    for path in log.directory.glob("*.snapshot"):
        path.unlink()
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(copy)
    [(producer_id, state)] = store.logs()[TP].load_producers().items()
    assert (producer_id, state.batches[-1].last_sequence) == (7, 2)
    close(store)


def test_epochs_can_still_be_told_from_the_batches(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, COMPACTED)
    epochs = (EpochEntry(0, 0), EpochEntry(2, 5), EpochEntry(3, 9))
    log.store_epochs(epochs)
    for offset in range(14):
        leader_epoch = 0 if offset < 5 else 2 if offset < 9 else 3
        append_keyed(log, (b"k", b"%d" % offset), leader_epoch=leader_epoch)
    roll(log)
    compact(store)
    assert contents(log) == [(13, b"k", b"13")]
    (log.directory / checkpoints.LEADER_EPOCHS).unlink()
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(copy)
    assert store.logs()[TP].recovered().epochs == epochs
    close(store)


def test_every_segment_still_ends_where_the_next_begins(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, COMPACTED)
    for number in range(200):
        append_keyed(log, (b"key%d" % number, b"x" * 20))
    append_keyed(log, *[(b"key%d" % number, None) for number in range(200)])
    roll(log)
    compact(store)
    append_keyed(log, *[(b"again%d" % number, b"x") for number in range(400)])
    roll(log)
    compact(store, NOW_MS + DAY_MS)
    assert [key for _, key, _ in contents(log)] == [b"again%d" % number for number in range(400)]
    ends = [segment.next_offset for segment in log.closed_segments()]
    assert ends == bases(log)[1:]
    for segment in log.closed_segments():
        assert [header for _, header in segment.headers(0)][-1].next_offset == segment.next_offset
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    (copy / checkpoints.RECOVERY_POINTS).unlink()
    expected = contents(log)
    close(store)
    store = open_store(copy)
    assert contents(store.logs()[TP]) == expected, "a recovery that looks at all cuts nothing"
    close(store)


def test_small_segments_become_one_and_large_ones_do_not(store: DiskLogStore, log: DiskLog) -> None:
    for number in range(60):
        append_keyed(log, (b"key%d" % (number % 2), b"%03d" % number))
    commit(log)
    count = len(bases(log))
    size = log.size_bytes
    compact(store)
    append_keyed(log, *[(b"other%d" % number, b"x") for number in range(60)])
    roll(log)
    compact(store)
    assert bases(log)[0] == 0
    assert len(bases(log)) < 1.5 * count
    assert all(path.stat().st_size <= 400 for path in log.directory.glob("*.log"))
    assert log.size_bytes == sum(path.stat().st_size for path in log.directory.glob("*.log"))
    assert log.size_bytes < size + 60 * 80


# --- transactions --------------------------------------------------------------------------------


def test_records_of_aborted_transactions_go_and_hide_nothing(
    store: DiskLogStore, log: DiskLog
) -> None:
    append_keyed(log, (b"k", b"committed"))
    append(log, keyed(1, (b"k", b"aborted"), producer_id=1, base_sequence=0, transactional=True))
    append(log, keyed(2, (b"l", b"good"), producer_id=2, base_sequence=0, transactional=True))
    append(log, marker(3, 1, commit=False), marker(4, 2, commit=True))
    append(log, keyed(5, (b"m", b"again"), producer_id=1, base_sequence=1, transactional=True))
    append(log, marker(6, 1, commit=True))
    roll(log)
    compact(store)
    visible = [entry for entry in contents(log) if entry[2] in (b"committed", b"good", b"again")]
    assert visible == [(0, b"k", b"committed"), (2, b"l", b"good"), (5, b"m", b"again")]
    markers = [header.base_offset for header in headers(log) if is_control(header)]
    assert markers == [3, 4, 6], "the marker of a transaction without records stays for a while"
    append_keyed(log, *[(b"x%d" % number, b"x") for number in range(20)])
    roll(log)
    compact(store, NOW_MS + DAY_MS)
    full = [
        header.base_offset for header in headers(log) if is_control(header) and header.record_count
    ]
    assert full == [4, 6]


def test_nothing_at_or_above_an_open_transaction_is_judged(
    store: DiskLogStore, log: DiskLog
) -> None:
    append_keyed(log, (b"k", b"1"), (b"k", b"2"))
    append(log, keyed(2, (b"k", b"open"), producer_id=1, base_sequence=0, transactional=True))
    append_keyed(log, (b"k", b"3"))
    roll(log)
    assert compact(store) == 1
    assert contents(log) == [(1, b"k", b"2"), (2, b"k", b"open"), (3, b"k", b"3")]
    assert log.clean_offset == 2
    append(log, marker(4, 1, commit=False))
    roll(log)
    assert compact(store) == 1
    assert [entry for entry in contents(log) if entry[1] == b"k"] == [(3, b"k", b"3")]


# --- when ----------------------------------------------------------------------------------------


def fill(log: DiskLog, count: int = 20) -> None:
    for number in range(count):
        append_keyed(log, (b"k%d" % (number % 4), b"%d" % number))
    roll(log)


@pytest.mark.parametrize("policy", ["delete", "compact", "compact,delete"])
def test_only_topics_that_ask_for_it_are_compacted(store: DiskLogStore, policy: str) -> None:
    log = store.open(TP, TOPIC_ID, replace(COMPACTED, cleanup_policy=policy))
    fill(log)
    assert compact(store) == (0 if policy == "delete" else 1)


def test_a_log_whose_topic_is_not_known_yet_is_left_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data", COMPACTED)
    fill(store.open(TP, TOPIC_ID, replace(COMPACTED, cleanup_policy="delete")))
    close(store)
    store = open_store(tmp_path / "data", COMPACTED)
    assert compact(store) == 0, "the defaults say compact; its topic may say otherwise"
    store.open(TP, TOPIC_ID, COMPACTED)
    assert compact(store) == 1
    close(store)


def test_a_log_is_compacted_once_enough_of_it_is_new(store: DiskLogStore) -> None:
    config = replace(BIG, min_cleanable_dirty_ratio=0.5)
    log = store.open(TP, TOPIC_ID, config)
    append_keyed(log, *[(b"key%d" % number, b"x") for number in range(20)])
    roll(log)
    assert compact(store) == 1
    append_keyed(log, *[(b"new%d" % number, b"x") for number in range(10)])
    roll(log)
    found = cleanable(log, NOW_MS)
    assert 0.3 < found.dirty_ratio < 0.4
    assert (found.due, compact(store)) == (False, 0)
    log.configure(replace(config, min_cleanable_dirty_ratio=0.3))
    assert compact(store) == 1


def test_a_record_that_waited_long_enough_is_compacted_whatever_the_ratio(
    store: DiskLogStore,
) -> None:
    config = replace(BIG, min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=1000)
    log = store.open(TP, TOPIC_ID, config)
    append_keyed(log, (b"a", b"1"), timestamp_ms=NOW_MS)
    roll(log)
    log.clean_offset = 1
    append_keyed(log, (b"a", b"2"), timestamp_ms=NOW_MS)
    roll(log)
    assert compact(store, NOW_MS + 1000) == 0
    assert compact(store, NOW_MS + 1001) == 1


def test_an_active_segment_is_closed_in_time_to_be_compacted(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, replace(BIG, max_compaction_lag_ms=1000))
    append_keyed(log, (b"a", b"1"), timestamp_ms=NOW_MS)
    log.retain(NOW_MS + 1000)
    assert bases(log) == [0]
    log.retain(NOW_MS + 1001)
    assert bases(log) == [0, 1]


def test_young_records_are_not_compacted(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, replace(BIG, min_compaction_lag_ms=1000))
    append_keyed(log, (b"a", b"1"), (b"a", b"2"), timestamp_ms=NOW_MS)
    roll(log)
    append_keyed(log, (b"a", b"3"), timestamp_ms=NOW_MS + 500)
    roll(log)
    assert compact(store, NOW_MS + 999) == 0
    assert compact(store, NOW_MS + 1000) == 1
    assert contents(log) == [(1, b"a", b"2"), (2, b"a", b"3")]
    assert compact(store, NOW_MS + 1500) == 1
    assert contents(log) == [(2, b"a", b"3")]


def test_little_memory_takes_more_rounds_to_the_same_end(tmp_path: Path) -> None:
    results = []
    for number, map_bytes in enumerate((10**6, 2000)):
        store = open_store(tmp_path / str(number), cleaner_map_bytes=map_bytes)
        log = store.open(TP, TOPIC_ID, replace(BIG, min_cleanable_dirty_ratio=0.0))
        for value in range(200):
            append_keyed(log, (b"key%d" % (value % 50), b"%d" % value))
        roll(log)
        results.append((compact(store), contents(log), log.clean_offset))
        close(store)
    (one, expected, end), (many, found, same_end) = results
    assert (one, end, same_end) == (1, 200, 200)
    assert many > 5
    assert found == expected


# --- the checkpoint ------------------------------------------------------------------------------


def test_how_far_a_log_is_clean_is_remembered(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, COMPACTED)
    fill(log)
    compact(store)
    assert checkpoints.read_offsets(Disk(), tmp_path / "data" / checkpoints.CLEAN_OFFSETS) == {
        TP: 20
    }
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(copy)
    assert store.logs()[TP].clean_offset == 20
    store.open(TP, TOPIC_ID, COMPACTED)
    assert compact(store) == 0
    close(store)


def test_a_truncation_below_lowers_it_at_once(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, COMPACTED)
    fill(log)
    compact(store)
    log.truncate_to(17)
    assert log.clean_offset == 17
    append_keyed(log, *[(b"k0", b"new")] * 5)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(copy)
    assert store.logs()[TP].clean_offset == 17, "20 would leave three records unjudged for ever"
    store.logs()[TP].restart_at(500)
    assert store.logs()[TP].clean_offset == 0
    close(store)


def test_a_cut_into_a_hole_keeps_the_offsets_that_were_given_out(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, BIG)
    append_keyed(log, (b"a", b"1"), leader_epoch=0)
    append(log, keyed(6, (b"b", b"1"), leader_epoch=0), keyed(7, (b"c", b"1"), leader_epoch=0))
    log.store_epochs([EpochEntry(0, 0)])
    log.truncate_to(4)
    assert log.log_end_offset == 4
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    append_keyed(log, (b"d", b"1"))
    assert contents(log) == [(0, b"a", b"1"), (4, b"d", b"1")]
    close(store)
    store = open_store(copy)
    log = store.logs()[TP]
    assert log.log_end_offset == 4, "1 would give out the offsets 1 to 3 again"
    assert [header.next_offset for header in headers(log)] == [1, 4]
    close(store)


# --- meanwhile -----------------------------------------------------------------------------------


class HeldDisk(QuickDisk):
    """The compacting thread waits at its `at`th fsync until it may go on."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.reached = threading.Event()
        self.go = threading.Event()
        self._count = 0

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        if threading.current_thread().name.startswith("minikafka-cleaner"):
            self._count += 1
            if self._count == self.at:
                self.reached.set()
                assert self.go.wait(30)
        super().fsync(fd)


IN_REWRITE, STAGED = 1, 6  # fsyncs of: two indexes with the folder each, the log, the folder


class Meanwhile:
    """A round of compaction that is held in the middle of things."""

    def __init__(self, tmp_path: Path, at: int, config: TopicConfig = COMPACTED) -> None:
        self.disk = HeldDisk(at)
        self.store = open_store(tmp_path / "data", disk=self.disk)
        self.log = self.store.open(TP, TOPIC_ID, config)
        fill(self.log, 40)

    async def begin(self) -> None:
        await self.log.flush()
        self.round = asyncio.ensure_future(self.store.compact(NOW_MS))
        await until(self.disk.reached.is_set)

    async def end(self) -> None:
        self.disk.go.set()
        await self.round

    @property
    def leftovers(self) -> list[str]:
        names = (path.name for path in self.log.directory.iterdir())
        return [name for name in names if name.endswith((".cleaned", ".swap"))]


@pytest.mark.parametrize("at", [IN_REWRITE, STAGED])
async def test_appends_and_reads_go_on_during_a_round(tmp_path: Path, at: int) -> None:
    meanwhile = Meanwhile(tmp_path, at)
    log = meanwhile.log
    await meanwhile.begin()
    before = contents(log)
    append_keyed(log, (b"k0", b"newer"))
    assert contents(log) == [*before, (40, b"k0", b"newer")]
    await meanwhile.end()
    assert contents(log) == [
        (offset, b"k%d" % (offset % 4), b"%d" % offset) for offset in range(36, 40)
    ] + [(40, b"k0", b"newer")]
    assert meanwhile.leftovers == []
    await meanwhile.store.close(True)


@pytest.mark.parametrize("at", [IN_REWRITE, STAGED])
@pytest.mark.parametrize("change", ["truncate", "restart", "log start"])
async def test_a_round_is_given_up_when_its_segments_go(
    tmp_path: Path, at: int, change: str
) -> None:
    meanwhile = Meanwhile(tmp_path, at)
    log = meanwhile.log
    await meanwhile.begin()
    if change == "truncate":
        log.truncate_to(10)
        append_keyed(log, *[(b"other", b"%d" % number) for number in range(20)])
    elif change == "restart":
        log.restart_at(7)
        append_keyed(log, (b"other", b"x"))
    else:
        log.advance_log_start(bases(log)[1] + 1)
    expected = contents(log)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    await meanwhile.end()
    assert contents(log) == expected
    assert meanwhile.leftovers == []
    assert log.clean_offset == 0
    await meanwhile.store.close(True)
    recovered = open_store(copy)
    assert contents(recovered.logs()[TP])[-len(expected) :] == expected
    await recovered.close(True)


@pytest.mark.parametrize("at", [IN_REWRITE, STAGED])
async def test_a_log_that_is_deleted_and_made_again_during_a_round_stays_as_it_is(
    tmp_path: Path, at: int
) -> None:
    meanwhile = Meanwhile(tmp_path, at)
    await meanwhile.begin()
    meanwhile.store.delete(TP, TOPIC_ID)
    again = meanwhile.store.open(TP, "another", COMPACTED)
    append_keyed(again, (b"k", b"v"))
    await meanwhile.end()
    assert contents(again) == [(0, b"k", b"v")]
    assert sorted(path.suffix for path in again.directory.iterdir()) == [".log", ".metadata"]
    await meanwhile.store.close(True)


@pytest.mark.parametrize("at", [IN_REWRITE, STAGED])
async def test_a_store_that_closes_during_a_round_loses_nothing(tmp_path: Path, at: int) -> None:
    meanwhile = Meanwhile(tmp_path, at)
    await meanwhile.begin()
    expected = contents(meanwhile.log)
    meanwhile.round.cancel()
    meanwhile.disk.go.set()
    await meanwhile.store.close(True)
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, COMPACTED)
    newest = {key: offset for offset, key, _ in expected}
    assert {key: offset for offset, key, _ in contents(log)} == newest
    while await store.compact(NOW_MS):
        pass
    assert [offset for offset, _, _ in contents(log)] == [36, 37, 38, 39]
    await store.close(True)


# --- failures ------------------------------------------------------------------------------------


def test_a_disk_that_fails_while_compacting_costs_nothing_but_the_compaction(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = QuickDisk()
    store = open_store(tmp_path / "data", disk=disk)
    log = store.open(TP, TOPIC_ID, COMPACTED)
    fill(log)
    expected = contents(log)
    disk.full_after = 100
    assert compact(store) == 0
    assert "cannot be compacted" in caplog.text
    assert "No space left" in caplog.text
    disk.full_after = None
    assert compact(store) == 0, "it is not tried again"
    assert contents(log) == expected
    assert not list(log.directory.glob("*.cleaned"))
    append_keyed(log, (b"k", b"goes on"))
    close(store)
    store = open_store(tmp_path / "data")
    store.open(TP, TOPIC_ID, COMPACTED)
    assert compact(store) == 1, "after a restart it is"
    close(store)


def test_a_damaged_batch_is_not_given_a_right_crc(
    store: DiskLogStore, log: DiskLog, caplog: pytest.LogCaptureFixture
) -> None:
    fill(log)
    path = log.directory / "00000000000000000000.log"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert compact(store) == 0
    assert "a batch is damaged" in caplog.text
    assert path.read_bytes() == content


def test_a_swap_that_fails_fences_the_log_and_the_next_start_finishes_it(tmp_path: Path) -> None:
    class Halfway(QuickDisk):
        def rename(self, source, target):  # type: ignore[no-untyped-def, override]
            if "rename" in self.broken and str(source).endswith(".swap"):
                raise OSError("no more renames")
            super().rename(source, target)

    disk = Halfway()
    store = open_store(tmp_path / "data", disk=disk)
    log = store.open(TP, TOPIC_ID, COMPACTED)
    fill(log)
    disk.broken.add("rename")
    assert compact(store) == 0
    assert log.failed
    disk.broken.clear()
    close(store)
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, COMPACTED)
    assert [offset for offset, _, _ in contents(log)] == list(range(bases(log)[1], 20))
    assert compact(store) == 1
    assert [offset for offset, _, _ in contents(log)] == [16, 17, 18, 19]
    close(store)
