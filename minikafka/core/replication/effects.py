"""What a partition asks its runtime to do: the outputs of the pure core, in the order to be done.

The runtime carries them out at once and in order, before it hands the partition the next event.
File effects that fail are answered with `Partition.on_storage_failure`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from minikafka.errors import MinikafkaError
from minikafka.model import EpochEntry, IsrProposal, TopicPartition


class Role(Enum):
    """What a replica is at the moment. NONE: no State adopted in this incarnation."""

    NONE = "none"
    LEADER = "leader"
    FOLLOWER = "follower"
    FAILED = "failed"  # its disk failed: fenced until the broker starts anew


@dataclass(frozen=True, slots=True)
class StoreEpochs:
    """Write the leader-epoch checkpoint, durably."""

    entries: tuple[EpochEntry, ...]


@dataclass(frozen=True, slots=True)
class TruncateLog:
    """Cut the log at `offset`, then hand back the producer state that is left
    (`Partition.restore_producers`). `committed_lost`: below the own high watermark, which only an
    unclean election explains."""

    offset: int
    committed_lost: bool = False


@dataclass(frozen=True, slots=True)
class RestartLog:
    """Drop the whole log and begin anew, empty, at `offset`."""

    offset: int


@dataclass(frozen=True, slots=True)
class RaiseLogStart:
    """Records below `offset` are gone on the leader: forget them here, too."""

    offset: int


@dataclass(frozen=True, slots=True)
class ProposeIsr:
    """Send this proposal to the controller, and again until it is answered or superseded."""

    proposal: IsrProposal


@dataclass(frozen=True, slots=True)
class CompleteProduce:
    """Answer a parked produce request: success, or this error."""

    token: object
    error: MinikafkaError | None


@dataclass(frozen=True, slots=True)
class HighWatermarkAdvanced:
    """Consumers can see more now."""

    high_watermark: int


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """Role, leader or leader epoch changed: parked fetches are to be looked at again, and a
    follower begins to fetch from `leader` (-1: from nobody)."""

    role: Role
    leader: int
    leader_epoch: int


@dataclass(frozen=True, slots=True)
class TransactionQuestion:
    """Is the partition in the transaction that this producer has open? `adds`: it is to be added if
    it is not. `number`: no two questions of a replica have the same. `coordinator_epoch`: that of
    the producer's last marker there, -1 without one; who coordinates under an older one does not
    coordinate any more, and must not answer."""

    number: tuple[int, int]
    topic_partition: TopicPartition
    transactional_id: str
    producer_id: int
    producer_epoch: int
    adds: bool
    coordinator_epoch: int = -1


@dataclass(frozen=True, slots=True)
class AskCoordinator:
    """Ask the coordinator of the transactional id; its word comes back as `CoordinatorAnswered`.
    `again`: not at once, it could not tell just now."""

    question: TransactionQuestion
    again: bool


@dataclass(frozen=True, slots=True)
class AppendWaiting:
    """The word was yes: append what waited, in order, with `word` for the plan. If one of them
    cannot be appended, those behind it must not be."""

    word: TransactionQuestion
    tokens: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class RefuseWaiting:
    """What waited for the word is not appended: answer it with this error."""

    token: object
    error: MinikafkaError


Effect = (
    StoreEpochs
    | TruncateLog
    | RestartLog
    | RaiseLogStart
    | ProposeIsr
    | CompleteProduce
    | HighWatermarkAdvanced
    | RoleChanged
    | AskCoordinator
    | AppendWaiting
    | RefuseWaiting
)
