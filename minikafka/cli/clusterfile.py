"""cluster.json: what `minikafka up` started in a data directory, for every other command.

    {"zookeeper": {"mode": "embedded", "hosts": "127.0.0.1:2181", "pids": [4241]},
     "brokers": [{"id": 1, "name": "A", "pid": 4242, "grpc": "127.0.0.1:19092", "kafka": null,
                  "metrics": "127.0.0.1:9404"}]}

A pid is what was started last: it is null once `down` ended it, and names a process that is gone
after a crash or a kill (commands verify it before they trust it: processes.py). ZooKeeper's pids
are empty when somebody else runs it. Written by rename, so a reader sees a whole file; changed
under `changing`, so that two commands at once lose nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from minikafka.errors import UsageError

FILE_NAME = "cluster.json"
_LOCK_NAME = ".cluster.json.lock"


@dataclass(frozen=True, slots=True)
class BrokerEntry:
    """One broker; addresses are HOST:PORT."""

    id: int
    name: str
    pid: int | None
    grpc: str
    kafka: str | None = None
    metrics: str | None = None


@dataclass(frozen=True, slots=True)
class ZooKeeperEntry:
    """`mode` as given to `up --zookeeper`, `hosts` as in zookeeper.connect."""

    mode: str
    hosts: str
    pids: tuple[int, ...] = ()


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
        ),
        brokers=tuple(
            BrokerEntry(
                id=int(each["id"]),
                name=str(each["name"]),
                pid=None if each["pid"] is None else int(each["pid"]),
                grpc=str(each["grpc"]),
                kafka=None if each.get("kafka") is None else str(each["kafka"]),
                metrics=None if each.get("metrics") is None else str(each["metrics"]),
            )
            for each in document["brokers"]
        ),
    )


def save(data_dir: Path, cluster: ClusterFile) -> None:
    """Replace the file as a whole."""
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
    """Keeps other commands from changing the file between a load and a save."""
    with (data_dir / _LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def change_broker(data_dir: Path, broker_id: int, pid: int | None) -> None:
    """Record the pid of one broker."""
    with changing(data_dir):
        cluster = load(data_dir)
        assert cluster is not None, "a broker is changed in a cluster that is there"
        entry = cluster.broker(str(broker_id))
        save(data_dir, cluster.with_broker(replace(entry, pid=pid)))
