"""Apache Kafka 3.9 in ZooKeeper mode: one ZooKeeper server and three brokers on this machine.

    python -m benchmarks.kafka.apache      runs it until Ctrl-C, and prints the bootstrap servers

The jars come by way of Maven (tests/helpers/kafka_java.py). Every process is ended by its own pid,
also if something fails; where `setpriv` is there, the kernel ends them if this process is killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.kafka.system import (
    BROKERS,
    HEAP_MB,
    SETTINGS,
    FailedError,
    Member,
    bootstrap,
    wait_until,
    wait_until_whole,
)
from minikafka.zookeeper.servers.addresses import Ports, answers
from tests.helpers import kafka_java, kafka_probe

_HOST = "127.0.0.1"
# Below those that the system gives to outgoing connections, or a dead broker might lose its port.
_FIRST_PORT = 20_000 + os.getpid() % 10_000
_STOP_TIMEOUT_S = 20.0
_ADMIN_TIMEOUT_S = 60.0
_TICK_TIME_MS = 200
# As Kafka's own start script has them, and the heap.
_BROKER_FLAGS = (
    f"-Xms{HEAP_MB}m",
    f"-Xmx{HEAP_MB}m",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
)
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
class _Broker:
    member: Member
    properties: Path
    process: subprocess.Popen[bytes] | None = None


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
    _running: list[_Broker] = field(default_factory=list)

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
        ports = Ports.choose(_HOST, self.brokers + 1, _FIRST_PORT)
        self._zookeeper_port = ports[0].client
        for number, own in enumerate(ports[1:], start=1):
            address = f"{_HOST}:{own.client}"
            member = Member(number, chr(ord("A") + number - 1), address, 0)
            self._running.append(_Broker(member, self._write_properties(member)))

    def start(self) -> None:
        if not self._running:
            self.prepare()
        self._start_zookeeper()
        for broker in self._running:
            self._start_broker(broker)
        self._wait()

    def stop(self) -> None:
        processes = [broker.process for broker in self._running if broker.process]
        _end(processes)
        if self._zookeeper:
            _end([self._zookeeper])
        self._zookeeper = None
        self._running = []

    def restart(self, name: str) -> None:
        broker = next(each for each in self._running if each.member.name == name)
        if broker.process:
            _end([broker.process])
        others = [each.member.address for each in self._running if _runs(each.process)]

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
        admin = AdminClient({"bootstrap.servers": bootstrap(self)})
        topic = NewTopic(name, partitions, replication_factor=3, config=dict(configs or {}))
        admin.create_topics([topic])[name].result(_ADMIN_TIMEOUT_S)

    def delete_topic(self, name: str) -> None:
        admin = AdminClient({"bootstrap.servers": bootstrap(self)})
        admin.delete_topics([name])[name].result(_ADMIN_TIMEOUT_S)

    def _wait(self) -> None:
        running = [broker for broker in self._running if _runs(broker.process)]
        wait_until_whole([each.member.address for each in running], len(running), self._check_alive)

    def _start_zookeeper(self) -> None:
        config = self.path / "zoo.cfg"
        config.write_text(
            f"tickTime={_TICK_TIME_MS}\nmaxSessionTimeout=60000\nmaxClientCnxns=0\n"
            f"clientPort={self._zookeeper_port}\nclientPortAddress={_HOST}\n"
            f"dataDir={self.path / 'zookeeper'}\n"
        )
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        command = kafka_java.java(main, str(config), flags=_ZOOKEEPER_FLAGS)
        self._zookeeper = _spawn(command, self.path / "zookeeper.log")

        def serves() -> bool:
            self._check_alive()
            return answers(_HOST, self._zookeeper_port)

        wait_until(serves, "ZooKeeper to serve")

    def _write_properties(self, member: Member) -> Path:
        properties = self.path / f"broker-{member.broker_id}.properties"
        settings = {
            "broker.id": str(member.broker_id),
            "zookeeper.connect": f"{_HOST}:{self._zookeeper_port}",
            "listeners": f"PLAINTEXT://{member.address}",
            "log.dirs": str(self.path / f"broker-{member.broker_id}"),
            **SETTINGS,
            **_OWN_SETTINGS,
            **self.settings,
        }
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return properties

    def _start_broker(self, broker: _Broker) -> None:
        command = kafka_java.java("kafka.Kafka", str(broker.properties), flags=_BROKER_FLAGS)
        broker.process = _spawn(command, self.path / f"broker-{broker.member.broker_id}.log")
        broker.member.pid = broker.process.pid

    def _check_alive(self) -> None:
        named = [(f"broker-{each.member.broker_id}", each.process) for each in self._running]
        for name, process in [("zookeeper", self._zookeeper), *named]:
            # One that was killed on purpose ended by a signal.
            if process is not None and (process.poll() or 0) > 0:
                log = self.path / f"{name}.log"
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise FailedError(f"{name} of Apache Kafka ended as it was started:\n{tail}")


def _spawn(command: list[str], log_path: Path) -> subprocess.Popen[bytes]:
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    with log_path.open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def _runs(process: subprocess.Popen[bytes] | None) -> bool:
    return process is not None and process.poll() is None


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)  # one that is paused hears SIGTERM only then
    for process in processes:
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
