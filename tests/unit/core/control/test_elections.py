"""The elections that somebody asks the controller's core for."""

from __future__ import annotations

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control.commands import DeposedError
from minikafka.errors import (
    ElectionNotNeededError,
    EligibleLeadersNotAvailableError,
    PreferredLeaderNotAvailableError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import TopicPartition
from tests.helpers.controller_bench import (
    ALL,
    TP,
    Bench,
    alter,
    kinds,
    proposal,
    shut_down,
)


def elect(bench: Bench, *partitions: TopicPartition, unclean: bool = False) -> object:
    return kinds(bench.run(bench.core.elect_leaders(partitions, unclean=unclean)))


def test_a_preferred_election_keeps_the_isr_and_bumps(five: Bench) -> None:
    five.register(1)
    five.see_brokers()
    unknown = TopicPartition("x", 0)
    assert elect(five, TP, unknown, TP) == [
        (TP, PreferredLeaderNotAvailableError),
        (TopicPartition("x", 0), UnknownTopicOrPartitionError),
    ]
    alter(five, proposal(five, *ALL), broker_id=2)
    assert elect(five, TP) == [(TP, None)]
    assert five.line() == "Leader=A Epoch=2 ISR={A,B,C,D,E}"
    assert elect(five, TP) == [(TP, ElectionNotNeededError)]


def test_an_election_of_all_says_nothing_of_those_that_need_none(five: Bench) -> None:
    five.create("u", [2, 1])
    shut_down(five, 2)
    five.register(2)
    five.see_brokers()
    assert elect(five) == [(TopicPartition("u", 0), PreferredLeaderNotAvailableError)]


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
        (TP, ElectionNotNeededError),
        (TopicPartition("u", 0), None),
        (TopicPartition("v", 0), EligibleLeadersNotAvailableError),
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
