"""What a partition remembers of idempotent and transactional producers (KIP-98, KIP-360, KIP-890).

State per producer id: its epoch, the last five batches of that epoch as (first sequence, last
sequence, base offset), its open transaction, what its last marker said, and when it was last known
to be active. And which transactions are not stable yet (unstable.py). Invariants: the remembered
batches are contiguous in sequence, oldest first, and their offsets rise (replication.md section 7,
no. 16); a producer's epoch never falls (no. 25); who appended last is the last of the table, but
for those with open transactions. Leaders check before they append; followers and recovery take
over what the log holds without rejecting anything.

A transaction begins with a batch of records that says so and ends with a marker of its producer.
Batches without records do neither: compaction leaves them, without their markers. A marker of a
higher epoch empties the batches: what comes next has sequence 0.

A producer is forgotten when it has appended nothing, and no marker of it was, for a while by the
broker's clock; or, above PRODUCERS_MAX, when nobody of the table has appended nothing for longer.
Its batches' timestamps say nothing about that: who writes down what happened last year retries as
everybody does. Who has a transaction open is never forgotten.

Sequences count records per producer and partition from 0 and wrap after 2**31 - 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from minikafka.core.replication.unstable import UnstableTransactions
from minikafka.errors import (
    InvalidProducerEpochError,
    InvalidTxnStateError,
    OutOfOrderSequenceNumberError,
)
from minikafka.model import CONTROL, TRANSACTIONAL, BatchHeader, EndMarker

MAX_SEQUENCE = 2**31 - 1
BATCHES_REMEMBERED = 5
NO_PRODUCER_ID = -1
NO_SEQUENCE = -1
NO_TRANSACTION = -1
NO_COORDINATOR_EPOCH = -1
NO_MARKER = -1
PRODUCERS_MAX = 100_000  # of a partition: some 40 MB
SINCE_THEN = -1
_OF_A_TRANSACTION = TRANSACTIONAL | CONTROL


def sequence_after(sequence: int, count: int = 1) -> int:
    """The sequence `count` after this one, wrapping to 0 after 2**31 - 1."""
    return (sequence + count) & MAX_SEQUENCE


@dataclass(frozen=True, slots=True)
class ProducedBatch:
    """A batch that was appended: sequences and offsets, first and last inclusive."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    last_offset: int


@dataclass(slots=True)
class ProducerState:
    """One producer id: its epoch, and its last batches, oldest first (at most five). `active_ms` is
    the wall-clock time of the first look for idle producers after its last batch; SINCE_THEN until
    there was one. `open_first_offset`: where its open transaction begins. `coordinator_epoch`,
    `marker_end`: what its last marker said, and the offset after it. `last_timestamp_ms`: of its
    last batch, for people. `starts_anywhere`: it was met by a marker first, so any sequence may
    come next."""

    producer_epoch: int
    batches: list[ProducedBatch] = field(default_factory=list)
    active_ms: int = SINCE_THEN
    coordinator_epoch: int = NO_COORDINATOR_EPOCH
    open_first_offset: int = NO_TRANSACTION
    last_timestamp_ms: int = -1
    marker_end: int = NO_MARKER
    starts_anywhere: bool = False

    @property
    def is_open(self) -> bool:
        return self.open_first_offset != NO_TRANSACTION

    def copied(self) -> ProducerState:
        """An independent copy (the batches themselves are frozen)."""
        return replace(self, batches=list(self.batches))

    def raise_epoch(self, producer_epoch: int) -> None:
        """What was sent under the epoch before is of no interest any more."""
        if producer_epoch > self.producer_epoch:
            self.producer_epoch = producer_epoch
            self.batches.clear()
            self.starts_anywhere = False


class ProducerStateTable:
    """All idempotent producers of one partition."""

    __slots__ = ("_producers", "unstable")

    def __init__(self) -> None:
        self._producers: dict[int, ProducerState] = {}
        self.unstable = UnstableTransactions()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ProducerStateTable)
            and self._producers == other._producers
            and self.unstable == other.unstable
        )

    def __len__(self) -> int:
        return len(self._producers)

    def items(self) -> Iterable[tuple[int, ProducerState]]:
        """(producer id, state), for snapshots and for the tests."""
        return self._producers.items()

    def get(self, producer_id: int) -> ProducerState | None:
        return self._producers.get(producer_id)

    def copied(self) -> ProducerStateTable:
        """An independent copy."""
        copy = ProducerStateTable()
        for producer_id, state in self._producers.items():
            copy.restore(producer_id, state.copied())
        for first_offset, marker_offset in self.unstable.ended():
            copy.restore_ended(first_offset, marker_offset)
        return copy

    def restore(self, producer_id: int, state: ProducerState) -> None:
        """Put back one producer from a snapshot."""
        self._producers[producer_id] = state
        if state.is_open:
            self.unstable.open(state.open_first_offset)

    def restore_ended(self, first_offset: int, marker_offset: int) -> None:
        """Put back a transaction that had its marker; in the order of the markers."""
        self.unstable.open(first_offset)
        self.unstable.end(first_offset, marker_offset)

    def check(self, header: BatchHeader, *, from_zero: bool = False) -> ProducedBatch | None:
        """May the leader append this batch? None: yes. A ProducedBatch: it is a repetition of that
        one, to be answered with its offsets. `from_zero`: a producer of which nothing is known has
        to begin with sequence 0 (KIP-890: every transaction has an epoch of its own).

        Raises InvalidProducerEpochError for a fenced (older) epoch, OutOfOrderSequenceNumberError
        for a gap or for a repetition that is no longer remembered, InvalidTxnStateError for a batch
        of no transaction while one is open.
        """
        if header.producer_id == NO_PRODUCER_ID:
            return None
        known = self._producers.get(header.producer_id)
        if known is None:
            if from_zero and header.base_sequence > 0:
                raise self._out_of_order(header, 0)
            return None  # its state may have expired: accept any first sequence (KIP-360)
        if header.producer_epoch < known.producer_epoch:
            raise InvalidProducerEpochError(
                f"producer {header.producer_id} has epoch {known.producer_epoch} here; "
                f"epoch {header.producer_epoch} is fenced"
            )
        if known.open_first_offset != NO_TRANSACTION and not header.attributes & TRANSACTIONAL:
            raise InvalidTxnStateError(
                f"producer {header.producer_id} has a transaction open since offset "
                f"{known.open_first_offset}; what it writes has to be part of it"
            )
        if header.base_sequence == NO_SEQUENCE:  # of a broker's own: offsets of a transaction
            return None
        if header.producer_epoch > known.producer_epoch:
            if header.base_sequence != 0:
                raise OutOfOrderSequenceNumberError(
                    f"producer {header.producer_id} begins epoch {header.producer_epoch} with "
                    f"sequence {header.base_sequence}; the first must be 0"
                )
            return None
        return self._check_sequence(header, known, from_zero)

    def _check_sequence(
        self, header: BatchHeader, known: ProducerState, from_zero: bool
    ) -> ProducedBatch | None:
        last_sequence = sequence_after(header.base_sequence, header.last_offset_delta)
        for batch in known.batches:
            if (batch.first_sequence, batch.last_sequence) == (header.base_sequence, last_sequence):
                return batch
        if known.batches:
            expected = sequence_after(known.batches[-1].last_sequence)
        elif known.starts_anywhere and not from_zero:
            return None
        else:
            expected = 0
        if header.base_sequence != expected:
            raise self._out_of_order(header, expected)
        return None

    @staticmethod
    def _out_of_order(header: BatchHeader, expected: int) -> OutOfOrderSequenceNumberError:
        return OutOfOrderSequenceNumberError(
            f"producer {header.producer_id} epoch {header.producer_epoch} sent sequence "
            f"{header.base_sequence}; {expected} comes next"
        )

    def update(self, header: BatchHeader, marker: EndMarker | None = None) -> int:
        """Remember an appended batch, whatever it is (followers and recovery do not reject). Of a
        control batch `marker` is what it says, None if that is nothing. Returns where the
        transaction begins that it ended; NO_TRANSACTION if there was none.

        A batch that does not follow on the last of its producer was accepted by a leader that had
        forgotten that producer: then this table forgets the older ones, too.
        """
        if header.producer_id == NO_PRODUCER_ID:
            return NO_TRANSACTION
        known = self._producers.pop(header.producer_id, None)
        if known is None:
            known = ProducerState(header.producer_epoch)
            if len(self._producers) >= PRODUCERS_MAX:
                self._make_room()
            known.starts_anywhere = header.base_sequence == NO_SEQUENCE
        self._producers[header.producer_id] = known
        known.active_ms = SINCE_THEN
        known.last_timestamp_ms = header.max_timestamp_ms
        if header.attributes & _OF_A_TRANSACTION:
            if header.attributes & CONTROL:
                return self._end(known, header, marker)
            if known.open_first_offset == NO_TRANSACTION and header.record_count:
                known.open_first_offset = header.base_offset
                self.unstable.open(header.base_offset)
        if header.base_sequence == NO_SEQUENCE:
            known.raise_epoch(header.producer_epoch)
            return NO_TRANSACTION
        batches = known.batches
        if (
            known.producer_epoch != header.producer_epoch
            or not batches
            or sequence_after(batches[-1].last_sequence) != header.base_sequence
        ):
            known.producer_epoch = header.producer_epoch
            known.starts_anywhere = False
            batches.clear()
        batches.append(
            ProducedBatch(
                header.base_sequence,
                sequence_after(header.base_sequence, header.last_offset_delta),
                header.base_offset,
                header.last_offset,
            )
        )
        del batches[:-BATCHES_REMEMBERED]
        return NO_TRANSACTION

    def _end(self, known: ProducerState, header: BatchHeader, marker: EndMarker | None) -> int:
        known.raise_epoch(header.producer_epoch)
        if marker is None:
            return NO_TRANSACTION
        known.coordinator_epoch = max(known.coordinator_epoch, marker.coordinator_epoch)
        known.marker_end = header.next_offset
        first_offset = known.open_first_offset
        if first_offset != NO_TRANSACTION:
            known.open_first_offset = NO_TRANSACTION
            self.unstable.end(first_offset, header.base_offset)
        return first_offset

    def _make_room(self) -> None:
        """Forget who has appended nothing for longest. Who has a transaction open is passed over,
        and stands at the end from then on, so that nobody is passed over again and again."""
        producers = self._producers
        for _ in range(len(producers)):
            producer_id = next(iter(producers))
            state = producers.pop(producer_id)
            if not state.is_open:
                return
            producers[producer_id] = state

    def expire(self, now_timestamp_ms: int, idle_ms: int) -> None:
        """Forget producers that have appended nothing for `idle_ms` (wall clock). To be called now
        and then: that often is how exact it is."""
        expired = []
        for producer_id, state in self._producers.items():
            if state.is_open:
                state.active_ms = SINCE_THEN
            elif not 0 <= state.active_ms <= now_timestamp_ms:  # or the clock was put back
                state.active_ms = now_timestamp_ms
            elif now_timestamp_ms - state.active_ms >= idle_ms:
                expired.append(producer_id)
        for producer_id in expired:
            del self._producers[producer_id]
