"""Apache Kafka 4 in KRaft mode: three processes on this machine, each broker and controller both.

    python -m benchmarks.kafka.kraft       runs it until Ctrl-C, and prints the bootstrap servers

Combined mode, because it is the least that has a successor for a killed controller: three Java
processes and no fourth. Controllers of their own would be three more on the same cores, and a
single one would have nobody to take over. What the quorum costs is so in the figures of the
brokers.
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
from benchmarks.kafka.system import BROKERS, SETTINGS, Member, bootstrap, wait_until_whole
from benchmarks.kafka.wire import quorum_leader
from minikafka.zookeeper.servers.addresses import Ports
from tests.helpers import kafka_java

_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
_FORMAT_TIMEOUT_S = 60
# A death is noticed after the same six seconds as a session of ZooKeeper's.
_OWN_SETTINGS = {
    "broker.session.timeout.ms": SETTINGS["zookeeper.session.timeout.ms"],
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}
_SETTINGS = {name: value for name, value in SETTINGS.items() if "zookeeper" not in name}


@dataclass
class KraftKafka:
    """Brokers A, B, C (nodes 1, 2, 3) with everything under `path`."""

    path: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    brokers: int = BROKERS
    title: str = f"Apache Kafka {kafka_java.VERSION_4}"
    _running: list[Broker] = field(default_factory=list)

    @property
    def members(self) -> list[Member]:
        return [broker.member for broker in self._running]

    @property
    def zookeeper_pids(self) -> list[int]:
        return []

    def prepare(self) -> None:
        """Choose the ports, write the configuration of all, and format their directories."""
        kafka_java.home(kafka_java.VERSION_4)
        self.path.mkdir(parents=True, exist_ok=True)
        ports = [each.client for each in Ports.choose(HOST, 2 * self.brokers, jvm.FIRST_PORT)]
        clients, quorum = ports[: self.brokers], ports[self.brokers :]
        voters = ",".join(f"{number}@{HOST}:{port}" for number, port in enumerate(quorum, start=1))
        for number, port in enumerate(clients, start=1):
            member = Member(number, chr(ord("A") + number - 1), f"{HOST}:{port}", 0)
            properties = self._write_properties(member, quorum[number - 1], voters)
            self._running.append(Broker(member, properties))
            self._format(properties)

    def start(self) -> None:
        if not self._running:
            self.prepare()
        for broker in self._running:
            self._start_broker(broker)
        self._wait()

    def stop(self) -> None:
        jvm.end([broker.process for broker in self._running if broker.process])
        self._running = []

    def restart(self, name: str) -> None:
        broker = next(each for each in self._running if each.member.name == name)
        if broker.process:
            jvm.end([broker.process])
        # Its registration is refused, and asked for again, until the session before it is over.
        self._start_broker(broker)
        self._wait()

    def create_topic(
        self, name: str, partitions: int, configs: Mapping[str, str] | None = None
    ) -> None:
        system.create_topic(bootstrap(self), name, partitions, configs)

    def delete_topic(self, name: str) -> None:
        system.delete_topic(bootstrap(self), name)

    def controller_id(self) -> int | None:
        """Of the quorum's leader; what Metadata says in this mode is any broker."""
        for broker in self._running:
            if jvm.runs(broker.process):
                leader_id = quorum_leader(broker.member.address)
                if leader_id is not None:
                    return leader_id
        return None

    def _write_properties(self, member: Member, quorum_port: int, voters: str) -> Path:
        settings = {
            "process.roles": "broker,controller",
            "node.id": str(member.broker_id),
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://{member.address},CONTROLLER://{HOST}:{quorum_port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.path / f"broker-{member.broker_id}"),
            **_SETTINGS,
            **_OWN_SETTINGS,
            **self.settings,
        }
        path = self.path / f"broker-{member.broker_id}.properties"
        return jvm.write_properties(path, settings)

    def _format(self, properties: Path) -> None:
        formatting = ("format", "--cluster-id", _CLUSTER_ID, "--config", str(properties))
        command = kafka_java.java(
            "kafka.tools.StorageTool",
            *formatting,
            flags=kafka_java.tool_flags(),
            version=kafka_java.VERSION_4,
        )
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S)
        if done.returncode != 0:
            raise system.FailedError(f"{self.title}: format: {done.stdout}{done.stderr}")

    def _start_broker(self, broker: Broker) -> None:
        command = kafka_java.java(
            "kafka.Kafka",
            str(broker.properties),
            flags=jvm.BROKER_FLAGS,
            version=kafka_java.VERSION_4,
        )
        broker.process = jvm.spawn(command, self.path / f"broker-{broker.member.broker_id}.log")
        broker.member.pid = broker.process.pid

    def _wait(self) -> None:
        running = [broker for broker in self._running if jvm.runs(broker.process)]
        wait_until_whole([each.member.address for each in running], len(running), self._check_alive)

    def _check_alive(self) -> None:
        named = [(f"broker-{each.member.broker_id}", each.process) for each in self._running]
        jvm.check_alive(named, self.path)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="apache-kafka-") as path:
        kafka = KraftKafka(Path(path))
        done = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: done.set())
        try:
            kafka.start()
            print(bootstrap(kafka), f"controller {kafka.controller_id()}", flush=True)
            done.wait()
        finally:
            kafka.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
