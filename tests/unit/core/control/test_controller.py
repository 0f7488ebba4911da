"""The controller's core, event by event, against a ZooKeeper in memory."""

from __future__ import annotations

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control.commands import DeposedError, WriteStates
from minikafka.core.control.context import BrokerBatch, ControllerCounters
from minikafka.core.control.controller import ClusterRead, Controller
from minikafka.model import PartitionState, TopicPartition
from tests.helpers.controller_bench import ALL, TP, Bench, alter, proposal

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


# --- what brokers are told -----------------------------------------------------------------------


def test_a_started_broker_is_told_everything_and_the_others_what_changed(five: Bench) -> None:
    five.create("u", [1, 2])
    five.messages()
    five.register(2)
    five.see_brokers()
    messages = five.messages()
    assert messages[2].broker.broker_epoch == five.epoch(2)
    for message in messages.values():
        assert [(m.topic_partition.topic, m.state.isr) for m in message.partitions] == [
            ("t", (1, 3, 4, 5)),
            ("u", (1,)),
        ]
    five.register(6)
    assert five.see_brokers() == BrokerBatch(new=(6,))
    messages = five.messages()
    assert [len(messages[b].partitions) for b in (1, 6)] == [0, 2]


def test_a_state_is_told_after_it_was_written_only(five: Bench) -> None:
    five.kill(5)
    operation = five.core.on_brokers(five.zookeeper.live_brokers())
    assert isinstance(operation.send(None), WriteStates)
    assert five.messages() == {}
    with pytest.raises(StopIteration):
        operation.send([WriteOutcome.WRITTEN])
    assert [m.state.isr for m in five.messages()[1].partitions] == [(1, 2, 3, 4)]


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
    messages = five.messages()
    assert sorted(messages) == [1, 2, 3, 4]
    for message in messages.values():
        assert [m.topic_partition.topic for m in message.partitions] == ["t", "u", "v"]


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


def test_what_happened_in_two_terms_adds_up() -> None:
    assert ControllerCounters(1, 2, 3, 4) + ControllerCounters(10, 20, 30, 40) == (
        ControllerCounters(11, 22, 33, 44)
    )
