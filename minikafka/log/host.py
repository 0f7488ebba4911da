"""The store, as a log sees it."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol

from minikafka.log.files import Disk


class LogHost(Protocol):
    """What a log needs of the store that it is in."""

    @property
    def disk(self) -> Disk: ...
    @property
    def executor(self) -> Executor: ...
    def discard(self, paths: Iterable[Path], delay_ms: int) -> None:
        """Unlink these files, off the loop, when the delay has passed."""

    def on_lowered(self) -> None:
        """A log has fallen below what the checkpoint files say: write them anew, now. OSError."""
