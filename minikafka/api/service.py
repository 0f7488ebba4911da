"""What a broker does, as its doors (gRPC, Kafka) call it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Protocol

from minikafka.api.access import ScramDescription
from minikafka.api.groups import (
    DeleteGroupsRequest,
    DeleteGroupsResult,
    DescribeGroupsRequest,
    DescribeGroupsResult,
    FindCoordinatorRequest,
    FindCoordinatorResult,
    HeartbeatRequest,
    HeartbeatResult,
    JoinGroupRequest,
    JoinGroupResult,
    LeaveGroupRequest,
    LeaveGroupResult,
    ListGroupsRequest,
    ListGroupsResult,
    OffsetCommitRequest,
    OffsetCommitResult,
    OffsetDeleteRequest,
    OffsetDeleteResult,
    OffsetFetchRequest,
    OffsetFetchResult,
    SyncGroupRequest,
    SyncGroupResult,
)
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
    DeleteRecordsRequest,
    DeleteRecordsResult,
    EpochEnd,
    EpochEndQuery,
    FetchRequest,
    FetchResult,
    ListOffsetsPartition,
    ListOffsetsResult,
    PartitionStatus,
    ProduceRequest,
    ProduceResult,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    TopicConfigEntry,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.api.transactions import (
    AbortPartition,
    AddOffsetsRequest,
    AddPartitionsRequest,
    CheckPartitionsRequest,
    CheckPartitionsResult,
    DescribedProducers,
    EndTransactionRequest,
    InitProducerIdRequest,
    ListTransactionsRequest,
    ListTransactionsResult,
    NewestOf,
    ProducerIdentity,
    TransactionDescription,
    TxnOffsetCommitRequest,
    WriteMarkersRequest,
    WriteMarkersResult,
)
from minikafka.config.overrides import ConfigDescription
from minikafka.errors import MinikafkaError
from minikafka.model import (
    TopicPartition,
)
from minikafka.security.acl import EntryFilter, ResourceType
from minikafka.security.authorizer import Rule


class GroupService(Protocol):
    """Consumer groups, as the doors call them: errors are in the results, nothing is raised."""

    async def find_coordinator(self, request: FindCoordinatorRequest) -> FindCoordinatorResult:
        """Any broker answers. Creates `__consumer_offsets` if it is not there yet."""

    async def join_group(self, request: JoinGroupRequest) -> JoinGroupResult:
        """Held until the rebalance is over, which may be as long as the largest rebalance timeout
        in the group. If it is cancelled, the member stays until its session ends."""

    async def sync_group(self, request: SyncGroupRequest) -> SyncGroupResult:
        """Held until the leader's assignment is committed."""

    async def heartbeat(self, request: HeartbeatRequest) -> HeartbeatResult: ...
    async def leave_group(self, request: LeaveGroupRequest) -> LeaveGroupResult: ...
    async def commit_offsets(self, request: OffsetCommitRequest) -> OffsetCommitResult: ...
    async def commit_offsets_in_transaction(
        self, request: TxnOffsetCommitRequest
    ) -> OffsetCommitResult:
        """They are staged until the transaction ends, and then count, or go."""

    async def fetch_offsets(self, request: OffsetFetchRequest) -> OffsetFetchResult: ...
    async def delete_offsets(self, request: OffsetDeleteRequest) -> OffsetDeleteResult: ...
    async def describe_groups(self, request: DescribeGroupsRequest) -> DescribeGroupsResult: ...
    async def list_groups(self, request: ListGroupsRequest) -> ListGroupsResult:
        """Those that this broker coordinates: whoever wants all asks every broker."""

    async def delete_groups(self, request: DeleteGroupsRequest) -> DeleteGroupsResult: ...


class TransactionService(Protocol):
    """Transactions, as the doors call them: errors are in the results, nothing is raised."""

    def fences(self, transactional_id: str, producer_id: int, producer_epoch: int) -> bool:
        """Is it known here that whatever this producer asks of the coordinator is refused, as the
        id is another's now? Then it speaks for nobody, and `hears` is not asked."""

    def hears(self, transactional_id: str, kind: NewestOf, connection: int) -> bool:
        """May a request for this id be executed that came on this connection? They are numbered as
        they are accepted. False: a younger one has spoken since; close it (transactions.md, T10).
        To be asked once for each InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn and EndTxn
        (COORDINATION), and each TxnOffsetCommit (OFFSETS)."""

    async def find_coordinator(self, request: FindCoordinatorRequest) -> FindCoordinatorResult:
        """Any broker answers. Creates `__transaction_state` if it is not there yet."""

    async def init_producer_id(self, request: InitProducerIdRequest) -> ProducerIdentity: ...
    async def add_partitions(
        self, request: AddPartitionsRequest
    ) -> Mapping[TopicPartition, MinikafkaError | None]:
        """Of each partition of the request. OperationNotAttemptedError for those that were right
        where another was not."""

    async def prepare_offsets(self) -> None:
        """Create `__consumer_offsets` if it is not there yet. To be awaited before `hears` is asked
        and offsets are added, which are one step then."""

    async def add_offsets(self, request: AddOffsetsRequest) -> MinikafkaError | None: ...
    async def end(self, request: EndTransactionRequest) -> ProducerIdentity:
        """Answered when the decision is committed; what was written becomes visible soon after."""

    async def list_transactions(self, request: ListTransactionsRequest) -> ListTransactionsResult:
        """Those that this broker coordinates: whoever wants all asks every broker."""

    async def describe_transactions(
        self, transactional_ids: Sequence[str]
    ) -> Sequence[TransactionDescription]: ...
    async def describe_producers(
        self, partitions: Sequence[TopicPartition]
    ) -> Sequence[DescribedProducers]:
        """Of partitions that this broker has a replica of."""

    async def abort_partitions(
        self, partitions: Sequence[AbortPartition]
    ) -> Sequence[MinikafkaError | None]:
        """One result for each, in order: at the leaders, for transactions that hang."""


class BrokerService(Protocol):
    """What a broker does, as its doors (the gRPC servers, the Kafka listener) call it.

    Calls raise MinikafkaError when they fail as a whole; errors of single partitions or topics are
    in the results.
    """

    @property
    def groups(self) -> GroupService:
        """Consumer groups."""

    @property
    def transactions(self) -> TransactionService:
        """Transactions."""

    @property
    def broker_id(self) -> int: ...

    # For clients.
    def produce(self, request: ProduceRequest) -> Awaitable[Sequence[ProduceResult]]:
        """Appends in the order of the calls of one source, mostly before it returns; what it
        returns completes when the acks are in (with acks=0: once it is appended)."""

    async def fetch(self, request: FetchRequest) -> Sequence[FetchResult]: ...
    async def list_offsets(
        self, partitions: Sequence[ListOffsetsPartition]
    ) -> Sequence[ListOffsetsResult]: ...
    async def epoch_ends(self, queries: Sequence[EpochEndQuery]) -> Sequence[EpochEnd]: ...
    async def delete_records(self, request: DeleteRecordsRequest) -> Sequence[DeleteRecordsResult]:
        """Delete records below an offset, at the leaders; answers when the ISR has followed."""

    async def metadata(
        self, topics: Sequence[str] | None, allow_auto_create: bool
    ) -> ClusterMetadata:
        """None: all topics. A topic that is not there has an error in its place."""

    def watch(self) -> AsyncIterator[ClusterUpdate]: ...
    async def describe_partitions(
        self, partitions: Sequence[TopicPartition]
    ) -> Sequence[PartitionStatus]: ...
    async def describe_topic_configs(self, topic: str) -> Sequence[TopicConfigEntry]: ...
    async def describe_configs(self, topic: str) -> Sequence[ConfigDescription]:
        """Every property of a topic."""

    def describe_new_topic(
        self, topic: CreateTopic
    ) -> tuple[int, int, Sequence[ConfigDescription]]:
        """Partitions, replicas and properties that a topic would have; it must be a right one."""

    async def describe_broker_configs(self, broker: str) -> Sequence[ConfigDescription]:
        """Every property of this broker; for "" what is set for all brokers. Any other broker has
        to be asked itself: InvalidRequestError."""

    def broker_overrides(self, broker: str) -> Mapping[str, str]:
        """What is stored for a broker's id; for "" what is set for all brokers."""

    def check_broker_configs(self, broker: str, changes: Mapping[str, str | None]) -> None:
        """InvalidConfigError for the first change that cannot be. `administer` checks as well."""

    def check_topic_configs(self, topic: str, overrides: Mapping[str, str]) -> None:
        """UnknownTopicOrPartitionError if there is no such topic, InvalidConfigError for the first
        override that is unknown or has a wrong value."""

    def authorized_operations(self, type: ResourceType, name: str) -> int:
        """What the caller may do with a resource, whether it is there or not: the bit of each
        operation (KIP-430)."""

    async def describe_log_dir(self) -> tuple[str, Sequence[tuple[TopicPartition, int, int]]]:
        """This broker's data directory; for each log in it its size in bytes, and by how many
        records it is behind what this broker knows to be committed."""

    async def broker_metrics(self) -> BrokerMetrics:
        """What this broker has done and holds, as of now."""

    async def init_producer_id(self) -> tuple[int, int]:
        """(producer id, producer epoch)."""

    async def describe_acls(self, asked: EntryFilter) -> Sequence[Rule]:
        """As this broker knows them, those of one pattern together. SecurityDisabledError without
        an authorizer."""

    async def describe_scram(self, users: Sequence[str] | None) -> Sequence[ScramDescription]:
        """Who has which credentials: of these users, each once, or of all who have any. Salts and
        keys are never told."""

    async def administer(self, request: ControllerRequest, timeout_ms: int) -> ControllerResponse:
        """For clients: forwarded to the controller, wherever it is; retries while there is none."""

    # For other brokers.
    async def replica_fetch(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse:
        """Held until there is something to say or max_wait_ms is over. Cancelled when the stream
        ends."""

    async def check_partitions(self, request: CheckPartitionsRequest) -> CheckPartitionsResult:
        """From a partition's leader: is it in a transaction that this broker coordinates?"""

    async def write_markers(self, request: WriteMarkersRequest) -> WriteMarkersResult:
        """From a coordinator: transactions have ended at partitions that this broker leads.
        StaleBrokerEpochError for a message that does not count."""

    async def update_state(self, request: UpdateStateRequest) -> UpdateStateResponse: ...
    async def alter_partition(self, request: AlterPartitionRequest) -> AlterPartitionResponse: ...
    async def controlled_shutdown(
        self, request: ControlledShutdownRequest
    ) -> ControlledShutdownResponse: ...
    async def controller_call(self, request: ControllerRequest) -> ControllerResponse:
        """From another broker: NotControllerError unless this broker is the active controller."""
