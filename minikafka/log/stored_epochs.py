"""The leader epochs of one log as its checkpoint file has them, or is to have them.

State: the entries, and whether the file says the same. They are changed on the log's thread and may
be written from any.
"""

from __future__ import annotations

import threading
from pathlib import Path

from minikafka.core.replication.epochs import EpochCache
from minikafka.log import checkpoints
from minikafka.log.files import Disk
from minikafka.model import EpochEntry


class StoredEpochs:
    """Nothing is written before `write`."""

    def __init__(
        self, disk: Disk, directory: Path, entries: tuple[EpochEntry, ...], are_stored: bool
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._are_stored = are_stored
        self._lock = threading.Lock()
        self.entries = entries

    def replace(self, entries: tuple[EpochEntry, ...]) -> None:
        with self._lock:
            if entries != self.entries:
                self.entries, self._are_stored = entries, False

    def write(self) -> None:
        """Write the checkpoint, durably, if it is out of date. From any thread; OSError."""
        with self._lock:
            if not self._are_stored:
                checkpoints.write_epochs(self._disk, self._directory, self.entries)
                self._are_stored = True

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
