"""The cluster under test: three brokers as processes, as Kafka clients see them.

minikafka, unless the environment says otherwise:

    MINIKAFKA_CLIENTS_SYSTEM=apache        Apache Kafka 3.9 by way of Maven, to test the tests
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from benchmarks.kafka.apache import ApacheKafka
from benchmarks.kafka.system import Member
from benchmarks.kafka.system import kill as kill_member
from minikafka.client import Admin
from tests.helpers import kafka_probe
from tests.helpers.processes import ProcessCluster
from tests.helpers.waiting import happens

T = TypeVar("T")
DEADLINE_S = 60.0
# A death is noticed, and a group starts, after little time.
SETTINGS = {
    "zookeeper.session.timeout.ms": "2000",
    "replica.lag.time.max.ms": "3000",
    "group.initial.rebalance.delay.ms": "100",
    "group.min.session.timeout.ms": "1000",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.num.partitions": "5",
    "min.insync.replicas": "2",
    "default.replication.factor": "3",
    "num.partitions": "3",
    "auto.create.topics.enable": "true",
}


def wait(probe: Callable[[], T | None], what: str, deadline_s: float = DEADLINE_S) -> T:
    """The first true value of `probe`."""
    found = happens(probe, deadline_s)
    assert found, f"waited {deadline_s:g} s for {what}"
    return found


class Cluster(Protocol):
    """Brokers by name: A, B, C."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self, name: str) -> None:
        """By a command, which takes half a second: what was sent before is acknowledged."""

    def kill_at_once(self, *names: str) -> None:
        """In the midst of what they do."""

    def restart(self, name: str) -> None: ...
    def create_topic(self, name: str, partitions: int, **configs: str) -> None: ...

    @property
    def addresses(self) -> dict[str, str]:
        """Where Kafka clients find each broker, by name, dead or alive."""

    @property
    def ids(self) -> dict[int, str]: ...

    @property
    def living(self) -> list[str]: ...


class MiniCluster:
    def __init__(self, path: Path) -> None:
        self._processes = ProcessCluster(path)
        self._dead: set[str] = set()

    def start(self) -> None:
        settings = [f"{name}={value}" for name, value in SETTINGS.items()]
        self._processes.up(3, "embedded", *settings)

    def stop(self) -> None:
        self._processes.down()

    def kill(self, name: str) -> None:
        self._processes.kill(name)
        self._dead.add(name)

    def kill_at_once(self, *names: str) -> None:
        self._processes.kill_at_once(*names)
        self._dead.update(names)

    def restart(self, name: str) -> None:
        self._processes.restart(name)
        self._dead.discard(name)

    def create_topic(self, name: str, partitions: int, **configs: str) -> None:
        with Admin(self._processes.bootstrap) as admin:
            admin.create_topic(name, partitions, 3, configs=_dotted(configs))

    @property
    def addresses(self) -> dict[str, str]:
        return {each["name"]: each["kafka"] for each in self._brokers()}

    @property
    def ids(self) -> dict[int, str]:
        return {each["id"]: each["name"] for each in self._brokers()}

    @property
    def living(self) -> list[str]:
        return [name for name in self.addresses if name not in self._dead]

    def _brokers(self) -> list[dict[str, object]]:
        return self._processes.document()["brokers"]  # type: ignore[return-value]


class ApacheCluster:
    def __init__(self, path: Path) -> None:
        self._system = ApacheKafka(path, SETTINGS)
        self._dead: set[str] = set()

    def start(self) -> None:
        self._system.start()

    def stop(self) -> None:
        self._system.stop()

    def kill(self, name: str) -> None:
        self.kill_at_once(name)

    def kill_at_once(self, *names: str) -> None:
        for name in names:
            kill_member(self._member(name))
        self._dead.update(names)

    def restart(self, name: str) -> None:
        self._system.restart(name)
        self._dead.discard(name)

    def create_topic(self, name: str, partitions: int, **configs: str) -> None:
        self._system.create_topic(name, partitions, _dotted(configs))

    @property
    def addresses(self) -> dict[str, str]:
        return {member.name: member.address for member in self._system.members}

    @property
    def ids(self) -> dict[int, str]:
        return {member.broker_id: member.name for member in self._system.members}

    @property
    def living(self) -> list[str]:
        return [name for name in self.addresses if name not in self._dead]

    def _member(self, name: str) -> Member:
        return next(member for member in self._system.members if member.name == name)


def make(path: Path) -> Cluster:
    kinds = {"minikafka": MiniCluster, "apache": ApacheCluster}
    return kinds[os.environ.get("MINIKAFKA_CLIENTS_SYSTEM", "minikafka")](path)


def bootstrap(cluster: Cluster) -> str:
    return ",".join(cluster.addresses.values())


def view(cluster: Cluster, topic: str | None = None) -> kafka_probe.View:
    """What a living broker knows."""

    def ask() -> kafka_probe.View | None:
        for name in cluster.living:
            found = kafka_probe.metadata(cluster.addresses[name], [topic] if topic else [])
            if found is not None and (topic is None or found.leaders):
                return found
        return None

    return wait(ask, "a broker to answer")


def leader(cluster: Cluster, topic: str, partition: int = 0) -> str:
    def ask() -> str | None:
        return cluster.ids.get(view(cluster, topic).leaders[topic, partition])

    return wait(ask, f"a leader of {topic}-{partition}")


def controller(cluster: Cluster) -> str:
    return wait(lambda: cluster.ids.get(view(cluster).controller_id), "a controller")


def coordinator(cluster: Cluster, group: str) -> str:
    return _coordinator(cluster, group, kafka_probe.coordinator)


def transaction_coordinator(cluster: Cluster, transactional_id: str) -> str:
    return _coordinator(cluster, transactional_id, kafka_probe.transaction_coordinator)


def _coordinator(cluster: Cluster, key: str, find: Callable[[str, str], int | None]) -> str:
    def ask() -> str | None:
        for name in cluster.living:
            found = find(cluster.addresses[name], key)
            if found is not None:
                return cluster.ids[found]
        return None

    return wait(ask, f"a coordinator of {key}")


def wait_until_whole(cluster: Cluster, *topics: str) -> None:
    """Until all replicas of these topics are in sync, in the view of every broker."""

    def whole() -> bool:
        for address in cluster.addresses.values():
            found = kafka_probe.metadata(address, list(topics))
            if found is None or not all(len(isr) == 3 for isr in found.isr.values()):
                return False
            if {name for name, _ in found.leaders} != set(topics) or -1 in found.leaders.values():
                return False
        return True

    wait(whole, f"all replicas of {', '.join(topics)} to be in sync")


def _dotted(configs: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "."): value for name, value in configs.items()}
