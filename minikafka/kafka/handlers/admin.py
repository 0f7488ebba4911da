"""Administration: topics, partitions, elections, log directories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from minikafka.api.requests import (
    ControllerRequest,
    CreatePartitionsRequest,
    CreateTopic,
    CreateTopicsRequest,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
)
from minikafka.api.service import BrokerService
from minikafka.config.overrides import ConfigDescription
from minikafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidConfigError,
    InvalidRequestError,
    MinikafkaError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    UnknownTopicIdError,
)
from minikafka.kafka import requests
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.connection import Call
from minikafka.kafka.encoding import Values
from minikafka.kafka.handlers.handler import Handler, Handlers
from minikafka.kafka.ids import text_of, uuid_of
from minikafka.kafka.partitions import ask_each
from minikafka.model import TopicPartition, topic_partition
from minikafka.turns import in_slices

Results = Mapping[str, MinikafkaError | None]

MAX_TIMEOUT_MS = 60_000
PREFERRED, UNCLEAN = 0, 1  # the types of an election
_ELECTION_TIMEOUT_MS = 1_000  # to hear at least whether one is needed


def error_fields(error: MinikafkaError | None) -> dict[str, object]:
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


async def create_topics(
    service: BrokerService, call: Call, request: requests.CreateTopics
) -> Values:
    topics = {topic.name: _new_topic(topic) async for topic in in_slices(request.topics)}
    refused = _without_values(request.topics) | _named_twice(t.name for t in request.topics)
    wanted = [topic for name, topic in topics.items() if name not in refused]
    results: dict[str, MinikafkaError | None] = dict(refused)
    if wanted:
        creation = CreateTopicsRequest(wanted, request.validate_only)
        names = [topic.name for topic in wanted]
        results |= await administer(service, creation, request.timeout, names)
        if not request.validate_only:
            _time_out(results, request.timeout)
    answers = []
    async for name, error in in_slices(results.items()):
        answer: dict[str, object] = {
            "name": name,
            **error_fields(error),
            "topic_id": None,
            "num_partitions": -1,
            "replication_factor": -1,
            "configs": [],
        }
        if error is None:
            try:
                if request.validate_only:
                    answer |= _as_planned(*service.describe_new_topic(topics[name]))
                else:
                    answer |= await _as_created(service, name)
            except TopicAuthorizationFailedError as refused:  # made, but not to be looked at
                answer["topic_config_error_code"] = refused.code
        answers.append(answer)
    return {"throttle_time": 0, "topics": answers}


def _new_topic(topic: requests.NewTopic) -> CreateTopic:
    return CreateTopic(
        topic.name,
        topic.num_partitions,
        topic.replication_factor,
        {config.name: config.value or "" for config in topic.configs},
        {item.partition_index: list(item.broker_ids) for item in topic.assignments},
    )


def _without_values(topics: Iterable[requests.NewTopic]) -> dict[str, MinikafkaError]:
    return {
        topic.name: InvalidConfigError(f"{config.name}: null is no value")
        for topic in topics
        for config in topic.configs
        if config.value is None
    }


def _time_out(results: dict[str, MinikafkaError | None], timeout_ms: int) -> None:
    """Who gives no time asks for a thing to be begun, and is told that the time is over."""
    for name, error in results.items():
        if timeout_ms <= 0 and error is None:
            results[name] = RequestTimedOutError(f"{name}: begun, and not waited for")


def _named_twice(names: Iterable[str]) -> dict[str, MinikafkaError]:
    seen: set[str] = set()
    twice: dict[str, MinikafkaError] = {}
    for name in names:
        if name in seen:
            twice[name] = InvalidRequestError(f"topic {name!r} is in the request twice")
        seen.add(name)
    return twice


async def _as_created(service: BrokerService, name: str) -> dict[str, object]:
    """What a client is told of a topic that it has just made (from version 5 on).
    TopicAuthorizationFailedError: nothing."""
    found = await service.metadata([name], False)
    topic = found.topics[0]
    if isinstance(topic.error, TopicAuthorizationFailedError):
        raise topic.error
    if topic.error is not None or not topic.partitions:
        return {}
    factor = len(topic.partitions[0].assignment.replicas)
    described = await service.describe_configs(name)
    answer = _as_planned(len(topic.partitions), factor, described)
    return {**answer, "topic_id": uuid_of(topic.topic_id)}


def _as_planned(
    partitions: int, replication_factor: int, configs: Iterable[ConfigDescription]
) -> dict[str, object]:
    return {
        "num_partitions": partitions,
        "replication_factor": replication_factor,
        "configs": [
            {
                "name": entry.name,
                "value": entry.value,
                "read_only": False,
                "config_source": entry.source,
                "is_sensitive": False,
            }
            for entry in configs
        ],
    }


async def delete_topics(
    service: BrokerService, call: Call, request: requests.DeleteTopics
) -> Values:
    found = await service.metadata(None, False)
    names_by_id = {topic.topic_id: topic.name for topic in found.topics}
    answers: list[Values] = []
    names: list[str] = list(request.topic_names)
    async for topic in in_slices(request.topics):
        topic_id = text_of(topic.topic_id)
        if (topic.name is None) == (topic.topic_id is None):
            neither = InvalidRequestError("a topic has either a name or an id here")
            answers.append(
                {"name": topic.name, "topic_id": topic.topic_id, **error_fields(neither)}
            )
        elif topic.name is not None:
            names.append(topic.name)
        elif topic_id in names_by_id:
            names.append(names_by_id[topic_id])
        else:
            unknown = UnknownTopicIdError(f"there is no topic of id {topic_id}")
            answers.append({"name": None, "topic_id": topic.topic_id, **error_fields(unknown)})
    ids = {topic.name: uuid_of(topic.topic_id) for topic in found.topics if topic.topic_id}
    if names:
        twice = _named_twice(names)
        results: dict[str, MinikafkaError | None] = dict(twice)
        wanted = [name for name in names if name not in results]
        if wanted:
            deletion = DeleteTopicsRequest(wanted)
            results |= await administer(service, deletion, request.timeout, wanted)
        _time_out(results, request.timeout)
        answers += [
            {
                "name": name,
                "topic_id": None if name in twice else ids.get(name),
                **error_fields(error),
            }
            async for name, error in in_slices(results.items())
        ]
    return {"throttle_time": 0, "responses": answers}


async def create_partitions(
    service: BrokerService, call: Call, request: requests.CreatePartitions
) -> Values:
    results: dict[str, MinikafkaError | None] = dict(_named_twice(t.name for t in request.topics))
    for topic in request.topics:
        if topic.name in results:
            continue
        assignments = [list(item.broker_ids) for item in topic.assignments or ()]
        growth = CreatePartitionsRequest(
            topic.name, topic.count, assignments, request.validate_only
        )
        results |= await administer(service, growth, request.timeout, [topic.name])
    if not request.validate_only:
        _time_out(results, request.timeout)
    answers = [{"name": name, **error_fields(error)} for name, error in results.items()]
    return {"throttle_time": 0, "results": answers}


async def delete_records(
    service: BrokerService, call: Call, request: requests.DeleteRecords
) -> Values:
    timeout_ms = limited_timeout_ms(request.timeout)
    topics = await ask_each(
        request.topics,
        lambda partition, item: DeleteRecordsPartition(partition, item.offset),
        lambda asked: service.delete_records(DeleteRecordsRequest(timeout_ms, asked)),
        lambda result: {"low_watermark": result.low_watermark},
    )
    return {"throttle_time": 0, "topics": topics}


async def elect_leaders(
    service: BrokerService, call: Call, request: requests.ElectLeaders
) -> Values:
    election_type = request.election_type
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
    failed: MinikafkaError | None = None
    results: dict[TopicPartition, MinikafkaError | None]
    try:
        if election_type not in (PREFERRED, UNCLEAN):
            raise InvalidRequestError(f"there is no election of type {election_type}")
        election = ElectLeadersRequest(election_type == UNCLEAN, named)
        timeout_ms = limited_timeout_ms(max(request.timeout, _ELECTION_TIMEOUT_MS))
        answer = await service.administer(election, timeout_ms)
        results = {result.topic_partition: result.error for result in answer.partitions}
    except MinikafkaError as raised:
        # Of the request as a whole, which may name no partition, and of each that it names.
        failed, results = raised, dict.fromkeys(named, raised)
    by_topic: dict[str, list[Values]] = {}
    async for each, error in in_slices(results.items()):
        result = {"partition_id": each.partition, **error_fields(error)}
        by_topic.setdefault(each.topic, []).append(result)
    return {
        "throttle_time": 0,
        "error_code": 0 if failed is None else failed.code,
        "replica_election_results": [
            {"topic": topic, "partition_result": items} for topic, items in by_topic.items()
        ],
    }


# --- log directories -----------------------------------------------------------------------------


async def describe_log_dirs(
    service: BrokerService, call: Call, request: requests.DescribeLogDirs
) -> Values:
    wanted: set[TopicPartition] | None = None
    if request.topics is not None:
        wanted = {
            topic_partition(topic.topic, index)
            for topic in request.topics
            for index in topic.partitions
        }
    try:
        log_dir, sizes = await service.describe_log_dir()
    except ClusterAuthorizationFailedError as refused:
        return {"throttle_time": 0, "error_code": refused.code, "results": []}
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


HANDLERS: Handlers = {
    ApiKey.CREATE_TOPICS: Handler(requests.CreateTopics, create_topics),
    ApiKey.DELETE_TOPICS: Handler(requests.DeleteTopics, delete_topics),
    ApiKey.DELETE_RECORDS: Handler(requests.DeleteRecords, delete_records),
    ApiKey.CREATE_PARTITIONS: Handler(requests.CreatePartitions, create_partitions),
    ApiKey.ELECT_LEADERS: Handler(requests.ElectLeaders, elect_leaders),
    ApiKey.DESCRIBE_LOG_DIRS: Handler(requests.DescribeLogDirs, describe_log_dirs),
}
