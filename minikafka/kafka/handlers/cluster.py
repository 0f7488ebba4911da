"""What each API does, by the typed requests of the broker; the table of all of them.

A handler gets the request as kio read it and answers with plain values under kio's field names, of
which `messages.write` takes those that the version has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from minikafka.api.requests import (
    EARLIEST_TIMESTAMP,
    MAX_TIMESTAMP,
    ClusterMetadata,
    EpochEndQuery,
    ListOffsetsPartition,
    ListOffsetsResult,
    TopicMetadata,
)
from minikafka.api.service import BrokerService
from minikafka.errors import (
    InvalidRequestError,
    LeaderNotAvailableError,
    ListenerNotFoundError,
    MinikafkaError,
    MismatchedEndpointTypeError,
    TopicAuthorizationFailedError,
    UnsupportedEndpointTypeError,
    UnsupportedVersionError,
)
from minikafka.kafka import requests
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.connection import Call
from minikafka.kafka.encoding import Values
from minikafka.kafka.fetch import ISOLATION_LEVELS, READ_COMMITTED
from minikafka.kafka.handlers import admin, configs, groups, reassignments, security, transactions
from minikafka.kafka.handlers.admin import error_fields
from minikafka.kafka.handlers.handler import Handler, Handlers
from minikafka.kafka.ids import uuid_of
from minikafka.kafka.operations import NOT_ASKED_FOR, on_cluster, on_topic
from minikafka.kafka.partitions import ask_each
from minikafka.kafka.reach import Reachable, reachable
from minikafka.model import (
    INTERNAL_TOPICS,
    NO_LEADER,
    PartitionMetadata,
    TopicPartition,
)
from minikafka.turns import in_slices

# The types of endpoint: with ZooKeeper there are only brokers.
BROKERS, CONTROLLERS = 1, 2
_LISTENER_NOT_FOUND_KNOWN = 6  # the version of Metadata from which on it is (KIP-302)
_MAX_TIMESTAMP_KNOWN = 7  # the version of ListOffsets from which on it is (KIP-734)


# --- the cluster ---------------------------------------------------------------------------------


async def metadata(service: BrokerService, call: Call, request: requests.Metadata) -> Values:
    topics = request.topics or ()
    if any(topic.topic_id is not None or topic.name is None for topic in topics):
        return _refused_ids(topics)
    everything = request.topics is None or (call.version == 0 and not topics)
    named = dict.fromkeys(topic.name for topic in topics if topic.name is not None)
    names = None if everything else list(named)
    found = await service.metadata(names, request.allow_auto_topic_creation)
    seen = _Seen.by(call, found)
    asked_for = request.include_topic_authorized_operations

    def answer(topic: TopicMetadata) -> Values:
        refused = isinstance(topic.error, TopicAuthorizationFailedError)
        operations = on_topic(service, topic.name, asked_for=asked_for and not refused)
        return _topic(seen, topic, operations)

    return {
        "throttle_time": 0,
        "brokers": seen.brokers(),
        "cluster_id": found.cluster_id,
        "controller_id": seen.visible(found.controller_id),
        "topics": [answer(topic) async for topic in in_slices(found.topics)],
        "cluster_authorized_operations": on_cluster(
            service, asked_for=request.include_cluster_authorized_operations
        ),
    }


def _refused_ids(topics: Iterable[requests.MetadataTopic]) -> Values:
    """The versions that have room for ids do not take them yet, and Kafka then tells nothing."""
    refused = {
        "error_code": InvalidRequestError.code,
        "is_internal": False,
        "partitions": [],
        "topic_authorized_operations": NOT_ASKED_FOR,
    }
    return {
        "throttle_time": 0,
        "brokers": [],
        "cluster_id": None,
        "controller_id": NO_LEADER,
        "topics": [{**refused, "name": t.name or "", "topic_id": t.topic_id} for t in topics],
    }


class _Seen(NamedTuple):
    """The cluster as one client sees it. `unreachable` is the error of a partition whose leader
    lives, and has no listener of the name that the client came through."""

    live: frozenset[int]
    reachable: dict[int, Reachable]
    unreachable: type[MinikafkaError]

    @classmethod
    def by(cls, call: Call, found: ClusterMetadata) -> _Seen:
        known = call.version >= _LISTENER_NOT_FOUND_KNOWN
        return cls(
            frozenset(broker.broker_id for broker in found.brokers),
            reachable(found.brokers, call.listener),
            ListenerNotFoundError if known else LeaderNotAvailableError,
        )

    def brokers(self) -> list[Values]:
        """Those that it can reach."""
        return [{"node_id": each.broker_id, **each._asdict()} for each in self.reachable.values()]

    def visible(self, broker_id: int) -> int:
        return broker_id if broker_id in self.reachable else NO_LEADER

    def error_of_leader(self, broker_id: int) -> int:
        if broker_id in self.reachable:
            return 0
        return (self.unreachable if broker_id in self.live else LeaderNotAvailableError).code


def _topic(seen: _Seen, topic: TopicMetadata, operations: int) -> Values:
    return {
        "error_code": _topic_code(topic.error),
        "name": topic.name,
        "topic_id": uuid_of(topic.topic_id),
        "is_internal": topic.name in INTERNAL_TOPICS,
        "partitions": [_partition(seen, partition) for partition in topic.partitions],
        "topic_authorized_operations": operations,
    }


def _topic_code(error: MinikafkaError | None) -> int:
    return 0 if error is None else error.code


def _partition(seen: _Seen, partition: PartitionMetadata) -> Values:
    state, replicas = partition.state, partition.assignment.replicas
    return {
        "error_code": seen.error_of_leader(state.leader),
        "partition_index": partition.topic_partition.partition,
        "leader_id": seen.visible(state.leader),
        "leader_epoch": state.leader_epoch,
        "replica_nodes": replicas,
        "isr_nodes": state.isr,
        "offline_replicas": [replica for replica in replicas if replica not in seen.live],
    }


async def describe_cluster(
    service: BrokerService, call: Call, request: requests.DescribeCluster
) -> Values:
    endpoint_type = request.endpoint_type
    if endpoint_type != BROKERS:
        return _no_endpoints(endpoint_type)
    found = await service.metadata([], False)
    seen = _Seen.by(call, found)
    return {
        "throttle_time": 0,
        **error_fields(None),
        "endpoint_type": BROKERS,
        "cluster_id": found.cluster_id,
        "controller_id": seen.visible(found.controller_id),
        "brokers": seen.brokers(),
        "cluster_authorized_operations": on_cluster(
            service, asked_for=request.include_cluster_authorized_operations
        ),
    }


def _no_endpoints(endpoint_type: int) -> Values:
    error: MinikafkaError
    if endpoint_type == CONTROLLERS:
        error = MismatchedEndpointTypeError("this is a broker: ask for brokers")
    else:
        error = UnsupportedEndpointTypeError(f"there are no endpoints of type {endpoint_type}")
    return {
        "throttle_time": 0,
        **error_fields(error),
        "endpoint_type": BROKERS,
        "cluster_id": "",
        "controller_id": NO_LEADER,
        "brokers": [],
        "cluster_authorized_operations": NOT_ASKED_FOR,
    }


# --- offsets -------------------------------------------------------------------------------------


async def list_offsets(service: BrokerService, call: Call, request: requests.ListOffsets) -> Values:
    def refuse(
        partition: TopicPartition, item: requests.ListOffsetsPartition, again: bool
    ) -> MinikafkaError | None:
        if again:
            return InvalidRequestError(f"{partition} is in the request more than once")
        if request.isolation_level not in ISOLATION_LEVELS:
            return InvalidRequestError(f"there is no isolation level {request.isolation_level}")
        lowest = MAX_TIMESTAMP if call.version >= _MAX_TIMESTAMP_KNOWN else EARLIEST_TIMESTAMP
        if item.timestamp < lowest:
            return UnsupportedVersionError(
                f"timestamp {item.timestamp} has no meaning in version {call.version}"
            )
        return None

    topics = await ask_each(
        request.topics,
        lambda partition, item: ListOffsetsPartition(
            partition,
            item.timestamp,
            item.current_leader_epoch,
            request.isolation_level == READ_COMMITTED,
        ),
        service.list_offsets,
        lambda result: {
            "timestamp": result.timestamp_ms,
            "offset": result.offset,
            "leader_epoch": result.leader_epoch,
        },
        refuse=refuse,
        refused=ListOffsetsResult,
    )
    return {"throttle_time": 0, "topics": topics}


async def offset_for_leader_epoch(
    service: BrokerService, call: Call, request: requests.OffsetForLeaderEpoch
) -> Values:
    topics = await ask_each(
        request.topics,
        lambda partition, item: EpochEndQuery(
            partition, item.leader_epoch, item.current_leader_epoch
        ),
        service.epoch_ends,
        lambda result: {"leader_epoch": result.leader_epoch, "end_offset": result.end_offset},
        topic_field="topic",
        partition_field="partition",
    )
    return {"throttle_time": 0, "topics": topics}


HANDLERS: Handlers = {
    ApiKey.METADATA: Handler(requests.Metadata, metadata),
    ApiKey.LIST_OFFSETS: Handler(requests.ListOffsets, list_offsets),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: Handler(requests.OffsetForLeaderEpoch, offset_for_leader_epoch),
    ApiKey.DESCRIBE_CLUSTER: Handler(requests.DescribeCluster, describe_cluster),
    **security.HANDLERS,
    **admin.HANDLERS,
    **configs.HANDLERS,
    **groups.HANDLERS,
    **reassignments.HANDLERS,
    **transactions.HANDLERS,
}
