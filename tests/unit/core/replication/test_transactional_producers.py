"""What the table of producers makes of transactions: where they begin and end, what a marker moves,
and what may follow."""

from __future__ import annotations

import pytest

from minikafka.core.replication import producer_state
from minikafka.core.replication.producer_state import (
    NO_TRANSACTION,
    ProducedBatch,
    ProducerState,
    ProducerStateTable,
)
from minikafka.errors import (
    InvalidProducerEpochError,
    InvalidTxnStateError,
    OutOfOrderSequenceNumberError,
)
from minikafka.model import BatchHeader, EndMarker
from tests.helpers.core_builders import batch, in_transaction, log_of, marker

COMMIT = EndMarker(True, 3)
ABORT = EndMarker(False, 3)


def table_of(*appended: BatchHeader | tuple[BatchHeader, EndMarker]) -> ProducerStateTable:
    table = ProducerStateTable()
    for each in appended:
        if isinstance(each, BatchHeader):
            table.update(each)
        else:
            table.update(*each)
    return table


def only(table: ProducerStateTable) -> ProducerState:
    [(producer_id, found)] = table.items()
    assert producer_id == 7
    return found


def plain(base_offset: int, sequence: int, producer_epoch: int = 0) -> BatchHeader:
    return batch(base_offset, producer_id=7, producer_epoch=producer_epoch, sequence=sequence)


def test_a_transaction_begins_with_the_first_batch_that_is_part_of_one():
    table = table_of(in_transaction(4), in_transaction(5, 1))
    assert only(table).open_first_offset == 4
    assert table.unstable.first() == 4


def test_a_marker_ends_it_and_says_where_it_began():
    table = table_of(in_transaction(4))
    assert table.update(marker(5), COMMIT) == 4
    found = only(table)
    assert not found.is_open
    assert (found.coordinator_epoch, found.marker_end) == (3, 6)
    assert table.unstable.ended() == [(4, 5)]


def test_a_marker_without_a_transaction_moves_epochs_and_nothing_else():
    table = table_of(plain(4, 0))
    assert table.update(marker(5, producer_epoch=1), ABORT) == NO_TRANSACTION
    assert (only(table).producer_epoch, only(table).coordinator_epoch) == (1, 3)
    assert len(table.unstable) == 0


def test_a_batch_without_records_neither_begins_nor_ends_a_transaction():
    """Compaction leaves them; the marker may have gone."""
    emptied = in_transaction(4)._replace(record_count=0)
    table = table_of(emptied)
    assert not only(table).is_open
    assert only(table).batches == [ProducedBatch(0, 0, 4, 4)]
    table.update(in_transaction(5, 1))
    assert table.update(marker(6)._replace(record_count=0)) == NO_TRANSACTION
    assert only(table).open_first_offset == 5


def test_a_marker_that_lost_its_record_carries_the_epoch():
    table = table_of(in_transaction(4), marker(5, producer_epoch=2)._replace(record_count=0))
    assert (only(table).producer_epoch, only(table).batches) == (2, [])


def test_the_coordinator_epoch_never_falls():
    table = table_of((marker(4), COMMIT), (marker(5), EndMarker(True, 2)))
    assert only(table).coordinator_epoch == 3


# --- what may follow -----------------------------------------------------------------------------


def test_after_a_marker_of_the_same_epoch_the_sequence_goes_on():
    table = table_of(in_transaction(4), (marker(5), COMMIT))
    assert table.check(in_transaction(6, 1)) is None
    assert table.check(in_transaction(6, 0)) == ProducedBatch(0, 0, 4, 4)
    with pytest.raises(OutOfOrderSequenceNumberError, match="sent sequence 2; 1 comes next"):
        table.check(in_transaction(6, 2))


def test_after_a_marker_of_the_next_epoch_the_sequence_begins_anew():
    table = table_of(in_transaction(4), (marker(5, producer_epoch=1), COMMIT))
    assert only(table).batches == []
    assert table.check(in_transaction(6, 0, producer_epoch=1)) is None
    with pytest.raises(OutOfOrderSequenceNumberError, match="sent sequence 1; 0 comes next"):
        table.check(in_transaction(6, 1, producer_epoch=1))
    with pytest.raises(InvalidProducerEpochError):
        table.check(in_transaction(6, 1))


def test_whom_a_marker_made_known_may_begin_anywhere():
    """It has written before, and was forgotten; its transaction had nothing here."""
    table = table_of((marker(4), COMMIT))
    assert table.check(in_transaction(5, 17)) is None
    table.update(in_transaction(5, 17))
    with pytest.raises(OutOfOrderSequenceNumberError):
        table.check(in_transaction(6, 19))


def test_but_not_if_each_of_its_transactions_has_an_epoch_of_its_own():
    table = table_of((marker(4), COMMIT))
    with pytest.raises(OutOfOrderSequenceNumberError, match="0 comes next"):
        table.check(in_transaction(5, 17), from_zero=True)
    assert table.check(in_transaction(5, 0), from_zero=True) is None
    with pytest.raises(OutOfOrderSequenceNumberError, match="0 comes next"):
        ProducerStateTable().check(in_transaction(5, 17), from_zero=True)
    assert ProducerStateTable().check(in_transaction(5, 0), from_zero=True) is None


def test_whom_a_marker_made_known_and_fenced_begins_with_zero():
    table = table_of((marker(4), COMMIT), (marker(5, producer_epoch=1), ABORT))
    with pytest.raises(OutOfOrderSequenceNumberError):
        table.check(in_transaction(6, 17, producer_epoch=1))


def test_what_is_part_of_no_transaction_is_refused_while_one_is_open():
    table = table_of(in_transaction(4))
    with pytest.raises(InvalidTxnStateError, match="open since offset 4"):
        table.check(plain(5, 1))
    table.update(marker(5), COMMIT)
    assert table.check(plain(6, 1)) is None


def test_a_brokers_own_batches_have_no_sequence_and_are_only_fenced():
    table = table_of(in_transaction(4, -1), in_transaction(5, -1))
    assert only(table).batches == []
    assert only(table).open_first_offset == 4
    assert table.check(in_transaction(6, -1)) is None
    table.update(in_transaction(6, -1, producer_epoch=1))
    with pytest.raises(InvalidProducerEpochError):
        table.check(in_transaction(6, -1))


# --- who is forgotten ----------------------------------------------------------------------------


def test_nobody_is_forgotten_with_a_transaction_open():
    table = table_of(in_transaction(4))
    table.expire(1_000, 50)
    table.expire(2_000, 50)
    assert len(table) == 1
    table.update(marker(5), COMMIT)
    table.expire(3_000, 50)  # its marker counts as news of it
    table.expire(3_049, 50)
    assert len(table) == 1
    table.expire(3_050, 50)
    assert len(table) == 0


def test_of_too_many_producers_one_goes_that_has_nothing_open(monkeypatch):
    monkeypatch.setattr(producer_state, "PRODUCERS_MAX", 2)
    table = table_of(in_transaction(0, producer_id=1), batch(1, producer_id=2, sequence=0))
    table.update(batch(2, producer_id=3, sequence=0))
    assert [producer_id for producer_id, _ in table.items()] == [1, 3]
    table.update(in_transaction(3, producer_id=3, sequence=1))
    table.update(in_transaction(4, producer_id=4))
    assert sorted(producer_id for producer_id, _ in table.items()) == [1, 3, 4]


# --- put back from a snapshot --------------------------------------------------------------------


def test_a_table_is_restored_with_its_transactions():
    table = table_of(
        in_transaction(4), in_transaction(5, producer_id=8), (marker(6, producer_id=8), ABORT)
    )
    copy = ProducerStateTable()
    for producer_id, found in table.items():
        copy.restore(producer_id, found)
    assert copy != table
    for first_offset, marker_offset in table.unstable.ended():
        copy.restore_ended(first_offset, marker_offset)
    assert copy == table == table.copied()
    assert copy.unstable.first() == 4
    copy.unstable.check()


def test_a_copy_does_not_change_with_the_table():
    table = table_of(in_transaction(4))
    copy = table.copied()
    table.update(in_transaction(5, 1))
    table.update(marker(6), COMMIT)
    assert only(copy).batches == [ProducedBatch(0, 0, 4, 4)]
    assert copy.unstable.first_open() == 4


# --- the last stable offset ----------------------------------------------------------------------


def test_the_last_stable_offset_is_below_what_is_open_or_not_committed():
    log = log_of()
    assert log.last_stable_offset == 0
    log.appended([batch(0), in_transaction(1), batch(2)])
    log.commit(1)
    assert log.last_stable_offset == 1
    log.commit(3)
    assert log.last_stable_offset == 1
    log.appended([marker(3)], {3: COMMIT})
    log.commit(3)
    assert log.last_stable_offset == 1
    log.check()
    log.commit(4)
    assert log.last_stable_offset == 4


def test_a_control_batch_that_is_no_marker_ends_nothing():
    log = log_of()
    log.appended([in_transaction(0), marker(1)], {})
    log.commit(2)
    assert log.last_stable_offset == 0


def test_the_last_stable_offset_is_not_below_the_start_of_the_log():
    log = log_of()
    log.appended([in_transaction(0), batch(1), batch(2)])
    log.commit(3)
    log.raise_log_start(2)
    assert log.last_stable_offset == 2
    log.check()


def test_a_log_that_was_cut_has_the_transactions_that_are_left():
    log = log_of()
    log.appended([in_transaction(0), marker(1)], {1: COMMIT})
    log.commit(1)
    log.truncated(1)
    log.replace_producers(table_of(in_transaction(0)))
    assert log.last_stable_offset == 0
    log.check()
