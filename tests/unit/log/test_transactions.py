"""Transactions in a log: what the table and the index of aborted ones say, whatever becomes of the
log: by example, and against a replay of all that it holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from struct import Struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minikafka.core.replication.producer_state import ProducedBatch, ProducerState
from minikafka.errors import CorruptMessageError, KafkaStorageError
from minikafka.log import producers
from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from minikafka.log.transaction_index import AbortedEntry, decode, encode
from minikafka.model import AbortedTransaction, EndMarker
from minikafka.records.build import BatchBuilder
from minikafka.records.header import STAMP_BYTES, split, stamp
from minikafka.records.markers import build_marker, markers_in
from tests.helpers.amounts import amount
from tests.unit.log.helpers import (
    CONFIG,
    TOPIC_ID,
    TP,
    FaultyDisk,
    QuickDisk,
    append,
    batch,
    close,
    crashed_copy,
    open_store,
)

SMALL = replace(CONFIG, segment_bytes=500)
ENTRY_BYTES = 34


def at(offset: int, data: bytes) -> bytes:
    return stamp(offset, len(data), 0) + data[STAMP_BYTES:]


def write(log: DiskLog, producer_id: int, sequence: int = 0, producer_epoch: int = 0) -> None:
    """A batch of one record of this producer's transaction, at the log's end."""
    builder = BatchBuilder()
    builder.append(b"k", b"v", timestamp_ms=1000)
    data = builder.build(
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=sequence,
        transactional=True,
    )
    append(log, at(log.log_end_offset, data))


def end(log: DiskLog, producer_id: int, *, commits: bool, producer_epoch: int = 0) -> None:
    data = build_marker(producer_id, producer_epoch, EndMarker(commits, 0), 1000)
    append(log, at(log.log_end_offset, data))


def aborted(
    log: DiskLog, offset: int = 0, end_offset: int = 10**6, max_bytes: int = 10**9
) -> list[tuple[int, int]]:
    return [tuple(each) for each in log.aborted(offset, max_bytes, end_offset)]  # type: ignore[misc]


def indexes(log: DiskLog) -> list[int]:
    return sorted(int(path.stem) for path in log.directory.glob("*.txnindex"))


def entries(log: DiskLog) -> list[AbortedEntry]:
    found: list[AbortedEntry] = []
    for base in indexes(log):
        found += decode((log.directory / f"{base:020}.txnindex").read_bytes(), base, 10**9)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskLogStore]:
    store = open_store(tmp_path / "data", disk=QuickDisk())
    yield store
    close(store)


@pytest.fixture
def log(store: DiskLogStore) -> DiskLog:
    return store.open(TP, TOPIC_ID, CONFIG)


# --- the index -----------------------------------------------------------------------------------


def test_an_abort_has_an_entry_in_the_format_of_kafka(log: DiskLog) -> None:
    write(log, 5)
    write(log, 6)
    end(log, 5, commits=False)
    content = (log.directory / f"{0:020}.txnindex").read_bytes()
    assert Struct(">hqqqq").unpack(content) == (0, 5, 0, 2, 1)
    assert aborted(log) == [(5, 0)]


def test_a_commit_has_none(log: DiskLog) -> None:
    write(log, 5)
    end(log, 5, commits=True)
    assert indexes(log) == []
    assert log.aborted(0, 10**9, 2) == ()


def test_an_abort_of_nothing_has_none(log: DiskLog) -> None:
    end(log, 5, commits=False)
    assert indexes(log) == []


def test_what_is_found_is_sorted_by_where_it_began(log: DiskLog) -> None:
    for producer_id in (5, 6, 7):
        write(log, producer_id)
    for producer_id in (7, 5, 6):
        end(log, producer_id, commits=False)
    assert aborted(log) == [(5, 0), (6, 1), (7, 2)]
    assert [entry.last_stable_offset for entry in entries(log)] == [0, 1, 6]


def test_only_what_concerns_the_answer_is_found(log: DiskLog) -> None:
    write(log, 5)  # 0
    end(log, 5, commits=False)  # 1
    write(log, 5, 1)  # 2
    end(log, 5, commits=False)  # 3
    write(log, 5, 2)  # 4
    end(log, 5, commits=True)  # 5
    assert aborted(log) == [(5, 0), (5, 2)]
    assert aborted(log, 1) == [(5, 0), (5, 2)]
    assert aborted(log, 2) == [(5, 2)]
    assert aborted(log, 4) == []
    assert aborted(log, 0, 2) == [(5, 0)]
    assert aborted(log, 0, max_bytes=1) == [(5, 0)]
    assert aborted(log, 6) == []


def test_an_answer_over_several_segments_has_what_ended_in_any_of_them(
    store: DiskLogStore,
) -> None:
    log = store.open(TP, TOPIC_ID, SMALL)
    write(log, 5)
    for offset in range(1, 20):
        append(log, batch(offset))
    end(log, 5, commits=False)
    write(log, 6)
    end(log, 6, commits=False)
    assert log.segment_count > 3
    assert len(indexes(log)) == 1
    assert aborted(log, 0, max_bytes=100) == [(5, 0)]
    assert aborted(log, 3, max_bytes=100) == [(5, 0)]
    assert aborted(log, 3) == [(5, 0), (6, 21)]


def test_an_index_that_cannot_be_written_fences_the_log(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = open_store(tmp_path / "data", disk=disk)
    log = store.open(TP, TOPIC_ID, CONFIG)
    write(log, 5)
    disk.full_after = 78  # the marker, and nothing more
    with pytest.raises(KafkaStorageError):
        end(log, 5, commits=False)
    disk.full_after = None
    assert log.failed
    assert log.log_end_offset == 1
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(copy)
    log = store.open(TP, TOPIC_ID, CONFIG)
    assert (log.log_end_offset, aborted(log)) == (1, [])
    assert log.load_producers().unstable.first() == 0
    close(store)


def test_a_damaged_marker_is_not_taken(log: DiskLog) -> None:
    builder = BatchBuilder()
    builder.append(b"", b"")
    data = at(0, builder.build(producer_id=5, producer_epoch=0, transactional=True, control=True))
    with pytest.raises(KafkaStorageError) as caught:
        append(log, data)
    assert isinstance(caught.value.__cause__, CorruptMessageError)
    assert log.log_end_offset == 0


# --- cuts ----------------------------------------------------------------------------------------


def test_a_marker_that_is_cut_off_opens_its_transaction_again(log: DiskLog) -> None:
    write(log, 5)
    end(log, 5, commits=False)
    write(log, 5, 1)
    end(log, 5, commits=False)
    log.truncate_to(3)
    assert aborted(log) == [(5, 0)]
    assert log.load_producers().unstable.first_open() == 2
    log.truncate_to(1)
    assert (aborted(log), indexes(log)) == ([], [])
    assert log.load_producers().unstable.first_open() == 0
    end(log, 5, commits=False)
    assert aborted(log) == [(5, 0)]


def test_indexes_go_with_their_segments(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, SMALL)
    for number in range(10):
        write(log, 5, number)
        end(log, 5, commits=False)
    assert len(indexes(log)) > 2
    log.set_high_watermark(20)
    log.advance_log_start(9)
    assert indexes(log)[0] == min(int(path.stem) for path in log.directory.glob("*.log"))
    assert aborted(log, 9) == [(5, first) for first in range(8, 20, 2)]
    log.truncate_to(12)
    assert aborted(log, 9) == [(5, 8), (5, 10)]
    log.restart_at(30)
    assert (indexes(log), aborted(log, 30)) == ([], [])


# --- restarts ------------------------------------------------------------------------------------


def reopened(directory: Path) -> DiskLogStore:
    store = open_store(directory, disk=QuickDisk())
    store.open(TP, TOPIC_ID, SMALL)
    return store


@pytest.mark.parametrize("clean", [True, False])
def test_all_of_it_is_there_after_a_restart(tmp_path: Path, clean: bool) -> None:
    store = open_store(tmp_path / "data", disk=QuickDisk())
    log = store.open(TP, TOPIC_ID, SMALL)
    write(log, 9)  # stays open
    for number in range(10):
        write(log, 5, number)
        end(log, 5, commits=number % 2 == 0)
        if number == 5:
            log.set_high_watermark(log.log_end_offset - 1)
    expected, found = log.load_producers(), aborted(log)
    directory = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    directory = tmp_path / "data" if clean else directory
    store = reopened(directory)
    log = store.logs()[TP]
    assert aborted(log) == found
    assert len(found) == 5
    table = log.load_producers()
    assert dict(table.items()) == dict(expected.items())
    assert table.unstable.first() == 0
    close(store)


def test_an_ended_transaction_is_unstable_after_a_restart_too(tmp_path: Path) -> None:
    """Its marker is below the snapshot, but not below the high watermark."""
    store = open_store(tmp_path / "data", disk=QuickDisk())
    log = store.open(TP, TOPIC_ID, CONFIG)
    append(log, batch(0))
    write(log, 5)
    end(log, 5, commits=False)
    write(log, 5, 1)
    end(log, 5, commits=True)
    log.set_high_watermark(3)
    close(store)
    snapshot = producers.read_snapshot(
        QuickDisk(), tmp_path / "data" / "orders-0" / f"{5:020}.snapshot"
    )
    assert snapshot is not None
    assert snapshot.unstable.ended() == [(3, 4)]
    store = reopened(tmp_path / "data")
    assert store.logs()[TP].recovered().producers.unstable.ended() == [(3, 4)]
    close(store)


def test_without_a_clean_end_the_entries_above_the_recovery_point_are_made_anew(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path / "data", disk=QuickDisk())
    log = store.open(TP, TOPIC_ID, CONFIG)
    write(log, 5)
    write(log, 6)
    end(log, 5, commits=False)
    end(log, 6, commits=False)
    expected = entries(log)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    path = copy / "orders-0" / f"{0:020}.txnindex"
    content = path.read_bytes()
    for wrong in (content[:ENTRY_BYTES], content + content[-ENTRY_BYTES:], b"", content[:-1]):
        path.write_bytes(wrong)
        store = reopened(crashed_copy(copy, tmp_path / "again"))
        assert entries(store.logs()[TP]) == expected
        close(store)
        (tmp_path / "again").rename(tmp_path / f"seen-{len(wrong)}")
    path.unlink()
    store = reopened(copy)
    assert entries(store.logs()[TP]) == expected
    close(store)


def test_entries_of_what_did_not_reach_the_disk_go(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data", disk=QuickDisk())
    log = store.open(TP, TOPIC_ID, CONFIG)
    write(log, 5)
    end(log, 5, commits=False)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    segment = copy / "orders-0" / f"{0:020}.log"
    segment.write_bytes(segment.read_bytes()[:-1])
    store = reopened(copy)
    log = store.logs()[TP]
    assert (log.log_end_offset, indexes(log), aborted(log)) == (1, [], [])
    close(store)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 33,
        encode([AbortedEntry(5, 0, 1, 2)])[:-1],
        encode([AbortedEntry(5, 2, 3, 4), AbortedEntry(5, 0, 1, 2)]),
        encode([AbortedEntry(5, 0, 1, 2), AbortedEntry(5, 2, 3, 4), AbortedEntry(5, 8, 9, 4)]),
        encode([AbortedEntry(5, 1, 1, 2)]),
        b"\x00\x01" + encode([AbortedEntry(5, 0, 1, 2)])[2:],
    ],
)
def test_an_index_that_cannot_be_right_is_made_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(tmp_path / "data", disk=QuickDisk())
    log = store.open(TP, TOPIC_ID, CONFIG)
    write(log, 5)
    end(log, 5, commits=False)
    write(log, 5, 1)
    end(log, 5, commits=False)
    expected = entries(log)
    close(store)
    (tmp_path / "data" / "orders-0" / f"{0:020}.txnindex").write_bytes(content)
    (tmp_path / "data" / "orders-0" / f"{3:020}.txnindex").write_bytes(b"of no segment")
    with caplog.at_level(logging.WARNING, "minikafka.log"):
        store = reopened(tmp_path / "data")
    assert ("is damaged and made anew" in caplog.text) == bool(content)
    assert entries(store.logs()[TP]) == expected
    close(store)


def test_a_log_without_transactions_is_not_read_for_them(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    store = open_store(tmp_path / "data", disk=QuickDisk())
    log = store.open(TP, TOPIC_ID, CONFIG)
    append(log, batch(0, producer_id=5, producer_epoch=0, base_sequence=0))
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    monkeypatch.setattr(producers, "replay", None)
    store = reopened(copy)
    assert store.logs()[TP].log_end_offset == 1
    monkeypatch.undo()
    close(store)


def test_the_index_is_on_the_disk_with_the_marker(store: DiskLogStore, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    log = store.open(TP, TOPIC_ID, CONFIG)
    write(log, 5)
    end(log, 5, commits=False)
    taken = log.what_to_sync()
    assert log.directory / f"{0:020}.txnindex" in taken.paths
    assert taken.directory == log.directory
    assert log._aborted.take_changed() == []
    log._aborted.put_back()
    asyncio.run(log.flush())
    assert log._aborted.take_changed() == []


def test_an_fsync_that_could_not_be_made_takes_it_the_next_time(store: DiskLogStore) -> None:
    log = store.open(TP, TOPIC_ID, CONFIG)
    write(log, 5)
    end(log, 5, commits=False)
    [path] = log._aborted.take_changed()
    log._aborted.put_back()
    assert log._aborted.take_changed() == [path]


# --- snapshots -----------------------------------------------------------------------------------


def test_a_snapshot_of_version_2_can_be_read(tmp_path: Path) -> None:
    from crc32c import crc32c

    content = Struct(">hi").pack(2, 1) + Struct(">qhqb").pack(5, 3, 77, 1)
    content += Struct(">iiqq").pack(0, 4, 10, 14)
    path = tmp_path / f"{20:020}.snapshot"
    path.write_bytes(Struct(">I").pack(crc32c(content)) + content)
    table = producers.read_snapshot(QuickDisk(), path)
    assert table is not None
    assert dict(table.items()) == {5: ProducerState(3, [ProducedBatch(0, 4, 10, 14)], 77)}


# --- against a replay ----------------------------------------------------------------------------


class Story:
    """What a log should say, from its batches alone."""

    def __init__(self, log: DiskLog) -> None:
        self.batches = []
        offset = log.log_start_offset
        while offset < log.log_end_offset:
            data = log.read(offset, 10**9, log.log_end_offset)
            headers = split(data)
            said = markers_in([data], headers)
            self.batches += [(header, said.get(header.base_offset)) for header in headers]
            offset = headers[-1].next_offset

    def aborted(self, offset: int, end_offset: int, begun: dict[int, int]) -> list[tuple[int, int]]:
        open_ = dict(begun)
        found = []
        for header, said in self.batches:
            producer_id = header.producer_id
            if said is None:
                open_.setdefault(producer_id, header.base_offset)
                continue
            first = open_.pop(producer_id, None)
            if first is None or said.commits:
                continue
            if header.base_offset >= offset and first < end_offset:
                found.append((producer_id, first))
        return sorted(found, key=lambda each: each[1])


ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["write", "write", "write", "abort", "abort", "commit", "cut", "crash", "close"]
        ),
        st.integers(0, 2),
        st.integers(0, 30),
    ),
    max_size=30,
)


@settings(
    max_examples=amount(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(ACTS, st.integers(0, 30), st.integers(0, 30), st.sampled_from([1, 200, 10**9]))
def test_it_agrees_with_a_replay_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory,
    acts: list[tuple[str, int, int]],
    offset: int,
    end_offset: int,
    max_bytes: int,
) -> None:
    directory = tmp_path_factory.mktemp("log") / "data"
    store = reopened(directory)
    log = store.logs()[TP]
    high_watermark = 0
    for act, producer_id, number in acts:
        if act == "write":
            write(log, producer_id, number)
        elif act in ("abort", "commit"):
            end(log, producer_id, commits=act == "commit")
        elif act == "cut":
            high_watermark = min(high_watermark, log.log_end_offset)
            log.truncate_to(max(high_watermark, log.log_end_offset - number % 7))
        else:
            if act == "crash":
                copy = crashed_copy(directory, directory.parent / f"{directory.name}+")
                close(store)
                directory = copy
            else:
                close(store)
            store = reopened(directory)
            log = store.logs()[TP]
        if number % 5 == 0:
            high_watermark = log.log_end_offset
            log.set_high_watermark(high_watermark)
    offset = min(offset, log.log_end_offset)
    end_offset = min(end_offset, log.log_end_offset)
    data = log.read(offset, max_bytes, end_offset)
    read_end = split(data)[-1].next_offset if data else offset
    expected = Story(log).aborted(offset, read_end, {}) if data else []
    assert aborted(log, offset, end_offset, max_bytes) == expected
    assert all(isinstance(each, AbortedTransaction) for each in log.aborted(0, 9, 9))
    open_now = {
        producer_id: found.open_first_offset
        for producer_id, found in log.load_producers().items()
        if found.is_open
    }
    story: dict[int, int] = {}
    for header, said in Story(log).batches:
        if said is None:
            story.setdefault(header.producer_id, header.base_offset)
        else:
            story.pop(header.producer_id, None)
    assert open_now == story
    close(store)
