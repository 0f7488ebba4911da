"""The following side: where it fetches, how it cuts its log, what it accepts."""

from __future__ import annotations

import pytest

from minikafka.core.replication.effects import (
    HighWatermarkAdvanced,
    RaiseLogStart,
    RestartLog,
    StoreEpochs,
    TruncateLog,
)
from minikafka.core.replication.follower import Follower
from minikafka.core.replication.log_state import LogState
from minikafka.model import OffsetAndEpoch, PartitionState
from tests.helpers.core_builders import TOPIC_ID, TP, batch, entries, log_of, position, state


def following(log: LogState, adopted: PartitionState | None = None) -> Follower:
    return Follower(TP, TOPIC_ID, log, state(1, leader_epoch=9) if adopted is None else adopted)


def test_it_fetches_from_its_log_end_with_its_last_epoch_and_the_leaders():
    log = log_of(2, 2, 3, log_start_offset=4)
    assert following(log).position() == position(7, 3, 9, log_start=4)


def test_without_a_leader_it_fetches_nowhere():
    assert following(log_of(0), state(leader=-1)).position() is None


def test_an_empty_log_has_no_last_epoch():
    assert following(LogState()).position() == position(0, -1, 9)


@pytest.mark.parametrize(
    "stale",
    [
        position(3, 2, 9, topic_id="another"),
        position(2, 2, 9),
        position(3, 1, 9),
        position(3, 2, 8),
    ],
    ids=["topic id", "offset", "last fetched epoch", "leader epoch"],
)
def test_a_reply_counts_only_if_everything_is_as_it_was_asked(stale):
    follower = following(log_of(0, 1, 2))
    assert follower.answers(position(3, 2, 9))
    assert not follower.answers(stale)


# --- diverging (KIP-279, KIP-595) ----------------------------------------------------------------


def cut(log: LogState, end_offset: int, leader_epoch: int) -> list[object]:
    return list(following(log).on_diverging(OffsetAndEpoch(end_offset, leader_epoch)))


def test_a_known_epoch_is_cut_to_the_leaders_end_of_it():
    log = log_of(0, 1, 1, 1, 2)
    assert cut(log, 2, 1) == [TruncateLog(2), StoreEpochs(entries((0, 0), (1, 1)))]
    assert (log.log_end_offset, log.last_epoch) == (2, 1)


def test_a_known_epoch_is_cut_to_its_own_end_when_the_leader_has_more_of_it():
    log = log_of(0, 1, 1, 3)
    assert cut(log, 9, 1) == [TruncateLog(3), StoreEpochs(entries((0, 0), (1, 1)))]


def test_an_unknown_epoch_is_cut_to_the_end_of_the_largest_below_it():
    log = log_of(0, 0, 3, 3)
    assert cut(log, 9, 2) == [TruncateLog(2), StoreEpochs(entries((0, 0)))]


def test_where_all_epochs_are_later_than_the_leaders_everything_from_the_first_goes():
    log = log_of(3, 3, log_start_offset=5)
    assert cut(log, 9, 1) == [TruncateLog(5), StoreEpochs(())]
    assert (log.log_end_offset, log.last_epoch) == (5, -1)


def test_where_all_epochs_are_later_the_leaders_end_may_be_the_smaller():
    log = log_of(3, 3, log_start_offset=5)
    assert cut(log, 4, 1) == [TruncateLog(4, committed_lost=True), StoreEpochs(())]
    assert (log.log_start_offset, log.log_end_offset) == (4, 4)


def test_a_log_without_epochs_is_cut_to_the_leaders_end():
    log = LogState(0, 6)
    assert cut(log, 4, 1) == [TruncateLog(4), StoreEpochs(())]
    assert cut(log, 8, 1) == []


def test_an_idle_epoch_goes_though_the_log_keeps_its_length():
    log = log_of(0, 0)
    log.epochs.assign(4, 2)
    assert cut(log, 2, 0) == [TruncateLog(2), StoreEpochs(entries((0, 0)))]
    assert (log.log_end_offset, log.last_epoch) == (2, 0)


def test_cutting_below_the_own_high_watermark_is_told():
    log = log_of(0, 0, 0, high_watermark=2)
    assert cut(log, 1, 0) == [TruncateLog(1, committed_lost=True), StoreEpochs(entries((0, 0)))]
    assert log.high_watermark == 1


def test_truncation_does_not_go_by_the_high_watermark():
    log = log_of(0, 0, 0, 1, high_watermark=0)
    assert cut(log, 3, 0) == [TruncateLog(3), StoreEpochs(entries((0, 0)))]


# --- out of range --------------------------------------------------------------------------------


def test_a_leader_that_is_shorter_cuts_this_log():
    log = log_of(0, 0, 0, high_watermark=2)
    effects = following(log).on_out_of_range(0, 1)
    assert effects == [TruncateLog(1, committed_lost=True), StoreEpochs(entries((0, 0)))]


def test_a_leader_that_begins_above_makes_this_log_begin_there():
    log = log_of(0, 0)
    assert following(log).on_out_of_range(7, 9) == [RestartLog(7), StoreEpochs(())]
    assert (log.log_start_offset, log.log_end_offset, log.high_watermark) == (7, 7, 7)


def test_a_leader_that_begins_at_the_end_of_this_log_makes_it_begin_there_too():
    log = log_of(0, 0, high_watermark=1)
    assert following(log).on_out_of_range(2, 5) == [RestartLog(2), StoreEpochs(())]
    assert (log.log_start_offset, log.log_end_offset, log.high_watermark) == (2, 2, 2)


def test_out_of_range_for_no_reason_is_only_tried_again():
    log = log_of(0, 0)
    log.epochs.assign(4, 2)
    assert following(log).on_out_of_range(1, 2) == []
    assert (log.log_end_offset, log.last_epoch) == (2, 4)


# --- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ([], True),
        ([batch(2, leader_epoch=1)], True),
        ([batch(2, 3, leader_epoch=1), batch(5, leader_epoch=9)], True),
        ([batch(2, leader_epoch=1), batch(7, leader_epoch=1)], True),
        ([batch(1, leader_epoch=1)], False),
        ([batch(3, leader_epoch=1)], True),
        ([batch(2, 3, leader_epoch=1), batch(4, leader_epoch=1)], False),
        ([batch(2, leader_epoch=10)], False),
        ([batch(2, leader_epoch=0)], False),
        ([batch(2, leader_epoch=4), batch(3, leader_epoch=3)], False),
        ([batch(2, 0, leader_epoch=1)], False),
    ],
    ids=[
        "nothing",
        "the next batch",
        "two in a row",
        "a gap that compaction left",
        "below the end",
        "a gap before the first",
        "overlapping",
        "of a future epoch",
        "of an epoch before the last",
        "of falling epochs",
        "without a record",
    ],
)
def test_batches_must_not_reach_below_the_end_and_must_follow_on(headers, accepted):
    assert following(log_of(0, 1)).accepts(headers) is accepted


def test_an_empty_log_begins_with_the_batch_that_straddles_its_start():
    follower = following(LogState(5, 5, 5))
    headers = [batch(3, 4, leader_epoch=1), batch(7, leader_epoch=1)]
    assert not follower.accepts(headers)
    assert follower.on_straddling(headers) == [RestartLog(3), StoreEpochs(())]
    assert follower.accepts(headers)
    assert follower.on_appended(headers) == [StoreEpochs(entries((1, 3)))]
    assert follower.on_leader_offsets(8, 5) == [HighWatermarkAdvanced(8), RaiseLogStart(5)]


@pytest.mark.parametrize(
    ("log", "headers"),
    [
        (LogState(5, 5, 5), []),
        (LogState(5, 5, 5), [batch(5, leader_epoch=1)]),
        (LogState(5, 5, 5), [batch(7, leader_epoch=1)]),
        (LogState(5, 5, 5), [batch(3, 2, leader_epoch=1)]),
        (log_of(0, 0), [batch(1, 3, leader_epoch=1)]),
    ],
    ids=["nothing", "at the start", "above it", "below it", "a log with records"],
)
def test_nothing_else_makes_a_log_begin_anew(log, headers):
    assert following(log).on_straddling(headers) == []


def test_epochs_are_learnt_from_batches_and_stored_once():
    follower = following(log_of(0, 1))
    assert follower.on_appended([batch(2, leader_epoch=1)]) == []
    assert follower.on_appended([batch(3, leader_epoch=4)]) == [
        StoreEpochs(entries((0, 0), (1, 1), (4, 3)))
    ]


def test_the_high_watermark_follows_the_leaders_as_far_as_the_log_goes():
    follower = following(log_of(0, 0, 0))
    assert follower.on_leader_offsets(2, 0) == [HighWatermarkAdvanced(2)]
    assert follower.on_leader_offsets(8, 0) == [HighWatermarkAdvanced(3)]
    assert follower.on_leader_offsets(1, 0) == []
    assert follower.log_state.high_watermark == 3


def test_the_log_start_follows_the_leaders_up_to_the_high_watermark():
    follower = following(log_of(0, 0, 0))
    assert follower.on_leader_offsets(2, 9) == [HighWatermarkAdvanced(2), RaiseLogStart(2)]
    assert follower.on_leader_offsets(2, 1) == []
