"""What clients are told who came through different listeners."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from minikafka.api.groups import FindCoordinatorRequest, FindCoordinatorResult, FoundCoordinator
from minikafka.api.requests import TopicMetadata
from minikafka.kafka.acceptor import ServedListener
from minikafka.kafka.apis import ApiKey
from minikafka.model import (
    Assignment,
    BrokerInfo,
    KafkaListener,
    PartitionMetadata,
    PartitionState,
    SecurityProtocol,
    TopicPartition,
)
from tests.unit.kafka.conftest import Client, Ground

PLAINTEXT = SecurityProtocol.PLAINTEXT
BOTH = BrokerInfo(
    1,
    "A",
    "grpc",
    1,
    (
        KafkaListener("INSIDE", PLAINTEXT, "10.0.0.1", 9092),
        KafkaListener("OUTSIDE", PLAINTEXT, "kafka.example", 443),
    ),
)
INSIDE_ONLY = BrokerInfo(2, "B", "grpc", 2, (KafkaListener("INSIDE", PLAINTEXT, "10.0.0.2", 9092),))


def partition(number: int, leader: int) -> PartitionMetadata:
    tp = TopicPartition("words", number)
    return PartitionMetadata(
        tp, "t" * 22, Assignment((1, 2)), PartitionState(leader, 0, (1, 2), 1, 0)
    )


async def clients(ground: Ground) -> dict[str, Client]:
    """One through each listener of this broker."""
    ground.broker.cluster.brokers = [BOTH, INSIDE_ONLY]
    partitions = [partition(0, 1), partition(1, 2), partition(2, 9)]
    ground.broker.cluster.topics = [TopicMetadata("words", "t" * 22, None, partitions)]
    ports = await ground.start_listeners(
        [ServedListener(name, "127.0.0.1", 0) for name in ("INSIDE", "OUTSIDE")]
    )
    return {name: await ground.connect(port) for name, port in ports.items()}


@pytest.mark.parametrize(("version", "not_found"), [(5, 5), (6, 72)])
async def test_metadata_are_of_the_listener_that_was_asked_through(
    ground: Ground, version: int, not_found: int
) -> None:
    found = await clients(ground)
    for name, addresses, controller, leaders in [
        ("INSIDE", [(1, "10.0.0.1", 9092), (2, "10.0.0.2", 9092)], 1, [(0, 1), (0, 2), (5, -1)]),
        ("OUTSIDE", [(1, "kafka.example", 443)], 1, [(0, 1), (not_found, -1), (5, -1)]),
    ]:
        answer = await found[name].ask(ApiKey.METADATA, version, {"topics": None})
        assert [(b.node_id, b.host, b.port) for b in answer.brokers] == addresses
        assert answer.controller_id == controller
        told = [(int(p.error_code), p.leader_id) for p in answer.topics[0].partitions]
        assert told == leaders


async def test_a_controller_that_cannot_be_reached_is_not_told(ground: Ground) -> None:
    found = await clients(ground)
    ground.broker.cluster.controller_id = 2
    asked = {"include_cluster_authorized_operations": False}
    for name, controller in [("INSIDE", 2), ("OUTSIDE", -1)]:
        answer = await found[name].ask(ApiKey.DESCRIBE_CLUSTER, 0, asked)
        assert answer.controller_id == controller


async def test_a_coordinator_is_told_where_it_can_be_reached(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(request: FindCoordinatorRequest) -> FindCoordinatorResult:
        return FindCoordinatorResult([FoundCoordinator("g", None, INSIDE_ONLY)])

    found = await clients(ground)
    groups = SimpleNamespace(find_coordinator=find)
    monkeypatch.setattr(ground.broker, "groups", groups, raising=False)
    for name, told in [("INSIDE", (0, 2, "10.0.0.2", 9092)), ("OUTSIDE", (15, -1, "", -1))]:
        answer = await found[name].ask(ApiKey.FIND_COORDINATOR, 1, {"key": "g", "key_type": 0})
        assert (int(answer.error_code), answer.node_id, answer.host, answer.port) == told


async def test_all_listeners_take_connections_and_end_together(ground: Ground) -> None:
    found = await clients(ground)
    assert ground.listener is not None
    await asyncio.gather(*(each.ask(ApiKey.METADATA, 5, {"topics": []}) for each in found.values()))
    assert ground.listener.connection_count == 2
    await ground.listener.stop()
    for client in found.values():
        await client.receive_end()
