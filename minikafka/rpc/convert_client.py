"""Messages of client.proto that are not quite as the values of api/requests.py, to and from them.

The others are converted by mirror.py, those that carry records by hot.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from minikafka.api.requests import ClusterUpdate
from minikafka.model import BrokerInfo, PartitionMetadata
from minikafka.rpc.generated import client_pb2, common_pb2, control_pb2
from minikafka.rpc.mirror import all_from_wire, all_to_wire


def get_metadata_to_wire(
    topics: Sequence[str] | None, allow_auto_create: bool
) -> client_pb2.GetMetadataRequest:
    return client_pb2.GetMetadataRequest(
        all_topics=topics is None, topics=topics, allow_auto_topic_creation=allow_auto_create
    )


def wanted_topics(wire: client_pb2.GetMetadataRequest) -> tuple[str, ...] | None:
    """None: all topics."""
    return None if wire.all_topics else tuple(wire.topics)


def update_to_wire(value: ClusterUpdate) -> client_pb2.WatchPartitionsResponse:
    wire = client_pb2.WatchPartitionsResponse(
        partitions=all_to_wire(value.partitions, common_pb2.Partition),
        deleted_topics=[
            control_pb2.TopicIdentity(name=name, topic_id=topic_id)
            for name, topic_id in value.deleted_topics
        ],
        controller_id=value.controller_id,
        controller_epoch=value.controller_epoch,
    )
    if value.brokers is not None:
        wire.live_brokers.SetInParent()
        wire.live_brokers.brokers.extend(all_to_wire(value.brokers, common_pb2.Broker))
    return wire


def update_from_wire(wire: client_pb2.WatchPartitionsResponse) -> ClusterUpdate:
    brokers = None
    if wire.HasField("live_brokers"):
        brokers = all_from_wire(wire.live_brokers.brokers, BrokerInfo)
    return ClusterUpdate(
        partitions=all_from_wire(wire.partitions, PartitionMetadata),
        deleted_topics=tuple([(each.name, each.topic_id) for each in wire.deleted_topics]),
        brokers=brokers,
        controller_id=wire.controller_id,
        controller_epoch=wire.controller_epoch,
    )
