"""What the offset checkpoints of a data directory say, and what they are to say: kept current, so
that a checkpoint looks at no log that sleeps, and writes no file that would say the same again.

State: a table a file, with the number of its last change and of the change that its file was
written after; `changed`, the logs of which the tables may not say what holds now: they put
themselves in (LogHost); `owing`, those whose epochs are to be written down, too (stored_epochs.py).

Invariants: what is not in `changed` stands in the tables as it is; a file is never written over
with an older table; what a file may still say of a log that was deleted is known (`may_say`).

All is for the broker's loop, but `write`, which is for any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from minikafka.log import checkpoints
from minikafka.log.files import Disk
from minikafka.log.partition_log import DiskLog
from minikafka.log.recovery import Checkpointed
from minikafka.model import TopicPartition
from minikafka.turns import UPKEEP, in_slices


class _Table:
    """Of one file. `everywhere`: with a line also for a log of which it says 0."""

    def __init__(self, name: str, *, everywhere: bool = False) -> None:
        self.name = name
        self.offsets: dict[TopicPartition, int] = {}
        self.number = 1  # above what is `written`: a file that was damaged is to be made anew
        self.written = 0
        self._everywhere = everywhere
        self._in_order = True
        self._gone: dict[TopicPartition, int] = {}  # when: the number of that change

    def put(self, topic_partition: TopicPartition, offset: int) -> None:
        offsets = self.offsets
        if not offset and not self._everywhere:
            if offsets.pop(topic_partition, 0):
                self.number += 1
            return
        before = offsets.get(topic_partition)
        if before == offset:
            return
        self._in_order &= before is not None
        offsets[topic_partition] = offset
        self.number += 1

    def remove(self, topic_partition: TopicPartition) -> None:
        if self.offsets.pop(topic_partition, None) is not None:
            self.number += 1
            self._gone[topic_partition] = self.number

    def may_say(self, topic_partition: TopicPartition) -> bool:
        """Of one that was removed: does the file perhaps not know?"""
        return self._gone.get(topic_partition, 0) > self.written

    def copy(self) -> Copy:
        self._gone = {tp: at for tp, at in self._gone.items() if at > self.written}
        if not self._in_order:
            names = sorted(self.offsets, key=attrgetter("topic", "partition"))
            self.offsets = {each: self.offsets[each] for each in names}
            self._in_order = True
        return Copy(self, self.offsets.copy(), self.number)


class Copy(NamedTuple):
    """A table as it was at one moment."""

    table: _Table
    offsets: dict[TopicPartition, int]
    number: int


class OffsetTables:
    """See the module."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        self.changed: dict[DiskLog, None] = {}
        self.owing: dict[DiskLog, None] = {}
        self._disk = disk
        self._directory = directory
        self._high_watermarks = _Table(checkpoints.HIGH_WATERMARKS, everywhere=True)
        self._recovery_points = _Table(checkpoints.RECOVERY_POINTS, everywhere=True)
        self._log_starts = _Table(checkpoints.LOG_STARTS)
        self._clean_offsets = _Table(checkpoints.CLEAN_OFFSETS)
        self._tables = (
            self._high_watermarks,
            self._recovery_points,
            self._log_starts,
            self._clean_offsets,
        )
        self._write_lock = threading.Lock()

    def read(self) -> dict[TopicPartition, Checkpointed]:
        """What the files say, which the tables say from now on. OSError."""
        for table in self._tables:
            read = checkpoints.read_offsets(self._disk, self._directory / table.name)
            for topic_partition, offset in read.items():
                table.put(topic_partition, offset)
        self._clean_offsets.written = self._clean_offsets.number  # most brokers compact nothing
        named = set[TopicPartition]().union(*(table.offsets for table in self._tables))
        return {tp: self._said(tp) for tp in named}

    def _said(self, topic_partition: TopicPartition) -> Checkpointed:
        return Checkpointed(
            self._recovery_points.offsets.get(topic_partition, 0),
            self._log_starts.offsets.get(topic_partition, 0),
            self._high_watermarks.offsets.get(topic_partition, 0),
            self._clean_offsets.offsets.get(topic_partition, 0),
        )

    def remove(self, topic_partition: TopicPartition) -> None:
        """There is no such log any more."""
        for table in self._tables:
            table.remove(topic_partition)

    def may_say(self, topic_partition: TopicPartition) -> bool:
        """Does a file perhaps say something of a log of that name that is gone?"""
        return any(table.may_say(topic_partition) for table in self._tables)

    # --- following the logs ----------------------------------------------------------------------

    def take(self, log: DiskLog) -> None:
        """What holds for this log now."""
        self.changed.pop(log, None)
        if log.closed:
            return
        topic_partition = log.topic_partition
        high_watermark, recovery_point = log.high_watermark, log.recovery_point
        clean_offset = log.clean_offset
        log.checkpointed_end = max(recovery_point, high_watermark, clean_offset)
        self._high_watermarks.put(topic_partition, high_watermark)
        self._recovery_points.put(topic_partition, recovery_point)
        self._log_starts.put(topic_partition, log.log_start_offset)
        self._clean_offsets.put(topic_partition, clean_offset)
        if log.owes_epochs:
            self.owing[log] = None

    def take_changed(self) -> None:
        """All at once."""
        for log in list(self.changed):
            self.take(log)

    async def take_changed_in_slices(self) -> None:
        async for log in in_slices(list(self.changed), UPKEEP):
            self.take(log)

    def settle(self, logs: Iterable[DiskLog]) -> None:
        """Their epochs have been written, if that was possible: whose were not stays owing."""
        for log in logs:
            if log.failed or log.closed or not log.owes_epochs:
                self.owing.pop(log, None)

    # --- writing ---------------------------------------------------------------------------------

    def copies(self, recovery_points: bool = True) -> list[Copy]:
        """Of the tables that their files do not say. The recovery points may be left out: those on
        the disk are lower, or equal."""
        return [
            table.copy()
            for table in self._tables
            if table.number > table.written
            and (recovery_points or table is not self._recovery_points)
        ]

    def write(self, copies: Iterable[Copy], *, aside: bool = False) -> None:
        """Those that are not older than what was written already. `aside`: in a thread, while the
        loop runs. OSError."""
        with self._write_lock:
            for table, offsets, number in copies:
                if number > table.written:
                    path = self._directory / table.name
                    checkpoints.write_offsets(self._disk, path, offsets, aside=aside)
                    table.written = number
