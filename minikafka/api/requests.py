"""The typed requests that both doors of a broker translate onto: gRPC and Kafka's protocol.

Frozen or slotted values without behaviour. Errors travel as `MinikafkaError | None` per item; a
request that fails as a whole raises. Record data are whole v2 batches, opaque (`bytes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from minikafka.api.access import AccessRequest, AclDeletion
from minikafka.api.pieces import Piece
from minikafka.errors import MinikafkaError
from minikafka.model import (
    AbortedTransaction,
    Assignment,
    BrokerInfo,
    OffsetAndEpoch,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from minikafka.model import (
    FollowerPosition as FollowerPosition,
)
from minikafka.model import (
    IsrProposal as IsrProposal,
)

LATEST_TIMESTAMP = -1
EARLIEST_TIMESTAMP = -2
MAX_TIMESTAMP = -3

# --- produce and fetch ---------------------------------------------------------------------------


@dataclass(slots=True)
class ProducePartition:
    """Whole v2 batches for one partition; the base offsets in them are replaced."""

    topic_partition: TopicPartition
    records: bytes | memoryview


@dataclass(slots=True)
class ProduceRequest:
    """`acks` is 0, 1 or -1 (all). `timeout_ms` bounds the wait for replication.

    `source`: where it came from (a connection, a stream). Requests of one source are appended in
    the order in which they came, also if the records of one take a while to be looked at.

    `adds_to_transaction`: partitions that are not in the producer's transaction are added to it
    (TV2). `knows_abortable`: the client has heard of TRANSACTION_ABORTABLE.
    """

    acks: int
    timeout_ms: int
    partitions: Sequence[ProducePartition]
    source: object = field(default=None, compare=False)
    transactional_id: str | None = None
    adds_to_transaction: bool = False
    knows_abortable: bool = True


@dataclass(slots=True)
class LeaderHint:
    """Who leads, as far as the broker that refused knows: saves the client a metadata request."""

    leader: int
    leader_epoch: int


@dataclass(slots=True)
class ProduceResult:
    """`base_offset` is that of the first batch; -1 with an error. `log_append_time_ms`: -1 where
    the producer gives the timestamps."""

    topic_partition: TopicPartition
    error: MinikafkaError | None = None
    base_offset: int = -1
    log_start_offset: int = -1
    leader_hint: LeaderHint | None = None
    log_append_time_ms: int = -1


@dataclass(slots=True)
class FetchPartition:
    """`current_leader_epoch` -1: not checked."""

    topic_partition: TopicPartition
    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int = -1


@dataclass(slots=True)
class FetchRequest:
    """A consumer's fetch: waits up to `max_wait_ms` until `min_bytes` are there. Where at least
    `lend_from_bytes` of records lie together in a file, they may come as ranges of it; None: all
    comes as bytes. `read_committed`: only what is stable, with the transactions in it that were
    aborted."""

    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    partitions: Sequence[FetchPartition]
    lend_from_bytes: int | None = None
    read_committed: bool = False


@dataclass(slots=True)
class FetchResult:
    """`records`: whole batches; the first may begin below the offset that was asked for. `pieces`
    are instead of them if any range of a file is among them. `aborted`: by first offset, what the
    reader has to pass over; None unless only committed records were asked for."""

    topic_partition: TopicPartition
    error: MinikafkaError | None = None
    high_watermark: int = -1
    log_start_offset: int = -1
    records: bytes = b""
    leader_hint: LeaderHint | None = None
    pieces: Sequence[Piece] = ()
    last_stable_offset: int = -1
    aborted: Sequence[AbortedTransaction] | None = None

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.pieces)) if self.pieces else len(self.records)

    @property
    def held_bytes(self) -> int:
        """How many of them are in memory."""
        if not self.pieces:
            return len(self.records)
        return sum(len(piece) for piece in self.pieces if isinstance(piece, bytes))


@dataclass(slots=True)
class ListOffsetsPartition:
    """`timestamp_ms`: wall clock, or LATEST_TIMESTAMP, EARLIEST_TIMESTAMP, MAX_TIMESTAMP.
    `read_committed`: the end is the last stable offset."""

    topic_partition: TopicPartition
    timestamp_ms: int
    current_leader_epoch: int = -1
    read_committed: bool = False


@dataclass(slots=True)
class ListOffsetsResult:
    """Offset -1: no record at or after that timestamp."""

    topic_partition: TopicPartition
    error: MinikafkaError | None = None
    offset: int = -1
    timestamp_ms: int = -1
    leader_epoch: int = -1


@dataclass(slots=True)
class EpochEndQuery:
    """Where does `leader_epoch` end in the leader's log? (KIP-320)"""

    topic_partition: TopicPartition
    leader_epoch: int
    current_leader_epoch: int = -1


@dataclass(slots=True)
class EpochEnd:
    """The largest epoch that is not above the one asked for, and the offset after its last record;
    both -1 if there is none."""

    topic_partition: TopicPartition
    error: MinikafkaError | None = None
    leader_epoch: int = -1
    end_offset: int = -1


@dataclass(slots=True)
class DeleteRecordsPartition:
    """`before_offset`: the first offset to keep; -1: the high watermark."""

    topic_partition: TopicPartition
    before_offset: int


@dataclass(slots=True)
class DeleteRecordsRequest:
    """`timeout_ms` bounds the wait for the followers."""

    timeout_ms: int
    partitions: Sequence[DeleteRecordsPartition]


@dataclass(slots=True)
class DeleteRecordsResult:
    """`low_watermark`: where the partition begins now on every member of the ISR; -1 with an
    error. REQUEST_TIMED_OUT: the records are gone on the leader, not yet everywhere."""

    topic_partition: TopicPartition
    error: MinikafkaError | None = None
    low_watermark: int = -1


# --- what a cluster looks like -------------------------------------------------------------------


@dataclass(slots=True)
class TopicMetadata:
    name: str
    topic_id: str = ""
    error: MinikafkaError | None = None
    partitions: Sequence[PartitionMetadata] = ()


@dataclass(slots=True)
class ClusterMetadata:
    """`brokers` are the live ones. `controller_id` -1: none known."""

    cluster_id: str
    controller_id: int
    controller_epoch: int
    brokers: Sequence[BrokerInfo]
    topics: Sequence[TopicMetadata]


@dataclass(slots=True)
class ReplicaStatus:
    """A replica's progress as its leader (or for its own log, itself) knows it; -1 not known."""

    broker_id: int
    log_end_offset: int
    lag_ms: int = -1


@dataclass(slots=True)
class PartitionStatus:
    """One partition, asked of its leader: offsets in records, size in bytes."""

    topic_partition: TopicPartition
    error: MinikafkaError | None = None
    log_start_offset: int = -1
    log_end_offset: int = -1
    high_watermark: int = -1
    size_bytes: int = -1
    replicas: Sequence[ReplicaStatus] = ()


@dataclass(slots=True)
class TopicConfigEntry:
    """`is_default` tells whether the topic overrides it."""

    name: str
    value: str
    is_default: bool


# --- between brokers: replication ----------------------------------------------------------------


@dataclass(slots=True)
class ReplicaFetchRequest:
    """One follower's fetch from one leader: of what it names, and of what it has named before in
    the same session and has not forgotten since. Session 0: a full fetch, which begins a session.
    The first request of a session after that has epoch 1, each later one the next."""

    replica_id: int
    replica_broker_epoch: int
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    partition_max_bytes: int
    positions: Sequence[FollowerPosition]
    session_id: int = 0
    session_epoch: int = 0
    # Before the positions.
    forgotten: Sequence[TopicPartition] = field(default_factory=list)


@dataclass(slots=True)
class ReplicaFetchResult:
    """The leader's answer for one partition. Exactly one of: an error (with the State that the
    leader holds, where that helps), `diverging`, or records (possibly none) with the offsets."""

    topic_partition: TopicPartition
    error: MinikafkaError | None = None
    state: PartitionState | None = None
    diverging: OffsetAndEpoch | None = None
    high_watermark: int = -1
    log_start_offset: int = -1
    log_end_offset: int = -1
    records: bytes = b""


@dataclass(slots=True)
class ReplicaFetchResponse:
    """Partitions with nothing to say are left out. Session 0: there is none, ask in full."""

    results: Sequence[ReplicaFetchResult]
    session_id: int = 0


# --- between brokers: control --------------------------------------------------------------------


@dataclass(slots=True)
class UpdateStateRequest:
    """Controller to broker, in this order: states to adopt, replicas to delete, metadata to keep.

    A broker takes `partitions` for its metadata and, where it is a replica, adopts the State.
    `deletions` are replicas to stop and delete, by topic id; `drops` as well, unless the broker
    holds a State above the version that is given. `deleted_topics` (name, id) leave the metadata;
    with `full`, so does every topic that is not named (it was deleted while this broker did not
    listen). `brokers` are all live brokers, `shutting_down` those of them that leave. `number`
    rises with every message of one controller epoch: what arrives after a higher one is old, and
    was said again by it if it still held.
    """

    controller_id: int
    controller_epoch: int
    target_broker_epoch: int
    brokers: Sequence[BrokerInfo]
    shutting_down: Sequence[int]
    partitions: Sequence[PartitionMetadata]
    deletions: Sequence[tuple[TopicPartition, str]] = ()
    deleted_topics: Sequence[tuple[str, str]] = ()
    full: bool = False
    number: int = 0
    drops: Sequence[tuple[TopicPartition, str, int]] = ()


@dataclass(slots=True)
class UpdateStateResponse:
    """`deleted`: the deletions and drops that are done. `failed`: partitions that could not be
    opened. `wakeups`: how often ZooKeeper has woken this broker to look who is controller, between
    the controller before and the one who asks."""

    deleted: Sequence[tuple[TopicPartition, str]] = ()
    failed: Sequence[tuple[TopicPartition, MinikafkaError]] = ()
    wakeups: int = 0


@dataclass(slots=True)
class AlterPartitionRequest:
    broker_id: int
    broker_epoch: int
    proposals: Sequence[IsrProposal]


@dataclass(slots=True)
class AlterPartitionResult:
    """The current State comes with every answer, refused or not (None: partition unknown)."""

    topic_partition: TopicPartition
    error: MinikafkaError | None
    state: PartitionState | None


@dataclass(slots=True)
class AlterPartitionResponse:
    """`controller_epoch` of the controller that answered."""

    controller_epoch: int
    results: Sequence[AlterPartitionResult]


@dataclass(slots=True)
class ControlledShutdownRequest:
    broker_id: int
    broker_epoch: int


@dataclass(slots=True)
class ControlledShutdownResponse:
    """Partitions that this broker still leads because nobody else in sync can."""

    remaining: Sequence[TopicPartition]


# --- to the controller: everything else ----------------------------------------------------------


@dataclass(slots=True)
class ReportFailedReplicas:
    """Replicas (partition, topic id) whose disk failed on `broker_id`: they leave the ISR and lead
    no more."""

    broker_id: int
    broker_epoch: int
    replicas: Sequence[tuple[TopicPartition, str]]


@dataclass(slots=True)
class CreateTopic:
    """`replicas` non-empty is an explicit assignment; otherwise counts, -1 for the defaults."""

    name: str
    num_partitions: int = -1
    replication_factor: int = -1
    configs: Mapping[str, str] = field(default_factory=dict)
    assignments: Mapping[int, Sequence[int]] = field(default_factory=dict)


@dataclass(slots=True)
class CreateTopicsRequest:
    topics: Sequence[CreateTopic]
    validate_only: bool = False


@dataclass(slots=True)
class DeleteTopicsRequest:
    names: Sequence[str]


@dataclass(slots=True)
class CreatePartitionsRequest:
    """`total_count` partitions the topic shall have; `assignments` for the new ones, or empty.
    `validate_only`: only say whether that can be."""

    topic: str
    total_count: int
    assignments: Sequence[Sequence[int]] = ()
    validate_only: bool = False


@dataclass(slots=True)
class ElectLeadersRequest:
    """Preferred, or unclean (accepts loss, explicitly). Empty `partitions`: all."""

    unclean: bool
    partitions: Sequence[TopicPartition]


@dataclass(slots=True)
class AlterTopicConfigRequest:
    """`changes`: property to value, None to go back to the default."""

    topic: str
    changes: Mapping[str, str | None]


@dataclass(slots=True)
class AlterBrokerConfigRequest:
    """`broker`: an id as text, or DEFAULT_BROKER (overrides.py) for all of them. `changes`:
    property to value, None to take the override away."""

    broker: str
    changes: Mapping[str, str | None]


@dataclass(slots=True)
class AllocateProducerIdsRequest:
    broker_id: int
    broker_epoch: int


@dataclass(slots=True)
class AlterReassignmentsRequest:
    """`targets`: the replicas that each partition shall have, in order of preference; None cancels
    what is under way."""

    targets: Mapping[TopicPartition, Sequence[int] | None]


@dataclass(slots=True)
class ListReassignmentsRequest:
    """Those that are under way; of these partitions only, if any are named."""

    partitions: Sequence[TopicPartition] = ()


# What the core of the controller decides; who may do what, it does not know of.
CoreRequest = (
    ReportFailedReplicas
    | CreateTopicsRequest
    | DeleteTopicsRequest
    | CreatePartitionsRequest
    | ElectLeadersRequest
    | AlterTopicConfigRequest
    | AlterBrokerConfigRequest
    | AllocateProducerIdsRequest
    | AlterReassignmentsRequest
    | ListReassignmentsRequest
)
ControllerRequest = CoreRequest | AccessRequest


@dataclass(slots=True)
class NamedResult:
    """The outcome for one topic, broker, rule or user, by name."""

    name: str
    error: MinikafkaError | None = None


@dataclass(slots=True)
class PartitionResult:
    """The outcome for one partition."""

    topic_partition: TopicPartition
    error: MinikafkaError | None = None

    @property
    def name(self) -> str:
        """For people."""
        return str(self.topic_partition)


@dataclass(slots=True)
class ControllerResponse:
    """One result for each thing that the request names, in `results` or `partitions`; for producer
    ids the block [start, end); for a list of reassignments the assignments; for filters of rules
    `acl_deletions`."""

    results: Sequence[NamedResult] = ()
    partitions: Sequence[PartitionResult] = ()
    producer_id_start: int = -1
    producer_id_end: int = -1
    reassignments: Mapping[TopicPartition, Assignment] = field(default_factory=dict)
    acl_deletions: Sequence[AclDeletion] = ()


@dataclass(slots=True)
class ClusterUpdate:
    """What a watcher of the cluster hears: first everything, then what changed. `brokers` is given
    (all live ones) only when they changed; partitions and deleted topics since the last update."""

    partitions: Sequence[PartitionMetadata]
    deleted_topics: Sequence[tuple[str, str]]
    brokers: Sequence[BrokerInfo] | None
    controller_id: int
    controller_epoch: int
