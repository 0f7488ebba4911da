"""The leader-epoch cache of one log: which epoch wrote which offsets.

State: entries (leader_epoch, start_offset). Invariants: both rise strictly; the epochs are those of
the log's batches, plus at most one leading entry of an epoch that has written nothing yet
(replication.md section 7, no. 15). The end of an epoch is the start of the next entry, or the log
end offset for the last. Kafka's counterpart is LeaderEpochFileCache; the rules are KIP-101 and
KIP-279.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from minikafka.model import EpochEntry, OffsetAndEpoch


class EpochCache:
    """Ordered (epoch -> start offset). Not thread-safe; the partition owns it."""

    __slots__ = ("_epochs", "_starts")

    def __init__(self, entries: Iterable[EpochEntry] = ()) -> None:
        self._epochs: list[int] = []
        self._starts: list[int] = []
        for entry in entries:
            self.assign(entry.leader_epoch, entry.start_offset)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EpochCache) and self.entries() == other.entries()

    def __repr__(self) -> str:
        return f"EpochCache({self.entries()})"

    def entries(self) -> list[EpochEntry]:
        return [EpochEntry(e, s) for e, s in zip(self._epochs, self._starts, strict=True)]

    @property
    def latest_epoch(self) -> int | None:
        """The largest epoch, or None for a log that has none."""
        return self._epochs[-1] if self._epochs else None

    @property
    def earliest_epoch(self) -> int | None:
        """The smallest epoch, or None for a log that has none."""
        return self._epochs[0] if self._epochs else None

    def starts_after(self, offset: int) -> bool:
        """Does any entry start above `offset`?"""
        return bool(self._starts) and self._starts[-1] > offset

    def assign(self, leader_epoch: int, start_offset: int) -> bool:
        """Record that `leader_epoch` begins at `start_offset`; True if the cache changed.

        An epoch that is already the latest keeps its start. Entries that contradict the new one
        (epoch or start at or above its own) go: it is the newer truth.
        """
        assert leader_epoch >= 0
        assert start_offset >= 0
        if self._epochs and self._epochs[-1] == leader_epoch and self._starts[-1] <= start_offset:
            return False
        keep = min(
            bisect_left(self._epochs, leader_epoch),
            bisect_left(self._starts, start_offset),
        )
        del self._epochs[keep:], self._starts[keep:]
        self._epochs.append(leader_epoch)
        self._starts.append(start_offset)
        return True

    def end_of(self, leader_epoch: int, log_end_offset: int) -> OffsetAndEpoch | None:
        """The largest epoch at or below `leader_epoch` that the log knows, with its end offset
        (exclusive). If all that it knows are larger: `leader_epoch` itself, ending where the first
        of them begins. None if the log knows no epoch at all."""
        if not self._epochs:
            return None
        index = bisect_right(self._epochs, leader_epoch) - 1
        if index < 0:
            return OffsetAndEpoch(self._starts[0], leader_epoch)
        return OffsetAndEpoch(self._end(index, log_end_offset), self._epochs[index])

    def epoch_at(self, offset: int) -> int | None:
        """The epoch that wrote the record at `offset`, or None if it begins after it."""
        index = bisect_right(self._starts, offset) - 1
        return self._epochs[index] if index >= 0 else None

    def truncate_from_end(self, end_offset: int) -> bool:
        """Drop the entries that start at or above `end_offset`; True if any went."""
        keep = bisect_left(self._starts, end_offset)
        changed = keep < len(self._starts)
        del self._epochs[keep:], self._starts[keep:]
        return changed

    def truncate_from_start(self, log_start_offset: int) -> bool:
        """Drop what lies wholly below the log's start; the entry that covers it starts there then.

        True if anything changed.
        """
        index = bisect_right(self._starts, log_start_offset) - 1
        if index < 0 or (index == 0 and self._starts[0] == log_start_offset):
            return False
        del self._epochs[:index], self._starts[:index]
        self._starts[0] = log_start_offset
        return True

    def _end(self, index: int, log_end_offset: int) -> int:
        return self._starts[index + 1] if index + 1 < len(self._starts) else log_end_offset
