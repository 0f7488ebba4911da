"""Messages of client.proto that carry no records, to and from api/requests.py.

Those that do (produce, fetch) are in hot.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from minikafka.api.requests import (
    ClusterMetadata,
    ClusterUpdate,
    ListOffsetsPartition,
    ListOffsetsResult,
    PartitionStatus,
    ReplicaStatus,
    TopicConfigEntry,
    TopicMetadata,
)
from minikafka.rpc.convert import (
    broker_from_wire,
    broker_to_wire,
    error_of,
    optional_error_to_wire,
    partition_from_wire,
    partition_to_wire,
    tp_from_wire,
    tp_to_wire,
)
from minikafka.rpc.convert_control import topics_from_wire, topics_to_wire
from minikafka.rpc.generated import client_pb2

# --- ListOffsets ---------------------------------------------------------------------------------


def list_offsets_to_wire(values: Iterable[ListOffsetsPartition]) -> client_pb2.ListOffsetsRequest:
    return client_pb2.ListOffsetsRequest(
        partitions=[
            client_pb2.ListOffsetsPartition(
                topic_partition=tp_to_wire(value.topic_partition),
                timestamp_ms=value.timestamp_ms,
                current_leader_epoch=value.current_leader_epoch,
            )
            for value in values
        ]
    )


def list_offsets_from_wire(
    wire: client_pb2.ListOffsetsRequest,
) -> tuple[ListOffsetsPartition, ...]:
    return tuple(
        [
            ListOffsetsPartition(
                tp_from_wire(each.topic_partition), each.timestamp_ms, each.current_leader_epoch
            )
            for each in wire.partitions
        ]
    )


def offsets_to_wire(values: Iterable[ListOffsetsResult]) -> client_pb2.ListOffsetsResponse:
    return client_pb2.ListOffsetsResponse(
        offsets=[
            client_pb2.ListedOffset(
                topic_partition=tp_to_wire(value.topic_partition),
                error=optional_error_to_wire(value.error),
                offset=value.offset,
                timestamp_ms=value.timestamp_ms,
                leader_epoch=value.leader_epoch,
            )
            for value in values
        ]
    )


def offsets_from_wire(wire: client_pb2.ListOffsetsResponse) -> tuple[ListOffsetsResult, ...]:
    return tuple(
        [
            ListOffsetsResult(
                topic_partition=tp_from_wire(each.topic_partition),
                error=error_of(each),
                offset=each.offset,
                timestamp_ms=each.timestamp_ms,
                leader_epoch=each.leader_epoch,
            )
            for each in wire.offsets
        ]
    )


# --- metadata ------------------------------------------------------------------------------------


def get_metadata_to_wire(
    topics: Sequence[str] | None, allow_auto_create: bool
) -> client_pb2.GetMetadataRequest:
    return client_pb2.GetMetadataRequest(
        all_topics=topics is None, topics=topics, allow_auto_topic_creation=allow_auto_create
    )


def wanted_topics(wire: client_pb2.GetMetadataRequest) -> tuple[str, ...] | None:
    """None: all topics."""
    return None if wire.all_topics else tuple(wire.topics)


def metadata_to_wire(value: ClusterMetadata) -> client_pb2.GetMetadataResponse:
    return client_pb2.GetMetadataResponse(
        cluster_id=value.cluster_id,
        controller_id=value.controller_id,
        controller_epoch=value.controller_epoch,
        brokers=[broker_to_wire(broker) for broker in value.brokers],
        topics=[
            client_pb2.TopicMetadata(
                name=topic.name,
                topic_id=topic.topic_id,
                error=optional_error_to_wire(topic.error),
                partitions=[partition_to_wire(partition) for partition in topic.partitions],
            )
            for topic in value.topics
        ],
    )


def metadata_from_wire(wire: client_pb2.GetMetadataResponse) -> ClusterMetadata:
    return ClusterMetadata(
        cluster_id=wire.cluster_id,
        controller_id=wire.controller_id,
        controller_epoch=wire.controller_epoch,
        brokers=tuple([broker_from_wire(broker) for broker in wire.brokers]),
        topics=tuple(
            [
                TopicMetadata(
                    name=topic.name,
                    topic_id=topic.topic_id,
                    error=error_of(topic),
                    partitions=tuple([partition_from_wire(each) for each in topic.partitions]),
                )
                for topic in wire.topics
            ]
        ),
    )


def update_to_wire(value: ClusterUpdate) -> client_pb2.WatchPartitionsResponse:
    wire = client_pb2.WatchPartitionsResponse(
        partitions=[partition_to_wire(partition) for partition in value.partitions],
        deleted_topics=topics_to_wire(value.deleted_topics),
        controller_id=value.controller_id,
        controller_epoch=value.controller_epoch,
    )
    if value.brokers is not None:
        wire.live_brokers.SetInParent()
        wire.live_brokers.brokers.extend([broker_to_wire(broker) for broker in value.brokers])
    return wire


def update_from_wire(wire: client_pb2.WatchPartitionsResponse) -> ClusterUpdate:
    brokers = None
    if wire.HasField("live_brokers"):
        brokers = tuple([broker_from_wire(broker) for broker in wire.live_brokers.brokers])
    return ClusterUpdate(
        partitions=tuple([partition_from_wire(partition) for partition in wire.partitions]),
        deleted_topics=topics_from_wire(wire.deleted_topics),
        brokers=brokers,
        controller_id=wire.controller_id,
        controller_epoch=wire.controller_epoch,
    )


# --- descriptions --------------------------------------------------------------------------------


def statuses_to_wire(values: Iterable[PartitionStatus]) -> client_pb2.DescribePartitionsResponse:
    return client_pb2.DescribePartitionsResponse(
        partitions=[
            client_pb2.PartitionStatus(
                topic_partition=tp_to_wire(value.topic_partition),
                error=optional_error_to_wire(value.error),
                log_start_offset=value.log_start_offset,
                log_end_offset=value.log_end_offset,
                high_watermark=value.high_watermark,
                size_bytes=value.size_bytes,
                replicas=[
                    client_pb2.ReplicaStatus(
                        broker_id=replica.broker_id,
                        log_end_offset=replica.log_end_offset,
                        lag_ms=replica.lag_ms,
                    )
                    for replica in value.replicas
                ],
            )
            for value in values
        ]
    )


def statuses_from_wire(wire: client_pb2.DescribePartitionsResponse) -> tuple[PartitionStatus, ...]:
    return tuple(
        [
            PartitionStatus(
                topic_partition=tp_from_wire(each.topic_partition),
                error=error_of(each),
                log_start_offset=each.log_start_offset,
                log_end_offset=each.log_end_offset,
                high_watermark=each.high_watermark,
                size_bytes=each.size_bytes,
                replicas=tuple(
                    [
                        ReplicaStatus(replica.broker_id, replica.log_end_offset, replica.lag_ms)
                        for replica in each.replicas
                    ]
                ),
            )
            for each in wire.partitions
        ]
    )


def entries_to_wire(values: Iterable[TopicConfigEntry]) -> client_pb2.DescribeTopicConfigsResponse:
    return client_pb2.DescribeTopicConfigsResponse(
        entries=[
            client_pb2.TopicConfigEntry(
                name=value.name, value=value.value, is_default=value.is_default
            )
            for value in values
        ]
    )


def entries_from_wire(
    wire: client_pb2.DescribeTopicConfigsResponse,
) -> tuple[TopicConfigEntry, ...]:
    return tuple(
        [TopicConfigEntry(entry.name, entry.value, entry.is_default) for entry in wire.entries]
    )
