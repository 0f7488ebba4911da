"""Races of transactions with compaction and with where an answer begins and ends: nos. 32 and 34 of
transactions.md section 10. The disks of the simulation (disk.py) are never compacted and have no
index of aborted transactions, so these are over the real log in a folder of files, with the real
rounds, the table of producers, and what a client passes over. tests/unit/log has both by example
and at random."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from minikafka.client.consuming.isolation import aborted_batches
from minikafka.config import TopicConfig
from minikafka.core.replication.log_state import LogState
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.errors import InvalidProducerEpochError
from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from minikafka.records.build import BatchBuilder
from minikafka.records.header import is_control, parse_header, split
from minikafka.records.markers import markers_in
from minikafka.records.read import iter_records
from tests.unit.log.helpers import (
    CONFIG,
    TOPIC_ID,
    TP,
    QuickDisk,
    append,
    append_keyed,
    close,
    crashed_copy,
    open_store,
)
from tests.unit.log.test_compaction import COMPACTED, DAY_MS, NOW_MS, commit, compact, headers, roll
from tests.unit.log.test_transactions import at, end, entries

SMALL = replace(CONFIG, segment_bytes=250)
PID, OTHER = 1, 2


class Home:
    """A log in a folder: its broker is killed and started anew."""

    def __init__(self, folder: Path, config: TopicConfig) -> None:
        self._folder = folder
        self._config = config
        self._lives = 0
        self._directory = folder / "0"
        self.store: DiskLogStore
        self.log: DiskLog
        self._open()

    def _open(self) -> None:
        self.store = open_store(self._directory, disk=QuickDisk())
        self.log = self.store.open(TP, TOPIC_ID, self._config)

    def restart(self, *, snapshots: bool = True) -> None:
        """Killed; what it kept of producers may be lost."""
        self._lives += 1
        copy = crashed_copy(self._directory, self._folder / str(self._lives))
        self.close()
        self._directory = copy
        if not snapshots:
            for path in copy.glob("*/*.snapshot"):
                path.unlink()
        self._open()
        commit(self.log)

    def close(self) -> None:
        close(self.store)


@contextmanager
def home(config: TopicConfig = COMPACTED) -> Iterator[Home]:
    with TemporaryDirectory() as folder:
        found = Home(Path(folder), config)
        try:
            yield found
        finally:
            found.close()


def write(log: DiskLog, producer_id: int, *keys: bytes, epoch: int = 0, sequence: int = 0) -> None:
    """A batch with a record for each key, whose value is its offset."""
    builder = BatchBuilder()
    for index, key in enumerate(keys):
        builder.append(key, b"%d" % (log.log_end_offset + index), (), 1000)
    data = builder.build(
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        transactional=True,
    )
    append(log, at(log.log_end_offset, data))


def seen(log: DiskLog, offset: int = 0, max_bytes: int = 10**9) -> list[int]:
    """The offsets of all that a reader of committed records sees from `offset` on."""
    found: list[int] = []
    start = max(offset, log.log_start_offset)
    end_offset = stable_end(log)
    offset = start
    while offset < end_offset:
        found += [each for each in seen_at_once(log, offset, max_bytes) if each >= start]
        offset = split(log.read(offset, max_bytes, end_offset))[-1].next_offset
    return found


def seen_at_once(log: DiskLog, offset: int, max_bytes: int) -> list[int]:
    """As `seen`, of one answer."""
    end_offset = stable_end(log)
    data = log.read(offset, max_bytes, end_offset)
    told = split(data)
    hidden = aborted_batches(data, told, log.aborted(offset, max_bytes, end_offset))
    found: list[int] = []
    position = 0
    for header in told:
        batch = data[position : position + header.size_bytes]
        position += header.size_bytes
        if header.base_offset not in hidden and not is_control(header):
            found += [each.offset for each in iter_records(batch, header) if each.offset >= offset]
    return found


def stable_end(log: DiskLog) -> int:
    first = log.load_producers().unstable.first_open()
    return log.high_watermark if first is None else min(first, log.high_watermark)


def bootstrapped(log: DiskLog) -> LogState:
    """What a replica knows that fetches the whole log."""
    state = LogState(log.log_start_offset, log.log_start_offset, log.log_start_offset)
    data = log.read(log.log_start_offset, 10**9, log.log_end_offset)
    fetched = split(data)
    state.appended(fetched, markers_in([data], fetched))
    state.commit(state.log_end_offset)
    return state


def compacted_for_good(at_home: Home) -> None:
    """Two rounds, with more than a day between them, after which what is only kept for a while has
    gone."""
    for now_ms in (NOW_MS, NOW_MS + DAY_MS, NOW_MS + 2 * DAY_MS):
        append_keyed(at_home.log, (b"x", b"%d" % at_home.log.log_end_offset))
        roll(at_home.log)
        compact(at_home.store, now_ms)


# --- 32: compaction ------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshots", [True, False])
def test_race_32_an_aborted_and_then_a_committed_one_of_the_same_producer(snapshots):
    """Once the abort marker has gone, nothing may say that something was aborted: a reader would
    look for where it ended, and pass over what was committed."""
    with home() as at_home:
        log = at_home.log
        write(log, PID, b"a")  # 0
        end(log, PID, commits=False)  # 1
        write(log, PID, b"a", sequence=1)  # 2
        end(log, PID, commits=True)  # 3
        roll(log)
        assert seen(log) == [2]
        compacted_for_good(at_home)
        assert 1 not in [each.base_offset for each in headers(at_home.log) if each.record_count]
        at_home.restart(snapshots=snapshots)
        for max_bytes in (1, 10**9):
            assert [each for each in seen(at_home.log, 0, max_bytes) if each < 4] == [2]
        assert entries(at_home.log) == []


@pytest.mark.parametrize("snapshots", [True, False])
def test_race_32_a_round_ends_inside_of_a_segment(snapshots):
    """What was aborted above its end is there still, and is findable; a second round takes it."""
    with home() as at_home:
        log = at_home.log
        write(log, PID, b"a")  # 0
        write(log, OTHER, b"b")  # 1, still open: the round ends here
        write(log, PID, b"c", sequence=1)  # 2
        end(log, PID, commits=False)  # 3
        roll(log)
        assert compact(at_home.store) == 1
        assert log.clean_offset == 1
        at_home.restart(snapshots=snapshots)
        log = at_home.log
        end(log, OTHER, commits=True)  # 4
        commit(log)
        assert seen(log) == [1]
        assert seen(log, 2) == []
        compacted_for_good(at_home)
        at_home.restart(snapshots=snapshots)
        assert [each for each in seen(at_home.log) if each < 5] == [1]


def test_race_32_an_emptied_batch_without_its_marker_opens_nothing():
    """It begins an epoch, so it stays; its marker goes once nobody remembers the producer."""
    with home() as at_home:
        log = at_home.log
        write(log, PID, b"a")  # 0
        end(log, PID, commits=False)  # 1
        append_keyed(log, (b"x", b"1"))
        commit(log)
        for now_ms in (NOW_MS, NOW_MS + DAY_MS):
            log.expire_producers(now_ms, DAY_MS)
        assert log.load_producers().get(PID) is None
        compacted_for_good(at_home)
        of_producer = [each for each in headers(at_home.log) if each.producer_id == PID]
        assert [(each.base_offset, each.record_count) for each in of_producer] == [(0, 0)]
        at_home.restart(snapshots=False)
        log = at_home.log
        follower = bootstrapped(log)
        for table in (log.load_producers(), follower.producers):
            assert table.unstable.first() is None
        assert follower.last_stable_offset == log.log_end_offset
        write(log, PID, b"a", sequence=5)
        end(log, PID, commits=True)
        commit(log)
        assert log.log_end_offset - 2 in seen(log)
        compacted_for_good(at_home)
        assert at_home.log.clean_offset == at_home.log.log_end_offset, "no round stops there"


@pytest.mark.parametrize("how", ["restarted", "restarted without snapshots", "bootstrapped"])
def test_race_32_the_epoch_of_a_marker_outlives_compaction(how):
    """No. 25: what is late of an epoch that was fenced is refused by whoever leads then."""
    with home() as at_home:
        log = at_home.log
        write(log, PID, b"a")
        end(log, PID, commits=False, producer_epoch=4)
        roll(log)
        compacted_for_good(at_home)
        at_home.restart(snapshots=how == "restarted")
        table: ProducerStateTable
        if how == "bootstrapped":
            table = bootstrapped(at_home.log).producers
        else:
            table = at_home.log.load_producers()
        known = table.get(PID)
        assert known is not None
        assert (known.producer_epoch, known.coordinator_epoch) == (4, 0)
        builder = BatchBuilder()
        builder.append(b"a", b"late", (), 1000)
        late = builder.build(producer_id=PID, producer_epoch=3, base_sequence=0, transactional=True)
        with pytest.raises(InvalidProducerEpochError):
            table.check(parse_header(late))


# --- 34: answers ---------------------------------------------------------------------------------


def test_race_34_answers_begin_and_end_anywhere():
    """Before a marker, after one, inside of a batch, in a segment of markers only; and with two
    aborted transactions of a producer and a committed one of the same in it."""
    with home(SMALL) as at_home:
        log = at_home.log
        write(log, PID, b"a", b"b", b"c")  # 0 to 2
        write(log, OTHER, b"d", b"e")  # 3, 4
        end(log, PID, commits=False)  # 5
        write(log, PID, b"f", sequence=3)  # 6
        end(log, PID, commits=False)  # 7
        write(log, PID, b"g", b"h", sequence=4)  # 8, 9
        end(log, PID, commits=True)  # 10
        for producer_id in range(10, 14):
            end(log, producer_id, commits=False)  # 11 to 14
        end(log, OTHER, commits=False)  # 15
        write(log, OTHER, b"i", sequence=2)  # 16
        end(log, OTHER, commits=True)  # 17
        commit(log)
        assert _has_a_segment_of_markers_only(log)
        for offset in range(log.log_end_offset):
            expected = [each for each in (8, 9, 16) if each >= offset]
            for max_bytes in (1, 100, 150, 200, 300, 400, 10**9):
                assert seen(log, offset, max_bytes) == expected, (offset, max_bytes)
        at_home.restart(snapshots=False)
        assert seen(at_home.log) == [8, 9, 16]


def _has_a_segment_of_markers_only(log: DiskLog) -> bool:
    bases = sorted(int(path.stem) for path in log.directory.glob("*.log"))
    found = headers(log)
    return any(
        all(is_control(each) for each in found if base <= each.base_offset < next_base)
        for base, next_base in pairwise(bases)
    )
