"""The servers of ZooKeeper on a stage: who leads, who is connected where; kill, pause, start.

Servers are numbered from 1, in the order of cluster.json. State: which are paused or dead by our
doing.
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from minikafka.cli import clusterfile, processes
from minikafka.cli.cluster import LocalCluster
from minikafka.errors import MinikafkaError, NetworkError

T = TypeVar("T")

DEADLINE_S = 20.0
_POLL_S = 0.03
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
        from minikafka.zookeeper.addresses import port_of, serving_mode

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
        from minikafka.zookeeper.addresses import four_letter_word, port_of

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
        pid = self._pid(number)
        self._dead.add(number)
        self._send(number, signal.SIGKILL)
        processes.wait_ended(pid, self._mark, 5.0)

    def start(self, number: int) -> None:
        """A dead one again. Returns when it serves, if there is a majority then."""
        from minikafka.zookeeper.launcher import start_server

        layout = self._local.layout
        server = start_server(layout.zookeeper, number, detached=True)
        with clusterfile.changing(layout.data_dir):
            cluster = self._local.require()
            pids = list(cluster.zookeeper.pids)
            pids[number - 1] = server.pid
            zookeeper = replace(cluster.zookeeper, pids=tuple(pids))
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

    def _pid(self, number: int) -> int:
        return self._local.require().zookeeper.pids[number - 1]

    @property
    def _mark(self) -> str:
        return str(self._local.layout.zookeeper)

    def _send(self, number: int, what: signal.Signals) -> None:
        processes.send_signal(self._pid(number), self._mark, what)
