"""What can happen to a replica of a partition: the inputs of the pure core, as values.

All that changes a `Partition` comes in as one of these, with the time, through `Partition.step`;
what is to be done about it goes out as effects (effects.py). So the life of a replica is the list
of its events: whoever has kept them can live it again.

Beside the events, a partition reads which brokers may join an ISR (`eligible`), and answers
questions that change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

from minikafka.core.replication.effects import TransactionQuestion
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.core.replication.settings import PartitionSettings
from minikafka.core.replication.transactional import TransactionalProduce
from minikafka.errors import MinikafkaError
from minikafka.model import (
    Assignment,
    BatchHeader,
    FollowerPosition,
    IsrProposal,
    Markers,
    OffsetAndEpoch,
    PartitionState,
)

HEADERS_SHOWN = 4

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def event(cls: type[T]) -> type[T]:
    """A value. That nobody changes it is seen to where types are checked, and not when it is made:
    a frozen dataclass takes some three times as long, and there are several of these a record."""
    return dataclass(slots=True)(cls)


# --- from the controller, and from the broker itself ----------------------------------------------


@event
class StateReceived:
    """A State, and the replicas under it. It counts if it is newer than the one held (rule R3);
    with the one held, only the assignment may be new: the State came without it, in an answer."""

    state: PartitionState
    assignment: Assignment


@event
class ProposalAnswered:
    """The controller's answer to an ISR proposal: its State counts by R3 whatever else."""

    proposal: IsrProposal
    error: MinikafkaError | None
    state: PartitionState | None


@event
class Registered:
    """The broker has a new incarnation without a restart (its session had expired). Roles stay as
    they are until the controller addresses the new incarnation."""

    broker_epoch: int


@event
class SettingsChanged:
    """They hold from now on: a smaller minimum may commit what waited."""

    settings: PartitionSettings


@event
class LagCheckDue:
    """It is time to look for members of the ISR that lag."""


@event
class IdleProducersDue:
    """It is time to forget producers that have appended nothing for `idle_ms` (wall clock)."""

    now_timestamp_ms: int
    idle_ms: int


@event
class Stopped:
    """The replica leaves this broker: whoever waits is told `error`."""

    error: MinikafkaError


# --- while it leads -------------------------------------------------------------------------------


@event
class BatchesAppended:
    """Batches as `Partition.plan_append` planned them are in the log; what the control batches
    among them say."""

    headers: Sequence[BatchHeader]
    markers: Markers | None = None


@event
class ProduceParked:
    """A produce with acks=all that is appended below `required_offset`: answered, by a
    `CompleteProduce` with this token, when that much is committed, which may be now."""

    token: object
    required_offset: int


@event
class ProduceGivenUp:
    """Nobody waits for this answer any more."""

    token: object


@event
class ReplicaFetched:
    """A follower's fetch arrived from a position that `Partition.check_replica_fetch` found valid:
    once per fetch. StaleBrokerEpochError for an older incarnation than one heard already."""

    replica_id: int
    replica_broker_epoch: int
    position: FollowerPosition


@event
class TransactionalProduceWaits:
    """A batch of a transaction of which the plan says that it has to wait for the word of the
    coordinator. It goes on with an `AppendWaiting` or `RefuseWaiting` with this token."""

    token: object
    header: BatchHeader
    transaction: TransactionalProduce


@event
class WaitGivenUp:
    """The time of such a batch is over; `error` is what it is answered with."""

    token: object
    error: MinikafkaError


@event
class CoordinatorAnswered:
    """The word on an `AskCoordinator`: yes without an error. One that is retriable is no word: it
    is asked again. InvalidProducerEpochError for a producer that is fenced."""

    question: TransactionQuestion
    error: MinikafkaError | None


@event
class MarkerReceived:
    """A coordinator says that a transaction has ended, before `Partition.plan_marker` is asked what
    becomes of it. `raised`: the end has raised the epoch to this one."""

    producer_id: int
    producer_epoch: int
    raised: bool


@event
class RecordsDeleted:
    """The records below `before_offset` are to be forgotten: `Partition.deletion_target` allowed
    it. The followers learn of it by their fetches."""

    before_offset: int


# --- while it follows -----------------------------------------------------------------------------


@event
class Diverged:
    """The leader answered a fetch from `position`: it has `end.leader_epoch` up to `end.offset`."""

    position: FollowerPosition
    end: OffsetAndEpoch


@event
class OutOfRange:
    """The leader answered a fetch from `position`: it has nothing there, its log is elsewhere."""

    position: FollowerPosition
    leader_log_start: int
    leader_log_end: int


@event
class BatchesReceived:
    """The leader answered a fetch from `position` with these batches, which are about to be
    appended: see Follower.on_straddling."""

    position: FollowerPosition
    headers: Sequence[BatchHeader]


@event
class BatchesFollowed:
    """The leader's batches (perhaps none) are in the log; these are the leader's offsets."""

    headers: Sequence[BatchHeader]
    leader_high_watermark: int
    leader_log_start: int
    markers: Markers | None = None


# --- from the log's files -------------------------------------------------------------------------


@event
class Flushed:
    """Everything below `offset` is on the disk."""

    offset: int


@event
class LogTruncated:
    """`TruncateLog` was carried out: the file's true end (a batch that straddles the cut is gone
    whole), and the producers that are left, which are the partition's from now on."""

    log_end_offset: int
    producers: ProducerStateTable = field(repr=False)


@event
class LogStartRaised:
    """Retention has removed what lies below `offset`."""

    offset: int


@event
class StorageFailed:
    """The disk under this replica failed or is full: no append and no fetch any more in this
    incarnation (KAFKA-10778)."""

    reason: str


Event = (
    StateReceived
    | ProposalAnswered
    | Registered
    | SettingsChanged
    | LagCheckDue
    | IdleProducersDue
    | Stopped
    | BatchesAppended
    | ProduceParked
    | ProduceGivenUp
    | ReplicaFetched
    | TransactionalProduceWaits
    | WaitGivenUp
    | CoordinatorAnswered
    | MarkerReceived
    | RecordsDeleted
    | Diverged
    | OutOfRange
    | BatchesReceived
    | BatchesFollowed
    | Flushed
    | LogTruncated
    | LogStartRaised
    | StorageFailed
)


def outline(event: Event) -> object:
    """What is kept of an event in the history of its partition: itself, unless it is large."""
    match event:
        case BatchesAppended() | BatchesReceived() | BatchesFollowed():
            headers = event.headers
            if len(headers) <= HEADERS_SHOWN:
                return event
            first, last = headers[0], headers[-1]
            return (
                f"{type(event).__name__}({len(headers)} batches, from offset {first.base_offset} "
                f"of epoch {first.leader_epoch} to {last.next_offset}, of epoch "
                f"{last.leader_epoch})"
            )
        case LogTruncated():
            return (
                f"LogTruncated(log_end_offset={event.log_end_offset}, "
                f"{len(event.producers)} producers)"
            )
    return event
