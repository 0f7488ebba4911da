"""What is known of a transactional id, as it stands in `__transaction_state`. Frozen values.

Two versions of the protocol are spoken, by the version of a request. In the first (`TV1`: EndTxn up
to 4) a producer keeps its epoch from one transaction to the next; in the second (`TV2`, KIP-890)
each end raises it by one. Fencing and timing out raise it in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, TypeVar, dataclass_transform

from minikafka.model import TopicPartition

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """A value. That nobody changes it is seen to where types are checked, and not when it is made:
    a frozen dataclass takes three times as long, and a coordinator reads one for each id."""
    return dataclass(slots=True, unsafe_hash=True)(cls)


NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_TIMESTAMP = -1
# The last epoch that a client may hold; one more lives in a Prepare and its markers only.
MAX_PRODUCER_EPOCH = 32_766


class Now(NamedTuple):
    """The time: `ms` is monotonic and counts for deadlines, `timestamp_ms` is wall-clock time and
    goes into records."""

    ms: int
    timestamp_ms: int


class TransactionVersion(IntEnum):
    """As it is stored: a transaction that ended in TV2, or by a fence, has raised its epoch."""

    TV1 = 0
    TV2 = 2


class TransactionState(IntEnum):
    """With Kafka's numbers."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5

    @property
    def is_prepare(self) -> bool:
        return self in (TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT)

    @property
    def is_complete(self) -> bool:
        return self in (TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT)

    @property
    def is_quiet(self) -> bool:
        """Nothing is under way."""
        return self is TransactionState.EMPTY or self.is_complete

    @property
    def commits(self) -> bool:
        """The outcome, of one that ends or has ended."""
        assert not self < TransactionState.PREPARE_COMMIT, self
        return self in (TransactionState.PREPARE_COMMIT, TransactionState.COMPLETE_COMMIT)


@value
class TransactionValue:
    """One record of an id.

    `last_epoch` is the epoch before the last raise, if the same producer goes on (-1 otherwise): by
    it a repeated request is known. `previous_producer_id` is the id that it was of, where the ids
    changed with it. `next_producer_id`, in a Prepare only, is what the producer has after it.
    `version` is TV2 where the end raised the epoch; of one that has not ended it says nothing.
    """

    producer_id: int
    producer_epoch: int
    timeout_ms: int
    state: TransactionState
    partitions: frozenset[TopicPartition] = frozenset()
    last_update_timestamp_ms: int = NO_TIMESTAMP
    start_timestamp_ms: int = NO_TIMESTAMP
    last_epoch: int = NO_PRODUCER_EPOCH
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    version: TransactionVersion = TransactionVersion.TV1

    def is_current(self, producer_id: int, producer_epoch: int) -> bool:
        """Is this the producer's epoch? Of a Prepare also the one that it will have with its next
        id: its client has it already (KAFKA-18660)."""
        if (producer_id, producer_epoch) == (self.producer_id, self.producer_epoch):
            return True
        return self.next_producer_id != NO_PRODUCER_ID and (producer_id, producer_epoch) == (
            self.next_producer_id,
            0,
        )

    def is_last(self, producer_id: int, producer_epoch: int) -> bool:
        """Is this the epoch before the last raise, of a producer that may repeat itself? An epoch
        that is not below the present one was of the previous id."""
        if self.last_epoch == NO_PRODUCER_EPOCH or producer_epoch != self.last_epoch:
            return False
        if self.last_epoch < self.producer_epoch:
            return producer_id == self.producer_id
        return producer_id == self.previous_producer_id

    def fences(self, producer_id: int, producer_epoch: int) -> bool:
        """Has this epoch passed, for a producer that does not repeat itself? Then whatever it asks
        is refused, now and after any later record, until the id is forgotten: epochs only rise, and
        the last one is not below the present one of an earlier record."""
        return (
            producer_id == self.producer_id
            and producer_epoch < self.producer_epoch
            and not self.is_last(producer_id, producer_epoch)
        )

    def is_known(self, producer_id: int) -> bool:
        return producer_id == self.producer_id or (
            producer_id == self.next_producer_id != NO_PRODUCER_ID
        )

    def check(self, max_epoch: int) -> None:
        """The invariants of a record."""
        if self.state.is_quiet:
            assert not self.partitions, self
        if self.state.is_prepare:
            assert self.producer_epoch <= max_epoch + 1, self
        else:
            assert self.producer_epoch <= max_epoch, self
            assert self.next_producer_id == NO_PRODUCER_ID, self
        assert self.producer_id >= 0, self
        assert self.producer_epoch >= 0, self


@dataclass(frozen=True, slots=True)
class TransactionRecord:
    """`value` None: the id is forgotten."""

    transactional_id: str
    value: TransactionValue | None


@dataclass(frozen=True, slots=True)
class Marker:
    """The end of a transaction, as it is told to each of its partitions. `raised`: with it the
    epoch grew, so at the epoch that the partition knows it ends nothing (KIP-1228)."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    commits: bool
    raised: bool
