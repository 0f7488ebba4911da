"""A replica as a whole: roles, versions, terms, stale replies, failing disks."""

from __future__ import annotations

import pytest

from minikafka.core.replication.effects import (
    CompleteProduce,
    HighWatermarkAdvanced,
    ProposeIsr,
    RaiseLogStart,
    RestartLog,
    Role,
    RoleChanged,
    StoreEpochs,
    TruncateLog,
)
from minikafka.core.replication.events import (
    BatchesAppended,
    BatchesFollowed,
    BatchesReceived,
    Diverged,
    Flushed,
    IdleProducersDue,
    LagCheckDue,
    LogStartRaised,
    LogTruncated,
    OutOfRange,
    ProduceGivenUp,
    ProduceParked,
    ProposalAnswered,
    RecordsDeleted,
    Registered,
    ReplicaFetched,
    SettingsChanged,
    StateReceived,
    Stopped,
    StorageFailed,
    outline,
)
from minikafka.core.replication.log_state import LogState
from minikafka.core.replication.partition import HISTORY_LENGTH, Partition
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.core.replication.settings import PartitionSettings
from minikafka.errors import (
    FencedLeaderEpochError,
    IneligibleReplicaError,
    KafkaStorageError,
    NotControllerError,
    NotLeaderOrFollowerError,
)
from minikafka.model import Assignment, IsrProposal, OffsetAndEpoch, PartitionState
from tests.helpers.core_builders import (
    ELIGIBLE,
    LAG_MS,
    TOPIC_ID,
    TP,
    batch,
    entries,
    leader_of,
    log_of,
    position,
    replica,
    state,
)

ABC = Assignment((1, 2, 3))


def follow() -> Partition:
    """Broker 2 follows 1 under epoch 1, with two records of epoch 0."""
    partition = replica(2, log_of(0, 0))
    adopt(partition, state(1, leader_epoch=1))
    return partition


def adopt(partition: Partition, adopted: PartitionState, now_ms: int = 0) -> list[object]:
    return list(partition.step(StateReceived(adopted, ABC), now_ms))


# --- roles ---------------------------------------------------------------------------------------


def test_a_replica_has_no_role_before_the_controller_has_spoken():
    partition = replica()
    assert partition.role is Role.NONE
    assert partition.leader_epoch == -1
    assert partition.fetch_position() is None
    with pytest.raises(NotLeaderOrFollowerError, match="the controller has not said yet who does"):
        partition.require_leader()


def test_the_named_broker_leads():
    partition = replica(1)
    assert adopt(partition, state(1, leader_epoch=2, isr=(1, 2))) == [
        StoreEpochs(entries((2, 0))),
        RoleChanged(Role.LEADER, 1, 2),
    ]
    assert partition.role is Role.LEADER
    assert partition.is_leader
    assert partition.leader_epoch == 2
    assert partition.fetch_position() is None
    assert leader_of(partition).state is partition.state


def test_everybody_else_follows():
    partition = replica(2, log_of(0, 0))
    assert adopt(partition, state(1, leader_epoch=2)) == [RoleChanged(Role.FOLLOWER, 1, 2)]
    assert partition.role is Role.FOLLOWER
    assert not partition.is_leader
    assert partition.fetch_position() == position(2, 0, 2)
    with pytest.raises(NotLeaderOrFollowerError, match="broker 1 does, since epoch 2"):
        partition.require_leader()


def test_with_the_state_that_is_held_only_the_assignment_may_be_new():
    """The State had come in an answer, which says nothing of the assignment."""
    partition = replica(1)
    adopt(partition, state(1, isr=(1, 2)))
    adopt(partition, state(1, leader_epoch=1, isr=(1, 2), version=1))
    moved = Assignment((1, 2, 4), adding=(4,), removing=(2,))
    assert partition.step(StateReceived(state(1, isr=(1, 2)), moved), 0) == []
    assert partition.assignment == ABC
    assert (
        partition.step(StateReceived(state(1, leader_epoch=1, isr=(1, 2), version=1), moved), 0)
        == []
    )
    assert partition.assignment == leader_of(partition).assignment == moved
    assert set(leader_of(partition).followers) == {2, 4}


def test_a_follower_takes_a_new_assignment_with_the_state_that_it_holds():
    partition = replica(2)
    adopt(partition, state(1))
    assert partition.step(StateReceived(state(1), Assignment((1, 2))), 0) == []
    assert partition.assignment == Assignment((1, 2))


def test_without_a_leader_nobody_is_fetched_from():
    partition = replica(2)
    assert adopt(partition, state(-1, leader_epoch=2)) == [RoleChanged(Role.FOLLOWER, -1, 2)]
    assert partition.fetch_position() is None
    with pytest.raises(NotLeaderOrFollowerError, match="nobody leads it at the moment"):
        partition.require_leader()


def test_a_follower_that_is_elected_keeps_its_high_watermark():
    partition = replica(2, log_of(0, 0, 0, high_watermark=2))
    adopt(partition, state(1))
    assert adopt(partition, state(2, leader_epoch=1, isr=(2, 3), version=1)) == [
        StoreEpochs(entries((0, 0), (1, 3))),
        RoleChanged(Role.LEADER, 2, 1),
    ]
    assert partition.log_state.high_watermark == 2
    assert partition.fetch_position() is None


def test_a_leader_that_is_deposed_tells_everybody_who_waits():
    partition = replica(1, log_of(0))
    adopt(partition, state(1, isr=(1, 2)))
    partition.step(ProduceParked("one", 1), 0)
    failed, changed = adopt(partition, state(2, leader_epoch=1, isr=(2,), version=1))
    assert isinstance(failed, CompleteProduce)
    assert failed.token == "one"
    assert isinstance(failed.error, NotLeaderOrFollowerError)
    assert "broker 2 does, since epoch 1" in str(failed.error)
    assert changed == RoleChanged(Role.FOLLOWER, 2, 1)


# --- versions (R3) and gaps (R4) -----------------------------------------------------------------


def test_only_a_newer_version_is_adopted():
    partition = replica(2)
    adopt(partition, state(1, leader_epoch=1, version=5))
    assert adopt(partition, state(3, leader_epoch=1, version=5)) == []
    assert adopt(partition, state(3, leader_epoch=0, version=4)) == []
    assert partition.state == state(1, leader_epoch=1, version=5)


def test_a_version_that_changes_neither_leader_nor_epoch_changes_no_role():
    partition = replica(2)
    adopt(partition, state(1, isr=(1,)))
    assert adopt(partition, state(1, isr=(1, 2), version=1)) == []
    assert partition.state == state(1, isr=(1, 2), version=1)


def test_a_newer_version_of_a_lower_epoch_is_a_bug_that_shows_its_history():
    partition = replica(2)
    adopt(partition, state(1, leader_epoch=1))
    with pytest.raises(AssertionError, match=r"t-0 on broker 2: the leader epoch fell[\s\S]*State"):
        adopt(partition, state(1, leader_epoch=0, version=1))


def lead_with_positions() -> Partition:
    """Broker 1 leads at version 0 with one record, and has heard of 2 at its end."""
    partition = replica(1)
    adopt(partition, state(1))
    leader = leader_of(partition)
    leader.on_appended(leader.plan_append([batch()], 1).headers, 0)
    leader.record_replica_fetch(2, 200, position(1, 0), 0)
    return partition


def test_the_very_next_version_keeps_positions():
    partition = lead_with_positions()
    adopt(partition, state(1, leader_epoch=1, isr=(1, 2), version=1))
    assert leader_of(partition).followers[2].log_end_offset == 1


def test_a_skipped_version_forgets_positions_though_the_same_broker_leads():
    partition = lead_with_positions()
    adopt(partition, state(1, leader_epoch=2, isr=(1, 2), version=2))
    assert leader_of(partition).followers[2].log_end_offset == -1


def test_leading_again_after_having_followed_begins_anew():
    partition = lead_with_positions()
    adopt(partition, state(2, leader_epoch=1, isr=(1, 2), version=1))
    adopt(partition, state(1, leader_epoch=2, isr=(1, 2), version=2))
    leader = leader_of(partition)
    assert leader.followers[2].log_end_offset == -1
    assert leader.first_own_offset == 1
    assert leader.settings is partition.settings


# --- terms ---------------------------------------------------------------------------------------


def test_a_term_ends_with_every_become_follower_and_every_cut():
    partition = replica(1, log_of(0, 1, 1, high_watermark=1))
    adopt(partition, state(1, leader_epoch=2))
    adopt(partition, state(1, leader_epoch=3, isr=(1, 2), version=1))
    assert partition.term == 0
    adopt(partition, state(2, leader_epoch=4, isr=(2,), version=2))
    assert partition.term == 1
    fetched = partition.fetch_position()
    assert fetched is not None
    partition.step(Diverged(fetched, OffsetAndEpoch(1, 0)), 0)
    assert partition.term == 2


def test_an_answer_that_cuts_nothing_ends_no_term():
    partition = replica(2, log_of(0))
    adopt(partition, state(1))
    assert partition.step(OutOfRange(position(1, 0), 0, 1), 0) == []
    assert partition.term == 1


# --- following -----------------------------------------------------------------------------------


def test_a_diverging_answer_cuts_the_log():
    partition = replica(2, log_of(0, 0, 1))
    adopt(partition, state(1, leader_epoch=2))
    assert partition.step(Diverged(position(3, 1, 2), OffsetAndEpoch(2, 0)), 0) == [
        TruncateLog(2),
        StoreEpochs(entries((0, 0))),
    ]
    assert partition.fetch_position() == position(2, 0, 2)


def test_an_answer_to_another_position_changes_nothing():
    partition = replica(2, log_of(0, 0, 1))
    adopt(partition, state(1, leader_epoch=2))
    stale = position(3, 0, 2)
    assert not partition.awaits(stale)
    assert partition.step(Diverged(stale, OffsetAndEpoch(2, 0)), 0) == []
    assert partition.step(OutOfRange(stale, 9, 9), 0) == []
    assert partition.log_state == log_of(0, 0, 1)


def test_an_answer_that_comes_after_becoming_leader_changes_nothing():
    partition = replica(2, log_of(0, 0, 1))
    adopt(partition, state(1, leader_epoch=2))
    asked = partition.fetch_position()
    assert asked is not None
    adopt(partition, state(2, leader_epoch=3, version=1))
    assert not partition.awaits(asked)
    assert partition.step(Diverged(asked, OffsetAndEpoch(2, 0)), 0) == []


def test_out_of_range_may_restart_the_log():
    partition = replica(2, log_of(0, 0))
    adopt(partition, state(1))
    assert partition.step(OutOfRange(position(2, 0), 7, 9), 0) == [RestartLog(7), StoreEpochs(())]
    assert partition.term == 2


def test_a_log_that_begins_inside_a_batch_begins_anew_with_it():
    partition = replica(2, LogState(5, 5, 5))
    adopt(partition, state(1, leader_epoch=1))
    headers = [batch(3, 4, leader_epoch=1)]
    stale = position(4, -1, 1, log_start=5)
    assert partition.step(BatchesReceived(stale, headers), 0) == []
    asked = position(5, -1, 1, log_start=5)
    assert partition.step(BatchesReceived(asked, headers), 0) == [RestartLog(3), StoreEpochs(())]
    assert partition.term == 2
    assert partition.step(BatchesFollowed(headers, 7, 5), 0) == [
        StoreEpochs(entries((1, 3))),
        HighWatermarkAdvanced(7),
        RaiseLogStart(5),
    ]


def test_replicated_batches_come_in_before_what_the_leader_says_is_committed():
    partition = replica(2)
    adopt(partition, state(1, leader_epoch=1))
    assert partition.step(BatchesFollowed([batch(0, 3, leader_epoch=1)], 2, 1), 0) == [
        StoreEpochs(entries((1, 0))),
        HighWatermarkAdvanced(2),
        RaiseLogStart(1),
    ]
    assert partition.step(BatchesFollowed([], 3, 1), 0) == [HighWatermarkAdvanced(3)]


def test_appending_as_a_follower_without_being_one_is_a_bug():
    with pytest.raises(AssertionError, match="without being one"):
        replica(2).step(BatchesFollowed([], 0, 0), 0)


def test_after_a_cut_the_true_end_of_the_file_and_its_producers_count():
    partition = replica(2, log_of(0, 0, 0, 1))
    adopt(partition, state(1, leader_epoch=2))
    partition.step(Diverged(position(4, 1, 2), OffsetAndEpoch(3, 0)), 0)
    producers = ProducerStateTable()
    producers.update(batch(0, producer_id=8, producer_epoch=0, sequence=0))
    partition.step(LogTruncated(2, producers), 0)
    assert partition.log_state.log_end_offset == 2
    assert partition.log_state.producers is producers


# --- proposals -----------------------------------------------------------------------------------


def proposed(partition: Partition, replica_id: int) -> IsrProposal:
    (effect,) = partition.step(
        ReplicaFetched(replica_id, ELIGIBLE[replica_id], position(0, -1, partition.leader_epoch)), 0
    )
    assert isinstance(effect, ProposeIsr)
    return effect.proposal


def test_the_state_that_comes_with_an_answer_is_adopted():
    partition = replica(1)
    adopt(partition, state(1, isr=(1, 2)))
    proposal = proposed(partition, 3)
    written = state(1, isr=(1, 2, 3), version=1)
    assert partition.step(ProposalAnswered(proposal, None, written), 0) == []
    assert partition.state == written
    assert partition.assignment == ABC
    assert leader_of(partition).isr.pending is None


def test_a_refusal_with_a_newer_state_is_not_tried_again():
    partition = replica(1)
    adopt(partition, state(1, isr=(1, 2)))
    proposal = proposed(partition, 3)
    newer = state(1, leader_epoch=1, isr=(1,), version=1)
    assert partition.step(ProposalAnswered(proposal, IneligibleReplicaError(), newer), 0) == [
        StoreEpochs(entries((1, 0))),
        RoleChanged(Role.LEADER, 1, 1),
    ]


def test_a_refusal_without_a_newer_state_is_handled_by_the_leader():
    partition = replica(1)
    adopt(partition, state(1, isr=(1, 2)))
    proposal = proposed(partition, 3)
    same = state(1, isr=(1, 2))
    assert partition.step(ProposalAnswered(proposal, NotControllerError(), same), 0) == [
        ProposeIsr(proposal)
    ]
    assert partition.step(ProposalAnswered(proposal, NotControllerError(), None), 0) == [
        ProposeIsr(proposal)
    ]


def test_an_answer_that_deposes_the_proposer_makes_it_follow():
    partition = replica(1)
    adopt(partition, state(1, isr=(1, 2)))
    proposal = proposed(partition, 3)
    newer = state(2, leader_epoch=1, isr=(2,), version=1)
    assert partition.step(ProposalAnswered(proposal, NotControllerError(), newer), 0) == [
        RoleChanged(Role.FOLLOWER, 2, 1)
    ]


def test_a_new_incarnation_keeps_its_role_and_names_itself_in_proposals():
    partition = replica(1)
    partition.step(Registered(101), 0)
    adopt(partition, state(1, isr=(1,)))
    partition.step(Registered(102), 0)
    assert partition.role is Role.LEADER
    assert proposed(partition, 2).isr == ((1, 102), (2, 200))


# --- settings ------------------------------------------------------------------------------------


def test_a_smaller_minimum_commits_what_waited():
    partition = replica(1, log_of(0), min_insync=2)
    adopt(partition, state(1, isr=(1,)))
    assert partition.step(SettingsChanged(PartitionSettings(1)), 0) == [HighWatermarkAdvanced(1)]


def test_settings_hold_for_a_leadership_to_come():
    partition = replica(1)
    settings = PartitionSettings(2)
    assert partition.step(SettingsChanged(settings), 0) == []
    adopt(partition, state(1))
    assert leader_of(partition).effective_min_insync == 2


# --- failing disks -------------------------------------------------------------------------------


def test_a_failed_disk_ends_leadership_and_everybody_is_told():
    partition = replica(1, log_of(0))
    adopt(partition, state(1, leader_epoch=1, isr=(1, 2)))
    partition.step(ProduceParked("one", 1), 0)
    failed, changed = partition.step(StorageFailed("no space left"), 0)
    assert isinstance(failed, CompleteProduce)
    assert isinstance(failed.error, KafkaStorageError)
    assert "failed: no space left" in str(failed.error)
    assert changed == RoleChanged(Role.FAILED, -1, 1)
    assert partition.role is Role.FAILED
    assert partition.term == 1
    with pytest.raises(KafkaStorageError):
        partition.require_leader()
    assert partition.step(StorageFailed("again"), 0) == []


def test_a_failed_replica_takes_no_role_any_more_but_knows_who_has_one():
    partition = replica(2)
    adopt(partition, state(1))
    assert partition.step(StorageFailed("broken"), 0) == [RoleChanged(Role.FAILED, -1, 0)]
    newer = state(2, leader_epoch=1, version=1)
    assert adopt(partition, newer) == []
    assert partition.role is Role.FAILED
    assert partition.state == newer
    assert partition.fetch_position() is None
    partition.check()


# --- upkeep --------------------------------------------------------------------------------------


def test_retention_raises_the_log_start():
    partition = replica(1, log_of(0, 0, high_watermark=2))
    partition.step(LogStartRaised(1), 0)
    assert partition.log_state.log_start_offset == 1


def test_role_and_state_must_agree():
    partition = replica(1)
    adopt(partition, state(1))
    partition.state = state(2, version=1)
    with pytest.raises(AssertionError, match="role and State disagree"):
        partition.check()


def test_only_the_last_events_are_kept():
    partition = replica(2)
    for version in range(HISTORY_LENGTH + 5):
        adopt(partition, state(1, version=version))
    assert len(partition.history) == HISTORY_LENGTH
    assert "partition_version=20" in partition.explain("x")
    assert "partition_version=4," not in partition.explain("x")
    assert partition.topic_id == TOPIC_ID
    assert partition.topic_partition == TP


def test_what_says_nothing_new_does_not_drive_out_what_does():
    partition = lead_with_positions()
    partition.step(ProduceParked("one", 1), 1)
    kept = list(partition.history)
    for now_ms in range(2, 2 + HISTORY_LENGTH):
        assert partition.step(ReplicaFetched(2, 200, position(1, 0)), now_ms) == []
        assert partition.step(LagCheckDue(), now_ms) == []
        assert partition.step(IdleProducersDue(now_ms, 1000), now_ms) == []
    assert list(partition.history) == kept
    late = LagCheckDue()
    assert partition.step(late, LAG_MS + 100) != []
    assert partition.history[-1] == (LAG_MS + 100, late)
    moved = ReplicaFetched(3, 300, position(1, 0))
    partition.step(moved, LAG_MS + 101)
    assert partition.history[-1] == (LAG_MS + 101, moved)


def test_a_lag_check_is_idle_only_where_all_are_at_the_end_and_all_is_committed():
    partition = lead_with_positions()
    end = partition.log_state.log_end_offset
    assert partition.may_lag()
    for broker_id in (2, 3):
        fetched = ReplicaFetched(broker_id, 100 * broker_id, position(end, 0))
        partition.step(fetched, 1)
    assert not partition.may_lag()
    assert partition.step(LagCheckDue(), 100 * LAG_MS) == []
    partition.step(BatchesAppended([batch(end)]), 2)
    assert partition.may_lag()
    assert partition.step(LagCheckDue(), 100 * LAG_MS) != []
    assert not follow().may_lag()


def test_answers_without_records_are_not_kept_either():
    partition = follow()
    kept = list(partition.history)
    at = partition.fetch_position()
    assert partition.step(BatchesReceived(at, ()), 0) == []
    assert partition.step(BatchesFollowed((), 0, 0), 0) == []
    assert list(partition.history) == kept
    assert partition.step(BatchesFollowed((), 2, 0), 0) == [HighWatermarkAdvanced(2)]
    assert partition.history[-1] == (0, BatchesFollowed((), 2, 0))


def test_of_large_events_only_the_outline_is_kept():
    assert outline(LagCheckDue()) == LagCheckDue()
    partition = replica(1)
    adopt(partition, state(1, isr=(1,)))
    headers = [batch(offset) for offset in range(6)]
    partition.step(BatchesAppended(headers), 7)
    assert partition.history[-1] == (
        7,
        "BatchesAppended(6 batches, from offset 0 of epoch 0 to 6, of epoch 0)",
    )
    partition = follow()
    partition.step(LogTruncated(1, ProducerStateTable()), 8)
    assert partition.history[-1] == (8, "LogTruncated(log_end_offset=1, 0 producers)")
    many = [batch(1 + n, leader_epoch=1) for n in range(5)]
    at = partition.fetch_position()
    partition.step(BatchesReceived(at, many), 9)
    assert "BatchesReceived(5 batches" in str(partition.history[-1])
    partition.step(BatchesFollowed(many, 0, 0), 9)
    assert "BatchesFollowed(5 batches" in str(partition.history[-1])


# --- what may be asked ---------------------------------------------------------------------------


def test_a_leader_answers_and_who_does_not_lead_refuses():
    partition = lead_with_positions()
    partition.check_consumer_fetch(0, 0)
    partition.check_leader_epoch(-1)
    with pytest.raises(FencedLeaderEpochError):
        partition.check_replica_fetch(2, position(1, 0, -1))
    assert partition.low_watermark() == -1
    assert partition.maximal_isr() == {1, 2, 3}
    assert partition.effective_min_insync() == 1
    assert list(partition.followers()) == [(2, 1, 0), (3, -1, 0)]
    assert partition.pending_proposal is None
    assert partition.deletion_target(-1) == 0
    assert partition.doubt(0, 1000) is not None
    assert partition.leaderships == 1
    for ask in (
        lambda other: other.plan_append([batch()], 1),
        lambda other: other.check_consumer_fetch(0, 0),
        lambda other: other.low_watermark(),
        lambda other: other.maximal_isr(),
        lambda other: other.effective_min_insync(),
        lambda other: list(other.followers()),
        lambda other: other.deletion_target(0),
        lambda other: other.latest_offset(),
        lambda other: other.doubt(0, 0),
    ):
        with pytest.raises(NotLeaderOrFollowerError):
            ask(follow())
    assert follow().pending_proposal is None
    assert not partition.accepts([batch(1)])


def test_it_counts_its_leaderships():
    partition = replica(1)
    for version, leader in enumerate((1, 1, 2, 1)):
        adopt(partition, state(leader, leader_epoch=version, version=version))
    assert partition.leaderships == 2


def test_who_gave_up_waiting_is_not_answered():
    partition = lead_with_positions()
    partition.step(ProduceParked("one", 1), 0)
    partition.step(ProduceParked("two", 1), 0)
    assert partition.parked_count == 2
    assert partition.step(ProduceGivenUp("one"), 0) == []
    assert partition.parked_count == 1
    error = NotLeaderOrFollowerError("over")
    assert partition.step(Stopped(error), 0) == [CompleteProduce("two", error)]
    assert partition.parked_count == 0


def test_a_follower_has_nobody_to_answer():
    partition = follow()
    assert partition.step(ProduceGivenUp("one"), 0) == []
    assert partition.step(Stopped(NotLeaderOrFollowerError("over")), 0) == []
    assert partition.step(LagCheckDue(), 0) == []
    assert partition.step(Flushed(9), 0) == []
    assert partition.log_state.flushed_offset == 2
    assert partition.parked_count == 0


def test_idle_producers_are_forgotten_in_time():
    partition = replica(1)
    adopt(partition, state(1, isr=(1,)))
    partition.step(BatchesAppended([batch(producer_id=7, producer_epoch=0, sequence=0)]), 0)
    partition.step(IdleProducersDue(1_000, 50), 0)
    assert len(partition.log_state.producers) == 1
    partition.step(IdleProducersDue(1_050, 50), 0)
    assert len(partition.log_state.producers) == 0


def test_deleted_records_are_forgotten():
    partition = replica(1, log_of(0, 0, high_watermark=2))
    adopt(partition, state(1, isr=(1,)))
    assert partition.step(RecordsDeleted(partition.deletion_target(1)), 0) == [RaiseLogStart(1)]
