"""Apache Kafka 3.9 in KRaft mode: one process, broker and controller both, on this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.kafka.system import FailedError, wait_until_whole
from minikafka.zookeeper.servers.addresses import Ports
from tests.helpers import kafka_java

_HOST = "127.0.0.1"
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
_FIRST_PORT = 30_500
_STOP_TIMEOUT_S = 20.0
_FLAGS = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-Djava.awt.headless=true")


class KraftKafka:
    """Node 1, with everything under `path`."""

    def __init__(self, path: Path, settings: Mapping[str, str]) -> None:
        self._path = path
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def start(self) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        client, controller = (each.client for each in Ports.choose(_HOST, 2, _FIRST_PORT))
        self.address = f"{_HOST}:{client}"
        own = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{_HOST}:{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{_HOST}:{controller}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self._path / "data"),
        }
        properties = self._path / "server.properties"
        lines = (f"{name}={value}\n" for name, value in {**self._settings, **own}.items())
        properties.write_text("".join(lines))
        formatting = ("format", "--cluster-id", _CLUSTER_ID, "--config", str(properties))
        command = kafka_java.java("kafka.tools.StorageTool", *formatting, flags=_FLAGS)
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        with (self._path / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                kafka_java.java("kafka.Kafka", str(properties), flags=_FLAGS),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until_whole([self.address], 1, self._check_alive)

    def _check_alive(self) -> None:
        if self._process is None or self._process.poll() is not None:
            tail = (self._path / "server.log").read_text(errors="replace").splitlines()[-15:]
            raise FailedError("Apache Kafka ended as it was started:\n" + "\n".join(tail))

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
