"""What each API does, by the typed requests of the broker; the table of all of them.

A handler gets the request as kio read it and answers with plain values under kio's field names, of
which `messages.write` takes those that the version has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from minikafka.broker.ports import BrokerService
from minikafka.broker.requests import (
    ClusterMetadata,
    EpochEndQuery,
    ListOffsetsPartition,
    TopicMetadata,
)
from minikafka.errors import InvalidRequestError, LeaderNotAvailableError, MinikafkaError
from minikafka.kafka import handlers_admin, handlers_groups, handlers_reassignments
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.connection import Call
from minikafka.kafka.encoding import Values
from minikafka.kafka.errors import partition_code
from minikafka.kafka.ids import uuid_of
from minikafka.kafka.messages import get
from minikafka.kafka.partitions import ask_each
from minikafka.model import (
    INTERNAL_TOPICS,
    NO_LEADER,
    BrokerInfo,
    PartitionMetadata,
)
from minikafka.turns import in_slices

Handler = Callable[[BrokerService, Call, Any], Awaitable[Values]]

BROKERS = 1  # the only type of endpoint that there is with ZooKeeper
NO_OPERATIONS = -(2**31)  # authorized operations were not asked for, or are not known


# --- the cluster ---------------------------------------------------------------------------------


async def metadata(service: BrokerService, call: Call, request: Any) -> Values:
    topics = request.topics
    everything = topics is None or (call.version == 0 and not topics)
    names = (
        None if everything else list(dict.fromkeys(t.name for t in topics if t.name is not None))
    )
    found = await service.metadata(names, get(request, "allow_auto_topic_creation", True))
    return {
        "throttle_time": 0,
        "brokers": brokers(found),
        "cluster_id": found.cluster_id,
        "controller_id": _visible(found, found.controller_id),
        "topics": [_topic(found, topic) async for topic in in_slices(found.topics)],
        "cluster_authorized_operations": NO_OPERATIONS,
    }


def brokers(found: ClusterMetadata) -> list[Values]:
    """Those that Kafka's clients can reach."""
    return [
        {
            "node_id": broker.broker_id,
            "broker_id": broker.broker_id,
            "host": broker.kafka_host,
            "port": broker.kafka_port,
            "rack": broker.rack,
        }
        for broker in found.brokers
        if broker.kafka_host is not None
    ]


def _visible(found: ClusterMetadata, broker_id: int) -> int:
    return broker_id if broker_id in _reachable(found.brokers) else NO_LEADER


def _reachable(infos: Iterable[BrokerInfo]) -> set[int]:
    return {broker.broker_id for broker in infos if broker.kafka_host is not None}


def _topic(found: ClusterMetadata, topic: TopicMetadata) -> Values:
    return {
        "error_code": _topic_code(topic.error),
        "name": topic.name,
        "topic_id": uuid_of(topic.topic_id),
        "is_internal": topic.name in INTERNAL_TOPICS,
        "partitions": [_partition(found, partition) for partition in topic.partitions],
        "topic_authorized_operations": NO_OPERATIONS,
    }


def _topic_code(error: MinikafkaError | None) -> int:
    return 0 if error is None else error.code


def _partition(found: ClusterMetadata, partition: PartitionMetadata) -> Values:
    state, replicas = partition.state, partition.assignment.replicas
    live = {broker.broker_id for broker in found.brokers}
    leader = _visible(found, state.leader)
    return {
        "error_code": LeaderNotAvailableError.code if leader == NO_LEADER else 0,
        "partition_index": partition.topic_partition.partition,
        "leader_id": leader,
        "leader_epoch": state.leader_epoch,
        "replica_nodes": replicas,
        "isr_nodes": state.isr,
        "offline_replicas": [replica for replica in replicas if replica not in live],
    }


async def describe_cluster(service: BrokerService, call: Call, request: Any) -> Values:
    found = await service.metadata([], False)
    return {
        "throttle_time": 0,
        "error_code": 0,
        "error_message": None,
        "endpoint_type": get(request, "endpoint_type", BROKERS),
        "cluster_id": found.cluster_id,
        "controller_id": _visible(found, found.controller_id),
        "brokers": brokers(found),
        "cluster_authorized_operations": NO_OPERATIONS,
    }


# --- offsets -------------------------------------------------------------------------------------


async def list_offsets(service: BrokerService, call: Call, request: Any) -> Values:
    topics = await ask_each(
        request.topics,
        lambda partition, item: ListOffsetsPartition(
            partition, item.timestamp, get(item, "current_leader_epoch", -1)
        ),
        service.list_offsets,
        lambda result: {
            "timestamp": result.timestamp_ms,
            "offset": result.offset,
            "leader_epoch": result.leader_epoch,
        },
    )
    return {"throttle_time": 0, "topics": topics}


async def offset_for_leader_epoch(service: BrokerService, call: Call, request: Any) -> Values:
    topics = await ask_each(
        request.topics,
        lambda partition, item: EpochEndQuery(
            partition, item.leader_epoch, get(item, "current_leader_epoch", -1)
        ),
        service.epoch_ends,
        lambda result: {"leader_epoch": result.leader_epoch, "end_offset": result.end_offset},
        topic_field="topic",
        partition_field="partition",
    )
    return {"throttle_time": 0, "topics": topics}


# --- producers -----------------------------------------------------------------------------------


async def init_producer_id(service: BrokerService, call: Call, request: Any) -> Values:
    """An idempotent producer that knows an id already asks for a new one when its epochs run out:
    it gets a new id either way."""
    producer_id, producer_epoch, code = -1, -1, 0
    if request.transactional_id is not None:
        code = InvalidRequestError.code  # transactions are not served, nor advertised
    else:
        try:
            producer_id, producer_epoch = await service.init_producer_id()
        except MinikafkaError as error:
            code = partition_code(error)
    return {
        "throttle_time": 0,
        "error_code": code,
        "producer_id": producer_id,
        "producer_epoch": producer_epoch,
    }


HANDLERS: dict[ApiKey, Handler] = {
    ApiKey.METADATA: metadata,
    ApiKey.LIST_OFFSETS: list_offsets,
    ApiKey.INIT_PRODUCER_ID: init_producer_id,
    ApiKey.OFFSET_FOR_LEADER_EPOCH: offset_for_leader_epoch,
    ApiKey.DESCRIBE_CLUSTER: describe_cluster,
    **handlers_admin.HANDLERS,
    **handlers_groups.HANDLERS,
    **handlers_reassignments.HANDLERS,
}
