"""What a log knows of those around it: the store, and whoever works on its files."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from minikafka.log.files import Disk
from minikafka.log.open_files import OpenFiles
from minikafka.model import TopicPartition

if TYPE_CHECKING:
    from minikafka.log.partition_log import DiskLog


class LogHost(Protocol):
    """What a log needs of the store that it is in."""

    @property
    def disk(self) -> Disk: ...
    @property
    def executor(self) -> Executor: ...
    @property
    def open_files(self) -> OpenFiles: ...
    @property
    def changed(self) -> dict[DiskLog, None]:
        """Where a log puts itself in when what is checkpointed of it has changed."""

    @property
    def compacted(self) -> dict[DiskLog, None]:
        """The logs whose topics are compacted put themselves in."""

    @property
    def fenced(self) -> dict[TopicPartition, str]:
        """The partitions of logs that were fenced, each with the reason."""

    def discard(self, paths: Iterable[Path], delay_ms: int) -> None:
        """Unlink these files, off the loop, when the delay has passed."""

    def on_lowered(self) -> None:
        """A log has fallen below what the checkpoint files say: write them anew, now. OSError."""


class Ending(Protocol):
    """Work on a log's files that can be ended at once."""

    def end(self) -> None:
        """From now on nothing comes of it. Raises OSError."""
