"""What the APIs do, over real brokers in this process: each answer is read by kio to its last byte,
in every version that is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from minikafka.api.requests import ControllerResponse
from minikafka.broker.request_memory import RequestMemory
from minikafka.core.replication.log_state import LogState
from minikafka.errors import NotControllerError
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.server import KafkaServer
from minikafka.records.header import parse_header
from minikafka.records.read import iter_records
from tests.helpers.brokers import BrokerCluster, batch_of
from tests.helpers.listeners import start_plaintext
from tests.helpers.waiting import until
from tests.unit.kafka.conftest import Client


class Ground:
    """Two brokers, the first with a Kafka listener, and a client that is connected to it."""

    def __init__(self, cluster: BrokerCluster, client: Client) -> None:
        self.cluster = cluster
        self.client = client

    async def ask(self, api: ApiKey, version: int, **values: Any) -> Any:
        return await self.client.ask(api, version, values)

    async def create(self, name: str, partitions: int = 1, **configs: str) -> Any:
        topic = {
            "name": name,
            "num_partitions": partitions,
            "replication_factor": 2,
            "assignments": [],
            "configs": [{"name": n, "value": value} for n, value in configs.items()],
        }
        response = await self.ask(
            ApiKey.CREATE_TOPICS, 7, topics=[topic], timeout=5000, validate_only=False
        )
        return response.topics[0]


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    cluster = BrokerCluster(tmp_path, {"auto.leader.rebalance.enable": "false"})
    listener = None
    try:
        await cluster.start(1, 2)
        listener = KafkaServer(
            cluster.service(1),
            RequestMemory(1_000_000),
            max_request_bytes=1_000_000,
            max_idle_ms=60_000,
            max_fetch_sessions=10,
        )
        port = await start_plaintext(listener)
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        yield Ground(cluster, client)
        client.writer.close()
    finally:
        if listener is not None:
            await listener.stop()
        await cluster.close()


def versions(api: ApiKey) -> range:
    return range(APIS[api].min_version, APIS[api].max_version + 1)


def metadata_values(topics: list[str] | None) -> dict[str, Any]:
    return {
        "topics": None if topics is None else [{"name": name} for name in topics],
        "allow_auto_topic_creation": False,
        "include_cluster_authorized_operations": False,
        "include_topic_authorized_operations": False,
    }


# --- the cluster ---------------------------------------------------------------------------------


async def test_metadata_names_brokers_topics_and_leaders(ground: Ground) -> None:
    await ground.create("words", 2)
    for version in versions(ApiKey.METADATA):
        # Older versions cannot say that a topic is not to be created.
        names = ["words", "nowhere"] if version >= 4 else ["words"]
        values = metadata_values(names)
        for topic in values["topics"]:
            topic["topic_id"] = None
        response = await ground.client.ask(ApiKey.METADATA, version, values)
        brokers = [(broker.node_id, broker.host, broker.port) for broker in response.brokers]
        assert brokers == [(1, "host-1", 9091), (2, "host-2", 9092)]
        words = response.topics[0]
        assert (int(words.error_code), words.name) == (0, "words")
        assert [p.partition_index for p in words.partitions] == [0, 1]
        assert {p.leader_id for p in words.partitions} <= {1, 2}
        assert all(sorted(p.replica_nodes) == [1, 2] for p in words.partitions)
        if version >= 1:
            assert response.controller_id == ground.cluster.running[1].broker.metadata.controller_id
        if version >= 4:
            assert int(response.topics[1].error_code) == 3


async def test_metadata_of_all_topics_of_none_and_of_a_new_one(ground: Ground) -> None:
    await ground.create("words")
    response = await ground.client.ask(ApiKey.METADATA, 9, metadata_values(None))
    assert [topic.name for topic in response.topics] == ["words"]
    response = await ground.client.ask(ApiKey.METADATA, 0, {"topics": []})
    assert [topic.name for topic in response.topics] == ["words"]
    response = await ground.client.ask(ApiKey.METADATA, 9, metadata_values([]))
    assert response.topics == ()
    asked = metadata_values(["made"]) | {"allow_auto_topic_creation": True}
    response = await ground.client.ask(ApiKey.METADATA, 9, asked)
    assert [(int(t.error_code), t.name) for t in response.topics] == [(0, "made")]


async def test_the_cluster_is_described(ground: Ground) -> None:
    for version in versions(ApiKey.DESCRIBE_CLUSTER):
        response = await ground.ask(
            ApiKey.DESCRIBE_CLUSTER,
            version,
            include_cluster_authorized_operations=False,
            endpoint_type=1,
        )
        assert (int(response.error_code), response.cluster_id) == (0, "cluster-of-a-test-0000")
        assert [broker.broker_id for broker in response.brokers] == [1, 2]


# --- records and offsets -------------------------------------------------------------------------


async def produced(ground: Ground, topic: str, *values: bytes) -> Any:
    partition = {"index": 0, "records": batch_of(*values)}
    response = await ground.ask(
        ApiKey.PRODUCE,
        9,
        transactional_id=None,
        acks=-1,
        timeout=5000,
        topic_data=[{"name": topic, "partition_data": [partition]}],
    )
    return response.responses[0].partition_responses[0]


async def led_by_1(ground: Ground, topic: str) -> None:
    """A topic whose leader is the broker that the client is connected to."""
    tp = await ground.cluster.create_topic(topic, [1, 2])
    await ground.cluster.until_state(tp, lambda state: state.leader == 1)


async def test_what_is_produced_is_fetched(ground: Ground) -> None:
    await led_by_1(ground, "words")
    result = await produced(ground, "words", b"one", b"two")
    assert (int(result.error_code), result.base_offset) == (0, 0)
    response = await ground.ask(
        ApiKey.FETCH,
        12,
        replica_id=-1,
        max_wait=1000,
        min_bytes=1,
        max_bytes=10_000,
        isolation_level=1,
        session_id=0,
        session_epoch=-1,
        topics=[
            {
                "topic": "words",
                "partitions": [{"partition": 0, "fetch_offset": 1, "partition_max_bytes": 10_000}],
            }
        ],
        forgotten_topics_data=[],
    )
    partition = response.responses[0].partitions[0]
    assert (partition.high_watermark, partition.last_stable_offset) == (2, 2)
    assert partition.aborted_transactions == ()
    # The whole batch, although only its second record was asked for.
    raw = bytes(partition.records)
    records = list(iter_records(raw, parse_header(raw)))
    assert [record.value for record in records] == [b"one", b"two"]


async def test_a_produce_request_to_the_wrong_broker_is_told_so(ground: Ground) -> None:
    await ground.cluster.create_topic("words", [2, 1])
    assert int((await produced(ground, "words", b"one")).error_code) == 6
    assert int((await produced(ground, "nowhere", b"one")).error_code) == 3


@pytest.mark.parametrize(
    ("timestamp", "offset", "at"),
    [(-1, 2, -1), (-2, 0, -1), (-3, 0, 1_700_000_000_000), (1_700_000_000_000, 0, None)],
    ids=["latest", "earliest", "largest timestamp", "by time"],
)
async def test_offsets_are_listed(
    ground: Ground, timestamp: int, offset: int, at: int | None
) -> None:
    await led_by_1(ground, "words")
    await produced(ground, "words", b"one", b"two")
    for version in versions(ApiKey.LIST_OFFSETS)[-1 if timestamp == -3 else 0 :]:
        partition = {"partition_index": 0, "timestamp": timestamp, "current_leader_epoch": -1}
        response = await ground.ask(
            ApiKey.LIST_OFFSETS,
            version,
            replica_id=-1,
            isolation_level=0,
            topics=[{"name": "words", "partitions": [partition]}],
        )
        found = response.topics[0].partitions[0]
        assert (int(found.error_code), found.offset) == (0, offset)
        assert at is None or found.timestamp == at


async def test_the_latest_offset_of_committed_records_is_the_last_stable_one(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    await led_by_1(ground, "words")
    await produced(ground, "words", b"one", b"two")
    monkeypatch.setattr(LogState, "last_stable_offset", 1)
    for version in versions(ApiKey.LIST_OFFSETS):
        for level, timestamp, offset in ((0, -1, 2), (1, -1, 1), (1, 1_700_000_000_000, 0)):
            partition = {"partition_index": 0, "timestamp": timestamp, "current_leader_epoch": -1}
            response = await ground.ask(
                ApiKey.LIST_OFFSETS,
                version,
                replica_id=-1,
                isolation_level=level,
                topics=[{"name": "words", "partitions": [partition]}],
            )
            found = response.topics[0].partitions[0]
            if version >= 2 or not level:  # before that there were no levels
                assert (int(found.error_code), found.offset) == (0, offset)


async def test_the_end_of_an_epoch_is_told(ground: Ground) -> None:
    await led_by_1(ground, "words")
    await produced(ground, "words", b"one", b"two")
    for version in versions(ApiKey.OFFSET_FOR_LEADER_EPOCH):
        for index, epoch, expected in ((0, 0, (0, 0, 2)), (0, 5, (0, -1, -1)), (7, 0, (3, -1, -1))):
            asked = {"partition": index, "leader_epoch": epoch, "current_leader_epoch": -1}
            response = await ground.ask(
                ApiKey.OFFSET_FOR_LEADER_EPOCH,
                version,
                replica_id=-1,
                topics=[{"topic": "words", "partitions": [asked]}],
            )
            end = response.topics[0].partitions[0]
            assert (int(end.error_code), end.leader_epoch, end.end_offset) == expected


async def test_producer_ids_are_never_the_same(ground: Ground) -> None:
    seen = set()
    for version in versions(ApiKey.INIT_PRODUCER_ID):
        response = await ground.ask(
            ApiKey.INIT_PRODUCER_ID, version, transactional_id=None, transaction_timeout=1000
        )
        assert (int(response.error_code), response.producer_epoch) == (0, 0)
        seen.add(response.producer_id)
    assert len(seen) == len(versions(ApiKey.INIT_PRODUCER_ID))


# --- topics --------------------------------------------------------------------------------------


async def test_topics_are_created_and_deleted_in_every_version(ground: Ground) -> None:
    for version in versions(ApiKey.CREATE_TOPICS):
        topic = {
            "name": f"topic-{version}",
            "num_partitions": 1 if version < 4 else -1,
            "replication_factor": 1 if version < 4 else -1,
            "assignments": [],
            "configs": [{"name": "retention.ms", "value": "1000"}],
        }
        response = await ground.ask(
            ApiKey.CREATE_TOPICS, version, topics=[topic], timeout=5000, validate_only=False
        )
        assert [(t.name, int(t.error_code)) for t in response.topics] == [(topic["name"], 0)]
        if version >= 5:
            created = response.topics[0]
            assert (created.num_partitions, created.replication_factor) == (1, 1)
            configs = {c.name: (c.value, c.config_source) for c in created.configs}
            assert configs["retention.ms"] == ("1000", 1)
            assert configs["segment.bytes"][1] == 5
    for version in versions(ApiKey.DELETE_TOPICS):
        name = f"topic-{version + 1}"
        response = await ground.ask(
            ApiKey.DELETE_TOPICS,
            version,
            topic_names=[name],
            topics=[{"name": name, "topic_id": None}],
            timeout=5000,
        )
        assert [(t.name, int(t.error_code)) for t in response.responses] == [(name, 0)]


async def test_a_topic_is_deleted_by_its_id(ground: Ground) -> None:
    created = await ground.create("words")
    unknown = created.topic_id.__class__(int=7)
    response = await ground.ask(
        ApiKey.DELETE_TOPICS,
        6,
        topics=[
            {"name": None, "topic_id": created.topic_id},
            {"name": None, "topic_id": unknown},
        ],
        timeout=5000,
    )
    assert {(t.name, int(t.error_code)) for t in response.responses} == {("words", 0), (None, 100)}


async def test_topics_that_cannot_be_are_refused_with_what_is_wrong(ground: Ground) -> None:
    await ground.create("words")

    async def refused(name: str, factor: int = 1, **configs: str) -> tuple[int, str]:
        topic = {
            "name": name,
            "num_partitions": 1,
            "replication_factor": factor,
            "assignments": [],
            "configs": [{"name": n, "value": value} for n, value in configs.items()],
        }
        response = await ground.ask(
            ApiKey.CREATE_TOPICS, 7, topics=[topic], timeout=5000, validate_only=True
        )
        return int(response.topics[0].error_code), response.topics[0].error_message

    assert (await refused("words"))[0] == 36
    assert (await refused("bad name!"))[0] == 17
    assert (await refused("big", factor=3))[0] == 38
    code, message = await refused("other", **{"retention.mss": "1"})
    assert (code, "did you mean retention.ms?" in message) == (40, True)
    topic = {
        "name": "twice",
        "num_partitions": 1,
        "replication_factor": 1,
        "assignments": [],
        "configs": [],
    }
    response = await ground.ask(
        ApiKey.CREATE_TOPICS, 7, topics=[topic, topic], timeout=5000, validate_only=False
    )
    assert [(t.name, int(t.error_code)) for t in response.topics] == [("twice", 42)]


async def test_partitions_are_added(ground: Ground) -> None:
    for version in versions(ApiKey.CREATE_PARTITIONS):
        await ground.create(f"topic-{version}")
        grown = {"name": f"topic-{version}", "count": 3, "assignments": None}
        same = {"name": f"topic-{version}", "count": 1, "assignments": None}
        for topic, code in ((grown, 0), (same, 37)):
            response = await ground.ask(
                ApiKey.CREATE_PARTITIONS, version, topics=[topic], timeout=5000, validate_only=False
            )
            assert int(response.results[0].error_code) == code


async def test_records_are_deleted_up_to_an_offset(ground: Ground) -> None:
    await led_by_1(ground, "words")
    await produced(ground, "words", b"one", b"two")
    await produced(ground, "words", b"three")
    for version in versions(ApiKey.DELETE_RECORDS):
        for offset, code, low_watermark in ((1, 0, 1), (99, 1, -1)):
            partition = {"partition_index": 0, "offset": offset}
            response = await ground.ask(
                ApiKey.DELETE_RECORDS,
                version,
                topics=[{"name": "words", "partitions": [partition]}],
                timeout=5000,
            )
            found = response.topics[0].partitions[0]
            assert (int(found.error_code), found.low_watermark) == (code, low_watermark)


async def test_leaders_are_elected(ground: Ground) -> None:
    await led_by_1(ground, "words")
    for version in versions(ApiKey.ELECT_LEADERS):
        response = await ground.ask(
            ApiKey.ELECT_LEADERS,
            version,
            election_type=0,
            topic_partitions=[{"topic": "words", "partitions": [0, 9, -1, -(2**31)]}],
            timeout=5000,
        )
        (topic,) = response.replica_election_results
        found = {p.partition_id: int(p.error_code) for p in topic.partition_result}
        assert topic.topic == "words"
        assert found == {0: 84, 9: 3, -1: 3, -(2**31): 3}
    response = await ground.ask(
        ApiKey.ELECT_LEADERS, 2, election_type=0, topic_partitions=None, timeout=5000
    )
    assert response.replica_election_results == ()


@pytest.mark.parametrize("named", [None, [{"topic": "words", "partitions": [0, 1]}]])
async def test_an_election_that_failed_as_a_whole_says_so(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, named: list[dict[str, object]] | None
) -> None:
    async def refuse(request: object, timeout_ms: int) -> ControllerResponse:
        raise NotControllerError("there is no controller")

    monkeypatch.setattr(ground.cluster.service(1), "administer", refuse)
    response = await ground.ask(
        ApiKey.ELECT_LEADERS, 2, election_type=0, topic_partitions=named, timeout=5000
    )
    assert int(response.error_code) == NotControllerError.code
    found = [
        (topic.topic, each.partition_id, int(each.error_code))
        for topic in response.replica_election_results
        for each in topic.partition_result
    ]
    assert found == ([] if named is None else [("words", 0, 41), ("words", 1, 41)])


async def reassign(ground: Ground, replicas: list[int] | None, *partitions: int) -> dict[int, int]:
    response = await ground.ask(
        ApiKey.ALTER_PARTITION_REASSIGNMENTS,
        0,
        timeout=5000,
        topics=[
            {
                "name": "words",
                "partitions": [
                    {"partition_index": index, "replicas": replicas} for index in partitions
                ],
            }
        ],
    )
    assert int(response.error_code) == 0
    return {
        each.partition_index: int(each.error_code)
        for topic in response.responses
        for each in topic.partitions
    }


async def reassignments(ground: Ground, topics: Any) -> dict[tuple[str, int], Any]:
    response = await ground.ask(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, timeout=5000, topics=topics)
    assert int(response.error_code) == 0
    return {
        (topic.name, each.partition_index): (
            each.replicas,
            each.adding_replicas,
            each.removing_replicas,
        )
        for topic in response.topics
        for each in topic.partitions
    }


async def test_replicas_are_moved_and_what_is_under_way_is_listed_and_cancelled(
    ground: Ground,
) -> None:
    await ground.cluster.create_topic("words", [1])
    ground.cluster.network.isolate(2)  # so it goes on for as long as we like
    assert await reassign(ground, [1, 2], 0, 9) == {0: 0, 9: 3}
    words, others = (
        [{"name": "words", "partition_indexes": [0, 1]}],
        [{"name": "words", "partition_indexes": [1]}],
    )
    under_way = {("words", 0): ((1, 2), (2,), ())}
    assert await reassignments(ground, None) == under_way
    assert await reassignments(ground, words) == under_way
    assert await reassignments(ground, others) == {}
    assert await reassignments(ground, []) == {}
    assert await reassign(ground, None, 0) == {0: 0}
    assert await reassignments(ground, None) == {}


async def test_a_reassignment_that_cannot_be_is_refused(ground: Ground) -> None:
    await led_by_1(ground, "words")
    assert await reassign(ground, [1, 77], 0) == {0: 39}
    assert await reassign(ground, [], 0) == {0: 39}
    assert await reassign(ground, None, 0) == {0: 85}
    assert await reassign(ground, [1]) == {}


# --- configurations ------------------------------------------------------------------------------


async def described(ground: Ground, kind: int, name: str, version: int = 4) -> Any:
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": None}
    response = await ground.ask(
        ApiKey.DESCRIBE_CONFIGS,
        version,
        resources=[resource],
        include_synonyms=True,
        include_documentation=True,
    )
    return response.results[0]


async def test_the_configuration_of_a_topic_is_described(ground: Ground) -> None:
    await ground.create("words", **{"retention.ms": "1000"})
    for version in versions(ApiKey.DESCRIBE_CONFIGS):
        result = await described(ground, 2, "words", version)
        assert int(result.error_code) == 0
        configs = {config.name: config for config in result.configs}
        assert (configs["retention.ms"].value, configs["retention.ms"].config_source) == ("1000", 1)
        assert configs["segment.bytes"].config_source == 5
        assert not configs["retention.ms"].read_only
        assert [(s.name, s.value, s.source) for s in configs["retention.ms"].synonyms] == [
            ("retention.ms", "1000", 1),
            ("log.retention.hours", "168", 5),
        ]
        if version >= 3:
            assert configs["min.insync.replicas"].config_type == 3
            assert "committed" in configs["min.insync.replicas"].documentation


async def test_the_configuration_of_a_broker_is_described_by_itself(ground: Ground) -> None:
    result = await described(ground, 4, "1")
    configs = {config.name: config.value for config in result.configs}
    assert (configs["broker.id"], configs["replica.lag.time.max.ms"]) == ("1", "400")
    assert int((await described(ground, 4, "2")).error_code) == 42
    assert int((await described(ground, 2, "nowhere")).error_code) == 3
    assert int((await described(ground, 8, "1")).error_code) == 42


async def altered(ground: Ground, operation: int, name: str, value: str | None) -> tuple[int, str]:
    config = {"name": name, "config_operation": operation, "value": value}
    resource = {"resource_type": 2, "resource_name": "words", "configs": [config]}
    response = await ground.ask(
        ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=[resource], validate_only=False
    )
    return int(response.responses[0].error_code), response.responses[0].error_message


async def value_of(ground: Ground, name: str) -> tuple[str, int]:
    result = await described(ground, 2, "words")
    return next((c.value, c.config_source) for c in result.configs if c.name == name)


async def until_value(ground: Ground, name: str, wanted: tuple[str, int]) -> None:
    async def is_so() -> bool:
        return await value_of(ground, name) == wanted

    await until(is_so)


async def test_a_topics_configuration_is_altered_bit_by_bit(ground: Ground) -> None:
    await ground.create("words")
    assert (await altered(ground, 0, "retention.ms", "5000"))[0] == 0
    await until_value(ground, "retention.ms", ("5000", 1))
    assert (await altered(ground, 1, "retention.ms", None))[0] == 0
    await until_value(ground, "retention.ms", ("604800000", 5))
    assert (await altered(ground, 0, "retention.ms", "soon"))[0] == 40
    assert (await altered(ground, 2, "retention.ms", "5"))[0] == 40


async def test_a_topics_configuration_is_replaced_as_a_whole(ground: Ground) -> None:
    await ground.create("words", **{"retention.ms": "1000"})
    for version in versions(ApiKey.ALTER_CONFIGS):
        config = {"name": "segment.bytes", "value": f"{5000 + version}"}
        resource = {"resource_type": 2, "resource_name": "words", "configs": [config]}
        response = await ground.ask(
            ApiKey.ALTER_CONFIGS, version, resources=[resource], validate_only=False
        )
        assert int(response.responses[0].error_code) == 0
        await until_value(ground, "segment.bytes", (f"{5000 + version}", 1))
        assert await value_of(ground, "retention.ms") == ("604800000", 5)


async def test_alterations_are_checked_without_being_made(ground: Ground) -> None:
    await ground.create("words")
    for value, code in (("5000", 0), ("soon", 40)):
        config = {"name": "retention.ms", "config_operation": 0, "value": value}
        resources = [
            {"resource_type": 2, "resource_name": "words", "configs": [config]},
            {"resource_type": 2, "resource_name": "nowhere", "configs": [config]},
            {"resource_type": 4, "resource_name": "1", "configs": [config]},
        ]
        response = await ground.ask(
            ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=resources, validate_only=True
        )
        assert [int(r.error_code) for r in response.responses] == [code, 3, 40]
    assert await value_of(ground, "retention.ms") == ("604800000", 5)


async def alter_broker(
    ground: Ground, broker: str, *changes: tuple[str, int, str | None], validate_only: bool = False
) -> tuple[int, str]:
    """Each change is a name, an operation (0 set, 1 delete, 2 append, 3 subtract) and a value."""
    configs = [{"name": n, "config_operation": op, "value": value} for n, op, value in changes]
    resource = {"resource_type": 4, "resource_name": broker, "configs": configs}
    response = await ground.ask(
        ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=[resource], validate_only=validate_only
    )
    return int(response.responses[0].error_code), response.responses[0].error_message


async def of_broker(ground: Ground, broker: str, source: int) -> dict[str, str]:
    result = await described(ground, 4, broker)
    assert int(result.error_code) == 0, result.error_message
    return {c.name: c.value for c in result.configs if c.config_source == source}


async def test_a_brokers_configuration_is_altered_bit_by_bit(ground: Ground) -> None:
    retention = ("log.retention.ms", 0, "5000")
    assert await alter_broker(ground, "", retention, ("min.insync.replicas", 0, "2")) == (0, None)
    assert await of_broker(ground, "", 3) == {
        "log.retention.ms": "5000",
        "min.insync.replicas": "2",
    }
    assert await alter_broker(ground, "1", ("log.retention.ms", 0, "6000")) == (0, None)
    assert await of_broker(ground, "1", 2) == {"log.retention.ms": "6000"}
    assert await of_broker(ground, "1", 3) == {"min.insync.replicas": "2"}
    assert await alter_broker(ground, "1", ("log.retention.ms", 1, None)) == (0, None)
    assert await of_broker(ground, "1", 2) == {}
    assert await alter_broker(ground, "1", ("log.cleanup.policy", 2, "compact")) == (0, None)
    assert await of_broker(ground, "1", 2) == {"log.cleanup.policy": "delete,compact"}
    assert await alter_broker(ground, "1", ("log.cleanup.policy", 3, "delete")) == (0, None)
    assert await of_broker(ground, "1", 2) == {"log.cleanup.policy": "compact"}
    assert await alter_broker(ground, "1", ("log.cleanup.policy", 3, "compact")) == (0, None)
    assert await of_broker(ground, "1", 2) == {"log.cleanup.policy": ""}
    assert await alter_broker(ground, "2", ("log.cleanup.policy", 2, "compact")) == (0, None)
    assert ground.cluster.zookeeper.broker_configs["2"] == {"log.cleanup.policy": "compact"}


async def test_a_setting_without_effect_is_taken_described_and_told_in_the_log(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    assert await alter_broker(ground, "", ("log.preallocate", 0, "true")) == (0, None)
    assert await of_broker(ground, "", 3) == {"log.preallocate": "true"}
    assert "broker <default>: log.preallocate=true has no effect: the files" in caplog.text


async def test_a_brokers_configuration_is_replaced_as_a_whole(ground: Ground) -> None:
    for broker, source in (("", 3), ("1", 2)):
        await alter_broker(ground, broker, ("log.retention.ms", 0, "1"))
        for version in versions(ApiKey.ALTER_CONFIGS):
            config = {"name": "log.segment.bytes", "value": f"{5000 + version}"}
            resource = {"resource_type": 4, "resource_name": broker, "configs": [config]}
            response = await ground.ask(
                ApiKey.ALTER_CONFIGS, version, resources=[resource], validate_only=False
            )
            assert int(response.responses[0].error_code) == 0
            found = await of_broker(ground, broker, source)
            assert found == {"log.segment.bytes": f"{5000 + version}"}


async def test_a_brokers_configuration_is_refused_with_what_would_be_right(
    ground: Ground,
) -> None:
    for validate_only in (True, False):
        for broker, name, operation, value, code, said in (
            ("1", "log.retention.mss", 0, "1", 40, "did you mean log.retention.ms?"),
            ("", "log.retention.ms", 0, "soon", 40, "expected a whole number"),
            ("2", "zookeeper.connect", 0, "x:1", 40, "cannot be altered"),
            ("1", "log.retention.ms", 2, "1", 40, "is not a list"),
            ("A", "log.retention.ms", 0, "1", 42, "'A' is no broker"),
        ):
            change = (name, operation, value)
            found = await alter_broker(ground, broker, change, validate_only=validate_only)
            assert found[0] == code, found
            assert said in found[1]
    retention = ("log.retention.ms", 0, "1")
    code, said = await alter_broker(ground, "1", retention, retention)
    assert (code, "twice" in said) == (42, True)
    code, said = await alter_broker(ground, "9", retention)
    assert (code, "no live broker 9" in said) == (42, True)
    assert await alter_broker(ground, "1", retention, validate_only=True) == (0, None)
    assert ground.cluster.zookeeper.broker_configs == {}


async def test_only_topics_and_brokers_have_a_configuration(ground: Ground) -> None:
    resource = {"resource_type": 8, "resource_name": "1", "configs": []}
    response = await ground.ask(
        ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=[resource], validate_only=False
    )
    assert int(response.responses[0].error_code) == 42
    assert "resource type 8" in response.responses[0].error_message


# --- log directories -----------------------------------------------------------------------------


async def test_the_sizes_of_logs_are_told(ground: Ground) -> None:
    await led_by_1(ground, "words")
    await produced(ground, "words", b"one")
    for version in versions(ApiKey.DESCRIBE_LOG_DIRS):
        for topics, names in ((None, ["words"]), ([], [])):
            response = await ground.ask(ApiKey.DESCRIBE_LOG_DIRS, version, topics=topics)
            (directory,) = response.results
            assert directory.log_dir.endswith("broker-1")
            assert [topic.name for topic in directory.topics] == names
            for topic in directory.topics:
                assert topic.partitions[0].partition_size == len(batch_of(b"one"))
                assert topic.partitions[0].offset_lag == 0
