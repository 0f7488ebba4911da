"""`minikafka reassign` on real brokers: replicas that move, are throttled, and go back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.processes import ProcessCluster
from tests.helpers.waiting import until

pytestmark = pytest.mark.timeout(300)

RECORDS, RECORD_BYTES = 5_000, 1_000
PATIENCE_S = 90


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ProcessCluster]:
    cluster = ProcessCluster(tmp_path)
    try:
        cluster.up(3, "embedded")
        cluster.minikafka("topics", "create", "t", "--replicas", "1,2")
        file = cluster.path / "records"
        file.write_text(f"{'r' * RECORD_BYTES}\n" * RECORDS)
        cluster.minikafka("produce", "t", str(file))
        yield cluster
    finally:
        cluster.down()


def under_way(cluster: ProcessCluster) -> list[dict[str, Any]]:
    listed = cluster.minikafka("reassign", "--list", "--format", "json").stdout
    return list(json.loads(listed))


async def until_complete(cluster: ProcessCluster) -> None:
    async def complete() -> bool:
        return not await asyncio.to_thread(under_way, cluster)

    await until(complete, PATIENCE_S)


def replicas(cluster: ProcessCluster) -> list[int]:
    described = cluster.minikafka("topics", "describe", "t", "--format", "json").stdout
    [partition] = json.loads(described)
    return list(partition["replicas"])


def altered(cluster: ProcessCluster) -> str:
    of_topic = cluster.minikafka("configs", "describe", "--topic", "t")
    of_all = cluster.minikafka("configs", "describe", "--broker-default")
    return of_topic.stdout + of_all.stdout


async def test_a_throttled_replica_waits_and_others_do_not_and_it_goes_on_when_it_may(
    cluster: ProcessCluster,
) -> None:
    begun = cluster.minikafka("reassign", "t", "--replicas", "2,3", "--throttle", "10kB")
    assert "t-0 to B,C: under way" in begun.stdout
    assert "throttled to 10.0 kB a second at each broker, until `minikafka reassign" in begun.stderr
    # One fetch may be of a megabyte; what is left would take minutes.
    [move] = under_way(cluster)
    [progress] = move["progress"]
    assert (progress["broker"], progress["in_sync"]) == (3, False)
    shown = altered(cluster)
    for name in ("follower.replication.throttled", "leader.replication.throttled"):
        assert f"{name}.rate" in shown
        assert f"{name}.replicas" in shown
    cluster.minikafka("topics", "create", "u", "--replicas", "3,1,2")
    cluster.minikafka("produce", "u", str(cluster.path / "records"))  # acks=all: of broker 3 too
    [move] = under_way(cluster)
    assert move["progress"][0]["lag"] > 0
    lifted = cluster.minikafka("reassign", "--unthrottle")
    assert "the throttle is lifted: t" in lifted.stdout
    await until_complete(cluster)
    assert replicas(cluster) == [2, 3]
    assert "throttled" not in altered(cluster)
    assert "nothing was throttled" in cluster.minikafka("reassign", "--unthrottle").stdout


async def test_with_wait_the_throttle_ends_with_the_move(cluster: ProcessCluster) -> None:
    done = cluster.minikafka("reassign", "t", "--replicas", "3,1", "--throttle", "5MB", "--wait")
    assert "t-0 to C,A: complete" in done.stdout
    assert "at each broker, until all is moved (or, if this command is broken off" in done.stderr
    assert replicas(cluster) == [3, 1]
    assert "throttled" not in altered(cluster)


async def test_a_job_that_moves_replicas_is_throttled_as_well(cluster: ProcessCluster) -> None:
    job = ("jobs", "submit", "reassign", "t", "--replicas", "3,1")
    refused = cluster.minikafka(*job, "--partition", "7", "--throttle", "5MB", check=False)
    assert refused.returncode == 1
    assert "throttled.rate" not in altered(cluster)
    begun = cluster.minikafka(*job, "--throttle", "10kB")
    assert "throttled to 10.0 kB a second at each broker, until" in begun.stderr

    async def slowly() -> bool:
        moves = await asyncio.to_thread(under_way, cluster)
        return bool(moves) and moves[0]["progress"][0]["lag"] > 0

    await until(slowly, PATIENCE_S)
    assert "throttled.rate" in altered(cluster)
    cluster.minikafka("reassign", "--unthrottle")
    await until_complete(cluster)
    back = ("jobs", "submit", "reassign", "t", "--replicas", "2,3")
    done = cluster.minikafka(*back, "--throttle", "5MB", "--wait")
    assert "1 partitions are on B (2), C (3)" in done.stdout
    assert "throttled" not in altered(cluster)
    wrong = cluster.minikafka("jobs", "submit", "scrub", "t", "--throttle", "5MB", check=False)
    assert wrong.returncode == 2
    assert "a scrub job moves none" in wrong.stderr


async def test_what_is_under_way_can_be_cancelled(cluster: ProcessCluster) -> None:
    cluster.minikafka("reassign", "t", "--replicas", "3", "--throttle", "1kB")
    assert len(under_way(cluster)) == 1
    cancelled = cluster.minikafka("reassign", "t", "--cancel")
    assert "t-0 cancelled" in cancelled.stdout
    await until_complete(cluster)
    assert replicas(cluster) == [1, 2]
    refused = cluster.minikafka("reassign", "t", "--cancel", check=False)
    assert refused.returncode == 1
    assert "is not being reassigned" in refused.stderr
