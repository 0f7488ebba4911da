"""Jobs on real brokers: workers and controllers die, topics go, replicas are damaged and moved."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minikafka.client import AsyncAdmin
from minikafka.errors import MinikafkaError
from minikafka.model import broker_name
from tests.helpers.processes import ProcessCluster
from tests.helpers.waiting import until

pytestmark = pytest.mark.timeout(420)

RECORDS, RECORD_BYTES = 4_000, 250  # 1 MB a replica
SLOW = ("job.scrub.bytes.per.second=100000", "node.status.interval.ms=500")
PATIENCE_S = 120


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ProcessCluster]:
    cluster = ProcessCluster(tmp_path)
    try:
        yield cluster
    finally:
        cluster.down()


def start(cluster: ProcessCluster, brokers: int, *settings: str, replicas: str = "1,2,3") -> None:
    cluster.up(brokers, "embedded", *settings)
    cluster.minikafka("topics", "create", "t", "--replicas", replicas)
    file = cluster.path / "records"
    file.write_text(f"{'r' * RECORD_BYTES}\n" * RECORDS)
    cluster.minikafka("produce", "t", str(file))


def submit(cluster: ProcessCluster, *arguments: str) -> str:
    done = cluster.minikafka("jobs", "submit", *arguments, "--format", "json")
    return str(json.loads(done.stdout)["job"])


async def until_job(
    cluster: ProcessCluster, job_id: str, *states: str, attempt: int = 0
) -> dict[str, Any]:
    """Until a job is in one of these states, in this attempt or a later one; returns what `jobs
    describe` says of it then. What is asked many times is asked by a client that is there already:
    a process for each question would take the machine from the brokers."""
    async with AsyncAdmin(cluster.bootstrap) as admin:

        async def is_there() -> bool:
            try:
                [report] = await admin.list_jobs([job_id])
            except MinikafkaError:  # nobody tells while a broker dies
                return False
            return report.state in states and report.attempt >= attempt

        await until(is_there, PATIENCE_S)

    async def described() -> str:
        ask = ("jobs", "describe", job_id, "--format", "json")
        return (await asyncio.to_thread(cluster.minikafka, *ask, check=False)).stdout

    [document] = json.loads(await until(described, PATIENCE_S))
    return dict(document)


async def test_a_scrub_goes_on_when_its_worker_dies_and_when_the_controller_dies(
    cluster: ProcessCluster,
) -> None:
    start(cluster, 4, *SLOW)
    job_id = submit(cluster, "scrub", "t")
    first = await until_job(cluster, job_id, "running")
    cluster.kill(broker_name(first["node"]))
    second = await until_job(cluster, job_id, "running", attempt=2)
    assert second["node"] != first["node"]
    cluster.restart(broker_name(first["node"]))
    status = json.loads(cluster.minikafka("status", "--format", "json", check=False).stdout)
    cluster.kill(broker_name(status["controller"]))
    ended = await until_job(cluster, job_id, "done", "failed", "cancelled")
    assert ended["state"] == "done", ended
    assert not [line for line in ended["details"] if "CRC" in line], ended
    cluster.restart(broker_name(status["controller"]))
    assert cluster.minikafka("zk", "ls", f"/jobs/tasks/{job_id}").stdout.split() == ["status"]


async def test_a_job_can_be_cancelled_once_and_fails_when_its_topic_goes(
    cluster: ProcessCluster,
) -> None:
    start(cluster, 3, *SLOW)
    first, second = submit(cluster, "scrub", "t"), submit(cluster, "scrub", "t")
    await until_job(cluster, first, "running")
    await until_job(cluster, second, "running")
    cluster.minikafka("jobs", "cancel", first)
    await until_job(cluster, first, "cancelled")
    twice = cluster.minikafka("jobs", "cancel", first, check=False)
    assert twice.returncode == 1
    assert "is cancelled already" in twice.stderr
    cluster.minikafka("topics", "delete", "t")
    failed = await until_job(cluster, second, "failed", "done")
    assert failed["state"] == "failed"
    assert "topic t was deleted while the job ran" in failed["summary"]
    watched = cluster.minikafka("jobs", "watch", second, check=False)
    assert watched.returncode == 1
    assert "failed" in watched.stdout


async def test_damage_is_found_replicas_are_compared_and_moved(cluster: ProcessCluster) -> None:
    start(cluster, 3, "node.status.interval.ms=500", replicas="1,2")
    for kind in ("scrub", "compare"):
        well = cluster.minikafka("jobs", "submit", kind, "t", "--wait")
        assert "done" in well.stdout, well.stdout
    log = next((cluster.path / "broker-2" / "t-0").glob("*.log"))
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    with log.open("r+b") as file:
        file.write(content)
    scrub = cluster.minikafka("jobs", "submit", "scrub", "t", "--wait", check=False)
    assert scrub.returncode == 1, scrub.stdout
    assert "t-0 on B (2)" in scrub.stdout
    assert "fails its CRC" in scrub.stdout
    compare = cluster.minikafka("jobs", "submit", "compare", "t", "--wait", check=False)
    assert compare.returncode == 1
    assert "t-0 on B (2): differs from the leader A (1) in offsets" in compare.stdout
    moved = cluster.minikafka("jobs", "submit", "reassign", "t", "--replicas", "3,1", "--wait")
    assert "1 partitions are on C (3), A (1)" in moved.stdout
    [partition] = json.loads(
        cluster.minikafka("topics", "describe", "t", "--format", "json").stdout
    )
    assert partition["replicas"] == [3, 1]
    elected = cluster.minikafka("jobs", "submit", "preferred-election", "t", "--wait")
    assert "done" in elected.stdout
    [partition] = json.loads(
        cluster.minikafka("topics", "describe", "t", "--format", "json").stdout
    )
    assert partition["leader"] == 3
    assert cluster.minikafka("jobs", "submit", "scrub", "t", "--wait").returncode == 0
    assert cluster.minikafka("zk", "ls", "/jobs/semaphore/reassign").stdout == ""
