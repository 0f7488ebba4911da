"""Decisions about one partition: who leads, who is in the ISR, and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from minikafka.core.control.election import (
    Condition,
    Decision,
    PartitionView,
    after_failures,
    controlled_shutdown,
    first_state,
    for_leaderless,
    next_state,
    preferred_election,
    unclean_election,
)
from minikafka.core.control.incarnation import storage_mark
from minikafka.model import NO_LEADER, Assignment, BrokerInfo, PartitionState
from tests.helpers.controller_bench import broker

ADMITTED_EPOCH = 10


def view(
    leader: int,
    isr: Sequence[int],
    *,
    replicas: Sequence[int] = (1, 2, 3),
    live: Sequence[BrokerInfo] | None = None,
    shutting_down: Collection[int] = (),
    failed: Collection[int] = (),
) -> PartitionView:
    """A partition in epoch 5, version 7, whose members were admitted with broker epoch 10."""
    brokers = [alive(1), alive(2), alive(3)] if live is None else live
    marks = {m: storage_mark(alive(m)) for m in isr}
    return PartitionView(
        PartitionState(leader, 5, tuple(isr), 1, 7, marks),
        Assignment(tuple(replicas)),
        {b.broker_id: b for b in brokers},
        shutting_down,
        failed,
    )


def alive(broker_id: int) -> BrokerInfo:
    return broker(broker_id, ADMITTED_EPOCH)


def restarted(broker_id: int, **changes: object) -> BrokerInfo:
    return broker(broker_id, 20, **changes)  # type: ignore[arg-type]


# --- the condition of members --------------------------------------------------------------------


def test_the_condition_of_each_member() -> None:
    live = [alive(1), restarted(2), restarted(3, dirty=True), alive(4), restarted(6)]
    seen = view(1, [1, 2, 3, 4, 5, 6], replicas=[1, 2, 3, 4, 5, 6], live=live, failed=[4, 6])
    assert [seen.condition(m) for m in seen.state.isr] == [
        Condition.HEALTHY,
        Condition.RETURNED,
        Condition.LOST,
        Condition.FAILED,
        Condition.DEAD,
        Condition.FAILED,
    ]


def test_members_are_in_assignment_order_with_strangers_last() -> None:
    assert view(1, [], replicas=[3, 1, 2]).ordered([9, 1, 8, 3]) == (3, 1, 8, 9)


# --- failures ------------------------------------------------------------------------------------


def test_nothing_is_decided_when_all_members_are_healthy() -> None:
    assert after_failures(view(1, [1, 2, 3])) is None


def test_a_dead_follower_leaves_and_the_leader_stays() -> None:
    decision = after_failures(view(1, [1, 2, 3], live=[alive(1), alive(2)]))
    assert decision == Decision(1, (1, 2), "C died")


def test_a_dead_leader_is_followed_by_the_first_assigned_healthy_member() -> None:
    decision = after_failures(view(1, [1, 3, 2], replicas=[1, 3, 2], live=[alive(2), alive(3)]))
    assert decision == Decision(3, (3, 2), "A died")


def test_a_dead_and_a_restarted_member_leave_in_one_decision() -> None:
    decision = after_failures(view(1, [1, 2, 3], live=[restarted(2), alive(3)]))
    assert decision == Decision(3, (3,), "A died, B restarted")


def test_a_member_that_is_shutting_down_leads_only_if_nobody_else_can() -> None:
    live = [alive(2), alive(3)]
    leaving = view(1, [1, 2, 3], live=live, shutting_down=[2])
    assert after_failures(leaving) == Decision(3, (2, 3), "A died")
    alone = view(1, [1, 2], live=live, shutting_down=[2])
    assert after_failures(alone) == Decision(2, (2,), "A died")


def test_a_member_outside_the_assignment_can_take_over() -> None:
    decision = after_failures(view(1, [1, 3], replicas=[1, 2], live=[alive(3)]))
    assert decision == Decision(3, (3,), "A died")


def test_without_a_healthy_member_there_is_no_leader_and_the_whole_isr_stays() -> None:
    decision = after_failures(view(1, [1, 2, 3], live=[restarted(2)]))
    assert decision is not None
    assert (decision.leader, decision.isr) == (NO_LEADER, (1, 2, 3))


def test_a_member_whose_log_is_lost_leaves_even_as_the_last_one() -> None:
    decision = after_failures(view(1, [1], live=[restarted(1, storage_id="new")]))
    assert decision == Decision(NO_LEADER, (), "A lost its log, nobody in sync is left")


def test_a_failed_disk_takes_its_replica_out_but_not_the_last_one() -> None:
    assert after_failures(view(1, [1, 2], failed=[1])) == Decision(2, (2,), "A has a failed disk")
    last = after_failures(view(1, [1], failed=[1]))
    assert last is not None
    assert (last.leader, last.isr) == (NO_LEADER, (1,))


def test_a_leaderless_partition_has_nothing_to_lose() -> None:
    assert after_failures(view(NO_LEADER, [1, 2], live=[])) is None


# --- partitions without a leader -----------------------------------------------------------------


def test_a_partition_with_a_leader_needs_no_offline_election() -> None:
    assert for_leaderless(view(1, [1]), unclean=True) is None


def test_intact_members_that_are_back_form_the_isr() -> None:
    seen = view(NO_LEADER, [1, 2, 3], live=[restarted(3), restarted(2)])
    assert for_leaderless(seen, unclean=False) == Decision(
        2, (2, 3), "B is back with its log", admitted=frozenset({2, 3})
    )


def test_a_member_that_is_shutting_down_is_no_candidate_beside_another() -> None:
    seen = view(NO_LEADER, [1, 2], shutting_down=[1])
    decision = for_leaderless(seen, unclean=False)
    assert decision is not None
    assert (decision.leader, decision.isr) == (2, (2,))
    alone = for_leaderless(view(NO_LEADER, [1], shutting_down=[1]), unclean=False)
    assert alone is not None
    assert alone.leader == 1


def test_members_that_lost_their_log_leave_and_wait_for_nobody() -> None:
    seen = view(NO_LEADER, [1, 2], live=[restarted(2, dirty=True)])
    assert for_leaderless(seen, unclean=False) == Decision(NO_LEADER, (1,), "B lost its log")


def test_a_failed_disk_is_no_candidate() -> None:
    assert for_leaderless(view(NO_LEADER, [1], failed=[1]), unclean=False) is None


def test_without_candidates_nothing_happens() -> None:
    assert for_leaderless(view(NO_LEADER, [1, 2], live=[alive(3)]), unclean=False) is None


def test_an_unclean_election_takes_any_live_replica_if_allowed() -> None:
    seen = view(NO_LEADER, [1], live=[alive(2), alive(3)], shutting_down=[2])
    assert for_leaderless(seen, unclean=True) == Decision(
        3,
        (3,),
        "unclean election of C: records that it lacks are lost",
        admitted=frozenset({3}),
        unclean=True,
    )
    last = unclean_election(view(NO_LEADER, [1], live=[alive(2)], shutting_down=[2]))
    assert last is not None
    assert last.leader == 2


def test_an_unclean_election_prefers_a_replica_that_has_its_log() -> None:
    seen = view(NO_LEADER, [1], live=[restarted(1, storage_id="new"), alive(2)])
    decision = unclean_election(seen)
    assert decision is not None
    assert decision.leader == 2
    alone = unclean_election(view(NO_LEADER, [1], live=[restarted(1, storage_id="new")]))
    assert alone is not None
    assert alone.leader == 1


def test_a_clean_candidate_comes_before_an_unclean_election() -> None:
    decision = for_leaderless(view(NO_LEADER, [3]), unclean=True)
    assert decision is not None
    assert (decision.leader, decision.unclean) == (3, False)


def test_even_an_unclean_election_needs_a_live_replica() -> None:
    assert unclean_election(view(NO_LEADER, [1], live=[alive(9)])) is None
    lost = view(NO_LEADER, [1], live=[restarted(1, dirty=True)], failed=[1])
    assert for_leaderless(lost, unclean=True) == Decision(NO_LEADER, (), "A lost its log")


# --- elections that are asked for ----------------------------------------------------------------


def test_the_preferred_leader_is_the_first_assigned_replica() -> None:
    assert preferred_election(view(2, [1, 2])) == Decision(1, (1, 2), "A is the preferred leader")


@pytest.mark.parametrize(
    "seen",
    [
        view(1, [1, 2]),
        view(2, [2, 3]),
        view(2, [1, 2], live=[alive(2)]),
        view(2, [1, 2], live=[alive(2), restarted(1)]),
        view(2, [1, 2], shutting_down=[1]),
        view(2, [1, 2], failed=[1]),
        view(NO_LEADER, [1, 2]),
    ],
    ids=["leads", "not in sync", "dead", "restarted", "leaving", "failed", "no leader"],
)
def test_there_is_no_preferred_election_if_it_leads_already_or_cannot(seen: PartitionView) -> None:
    assert preferred_election(seen) is None


def test_a_leaver_hands_leadership_over_and_leaves_the_isr() -> None:
    seen = view(1, [1, 2, 3], shutting_down=[1, 2])
    assert controlled_shutdown(seen, 1) == Decision(3, (2, 3), "A is shutting down")


def test_a_leaver_that_follows_leaves_the_isr() -> None:
    assert controlled_shutdown(view(1, [1, 2, 3]), 2) == Decision(1, (1, 3), "B is shutting down")


@pytest.mark.parametrize(
    "seen",
    [view(1, [1], shutting_down=[1]), view(2, [2, 3]), view(NO_LEADER, [1, 2])],
    ids=["last member", "not in sync", "no leader"],
)
def test_a_leaver_stays_if_it_is_the_last_member_or_there_is_nothing_to_leave(
    seen: PartitionView,
) -> None:
    assert controlled_shutdown(seen, 1) is None


# --- the State that follows ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decision", "leader_epoch"),
    [
        (Decision(1, (1, 2), "no change"), 5),
        (Decision(1, (1, 2, 3), "expansion", admitted=frozenset({3})), 5),
        (Decision(1, (1,), "removal"), 6),
        (Decision(2, (1, 2), "another leader"), 6),
        (Decision(2, (2,), "another leader and removal"), 6),
        (Decision(NO_LEADER, (1, 2), "no leader"), 6),
    ],
    ids=lambda value: value.reason if isinstance(value, Decision) else "",
)
def test_the_epoch_moves_by_one_exactly_for_leader_changes_and_removals(
    decision: Decision, leader_epoch: int
) -> None:
    state = next_state(view(1, [1, 2]), decision, controller_epoch=9)
    assert (state.leader, state.isr) == (decision.leader, decision.isr)
    assert (state.leader_epoch, state.partition_version) == (leader_epoch, 8)
    assert state.controller_epoch == 9
    assert set(state.isr_storage) == set(decision.isr)


def test_marks_are_taken_anew_only_for_those_who_are_admitted() -> None:
    seen = view(NO_LEADER, [1, 2], live=[restarted(1), restarted(2)])
    kept = next_state(seen, Decision(NO_LEADER, (1, 2), ""), 1)
    assert kept.isr_storage == {1: "disk-A@10", 2: "disk-B@10"}
    renewed = next_state(seen, Decision(1, (1, 2), "", admitted=frozenset({1, 2})), 1)
    assert renewed.isr_storage == {1: "disk-A@20", 2: "disk-B@20"}


def test_a_new_partition_is_led_by_its_first_live_replica() -> None:
    live = {2: alive(2), 3: alive(3)}
    state = first_state(Assignment((1, 3, 2)), live, (), controller_epoch=4)
    assert state == PartitionState(3, 0, (3, 2), 4, 0, {3: "disk-C@10", 2: "disk-B@10"})


def test_a_new_partition_keeps_clear_of_brokers_that_leave_if_it_can() -> None:
    live = {1: alive(1), 2: alive(2)}
    state = first_state(Assignment((1, 2)), live, (1,), 1)
    assert state is not None
    assert state.isr == (2,)
    last = first_state(Assignment((1, 2)), live, (1, 2), 1)
    assert last is not None
    assert last.isr == (1, 2)


def test_a_new_partition_waits_while_no_replica_lives() -> None:
    assert first_state(Assignment((1, 2)), {3: alive(3)}, (), 1) is None
