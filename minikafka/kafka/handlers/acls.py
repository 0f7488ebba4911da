"""Access control lists: there is no authorizer, and Kafka's answer to that is an error of its own,
which tools know."""

from __future__ import annotations

from typing import Any

from minikafka.api.service import BrokerService
from minikafka.errors import SecurityDisabledError
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.connection import Call
from minikafka.kafka.encoding import Values
from minikafka.kafka.handlers.admin import Handler, error_fields

_DISABLED = SecurityDisabledError("there is no authorizer: everybody may do everything")


async def describe_acls(service: BrokerService, call: Call, request: Any) -> Values:
    return {"throttle_time": 0, **error_fields(_DISABLED), "resources": []}


async def create_acls(service: BrokerService, call: Call, request: Any) -> Values:
    return {"throttle_time": 0, "results": [error_fields(_DISABLED) for _ in request.creations]}


async def delete_acls(service: BrokerService, call: Call, request: Any) -> Values:
    refused = {**error_fields(_DISABLED), "matching_acls": []}
    return {"throttle_time": 0, "filter_results": [refused for _ in request.filters]}


HANDLERS: dict[ApiKey, Handler] = {
    ApiKey.DESCRIBE_ACLS: describe_acls,
    ApiKey.CREATE_ACLS: create_acls,
    ApiKey.DELETE_ACLS: delete_acls,
}
