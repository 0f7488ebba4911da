"""What the systems under comparison have in common: settings, and what can be done to them.

Each is three brokers on this machine, every one a process of its own, on free ports and in a
temporary directory. minikafka and Apache Kafka 3.9 have one ZooKeeper server beside them; Apache
Kafka 4 has its controllers in the brokers (kraft.py). Topics are made and deleted by the same
client everywhere.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from confluent_kafka.admin import AdminClient, NewTopic

from tests.helpers import kafka_probe

BROKERS = 3
HEAP_MB = 512
# Given to all, under the names that all know (kraft.py has its own for the session). A session of
# six seconds: a death is noticed after the same time.
SETTINGS = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "log.segment.bytes": str(256 * 1024 * 1024),
    "zookeeper.session.timeout.ms": "6000",
    "replica.lag.time.max.ms": "30000",
    "auto.create.topics.enable": "false",
}
START_TIMEOUT_S = 120.0
_ADMIN_TIMEOUT_S = 120.0


class FailedError(Exception):
    """A system, or a measurement of it, did not do what it must; the message is for people."""


@dataclass
class Member:
    """A broker as a process."""

    broker_id: int
    name: str
    address: str
    pid: int


class System(Protocol):
    """A cluster that can be started once, measured, and ended."""

    title: str
    path: Path  # what broker 1 says is in broker-1.log

    def prepare(self) -> None:
        """What is done once before the first start, and is no part of it."""

    def start(self) -> None:
        """Start all brokers, and ZooKeeper if it has one; returns when every broker knows of all of
        them."""

    def stop(self) -> None:
        """End every process. May be repeated, and after a failed start."""

    def restart(self, name: str) -> None:
        """Start a dead broker again; returns when the others know it."""

    def create_topic(self, name: str, partitions: int) -> None:
        """With three replicas."""

    def delete_topic(self, name: str) -> None: ...

    def controller_id(self) -> int | None:
        """The broker that is controller now; None while there is none."""

    @property
    def members(self) -> list[Member]: ...

    @property
    def zookeeper_pids(self) -> list[int]:
        """None, if it has no ZooKeeper."""


def create_topic(
    servers: str, name: str, partitions: int, configs: Mapping[str, str] | None = None
) -> None:
    admin = _admin(servers)
    topic = NewTopic(name, partitions, replication_factor=3, config=dict(configs or {}))
    asked = admin.create_topics([topic], operation_timeout=60, request_timeout=_ADMIN_TIMEOUT_S)
    asked[name].result(_ADMIN_TIMEOUT_S)


def delete_topic(servers: str, name: str) -> None:
    admin = _admin(servers)
    asked = admin.delete_topics([name], operation_timeout=60, request_timeout=_ADMIN_TIMEOUT_S)
    asked[name].result(_ADMIN_TIMEOUT_S)


def _admin(servers: str) -> AdminClient:
    """Says nothing by itself: what fails is raised."""
    return AdminClient({"bootstrap.servers": servers, "log_level": 0})


def controller_in_metadata(system: System) -> int | None:
    """As the first living broker says it that knows one."""
    for member in system.members:
        if is_running(member.pid):
            view = kafka_probe.metadata(member.address)
            if view is not None and view.controller_id > 0:
                return view.controller_id
    return None


def bootstrap(system: System) -> str:
    return ",".join(member.address for member in system.members)


def pids(system: System) -> list[int]:
    """Of the brokers that live."""
    return [member.pid for member in system.members if is_running(member.pid)]


def member_of(system: System, broker_id: int) -> Member:
    return next(member for member in system.members if member.broker_id == broker_id)


def kill(member: Member) -> None:
    """SIGKILL, and wait until the process is gone."""
    os.kill(member.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(member.pid), f"broker {member.name} to be dead")


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_whole(
    addresses: list[str], brokers: int, check_alive: Callable[[], None] | None = None
) -> None:
    """Until each of these brokers answers and knows this number of brokers."""

    def whole() -> bool:
        if check_alive:
            check_alive()
        views = [kafka_probe.metadata(address) for address in addresses]
        return all(view is not None and len(view.brokers) == brokers for view in views)

    wait_until(whole, f"{brokers} brokers to serve at {', '.join(addresses)}")


def wait_until(
    condition: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise FailedError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.02)
