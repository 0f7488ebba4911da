"""The leader epochs of one log as its checkpoint file has them, or is to have them.

State: the entries, and how the file differs from them. They are changed on the log's thread and may
be written from any.

A new epoch begins at the log's end, and an entry there says nothing yet: it is dropped when the log
is opened. What follows says it itself, since each batch names its epoch, and recovery reads the
batches from the recovery point on. So the file may lack the last entries until the recovery point
is to rise above where they begin: a flush writes it (`write_below`). It must not say what does not
hold (`contradicted`): where entries were changed or cut, it is written at once.
"""

from __future__ import annotations

import threading
from pathlib import Path

from minikafka.core.replication.epochs import EpochCache
from minikafka.log import checkpoints
from minikafka.log.files import Disk
from minikafka.model import EpochEntry


class StoredEpochs:
    """Nothing is written before `write` or `write_below`."""

    __slots__ = ("_contradicts", "_directory", "_disk", "_lacks_from", "_lock", "entries")

    def __init__(
        self, disk: Disk, directory: str, entries: tuple[EpochEntry, ...], are_stored: bool
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._contradicts = not are_stored  # the file says something else
        self._lacks_from: int | None = None  # where the first entry begins that the file lacks
        self._lock = threading.Lock()
        self.entries = entries

    def replace(self, entries: tuple[EpochEntry, ...]) -> None:
        with self._lock:
            if entries == self.entries:
                return
            known = len(self.entries)
            if entries[:known] != self.entries:
                self._contradicts = True
            elif self._lacks_from is None:
                self._lacks_from = entries[known].start_offset
            self.entries = entries

    @property
    def contradicted(self) -> bool:
        """Does the file say what does not hold?"""
        return self._contradicts

    def write(self) -> None:
        """Write the checkpoint, durably, if it is out of date. From any thread; OSError."""
        with self._lock:
            if self._contradicts or self._lacks_from is not None:
                checkpoints.write_epochs(self._disk, Path(self._directory), self.entries)
                self._contradicts, self._lacks_from = False, None

    def write_below(self, offset: int) -> None:
        """The same, unless all that it lacks are epochs that begin at or above `offset`."""
        if self.lacks_below(offset):
            self.write()

    def lacks_below(self, offset: int) -> bool:
        """Does the file not say what holds below `offset`, or what does not hold?"""
        lacks_from = self._lacks_from
        return self._contradicts or (lacks_from is not None and lacks_from < offset)

    def cut(self, end_offset: int) -> None:
        """Forget entries that begin at or above the log's new end."""
        cache = EpochCache(self.entries)
        if cache.truncate_from_end(end_offset):
            self.replace(tuple(cache.entries()))

    def cut_start(self, log_start_offset: int) -> None:
        """Forget what lies wholly below the log's new start."""
        cache = EpochCache(self.entries)
        if cache.truncate_from_start(log_start_offset):
            self.replace(tuple(cache.entries()))

    def epoch_at(self, offset: int) -> int:
        """The epoch that wrote `offset`; -1 if none is known."""
        found = EpochCache(self.entries).epoch_at(offset)
        return -1 if found is None else found
