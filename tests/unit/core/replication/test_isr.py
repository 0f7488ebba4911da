"""Follower progress, the committed and the maximal ISR, and the schedule of lag checks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.core.replication.isr import NEVER_MS, FollowerProgress, IsrTracker, LagCheckSchedule
from minikafka.model import IsrProposal
from tests.helpers.core_builders import TOPIC_ID, TP

LAG_MS = 100


def fetched(*fetches: tuple[int, int, int]) -> FollowerProgress:
    """Progress after these (offset, leader's end, time), all of broker epoch 7."""
    progress = FollowerProgress()
    for offset, leader_end, now_ms in fetches:
        progress.record_fetch(offset, 7, leader_end, now_ms)
    return progress


# --- progress ------------------------------------------------------------------------------------


def test_of_a_follower_that_never_fetched_nothing_is_known():
    progress = FollowerProgress()
    assert progress.log_end_offset == -1
    assert not progress.caught_up(0, 0, LAG_MS)


def test_a_fetch_from_the_leaders_end_is_caught_up_now():
    assert fetched((10, 10, 50)).caught_up_ms == 50


def test_a_fetch_from_what_was_the_end_last_time_was_caught_up_then():
    assert fetched((4, 10, 50), (10, 15, 80)).caught_up_ms == 50


def test_a_fetch_that_stays_behind_both_ends_is_not_caught_up():
    assert fetched((4, 10, 50), (9, 15, 80)).caught_up_ms == NEVER_MS


def test_an_empty_log_counts_as_an_end_that_was_reached():
    assert fetched((0, 0, 50), (0, 5, 80)).caught_up_ms == 50


def test_the_time_of_catching_up_never_falls():
    progress = fetched((10, 10, 50))
    progress.record_fetch(10, 7, 10, 40)
    assert progress.caught_up_ms == 50
    progress.record_fetch(10, 7, 12, 60)
    assert progress.caught_up_ms == 50


def test_a_follower_at_the_end_is_caught_up_however_long_it_is_silent():
    progress = fetched((10, 10, 50))
    assert progress.caught_up(10, 10_000, LAG_MS)


def test_a_follower_behind_is_caught_up_for_as_long_as_the_lag_allows():
    progress = fetched((10, 10, 50))
    assert progress.caught_up(11, 50 + LAG_MS, LAG_MS)
    assert not progress.caught_up(11, 51 + LAG_MS, LAG_MS)


def test_a_new_incarnation_has_caught_up_with_nothing():
    progress = fetched((10, 10, 50))
    progress.record_fetch(0, 8, 10, 60)
    assert progress.broker_epoch == 8
    assert progress.log_end_offset == 0
    assert not progress.caught_up(10, 60, LAG_MS)
    progress.record_fetch(10, 8, 20, 70)
    assert progress.caught_up_ms == 60


def test_a_new_incarnation_is_not_credited_with_the_end_that_the_old_one_was_shown():
    progress = fetched((4, 10, 50))
    progress.record_fetch(10, 8, 20, 60)
    assert progress.caught_up_ms == NEVER_MS


def test_the_first_incarnation_that_is_heard_keeps_the_time_that_a_new_leader_granted():
    progress = FollowerProgress(caught_up_ms=40)
    progress.record_fetch(0, 7, 10, 60)
    assert progress.caught_up_ms == 40


# --- committed and maximal ISR -------------------------------------------------------------------


def proposal(*members: int, version: int = 0) -> IsrProposal:
    return IsrProposal(TP, TOPIC_ID, 0, version, tuple((member, 7) for member in members))


def test_a_proposed_addition_counts_at_once():
    tracker = IsrTracker((1, 2))
    tracker.propose(proposal(1, 2, 3))
    assert tracker.committed == (1, 2)
    assert tracker.maximal == {1, 2, 3}
    assert tracker.pending == proposal(1, 2, 3)


def test_a_proposed_removal_counts_still():
    tracker = IsrTracker((1, 2, 3))
    tracker.propose(proposal(1, 2))
    assert tracker.maximal == {1, 2, 3}


def test_a_refused_addition_counts_until_a_newer_version_is_adopted():
    tracker = IsrTracker((1, 2))
    tracker.propose(proposal(1, 2, 3))
    tracker.propose(proposal(1, 2))
    assert tracker.maximal == {1, 2, 3}
    tracker.adopt((1, 2))
    assert tracker.maximal == {1, 2}
    assert tracker.pending is None


MEMBERS = st.lists(st.integers(2, 5), unique=True).map(lambda members: (1, *sorted(members)))


@given(st.lists(st.tuples(st.booleans(), MEMBERS), max_size=30))
def test_the_maximal_isr_is_the_union_of_all_that_may_be_committed(steps):
    tracker = IsrTracker((1,))
    possible = [{1}]  # the committed ISR, and whatever may have been committed since
    for adopts, members in steps:
        if adopts:
            tracker.adopt(members)
            possible = [set(members)]
        else:
            tracker.propose(proposal(*members))
            possible.append(set(members))
        assert tracker.maximal == set().union(*possible)
        assert set(tracker.committed) == possible[0]
        assert (tracker.pending is None) == (len(possible) == 1)


# --- the schedule --------------------------------------------------------------------------------


def test_a_check_is_due_every_half_of_the_lag():
    schedule = LagCheckSchedule(LAG_MS, 0)
    assert schedule.next_ms == 50
    assert not schedule.due(49)
    assert schedule.due(50)
    assert schedule.next_ms == 100
    assert schedule.due(120)
    assert schedule.next_ms == 170


def test_a_check_that_comes_late_by_more_than_half_the_lag_is_skipped_once():
    schedule = LagCheckSchedule(LAG_MS, 0)
    assert not schedule.due(101)
    assert schedule.next_ms == 151
    assert schedule.due(151)


def test_a_check_that_comes_late_by_exactly_half_the_lag_is_made():
    assert LagCheckSchedule(LAG_MS, 0).due(100)


@pytest.mark.parametrize("lag_time_max_ms", [0, 1])
def test_the_interval_is_never_nothing(lag_time_max_ms):
    assert LagCheckSchedule(lag_time_max_ms, 0).next_ms == 1
