"""Which log is compacted next, and how a round of it goes: reading and writing in a thread of its
own, putting the result in place on the broker's loop, between two other things.

State: the thread; the round under way, if there is one; logs that could not be compacted, with the
reason: they are left alone until the next start.

Invariants: one log at a time; only closed segments below high watermark and recovery point are
touched (replication.md, no. 18); a new segment counts only while all that it was made of is still
in the log (`_Work.end`). Appends and reads go on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from minikafka.errors import CorruptMessageError, MinikafkaError
from minikafka.log import swap
from minikafka.log.compaction import Round, Source, StoppedError, discard
from minikafka.log.failures import describe, is_shortage
from minikafka.log.files import Disk
from minikafka.log.partition_log import DiskLog
from minikafka.log.segment import Segment
from minikafka.turns import UPKEEP, in_slices

MAP_BYTES = 134_217_728  # Kafka's log.cleaner.dedupe.buffer.size
_logger = logging.getLogger("minikafka.log")


@dataclass(frozen=True)
class Cleanable:
    """A log as compaction sees it: the closed segments that may be compacted, from the first on,
    and how many of their bytes are new since the last round. `overdue`: the oldest of these has
    waited for `max.compaction.lag.ms`."""

    log: DiskLog
    segments: Sequence[Segment]
    first_dirty_offset: int
    clean_bytes: int
    dirty_bytes: int
    overdue: bool

    @property
    def dirty_ratio(self) -> float:
        return self.dirty_bytes / max(self.clean_bytes + self.dirty_bytes, 1)

    @property
    def due(self) -> bool:
        enough = self.dirty_ratio >= self.log.config.min_cleanable_dirty_ratio
        return self.dirty_bytes > 0 and (enough or self.overdue)


def cleanable(log: DiskLog, now_ms: int) -> Cleanable:
    """What there is to compact in a log. Raises OSError."""
    config = log.config
    limit = min(log.high_watermark, log.recovery_point)
    segments: list[Segment] = []
    first_dirty_offset = max(log.clean_offset, log.log_start_offset)
    clean_bytes = dirty_bytes = 0
    overdue = False
    for segment in log.closed_segments():
        if segment.next_offset > limit:
            break
        if segment.next_offset <= first_dirty_offset:
            clean_bytes += segment.size_bytes
        else:
            age_ms = now_ms - segment.max_timestamp()[0]
            if age_ms < config.min_compaction_lag_ms:
                break
            overdue = overdue or age_ms > config.max_compaction_lag_ms
            dirty_bytes += segment.size_bytes
        segments.append(segment)
    return Cleanable(log, segments, first_dirty_offset, clean_bytes, dirty_bytes, overdue)


class _Work:
    """The round that a log is in (log/host.py, Ending). `staged`: a new segment that counts from
    the next start on, but is not in place yet."""

    def __init__(self, disk: Disk, log: DiskLog, round_: Round) -> None:
        self._disk = disk
        self.log = log
        self.round = round_
        self.staged: Path | None = None

    def end(self) -> None:
        """See Ending. On the loop, before any segment of the log goes."""
        self.round.stop.set()
        if self.staged is not None:
            self._disk.remove(self.staged)
            self.staged = None

    def check(self) -> None:
        if self.round.stop.is_set():
            raise StoppedError


class Cleaner:
    """`discard(paths, delay_ms)` unlinks files later (LogHost)."""

    def __init__(
        self, disk: Disk, discard_later: Callable[[Iterable[Path], int], None], map_bytes: int
    ) -> None:
        self._disk = disk
        self._discard_later = discard_later
        self._map_bytes = map_bytes
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="minikafka-cleaner")
        self._work: _Work | None = None
        self.uncleanable: dict[DiskLog, str] = {}

    def close(self) -> None:
        """End the round under way and wait for its thread."""
        if self._work is not None:
            self._work.round.stop.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def clean_dirtiest(self, logs: Iterable[DiskLog], now_ms: int) -> bool:
        """One round over the log that needs it most; False if there was nothing to do. What fails
        is logged, and that log is not tried again."""
        self.uncleanable = {log: why for log, why in self.uncleanable.items() if not log.closed}
        found = [
            each
            async for log in in_slices(logs, UPKEEP)
            if (each := self._look_at(log, now_ms)) is not None
        ]
        found.sort(key=lambda each: (each.overdue, each.dirty_ratio), reverse=True)
        for looked_at in found:
            choice = self._look_at(looked_at.log, now_ms)  # others have had their turn since
            if choice is None:
                continue
            try:
                if await self._clean(choice, now_ms):
                    return True
            except StoppedError:
                _logger.info("%s: compaction was given up", choice.log.topic_partition)
            except Exception as error:
                self._give_up(choice.log, error)
        return False

    def _look_at(self, log: DiskLog, now_ms: int) -> Cleanable | None:
        usable = log.configured and not (log.failed or log.closed or log in self.uncleanable)
        if not usable or not log.config.compacted:
            return None
        try:
            found = cleanable(log, now_ms)
        except Exception as error:
            self._give_up(log, error)
            return None
        return found if found.due else None

    def _give_up(self, log: DiskLog, error: Exception) -> None:
        if is_shortage(error):
            _logger.warning("%s cannot be compacted now: %s", log.topic_partition, error)
            return
        self.uncleanable[log] = describe(error)
        hint = " (a batch is damaged)" if isinstance(error, CorruptMessageError) else ""
        _logger.error(
            "%s cannot be compacted%s and is left as it is until the broker is restarted: %s",
            log.topic_partition,
            hint,
            describe(error),
            exc_info=None if isinstance(error, OSError | MinikafkaError) else error,
        )

    async def _clean(self, choice: Cleanable, now_ms: int) -> bool:
        """Whether the round got anywhere: an open transaction may stand in its way."""
        log = choice.log
        segments = {segment.base_offset: segment for segment in choice.segments}
        round_ = Round(
            self._disk,
            log.directory,
            log.config,
            [_source(segment) for segment in choice.segments],
            choice.first_dirty_offset,
            log.last_offsets_of_producers(),
            now_ms,
            self._map_bytes,
            last_markers=log.last_markers(),
            aborted=log.aborted_in(choice.segments),
        )
        work = self._work = log.compaction = _Work(self._disk, log, round_)
        loop = asyncio.get_running_loop()
        size_before = log.size_bytes
        try:
            await loop.run_in_executor(self._executor, round_.map_keys)
            work.check()
            if round_.end_offset == choice.first_dirty_offset:
                return False
            for group in round_.groups():
                new = await loop.run_in_executor(self._executor, round_.rewrite, group)
                if new is not None:
                    await self._put_in_place(work, new, [segments[s.base_offset] for s in group])
                work.check()
            log.compacted_up_to(round_.end_offset)
        finally:
            work.end()
            self._work = log.compaction = None
        _logger.info(
            "%s: compacted up to offset %d, from %d to %d bytes",
            log.topic_partition,
            round_.end_offset,
            size_before,
            log.size_bytes,
        )
        return True

    async def _put_in_place(self, work: _Work, new: Segment, old: Sequence[Segment]) -> None:
        """The renames happen on the loop, so that nothing comes between a look at the log and its
        change; the fsync that makes the first one durable does not."""
        loop = asyncio.get_running_loop()
        try:
            work.check()
            work.staged = swap.stage(self._disk, new)
            await loop.run_in_executor(
                self._executor, self._disk.sync_directory, work.log.directory
            )
            work.check()
        except BaseException:
            work.end()
            if not work.log.closed:
                discard(self._disk, new)
            raise
        staged, work.staged = work.staged, None
        has_aborted = bool(work.round.aborted_in(new))
        work.log.replace_segments(staged, new, old, has_aborted=has_aborted)


def _source(segment: Segment) -> Source:
    return Source(segment.base_offset, segment.next_offset, segment.size_bytes, segment.path)
