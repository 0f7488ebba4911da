"""What a leader asks before a transaction begins in its log, and before one ends there
(transactions.md, T3 and T5).

A batch that would open a transaction is appended on the coordinator's word only: that the partition
is in this transaction of this producer. The first one asks, and puts a guard; all later ones of
that producer queue behind it, and are then appended in order, or refused alike. A marker of the
producer takes the guard: a word that comes after that may be about the transaction that has ended,
and counts as a no. But for what has the epoch that the end has raised the producer's to (KIP-890),
or a higher one: a word for that is about the next transaction.

State: the guards, by producer, each with its question and the batches that wait; and the question
that was answered with yes last, for whose batches that holds until the next event. Invariants: a
producer has one guard at most; who waits is in the order of arrival; all of it ends with the
leadership.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from minikafka.core.replication.effects import (
    AppendWaiting,
    AskCoordinator,
    Effect,
    RefuseWaiting,
    TransactionQuestion,
)
from minikafka.core.replication.producer_state import (
    NO_COORDINATOR_EPOCH,
    NO_MARKER,
    NO_SEQUENCE,
    ProducerState,
    ProducerStateTable,
)
from minikafka.errors import (
    InvalidProducerEpochError,
    MinikafkaError,
    TransactionAbortableError,
    TransactionCoordinatorFencedError,
)
from minikafka.model import CONTROL, TRANSACTIONAL, BatchHeader, EndMarker, TopicPartition


@dataclass(frozen=True, slots=True)
class TransactionalProduce:
    """Under which transaction a batch is produced. `adds`: the partition is added to it if it is
    not in it (KIP-890, Produce 12), and a producer that is not known begins with sequence 0.
    `word`: the question that was answered with yes, once it was."""

    transactional_id: str
    adds: bool
    word: TransactionQuestion | None = None


@dataclass(frozen=True, slots=True)
class TransactionEnd:
    """A coordinator's message that a transaction has ended. `coordinator_epoch` -1: as it is known
    here. `raised`: the end has raised the producer's epoch (KIP-890, or a fence)."""

    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    commits: bool
    raised: bool


@dataclass(frozen=True, slots=True)
class MarkerPlan:
    """What becomes of a marker: `header` is how it is to be appended, as far as that is known
    before it is built (no size, CRC, time); None: one that says the same is in the log. It is
    confirmed when all below `required_offset` is committed."""

    header: BatchHeader | None
    marker: EndMarker
    required_offset: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    token: object
    producer_epoch: int
    transaction: TransactionalProduce


@dataclass(slots=True)
class _Guard:
    question: TransactionQuestion
    waiting: list[_Waiting] = field(default_factory=list)


class OpeningTransactions:
    """Of one leader. `leadership` tells its questions from those of others; `coordinator_epoch`
    gives that of a producer's last marker."""

    def __init__(
        self,
        topic_partition: TopicPartition,
        leadership: int,
        coordinator_epoch: Callable[[int], int],
    ) -> None:
        self._topic_partition = topic_partition
        self._leadership = leadership
        self._coordinator_epoch = coordinator_epoch
        self._asked = 0
        self._guards: dict[int, _Guard] = {}
        self._word: TransactionQuestion | None = None

    def __len__(self) -> int:
        return sum(len(guard.waiting) for guard in self._guards.values())

    def __contains__(self, producer_id: int) -> bool:
        """Does anything of this producer wait?"""
        return producer_id in self._guards

    def admit(
        self, header: BatchHeader, table: ProducerStateTable, transaction: TransactionalProduce
    ) -> bool:
        """May this batch of a transaction be appended now? If not, it has to wait."""
        word = self._word
        if word is not None and word is transaction.word:
            asked_for = (word.producer_id, word.producer_epoch)
            return asked_for == (header.producer_id, header.producer_epoch)
        if header.producer_id in self._guards:
            return False
        known = table.get(header.producer_id)
        return known is not None and known.is_open and known.producer_epoch == header.producer_epoch

    def wait(
        self, token: object, header: BatchHeader, transaction: TransactionalProduce
    ) -> list[Effect]:
        """One that was not admitted: the first one of its producer asks."""
        waiting = _Waiting(token, header.producer_epoch, transaction)
        guard = self._guards.get(header.producer_id)
        if guard is not None:
            guard.waiting.append(waiting)
            return []
        return [self._ask(header.producer_id, [waiting])]

    def _ask(self, producer_id: int, waiting: list[_Waiting]) -> Effect:
        self._asked += 1
        first = waiting[0]
        question = TransactionQuestion(
            (self._leadership, self._asked),
            self._topic_partition,
            first.transaction.transactional_id,
            producer_id,
            first.producer_epoch,
            first.transaction.adds,
            self._coordinator_epoch(producer_id),
        )
        self._guards[producer_id] = _Guard(question, waiting)
        return AskCoordinator(question, again=False)

    def answered(self, question: TransactionQuestion, error: MinikafkaError | None) -> list[Effect]:
        """The coordinator's word; nothing of it counts if its guard has gone. What may be different
        later is asked again."""
        self._word = None
        guard = self._guards.get(question.producer_id)
        if guard is None or guard.question != question:
            return []
        if error is not None and error.retriable:
            return [AskCoordinator(question, again=True)]
        del self._guards[question.producer_id]
        mine = [
            each.token for each in guard.waiting if each.producer_epoch == question.producer_epoch
        ]
        others = [each for each in guard.waiting if each.producer_epoch != question.producer_epoch]
        effects: list[Effect]
        if error is None:
            self._word = guard.question
            effects = [AppendWaiting(guard.question, tuple(mine))]
        else:
            effects = [RefuseWaiting(token, error) for token in mine]
        if others:
            effects.append(self._ask(question.producer_id, others))
        return effects

    def on_marker(self, producer_id: int, producer_epoch: int, *, raised: bool) -> list[Effect]:
        """A marker of this producer has come. It takes the guard of what it may have ended, and not
        of what a producer has begun with the epoch that the end gave it."""
        self._word = None
        guard = self._guards.get(producer_id)
        if guard is None:
            return []
        last_epoch = producer_epoch - 1 if raised else producer_epoch
        ended = [each for each in guard.waiting if each.producer_epoch <= last_epoch]
        left = [each for each in guard.waiting if each.producer_epoch > last_epoch]
        error = TransactionAbortableError(
            f"the transaction of producer {producer_id} has ended while its records for "
            f"{self._topic_partition} waited for the word of its coordinator"
        )
        effects: list[Effect] = [RefuseWaiting(each.token, error) for each in ended]
        if not left:
            del self._guards[producer_id]
        elif guard.question.producer_epoch <= last_epoch:
            effects.append(self._ask(producer_id, left))
        else:
            guard.waiting = left
        return effects

    def give_up(self, token: object, error: MinikafkaError) -> list[Effect]:
        """The time of this one is over: what waits behind it must not be appended without it."""
        for producer_id, guard in self._guards.items():
            if any(each.token == token for each in guard.waiting):
                return self._refuse(producer_id, error)
        return []

    def refuse_all(self, error: MinikafkaError) -> list[Effect]:
        """The leadership is over."""
        self._word = None
        return [effect for each in list(self._guards) for effect in self._refuse(each, error)]

    def _refuse(self, producer_id: int, error: MinikafkaError) -> list[Effect]:
        guard = self._guards.pop(producer_id, None)
        waiting = [] if guard is None else guard.waiting
        return [RefuseWaiting(each.token, error) for each in waiting]

    def check(self) -> None:
        """Assert what can be seen from here."""
        for producer_id, guard in self._guards.items():
            assert guard.question.producer_id == producer_id, guard
            assert guard.waiting, guard


def planned_marker(
    table: ProducerStateTable, end: TransactionEnd, log_end_offset: int, leader_epoch: int
) -> MarkerPlan:
    """What becomes of a marker at the end of this log. If both its epochs are known and nothing is
    open, it says what has been said, and stands for the marker that said so.

    Raises TransactionCoordinatorFencedError for an older coordinator than one heard already, and
    InvalidProducerEpochError where the producer is past this epoch.
    """
    known = table.get(end.producer_id) or ProducerState(-1)
    coordinator_epoch = end.coordinator_epoch
    if coordinator_epoch == NO_COORDINATOR_EPOCH:
        coordinator_epoch = max(known.coordinator_epoch, 0)
    if coordinator_epoch < known.coordinator_epoch:
        raise TransactionCoordinatorFencedError(
            f"a coordinator of epoch {known.coordinator_epoch} has ended a transaction of producer "
            f"{end.producer_id} already; {coordinator_epoch} is old"
        )
    again = end.producer_epoch == known.producer_epoch
    if end.producer_epoch < known.producer_epoch or (end.raised and again and known.is_open):
        raise InvalidProducerEpochError(
            f"producer {end.producer_id} has epoch {known.producer_epoch} here; a marker of epoch "
            f"{end.producer_epoch} ends nothing any more"
        )
    marker = EndMarker(end.commits, coordinator_epoch)
    said = again and coordinator_epoch == known.coordinator_epoch and not known.is_open
    if said and known.marker_end != NO_MARKER:
        return MarkerPlan(None, marker, known.marker_end)
    header = BatchHeader(
        log_end_offset,
        0,
        leader_epoch,
        0,
        TRANSACTIONAL | CONTROL,
        0,
        -1,
        -1,
        end.producer_id,
        end.producer_epoch,
        NO_SEQUENCE,
        1,
    )
    return MarkerPlan(header, marker, log_end_offset + 1)
