"""Opening the folder of one partition: trust it after a clean shutdown, else check it.

After a clean shutdown the segments are as they were left; only the active one's tail is walked
over. Otherwise every batch from the recovery point on (below it everything was fsynced) is checked:
length, CRC, ascending offsets, and that each segment begins where the one before it ends. The log
is cut at the first thing that is wrong and later segments go; indexes are made anew; epochs are
completed from the headers and cut to the log's end (replication.md section 5). A compaction that
was about to put a new segment in place is finished first. The transaction indexes of the segments
that were checked are made anew, and from one on that cannot be right (aborted.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from minikafka.config import TopicConfig
from minikafka.core.replication.epochs import EpochCache
from minikafka.errors import CorruptMessageError
from minikafka.log import aborted, checkpoints, producers, swap
from minikafka.log.files import DELETED_SUFFIX, TEMPORARY_SUFFIX, Disk
from minikafka.log.segment import LOG_SUFFIX, Segment
from minikafka.model import BatchHeader, EpochEntry

_logger = logging.getLogger("minikafka.log")


@dataclass(frozen=True)
class Checkpointed:
    """What the store's checkpoints say of one log; 0 where they say nothing."""

    recovery_point: int = 0
    log_start_offset: int = 0
    high_watermark: int = 0
    clean_offset: int = 0


@dataclass
class LoadedSegments:
    """A usable set of segments, the last of them active, and what goes with it."""

    segments: list[Segment]
    log_start_offset: int
    high_watermark: int
    recovery_point: int
    clean_offset: int
    epochs: tuple[EpochEntry, ...]
    epochs_are_stored: bool
    is_new: bool = False  # there has never been anything in the folder
    aborted: Sequence[int] = ()  # the segments with a transaction index


def first_segment(disk: Disk, directory: Path) -> LoadedSegments:
    """That of a folder that has just been made: there is nothing to look for in it. OSError."""
    segment = Segment.create(disk, directory, 0)
    return LoadedSegments([segment], 0, 0, 0, 0, (), epochs_are_stored=True, is_new=True)


def load_segments(
    disk: Disk, directory: Path, config: TopicConfig, said: Checkpointed, clean: bool
) -> LoadedSegments:
    """The segments of a folder, usable; makes the first one in an empty folder. Whatever it raises:
    no file is left open."""
    remove_leftovers(disk, directory)
    swap.finish_interrupted(disk, directory)
    segments = _find_segments(disk, directory)
    found = list(segments)
    try:
        return _load(disk, directory, config, said, clean, segments)
    except BaseException:
        for segment in found:
            with suppress(OSError):
                segment.deactivate(write_indexes=False)
        raise


def _load(
    disk: Disk,
    directory: Path,
    config: TopicConfig,
    said: Checkpointed,
    clean: bool,
    segments: list[Segment],
) -> LoadedSegments:
    stored_epochs = checkpoints.read_epochs(disk, directory)
    epochs = EpochCache(stored_epochs or ())
    complete = _completer(epochs)
    suspects = aborted.Suspects()
    if not segments:
        segments = [Segment.create(disk, directory, said.log_start_offset)]
    elif not (clean and _activate_last(disk, segments[-1], config)):
        suspects.note_recovery(segments, said.recovery_point)

        def on_header(header: BatchHeader) -> None:
            complete(header)
            suspects.note(header)

        segments = _recover(disk, segments, config, said.recovery_point, on_header)
    if segments[-1].next_offset < said.log_start_offset:
        segments = _restart(disk, directory, segments, said.log_start_offset)
    log_end_offset = segments[-1].next_offset
    log_start_offset = max(said.log_start_offset, segments[0].base_offset)
    if stored_epochs is None or _begin_late(epochs, log_start_offset, log_end_offset):
        for segment in segments:
            for _, header in segment.headers(segment.base_offset):
                complete(header)
    epochs.truncate_from_end(log_end_offset)
    above = [at for at in producers.snapshot_offsets(disk, directory) if at > log_end_offset]
    producers.remove_snapshots(disk, directory, above)
    with_index = aborted.checked(disk, directory, segments, suspects)
    entries = tuple(epochs.entries())
    return LoadedSegments(
        segments,
        log_start_offset,
        max(min(said.high_watermark, log_end_offset), log_start_offset),
        min(said.recovery_point, log_end_offset),
        min(said.clean_offset, log_end_offset),
        entries,
        epochs_are_stored=tuple(stored_epochs or ()) == entries,
        aborted=with_index,
    )


def _begin_late(epochs: EpochCache, log_start_offset: int, log_end_offset: int) -> bool:
    """Do the epochs leave out the first records? The log's start was raised, the epochs that are
    left were stored, and the process was killed before the new start was: what was deleted is back.
    """
    first = next(iter(epochs.entries()), None)
    begin = log_end_offset if first is None else first.start_offset
    return log_start_offset < min(begin, log_end_offset)


def remove_leftovers(disk: Disk, directory: Path) -> None:
    """Files that were given up before the last stop."""
    for name in disk.listdir(directory):
        if name.endswith((DELETED_SUFFIX, TEMPORARY_SUFFIX, swap.CLEANED_SUFFIX)):
            disk.remove(directory / name)


def _find_segments(disk: Disk, directory: Path) -> list[Segment]:
    names = [name.removesuffix(LOG_SUFFIX) for name in disk.names(directory, LOG_SUFFIX)]
    found = [Segment(disk, directory, int(name), 0, 0) for name in names if name.isdecimal()]
    found.sort(key=lambda segment: segment.base_offset)
    segments = []
    for segment in found:
        segment.size_bytes = disk.size_of(segment.path)
        if segment.size_bytes or segment is found[-1]:
            segments.append(segment)
        else:
            # A roll that was undone, and a host that failed before that was durable. It says
            # nothing, and might lie within the segment before it.
            disk.remove(segment.path)
    for segment, following in zip(segments, [*segments[1:], *segments[-1:]], strict=True):
        segment.next_offset = following.base_offset
    return segments


def _activate_last(disk: Disk, segment: Segment, config: TopicConfig) -> bool:
    """After a clean shutdown. False if that is not what it looks like."""
    try:
        segment.activate(config.index_interval_bytes)
    except CorruptMessageError as error:
        _logger.error("%s is damaged in spite of a clean shutdown: %s", segment.path, error)
        segment.deactivate(write_indexes=False)
        segment.size_bytes = disk.size_of(segment.path)
        return False
    return True


def _completer(epochs: EpochCache) -> Callable[[BatchHeader], None]:
    """Makes epochs agree with the batches that it is called with, in order of offset."""

    def complete(header: BatchHeader) -> None:
        if header.leader_epoch < 0 or epochs.epoch_at(header.base_offset) == header.leader_epoch:
            return
        epochs.truncate_from_end(header.base_offset)
        if epochs.latest_epoch != header.leader_epoch:
            epochs.assign(header.leader_epoch, header.base_offset)

    return complete


def _recover(
    disk: Disk,
    segments: list[Segment],
    config: TopicConfig,
    recovery_point: int,
    on_header: Callable[[BatchHeader], None],
) -> list[Segment]:
    """Check what may not have reached the disk; returns the segments that stay, the last active."""
    first = len(segments) - 1
    while first > 0 and segments[first].base_offset > recovery_point:
        first -= 1
    expected: int | None = None
    for index in range(first, len(segments)):
        segment = segments[index]
        if expected is not None and segment.base_offset != expected:
            problem = f"{segment.path} begins at {segment.base_offset}; {expected} was due"
            return _cut(disk, segments, index, problem)
        if expected is not None:
            segments[index - 1].deactivate()
        segment.become_active()
        try:
            segment.rebuild(recovery_point, config.index_interval_bytes, on_header)
        except CorruptMessageError as error:
            segment.cut_back()
            return _cut(disk, segments, index + 1, f"{segment.path}: {error}")
        expected = segment.next_offset
    return segments


def _cut(disk: Disk, segments: list[Segment], keep: int, problem: str) -> list[Segment]:
    """Everything after the first `keep` segments goes, the last first; they never come back."""
    _logger.warning("log cut at offset %d: %s", segments[keep - 1].next_offset, problem)
    for segment in reversed(segments[keep:]):
        for path in disk.set_aside(segment.files()):
            disk.remove(path)
    disk.sync_directory(segments[0].path.parent)
    return segments[:keep]


def _restart(
    disk: Disk, directory: Path, segments: list[Segment], log_start_offset: int
) -> list[Segment]:
    """All that is left was deleted by the log's start long ago."""
    for segment in reversed(segments):
        segment.deactivate(write_indexes=False)
        for path in disk.set_aside(segment.files()):
            disk.remove(path)
    disk.sync_directory(directory)
    return [Segment.create(disk, directory, log_start_offset)]
