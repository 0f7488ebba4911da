"""Processes by number, safely: no signal ever reaches a process that is not the one meant.

A pid outlives its process and is given out again. So a process is known by its pid and by a mark
that one of its arguments must contain (the configuration file of a broker, the data directory of
a ZooKeeper server); a signal goes through a pidfd that was opened before the mark was looked for,
so that it cannot hit a successor. Where the system has no pidfd (outside Linux), the gap between
looking and signalling is as small as two lines of code.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

_POLL_S = 0.02
_LONGEST_WAIT_S = 3600.0
_FLAGS = 6  # in /proc/<pid>/stat, counted from the state on
_EXITING = 4  # PF_EXITING
ANY = ""  # a mark that every process bears


def command_line(pid: int) -> list[str] | None:
    """The arguments of a live process; None if there is none (a zombie is none)."""
    process = Path(f"/proc/{pid}")
    if process.parent.exists():
        try:
            # The state follows the command's name, which may hold anything but ends at the last ).
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            raw = (process / "cmdline").read_bytes()
        except (OSError, IndexError):
            return None
        return None if state in "ZX" else os.fsdecode(raw).rstrip("\0").split("\0")
    listed = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.split() or None


def is_running(pid: int | None, mark: str) -> bool:
    """Whether `pid` is a live process one of whose arguments contains `mark`."""
    arguments = None if pid is None or pid <= 0 else command_line(pid)
    return arguments is not None and any(mark in argument for argument in arguments)


def condition(pid: int | None, mark: str) -> Literal["running", "paused", "ended"]:
    """What the process does. Where there is no /proc, a paused one counts as running."""
    if not is_running(pid, mark):
        return "ended"
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "running"
    return "paused" if state == "T" else "running"


def send_signal(pid: int | None, mark: str, number: signal.Signals) -> bool:
    """Signal the process if it is the one meant. False: it is not there (any more)."""
    if pid is None or pid <= 0:
        return False
    with _process_fd(pid) as fd:
        if not is_running(pid, mark):
            return False
        with contextlib.suppress(ProcessLookupError):
            if fd is None:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(fd, number)
            return True
        return False


def wait_ended(pid: int | None, mark: str, timeout_s: float = math.inf) -> bool:
    """Wait until the process is gone, with its files and ports; False if it is still there after
    `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    if pid is None or pid <= 0:
        return True
    with _process_fd(pid) as fd:
        while is_running(pid, mark) or (fd is not None and _is_leaving(pid)):
            left_s = max(0.0, min(deadline - time.monotonic(), _LONGEST_WAIT_S))
            if fd is not None and fd in select.select([fd], [], [], left_s)[0]:
                return True  # all of its threads
            if left_s == 0:
                return False
            if fd is None:
                time.sleep(min(_POLL_S, left_s))
    return True


def _is_leaving(pid: int) -> bool:
    """Whether the process has begun to end: its arguments are gone, perhaps its first thread, but
    others may still hold its files and ports, which a successor would find taken."""
    try:
        flags = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_FLAGS]
    except (OSError, IndexError):
        return False
    return bool(int(flags) & _EXITING)


@contextlib.contextmanager
def _process_fd(pid: int) -> Iterator[int | None]:
    """A descriptor that stands for this very process; None where there is no such thing."""
    fd = None
    if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)
