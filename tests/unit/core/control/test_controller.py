"""The controller's core, event by event, against a ZooKeeper in memory."""

from __future__ import annotations

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.api.requests import AlterPartitionResult
from minikafka.core.control.commands import DeposedError, GaveUpError, StateChange, WriteStates
from minikafka.core.control.context import BrokerBatch, ControllerCounters
from minikafka.core.control.controller import ClusterRead, Controller
from minikafka.core.control.state_writer import MAX_CONFLICTS, check_transition
from minikafka.errors import (
    ElectionNotNeededError,
    EligibleLeadersNotAvailableError,
    FencedLeaderEpochError,
    IneligibleReplicaError,
    InvalidConfigError,
    InvalidRequestError,
    InvalidUpdateVersionError,
    MinikafkaError,
    NotControllerError,
    PreferredLeaderNotAvailableError,
    StaleBrokerEpochError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import NO_LEADER, IsrProposal, PartitionState, TopicPartition
from tests.helpers.controller_bench import Bench

TP = TopicPartition("t", 0)
ALL = (1, 2, 3, 4, 5)


@pytest.fixture
def five() -> Bench:
    """Five brokers, a partition that all of them replicate."""
    bench = Bench()
    bench.register(*ALL)
    bench.elect()
    bench.create("t", ALL)
    bench.letters()
    return bench


def reasons(bench: Bench) -> list[str]:
    return [change.reason for change in bench.changes]


def kinds(results: list[tuple[str, MinikafkaError | None]]) -> list[tuple[str, type | None]]:
    return [(name, error and type(error)) for name, error in results]  # type: ignore[misc]


def proposal(bench: Bench, *isr: int, tp: TopicPartition = TP, **changes: object) -> IsrProposal:
    """Over the current State, with the incarnations of now."""
    state = bench.core.context.states[tp]
    fields: dict[str, object] = {
        "topic_partition": tp,
        "topic_id": bench.core.context.topics[tp.topic].topic_id,
        "leader_epoch": state.leader_epoch,
        "partition_version": state.partition_version,
        "isr": tuple((m, bench.epoch(m)) for m in isr),
    }
    return IsrProposal(**{**fields, **changes})  # type: ignore[arg-type]


def alter(bench: Bench, *proposals: IsrProposal, broker_id: int = 1) -> list[AlterPartitionResult]:
    return bench.run(bench.core.alter_partition(broker_id, bench.epoch(broker_id), list(proposals)))


# --- the picture ---------------------------------------------------------------------------------


def test_kill_e_and_the_leader_stays_and_the_epoch_moves(five: Bench) -> None:
    assert five.line() == "Leader=A Epoch=0 ISR={A,B,C,D,E}"
    five.kill(5)
    assert five.see_brokers() == BrokerBatch(dead=(5,))
    assert five.line() == "Leader=A Epoch=1 ISR={A,B,C,D}"
    names = five.core.context.names
    assert five.changes[-1].describe(names) == "t-0: Leader=A Epoch=1 ISR={A,B,C,D} (E died)"


def test_kill_the_leader_and_the_next_assigned_replica_leads(five: Bench) -> None:
    five.kill(1)
    five.see_brokers()
    assert five.line() == "Leader=B Epoch=1 ISR={B,C,D,E}"
    assert five.core.counters == ControllerCounters(elections=2, isr_shrinks=1)


def test_all_die_together_and_come_back_one_after_the_other(five: Bench) -> None:
    five.kill(*ALL)
    five.see_brokers()
    assert five.line() == "Leader=none Epoch=1 ISR={A,B,C,D,E}"
    assert five.core.context.offline_partitions() == [TP]
    five.register(4)
    five.see_brokers()
    assert five.line() == "Leader=D Epoch=2 ISR={D}"
    assert five.core.context.offline_partitions() == []


# --- failure and start batches -------------------------------------------------------------------


def test_dead_and_bounced_brokers_fail_in_one_batch(five: Bench) -> None:
    """A bounced member whose disk is gone must not be elected because the dead one failed first."""
    five.kill(1)
    five.register(2, storage_id="empty")
    before = len(five.commands)
    assert five.see_brokers() == BrokerBatch(dead=(1,), bounced=(2,))
    assert five.line() == "Leader=C Epoch=1 ISR={C,D,E}"
    assert reasons(five)[-1] == "A died, B lost its log"
    assert len(five.commands) == before + 1


def test_a_bounced_leader_without_others_leads_again_two_epochs_on() -> None:
    bench = Bench()
    bench.register(1)
    bench.elect()
    bench.create("t", [1])
    bench.register(1)
    bench.see_brokers()
    assert bench.line() == "Leader=A Epoch=2 ISR={A}"
    assert reasons(bench)[1:] == [
        "A restarted, nobody in sync is left",
        "A is back with its log",
    ]


def test_a_lost_disk_leaves_the_isr_even_as_the_last_member(five: Bench) -> None:
    five.kill(1, 2, 3, 4, 5)
    five.see_brokers()
    five.register(2, dirty=True)
    five.see_brokers()
    assert five.line() == "Leader=none Epoch=2 ISR={A,C,D,E}"
    five.register(3, storage_id="new")
    five.see_brokers()
    assert five.line() == "Leader=none Epoch=3 ISR={A,D,E}"


def test_storage_is_judged_in_the_failure_batch_too() -> None:
    bench = Bench()
    bench.register(1, 2)
    bench.elect()
    bench.create("t", [1, 2])
    bench.kill(2)
    bench.see_brokers()
    bench.register(1, storage_id="new")
    bench.see_brokers()
    assert bench.line() == "Leader=none Epoch=2 ISR={}"
    bench.register(2)
    bench.see_brokers()
    assert bench.line() == "Leader=none Epoch=2 ISR={}"


def test_a_dirty_broker_that_has_been_admitted_again_is_as_good_as_any(five: Bench) -> None:
    five.register(2, dirty=True)
    five.see_brokers()
    assert alter(five, proposal(five, *ALL))[0].error is None
    five.elect()
    assert five.line() == "Leader=A Epoch=1 ISR={A,B,C,D,E}"


def test_unclean_elections_happen_where_the_topic_allows_them(five: Bench) -> None:
    five.create("safe", [1, 2])
    five.create("loose", [1, 2])
    for bench_id in (2, 1):
        five.kill(bench_id)
        five.see_brokers()
    five.register(2)
    five.unclean_topics.add("loose")
    five.see_brokers()
    assert five.line("safe") == "Leader=none Epoch=2 ISR={A}"
    assert five.line("loose") == "Leader=B Epoch=3 ISR={B}"
    assert five.core.counters.unclean_elections == 1
    five.unclean_topics.add("safe")
    five.run(five.core.on_configs())
    assert five.line("safe") == "Leader=B Epoch=3 ISR={B}"
    assert five.changes[-1].unclean


# --- settings of brokers -------------------------------------------------------------------------


def test_overrides_of_a_broker_and_of_all_are_merged_and_taken_away(five: Bench) -> None:
    for broker in ("2", "<default>", ""):
        changes = {"log.retention.ms": "5", "log.roll.ms": None}
        assert five.run(five.core.alter_broker_config(broker, changes)) == [(broker, None)]
    five.run(five.core.alter_broker_config("2", {"log.roll.ms": "6"}))
    five.run(five.core.alter_broker_config("2", {"log.retention.ms": None}))
    assert five.zookeeper.broker_configs == {
        "2": {"log.roll.ms": "6"},
        "<default>": {"log.retention.ms": "5"},
    }


@pytest.mark.parametrize(
    ("broker", "changes", "error", "said"),
    [
        ("9", {"log.roll.ms": "6"}, InvalidRequestError, "no live broker 9: there are 1, 2, 3"),
        ("A", {"log.roll.ms": "6"}, InvalidRequestError, "'A' is no broker"),
        ("1", {"log.roll.ms": "soon"}, InvalidConfigError, "log.roll.ms=soon"),
        ("<default>", {"broker.id": "6"}, InvalidConfigError, "cannot be altered"),
    ],
)
def test_settings_that_a_broker_cannot_have_are_not_written(
    five: Bench,
    broker: str,
    changes: dict[str, str | None],
    error: type[MinikafkaError],
    said: str,
) -> None:
    [(name, refused)] = five.run(five.core.alter_broker_config(broker, changes))
    assert name == broker
    assert isinstance(refused, error)
    assert said in str(refused)
    assert five.zookeeper.broker_configs == {}


def test_what_is_set_for_a_broker_that_is_gone_can_be_taken_away(five: Bench) -> None:
    five.zookeeper.broker_configs["9"] = {"log.roll.ms": "6", "no.such": "thing"}
    changes = {"log.roll.ms": None, "no.such": None}
    assert five.run(five.core.alter_broker_config("9", changes)) == [("9", None)]
    assert five.zookeeper.broker_configs["9"] == {}


def test_nothing_happens_when_the_brokers_are_as_they_were(five: Bench) -> None:
    before = len(five.commands)
    assert five.see_brokers() == BrokerBatch()
    assert five.letters() == {}
    assert len(five.commands) == before


# --- what brokers are told -----------------------------------------------------------------------


def test_a_started_broker_is_told_everything_and_the_others_what_changed(five: Bench) -> None:
    five.create("u", [1, 2])
    five.letters()
    five.register(2)
    five.see_brokers()
    letters = five.letters()
    assert letters[2].broker.broker_epoch == five.epoch(2)
    for letter in letters.values():
        assert [(m.topic_partition.topic, m.state.isr) for m in letter.partitions] == [
            ("t", (1, 3, 4, 5)),
            ("u", (1,)),
        ]
    five.register(6)
    assert five.see_brokers() == BrokerBatch(new=(6,))
    letters = five.letters()
    assert [len(letters[b].partitions) for b in (1, 6)] == [0, 2]


def test_a_state_is_told_after_it_was_written_only(five: Bench) -> None:
    five.kill(5)
    operation = five.core.on_brokers(five.zookeeper.live_brokers())
    assert isinstance(operation.send(None), WriteStates)
    assert five.letters() == {}
    with pytest.raises(StopIteration):
        operation.send([WriteOutcome.WRITTEN])
    assert [m.state.isr for m in five.letters()[1].partitions] == [(1, 2, 3, 4)]


# --- failover ------------------------------------------------------------------------------------


def test_a_new_controller_treats_absent_and_bounced_members_as_failed(five: Bench) -> None:
    five.create("u", [1])
    five.create("v", [2, 3])
    five.kill(5)
    five.register(1)
    five.elect()
    assert five.line("t") == "Leader=B Epoch=1 ISR={B,C,D}"
    assert five.line("u") == "Leader=A Epoch=2 ISR={A}"
    assert five.line("v") == "Leader=B Epoch=0 ISR={B,C}"
    letters = five.letters()
    assert sorted(letters) == [1, 2, 3, 4]
    for letter in letters.values():
        assert [m.topic_partition.topic for m in letter.partitions] == ["t", "u", "v"]


def test_a_new_controller_elects_for_leaderless_partitions(five: Bench) -> None:
    five.create("u", [1])
    five.kill(1)
    five.see_brokers()
    five.register(1)
    five.elect()
    assert five.line("u") == "Leader=A Epoch=2 ISR={A}"


def test_a_new_controller_creates_the_states_that_are_missing(five: Bench) -> None:
    five.put_topic("half", [2, 9], [9])
    five.elect()
    assert five.line("half") == "Leader=B Epoch=0 ISR={B}"
    assert five.core.context.offline_partitions() == [TopicPartition("half", 1)]
    five.register(9)
    five.see_brokers()
    assert five.line("half", 1) == "Leader=I Epoch=0 ISR={I}"


def test_a_new_controller_runs_the_preferred_election_that_was_asked_for(five: Bench) -> None:
    five.register(1)
    five.see_brokers()
    alter(five, proposal(five, *ALL), broker_id=2)
    five.zookeeper.request_preferred_election([TP])
    five.elect()
    assert five.line() == "Leader=A Epoch=2 ISR={A,B,C,D,E}"
    assert five.zookeeper.preferred_election is None


def test_a_term_is_loaded_once(five: Bench) -> None:
    with pytest.raises(AssertionError, match="loaded once"):
        five.run(five.core.load(ClusterRead({}, {}, {})))


# --- proposals -----------------------------------------------------------------------------------


def test_a_lagging_follower_leaves_with_a_bump_and_joins_without(five: Bench) -> None:
    removal = proposal(five, 1, 2, 3, 4, reason="E lagged 31 s")
    judged = alter(five, removal)
    state = five.zookeeper.states[TP]
    assert judged == [AlterPartitionResult(TP, None, state)]
    assert five.line() == "Leader=A Epoch=1 ISR={A,B,C,D}"
    assert reasons(five)[-1] == "E left: E lagged 31 s"
    alter(five, proposal(five, *ALL))
    assert five.line() == "Leader=A Epoch=1 ISR={A,B,C,D,E}"
    assert five.zookeeper.states[TP].partition_version == 2
    assert (five.core.counters.isr_shrinks, five.core.counters.isr_expands) == (1, 1)


def test_the_same_isr_moves_the_version_only(five: Bench) -> None:
    alter(five, proposal(five, *ALL))
    state = five.zookeeper.states[TP]
    assert (state.leader_epoch, state.partition_version) == (0, 1)


def test_every_answer_carries_the_current_state(five: Bench) -> None:
    first = proposal(five, 1, 2, 3, 4)
    fenced = proposal(five, 1, 2)
    alter(five, first)
    joined = proposal(five, *ALL)
    alter(five, joined)
    stale = proposal(five, 1, 2, 3, 4, partition_version=1)
    state = five.zookeeper.states[TP]
    answers = [alter(five, p)[0] for p in (joined, fenced, stale)]
    assert [(a.error and type(a.error), a.state) for a in answers] == [
        (None, state),
        (FencedLeaderEpochError, state),
        (InvalidUpdateVersionError, state),
    ]


def test_a_delayed_addition_is_dead_after_the_no_op_proposal(five: Bench) -> None:
    """INELIGIBLE, then the committed ISR over the same version, then the delayed original."""
    five.kill(5)
    five.see_brokers()
    five.register(5)
    addition = proposal(five, *ALL)
    assert isinstance(alter(five, addition)[0].error, IneligibleReplicaError)
    alter(five, proposal(five, 1, 2, 3, 4))
    five.see_brokers()
    assert isinstance(alter(five, addition)[0].error, InvalidUpdateVersionError)
    assert five.line() == "Leader=A Epoch=1 ISR={A,B,C,D}"


def test_proposals_about_unknown_partitions_are_refused(five: Bench) -> None:
    five.create("doomed", [1])
    doomed = proposal(five, 1, tp=TopicPartition("doomed", 0))
    other_id = proposal(five, *ALL, topic_id="of an earlier one")
    unknown = proposal(five, *ALL, topic_partition=TopicPartition("t", 7))
    five.run(five.core.delete_topics(["doomed"]))
    judged = alter(five, doomed, other_id, unknown)
    assert [(j.error and type(j.error), j.state) for j in judged] == [
        (UnknownTopicOrPartitionError, None),
        (UnknownTopicIdError, None),
        (UnknownTopicOrPartitionError, None),
    ]


def test_one_partition_twice_in_a_request_is_refused(five: Bench) -> None:
    with pytest.raises(InvalidRequestError, match="twice"):
        alter(five, proposal(five, 1), proposal(five, 1, 2))


@pytest.mark.parametrize(
    ("difference", "error"), [(-1, StaleBrokerEpochError), (1, NotControllerError)]
)
def test_a_proposer_of_another_incarnation_is_refused(
    five: Bench, difference: int, error: type[MinikafkaError]
) -> None:
    with pytest.raises(error):
        five.run(five.core.alter_partition(1, five.epoch(1) + difference, []))


def test_a_dead_proposer_is_refused(five: Bench) -> None:
    removal, epoch = proposal(five, 1), five.epoch(1)
    five.kill(1)
    five.see_brokers()
    with pytest.raises(NotControllerError):
        five.run(five.core.alter_partition(1, epoch, [removal]))


# --- controlled shutdown -------------------------------------------------------------------------


def shut_down(bench: Bench, broker_id: int) -> list[TopicPartition]:
    return bench.run(bench.core.on_controlled_shutdown(broker_id, bench.epoch(broker_id)))


def test_a_leaver_hands_over_and_is_out_until_its_next_incarnation(five: Bench) -> None:
    assert shut_down(five, 1) == []
    assert five.line() == "Leader=B Epoch=1 ISR={B,C,D,E}"
    assert reasons(five)[-1] == "A is shutting down"
    back = proposal(five, 2, 3, 4, 5, 1)
    assert isinstance(alter(five, back, broker_id=2)[0].error, IneligibleReplicaError)
    five.register(1)
    five.see_brokers()
    back = proposal(five, 2, 3, 4, 5, 1)
    assert alter(five, back, broker_id=2)[0].error is None


def test_everybody_hears_who_is_leaving(five: Bench) -> None:
    five.create("elsewhere", [1])
    five.letters()
    shut_down(five, 5)
    assert sorted(five.letters()) == [1, 2, 3, 4, 5]
    assert five.core.context.shutting_down == {5: five.epoch(5)}


def test_the_last_member_stays_and_is_reported(five: Bench) -> None:
    five.create("single", [1])
    for broker_id in (2, 3, 4, 5):
        shut_down(five, broker_id)
    assert shut_down(five, 1) == [TP]
    assert five.line() == "Leader=A Epoch=4 ISR={A}"
    five.kill(1)
    five.see_brokers()
    assert five.line() == "Leader=none Epoch=5 ISR={A}"


def test_a_stranger_cannot_shut_down(five: Bench) -> None:
    with pytest.raises(StaleBrokerEpochError):
        five.run(five.core.on_controlled_shutdown(1, five.epoch(1) - 1))


# --- failed disks --------------------------------------------------------------------------------


def test_a_failed_replica_leaves_until_its_next_incarnation(five: Bench) -> None:
    topic_id = five.core.context.topics["t"].topic_id
    other = TopicPartition("t", 1)
    report = [(TP, topic_id), (TP, "another"), (other, topic_id), (TopicPartition("x", 0), "x")]
    results = five.run(five.core.on_failed_replicas(1, five.epoch(1), report))
    assert kinds(results) == [
        ("t-0", None),
        ("t-0", UnknownTopicOrPartitionError),
        ("t-1", UnknownTopicOrPartitionError),
        ("x-0", UnknownTopicOrPartitionError),
    ]
    assert five.line() == "Leader=B Epoch=1 ISR={B,C,D,E}"
    back = proposal(five, 2, 3, 4, 5, 1)
    assert isinstance(alter(five, back, broker_id=2)[0].error, IneligibleReplicaError)
    five.run(five.core.on_failed_replicas(3, five.epoch(3), [(TP, topic_id)]))
    five.register(1)
    five.see_brokers()
    assert set(five.core.context.failed_replicas[TP]) == {3}
    five.register(3)
    five.see_brokers()
    assert five.core.context.failed_replicas == {}


# --- elections that are asked for ----------------------------------------------------------------


def elect(bench: Bench, *partitions: TopicPartition, unclean: bool = False) -> object:
    return kinds(bench.run(bench.core.elect_leaders(partitions, unclean=unclean)))


def test_a_preferred_election_keeps_the_isr_and_bumps(five: Bench) -> None:
    five.register(1)
    five.see_brokers()
    unknown = TopicPartition("x", 0)
    assert elect(five, TP, unknown, TP) == [
        ("t-0", PreferredLeaderNotAvailableError),
        ("x-0", UnknownTopicOrPartitionError),
    ]
    alter(five, proposal(five, *ALL), broker_id=2)
    assert elect(five, TP) == [("t-0", None)]
    assert five.line() == "Leader=A Epoch=2 ISR={A,B,C,D,E}"
    assert elect(five, TP) == [("t-0", ElectionNotNeededError)]


def test_an_election_of_all_says_nothing_of_those_that_need_none(five: Bench) -> None:
    five.create("u", [2, 1])
    shut_down(five, 2)
    five.register(2)
    five.see_brokers()
    assert elect(five) == [("u-0", PreferredLeaderNotAvailableError)]


def test_an_admin_forces_an_unclean_election(five: Bench) -> None:
    five.create("u", [1, 2])
    five.create("v", [1])
    five.kill(2)
    five.see_brokers()
    five.kill(1)
    five.see_brokers()
    five.register(2)
    five.see_brokers()
    u0, v0 = TopicPartition("u", 0), TopicPartition("v", 0)
    assert elect(five, TP, u0, v0, unclean=True) == [
        ("t-0", ElectionNotNeededError),
        ("u-0", None),
        ("v-0", EligibleLeadersNotAvailableError),
    ]
    assert five.line("u", 0) == "Leader=B Epoch=3 ISR={B}"
    assert five.zookeeper.states[u0].isr_storage == {2: f"disk-B@{five.epoch(2)}"}
    assert five.core.counters.unclean_elections == 1


def test_a_work_list_of_preferred_elections_goes_when_it_is_done(five: Bench) -> None:
    five.register(1)
    five.see_brokers()
    alter(five, proposal(five, *ALL), broker_id=2)
    five.zookeeper.request_preferred_election([TP])
    five.run(five.core.on_preferred_election([TP]))
    assert five.line() == "Leader=A Epoch=2 ISR={A,B,C,D,E}"
    assert five.zookeeper.preferred_election is None
    before = five.line()
    five.run(five.core.on_preferred_election([]))
    assert five.line() == before
    five.injected.append(WriteOutcome.DEPOSED)
    with pytest.raises(DeposedError):
        five.run(five.core.on_preferred_election([]))


def test_leadership_goes_back_where_too_much_of_it_has_moved(five: Bench) -> None:
    five.create("u", *[[1, 2]] * 8)
    five.register(1)
    five.see_brokers()
    for tp in [TP] + [TopicPartition("u", p) for p in range(8)]:
        members = [2, 1] if tp.topic == "u" else [2, 1, 3, 4, 5]
        alter(five, proposal(five, *members, tp=tp), broker_id=2)
    assert five.run(five.core.rebalance(100)) == 0
    assert five.run(five.core.rebalance(99)) == 9
    assert five.line("u", 3) == "Leader=A Epoch=2 ISR={A,B}"
    assert five.run(five.core.rebalance(0)) == 0


# --- producer ids --------------------------------------------------------------------------------


def test_producer_ids_are_for_live_incarnations(five: Bench) -> None:
    allocate = five.core.allocate_producer_ids
    assert five.run(allocate(1, five.epoch(1))) == (0, 1000)
    assert five.run(allocate(2, five.epoch(2))) == (1000, 2000)
    with pytest.raises(StaleBrokerEpochError):
        five.run(allocate(1, 0))


# --- writes that fail ----------------------------------------------------------------------------


def test_after_a_conflict_the_state_is_read_and_decided_again(five: Bench) -> None:
    """Our own write of which we do not know is found, and the failure decided over it."""

    def another_write() -> None:
        state = five.zookeeper.states[TP]
        five.zookeeper.states[TP] = PartitionState(
            1, 1, (1, 2, 4, 5), 1, 1, {m: state.isr_storage[m] for m in (1, 2, 4, 5)}
        )

    five.kill(5)
    five.injected.append(another_write)
    five.see_brokers()
    assert five.line() == "Leader=A Epoch=2 ISR={A,B,D}"
    assert five.letters()[1].partitions[0].state.partition_version == 2


def test_a_state_that_is_gone_is_created_again(five: Bench) -> None:
    five.kill(5)
    five.injected.append(lambda: five.zookeeper.states.clear())
    five.see_brokers()
    assert five.line() == "Leader=A Epoch=0 ISR={A,B,C,D}"


def test_proposals_beside_one_in_conflict_succeed(five: Bench) -> None:
    five.create("u", [1, 2])
    u0 = TopicPartition("u", 0)
    both = [proposal(five, 1, 2, 3, 4), proposal(five, 1, tp=u0)]
    five.zookeeper.states[u0] = PartitionState(
        1, 0, (1, 2), 1, 1, dict(five.zookeeper.states[u0].isr_storage)
    )
    judged = alter(five, *both)
    assert [j.error and type(j.error) for j in judged] == [None, InvalidUpdateVersionError]
    assert [j.state for j in judged] == [five.zookeeper.states[TP], five.zookeeper.states[u0]]


def test_conflicts_without_end_end_the_term(five: Bench) -> None:
    five.kill(5)
    five.injected = [[WriteOutcome.CONFLICT]] * MAX_CONFLICTS
    with pytest.raises(GaveUpError):
        five.see_brokers()


def test_a_controller_that_was_deposed_stops(five: Bench) -> None:
    five.kill(5)
    five.zookeeper.controller_epoch += 1
    with pytest.raises(DeposedError):
        five.see_brokers()
    assert five.zookeeper.states[TP].leader_epoch == 0


def test_what_was_written_before_the_fence_fell_is_known(five: Bench) -> None:
    five.create("u", [1, 5])
    five.kill(5)
    five.injected.append([WriteOutcome.WRITTEN, WriteOutcome.DEPOSED])
    with pytest.raises(DeposedError):
        five.see_brokers()
    assert five.core.context.states[TP].leader_epoch == 1


def test_a_state_of_a_later_controller_ends_the_term(five: Bench) -> None:
    five.kill(5)

    def written_by_another() -> None:
        five.zookeeper.states[TP] = PartitionState(1, 1, (1,), 9, 1)

    five.injected.append(written_by_another)
    with pytest.raises(DeposedError, match="controller epoch 9"):
        five.see_brokers()


def test_a_controller_that_finds_the_work_of_a_later_one_at_its_start_ends_its_term(
    five: Bench,
) -> None:
    """It read slowly: another has been elected, and has written, since its own election."""
    late = Controller(1, 1, lambda _: False)
    states = {TP: PartitionState(1, 1, (1,), 9, 1)}
    read = ClusterRead(five.zookeeper.live_brokers(), dict(five.zookeeper.topics), states)
    with pytest.raises(DeposedError, match="controller epoch 9"):
        five.run(late.load(read))


# --- our own bugs --------------------------------------------------------------------------------


def test_an_event_in_the_middle_of_another_is_a_bug(five: Bench) -> None:
    five.kill(5)
    operation = five.core.on_brokers(five.zookeeper.live_brokers())
    operation.send(None)
    with pytest.raises(AssertionError, match="rebalance came while handling on_brokers"):
        five.run(five.core.rebalance(0))
    operation.close()
    five.run(five.core.rebalance(0))


OLD = PartitionState(1, 5, (1, 2), 3, 7)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (OLD, PartitionState(1, 5, (1, 2), 3, 9)),
        (OLD, PartitionState(1, 6, (1, 2), 3, 8)),
        (OLD, PartitionState(1, 5, (1,), 3, 8)),
        (OLD, PartitionState(2, 5, (1, 2), 3, 8)),
        (OLD, PartitionState(2, 7, (1, 2), 3, 8)),
        (OLD, PartitionState(1, 5, (1, 2), 2, 8)),
        (OLD, PartitionState(3, 6, (1, 2), 3, 8)),
        (OLD, PartitionState(1, 5, (1, 2, 2), 3, 8)),
        (OLD, PartitionState(1, 5, (1, 2), 3, 8, {9: "x"})),
        (None, PartitionState(1, 1, (1, 2), 3, 0)),
        (None, PartitionState(NO_LEADER, 0, (), 3, 0)),
    ],
    ids=[
        "version skips",
        "bump without cause",
        "removal without bump",
        "leader without bump",
        "bump by two",
        "older controller",
        "leader outside",
        "member twice",
        "mark of a stranger",
        "begins in epoch 1",
        "begins without leader",
    ],
)
def test_a_transition_that_must_not_be_is_never_written(
    old: PartitionState | None, new: PartitionState
) -> None:
    with pytest.raises(AssertionError):
        check_transition(StateChange(TP, old, new, ""))


def test_what_happened_in_two_terms_adds_up() -> None:
    assert ControllerCounters(1, 2, 3, 4) + ControllerCounters(10, 20, 30, 40) == (
        ControllerCounters(11, 22, 33, 44)
    )
