"""Who may ask what of the controller. It trusts the brokers: it is the door that judges."""

from __future__ import annotations

from collections.abc import Sequence
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
    ReportFailedReplicas,
)
from minikafka.api.service import BrokerService
from minikafka.broker.guard.asking import Asking, Refusals
from minikafka.security.acl import CLUSTER_NAME, Operation, ResourceType

# Of the cluster as a whole.
_OF_CLUSTER = {
    ElectLeadersRequest: ("ElectLeaders", Operation.ALTER),
    AlterBrokerConfigRequest: ("AlterConfigs", Operation.ALTER_CONFIGS),
    AlterReassignmentsRequest: ("AlterPartitionReassignments", Operation.ALTER),
    ListReassignmentsRequest: ("ListPartitionReassignments", Operation.DESCRIBE),
    ReportFailedReplicas: ("ReportFailedReplicas", Operation.CLUSTER_ACTION),
    AllocateProducerIdsRequest: ("AllocateProducerIds", Operation.CLUSTER_ACTION),
    CreateAclsRequest: ("CreateAcls", Operation.ALTER),
    DeleteAclsRequest: ("DeleteAcls", Operation.ALTER),
    AlterScramRequest: ("AlterUserScramCredentials", Operation.ALTER),
}

_OfOneTopic: TypeAlias = CreatePartitionsRequest | AlterTopicConfigRequest


async def administer(
    service: BrokerService, asking: Asking, request: ControllerRequest, timeout_ms: int
) -> ControllerResponse:
    """What is of topics is refused topic by topic. ClusterAuthorizationFailedError for the rest,
    and for what nobody has said who may ask for it."""
    refused: Refusals
    match request:
        case CreateTopicsRequest(topics):
            names = [topic.name for topic in topics]
            refused = await _not_to_be_created(asking, names)
            if refused:
                kept = [topic for topic in topics if topic.name not in refused]
                part = CreateTopicsRequest(kept, request.validate_only)
                return await _rest(service, names, refused, part if kept else None, timeout_ms)
        case DeleteTopicsRequest(names):
            refused = await asking.refusals(
                "DeleteTopics", Operation.DELETE, ResourceType.TOPIC, names
            )
            if refused:
                kept_names = [name for name in names if name not in refused]
                rest = DeleteTopicsRequest(kept_names) if kept_names else None
                return await _rest(service, names, refused, rest, timeout_ms)
        case CreatePartitionsRequest() | AlterTopicConfigRequest():
            answer = _refused_topic(asking, request)
            if answer is not None:
                return answer
        case _:
            _require_of_cluster(asking, request)
    return await service.administer(request, timeout_ms)


async def _not_to_be_created(asking: Asking, names: Sequence[str]) -> Refusals:
    """Who may Create on the cluster need not on the topics."""
    request = "CreateTopics"
    if asking.may(request, Operation.CREATE, named=False):
        return {}
    return await asking.refusals(request, Operation.CREATE, ResourceType.TOPIC, names)


def _refused_topic(asking: Asking, request: _OfOneTopic) -> ControllerResponse | None:
    if isinstance(request, CreatePartitionsRequest):
        name, operation = "CreatePartitions", Operation.ALTER
    else:
        name, operation = "AlterConfigs", Operation.ALTER_CONFIGS
    error = asking.refusal(name, operation, ResourceType.TOPIC, request.topic)
    return None if error is None else ControllerResponse([NamedResult(request.topic, error)])


def _require_of_cluster(asking: Asking, request: ControllerRequest) -> None:
    known = _OF_CLUSTER.get(type(request))
    if known is None:
        raise asking.error(Operation.CLUSTER_ACTION, ResourceType.CLUSTER, CLUSTER_NAME)
    asking.require(*known)


async def _rest(
    service: BrokerService,
    names: Sequence[str],
    refused: Refusals,
    part: CreateTopicsRequest | DeleteTopicsRequest | None,
    timeout_ms: int,
) -> ControllerResponse:
    """What is refused, and what becomes of `part`, which is the rest if there is any; each name
    once, in order."""
    answers = {name: NamedResult(name, error) for name, error in refused.items()}
    if part is not None:
        response = await service.administer(part, timeout_ms)
        answers |= {result.name: result for result in response.results}
    return ControllerResponse([answers[name] for name in dict.fromkeys(names) if name in answers])
