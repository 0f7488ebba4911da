"""Idempotent producers: the window of five, by example and against a memory of everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.core.replication import producer_state
from minikafka.core.replication.producer_state import (
    MAX_SEQUENCE,
    ProducedBatch,
    ProducerState,
    ProducerStateTable,
    sequence_after,
)
from minikafka.errors import InvalidProducerEpochError, OutOfOrderSequenceNumberError
from minikafka.model import BatchHeader
from tests.helpers.core_builders import batch


def produced(
    base_offset: int, sequence: int, count: int = 1, producer_epoch: int = 0, producer_id: int = 7
) -> BatchHeader:
    return batch(
        base_offset,
        count,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        sequence=sequence,
        timestamp_ms=base_offset,
    )


def table_of(*headers: BatchHeader) -> ProducerStateTable:
    table = ProducerStateTable()
    for header in headers:
        table.update(header)
    return table


def test_sequences_wrap_to_zero():
    assert sequence_after(MAX_SEQUENCE) == 0
    assert sequence_after(MAX_SEQUENCE - 1, 4) == 2
    assert sequence_after(5, 0) == 5


def test_a_batch_without_a_producer_is_neither_checked_nor_remembered():
    table = table_of(batch(0))
    assert table.check(batch(1)) is None
    assert len(table) == 0


def test_an_unknown_producer_may_begin_anywhere():
    assert ProducerStateTable().check(produced(0, sequence=41)) is None


def test_the_next_sequence_is_accepted():
    assert table_of(produced(0, 0, count=3)).check(produced(3, 3)) is None


def test_the_next_sequence_after_the_largest_is_zero():
    table = table_of(produced(0, MAX_SEQUENCE - 1, count=2))
    assert table.check(produced(2, 0)) is None


def test_a_batch_that_wraps_is_recognized_when_it_is_repeated():
    table = table_of(produced(0, MAX_SEQUENCE, count=3))
    assert table.check(produced(0, MAX_SEQUENCE, count=3)) == ProducedBatch(MAX_SEQUENCE, 1, 0, 2)
    assert table.check(produced(3, 2)) is None


def test_a_gap_is_out_of_order():
    with pytest.raises(OutOfOrderSequenceNumberError, match="sent sequence 5; 3 comes next"):
        table_of(produced(0, 0, count=3)).check(produced(3, 5))


def test_each_of_the_last_five_is_answered_with_its_own_offsets():
    table = table_of(*(produced(10 * n, n) for n in range(6)))
    for n in range(1, 6):
        assert table.check(produced(99, n)) == ProducedBatch(n, n, 10 * n, 10 * n)


def test_the_sixth_last_is_not_remembered_and_out_of_order():
    table = table_of(*(produced(n, n) for n in range(6)))
    with pytest.raises(OutOfOrderSequenceNumberError):
        table.check(produced(99, 0))


def test_a_repetition_of_another_length_is_out_of_order():
    with pytest.raises(OutOfOrderSequenceNumberError):
        table_of(produced(0, 0, count=3)).check(produced(3, 0, count=2))


def test_an_older_producer_epoch_is_fenced():
    with pytest.raises(InvalidProducerEpochError, match="epoch 2 here; epoch 1 is fenced"):
        table_of(produced(0, 0, producer_epoch=2)).check(produced(1, 1, producer_epoch=1))


def test_a_new_producer_epoch_begins_with_sequence_zero():
    table = table_of(produced(0, 0), produced(1, 1))
    assert table.check(produced(2, 0, producer_epoch=1)) is None
    with pytest.raises(OutOfOrderSequenceNumberError, match="the first must be 0"):
        table.check(produced(2, 2, producer_epoch=1))


def test_a_new_producer_epoch_forgets_the_batches_of_the_old_one():
    table = table_of(produced(0, 0), produced(1, 0, producer_epoch=1))
    assert dict(table.items()) == {
        7: ProducerState(1, [ProducedBatch(0, 0, 1, 1)], last_timestamp_ms=1)
    }


def test_a_batch_that_does_not_follow_on_is_remembered_alone():
    table = table_of(produced(0, 0), produced(1, 1), produced(2, 50))
    assert dict(table.items()) == {
        7: ProducerState(0, [ProducedBatch(50, 50, 2, 2)], last_timestamp_ms=2)
    }


def test_producers_do_not_mix():
    table = table_of(produced(0, 0, producer_id=1), produced(1, 0, producer_id=2))
    assert table.check(produced(2, 1, producer_id=1)) is None
    assert table.check(produced(2, 1, producer_id=2)) is None
    assert len(table) == 2


def test_a_producer_is_forgotten_when_it_has_appended_nothing_for_a_while():
    """By the broker's clock, whatever the timestamps of its batches say."""
    table = table_of(produced(3, 0, producer_id=1), produced(8, 0, producer_id=2))
    table.expire(1_000, 50)  # both have appended since the last look
    table.update(produced(9, 1, producer_id=1))
    table.expire(1_049, 50)
    assert len(table) == 2
    table.expire(1_050, 50)
    assert [producer_id for producer_id, _ in table.items()] == [1]
    table.expire(1_098, 50)
    assert len(table) == 1
    table.expire(1_099, 50)
    assert len(table) == 0


def test_a_clock_that_is_put_back_forgets_nobody():
    table = table_of(produced(3, 0))
    table.expire(1_000, 50)
    table.expire(10, 50)
    table.expire(59, 50)
    assert len(table) == 1
    table.expire(60, 50)
    assert len(table) == 0


def test_of_too_many_producers_the_one_that_was_idle_for_longest_goes(monkeypatch):
    monkeypatch.setattr(producer_state, "PRODUCERS_MAX", 3)
    table = table_of(*(produced(n, 0, producer_id=n) for n in range(3)))
    table.update(produced(3, 1, producer_id=0))
    table.update(produced(4, 0, producer_id=8))
    assert [producer_id for producer_id, _ in table.items()] == [2, 0, 8]
    table.update(produced(5, 1, producer_id=8))
    assert len(table) == 3


def test_a_table_is_restored_from_what_it_listed():
    table = table_of(produced(0, 0), produced(1, 1))
    copy = ProducerStateTable()
    for producer_id, state in table.items():
        copy.restore(producer_id, state)
    assert copy == table
    assert copy != ProducerStateTable()
    assert copy != 7


class Remembered:
    """Everything that one producer ever appended, in order: (epoch, first, last, base offset)."""

    def __init__(self) -> None:
        self.all: list[tuple[int, int, int, int]] = []

    def verdict(self, epoch: int, first: int, count: int) -> str | int:
        """ "fenced", "gap", "append", or the base offset of what it repeats."""
        if not self.all:
            return "append"
        latest = self.all[-1][0]
        if epoch < latest:
            return "fenced"
        if epoch > latest:
            return "append" if first == 0 else "gap"
        for _, known_first, known_last, base in [b for b in self.all if b[0] == epoch][-5:]:
            if (known_first, known_last) == (first, (first + count - 1) % 2**31):
                return base
        return "append" if first == (self.all[-1][2] + 1) % 2**31 else "gap"


SENDS = st.lists(
    st.tuples(
        st.integers(0, 2),  # producer
        st.integers(0, 2),  # epoch
        st.one_of(st.integers(-7, 2), st.just(None)),  # sequence, relative to the next; None: 0
        st.integers(1, 3),  # records
    ),
    max_size=60,
)


@given(SENDS, st.sampled_from([0, MAX_SEQUENCE - 2, MAX_SEQUENCE]))
def test_it_agrees_with_a_memory_of_everything(sends, first_sequence):
    table, memories = ProducerStateTable(), [Remembered() for _ in range(3)]
    next_offset = 0
    for producer_id, producer_epoch, relative, count in sends:
        memory = memories[producer_id]
        following = (memory.all[-1][2] + 1) % 2**31 if memory.all else first_sequence
        sequence = 0 if relative is None else (following + relative) % 2**31
        header = produced(next_offset, sequence, count, producer_epoch, producer_id)
        expected = memory.verdict(producer_epoch, sequence, count)
        got: str | int
        try:
            repeated = table.check(header)
            got = "append" if repeated is None else repeated.base_offset
        except InvalidProducerEpochError:
            got = "fenced"
        except OutOfOrderSequenceNumberError:
            got = "gap"
        assert got == expected
        if got == "append":
            table.update(header)
            last = (sequence + count - 1) % 2**31
            memory.all.append((producer_epoch, sequence, last, next_offset))
            next_offset += count
