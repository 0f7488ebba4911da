"""What a log knows of those around it: the store, and whoever works on its files."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol

from minikafka.log.files import Disk
from minikafka.log.open_files import OpenFiles


class LogHost(Protocol):
    """What a log needs of the store that it is in."""

    @property
    def disk(self) -> Disk: ...
    @property
    def executor(self) -> Executor: ...
    @property
    def open_files(self) -> OpenFiles: ...
    def discard(self, paths: Iterable[Path], delay_ms: int) -> None:
        """Unlink these files, off the loop, when the delay has passed."""

    def on_lowered(self) -> None:
        """A log has fallen below what the checkpoint files say: write them anew, now. OSError."""


class Ending(Protocol):
    """Work on a log's files that can be ended at once."""

    def end(self) -> None:
        """From now on nothing comes of it. Raises OSError."""
