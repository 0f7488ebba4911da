"""The transaction indexes of a log that is opened: trusted where they can be right, else made anew
from the log itself.

What a recovery had to check is made anew: a batch may be in the file and its entry not, or the
other way round. Below that everything was fsynced, and a file only has to look right. One is made
by a replay from the newest snapshot below on; a log without transactions is never replayed here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.log import producers
from minikafka.log.files import Disk
from minikafka.log.segment import TRANSACTION_INDEX_SUFFIX, Segment, offset_name
from minikafka.log.transaction_index import decode, encode
from minikafka.model import CONTROL, BatchHeader

_logger = logging.getLogger("minikafka.log")


class Suspects:
    """From which offset on indexes may be wrong; None: nowhere."""

    def __init__(self) -> None:
        self.offset: int | None = None
        self._recovered: int | None = None
        self._found_markers = False

    def note_recovery(self, segments: Sequence[Segment], recovery_point: int) -> None:
        """These are about to be checked, from the one that holds the recovery point on."""
        below = [each.base_offset for each in segments if each.base_offset <= recovery_point]
        self._recovered = max(below, default=segments[0].base_offset)

    def note(self, header: BatchHeader) -> None:
        """A batch that was checked."""
        if header.attributes & CONTROL:
            self._found_markers = True

    def settle(self, bases: Sequence[int]) -> None:
        """`bases`: the segments that have an index. Without one, and without a marker, what was
        recovered is not looked at again."""
        at = self._recovered
        if at is not None and (self._found_markers or any(base >= at for base in bases)):
            self.at_latest(at)

    def at_latest(self, offset: int) -> None:
        self.offset = offset if self.offset is None else min(self.offset, offset)


def checked(
    disk: Disk, directory: Path, segments: Sequence[Segment], suspects: Suspects
) -> list[int]:
    """The base offsets of the segments that have an index, now that all are right. Raises
    OSError."""
    by_base = {segment.base_offset: segment for segment in segments}
    bases: list[int] = []
    for name in disk.names(directory, TRANSACTION_INDEX_SUFFIX):
        stem = name.removesuffix(TRANSACTION_INDEX_SUFFIX)
        if not stem.isdecimal() or int(stem) not in by_base:
            disk.remove(directory / name)
            continue
        base = int(stem)
        bases.append(base)
        content = disk.read_file(directory / name)
        try:
            decode(content, base, by_base[base].next_offset)
            if not content:  # it is to be made (swap.py)
                suspects.at_latest(base)
        except ValueError as error:
            _logger.warning("%s is damaged and made anew: %s", directory / name, error)
            suspects.at_latest(base)
    suspects.settle(bases)
    if suspects.offset is None:
        return bases
    return _remade(disk, directory, segments, suspects.offset, bases)


def _remade(
    disk: Disk, directory: Path, segments: Sequence[Segment], offset: int, bases: Sequence[int]
) -> list[int]:
    """From the segment that begins at or above `offset` on, anew."""
    with_index = [base for base in bases if base < offset]
    table: ProducerStateTable | None = None
    for at, segment in enumerate(segments):
        base = segment.base_offset
        if base < offset:
            continue
        if table is None:
            table = producers.load_producers(disk, directory, segments[:at], base)
        content = encode(producers.replay(segment, base, table))
        path = directory / offset_name(base, TRANSACTION_INDEX_SUFFIX)
        if content:
            disk.write_file(path, content, durable=True)
            with_index.append(base)
        elif base in bases:
            disk.remove(path)
    return with_index
