"""What a partition remembers of idempotent producers (KIP-98, KIP-360).

State per producer id: its epoch, the last five batches as (first sequence, last sequence, base
offset), and when it was last known to be active. Invariants: the remembered batches are contiguous
in sequence, oldest first, and their offsets rise (replication.md section 7, no. 16); who appended
last is the last of the table. Leaders check before they append; followers and recovery take over
what the log holds without rejecting anything.

A producer is forgotten when it has appended nothing for a while by the broker's clock; or, above
PRODUCERS_MAX, when nobody of the table has appended nothing for longer. Its batches' timestamps say
nothing about that: who writes down what happened last year retries as everybody does.

Sequences count records per producer and partition from 0 and wrap after 2**31 - 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from minikafka.errors import InvalidProducerEpochError, OutOfOrderSequenceNumberError
from minikafka.model import BatchHeader

MAX_SEQUENCE = 2**31 - 1
BATCHES_REMEMBERED = 5
NO_PRODUCER_ID = -1
PRODUCERS_MAX = 100_000  # of a partition: some 40 MB
SINCE_THEN = -1


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
    there was one."""

    producer_epoch: int
    batches: list[ProducedBatch] = field(default_factory=list)
    active_ms: int = SINCE_THEN


class ProducerStateTable:
    """All idempotent producers of one partition."""

    __slots__ = ("_producers",)

    def __init__(self) -> None:
        self._producers: dict[int, ProducerState] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProducerStateTable) and self._producers == other._producers

    def __len__(self) -> int:
        return len(self._producers)

    def items(self) -> Iterable[tuple[int, ProducerState]]:
        """(producer id, state), for snapshots and for the tests."""
        return self._producers.items()

    def restore(self, producer_id: int, state: ProducerState) -> None:
        """Put back one producer from a snapshot, with at least one batch."""
        assert state.batches, (producer_id, state)
        self._producers[producer_id] = state

    def check(self, header: BatchHeader) -> ProducedBatch | None:
        """May the leader append this batch? None: yes. A ProducedBatch: it is a repetition of that
        one, to be answered with its offsets.

        Raises InvalidProducerEpochError for a fenced (older) epoch and
        OutOfOrderSequenceNumberError for a gap or for a repetition that is no longer remembered.
        """
        if header.producer_id == NO_PRODUCER_ID:
            return None
        known = self._producers.get(header.producer_id)
        if known is None:
            return None  # its state may have expired: accept any first sequence (KIP-360)
        if header.producer_epoch < known.producer_epoch:
            raise InvalidProducerEpochError(
                f"producer {header.producer_id} has epoch {known.producer_epoch} here; "
                f"epoch {header.producer_epoch} is fenced"
            )
        if header.producer_epoch > known.producer_epoch:
            if header.base_sequence != 0:
                raise OutOfOrderSequenceNumberError(
                    f"producer {header.producer_id} begins epoch {header.producer_epoch} with "
                    f"sequence {header.base_sequence}; the first must be 0"
                )
            return None
        return self._check_sequence(header, known)

    def _check_sequence(self, header: BatchHeader, known: ProducerState) -> ProducedBatch | None:
        last_sequence = sequence_after(header.base_sequence, header.last_offset_delta)
        for batch in known.batches:
            if (batch.first_sequence, batch.last_sequence) == (header.base_sequence, last_sequence):
                return batch
        expected = sequence_after(known.batches[-1].last_sequence)
        if header.base_sequence != expected:
            raise OutOfOrderSequenceNumberError(
                f"producer {header.producer_id} epoch {header.producer_epoch} sent sequence "
                f"{header.base_sequence}; {expected} comes next"
            )
        return None

    def update(self, header: BatchHeader) -> None:
        """Remember an appended batch, whatever it is (followers and recovery do not reject).

        One that does not follow on the last of its producer was accepted by a leader that had
        forgotten that producer: then this table forgets the older ones, too.
        """
        if header.producer_id == NO_PRODUCER_ID:
            return
        known = self._producers.pop(header.producer_id, None)
        if (
            known is None
            or known.producer_epoch != header.producer_epoch
            or sequence_after(known.batches[-1].last_sequence) != header.base_sequence
        ):
            known = ProducerState(header.producer_epoch)
            if len(self._producers) >= PRODUCERS_MAX:
                del self._producers[next(iter(self._producers))]
        self._producers[header.producer_id] = known
        known.active_ms = SINCE_THEN
        known.batches.append(
            ProducedBatch(
                header.base_sequence,
                sequence_after(header.base_sequence, header.last_offset_delta),
                header.base_offset,
                header.last_offset,
            )
        )
        del known.batches[:-BATCHES_REMEMBERED]

    def expire(self, now_timestamp_ms: int, idle_ms: int) -> None:
        """Forget producers that have appended nothing for `idle_ms` (wall clock). To be called now
        and then: that often is how exact it is."""
        expired = []
        for producer_id, state in self._producers.items():
            if not 0 <= state.active_ms <= now_timestamp_ms:  # or the clock was put back
                state.active_ms = now_timestamp_ms
            elif now_timestamp_ms - state.active_ms >= idle_ms:
                expired.append(producer_id)
        for producer_id in expired:
            del self._producers[producer_id]
