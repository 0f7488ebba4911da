"""The log of one partition: segments, what is known about them, and the way back from failures.

State: the segments in order, the last of them active; log start, log end and high watermark; the
leader epochs as last stored; the producers at the log's end; the aborted transactions; the durable
offset (recovery point); and the failure that fenced it, if one did.

Invariants:
- log_start_offset <= high_watermark <= log_end_offset; durable offset <= log_end_offset;
- segment i+1 begins at or above the end of segment i; every byte below a segment's size is a
  whole batch;
- after a failed write, whatever failed, nothing is appended any more until the log is opened anew
  (failures.py); what was there before can still be read;
- a call that raises anything else than KafkaStorageError has changed nothing;
- no snapshot and no stored epoch speaks of an offset above the log's end.

All methods are for the broker's loop (or, before that runs, for one thread); only fsyncs and the
unlinking of files happen elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path

from minikafka.api.pieces import Piece, release
from minikafka.broker.ports import RecoveredLog
from minikafka.config import TopicConfig
from minikafka.core.replication.producer_state import NO_MARKER, ProducerStateTable
from minikafka.errors import KafkaStorageError, OffsetOutOfRangeError
from minikafka.log import fitting, producers, retention, swap, timestamps
from minikafka.log.failures import Fence, HalfDoneError, is_shortage
from minikafka.log.files import Buffer
from minikafka.log.flushing import FlushSchedule, flushes_unasked
from minikafka.log.group_commit import GroupCommit, SyncWork
from minikafka.log.host import Ending, LogHost
from minikafka.log.lending import Lender
from minikafka.log.recovery import LoadedSegments
from minikafka.log.segment import Segment
from minikafka.log.stored_epochs import StoredEpochs
from minikafka.log.stored_producers import StoredProducers
from minikafka.log.transaction_index import AbortedEntry, TransactionIndex
from minikafka.log.unsynced import Unsynced
from minikafka.model import (
    CONTROL,
    AbortedTransaction,
    BatchHeader,
    EpochEntry,
    Markers,
    TopicPartition,
)
from minikafka.records.compact import filler_batch
from minikafka.records.header import parse_header
from minikafka.records.markers import markers_in

_HINTS_MAX = 32
_logger = logging.getLogger("minikafka.log")


class DiskLog:
    """The PartitionLog of the ports, on disk. Made by the store. A broker has thousands, most of
    them idle: what one rarely needs is made when it does."""

    def __init__(
        self,
        host: LogHost,
        topic_partition: TopicPartition,
        topic_id: str,
        directory: Path,
        config: TopicConfig,
        loaded: LoadedSegments,
    ) -> None:
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self._directory = str(directory)
        self._host = host
        self._disk = host.disk
        self._config = config
        self._segments = loaded.segments
        self._active = loaded.segments[-1]
        self._bases = [segment.base_offset for segment in loaded.segments]
        self.log_start_offset = loaded.log_start_offset
        self.log_end_offset = self._active.next_offset
        self.high_watermark = loaded.high_watermark
        self.size_bytes = sum(segment.size_bytes for segment in loaded.segments)
        # What the checkpoint files may say: a log that falls below it must have them rewritten.
        self.checkpointed_end = max(
            loaded.high_watermark, loaded.recovery_point, loaded.clean_offset
        )
        self.clean_offset = loaded.clean_offset  # all below it has been compacted
        self._epochs = StoredEpochs(
            host.disk, self._directory, loaded.epochs, loaded.epochs_are_stored
        )
        self._producers = StoredProducers(host.disk, self._directory, is_new=loaded.is_new)
        self._aborted = TransactionIndex(host.disk, directory, loaded.aborted)
        self._hints: dict[int, int] = {}  # offset -> position in its segment, asked for recently
        self._fence = Fence(topic_partition, self._directory, host.fenced)
        self.compaction: Ending | None = None  # under way
        self.configured = False  # only the store's defaults are known so far
        self.closed = False
        closed = loaded.segments[:-1]
        self._unsynced = Unsynced(
            self._directory,
            [each for each in closed if each.next_offset > loaded.recovery_point],
        )
        self._commit = GroupCommit(host.disk, host.executor, loaded.recovery_point, self)
        self._background: set[asyncio.Task[int]] | None = None  # flushes of rolled segments
        self._active.rest_if_small()  # until it is asked for something
        self._active.share(host.open_files, self._hints)
        self._flushes: FlushSchedule | None = None  # while something is to be flushed unasked

    def __repr__(self) -> str:
        return f"DiskLog({self.topic_partition}, {self.log_start_offset}..{self.log_end_offset})"

    @property
    def directory(self) -> Path:
        return Path(self._directory)

    @property
    def recovery_point(self) -> int:
        """Everything below it has been fsynced, the epochs that begin there too."""
        return self._commit.durable_offset

    @property
    def failed(self) -> bool:
        return self._fence.reason is not None

    @property
    def failure(self) -> str | None:
        """See the port."""
        return self._fence.reason

    @property
    def intact(self) -> bool:
        """False: the file may hold other bytes than were appended."""
        return self._fence.intact

    def recovered(self) -> RecoveredLog:
        """See the port. The producers are a copy, the caller's own."""
        return RecoveredLog(
            self.log_start_offset,
            self.log_end_offset,
            self.high_watermark,
            self._epochs.entries,
            self.load_producers(),
        )

    @property
    def config(self) -> TopicConfig:
        return self._config

    def configure(self, config: TopicConfig) -> None:
        self._config = config
        self.configured = True
        if self._flushes is None and flushes_unasked(config):
            self._flushes = FlushSchedule(self.flush, self._unflushed)
        if self._flushes is not None:
            self._flushes.configure(config)
        if config.compacted:
            self._host.compacted[self] = None
        else:
            self._host.compacted.pop(self, None)

    # --- append and read -------------------------------------------------------------------------

    def append(self, buffers: Sequence[Buffer], headers: Sequence[BatchHeader]) -> None:
        """See the port. KafkaStorageError: nothing of it counts, and nothing else will.
        InvalidRecordError, ResourceShortageError: nothing was changed."""
        self._fence.check()
        end = self.log_end_offset
        size_bytes, next_offset = fitting.measure(end, headers)
        if fitting.fits_one_segment(end, size_bytes, next_offset):
            self._append(buffers, headers, size_bytes, next_offset)
            return
        for buffer, (header,) in fitting.one_by_one(end, buffers, headers):
            self._append(buffer, (header,), header.size_bytes, header.next_offset)

    def _append(
        self,
        buffers: Sequence[Buffer],
        headers: Sequence[BatchHeader],
        size_bytes: int,
        next_offset: int,
    ) -> None:
        try:
            producer_table = self._producer_table()
            self._active.acquire()
            if retention.roll_is_due(self._active, self._config, size_bytes, headers):
                self._roll()
                self._active.acquire()
        except Exception as error:
            self._fence.on_untouched("append", error)
        try:
            interval_bytes = self._config.index_interval_bytes
            self._active.append(buffers, headers, size_bytes, interval_bytes)
            self._take_producers(producer_table, buffers, headers)
        except Exception as error:
            self._cut_back(size_bytes)
            self._fence.close("append", error)
        self._remember(self.log_end_offset, self._active.size_bytes - size_bytes)
        self.log_end_offset = next_offset
        self.size_bytes += size_bytes
        if self._flushes is not None:
            self._flushes.look()

    def _take_producers(
        self,
        table: ProducerStateTable,
        buffers: Sequence[Buffer],
        headers: Sequence[BatchHeader],
    ) -> None:
        """These batches are in the file: first the table is told, then the index of aborted
        transactions (transactions.md section 3)."""
        markers: Markers | None = None
        aborted: list[AbortedEntry] = []
        for header in headers:
            if header.producer_id < 0:
                continue
            if not header.attributes & CONTROL:
                table.update(header)
                continue
            if markers is None:
                markers = markers_in(buffers, headers)
            entry = producers.take_marker(table, header, markers.get(header.base_offset))
            if entry is not None:
                aborted.append(entry)
        if markers is not None:
            table.unstable.settle(self.high_watermark)
        if aborted:
            self._aborted.append(self._active.base_offset, aborted)

    def _cut_back(self, size_bytes: int) -> None:
        """Take off the file what an append of so many bytes has left there."""
        active = self._active
        try:
            if active.next_offset > self.log_end_offset:  # it was counted, and then it failed
                active.size_bytes -= size_bytes
                active.next_offset = self.log_end_offset
            active.cut_back()
        except Exception as second:
            self._fence.intact = False
            _logger.error("%s: cannot be cut back either: %r", self.topic_partition, second)

    def read(self, offset: int, max_bytes: int, end_offset: int) -> bytes:
        """See the port. OffsetOutOfRangeError outside of log start .. log end."""
        self._check_readable(offset)
        parts: list[bytes] = []
        try:
            tail = self._tail(offset, max_bytes, end_offset)
            if tail is not None:
                self._active.acquire()
                return self._active.read(*tail)
            for segment, start, end in self._ranges(offset, max_bytes, end_offset):
                parts.append(segment.read(start, end))
        except Exception as error:
            self._fence.on_read_failed("read", error)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pieces(
        self,
        offset: int,
        max_bytes: int,
        end_offset: int,
        lend_from_bytes: int,
        on_failed: Callable[[KafkaStorageError], None],
    ) -> list[Piece]:
        """See the port. OffsetOutOfRangeError outside of log start .. log end."""
        self._check_readable(offset)
        found: list[Piece] = []
        try:
            for segment, start, end in self._ranges(offset, max_bytes, end_offset):
                lent = None
                if end - start >= lend_from_bytes:
                    lender = Lender(self._disk, self._host.open_files, self._fence, on_failed)
                    lent = lender.lend(segment, start, end)
                found.append(segment.read(start, end) if lent is None else lent)
        except Exception as error:
            release(found)
            self._fence.on_read_failed("read", error)
        return found

    def size_of(self, offset: int, max_bytes: int, end_offset: int) -> int:
        """See the port. Of the disk it needs a few index lookups, and those seldom."""
        self._check_readable(offset)
        tail = self._tail(offset, max_bytes, end_offset)
        if tail is not None:
            return tail[1] - tail[0]
        try:
            return sum(end - start for _, start, end in self._ranges(offset, max_bytes, end_offset))
        except Exception as error:
            self._fence.on_read_failed("read", error)

    def aborted(self, offset: int, max_bytes: int, end_offset: int) -> Sequence[AbortedTransaction]:
        """See the port."""
        if not self._aborted:
            return ()
        try:
            read_end = offset
            for segment, _, end in self._ranges(offset, max_bytes, end_offset):
                read_end = segment.offset_at(end)
            return self._aborted.find(offset, min(read_end, end_offset))
        except Exception as error:
            self._fence.on_read_failed("read", error)

    def _check_readable(self, offset: int) -> None:
        if not self.log_start_offset <= offset <= self.log_end_offset:
            raise OffsetOutOfRangeError(
                f"offset {offset} of {self.topic_partition} is not there; the log holds "
                f"{self.log_start_offset} up to {self.log_end_offset} (exclusive)"
            )

    def _tail(self, offset: int, max_bytes: int, end_offset: int) -> tuple[int, int] | None:
        """(first position, end position) in the active segment of what `_ranges` gives, where both
        are known and nothing has to be looked up: whoever keeps up asks for that. None: ask there.
        """
        if offset < self._active.base_offset:
            return None
        start = self._hints.get(offset, -1)
        end = self._active.size_bytes
        if end_offset < self.log_end_offset:
            end = self._hints.get(end_offset, -1)
        return (start, end) if start >= 0 and 0 < end - start <= max_bytes else None

    def _ranges(
        self, offset: int, max_bytes: int, end_offset: int
    ) -> Iterator[tuple[Segment, int, int]]:
        """(segment, first position, end position) of what `read` gives, in order. A segment is open
        while its range is looked at."""
        end_offset = min(end_offset, self.log_end_offset)
        index = bisect_right(self._bases, offset) - 1
        first = True
        while offset < end_offset and index < len(self._segments):
            segment = self._segments[index]
            segment.acquire()
            try:
                start, end, offset = self._locate(index, offset, max_bytes, end_offset)
                size_bytes = end - start
                if size_bytes > 0:
                    if size_bytes > max_bytes and not first:
                        return
                    yield segment, start, end
                    max_bytes -= size_bytes
                    first = False
            finally:
                segment.release()
            if offset < self._end_of(index):
                return
            index += 1

    def _end_of(self, index: int) -> int:
        """Where segment `index` ends for readers: where the next begins, if there is one."""
        return self._bases[index + 1] if index + 1 < len(self._bases) else self.log_end_offset

    def _locate(
        self, index: int, offset: int, max_bytes: int, end_offset: int
    ) -> tuple[int, int, int]:
        """(first position, end position, next offset to read) of whole batches in one segment, from
        the one that holds `offset` on; at least one, also if it is larger than `max_bytes`."""
        segment, hints = self._segments[index], self._hints
        start = hints.get(offset, -1)
        if start < 0:
            start = 0 if offset == segment.base_offset else segment.position_of(offset)
            self._remember(offset, start)
        end, next_offset = segment.size_bytes, self._end_of(index)
        if end_offset < segment.next_offset:
            end, next_offset = hints.get(end_offset, -1), end_offset
            if end < 0:
                end = segment.position_of(end_offset)
        if end - start > max_bytes:
            end, next_offset = segment.last_boundary(start, start + max_bytes)
        if end <= start:
            return start, start, max(offset, next_offset)
        if end < segment.size_bytes or segment is self._active:
            self._remember(next_offset, end)
        return start, end, next_offset

    def _remember(self, offset: int, position: int) -> None:
        """Where an offset lies in its segment: it is likely to be asked for again soon."""
        if len(self._hints) >= _HINTS_MAX:
            del self._hints[next(iter(self._hints))]  # the oldest
        self._hints[offset] = position

    # --- truncation ------------------------------------------------------------------------------

    def truncate_to(self, offset: int) -> None:
        """See the port. Also drops stored epochs that begin at or above `offset`."""
        self._fence.check()
        if offset < self._segments[0].base_offset:
            self.restart_at(offset)
            return
        try:
            if offset < self.log_end_offset:
                self._truncate_segments(offset)
                self._forget_above(min(offset, self.log_end_offset))
            self._epochs.cut(min(offset, self.log_end_offset))
            self._host.changed[self] = None
        except Exception as error:
            self._settle()
            self._fence.close("truncation", error)

    def _truncate_segments(self, offset: int) -> None:
        keep = bisect_right(self._bases, offset)
        if keep < len(self._segments):
            self._active.deactivate(write_indexes=False)
            self._set_aside(range(len(self._segments) - 1, keep - 1, -1), delay_ms=0)
            # Durable first: should the machine fail, they must not come back after what is new.
            self._disk.sync_directory(self.directory)
        self._active = self._segments[-1]
        if not self._active.active:
            self._active.activate(self._config.index_interval_bytes)
            self._active.share(self._host.open_files, self._hints)
        interval_bytes = self._config.index_interval_bytes
        self.log_end_offset, covered = self._active.truncate(offset, interval_bytes)
        if covered < self.log_end_offset:
            # Compaction has taken what lay there. Those offsets were given out all the same: the
            # file has to say so, or after a restart they would be given out again.
            epoch = self._epochs.epoch_at(covered)
            filler = filler_batch(covered, self.log_end_offset, epoch)
            self._active.append([filler], [parse_header(filler)], len(filler), interval_bytes)
        self.size_bytes = sum(segment.size_bytes for segment in self._segments)

    def restart_at(self, offset: int) -> None:
        """See the port."""
        self._fence.check()
        try:
            self._active.deactivate(write_indexes=False)
            self._set_aside(range(len(self._segments) - 1, -1, -1), delay_ms=0)
            self._producers.keep_snapshots(())
            self._disk.sync_directory(self.directory)
            self._active = Segment.create(self._disk, self.directory, offset)
            self._active.share(self._host.open_files, self._hints)
            self._segments.append(self._active)
            self._bases.append(offset)
            self.log_start_offset = self.log_end_offset = self.high_watermark = offset
            self.clean_offset = self.size_bytes = 0
            self._commit.restart(offset)
            self._forget_above(offset)
            self._epochs.replace(())
            self._epochs.write()
        except Exception as error:
            self._settle()
            self._fence.close("restart", error)

    def _settle(self) -> None:
        """A cut failed half-way. The log is fenced; until it is opened anew it ends where its
        segments do, so that reads stay within them."""
        end = self._segments[-1].next_offset if self._segments else self.log_start_offset
        self.log_end_offset = min(self.log_end_offset, end)
        self.high_watermark = min(self.high_watermark, self.log_end_offset)
        self.log_start_offset = min(self.log_start_offset, self.log_end_offset)
        self._hints.clear()
        self._host.changed[self] = None

    def _set_aside(self, indexes: Iterable[int], delay_ms: int) -> None:
        """Let segments go, in the order given: renamed now, unlinked later."""
        self._end_compaction()
        for index in indexes:
            segment = self._segments.pop(index)
            del self._bases[index]
            self.size_bytes -= segment.size_bytes
            self._unsynced.drop([segment])
            self._aborted.forget([segment.base_offset])
            self._host.discard(self._disk.set_aside(segment.files()), delay_ms)
        self._hints.clear()

    def _forget_above(self, offset: int) -> None:
        """After a cut to `offset` (the log's end): nothing may speak of more."""
        self._hints.clear()
        self._commit.lower(offset)
        self._aborted.truncate(offset)
        self.clean_offset = min(self.clean_offset, offset)
        self._producers.forget_above(offset)
        self.high_watermark = min(self.high_watermark, offset)
        self.log_start_offset = min(self.log_start_offset, offset)
        self._host.changed[self] = None
        if offset < self.checkpointed_end:
            self._host.on_lowered()

    # --- epochs and producers --------------------------------------------------------------------

    def store_epochs(self, entries: Sequence[EpochEntry]) -> None:
        """See the port: two fsyncs, unless the entries only grow."""
        self._fence.check()
        self._epochs.replace(tuple(entries))
        if not self._epochs.contradicted:
            return
        try:
            self._epochs.write()
        except Exception as error:
            self._fence.close("leader-epoch checkpoint", error)

    def write_epochs(self) -> None:
        """Write the epoch checkpoint if it does not say what the recovery point relies on. From any
        thread; any error."""
        self._epochs.write_below(self.recovery_point)

    @property
    def owes_epochs(self) -> bool:
        """Is there something for `write_epochs` to do?"""
        return self._epochs.lacks_below(self.recovery_point)

    def load_producers(self) -> ProducerStateTable:
        """See the port. A copy, the caller's own."""
        try:
            return self._producer_table().copied()
        except Exception as error:
            self._fence.on_read_failed("replay of producers", error)

    def _producer_table(self) -> ProducerStateTable:
        return self._producers.table(self._segments, self.log_end_offset)

    # --- offsets and retention -------------------------------------------------------------------

    def set_high_watermark(self, offset: int) -> None:
        assert offset <= self.log_end_offset, (offset, self)
        self.high_watermark = offset
        self._host.changed[self] = None

    def advance_log_start(self, offset: int) -> None:
        """See the port. Does nothing if the log starts there or later."""
        assert offset <= self.log_end_offset, (offset, self)
        if offset <= self.log_start_offset:
            return
        self.log_start_offset = offset
        self.high_watermark = max(self.high_watermark, offset)
        self._host.changed[self] = None
        try:
            # What lies wholly below the log's start.
            self._delete_segments(bisect_right(self._bases, self.log_start_offset) - 1)
        except Exception as error:
            self._fence.close("deletion of segments", error)

    def retain(self, now_timestamp_ms: int) -> int:
        """See the port."""
        self._fence.check()
        try:
            if retention.roll_by_age_is_due(self._active, self._config, now_timestamp_ms):
                self._roll()
            count = self._count_deletable(now_timestamp_ms)
        except Exception as error:
            self._fence.on_untouched("retention", error)
        try:
            self._delete_segments(count)
        except Exception as error:
            self._fence.close("retention", error)
        return self.log_start_offset

    def expire_producers(self, now_timestamp_ms: int, idle_ms: int) -> None:
        """See the port."""
        self._producers.expire(now_timestamp_ms, idle_ms)

    def _count_deletable(self, now_timestamp_ms: int) -> int:
        return retention.deletable(
            self._segments,
            self._config,
            now_timestamp_ms,
            self.high_watermark,
            self.log_start_offset,
        )

    def _delete_segments(self, count: int) -> None:
        """The oldest ones."""
        if count == 0:
            return
        self._set_aside([0] * count, self._config.file_delete_delay_ms)
        self.log_start_offset = max(self.log_start_offset, self._bases[0])
        self._epochs.cut_start(self.log_start_offset)
        self._host.changed[self] = None
        _logger.info(
            "%s: deleted %d segments, the log starts at %d",
            self.topic_partition,
            count,
            self.log_start_offset,
        )

    async def offset_for_timestamp(self, timestamp_ms: int) -> tuple[int, int] | None:
        """See the port."""
        from_offset = self.log_start_offset
        while True:
            try:
                stretch = timestamps.stretch_from(
                    self._disk, self._segments, from_offset, timestamp_ms
                )
            except Exception as error:
                self._fence.on_read_failed("search by timestamp", error)
            if stretch is None:
                return None
            found = await self._look(stretch, partial(stretch.first_from, timestamp_ms))
            if found is not None or stretch.next_offset >= self.log_end_offset:
                return found
            from_offset = stretch.next_offset

    async def max_timestamp(self) -> tuple[int, int] | None:
        """See the port."""
        try:
            stretches = timestamps.newest_stretches(
                self._disk, self._segments, self.log_start_offset
            )
        except Exception as error:
            self._fence.on_read_failed("search by timestamp", error)
        found = [await self._look(stretch, stretch.newest) for stretch in stretches]
        return max((each for each in found if each), key=itemgetter(1), default=None)

    async def _look(
        self, stretch: timestamps.Stretch, look: Callable[[], tuple[int, int] | None]
    ) -> tuple[int, int] | None:
        """In a thread. If nobody waits any more, the thread looks on, and lets go of the file."""

        def look_and_close() -> tuple[int, int] | None:
            try:
                return look()
            finally:
                stretch.close()

        try:
            return await asyncio.get_running_loop().run_in_executor(None, look_and_close)
        except Exception as error:
            self._fence.on_read_failed("search by timestamp", error)

    # --- compaction ------------------------------------------------------------------------------

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    def closed_segments(self) -> Sequence[Segment]:
        return self._segments[:-1]

    def last_offsets_of_producers(self) -> dict[int, int]:
        """Of each producer that is remembered, the last offset of its last batch of records. Raises
        OSError."""
        return {
            producer_id: state.batches[-1].last_offset
            for producer_id, state in self._producer_table().items()
            if state.batches
        }

    def last_markers(self) -> set[int]:
        """Of each producer that is remembered, the offset of its last marker. Raises OSError."""
        return {
            state.marker_end - 1
            for _, state in self._producer_table().items()
            if state.marker_end != NO_MARKER
        }

    def aborted_in(self, segments: Sequence[Segment]) -> list[AbortedEntry]:
        """What the transaction index says of these segments. Raises OSError."""
        return self._aborted.of_segments(segment.base_offset for segment in segments)

    def replace_segments(
        self, staged: Path, new: Segment, old: Sequence[Segment], *, has_aborted: bool = False
    ) -> None:
        """Put a compacted segment in the place of closed ones that follow on one another, with its
        transaction index if it has one. Raises KafkaStorageError: the folder may be half-way then,
        until the log is opened anew."""
        index = self._bases.index(old[0].base_offset)
        assert self._segments[index : index + len(old)] == list(old), (old, self)
        try:
            gone = swap.complete(self._disk, staged, new, old, has_aborted=has_aborted)
        except Exception as error:
            self._fence.close("compaction", error)
        self._segments[index : index + len(old)] = [new]
        self._bases[index : index + len(old)] = [new.base_offset]
        # A segment that was flushed before it was rolled may wait here still; the new one does not.
        self._unsynced.drop(old)
        self._aborted.forget(segment.base_offset for segment in old)
        self._aborted.replaced(new.base_offset, has_aborted)
        self._hints.clear()
        self.size_bytes += new.size_bytes - sum(segment.size_bytes for segment in old)
        self._host.discard(gone, self._config.file_delete_delay_ms)

    def compacted_up_to(self, offset: int) -> None:
        """All below `offset` has been compacted."""
        self.clean_offset = offset
        self._host.changed[self] = None

    def _end_compaction(self) -> None:
        """Segments are about to go: what is being made of them must never count. OSError."""
        if self.compaction is not None:
            self.compaction.end()

    # --- rolling, flushing, closing --------------------------------------------------------------

    def _roll(self) -> None:
        """Close the active segment and begin another at the log's end. Whatever it raises: nothing
        has been changed, unless that is HalfDoneError."""
        offset = self.log_end_offset
        self._producer_table()  # has to be loaded
        self._producers.write_snapshot(offset, self.high_watermark)
        old, new = self._active, Segment.create(self._disk, self.directory, offset)
        try:
            old.write_indexes()
        except Exception:
            self._undo_roll(new)
            raise
        self._unsynced.rolled(old)
        self._segments.append(new)
        self._bases.append(offset)
        self._active = new
        self._hints.clear()
        try:
            old.deactivate(write_indexes=False)
        except Exception as error:
            raise HalfDoneError(f"closing {old.path} failed: {error!r}") from error
        new.share(self._host.open_files, self._hints)
        try:
            self._producers.keep_snapshots({*self._bases})
        except Exception as error:  # they say what is true, and go at the next roll
            _logger.warning("%s: old snapshots stay: %r", self.topic_partition, error)
        self._flush_in_background()

    def _undo_roll(self, new: Segment) -> None:
        """An empty file must not stay in the way of what comes to the old one."""
        try:
            new.deactivate(write_indexes=False)
            self._disk.remove(new.path)
        except Exception as error:
            raise HalfDoneError(f"{new.path} cannot be removed: {error!r}") from error

    def _flush_in_background(self) -> None:
        """A rolled segment is flushed, so that a recovery need not look at it."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # no loop, no broker: whoever uses the log calls flush
        task = loop.create_task(self.flush())
        if self._background is None:
            self._background = set()
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        # A failure has fenced the log and said so; nobody else waits for it.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _unflushed(self) -> int:
        """How many records a flush would make durable."""
        if self.closed or not self._fence.intact:
            return 0
        return self.log_end_offset - self.recovery_point

    async def flush(self) -> int:
        """See the port. KafkaStorageError also if an fsync has ever failed: what the system then
        did with the pages is unknown."""
        if not self._fence.intact:
            self._fence.check()
        return await self._commit.flush_to(lambda: self.log_end_offset)

    def what_to_sync(self) -> SyncWork:
        """See group_commit.Syncable."""
        work = self._unsynced.take(self._active, self.log_end_offset)
        work.epochs = self._epochs.write_below
        if changed := self._aborted.take_changed():
            work.paths += changed
            work.directory = self.directory  # a file may be new in it
        return work

    def on_flushed(self, error: Exception | None) -> None:
        """See group_commit.Syncable."""
        if error is None:
            self._host.changed[self] = None
            return
        if is_shortage(error):
            self._unsynced.put_back()
            self._aborted.put_back()
        else:
            self._fence.intact = False
        self._fence.on_untouched("fsync", error)

    def close(self, durable: bool) -> None:
        """Write what a clean start relies on, and let go of all files. In any thread, once, when
        nobody else uses the log. Whatever it raises, the files are closed."""
        try:
            self._end_compaction()
            if durable and not self.failed:
                self._write_closing_files()
            if durable and self.intact:
                self._epochs.write_below(self.log_end_offset)
        finally:
            self.closed = True
            let_go(self._segments)

    def _write_closing_files(self) -> None:
        self._active.write_indexes()
        if self._producers.loaded:
            self._producers.write_snapshot(self.log_end_offset, self.high_watermark)
            self._producers.keep_snapshots({self.log_end_offset, *self._bases})


def let_go(segments: Sequence[Segment]) -> None:
    """Close the files of all of them; then the first error that there was."""
    problems: list[Exception] = []
    for segment in segments:
        try:
            segment.deactivate(write_indexes=False)
        except Exception as error:
            problems.append(error)
    if problems:
        raise problems[0]
