"""Who may use the machine: several workers run tests side by side, and some tests (marked `alone`)
have to have it for themselves.

Two locks on files: `door`, which is held for a moment by whoever wants in, and `room`, which tests
share and a test that is alone does not. Who waits for the room to be empty keeps the door shut, so
that nobody overtakes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "MINIKAFKA_TESTS_MACHINE"


def prepare() -> None:
    """By the process that starts the workers: they find the locks in their environment."""
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix="minikafka-machine-")


def clear() -> None:
    shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True)


@contextmanager
def used(*, alone: bool) -> Iterator[None]:
    """Wait for the machine, and have it."""
    folder = Path(os.environ[VARIABLE])
    with (
        _locked(folder / "door", fcntl.LOCK_EX) as door,
        _locked(folder / "room", fcntl.LOCK_EX if alone else fcntl.LOCK_SH),
    ):
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


@contextmanager
def _locked(path: Path, how: int) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, how)
        yield file
    finally:
        os.close(file)
