"""A broker's service as one caller may use it: it filters what is asked, refuses, and delegates the
rest to the raw service. What a call needs stands with it.

Invariants: nothing of what is refused reaches the raw service; results come in the order in which
they were asked for; where all is allowed, the request reaches it as the object that it is. What
there is and may not be described is answered as what there is not.

State: none but the parts'. There is one a connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from minikafka.api.access import ScramDescription
from minikafka.api.metrics import BrokerMetrics
from minikafka.api.requests import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    ClusterMetadata,
    ClusterUpdate,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    ControllerRequest,
    ControllerResponse,
    CreateTopic,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResult,
    EpochEnd,
    EpochEndQuery,
    FetchRequest,
    FetchResult,
    ListOffsetsPartition,
    ListOffsetsResult,
    PartitionStatus,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    TopicConfigEntry,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.api.service import BrokerService
from minikafka.api.transactions import (
    CheckPartitionsRequest,
    CheckPartitionsResult,
    WriteMarkersRequest,
    WriteMarkersResult,
)
from minikafka.broker.guard.administration import administer
from minikafka.broker.guard.asking import Asking, merged, without
from minikafka.broker.guard.audit import AUDIT, Audit
from minikafka.broker.guard.groups import GuardedGroups
from minikafka.broker.guard.producing import GuardedProducing
from minikafka.broker.guard.seeing import metadata
from minikafka.broker.guard.transactions import GuardedTransactions
from minikafka.broker.guard.watching import watch
from minikafka.config.overrides import ConfigDescription
from minikafka.model import TopicPartition
from minikafka.security.acl import EntryFilter, Operation, ResourceType
from minikafka.security.authorizer import Authorizer, Rule
from minikafka.security.principal import Caller

_TOPIC = ResourceType.TOPIC


def service_for(
    service: BrokerService,
    authorizer: Authorizer | None,
    caller: Caller,
    audit: Audit = AUDIT,
) -> BrokerService:
    """What a door serves this caller from, for as long as the connection lasts: the service itself
    where nobody judges."""
    if authorizer is None:
        return service
    return GuardedService(service, Asking(authorizer, caller, audit))


class GuardedService(GuardedProducing):
    """Implements BrokerService over another one, for the caller of `asking`."""

    def __init__(self, service: BrokerService, asking: Asking) -> None:
        super().__init__(service, asking)
        self._groups = GuardedGroups(service.groups, asking)
        self._transactions = GuardedTransactions(service.transactions, asking)

    @property
    def groups(self) -> GuardedGroups:
        return self._groups

    @property
    def transactions(self) -> GuardedTransactions:
        return self._transactions

    @property
    def broker_id(self) -> int:
        return self._service.broker_id

    # --- records ---------------------------------------------------------------------------------

    def fetch(self, request: FetchRequest) -> Coroutine[Any, Any, Sequence[FetchResult]]:
        """Read on the topics. If none is allowed, nothing is waited for."""
        if self._asking.is_open(Operation.READ, request.partitions):
            return self._service.fetch(request)
        return self._fetch(request)

    async def _fetch(self, request: FetchRequest) -> Sequence[FetchResult]:
        topics = (each.topic_partition.topic for each in request.partitions)
        refused = await self._asking.refusals("Fetch", Operation.READ, _TOPIC, topics)
        if not refused:
            return await self._service.fetch(request)
        allowed = await without(request.partitions, refused)
        found: Sequence[FetchResult] = ()
        if allowed:
            found = await self._service.fetch(replace(request, partitions=allowed))
        asked = [each.topic_partition for each in request.partitions]
        return merged(asked, refused, found, FetchResult)

    async def list_offsets(
        self, partitions: Sequence[ListOffsetsPartition]
    ) -> Sequence[ListOffsetsResult]:
        """Describe on the topics."""
        return await self._asking.of_topics(
            "ListOffsets",
            Operation.DESCRIBE,
            partitions,
            self._service.list_offsets,
            ListOffsetsResult,
        )

    async def epoch_ends(self, queries: Sequence[EpochEndQuery]) -> Sequence[EpochEnd]:
        """Describe on the topics."""
        return await self._asking.of_topics(
            "OffsetForLeaderEpoch", Operation.DESCRIBE, queries, self._service.epoch_ends, EpochEnd
        )

    async def delete_records(self, request: DeleteRecordsRequest) -> Sequence[DeleteRecordsResult]:
        """Delete on the topics."""

        async def ask(allowed: Sequence[DeleteRecordsPartition]) -> Sequence[DeleteRecordsResult]:
            if allowed is not request.partitions:
                return await self._service.delete_records(replace(request, partitions=allowed))
            return await self._service.delete_records(request)

        return await self._asking.of_topics(
            "DeleteRecords", Operation.DELETE, request.partitions, ask, DeleteRecordsResult
        )

    async def init_producer_id(self) -> tuple[int, int]:
        """Write on any topic, or IdempotentWrite on the cluster (KIP-679)."""
        request, operation = "InitProducerId", Operation.IDEMPOTENT_WRITE
        if not self._asking.may(request, operation, named=False) and not self._asking.allows_any(
            request, Operation.WRITE, _TOPIC
        ):
            self._asking.require(request, operation)  # which says so
        return await self._service.init_producer_id()

    # --- the cluster -----------------------------------------------------------------------------

    async def metadata(
        self, topics: Sequence[str] | None, allow_auto_create: bool
    ) -> ClusterMetadata:
        """See seeing.py."""
        return await metadata(self._service, self._asking, topics, allow_auto_create)

    def watch(self) -> AsyncIterator[ClusterUpdate]:
        """See watching.py."""
        return watch(self._service, self._asking)

    async def describe_partitions(
        self, partitions: Sequence[TopicPartition]
    ) -> Sequence[PartitionStatus]:
        """Describe on the topics."""
        return await self._asking.of_partitions(
            "DescribePartitions",
            Operation.DESCRIBE,
            partitions,
            self._service.describe_partitions,
            PartitionStatus,
        )

    def authorized_operations(self, type: ResourceType, name: str) -> int:
        return self._asking.operations(type, name)

    async def describe_log_dir(self) -> tuple[str, Sequence[tuple[TopicPartition, int, int]]]:
        """Describe on the cluster."""
        self._asking.require("DescribeLogDirs", Operation.DESCRIBE)
        return await self._service.describe_log_dir()

    async def broker_metrics(self) -> BrokerMetrics:
        """Describe on the cluster."""
        self._asking.require("GetBrokerMetrics", Operation.DESCRIBE)
        return await self._service.broker_metrics()

    # --- configurations: (Describe|Alter)Configs on the topic, or on the cluster for brokers ------

    def _require_of_topic(self, request: str, operation: Operation, topic: str) -> None:
        error = self._asking.refusal(request, operation, _TOPIC, topic)
        if error is not None:
            raise error

    async def describe_topic_configs(self, topic: str) -> Sequence[TopicConfigEntry]:
        self._require_of_topic("DescribeConfigs", Operation.DESCRIBE_CONFIGS, topic)
        return await self._service.describe_topic_configs(topic)

    async def describe_configs(self, topic: str) -> Sequence[ConfigDescription]:
        self._require_of_topic("DescribeConfigs", Operation.DESCRIBE_CONFIGS, topic)
        return await self._service.describe_configs(topic)

    def describe_new_topic(
        self, topic: CreateTopic
    ) -> tuple[int, int, Sequence[ConfigDescription]]:
        self._require_of_topic("CreateTopics", Operation.DESCRIBE_CONFIGS, topic.name)
        return self._service.describe_new_topic(topic)

    def check_topic_configs(self, topic: str, overrides: Mapping[str, str]) -> None:
        self._require_of_topic("AlterConfigs", Operation.ALTER_CONFIGS, topic)
        self._service.check_topic_configs(topic, overrides)

    async def describe_broker_configs(self, broker: str) -> Sequence[ConfigDescription]:
        self._asking.require("DescribeConfigs", Operation.DESCRIBE_CONFIGS)
        return await self._service.describe_broker_configs(broker)

    def broker_overrides(self, broker: str) -> Mapping[str, str]:
        self._asking.require("DescribeConfigs", Operation.DESCRIBE_CONFIGS)
        return self._service.broker_overrides(broker)

    def check_broker_configs(self, broker: str, changes: Mapping[str, str | None]) -> None:
        self._asking.require("AlterConfigs", Operation.ALTER_CONFIGS)
        self._service.check_broker_configs(broker, changes)

    # --- access ----------------------------------------------------------------------------------

    async def describe_acls(self, asked: EntryFilter) -> Sequence[Rule]:
        self._asking.require("DescribeAcls", Operation.DESCRIBE)
        return await self._service.describe_acls(asked)

    async def describe_scram(self, users: Sequence[str] | None) -> Sequence[ScramDescription]:
        self._asking.require("DescribeUserScramCredentials", Operation.DESCRIBE)
        return await self._service.describe_scram(users)

    # --- the controller --------------------------------------------------------------------------

    async def administer(self, request: ControllerRequest, timeout_ms: int) -> ControllerResponse:
        """See administration.py."""
        return await administer(self._service, self._asking, request, timeout_ms)

    # --- for other brokers: ClusterAction ---------------------------------------------------------

    async def replica_fetch(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse:
        self._asking.require("ReplicaFetch", Operation.CLUSTER_ACTION)
        return await self._service.replica_fetch(request)

    async def check_partitions(self, request: CheckPartitionsRequest) -> CheckPartitionsResult:
        self._asking.require("CheckPartitions", Operation.CLUSTER_ACTION)
        return await self._service.check_partitions(request)

    async def write_markers(self, request: WriteMarkersRequest) -> WriteMarkersResult:
        self._asking.require("WriteTxnMarkers", Operation.CLUSTER_ACTION)
        return await self._service.write_markers(request)

    async def update_state(self, request: UpdateStateRequest) -> UpdateStateResponse:
        self._asking.require("UpdateState", Operation.CLUSTER_ACTION)
        return await self._service.update_state(request)

    async def alter_partition(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        self._asking.require("AlterPartition", Operation.CLUSTER_ACTION)
        return await self._service.alter_partition(request)

    async def controlled_shutdown(
        self, request: ControlledShutdownRequest
    ) -> ControlledShutdownResponse:
        self._asking.require("ControlledShutdown", Operation.CLUSTER_ACTION)
        return await self._service.controlled_shutdown(request)

    async def controller_call(self, request: ControllerRequest) -> ControllerResponse:
        self._asking.require(type(request).__name__, Operation.CLUSTER_ACTION)
        return await self._service.controller_call(request)
