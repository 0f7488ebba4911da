"""A leader and transactions: the word of the coordinator before one begins, and the markers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minikafka.core.replication.effects import (
    AppendWaiting,
    AskCoordinator,
    Effect,
    RefuseWaiting,
    TransactionQuestion,
)
from minikafka.core.replication.events import (
    BatchesAppended,
    CoordinatorAnswered,
    MarkerReceived,
    ReplicaFetched,
    StateReceived,
    Stopped,
    StorageFailed,
    TransactionalProduceWaits,
    WaitGivenUp,
)
from minikafka.core.replication.partition import Partition
from minikafka.core.replication.producer_state import ProducedBatch
from minikafka.core.replication.transactional import (
    MarkerPlan,
    TransactionalProduce,
    TransactionEnd,
)
from minikafka.errors import (
    InvalidProducerEpochError,
    InvalidRequiredAcksError,
    NotCoordinatorError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    OffsetNotAvailableError,
    OutOfOrderSequenceNumberError,
    TransactionAbortableError,
    TransactionalIdAuthorizationFailedError,
    TransactionCoordinatorFencedError,
)
from minikafka.model import Assignment, BatchHeader, EndMarker
from tests.helpers.core_builders import (
    TP,
    batch,
    in_transaction,
    log_of,
    marker,
    position,
    replica,
    state,
)

TXN = TransactionalProduce("orders", adds=False)
ADDS = TransactionalProduce("orders", adds=True)
COMMIT = EndMarker(True, 3)


def leading(isr=(1, 2), min_insync: int = 1) -> Partition:
    partition = replica(1, log_of(), min_insync=min_insync)
    partition.step(StateReceived(state(isr=isr), Assignment((1, 2))), 0)
    return partition


def append(partition: Partition, header: BatchHeader, said: EndMarker | None = None) -> None:
    """At the end of the log, whatever the plan would be."""
    end = partition.log_state.log_end_offset
    partition.step(
        BatchesAppended([header._replace(base_offset=end)], None if said is None else {end: said}),
        0,
    )


def question(number: int = 1, producer_epoch: int = 0, adds: bool = False) -> TransactionQuestion:
    return TransactionQuestion((1, number), TP, "orders", 7, producer_epoch, adds)


def wait(partition: Partition, token: str, header: BatchHeader, transaction=TXN) -> list[Effect]:
    assert partition.plan_append([header], -1, transaction).waits
    return partition.step(TransactionalProduceWaits(token, header, transaction), 0)


def word(partition: Partition, about: TransactionQuestion, error=None) -> list[Effect]:
    return partition.step(CoordinatorAnswered(about, error), 0)


def with_word(about: TransactionQuestion) -> TransactionalProduce:
    return TransactionalProduce("orders", about.adds, about)


# --- before a transaction begins -----------------------------------------------------------------


def test_the_first_batch_of_a_transaction_asks_the_coordinator():
    partition = leading()
    assert wait(partition, "one", in_transaction()) == [AskCoordinator(question(), again=False)]
    assert partition.waiting_for_word_count == 1


def test_the_question_says_who_has_ended_a_transaction_of_this_producer_there():
    partition = leading()
    append(partition, in_transaction())
    append(partition, marker(), EndMarker(True, 3))
    [asked] = wait(partition, "one", in_transaction(sequence=1))
    assert isinstance(asked, AskCoordinator)
    assert asked.question == replace(question(), coordinator_epoch=3)


def test_those_after_it_queue_behind_and_are_appended_in_order():
    partition = leading()
    wait(partition, "one", in_transaction())
    assert wait(partition, "two", in_transaction(sequence=1)) == []
    assert word(partition, question()) == [AppendWaiting(question(), ("one", "two"))]
    assert partition.waiting_for_word_count == 0
    for sequence in (0, 1):
        plan = partition.plan_append(
            [in_transaction(sequence=sequence)], -1, with_word_of(partition)
        )
        assert plan.headers[0].base_offset == sequence
        append(partition, plan.headers[0])
    assert partition.plan_append([in_transaction(sequence=2)], -1, TXN).headers


def with_word_of(partition: Partition) -> TransactionalProduce:
    """As the runtime hands on the question of the effect."""
    assert partition._leader is not None
    found = partition._leader.opening._word
    assert found is not None
    return with_word(found)


def test_a_word_counts_for_whom_it_was_asked_only():
    partition = leading()
    wait(partition, "one", in_transaction())
    word(partition, question())
    given = with_word_of(partition)
    assert partition.plan_append([in_transaction(producer_epoch=1)], -1, given).waits
    assert partition.plan_append([in_transaction(producer_id=8)], -1, given).waits
    assert partition.plan_append([in_transaction()], -1, with_word(question())).waits


def test_an_open_transaction_of_the_same_epoch_asks_nobody():
    partition = leading()
    append(partition, in_transaction())
    assert partition.plan_append([in_transaction(sequence=1)], -1, TXN).headers[0].base_offset == 1
    assert partition.plan_append([in_transaction(producer_epoch=1)], -1, TXN).waits


def test_a_batch_without_a_sequence_of_the_brokers_own_is_taken_like_any_and_repeats_none():
    """Offsets of a transaction (transactions.md section 5)."""
    for transaction in (TXN, ADDS):
        partition = leading()
        own = in_transaction(sequence=-1)
        wait(partition, "one", own, transaction)
        word(partition, question(adds=transaction.adds))
        plan = partition.plan_append([own], -1, with_word_of(partition))
        append(partition, plan.headers[0])
        for offset in (1, 2):
            plan = partition.plan_append([own], -1, transaction)
            assert (plan.duplicate, plan.waits) == (None, False)
            assert plan.headers[0].base_offset == offset
            append(partition, plan.headers[0])
        append(partition, marker(producer_epoch=1), COMMIT)
        with pytest.raises(InvalidProducerEpochError):
            partition.plan_append([own], -1, transaction)
        assert partition.plan_append(
            [in_transaction(sequence=-1, producer_epoch=1)], -1, transaction
        ).waits


def test_a_repetition_is_answered_without_a_word():
    partition = leading()
    append(partition, in_transaction())
    append(partition, marker(), COMMIT)
    plan = partition.plan_append([in_transaction()], -1, TXN)
    assert (plan.duplicate, plan.waits) == (ProducedBatch(0, 0, 0, 0), False)


def test_what_comes_behind_one_that_waits_is_not_checked_before_its_turn():
    """The sequence that it follows on is not in the log yet."""
    partition = leading()
    append(partition, in_transaction())
    append(partition, marker(), COMMIT)
    wait(partition, "one", in_transaction(sequence=1))
    assert partition.plan_append([in_transaction(sequence=2)], -1, TXN).waits


def test_what_is_out_of_order_is_refused_before_anybody_is_asked():
    partition = leading()
    with pytest.raises(OutOfOrderSequenceNumberError):
        partition.plan_append([in_transaction(sequence=4)], -1, ADDS)
    assert partition.plan_append([in_transaction(sequence=4)], -1, TXN).waits


def test_a_no_refuses_all_of_that_epoch_alike():
    partition = leading()
    wait(partition, "one", in_transaction())
    wait(partition, "two", in_transaction(sequence=1))
    no = InvalidProducerEpochError("fenced")
    assert word(partition, question(), no) == [RefuseWaiting("one", no), RefuseWaiting("two", no)]
    assert wait(partition, "three", in_transaction()) == [AskCoordinator(question(2), again=False)]


@pytest.mark.parametrize("error", [None, InvalidProducerEpochError("fenced")])
def test_one_of_another_epoch_has_a_question_of_its_own(error):
    partition = leading()
    wait(partition, "one", in_transaction())
    wait(partition, "two", in_transaction(producer_epoch=1), ADDS)
    asked = AskCoordinator(question(2, producer_epoch=1, adds=True), again=False)
    [first, second] = word(partition, question(), error)
    assert second == asked
    if error is None:
        assert first == AppendWaiting(question(), ("one",))
        given = with_word_of(partition)
        assert partition.plan_append([in_transaction()], -1, given).headers
    else:
        assert first == RefuseWaiting("one", error)


def test_a_coordinator_that_cannot_tell_is_asked_again():
    partition = leading()
    wait(partition, "one", in_transaction())
    assert word(partition, question(), NotCoordinatorError("moved")) == [
        AskCoordinator(question(), again=True)
    ]
    assert word(partition, question()) == [AppendWaiting(question(), ("one",))]


def test_a_marker_takes_the_guard_and_a_late_yes_is_void():
    partition = leading()
    wait(partition, "one", in_transaction())
    wait(partition, "two", in_transaction(sequence=1))
    [first, second] = partition.step(MarkerReceived(7, 0, False), 0)
    assert isinstance(first, RefuseWaiting)
    assert isinstance(first.error, TransactionAbortableError)
    assert (first.token, second) == ("one", RefuseWaiting("two", first.error))
    assert word(partition, question()) == []


def test_a_late_yes_does_not_answer_the_next_question():
    partition = leading()
    wait(partition, "one", in_transaction())
    partition.step(MarkerReceived(7, 0, False), 0)
    assert wait(partition, "two", in_transaction()) == [AskCoordinator(question(2), again=False)]
    assert word(partition, question()) == []
    assert word(partition, question(2)) == [AppendWaiting(question(2), ("two",))]


def test_a_marker_of_another_producer_takes_nothing():
    partition = leading()
    wait(partition, "one", in_transaction())
    assert partition.step(MarkerReceived(8, 0, False), 0) == []
    assert partition.waiting_for_word_count == 1


@pytest.mark.parametrize(
    ("producer_epoch", "raised", "taken"),
    [(3, False, False), (4, True, False), (4, False, True), (5, True, True), (6, True, True)],
)
def test_a_marker_takes_no_guard_of_what_began_after_that_end(producer_epoch, raised, taken):
    partition = leading()
    wait(partition, "one", in_transaction(producer_epoch=4))
    effects = partition.step(MarkerReceived(7, producer_epoch, raised), 0)
    assert [type(each) for each in effects] == [RefuseWaiting] * taken
    assert partition.waiting_for_word_count == (not taken)
    answered = word(partition, question(producer_epoch=4))
    assert [type(each) for each in answered] == [AppendWaiting] * (not taken)


def test_what_waited_behind_the_guard_that_a_marker_took_gets_a_question_of_its_own():
    partition = leading()
    wait(partition, "old", in_transaction(producer_epoch=4))
    wait(partition, "new", in_transaction(producer_epoch=5))
    refused, asked = partition.step(MarkerReceived(7, 5, True), 0)
    assert isinstance(refused, RefuseWaiting)
    assert refused.token == "old"
    assert asked == AskCoordinator(question(2, producer_epoch=5), again=False)
    assert word(partition, question(producer_epoch=4)) == []
    assert word(partition, question(2, producer_epoch=5)) == [
        AppendWaiting(question(2, producer_epoch=5), ("new",))
    ]


def test_a_marker_leaves_what_waits_behind_a_newer_guard():
    partition = leading()
    wait(partition, "new", in_transaction(producer_epoch=5))
    wait(partition, "late", in_transaction(producer_epoch=4))
    [refused] = partition.step(MarkerReceived(7, 5, True), 0)
    assert refused.token == "late"
    assert word(partition, question(producer_epoch=5)) == [
        AppendWaiting(question(producer_epoch=5), ("new",))
    ]


def test_when_the_time_of_one_is_over_all_are_refused():
    partition = leading()
    wait(partition, "one", in_transaction())
    wait(partition, "two", in_transaction(sequence=1))
    late = NotEnoughReplicasError("no word in time")
    assert partition.step(WaitGivenUp("two", late), 0) == [
        RefuseWaiting("one", late),
        RefuseWaiting("two", late),
    ]
    assert partition.step(WaitGivenUp("two", late), 0) == []


def test_when_the_time_of_one_is_over_other_producers_wait_on():
    partition = leading()
    wait(partition, "other", in_transaction(producer_id=8))
    wait(partition, "one", in_transaction())
    late = NotEnoughReplicasError("no word in time")
    assert partition.step(WaitGivenUp("one", late), 0) == [RefuseWaiting("one", late)]
    assert partition.waiting_for_word_count == 1


@pytest.mark.parametrize(
    "event",
    [
        StateReceived(state(leader=2, leader_epoch=1, version=1), Assignment((1, 2))),
        StorageFailed("broken"),
        Stopped(NotLeaderOrFollowerError("deleted")),
    ],
)
def test_guards_end_with_the_leadership(event):
    partition = leading()
    wait(partition, "one", in_transaction())
    refused = [e for e in partition.step(event, 0) if isinstance(e, RefuseWaiting)]
    assert [each.token for each in refused] == ["one"]
    assert word(partition, question()) == []
    assert partition.step(WaitGivenUp("one", NotEnoughReplicasError("late")), 0) == []


def test_no_two_leaderships_ask_the_same_question():
    partition = leading()
    wait(partition, "one", in_transaction())
    away = StateReceived(state(leader=2, leader_epoch=1, version=1), Assignment((1, 2)))
    back = StateReceived(state(leader_epoch=2, version=2), Assignment((1, 2)))
    partition.step(away, 0)
    assert partition.waiting_for_word_count == 0
    partition.step(back, 0)
    [asked] = wait(partition, "two", in_transaction())
    assert isinstance(asked, AskCoordinator)
    assert asked.question != question()
    assert word(partition, question()) == []


def test_records_of_a_transaction_take_all_acks_and_the_name_of_their_transaction():
    partition = leading()
    with pytest.raises(InvalidRequiredAcksError, match="take acks=all"):
        partition.plan_append([in_transaction()], 1, TXN)
    with pytest.raises(TransactionalIdAuthorizationFailedError, match="names no transactional id"):
        partition.plan_append([in_transaction()], -1)


# --- markers -------------------------------------------------------------------------------------


def end(
    producer_epoch: int = 0, coordinator_epoch: int = 3, commits: bool = True, raised: bool = False
) -> TransactionEnd:
    return TransactionEnd(7, producer_epoch, coordinator_epoch, commits, raised)


def planned(partition: Partition, ended: TransactionEnd) -> BatchHeader | None:
    plan = partition.plan_marker(ended)
    if plan.header is not None:
        assert plan.required_offset == plan.header.next_offset
    return plan.header


def test_a_marker_is_appended_at_the_end_under_the_leaders_epoch():
    partition = leading()
    append(partition, in_transaction())
    plan = partition.plan_marker(end())
    assert plan.header == marker(1)._replace(
        size_bytes=0, base_timestamp_ms=-1, max_timestamp_ms=-1
    )
    assert (plan.marker, plan.required_offset) == (COMMIT, 2)


def test_one_that_says_what_has_been_said_stands_for_that():
    partition = leading()
    append(partition, in_transaction())
    append(partition, marker(), COMMIT)
    append(partition, batch())
    assert partition.plan_marker(end()) == MarkerPlan(None, COMMIT, 2)
    append(partition, in_transaction(sequence=1))
    assert planned(partition, end()) is not None
    assert planned(partition, end(coordinator_epoch=4)) is not None


def test_one_that_moves_an_epoch_is_appended_also_with_nothing_open():
    partition = leading()
    assert planned(partition, end()) is not None
    append(partition, marker(), COMMIT)
    assert planned(partition, end(producer_epoch=1)) is not None
    assert planned(partition, end(coordinator_epoch=4)) is not None
    assert planned(partition, end()) is None


def test_whoever_wrote_no_marker_here_gets_one():
    """A plain producer of that id, say: its epoch is known, and no marker says so."""
    partition = leading()
    append(partition, batch(producer_id=7, producer_epoch=0, sequence=0))
    assert planned(partition, end(coordinator_epoch=-1)) is not None


def test_an_older_coordinator_is_fenced():
    partition = leading()
    append(partition, marker(), COMMIT)
    with pytest.raises(TransactionCoordinatorFencedError, match="2 is old"):
        partition.plan_marker(end(coordinator_epoch=2))


def test_a_marker_of_a_fenced_producer_ends_nothing():
    partition = leading()
    append(partition, in_transaction(producer_epoch=2))
    with pytest.raises(InvalidProducerEpochError, match="has epoch 2 here; a marker of epoch 1"):
        partition.plan_marker(end(producer_epoch=1))


def test_an_end_that_raised_the_epoch_ends_none_of_that_epoch():
    """A late copy of it must not end the transaction after it (KIP-1228)."""
    partition = leading()
    append(partition, in_transaction())
    assert planned(partition, end(producer_epoch=1, raised=True)) is not None
    append(partition, marker(producer_epoch=1), COMMIT)
    assert planned(partition, end(producer_epoch=1, raised=True)) is None
    append(partition, in_transaction(producer_epoch=1))
    with pytest.raises(InvalidProducerEpochError):
        partition.plan_marker(end(producer_epoch=1, raised=True))
    assert planned(partition, end(producer_epoch=1)) is not None


def test_a_marker_of_nobodys_epoch_has_the_one_that_is_known():
    partition = leading()
    assert partition.plan_marker(end(coordinator_epoch=-1)).marker == EndMarker(True, 0)
    append(partition, marker(), COMMIT)
    append(partition, in_transaction())
    assert partition.plan_marker(end(coordinator_epoch=-1)).marker == COMMIT


def test_a_marker_needs_as_many_in_sync_as_any_record():
    partition = leading(isr=(1,), min_insync=2)
    with pytest.raises(NotEnoughReplicasError, match="acks=all needs 2"):
        partition.plan_marker(end())


def test_only_a_leader_takes_markers():
    partition = replica(1)
    with pytest.raises(NotLeaderOrFollowerError):
        partition.step(MarkerReceived(7, 0, False), 0)
    with pytest.raises(NotLeaderOrFollowerError):
        partition.plan_marker(end())


# --- what consumers are told ---------------------------------------------------------------------


def fetched(partition: Partition, offset: int) -> None:
    partition.step(ReplicaFetched(2, 200, position(offset)), 0)


def test_the_latest_offset_of_committed_records_is_the_last_stable_one():
    partition = leading()
    append(partition, batch())
    append(partition, in_transaction())
    append(partition, batch())
    fetched(partition, 3)
    assert partition.latest_offset() == 3
    assert partition.latest_offset(read_committed=True) == 1
    append(partition, marker(), COMMIT)
    assert partition.latest_offset(read_committed=True) == 1
    fetched(partition, 4)
    assert partition.latest_offset(read_committed=True) == 4


def test_a_new_leader_tells_neither_before_it_knows():
    log = log_of(0, 0)
    partition = replica(1, log)
    partition.step(StateReceived(state(isr=(1, 2)), Assignment((1, 2))), 0)
    for read_committed in (False, True):
        with pytest.raises(OffsetNotAvailableError):
            partition.latest_offset(read_committed=read_committed)
