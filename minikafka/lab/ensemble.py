"""The servers of ZooKeeper on a stage: who leads, who is connected where; kill, pause, start.

Servers are numbered from 1, in the order of cluster.json. State: which are paused or dead by our
doing.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from minikafka import processes
from minikafka.errors import MinikafkaError, NetworkError
from minikafka.local import clusterfile
from minikafka.local.cluster import LocalCluster
from minikafka.processes import Process

T = TypeVar("T")

DEADLINE_S = 20.0
_POLL_S = 0.03
_KILL_WAIT_S = 10.0
_SESSION = re.compile(r"sid=0x([0-9a-f]+)")


class NotSeen(MinikafkaError):
    """Something that should have happened has not, in time."""


def wait_until(probe: Callable[[], T | None], what: str, timeout_s: float = DEADLINE_S) -> T:
    """The first value of `probe` that is true; a lost connection is none. Raises NotSeen."""
    deadline = time.monotonic() + timeout_s
    trouble = ""
    while True:
        found = None
        try:
            found = probe()
        except NetworkError as error:
            trouble = f" ({error.message})"
        if found:
            return found
        if time.monotonic() > deadline:
            raise NotSeen(f"{timeout_s:.0f} s were not enough for {what}{trouble}")
        time.sleep(_POLL_S)


def wait_finished(process: subprocess.Popen[str], what: str, timeout_s: float) -> tuple[str, str]:
    """What a command wrote to its two outputs until it ended. One that does not end in time is
    killed: raises NotSeen."""
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise NotSeen(f"{timeout_s:g} s were not enough for {what} to end") from None
    return output or "", errors or ""


class Ensemble:
    """See the module's docstring."""

    def __init__(self, local: LocalCluster) -> None:
        self._local = local
        self._paused: set[int] = set()
        self._dead: set[int] = set()
        self.addresses = local.require().zookeeper.hosts.split(",")

    @property
    def numbers(self) -> range:
        return range(1, len(self.addresses) + 1)

    @property
    def living(self) -> list[int]:
        return [each for each in self.numbers if each not in self._dead | self._paused]

    @property
    def serves(self) -> bool:
        """Whether a majority is up, as far as we have not taken it down."""
        return 2 * len(self.living) > len(self.addresses)

    def address(self, number: int) -> str:
        return self.addresses[number - 1]

    def mode(self, number: int) -> str | None:
        """leader, follower or standalone; None if it does not serve."""
        from minikafka.zookeeper.servers.addresses import port_of, serving_mode

        return serving_mode(*port_of(self.address(number))) if number in self.living else None

    def modes(self) -> dict[int, str | None]:
        return {number: self.mode(number) for number in self.numbers}

    def leader(self) -> int:
        """Raises NotSeen."""
        return self._until("leader")[0]

    def followers(self) -> list[int]:
        return self._until("follower")

    def _until(self, mode: str) -> list[int]:
        return wait_until(
            lambda: [number for number, each in self.modes().items() if each == mode],
            f"a {mode} among ZooKeeper's servers",
        )

    def sessions_at(self, number: int) -> set[int]:
        """The sessions whose clients are connected to this server."""
        from minikafka.zookeeper.servers.addresses import four_letter_word, port_of

        if number not in self.living:
            return set()
        answer = four_letter_word(*port_of(self.address(number)), "cons") or ""
        return {int(found, 16) for found in _SESSION.findall(answer)}

    def server_of(self, session_id: int) -> int | None:
        """Where the client of a session is connected."""
        return next(
            (each for each in self.numbers if session_id in self.sessions_at(each)),
            None,
        )

    def kill(self, number: int) -> None:
        """SIGKILL; returns when the process is gone."""
        self._dead.add(number)
        self._send(number, signal.SIGKILL)
        if not processes.wait_ended(self._process(number), _KILL_WAIT_S):
            raise NotSeen(f"{_KILL_WAIT_S:g} s were not enough for ZooKeeper's {number} to end")

    def start(self, number: int) -> None:
        """A dead one again. Returns when it serves, if there is a majority then."""
        from minikafka.zookeeper.servers.launcher import start_server

        layout = self._local.layout
        server = start_server(layout.zookeeper, number, detached=True)
        with clusterfile.changing(layout.data_dir):
            cluster = self._local.require()
            zookeeper = cluster.zookeeper.with_process(number - 1, server.pid)
            clusterfile.save(layout.data_dir, replace(cluster, zookeeper=zookeeper))
        self._dead.discard(number)
        if self.serves:
            wait_until(lambda: self.mode(number), f"server {number} of ZooKeeper to serve", 40)

    def pause(self, *numbers: int) -> None:
        """SIGSTOP."""
        for number in numbers:
            self._paused.add(number)
            self._send(number, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to all that are paused."""
        for number in list(self._paused):
            self._send(number, signal.SIGCONT)
            self._paused.discard(number)

    def restore(self) -> None:
        """All of them, up and serving. Raises NotSeen."""
        self.resume()
        for number in list(self._dead):
            with contextlib.suppress(NotSeen):  # told below, of all of them
                self.start(number)
        wait_until(lambda: all(self.modes().values()), "all of ZooKeeper's servers to serve", 40)

    def _process(self, number: int) -> Process:
        return self._local.zookeeper_processes(self._local.require().zookeeper)[number - 1]

    def _send(self, number: int, what: signal.Signals) -> None:
        processes.send_signal(self._process(number), what)
