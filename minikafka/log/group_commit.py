"""fsync in groups, off the loop: callers that overlap share one.

State: `durable_offset`, below which everything is on the disk's own memory; the fsync under way, if
any; and how far a truncation has lowered what that one may claim. Invariant: durable_offset <= the
log end offset, and every byte below it was fsynced after it was last written.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from minikafka.log.files import Disk


@dataclass
class SyncWork:
    """What makes a log durable up to `target`: files by their paths, the folder, and the epochs,
    written down as far as they begin below that."""

    target: int
    paths: list[Path] = field(default_factory=list)
    directory: Path | None = None
    epochs: Callable[[int], None] | None = None

    def run(self, disk: Disk) -> None:
        """In a thread; holds one file open at a time, however many logs wait. Any error. A path
        that has gone meanwhile was deleted with segment or log. (To open a file anew hides no
        failed write from its fsync: the system keeps that for the next one who asks.)"""
        for path in self.paths:
            try:
                fd = disk.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                disk.fsync(fd)
            finally:
                disk.close(fd)
        with suppress(FileNotFoundError):
            if self.directory is not None:
                disk.sync_directory(self.directory)
            if self.epochs is not None:
                self.epochs(self.target)


class Syncable(Protocol):
    """What is made durable (a DiskLog)."""

    def what_to_sync(self) -> SyncWork:
        """What there is to sync now."""

    def on_flushed(self, error: Exception | None) -> None:
        """How each fsync ended. Raises what the callers are to get."""


class GroupCommit:
    """Shares fsyncs among the callers of one log. All methods on the loop."""

    __slots__ = ("_bound", "_disk", "_executor", "_inflight", "_log", "durable_offset")

    def __init__(self, disk: Disk, executor: Executor, durable_offset: int, log: Syncable) -> None:
        self._disk = disk
        self._executor = executor
        self._log = log
        self._inflight: asyncio.Task[None] | None = None
        self._bound = durable_offset
        self.durable_offset = durable_offset

    async def flush_to(self, end_offset: Callable[[], int]) -> int:
        """Wait until what is below the end offset of this moment is durable; less, if the log is
        truncated meanwhile."""
        target = end_offset()
        while self.durable_offset < min(target, end_offset()):
            if self._inflight is None:
                self._inflight = asyncio.ensure_future(self._run())
            await asyncio.shield(self._inflight)
        return self.durable_offset

    def lower(self, offset: int) -> None:
        """The log was truncated to `offset`: nothing at or above it is durable any more."""
        self.durable_offset = min(self.durable_offset, offset)
        self._bound = min(self._bound, offset)

    def restart(self, offset: int) -> None:
        """The log is empty and begins at `offset`: nothing is missing below it."""
        self._bound = self.durable_offset = offset

    async def _run(self) -> None:
        try:
            work = self._log.what_to_sync()
            self._bound = work.target
            await asyncio.get_running_loop().run_in_executor(self._executor, work.run, self._disk)
        except Exception as error:
            self._log.on_flushed(error)
        else:
            self.durable_offset = max(self.durable_offset, min(work.target, self._bound))
            self._log.on_flushed(None)
        finally:
            self._inflight = None
