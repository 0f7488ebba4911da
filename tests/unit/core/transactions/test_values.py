"""core/transactions/values.py and producer_ids.py: what is known, and what must hold of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minikafka.core.transactions.producer_ids import SpareProducerIds
from minikafka.core.transactions.values import TransactionState, TransactionValue
from minikafka.model import TopicPartition

EMPTY = TransactionValue(7, 5, 60, TransactionState.EMPTY)


def test_states_have_the_numbers_of_kafka() -> None:
    assert [(state.value, state.name) for state in TransactionState] == [
        (0, "EMPTY"),
        (1, "ONGOING"),
        (2, "PREPARE_COMMIT"),
        (3, "PREPARE_ABORT"),
        (4, "COMPLETE_COMMIT"),
        (5, "COMPLETE_ABORT"),
    ]


def test_only_what_ends_has_an_outcome() -> None:
    assert TransactionState.COMPLETE_COMMIT.commits
    assert not TransactionState.PREPARE_ABORT.commits
    with pytest.raises(AssertionError):
        _ = TransactionState.ONGOING.commits


@pytest.mark.parametrize(
    "wrong",
    [
        replace(EMPTY, partitions=frozenset({TopicPartition("t", 0)})),
        replace(EMPTY, producer_epoch=10),
        replace(EMPTY, next_producer_id=8),
        replace(EMPTY, producer_id=-1),
        replace(EMPTY, producer_epoch=-1),
        replace(EMPTY, state=TransactionState.PREPARE_ABORT, producer_epoch=11),
    ],
)
def test_a_record_that_cannot_be_is_noticed(wrong: TransactionValue) -> None:
    EMPTY.check(9)
    with pytest.raises(AssertionError):
        wrong.check(9)


@pytest.mark.parametrize(
    ("value", "fenced"),
    [
        (EMPTY, {(7, -1), (7, 3), (7, 4)}),
        (replace(EMPTY, last_epoch=4), {(7, -1), (7, 3)}),
        (replace(EMPTY, producer_epoch=0, last_epoch=5, previous_producer_id=6), {(7, -1)}),
        (
            replace(EMPTY, state=TransactionState.PREPARE_COMMIT, next_producer_id=8, last_epoch=4),
            {(7, -1), (7, 3)},
        ),
    ],
)
def test_an_epoch_that_has_passed_is_fenced_unless_it_is_the_last_one_of_the_same_producer(
    value: TransactionValue, fenced: set[tuple[int, int]]
) -> None:
    """An id that is not known is not: it may be a later one."""
    known = {(producer_id, epoch) for producer_id in (6, 7, 8) for epoch in (-1, 3, 4, 5, 6)}
    assert {each for each in known if value.fences(*each)} == fenced


def test_an_id_is_given_out_once() -> None:
    ids = SpareProducerIds(1)
    assert ids.take() == 1
    assert (ids.next, len(ids)) == (None, 0)
    ids.put(2)
    ids.put(1)  # it was not used after all
    assert ids.next == 1
    with pytest.raises(AssertionError):
        ids.put(2)
    assert [ids.take(), ids.take()] == [1, 2]
