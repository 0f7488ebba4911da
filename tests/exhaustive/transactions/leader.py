"""The leader of the partitions, in the model: what section "Log" of the rules asks of it, in small.

A batch that opens a transaction waits for the coordinator's word, under a guard that any marker of
its producer id takes away. A marker ends what is open, and moves the epochs. Pure functions from a
value to the next. (The product's own is in core/replication; the model keeps to its rules.)
"""

from __future__ import annotations

from typing import Any

from minikafka.core.transactions.markers import (
    Incarnation,
    MarkerEntry,
    MarkerFilter,
    MarkerMessage,
    is_for_leadership,
)
from minikafka.core.transactions.values import Marker
from minikafka.errors import (
    InvalidProducerEpochError,
    NotLeaderOrFollowerError,
    TransactionCoordinatorFencedError,
)
from tests.exhaustive.transactions.values import (
    PARTITIONS,
    Data,
    Label,
    Part,
    Pending,
    Pid,
    Produce,
)

# Errors are compared in states of the world: one of each.
FENCED = TransactionCoordinatorFencedError("a later one is known")
NOT_LEADER = NotLeaderOrFollowerError("another leads, or it was sent to an earlier leadership")
PAST = InvalidProducerEpochError("past that epoch")
OK = ("ok", -1, -1)


def pid_of(part: Part, producer_id: int) -> Pid | None:
    return next((each for each in part.pids if each.producer_id == producer_id), None)


def with_pid(part: Part, pid: Pid) -> Part:
    others = [each for each in part.pids if each.producer_id != pid.producer_id]
    return part._replace(pids=tuple(sorted([*others, pid])))


def with_part(data: Data, index: int, part: Part) -> Data:
    return data._replace(parts=(*data.parts[:index], part, *data.parts[index + 1 :]))


# --- batches -------------------------------------------------------------------------------------


def on_produce(
    data: Data, produce: Produce, token: tuple[int, int]
) -> tuple[Data, tuple[Any, ...] | None]:
    """The answer, or None: it waits for the coordinator's word."""
    part = data.parts[produce.partition]
    known = pid_of(part, produce.producer_id)
    refusal = _refusal(known, produce)
    if refusal is not None:
        return data, refusal
    if is_open(known, produce.producer_epoch):
        return append(data, produce), OK
    return data._replace(pending=(*data.pending, Pending(produce, token))), None


def is_open(known: Pid | None, producer_epoch: int) -> bool:
    return known is not None and bool(known.opened) and known.producer_epoch == producer_epoch


def _refusal(known: Pid | None, produce: Produce) -> tuple[Any, ...] | None:
    """By epoch and sequence; or that it is there already."""
    if known is None:
        # In TV1 what was known may have expired: any first sequence will do.
        wrong = produce.tv == 2 and produce.sequence != 0
        return ("OUT_OF_ORDER_SEQUENCE_NUMBER",) if wrong else None
    if is_fenced(produce.producer_epoch, known.producer_epoch):
        return ("INVALID_PRODUCER_EPOCH",)
    same = produce.producer_epoch == known.producer_epoch
    if same and produce.label in known.batches:
        return OK
    if produce.sequence != (len(known.batches) if same else 0):
        return ("OUT_OF_ORDER_SEQUENCE_NUMBER",)
    return None


def is_fenced(producer_epoch: int, known_epoch: int) -> bool:
    return producer_epoch < known_epoch


def append(data: Data, produce: Produce) -> Data:
    part = data.parts[produce.partition]
    known = pid_of(part, produce.producer_id) or Pid(produce.producer_id, -1)
    batches: tuple[Label, ...] = known.batches
    if produce.producer_epoch != known.producer_epoch:
        batches = ()
    known = known._replace(
        producer_epoch=produce.producer_epoch,
        opened=(*known.opened, produce.label),
        batches=(*batches, produce.label),
    )
    part = with_pid(part, known)._replace(records=(*part.records, (produce.label, "open")))
    return with_part(data, produce.partition, part)


def on_word(data: Data, index: int) -> tuple[Data, Pending, tuple[Any, ...], bool]:
    """The coordinator has spoken about a batch that waits: (data, what waited, answer, does it open
    a transaction)."""
    pending = data.pending[index]
    data = data._replace(pending=(*data.pending[:index], *data.pending[index + 1 :]))
    produce = pending.produce
    if pending.word != "ok":
        fenced = pending.word in ("PRODUCER_FENCED", "INVALID_PRODUCER_ID_MAPPING")
        return data, pending, ("INVALID_PRODUCER_EPOCH" if fenced else pending.word,), False
    known = pid_of(data.parts[produce.partition], produce.producer_id)
    refusal = _refusal(known, produce)
    if refusal is not None:
        return data, pending, refusal, False
    if is_open(known, produce.producer_epoch):
        return append(data, produce), pending, OK, False
    if not pending.guard:
        return data, pending, ("TRANSACTION_ABORTABLE",), False
    return append(data, produce), pending, OK, True


# --- markers -------------------------------------------------------------------------------------


def on_markers(data: Data, message: MarkerMessage) -> tuple[Data, tuple[Any, ...] | None]:
    """What becomes of each entry; None: the message is dropped."""
    leads = message.target.broker_id == data.broker_id
    marker_filter = MarkerFilter(Incarnation(message.target.broker_id, data.incarnation))
    marker_filter._last = dict(data.heard if leads else data.other_heard)
    if not marker_filter.takes(message):
        return data, None
    heard = tuple(sorted(marker_filter._last.items()))
    data = data._replace(heard=heard) if leads else data._replace(other_heard=heard)
    outcomes = []
    for entry in message.entries:
        error: Exception | None = NOT_LEADER
        if leads and is_for_leadership(entry, data.leader_epoch):
            data, error = _on_marker(data, entry)
        outcomes.append(((entry.marker.producer_id, entry.partition), error))
    return data, tuple(outcomes)


def _on_marker(data: Data, entry: MarkerEntry) -> tuple[Data, Exception | None]:
    marker, index = entry.marker, PARTITIONS.index(entry.partition)
    data = data._replace(pending=unguarded(data.pending, index, marker))
    part = data.parts[index]
    known = pid_of(part, marker.producer_id) or Pid(marker.producer_id, -1)
    if entry.coordinator_epoch < known.coordinator_epoch:
        return data, FENCED
    same = marker.producer_epoch == known.producer_epoch
    if marker.producer_epoch < known.producer_epoch or (marker.raised and same and known.opened):
        return data, PAST
    outcome = "committed" if marker.commits else "aborted"
    records = tuple(
        (label, outcome) if label in known.opened and was == "open" else (label, was)
        for label, was in part.records
    )
    known = Pid(
        marker.producer_id,
        marker.producer_epoch,
        entry.coordinator_epoch,
        (),
        known.batches if same else (),
    )
    return with_part(data, index, with_pid(part, known)._replace(records=records)), None


def unguarded(pending: tuple[Pending, ...], index: int, marker: Marker) -> tuple[Pending, ...]:
    """A marker of a producer id takes the guards of its batches that wait, but for those of the
    epoch to which the end has raised it."""
    last_epoch = marker.producer_epoch - marker.raised
    return tuple(
        each._replace(guard=False)
        if (each.produce.partition, each.produce.producer_id) == (index, marker.producer_id)
        and each.produce.producer_epoch <= last_epoch
        else each
        for each in pending
    )
