"""Real brokers, and what is wrong with single logs or with what the system gives them: everything
else is served, and a person is told."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from minikafka.model import TopicPartition
from tests.helpers.processes import ProcessCluster
from tests.helpers.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


class LimitedCluster(ProcessCluster):
    """Whose processes are started by a shell with these limits."""

    def __init__(self, path: Path, limits: str) -> None:
        super().__init__(path)
        self._limits = limits

    def minikafka(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "minikafka", *arguments]
        done = subprocess.run(
            ["sh", "-c", f'{self._limits}; exec "$@"', "sh", *command],
            cwd=self.path,
            env={**os.environ, "MINIKAFKA_DATA_DIR": str(self.path), "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert not check or done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


def produce(cluster: ProcessCluster, topic: str, partitions: int) -> None:
    for partition in range(partitions):
        text = f"{topic}-{partition}"
        done = subprocess.run(
            [sys.executable, "-m", "minikafka", "produce", topic, "--partition", str(partition)],
            env={**os.environ, "MINIKAFKA_DATA_DIR": str(cluster.path)},
            input=text + "\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr


def consumed(cluster: ProcessCluster, topic: str, *options: str) -> set[str]:
    done = cluster.minikafka(
        "consume", topic, "--from-beginning", "--timeout", "3", *options, check=False
    )
    return set(done.stdout.split())


def statuses(cluster: ProcessCluster) -> dict[str, object]:
    document = json.loads(cluster.minikafka("status", "--format", "json", check=False).stdout)
    assert isinstance(document, dict)
    return document


def test_a_broker_starts_whatever_lies_in_one_folder_and_says_what_is_wrong(data: Path) -> None:
    cluster = ProcessCluster(data)
    try:
        cluster.up(1, "embedded")
        cluster.minikafka("topics", "create", "t", "--partitions", "5")
        produce(cluster, "t", 5)
        cluster.minikafka("down")
        logs = next(path.parent for path in data.rglob("t-0"))
        segment = "00000000000000000000.log"
        (logs / "t-0" / segment).unlink()
        (logs / "t-0" / segment).mkdir()  # a folder where a file is to be
        (logs / "t-1" / "leader-epoch-checkpoint").unlink()
        (logs / "t-1" / "leader-epoch-checkpoint").mkdir()
        shutil.rmtree(logs / "t-2")
        (logs / "t-2").write_bytes(b"a file where a folder is to be")
        (logs / "t-3" / "leader-epoch-checkpoint").write_bytes(b"\x00\xffgarbage\n" * 9)
        for name in ("replication-offset-checkpoint", "recovery-point-offset-checkpoint"):
            (logs / name).write_bytes(os.urandom(500))
        (logs / "cleaner-offset-checkpoint").unlink(missing_ok=True)
        (logs / "cleaner-offset-checkpoint").mkdir()
        cluster.up(1, "embedded")

        async def offline() -> bool:
            found = await asyncio.to_thread(statuses, cluster)
            return bool(found["offline_replicas"]) and len(_reasons(found)) == 3

        asyncio.run(until(offline, 30))
        reasons = "\n".join(_reasons(statuses(cluster)))
        for name in ("t-0", "t-1", "t-2"):
            assert f"the log of {name} in " in reasons or f"log of {name} in " in reasons
        assert "Is a directory" in reasons
        assert "stop the broker, mend it, or move the folder away" in reasons
        described = cluster.minikafka("topics", "describe", "t").stdout
        assert "offline on A:" in described
        assert "t-0" in described.split("offline on A:")[1]
        assert "the log of t-0 in " in (data / "broker-1.log").read_text()
        for partition in (3, 4):
            found = consumed(cluster, "t", "--partition", str(partition))
            assert found == {f"t-{partition}"}
        cluster.minikafka("topics", "create", "u")
        produce(cluster, "u", 1)
        cluster.minikafka("topics", "delete", "t")
        asyncio.run(until(lambda: not list(logs.glob("t-[0134]")), 30))
    finally:
        cluster.down()


def _reasons(document: dict[str, object]) -> list[str]:
    offline = document["offline_replicas"]
    assert isinstance(offline, list)
    return [reason for each in offline for reason in each["reasons"]]


def test_brokers_hold_more_partitions_than_they_may_open_files_and_start_again(data: Path) -> None:
    cluster = LimitedCluster(data, "ulimit -n 160")
    try:
        cluster.up(3, "embedded", "group.initial.rebalance.delay.ms=0")
        create = ("topics", "create", "many", "--partitions", "300", "--replication-factor", "3")
        cluster.minikafka(*create)
        produce(cluster, "many", 3)
        cluster.minikafka("perf", "produce", "many", "--num-records", "3000")
        cluster.minikafka("restart", "--all", check=False)
        cluster.minikafka("down")
        cluster.up(3, "embedded")

        async def healthy() -> bool:
            found = await asyncio.to_thread(statuses, cluster)
            return found["healthy"] is True and found["offline_replicas"] == []

        asyncio.run(until(healthy, 60))
        produce(cluster, "many", 2)
        assert consumed(cluster, "many", "--partition", "0") >= {str(TopicPartition("many", 0))}
        for log in data.glob("broker-*.log"):
            text = log.read_text()
            assert "CRITICAL" not in text, text[-3000:]
            assert "fenced" not in text, text[-3000:]
    finally:
        cluster.down()


def test_others_cannot_read_what_lies_in_a_data_directory(data: Path) -> None:
    data.rmdir()
    data.parent.joinpath("work").mkdir()
    cluster = LimitedCluster(data.parent / "work", "umask 022")
    try:
        cluster.up(1, "embedded")
        cluster.minikafka("topics", "create", "t", "--config", "segment.bytes=300")
        for _ in range(3):
            produce(cluster, "t", 1)
        cluster.minikafka("restart", "A")
        open_to_others = []
        for path in cluster.path.rglob("*"):
            try:
                mode = stat.S_IMODE(path.stat().st_mode)
            except FileNotFoundError:
                continue
            if mode & (0o027 if path.is_dir() else 0o137):
                open_to_others.append((oct(mode), str(path)))
        assert not open_to_others
        logs = {path.name for path in cluster.path.rglob("*.log")}
        assert {"broker-1.log", f"{0:020d}.log"} <= logs, logs
    finally:
        cluster.down()
