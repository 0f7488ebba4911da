"""The controller's requests, between the doors' types and the core's: no decision is taken here.

Each function makes the `Operation` of a request on a controller, or the response of its result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, assert_never

from minikafka.api.requests import (
    AllocateProducerIdsRequest,
    AlterBrokerConfigRequest,
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterReassignmentsRequest,
    AlterTopicConfigRequest,
    ControllerResponse,
    CoreRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    ListReassignmentsRequest,
    NamedResult,
    PartitionResult,
    ReportFailedReplicas,
)
from minikafka.core.control.commands import Operation, PartitionResults, Results
from minikafka.core.control.controller import Controller
from minikafka.core.control.topics import NewTopicDefaults

Plan: TypeAlias = Callable[[Controller], Operation[ControllerResponse]]


def alter_partition(
    controller: Controller, request: AlterPartitionRequest
) -> Operation[AlterPartitionResponse]:
    """All proposals of one leader."""
    judged = yield from controller.alter_partition(
        request.broker_id, request.broker_epoch, request.proposals
    )
    return AlterPartitionResponse(controller.context.controller_epoch, judged)


def controller_call(
    controller: Controller, request: CoreRequest, chance: NewTopicDefaults, *, deletable: bool
) -> Operation[ControllerResponse]:
    """Any other request. `deletable`: delete.topic.enable."""
    match request:
        case CreateTopicsRequest():
            results = yield from controller.create_topics(
                request.topics, chance, validate_only=request.validate_only
            )
        case DeleteTopicsRequest():
            results = yield from controller.delete_topics(request.names, enabled=deletable)
        case CreatePartitionsRequest():
            results = yield from controller.create_partitions(
                request.topic,
                request.total_count,
                request.assignments,
                validate_only=request.validate_only,
            )
        case ElectLeadersRequest():
            elected = yield from controller.elect_leaders(
                request.partitions, unclean=request.unclean
            )
            return _of_partitions(elected)
        case AlterTopicConfigRequest():
            results = yield from controller.alter_topic_config(request.topic, request.changes)
        case AlterBrokerConfigRequest():
            results = yield from controller.alter_broker_config(request.broker, request.changes)
        case ReportFailedReplicas():
            failed = yield from controller.on_failed_replicas(
                request.broker_id, request.broker_epoch, request.replicas
            )
            return _of_partitions(failed)
        case AlterReassignmentsRequest():
            altered = yield from controller.alter_partition_reassignments(request.targets)
            return _of_partitions(altered)
        case ListReassignmentsRequest():
            found = controller.reassignments()
            named = request.partitions or found
            return ControllerResponse(
                reassignments={tp: each for tp, each in found.items() if tp in named}
            )
        case AllocateProducerIdsRequest():
            start, end = yield from controller.allocate_producer_ids(
                request.broker_id, request.broker_epoch
            )
            return ControllerResponse(producer_id_start=start, producer_id_end=end)
        case _:
            assert_never(request)
    return _named(results)


def _named(results: Results) -> ControllerResponse:
    return ControllerResponse([NamedResult(name, error) for name, error in results])


def _of_partitions(results: PartitionResults) -> ControllerResponse:
    return ControllerResponse(partitions=[PartitionResult(tp, error) for tp, error in results])
