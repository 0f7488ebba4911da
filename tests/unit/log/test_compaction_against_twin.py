"""Compaction against a deliberately naive twin: a list of all records that were ever appended.

Hypothesis makes the histories: appends, commits, rolls, rounds of compaction, crashes, restarts,
cuts of what is not committed, and a follower that copies the log and compacts its own in its own
time. After each step each log must hold what the twin says it must, and nothing besides.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from minikafka.core.replication.epochs import EpochCache
from minikafka.log import checkpoints
from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from minikafka.model import EpochEntry
from minikafka.records.compression import Codec
from minikafka.records.header import split, verify_crc
from minikafka.records.read import Record, iter_records
from tests.helpers.amounts import amount
from tests.unit.log.helpers import (
    CONFIG,
    TOPIC_ID,
    TP,
    QuickDisk,
    append,
    keyed,
    open_store,
)

RETENTION_MS = 3000
COMPACTED = replace(
    CONFIG,
    cleanup_policy="compact",
    segment_bytes=400,
    min_cleanable_dirty_ratio=0.0,
    delete_retention_ms=RETENTION_MS,
)
MAX_OFFSET = 300
KEYS = [b"a", b"b", b"c", b"d", b"e", b"longer key"]


class Written(NamedTuple):
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


class Disk:
    """A log, and the directory that it is in."""

    def __init__(self, root: Path, map_bytes: int) -> None:
        self.root = root
        self.map_bytes = map_bytes
        self.generation = 0
        self.open()

    @property
    def directory(self) -> Path:
        return self.root / str(self.generation)

    def open(self) -> None:
        self.store: DiskLogStore = open_store(
            self.directory, COMPACTED, disk=QuickDisk(), cleaner_map_bytes=self.map_bytes
        )
        self.log: DiskLog = self.store.open(TP, TOPIC_ID, COMPACTED)

    def records(self, offset: int) -> list[Record]:
        """What a consumer gets that begins at `offset` and has all the patience."""
        found: list[Record] = []
        at, end = offset, self.log.log_end_offset
        while at < end:
            data = self.log.read(at, 120, end)
            position = 0
            for header in split(data):
                verify_crc(data, position, header)
                batch = data[position : position + header.size_bytes]
                found += [
                    record for record in iter_records(batch, header) if record.offset >= offset
                ]
                position += header.size_bytes
                assert header.next_offset > at
                at = header.next_offset
            if not data:
                break
        return found


class CompactionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="minikafka-compaction-"))
        self.loop = asyncio.new_event_loop()
        self.written: dict[int, Written] = {}
        self.end = self.high_watermark = self.copied = 0
        self.now_ms = 1_000_000
        self.leader_epoch = 0
        self.epochs = EpochCache()
        self.sequences: dict[int, list[tuple[int, int]]] = {}  # producer: (end offset, sequence)

    @initialize(map_bytes=st.sampled_from([1, 700, 10**6]))
    def begin(self, map_bytes: int) -> None:
        self.leader = Disk(self.root / "leader", map_bytes)
        self.follower = Disk(self.root / "follower", 10**6)

    def teardown(self) -> None:
        if hasattr(self, "leader"):
            for disk in (self.leader, self.follower):
                self.loop.run_until_complete(disk.store.close(False))
        self.loop.close()
        shutil.rmtree(self.root)

    # --- the leader ------------------------------------------------------------------------------

    @rule(
        pairs=st.lists(
            st.tuples(st.sampled_from(KEYS) | st.none(), st.sampled_from([None, b"x", b"y" * 30])),
            min_size=1,
            max_size=4,
        ),
        codec=st.sampled_from([Codec.NONE, Codec.GZIP]),
        producer_id=st.integers(-1, 2),
        bump=st.booleans(),
        repeat=st.integers(1, 5),
    )
    def append(
        self,
        pairs: list[tuple[bytes | None, bytes | None]],
        codec: Codec,
        producer_id: int,
        bump: bool,
        repeat: int,
    ) -> None:
        self.leader_epoch += bump
        for _ in range(repeat):
            self._append_batch(pairs, codec, producer_id)

    @rule(choices=st.lists(st.integers(0, 17), min_size=8, max_size=30), bump=st.booleans())
    def append_many(self, choices: list[int], bump: bool) -> None:
        """Lone records, as coordinators write them."""
        self.leader_epoch += bump
        values = (None, b"x", b"y" * 30)
        for choice in choices:
            pair = (KEYS[choice % 6], values[choice // 6])
            self._append_batch([pair], Codec.NONE, choice % 4 - 1)

    def _append_batch(
        self, pairs: list[tuple[bytes | None, bytes | None]], codec: Codec, producer_id: int
    ) -> None:
        if self.end <= MAX_OFFSET:
            sequence = self.sequences.get(producer_id, [(0, 0)])[-1][1]
            data = keyed(
                self.end,
                *pairs,
                leader_epoch=self.leader_epoch,
                timestamp_ms=self.now_ms,
                codec=codec,
                producer_id=producer_id,
                base_sequence=-1 if producer_id < 0 else sequence,
            )
            if self.epochs.assign(self.leader_epoch, self.end):
                self.leader.log.store_epochs(self.epochs.entries())
            append(self.leader.log, data)
            for index, (key, value) in enumerate(pairs):
                self.written[self.end + index] = Written(key, value, self.now_ms + index)
            self.end += len(pairs)
            if producer_id >= 0:
                batches = self.sequences.setdefault(producer_id, [(0, 0)])
                batches.append((self.end, sequence + len(pairs)))

    @rule(share=st.sampled_from([0.5, 1.0, 1.0]))
    def commit(self, share: float) -> None:
        self.high_watermark += int((self.end - self.high_watermark) * share)
        self.leader.log.set_high_watermark(self.high_watermark)
        self.loop.run_until_complete(self.leader.log.flush())

    @rule()
    def roll(self) -> None:
        if self.leader.log._active.size_bytes:
            self.leader.log._roll()

    @rule(share=st.floats(0, 1))
    def cut_what_is_not_committed(self, share: float) -> None:
        offset = self.high_watermark + int((self.end - self.high_watermark) * share)
        self.leader.log.truncate_to(offset)
        end = self.leader.log.log_end_offset
        assert end <= offset
        self.end = end
        self.high_watermark = min(self.high_watermark, end)  # it was in the middle of a batch
        self.copied = min(self.copied, end)
        self.written = {at: record for at, record in self.written.items() if at < end}
        self.epochs.truncate_from_end(end)
        for batches in self.sequences.values():
            batches[:] = [batch for batch in batches if batch[0] <= end]

    @rule(
        after_ms=st.sampled_from([0, 1, RETENTION_MS]),
        rounds=st.integers(1, 3),
        all_of_it=st.sampled_from([True, True, False]),
        choices=st.lists(st.integers(0, 17), max_size=20),
    )
    def compact(self, after_ms: int, rounds: int, all_of_it: bool, choices: list[int]) -> None:
        self.now_ms += after_ms
        if all_of_it:
            self.append_many(choices, False)
            self.roll()
            self.commit(1.0)
        for _ in range(rounds):
            self.loop.run_until_complete(self.leader.store.compact(self.now_ms))

    # --- the follower ----------------------------------------------------------------------------

    @rule(max_bytes=st.sampled_from([1, 300, 10**6]))
    def copy(self, max_bytes: int) -> None:
        log = self.follower.log
        while log.log_end_offset < self.high_watermark:
            data = self.leader.log.read(log.log_end_offset, max_bytes, self.high_watermark)
            if not data:
                break
            headers = split(data)
            epochs = EpochCache(log.recovered().epochs)
            for header in headers:
                epochs.assign(header.leader_epoch, header.base_offset)
            log.append([data], headers)
            log.store_epochs(epochs.entries())
        self.copied = log.log_end_offset
        log.set_high_watermark(self.copied)
        self.loop.run_until_complete(log.flush())

    @rule(after_ms=st.sampled_from([0, RETENTION_MS]))
    def compact_the_follower(self, after_ms: int) -> None:
        self.now_ms += after_ms
        self.copy(10**6)
        if self.follower.log._active.size_bytes:
            self.follower.log._roll()
        self.loop.run_until_complete(self.follower.log.flush())
        while self.loop.run_until_complete(self.follower.store.compact(self.now_ms)):
            pass

    @rule()
    def the_follower_loses_its_disk(self) -> None:
        self.follower.log.restart_at(0)
        self.copied = 0

    # --- both ------------------------------------------------------------------------------------

    @rule(of_leader=st.booleans(), forget=st.booleans())
    def crash(self, of_leader: bool, forget: bool) -> None:
        disk = self.leader if of_leader else self.follower
        old = disk.directory
        disk.generation += 1
        shutil.copytree(old, disk.directory)
        self.loop.run_until_complete(disk.store.close(False))
        shutil.rmtree(old)
        if forget:
            (disk.directory / str(TP) / checkpoints.LEADER_EPOCHS).unlink(missing_ok=True)
            (disk.directory / checkpoints.RECOVERY_POINTS).unlink()
        self._reopen(disk)

    @rule(of_leader=st.booleans())
    def restart(self, of_leader: bool) -> None:
        disk = self.leader if of_leader else self.follower
        self.loop.run_until_complete(disk.store.close(True))
        self._reopen(disk)

    def _reopen(self, disk: Disk) -> None:
        disk.open()
        disk.log.set_high_watermark(
            self.high_watermark if disk is self.leader else disk.log.log_end_offset
        )

    # --- what must hold --------------------------------------------------------------------------

    @invariant()
    def each_log_has_what_it_must_have_and_nothing_else(self) -> None:
        for disk, end, committed in (
            (self.leader, self.end, self.high_watermark),
            (self.follower, self.copied, self.copied),
        ):
            assert disk.log.log_end_offset == end
            found = disk.records(0)
            offsets = [record.offset for record in found]
            assert offsets == sorted(set(offsets))
            for record in found:
                expected = self.written[record.offset]
                assert Written(record.key, record.value, record.timestamp_ms) == expected
            assert set(range(committed, end)) <= set(offsets), "not committed yet"
            self.check_keys(set(offsets), committed)

    def check_keys(self, offsets: set[int], committed: int) -> None:
        newest = {self.written[at].key: at for at in sorted(self.written) if at < committed}
        for key, at in newest.items():
            if key is None or at in offsets:
                continue
            assert self.written[at].value is None, f"the newest value of {key!r}, at {at}, is gone"
            older = [each for each in offsets if each < at and self.written[each].key == key]
            assert older == [], f"{key!r} was deleted at {at} and is back"

    @invariant()
    def a_consumer_sees_the_same_wherever_it_begins(self) -> None:
        for disk in (self.leader, self.follower):
            everything = disk.records(0)
            for offset in range(0, disk.log.log_end_offset + 1, 11):
                expected = [record for record in everything if record.offset >= offset]
                assert disk.records(offset) == expected

    @invariant()
    def segments_join_and_epochs_are_known(self) -> None:
        for disk, end in ((self.leader, self.end), (self.follower, self.copied)):
            bases = [segment.base_offset for segment in disk.log._segments]
            assert [segment.next_offset for segment in disk.log.closed_segments()] == bases[1:]
            expected = EpochCache(self.epochs.entries())
            expected.truncate_from_end(end)
            found: list[EpochEntry] = list(disk.log.recovered().epochs)
            assert found == expected.entries()

    @invariant()
    def producers_go_on_where_they_were(self) -> None:
        for disk, end in ((self.leader, self.end), (self.follower, self.copied)):
            last = {
                producer_id: state.batches[-1].last_sequence + 1
                for producer_id, state in disk.log.load_producers().items()
            }
            expected = {
                producer_id: [sequence for at, sequence in batches if at <= end][-1]
                for producer_id, batches in self.sequences.items()
            }
            assert last == {each: sequence for each, sequence in expected.items() if sequence}

    @invariant()
    def nothing_lies_about(self) -> None:
        for disk in (self.leader, self.follower):
            names = [path.name for path in disk.log.directory.iterdir()]
            assert not [name for name in names if name.endswith((".cleaned", ".swap"))]
            files = disk.log.directory.glob("*.log")
            assert disk.log.size_bytes == sum(path.stat().st_size for path in files)


CompactionMachine.TestCase.settings = settings(
    max_examples=amount(25),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestCompactionAgainstTwin = CompactionMachine.TestCase
