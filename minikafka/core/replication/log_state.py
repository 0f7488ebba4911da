"""What the core knows of a replica's log: offsets, epochs, producers. No bytes.

Invariants: log_start_offset <= high_watermark <= log_end_offset; every epoch entry starts at or
below log_end_offset (replication.md section 7, nos. 8 and 15).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from minikafka.core.replication.epochs import EpochCache
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.model import NO_EPOCH, BatchHeader


@dataclass(slots=True)
class LogState:
    """Of one log. `flushed_offset`: everything below it is on the disk itself; it counts
    only where `flush.before.ack` is set."""

    log_start_offset: int = 0
    log_end_offset: int = 0
    high_watermark: int = 0
    epochs: EpochCache = field(default_factory=EpochCache)
    producers: ProducerStateTable = field(default_factory=ProducerStateTable)
    flushed_offset: int = 0

    def __post_init__(self) -> None:
        self.high_watermark = max(
            self.log_start_offset, min(self.high_watermark, self.log_end_offset)
        )
        self.flushed_offset = max(self.flushed_offset, self.log_start_offset)
        self.check()

    def check(self) -> None:
        """Assert the invariants."""
        assert 0 <= self.log_start_offset <= self.high_watermark <= self.log_end_offset, self
        assert not self.epochs.starts_after(self.log_end_offset), self

    @property
    def last_epoch(self) -> int:
        """The latest epoch of the log, or -1."""
        latest = self.epochs.latest_epoch
        return NO_EPOCH if latest is None else latest

    def appended(self, headers: Sequence[BatchHeader]) -> bool:
        """Take over batches that are in the log now; True if a new epoch began among them."""
        new_epoch = False
        for header in headers:
            assert header.base_offset >= self.log_end_offset, (header, self)
            assert header.leader_epoch >= self.last_epoch, (header, self)
            if header.leader_epoch > self.last_epoch:
                new_epoch |= self.epochs.assign(header.leader_epoch, header.base_offset)
            self.producers.update(header)
            self.log_end_offset = header.next_offset
        return new_epoch

    def truncated(self, offset: int) -> bool:
        """The log ends at `offset` now, or ended below it already; True if it got shorter or epoch
        entries went."""
        epochs_changed = self.epochs.truncate_from_end(offset)
        if offset >= self.log_end_offset:
            return epochs_changed
        self.log_end_offset = offset
        self.high_watermark = min(self.high_watermark, offset)
        self.flushed_offset = min(self.flushed_offset, offset)
        self.log_start_offset = min(self.log_start_offset, offset)
        return True

    def restarted(self, offset: int) -> None:
        """The log is empty and begins at `offset`."""
        self.epochs = EpochCache()
        self.producers = ProducerStateTable()
        self.log_start_offset = self.log_end_offset = offset
        self.high_watermark = self.flushed_offset = offset

    def raise_log_start(self, offset: int) -> bool:
        """Forget records below `offset`, at most up to the high watermark; True if it moved."""
        offset = min(offset, self.high_watermark)
        if offset <= self.log_start_offset:
            return False
        self.log_start_offset = offset
        self.flushed_offset = max(self.flushed_offset, offset)
        self.epochs.truncate_from_start(offset)
        return True
