"""What the core knows of a replica's log: offsets, epochs, producers. No bytes.

Invariants: log_start_offset <= last_stable_offset <= high_watermark <= log_end_offset; every epoch
entry starts at or below log_end_offset (replication.md section 7, nos. 8 and 15); below the last
stable offset no transaction is open, nor ended by a marker that is not committed, but where the
log's start has passed it (transactions.md, T6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from minikafka.core.replication.epochs import EpochCache
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.model import NO_EPOCH, BatchHeader, Markers


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
        self.producers.unstable.settle(self.high_watermark)
        self.check()

    def check(self) -> None:
        """Assert the invariants."""
        assert 0 <= self.log_start_offset <= self.high_watermark <= self.log_end_offset, self
        assert not self.epochs.starts_after(self.log_end_offset), self
        self.producers.unstable.check()
        first, stable = self.producers.unstable.first(), self.last_stable_offset
        assert self.log_start_offset <= stable <= self.high_watermark, self
        assert first is None or first >= stable or stable == self.log_start_offset, self

    @property
    def last_epoch(self) -> int:
        """The latest epoch of the log, or -1."""
        latest = self.epochs.latest_epoch
        return NO_EPOCH if latest is None else latest

    @property
    def last_stable_offset(self) -> int:
        """What a reader of committed records sees ends here (transactions.md, T6)."""
        first_unstable = self.producers.unstable.first()
        if first_unstable is None or first_unstable >= self.high_watermark:
            return self.high_watermark
        return max(self.log_start_offset, first_unstable)

    def commit(self, high_watermark: int) -> None:
        """All below is committed, and so are the markers there."""
        self.high_watermark = high_watermark
        unstable = self.producers.unstable
        if unstable.awaited:
            unstable.settle(high_watermark)

    def replace_producers(self, producers: ProducerStateTable) -> None:
        """The log was cut: these are left."""
        self.producers = producers
        producers.unstable.settle(self.high_watermark)

    def appended(self, headers: Sequence[BatchHeader], markers: Markers | None = None) -> bool:
        """Take over batches that are in the log now, with what the control batches among them say;
        True if a new epoch began among them."""
        new_epoch = False
        for header in headers:
            assert header.base_offset >= self.log_end_offset, (header, self)
            assert header.leader_epoch >= self.last_epoch, (header, self)
            if header.leader_epoch > self.last_epoch:
                new_epoch |= self.epochs.assign(header.leader_epoch, header.base_offset)
            self.producers.update(header, markers.get(header.base_offset) if markers else None)
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
