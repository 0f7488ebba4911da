"""What the client needs of one broker, as a Protocol: `minikafka.rpc.channel.BrokerChannel` over
gRPC, a fake in the tests.

All calls raise NetworkError when the broker cannot be reached or the connection breaks, and
otherwise the typed error that the broker answered with. A channel reconnects by itself: the client
keeps one per address until it is closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

from minikafka.api.access import ScramDescription
from minikafka.api.groups import FindCoordinatorRequest, FindCoordinatorResult
from minikafka.api.jobs import JobService
from minikafka.api.metrics import BrokerMetrics
from minikafka.api.nodes import NodeService
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
from minikafka.api.service import GroupService
from minikafka.api.transactions import (
    AbortPartition,
    DescribedProducers,
    EndTransactionRequest,
    InitProducerIdRequest,
    ListTransactionsRequest,
    ListTransactionsResult,
    ProducerIdentity,
    TransactionDescription,
)
from minikafka.client.securing import channel_credentials
from minikafka.config.overrides import ConfigDescription
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition
from minikafka.security.acl import EntryFilter
from minikafka.security.authorizer import Rule


class TransactionCalls(Protocol):
    """What clients ask of a TransactionService (api/service.py): they speak TV2, where the leaders
    add partitions to transactions and group coordinators add offsets."""

    async def find_coordinator(self, request: FindCoordinatorRequest) -> FindCoordinatorResult: ...
    async def init_producer_id(self, request: InitProducerIdRequest) -> ProducerIdentity: ...
    async def end(self, request: EndTransactionRequest) -> ProducerIdentity: ...
    async def list_transactions(
        self, request: ListTransactionsRequest
    ) -> ListTransactionsResult: ...
    async def describe_transactions(
        self, transactional_ids: Sequence[str]
    ) -> Sequence[TransactionDescription]: ...
    async def describe_producers(
        self, partitions: Sequence[TopicPartition]
    ) -> Sequence[DescribedProducers]: ...
    async def abort_partitions(
        self, partitions: Sequence[AbortPartition]
    ) -> Sequence[MinikafkaError | None]: ...


class Channel(Protocol):
    """One broker, by its address. Cancelling an awaited call abandons the answer, nothing more."""

    @property
    def groups(self) -> GroupService:
        """Consumer groups. Besides the errors in results, NetworkError is raised as elsewhere."""

    @property
    def transactions(self) -> TransactionCalls:
        """Transactions. Besides the errors in results, NetworkError is raised as elsewhere."""

    @property
    def nodes(self) -> NodeService:
        """The brokers as nodes, with their load."""

    @property
    def jobs(self) -> JobService: ...

    def produce(self, request: ProduceRequest) -> Awaitable[Sequence[ProduceResult]]:
        """Requests reach the broker in the order of the calls; answers may come in another."""

    def fetch(self, request: FetchRequest) -> Awaitable[Sequence[FetchResult]]: ...
    def list_offsets(
        self, partitions: Sequence[ListOffsetsPartition]
    ) -> Awaitable[Sequence[ListOffsetsResult]]: ...
    def metadata(
        self, topics: Sequence[str] | None, allow_auto_create: bool
    ) -> Awaitable[ClusterMetadata]:
        """None: all topics. A topic that is not there has an error in its place."""

    def watch(self, topics: Sequence[str]) -> AsyncIterator[ClusterUpdate]:
        """First everything, then every change. No topics: all."""

    def delete_records(
        self, request: DeleteRecordsRequest
    ) -> Awaitable[Sequence[DeleteRecordsResult]]:
        """Of partitions that this broker leads."""

    def describe_partitions(
        self, partitions: Sequence[TopicPartition]
    ) -> Awaitable[Sequence[PartitionStatus]]: ...
    def describe_topic_configs(self, topic: str) -> Awaitable[Sequence[TopicConfigEntry]]: ...
    def broker_metrics(self) -> Awaitable[BrokerMetrics]:
        """What this broker has done and holds."""

    def describe_configs(self, topic: str) -> Awaitable[Sequence[ConfigDescription]]:
        """Every property of a topic, with where its value comes from."""

    def describe_broker_configs(self, broker: str) -> Awaitable[Sequence[ConfigDescription]]:
        """Every property of this broker, by its id; for "" what is set for all brokers."""

    def describe_acls(self, asked: EntryFilter) -> Awaitable[Sequence[Rule]]: ...
    def describe_scram(self, users: Sequence[str]) -> Awaitable[Sequence[ScramDescription]]:
        """No users: all who have any credential."""

    def init_producer_id(self) -> Awaitable[tuple[int, int]]:
        """(producer id, producer epoch), the id never given before."""

    def administer(
        self, request: ControllerRequest, timeout_ms: int
    ) -> Awaitable[ControllerResponse]: ...
    async def close(self) -> None: ...


Connect = Callable[[str], Channel]


def connect_over_grpc(address: str) -> Channel:
    """The channel of a real broker, over TLS if this process is told so (securing.py); gRPC is
    imported when the first one is made. UsageError for what is wrong with that."""
    from minikafka.rpc.channel import BrokerChannel

    return BrokerChannel(address, credentials=channel_credentials())
