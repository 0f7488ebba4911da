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
from minikafka.core.replication.leader import PartitionSettings
from minikafka.core.replication.partition import HISTORY_LENGTH, Partition
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.core.replication.replica_log import ReplicaLog
from minikafka.errors import (
    IneligibleReplicaError,
    KafkaStorageError,
    NotControllerError,
    NotLeaderOrFollowerError,
)
from minikafka.model import Assignment, IsrProposal, OffsetAndEpoch, PartitionState
from tests.helpers.core_builders import (
    ELIGIBLE,
    TOPIC_ID,
    TP,
    batch,
    entries,
    log_of,
    position,
    replica,
    state,
)

ABC = Assignment((1, 2, 3))


def adopt(partition: Partition, adopted: PartitionState, now_ms: int = 0) -> list[object]:
    return list(partition.adopt(adopted, ABC, now_ms))


# --- roles ---------------------------------------------------------------------------------------


def test_a_replica_has_no_role_before_the_controller_has_spoken():
    partition = replica()
    assert partition.role is Role.NONE
    assert partition.leader_epoch == -1
    assert partition.fetch_position() is None
    with pytest.raises(NotLeaderOrFollowerError, match="the controller has not said yet who does"):
        partition.leader()


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
    assert partition.leader().state is partition.state


def test_everybody_else_follows():
    partition = replica(2, log_of(0, 0))
    assert adopt(partition, state(1, leader_epoch=2)) == [RoleChanged(Role.FOLLOWER, 1, 2)]
    assert partition.role is Role.FOLLOWER
    assert not partition.is_leader
    assert partition.fetch_position() == position(2, 0, 2)
    with pytest.raises(NotLeaderOrFollowerError, match="broker 1 does, since epoch 2"):
        partition.leader()


def test_with_the_state_that_is_held_only_the_assignment_may_be_new():
    """The State had come in an answer, which says nothing of the assignment."""
    partition = replica(1)
    adopt(partition, state(1, isr=(1, 2)))
    adopt(partition, state(1, leader_epoch=1, isr=(1, 2), version=1))
    moved = Assignment((1, 2, 4), adding=(4,), removing=(2,))
    assert partition.adopt(state(1, isr=(1, 2)), moved, 0) == []
    assert partition.assignment == ABC
    assert partition.adopt(state(1, leader_epoch=1, isr=(1, 2), version=1), moved, 0) == []
    assert partition.assignment == partition.leader().assignment == moved
    assert set(partition.leader().followers) == {2, 4}


def test_a_follower_takes_a_new_assignment_with_the_state_that_it_holds():
    partition = replica(2)
    adopt(partition, state(1))
    assert partition.adopt(state(1), Assignment((1, 2)), 0) == []
    assert partition.assignment == Assignment((1, 2))


def test_without_a_leader_nobody_is_fetched_from():
    partition = replica(2)
    assert adopt(partition, state(-1, leader_epoch=2)) == [RoleChanged(Role.FOLLOWER, -1, 2)]
    assert partition.fetch_position() is None
    with pytest.raises(NotLeaderOrFollowerError, match="nobody leads it at the moment"):
        partition.leader()


def test_a_follower_that_is_elected_keeps_its_high_watermark():
    partition = replica(2, log_of(0, 0, 0, high_watermark=2))
    adopt(partition, state(1))
    assert adopt(partition, state(2, leader_epoch=1, isr=(2, 3), version=1)) == [
        StoreEpochs(entries((0, 0), (1, 3))),
        RoleChanged(Role.LEADER, 2, 1),
    ]
    assert partition.log.high_watermark == 2
    assert partition.fetch_position() is None


def test_a_leader_that_is_deposed_tells_everybody_who_waits():
    partition = replica(1, log_of(0))
    adopt(partition, state(1, isr=(1, 2)))
    partition.leader().park("one", 1)
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
    with pytest.raises(AssertionError, match=r"t-0 on broker 2: the leader epoch fell[\s\S]*adopt"):
        adopt(partition, state(1, leader_epoch=0, version=1))


def lead_with_positions() -> Partition:
    """Broker 1 leads at version 0 with one record, and has heard of 2 at its end."""
    partition = replica(1)
    adopt(partition, state(1))
    leader = partition.leader()
    leader.on_appended(leader.plan_append([batch()], 1).headers, 0)
    leader.record_replica_fetch(2, 200, position(1, 0), 0)
    return partition


def test_the_very_next_version_keeps_positions():
    partition = lead_with_positions()
    adopt(partition, state(1, leader_epoch=1, isr=(1, 2), version=1))
    assert partition.leader().followers[2].log_end_offset == 1


def test_a_skipped_version_forgets_positions_though_the_same_broker_leads():
    partition = lead_with_positions()
    adopt(partition, state(1, leader_epoch=2, isr=(1, 2), version=2))
    assert partition.leader().followers[2].log_end_offset == -1


def test_leading_again_after_having_followed_begins_anew():
    partition = lead_with_positions()
    adopt(partition, state(2, leader_epoch=1, isr=(1, 2), version=1))
    adopt(partition, state(1, leader_epoch=2, isr=(1, 2), version=2))
    leader = partition.leader()
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
    partition.on_diverging(fetched, OffsetAndEpoch(1, 0))
    assert partition.term == 2


def test_an_answer_that_cuts_nothing_ends_no_term():
    partition = replica(2, log_of(0))
    adopt(partition, state(1))
    assert partition.on_out_of_range(position(1, 0), 0, 1) == []
    assert partition.term == 1


# --- following -----------------------------------------------------------------------------------


def test_a_diverging_answer_cuts_the_log():
    partition = replica(2, log_of(0, 0, 1))
    adopt(partition, state(1, leader_epoch=2))
    assert partition.on_diverging(position(3, 1, 2), OffsetAndEpoch(2, 0)) == [
        TruncateLog(2),
        StoreEpochs(entries((0, 0))),
    ]
    assert partition.fetch_position() == position(2, 0, 2)


def test_an_answer_to_another_position_changes_nothing():
    partition = replica(2, log_of(0, 0, 1))
    adopt(partition, state(1, leader_epoch=2))
    stale = position(3, 0, 2)
    assert partition.follower_for(stale) is None
    assert partition.on_diverging(stale, OffsetAndEpoch(2, 0)) == []
    assert partition.on_out_of_range(stale, 9, 9) == []
    assert partition.log == log_of(0, 0, 1)


def test_an_answer_that_comes_after_becoming_leader_changes_nothing():
    partition = replica(2, log_of(0, 0, 1))
    adopt(partition, state(1, leader_epoch=2))
    asked = partition.fetch_position()
    assert asked is not None
    adopt(partition, state(2, leader_epoch=3, version=1))
    assert partition.follower_for(asked) is None
    assert partition.on_diverging(asked, OffsetAndEpoch(2, 0)) == []


def test_out_of_range_may_restart_the_log():
    partition = replica(2, log_of(0, 0))
    adopt(partition, state(1))
    assert partition.on_out_of_range(position(2, 0), 7, 9) == [RestartLog(7), StoreEpochs(())]
    assert partition.term == 2


def test_a_log_that_begins_inside_a_batch_begins_anew_with_it():
    partition = replica(2, ReplicaLog(5, 5, 5))
    adopt(partition, state(1, leader_epoch=1))
    headers = [batch(3, 4, leader_epoch=1)]
    stale = position(4, -1, 1, log_start=5)
    assert partition.on_straddling(stale, headers) == []
    asked = position(5, -1, 1, log_start=5)
    assert partition.on_straddling(asked, headers) == [RestartLog(3), StoreEpochs(())]
    assert partition.term == 2
    assert partition.on_follower_appended(headers, 7, 5) == [
        StoreEpochs(entries((1, 3))),
        HighWatermarkAdvanced(7),
        RaiseLogStart(5),
    ]


def test_replicated_batches_come_in_before_what_the_leader_says_is_committed():
    partition = replica(2)
    adopt(partition, state(1, leader_epoch=1))
    assert partition.on_follower_appended([batch(0, 3, leader_epoch=1)], 2, 1) == [
        StoreEpochs(entries((1, 0))),
        HighWatermarkAdvanced(2),
        RaiseLogStart(1),
    ]
    assert partition.on_follower_appended([], 3, 1) == [HighWatermarkAdvanced(3)]


def test_appending_as_a_follower_without_being_one_is_a_bug():
    with pytest.raises(AssertionError, match="without being one"):
        replica(2).on_follower_appended([], 0, 0)


def test_after_a_cut_the_true_end_of_the_file_and_its_producers_count():
    partition = replica(2, log_of(0, 0, 0, 1))
    adopt(partition, state(1, leader_epoch=2))
    partition.on_diverging(position(4, 1, 2), OffsetAndEpoch(3, 0))
    producers = ProducerStateTable()
    producers.update(batch(0, producer_id=8, producer_epoch=0, sequence=0))
    partition.restore_producers(2, producers)
    assert partition.log.log_end_offset == 2
    assert partition.log.producers is producers


# --- proposals -----------------------------------------------------------------------------------


def proposed(partition: Partition, replica_id: int) -> IsrProposal:
    (effect,) = partition.leader().record_replica_fetch(
        replica_id, ELIGIBLE[replica_id], position(0, -1, partition.leader_epoch), 0
    )
    assert isinstance(effect, ProposeIsr)
    return effect.proposal


def test_the_state_that_comes_with_an_answer_is_adopted():
    partition = replica(1)
    adopt(partition, state(1, isr=(1, 2)))
    proposal = proposed(partition, 3)
    written = state(1, isr=(1, 2, 3), version=1)
    assert partition.on_proposal_answered(proposal, None, written, 0) == []
    assert partition.state == written
    assert partition.assignment == ABC
    assert partition.leader().isr.pending is None


def test_a_refusal_with_a_newer_state_is_not_tried_again():
    partition = replica(1)
    adopt(partition, state(1, isr=(1, 2)))
    proposal = proposed(partition, 3)
    newer = state(1, leader_epoch=1, isr=(1,), version=1)
    assert partition.on_proposal_answered(proposal, IneligibleReplicaError(), newer, 0) == [
        StoreEpochs(entries((1, 0))),
        RoleChanged(Role.LEADER, 1, 1),
    ]


def test_a_refusal_without_a_newer_state_is_handled_by_the_leader():
    partition = replica(1)
    adopt(partition, state(1, isr=(1, 2)))
    proposal = proposed(partition, 3)
    same = state(1, isr=(1, 2))
    assert partition.on_proposal_answered(proposal, NotControllerError(), same, 0) == [
        ProposeIsr(proposal)
    ]
    assert partition.on_proposal_answered(proposal, NotControllerError(), None, 0) == [
        ProposeIsr(proposal)
    ]


def test_an_answer_that_deposes_the_proposer_makes_it_follow():
    partition = replica(1)
    adopt(partition, state(1, isr=(1, 2)))
    proposal = proposed(partition, 3)
    newer = state(2, leader_epoch=1, isr=(2,), version=1)
    assert partition.on_proposal_answered(proposal, NotControllerError(), newer, 0) == [
        RoleChanged(Role.FOLLOWER, 2, 1)
    ]


def test_a_new_incarnation_keeps_its_role_and_names_itself_in_proposals():
    partition = replica(1)
    partition.reregister(101)
    adopt(partition, state(1, isr=(1,)))
    partition.reregister(102)
    assert partition.role is Role.LEADER
    assert proposed(partition, 2).isr == ((1, 102), (2, 200))


# --- settings ------------------------------------------------------------------------------------


def test_a_smaller_minimum_commits_what_waited():
    partition = replica(1, log_of(0), min_insync=2)
    adopt(partition, state(1, isr=(1,)))
    assert partition.configure(PartitionSettings(1), 0) == [HighWatermarkAdvanced(1)]


def test_settings_hold_for_a_leadership_to_come():
    partition = replica(1)
    settings = PartitionSettings(2)
    assert partition.configure(settings, 0) == []
    adopt(partition, state(1))
    assert partition.leader().effective_min_insync == 2


# --- failing disks -------------------------------------------------------------------------------


def test_a_failed_disk_ends_leadership_and_everybody_is_told():
    partition = replica(1, log_of(0))
    adopt(partition, state(1, leader_epoch=1, isr=(1, 2)))
    partition.leader().park("one", 1)
    failed, changed = partition.on_storage_failure("no space left")
    assert isinstance(failed, CompleteProduce)
    assert isinstance(failed.error, KafkaStorageError)
    assert "failed: no space left" in str(failed.error)
    assert changed == RoleChanged(Role.FAILED, -1, 1)
    assert partition.role is Role.FAILED
    assert partition.term == 1
    with pytest.raises(KafkaStorageError):
        partition.leader()
    assert partition.on_storage_failure("again") == []


def test_a_failed_replica_takes_no_role_any_more_but_knows_who_has_one():
    partition = replica(2)
    adopt(partition, state(1))
    assert partition.on_storage_failure("broken") == [RoleChanged(Role.FAILED, -1, 0)]
    newer = state(2, leader_epoch=1, version=1)
    assert adopt(partition, newer) == []
    assert partition.role is Role.FAILED
    assert partition.state == newer
    assert partition.fetch_position() is None
    partition.check()


# --- upkeep --------------------------------------------------------------------------------------


def test_retention_raises_the_log_start():
    partition = replica(1, log_of(0, 0, high_watermark=2))
    partition.on_log_start_raised(1)
    assert partition.log.log_start_offset == 1


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
