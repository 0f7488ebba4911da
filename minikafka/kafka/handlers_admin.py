"""Administration: topics, partitions, elections, configurations, log directories."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from minikafka.broker.ports import BrokerService
from minikafka.broker.requests import (
    AlterBrokerConfigRequest,
    AlterTopicConfigRequest,
    ControllerRequest,
    CreatePartitionsRequest,
    CreateTopic,
    CreateTopicsRequest,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
)
from minikafka.errors import (
    InvalidConfigError,
    InvalidRequestError,
    MinikafkaError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
)
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.connection import Call
from minikafka.kafka.encoding import Values
from minikafka.kafka.ids import text_of, uuid_of
from minikafka.kafka.messages import get
from minikafka.kafka.partitions import ask_each
from minikafka.model import TopicPartition, topic_partition
from minikafka.overrides import ConfigDescription, ConfigSource, broker_name
from minikafka.turns import in_slices

Handler = Callable[[BrokerService, Call, Any], Awaitable[Values]]
Results = Mapping[str, MinikafkaError | None]
Changes = Mapping[str, str | None]

MAX_TIMEOUT_MS = 60_000
TOPIC, BROKER = 2, 4  # the types of a configuration resource
_TYPES = {"boolean": 1, "text": 2, "integer": 3, "long": 5, "double": 6, "list": 7}
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


def error_fields(error: MinikafkaError | None) -> dict[str, Any]:
    if error is None:
        return {"error_code": 0, "error_message": None}
    return {"error_code": error.code, "error_message": str(error)}


def limited_timeout_ms(timeout_ms: int) -> int:
    """How long a client may let us wait."""
    return min(max(timeout_ms, 1), MAX_TIMEOUT_MS)


async def administer(
    service: BrokerService, request: ControllerRequest, timeout_ms: int, names: Iterable[str]
) -> Results:
    """The outcome for each name. An error of the request as a whole is that of every name."""
    try:
        response = await service.administer(request, limited_timeout_ms(timeout_ms))
    except MinikafkaError as error:
        return dict.fromkeys(names, error)
    return {result.name: result.error for result in response.results}


# --- topics --------------------------------------------------------------------------------------


async def create_topics(service: BrokerService, call: Call, request: Any) -> Values:
    topics = {topic.name: _new_topic(topic) async for topic in in_slices(request.topics)}
    twice = _named_twice(topic.name for topic in request.topics)
    wanted = [topic for name, topic in topics.items() if name not in twice]
    results: dict[str, MinikafkaError | None] = dict(twice)
    if wanted:
        creation = CreateTopicsRequest(wanted, request.validate_only)
        names = [topic.name for topic in wanted]
        results |= await administer(service, creation, request.timeout, names)
    answers = []
    async for name, error in in_slices(results.items()):
        answer: dict[str, Any] = {
            "name": name,
            **error_fields(error),
            "topic_id": None,
            "num_partitions": -1,
            "replication_factor": -1,
            "configs": None if error is not None else [],
        }
        if error is None and not request.validate_only:
            answer |= await _as_created(service, name)
        answers.append(answer)
    return {"throttle_time": 0, "topics": answers}


def _new_topic(topic: Any) -> CreateTopic:
    return CreateTopic(
        topic.name,
        topic.num_partitions,
        topic.replication_factor,
        {config.name: config.value or "" for config in topic.configs},
        {item.partition_index: list(item.broker_ids) for item in topic.assignments},
    )


def _named_twice(names: Iterable[str]) -> dict[str, MinikafkaError]:
    seen: set[str] = set()
    twice: dict[str, MinikafkaError] = {}
    for name in names:
        if name in seen:
            twice[name] = InvalidRequestError(f"topic {name!r} is in the request twice")
        seen.add(name)
    return twice


async def _as_created(service: BrokerService, name: str) -> dict[str, Any]:
    """What a client is told of a topic that it has just made (from version 5 on)."""
    found = await service.metadata([name], False)
    topic = found.topics[0]
    if topic.error is not None or not topic.partitions:
        return {}
    return {
        "topic_id": uuid_of(topic.topic_id),
        "num_partitions": len(topic.partitions),
        "replication_factor": len(topic.partitions[0].assignment.replicas),
        "configs": [
            {
                "name": entry.name,
                "value": entry.value,
                "read_only": False,
                "config_source": entry.source,
                "is_sensitive": False,
            }
            for entry in await service.describe_configs(name)
        ],
    }


async def delete_topics(service: BrokerService, call: Call, request: Any) -> Values:
    by_id: dict[str, str] = {}
    found = await service.metadata(None, False)
    names_by_id = {topic.topic_id: topic.name for topic in found.topics}
    answers: list[Values] = []
    names: list[str] = list(dict.fromkeys(get(request, "topic_names", ()) or ()))
    async for topic in in_slices(get(request, "topics", ()) or ()):
        if topic.name is not None:
            names.append(topic.name)
            continue
        topic_id = text_of(topic.topic_id)
        if topic_id in names_by_id:
            by_id[names_by_id[topic_id]] = topic_id
            names.append(names_by_id[topic_id])
        else:
            unknown = UnknownTopicIdError(f"there is no topic of id {topic_id}")
            answers.append({"name": None, "topic_id": topic.topic_id, **error_fields(unknown)})
    ids = {topic.name: uuid_of(topic.topic_id) for topic in found.topics if topic.topic_id}
    if names:
        results = await administer(service, DeleteTopicsRequest(names), request.timeout, names)
        answers += [
            {"name": name, "topic_id": ids.get(name), **error_fields(error)}
            async for name, error in in_slices(results.items())
        ]
    return {"throttle_time": 0, "responses": answers}


async def create_partitions(service: BrokerService, call: Call, request: Any) -> Values:
    results: list[Values] = []
    for topic in request.topics:
        error: MinikafkaError | None
        if request.validate_only:
            error = InvalidRequestError("partitions cannot be validated without being created")
        else:
            assignments = [list(item.broker_ids) for item in topic.assignments or ()]
            growth = CreatePartitionsRequest(topic.name, topic.count, assignments)
            outcome = await administer(service, growth, request.timeout, [topic.name])
            error = next(iter(outcome.values()), None)
        results.append({"name": topic.name, **error_fields(error)})
    return {"throttle_time": 0, "results": results}


async def delete_records(service: BrokerService, call: Call, request: Any) -> Values:
    timeout_ms = limited_timeout_ms(request.timeout)
    topics = await ask_each(
        request.topics,
        lambda partition, item: DeleteRecordsPartition(partition, item.offset),
        lambda asked: service.delete_records(DeleteRecordsRequest(timeout_ms, asked)),
        lambda result: {"low_watermark": result.low_watermark},
    )
    return {"throttle_time": 0, "topics": topics}


async def elect_leaders(service: BrokerService, call: Call, request: Any) -> Values:
    unclean = get(request, "election_type", 0) == 1
    named = list(
        dict.fromkeys(
            [
                topic_partition(name, index)
                async for name, index in in_slices(
                    (topic.topic, index)
                    for topic in request.topic_partitions or ()
                    for index in topic.partitions
                )
            ]
        )
    )
    everything = request.topic_partitions is None
    if not everything and not named:
        return {"throttle_time": 0, "error_code": 0, "replica_election_results": []}
    election = ElectLeadersRequest(unclean, named)
    failed: MinikafkaError | None = None
    results: dict[str, MinikafkaError | None]
    try:
        answer = await service.administer(election, limited_timeout_ms(request.timeout))
        results = {result.name: result.error for result in answer.results}
    except MinikafkaError as raised:
        # Of the request as a whole, which may name no partition, and of each that it names.
        failed, results = raised, dict.fromkeys(map(str, named), raised)
    by_topic: dict[str, list[Values]] = {}
    # What a client names can be any number: `t--1` is of -1, not of the topic `t-`.
    asked = {str(each): each async for each in in_slices(named)}
    async for name, error in in_slices(results.items()):
        place = asked.get(name) or _parsed(name)
        result = {"partition_id": place.partition, **error_fields(error)}
        by_topic.setdefault(place.topic, []).append(result)
    return {
        "throttle_time": 0,
        "error_code": 0 if failed is None else failed.code,
        "replica_election_results": [
            {"topic": topic, "partition_result": items} for topic, items in by_topic.items()
        ],
    }


def _parsed(name: str) -> TopicPartition:
    topic, _, index = name.rpartition("-")
    return topic_partition(topic, int(index))


# --- configurations ------------------------------------------------------------------------------


async def describe_configs(service: BrokerService, call: Call, request: Any) -> Values:
    results = []
    resources = {(each.resource_type, each.resource_name): each for each in request.resources}
    async for resource in in_slices(resources.values()):
        keys = resource.configuration_keys
        wanted = None if keys is None else frozenset(keys)
        error: MinikafkaError | None = None
        entries: Sequence[ConfigDescription] = ()
        try:
            entries = await _describe(service, resource.resource_type, resource.resource_name)
        except MinikafkaError as raised:
            error = raised
        results.append(
            {
                **error_fields(error),
                "resource_type": resource.resource_type,
                "resource_name": resource.resource_name,
                "configs": [
                    _config(entry, request)
                    for entry in entries
                    if wanted is None or entry.name in wanted
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


def _config(entry: ConfigDescription, request: Any) -> Values:
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
        "documentation": entry.doc if get(request, "include_documentation", False) else None,
    }


async def alter_configs(service: BrokerService, call: Call, request: Any) -> Values:
    """The older way: what is named is set, and whatever is not named goes back to its default."""

    async def changes(resource: Any) -> Changes:
        if resource.resource_type == BROKER:
            existing = list(service.broker_overrides(resource.resource_name))
        else:
            found = await service.describe_topic_configs(resource.resource_name)
            existing = [entry.name for entry in found if not entry.is_default]
        cleared: dict[str, str | None] = dict.fromkeys(existing)
        return cleared | {config.name: config.value for config in resource.configs}

    return await _alter(service, request, changes)


async def incremental_alter_configs(service: BrokerService, call: Call, request: Any) -> Values:
    async def changes(resource: Any) -> Changes:
        wanted: dict[str, str | None] = {}
        for config in resource.configs:
            if config.name in wanted:
                raise InvalidRequestError(f"{config.name} is in the request twice")
            if config.config_operation in (APPEND, SUBTRACT):
                wanted[config.name] = await _edited_list(service, resource, config)
            else:
                wanted[config.name] = None if config.config_operation == DELETE else config.value
        return wanted

    return await _alter(service, request, changes)


async def _edited_list(service: BrokerService, resource: Any, config: Any) -> str:
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
    items = [item for item in value.split(",") if item]
    named = [item.strip() for item in (config.value or "").split(",") if item.strip()]
    if config.config_operation == APPEND:
        items += [item for item in named if item not in items]
    else:
        items = [item for item in items if item not in named]
    return ",".join(items)


async def _alter(
    service: BrokerService,
    request: Any,
    changes: Callable[[Any], Awaitable[Changes]],
) -> Values:
    responses = []
    for resource in request.resources:
        error: MinikafkaError | None = None
        try:
            alter = _ALTER.get(resource.resource_type)
            if alter is None:
                raise _no_configuration(resource.resource_type)
            await alter(service, request, resource.resource_name, await changes(resource))
        except MinikafkaError as raised:
            error = raised
        responses.append(
            {
                **error_fields(error),
                "resource_type": resource.resource_type,
                "resource_name": resource.resource_name,
            }
        )
    return {"throttle_time": 0, "responses": responses}


async def _alter_topic(service: BrokerService, request: Any, topic: str, wanted: Changes) -> None:
    found = await service.metadata([topic], False)
    if found.topics[0].error is not None:
        raise UnknownTopicOrPartitionError(f"there is no topic {topic!r}")
    if request.validate_only:
        service.check_topic_configs({n: v for n, v in wanted.items() if v is not None})
        return
    await _change(service, AlterTopicConfigRequest(topic, wanted))


async def _alter_broker(service: BrokerService, request: Any, broker: str, wanted: Changes) -> None:
    """`broker`: the id of one, or nothing for all."""
    service.check_broker_configs(broker, wanted)
    if not request.validate_only:
        await _change(service, AlterBrokerConfigRequest(broker_name(broker), wanted))


async def _change(service: BrokerService, request: ControllerRequest) -> None:
    response = await service.administer(request, MAX_TIMEOUT_MS)
    for result in response.results:
        if result.error is not None:
            raise result.error


_ALTER = {TOPIC: _alter_topic, BROKER: _alter_broker}


# --- log directories -----------------------------------------------------------------------------


async def describe_log_dirs(service: BrokerService, call: Call, request: Any) -> Values:
    wanted: set[TopicPartition] | None = None
    if request.topics is not None:
        wanted = {
            topic_partition(topic.topic, index)
            for topic in request.topics
            for index in get(topic, "partitions", None) or get(topic, "partition_index", ())
        }
    log_dir, sizes = await service.describe_log_dir()
    topics: dict[str, list[Values]] = {}
    for each, size_bytes, lag in sizes:
        if wanted is None or each in wanted:
            topics.setdefault(each.topic, []).append(
                {
                    "partition_index": each.partition,
                    "partition_size": size_bytes,
                    "offset_lag": lag,
                    "is_future_key": False,
                }
            )
    return {
        "throttle_time": 0,
        "results": [
            {
                "error_code": 0,
                "log_dir": log_dir,
                "topics": [{"name": name, "partitions": items} for name, items in topics.items()],
            }
        ],
    }


HANDLERS: dict[ApiKey, Handler] = {
    ApiKey.CREATE_TOPICS: create_topics,
    ApiKey.DELETE_TOPICS: delete_topics,
    ApiKey.DELETE_RECORDS: delete_records,
    ApiKey.CREATE_PARTITIONS: create_partitions,
    ApiKey.ELECT_LEADERS: elect_leaders,
    ApiKey.DESCRIBE_CONFIGS: describe_configs,
    ApiKey.ALTER_CONFIGS: alter_configs,
    ApiKey.INCREMENTAL_ALTER_CONFIGS: incremental_alter_configs,
    ApiKey.DESCRIBE_LOG_DIRS: describe_log_dirs,
}
