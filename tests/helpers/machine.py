"""Who may use the machine: several workers run tests side by side, and some tests (marked `alone`)
have to have it for themselves.

Whoever only computes (unit tests, the simulation) goes on beside a test that is alone, at a low
priority: it takes little but what the other leaves over. Where the system does not let a process
have its old priority back, it waits like everybody else.

Two locks on files: `door`, which is held for a moment by whoever wants in, and `room`, which tests
share and a test that is alone does not. Who waits for the room to be empty keeps the door shut, so
that nobody overtakes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

VARIABLE = "MINIKAFKA_TESTS_MACHINE"
_LOW = 15  # gets a thirtieth of a core that others want
_THERE_AND_BACK = "import os; old = os.nice(0); os.nice(1); os.setpriority(os.PRIO_PROCESS, 0, old)"


class Use(Enum):
    ALONE = "alone"
    SHARED = "shared"
    ASIDE = "aside"  # computes, and starts nothing that would inherit its priority


def prepare() -> None:
    """By the process that starts the workers: they find the locks in their environment."""
    folder = Path(tempfile.mkdtemp(prefix="minikafka-machine-"))
    os.environ[VARIABLE] = str(folder)
    tried = subprocess.run([sys.executable, "-c", _THERE_AND_BACK], stderr=subprocess.DEVNULL)
    if tried.returncode == 0:
        (folder / "priorities").touch()


def clear() -> None:
    shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True)


@contextmanager
def used(use: Use) -> Iterator[None]:
    """Wait for the machine, and have it."""
    folder = Path(os.environ[VARIABLE])
    if use is Use.ASIDE and (folder / "priorities").exists():
        with _at_low_priority():
            yield
        return
    with (
        _locked(folder / "door", fcntl.LOCK_EX) as door,
        _locked(folder / "room", fcntl.LOCK_EX if use is Use.ALONE else fcntl.LOCK_SH),
    ):
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


@contextmanager
def _at_low_priority() -> Iterator[None]:
    """This thread, and those that it starts."""
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, _LOW)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, usual)


@contextmanager
def _locked(path: Path, how: int) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, how)
        yield file
    finally:
        os.close(file)
