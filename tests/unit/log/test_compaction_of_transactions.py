"""Compaction and transactions: what stays of markers and of the index of aborted transactions, so
that a reader of committed records sees the same before and after each round."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minikafka.client.consuming.isolation import aborted_batches
from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from minikafka.records.header import is_control, split
from minikafka.records.read import iter_records
from tests.helpers.amounts import amount
from tests.unit.log.helpers import TOPIC_ID, TP, QuickDisk, append, close, crashed_copy, keyed
from tests.unit.log.test_compaction import (
    COMPACTED,
    DAY_MS,
    NOW_MS,
    append_keyed,
    commit,
    compact,
    headers,
    open_store,
    roll,
)
from tests.unit.log.test_compaction_crashes import Photographer
from tests.unit.log.test_transactions import aborted, end, entries, indexes

SMALL = replace(COMPACTED, segment_bytes=300)
MEDIUM = replace(COMPACTED, segment_bytes=1000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskLogStore]:
    store = open_store(tmp_path / "data")
    yield store
    close(store)


@pytest.fixture
def log(store: DiskLogStore) -> DiskLog:
    return store.open(TP, TOPIC_ID, COMPACTED)


def write(log: DiskLog, producer_id: int, key: bytes, sequence: int = 0) -> None:
    append(
        log,
        keyed(
            log.log_end_offset,
            (key, b"%d of %d" % (log.log_end_offset, producer_id)),
            producer_id=producer_id,
            base_sequence=sequence,
            transactional=True,
        ),
    )


def committed(log: DiskLog, offset: int = 0, max_bytes: int = 10**9) -> list[tuple[int, bytes]]:
    """(offset, value) of all that a reader of committed records sees from `offset` on."""
    seen: list[tuple[int, bytes]] = []
    start, end_offset = max(offset, log.log_start_offset), stable_end(log)
    while offset < end_offset:
        data = log.read(offset, max_bytes, end_offset)
        if not data:
            break
        found = split(data)
        hidden = aborted_batches(data, found, log.aborted(offset, max_bytes, end_offset))
        position = 0
        for header in found:
            if header.base_offset not in hidden and not is_control(header):
                batch = data[position : position + header.size_bytes]
                seen += [(r.offset, r.value or b"") for r in iter_records(batch, header)]
            position += header.size_bytes
        offset = found[-1].next_offset
    return [each for each in seen if each[0] >= start]


def stable_end(log: DiskLog) -> int:
    first = log.load_producers().unstable.first_open()
    return log.high_watermark if first is None else min(first, log.high_watermark)


def newest(seen: list[tuple[int, bytes]], keys: dict[int, bytes]) -> dict[bytes, bytes]:
    return {keys[offset]: value for offset, value in seen if offset in keys}


def test_the_entry_of_a_marker_below_the_end_of_a_round_goes(
    store: DiskLogStore, log: DiskLog
) -> None:
    write(log, 1, b"a")
    end(log, 1, commits=False)
    write(log, 1, b"a", 1)
    end(log, 1, commits=True)
    roll(log)
    assert aborted(log) == [(1, 0)]
    assert compact(store) == 1
    assert (indexes(log), aborted(log)) == ([], [])
    assert committed(log) == [(2, b"2 of 1")]
    compact(store, NOW_MS + DAY_MS)
    assert committed(log) == [(2, b"2 of 1")]


def test_the_entry_of_a_marker_above_the_end_of_a_round_stays(
    store: DiskLogStore, log: DiskLog
) -> None:
    write(log, 1, b"a")  # 0, taken: its marker is known
    write(log, 2, b"b")  # 1, still open: the round ends here
    write(log, 1, b"c", 1)  # 2
    end(log, 1, commits=False)  # 3
    roll(log)
    assert compact(store) == 1
    assert log.clean_offset == 1
    assert [entry.last_offset for entry in entries(log)] == [3]
    end(log, 2, commits=True)
    commit(log)
    assert committed(log) == [(1, b"1 of 2")]
    roll(log)
    assert compact(store) == 1
    assert entries(log) == []
    assert committed(log) == [(1, b"1 of 2")]


def test_an_emptied_batch_that_lost_its_marker_stops_no_round(
    store: DiskLogStore, log: DiskLog
) -> None:
    write(log, 1, b"a")
    end(log, 1, commits=False)
    write(log, 1, b"a", 1)
    end(log, 1, commits=False)
    append_keyed(log, (b"x", b"1"))
    roll(log)
    compact(store)
    append_keyed(log, *[(b"x", b"%d" % number) for number in range(8)])
    roll(log)
    compact(store, NOW_MS + DAY_MS)
    emptied = [h for h in headers(log) if h.producer_id == 1 and not h.record_count]
    assert [header.base_offset for header in emptied] == [0, 2], "first of the epoch, last of it"
    log.clean_offset = 0  # its checkpoint was lost
    append_keyed(log, (b"x", b"last"))
    roll(log)
    compact(store, NOW_MS + DAY_MS)
    assert log.clean_offset == log.log_end_offset


def test_the_last_marker_of_a_producer_outlives_its_time(store: DiskLogStore, log: DiskLog) -> None:
    """Or its epoch would fall."""
    write(log, 1, b"a")
    end(log, 1, commits=False, producer_epoch=4)
    append_keyed(log, (b"x", b"1"))
    roll(log)
    compact(store)
    append_keyed(log, (b"x", b"2"), (b"y", b"3"))
    roll(log)
    compact(store, NOW_MS + DAY_MS)
    [control] = [header for header in headers(log) if is_control(header)]
    assert (control.base_offset, control.record_count) == (1, 1)
    expected = log.load_producers()
    for path in log.directory.glob("*.snapshot"):
        path.unlink()
    log.truncate_to(log.log_end_offset - 1)
    table = dict(log.load_producers().items())
    assert table[1].producer_epoch == 4
    assert table[1].coordinator_epoch == dict(expected.items())[1].coordinator_epoch == 0


def test_the_rest_of_an_aborted_batch_goes_where_the_log_begins_inside_of_it(
    store: DiskLogStore, log: DiskLog
) -> None:
    append(
        log,
        keyed(
            0, (b"a", b"1"), (b"b", b"2"), (b"c", b"3"),
            producer_id=1, base_sequence=0, transactional=True,
        ),
    )  # fmt: skip
    end(log, 1, commits=False)
    roll(log)
    log.advance_log_start(1)
    assert committed(log, 1) == []
    assert compact(store) == 1
    assert committed(log, 1) == []


# --- crashes -------------------------------------------------------------------------------------


class Killed(NamedTuple):
    """A round, photographed before each of its steps; what a reader saw before it."""

    photos: list[tuple[str, Path]]
    keys: dict[int, bytes]
    expected: dict[bytes, bytes]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    root = tmp_path_factory.mktemp("compaction")
    disk = Photographer(root / "data", root / "album")
    store = open_store(root / "data", disk=disk)
    log = store.open(TP, TOPIC_ID, MEDIUM)
    keys: dict[int, bytes] = {}
    for number in range(12):
        keys[log.log_end_offset] = b"k%d" % (number % 3)
        write(log, number % 2, b"k%d" % (number % 3), number // 2)
        if number == 4:
            write(log, 9, b"open")  # the round ends here, inside a segment
        if number % 3 == 2:
            end(log, 0, commits=number % 2 == 0)
            end(log, 1, commits=number % 2 == 1)
    end(log, 0, commits=False)
    roll(log)
    expected = newest(committed(log), keys)
    assert len(indexes(log)) > 1
    disk.on = True
    assert compact(store) >= 1
    disk.on = False
    assert entries(log), "some stay"
    assert newest(committed(log), keys) == expected
    close(store)
    return Killed(disk.photos, keys, expected)


def test_whenever_a_round_is_killed_a_reader_sees_the_same(killed: Killed) -> None:
    assert any(".txnindex.cleaned to" in step for step, _ in killed.photos)
    for step, directory in killed.photos:
        store = open_store(directory)
        log = store.open(TP, TOPIC_ID, MEDIUM)
        log.set_high_watermark(log.log_end_offset)
        for max_bytes in (1, 10**9):
            assert newest(committed(log, 0, max_bytes), killed.keys) == killed.expected, step
        asyncio.run(log.flush())
        compact(store)
        assert newest(committed(log), killed.keys) == killed.expected, step
        close(store)


# --- against what was written --------------------------------------------------------------------

ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["write", "write", "write", "plain", "abort", "commit", "compact", "later", "crash"]
        ),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    max_size=40,
)


@settings(
    max_examples=amount(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(ACTS)
def test_whatever_is_compacted_a_reader_sees_the_newest_committed_record_of_each_key(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, int, int]]
) -> None:
    directory = tmp_path_factory.mktemp("log") / "data"
    store = open_store(directory, disk=QuickDisk())
    log = store.open(TP, TOPIC_ID, SMALL)
    now_ms = NOW_MS
    sequences = {0: 0, 1: 0, 2: 0}
    open_: dict[int, list[tuple[int, bytes]]] = {}
    seen: list[tuple[int, bytes]] = []  # offset, key of what is committed
    for act, producer_id, number in acts:
        key = b"k%d" % number
        if act == "write":
            open_.setdefault(producer_id, []).append((log.log_end_offset, key))
            write(log, producer_id, key, sequences[producer_id])
            sequences[producer_id] += 1
        elif act == "plain":
            seen.append((log.log_end_offset, key))
            append_keyed(log, (key, b"%d" % log.log_end_offset))
        elif act in ("abort", "commit"):
            records = open_.pop(producer_id, [])
            end(log, producer_id, commits=act == "commit")
            if act == "commit":
                seen += records
        elif act == "crash":
            copy = crashed_copy(directory, directory.parent / f"{directory.name}+")
            close(store)
            directory = copy
            store = open_store(directory, disk=QuickDisk())
            log = store.open(TP, TOPIC_ID, SMALL)
            commit(log)
        else:
            now_ms += 2 * DAY_MS if act == "later" else 0
            roll(log)
            compact(store, now_ms)
    commit(log)
    end_offset = stable_end(log)
    expected = {key: offset for offset, key in sorted(seen) if offset < end_offset}
    keys = dict(seen)
    found = [offset for offset, _ in committed(log)]
    assert set(found) <= set(keys), "nothing that was aborted"
    latest: dict[bytes, int] = {}
    for offset in found:
        latest[keys[offset]] = offset
    assert {k: o for k, o in latest.items() if k in expected} == expected
    close(store)
