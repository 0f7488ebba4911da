"""Race 16 of the protocol: coordinators die in the middle of commits, and no acknowledged one is
lost or taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from minikafka.errors import MinikafkaError
from tests.helpers.brokers import BrokerCluster
from tests.helpers.group_client import GroupClient, coordinator_of
from tests.helpers.waiting import until

SETTINGS = {"offsets.topic.num.partitions": "2", "zookeeper.session.timeout.ms": "1000"}
DEATHS = 4


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[BrokerCluster]:
    cluster = BrokerCluster(tmp_path, SETTINGS)
    yield cluster
    await cluster.close()


class Committer:
    """Commits 1, 2, 3, …: each until it is acknowledged."""

    def __init__(self, cluster: BrokerCluster) -> None:
        self.client = GroupClient(cluster, "g")
        self.attempted = 0
        self.acknowledged = 0
        self.stop = False

    async def run(self) -> None:
        while not self.stop:
            self.attempted += 1
            await until(self.attempt, 60)
            self.acknowledged = self.attempted

    async def attempt(self) -> bool:
        try:
            async with asyncio.timeout(5):
                error = await self.client.commit_once(self.attempted)
        except (MinikafkaError, KeyError, TimeoutError):
            return False  # the broker died while it was asked
        assert error is None or error.retriable, error
        return error is None


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_acknowledged_commit_is_lost_or_taken_back(
    cluster: BrokerCluster, seed: int
) -> None:
    dice = Random(seed)
    await cluster.start(1, 2, 3)
    await cluster.create_topic("t", [1, 2, 3])
    committer = Committer(cluster)
    committing = asyncio.create_task(committer.run())
    reader = GroupClient(cluster, "g")
    for _ in range(DEATHS):
        goal = committer.acknowledged + dice.randrange(1, 30)
        await until(lambda wanted=goal: committer.acknowledged >= wanted, 60)
        before = committer.acknowledged
        victim = await coordinator_of(cluster, "g")
        await cluster.kill(victim)
        found = (await reader.committed()).offset
        assert before <= found <= committer.attempted
        await until(lambda wanted=found: committer.acknowledged > wanted, 60)
        await cluster.start(victim)
    committer.stop = True
    await committing
    assert (await reader.committed()).offset == committer.acknowledged
