"""Rules of transactions, switched off one at a time: the search must notice.

As in tests/exhaustive/mutations.py: each `Mutation` takes one rule out of the real coordinator (or
out of what surrounds it), and says in which bounds the search then finds which violation.

State: none outlives `applied`, which puts everything back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from minikafka.core.groups.offset_table import OffsetTable
from minikafka.core.groups.offsets import GroupOffsets
from minikafka.core.transactions import moves, rules
from minikafka.core.transactions.journal import Journal
from minikafka.core.transactions.marker_outbox import How, MarkerOutbox
from minikafka.core.transactions.markers import Deleted, MarkerFilter
from minikafka.core.transactions.producer_ids import SpareProducerIds
from minikafka.core.transactions.requests import AddRequest, Answer, EndRequest, InitRequest
from minikafka.core.transactions.rules import Circumstances, Write
from minikafka.core.transactions.transaction import Transaction
from minikafka.core.transactions.values import (
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    TransactionState,
    TransactionValue,
    TransactionVersion,
)
from tests.exhaustive.mutations import Patches
from tests.exhaustive.transactions import coordinator, group, leader, world
from tests.exhaustive.transactions.coordinator import NOW, TOO_FEW, LiveCoordinator
from tests.exhaustive.transactions.draft import Bounds
from tests.exhaustive.transactions.values import Budget


@dataclass(frozen=True)
class Mutation:
    """`rule` is what is switched off; `breaks` is how the violation begins that is found first, one
    of the shortest. `heals`: every state has to heal, too. `why_not`: why nothing is found, to the
    end of the search."""

    name: str
    rule: str
    patches: Patches
    bounds: Bounds
    breaks: str = ""
    heals: bool = False
    why_not: str = ""


# --- memory is the log ---------------------------------------------------------------------------

_stored = coordinator.stored
_when_committed = Journal.when_committed
_on_appended = Transaction.on_appended
_decide = Transaction._decide


def _take_back(self: LiveCoordinator, value: Any, number: int) -> None:
    """As Kafka: after an error that leaves open whether the record counts, it does not count."""
    self.appended.append(_stored(value))
    if self.surroundings.shrunk:
        self.do(self.transaction.on_refused(number, TOO_FEW, NOW))
    else:
        self.do(self.transaction.on_appended(number, NOW))


def _without(**lost: Any) -> Any:
    def stored(value: Any) -> Any:
        return None if value is None else replace(_stored(value), **lost)

    return stored


def _markers_at_append(self: Transaction, number: int, now: Any) -> Any:
    effects = _on_appended(self, number, now)
    if self.value is not None and self.value.state.is_prepare and self._unconfirmed is None:
        self._on_prepare_committed(now)
    return effects + self._done()


def _tell_at_once(self: Transaction, waiting: Any, now: Any) -> None:
    """What is so by a record that is not committed yet, is told."""
    decision = rules.decide(self.value, waiting.request, self._circumstances(now))
    if isinstance(decision, rules.Tell | rules.Repeat):
        self._reply(waiting, decision.result)
    else:
        _decide(self, waiting, now)


def _never_early(self: Transaction, number: int, now: Any) -> Any:
    """The answer to who asked for a record leaves when it is in the log."""
    writing = self._journal.writing
    assert writing is not None
    early = writing.result is not None
    if early:
        self._reply(writing.cause, writing.result)  # type: ignore[arg-type]
        self._journal.writing = replace(writing, cause="told", result=None)
    return _on_appended(self, number, now)


# --- one decision --------------------------------------------------------------------------------

_on_add = rules._on_add
_prepare_committed = Transaction._on_prepare_committed


def _add_in_a_prepare(value: Any, request: Any, circumstances: Any) -> Any:
    if value.state.is_prepare:
        again = replace(value, state=TransactionState.ONGOING, next_producer_id=NO_PRODUCER_ID)
        return Write(moves.added(again, request.partitions, 0), Answer())
    return _on_add(value, request, circumstances)


_request = LiveCoordinator._request


def _hear_late(kind: type) -> Any:
    """Requests of this kind are executed on any connection."""

    def request(self: LiveCoordinator, request: Any, token: Any) -> None:
        if isinstance(request, kind):
            self.do(self.transaction.handle(request, token, NOW))
        else:
            _request(self, request, token)

    return request


def _decide_anew(value: TransactionValue) -> TransactionValue:
    if value.state is TransactionState.PREPARE_COMMIT:
        return replace(value, state=TransactionState.PREPARE_ABORT)
    return value


def _skip_a_partition(self: Transaction, now: Any) -> None:
    value = self.value
    assert value is not None
    told = replace(value, partitions=frozenset(sorted(value.partitions)[:1]))
    self._journal.value = told
    _prepare_committed(self, now)
    self._journal.value = value


def _restore_quietly(self: Transaction, value: TransactionValue, now: Any) -> Any:
    self._journal.restore(value)
    return []


def _deleted() -> Any:
    return Deleted()


# --- epochs --------------------------------------------------------------------------------------

_ended_raising = rules.ended_raising
_initialized = rules.initialized


def _fence_without_bump(value: Any, fresh: int, last_epoch: int, **rest: Any) -> Any:
    raised = _ended_raising(value, fresh, last_epoch, **rest)
    if last_epoch == NO_PRODUCER_EPOCH:
        return replace(raised, producer_epoch=value.producer_epoch)
    return raised


def _before_last(self: TransactionValue, producer_id: int, producer_epoch: int) -> bool:
    """As Kafka: whoever is one behind repeats itself."""
    return producer_id == self.producer_id and producer_epoch == self.producer_epoch - 1


def _keep_last(value: Any, fresh: int, last_epoch: int, *rest: Any) -> Any:
    return _initialized(value, fresh, value.producer_epoch, *rest)


def _keep_last_of_a_fence(value: Any, fresh: int, last_epoch: int, **rest: Any) -> Any:
    return _ended_raising(value, fresh, value.producer_epoch, **rest)


def _no_rotation(self: Circumstances, value: TransactionValue) -> int:
    return NO_PRODUCER_ID


def _give_out_again(self: SpareProducerIds) -> int:
    assert self.next is not None
    return self.next


def _lag_behind(producer_epoch: int, known_epoch: int) -> bool:
    return producer_epoch < known_epoch - 1


# --- markers -------------------------------------------------------------------------------------

_takes = MarkerFilter.takes
_confirm = MarkerOutbox._confirm


def _any_number(self: MarkerFilter, message: Any) -> bool:
    return bool(message.target == self.own)


def _any_incarnation(self: MarkerFilter, message: Any) -> bool:
    return _takes(self, replace(message, target=self.own))


def _any_leadership(entry: Any, first_leader_epoch: int) -> bool:
    return True


def _keep_guards(pending: Any, index: int, marker: Any) -> Any:
    return pending


def _cancel(self: MarkerOutbox, item: Any, how: How) -> None:
    """As Kafka did: the partition refuses the marker, so that is the end of it (KAFKA-19999)."""
    if how is not How.PAST:
        _confirm(self, item, how)


# --- offsets of a group --------------------------------------------------------------------------

_settle = OffsetTable.settle
_fetch = GroupOffsets.fetch
_append = leader.append


def _put_what_comes(self: OffsetTable, topic_partition: Any, value: Any) -> None:
    self.committed[topic_partition] = value


def _settle_at_the_marker(self: OffsetTable, marker_offset: int) -> None:
    commits, offsets = self._ending.pop(marker_offset, (False, {}))
    for topic_partition, value in offsets.items() if commits else ():
        self.put(topic_partition, value.at(marker_offset))


def _settle_aborted(self: OffsetTable, marker_offset: int) -> None:
    if marker_offset in self._ending:
        self._ending[marker_offset] = (True, self._ending[marker_offset][1])
    _settle(self, marker_offset)


def _fetch_unstable(self: GroupOffsets, partitions: Any, *, require_stable: bool) -> Any:
    return _fetch(self, partitions, require_stable=False)


def _fetch_ending(self: GroupOffsets, partitions: Any, *, require_stable: bool) -> Any:
    """What has its marker is taken for stable, and does not count yet."""
    ending, self.table._ending = self.table._ending, {}
    found = _fetch(self, partitions, require_stable=require_stable)
    self.table._ending = ending
    return found


def _always(*_: Any) -> bool:
    return True


def _at_once(part: Any, producer_id: int) -> int:
    return 0


def _answer_at_once(data: Any, produce: Any, token: Any) -> Any:
    data, _ = _append(data, produce, token)
    return data, leader.OK


def _bounds(
    *tv: int, partitions: int = 1, max_epoch: int = 2, group: bool = False, **budget: int
) -> Bounds:
    return Bounds(tv, partitions, max_epoch, Budget(**budget), group)


MUTATIONS = (
    Mutation(
        "memory is not taken back",
        "T1: a record in the log counts, whatever is said of the ISR",
        [(LiveCoordinator, "_append", _take_back)],
        _bounds(2, shrinks=1),
        breaks="no. 20",
    ),
    *(
        Mutation(
            f"tag: {name}",
            f"T1: all that is known of an id is in its records: {name}",
            [(coordinator, "stored", _without(**{name: default}))],
            _bounds(2, max_epoch=0),
            breaks="no. 20",
        )
        for name, default in (
            ("last_epoch", NO_PRODUCER_EPOCH),
            ("previous_producer_id", NO_PRODUCER_ID),
            ("next_producer_id", NO_PRODUCER_ID),
            ("version", TransactionVersion.TV1),
        )
    ),
    Mutation(
        "a prepare is final",
        "T2: a Prepare becomes Complete, and nothing else",
        [(rules, "_on_add", _add_in_a_prepare)],
        _bounds(2, transactions=2),
        breaks="no. 21",
    ),
    Mutation(
        "newest connection, EndTxn",
        "T10: an EndTxn on an older connection is not executed (KAFKA-17754)",
        [(LiveCoordinator, "_request", _hear_late(EndRequest))],
        _bounds(1, transactions=2, retries=1),
        breaks="a client is confused",
    ),
    Mutation(
        "newest connection, Init",
        "T10: an InitProducerId on an older connection is not executed",
        [(LiveCoordinator, "_request", _hear_late(InitRequest))],
        _bounds(2, retries=1),
        breaks="nobody else is there, and the producer is fenced",
    ),
    Mutation(
        "newest connection, Add",
        "T10: an AddPartitionsToTxn on an older connection is not executed",
        [(LiveCoordinator, "_request", _hear_late(AddRequest))],
        _bounds(1, transactions=2, retries=1),
        why_not="what it begins, or adds to, nobody wrote to: it ends empty, or is timed out",
    ),
    Mutation(
        "markers of the committed",
        "T1: markers leave when the Prepare is committed",
        [(Transaction, "on_appended", _markers_at_append)],
        _bounds(2),
        breaks="no. 22",
    ),
    Mutation(
        "the same decision after a load",
        "T2: the next coordinator ends it as it was decided",
        [(world, "loaded", _decide_anew)],
        _bounds(2, crashes=1),
        breaks="no. 2",
    ),
    Mutation(
        "every partition",
        "T2: the markers go to every partition of the transaction",
        [(Transaction, "_on_prepare_committed", _skip_a_partition)],
        _bounds(2, partitions=2),
        breaks="no. 35",
        heals=True,
    ),
    Mutation(
        "unknown is not deleted",
        "a topic that is not known yet is not taken for deleted",
        [(coordinator, "unknown_topic", _deleted)],
        _bounds(2, crashes=1),
        breaks="no. 35",
        heals=True,
    ),
    Mutation(
        "guard",
        "T3: the word counts only if no marker came in between",
        [(leader, "unguarded", _keep_guards)],
        _bounds(1, retries=1, lost=0),
        breaks="no. 24",
    ),
    Mutation(
        "word of the committed",
        "T3: the word is given when the record that says so is committed",
        [(Transaction, "on_appended", _never_early)],
        _bounds(2),
        breaks="no. 24",
    ),
    Mutation(
        "what is so already",
        "T1: what is so by a record that is not committed is told when it is",
        [(Transaction, "_decide", _tell_at_once)],
        _bounds(1, retries=1, crashes=1, transactions=1),
        breaks="no. 2",
    ),
    Mutation(
        "a fence raises the epoch",
        "T4: who is fenced has an older epoch",
        [(rules, "ended_raising", _fence_without_bump)],
        _bounds(2, 2, transactions=1),
        breaks="no. 24",
    ),
    Mutation(
        "older epochs",
        "T4: of an epoch below the marker's nothing is appended",
        [(leader, "is_fenced", _lag_behind)],
        _bounds(2, retries=1, transactions=2),
        why_not="what is not open needs the coordinator's word, which an older epoch does not get",
    ),
    Mutation(
        "repetition",
        "only the last epoch of the same producer repeats itself, not any that is one behind",
        [(TransactionValue, "is_last", _before_last)],
        _bounds(1, 1, retries=1),
        breaks="no. 30",
    ),
    Mutation(
        "Init forgets the last epoch",
        "who begins anew leaves nobody behind that could repeat itself",
        [(rules, "initialized", _keep_last)],
        _bounds(1, 1, retries=1),
        breaks="no. 30",
    ),
    Mutation(
        "a fence forgets the last epoch",
        "who begins anew over an open transaction leaves nobody behind either",
        [(rules, "ended_raising", _keep_last_of_a_fence)],
        _bounds(2, 2, holds=1),
        breaks="no. 30",
    ),
    Mutation(
        "rotation",
        "where no epoch is left, another producer id takes over",
        [(Circumstances, "fresh_after", _no_rotation)],
        _bounds(2, max_epoch=1, transactions=2),
        breaks="no. 31",
    ),
    Mutation(
        "a fresh id",
        "a producer id is given out once",
        [(SpareProducerIds, "take", _give_out_again)],
        _bounds(2, 2, max_epoch=0, transactions=0),
        breaks="no. 31",
    ),
    Mutation(
        "numbers",
        "T5: a message whose number is not above the last is dropped",
        [(MarkerFilter, "takes", _any_number)],
        _bounds(1, transactions=2, lost=1),
        breaks="no. 2",
    ),
    Mutation(
        "target incarnation",
        "T5: a message to an earlier incarnation is dropped",
        [(MarkerFilter, "takes", _any_incarnation)],
        _bounds(1, transactions=2, restarts=1, lost=1),
        breaks="no. 2",
    ),
    Mutation(
        "leadership",
        "T5: a marker for an earlier leadership of the same broker is dropped",
        [(leader, "is_for_leadership", _any_leadership)],
        _bounds(1, transactions=2, moves=2, lost=1),
        breaks="no. 2",
    ),
    Mutation(
        "told again",
        "T2: the next coordinator sends all markers again",
        [(Transaction, "restore", _restore_quietly)],
        _bounds(2, crashes=1),
        breaks="no. 35",
        heals=True,
    ),
    Mutation(
        "a marker that is past",
        "a marker that a partition is past is confirmed",
        [(MarkerOutbox, "_confirm", _cancel)],
        _bounds(2, transactions=2, crashes=1, lost=1),
        heals=True,
        why_not="only an administrator's abort brings a partition past an epoch that is ending",
    ),
    Mutation(
        "arrival order",
        "T8: of two offsets the one that lies higher in the log counts, not who comes later",
        [(OffsetTable, "put", _put_what_comes)],
        _bounds(2, group=True, plain=1),
        breaks="no. 32",
    ),
    Mutation(
        "marker order",
        "T8: an offset lies where its record does, not where its marker does",
        [(OffsetTable, "settle", _settle_at_the_marker)],
        _bounds(2, group=True, plain=1),
        breaks="no. 32",
    ),
    Mutation(
        "aborted offsets",
        "what a transaction has staged that is aborted goes",
        [(OffsetTable, "settle", _settle_aborted)],
        _bounds(2, group=True),
        breaks="no. 32",
    ),
    Mutation(
        "staged is unstable",
        "what is staged is not told to who wants stable offsets",
        [(GroupOffsets, "fetch", _fetch_unstable)],
        _bounds(2, group=True),
        breaks="no. 33",
    ),
    Mutation(
        "unstable until it counts",
        "what has its marker is unstable until that is committed, and it counts",
        [(GroupOffsets, "fetch", _fetch_ending)],
        _bounds(2, group=True),
        breaks="no. 33",
    ),
    Mutation(
        "markers while it loads",
        "a shard that is being read takes no markers (KAFKA-17507)",
        [(group, "takes_markers", _always)],
        _bounds(2, group=True, moves=1),
        breaks="no. 20",
    ),
    Mutation(
        "confirmed when committed",
        "T1: a marker is confirmed when it is committed",
        [(group, "marker_end", _at_once)],
        _bounds(2, group=True, moves=1),
        breaks="no. 35",
        heals=True,
    ),
    Mutation(
        "offsets answered when committed",
        "T1: a commit of offsets is answered when its record is committed",
        [(leader, "append", _answer_at_once)],
        _bounds(2, group=True, moves=1),
        breaks="no. 23",
    ),
    Mutation(
        "newest connection, TxnOffsetCommit",
        "T10: a TxnOffsetCommit on an older connection is not executed",
        [(world.Model, "_hears", _always)],
        _bounds(1, group=True, transactions=2, retries=1),
        breaks="nos. 21, 23",
    ),
)
