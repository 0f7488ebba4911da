"""What Kafka's clients are told by a broker that somebody judges: over a real one, by a caller who
may do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from minikafka.broker.guard import service_for
from minikafka.broker.request_memory import RequestMemory
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.operations import NOT_ASKED_FOR
from minikafka.kafka.server import KafkaServer
from minikafka.security.acl import (
    CLUSTER_NAME,
    SUPPORTED,
    Entry,
    Operation,
    Pattern,
    Permission,
    ResourceType,
    bits_of,
)
from minikafka.security.authorizer import Authorizer
from minikafka.security.principal import Caller, Principal
from tests.helpers.brokers import BrokerCluster
from tests.helpers.listeners import start_plaintext
from tests.unit.kafka.conftest import Client
from tests.unit.kafka.test_handlers import metadata_values

ALICE = Caller(Principal("User", "alice"), "127.0.0.1", "INSIDE")
TOPIC, CLUSTER, GROUP = ResourceType.TOPIC, ResourceType.CLUSTER, ResourceType.GROUP


class Ground:
    """A broker with topics `seen` and `hidden`, and a client on its guarded listener."""

    def __init__(self, authorizer: Authorizer, client: Client) -> None:
        self.authorizer = authorizer
        self.client = client

    def may(self, type: ResourceType, name: str, *operations: Operation) -> None:
        entries = [Entry(ALICE.principal, "*", each, Permission.ALLOW) for each in operations]
        self.authorizer.put(Pattern(type, name), entries)

    async def ask(self, api: ApiKey, version: int, **values: Any) -> Any:
        return await self.client.ask(api, version, values)

    async def create(self, name: str, *, validate_only: bool = False) -> Any:
        topic = {
            "name": name,
            "num_partitions": 1,
            "replication_factor": 1,
            "assignments": [],
            "configs": [],
        }
        response = await self.ask(
            ApiKey.CREATE_TOPICS, 7, topics=[topic], timeout=5000, validate_only=validate_only
        )
        return response.topics[0]


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    cluster = BrokerCluster(tmp_path)
    authorizer = Authorizer()
    listener = None
    try:
        await cluster.start(1)
        listener = KafkaServer(
            service_for(cluster.service(1), authorizer, ALICE),
            RequestMemory(1_000_000),
            max_request_bytes=1_000_000,
            max_idle_ms=60_000,
            max_fetch_sessions=10,
        )
        port = await start_plaintext(listener)
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        ground = Ground(authorizer, client)
        ground.may(CLUSTER, CLUSTER_NAME, Operation.CREATE)
        await ground.create("seen")
        await ground.create("hidden")
        ground.may(CLUSTER, CLUSTER_NAME)
        yield ground
        client.writer.close()
    finally:
        if listener is not None:
            await listener.stop()
        await cluster.close()


async def test_a_topic_that_may_not_be_described_looks_as_one_that_is_not_there(
    ground: Ground,
) -> None:
    ground.may(TOPIC, "seen", Operation.READ)
    asked = metadata_values(["hidden", "seen", "nowhere"])
    asked["include_topic_authorized_operations"] = True
    asked["include_cluster_authorized_operations"] = True
    for topic in asked["topics"]:
        topic["topic_id"] = None
    response = await ground.client.ask(ApiKey.METADATA, 10, asked)
    hidden, seen, nowhere = response.topics
    assert (int(hidden.error_code), hidden.topic_id, hidden.partitions) == (29, None, ())
    assert (int(nowhere.error_code), nowhere.topic_id, nowhere.partitions) == (29, None, ())
    assert hidden.topic_authorized_operations == NOT_ASKED_FOR
    assert nowhere.topic_authorized_operations == NOT_ASKED_FOR
    assert int(seen.error_code) == 0
    assert seen.topic_authorized_operations == bits_of([Operation.READ, Operation.DESCRIBE])
    assert response.cluster_authorized_operations == 0
    everything = await ground.client.ask(ApiKey.METADATA, 9, metadata_values(None))
    assert [topic.name for topic in everything.topics] == ["seen"]


async def test_what_is_deleted_by_its_id_is_not_there_for_who_may_not_describe_it(
    ground: Ground,
) -> None:
    ground.may(TOPIC, "hidden", Operation.DESCRIBE)
    asked = metadata_values(["hidden"])
    asked["topics"][0]["topic_id"] = None
    response = await ground.client.ask(ApiKey.METADATA, 10, asked)
    topic_id = response.topics[0].topic_id
    assert topic_id is not None

    async def delete(**topic: Any) -> tuple[int, Any, Any]:
        named = {"name": None, "topic_id": None} | topic
        response = await ground.ask(ApiKey.DELETE_TOPICS, 6, topics=[named], timeout=5000)
        [answer] = response.responses
        return int(answer.error_code), answer.name, answer.topic_id

    assert await delete(topic_id=topic_id) == (29, "hidden", topic_id)
    ground.may(TOPIC, "hidden")
    assert await delete(topic_id=topic_id) == (100, None, topic_id)
    assert await delete(name="hidden") == (29, "hidden", None)
    assert await delete(name="nowhere") == (29, "nowhere", None)


async def test_who_makes_a_topic_sees_its_configuration_only_if_it_may(ground: Ground) -> None:
    ground.may(TOPIC, "mine", Operation.CREATE)
    for validate_only in (True, False):
        answer = await ground.create("mine", validate_only=validate_only)
        assert (int(answer.error_code), int(answer.topic_config_error_code)) == (0, 29)
        assert (answer.num_partitions, answer.configs) == (-1, ())
    ground.may(TOPIC, "more", Operation.CREATE, Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS)
    answer = await ground.create("more")
    assert (int(answer.error_code), int(answer.topic_config_error_code)) == (0, 0)
    assert answer.num_partitions == 1
    assert answer.configs
    assert int((await ground.create("others")).error_code) == 29


async def test_log_directories_are_described_to_who_may_describe_the_cluster(
    ground: Ground,
) -> None:
    for version in range(
        APIS[ApiKey.DESCRIBE_LOG_DIRS].min_version, APIS[ApiKey.DESCRIBE_LOG_DIRS].max_version + 1
    ):
        ground.may(CLUSTER, CLUSTER_NAME)
        response = await ground.ask(ApiKey.DESCRIBE_LOG_DIRS, version, topics=None)
        assert response.results == ()
        if version >= 3:
            assert int(response.error_code) == 31
        ground.may(CLUSTER, CLUSTER_NAME, Operation.DESCRIBE)
        response = await ground.ask(ApiKey.DESCRIBE_LOG_DIRS, version, topics=None)
        assert len(response.results) == 1


@pytest.mark.parametrize("validate_only", [True, False])
async def test_configurations_are_altered_by_who_may_alter_them(
    ground: Ground, validate_only: bool
) -> None:
    """For which nobody has to describe the topic."""

    async def alter(topic: str) -> int:
        config = {"name": "retention.ms", "config_operation": 0, "value": "1000"}
        resource = {"resource_type": 2, "resource_name": topic, "configs": [config]}
        response = await ground.ask(
            ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=[resource], validate_only=validate_only
        )
        return int(response.responses[0].error_code)

    ground.may(TOPIC, "seen", Operation.ALTER_CONFIGS)
    ground.may(TOPIC, "gone", Operation.ALTER_CONFIGS)
    codes = [await alter(topic) for topic in ("seen", "gone", "hidden", "nowhere")]
    assert codes == [0, 3, 29, 29]


async def test_what_may_be_done_with_groups_and_the_cluster_is_told(ground: Ground) -> None:
    ground.may(GROUP, "mine", Operation.READ)
    ground.may(CLUSTER, CLUSTER_NAME, Operation.ALL)
    response = await ground.ask(
        ApiKey.DESCRIBE_GROUPS, 5, groups=["mine", "yours"], include_authorized_operations=True
    )
    told = [(int(each.error_code), each.authorized_operations) for each in response.groups]
    assert told[1] == (30, NOT_ASKED_FOR)
    assert told[0][1] == bits_of([Operation.READ, Operation.DESCRIBE])
    response = await ground.ask(
        ApiKey.DESCRIBE_CLUSTER,
        1,
        include_cluster_authorized_operations=True,
        endpoint_type=1,
    )
    assert response.cluster_authorized_operations == bits_of(SUPPORTED[CLUSTER])
