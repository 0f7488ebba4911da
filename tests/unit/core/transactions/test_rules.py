"""core/transactions/rules.py: every row of the table, by name."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from minikafka.core.transactions.moves import completed
from minikafka.core.transactions.requests import (
    AddRequest,
    Answer,
    EndRequest,
    InitRequest,
    Request,
    VerifyAnswer,
    VerifyRequest,
)
from minikafka.core.transactions.rules import (
    Circumstances,
    Hold,
    Refuse,
    Repeat,
    Tell,
    Write,
    decide,
    timed_out,
)
from minikafka.core.transactions.values import (
    NO_TIMESTAMP,
    TransactionState,
    TransactionValue,
    TransactionVersion,
)
from minikafka.errors import (
    ConcurrentTransactionsError,
    CoordinatorLoadInProgressError,
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    ProducerFencedError,
    TransactionAbortableError,
)
from minikafka.model import TopicPartition

A, B, C = (TopicPartition("t", number) for number in range(3))
AB = frozenset({A, B})
MAX = 9
FRESH = 77
NOW = Circumstances(FRESH, MAX, 1_000)
TV1, TV2 = TransactionVersion.TV1, TransactionVersion.TV2
PID, OLD_PID, NEXT_PID = 7, 6, 8

EMPTY = TransactionValue(PID, 5, 60, TransactionState.EMPTY, frozenset(), 10)
ONGOING = replace(
    EMPTY, state=TransactionState.ONGOING, partitions=AB, start_timestamp_ms=20, last_epoch=4
)
# As each end leaves it: of epoch 5 in TV1, of epoch 4 in TV2 and after a timeout.
COMMITTING_1 = replace(ONGOING, state=TransactionState.PREPARE_COMMIT, last_epoch=-1)
ABORTING_1 = replace(COMMITTING_1, state=TransactionState.PREPARE_ABORT)
COMMITTING = replace(COMMITTING_1, last_epoch=4, version=TV2)
ABORTING = replace(ABORTING_1, last_epoch=4, version=TV2)


def done(value: TransactionValue) -> TransactionValue:
    state = TransactionState(value.state + 2)
    return replace(value, state=state, partitions=frozenset())


COMMITTED_1, ABORTED_1, COMMITTED, ABORTED = map(
    done, (COMMITTING_1, ABORTING_1, COMMITTING, ABORTING)
)
# With no epoch left, before and after another id took over.
LAST = replace(EMPTY, producer_epoch=MAX, last_epoch=MAX - 1)
ONGOING_LAST = replace(ONGOING, producer_epoch=MAX, last_epoch=MAX - 1)
EXHAUSTED = replace(COMMITTING, producer_epoch=MAX + 1, last_epoch=MAX, next_producer_id=NEXT_PID)
ROTATED = replace(
    done(EXHAUSTED),
    producer_id=NEXT_PID,
    producer_epoch=0,
    previous_producer_id=PID,
    next_producer_id=-1,
)
ROTATED_ABORT = replace(ROTATED, state=TransactionState.COMPLETE_ABORT)

INIT = InitRequest(99)


def go_on(epoch: int, producer_id: int = PID) -> InitRequest:
    return InitRequest(99, producer_id, epoch)


def end(commits: bool, version: int, epoch: int = 5, producer_id: int = PID) -> EndRequest:
    return EndRequest(producer_id, epoch, commits, version)


def begun(old: TransactionValue, producer_id: int, epoch: int, last: int = -1) -> TransactionValue:
    """What Init writes."""
    return TransactionValue(
        producer_id,
        epoch,
        99,
        TransactionState.EMPTY,
        frozenset(),
        1_000,
        NO_TIMESTAMP,
        last,
        old.producer_id if producer_id != old.producer_id else old.previous_producer_id,
    )


def prepared(
    old: TransactionValue, state: TransactionState, epoch: int, last: int, following: int = -1
) -> TransactionValue:
    return replace(
        old,
        state=state,
        producer_epoch=epoch,
        last_epoch=last,
        last_update_timestamp_ms=1_000,
        next_producer_id=following,
        version=TV1 if epoch == old.producer_epoch else TV2,
    )


def nothing_aborted(old: TransactionValue, producer_id: int, epoch: int) -> TransactionValue:
    """What an abort in TV2 writes where nothing was begun."""
    return TransactionValue(
        producer_id,
        epoch,
        60,
        TransactionState.COMPLETE_ABORT,
        frozenset(),
        1_000,
        1_000,
        old.producer_epoch,
        old.producer_id if producer_id != old.producer_id else -1,
        -1,
        TV2,
    )


PREPARE_COMMIT, PREPARE_ABORT = TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT
NEW = TransactionValue(FRESH, 0, 99, TransactionState.EMPTY, frozenset(), 1_000)

WRITES = {
    "init: nobody yet": (None, INIT, NEW, (FRESH, 0)),
    "init: nobody yet, and somebody goes on": (None, go_on(3), NEW, (FRESH, 0)),
    "init: empty": (EMPTY, INIT, begun(EMPTY, PID, 6), (PID, 6)),
    "init: complete, in TV1": (COMMITTED_1, INIT, begun(EMPTY, PID, 6), (PID, 6)),
    "init: complete, in TV2, forgets the last epoch": (
        ABORTED, INIT, begun(EMPTY, PID, 6), (PID, 6),
    ),
    "init: no epoch left": (LAST, INIT, begun(LAST, FRESH, 0), (FRESH, 0)),
    "init: going on": (EMPTY, go_on(5), begun(EMPTY, PID, 6, 5), (PID, 6)),
    "init: going on with no epoch left": (
        LAST, go_on(MAX), begun(LAST, FRESH, 0, MAX), (FRESH, 0),
    ),
    "init: ongoing is fenced by one epoch": (
        ONGOING, INIT, prepared(ONGOING, PREPARE_ABORT, 6, -1), None,
    ),
    "init: ongoing is fenced with no epoch left": (
        ONGOING_LAST, INIT, prepared(ONGOING_LAST, PREPARE_ABORT, MAX + 1, -1, FRESH), None,
    ),
    "init: going on out of an ongoing one": (
        ONGOING, go_on(5), prepared(ONGOING, PREPARE_ABORT, 6, 5), None,
    ),
    "init: going on out of an ongoing one with no epoch left": (
        ONGOING_LAST, go_on(MAX), prepared(ONGOING_LAST, PREPARE_ABORT, MAX + 1, MAX, FRESH), None,
    ),
    "end 4: ongoing commits": (
        ONGOING, end(True, 4), prepared(ONGOING, PREPARE_COMMIT, 5, 4), (-1, -1),
    ),
    "end 4: ongoing aborts": (
        ONGOING, end(False, 0), prepared(ONGOING, PREPARE_ABORT, 5, 4), (-1, -1),
    ),
    "end 4: no epoch left, none needed": (
        ONGOING_LAST,
        end(True, 4, MAX),
        prepared(ONGOING_LAST, PREPARE_COMMIT, MAX, MAX - 1),
        (-1, -1),
    ),
    "end 5: ongoing commits": (
        ONGOING, end(True, 5), prepared(ONGOING, PREPARE_COMMIT, 6, 5), (PID, 6),
    ),
    "end 5: ongoing aborts": (
        ONGOING, end(False, 5), prepared(ONGOING, PREPARE_ABORT, 6, 5), (PID, 6),
    ),
    "end 5: no epoch left": (
        ONGOING_LAST,
        end(True, 5, MAX),
        prepared(ONGOING_LAST, PREPARE_COMMIT, MAX + 1, MAX, FRESH),
        (FRESH, 0),
    ),
    "end 5: an abort of nothing, empty": (
        EMPTY, end(False, 5), nothing_aborted(EMPTY, PID, 6), (PID, 6),
    ),
    "end 5: an abort of nothing, complete": (
        COMMITTED, end(False, 5), nothing_aborted(EMPTY, PID, 6), (PID, 6),
    ),
    "end 5: an abort of nothing with no epoch left": (
        LAST, end(False, 5, MAX), nothing_aborted(LAST, FRESH, 0), (FRESH, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("value", "request_", "after", "answer"), WRITES.values(), ids=WRITES)
def test_a_record_is_written(value, request_, after, answer) -> None:
    uses_fresh = FRESH in (after.producer_id, after.next_producer_id)
    result = None if answer is None else Answer(None, *answer)
    assert decide(value, request_, NOW) == Write(after, result, uses_fresh)
    after.check(MAX)


def add(epoch: int, *partitions: TopicPartition, producer_id: int = PID) -> AddRequest:
    return AddRequest(producer_id, epoch, frozenset(partitions))


@pytest.mark.parametrize("value", [EMPTY, COMMITTED_1, ABORTED_1, COMMITTED, ABORTED])
def test_the_first_partitions_begin_a_transaction(value) -> None:
    after = replace(
        value,
        state=TransactionState.ONGOING,
        partitions=frozenset({A}),
        last_update_timestamp_ms=1_000,
        start_timestamp_ms=1_000,
        version=TV1,
    )
    assert decide(value, add(5, A), NOW) == Write(after, Answer())


def test_more_partitions_belong_to_the_same_transaction() -> None:
    after = replace(ONGOING, partitions=AB | {C}, last_update_timestamp_ms=1_000)
    assert decide(ONGOING, add(5, A, C), NOW) == Write(after, Answer())


TELLS = {
    "init: repeats itself": (COMMITTED, go_on(4), (PID, 5)),
    "init: repeats itself, empty": (replace(EMPTY, last_epoch=4), go_on(4), (PID, 5)),
    "init: repeats itself, with another id since": (ROTATED, go_on(MAX), (NEXT_PID, 0)),
    "add: there already": (ONGOING, add(5, A), (-1, -1)),
    "end 4: committed": (COMMITTED_1, end(True, 4), (-1, -1)),
    "end 4: aborted": (ABORTED_1, end(False, 4), (-1, -1)),
    "end 5: repeats a commit": (COMMITTED, end(True, 5, 4), (PID, 5)),
    "end 5: repeats an abort": (ABORTED, end(False, 5, 4), (PID, 5)),
    "end 5: repeats a commit, with another id since": (
        ROTATED, end(True, 5, MAX), (NEXT_PID, 0),
    ),
    "end 4: aborts what was timed out": (ABORTED, end(False, 4, 4), (-1, -1)),
    "end 4: aborts what was timed out, with another id since": (
        ROTATED_ABORT, end(False, 4, MAX), (-1, -1),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("value", "request_", "answer"), TELLS.values(), ids=TELLS)
def test_it_is_so_already(value, request_, answer) -> None:
    assert decide(value, request_, NOW) == Repeat(Answer(None, *answer))


PREPARES = [COMMITTING_1, ABORTING_1, COMMITTING, ABORTING]


@pytest.mark.parametrize("value", PREPARES)
@pytest.mark.parametrize("request_", [INIT, go_on(5), go_on(4), go_on(0, 1), add(5, A)])
def test_in_a_prepare_it_is_held(value, request_) -> None:
    assert decide(value, request_, NOW) == Hold()


def test_the_next_id_of_a_prepare_is_its_producer_already() -> None:
    assert decide(EXHAUSTED, add(0, A, producer_id=NEXT_PID), NOW) == Hold()
    for request in (
        end(True, 5, 0, NEXT_PID),
        end(False, 5, 0, NEXT_PID),
        end(True, 4, 0, NEXT_PID),
    ):
        assert refused(EXHAUSTED, request) is ConcurrentTransactionsError
    assert refused(EXHAUSTED, add(1, A, producer_id=NEXT_PID)) is ProducerFencedError


def refused(value, request, circumstances=NOW) -> type[Exception]:
    decision = decide(value, request, circumstances)
    assert isinstance(decision, Refuse), decision
    result = decision.result
    if isinstance(result, VerifyAnswer):
        [kind] = {type(error) for error in result.refused.values()}
        return kind
    assert (result.producer_id, result.producer_epoch) == (-1, -1)
    return type(result.error)


ABORTABLE, FENCED = TransactionAbortableError, ProducerFencedError
CONCURRENT, MAPPING = ConcurrentTransactionsError, InvalidProducerIdMappingError
REFUSALS = {
    "init: fenced, empty": (EMPTY, go_on(4), FENCED),
    "init: fenced, another id": (EMPTY, go_on(5, OLD_PID), FENCED),
    "init: the last epoch, ongoing": (ONGOING, go_on(4), FENCED),
    "init: the last epoch of the previous id is not one of this": (
        ROTATED, go_on(MAX, NEXT_PID), FENCED,
    ),
    "add: nobody yet": (None, add(5, A), MAPPING),
    "add: another id": (ONGOING, add(5, A, producer_id=OLD_PID), MAPPING),
    "add: fenced": (ONGOING, add(4, A), FENCED),
    "add: timed out": (ABORTED, add(4, A), ABORTABLE),
    "add: timed out, still aborting": (ABORTING, add(4, A), ABORTABLE),
    "add: timed out, and the client does not know the word": (
        ABORTED, replace(add(4, A), knows_abortable=False), FENCED,
    ),
    "add: of the last one, which was committed": (COMMITTED, add(4, A), FENCED),
    "verify: timed out": (ABORTED, VerifyRequest(PID, 4, AB), ABORTABLE),
    "verify: timed out, and the client does not know the word": (
        ABORTED, VerifyRequest(PID, 4, AB, False), FENCED,
    ),
    "add: an epoch to come": (ONGOING, add(6, A), FENCED),
    "add: the previous id": (ROTATED, add(MAX, A), MAPPING),
    "add: the previous id, timed out": (ROTATED_ABORT, add(MAX, A), ABORTABLE),
    "end: nobody yet": (None, end(True, 5), MAPPING),
    "end: another id": (ONGOING, end(True, 5, 5, OLD_PID), MAPPING),
    "end: fenced": (ONGOING, end(True, 5, 3), FENCED),
    "end 4: committing": (COMMITTING_1, end(True, 4), CONCURRENT),
    "end 4: committing, abort": (COMMITTING_1, end(False, 4), InvalidTxnStateError),
    "end 4: aborting": (ABORTING_1, end(False, 4), CONCURRENT),
    "end 4: aborting, commit": (ABORTING_1, end(True, 4), InvalidTxnStateError),
    "end 4: committed, abort": (COMMITTED_1, end(False, 4), InvalidTxnStateError),
    "end 4: aborted, commit": (ABORTED_1, end(True, 4), InvalidTxnStateError),
    "end 4: empty, commit": (EMPTY, end(True, 4), InvalidTxnStateError),
    "end 4: empty, abort": (EMPTY, end(False, 4), InvalidTxnStateError),
    "end 5: empty, commit": (EMPTY, end(True, 5), InvalidTxnStateError),
    "end 5: complete, commit": (COMMITTED, end(True, 5), InvalidTxnStateError),
    "end 5: preparing, the epoch of its end": (COMMITTING, end(True, 5), CONCURRENT),
    "end 5: repeats while committing": (COMMITTING, end(True, 5, 4), CONCURRENT),
    "end 5: repeats while committing, abort": (
        COMMITTING, end(False, 5, 4), InvalidTxnStateError,
    ),
    "end 5: repeats while aborting": (ABORTING, end(False, 5, 4), CONCURRENT),
    "end 5: repeats while aborting, commit": (ABORTING, end(True, 5, 4), ABORTABLE),
    "end 5: committed, abort": (COMMITTED, end(False, 5, 4), InvalidTxnStateError),
    "end 5: aborted, commit": (ABORTED, end(True, 5, 4), ABORTABLE),
    "end 5: the last epoch, ongoing": (ONGOING, end(True, 5, 4), FENCED),
    "end 5: the last epoch, empty": (replace(EMPTY, last_epoch=4), end(False, 5, 4), FENCED),
    "end 5: repeats while another id takes over": (EXHAUSTED, end(True, 5, MAX), CONCURRENT),
    "end 4: timed out, abort": (ABORTING, end(False, 4, 4), CONCURRENT),
    "end 4: timed out, commit": (ABORTING, end(True, 4, 4), FENCED),
    "end 4: timed out and aborted, commit": (ABORTED, end(True, 4, 4), FENCED),
    "end 4: the last epoch, committed": (COMMITTED, end(True, 4, 4), FENCED),
    "end 4: the last epoch, ongoing": (ONGOING, end(False, 4, 4), FENCED),
}  # fmt: skip


@pytest.mark.parametrize(("value", "request_", "error"), REFUSALS.values(), ids=REFUSALS)
def test_it_is_refused(value, request_, error) -> None:
    assert refused(value, request_) is error


# --- Verify --------------------------------------------------------------------------------------


def test_what_belongs_to_the_transaction_is_verified() -> None:
    assert decide(ONGOING, VerifyRequest(PID, 5, AB), NOW) == Tell(VerifyAnswer({}))


def test_of_partitions_to_be_verified_those_are_named_that_do_not_belong_to_it() -> None:
    decision = decide(ONGOING, VerifyRequest(PID, 5, AB | {C}), NOW)
    assert isinstance(decision, Refuse)
    assert isinstance(decision.result, VerifyAnswer)
    assert {key: type(error) for key, error in decision.result.refused.items()} == {C: ABORTABLE}


@pytest.mark.parametrize("value", [EMPTY, COMMITTED, ABORTED_1])
def test_nothing_belongs_to_what_is_not_ongoing(value) -> None:
    assert refused(value, VerifyRequest(PID, 5, AB)) is ABORTABLE
    assert refused(value, VerifyRequest(PID, 5, AB, False)) is InvalidTxnStateError


@pytest.mark.parametrize("value", PREPARES)
def test_what_is_ending_is_to_be_verified_later(value) -> None:
    assert refused(value, VerifyRequest(PID, 5, AB)) is CONCURRENT


def test_who_is_not_the_producer_verifies_nothing() -> None:
    assert refused(None, VerifyRequest(PID, 5, AB)) is MAPPING
    assert refused(ONGOING, VerifyRequest(OLD_PID, 5, AB)) is MAPPING
    assert refused(ONGOING, VerifyRequest(PID, 4, AB)) is FENCED


# --- time, ids, epochs ---------------------------------------------------------------------------


def test_a_timeout_aborts_raises_the_epoch_and_keeps_the_last_one() -> None:
    assert timed_out(ONGOING, NOW) == Write(prepared(ONGOING, PREPARE_ABORT, 6, 5), None)
    assert timed_out(ONGOING_LAST, NOW) == Write(
        prepared(ONGOING_LAST, PREPARE_ABORT, MAX + 1, MAX, FRESH), None, uses_fresh=True
    )


def test_without_an_id_to_spare_only_what_needs_one_has_to_wait() -> None:
    none = Circumstances(None, MAX, 1_000)
    for value, request in (
        (None, INIT),
        (LAST, INIT),
        (LAST, go_on(MAX)),
        (ONGOING_LAST, INIT),
        (ONGOING_LAST, end(True, 5, MAX)),
        (LAST, end(False, 5, MAX)),
    ):
        assert refused(value, request, none) is CoordinatorLoadInProgressError
    with pytest.raises(CoordinatorLoadInProgressError):
        timed_out(ONGOING_LAST, none)
    for value, request in ((EMPTY, INIT), (ONGOING, end(True, 5)), (LAST, add(MAX, A))):
        assert isinstance(decide(value, request, none), Write)


def test_who_was_fenced_by_another_is_not_taken_for_one_that_repeats_itself() -> None:
    fenced = decide(ONGOING, INIT, NOW)
    assert isinstance(fenced, Write)
    for value in (fenced.value, done(fenced.value)):
        for request in (end(False, 4), end(False, 5), end(True, 5)):
            assert refused(value, request) is FENCED
        assert refused(value, add(5, A)) is FENCED
    assert refused(done(fenced.value), go_on(5)) is FENCED


# --- who is fenced -------------------------------------------------------------------------------


def requests_of(producer_id: int, epoch: int) -> list[Request]:
    return [
        go_on(epoch, producer_id),
        AddRequest(producer_id, epoch, AB),
        *(
            end(commits, version, epoch, producer_id)
            for commits in (True, False)
            for version in (4, 5)
        ),
    ]


def next_values(value: TransactionValue, fresh: int) -> set[TransactionValue]:
    """Every record that may follow."""
    circumstances = Circumstances(fresh, 3, 1_000)
    asked = [INIT]
    for known in product(range(fresh), range(5)):
        asked += requests_of(*known)
    decisions = [decide(value, each, circumstances) for each in asked]
    found = {each.value for each in decisions if isinstance(each, Write)}
    if value.state is TransactionState.ONGOING:
        found.add(timed_out(value, circumstances).value)
    if value.state.is_prepare:
        found.add(completed(value, 1_000))
    return found


def test_who_is_fenced_is_refused_whatever_is_asked_and_whatever_comes() -> None:
    """All that can be reached with four epochs a producer id, until the fourth id."""
    seen: set[TransactionValue] = set()
    ahead = [replace(EMPTY, producer_id=0, producer_epoch=0)]
    fenced_count = 0
    while ahead:
        value = ahead.pop()
        if value in seen or value.producer_id > 2:
            continue
        seen.add(value)
        fresh = max(value.producer_id, value.next_producer_id) + 1
        fenced = {each for each in product(range(4), range(5)) if value.fences(*each)}
        fenced_count += len(fenced)
        for each in fenced:
            for request in requests_of(*each):
                decision = decide(value, request, Circumstances(fresh, 3, 1_000))
                held = value.state.is_prepare and isinstance(request, InitRequest)
                assert isinstance(decision, Hold if held else Refuse), (value, request, decision)
        following = next_values(value, fresh)
        for other in following:
            same = {each for each in fenced if each[0] == other.producer_id}
            assert same == {each for each in same if other.fences(*each)}, (value, other)
            for known in fenced - same:
                for request in requests_of(*known)[1:]:
                    decision = decide(other, request, Circumstances(fresh, 3, 1_000))
                    assert isinstance(decision, Refuse), (value, other, request, decision)
        ahead += following
    assert fenced_count > 100
