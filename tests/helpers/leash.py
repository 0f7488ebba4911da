"""No process outlives the tests that started it, also when these are killed.

SIGTERM ends a run like Ctrl-C: every fixture cleans up. SIGKILL leaves no time for that; so each
process that is started from here is told to another one (this module, run as a program), which
holds the end of a pipe. The pipe ends with the tests; then it ends what is still there: by SIGTERM,
so that a command that has processes of its own can end them, and by SIGKILL after a while.

(Clusters of `up --detach`, which outlive their command on purpose, have a guardian: processes.py.)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import cache
from typing import Any

from minikafka import processes
from minikafka.processes import Process

_PATIENCE_S = 20.0


def hold_children() -> None:
    """From now on, all that `subprocess` starts. SIGTERM to us is like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = subprocess.Popen.__init__

    def start_on_leash(popen: subprocess.Popen[Any], *args: Any, **options: Any) -> None:
        start(popen, *args, **options)
        if popen.args != _COMMAND:
            _tell(popen.pid)

    subprocess.Popen.__init__ = start_on_leash  # type: ignore[method-assign,assignment]


_COMMAND = [sys.executable, "-m", "tests.helpers.leash"]


def _tell(pid: int) -> None:
    started = processes.start_of(pid)
    if started is not None:
        os.write(_pipe(os.getpid()), f"{pid} {started}\n".encode())


@cache
def _pipe(_pid: int) -> int:
    """Of this process: a fork of it has one of its own."""
    holder = subprocess.Popen(
        _COMMAND, stdin=subprocess.PIPE, start_new_session=True, stdout=subprocess.DEVNULL
    )
    assert holder.stdin is not None
    _held.append(holder)
    return holder.stdin.fileno()


_held: list[subprocess.Popen[bytes]] = []  # until we end, and so its pipe


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = [line.split() for line in sys.stdin]
    held = [Process(int(pid), started) for pid, started in told]
    left = [each for each in held if processes.send_signal(each, signal.SIGTERM)]
    for each in left:
        processes.send_signal(each, signal.SIGCONT)
    deadline = time.monotonic() + _PATIENCE_S
    for each in left:
        if not processes.wait_ended(each, max(0.0, deadline - time.monotonic())):
            processes.send_signal(each, signal.SIGKILL)


if __name__ == "__main__":
    main()
