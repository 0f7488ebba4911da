"""The small text files that say how far things are: replaced as a whole, durably.

    replication-offset-checkpoint, recovery-point-offset-checkpoint, log-start-offset-checkpoint,
    cleaner-offset-checkpoint
        0                       version
        2                       number of entries
        orders 0 1742           topic, partition, offset
        orders 1 9

    leader-epoch-checkpoint (in a partition's folder)
        0
        1
        3 1700                  leader epoch, its start offset

Kafka's formats. Temporary file, fsync, rename, fsync of the folder: a crash leaves the old or the
new file. No state.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from minikafka.log.files import Disk
from minikafka.model import EpochEntry, TopicPartition
from minikafka.turns import give_way

HIGH_WATERMARKS = "replication-offset-checkpoint"
RECOVERY_POINTS = "recovery-point-offset-checkpoint"
LOG_STARTS = "log-start-offset-checkpoint"
CLEAN_OFFSETS = "cleaner-offset-checkpoint"  # below them everything has been compacted
LEADER_EPOCHS = "leader-epoch-checkpoint"

_VERSION = "0"
_LINES_AT_ONCE = 200  # some 100 microseconds, for which the loop may have to wait
_logger = logging.getLogger("minikafka.log")


def write_offsets(
    disk: Disk, path: Path, offsets: Mapping[TopicPartition, int], *, aside: bool = False
) -> None:
    """In the order of the mapping. `aside`: in a thread, while the loop runs. Raises OSError."""
    lines: list[str] = []
    for tp, offset in offsets.items():
        lines.append(f"{tp.topic} {tp.partition} {offset}")
        if aside and not len(lines) % _LINES_AT_ONCE:
            give_way()
    disk.write_file(path, _encode(lines), durable=True)


def read_offsets(disk: Disk, path: Path) -> dict[TopicPartition, int]:
    """The offsets of a checkpoint; of a missing, damaged or unreadable one, none: each caller's
    default (nothing committed, nothing flushed, nothing deleted) is safe then. A folder in its
    place is set aside, so that there can be a checkpoint again. OSError if it cannot be."""
    offsets: dict[TopicPartition, int] = {}
    try:
        for line in _decode(disk, path) or ():
            topic, partition, offset = line.split(" ")
            offsets[TopicPartition(topic, int(partition))] = _offset(offset)
    except IsADirectoryError:
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.folder")
        _logger.warning("checkpoint %s is a folder: it is renamed to %s", path, aside.name)
        disk.rename(path, aside)
        return {}
    except (ValueError, OSError) as error:
        _logger.warning("checkpoint %s is damaged and not used: %s", path, error)
        return {}
    return offsets


def write_epochs(disk: Disk, directory: Path, entries: Iterable[EpochEntry]) -> None:
    """Raises OSError."""
    lines = [f"{entry.leader_epoch} {entry.start_offset}" for entry in entries]
    disk.write_file(directory / LEADER_EPOCHS, _encode(lines), durable=True)


def read_epochs(disk: Disk, directory: Path) -> list[EpochEntry] | None:
    """None if there is no usable checkpoint: the epochs are then to be found in the batches."""
    path = directory / LEADER_EPOCHS
    try:
        lines = _decode(disk, path)
        if lines is None:
            return None
        entries = [EpochEntry(*map(_offset, line.split(" "))) for line in lines]
    except (ValueError, TypeError) as error:
        _logger.warning("checkpoint %s is damaged and not used: %s", path, error)
        return None
    return entries


def _offset(text: str) -> int:
    """ValueError unless it is one that there can be."""
    offset = int(text)
    if not 0 <= offset < 2**63:
        raise ValueError(f"an entry says {offset}")
    return offset


def _encode(lines: list[str]) -> bytes:
    return "\n".join([_VERSION, str(len(lines)), *lines, ""]).encode()


def _decode(disk: Disk, path: Path) -> list[str] | None:
    """The entries; None if there is no file. ValueError if it is damaged."""
    try:
        version, count, *lines = disk.read_file(path).decode().splitlines()
    except FileNotFoundError:
        return None
    if version != _VERSION:
        raise ValueError(f"version {version!r}; {_VERSION} is supported")
    if int(count) != len(lines):
        raise ValueError(f"{count} entries are promised, {len(lines)} are there")
    return lines
