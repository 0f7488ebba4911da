"""All brokers agree upon transaction.version before there are transactions (KIP-584)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minikafka.api.features import features_of
from minikafka.api.groups import FindCoordinatorRequest
from minikafka.errors import CoordinatorNotAvailableError, MinikafkaError, UsageError
from minikafka.model import TRANSACTIONS_TOPIC
from tests.helpers.brokers import BrokerCluster
from tests.helpers.waiting import until


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[BrokerCluster]:
    cluster = BrokerCluster(tmp_path, {"transaction.state.log.num.partitions": "2"})
    yield cluster
    await cluster.close()


async def found(cluster: BrokerCluster, broker_id: int) -> MinikafkaError | None:
    request = FindCoordinatorRequest(["a"], 1)
    service = cluster.service(broker_id).transactions
    [coordinator] = (await service.find_coordinator(request)).coordinators
    return coordinator.error


async def test_the_level_that_all_know_is_finalized_and_told(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2, 3)
    services = [cluster.service(broker_id) for broker_id in (1, 2, 3)]
    await until(lambda: all(service.features is not None for service in services))
    assert [service.features for service in services] == [features_of(2, 0)] * 3
    assert await found(cluster, 2) is None


async def test_there_are_no_transactions_while_one_broker_knows_of_none(
    cluster: BrokerCluster,
) -> None:
    cluster.transaction_levels[1] = 0
    await cluster.start(1, 2)
    assert cluster.zookeeper.feature is None
    assert isinstance(await found(cluster, 2), CoordinatorNotAvailableError)
    assert TRANSACTIONS_TOPIC not in cluster.service(2)._metadata.topics
    await cluster.stop(1)
    await until(lambda: cluster.zookeeper.feature == (2, 0))
    await until(lambda: cluster.service(2).features is not None)
    assert await found(cluster, 2) is None


async def test_who_knows_less_than_is_finalized_does_not_start(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    await until(lambda: cluster.zookeeper.feature == (2, 0))
    cluster.transaction_levels[2] = 1
    with pytest.raises(UsageError, match=r"finalized transaction.version 2, and broker 2 knows 1"):
        await cluster.start(2)
    running = cluster.running.pop(2)
    await running.broker.close()
    await running.store.close()


async def test_a_level_is_raised_when_the_last_broker_knows_it(cluster: BrokerCluster) -> None:
    cluster.transaction_levels[1] = 1
    await cluster.start(1, 2)
    await until(lambda: cluster.service(2).features == features_of(1, 0))
    await cluster.stop(1)
    await until(lambda: cluster.service(2).features == features_of(2, 1))
    assert cluster.zookeeper.feature == (2, 1)
