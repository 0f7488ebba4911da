"""cluster.json: what `minikafka up` started in a data directory, for every other command.

    {"zookeeper": {"mode": "embedded", "hosts": "127.0.0.1:2181", "pids": [4241],
                   "started": ["80123@62b1…"]},
     "brokers": [{"id": 1, "name": "A", "pid": 4242, "grpc": "127.0.0.1:19092", "kafka": null,
                  "metrics": "127.0.0.1:9404", "started": "80147@62b1…"}]}

A pid is what was started last: it is null once `down` ended it, and names a process that is gone
after a crash or a kill. `started` says when that process began (processes.start_of), and so which
one had the pid: commands compare it before they trust the pid. ZooKeeper's pids are empty when
somebody else runs it. Written by rename, so a reader sees a whole file; changed under `changing`,
so that two commands at once lose nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from minikafka.errors import UsageError
from minikafka.privacy import keep_from_others
from minikafka.processes import start_of

FILE_NAME = "cluster.json"
_LOCK_NAME = ".cluster.json.lock"
_LOCK_WAIT_S = 30.0  # a change takes milliseconds
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class BrokerEntry:
    """One broker; addresses are HOST:PORT."""

    id: int
    name: str
    pid: int | None
    grpc: str
    kafka: str | None = None
    metrics: str | None = None
    started: str | None = None


@dataclass(frozen=True, slots=True)
class ZooKeeperEntry:
    """`mode` as given to `up --zookeeper`, `hosts` as in zookeeper.connect. `started` is of each
    pid; empty in a file of an older version."""

    mode: str
    hosts: str
    pids: tuple[int, ...] = ()
    started: tuple[str, ...] = ()

    def with_processes(self, pids: Sequence[int]) -> ZooKeeperEntry:
        """Of these, which have just been started."""
        return replace(self, pids=tuple(pids), started=tuple(map(_started, pids)))

    def with_process(self, index: int, pid: int) -> ZooKeeperEntry:
        """That one has just been started again."""
        pids, started = list(self.pids), list(self.started)
        pids[index], started[index] = pid, _started(pid)
        return replace(self, pids=tuple(pids), started=tuple(started))


@dataclass(frozen=True, slots=True)
class ClusterFile:
    zookeeper: ZooKeeperEntry
    brokers: tuple[BrokerEntry, ...]

    def broker(self, id_or_name: str) -> BrokerEntry:
        """The broker of that number, or of that name in any case. Raises UsageError."""
        for entry in self.brokers:
            if id_or_name == str(entry.id) or id_or_name.lower() == entry.name.lower():
                return entry
        known = ", ".join(f"{entry.name} ({entry.id})" for entry in self.brokers)
        raise UsageError(f"there is no broker {id_or_name!r} here: there are {known}")

    def with_broker(self, changed: BrokerEntry) -> ClusterFile:
        return replace(
            self,
            brokers=tuple(changed if each.id == changed.id else each for each in self.brokers),
        )


def path_of(data_dir: Path) -> Path:
    return data_dir / FILE_NAME


def load(data_dir: Path) -> ClusterFile | None:
    """The cluster of a directory, None if none was ever started there.

    Raises UsageError if the file is there and is not what this module writes.
    """
    path = path_of(data_dir)
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        return _decode(json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} is damaged ({type(error).__name__}: {error}): it is written by `minikafka up`;"
            " remove it and start the cluster again, the data stay"
        ) from error


def _decode(document: dict[str, Any]) -> ClusterFile:
    zookeeper = document["zookeeper"]
    return ClusterFile(
        zookeeper=ZooKeeperEntry(
            str(zookeeper["mode"]),
            str(zookeeper["hosts"]),
            tuple(int(pid) for pid in zookeeper.get("pids", ())),
            tuple(str(each) for each in zookeeper.get("started", ())),
        ),
        brokers=tuple(
            BrokerEntry(
                id=int(each["id"]),
                name=str(each["name"]),
                pid=None if each["pid"] is None else int(each["pid"]),
                grpc=str(each["grpc"]),
                kafka=None if each.get("kafka") is None else str(each["kafka"]),
                metrics=None if each.get("metrics") is None else str(each["metrics"]),
                started=None if each.get("started") is None else str(each["started"]),
            )
            for each in document["brokers"]
        ),
    )


def save(data_dir: Path, cluster: ClusterFile) -> None:
    """Replace the file as a whole."""
    keep_from_others()
    path = path_of(data_dir)
    temporary = path.with_name(f".{FILE_NAME}.{os.getpid()}")
    with temporary.open("w") as file:
        json.dump(asdict(cluster), file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def changing(data_dir: Path) -> Iterator[None]:
    """Keeps other commands from changing the file between a load and a save. Raises UsageError if
    another one is at it for far too long."""
    keep_from_others()
    deadline = time.monotonic() + _LOCK_WAIT_S
    with (data_dir / _LOCK_NAME).open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UsageError(
                        f"waited {_LOCK_WAIT_S:g} s for another minikafka command that is changing "
                        f"{path_of(data_dir)}: is one paused?"
                    ) from None
                time.sleep(_POLL_S)
        yield


def change_broker(data_dir: Path, broker_id: int, pid: int) -> str:
    """Record the pid of one broker, which has just been started. Returns when it began."""
    with changing(data_dir):
        cluster = load(data_dir)
        assert cluster is not None, "a broker is changed in a cluster that is there"
        entry = cluster.broker(str(broker_id))
        started = _started(pid)
        save(data_dir, cluster.with_broker(replace(entry, pid=pid, started=started)))
        return started


def _started(pid: int) -> str:
    """When a process began that has just been started; if it is gone already, of nobody."""
    return start_of(pid) or "ended"
