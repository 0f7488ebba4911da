"""The leading side: adopting, appending, acknowledging, positions, and ISR proposals."""

from __future__ import annotations

import pytest

from minikafka.core.replication.effects import (
    CompleteProduce,
    HighWatermarkAdvanced,
    ProposeIsr,
    RaiseLogStart,
    StoreEpochs,
)
from minikafka.core.replication.events import Flushed, ProduceParked, StateReceived
from minikafka.core.replication.isr import NEVER_MS
from minikafka.core.replication.leader import (
    JOIN_RETRY_MS,
    OUTSIDER_SILENCE_MS,
    Leader,
    PartitionSettings,
)
from minikafka.core.replication.producer_state import ProducedBatch
from minikafka.errors import (
    FencedLeaderEpochError,
    IneligibleReplicaError,
    InvalidRecordError,
    NotControllerError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    OffsetNotAvailableError,
    OffsetOutOfRangeError,
    OutOfOrderSequenceNumberError,
    RequestTimedOutError,
    StaleBrokerEpochError,
    UnknownLeaderEpochError,
)
from minikafka.model import UNKNOWN_OFFSET, Assignment, IsrProposal, OffsetAndEpoch
from tests.helpers.core_builders import (
    LAG_MS,
    TOPIC_ID,
    TP,
    batch,
    entries,
    leader_of,
    leading,
    log_of,
    position,
    replica,
    state,
)


def append(leader: Leader, count: int = 1, now_ms: int = 0) -> list[object]:
    plan = leader.plan_append([batch(count=count)], acks=1)
    return list(leader.on_appended(plan.headers, now_ms))


def fetch(
    leader: Leader, replica_id: int, offset: int, now_ms: int = 0, broker_epoch: int = -1
) -> list[object]:
    """A valid fetch by the current leader epoch."""
    at = position(offset, -1, leader.state.leader_epoch)
    broker_epoch = 100 * replica_id if broker_epoch == -1 else broker_epoch
    assert leader.check_replica_fetch(replica_id, at) is None
    return list(leader.record_replica_fetch(replica_id, broker_epoch, at, now_ms))


def adopt(leader: Leader, adopted, now_ms: int = 0, *, unbroken: bool = True) -> list[object]:
    return list(leader.adopt(adopted, leader.assignment, now_ms, unbroken=unbroken))


def proposal(*members: tuple[int, int], reason: str, epoch: int = 0, version: int = 0):
    return IsrProposal(TP, TOPIC_ID, epoch, version, members, reason)


# --- leading without ZooKeeper -------------------------------------------------------------------


def test_a_leader_whose_whole_isr_has_just_fetched_has_not_been_deposed():
    leader = leading()
    fetch(leader, 2, 0, now_ms=1000)
    fetch(leader, 3, 0, now_ms=1500)
    assert leader.doubt(3000, silence_ms=2000) is None
    assert (
        leader.doubt(3001, silence_ms=2000) == "B of the ISR have not fetched for more than 2000 ms"
    )
    assert leader.doubt(3501, silence_ms=2000).startswith("B,C of the ISR")


def test_a_new_leader_is_in_doubt_until_its_followers_have_fetched():
    leader = leading()
    assert leader.doubt(0, silence_ms=2000).startswith("B,C of the ISR")
    fetch(leader, 2, 0)
    fetch(leader, 3, 0)
    assert leader.doubt(0, silence_ms=2000) is None
    adopt(leader, state(leader_epoch=1, version=1), now_ms=0, unbroken=False)
    assert leader.doubt(0, silence_ms=2000).startswith("B,C of the ISR")


def test_a_fetch_of_another_epoch_removes_no_doubt():
    leader = leading(state(leader_epoch=3))
    for replica_id in (2, 3):
        with pytest.raises(UnknownLeaderEpochError):
            leader.check_replica_fetch(replica_id, position(0, -1, 4))
    assert leader.doubt(0, silence_ms=2000) is not None


def test_a_replica_outside_the_isr_is_no_witness_and_a_proposed_member_is_asked_too():
    leader = leading(state(isr=(1, 2)))
    append(leader)
    fetch(leader, 2, 1, now_ms=5000)
    fetch(leader, 3, 0, now_ms=0)
    assert leader.doubt(5000, silence_ms=2000) is None
    fetch(leader, 3, 1, now_ms=0)  # which is caught up, and proposed
    assert leader.isr.maximal == {1, 2, 3}
    assert leader.doubt(5000, silence_ms=2000).startswith("C of the ISR")


def test_a_proposed_member_that_is_no_replica_any_more_leaves_the_leader_in_doubt():
    leader = leading(state(isr=(1, 2)))
    fetch(leader, 2, 0, now_ms=5000)
    fetch(leader, 3, 0, now_ms=5000)
    assert leader.isr.maximal == {1, 2, 3}
    leader.reassign(Assignment((1, 2)), 5000)
    assert leader.doubt(5000, silence_ms=2000).startswith("C of the ISR")
    adopt(leader, state(isr=(1, 2), version=1), now_ms=5000)
    assert leader.doubt(5000, silence_ms=2000) is None


def test_who_is_in_sync_alone_is_in_doubt_and_the_only_replica_is_not():
    alone = leading(state(isr=(1,)))
    append(alone, 2)
    fetch(alone, 2, 0)
    assert alone.doubt(0, silence_ms=2000) == "no other replica is in sync that could tell"
    assert leading(state(isr=(1,)), replicas=(1,)).doubt(10**9, silence_ms=2000) is None


# --- adopting a State ----------------------------------------------------------------------------


def test_a_new_leader_records_its_epoch_before_it_serves():
    leader = leading(state(leader_epoch=3, isr=(1,)), log_of(1, 1), replicas=(1,))
    assert leader.log_state.epochs.entries() == list(entries((1, 0), (3, 2)))
    assert leader.epoch_start == 2
    assert leader.log_state.high_watermark == 2


def test_a_bump_under_the_same_leader_begins_an_epoch_and_keeps_positions():
    leader = leading()
    append(leader, 3)
    fetch(leader, 2, 3, now_ms=5)
    fetch(leader, 3, 1, now_ms=5)
    assert adopt(leader, state(leader_epoch=1, isr=(1, 2), version=1), LAG_MS + 1) == [
        StoreEpochs(entries((0, 0), (1, 3))),
        HighWatermarkAdvanced(3),
    ]
    assert leader.epoch_start == 3
    assert leader.first_own_offset == 0
    assert leader.followers[2].caught_up_ms == 5
    assert leader.followers[2].log_end_offset == 3


def test_who_has_left_the_isr_counts_again_with_what_it_fetches_under_the_new_epoch():
    leader = leading()
    append(leader, 3)
    fetch(leader, 2, 3, now_ms=5)
    fetch(leader, 3, 3, now_ms=5)
    append(leader)
    assert fetch(leader, 2, 4, now_ms=6) == []
    # C's disk has failed: it was caught up, it lives, and it will not fetch.
    assert adopt(leader, state(leader_epoch=1, isr=(1, 2), version=1), 7) == [
        StoreEpochs(entries((0, 0), (1, 4))),
        HighWatermarkAdvanced(4),
    ]
    assert leader.followers[3].log_end_offset == UNKNOWN_OFFSET
    assert leader.followers[3].caught_up_ms == NEVER_MS
    append(leader)
    assert fetch(leader, 2, 5, now_ms=8) == [HighWatermarkAdvanced(5)]
    assert fetch(leader, 3, 5, now_ms=9) == [
        ProposeIsr(proposal((1, 100), (2, 200), (3, 300), reason="C caught up", epoch=1, version=1))
    ]


def test_an_expansion_keeps_epoch_and_positions():
    leader = leading(state(isr=(1, 2)))
    append(leader, 3)
    fetch(leader, 2, 3)
    assert fetch(leader, 3, 3) == [
        ProposeIsr(proposal((1, 100), (2, 200), (3, 300), reason="C caught up"))
    ]
    assert adopt(leader, state(isr=(1, 2, 3), version=1)) == []
    assert leader.isr.committed == (1, 2, 3)
    assert leader.isr.pending is None
    assert leader.epoch_start == 0
    assert leader.followers[2].log_end_offset == 3


def test_after_a_gap_all_positions_are_forgotten():
    leader = leading()
    append(leader, 3)
    fetch(leader, 2, 3, now_ms=5)
    fetch(leader, 3, 3, now_ms=5)
    append(leader)
    effects = adopt(leader, state(leader_epoch=2, isr=(1, 2), version=2), 7, unbroken=False)
    assert effects == [StoreEpochs(entries((0, 0), (2, 4)))]
    assert {b: p.log_end_offset for b, p in leader.followers.items()} == {2: -1, 3: -1}
    assert {b: p.caught_up_ms for b, p in leader.followers.items()} == {2: 7, 3: NEVER_MS}
    assert leader.first_own_offset == 4


def test_a_gap_without_a_bump_forgets_positions_and_stores_nothing():
    leader = leading()
    append(leader, 3)
    fetch(leader, 2, 3)
    assert adopt(leader, state(version=2), unbroken=False) == []
    assert leader.followers[2].log_end_offset == -1
    assert leader.epoch_start == 3


def test_replicas_that_left_the_assignment_are_forgotten_and_new_ones_begin_unknown():
    leader = leading()
    fetch(leader, 3, 0)
    leader.adopt(
        state(leader_epoch=1, isr=(1, 2), version=1), Assignment((1, 2, 4)), 9, unbroken=True
    )
    assert set(leader.followers) == {2, 4}
    assert leader.followers[4].caught_up_ms == NEVER_MS


def test_what_an_added_replica_fetched_before_the_epoch_moved_does_not_count():
    """It may have been dropped since, and be about to delete its log."""
    leader = leading(state(isr=(1, 2)))
    for follower in (2, 3):
        fetch(leader, follower, 0, now_ms=5)
    adding = Assignment((1, 2, 3, 4), adding=(2, 3, 4))
    leader.adopt(state(leader_epoch=1, isr=(1, 2), version=1), adding, 9, unbroken=True)
    assert leader.followers[2].log_end_offset == 0
    assert leader.followers[3].log_end_offset == UNKNOWN_OFFSET
    assert leader.followers[3].caught_up_ms == NEVER_MS
    (proposed,) = fetch(leader, 2, 0, now_ms=9) or fetch(leader, 3, 0, now_ms=9)
    assert isinstance(proposed, ProposeIsr)


def test_the_minimum_in_sync_does_not_count_replicas_that_are_being_added():
    leader = leading(state(isr=(1,)), replicas=(1,), min_insync=2)
    growing = Assignment((1, 2, 3), adding=(2, 3))
    leader.adopt(state(leader_epoch=1, isr=(1,), version=1), growing, 0, unbroken=True)
    assert leader.effective_min_insync == 1
    leader.reassign(Assignment((1, 2, 3)), 0)
    assert leader.effective_min_insync == 2


def test_members_outside_the_assignment_are_tolerated():
    leader = leading(state(isr=(1, 2, 5)), replicas=(1, 2))
    append(leader)
    fetch(leader, 2, 1)
    assert leader.log_state.high_watermark == 0
    assert fetch(leader, 5, 1) == [HighWatermarkAdvanced(1)]


# --- appending -----------------------------------------------------------------------------------


def test_a_plan_gives_offsets_and_the_leaders_epoch_and_changes_nothing():
    leader = leading(state(leader_epoch=4), log_of(0, 0))
    plan = leader.plan_append([batch(77, 3), batch(0, 2, leader_epoch=9)], acks=-1)
    assert plan.headers == (batch(2, 3, leader_epoch=4), batch(5, 2, leader_epoch=4))
    assert plan.duplicate is None
    assert leader.log_state.log_end_offset == 2


def test_acks_all_needs_the_minimum_in_sync_and_others_do_not():
    leader = leading(state(isr=(1,)), min_insync=2)
    with pytest.raises(NotEnoughReplicasError, match="has 1 in-sync replicas; acks=all needs 2"):
        leader.plan_append([batch()], acks=-1)
    assert leader.plan_append([batch()], acks=1).headers == (batch(),)
    assert leader.plan_append([batch()], acks=0).headers == (batch(),)


def test_the_minimum_in_sync_is_never_more_than_there_are_replicas():
    leader = leading(state(isr=(1,)), replicas=(1,), min_insync=3)
    assert leader.effective_min_insync == 1
    assert leader.plan_append([batch()], acks=-1).headers == (batch(),)


def test_a_repetition_is_answered_with_the_original_offsets():
    leader = leading()
    first = batch(0, 2, producer_id=8, producer_epoch=0, sequence=0)
    leader.on_appended(leader.plan_append([first], -1).headers, 0)
    append(leader)
    again = leader.plan_append([first], -1)
    assert again.headers == ()
    assert again.duplicate == ProducedBatch(0, 1, 0, 1)


def test_a_gap_in_the_sequence_is_refused():
    leader = leading()
    first = batch(producer_id=8, producer_epoch=0, sequence=0)
    leader.on_appended(leader.plan_append([first], -1).headers, 0)
    with pytest.raises(OutOfOrderSequenceNumberError):
        leader.plan_append([first._replace(base_sequence=2)], -1)


@pytest.mark.parametrize("first_is_idempotent", [True, False])
def test_a_batch_of_an_idempotent_producer_comes_alone(first_is_idempotent):
    leader = leading()
    idempotent = batch(producer_id=8, producer_epoch=0, sequence=0)
    leader.on_appended(leader.plan_append([idempotent], -1).headers, 0)
    both = [idempotent, batch()] if first_is_idempotent else [batch(), idempotent]
    with pytest.raises(InvalidRecordError, match="one batch a partition; this one holds 2"):
        leader.plan_append(both, -1)


# --- acknowledging -------------------------------------------------------------------------------


def test_a_produce_is_answered_when_all_of_the_isr_has_it():
    leader = leading()
    append(leader)
    assert leader.park("one", 1) == []
    assert fetch(leader, 2, 1) == []
    assert fetch(leader, 3, 1) == [HighWatermarkAdvanced(1), CompleteProduce("one", None)]
    assert len(leader.parked) == 0


def test_a_produce_that_is_committed_already_is_answered_at_once():
    leader = leading(state(isr=(1,)))
    append(leader)
    assert leader.park("one", 1) == [CompleteProduce("one", None)]
    assert len(leader.parked) == 0


def test_a_repetition_is_answered_before_what_was_parked_later():
    leader = leading()
    append(leader)
    append(leader)
    leader.park("second", 2)
    leader.park("first, again", 1)
    fetch(leader, 2, 2)
    assert fetch(leader, 3, 1) == [HighWatermarkAdvanced(1), CompleteProduce("first, again", None)]
    assert fetch(leader, 3, 2) == [HighWatermarkAdvanced(2), CompleteProduce("second", None)]


def test_a_produce_that_timed_out_is_not_answered_again():
    leader = leading(state(isr=(1, 2)))
    append(leader)
    append(leader)
    leader.park("one", 1)
    leader.park("two", 2)
    leader.parked.give_up("one")
    assert fetch(leader, 2, 2) == [HighWatermarkAdvanced(2), CompleteProduce("two", None)]


def test_produces_that_timed_out_leave_no_trace_when_others_park():
    leader = leading(state(isr=(1, 2)))
    append(leader)
    for attempt in range(3):
        leader.park(attempt, 1)
        leader.parked.give_up(attempt)
    leader.park("last", 1)
    assert leader.parked.waiting() == [("last", 1)]


def test_a_bump_above_the_minimum_lets_produces_wait_on():
    leader = leading(min_insync=2)
    append(leader)
    leader.park("one", 1)
    assert adopt(leader, state(leader_epoch=1, isr=(1, 2), version=1)) == [
        StoreEpochs(entries((0, 0), (1, 1)))
    ]
    assert fetch(leader, 2, 1) == [HighWatermarkAdvanced(1), CompleteProduce("one", None)]


def test_a_shrink_that_leaves_the_rest_caught_up_commits_at_once():
    leader = leading(min_insync=2)
    append(leader)
    leader.park("one", 1)
    fetch(leader, 2, 1)
    assert adopt(leader, state(leader_epoch=1, isr=(1, 2), version=1)) == [
        StoreEpochs(entries((0, 0), (1, 1))),
        HighWatermarkAdvanced(1),
        CompleteProduce("one", None),
    ]


def test_a_shrink_below_the_minimum_fails_produces_at_once_and_commits_nothing():
    leader = leading(min_insync=3)
    append(leader)
    fetch(leader, 2, 1)
    leader.park("one", 1)
    leader.park("two", 1)
    leader.parked.give_up("two")
    store, failed = adopt(leader, state(leader_epoch=1, isr=(1, 2), version=1))
    assert store == StoreEpochs(entries((0, 0), (1, 1)))
    assert isinstance(failed, CompleteProduce)
    assert failed.token == "one"
    assert isinstance(failed.error, NotEnoughReplicasAfterAppendError)
    assert str(failed.error) == (
        "t-0 has only 2 in-sync replicas now; 3 are needed (min.insync.replicas); "
        "the record was appended and may yet be committed"
    )
    assert leader.log_state.high_watermark == 0
    assert not leader.parked


def test_a_repetition_of_what_is_committed_fails_while_too_few_are_in_sync():
    leader = leading(state(isr=(1, 2)), min_insync=2)
    append(leader)
    fetch(leader, 2, 1)
    adopt(leader, state(leader_epoch=1, isr=(1,), version=1))
    (failed,) = leader.park("again", 1)
    assert isinstance(failed, CompleteProduce)
    assert isinstance(failed.error, NotEnoughReplicasAfterAppendError)


def test_when_leadership_ends_all_that_wait_are_told():
    leader = leading()
    append(leader)
    leader.park("one", 1)
    error = RequestTimedOutError("over")
    assert leader.fail_all_parked(error) == [CompleteProduce("one", error)]
    assert leader.fail_all_parked(error) == []


# --- the high watermark --------------------------------------------------------------------------


def test_it_never_falls_when_a_slower_replica_joins():
    leader = leading(state(isr=(1, 2)))
    append(leader, 5)
    fetch(leader, 2, 5)
    assert leader.log_state.high_watermark == 5
    adopt(leader, state(isr=(1, 2, 3), version=1))
    assert fetch(leader, 3, 2) == []
    assert leader.log_state.high_watermark == 5


def test_it_waits_for_a_proposed_addition_until_a_newer_version_says_otherwise():
    leader = leading(state(isr=(1, 2)))
    fetch(leader, 3, 0)
    append(leader)
    assert fetch(leader, 2, 1, now_ms=LAG_MS + 1) == []
    assert adopt(leader, state(leader_epoch=1, isr=(1, 2), version=1), LAG_MS + 1) == [
        StoreEpochs(entries((0, 0), (1, 1))),
        HighWatermarkAdvanced(1),
    ]


def test_it_waits_for_an_eligible_replica_that_is_caught_up_outside():
    leader = leading(state(isr=(1, 2), leader_epoch=1), log_of(0, 0), eligible={3: 300})
    leader.isr.propose(proposal((1, 100), (2, 200), reason="busy", epoch=1))
    fetch(leader, 3, 2, now_ms=10)
    append(leader)
    assert fetch(leader, 2, 3, now_ms=20) == [HighWatermarkAdvanced(2)]
    assert leader.advance_high_watermark(10 + LAG_MS) == []
    assert leader.advance_high_watermark(11 + LAG_MS) == [HighWatermarkAdvanced(3)]


def test_it_does_not_wait_for_a_replica_outside_that_has_fallen_silent():
    leader = leading(state(isr=(1, 2), leader_epoch=1), log_of(0, 0), eligible={3: 300})
    leader.settings = PartitionSettings(replica_lag_time_max_ms=30_000)
    leader.isr.propose(proposal((1, 100), (2, 200), reason="busy", epoch=1))
    fetch(leader, 3, 2, now_ms=10)
    append(leader)
    assert fetch(leader, 2, 3, now_ms=20) == [HighWatermarkAdvanced(2)]
    assert leader.check_lag(10 + OUTSIDER_SILENCE_MS) == []
    assert leader.check_lag(11 + OUTSIDER_SILENCE_MS) == [HighWatermarkAdvanced(3)]


def test_it_does_not_wait_for_a_replica_outside_that_shuts_down():
    leader = leading(state(isr=(1, 2)), eligible={1: 100, 2: 200})
    fetch(leader, 3, 0, now_ms=10)
    append(leader)
    assert fetch(leader, 2, 1, now_ms=20) == [HighWatermarkAdvanced(1)]


def test_it_does_not_wait_for_the_next_incarnation_of_what_was_caught_up():
    eligible = {2: 200, 3: 300}
    leader = leading(state(isr=(1, 2)), log_of(0, 0), eligible=eligible)
    leader.isr.propose(proposal((1, 100), (2, 200), reason="busy"))
    fetch(leader, 3, 2, now_ms=10)
    eligible[3] = 301
    fetch(leader, 3, 0, now_ms=20, broker_epoch=301)
    assert fetch(leader, 2, 2, now_ms=30) == [HighWatermarkAdvanced(2)]


def test_with_flush_before_ack_the_leaders_own_disk_counts():
    partition = replica(flush_before_ack=True)
    partition.step(StateReceived(state(isr=(1,)), Assignment((1, 2, 3))), 0)
    assert append(leader_of(partition), 3) == []
    partition.step(ProduceParked("one", 3), 0)
    assert partition.step(Flushed(2), 0) == [HighWatermarkAdvanced(2)]
    assert partition.step(Flushed(1), 0) == []
    committed = [HighWatermarkAdvanced(3), CompleteProduce("one", None)]
    assert partition.step(Flushed(9), 0) == committed
    assert partition.log_state.flushed_offset == 3


# --- fetches of followers ------------------------------------------------------------------------


def test_an_old_leader_epoch_is_fenced():
    leader = leading(state(leader_epoch=3))
    with pytest.raises(FencedLeaderEpochError, match="leader epoch 3; 2 is old"):
        leader.check_replica_fetch(2, position(0, -1, 2))


def test_a_leader_epoch_of_the_future_is_not_known_yet():
    with pytest.raises(UnknownLeaderEpochError, match="epoch 3 here; 4 is not known yet"):
        leading(state(leader_epoch=3)).check_replica_fetch(2, position(0, -1, 4))


def test_a_follower_cannot_leave_the_leader_epoch_out():
    with pytest.raises(FencedLeaderEpochError, match="without a leader epoch"):
        leading().check_replica_fetch(2, position(0, -1, -1))


def test_a_broker_that_is_no_replica_is_sent_away():
    with pytest.raises(UnknownLeaderEpochError, match="broker 9 is no replica"):
        leading().check_replica_fetch(9, position(0, -1, 0))


def test_an_offset_below_the_log_start_is_out_of_range():
    leader = leading(log=log_of(0, 0, log_start_offset=5))
    with pytest.raises(OffsetOutOfRangeError, match="offset 4 of t-0 is not within 5 to 7"):
        leader.check_replica_fetch(2, position(4, 0, 0))


def test_an_offset_above_the_end_is_out_of_range_without_an_epoch_to_compare():
    leader = leading(log=log_of(0, 0))
    with pytest.raises(OffsetOutOfRangeError):
        leader.check_replica_fetch(2, position(3, -1, 0))


def test_a_follower_that_ends_where_the_log_begins_may_hold_other_records_below():
    log = log_of(2, 2, log_start_offset=5)
    leader = leading(state(leader_epoch=3), log)
    with pytest.raises(OffsetOutOfRangeError, match="begins at 5 here"):
        leader.check_replica_fetch(2, position(5, 1, 3, log_start=4))


@pytest.mark.parametrize(
    ("last_epoch", "follower_start"), [(2, 4), (1, 5)], ids=["known epoch", "nothing below"]
)
def test_a_follower_that_ends_where_the_log_begins_goes_on_from_there(last_epoch, follower_start):
    leader = leading(state(leader_epoch=3), log_of(2, 2, log_start_offset=5))
    fetch = position(5, last_epoch, 3, log_start=follower_start)
    assert leader.check_replica_fetch(2, fetch) is None


def test_the_epoch_is_looked_at_before_the_upper_end():
    leader = leading(log=log_of(0, 0))
    assert leader.check_replica_fetch(2, position(3, 0, 0)) == OffsetAndEpoch(2, 0)


@pytest.mark.parametrize(
    ("offset", "last_epoch", "answer"),
    [
        (2, 0, None),
        (3, 0, OffsetAndEpoch(2, 0)),
        (2, 1, OffsetAndEpoch(2, 0)),
        (4, 2, None),
        (4, 3, OffsetAndEpoch(4, 2)),
        (4, 7, OffsetAndEpoch(4, 5)),
        (0, -1, None),
    ],
)
def test_a_position_is_valid_if_the_epoch_is_known_and_reaches_so_far(offset, last_epoch, answer):
    leader = leading(state(leader_epoch=5), log_of(0, 0, 2, 2))
    assert leader.check_replica_fetch(2, position(offset, last_epoch, 5)) == answer


def test_checking_a_fetch_records_nothing():
    leader = leading(log=log_of(0, 0))
    leader.check_replica_fetch(2, position(2, 0, 0))
    assert leader.followers[2].log_end_offset == -1


def test_a_fetch_of_an_older_incarnation_is_refused_and_changes_nothing():
    leader = leading(log=log_of(0, 0))
    fetch(leader, 2, 0, broker_epoch=250)
    with pytest.raises(StaleBrokerEpochError, match="broker epoch 249 after 250"):
        fetch(leader, 2, 2, broker_epoch=249)
    assert leader.followers[2].log_end_offset == 0


# --- consumers -----------------------------------------------------------------------------------


def test_consumers_may_leave_the_epoch_out_but_not_have_a_wrong_one():
    leader = leading(state(leader_epoch=3), log_of(0, 0))
    leader.check_consumer_fetch(0, -1)
    leader.check_consumer_fetch(2, 3)
    with pytest.raises(FencedLeaderEpochError):
        leader.check_consumer_fetch(0, 2)
    with pytest.raises(UnknownLeaderEpochError):
        leader.check_consumer_fetch(0, 4)


@pytest.mark.parametrize("offset", [4, 8])
def test_consumers_must_stay_within_the_log(offset):
    with pytest.raises(OffsetOutOfRangeError):
        leading(log=log_of(0, 0, log_start_offset=5)).check_consumer_fetch(offset, -1)


def test_a_new_leader_does_not_tell_the_end_before_it_knows_what_is_committed():
    leader = leading(state(isr=(1, 2), leader_epoch=1), log_of(0, 0))
    with pytest.raises(OffsetNotAvailableError):
        leader.latest_offset()
    fetch(leader, 2, 2)
    assert leader.latest_offset() == 2


def test_a_bump_under_the_same_leader_does_not_hide_the_end():
    leader = leading()
    append(leader, 3)
    adopt(leader, state(leader_epoch=1, isr=(1, 2), version=1))
    assert leader.latest_offset() == 0


# --- the ISR: expansion --------------------------------------------------------------------------


def test_a_replica_joins_when_it_has_reached_high_watermark_and_epoch_start():
    leader = leading(state(isr=(1,), leader_epoch=1), log_of(0, 0))
    append(leader, 2)
    assert fetch(leader, 2, 3) == []
    assert fetch(leader, 2, 4) == [
        ProposeIsr(proposal((1, 100), (2, 200), reason="B caught up", epoch=1))
    ]


def test_a_replica_below_the_epochs_start_does_not_join():
    leader = leading(state(isr=(1, 2), leader_epoch=1), log_of(0, 0, high_watermark=1))
    assert fetch(leader, 3, 1) == []


def test_a_replica_that_is_not_eligible_does_not_join():
    for eligible in ({}, {3: 299}, {3: 301}):
        leader = leading(state(isr=(1, 2)), eligible=eligible)
        assert fetch(leader, 3, 0) == []


def test_a_follower_outside_the_assignment_does_not_join_again():
    leader = leading(state(isr=(1, 5)), replicas=(1, 2))
    leader.isr.committed = (1,)
    assert fetch(leader, 5, 0) == []


def test_only_one_proposal_is_in_flight():
    leader = leading(state(isr=(1,)))
    assert fetch(leader, 2, 0) != []
    assert fetch(leader, 3, 0) == []
    assert leader.check_lag(10**9) == []
    adopt(leader, state(isr=(1, 2), version=1))
    assert fetch(leader, 3, 0) == [
        ProposeIsr(proposal((1, 100), (2, 200), (3, 300), reason="C caught up", version=1))
    ]


def test_no_removal_is_proposed_while_an_addition_is_in_flight():
    leader = leading(state(isr=(1, 2)))
    append(leader)
    fetch(leader, 3, 1)
    assert leader.isr.pending is not None
    assert leader.check_lag(LAG_MS + 1) == []


def test_replicas_that_waited_for_a_proposal_join_together():
    leader = leading(state(isr=(1,)), replicas=(3, 2, 1))
    leader.isr.propose(proposal((1, 100), reason="busy"))
    fetch(leader, 2, 0)
    fetch(leader, 3, 0)
    adopt(leader, state(isr=(1,), version=1))
    assert fetch(leader, 2, 0) == [
        ProposeIsr(proposal((3, 300), (2, 200), (1, 100), reason="B,C caught up", version=1))
    ]


# --- the ISR: removal ----------------------------------------------------------------------------


def test_members_behind_for_too_long_are_proposed_for_removal():
    leader = leading(replicas=(1, 2, 3))
    append(leader)
    fetch(leader, 2, 1, now_ms=LAG_MS)
    assert leader.check_lag(LAG_MS) == []
    assert leader.check_lag(LAG_MS + 1) == [
        ProposeIsr(proposal((1, 100), (2, 200), reason="C behind for more than 1000 ms"))
    ]
    assert leader.isr.maximal == {1, 2, 3}


def test_members_of_which_nothing_is_known_have_one_lag_time_from_the_leaders_begin():
    leader = leading(state(leader_epoch=1), log_of(0))
    assert leader.check_lag(LAG_MS) == []
    assert leader.check_lag(LAG_MS + 1) == [
        ProposeIsr(proposal((1, 100), reason="B,C behind for more than 1000 ms", epoch=1))
    ]


def test_silent_members_of_an_idle_partition_stay():
    leader = leading()
    fetch(leader, 2, 0)
    fetch(leader, 3, 0)
    assert leader.check_lag(10**9) == []


def test_members_outside_the_assignment_are_proposed_after_those_within():
    leader = leading(state(isr=(2, 5, 1)), replicas=(2, 1))
    append(leader)
    fetch(leader, 5, 1)
    assert leader.check_lag(LAG_MS + 1) == [
        ProposeIsr(proposal((1, 100), (5, 500), reason="B behind for more than 1000 ms"))
    ]


# --- the ISR: answers ----------------------------------------------------------------------------


def test_a_proposal_that_found_no_controller_is_tried_again_as_it_was():
    leader = leading(state(isr=(1, 2)))
    (proposed,) = fetch(leader, 3, 0)
    assert isinstance(proposed, ProposeIsr)
    assert leader.on_proposal_refused(proposed.proposal, NotControllerError(), 0) == [proposed]


def test_after_an_ineligible_addition_the_committed_isr_is_proposed_as_it_stands():
    leader = leading(state(isr=(1, 2)))
    (proposed,) = fetch(leader, 3, 0)
    assert isinstance(proposed, ProposeIsr)
    no_op = proposal((1, 100), (2, -1), reason="the addition was refused")
    assert leader.on_proposal_refused(proposed.proposal, IneligibleReplicaError(), 0) == [
        ProposeIsr(no_op)
    ]
    assert leader.isr.pending == no_op
    assert leader.isr.maximal == {1, 2, 3}


def test_a_replica_that_was_refused_is_not_proposed_with_every_fetch():
    leader = leading(state(isr=(1, 2)))
    (proposed,) = fetch(leader, 3, 0, now_ms=10)
    assert isinstance(proposed, ProposeIsr)
    leader.on_proposal_refused(proposed.proposal, IneligibleReplicaError(), 20)
    adopt(leader, state(isr=(1, 2), version=1), 20)
    assert fetch(leader, 3, 0, now_ms=20 + JOIN_RETRY_MS - 1) == []
    assert fetch(leader, 3, 0, now_ms=20 + JOIN_RETRY_MS) != []


def test_a_refused_replica_may_have_left_the_assignment_meanwhile():
    leader = leading(state(isr=(1, 2)))
    (proposed,) = fetch(leader, 3, 0)
    assert isinstance(proposed, ProposeIsr)
    leader.reassign(Assignment((1, 2)), 0)
    assert leader.on_proposal_refused(proposed.proposal, IneligibleReplicaError(), 0) == [
        ProposeIsr(proposal((1, 100), (2, -1), reason="the addition was refused"))
    ]


def test_the_next_incarnation_of_a_refused_replica_is_proposed_at_once():
    eligible = {2: 200, 3: 300}
    leader = leading(state(isr=(1, 2)), eligible=eligible)
    (proposed,) = fetch(leader, 3, 0)
    assert isinstance(proposed, ProposeIsr)
    leader.on_proposal_refused(proposed.proposal, IneligibleReplicaError(), 0)
    adopt(leader, state(isr=(1, 2), version=1))
    eligible[3] = 301
    assert fetch(leader, 3, 0, broker_epoch=301) != []


def test_an_answer_to_a_proposal_that_is_no_longer_in_flight_is_ignored():
    leader = leading(state(isr=(1, 2)))
    old = proposal((1, 100), reason="long ago")
    assert leader.on_proposal_refused(old, IneligibleReplicaError(), 0) == []
    fetch(leader, 3, 0)
    assert leader.on_proposal_refused(old, NotControllerError(), 0) == []


def test_settings_have_kafkas_defaults():
    assert PartitionSettings() == PartitionSettings(1, 30_000, False)


# --- deleting records ----------------------------------------------------------------------------


def test_records_are_deleted_up_to_an_offset_or_to_all_that_is_committed():
    leader = leading(state(isr=(1,)), log_of(0, 0, 0, 0, high_watermark=3))
    leader.log_state.high_watermark = 3
    assert leader.delete_records(leader.deletion_target(2)) == [RaiseLogStart(2)]
    assert leader.delete_records(leader.deletion_target(1)) == []
    assert leader.delete_records(leader.deletion_target(-1)) == [RaiseLogStart(3)]
    for above in (4, -2):
        with pytest.raises(OffsetOutOfRangeError, match="up to the high watermark, 3"):
            leader.deletion_target(above)
    assert leader.log_state.log_start_offset == 3


def test_the_low_watermark_is_the_smallest_log_start_of_the_isr():
    leader = leading(state(isr=(1, 2)), log_of(0, 0, 0))
    assert leader.low_watermark == -1
    leader.record_replica_fetch(2, 200, position(3, log_start=1), 0)
    leader.record_replica_fetch(3, 300, position(0, -1, log_start=0), 0)
    assert leader.low_watermark == 0
    leader.delete_records(3)
    assert leader.low_watermark == 1
    leader.record_replica_fetch(2, 200, position(3, log_start=3), 0)
    assert leader.low_watermark == 3
    alone = leading(state(isr=(1,)), log_of(0))
    assert alone.low_watermark == 0
