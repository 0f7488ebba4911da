"""The folders of partitions in a data directory: their names, whose they are, what could not be
opened. No state."""

from __future__ import annotations

import logging
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from minikafka.log.failures import describe
from minikafka.log.files import Disk
from minikafka.log.unsynced import PARTITION_METADATA
from minikafka.model import TopicPartition, topic_partition

DELETE_SUFFIX = "-delete"
_FOLDER = re.compile(r"(?P<topic>[a-zA-Z0-9._-]+)-(?P<partition>\d+)", re.ASCII)
_NAME_MAX = 255
_logger = logging.getLogger("minikafka.log")


@dataclass(frozen=True)
class UnusableLog:
    """A folder that could not be opened when the broker started. The checkpoints keep what they
    say of it for when it has been mended."""

    directory: Path
    topic_id: str
    reason: str


def reason_for(topic_partition: TopicPartition, folder: Path, error: Exception) -> str:
    """Why it cannot be opened, and what there is to do."""
    if isinstance(error, PermissionError):
        remedy = "let this user read and write it"
    else:
        remedy = "mend it, or move the folder away to have the partition copied from its leader"
    return (
        f"the log of {topic_partition} in {folder} cannot be opened: {describe(error)}; stop the "
        f"broker, {remedy}, and start the broker again"
    )


def parse_folder(path: Path) -> TopicPartition | None:
    match = _FOLDER.fullmatch(path.name)
    if match is None or not path.is_dir():
        return None
    return topic_partition(sys.intern(match["topic"]), int(match["partition"]))


def deleted_name(topic_partition: TopicPartition) -> str:
    """For a folder that is on its way out."""
    suffix = f".{secrets.token_hex(16)}{DELETE_SUFFIX}"
    return str(topic_partition)[: _NAME_MAX - len(suffix)] + suffix


def read_topic_id(disk: Disk, folder: Path) -> str:
    """ "" if it is not known: the next `open` gives the log its id then, as Kafka does. OSError."""
    try:
        text = disk.read_file(folder / PARTITION_METADATA).decode()
    except (FileNotFoundError, UnicodeDecodeError):
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == "topic_id":
            return sys.intern(value.strip())  # all partitions of a topic have the same
    _logger.warning("%s has no readable %s: its topic id is unknown", folder, PARTITION_METADATA)
    return ""


def write_topic_id(disk: Disk, folder: Path, topic_id: str) -> None:
    content = f"version: 0\ntopic_id: {topic_id}\n"
    disk.write_file(folder / PARTITION_METADATA, content.encode(), durable=False)


def remove_quietly(disk: Disk, directory: Path) -> None:
    """What cannot be removed now is tried again at the next start."""
    try:
        disk.remove_tree(directory)
    except OSError as error:
        _logger.warning("%s cannot be removed yet: %s", directory, error)
