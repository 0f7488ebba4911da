"""What a broker says of itself, over whole brokers in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from minikafka.api.metrics import BrokerMetrics, TopicMetrics
from minikafka.api.requests import (
    DeleteTopicsRequest,
    FetchPartition,
    FetchRequest,
    ProducePartition,
    ProduceRequest,
)
from minikafka.broker.counters import TopicCounters
from minikafka.model import TopicPartition
from tests.helpers.brokers import BrokerCluster, batch_of
from tests.helpers.waiting import until


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[BrokerCluster]:
    cluster = BrokerCluster(tmp_path, {"min.insync.replicas": "2"})
    yield cluster
    await cluster.close()


async def read(cluster: BrokerCluster, broker_id: int) -> BrokerMetrics:
    return await cluster.running[broker_id].broker.metrics.read()


async def holds(
    cluster: BrokerCluster, broker_id: int, condition: Callable[[BrokerMetrics], bool]
) -> bool:
    return condition(await read(cluster, broker_id))


async def topic(cluster: BrokerCluster, broker_id: int, name: str = "t") -> TopicMetrics:
    [found] = [each for each in (await read(cluster, broker_id)).topics if each.topic == name]
    return found


async def test_records_and_bytes_are_counted_where_they_come_in_and_go_out(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    await cluster.produce_until_acked(tp, b"one", b"two", b"three")
    size = len(batch_of(b"one", b"two", b"three"))
    assert await cluster.read_all(tp) == [b"one", b"two", b"three"]
    leader, follower = (await topic(cluster, 1)), (await topic(cluster, 2))
    assert (leader.messages_in, leader.bytes_in, leader.bytes_out) == (3, size, size)
    assert (leader.replication_bytes_out, leader.replication_bytes_in) == (size, 0)
    assert (follower.messages_in, follower.bytes_in, follower.bytes_out) == (0, 0, 0)
    assert (follower.replication_bytes_out, follower.replication_bytes_in) == (0, size)
    assert (leader.partitions, leader.leaders, leader.size_bytes) == (1, 1, size)
    assert (follower.partitions, follower.leaders, follower.size_bytes) == (1, 0, size)


async def test_requests_are_counted_a_partition_each_and_failed_ones_besides(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    nowhere = TopicPartition("nowhere", 0)
    service = cluster.service(1)
    items = [ProducePartition(each, batch_of(b"x")) for each in (tp, nowhere)]
    await service.produce(ProduceRequest(1, 1000, items))
    asked = [FetchPartition(tp, 0, 1000), FetchPartition(tp, 99, 1000)]
    await service.fetch(FetchRequest(0, 1, 1000, asked))
    metrics = await topic(cluster, 1)
    assert (metrics.produce_requests, metrics.failed_produce_requests) == (1, 0)
    assert (metrics.fetch_requests, metrics.failed_fetch_requests) == (2, 1)
    total = (await read(cluster, 1)).total
    assert (total.topic, total.produce_requests, total.failed_produce_requests) == ("", 2, 1)


async def test_a_fetch_that_waited_is_counted_once(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    tp = await cluster.create_topic("t", [1])
    await cluster.produce_until_acked(tp, b"x")
    request = FetchRequest(50, 1_000_000, 1_000_000, [FetchPartition(tp, 0, 1_000_000)])
    await cluster.service(1).fetch(request)
    metrics = await topic(cluster, 1)
    assert (metrics.fetch_requests, metrics.bytes_out) == (1, len(batch_of(b"x")))


async def test_the_death_of_a_follower_shows_at_the_leader_and_its_return_as_well(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    replicas = (await read(cluster, 1)).replicas
    assert (replicas.under_replicated, replicas.under_min_isr, replicas.at_min_isr) == (0, 0, 1)
    await cluster.kill(2)
    await cluster.until_state(tp, lambda state: state.isr == (1,), at=1)
    replicas = (await read(cluster, 1)).replicas
    assert (replicas.partitions, replicas.leaders) == (1, 1)
    assert (replicas.under_replicated, replicas.under_min_isr, replicas.at_min_isr) == (1, 1, 0)
    assert (replicas.isr_shrinks, replicas.isr_expands) == (1, 0)
    await cluster.start(2)
    await cluster.until_state(tp, lambda state: set(state.isr) == {1, 2}, at=1)
    replicas = (await read(cluster, 1)).replicas
    assert (replicas.under_replicated, replicas.isr_shrinks, replicas.isr_expands) == (0, 1, 1)
    assert (await read(cluster, 2)).replicas.isr_expands == 0  # only the leader counts


async def test_only_the_controller_speaks_of_the_cluster(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    await cluster.create_topic("t", [2, 1])
    one, two = (await read(cluster, 1)).controller, (await read(cluster, 2)).controller
    assert (one.active, one.brokers, one.topics, one.partitions) == (True, 2, 1, 1)
    assert (one.offline_partitions, one.preferred_imbalance, one.elections) == (0, 0, 1)
    assert (two.active, two.brokers, two.topics, two.partitions) == (False, 0, 0, 0)
    await cluster.kill(2)
    await until(lambda: holds(cluster, 1, lambda it: it.controller.elections == 2))
    one = (await read(cluster, 1)).controller
    assert (one.brokers, one.offline_partitions, one.preferred_imbalance) == (1, 0, 1)


async def test_elections_are_counted_on_when_the_term_is_over(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    before = (await read(cluster, 1)).controller.elections
    cluster.running[1].store.expire()
    await until(lambda: holds(cluster, 1, lambda it: it.zookeeper_expires == 1))
    await until(lambda: holds(cluster, 1, lambda it: it.controller.active))
    after = (await read(cluster, 1)).controller
    assert after.elections >= before > 0
    assert after.controller_epoch > 1


async def test_a_partition_without_a_leader_is_offline(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    await cluster.create_topic("t", [2])
    await cluster.kill(2)
    await until(lambda: holds(cluster, 1, lambda it: it.controller.offline_partitions == 1))


async def test_the_total_stays_when_a_topic_goes(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    tp = await cluster.create_topic("t", [1])
    await cluster.produce_until_acked(tp, b"x")
    await cluster.service(1).administer(DeleteTopicsRequest(["t"]), 5000)
    await until(lambda: holds(cluster, 1, lambda it: not it.topics))
    metrics = await read(cluster, 1)
    assert metrics.total.messages_in == 1
    assert (metrics.total.partitions, metrics.total.size_bytes) == (0, 0)
    assert cluster.running[1].broker.replicas.counters.topics == {}
    await cluster.create_topic("t", [1])
    assert cluster.running[1].broker.replicas.counters.topics == {"t": TopicCounters()}


async def test_a_follower_knows_how_far_it_is_behind(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    await cluster.produce_until_acked(tp, b"a", b"b")
    assert (await read(cluster, 2)).replicas.max_lag == 0
    replica = cluster.running[2].broker.replicas.replicas[tp]
    replica.note_leader_end(5)
    assert (await read(cluster, 2)).replicas.max_lag == 3
    assert (await read(cluster, 1)).replicas.max_lag == 0
