"""The mirror of a log: offsets, epochs, producers."""

from __future__ import annotations

import pytest

from minikafka.core.replication.epochs import EpochCache
from minikafka.core.replication.log_state import LogState
from tests.helpers.core_builders import batch, entries, log_of


def test_an_empty_log_has_no_epoch():
    log = LogState()
    assert (log.log_start_offset, log.log_end_offset, log.high_watermark) == (0, 0, 0)
    assert log.last_epoch == -1


def test_a_high_watermark_from_a_checkpoint_is_kept_within_the_log():
    assert LogState(2, 10, 15).high_watermark == 10
    assert LogState(2, 10, 0).high_watermark == 2
    assert LogState(2, 10, 7).high_watermark == 7


def test_epochs_that_begin_above_the_log_end_are_refused():
    with pytest.raises(AssertionError):
        LogState(0, 5, 0, EpochCache(entries((1, 6))))


def test_appended_batches_move_the_end_and_begin_epochs():
    log = LogState()
    assert log.appended([batch(0, 3, leader_epoch=0), batch(3, 2, leader_epoch=2)])
    assert log.log_end_offset == 5
    assert log.last_epoch == 2
    assert log.epochs.entries() == list(entries((0, 0), (2, 3)))
    assert not log.appended([batch(5, leader_epoch=2)])
    assert not log.appended([])


def test_appended_batches_are_remembered_for_their_producers():
    log = LogState()
    log.appended([batch(0, 2, producer_id=5, producer_epoch=0, sequence=0)])
    repeated = log.producers.check(batch(9, 2, producer_id=5, producer_epoch=0, sequence=0))
    assert repeated is not None
    assert repeated.base_offset == 0


def test_a_batch_below_the_end_or_of_a_falling_epoch_is_a_bug():
    log = log_of(2, 2)
    with pytest.raises(AssertionError):
        log.appended([batch(1, leader_epoch=2)])
    with pytest.raises(AssertionError):
        log.appended([batch(2, leader_epoch=1)])


def test_truncation_takes_all_marks_down_with_it():
    log = log_of(0, 0, 1, 1, high_watermark=3, log_start_offset=10)
    log.flushed_offset = 14
    log.high_watermark = 13
    assert log.truncated(12)
    assert (log.log_end_offset, log.high_watermark, log.flushed_offset) == (12, 12, 12)
    assert log.epochs.entries() == list(entries((0, 10)))
    assert log.truncated(4)
    assert (log.log_start_offset, log.log_end_offset, log.high_watermark) == (4, 4, 4)
    log.check()


def test_truncation_to_the_end_drops_an_idle_epoch_only():
    log = log_of(0, 0)
    log.epochs.assign(5, 2)
    assert log.truncated(2)
    assert (log.log_end_offset, log.last_epoch) == (2, 0)
    assert not log.truncated(2)
    assert not log.truncated(9)


def test_a_restarted_log_is_empty_at_its_new_place():
    log = log_of(0, 1, high_watermark=1)
    log.appended([batch(2, leader_epoch=1, producer_id=5, producer_epoch=0, sequence=0)])
    log.restarted(20)
    assert log == LogState(20, 20, 20, flushed_offset=20)
    log.check()


def test_the_log_start_rises_at_most_to_the_high_watermark():
    log = log_of(0, 0, 1, 1, high_watermark=3)
    assert log.raise_log_start(9)
    assert log.log_start_offset == 3
    assert log.flushed_offset == 3
    assert log.epochs.entries() == list(entries((1, 3)))
    assert not log.raise_log_start(2)
    assert not log.raise_log_start(3)
