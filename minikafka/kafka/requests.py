"""The requests that handlers get: of every API what is read of it, whatever its version.

The names are kio's, the types those of decoding.py. Where a version lacks a field, it has the value
that is given here; one without a value is in every version that is served. Fields that nobody reads
are left out. A test holds all of it against kio's definitions.

These are no dataclasses: sixty of those take a broker some 50 ms when it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from minikafka.kafka.decoding import Structure

# --- the cluster ---------------------------------------------------------------------------------


class Metadata(Structure):
    topics: Sequence[MetadataTopic] | None
    allow_auto_topic_creation: bool = True
    include_cluster_authorized_operations: bool = False
    include_topic_authorized_operations: bool = False


class MetadataTopic(Structure):
    name: str | None
    topic_id: UUID | None = None


class DescribeCluster(Structure):
    include_cluster_authorized_operations: bool
    endpoint_type: int = 1


# --- offsets of partitions ------------------------------------------------------------------------


class ListOffsets(Structure):
    topics: Sequence[ListOffsetsTopic]
    isolation_level: int = 0


class ListOffsetsTopic(Structure):
    name: str
    partitions: Sequence[ListOffsetsPartition]


class ListOffsetsPartition(Structure):
    partition_index: int
    timestamp: int
    current_leader_epoch: int = -1


class OffsetForLeaderEpoch(Structure):
    topics: Sequence[OffsetForLeaderTopic]


class OffsetForLeaderTopic(Structure):
    topic: str
    partitions: Sequence[OffsetForLeaderPartition]

    @property
    def name(self) -> str:
        """As other requests call it."""
        return self.topic


class OffsetForLeaderPartition(Structure):
    partition: int
    leader_epoch: int
    current_leader_epoch: int

    @property
    def partition_index(self) -> int:
        """As other requests call it."""
        return self.partition


# --- topics --------------------------------------------------------------------------------------


class CreateTopics(Structure):
    topics: Sequence[NewTopic]
    timeout: int
    validate_only: bool


class NewTopic(Structure):
    name: str
    num_partitions: int
    replication_factor: int
    assignments: Sequence[NewTopicAssignment]
    configs: Sequence[NewTopicConfig]


class NewTopicAssignment(Structure):
    partition_index: int
    broker_ids: Sequence[int]


class NewTopicConfig(Structure):
    name: str
    value: str | None


class DeleteTopics(Structure):
    """By `topic_names`, and from some version on by `topics`."""

    timeout: int
    topic_names: Sequence[str] = ()
    topics: Sequence[DeletedTopic] = ()


class DeletedTopic(Structure):
    name: str | None
    topic_id: UUID | None


class CreatePartitions(Structure):
    topics: Sequence[GrownTopic]
    timeout: int
    validate_only: bool


class GrownTopic(Structure):
    name: str
    count: int
    assignments: Sequence[GrownTopicAssignment] | None


class GrownTopicAssignment(Structure):
    broker_ids: Sequence[int]


class DeleteRecords(Structure):
    topics: Sequence[DeleteRecordsTopic]
    timeout: int


class DeleteRecordsTopic(Structure):
    name: str
    partitions: Sequence[DeleteRecordsPartition]


class DeleteRecordsPartition(Structure):
    partition_index: int
    offset: int


# --- elections, reassignments, log directories ---------------------------------------------------


class PartitionsOfTopic(Structure):
    topic: str
    partitions: Sequence[int]


class ElectLeaders(Structure):
    topic_partitions: Sequence[PartitionsOfTopic] | None
    timeout: int
    election_type: int = 0


class AlterPartitionReassignments(Structure):
    topics: Sequence[ReassignedTopic]
    timeout: int


class ReassignedTopic(Structure):
    name: str
    partitions: Sequence[ReassignedPartition]


class ReassignedPartition(Structure):
    partition_index: int
    replicas: Sequence[int] | None


class PartitionIndexes(Structure):
    """Of one topic."""

    name: str
    partition_indexes: Sequence[int]


class ListPartitionReassignments(Structure):
    topics: Sequence[PartitionIndexes] | None
    timeout: int


class DescribeLogDirs(Structure):
    topics: Sequence[PartitionsOfTopic] | None


# --- configurations ------------------------------------------------------------------------------


class DescribeConfigs(Structure):
    resources: Sequence[DescribedResource]
    include_synonyms: bool
    include_documentation: bool = False


class DescribedResource(Structure):
    resource_type: int
    resource_name: str
    configuration_keys: Sequence[str] | None


class AlteredConfig(Structure):
    """`config_operation` where there are several, 0 (set) where there is none."""

    name: str
    value: str | None
    config_operation: int = 0


class AlteredResource(Structure):
    resource_type: int
    resource_name: str
    configs: Sequence[AlteredConfig]


class AlterConfigs(Structure):
    """Of IncrementalAlterConfigs as well."""

    resources: Sequence[AlteredResource]
    validate_only: bool


# --- groups --------------------------------------------------------------------------------------


class FindCoordinator(Structure):
    """One `key`, and from some version on several `coordinator_keys`."""

    key: str = ""
    key_type: int = 0
    coordinator_keys: Sequence[str] = ()


class JoinGroup(Structure):
    """`rebalance_timeout` None: before there was one, a rebalance might last as long as a
    session."""

    group_id: str
    session_timeout: int
    member_id: str
    protocol_type: str
    protocols: Sequence[JoinGroupProtocol]
    rebalance_timeout: int | None = None
    group_instance_id: str | None = None


class JoinGroupProtocol(Structure):
    name: str
    metadata: bytes


class SyncGroup(Structure):
    group_id: str
    generation_id: int
    member_id: str
    assignments: Sequence[SyncGroupAssignment]
    group_instance_id: str | None = None
    protocol_type: str | None = None
    protocol_name: str | None = None


class SyncGroupAssignment(Structure):
    member_id: str
    assignment: bytes


class Heartbeat(Structure):
    group_id: str
    generation_id: int
    member_id: str
    group_instance_id: str | None = None


class LeaveGroup(Structure):
    """One member by its `member_id`, and from some version on several `members`."""

    group_id: str
    member_id: str = ""
    members: Sequence[LeavingMember] = ()


class LeavingMember(Structure):
    member_id: str
    group_instance_id: str | None


class OffsetCommit(Structure):
    group_id: str
    generation_id_or_member_epoch: int
    member_id: str
    topics: Sequence[OffsetCommitTopic]
    group_instance_id: str | None = None


class OffsetCommitTopic(Structure):
    name: str
    partitions: Sequence[OffsetCommitPartition]


class OffsetCommitPartition(Structure):
    partition_index: int
    committed_offset: int
    committed_metadata: str | None
    committed_leader_epoch: int = -1


class OffsetFetch(Structure):
    """Of one group, and from some version on of several `groups`."""

    group_id: str = ""
    topics: Sequence[PartitionIndexes] | None = None
    groups: Sequence[OffsetFetchGroup] = ()
    require_stable: bool = False


class OffsetFetchGroup(Structure):
    group_id: str
    topics: Sequence[PartitionIndexes] | None


class OffsetDelete(Structure):
    group_id: str
    topics: Sequence[OffsetDeleteTopic]


class OffsetDeleteTopic(Structure):
    name: str
    partitions: Sequence[OffsetDeletePartition]


class OffsetDeletePartition(Structure):
    partition_index: int


class DescribeGroups(Structure):
    groups: Sequence[str]
    include_authorized_operations: bool = False


class ListGroups(Structure):
    states_filter: Sequence[str] = ()


class DeleteGroups(Structure):
    groups_names: Sequence[str]


# --- transactions --------------------------------------------------------------------------------


class InitProducerId(Structure):
    transactional_id: str | None
    transaction_timeout: int
    producer_id: int = -1
    producer_epoch: int = -1


class AddPartitionsToTxn(Structure):
    """Of one producer: in later versions, which are between brokers, there are several."""

    v3_and_below_transactional_id: str
    v3_and_below_producer_id: int
    v3_and_below_producer_epoch: int
    v3_and_below_topics: Sequence[AddedTopic]


class AddedTopic(Structure):
    name: str
    partitions: Sequence[int]


class AddOffsetsToTxn(Structure):
    transactional_id: str
    producer_id: int
    producer_epoch: int
    group_id: str


class EndTxn(Structure):
    transactional_id: str
    producer_id: int
    producer_epoch: int
    committed: bool


class TxnOffsetCommit(Structure):
    transactional_id: str
    group_id: str
    producer_id: int
    producer_epoch: int
    topics: Sequence[OffsetCommitTopic]
    generation_id: int = -1
    member_id: str = ""
    group_instance_id: str | None = None


class WriteTxnMarkers(Structure):
    markers: Sequence[TxnMarker]


class TxnMarker(Structure):
    """`transaction_result`: whether it commits."""

    producer_id: int
    producer_epoch: int
    transaction_result: bool
    topics: Sequence[PartitionIndexes]
    coordinator_epoch: int


class DescribeProducers(Structure):
    topics: Sequence[PartitionIndexes]


class DescribeTransactions(Structure):
    transactional_ids: Sequence[str]


class ListTransactions(Structure):
    state_filters: Sequence[str]
    producer_id_filters: Sequence[int]
    duration_filter: int = -1


# --- access control lists and credentials ---------------------------------------------------------


class AclFilter(Structure):
    resource_type_filter: int
    resource_name_filter: str | None
    pattern_type_filter: int
    principal_filter: str | None
    host_filter: str | None
    operation: int
    permission_type: int


class DescribeAcls(AclFilter):
    """One filter."""


class CreateAcls(Structure):
    creations: Sequence[AclCreation]


class AclCreation(Structure):
    resource_type: int
    resource_name: str
    resource_pattern_type: int
    principal: str
    host: str
    operation: int
    permission_type: int


class DeleteAcls(Structure):
    filters: Sequence[AclFilter]


class DescribeUserScramCredentials(Structure):
    """None or no `users`: all."""

    users: Sequence[UserName] | None


class UserName(Structure):
    name: str


class AlterUserScramCredentials(Structure):
    deletions: Sequence[ScramCredentialDeletion]
    upsertions: Sequence[ScramCredentialUpsertion]


class ScramCredentialDeletion(Structure):
    name: str
    mechanism: int


class ScramCredentialUpsertion(Structure):
    name: str
    mechanism: int
    iterations: int
    salt: bytes
    salted_password: bytes

    def __repr__(self) -> str:
        return f"ScramCredentialUpsertion({self.name!r})"  # what is salted is as good as a password
