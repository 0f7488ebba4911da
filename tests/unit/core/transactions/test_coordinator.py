"""core/transactions/coordinator.py: the ids of one partition, from loading to the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minikafka.core.transactions.coordinator import Coordinator, Phase
from minikafka.core.transactions.effects import Append, Reply, ReserveProducerId, SendMarkers
from minikafka.core.transactions.requests import (
    AddRequest,
    Answer,
    EndRequest,
    InitRequest,
    VerifyAnswer,
    VerifyRequest,
)
from minikafka.core.transactions.settings import TransactionSettings
from minikafka.core.transactions.values import (
    Marker,
    Now,
    TransactionRecord,
    TransactionState,
    TransactionValue,
)
from minikafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    InvalidProducerIdMappingError,
    InvalidRequestError,
    InvalidTransactionTimeoutError,
    NotCoordinatorError,
)
from minikafka.model import TopicPartition

A = TopicPartition("t", 0)
NOW = Now(0, 1_000)
INIT = InitRequest(60_000)
EMPTY = TransactionValue(7, 0, 60_000, TransactionState.EMPTY, frozenset(), 1_000)
ONGOING = replace(
    EMPTY, state=TransactionState.ONGOING, partitions=frozenset({A}), start_timestamp_ms=1_000
)
DECIDED = replace(ONGOING, state=TransactionState.PREPARE_COMMIT)


@pytest.fixture
def coordinator() -> Coordinator:
    """Which serves, and knows of nothing."""
    made = Coordinator(TransactionSettings())
    assert made.serve(NOW) == [ReserveProducerId()]
    made.on_producer_id(7)
    return made


def refusal(effects) -> type:
    [reply] = effects
    assert isinstance(reply, Reply)
    assert reply.token == "token"
    if isinstance(reply.result, VerifyAnswer):
        [error] = reply.result.refused.values()
        return type(error)
    return type(reply.result.error)


def test_of_what_is_loaded_the_last_record_of_each_id_counts() -> None:
    made = Coordinator(TransactionSettings())
    for name, value in (
        ("open", EMPTY),
        ("open", ONGOING),
        ("decided", DECIDED),
        ("gone", EMPTY),
        ("gone", None),
        ("never", None),
    ):
        made.load(TransactionRecord(name, value))
    effects = made.serve(NOW)
    marker = Marker("decided", 7, 0, True, False)
    assert effects == [ReserveProducerId(), SendMarkers(marker, (A,))]
    assert made.transactional_ids() == ["open", "decided"]
    assert (made.value("open"), made.value("gone")) == (ONGOING, None)
    assert (made.next_deadline_ms("open"), made.next_deadline_ms("gone")) == (60_000, None)
    assert made.on_time("open", Now(60_000, 61_000)) != []


def test_what_is_quiet_when_it_is_loaded_is_woken_when_somebody_asks_for_it() -> None:
    made = Coordinator(TransactionSettings())
    made.load(TransactionRecord("id", EMPTY))
    assert made.serve(NOW) == [ReserveProducerId()]
    assert (made.value("id"), made.transactional_ids()) == (EMPTY, ["id"])
    [append] = made.handle("id", InitRequest(60_000, 7, 0), "token", NOW)
    assert (append.record.value.producer_id, append.record.value.producer_epoch) == (7, 1)
    assert made.transactional_ids() == ["id"]


def test_what_was_loaded_expires_too() -> None:
    made = Coordinator(TransactionSettings(expiration_ms=500))
    made.load(TransactionRecord("young", replace(EMPTY, last_update_timestamp_ms=1_001)))
    made.load(TransactionRecord("old", EMPTY))
    made.serve(NOW)
    later = Now(500, 1_500)
    [append] = made.expire(later, 9)
    assert append.record == TransactionRecord("old", None)
    made.on_appended("old", append.number, later)
    made.on_committed("old", append.number, later)
    assert made.transactional_ids() == ["young"]


def test_ids_are_counted_by_their_state() -> None:
    made = Coordinator(TransactionSettings())
    made.load(TransactionRecord("empty", EMPTY))
    made.load(TransactionRecord("open", replace(EMPTY, state=TransactionState.ONGOING)))
    made.serve(NOW)
    made.handle("new", InitRequest(100), "token", NOW)  # of which nothing is in the log
    counts = made.count_states()
    assert counts == {TransactionState.EMPTY: 1, TransactionState.ONGOING: 1}


def test_ids_expire_so_many_at_a_time() -> None:
    made = Coordinator(TransactionSettings(expiration_ms=500))
    for name in "abc":
        made.load(TransactionRecord(name, EMPTY))
    made.serve(NOW)
    later = Now(500, 1_500)
    forgotten = []
    while appends := made.expire(later, 2):
        assert len(appends) <= 2
        for append in appends:
            forgotten.append(append.record.transactional_id)
            made.on_appended(forgotten[-1], append.number, later)
            made.on_committed(forgotten[-1], append.number, later)
    assert sorted(forgotten) == ["a", "b", "c"]
    assert made.awake() == []


def test_the_checks_come_in_their_order() -> None:
    made = Coordinator(TransactionSettings(max_timeout_ms=100))
    ask = made.handle
    assert refusal(ask("", InitRequest(0), "token", NOW)) is InvalidRequestError
    for timeout_ms in (0, -1, 101):
        request = InitRequest(timeout_ms)
        assert refusal(ask("id", request, "token", NOW)) is InvalidTransactionTimeoutError
    fine = InitRequest(100)
    assert refusal(ask("id", fine, "token", NOW)) is CoordinatorLoadInProgressError
    verify = VerifyRequest(7, 0, frozenset({A}))
    assert refusal(ask("id", verify, "token", NOW)) is CoordinatorLoadInProgressError
    made.end()
    assert refusal(ask("id", fine, "token", NOW)) is NotCoordinatorError


def test_a_transaction_from_its_beginning_to_its_end(coordinator: Coordinator) -> None:
    for request, answer in (
        (INIT, Answer(None, 7, 0)),
        (AddRequest(7, 0, frozenset({A})), Answer()),
        (EndRequest(7, 0, True, 4), Answer()),
    ):
        [append] = [
            each
            for each in coordinator.handle("id", request, "token", NOW)
            if isinstance(each, Append)
        ]
        assert coordinator.on_appended("id", append.number, NOW) == []
        reply, *sent = coordinator.on_committed("id", append.number, NOW)
        assert reply == Reply("token", answer)
    assert sent == [SendMarkers(Marker("id", 7, 0, True, False), (A,))]
    [append] = coordinator.on_confirmed("id", A, NOW)
    assert append.record.value.state is TransactionState.COMPLETE_COMMIT
    coordinator.on_appended("id", append.number, NOW)
    coordinator.on_committed("id", append.number, NOW)
    late = Now(0, 10**15)
    [append] = coordinator.expire(late, 9)
    coordinator.on_appended("id", append.number, late)
    assert coordinator.transactional_ids() == []
    coordinator.on_committed("id", append.number, late)
    request = EndRequest(7, 0, True, 4)
    answer = coordinator.handle("id", request, "token", NOW)
    assert refusal(answer) is InvalidProducerIdMappingError


def test_an_id_of_which_nothing_was_written_is_not_remembered(coordinator: Coordinator) -> None:
    request = AddRequest(7, 0, frozenset({A}))
    assert refusal(coordinator.handle("id", request, "token", NOW)) is not None
    *_, append = coordinator.handle("id", INIT, "token", NOW)
    error = CoordinatorNotAvailableError("too few replicas")
    [reply] = coordinator.on_refused("id", append.number, error, NOW)
    assert reply == Reply("token", Answer(error))
    assert not coordinator._transactions


def test_after_the_end_nothing_changes_anything(coordinator: Coordinator) -> None:
    *_, append = coordinator.handle("id", INIT, "token", NOW)
    assert refusal(coordinator.end()) is NotCoordinatorError
    assert coordinator.phase is Phase.ENDED
    assert coordinator.on_appended("id", append.number, NOW) == []
    assert coordinator.on_committed("id", append.number, NOW) == []
    assert coordinator.on_confirmed("id", A, NOW) == []
    assert coordinator.end() == []
