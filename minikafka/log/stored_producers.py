"""The idempotent producers at the end of one log, and the snapshots of them beside its segments.

State: the table, or that it is to be loaded: from the newest snapshot that holds, and the batches
above it. Invariant: no snapshot speaks of an offset above the log's end. For the log's thread only;
all methods may raise OSError.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.log import producers
from minikafka.log.files import Disk
from minikafka.log.segment import Segment


class StoredProducers:
    __slots__ = ("_directory", "_disk", "_table")

    def __init__(self, disk: Disk, directory: str, *, is_new: bool = False) -> None:
        """`is_new`: the folder is, and has no snapshot."""
        self._disk = disk
        self._directory = directory
        # None: to be loaded
        self._table: ProducerStateTable | None = ProducerStateTable() if is_new else None

    def table(self, segments: Iterable[Segment], log_end_offset: int) -> ProducerStateTable:
        """That of the log itself, which it keeps up to date as it appends."""
        if self._table is None:
            self._table = producers.load_producers(
                self._disk, Path(self._directory), segments, log_end_offset
            )
        return self._table

    @property
    def loaded(self) -> bool:
        return self._table is not None

    def expire(self, now_timestamp_ms: int, idle_ms: int) -> None:
        """Forget who has written nothing for so long."""
        if self._table is not None:
            self._table.expire(now_timestamp_ms, idle_ms)

    def write_snapshot(self, log_end_offset: int, high_watermark: int) -> None:
        """Of the table, which is loaded; not fsynced. Transactions whose marker is below the high
        watermark are stable, and need not be known any more."""
        assert self._table is not None, self._directory
        self._table.unstable.settle(high_watermark)
        producers.write_snapshot(
            self._disk, Path(self._directory), log_end_offset, self._table, durable=False
        )

    def keep_snapshots(self, offsets: Collection[int]) -> None:
        """Remove those at other offsets."""
        self._remove(at for at in self._offsets() if at not in offsets)

    def forget_above(self, offset: int) -> None:
        """The log was cut to `offset`."""
        self._table = None
        self._remove(at for at in self._offsets() if at > offset)

    def _offsets(self) -> list[int]:
        return producers.snapshot_offsets(self._disk, Path(self._directory))

    def _remove(self, offsets: Iterable[int]) -> None:
        producers.remove_snapshots(self._disk, Path(self._directory), offsets)
