"""Clients of a BrokerCluster without gRPC: a channel that calls the typed services directly, by the
port, which is the broker's id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

from minikafka.api.metrics import BrokerMetrics
from minikafka.api.requests import (
    ClusterMetadata,
    ClusterUpdate,
    ControllerRequest,
    ControllerResponse,
    DeleteRecordsRequest,
    DeleteRecordsResult,
    FetchRequest,
    FetchResult,
    ListOffsetsPartition,
    ListOffsetsResult,
    PartitionStatus,
    ProduceRequest,
    ProduceResult,
    TopicConfigEntry,
)
from minikafka.config.overrides import ConfigDescription
from minikafka.model import TopicPartition
from tests.helpers.brokers import BrokerCluster

_CLIENT = 0  # no broker has this id
_LONG_MS = 600_000


class ServiceChannel:
    """One broker; NetworkError when it is not there, or dies while it is asked."""

    def __init__(self, cluster: BrokerCluster, address: str) -> None:
        self._cluster = cluster
        self._broker_id = int(address.rpartition(":")[2])
        self.groups: Any = _Calls(self, "groups")
        self.transactions: Any = _Calls(self, "transactions")

    async def call(self, what: Any) -> Any:
        return await self._cluster.network.call(_CLIENT, self._broker_id, what, _LONG_MS)

    async def produce(self, request: ProduceRequest) -> Sequence[ProduceResult]:
        return await self.call(lambda service: service.produce(request))

    async def fetch(self, request: FetchRequest) -> Sequence[FetchResult]:
        return await self.call(lambda service: service.fetch(request))

    async def list_offsets(
        self, partitions: Sequence[ListOffsetsPartition]
    ) -> Sequence[ListOffsetsResult]:
        return await self.call(lambda service: service.list_offsets(partitions))

    async def metadata(
        self, topics: Sequence[str] | None, allow_auto_create: bool
    ) -> ClusterMetadata:
        return await self.call(lambda service: service.metadata(topics, allow_auto_create))

    def watch(self, topics: Sequence[str]) -> AsyncIterator[ClusterUpdate]:
        raise NotImplementedError

    async def delete_records(self, request: DeleteRecordsRequest) -> Sequence[DeleteRecordsResult]:
        return await self.call(lambda service: service.delete_records(request))

    async def describe_partitions(
        self, partitions: Sequence[TopicPartition]
    ) -> Sequence[PartitionStatus]:
        return await self.call(lambda service: service.describe_partitions(partitions))

    async def describe_topic_configs(self, topic: str) -> Sequence[TopicConfigEntry]:
        return await self.call(lambda service: service.describe_topic_configs(topic))

    async def broker_metrics(self) -> BrokerMetrics:
        return await self.call(lambda service: service.broker_metrics())

    async def describe_configs(self, topic: str) -> Sequence[ConfigDescription]:
        return await self.call(lambda service: service.describe_configs(topic))

    async def describe_broker_configs(self, broker: str) -> Sequence[ConfigDescription]:
        return await self.call(lambda service: service.describe_broker_configs(broker))

    async def init_producer_id(self) -> tuple[int, int]:
        return await self.call(lambda service: service.init_producer_id())

    async def administer(self, request: ControllerRequest, timeout_ms: int) -> ControllerResponse:
        return await self.call(lambda service: service.administer(request, timeout_ms))

    async def close(self) -> None:
        pass


class _Calls:
    """The calls of one part of a broker's service."""

    def __init__(self, channel: ServiceChannel, part: str) -> None:
        self._channel, self._part = channel, part

    def __getattr__(self, name: str) -> Any:
        def ask(request: Any) -> Awaitable[Any]:
            return self._channel.call(
                lambda service: getattr(getattr(service, self._part), name)(request)
            )

        return ask
