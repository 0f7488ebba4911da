"""The ports of the broker: what it needs of the world, as Protocols.

`app/` puts the real parts in (log/, zookeeper/, rpc/); the simulator puts fakes in. Nothing in
`broker/` knows more of its adapters than stands here. Adapters raise the errors named here and no
others of their own libraries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

from minikafka.api.outcomes import WriteOutcome
from minikafka.api.pieces import Piece
from minikafka.api.requests import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    ControllerRequest,
    ControllerResponse,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.api.transactions import (
    CheckPartitionsRequest,
    CheckPartitionsResult,
    WriteMarkersRequest,
    WriteMarkersResult,
)
from minikafka.config import TopicConfig
from minikafka.core.control.commands import StateChange
from minikafka.core.replication.effects import TransactionQuestion
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.errors import FatalError, KafkaStorageError
from minikafka.model import (
    AbortedTransaction,
    BatchHeader,
    BrokerInfo,
    EpochEntry,
    PartitionState,
    TopicDescription,
    TopicPartition,
)

Buffer = bytes | bytearray | memoryview

# --- the log -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecoveredLog:
    """What a log holds when it is opened: offsets, epoch entries in order, producers."""

    log_start_offset: int
    log_end_offset: int
    high_watermark: int  # from its checkpoint: may be stale, is never ahead of the truth
    epochs: tuple[EpochEntry, ...]
    producers: ProducerStateTable


class PartitionLog(Protocol):
    """The log of one partition on this broker's disk. Synchronous calls are short file work on the
    page cache; all of them raise KafkaStorageError when the disk fails or is full, after which the
    log refuses further appends (the partition is fenced); ResourceShortageError, when the process
    has too few file descriptors or too little memory just now and nothing was changed."""

    topic_partition: TopicPartition
    topic_id: str

    @property
    def log_start_offset(self) -> int: ...
    @property
    def log_end_offset(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def segment_count(self) -> int: ...
    @property
    def failure(self) -> str | None:
        """Why the log is fenced; None while it is not. Work in the background may have done it."""

    def recovered(self) -> RecoveredLog: ...

    def append(self, buffers: Sequence[Buffer], headers: Sequence[BatchHeader]) -> None:
        """Append whole batches in one writev. `buffers` concatenated are the batches exactly as
        they go to disk; `headers` describe them in order, final; the first begins at
        log_end_offset (above it after a leader's compaction). Rolls the segment first if due.
        InvalidRecordError, before a byte is written, if they do not follow on the log's end or fit
        no segment."""

    def read(self, offset: int, max_bytes: int, end_offset: int) -> bytes:
        """Whole batches from the one that contains `offset` on, ending at or below `end_offset`
        (exclusive), as far as `max_bytes` goes but at least one if there is one; b"" if not."""

    def pieces(
        self,
        offset: int,
        max_bytes: int,
        end_offset: int,
        lend_from_bytes: int,
        on_failed: Callable[[KafkaStorageError], None],
    ) -> list[Piece]:
        """What `read` gives. Of what lies together in a file, so many bytes or more may come as a
        range of that file; `on_failed` is called if the disk fails when it is sent."""

    def size_of(self, offset: int, max_bytes: int, end_offset: int) -> int:
        """How many bytes `read` would give, without reading them."""

    def aborted(self, offset: int, max_bytes: int, end_offset: int) -> Sequence[AbortedTransaction]:
        """The aborted transactions of which there may be records in what `read` gives, in the order
        in which they began: what a reader of committed records has to pass over."""

    def truncate_to(self, offset: int) -> None:
        """Cut everything at or above `offset`; a batch that straddles it goes whole."""

    def restart_at(self, offset: int) -> None:
        """Drop everything and begin anew, empty, at `offset`."""

    def load_producers(self) -> ProducerStateTable:
        """The producer state at log_end_offset, from snapshot and replay (after a truncation)."""

    def store_epochs(self, entries: Sequence[EpochEntry]) -> None:
        """The leader epochs from now on. Whatever was cut or changed is durable when this returns;
        an epoch that was added, before any checkpoint relies on it: until then it is found in its
        batches."""

    def set_high_watermark(self, offset: int) -> None:
        """Remember the high watermark for the next checkpoint and as the bound of retention."""

    def advance_log_start(self, offset: int) -> None:
        """Raise log_start_offset (records below are gone for readers; segments go when whole)."""

    def retain(self, now_timestamp_ms: int) -> int:
        """Apply retention by time and size and roll by age; returns log_start_offset after it.
        Files are unlinked later, off the loop."""

    def expire_producers(self, now_timestamp_ms: int, idle_ms: int) -> None:
        """Forget the idempotent producers that have written nothing for so long."""

    async def offset_for_timestamp(self, timestamp_ms: int) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record at or after this time, compressed or not; None
        if there is none. The records are looked at off the loop."""

    async def max_timestamp(self) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record that has the largest timestamp (KIP-734); None
        if no record has one. Off the loop, too."""

    def configure(self, config: TopicConfig) -> None: ...

    async def flush(self) -> int:
        """fsync everything appended so far, in a thread; returns the offset that is durable now.
        Calls that overlap share one fsync."""


class LogStore(Protocol):
    """All logs of one data directory."""

    @property
    def storage_id(self) -> str: ...
    @property
    def dirty(self) -> bool: ...
    def logs(self) -> Mapping[TopicPartition, PartitionLog]:
        """Every log that was found on disk at start or opened since."""

    async def make(self, wanted: Sequence[tuple[TopicPartition, str, TopicConfig]]) -> None:
        """Make the logs of these partitions (with the topic id) that have none yet, off the loop,
        so that `open` finds them. What cannot be made is left to `open`, which tells why. Nobody
        opens or deletes logs of these partitions meanwhile."""

    def open(
        self, topic_partition: TopicPartition, topic_id: str, config: TopicConfig
    ) -> PartitionLog:
        """The log of this partition, created if there is none. One of another topic id (a topic
        that was deleted and made again) is deleted first."""

    def delete(self, topic_partition: TopicPartition, topic_id: str) -> None:
        """Delete the log if it is of this topic id; the files go off the loop."""

    def fenced_logs(self) -> Collection[TopicPartition]:
        """The partitions whose logs have a `failure`, and perhaps some whose logs had one that is
        gone since; not those that could not be opened."""

    async def checkpoint(self, recovery_points: bool = True) -> None:
        """Write high-watermark and log-start checkpoints, and those of the recovery points if they
        are wanted, off the loop; where nothing has changed, nothing."""

    async def compact(self, now_timestamp_ms: int) -> bool:
        """One round of compaction over the log that needs it most, mostly off the loop; False if
        none is dirty enough. A log that cannot be compacted stays as it is, and that is logged."""

    def record_broker_epoch(self, broker_epoch: int) -> None:
        """Remember this incarnation's broker epoch for the clean-shutdown marker."""

    async def close(self, clean: bool) -> None:
        """Flush and checkpoint everything; `clean` writes the clean-shutdown marker last."""


# --- transactions --------------------------------------------------------------------------------


class TransactionCoordinators(Protocol):
    """Whoever coordinates transactions. Nobody serves this yet."""

    async def is_in_transaction(self, question: TransactionQuestion) -> None:
        """Returns if the partition is in the transaction that this producer has open, once that is
        committed; adds it before, if the question says so. Raises InvalidProducerEpochError for a
        producer that is fenced, TransactionAbortableError if it is not in it, and retriable errors
        while the coordinator cannot tell."""


# --- ZooKeeper -----------------------------------------------------------------------------------


class StoreEvent(Enum):
    """What ZooKeeper tells a broker. Each is a hint to read again, never the news itself."""

    SUSPENDED = "suspended"  # out of touch: the session may or may not live on
    RECONNECTED = "reconnected"  # in touch again, in the same session; watches are armed again
    LOST = "lost"  # the session is gone, with every ephemeral node; a new one has begun
    BROKERS_CHANGED = "brokers changed"
    TOPICS_CHANGED = "topics changed"
    CONTROLLER_CHANGED = "controller changed"
    CANDIDATE_GONE = "the candidate before this one is gone"
    CONFIG_CHANGED = "config changed"
    DELETE_TOPICS_CHANGED = "delete topics changed"
    PREFERRED_ELECTION_CHANGED = "preferred election changed"


class SessionLostError(Exception):
    """The ZooKeeper session is gone, or out of touch for longer than its timeout."""


class UnreadableNodeError(FatalError):
    """A node of ZooKeeper that somebody wants does not hold what belongs there."""


@dataclass(frozen=True, slots=True)
class ControllerElection:
    """Who is controller. `won` says that it is this broker, in this session. Of one who stands for
    election also its place in the queue: `ahead` of it are so many of the `candidates`."""

    won: bool
    controller_id: int  # -1: nobody at this moment
    controller_epoch: int
    ahead: int = field(default=0, compare=False)
    candidates: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Takeover:
    """How a controller came to be it: ZooKeeper woke `woken` of the `waiting` candidates."""

    previous_id: int  # -1: not known
    controller_id: int
    controller_epoch: int
    woken: int
    waiting: int
    previous_name: str = ""


@runtime_checkable
class ClusterStore(Protocol):
    """ZooKeeper as a broker needs it (replication.md section 1). All calls raise SessionLostError
    when the session is lost or out of touch for too long."""

    events: asyncio.Queue[StoreEvent]

    @property
    def connected(self) -> bool: ...
    @property
    def out_of_touch_ms(self) -> int:
        """0 while connected; else the milliseconds since ZooKeeper was last heard of."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    async def sync(self) -> None: ...
    async def cluster_id(self) -> str:
        """The id of the cluster, made on first use."""

    async def register_broker(self, broker: BrokerInfo) -> int:
        """Create `/brokers/ids/<id>`; returns the broker epoch (its czxid). UsageError if another
        live broker has the id."""

    async def unregister_broker(self) -> None: ...
    async def elect_controller(
        self, broker_id: int, *, out_of_turn: bool = False
    ) -> ControllerElection:
        """Stand in the queue of candidates, and at its head (or `out_of_turn`) become controller
        unless another is it. CANDIDATE_GONE when the candidate before this one goes, and, at the
        head, CONTROLLER_CHANGED when the controller does."""

    async def resign_controller(self) -> None:
        """Give controllership up, and the place in the queue."""

    async def read_controller(self, *, watch: bool = False) -> ControllerElection:
        """`watch`: CONTROLLER_CHANGED when the controller that there is goes."""

    async def read_brokers(self, *, watch: bool = True) -> dict[int, BrokerInfo]:
        """`watch`: BROKERS_CHANGED when they change, as the controller wants it."""

    async def read_topics(self) -> dict[str, TopicDescription | None]:
        """None: there is a node of that name that cannot be read. TOPICS_CHANGED when it can."""

    async def read_states(
        self, topics: Mapping[str, TopicDescription]
    ) -> dict[TopicPartition, PartitionState | None]:
        """Partitions without a State are left out; None: it cannot be read, as for topics."""

    # Fenced: each is one multi with the check of /controller_epoch (rule R1).
    async def write_states(self, changes: Sequence[StateChange]) -> list[WriteOutcome]:
        """Many States a multi; each has an outcome of its own."""

    async def create_topic(
        self, topic: TopicDescription, overrides: Mapping[str, str]
    ) -> WriteOutcome:
        """With its configuration, which is announced as a change is."""

    async def update_topic(self, topic: TopicDescription) -> WriteOutcome: ...
    async def delete_topic_nodes(self, topic: TopicDescription) -> WriteOutcome:
        """Remove states, topic, its config, and the deletion marker last."""

    async def clear_preferred_election(self) -> WriteOutcome: ...
    async def record_takeover(self, takeover: Takeover) -> WriteOutcome:
        """Write on the queue of candidates how this controller came to be it."""

    async def write_topic_config(self, topic: str, overrides: Mapping[str, str]) -> WriteOutcome:
        """Write `/config/topics/<topic>` and announce it under /config/changes. Never CONFLICT."""

    async def write_broker_config(self, broker: str, overrides: Mapping[str, str]) -> WriteOutcome:
        """Write `/config/brokers/<broker>` and announce it likewise. Never CONFLICT."""

    async def read_feature(self) -> tuple[int, int] | None:
        """The finalized level of transaction.version, and how often that has changed; None if there
        is none, or it cannot be read. CONFIG_CHANGED when it changes."""

    async def raise_feature(self, level: int) -> WriteOutcome:
        """As controller: finalize this level, unless a higher one is. CONFLICT: not now."""

    async def allocate_producer_ids(self, broker_id: int, count: int) -> tuple[int, int]:
        """(first, exclusive end) of a block that nobody else was or will be given."""

    # By any broker.
    async def mark_topic_deleted(self, topic: str) -> None: ...
    async def read_deletions(self) -> set[str]: ...
    async def read_preferred_election(self) -> list[TopicPartition] | None: ...
    async def read_topic_configs(self) -> dict[str, dict[str, str]]: ...
    async def read_broker_configs(self) -> dict[str, dict[str, str]]:
        """Overrides by broker id as text, `<default>` for all."""


# --- the other brokers ---------------------------------------------------------------------------


class ReplicationStream(Protocol):
    """The follower's end of the bidirectional stream to one leader. One request is outstanding."""

    async def fetch(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse:
        """Send, and wait for the answer. NetworkError when the stream or the peer is gone."""

    def close(self) -> None: ...


class Peers(Protocol):
    """Calls to other brokers. All raise NetworkError when the peer cannot be reached in time, and
    otherwise the typed error that it answered with."""

    def open_replication(self, leader: BrokerInfo) -> ReplicationStream: ...
    async def update_state(
        self, broker: BrokerInfo, request: UpdateStateRequest, timeout_ms: int
    ) -> UpdateStateResponse: ...
    async def alter_partition(
        self, controller: BrokerInfo, request: AlterPartitionRequest, timeout_ms: int
    ) -> AlterPartitionResponse: ...
    async def controlled_shutdown(
        self, controller: BrokerInfo, request: ControlledShutdownRequest, timeout_ms: int
    ) -> ControlledShutdownResponse: ...
    async def controller_call(
        self, controller: BrokerInfo, request: ControllerRequest, timeout_ms: int
    ) -> ControllerResponse:
        """Any other request that only the controller serves (topics, elections, producer ids)."""

    async def check_partitions(
        self, coordinator: BrokerInfo, request: CheckPartitionsRequest, timeout_ms: int
    ) -> CheckPartitionsResult: ...
    async def write_markers(
        self, leader: BrokerInfo, request: WriteMarkersRequest, timeout_ms: int
    ) -> WriteMarkersResult: ...
    async def close(self) -> None: ...
