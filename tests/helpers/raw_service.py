"""A raw service that writes down what reaches it, and says of each thing that it is well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from minikafka.api.groups import (
    CommittedOffset,
    DeletedGroup,
    DeleteGroupsResult,
    DescribeGroupsResult,
    FindCoordinatorResult,
    FoundCoordinator,
    GroupDescription,
    HeartbeatResult,
    JoinGroupResult,
    LeaveGroupResult,
    ListedGroup,
    ListGroupsResult,
    OffsetCommitPartitionResult,
    OffsetCommitResult,
    OffsetDeleteResult,
    OffsetFetchGroupResult,
    OffsetFetchResult,
    SyncGroupResult,
)
from minikafka.api.requests import (
    ClusterMetadata,
    ControllerResponse,
    CreateTopicsRequest,
    DeleteRecordsResult,
    DeleteTopicsRequest,
    EpochEnd,
    FetchResult,
    ListOffsetsResult,
    NamedResult,
    PartitionStatus,
    ProduceResult,
    TopicMetadata,
)
from minikafka.api.transactions import (
    DescribedProducers,
    ListedTransaction,
    ListTransactionsResult,
    ProducerIdentity,
    TransactionDescription,
)
from minikafka.config.overrides import ConfigDescription, ConfigSource
from minikafka.errors import UnknownTopicOrPartitionError
from minikafka.model import TopicPartition

Calls = list[tuple[str, tuple[Any, ...]]]


class Recorder:
    """Any method: what `answers` has for its name, or its name."""

    def __init__(self, calls: Calls, answers: dict[str, Callable[..., Any]]) -> None:
        self.calls = calls
        self.answers = answers

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        answer = self.answers.get(name, lambda *args: name)

        def at_once(*args: Any) -> Any:
            self.calls.append((name, args))
            return answer(*args)

        async def later(*args: Any) -> Any:
            return at_once(*args)

        return at_once if name in AT_ONCE else later


AT_ONCE = {
    *("produce", "watch", "fences", "hears", "describe_new_topic", "broker_overrides"),
    *("check_topic_configs", "check_broker_configs", "authorized_operations"),
}


class RawService(Recorder):
    """`topics` are there; `makes_topics` is auto.create.topics.enable."""

    broker_id = 7

    def __init__(self, topics: Sequence[str] = ("a", "b", "c"), makes_topics: bool = True) -> None:
        calls: Calls = []
        super().__init__(
            calls,
            {
                "produce": self._produced,
                "fetch": lambda r: [FetchResult(each.topic_partition) for each in r.partitions],
                "list_offsets": lambda r: [ListOffsetsResult(each.topic_partition) for each in r],
                "epoch_ends": lambda r: [EpochEnd(each.topic_partition) for each in r],
                "delete_records": lambda r: [
                    DeleteRecordsResult(each.topic_partition) for each in r.partitions
                ],
                "describe_partitions": lambda r: [PartitionStatus(each) for each in _once(r)],
                "metadata": self._metadata,
                "administer": self._administered,
                "describe_broker_configs": self._broker_configs,
            },
        )
        self.topics = list(topics)
        self.makes_topics = makes_topics
        self.groups: Any = Recorder(calls, GROUPS)
        self.transactions: Any = Recorder(calls, TRANSACTIONS)

    def _produced(self, request: Any) -> asyncio.Future[Any]:
        answer = asyncio.get_running_loop().create_future()
        answer.set_result([ProduceResult(each.topic_partition) for each in request.partitions])
        return answer

    def _metadata(self, names: Any, create: bool) -> ClusterMetadata:
        wanted = self.topics if names is None else _once(names)
        if create and self.makes_topics:
            self.topics += [name for name in wanted if name not in self.topics]
        missing = UnknownTopicOrPartitionError("there is none")
        topics = [
            TopicMetadata(name, error=None if name in self.topics else missing) for name in wanted
        ]
        return ClusterMetadata("cluster", 1, 1, [], topics)

    def _administered(self, request: Any, timeout_ms: int) -> ControllerResponse:
        if isinstance(request, CreateTopicsRequest):
            return ControllerResponse([NamedResult(each.name) for each in request.topics])
        if isinstance(request, DeleteTopicsRequest):
            return ControllerResponse([NamedResult(each) for each in request.names])
        return ControllerResponse([NamedResult("whatever it was")])

    def _broker_configs(self, broker: str) -> list[ConfigDescription]:
        value = "true" if self.makes_topics else "false"
        name = "auto.create.topics.enable"
        return [ConfigDescription(name, value, "boolean", "", False, ConfigSource.DEFAULT, [])]


def _once(items: Any) -> list[Any]:
    return list(dict.fromkeys(items))


def _committed(request: Any) -> OffsetCommitResult:
    named = _once(each.topic_partition for each in request.partitions)
    return OffsetCommitResult([OffsetCommitPartitionResult(each) for each in named])


COMMITTED = [TopicPartition(topic, 0) for topic in "abc"]

GROUPS: dict[str, Callable[..., Any]] = {
    "find_coordinator": lambda r: FindCoordinatorResult(
        [FoundCoordinator(each, None) for each in _once(r.keys)]
    ),
    "join_group": lambda r: JoinGroupResult(None, "member"),
    "sync_group": lambda r: SyncGroupResult(None),
    "heartbeat": lambda r: HeartbeatResult(None),
    "leave_group": lambda r: LeaveGroupResult(None),
    "commit_offsets": _committed,
    "commit_offsets_in_transaction": _committed,
    "fetch_offsets": lambda r: OffsetFetchResult(
        [
            OffsetFetchGroupResult(
                each.group_id,
                None,
                [
                    CommittedOffset(one, 5)
                    for one in (COMMITTED if each.partitions is None else each.partitions)
                ],
            )
            for each in r.groups
        ]
    ),
    # In another order than asked for, as the group has it.
    "delete_offsets": lambda r: OffsetDeleteResult(
        None, [OffsetCommitPartitionResult(each) for each in reversed(_once(r.partitions))]
    ),
    "describe_groups": lambda r: DescribeGroupsResult(
        [GroupDescription(each, None) for each in _once(r.group_ids)]
    ),
    "list_groups": lambda r: ListGroupsResult(
        None, [ListedGroup(each, "consumer", "Stable") for each in "abc"]
    ),
    "delete_groups": lambda r: DeleteGroupsResult([DeletedGroup(e) for e in _once(r.group_ids)]),
}

TRANSACTIONS: dict[str, Callable[..., Any]] = {
    "fences": lambda *args: False,
    "hears": lambda *args: False,
    "find_coordinator": GROUPS["find_coordinator"],
    "init_producer_id": lambda r: ProducerIdentity(None, 1, 1),
    "end": lambda r: ProducerIdentity(None, 1, 1),
    "add_partitions": lambda r: dict.fromkeys(r.partitions),
    "add_offsets": lambda r: None,
    "list_transactions": lambda r: ListTransactionsResult(
        None, [ListedTransaction(each, 1, "Empty") for each in "abc"]
    ),
    "describe_transactions": lambda ids: [
        TransactionDescription(each, partitions=COMMITTED) for each in _once(ids)
    ],
    "describe_producers": lambda r: [DescribedProducers(each) for each in _once(r)],
    "abort_partitions": lambda r: [None for _ in r],
}
