"""Each safety rule switched off is noticed: by the scenario that is about it where walks seldom
come by, else by one of the first lives. `python -m tests.simulation.mutations` tells how many lives
each takes."""

from __future__ import annotations

import pytest

from tests.simulation import life
from tests.simulation.mutations import MUTATIONS, Mutation, applied, failing_scenario

SCENARIOS = {
    "R3 order": "race_4_an_old_answer",
    "R4 continuity": "race_4_a_leader_that_missed",
    "R5 maximal ISR, additions": "race_7_an_addition",
    "R6 incarnation of a joiner": "race_7_a_follower_dies",
    "R6 incarnation of a fetcher": "race_9_a_fetch_of_an_older",
    "R6 controller epoch": "race_2_a_message_of_the_old",
    "R7 epoch of a fetch": "race_9_a_fetch_from_before",
    "R7 replies by offset only": "race_9_a_reply_from_before",
    "session: number": "not_the_next_of_its_session",
    "session: incarnation": "another_incarnation_in_a_session",
    "session: last fetch before an append": "slept_with_its_followers",
    "session: news": "hears_what_is_committed",
    "session: a topic made anew": "deleted_while_its_followers",
    "epoch check on append": "race_9_a_reply_from_before",
    "truncation by epoch": "race_5_a_log_is_not_cut",
    "truncation by the largest common epoch": "race_5_a_log_is_cut",
    "epoch_start on join": "race_6_who_has_not",
    "dead before bounced": "race_7_a_bounced",
    "eligibility: shutting down": "race_8_a_broker_that_shuts_down",
    "ineligible is forgotten": "race_8_a_refused_addition_is_not_forgotten",
    "fenced controller write": "race_2_somebody_deletes",
    "work of a later controller": "race_2_a_controller_that_takes_over",
    "storage identity": "race_6_a_leader_restarts['A', 'power 0']",
    "term of parked requests": "race_5_an_acknowledgement",
    "latest offset of a new leader": "race_6_a_new_leader",
    "producers after truncation": "race_5_a_producer",
    "flush before acknowledging, follower": "race_6_what_was",
    "flush before acknowledging, leader": "race_6_what_was",
    "messages in order": "race_14_a_late_message",
    "dirty once": "race_10_a_broker_that_started_dirty",
    "liar: CRC": "anybody_can_read_it['a-wrong-CRC",
    "liar: count of offsets": "anybody_can_read_it['a-last-offset-far-away",
    "liar: too few records": "anybody_can_read_it['a-count-above",
    "liar: more than is counted": "anybody_can_read_it['a-count-below-that",
    "liar: records": "anybody_can_read_it['a-key-longer",
    "liar: size": "anybody_can_read_it['a-batch-that-is-too-large",
    "liar: length": "anybody_can_read_it['a-length-beyond",
    "liar: largest time": "anybody_can_read_it['a-largest-time",
    "liar: control batch": "anybody_can_read_it['a-mark-of",
    "liar: transaction": "anybody_can_read_it['records-of-no-transaction",
    "an outsider that has just left": "nobody_waits_for_a_follower",
    "reassignment: the target is in sync": "replicas_move_while_records_come_in['CD']",
    "reassignment: State before assignment": "replicas_move_while_records_come_in['CD']",
    "reassignment: a late drop": "race_13_a_late_drop",
    "reassignment: drops while away": "a_broker_that_was_away",
    "reassignment: an assignment with a State that is known": "race_13_a_leader_takes",
    "reassignment: positions of replicas that are added": "race_13_what_a_replica_fetched",
    "reassignment: who leads has to know of it": "does_not_lead_before_it_knows",
    "reassignment: the failed disk of a log that is gone": "a_replica_whose_log_failed",
    "transactions: no guard": "race_18_what_arrives",
    "transactions: the guard outlives a marker": "race_19_a_word_that_comes_after",
    "transactions: a late marker of the same epoch": "race_22_a_late_marker",
    "transactions: coordinator epoch": "race_22_an_old_coordinator",
    "transactions: stable at the marker": "race_23_a_leader_dies",
    "transactions: the ended ones in a snapshot": "race_24_a_restart",
    "transactions: followers and markers": "race_23_a_leader_dies",
    "transactions: epochs of markers": "transactions_follow_one_another",
    "transactions: what is stable": "does_not_see_what_is_open",
    "transactions: aborted ones are told": "transactions_follow_one_another",
    "coordinators: the newest connection": "race_17_an_end_that_comes_late",
    "coordinators: numbers of markers": "race_22_markers_that_were_given_up_end_nothing_later[1]",
    "coordinators: what is committed is told": "race_20_what_is_not_committed",
    "coordinators: the next one tells again": "race_20_a_coordinator_dies",
    "coordinators: what is repeated is written again": "race_20_a_coordinator_that_wakes",
    "coordinators: too few replicas delay": "race_21_an_end_waits",
    "transactions: older epochs": "race_18_what_is_late",
    "coordinators: an end while the last one completes": "race_25_an_end",
    "coordinators: a fresh producer id": "race_28_an_end",
    "coordinators: a producer id is given once": "race_28_producers_of_one",
    "coordinators: an Init that is repeated": "race_29_an_init_whose",
    "coordinators: an Init of another": "race_29_an_init_that_another",
    "coordinators: deleted topics": "race_30_a_topic",
    "coordinators: all brokers know of them": "race_41_there_are_no",
    "coordinators: an end raises the epoch": "race_41_the_feature",
    "coordinators: the same leader under another epoch": "race_42_the_epoch",
    "coordinators: what could not be written": "race_42_too_few",
    "coordinators: a marker that is past": "race_44_an_administrator_goes_past",
    "transactions: an administrator's marker": "race_44_an_administrator_aborts_before",
    "coordinators: an administrator's abort of nothing": "race_44_an_administrator_aborts_what",
    "transactions: whom a marker made known": "race_33_after_a_day",
    "transactions: who has one open": "race_33_who_has",
    "transactions: the stable end of a new leader": "race_35_a_reader",
    "transactions: above what is stable": "race_35_a_reader",
    "transactions: one question": "race_40_five_batches_wait",
    "transactions: what may be different later": "race_40_the_question",
    "transactions: what waits behind another": "race_40_no_word",
    "transactions: guards of a leadership": "race_40_the_leader",
    "transactions: compaction, entries that stay": "race_32_an_aborted",
    "transactions: compaction, entries that go": "race_32_a_round",
    "transactions: compaction, last markers": "race_32_the_epoch",
    "transactions: epochs in snapshots": "race_32_the_epoch",
    "transactions: emptied batches": "race_32_an_emptied",
    "transactions: all that was aborted is told": "race_34_answers",
    "transactions: aborted later": "race_34_answers",
    "groups: the higher record": "race_36_the_later_of_two_records_counts['a commit'",
    "groups: staged ones do not expire": "race_36_the_later_of_two_records_counts['expiry'",
    "groups: deletions take staged ones": "race_36_the_later_of_two_records_counts['a deletion",
    "groups: stable ones": "who_wants_stable_offsets_waits",
    "groups: a marker that is committed": "race_37_a_coordinator_dies",
    "groups: markers while they are read": "race_37_a_marker_waits",
    "groups: a marker is confirmed when it counts": "when_the_marker_is_in_its_log[False",
    "groups: staged ones are read": "race_37_a_marker_waits",
    "groups: the member is asked for again": "race_38_a_generation_ends",
}
MOST_LIVES = 40
STEPS = 250  # of each


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_rule_that_is_switched_off_is_missed(mutation: Mutation):
    scenario = SCENARIOS.get(mutation.name)
    if scenario is not None:
        assert failing_scenario(mutation, scenario) is not None
        return
    with applied(mutation):
        assert any(life.live(seed, STEPS).violation is not None for seed in range(MOST_LIVES))
