"""What is to be done about a request, by what stands in the log of its id: the table.

    Init     nobody yet          -> Empty (fresh id, 0)
             Empty, Complete     -> Empty (next epoch)
             Ongoing             -> PrepareAbort (next epoch), held; then as Complete
             of a known producer    the same if it has the present epoch; if it has the last one and
                                    nothing is open, it repeats itself; else it is fenced
    Add      Empty, Complete     -> Ongoing
             Ongoing             -> Ongoing with more, if there are more
    Verify   Ongoing                are they in it?
    End      Ongoing             -> PrepareX; in TV2 with the next epoch
             PrepareX, CompleteX    the same X is a repetition, known by its epoch: in TV2 the last
                                    one. After a timeout, which keeps the last epoch, an abort of
                                    that epoch is done, and all else is told to abort
             Empty, Complete        in TV2 an abort ends what has not begun (-> CompleteAbort)
    timeout  Ongoing             -> PrepareAbort (next epoch)
    all      PrepareX            -> CompleteX

In a Prepare, Init and Add are held until its Complete, and End and Verify are told to come again.

Pure, without state. "The last epoch" is there only while nobody else called Init since: who was
fenced by another is never taken for one that repeats itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from minikafka.core.transactions.moves import (
    aborted_nothing,
    added,
    ended,
    ended_raising,
    first,
    initialized,
)
from minikafka.core.transactions.requests import (
    AddRequest,
    Answer,
    EndRequest,
    InitRequest,
    Request,
    Result,
    VerifyAnswer,
    VerifyRequest,
    refusal,
)
from minikafka.core.transactions.values import (
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    TransactionState,
    TransactionValue,
)
from minikafka.errors import (
    ConcurrentTransactionsError,
    CoordinatorLoadInProgressError,
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    MinikafkaError,
    ProducerFencedError,
    TransactionAbortableError,
)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing is done, and this is why: told at once."""

    result: Result


@dataclass(frozen=True, slots=True)
class Tell:
    """Nothing is to be done: told when all that stands in the log is committed."""

    result: Result


@dataclass(frozen=True, slots=True)
class Repeat:
    """Nothing is to be done. Unless a record went into the log since the request came, the last one
    is written once more; the answer is given when that is committed. So it is by who coordinates
    still, and not by a predecessor that does not know yet that it is one: it would take the end of
    a transaction for a repetition of the end before."""

    result: Result


@dataclass(frozen=True, slots=True)
class Hold:
    """Asked again when the transaction that ends now has ended."""


@dataclass(frozen=True, slots=True)
class Write:
    """This is the next record. `result`: told when it is committed; None: the request is held.
    `uses_fresh`: the fresh producer id is in it."""

    value: TransactionValue
    result: Result | None
    uses_fresh: bool = False


Decision = Refuse | Tell | Repeat | Hold | Write


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Of a decision: a producer id that nobody has had (None: there is none at the moment), the
    last epoch that a client may hold, and the wall-clock time."""

    fresh: int | None
    max_epoch: int
    timestamp_ms: int

    def fresh_after(self, value: TransactionValue) -> int:
        """The fresh id if there is no epoch left after this one, else -1. Raises
        CoordinatorLoadInProgressError if it is needed and not there."""
        return self.needed() if value.producer_epoch >= self.max_epoch else NO_PRODUCER_ID

    def needed(self) -> int:
        if self.fresh is None:
            raise CoordinatorLoadInProgressError("there is no producer id to give out yet")
        return self.fresh


def decide(
    value: TransactionValue | None, request: Request, circumstances: Circumstances
) -> Decision:
    """`value` is the last record in the log; None: the id is not known."""
    try:
        if isinstance(request, InitRequest):
            return _on_init(value, request, circumstances)
        if value is None:
            raise InvalidProducerIdMappingError("the transactional id is not known")
        if isinstance(request, EndRequest):
            return _on_end(value, request, circumstances)
        _check_current(value, request)
        if isinstance(request, AddRequest):
            return _on_add(value, request, circumstances)
        return _on_verify(value, request)
    except MinikafkaError as error:
        return Refuse(refusal(request, error.with_traceback(None)))


# --- Init ----------------------------------------------------------------------------------------


def _on_init(
    value: TransactionValue | None, request: InitRequest, circumstances: Circumstances
) -> Decision:
    timestamp_ms = circumstances.timestamp_ms
    if value is None:
        begun = first(circumstances.needed(), request.timeout_ms, timestamp_ms)
        return Write(begun, _you_are(begun), uses_fresh=True)
    if value.state.is_prepare:
        return Hold()
    last_epoch = NO_PRODUCER_EPOCH
    if request.producer_id != NO_PRODUCER_ID:
        known = request.producer_id, request.producer_epoch
        if value.is_last(*known) and value.state is not TransactionState.ONGOING:
            return Repeat(_you_are(value))
        if not value.is_current(*known):
            raise _fenced(value, request.producer_epoch)
        last_epoch = value.producer_epoch
    fresh = circumstances.fresh_after(value)
    if value.state is TransactionState.ONGOING:
        aborted = ended_raising(value, fresh, last_epoch, commits=False, timestamp_ms=timestamp_ms)
        return Write(aborted, None, fresh != NO_PRODUCER_ID)
    begun = initialized(value, fresh, last_epoch, request.timeout_ms, timestamp_ms)
    return Write(begun, _you_are(begun), fresh != NO_PRODUCER_ID)


def _you_are(value: TransactionValue) -> Answer:
    """The producer id and epoch that a client has once this record counts."""
    if value.next_producer_id != NO_PRODUCER_ID:
        return Answer(None, value.next_producer_id, 0)
    return Answer(None, value.producer_id, value.producer_epoch)


# --- Add, Verify ---------------------------------------------------------------------------------


def _check_current(value: TransactionValue, request: AddRequest | VerifyRequest) -> None:
    """Raises InvalidProducerIdMappingError or ProducerFencedError; or TransactionAbortableError if
    its transaction has been aborted under it, and the client knows that word."""
    known = request.producer_id, request.producer_epoch
    if value.is_current(*known):
        return
    if request.knows_abortable and _was_aborted_under(value, *known):
        raise _was_aborted()
    raise _not_current(value, *known)


def _was_aborted_under(value: TransactionValue, producer_id: int, producer_epoch: int) -> bool:
    """Has the transaction of this epoch, the last one, been aborted, and nothing begun since?"""
    ended = value.state >= TransactionState.PREPARE_COMMIT and not value.state.commits
    return ended and value.is_last(producer_id, producer_epoch)


def _not_current(value: TransactionValue, producer_id: int, producer_epoch: int) -> MinikafkaError:
    if not value.is_known(producer_id):
        return InvalidProducerIdMappingError(
            f"the transactional id has producer id {value.producer_id}, not {producer_id}"
        )
    return _fenced(value, producer_epoch)


def _fenced(value: TransactionValue, producer_epoch: int) -> ProducerFencedError:
    return ProducerFencedError(
        f"the epoch is {value.producer_epoch}, and that of the request {producer_epoch}"
    )


def _on_add(value: TransactionValue, request: AddRequest, circumstances: Circumstances) -> Decision:
    if value.state.is_prepare:
        return Hold()
    if value.state is TransactionState.ONGOING and request.partitions <= value.partitions:
        return Repeat(Answer())
    return Write(added(value, request.partitions, circumstances.timestamp_ms), Answer())


def _on_verify(value: TransactionValue, request: VerifyRequest) -> Decision:
    if value.state.is_prepare:
        raise _still_ending()
    held = value.partitions if value.state is TransactionState.ONGOING else frozenset()
    missing = request.partitions - held
    if not missing:
        return Tell(VerifyAnswer({}))
    kind = TransactionAbortableError if request.knows_abortable else InvalidTxnStateError
    error = kind("the partition has not been added to the transaction")
    return Refuse(VerifyAnswer(dict.fromkeys(sorted(missing), error)))


def _still_ending() -> ConcurrentTransactionsError:
    return ConcurrentTransactionsError("the last transaction is still being ended")


# --- End -----------------------------------------------------------------------------------------


def _on_end(value: TransactionValue, request: EndRequest, circumstances: Circumstances) -> Decision:
    known = request.producer_id, request.producer_epoch
    if value.is_current(*known):
        if value.state is TransactionState.ONGOING:
            return _end(value, request, circumstances)
        return (_end_again if request.is_tv2 else _end_again_tv1)(value, request, circumstances)
    if not value.is_last(*known):
        raise _not_current(value, *known)
    if request.is_tv2:
        return _repeat(value, request)
    return _after_timeout(value, request)


def _end(value: TransactionValue, request: EndRequest, circumstances: Circumstances) -> Decision:
    commits, timestamp_ms = request.commits, circumstances.timestamp_ms
    if not request.is_tv2:
        return Write(ended(value, commits=commits, timestamp_ms=timestamp_ms), Answer())
    fresh = circumstances.fresh_after(value)
    decided = ended_raising(
        value, fresh, value.producer_epoch, commits=commits, timestamp_ms=timestamp_ms
    )
    return Write(decided, _you_are(decided), fresh != NO_PRODUCER_ID)


def _end_again_tv1(
    value: TransactionValue, request: EndRequest, _circumstances: Circumstances
) -> Decision:
    """In the first version of the protocol an end that is repeated has the present epoch."""
    if value.state is TransactionState.EMPTY or value.state.commits is not request.commits:
        raise _no_transaction(value, request)
    if value.state.is_prepare:
        raise _still_ending()
    return Repeat(Answer())


def _end_again(
    value: TransactionValue, request: EndRequest, circumstances: Circumstances
) -> Decision:
    """In the second it has the last one: with the present one it is of a transaction to which
    nothing has been added. That may be aborted; a client does so where it does not know."""
    if value.state.is_prepare:
        raise _still_ending()
    if request.commits:
        raise _no_transaction(value, request)
    fresh = circumstances.fresh_after(value)
    aborted = aborted_nothing(value, fresh, circumstances.timestamp_ms)
    return Write(aborted, _you_are(aborted), fresh != NO_PRODUCER_ID)


def _repeat(value: TransactionValue, request: EndRequest) -> Decision:
    if value.state < TransactionState.PREPARE_COMMIT:
        raise _fenced(value, request.producer_epoch)
    if value.state.commits is not request.commits:
        if request.commits:
            raise _was_aborted()
        raise _no_transaction(value, request)
    if value.state.is_prepare:
        raise _still_ending()
    return Repeat(_you_are(value))


def _after_timeout(value: TransactionValue, request: EndRequest) -> Decision:
    """The coordinator has aborted it already, and raised the epoch. Of that only another Init tells
    the producer in TV1, and after a commit that failed no client sends one, but for a new producer:
    so to a commit of any version it is fenced, as in Kafka."""
    aborted = _was_aborted_under(value, request.producer_id, request.producer_epoch)
    if request.commits or not aborted:
        raise _fenced(value, request.producer_epoch)
    if value.state.is_prepare:
        raise _still_ending()
    return Repeat(Answer())


def _was_aborted() -> TransactionAbortableError:
    return TransactionAbortableError("the transaction has been aborted: it took too long")


def _no_transaction(value: TransactionValue, request: EndRequest) -> InvalidTxnStateError:
    what = "commit" if request.commits else "abort"
    return InvalidTxnStateError(f"there is nothing to {what}: the state is {value.state.name}")


# --- what the coordinator does by itself ---------------------------------------------------------


def timed_out(value: TransactionValue, circumstances: Circumstances) -> Write:
    """Time aborts, and never commits. The last epoch is kept: its producer may find out, abort, and
    go on. Raises CoordinatorLoadInProgressError."""
    assert value.state is TransactionState.ONGOING, value
    fresh = circumstances.fresh_after(value)
    aborted = ended_raising(
        value,
        fresh,
        value.producer_epoch,
        commits=False,
        timestamp_ms=circumstances.timestamp_ms,
    )
    return Write(aborted, None, fresh != NO_PRODUCER_ID)
