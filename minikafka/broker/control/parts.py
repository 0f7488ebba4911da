"""Long requests for the controller go to it in parts: each is one event of its, and nobody else is
heard meanwhile. A part is as independent of the others as the things that it names are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeVar

from minikafka.api.access import (
    AclDeletion,
    AlterScramRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    ScramAlteration,
)
from minikafka.api.requests import (
    AlterReassignmentsRequest,
    ControllerRequest,
    ControllerResponse,
    CreateTopic,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    ListReassignmentsRequest,
    NamedResult,
    PartitionResult,
)
from minikafka.errors import MinikafkaError, PolicyViolationError

T = TypeVar("T")

NAMES_IN_PART = 200
MAX_NEW_PARTITIONS = 10_000  # of one request, as in Kafka with its own controllers
MAX_RULES = 10_000  # likewise
MAX_FILTERS = 1_000  # each looks at every rule that there is
MAX_CREDENTIALS = 10_000


def check_size(request: ControllerRequest) -> None:
    """PolicyViolationError for more than one request may ask for."""
    match request:
        case CreateAclsRequest(rules):
            _check_count(len(rules), MAX_RULES, "rules")
        case DeleteAclsRequest(filters):
            _check_count(len(filters), MAX_FILTERS, "filters")
        case AlterScramRequest(alterations):
            _check_count(len(alterations), MAX_CREDENTIALS, "credentials")
        case CreateTopicsRequest():
            _check_partitions(request)


def _check_count(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise PolicyViolationError(f"{count} {what} in one request: at most {limit} may be")


def _check_partitions(request: CreateTopicsRequest) -> None:
    wanted = sum(_partitions(topic) for topic in request.topics)
    if wanted > MAX_NEW_PARTITIONS:
        raise PolicyViolationError(
            f"{wanted} partitions would be made at once: {MAX_NEW_PARTITIONS} may be, ask for less"
        )


def _partitions(topic: CreateTopic) -> int:
    """Of one that wants too many by itself the controller says so."""
    return min(max(topic.num_partitions, len(topic.assignments), 1), MAX_NEW_PARTITIONS)


def parts_of(request: ControllerRequest) -> list[ControllerRequest]:
    """The same request in parts; mostly one."""
    match request:
        case CreateTopicsRequest(topics, validate_only):
            return [CreateTopicsRequest(some, validate_only) for some in _some(topics)]
        case DeleteTopicsRequest(names):
            return [DeleteTopicsRequest(some) for some in _some(names)]
        case ElectLeadersRequest(unclean, partitions) if partitions:
            return [ElectLeadersRequest(unclean, some) for some in _some(partitions)]
        case ListReassignmentsRequest(partitions) if partitions:
            return [ListReassignmentsRequest(some) for some in _some(partitions)]
        case AlterReassignmentsRequest(targets):
            return [
                AlterReassignmentsRequest({each: targets[each] for each in some})
                for some in _some(list(targets))
            ]
        case CreateAclsRequest(rules):
            return [CreateAclsRequest(some) for some in _some(rules)]
        case DeleteAclsRequest(filters):
            return [DeleteAclsRequest(some) for some in _some(filters)]
        case AlterScramRequest(alterations):
            return [AlterScramRequest(some) for some in _of_users(alterations)]
    return [request]


def _of_users(alterations: Sequence[ScramAlteration]) -> Iterator[list[ScramAlteration]]:
    """Those of one user stay together, and nobody has results of two parts."""
    by_user: dict[str, list[ScramAlteration]] = {}
    for alteration in alterations:
        by_user.setdefault(alteration.user, []).append(alteration)
    for users in _some(list(by_user)):
        yield [each for user in users for each in by_user[user]]


def failed(part: ControllerRequest, error: MinikafkaError) -> ControllerResponse:
    """What is said of a part that failed when others have been done."""
    match part:
        case CreateTopicsRequest(topics, _):
            return ControllerResponse([NamedResult(topic.name, error) for topic in topics])
        case DeleteTopicsRequest(names):
            return ControllerResponse([NamedResult(name, error) for name in names])
        case ElectLeadersRequest(_, partitions):
            return ControllerResponse(partitions=[PartitionResult(tp, error) for tp in partitions])
        case AlterReassignmentsRequest(targets):
            return ControllerResponse(partitions=[PartitionResult(tp, error) for tp in targets])
        case CreateAclsRequest(rules):
            return ControllerResponse([NamedResult(str(rule), error) for rule in rules])
        case DeleteAclsRequest(filters):
            return ControllerResponse(acl_deletions=[AclDeletion(error) for _ in filters])
        case AlterScramRequest(alterations):
            users = dict.fromkeys(each.user for each in alterations)
            return ControllerResponse([NamedResult(user, error) for user in users])
    return ControllerResponse()


def joined(responses: Sequence[ControllerResponse]) -> ControllerResponse:
    if len(responses) == 1:
        return responses[0]
    return ControllerResponse(
        [result for response in responses for result in response.results],
        [result for response in responses for result in response.partitions],
        reassignments={
            each: assignment
            for response in responses
            for each, assignment in response.reassignments.items()
        },
        acl_deletions=tuple(each for response in responses for each in response.acl_deletions),
    )


def _some(things: Sequence[T]) -> Iterator[list[T]]:
    if not things:
        yield []
    left = iter(things)
    while some := list(islice(left, NAMES_IN_PART)):
        yield some
