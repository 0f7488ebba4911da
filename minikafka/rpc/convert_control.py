"""What the controller is asked for and answers, to and from api/requests.py.

What a client may ask the controller for (topics, elections, configurations) is one message with a
oneof; what only brokers ask (failed replicas, producer ids) has methods of its own, so that no
client can ask for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from minikafka.api.access import AlterScramRequest, CreateAclsRequest, DeleteAclsRequest
from minikafka.api.requests import (
    AllocateProducerIdsRequest,
    AlterBrokerConfigRequest,
    AlterReassignmentsRequest,
    AlterTopicConfigRequest,
    ControllerRequest,
    ControllerResponse,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    ListReassignmentsRequest,
    NamedResult,
    PartitionResult,
    ReportFailedReplicas,
)
from minikafka.errors import InvalidRequestError
from minikafka.model import Assignment, TopicPartition
from minikafka.rpc import convert_access
from minikafka.rpc.convert import (
    error_of,
    optional_error_to_wire,
    tp_from_wire,
    tp_to_wire,
)
from minikafka.rpc.generated import control_pb2
from minikafka.rpc.mirror import all_to_wire, from_wire, to_wire

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
            wire.create_topics.CopyFrom(to_wire(value, control_pb2.CreateTopics))
        case DeleteTopicsRequest():
            wire.delete_topics.CopyFrom(to_wire(value, control_pb2.DeleteTopics))
        case CreatePartitionsRequest():
            wire.create_partitions.CopyFrom(to_wire(value, control_pb2.CreatePartitions))
        case ElectLeadersRequest():
            wire.elect_leaders.CopyFrom(to_wire(value, control_pb2.ElectLeaders))
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
            wire.list_reassignments.CopyFrom(to_wire(value, control_pb2.ListReassignments))
        case CreateAclsRequest(rules):
            wire.create_acls.SetInParent()
            wire.create_acls.rules.extend(map(convert_access.rule_to_wire, rules))
        case DeleteAclsRequest(filters):
            wire.delete_acls.SetInParent()
            wire.delete_acls.filters.extend(map(convert_access.filter_to_wire, filters))
        case AlterScramRequest():
            wire.alter_scram.CopyFrom(convert_access.alter_scram_to_wire(value))
        case ReportFailedReplicas() | AllocateProducerIdsRequest():
            raise InvalidRequestError(
                f"{type(value).__name__} is a request of brokers, not of clients"
            )
    return wire


def administer_from_wire(wire: control_pb2.AdministerRequest) -> ControllerRequest:
    """Raises InvalidRequestError if no operation is set, or one that this version does not know."""
    match wire.WhichOneof("operation"):
        case "create_topics":
            return from_wire(wire.create_topics, CreateTopicsRequest)
        case "delete_topics":
            return from_wire(wire.delete_topics, DeleteTopicsRequest)
        case "create_partitions":
            return from_wire(wire.create_partitions, CreatePartitionsRequest)
        case "elect_leaders":
            return from_wire(wire.elect_leaders, ElectLeadersRequest)
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
            return from_wire(wire.list_reassignments, ListReassignmentsRequest)
        case "create_acls":
            rules = wire.create_acls.rules
            return CreateAclsRequest(tuple(map(convert_access.rule_from_wire, rules)))
        case "delete_acls":
            filters = wire.delete_acls.filters
            return DeleteAclsRequest(tuple(map(convert_access.filter_from_wire, filters)))
        case "alter_scram":
            return convert_access.alter_scram_from_wire(wire.alter_scram)
    raise InvalidRequestError("the request names no operation that this broker knows")


def administered_to_wire(value: ControllerResponse) -> control_pb2.AdministerResponse:
    return control_pb2.AdministerResponse(
        results=[
            *all_to_wire(value.results, control_pb2.NamedResult),
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
        acl_deletions=convert_access.deletions_to_wire(value.acl_deletions),
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
        acl_deletions=convert_access.deletions_from_wire(wire.acl_deletions),
    )


def _partitions_of(request: ControllerRequest) -> Iterable[TopicPartition]:
    match request:
        case ElectLeadersRequest(_, partitions):
            return partitions
        case AlterReassignmentsRequest(targets):
            return targets
    return ()
