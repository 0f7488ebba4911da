"""One log: append, read, roll, truncate, timestamps, epochs, producers, retention."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from minikafka.errors import CorruptMessageError, OffsetOutOfRangeError
from minikafka.log import timestamps
from minikafka.log.index import OFFSET_ENTRY
from minikafka.log.partition_log import DiskLog
from minikafka.log.segment import Segment
from minikafka.log.store import DiskLogStore
from minikafka.model import EpochEntry
from minikafka.records.compression import Codec
from minikafka.records.header import parse_header, split, verify_crc
from tests.helpers.amounts import sample
from tests.unit.log.helpers import (
    CONFIG,
    TOPIC_ID,
    TP,
    FaultyDisk,
    append,
    append_values,
    at_time,
    batch,
    close,
    crashed_copy,
    newest,
    open_store,
    read_all,
)

SMALL = replace(CONFIG, segment_bytes=250)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskLogStore]:
    store = open_store(tmp_path / "data")
    yield store
    close(store)


@pytest.fixture
def log(store: DiskLogStore) -> DiskLog:
    return store.open(TP, TOPIC_ID, CONFIG)


def bases(log: DiskLog) -> list[int]:
    return sorted(int(path.stem) for path in log.directory.glob("*.log"))


def names(log: DiskLog) -> list[str]:
    return sorted(path.name for path in log.directory.iterdir())


def test_an_empty_log_begins_and_ends_at_zero(log: DiskLog) -> None:
    assert (log.log_start_offset, log.log_end_offset, log.size_bytes) == (0, 0, 0)
    assert log.read(0, 1000, 10) == b""
    assert newest(log) is None
    assert at_time(log, 0) is None
    assert names(log) == ["00000000000000000000.log", "partition.metadata"]
    assert (
        log.directory / "partition.metadata"
    ).read_text() == "version: 0\ntopic_id: topic-id-1\n"


def test_what_is_appended_is_read_back_byte_for_byte(log: DiskLog) -> None:
    batches = [batch(0, 3), batch(3), batch(4, 2, leader_epoch=1)]
    append(log, batches[0])
    append(log, batches[1], batches[2])
    assert log.log_end_offset == 6
    assert log.size_bytes == sum(map(len, batches))
    assert log.read(0, 10_000, 6) == b"".join(batches)
    assert (log.directory / "00000000000000000000.log").read_bytes() == b"".join(batches)
    assert log.recovered().log_end_offset == 6


def test_a_batch_may_be_appended_in_pieces_without_being_joined(log: DiskLog) -> None:
    data = batch(0, 5)
    log.append([data[:16], memoryview(data)[16:]], [parse_header(data)])
    assert log.read(0, 1, 5) == data


def test_more_buffers_than_one_writev_takes_are_appended(log: DiskLog) -> None:
    batches = [batch(offset) for offset in range(1500)]
    pieces = [piece for data in batches for piece in (data[:16], memoryview(data)[16:])]
    log.append(pieces, [parse_header(data) for data in batches])
    assert log.read(0, 10**9, 1500) == b"".join(batches)


def test_short_writes_are_continued(tmp_path: Path) -> None:
    class Trickle(FaultyDisk):
        def writev(self, fd, buffers):  # type: ignore[no-untyped-def, override]
            return os.write(fd, b"".join(buffers)[:7])

    store = open_store(tmp_path / "data", disk=Trickle())
    log = store.open(TP, TOPIC_ID, CONFIG)
    data = batch(0, 5)
    log.append([data[:16], data[16:]], [parse_header(data)])
    assert log.read(0, 1, 5) == data
    close(store)


def test_a_read_into_the_middle_of_a_batch_returns_the_whole_batch(log: DiskLog) -> None:
    first, second = batch(0, 10), batch(10, 10)
    append(log, first, second)
    assert log.read(7, 10_000, 20) == first + second
    assert log.read(19, 10_000, 20) == second


def test_a_first_batch_above_the_limit_is_returned_alone(log: DiskLog) -> None:
    first, second = batch(0, value=b"x" * 1000), batch(1)
    append(log, first, second)
    for max_bytes in (0, 1, len(first), len(first) + len(second) - 1):
        assert log.read(0, max_bytes, 2) == first
    assert log.read(0, len(first) + len(second), 2) == first + second


def test_reads_end_below_the_end_offset_at_a_batch_boundary(log: DiskLog) -> None:
    batches = [batch(0, 5), batch(5, 5), batch(10, 5)]
    append(log, *batches)
    for end_offset, count in [(0, 0), (4, 0), (5, 1), (9, 1), (10, 2), (14, 2), (15, 3), (99, 3)]:
        assert log.read(0, 10_000, end_offset) == b"".join(batches[:count]), end_offset
    assert log.read(6, 10_000, 9) == b""
    assert log.read(15, 10_000, 99) == b""


@pytest.mark.parametrize("offset", [-1, 3])
def test_offsets_outside_of_the_log_are_out_of_range(log: DiskLog, offset: int) -> None:
    append(log, batch(0, 2))
    with pytest.raises(OffsetOutOfRangeError, match=r"holds 0 up to 2 \(exclusive\)"):
        log.read(offset, 100, 100)


def test_reads_go_on_over_the_ends_of_segments(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, SMALL)
    append_values(log, *[b"%d" % index for index in range(40)])
    assert len(bases(log)) > 10
    everything = log.read(0, 10**6, 40)
    assert [header.base_offset for header in split(everything)] == list(range(40))
    size = len(everything) // 40 + 1
    for offset in range(40):
        part = log.read(offset, 5 * size, 40)
        expected = range(offset, min(offset + 5, 40))
        assert [header.base_offset for header in split(part)][:4] == list(expected)[:4]


def test_a_segment_is_rolled_by_size(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, SMALL)
    append_values(log, b"a" * 30, b"b" * 30, b"c" * 300, b"d" * 10)
    assert bases(log) == [0, 2, 3]
    assert all(path.stat().st_size <= 250 for path in log.directory.glob("*0[03].log"))


def test_a_segment_is_rolled_by_age_of_its_first_batch(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, replace(CONFIG, segment_ms=1000))
    append(log, batch(0, timestamp_ms=5000))
    append(log, batch(1, timestamp_ms=6000))
    append(log, batch(2, timestamp_ms=6001))
    assert bases(log) == [0, 2]
    log.retain(7001)
    assert bases(log) == [0, 2]
    log.retain(7002)
    assert bases(log) == [0, 2, 3]
    log.retain(9_999_999)
    assert bases(log) == [0, 2, 3], "an empty segment is not rolled"


def test_a_segment_is_rolled_sooner_by_a_chance_of_its_own(store: DiskLogStore) -> None:
    config = replace(CONFIG, segment_ms=1000, segment_jitter_ms=400)
    log = store.open(TP, TOPIC_ID, config)
    rolled_after = []
    for _ in range(20):
        base_offset, first_ms = log.log_end_offset, 10_000 * log.log_end_offset
        append(log, batch(base_offset, timestamp_ms=first_ms))
        for age_ms in range(550, 1100, 10):
            append(log, batch(log.log_end_offset, timestamp_ms=first_ms + age_ms))
            if bases(log)[-1] != base_offset:
                rolled_after.append(age_ms)
                break
        log.configure(replace(config, segment_ms=1))
        append(log, batch(log.log_end_offset, timestamp_ms=10**12))
        log.configure(config)
        log.truncate_to(log.log_end_offset - 1)
    assert len(rolled_after) == 20
    assert 600 <= min(rolled_after) < 750
    assert 850 < max(rolled_after) <= 1010
    assert len(set(rolled_after)) > 5


def test_a_jitter_above_the_age_counts_as_the_age(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, replace(CONFIG, segment_ms=1000, segment_jitter_ms=2**63 - 1))
    append(log, batch(0, timestamp_ms=5000))
    append(log, batch(1, timestamp_ms=5000))
    assert bases(log) == [0]
    append(log, batch(2, timestamp_ms=6001))
    assert bases(log) == [0, 2]


def test_a_segment_is_rolled_when_its_index_is_full(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, replace(CONFIG, segment_index_bytes=10 * 8))
    for offset in range(60):
        append(log, batch(offset, value=b"x" * 200))
    assert len(bases(log)) > 4
    for path in log.directory.glob("*.index"):
        assert path.stat().st_size <= 80
    assert [base for base, _ in read_all(log)] == list(range(60))


def test_a_segment_is_rolled_before_relative_offsets_overflow(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, CONFIG)
    append(log, batch(0))
    huge = batch(1)
    header = parse_header(huge)._replace(last_offset_delta=2**31 - 2)
    log.append([huge], [header])
    append(log, batch(2**31))
    assert bases(log) == [0, 2**31]


def test_searches_use_every_entry_of_the_index_in_open_and_closed_segments(
    store: DiskLogStore,
) -> None:
    log = store.open(TP, TOPIC_ID, replace(CONFIG, segment_bytes=20_000, index_interval_bytes=300))
    append_values(log, *[b"%05d" % index * 5 for index in range(1000)])
    assert len(bases(log)) > 3
    for offset in range(1000):
        log._hints.clear()
        assert split(log.read(offset, 1, 1000))[0].base_offset == offset


# --- truncation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", sample(range(41)))
def test_truncation_cuts_everything_at_and_above_the_offset(tmp_path: Path, offset: int) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, SMALL)
    append_values(log, *[b"%d" % index for index in range(40)])
    before = read_all(log)
    log.truncate_to(offset)
    assert log.log_end_offset == offset
    assert read_all(log) == before[:offset]
    assert log.size_bytes == sum(size for _, size in before[:offset])
    append_values(log, b"new")
    assert split(log.read(offset, 100, offset + 1))[0].base_offset == offset
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    again = open_store(copy)
    assert read_all(again.logs()[TP])[:-1] == before[:offset]
    close(again)


def test_a_batch_that_straddles_the_cut_goes_whole(log: DiskLog) -> None:
    append(log, batch(0, 10), batch(10, 10))
    log.truncate_to(15)
    assert log.log_end_offset == 10
    append(log, batch(10))
    assert [base for base, _ in read_all(log)] == [0, 10]


def test_what_was_read_before_a_cut_does_not_mislead_reads_after_it(log: DiskLog) -> None:
    append(log, batch(0, 4), batch(4, 4), batch(8, 4))
    assert log.read(0, 1, 6)  # remembers where 4 and 8 begin
    assert log.read(4, 1, 12)
    log.truncate_to(4)
    longer = batch(4, 8, value=b"longer")
    append(log, longer)
    for offset in range(4, 12):
        assert log.read(offset, 1, 12) == longer


def test_later_segments_are_gone_for_good_before_the_cut(tmp_path: Path) -> None:
    done: list[str] = []

    class Recorder(FaultyDisk):
        def rename(self, source, target):  # type: ignore[no-untyped-def, override]
            done.append(f"rename {Path(source).name}")
            os.replace(source, target)

        def sync_directory(self, directory: Path) -> None:
            done.append("sync folder")
            super().sync_directory(directory)

        def ftruncate(self, fd: int, size: int) -> None:  # type: ignore[override]
            done.append("truncate")
            super().ftruncate(fd, size)

    store = open_store(tmp_path / "data", disk=Recorder())
    log = store.open(TP, TOPIC_ID, replace(CONFIG, segment_bytes=14))
    append_values(log, b"a", b"b", b"c")
    done.clear()
    log.truncate_to(0)
    assert [step for step in done if "index" not in step] == [
        "rename 00000000000000000002.log",
        "rename 00000000000000000002.snapshot",
        "rename 00000000000000000001.log",
        "rename 00000000000000000001.snapshot",
        "sync folder",
        "truncate",
    ]
    close(store)


def test_truncation_lowers_high_watermark_and_recovery_point(log: DiskLog) -> None:
    append_values(log, b"a", b"b", b"c")
    log.set_high_watermark(3)
    assert asyncio.run(log.flush()) == 3
    log.truncate_to(1)
    assert (log.high_watermark, log.recovery_point) == (1, 1)


def test_truncation_to_the_end_or_above_only_drops_idle_epochs(log: DiskLog) -> None:
    append_values(log, b"a", b"b")
    log.store_epochs([EpochEntry(0, 0), EpochEntry(3, 2)])
    log.truncate_to(2)
    assert log.log_end_offset == 2
    assert log.recovered().epochs == (EpochEntry(0, 0),)
    log.truncate_to(5)
    assert log.log_end_offset == 2


def test_a_truncation_below_the_checkpoints_is_checkpointed_at_once(
    tmp_path: Path, store: DiskLogStore, log: DiskLog
) -> None:
    append_values(log, *[b"v"] * 10)
    log.set_high_watermark(8)
    asyncio.run(log.flush())
    asyncio.run(store.checkpoint())
    log.truncate_to(4)
    append_values(log, *[b"w"] * 6)
    recovered = open_store(crashed_copy(tmp_path / "data", tmp_path / "copy"))
    again = recovered.logs()[TP]
    assert again.log_end_offset == 10
    assert again.high_watermark == 4, "8 would claim records that nobody committed"
    assert again.recovery_point == 4, "10 would leave them unchecked"
    close(recovered)


def test_restart_at_begins_anew_and_empty(tmp_path: Path, store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, SMALL)
    append_values(log, *[b"v"] * 10)
    log.store_epochs([EpochEntry(0, 0)])
    log.restart_at(500)
    assert (log.log_start_offset, log.log_end_offset, log.high_watermark) == (500, 500, 500)
    assert log.size_bytes == 0
    assert log.recovered().epochs == ()
    append_values(log, b"x")
    assert bases(log) == [500]
    recovered = open_store(crashed_copy(tmp_path / "data", tmp_path / "copy"))
    assert read_all(recovered.logs()[TP]) == read_all(log)
    close(recovered)


def test_a_segment_that_was_closed_twice_is_forgotten_when_it_goes(log: DiskLog) -> None:
    append_values(log, b"a")
    log._roll()
    append_values(log, b"b")
    log._roll()
    log.truncate_to(1)
    append_values(log, b"c")
    log._roll()
    log.truncate_to(1)
    append_values(log, b"d")
    log.truncate_to(0)
    append_values(log, b"e")
    assert asyncio.run(log.flush()) == 1


def test_truncation_below_the_first_segment_restarts_the_log_there(log: DiskLog) -> None:
    log.restart_at(100)
    append_values(log, b"a")
    log.truncate_to(50)
    assert (log.log_start_offset, log.log_end_offset) == (50, 50)


# --- timestamps ----------------------------------------------------------------------------------


def test_offsets_are_found_by_timestamp_in_every_segment(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, SMALL)
    for index in range(30):
        append(log, batch(log.log_end_offset, 2, timestamp_ms=1000 + 10 * index))
    assert at_time(log, 0) == (0, 1000)
    for index in range(30):
        assert at_time(log, 1000 + 10 * index) == (2 * index, 1000 + 10 * index)
        assert at_time(log, 1001 + 10 * index) == (2 * index + 1, 1001 + 10 * index)
    assert at_time(log, 1292) is None
    assert newest(log) == (59, 1291)
    log.advance_log_start(7)
    assert at_time(log, 0) == (7, 1031)


def test_timestamps_out_of_order_find_the_first_that_is_late_enough(log: DiskLog) -> None:
    for offset, timestamp_ms in enumerate([50, 10, 90, 20, 90, 95, 30]):
        append(log, batch(offset, timestamp_ms=timestamp_ms))
    expected = {0: 0, 50: 0, 51: 2, 90: 2, 91: 5, 95: 5}
    for timestamp_ms, offset in expected.items():
        assert at_time(log, timestamp_ms)[0] == offset  # type: ignore[index]
    assert at_time(log, 96) is None
    assert newest(log) == (5, 95)
    log.advance_log_start(6)
    assert newest(log) == (6, 30)


def test_a_compressed_batch_is_opened_for_the_record_that_is_sought(log: DiskLog) -> None:
    append(log, batch(0, 5, timestamp_ms=100), batch(5, 5, timestamp_ms=200, codec=Codec.GZIP))
    assert at_time(log, 150) == (5, 200)
    assert at_time(log, 203) == (8, 203)


def test_timestamps_survive_truncation_and_restart(tmp_path: Path, store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, replace(CONFIG, segment_bytes=1000))
    for offset in range(50):
        append(log, batch(offset, timestamp_ms=1000 + offset))
    for offset in (49, 33, 12, 1):
        log.truncate_to(offset)
        assert newest(log) == (offset - 1, 999 + offset)
        recovered = open_store(crashed_copy(tmp_path / "data", tmp_path / str(offset)))
        assert newest(recovered.logs()[TP]) == (offset - 1, 999 + offset)
        close(recovered)


# --- retention -----------------------------------------------------------------------------------


def filled(store: DiskLogStore, **options: int) -> DiskLog:
    """Ten closed segments of one record each, at 1000, 2000, ..., and an active one at 11000."""
    log = store.open(TP, TOPIC_ID, replace(CONFIG, segment_bytes=14, **options))
    for offset in range(11):
        append(log, batch(offset, timestamp_ms=1000 * (offset + 1)))
    return log


def test_retention_by_time_deletes_whole_segments_that_are_old(store: DiskLogStore) -> None:
    log = filled(store, retention_ms=5000)
    log.set_high_watermark(11)
    assert log.retain(9000) == 3  # 1000, 2000, 3000 are more than 5000 old
    assert bases(log) == list(range(3, 11))
    assert log.log_start_offset == 3
    with pytest.raises(OffsetOutOfRangeError):
        log.read(2, 100, 11)


def test_retention_by_size_keeps_at_least_that_much(store: DiskLogStore) -> None:
    size = len(batch(0))
    log = filled(store, retention_bytes=4 * size + 1)
    log.set_high_watermark(11)
    assert log.retain(0) == 6
    assert log.size_bytes == 5 * size


@pytest.mark.parametrize("high_watermark", range(12))
def test_retention_never_deletes_above_the_high_watermark(
    store: DiskLogStore, high_watermark: int
) -> None:
    log = filled(store, retention_ms=1, retention_bytes=0)
    log.set_high_watermark(high_watermark)
    log.retain(10**9)
    assert log.log_start_offset == high_watermark
    assert log.log_end_offset == 11


def test_the_active_segment_is_rolled_when_all_of_it_is_too_old(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, replace(CONFIG, retention_ms=1000))
    append(log, batch(0, timestamp_ms=5000))
    log.set_high_watermark(1)
    assert log.retain(6000) == 0
    assert log.retain(6001) == 1
    assert (log.log_end_offset, log.size_bytes, bases(log)) == (1, 0, [1])
    append_values(log, b"next")
    assert log.log_end_offset == 2


def test_without_retention_nothing_is_deleted(store: DiskLogStore) -> None:
    log = filled(store)
    log.set_high_watermark(11)
    assert log.retain(10**12) == 0


def test_batches_without_timestamps_age_by_the_files_time(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, replace(CONFIG, segment_bytes=14, retention_ms=1000))
    append(log, batch(0, timestamp_ms=-1))
    append(log, batch(1, timestamp_ms=-1))
    log.set_high_watermark(2)
    modified_ms = (log.directory / "00000000000000000000.log").stat().st_mtime_ns // 10**6
    assert log.retain(modified_ms + 1000) == 0
    assert log.retain(modified_ms + 60_000) >= 1


def test_raising_the_log_start_deletes_whole_segments_below_it(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, SMALL)
    append_values(log, *[b"v"] * 20)
    log.set_high_watermark(20)
    log.store_epochs([EpochEntry(0, 0), EpochEntry(4, 2), EpochEntry(5, 9)])
    log.advance_log_start(8)
    assert log.log_start_offset == 8
    assert max(base for base in bases(log) if base <= 8) == bases(log)[0]
    log.advance_log_start(3)
    assert log.log_start_offset == 8
    assert log.recovered().epochs[-1] == EpochEntry(5, 9)
    log.advance_log_start(20)
    assert log.log_start_offset == log.log_end_offset == 20


async def test_deleted_files_are_renamed_at_once_and_unlinked_after_the_delay(
    tmp_path: Path,
) -> None:
    now = [100.0]
    store = open_store(tmp_path / "data", monotonic=lambda: now[0])
    log = filled(store, retention_ms=1, file_delete_delay_ms=60_000)
    log.set_high_watermark(5)
    log.retain(10**9)
    aside = sorted(log.directory.glob("*.deleted"))
    assert [path.name for path in aside[:3]] == [
        "00000000000000000000.index.deleted",
        "00000000000000000000.log.deleted",
        "00000000000000000000.timeindex.deleted",
    ]
    now[0] = 159.0
    await store.checkpoint()
    assert sorted(log.directory.glob("*.deleted")) == aside
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    now[0] = 160.5
    await store.checkpoint()
    assert not list(log.directory.glob("*.deleted"))
    await store.close(True)
    recovered = open_store(copy)
    assert recovered.logs()[TP].log_start_offset == 5
    assert not list(copy.rglob("*.deleted"))
    await recovered.close(True)


# --- producers -----------------------------------------------------------------------------------


def test_producers_are_those_of_the_batches_up_to_the_cut(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, replace(SMALL, segment_bytes=600))
    tables = [log.load_producers()]
    for offset in range(30):
        append(
            log,
            batch(offset, producer_id=offset % 3, producer_epoch=0, base_sequence=offset // 3),
        )
        tables.append(log.load_producers())
    assert len(list(log.directory.glob("*.snapshot"))) == 3
    for offset in (29, 22, 21, 7, 1, 0):
        log.truncate_to(offset)
        assert log.load_producers() == tables[offset]
        assert all(int(path.stem) <= offset for path in log.directory.glob("*.snapshot"))


def test_a_caller_may_do_with_its_producers_what_it_likes(log: DiskLog) -> None:
    append(log, batch(0, producer_id=1, producer_epoch=0, base_sequence=0))
    mine = log.load_producers()
    mine.update(parse_header(batch(9, producer_id=1, producer_epoch=0, base_sequence=1)))
    assert log.load_producers() != mine


def test_a_damaged_snapshot_is_passed_over(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, replace(SMALL, segment_bytes=600))
    for offset in range(30):
        append(log, batch(offset, producer_id=5, producer_epoch=0, base_sequence=offset))
    log.truncate_to(25)
    expected = log.load_producers()
    for path in log.directory.glob("*.snapshot"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    log.truncate_to(24)
    append(log, batch(24, producer_id=5, producer_epoch=0, base_sequence=24))
    assert log.load_producers() == expected


def test_producers_outlive_the_segments_that_they_wrote(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, replace(CONFIG, segment_bytes=14))
    append(log, batch(0, producer_id=7, producer_epoch=2, base_sequence=0, timestamp_ms=10**9))
    for offset in range(1, 5):
        append(log, batch(offset, timestamp_ms=10**9))
    expected = log.load_producers()
    log.set_high_watermark(5)
    log.advance_log_start(4)
    log.truncate_to(4)
    assert log.load_producers() == expected
    assert dict(expected.items())[7].producer_epoch == 2


def test_producers_are_forgotten_who_have_written_nothing_since(log: DiskLog) -> None:
    append(log, batch(0, producer_id=7, producer_epoch=0, base_sequence=0, timestamp_ms=1000))
    log.expire_producers(50_000, 500)
    log.expire_producers(50_499, 500)
    assert len(log.load_producers()) == 1
    log.expire_producers(50_500, 500)
    assert len(log.load_producers()) == 0


async def test_when_a_producer_was_active_is_known_after_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, CONFIG)
    append(log, batch(0, producer_id=7, producer_epoch=0, base_sequence=0))
    append(log, batch(1, producer_id=8, producer_epoch=0, base_sequence=0))
    log.expire_producers(50_000, 500)
    append(log, batch(2, producer_id=8, producer_epoch=0, base_sequence=1))
    await store.close(True)
    again = open_store(tmp_path / "data")
    log = again.open(TP, TOPIC_ID, CONFIG)
    log.load_producers()
    log.expire_producers(50_500, 500)
    assert [producer_id for producer_id, _ in log.load_producers().items()] == [8]
    await again.close(True)


# --- segments ------------------------------------------------------------------------------------


def test_closed_segments_keep_no_file_open_and_no_index_in_memory(store: DiskLogStore) -> None:
    log = filled(store)
    log.read(0, 10**6, 11)
    at_time(log, 1500)
    closed: list[Segment] = log._segments[:-1]
    assert [segment._fd for segment in closed] == [-1] * 10
    assert all(len(segment._index) == 0 for segment in closed)


@pytest.mark.parametrize("damage", ["missing", "cut", "wrong position", "wrong offset", "garbage"])
def test_index_files_are_rebuilt_when_they_do_not_fit(tmp_path: Path, damage: str) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, replace(CONFIG, segment_bytes=5000))
    for offset in range(200):
        append(log, batch(offset, timestamp_ms=1000 + offset))
    expected = read_all(log)
    close(store)
    for path in [*log.directory.glob("*.index"), *log.directory.glob("*.timeindex")]:
        content = path.read_bytes()
        if damage == "missing":
            path.unlink()
        elif damage == "cut":
            path.write_bytes(content[:-3])
        elif damage == "wrong position":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif damage == "wrong offset":
            path.write_bytes(content[:-5] + bytes([content[-5] + 1]) + content[-4:])
        else:
            path.write_bytes(os.urandom(len(content)))
    store = open_store(tmp_path / "data")
    log = store.logs()[TP]
    assert read_all(log) == expected
    for offset in range(200):
        log._hints.clear()
        assert split(log.read(offset, 1, 200))[0].base_offset == offset
        assert at_time(log, 1000 + offset) == (offset, 1000 + offset)
    close(store)


def test_every_batch_on_disk_keeps_its_crc(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, SMALL)
    append_values(log, *[b"%d" % index for index in range(30)])
    position, data = 0, log.read(0, 10**6, 30)
    for header in split(data):
        verify_crc(data, position, header)
        position += header.size_bytes


@pytest.mark.parametrize("of_earlier_version", [False, True])
def test_index_entries_name_the_last_offset_of_a_batch_and_those_with_the_first_serve_as_well(
    tmp_path: Path, of_earlier_version: bool
) -> None:
    config = replace(CONFIG, index_interval_bytes=100, segment_bytes=2000)
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, config)
    while len(bases(log)) < 4:
        append(log, batch(log.log_end_offset, 5))
    end = log.log_end_offset
    close(store)
    for path in sorted(log.directory.glob("*.index")):
        base, content = int(path.stem), path.with_suffix(".log").read_bytes()
        entries = list(OFFSET_ENTRY.iter_unpack(path.read_bytes()))
        assert entries or base == max(bases(log))
        headers = [parse_header(content, position) for _, position in entries]
        assert [base + offset for offset, _ in entries] == [each.last_offset for each in headers]
        if of_earlier_version:
            firsts = [
                OFFSET_ENTRY.pack(each.base_offset - base, position)
                for each, (_, position) in zip(headers, entries, strict=True)
            ]
            path.write_bytes(b"".join(firsts))
    before = {path: path.read_bytes() for path in log.directory.glob("*.index")}
    store = open_store(tmp_path / "data", config)
    log = store.open(TP, TOPIC_ID, config)
    for offset in range(end):
        (header, *_) = split(log.read(offset, 1, end))
        assert header.base_offset == offset - offset % 5
    assert all(path.read_bytes() == content for path, content in before.items() if path.exists())
    log.truncate_to(end - 12)
    assert log.log_end_offset == end - 15
    append(log, batch(log.log_end_offset, 5))
    assert [offset for offset, _ in read_all(log)] == list(range(0, end - 10, 5))
    close(store)


def test_the_largest_time_is_that_of_what_is_left_of_a_log(log: DiskLog) -> None:
    for offset, timestamp_ms in ((0, 900), (2, 500), (4, 700), (6, 700)):
        append(log, batch(offset, 2, timestamp_ms=timestamp_ms))
    assert newest(log) == (1, 901)
    log.set_high_watermark(8)
    log.advance_log_start(1)
    assert newest(log) == (1, 901)
    log.advance_log_start(2)
    assert newest(log) == (5, 701)
    log.advance_log_start(6)
    assert newest(log) == (7, 701)


async def test_a_log_that_is_cut_while_it_is_looked_at_is_not_fenced(
    log: DiskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, batch(0, timestamp_ms=100), batch(1, timestamp_ms=200))
    look = timestamps.Stretch.first_from

    def cut_first(stretch: timestamps.Stretch, timestamp_ms: int) -> tuple[int, int] | None:
        log.truncate_to(1)
        return look(stretch, timestamp_ms)

    monkeypatch.setattr(timestamps.Stretch, "first_from", cut_first)
    with pytest.raises(CorruptMessageError):
        await log.offset_for_timestamp(200)
    append(log, batch(1, timestamp_ms=300))
    assert log.log_end_offset == 2


def test_no_file_stays_open_that_was_looked_into(log: DiskLog) -> None:
    append(log, batch(0, 3, timestamp_ms=100))
    before = len(os.listdir("/proc/self/fd"))
    assert at_time(log, 101) == (1, 101)
    assert newest(log) == (2, 102)
    assert at_time(log, 500) is None
    assert len(os.listdir("/proc/self/fd")) == before
