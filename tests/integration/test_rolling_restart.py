"""`minikafka rolling-restart` on real brokers: under load nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikafka.client import AsyncAdmin
from tests.helpers.processes import Load, ProcessCluster, read_numbers, until_isr
from tests.helpers.waiting import until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ProcessCluster]:
    cluster = ProcessCluster(tmp_path)
    try:
        yield cluster
    finally:
        cluster.down()


def pids(cluster: ProcessCluster) -> list[int]:
    document = json.loads((cluster.path / "cluster.json").read_text())
    return [broker["pid"] for broker in document["brokers"]]


def begin(cluster: ProcessCluster, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "minikafka", "rolling-restart", *options],
        env={**os.environ, "MINIKAFKA_DATA_DIR": str(cluster.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def until_lock(cluster: ProcessCluster, *, held: bool) -> None:
    """Until somebody, or nobody, holds the lock of rolling restarts."""
    client = await asyncio.to_thread(cluster.zookeeper)
    lock = "/locks/rolling-restart"

    def is_held() -> bool:
        return bool(client.exists(lock) and client.get_children(lock))

    async def is_so() -> bool:
        return await asyncio.to_thread(is_held) is held

    try:
        await until(is_so, 60)
    finally:
        client.stop()
        client.close()


async def test_every_broker_is_restarted_and_nothing_acknowledged_is_lost(
    cluster: ProcessCluster,
) -> None:
    cluster.up(3, "embedded")
    before = pids(cluster)
    async with AsyncAdmin(cluster.bootstrap) as admin:
        await admin.create_topic("t", 1, 3, configs={"min.insync.replicas": "2"})
        await until_isr(admin, "t", 3)
        dry = cluster.minikafka("rolling-restart", "--dry-run").stdout
        assert "would restart" in dry
        assert pids(cluster) == before
        async with Load(cluster.bootstrap, "t") as load:
            await load.more(50)
            rolling = begin(cluster, "--timeout", "90")
            try:
                await until_lock(cluster, held=True)
                second = await asyncio.to_thread(cluster.minikafka, "rolling-restart", check=False)
                out, err = await asyncio.to_thread(rolling.communicate)
            finally:
                rolling.kill()
            assert rolling.returncode == 0, (out, err)
            assert second.returncode == 1, second.stdout
            assert f"process {rolling.pid}" in second.stderr
            await load.more(50)
        assert not set(before) & set(pids(cluster)), "each broker is another process now"
        assert "all 3 brokers restarted" in out
        last = [line for line in out.splitlines() if "in sync" in line][-1]
        assert "the controller" in last
        await until_isr(admin, "t", 3)
    load.judge(await read_numbers(cluster.bootstrap, "t"))


async def test_it_does_not_begin_while_a_broker_is_dead_and_a_dead_holder_leaves_no_lock(
    cluster: ProcessCluster,
) -> None:
    cluster.up(2, "embedded")
    rolling = begin(cluster)
    try:
        await until_lock(cluster, held=True)
        rolling.send_signal(signal.SIGKILL)
        rolling.wait()
    finally:
        rolling.kill()
        rolling.communicate()
    await until_lock(cluster, held=False)
    for name in ("A", "B"):
        cluster.minikafka("restart", name)
    cluster.kill("B")
    refused = cluster.minikafka("rolling-restart", check=False)
    assert refused.returncode == 1
    assert "start B (2) first" in refused.stderr
