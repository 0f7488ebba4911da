"""What an fsync of one log has to take besides its active segment.

State: the closed segments that were written to since they were last flushed; whether the folder has
names that are not on the disk yet; and what of both the flush under way has taken. For the log's
thread only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from minikafka.log.group_commit import SyncWork
from minikafka.log.segment import INDEX_SUFFIX, TIME_INDEX_SUFFIX, Segment

PARTITION_METADATA = "partition.metadata"


class Unsynced:
    __slots__ = ("_directory", "_names_are_new", "_segments", "_taken")

    def __init__(self, directory: str, segments: Iterable[Segment]) -> None:
        """`segments`: closed ones, of a log that is opened."""
        self._directory = directory
        self._segments = tuple(segments)
        self._names_are_new = True
        self._taken: tuple[tuple[Segment, ...], bool] = ((), False)

    def rolled(self, segment: Segment) -> None:
        """It is closed, and another begun."""
        if segment not in self._segments:  # it may have been closed before, and cut since
            self._segments += (segment,)
        self._names_are_new = True

    def drop(self, gone: Collection[Segment]) -> None:
        """These segments are no part of the log any more."""
        self._segments = tuple(each for each in self._segments if each not in gone)
        taken, names = self._taken
        self._taken = (tuple(each for each in taken if each not in gone), names)

    def take(self, active: Segment, log_end_offset: int) -> SyncWork:
        """All of it, with the active segment, so as to make the log durable up to its end; nothing
        is left then."""
        work = SyncWork(log_end_offset)
        for segment in self._segments:
            work.paths += (
                segment.path,
                segment.file(INDEX_SUFFIX),
                segment.file(TIME_INDEX_SUFFIX),
            )
        work.paths.append(active.path)
        if self._names_are_new:
            work.directory = Path(self._directory)
            work.paths.append(work.directory / PARTITION_METADATA)
        self._taken = (self._segments, self._names_are_new)
        self._segments = ()
        self._names_are_new = False
        return work

    def put_back(self) -> None:
        """The flush that has taken it could not be made."""
        taken, names = self._taken
        self._segments += tuple(each for each in taken if each not in self._segments)
        self._names_are_new = self._names_are_new or names
