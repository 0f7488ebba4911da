"""`minikafka perf produce --processes`: several processes that load a broker together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikafka.children import module_command
from tests.helpers.processes import ProcessCluster
from tests.helpers.waiting import happens

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ProcessCluster]:
    cluster = ProcessCluster(tmp_path)
    try:
        cluster.up(1, "embedded")
        cluster.minikafka("topics", "create", "t", "--partitions", "2")
        yield cluster
    finally:
        cluster.down()


def test_their_records_are_added_up_and_the_barrier_is_gone(cluster: ProcessCluster) -> None:
    load = ("perf", "produce", "t", "--num-records", "3000", "--record-size", "100")
    done = cluster.minikafka(*load, "--processes", "3", "--format", "json")
    found = json.loads(done.stdout)
    assert [each["process"] for each in found["processes"]] == ["1", "2", "3"]
    assert all(each["records"] == 3000 for each in found["processes"])
    total = found["total"]
    assert (total["records"], total["bytes"]) == (9000, 900_000)
    slowest_ms = max(each["elapsed_ms"] for each in found["processes"])
    assert total["elapsed_ms"] == pytest.approx(slowest_ms)
    assert total["latency_p50_ms"] > 0
    assert cluster.minikafka("zk", "ls", "/perf").stdout.strip() == ""
    told = cluster.minikafka(*load, "--processes", "2").stdout.splitlines()
    assert told[0].startswith("process 1: 3000 records sent, ")
    assert told[1].startswith("process 2: 3000 records sent, ")
    assert told[2].startswith("6000 records sent, ")
    assert len(told) == 3


@pytest.mark.parametrize("when", ["before they begin", "while they load", "their parent"])
def test_if_one_is_killed_the_others_end_and_it_is_named(
    cluster: ProcessCluster, when: str
) -> None:
    slowly = ("--num-records", "100000", "--throughput", "100", "--processes", "3")
    command = module_command("minikafka", "perf", "produce", "t", *slowly)
    parent = subprocess.Popen(
        [*command, "--data-dir", str(cluster.path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")

        def started() -> list[int]:
            pids = [int(pid) for pid in children.read_text().split()]
            return pids if len(pids) == 3 else []

        def begun() -> list[int]:
            listed = cluster.minikafka("zk", "ls", "/perf", check=False).stdout.split()
            inside = cluster.minikafka("zk", "ls", f"/perf/{listed[0]}") if listed else None
            return started() if inside is not None and "ready" in inside.stdout.split() else []

        pids = happens(started if when == "before they begin" else begun, 60)
        assert len(pids) == 3
        if when == "their parent":
            parent.kill()
            gone = happens(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 30)
            assert gone, "they go on without anybody who would hear what they measure"
            return
        os.kill(pids[0], signal.SIGKILL)
        _, errors = parent.communicate(timeout=60)
        assert parent.returncode == 1
        assert "process 1 was ended by SIGKILL" in errors
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert cluster.minikafka("zk", "ls", "/perf", check=False).stdout.strip() == ""
    finally:
        parent.kill()
        parent.wait()
