"""Messages of control.proto, to and from api/requests.py: controller to broker and back.

What a client may ask the controller for (topics, elections, configurations) is one message with a
oneof; what only brokers ask (failed replicas, producer ids) has methods of its own, so that no
client can ask for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from minikafka.api.requests import (
    AllocateProducerIdsRequest,
    AlterBrokerConfigRequest,
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterPartitionResult,
    AlterReassignmentsRequest,
    AlterTopicConfigRequest,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    ControllerRequest,
    ControllerResponse,
    CreatePartitionsRequest,
    CreateTopic,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    IsrProposal,
    ListReassignmentsRequest,
    NamedResult,
    PartitionResult,
    ReportFailedReplicas,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.errors import InvalidRequestError
from minikafka.model import Assignment, TopicPartition
from minikafka.rpc.convert import (
    broker_from_wire,
    broker_to_wire,
    error_from_wire,
    error_of,
    error_to_wire,
    optional_error_to_wire,
    optional_state_to_wire,
    partition_from_wire,
    partition_to_wire,
    state_from_wire,
    tp_from_wire,
    tp_to_wire,
    tps_from_wire,
    tps_to_wire,
)
from minikafka.rpc.generated import control_pb2

ReplicaKey: TypeAlias = tuple[TopicPartition, str]  # a partition and its topic id


def replicas_to_wire(values: Iterable[ReplicaKey]) -> list[control_pb2.TopicReplica]:
    return [
        control_pb2.TopicReplica(topic_partition=tp_to_wire(partition), topic_id=topic_id)
        for partition, topic_id in values
    ]


def replicas_from_wire(wires: Iterable[control_pb2.TopicReplica]) -> tuple[ReplicaKey, ...]:
    return tuple([(tp_from_wire(wire.topic_partition), wire.topic_id) for wire in wires])


def topics_to_wire(values: Iterable[tuple[str, str]]) -> list[control_pb2.TopicIdentity]:
    return [control_pb2.TopicIdentity(name=name, topic_id=topic_id) for name, topic_id in values]


def topics_from_wire(wires: Iterable[control_pb2.TopicIdentity]) -> tuple[tuple[str, str], ...]:
    return tuple([(wire.name, wire.topic_id) for wire in wires])


# --- UpdateState ---------------------------------------------------------------------------------


def update_state_to_wire(value: UpdateStateRequest) -> control_pb2.UpdateStateRequest:
    return control_pb2.UpdateStateRequest(
        controller_id=value.controller_id,
        controller_epoch=value.controller_epoch,
        target_broker_epoch=value.target_broker_epoch,
        brokers=[broker_to_wire(broker) for broker in value.brokers],
        shutting_down=value.shutting_down,
        partitions=[partition_to_wire(partition) for partition in value.partitions],
        deletions=replicas_to_wire(value.deletions),
        deleted_topics=topics_to_wire(value.deleted_topics),
        full=value.full,
        number=value.number,
        drops=[
            control_pb2.DroppedReplica(
                topic_partition=tp_to_wire(tp), topic_id=topic_id, partition_version=version
            )
            for tp, topic_id, version in value.drops
        ],
    )


def update_state_from_wire(wire: control_pb2.UpdateStateRequest) -> UpdateStateRequest:
    return UpdateStateRequest(
        controller_id=wire.controller_id,
        controller_epoch=wire.controller_epoch,
        target_broker_epoch=wire.target_broker_epoch,
        brokers=tuple([broker_from_wire(broker) for broker in wire.brokers]),
        shutting_down=tuple(wire.shutting_down),
        partitions=tuple([partition_from_wire(partition) for partition in wire.partitions]),
        deletions=replicas_from_wire(wire.deletions),
        deleted_topics=topics_from_wire(wire.deleted_topics),
        full=wire.full,
        number=wire.number,
        drops=tuple(
            [
                (tp_from_wire(drop.topic_partition), drop.topic_id, drop.partition_version)
                for drop in wire.drops
            ]
        ),
    )


def state_updated_to_wire(value: UpdateStateResponse) -> control_pb2.UpdateStateResponse:
    return control_pb2.UpdateStateResponse(
        deleted=replicas_to_wire(value.deleted),
        failed=[
            control_pb2.FailedPartition(
                topic_partition=tp_to_wire(partition), error=error_to_wire(error)
            )
            for partition, error in value.errors
        ],
        wakeups=value.wakeups,
    )


def state_updated_from_wire(wire: control_pb2.UpdateStateResponse) -> UpdateStateResponse:
    return UpdateStateResponse(
        deleted=replicas_from_wire(wire.deleted),
        errors=tuple(
            [(tp_from_wire(f.topic_partition), error_from_wire(f.error)) for f in wire.failed]
        ),
        wakeups=wire.wakeups,
    )


# --- AlterPartition ------------------------------------------------------------------------------


def alter_partition_to_wire(value: AlterPartitionRequest) -> control_pb2.AlterPartitionRequest:
    return control_pb2.AlterPartitionRequest(
        broker_id=value.broker_id,
        broker_epoch=value.broker_epoch,
        proposals=[
            control_pb2.IsrProposal(
                topic_partition=tp_to_wire(proposal.topic_partition),
                topic_id=proposal.topic_id,
                leader_epoch=proposal.leader_epoch,
                partition_version=proposal.partition_version,
                isr=[
                    control_pb2.IsrMember(broker_id=broker_id, broker_epoch=broker_epoch)
                    for broker_id, broker_epoch in proposal.isr
                ],
                reason=proposal.reason,
            )
            for proposal in value.proposals
        ],
    )


def alter_partition_from_wire(wire: control_pb2.AlterPartitionRequest) -> AlterPartitionRequest:
    return AlterPartitionRequest(
        broker_id=wire.broker_id,
        broker_epoch=wire.broker_epoch,
        proposals=tuple(
            [
                IsrProposal(
                    topic_partition=tp_from_wire(proposal.topic_partition),
                    topic_id=proposal.topic_id,
                    leader_epoch=proposal.leader_epoch,
                    partition_version=proposal.partition_version,
                    isr=tuple([(member.broker_id, member.broker_epoch) for member in proposal.isr]),
                    reason=proposal.reason,
                )
                for proposal in wire.proposals
            ]
        ),
    )


def partitions_altered_to_wire(value: AlterPartitionResponse) -> control_pb2.AlterPartitionResponse:
    return control_pb2.AlterPartitionResponse(
        controller_epoch=value.controller_epoch,
        results=[
            control_pb2.AlterPartitionResult(
                topic_partition=tp_to_wire(result.topic_partition),
                error=optional_error_to_wire(result.error),
                state=optional_state_to_wire(result.state),
            )
            for result in value.results
        ],
    )


def partitions_altered_from_wire(
    wire: control_pb2.AlterPartitionResponse,
) -> AlterPartitionResponse:
    return AlterPartitionResponse(
        controller_epoch=wire.controller_epoch,
        results=tuple(
            [
                AlterPartitionResult(
                    topic_partition=tp_from_wire(result.topic_partition),
                    error=error_of(result),
                    state=state_from_wire(result.state) if result.HasField("state") else None,
                )
                for result in wire.results
            ]
        ),
    )


# --- ControlledShutdown, failed replicas, producer ids -------------------------------------------


def controlled_shutdown_to_wire(
    value: ControlledShutdownRequest,
) -> control_pb2.ControlledShutdownRequest:
    return control_pb2.ControlledShutdownRequest(
        broker_id=value.broker_id, broker_epoch=value.broker_epoch
    )


def controlled_shutdown_from_wire(
    wire: control_pb2.ControlledShutdownRequest,
) -> ControlledShutdownRequest:
    return ControlledShutdownRequest(wire.broker_id, wire.broker_epoch)


def shut_down_to_wire(value: ControlledShutdownResponse) -> control_pb2.ControlledShutdownResponse:
    return control_pb2.ControlledShutdownResponse(remaining=tps_to_wire(value.remaining))


def shut_down_from_wire(wire: control_pb2.ControlledShutdownResponse) -> ControlledShutdownResponse:
    return ControlledShutdownResponse(tps_from_wire(wire.remaining))


def failed_replicas_to_wire(value: ReportFailedReplicas) -> control_pb2.ReportFailedReplicasRequest:
    return control_pb2.ReportFailedReplicasRequest(
        broker_id=value.broker_id,
        broker_epoch=value.broker_epoch,
        replicas=replicas_to_wire(value.partitions),
    )


def failed_replicas_from_wire(
    wire: control_pb2.ReportFailedReplicasRequest,
) -> ReportFailedReplicas:
    return ReportFailedReplicas(
        wire.broker_id, wire.broker_epoch, replicas_from_wire(wire.replicas)
    )


def producer_ids_to_wire(
    value: AllocateProducerIdsRequest,
) -> control_pb2.AllocateProducerIdsRequest:
    return control_pb2.AllocateProducerIdsRequest(
        broker_id=value.broker_id, broker_epoch=value.broker_epoch
    )


def producer_ids_from_wire(
    wire: control_pb2.AllocateProducerIdsRequest,
) -> AllocateProducerIdsRequest:
    return AllocateProducerIdsRequest(wire.broker_id, wire.broker_epoch)


# --- Administer ----------------------------------------------------------------------------------


def _replica_lists(lists: Iterable[Sequence[int]]) -> list[control_pb2.ReplicaList]:
    return [control_pb2.ReplicaList(broker_ids=ids) for ids in lists]


def _new_topic_to_wire(topic: CreateTopic) -> control_pb2.NewTopic:
    return control_pb2.NewTopic(
        name=topic.name,
        num_partitions=topic.num_partitions,
        replication_factor=topic.replication_factor,
        configs=topic.configs,
        assignments={
            partition: control_pb2.ReplicaList(broker_ids=ids)
            for partition, ids in topic.assignments.items()
        },
    )


def _new_topic_from_wire(wire: control_pb2.NewTopic) -> CreateTopic:
    return CreateTopic(
        name=wire.name,
        num_partitions=wire.num_partitions,
        replication_factor=wire.replication_factor,
        configs=dict(wire.configs),
        assignments={
            partition: tuple(each.broker_ids) for partition, each in wire.assignments.items()
        },
    )


AlterConfig: TypeAlias = control_pb2.AlterTopicConfig | control_pb2.AlterBrokerConfig


def _changes_to_wire(changes: Mapping[str, str | None], wire: AlterConfig) -> None:
    for name, text in changes.items():
        if text is None:
            wire.unset.append(name)
        else:
            wire.set[name] = text


def _changes_from_wire(wire: AlterConfig) -> dict[str, str | None]:
    changes: dict[str, str | None] = dict(wire.set)
    return changes | dict.fromkeys(wire.unset)


def administer_to_wire(value: ControllerRequest, timeout_ms: int) -> control_pb2.AdministerRequest:
    """Raises InvalidRequestError for what is not a client's to ask."""
    wire = control_pb2.AdministerRequest(timeout_ms=timeout_ms)
    match value:
        case CreateTopicsRequest():
            wire.create_topics.SetInParent()
            wire.create_topics.validate_only = value.validate_only
            wire.create_topics.topics.extend([_new_topic_to_wire(topic) for topic in value.topics])
        case DeleteTopicsRequest():
            wire.delete_topics.SetInParent()
            wire.delete_topics.names.extend(value.names)
        case CreatePartitionsRequest():
            wire.create_partitions.topic = value.topic
            wire.create_partitions.total_count = value.total_count
            wire.create_partitions.validate_only = value.validate_only
            wire.create_partitions.assignments.extend(_replica_lists(value.assignments))
        case ElectLeadersRequest():
            wire.elect_leaders.SetInParent()
            wire.elect_leaders.unclean = value.unclean
            wire.elect_leaders.partitions.extend(tps_to_wire(value.partitions))
        case AlterTopicConfigRequest():
            wire.alter_topic_config.topic = value.topic
            _changes_to_wire(value.changes, wire.alter_topic_config)
        case AlterBrokerConfigRequest():
            wire.alter_broker_config.broker = value.broker
            _changes_to_wire(value.changes, wire.alter_broker_config)
        case AlterReassignmentsRequest():
            wire.alter_reassignments.SetInParent()
            for tp, replicas in value.targets.items():
                wire.alter_reassignments.reassignments.add(
                    topic_partition=tp_to_wire(tp), replicas=replicas or (), cancel=replicas is None
                )
        case ListReassignmentsRequest():
            wire.list_reassignments.SetInParent()
            wire.list_reassignments.partitions.extend(tps_to_wire(value.partitions))
        case ReportFailedReplicas() | AllocateProducerIdsRequest():
            raise InvalidRequestError(
                f"{type(value).__name__} is a request of brokers, not of clients"
            )
    return wire


def administer_from_wire(wire: control_pb2.AdministerRequest) -> ControllerRequest:
    """Raises InvalidRequestError if no operation is set, or one that this version does not know."""
    match wire.WhichOneof("operation"):
        case "create_topics":
            topics = tuple([_new_topic_from_wire(topic) for topic in wire.create_topics.topics])
            return CreateTopicsRequest(topics, wire.create_topics.validate_only)
        case "delete_topics":
            return DeleteTopicsRequest(tuple(wire.delete_topics.names))
        case "create_partitions":
            created = wire.create_partitions
            return CreatePartitionsRequest(
                created.topic,
                created.total_count,
                tuple([tuple(each.broker_ids) for each in created.assignments]),
                created.validate_only,
            )
        case "elect_leaders":
            return ElectLeadersRequest(
                wire.elect_leaders.unclean, tps_from_wire(wire.elect_leaders.partitions)
            )
        case "alter_topic_config":
            topic = wire.alter_topic_config
            return AlterTopicConfigRequest(topic.topic, _changes_from_wire(topic))
        case "alter_broker_config":
            broker = wire.alter_broker_config
            return AlterBrokerConfigRequest(broker.broker, _changes_from_wire(broker))
        case "alter_reassignments":
            return AlterReassignmentsRequest(
                {
                    tp_from_wire(each.topic_partition): None
                    if each.cancel
                    else tuple(each.replicas)
                    for each in wire.alter_reassignments.reassignments
                }
            )
        case "list_reassignments":
            return ListReassignmentsRequest(tps_from_wire(wire.list_reassignments.partitions))
    raise InvalidRequestError("the request names no operation that this broker knows")


def administered_to_wire(value: ControllerResponse) -> control_pb2.AdministerResponse:
    return control_pb2.AdministerResponse(
        results=[
            *(
                control_pb2.NamedResult(name=each.name, error=optional_error_to_wire(each.error))
                for each in value.results
            ),
            *(
                control_pb2.NamedResult(
                    name=each.name,
                    error=optional_error_to_wire(each.error),
                    topic_partition=tp_to_wire(each.topic_partition),
                )
                for each in value.partitions
            ),
        ],
        reassignments=[
            control_pb2.OngoingReassignment(
                topic_partition=tp_to_wire(tp),
                replicas=each.replicas,
                adding=each.adding,
                removing=each.removing,
            )
            for tp, each in value.reassignments.items()
        ],
    )


def administered_from_wire(
    wire: control_pb2.AdministerResponse, request: ControllerRequest
) -> ControllerResponse:
    """The answer to `request`. A broker of an older version says partitions by name only: those
    that were asked for are known by it."""
    asked = {str(each): each for each in _partitions_of(request)}
    results: list[NamedResult] = []
    partitions: list[PartitionResult] = []
    for each in wire.results:
        if each.HasField("topic_partition"):
            partitions.append(PartitionResult(tp_from_wire(each.topic_partition), error_of(each)))
        elif each.name in asked:
            partitions.append(PartitionResult(asked[each.name], error_of(each)))
        else:
            results.append(NamedResult(each.name, error_of(each)))
    return ControllerResponse(
        tuple(results),
        tuple(partitions),
        reassignments={
            tp_from_wire(each.topic_partition): Assignment(
                tuple(each.replicas), tuple(each.adding), tuple(each.removing)
            )
            for each in wire.reassignments
        },
    )


def _partitions_of(request: ControllerRequest) -> Iterable[TopicPartition]:
    match request:
        case ElectLeadersRequest(_, partitions):
            return partitions
        case AlterReassignmentsRequest(targets):
            return targets
    return ()
