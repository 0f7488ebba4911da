"""Reassignments (KIP-455): replicas of a partition move to other brokers."""

from __future__ import annotations

from collections.abc import Sequence

from minikafka.api.requests import AlterReassignmentsRequest, ListReassignmentsRequest
from minikafka.api.service import BrokerService
from minikafka.errors import MinikafkaError
from minikafka.kafka import requests
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.connection import Call
from minikafka.kafka.encoding import Values
from minikafka.kafka.handlers.admin import error_fields, limited_timeout_ms
from minikafka.kafka.handlers.handler import Handler, Handlers
from minikafka.model import TopicPartition, topic_partition
from minikafka.turns import in_slices


async def alter_partition_reassignments(
    service: BrokerService, call: Call, request: requests.AlterPartitionReassignments
) -> Values:
    """Partitions without replicas have their reassignment cancelled."""
    targets: dict[TopicPartition, Sequence[int] | None] = {
        topic_partition(name, item.partition_index): (
            None if item.replicas is None else list(item.replicas)
        )
        async for name, item in in_slices(
            (topic.name, item) for topic in request.topics for item in topic.partitions
        )
    }
    results: dict[TopicPartition, MinikafkaError | None] = {}
    if targets:
        alteration = AlterReassignmentsRequest(targets)
        try:
            answer = await service.administer(alteration, limited_timeout_ms(request.timeout))
        except MinikafkaError as error:
            results = dict.fromkeys(targets, error)
        else:
            results = {result.topic_partition: result.error for result in answer.partitions}
    by_topic: dict[str, list[Values]] = {}
    async for each in in_slices(targets):
        result = {"partition_index": each.partition, **error_fields(results[each])}
        by_topic.setdefault(each.topic, []).append(result)
    return {
        "throttle_time": 0,
        **error_fields(None),
        "responses": [{"name": name, "partitions": items} for name, items in by_topic.items()],
    }


async def list_partition_reassignments(
    service: BrokerService, call: Call, request: requests.ListPartitionReassignments
) -> Values:
    """Those that are under way: of the partitions that are named, or of all (null)."""
    named = [
        topic_partition(name, index)
        async for name, index in in_slices(
            (topic.name, index)
            for topic in request.topics or ()
            for index in topic.partition_indexes
        )
    ]
    by_topic: dict[str, list[Values]] = {}
    error: MinikafkaError | None = None
    if named or request.topics is None:
        question = ListReassignmentsRequest(named)
        try:
            found = await service.administer(question, limited_timeout_ms(request.timeout))
        except MinikafkaError as raised:
            error = raised
        else:
            for each, assignment in sorted(found.reassignments.items()):
                by_topic.setdefault(each.topic, []).append(
                    {
                        "partition_index": each.partition,
                        "replicas": list(assignment.replicas),
                        "adding_replicas": list(assignment.adding),
                        "removing_replicas": list(assignment.removing),
                    }
                )
    return {
        "throttle_time": 0,
        **error_fields(error),
        "topics": [{"name": name, "partitions": items} for name, items in by_topic.items()],
    }


HANDLERS: Handlers = {
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: Handler(
        requests.AlterPartitionReassignments, alter_partition_reassignments
    ),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: Handler(
        requests.ListPartitionReassignments, list_partition_reassignments
    ),
}
