"""Apache Kafka 3.9 in ZooKeeper mode: one ZooKeeper server and three brokers on this machine.

    python -m benchmarks.kafka.apache      runs it until Ctrl-C, and prints the bootstrap servers

The jars come by way of Maven (tests/helpers/kafka_java.py).
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.kafka import jvm, system
from benchmarks.kafka.jvm import HOST, Broker
from benchmarks.kafka.system import (
    BROKERS,
    SETTINGS,
    Member,
    bootstrap,
    wait_until,
    wait_until_whole,
)
from minikafka.zookeeper.servers.addresses import Ports, answers
from tests.helpers import kafka_java, kafka_probe

_TICK_TIME_MS = 200
_ZOOKEEPER_FLAGS = (
    "-Xms16m",
    "-Xmx128m",
    "-XX:+UseSerialGC",
    "-Dzookeeper.admin.enableServer=false",
    "-Dzookeeper.4lw.commands.whitelist=ruok,srvr",
)
# What a cluster of three needs for groups and transactions; not of interest to minikafka.
_OWN_SETTINGS = {
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "zookeeper.connection.timeout.ms": "18000",
}


@dataclass
class ApacheKafka:
    """Brokers A, B, C (ids 1, 2, 3) with everything under `path`; `settings` override the common
    ones."""

    path: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    brokers: int = BROKERS
    title: str = f"Apache Kafka {kafka_java.VERSION}"
    _zookeeper_port: int = 0
    _zookeeper: subprocess.Popen[bytes] | None = None
    _running: list[Broker] = field(default_factory=list)

    @property
    def members(self) -> list[Member]:
        return [broker.member for broker in self._running]

    @property
    def zookeeper_pids(self) -> list[int]:
        return [self._zookeeper.pid] if self._zookeeper else []

    def prepare(self) -> None:
        """Choose the ports and write the configuration of all: `members` are known then."""
        kafka_java.home()
        self.path.mkdir(parents=True, exist_ok=True)
        ports = Ports.choose(HOST, self.brokers + 1, jvm.FIRST_PORT)
        self._zookeeper_port = ports[0].client
        for number, own in enumerate(ports[1:], start=1):
            address = f"{HOST}:{own.client}"
            member = Member(number, chr(ord("A") + number - 1), address, 0)
            self._running.append(Broker(member, self._write_properties(member)))

    def start(self) -> None:
        if not self._running:
            self.prepare()
        self._start_zookeeper()
        for broker in self._running:
            self._start_broker(broker)
        self._wait()

    def stop(self) -> None:
        processes = [broker.process for broker in self._running if broker.process]
        jvm.end(processes)
        if self._zookeeper:
            jvm.end([self._zookeeper])
        self._zookeeper = None
        self._running = []

    def restart(self, name: str) -> None:
        broker = next(each for each in self._running if each.member.name == name)
        if broker.process:
            jvm.end([broker.process])
        others = [each.member.address for each in self._running if jvm.runs(each.process)]

        def is_forgotten() -> bool:
            views = [kafka_probe.metadata(address) for address in others]
            return all(view and broker.member.broker_id not in view.brokers for view in views)

        # A broker whose last session is still there ends at once.
        wait_until(is_forgotten, f"the session of broker {name} to expire")
        self._start_broker(broker)
        self._wait()

    def create_topic(
        self, name: str, partitions: int, configs: Mapping[str, str] | None = None
    ) -> None:
        system.create_topic(bootstrap(self), name, partitions, configs)

    def delete_topic(self, name: str) -> None:
        system.delete_topic(bootstrap(self), name)

    def controller_id(self) -> int | None:
        return system.controller_in_metadata(self)

    def _wait(self) -> None:
        running = [broker for broker in self._running if jvm.runs(broker.process)]
        wait_until_whole([each.member.address for each in running], len(running), self._check_alive)

    def _start_zookeeper(self) -> None:
        config = self.path / "zoo.cfg"
        config.write_text(
            f"tickTime={_TICK_TIME_MS}\nmaxSessionTimeout=60000\nmaxClientCnxns=0\n"
            f"clientPort={self._zookeeper_port}\nclientPortAddress={HOST}\n"
            f"dataDir={self.path / 'zookeeper'}\n"
        )
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        command = kafka_java.java(main, str(config), flags=_ZOOKEEPER_FLAGS)
        self._zookeeper = jvm.spawn(command, self.path / "zookeeper.log")

        def serves() -> bool:
            self._check_alive()
            return answers(HOST, self._zookeeper_port)

        wait_until(serves, "ZooKeeper to serve")

    def _write_properties(self, member: Member) -> Path:
        settings = {
            "broker.id": str(member.broker_id),
            "zookeeper.connect": f"{HOST}:{self._zookeeper_port}",
            "listeners": f"PLAINTEXT://{member.address}",
            "log.dirs": str(self.path / f"broker-{member.broker_id}"),
            **SETTINGS,
            **_OWN_SETTINGS,
            **self.settings,
        }
        path = self.path / f"broker-{member.broker_id}.properties"
        return jvm.write_properties(path, settings)

    def _start_broker(self, broker: Broker) -> None:
        command = kafka_java.java("kafka.Kafka", str(broker.properties), flags=jvm.BROKER_FLAGS)
        broker.process = jvm.spawn(command, self.path / f"broker-{broker.member.broker_id}.log")
        broker.member.pid = broker.process.pid

    def _check_alive(self) -> None:
        named = [(f"broker-{each.member.broker_id}", each.process) for each in self._running]
        jvm.check_alive([("zookeeper", self._zookeeper), *named], self.path)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="apache-kafka-") as path:
        kafka = ApacheKafka(Path(path))
        done = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: done.set())
        try:
            kafka.start()
            print(bootstrap(kafka), flush=True)
            done.wait()
        finally:
            kafka.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
