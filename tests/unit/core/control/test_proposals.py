"""The ISRs that leaders propose to the controller's core."""

from __future__ import annotations

import pytest

from minikafka.api.requests import AlterPartitionResult
from minikafka.errors import (
    FencedLeaderEpochError,
    IneligibleReplicaError,
    InvalidRequestError,
    InvalidUpdateVersionError,
    MinikafkaError,
    NotControllerError,
    StaleBrokerEpochError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import TopicPartition
from tests.helpers.controller_bench import ALL, TP, Bench, alter, proposal, reasons


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
