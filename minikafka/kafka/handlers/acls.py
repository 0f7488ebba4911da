"""Access control lists: there is no authorizer, and Kafka's answer to that is an error of its own,
which tools know."""

from __future__ import annotations

from minikafka.api.service import BrokerService
from minikafka.errors import SecurityDisabledError
from minikafka.kafka import requests
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.connection import Call
from minikafka.kafka.encoding import Values
from minikafka.kafka.handlers.admin import error_fields
from minikafka.kafka.handlers.handler import Handler, Handlers

_DISABLED = SecurityDisabledError("there is no authorizer: everybody may do everything")


async def describe_acls(
    service: BrokerService, call: Call, request: requests.DescribeAcls
) -> Values:
    return {"throttle_time": 0, **error_fields(_DISABLED), "resources": []}


async def create_acls(service: BrokerService, call: Call, request: requests.CreateAcls) -> Values:
    return {"throttle_time": 0, "results": [error_fields(_DISABLED) for _ in request.creations]}


async def delete_acls(service: BrokerService, call: Call, request: requests.DeleteAcls) -> Values:
    refused = {**error_fields(_DISABLED), "matching_acls": []}
    return {"throttle_time": 0, "filter_results": [refused for _ in request.filters]}


HANDLERS: Handlers = {
    ApiKey.DESCRIBE_ACLS: Handler(requests.DescribeAcls, describe_acls),
    ApiKey.CREATE_ACLS: Handler(requests.CreateAcls, create_acls),
    ApiKey.DELETE_ACLS: Handler(requests.DeleteAcls, delete_acls),
}
