"""Configurations of topics and brokers: described, and altered in Kafka's two ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from minikafka.api.requests import (
    AlterBrokerConfigRequest,
    AlterTopicConfigRequest,
    ControllerRequest,
)
from minikafka.api.service import BrokerService
from minikafka.config.overrides import ConfigDescription, ConfigSource, broker_entity_name
from minikafka.errors import InvalidConfigError, InvalidRequestError, MinikafkaError
from minikafka.kafka import requests
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.connection import Call
from minikafka.kafka.encoding import Values
from minikafka.kafka.handlers.admin import MAX_TIMEOUT_MS, error_fields
from minikafka.kafka.handlers.handler import Handler, Handlers
from minikafka.turns import in_slices

Changes = Mapping[str, str | None]

TOPIC, BROKER = 2, 4  # the types of a configuration resource
_TYPES = {"boolean": 1, "text": 2, "integer": 3, "long": 5, "double": 6, "list": 7}
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


async def describe_configs(
    service: BrokerService, call: Call, request: requests.DescribeConfigs
) -> Values:
    results = []
    resources = {(each.resource_type, each.resource_name): each for each in request.resources}
    async for resource in in_slices(resources.values()):
        keys = resource.configuration_keys
        wanted = frozenset(keys or ())  # none: all of them
        error: MinikafkaError | None = None
        entries: Sequence[ConfigDescription] = ()
        try:
            entries = await _describe(service, resource.resource_type, resource.resource_name)
        except MinikafkaError as raised:
            error = raised.with_traceback(None)
        results.append(
            {
                **error_fields(error),
                "resource_type": resource.resource_type,
                "resource_name": resource.resource_name,
                "configs": [
                    _config(entry, request)
                    for entry in entries
                    if not wanted or entry.name in wanted
                ],
            }
        )
    return {"throttle_time": 0, "results": results}


async def _describe(
    service: BrokerService, resource_type: int, name: str
) -> Sequence[ConfigDescription]:
    if resource_type == TOPIC:
        return await service.describe_configs(name)
    if resource_type == BROKER:
        return await service.describe_broker_configs(name)
    raise _no_configuration(resource_type)


def _no_configuration(resource_type: int) -> MinikafkaError:
    return InvalidRequestError(
        f"resource type {resource_type} has no configuration here: {TOPIC} (topic) and "
        f"{BROKER} (broker) have"
    )


def _config(entry: ConfigDescription, request: requests.DescribeConfigs) -> Values:
    synonyms = [
        {"name": each.name, "value": each.value, "source": each.source} for each in entry.synonyms
    ]
    return {
        "name": entry.name,
        "value": entry.value,
        "read_only": not entry.dynamic,
        "is_default": entry.source == ConfigSource.DEFAULT,
        "config_source": entry.source,
        "is_sensitive": False,
        "synonyms": synonyms if request.include_synonyms else [],
        "config_type": _TYPES.get(entry.kind, 0),
        "documentation": entry.doc if request.include_documentation else None,
    }


async def alter_configs(
    service: BrokerService, call: Call, request: requests.AlterConfigs
) -> Values:
    """The older way: what is named is set, and whatever is not named goes back to its default."""

    async def changes(resource: requests.AlteredResource) -> Changes:
        if resource.resource_type == BROKER:
            existing = list(service.broker_overrides(resource.resource_name))
        else:
            found = await service.describe_topic_configs(resource.resource_name)
            existing = [entry.name for entry in found if not entry.is_default]
        wanted: dict[str, str | None] = {}
        for config in resource.configs:
            _check_named_once(config.name, wanted)
            _check_value(config)
            wanted[config.name] = config.value
        return dict.fromkeys(existing) | wanted

    return await _alter(service, request, changes)


async def incremental_alter_configs(
    service: BrokerService, call: Call, request: requests.AlterConfigs
) -> Values:
    async def changes(resource: requests.AlteredResource) -> Changes:
        wanted: dict[str, str | None] = {}
        for config in resource.configs:
            _check_named_once(config.name, wanted)
            if config.config_operation == DELETE:
                wanted[config.name] = None
                continue
            _check_value(config)
            if config.config_operation == SET:
                wanted[config.name] = config.value
            elif config.config_operation in (APPEND, SUBTRACT):
                wanted[config.name] = await _edited_list(service, resource, config)
            else:
                raise InvalidRequestError(
                    f"{config.name}: operation {config.config_operation} means nothing; there are "
                    f"{SET} (set), {DELETE} (delete), {APPEND} (append) and {SUBTRACT} (subtract)"
                )
        return wanted

    return await _alter(service, request, changes)


def _check_named_once(name: str, before: Mapping[str, object]) -> None:
    if name in before:
        raise InvalidRequestError(f"{name} is in the request twice")


def _check_value(config: requests.AlteredConfig) -> None:
    """What is to go back to its default is deleted; null says nothing of that."""
    if config.value is None:
        raise InvalidRequestError(f"{config.name}: null is no value")


async def _edited_list(
    service: BrokerService, resource: requests.AlteredResource, config: requests.AlteredConfig
) -> str:
    """A list with items added or taken away; the cleanup policy is the only one."""
    of_broker = resource.resource_type == BROKER
    if config.name != ("log.cleanup.policy" if of_broker else "cleanup.policy"):
        raise InvalidConfigError(f"{config.name} is not a list: it can be set or deleted")
    if of_broker:
        overrides = service.broker_overrides(resource.resource_name)
        here = await service.describe_broker_configs(str(service.broker_id))
        effective = next(entry.value for entry in here if entry.name == config.name)
        value = overrides.get(config.name, effective)
    else:
        found = await service.describe_topic_configs(resource.resource_name)
        value = next(entry.value for entry in found if entry.name == config.name)
    value = value or ""
    items = [item for item in value.split(",") if item]
    named = [item.strip() for item in (config.value or "").split(",") if item.strip()]
    if config.config_operation == APPEND:
        items += [item for item in named if item not in items]
    else:
        items = [item for item in items if item not in named]
    return ",".join(items)


async def _alter(
    service: BrokerService,
    request: requests.AlterConfigs,
    changes: Callable[[requests.AlteredResource], Awaitable[Changes]],
) -> Values:
    responses = []
    times = Counter((each.resource_type, each.resource_name) for each in request.resources)
    async for resource in in_slices(request.resources):
        error: MinikafkaError | None = None
        try:
            alter = _ALTER.get(resource.resource_type)
            if alter is None:
                raise _no_configuration(resource.resource_type)
            if times[resource.resource_type, resource.resource_name] > 1:
                raise InvalidRequestError(
                    f"{resource.resource_name!r} is in the request more than once"
                )
            if resource.resource_type == TOPIC and not resource.resource_name:
                raise InvalidRequestError("all topics have no configuration: name one")
            await alter(service, request, resource.resource_name, await changes(resource))
        except MinikafkaError as raised:
            error = raised.with_traceback(None)
        responses.append(
            {
                **error_fields(error),
                "resource_type": resource.resource_type,
                "resource_name": resource.resource_name,
            }
        )
    return {"throttle_time": 0, "responses": responses}


async def _alter_topic(
    service: BrokerService, request: requests.AlterConfigs, topic: str, wanted: Changes
) -> None:
    # First here: the controller is not asked thousands of times for what cannot be.
    service.check_topic_configs(topic, {n: v for n, v in wanted.items() if v is not None})
    if not request.validate_only:
        await _change(service, AlterTopicConfigRequest(topic, wanted))


async def _alter_broker(
    service: BrokerService, request: requests.AlterConfigs, broker: str, wanted: Changes
) -> None:
    """`broker`: the id of one, or nothing for all."""
    service.check_broker_configs(broker, wanted)
    if not request.validate_only:
        await _change(service, AlterBrokerConfigRequest(broker_entity_name(broker), wanted))


async def _change(service: BrokerService, request: ControllerRequest) -> None:
    response = await service.administer(request, MAX_TIMEOUT_MS)
    for result in response.results:
        if result.error is not None:
            raise result.error


_ALTER = {TOPIC: _alter_topic, BROKER: _alter_broker}


HANDLERS: Handlers = {
    ApiKey.DESCRIBE_CONFIGS: Handler(requests.DescribeConfigs, describe_configs),
    ApiKey.ALTER_CONFIGS: Handler(requests.AlterConfigs, alter_configs),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: Handler(requests.AlterConfigs, incremental_alter_configs),
}
