"""Ends a cluster whose owner was killed: `up` and `demo` leave no orphan, whatever happens to them.

The owner starts this module as a process and holds the writing end of a pipe that is its standard
input. The pipe ends with the owner: if the owner did not say `done` before, the guardian ends the
brokers and ZooKeeper of the data directory just as `down` does. It needs no pid of anybody, so none
can be mistaken.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from minikafka.children import module_command

_DONE = b"done"
_LEAVE_S = 10.0


class Guardian:
    """`with Guardian(data_dir): ...` around the time in which a cluster may run."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Guardian:
        self._process = subprocess.Popen(
            module_command("minikafka.local.guardian", str(self._data_dir)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process is not None
        try:
            self._process.communicate(_DONE, timeout=_LEAVE_S)
        except subprocess.TimeoutExpired:
            # It has nothing left to do but to hear that; as it is paused, say, it cannot.
            self._process.kill()
            self._process.communicate()


def watch(data_dir: Path, descriptor: int) -> None:
    """Wait for the end of the pipe, then clean up unless it said that there is nothing to do."""
    said = b""
    while piece := os.read(descriptor, 64):
        said += piece
    if said == _DONE:
        return
    from minikafka.local.cluster import LocalCluster
    from minikafka.local.starting import stop_all

    local = LocalCluster(data_dir)
    if local.load() is not None:
        stop_all(local, lambda _: None)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(Path(sys.argv[1]), sys.stdin.fileno())
