"""What transactions are asked and answer: the values that the coordinator and the doors share.

Slotted values without behaviour. Errors are in the results, as `MinikafkaError | None`. *Producer
id and epoch* are those of a transactional id. Which version of the protocol a client speaks (TV1,
or TV2 of KIP-890) is told by what it sends: see `EndTransactionRequest.version` and `adds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from minikafka.api.groups import NO_GENERATION, UNKNOWN_MEMBER, OffsetCommitPartition
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition

NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1


class NewestOf(Enum):
    """Requests that go to different brokers, and so come on different connections."""

    COORDINATION = "coordination"
    OFFSETS = "offsets"


# --- the coordinator -----------------------------------------------------------------------------


@dataclass(slots=True)
class InitProducerIdRequest:
    """With a producer id and epoch, somebody who has them goes on with the next one (KIP-360)."""

    transactional_id: str
    timeout_ms: int
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH


@dataclass(slots=True)
class ProducerIdentity:
    """What a producer has from now on; -1 where that is an error, or where nothing changes."""

    error: MinikafkaError | None = None
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH


@dataclass(slots=True)
class AddPartitionsRequest:
    """All of them, or none if one of them does not exist."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    partitions: Sequence[TopicPartition]


@dataclass(slots=True)
class AddOffsetsRequest:
    """The offsets of this group will be part of the transaction."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    group_id: str


@dataclass(slots=True)
class EndTransactionRequest:
    """`version` is that of EndTxn: from 5 on the client speaks TV2, and is answered with the
    producer id and epoch of its next transaction."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    commits: bool
    version: int


@dataclass(slots=True)
class CheckPartitionsRequest:
    """Of a partition's leader: are these in the producer's transaction? `adds`: add those that are
    not (TV2). `knows_abortable`: the producer's client has heard of TRANSACTION_ABORTABLE.
    `coordinator_epoch`: that of the producer's last marker at that leader, -1 without one: a
    coordinator of an older one has a successor."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    partitions: Sequence[TopicPartition]
    adds: bool
    knows_abortable: bool = True
    coordinator_epoch: int = -1


@dataclass(slots=True)
class CheckedPartition:
    topic_partition: TopicPartition
    error: MinikafkaError | None = None


@dataclass(slots=True)
class CheckPartitionsResult:
    """One result for each partition of the request."""

    partitions: Sequence[CheckedPartition]


# --- markers, from a coordinator's broker to a partition leader's --------------------------------


@dataclass(slots=True)
class MarkerToWrite:
    """The end of a transaction at one partition. `raised`: with it the epoch grew. `leader_epoch`:
    of the partition, as the sender knows it; `coordinator_epoch`: of the id's partition of
    `__transaction_state`."""

    topic_partition: TopicPartition
    transactional_id: str
    producer_id: int
    producer_epoch: int
    commits: bool
    raised: bool
    leader_epoch: int
    coordinator_epoch: int


@dataclass(slots=True)
class WriteMarkersRequest:
    """From one incarnation of a broker (its broker epoch) to one of another. Numbers rise."""

    sender_id: int
    sender_epoch: int
    target_id: int
    target_epoch: int
    number: int
    markers: Sequence[MarkerToWrite]


@dataclass(slots=True)
class WriteMarkersResult:
    """One result for each marker, in order."""

    partitions: Sequence[CheckedPartition]


# --- offsets -------------------------------------------------------------------------------------


@dataclass(slots=True)
class TxnOffsetCommitRequest:
    """As OffsetCommitRequest, but the offsets count when the transaction is committed. `adds`: the
    group is added to the transaction if it is not in it (TV2: TxnOffsetCommit 5)."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    group_id: str
    partitions: Sequence[OffsetCommitPartition]
    generation_id: int = NO_GENERATION
    member_id: str = UNKNOWN_MEMBER
    instance_id: str | None = None
    adds: bool = False
    knows_abortable: bool = True


# --- administration ------------------------------------------------------------------------------


@dataclass(slots=True)
class ListTransactionsRequest:
    """Nothing given: all that this broker coordinates. `longer_than_ms` -1: any."""

    states: Sequence[str] = ()
    producer_ids: Sequence[int] = ()
    longer_than_ms: int = -1


@dataclass(slots=True)
class ListedTransaction:
    """`state` in Kafka's words: Empty, Ongoing, PrepareCommit, CompleteAbort, ..."""

    transactional_id: str
    producer_id: int
    state: str


@dataclass(slots=True)
class ListTransactionsResult:
    """`unknown_states`: those of the request that there are not."""

    error: MinikafkaError | None
    transactions: Sequence[ListedTransaction] = ()
    unknown_states: Sequence[str] = ()


@dataclass(slots=True)
class TransactionDescription:
    """`start_timestamp_ms` -1: none is open. With an error the rest says nothing."""

    transactional_id: str
    error: MinikafkaError | None = None
    state: str = ""
    timeout_ms: int = 0
    start_timestamp_ms: int = -1
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH
    partitions: Sequence[TopicPartition] = ()


@dataclass(slots=True)
class ActiveProducer:
    """A producer that a partition's leader remembers. -1: nothing is known, or none is open."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_timestamp_ms: int
    coordinator_epoch: int
    open_first_offset: int


@dataclass(slots=True)
class DescribedProducers:
    topic_partition: TopicPartition
    error: MinikafkaError | None = None
    producers: Sequence[ActiveProducer] = ()


@dataclass(slots=True)
class AbortPartition:
    """Of an administrator, for a transaction that hangs: an abort marker, at this partition."""

    topic_partition: TopicPartition
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
