"""Processes by number, safely: no signal ever reaches a process that is not the one meant.

A pid outlives its process and is given out again. So a process is known by its pid and by when it
began: the two together are given out once, and both are known from the moment in which it is
forked. (Not by its command line: right after a start that is empty for a while, and what looks dead
then lives.) A signal goes through a pidfd that was opened before the process was looked at, so that
it cannot hit a successor. Where the system has no pidfd (outside Linux), the gap between looking
and signalling is as small as two lines of code.

Who has started a process itself and still has its handle (Popen) asks that.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

_POLL_S = 0.02
# In /proc/<pid>/stat, counted from the state on.
_STATE, _FLAGS, _USER_TICKS, _SYSTEM_TICKS, _START = 0, 6, 11, 12, 19
_EXITING = 4  # PF_EXITING
_PROC = Path("/proc/self/stat")
_LISTED_S = 10.0  # for `ps` to answer


@dataclass(frozen=True, slots=True)
class Process:
    """`started` is what `start_of` told of it. None: whoever recorded the pid did not know, as
    older versions of this program; then one of its arguments must contain `mark`."""

    pid: int | None
    started: str | None = None
    mark: str = ""

    @classmethod
    def of(cls, pid: int) -> Process:
        """The one that has this pid now."""
        return cls(pid, start_of(pid) or "ended")


def start_of(pid: int) -> str | None:
    """When a process began, as a word that is to be compared only; None if there is none (one that
    has ended and that nobody asked for yet, a zombie, is none)."""
    if _PROC.exists():
        stat = _stat(pid)
        return f"{stat[_START]}@{_boot()}" if stat and stat[_STATE] not in "ZX" else None
    words = _listed(pid, "stat=,lstart=").split()
    return "_".join(words[1:]) if words and not words[0].startswith("Z") else None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; empty if there is no such process."""
    try:
        # The state follows the command's name, which may hold anything but ends at the last ).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return fields if len(fields) > _START else []


@cache
def _boot() -> str:
    """The clock that the starts are told by begins anew with each boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "boot"


def _listed(pid: int, fields: str) -> str:
    listed = subprocess.run(
        ["ps", "-o", fields, "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_LISTED_S,
        env=os.environ | {"LC_ALL": "C"},
    )
    return listed.stdout


def command_line(pid: int) -> list[str] | None:
    """The arguments of a live process; None if there is none. May be empty of one that has only
    just been started."""
    if not _PROC.exists():
        return _listed(pid, "command=").split() or None
    if start_of(pid) is None:
        return None
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return os.fsdecode(raw).rstrip("\0").split("\0")


def is_running(process: Process) -> bool:
    """Whether that very process is there, running or paused."""
    if process.pid is None or process.pid <= 0:
        return False
    if process.started is not None:
        return start_of(process.pid) == process.started
    arguments = command_line(process.pid)
    return arguments is not None and any(process.mark in argument for argument in arguments)


def condition(process: Process) -> Literal["running", "paused", "ended"]:
    """What the process does. Where there is no /proc, a paused one counts as running."""
    if not is_running(process):
        return "ended"
    assert process.pid is not None
    return "paused" if _stat(process.pid)[:1] == ["T"] else "running"


def send_signal(process: Process, number: signal.Signals) -> bool:
    """Signal the process if it is the one meant. False: it is not there (any more)."""
    if process.pid is None or process.pid <= 0:
        return False
    with _process_fd(process.pid) as fd:
        if not is_running(process):
            return False
        with contextlib.suppress(ProcessLookupError):
            if fd is None:
                os.kill(process.pid, number)
            else:
                signal.pidfd_send_signal(fd, number)
            return True
        return False


def wait_ended(process: Process, timeout_s: float) -> bool:
    """Wait until the process is gone, with its files and ports; False if it is still there after
    `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    if process.pid is None or process.pid <= 0:
        return True
    with _process_fd(process.pid) as fd:
        while is_running(process) or (fd is not None and _is_leaving(process.pid)):
            left_s = max(0.0, deadline - time.monotonic())
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
    stat = _stat(pid)
    return bool(stat) and bool(int(stat[_FLAGS]) & _EXITING)


@dataclass(frozen=True, slots=True)
class Work:
    """What a process has done since it began: bytes that it read and wrote (in files, not on
    connections), and seconds of CPU."""

    moved_bytes: int
    cpu_s: float


def work_of(pid: int) -> Work | None:
    """None where that cannot be told, or there is no such process."""
    stat = _stat(pid)
    if not stat:
        return None
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return None
    counts = dict(line.split(": ") for line in lines)
    ticks = int(stat[_USER_TICKS]) + int(stat[_SYSTEM_TICKS])
    return Work(int(counts["rchar"]) + int(counts["wchar"]), ticks / os.sysconf("SC_CLK_TCK"))


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
