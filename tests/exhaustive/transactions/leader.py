"""The leader of the partitions, in the model: what section "Log" of the rules asks of it, in small.

A batch that opens a transaction waits for the coordinator's word, under a guard that any marker of
its producer id takes away. A marker ends what is open, and moves the epochs. Pure functions from a
value to the next. (The product's own is in core/replication. What becomes of a marker is asked of
it, `planned_marker`; the model keeps to its rules for batches.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from minikafka.core.replication.producer_state import (
    NO_MARKER,
    NO_TRANSACTION,
    ProducerState,
    ProducerStateTable,
)
from minikafka.core.replication.transactional import TransactionEnd, planned_marker
from minikafka.core.transactions.markers import (
    Incarnation,
    MarkerEntry,
    MarkerFilter,
    MarkerMessage,
    is_for_leadership,
)
from minikafka.core.transactions.values import Marker
from minikafka.errors import (
    CoordinatorLoadInProgressError,
    InvalidProducerEpochError,
    NotLeaderOrFollowerError,
    RequestTimedOutError,
    TransactionCoordinatorFencedError,
)
from tests.exhaustive.transactions import group
from tests.exhaustive.transactions.values import (
    NO_SEQUENCE,
    OFFSETS,
    PARTITIONS,
    Data,
    Entry,
    Label,
    Part,
    Pending,
    Pid,
    Produce,
    Until,
)

# Errors are compared in states of the world: one of each.
FENCED = TransactionCoordinatorFencedError("a later one is known")
NOT_LEADER = NotLeaderOrFollowerError("another leads, or it was sent to an earlier leadership")
PAST = InvalidProducerEpochError("past that epoch")
LOADING = CoordinatorLoadInProgressError("the groups are still being read")
LATER = RequestTimedOutError("the marker is written, and not committed yet")
OK = ("ok", -1, -1)
ABORTABLE = ("TRANSACTION_ABORTABLE",)

Answer = tuple[Any, ...] | None  # None: not yet


class Answered(NamedTuple):
    """A batch that waited for the coordinator's word."""

    pending: Pending
    answer: Answer


def pid_of(part: Part, producer_id: int) -> Pid | None:
    return next((each for each in part.pids if each.producer_id == producer_id), None)


def with_pid(part: Part, pid: Pid) -> Part:
    others = [each for each in part.pids if each.producer_id != pid.producer_id]
    return part._replace(pids=tuple(sorted([*others, pid])))


def with_part(data: Data, index: int, part: Part) -> Data:
    return data._replace(parts=(*data.parts[:index], part, *data.parts[index + 1 :]))


# --- batches -------------------------------------------------------------------------------------


def is_of_group(data: Data, index: int) -> bool:
    return index == OFFSETS and data.group is not None


def on_produce(data: Data, produce: Produce, token: tuple[int, int]) -> tuple[Data, Answer]:
    """The answer, or None: it waits for the coordinator's word, or to be committed."""
    part = data.parts[produce.partition]
    known = pid_of(part, produce.producer_id)
    refusal = _refusal(known, produce)
    if refusal is not None:
        return data, refusal
    if is_open(known, produce.producer_epoch):
        return append(data, produce, token)
    return data._replace(pending=(*data.pending, Pending(produce, token))), None


def is_open(known: Pid | None, producer_epoch: int) -> bool:
    return known is not None and bool(known.opened) and known.producer_epoch == producer_epoch


def _refusal(known: Pid | None, produce: Produce) -> tuple[Any, ...] | None:
    """By epoch and sequence; or that it is there already."""
    if known is None:
        # In TV1 what was known may have expired: any first sequence will do.
        wrong = produce.tv == 2 and produce.sequence not in (0, NO_SEQUENCE)
        return ("OUT_OF_ORDER_SEQUENCE_NUMBER",) if wrong else None
    if is_fenced(produce.producer_epoch, known.producer_epoch):
        return ("INVALID_PRODUCER_EPOCH",)
    if produce.sequence == NO_SEQUENCE:
        return None
    same = produce.producer_epoch == known.producer_epoch
    if same and produce.label in known.batches:
        return OK
    if produce.sequence != (len(known.batches) if same else 0):
        return ("OUT_OF_ORDER_SEQUENCE_NUMBER",)
    return None


def is_fenced(producer_epoch: int, known_epoch: int) -> bool:
    return producer_epoch < known_epoch


def append(data: Data, produce: Produce, token: tuple[int, int]) -> tuple[Data, Answer]:
    index, sequenced = produce.partition, produce.sequence != NO_SEQUENCE
    part = with_batch(
        data.parts[index],
        (produce.producer_id, produce.producer_epoch),
        produce.label,
        sequenced=sequenced,
    )
    data = with_part(data, index, part)
    if not is_of_group(data, index):
        return data, OK
    assert data.group is not None
    entry = Entry(produce.label, produce.producer_id, produce.producer_epoch)
    return data._replace(group=group.staged(data.group, entry, token)), None


def with_batch(part: Part, producer: tuple[int, int], label: Label, *, sequenced: bool) -> Part:
    producer_id, producer_epoch = producer
    known = pid_of(part, producer_id) or Pid(producer_id, -1)
    batches: tuple[Label, ...] = known.batches
    if producer_epoch != known.producer_epoch:
        batches = ()
    known = known._replace(
        producer_epoch=producer_epoch,
        opened=(*known.opened, label),
        batches=(*batches, label) if sequenced else (),
    )
    return with_pid(part, known)._replace(records=(*part.records, (label, "open")))


def asks(data: Data, index: int) -> bool:
    """May the coordinator be asked about this one that waits? Commits of offsets have no sequence
    that would keep them in order: the first of a producer's asks, the others queue behind it."""
    produce = data.pending[index].produce
    return not is_of_group(data, produce.partition) or not any(
        (each.produce.partition, each.produce.producer_id)
        == (produce.partition, produce.producer_id)
        for each in data.pending[:index]
    )


def on_word(data: Data, index: int) -> tuple[Data, list[Answered], bool]:
    """The coordinator has spoken about a batch that waits, and about those that queue behind it:
    (data, the answers, is a transaction opened)."""
    first = data.pending[index]
    mine = [first]
    if is_of_group(data, first.produce.partition):
        producer = first.produce[:3]
        mine += [each for each in data.pending[index + 1 :] if each.produce[:3] == producer]
    left = tuple(each for each in data.pending if not any(each is one for one in mine))
    data, answers, opens = data._replace(pending=left), [], False
    for pending in mine:
        data, answer, opened = _spoken(data, pending._replace(word=first.word))
        answers.append(Answered(pending, answer))
        opens = opens or opened
    return data, answers, opens


def _spoken(data: Data, pending: Pending) -> tuple[Data, Answer, bool]:
    produce = pending.produce
    if pending.word != "ok":
        fenced = pending.word in ("PRODUCER_FENCED", "INVALID_PRODUCER_ID_MAPPING")
        return data, ("INVALID_PRODUCER_EPOCH" if fenced else pending.word,), False
    known = pid_of(data.parts[produce.partition], produce.producer_id)
    refusal = _refusal(known, produce)
    if refusal is not None:
        return data, refusal, False
    if is_open(known, produce.producer_epoch):
        return *append(data, produce, pending.token), False
    if not pending.guard:
        return data, ABORTABLE, False
    return *append(data, produce, pending.token), True


# --- markers -------------------------------------------------------------------------------------


def on_markers(data: Data, message: MarkerMessage) -> tuple[Data, tuple[Any, ...] | None]:
    """What becomes of each entry (`Until`: that is open yet); None: the message is dropped."""
    leads = message.target.broker_id == data.broker_id
    marker_filter = MarkerFilter(Incarnation(message.target.broker_id, data.incarnation))
    marker_filter._last = dict(data.heard if leads else data.other_heard)
    if not marker_filter.takes(message):
        return data, None
    heard = tuple(sorted(marker_filter._last.items()))
    data = data._replace(heard=heard) if leads else data._replace(other_heard=heard)
    outcomes = []
    for entry in message.entries:
        error: Exception | Until | None = NOT_LEADER
        if leads and is_for_leadership(entry, data.leader_epoch):
            data, error = _on_marker(data, entry)
        outcomes.append(((entry.marker.producer_id, entry.partition), error))
    return data, tuple(outcomes)


def _on_marker(data: Data, entry: MarkerEntry) -> tuple[Data, Exception | Until | None]:
    marker, index = entry.marker, PARTITIONS.index(entry.partition)
    data = data._replace(pending=unguarded(data.pending, index, marker))
    if not is_of_group(data, index):
        data, _, error = _append_marker(data, index, entry)
        return data, error
    assert data.group is not None
    if not group.takes_markers(data.group):
        return data, LOADING
    data, appended, error = _append_marker(data, index, entry)
    if error is not None:
        return data, error
    if appended:
        log_entry = Entry(
            None,
            marker.producer_id,
            marker.producer_epoch,
            entry.coordinator_epoch,
            marker.commits,
        )
        data = data._replace(group=group.ended(data.group, log_entry))
    assert data.group is not None
    return data, Until(group.marker_end(data.group, marker.producer_id))


def _append_marker(
    data: Data, index: int, entry: MarkerEntry
) -> tuple[Data, bool, Exception | None]:
    """By the real rule: is it appended, or confirmed as it is, or refused?"""
    marker, part = entry.marker, data.parts[index]
    producer_id, producer_epoch = marker.producer_id, marker.producer_epoch
    end = TransactionEnd(
        producer_id, producer_epoch, entry.coordinator_epoch, marker.commits, marker.raised
    )
    try:
        plan = planned_marker(_table(part, producer_id), end, 1, data.leader_epoch)
    except TransactionCoordinatorFencedError:
        return data, False, FENCED
    except InvalidProducerEpochError:
        return data, False, PAST
    if plan.header is None:
        return data, False, None
    part = with_marker(
        part, (producer_id, producer_epoch), entry.coordinator_epoch, commits=marker.commits
    )
    return with_part(data, index, part), True, None


def _table(part: Part, producer_id: int) -> ProducerStateTable:
    """As the core has it. (Where the last marker lies, the model knows by itself.)"""
    table, known = ProducerStateTable(), pid_of(part, producer_id)
    if known is not None:
        state = ProducerState(
            known.producer_epoch,
            coordinator_epoch=known.coordinator_epoch,
            open_first_offset=0 if known.opened else NO_TRANSACTION,
            marker_end=NO_MARKER if known.coordinator_epoch < 0 else 1,
        )
        table.restore(producer_id, state)
    return table


def with_marker(
    part: Part, producer: tuple[int, int], coordinator_epoch: int, *, commits: bool
) -> Part:
    producer_id, producer_epoch = producer
    known = pid_of(part, producer_id) or Pid(producer_id, -1)
    outcome = "committed" if commits else "aborted"
    records = tuple(
        (label, outcome) if label in known.opened and was == "open" else (label, was)
        for label, was in part.records
    )
    batches = known.batches if producer_epoch == known.producer_epoch else ()
    known = Pid(producer_id, producer_epoch, coordinator_epoch, (), batches)
    return with_pid(part, known)._replace(records=records)


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


def refused_by_markers(data: Data) -> tuple[Data, list[Answered]]:
    """Commits of offsets that wait without a guard are refused at once: without a sequence, they
    could come into the next transaction."""
    gone = [
        each
        for each in data.pending
        if is_of_group(data, each.produce.partition) and not each.guard
    ]
    left = tuple(each for each in data.pending if each not in gone)
    return data._replace(pending=left), [Answered(each, ABORTABLE) for each in gone]


# --- the group's log -----------------------------------------------------------------------------


def group_taken_over(data: Data, end: int | None) -> Data:
    """Another leadership begins in the group's log, which ends here then."""
    if data.group is None:
        return data
    assert end is not None
    taken_over = group.taken_over(data.group, end)
    return with_part(data._replace(group=taken_over), OFFSETS, part_of(taken_over.log))


def part_of(log: tuple[Entry, ...]) -> Part:
    """What a replay of the group's log says of its producers."""
    part = Part()
    for entry in log:
        producer = entry.producer_id, entry.producer_epoch
        if entry.label is None:
            part = with_marker(part, producer, entry.coordinator_epoch, commits=entry.commits)
        elif entry.producer_id >= 0:
            part = with_batch(part, producer, entry.label, sequenced=False)
    return part
