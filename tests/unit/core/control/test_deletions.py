"""Deletion of topics by the controller's core."""

from __future__ import annotations

from typing import Any

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.api.requests import CreateTopic
from minikafka.core.control.commands import (
    DeposedError,
    RemoveTopic,
    Results,
    StateChange,
)
from minikafka.errors import (
    TopicDeletionDisabledError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import PartitionState, TopicPartition
from tests.helpers.controller_bench import Bench, create, only_error


def delete(bench: Bench, *names: str) -> Results:
    return bench.run(bench.core.delete_topics(names))


def acknowledge(bench: Bench, broker_id: int, message: Any) -> None:
    bench.run(bench.core.on_replicas_deleted(broker_id, message.deletions))


def test_a_topic_goes_when_every_replica_has_gone(three: Bench) -> None:
    create(three, CreateTopic("t", assignments={0: [1, 2], 1: [2, 1]}))
    topic_id = three.zookeeper.topics["t"].topic_id
    replicas = ((TopicPartition("t", 0), topic_id), (TopicPartition("t", 1), topic_id))
    three.messages()
    assert delete(three, "t") == [("t", None)]
    messages = three.messages()
    assert {b: message.deletions for b, message in messages.items()} == {
        1: replicas,
        2: replicas,
        3: (),
    }
    assert all(message.deleted_topics == (("t", topic_id),) for message in messages.values())
    acknowledge(three, 1, messages[1])
    assert "t" in three.zookeeper.topics
    assert three.core.context.offline_partitions() == []
    acknowledge(three, 2, messages[2])
    assert (three.zookeeper.topics, three.zookeeper.states) == ({}, {})
    assert three.zookeeper.deletions == set()
    assert three.core.context.topics == {}


def test_deletion_waits_for_brokers_that_are_down(three: Bench) -> None:
    create(three, CreateTopic("t", assignments={0: [1, 2]}))
    three.kill(2)
    three.see_brokers()
    three.messages()
    assert not three.core.waits_for_absent("t")
    delete(three, "t")
    acknowledge(three, 1, three.messages()[1])
    assert three.core.waits_for_absent("t")
    assert "t" in three.zookeeper.topics
    three.register(2)
    three.see_brokers()
    message = three.messages()[2]
    assert message.partitions == ()
    assert len(message.deletions) == 1
    assert not three.core.waits_for_absent("t")
    acknowledge(three, 2, message)
    assert three.zookeeper.topics == {}


def test_the_next_controller_goes_on_with_a_deletion(three: Bench) -> None:
    create(three, CreateTopic("t", 1, 2))
    delete(three, "t")
    acknowledge(three, 1, three.messages()[1])
    three.elect()
    messages = three.messages()
    assert [len(messages[b].deletions) for b in (1, 2, 3)] == [1, 1, 0]
    for broker_id in (1, 2):
        acknowledge(three, broker_id, messages[broker_id])
    assert three.zookeeper.topics == {}


def test_members_outside_the_assignment_delete_too(three: Bench) -> None:
    create(three, CreateTopic("t", 1, 1))
    tp = TopicPartition("t", 0)
    three.zookeeper.states[tp] = PartitionState(1, 0, (1, 3), 1, 0)
    three.elect()
    three.messages()
    delete(three, "t")
    assert {b: len(message.deletions) for b, message in three.messages().items()} == {
        1: 1,
        2: 0,
        3: 1,
    }


def test_a_marker_that_somebody_left_starts_a_deletion(three: Bench) -> None:
    create(three, CreateTopic("t"))
    three.messages()
    three.zookeeper.mark_topic_deleted("t")
    for _ in range(2):  # the second one changes nothing
        three.run(three.core.on_deletions(three.zookeeper.deletions))
    assert three.messages()[1].deleted_topics == (("t", "topic-id-1"),)


def test_a_marker_for_a_topic_that_does_not_exist_goes(three: Bench) -> None:
    three.zookeeper.mark_topic_deleted("ghost")
    three.run(three.core.on_deletions(three.zookeeper.deletions))
    assert three.zookeeper.deletions == set()
    three.zookeeper.mark_topic_deleted("ghost")
    three.elect()
    assert three.zookeeper.deletions == set()


def test_acknowledgements_of_an_earlier_topic_count_for_nothing(three: Bench) -> None:
    create(three, CreateTopic("t"))
    delete(three, "t")
    for replica in ((TopicPartition("t", 0), "earlier"), (TopicPartition("x", 0), "x")):
        three.run(three.core.on_replicas_deleted(1, [replica]))
    assert "t" in three.zookeeper.topics


def test_a_topic_made_again_has_another_id(three: Bench) -> None:
    create(three, CreateTopic("t"))
    delete(three, "t")
    acknowledge(three, 1, three.messages()[1])
    create(three, CreateTopic("t"))
    assert three.zookeeper.topics["t"].topic_id == "topic-id-2"
    assert three.line() == "Leader=A Epoch=0 ISR={A}"


def test_nodes_that_cannot_be_removed_are_tried_again(three: Bench) -> None:
    create(three, CreateTopic("t"))
    delete(three, "t")
    three.injected.append(WriteOutcome.CONFLICT)
    acknowledge(three, 1, three.messages()[1])
    assert "t" in three.core.context.deletions
    three.run(three.core.on_deletions(set()))
    assert three.zookeeper.topics == {}


def test_a_deposed_controller_removes_nothing(three: Bench) -> None:
    create(three, CreateTopic("t"))
    delete(three, "t")
    message = three.messages()[1]
    three.zookeeper.controller_epoch += 1
    with pytest.raises(DeposedError):
        acknowledge(three, 1, message)


def test_deleting_what_is_not_there_or_twice(three: Bench) -> None:
    create(three, CreateTopic("t"))
    results = delete(three, "t", "x", "t")
    assert [(name, type(error)) for name, error in results] == [
        ("t", type(None)),
        ("x", UnknownTopicOrPartitionError),
        ("t", type(None)),
    ]
    assert delete(three, "t") == [("t", None)]
    removals = [c for c in three.commands if isinstance(c, RemoveTopic)]
    assert removals == []


def test_deletion_can_be_switched_off(three: Bench) -> None:
    create(three, CreateTopic("t"))
    results = three.run(three.core.delete_topics(["t"], enabled=False))
    assert isinstance(only_error(results), TopicDeletionDisabledError)
    assert three.zookeeper.deletions == set()


def test_failures_in_a_topic_under_deletion_are_left_alone(three: Bench) -> None:
    create(three, CreateTopic("t", 1, 3))
    delete(three, "t")
    changes: list[StateChange] = list(three.changes)
    three.kill(1)
    three.see_brokers()
    assert three.changes == changes
