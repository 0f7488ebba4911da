"""Disks of the simulation: the ports `LogStore` and `PartitionLog` in memory.

What was written is in the page cache: a killed process loses nothing of it, a host that goes down
loses what was not flushed, or any part of that. Checkpoints of offsets are written now and then, so
that a restart finds an older high watermark. Identity and the rule of what is dirty are those of
`log/meta.py`. A full disk refuses to append, and the log is fenced from then on
(`partition_log.py`).

A `Batch` knows the `chain` of its log up to its end, a hash of all that lies there: two logs whose
chains agree at an offset are equal below it. That makes every comparison of logs a comparison of
two numbers.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from minikafka.api.pieces import Piece
from minikafka.broker.ports import Buffer, RecoveredLog
from minikafka.config import TopicConfig
from minikafka.core.replication.epochs import EpochCache
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.errors import KafkaStorageError
from minikafka.log.producers import take_marker
from minikafka.log.transaction_index import AbortedEntry
from minikafka.model import (
    AbortedTransaction,
    BatchHeader,
    EndMarker,
    EpochEntry,
    TopicPartition,
)
from minikafka.records.header import split
from minikafka.records.markers import markers_in
from tests.simulation.strangers import check_readable

if TYPE_CHECKING:
    from tests.simulation.world import BrokerProcess, Host

SEGMENT_BATCHES = 5
FLUSH_S = (0.0005, 0.004)


class Batch(NamedTuple):
    """`chain`: of everything up to and with this batch. Of a control batch, `marker` is what it
    says, and `aborted` what the transaction index does if it aborts anything."""

    header: BatchHeader
    data: bytes
    chain: int
    marker: EndMarker | None = None
    aborted: AbortedEntry | None = None


def chain_after(chain: int, header: BatchHeader) -> int:
    """The chain of a log that goes on with this batch."""
    return hash((chain, header.base_offset, header.leader_epoch, header.crc))


@dataclass
class StoredLog:
    """One log as it lies on a disk. `flushed`: what a power failure leaves; `chains`: offset (the
    start, or the end of a batch) to chain."""

    topic_partition: TopicPartition
    topic_id: str
    batches: list[Batch] = field(default_factory=list)
    start: int = 0
    base: int = 0  # where the first segment begins: at or below `start`
    end: int = 0
    chains: dict[int, int] = field(default_factory=lambda: {0: 0})
    epochs: tuple[EpochEntry, ...] = ()
    high_watermark: int = 0  # as the process that has it knows it
    checkpointed_high_watermark: int = 0
    checkpointed_start: int = 0
    flushed: list[Batch] = field(default_factory=list)
    flushed_base: int = 0
    snapshots: dict[int, ProducerStateTable] = field(default_factory=dict)
    rolls: list[int] = field(default_factory=list)  # where later segments begin

    def index_of(self, offset: int) -> int:
        """Of the batch that holds `offset`, or of the first one after it."""
        return bisect_right(self.batches, offset, key=lambda batch: batch.header.next_offset)

    def chain_at(self, offset: int) -> int | None:
        return self.chains.get(offset)

    def make_cuts_durable(self) -> None:
        """What was cut does not come back after a power failure: a file system writes its changes
        of sizes in order, so the fsync of a checkpoint takes those before it along."""
        flushed = self.flushed
        while flushed and self.chains.get(flushed[-1].header.next_offset) != flushed[-1].chain:
            flushed.pop()
        if self.flushed_base < self.base:
            self.flushed_base = self.base
            self.flushed = [each for each in flushed if each.header.base_offset >= self.base]

    def complete_epochs(self) -> None:
        """What was deleted may be back after a kill, and lack its epochs (`log/recovery.py`)."""
        first = self.epochs[0].start_offset if self.epochs else self.end
        if self.start < min(first, self.end):
            epochs = EpochCache()
            for batch in self.batches:
                if epochs.latest_epoch != batch.header.leader_epoch:
                    epochs.assign(batch.header.leader_epoch, batch.header.base_offset)
            self.epochs = tuple(epochs.entries())

    def rebuild(self) -> None:
        """End, chains and epochs anew, from batches and `base`, after a power failure."""
        chain = self.chains.get(self.base, 0)
        self.chains = {at: known for at, known in self.chains.items() if at <= self.base}
        self.chains[self.base] = chain
        self.end = self.base
        kept: list[Batch] = []
        epochs = EpochCache(self.epochs)
        for batch in self.batches:
            header = batch.header
            self.end = header.next_offset
            chain = chain_after(chain, header)
            self.chains[self.end] = chain
            kept.append(batch._replace(chain=chain))
            if epochs.epoch_at(header.base_offset) != header.leader_epoch:
                epochs.truncate_from_end(header.base_offset)
                if epochs.latest_epoch != header.leader_epoch:
                    epochs.assign(header.leader_epoch, header.base_offset)
        self.batches = kept
        epochs.truncate_from_end(self.end)
        self.epochs = tuple(epochs.entries())
        self.start = max(self.base, min(self.checkpointed_start, self.end))
        self.rolls = [at for at in self.rolls if at <= self.end]
        self.snapshots = {at: table for at, table in self.snapshots.items() if at <= self.end}


class SimulatedLog:
    """PartitionLog: a stored log, in the hands of one process."""

    def __init__(self, store: SimulatedLogStore, stored: StoredLog, config: TopicConfig) -> None:
        self.store = store
        self.stored = stored
        self.topic_partition = stored.topic_partition
        self.topic_id = stored.topic_id
        self.config = config
        self.failure: str | None = None
        self._durable_offset = 0
        self._producers: ProducerStateTable | None = None

    def __repr__(self) -> str:
        return f"log {self.topic_partition} of {self.store.host.name}"

    @property
    def log_start_offset(self) -> int:
        return self.stored.start

    @property
    def log_end_offset(self) -> int:
        return self.stored.end

    @property
    def high_watermark(self) -> int:
        return self.stored.high_watermark

    @property
    def size_bytes(self) -> int:
        return sum(len(batch.data) for batch in self.stored.batches)

    def recovered(self) -> RecoveredLog:
        stored = self.stored
        return RecoveredLog(
            stored.start, stored.end, stored.high_watermark, stored.epochs, self.load_producers()
        )

    def configure(self, config: TopicConfig) -> None:
        self.config = config

    # --- append and read -------------------------------------------------------------------------

    def append(self, buffers: Sequence[Buffer], headers: Sequence[BatchHeader]) -> None:
        self._check_usable()
        stored = self.stored
        assert headers[0].base_offset == stored.end, (headers[0], self)
        if self.store.disk.full:
            self._fence("there is no space left")
        data = buffers[0] if len(buffers) == 1 else b"".join(buffers)
        table = self._producer_table()
        markers = markers_in([data], headers)
        position = 0
        for header in headers:
            if self._roll_is_due():
                stored.rolls.append(header.base_offset)
                stored.snapshots[header.base_offset] = self._snapshot()
            size_bytes = header.size_bytes
            whole = bytes(data) if len(headers) == 1 else bytes(data[position:][:size_bytes])
            chain = chain_after(stored.chains[stored.end], header)
            marker = markers.get(header.base_offset)
            aborted = take_marker(table, header, marker) if header.producer_id >= 0 else None
            stored.batches.append(Batch(header, whole, chain, marker, aborted))
            stored.end = header.next_offset
            stored.chains[stored.end] = chain
            position += size_bytes
            self.store.ledger.on_appended(self, header, chain)
            check_readable(self.store.ledger.world, self, header, whole)

    def _roll_is_due(self) -> bool:
        begin = self.stored.rolls[-1] if self.stored.rolls else self.stored.base
        batches = self.stored.batches
        behind = len(batches) - SEGMENT_BATCHES
        return behind >= 0 and batches[behind].header.base_offset >= begin

    def read(self, offset: int, max_bytes: int, end_offset: int) -> bytes:
        stored = self.stored
        parts: list[bytes] = []
        batches = stored.batches
        for index in range(stored.index_of(offset), len(batches)):
            batch = batches[index]
            if batch.header.next_offset > end_offset:
                break
            if parts and len(batch.data) > max_bytes:
                break
            parts.append(batch.data)
            max_bytes -= len(batch.data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pieces(
        self, offset: int, max_bytes: int, end_offset: int, lend_from_bytes: int, on_failed: object
    ) -> list[Piece]:
        """There are no files here that could be sent."""
        return [self.read(offset, max_bytes, end_offset)]

    def size_of(self, offset: int, max_bytes: int, end_offset: int) -> int:
        return len(self.read(offset, max_bytes, end_offset))

    def aborted(self, offset: int, max_bytes: int, end_offset: int) -> Sequence[AbortedTransaction]:
        data = self.read(offset, max_bytes, end_offset)
        read_end = split(data)[-1].next_offset if data else offset
        found = [
            AbortedTransaction(batch.aborted.producer_id, batch.aborted.first_offset)
            for batch in self.stored.batches[self.stored.index_of(offset) :]
            if batch.aborted is not None and batch.aborted.first_offset < read_end
        ]
        return sorted(found, key=lambda each: each.first_offset)

    # --- truncation ------------------------------------------------------------------------------

    def truncate_to(self, offset: int) -> None:
        self._check_usable()
        stored = self.stored
        if offset < stored.base:
            self.restart_at(offset)
            return
        self.store.ledger.on_truncating(self, offset)
        if offset < stored.end:
            keep = bisect_right(stored.batches, offset, key=lambda batch: batch.header.next_offset)
            for batch in stored.batches[keep:]:
                del stored.chains[batch.header.next_offset]
            del stored.batches[keep:]
            stored.end = stored.batches[-1].header.next_offset if stored.batches else stored.base
            stored.rolls = [at for at in stored.rolls if at <= stored.end]
            stored.snapshots = {at: t for at, t in stored.snapshots.items() if at <= stored.end}
            stored.high_watermark = min(stored.high_watermark, stored.end)
            stored.start = min(stored.start, stored.end)
            self._durable_offset = min(self._durable_offset, stored.end)
            self._lower_checkpoints()
            self._producers = None
            if not stored.batches:
                stored.chains = {stored.base: self.store.ledger.chain_of_emptied(stored)}
        cache = EpochCache(stored.epochs)
        if cache.truncate_from_end(min(offset, stored.end)):
            stored.epochs = tuple(cache.entries())
        self.store.ledger.on_truncated(self)

    def restart_at(self, offset: int) -> None:
        self._check_usable()
        stored = self.stored
        self.store.ledger.on_restarting(self, offset)
        stored.batches.clear()
        stored.flushed = []
        stored.start = stored.base = stored.end = stored.flushed_base = offset
        stored.chains = {offset: self.store.ledger.chain_of(stored, offset)}
        stored.rolls, stored.snapshots = [], {}
        stored.high_watermark = offset
        stored.epochs = ()
        self._durable_offset = offset
        self._producers = None
        self._lower_checkpoints()
        self.store.ledger.on_truncated(self)

    def _lower_checkpoints(self) -> None:
        """The store rewrites its checkpoints when a log falls below them (`on_lowered`)."""
        stored = self.stored
        if stored.checkpointed_high_watermark > stored.end:
            self.store.write_checkpoints()
        stored.checkpointed_start = min(stored.checkpointed_start, stored.end)

    # --- epochs and producers --------------------------------------------------------------------

    def store_epochs(self, entries: Sequence[EpochEntry]) -> None:
        self._check_usable()
        self.stored.epochs = tuple(entries)

    def load_producers(self) -> ProducerStateTable:
        return self._producer_table().copied()

    def _snapshot(self) -> ProducerStateTable:
        table = self._producer_table()
        table.unstable.settle(self.high_watermark)
        return table.copied()

    def _producer_table(self) -> ProducerStateTable:
        """From the newest snapshot on."""
        if self._producers is None:
            stored, table = self.stored, ProducerStateTable()
            at = max(stored.snapshots, default=-1)
            if at >= 0:
                table = stored.snapshots[at].copied()
            first = bisect_left(stored.batches, at, key=lambda batch: batch.header.base_offset)
            for batch in stored.batches[first:]:
                table.update(batch.header, batch.marker)
            self._producers = table
        return self._producers

    # --- offsets and retention -------------------------------------------------------------------

    def set_high_watermark(self, offset: int) -> None:
        self.store.ledger.on_high_watermark(self, offset)
        self.stored.high_watermark = offset

    def advance_log_start(self, offset: int) -> None:
        stored = self.stored
        if offset <= stored.start:
            return
        self.store.ledger.on_log_start(self, offset)
        stored.start = offset
        stored.high_watermark = max(stored.high_watermark, offset)
        self._drop_segments(sum(1 for at in stored.rolls if at <= offset))

    def retain(self, now_timestamp_ms: int) -> int:
        """By age, segment by segment, with the decision of `log/retention.py`."""
        self._check_usable()
        retention_ms, stored = self.config.retention_ms, self.stored
        count = 0
        if retention_ms >= 0:
            for at in stored.rolls:
                last = bisect_left(stored.batches, at, key=lambda batch: batch.header.base_offset)
                newest_ms = max(
                    (batch.header.max_timestamp_ms for batch in stored.batches[:last]), default=0
                )
                if at > stored.high_watermark or now_timestamp_ms - newest_ms <= retention_ms:
                    break
                count += 1
        if count:
            offset = stored.rolls[count - 1]
            self.store.ledger.on_log_start(self, offset)
            stored.start = max(stored.start, offset)
            self._drop_segments(count)
        return stored.start

    def expire_producers(self, now_timestamp_ms: int, idle_ms: int) -> None:
        if self._producers is not None:
            self._producers.expire(now_timestamp_ms, idle_ms)

    def _drop_segments(self, count: int) -> None:
        stored = self.stored
        if not count:
            return
        stored.base = stored.rolls[count - 1]
        del stored.rolls[:count]
        keep = bisect_left(stored.batches, stored.base, key=lambda batch: batch.header.base_offset)
        del stored.batches[:keep]
        cache = EpochCache(stored.epochs)
        if cache.truncate_from_start(stored.start):
            stored.epochs = tuple(cache.entries())

    async def offset_for_timestamp(self, timestamp_ms: int) -> tuple[int, int] | None:
        for batch in self.stored.batches:
            if batch.header.max_timestamp_ms >= timestamp_ms:
                return batch.header.base_offset, batch.header.max_timestamp_ms
        return None

    async def max_timestamp(self) -> tuple[int, int] | None:
        newest = max(self.stored.batches, key=lambda b: b.header.max_timestamp_ms, default=None)
        if newest is None:
            return None
        return newest.header.last_offset, newest.header.max_timestamp_ms

    # --- flushing and failure --------------------------------------------------------------------

    async def flush(self) -> int:
        target = self.stored.end
        chance = self.store.process.world.chance
        await asyncio.sleep(FLUSH_S[0] + FLUSH_S[1] * chance.random())
        if self.store.disk.full and chance.random() < 0.1:
            self._fence("an fsync failed")
        self.write_back()
        self._durable_offset = max(self._durable_offset, min(target, self.stored.end))
        return self._durable_offset

    def write_back(self) -> None:
        stored = self.stored
        stored.flushed = list(stored.batches)
        stored.flushed_base = stored.base

    def _fence(self, why: str) -> None:
        if self.failure is None:
            self.failure = f"{self}: {why}"
        raise KafkaStorageError(self.failure)

    def _check_usable(self) -> None:
        if self.failure is not None:
            raise KafkaStorageError(self.failure)


@dataclass
class Disk:
    """The data directory of a host, and what its `meta.properties` say."""

    storage_id: str = ""
    boot: int = -1
    clean: bool = False
    full: bool = False
    was_full: bool = False  # ever
    logs: dict[TopicPartition, StoredLog] = field(default_factory=dict)

    def would_be_dirty(self, boot: int) -> bool:
        """Would a start on this boot of the host find that something may be missing?"""
        return bool(self.storage_id) and not self.clean and self.boot != boot

    def lose_power(self, chance: float) -> None:
        """Of what was not flushed any first part may have reached the disk (`chance`: how much)."""
        for log in self.logs.values():
            written = log.batches
            common = 0
            for one, other in zip(written, log.flushed, strict=False):
                if one is not other and one.chain != other.chain:
                    break
                common += 1
            if log.flushed_base != log.base or common < min(len(written), len(log.flushed)):
                # Segments or a cut tail that the disk has not heard of: it has all or nothing.
                keep_written = chance < 0.5
            else:
                keep = len(log.flushed) + int(chance * (len(written) - len(log.flushed) + 1))
                log.batches = written[: max(keep, min(len(log.flushed), len(written)))]
                keep_written = True
            if not keep_written:
                log.batches, log.base = list(log.flushed), log.flushed_base
                log.chains.setdefault(log.base, 0)
            log.rebuild()
            log.flushed, log.flushed_base = list(log.batches), log.base


class SimulatedLogStore:
    """LogStore: a disk, in the hands of one process."""

    def __init__(self, process: BrokerProcess, host: Host) -> None:
        self.process = process
        self.host = host
        self.disk = host.disk
        self.ledger = process.world.ledger
        self._dirty = self._identify()
        self._logs: dict[TopicPartition, SimulatedLog] = {}
        config = TopicConfig()
        for topic_partition, stored in self.disk.logs.items():
            if not self._was_clean:
                stored.high_watermark = stored.checkpointed_high_watermark
                stored.start = max(stored.base, min(stored.checkpointed_start, stored.end))
            stored.high_watermark = max(stored.start, min(stored.high_watermark, stored.end))
            stored.complete_epochs()
            self._logs[topic_partition] = SimulatedLog(self, stored, config)
            self.ledger.on_opened(self._logs[topic_partition])
        self._gathered = 0  # how often checkpoints were gathered
        self._written = 0  # the youngest gathering that was written
        if not self._was_clean:
            self.write_checkpoints()  # as the real store does: a log may end below what they say

    def _identify(self) -> bool:
        """As `log/meta.py`: a directory that is found dirty gets a new storage id at once."""
        disk, boot = self.disk, self.host.boot
        dirty = disk.would_be_dirty(boot)
        if dirty or not disk.storage_id:
            disk.storage_id = self.process.world.new_storage_id()
        disk.boot = boot
        self._was_clean, disk.clean = disk.clean, False
        return dirty

    async def compact(self, now_timestamp_ms: int) -> bool:
        """These logs are never compacted."""
        return False

    @property
    def storage_id(self) -> str:
        return self.disk.storage_id

    @property
    def dirty(self) -> bool:
        return self._dirty

    def logs(self) -> Mapping[TopicPartition, SimulatedLog]:
        return self._logs

    async def make(self, wanted: Sequence[tuple[TopicPartition, str, TopicConfig]]) -> None:
        """It takes a while."""
        if any(each not in self._logs for each, _, _ in wanted):
            await asyncio.sleep(FLUSH_S[0])
            for topic_partition, topic_id, config in wanted:
                if topic_partition not in self._logs and not self.disk.full:
                    self.open(topic_partition, topic_id, config)

    def open(
        self, topic_partition: TopicPartition, topic_id: str, config: TopicConfig
    ) -> SimulatedLog:
        log = self._logs.get(topic_partition)
        if log is not None and log.topic_id != topic_id:
            self.delete(topic_partition, log.topic_id)
            log = None
        if log is None:
            if self.disk.full:
                raise KafkaStorageError(f"{self.host.name}: there is no space for a log")
            stored = self.disk.logs[topic_partition] = StoredLog(topic_partition, topic_id)
            log = self._logs[topic_partition] = SimulatedLog(self, stored, config)
            self.ledger.on_opened(log)
        log.configure(config)
        return log

    def delete(self, topic_partition: TopicPartition, topic_id: str) -> None:
        log = self._logs.get(topic_partition)
        if log is None or log.topic_id != topic_id:
            return
        self.ledger.on_deleted(log)
        del self._logs[topic_partition], self.disk.logs[topic_partition]

    def fenced_logs(self) -> list[TopicPartition]:
        return [tp for tp, log in self._logs.items() if log.failure is not None]

    async def checkpoint(self, recovery_points: bool = True) -> None:
        tables, number = self._gather()
        await asyncio.sleep(FLUSH_S[0])
        self._write_tables(tables, number)

    def write_checkpoints(self) -> None:
        self._write_tables(*self._gather())

    def _gather(self) -> tuple[list[tuple[StoredLog, int, int]], int]:
        self._gathered += 1
        tables = [
            (log.stored, log.stored.high_watermark, log.stored.start) for log in self._logs.values()
        ]
        return tables, self._gathered

    def _write_tables(self, tables: list[tuple[StoredLog, int, int]], number: int) -> None:
        """Unless younger ones have been written."""
        if number <= self._written:
            return
        self._written = number
        for stored, high_watermark, start in tables:
            stored.checkpointed_high_watermark = high_watermark
            stored.checkpointed_start = start
            stored.make_cuts_durable()

    def record_broker_epoch(self, broker_epoch: int) -> None:
        """Only people read it in the marker."""

    async def close(self, clean: bool) -> None:
        await asyncio.sleep(FLUSH_S[1])
        problems = [log.failure for log in self._logs.values() if log.failure is not None]
        for log in self._logs.values():
            log.write_back()
            log.stored.snapshots[log.stored.end] = log._snapshot()
        self.write_checkpoints()
        if clean and not problems:
            self.disk.clean = True
