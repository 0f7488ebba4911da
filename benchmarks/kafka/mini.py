"""minikafka under comparison: `minikafka up` with the embedded ZooKeeper."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.kafka import system
from benchmarks.kafka.system import (
    BROKERS,
    SETTINGS,
    FailedError,
    Member,
    bootstrap,
    wait_until_whole,
)

_TIMEOUT_S = 120


@dataclass
class MiniKafka:
    """Everything lies under `path`; `settings` override the common ones."""

    path: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    brokers: int = BROKERS
    title: str = "minikafka"
    zookeeper: str = "embedded"

    @property
    def members(self) -> list[Member]:
        return [
            Member(each["id"], each["name"], each["kafka"], each["pid"])
            for each in self._document()["brokers"]
        ]

    @property
    def grpc_addresses(self) -> list[str]:
        return [each["grpc"] for each in self._document()["brokers"]]

    @property
    def zookeeper_pids(self) -> list[int]:
        return list(self._document()["zookeeper"]["pids"])

    def prepare(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        self.prepare()
        settings = {**SETTINGS, **self.settings}
        options = [word for each in settings.items() for word in ("--set", "=".join(each))]
        where = (f"--brokers={self.brokers}", f"--zookeeper={self.zookeeper}")
        self.run("up", "--detach", *where, *options)
        addresses = [member.address for member in self.members]
        if not all(addresses):
            raise FailedError("this minikafka has no listener for Kafka clients")
        wait_until_whole(addresses, self.brokers)

    def stop(self) -> None:
        if (self.path / "cluster.json").exists():
            self.run("down")

    def restart(self, name: str) -> None:
        self.run("restart", name)

    def create_topic(self, name: str, partitions: int) -> None:
        system.create_topic(bootstrap(self), name, partitions)

    def delete_topic(self, name: str) -> None:
        system.delete_topic(bootstrap(self), name)

    def controller_id(self) -> int | None:
        return system.controller_in_metadata(self)

    def run(self, *arguments: str) -> str:
        """A command of minikafka's command line on this cluster; returns what it printed."""
        environment = os.environ | {"MINIKAFKA_DATA_DIR": str(self.path)}
        environment.pop("MINIKAFKA_BOOTSTRAP", None)
        done = subprocess.run(
            [sys.executable, "-m", "minikafka", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
        if done.returncode != 0:
            raise FailedError(f"minikafka {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _document(self) -> Any:
        return json.loads((self.path / "cluster.json").read_text())
