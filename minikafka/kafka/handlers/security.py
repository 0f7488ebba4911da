"""Access control entries and SCRAM credentials: told, and altered.

Without an authorizer there are no entries, and Kafka's answer to that is an error of its own, which
tools know. Credentials are told without salts and keys, and come as the client salted them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

from minikafka.api.access import (
    AclDeletion,
    AlterScramRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    ScramAlteration,
    ScramDescription,
    ScramUpsertion,
)
from minikafka.api.service import BrokerService
from minikafka.errors import InvalidRequestError, MinikafkaError, UnknownServerError
from minikafka.kafka import requests
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.connection import Call
from minikafka.kafka.encoding import Values
from minikafka.kafka.handlers.admin import MAX_TIMEOUT_MS, error_fields
from minikafka.kafka.handlers.handler import Handler, Handlers
from minikafka.security.acl import (
    Entry,
    EntryFilter,
    Operation,
    Pattern,
    PatternFilter,
    PatternType,
    Permission,
    ResourceType,
)
from minikafka.security.authorizer import Rule
from minikafka.security.principal import Principal, parse_principal
from minikafka.security.scram import SHA_256, SHA_512
from minikafka.turns import in_slices

N = TypeVar("N", bound=IntEnum)

ANY = 1  # of a type, an operation or a permission
MECHANISMS = {1: SHA_256.name, 2: SHA_512.name}
_NUMBERS = {name: number for number, name in MECHANISMS.items()}


# --- entries -------------------------------------------------------------------------------------


async def describe_acls(
    service: BrokerService, call: Call, request: requests.DescribeAcls
) -> Values:
    try:
        rules = await service.describe_acls(_filter(request))
    except MinikafkaError as error:
        return {"throttle_time": 0, **error_fields(error), "resources": []}
    by_pattern: dict[Pattern, list[Values]] = {}
    async for pattern, entry in in_slices(rules):
        by_pattern.setdefault(pattern, []).append(_entry_values(entry))
    resources = [
        {**_pattern_values(pattern), "acls": entries} for pattern, entries in by_pattern.items()
    ]
    return {"throttle_time": 0, **error_fields(None), "resources": resources}


async def create_acls(service: BrokerService, call: Call, request: requests.CreateAcls) -> Values:
    rules: list[Rule] = []
    results: list[MinikafkaError | None] = []
    places: list[int] = []
    async for creation in in_slices(request.creations):
        try:
            rules.append(_rule(creation))
        except MinikafkaError as error:
            results.append(error.with_traceback(None))
        else:
            places.append(len(results))
            results.append(None)
    if results:
        try:
            # Also without a right one: who may not ask is to hear of that alone.
            response = await service.administer(CreateAclsRequest(rules), MAX_TIMEOUT_MS)
        except MinikafkaError as error:
            results = [error] * len(results)
        else:
            for place, result in zip(places, response.results, strict=True):
                results[place] = result.error
    return {
        "throttle_time": 0,
        "results": [error_fields(error) async for error in in_slices(results)],
    }


async def delete_acls(service: BrokerService, call: Call, request: requests.DeleteAcls) -> Values:
    filters: list[EntryFilter] = []
    results: list[AclDeletion] = []
    places: list[int] = []
    async for each in in_slices(request.filters):
        try:
            filters.append(_filter(each))
        except MinikafkaError as error:
            results.append(AclDeletion(error.with_traceback(None)))
        else:
            places.append(len(results))
            results.append(AclDeletion())
    if results:
        try:
            response = await service.administer(DeleteAclsRequest(filters), MAX_TIMEOUT_MS)
        except MinikafkaError as error:
            results = [AclDeletion(error)] * len(results)
        else:
            for place, deletion in zip(places, response.acl_deletions, strict=True):
                results[place] = deletion
    return {
        "throttle_time": 0,
        "filter_results": [_deletion_values(each) async for each in in_slices(results)],
    }


def _deletion_values(deletion: AclDeletion) -> Values:
    matching = [
        {
            **error_fields(each.error),
            **_pattern_values(each.rule.pattern),
            **_entry_values(each.rule.entry),
        }
        for each in deletion.deleted
    ]
    return {**error_fields(deletion.error), "matching_acls": matching}


def _pattern_values(pattern: Pattern) -> Values:
    return {
        "resource_type": pattern.type,
        "resource_name": pattern.name,
        "pattern_type": pattern.kind,
    }


def _entry_values(entry: Entry) -> Values:
    return {
        "principal": str(entry.principal),
        "host": entry.host,
        "operation": entry.operation,
        "permission_type": entry.permission,
    }


def _rule(creation: requests.AclCreation) -> Rule:
    """InvalidRequestError for what means nothing."""
    pattern = Pattern(
        _number(ResourceType, creation.resource_type, "type of resource"),
        creation.resource_name,
        _number(PatternType, creation.resource_pattern_type, "type of pattern"),
    )
    entry = Entry(
        _principal(creation.principal),
        creation.host,
        _number(Operation, creation.operation, "operation"),
        _number(Permission, creation.permission_type, "permission"),
    )
    return Rule(pattern, entry)


def _filter(asked: requests.AclFilter) -> EntryFilter:
    """Likewise."""
    principal = asked.principal_filter
    return EntryFilter(
        _number_or_any(ResourceType, asked.resource_type_filter, "type of resource"),
        asked.resource_name_filter,
        _number(PatternFilter, asked.pattern_type_filter, "type of pattern"),
        None if principal is None else _principal(principal),
        asked.host_filter,
        _number_or_any(Operation, asked.operation, "operation"),
        _number_or_any(Permission, asked.permission_type, "permission"),
    )


def _number_or_any(kind: type[N], number: int, what: str) -> N | None:
    return None if number == ANY else _number(kind, number, what)


def _number(kind: type[N], number: int, what: str) -> N:
    try:
        return kind(number)
    except ValueError:
        known = ", ".join(f"{each.value} ({each.name})" for each in kind)
        raise InvalidRequestError(f"{number} is no {what} here: there are {known}") from None


def _principal(text: str) -> Principal:
    try:
        return parse_principal(text)
    except ValueError as error:
        raise InvalidRequestError(str(error)) from None


# --- credentials ---------------------------------------------------------------------------------


async def describe_user_scram_credentials(
    service: BrokerService, call: Call, request: requests.DescribeUserScramCredentials
) -> Values:
    users = [user.name for user in request.users or ()]
    try:
        described = await service.describe_scram(users)
    except MinikafkaError as error:
        return {"throttle_time": 0, **error_fields(error), "results": []}
    return {
        "throttle_time": 0,
        **error_fields(None),
        "results": [_description_values(each) async for each in in_slices(described)],
    }


def _description_values(described: ScramDescription) -> Values:
    return {
        "user": described.user,
        **error_fields(described.error),
        "credential_infos": [
            {"mechanism": _NUMBERS[mechanism], "iterations": iterations}
            for mechanism, iterations in described.credentials
        ],
    }


async def alter_user_scram_credentials(
    service: BrokerService, call: Call, request: requests.AlterUserScramCredentials
) -> Values:
    alterations = [_alteration(each) async for each in in_slices(request.deletions)]
    alterations += [_upsertion(each) async for each in in_slices(request.upsertions)]
    results: Mapping[str, MinikafkaError | None] = {}
    users = dict.fromkeys(each.user for each in alterations)
    if alterations:
        try:
            response = await service.administer(AlterScramRequest(alterations), MAX_TIMEOUT_MS)
        except MinikafkaError as error:
            results = dict.fromkeys(users, error)
        else:
            results = {result.name: result.error for result in response.results}
    unsaid = UnknownServerError("the controller did not say what came of it")
    return {
        "throttle_time": 0,
        "results": [{"user": user, **error_fields(results.get(user, unsaid))} for user in users],
    }


def _alteration(each: requests.ScramCredentialDeletion) -> ScramAlteration:
    return ScramAlteration(each.name, _mechanism(each.mechanism))


def _upsertion(each: requests.ScramCredentialUpsertion) -> ScramAlteration:
    made = ScramUpsertion(each.iterations, each.salt, each.salted_password)
    return ScramAlteration(each.name, _mechanism(each.mechanism), made)


def _mechanism(number: int) -> str:
    """Its name. One that there is not is refused by whoever carries it out."""
    return MECHANISMS.get(number, f"mechanism {number}")


HANDLERS: Handlers = {
    ApiKey.DESCRIBE_ACLS: Handler(requests.DescribeAcls, describe_acls),
    ApiKey.CREATE_ACLS: Handler(requests.CreateAcls, create_acls),
    ApiKey.DELETE_ACLS: Handler(requests.DeleteAcls, delete_acls),
    ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS: Handler(
        requests.DescribeUserScramCredentials, describe_user_scram_credentials
    ),
    ApiKey.ALTER_USER_SCRAM_CREDENTIALS: Handler(
        requests.AlterUserScramCredentials, alter_user_scram_credentials
    ),
}
