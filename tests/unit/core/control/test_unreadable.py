"""A State or a topic that cannot be read: the controller leaves it alone, and goes on with the
rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from minikafka.api.requests import CreateTopic
from minikafka.core.control.commands import RemoveTopic, WriteStates, WriteTopicConfig
from minikafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError
from minikafka.model import IsrProposal, TopicPartition
from tests.helpers.controller_bench import Bench

BAD = TopicPartition("t", 1)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.register(1, 2, 3)
    bench.elect()
    bench.create("t", [1, 2], [2, 1], [2, 3])
    bench.messages()
    return bench


def damage(bench: Bench) -> Any:
    """Somebody writes garbage into the State of t-1; returns what it was."""
    state = bench.zookeeper.states[BAD]
    bench.zookeeper.states[BAD] = None  # type: ignore[assignment]
    return state


def written(bench: Bench) -> set[TopicPartition]:
    return {
        change.topic_partition
        for command in bench.commands
        if isinstance(command, WriteStates)
        for change in command.changes
    }


def test_a_new_controller_fails_over_all_but_the_partition_that_it_cannot_read(bench: Bench):
    damage(bench)
    bench.kill(2)
    bench.commands.clear()
    bench.elect()
    assert bench.line("t", 0) == "Leader=A Epoch=1 ISR={A}"
    assert bench.line("t", 2) == "Leader=C Epoch=1 ISR={C}"
    assert written(bench) == {TopicPartition("t", 0), TopicPartition("t", 2)}
    assert bench.core.context.offline_partitions() == [BAD]
    assert {m.topic_partition for m in bench.message_to(1).partitions} == {
        TopicPartition("t", 0),
        TopicPartition("t", 2),
    }


def test_a_sitting_controller_notices_when_it_would_write_and_gives_nothing_up(bench: Bench):
    damage(bench)
    bench.kill(2)
    bench.see_brokers()
    assert bench.line("t", 0) == "Leader=A Epoch=1 ISR={A}"
    assert bench.line("t", 2) == "Leader=C Epoch=1 ISR={C}"
    assert bench.core.context.unreadable == {BAD}
    bench.commands.clear()
    bench.register(2)
    bench.see_brokers()
    assert BAD not in written(bench)
    assert bench.zookeeper.states[BAD] is None


def test_what_is_asked_of_it_is_refused_as_of_a_partition_that_is_not_there(bench: Bench):
    old = damage(bench)
    bench.elect()
    proposal = IsrProposal(BAD, bench.zookeeper.topics["t"].topic_id, 0, 0, ((2, bench.epoch(2)),))
    [judged] = bench.run(bench.core.alter_partition(2, bench.epoch(2), [proposal]))
    assert isinstance(judged.error, UnknownTopicOrPartitionError)
    [(_, error)] = bench.run(bench.core.elect_leaders([BAD], unclean=True))
    assert isinstance(error, UnknownTopicOrPartitionError)
    assert old.leader == 2


def test_put_right_it_is_one_of_the_others_again(bench: Bench):
    old = damage(bench)
    bench.elect()
    bench.messages()
    bench.see_topics()
    assert bench.core.context.unreadable == {BAD}
    bench.zookeeper.states[BAD] = replace(old, partition_version=old.partition_version + 2)
    bench.see_topics()
    assert bench.core.context.unreadable == set()
    assert bench.line("t", 1) == "Leader=B Epoch=0 ISR={A,B}"
    assert [m.topic_partition for m in bench.message_to(1).partitions] == [BAD]


def test_a_state_that_was_taken_away_is_made_anew(bench: Bench):
    damage(bench)
    bench.elect()
    del bench.zookeeper.states[BAD]
    bench.see_topics()
    assert bench.line("t", 1) == "Leader=B Epoch=0 ISR={A,B}"


def test_with_its_topic_it_can_be_deleted(bench: Bench):
    damage(bench)
    bench.elect()
    assert bench.run(bench.core.delete_topics(["t"])) == [("t", None)]
    topic_id = bench.zookeeper.topics["t"].topic_id
    for broker_id in (1, 2, 3):
        gone = [(TopicPartition("t", n), topic_id) for n in range(3)]
        bench.messages()
        bench.run(bench.core.on_replicas_deleted(broker_id, gone))
    assert "t" not in bench.zookeeper.topics
    assert bench.core.context.unreadable == set()


def test_one_that_is_put_right_while_its_topic_is_deleted_is_not_told(bench: Bench):
    old = damage(bench)
    bench.elect()
    bench.run(bench.core.delete_topics(["t"]))
    bench.zookeeper.states[BAD] = old
    bench.see_topics()
    assert bench.core.context.unreadable == set()
    assert BAD not in bench.core.context.states


def test_a_topic_that_cannot_be_read_keeps_what_was_known_of_it(bench: Bench):
    known = bench.zookeeper.topics["t"]
    bench.zookeeper.topics["t"] = None  # type: ignore[assignment]
    bench.see_topics()
    assert bench.core.context.topics["t"] == known
    assert bench.messages() == {}
    bench.kill(2)
    bench.see_brokers()
    assert bench.line("t", 0) == "Leader=A Epoch=1 ISR={A}"


def test_a_topic_that_a_new_controller_cannot_read_is_neither_made_again_nor_deleted(
    bench: Bench,
):
    bench.create("other", [1, 3])
    bench.zookeeper.topics["t"] = None  # type: ignore[assignment]
    bench.zookeeper.deletions.add("t")
    bench.zookeeper.write_topic_config("t", {"retention.ms": "5"})
    bench.commands.clear()
    bench.elect()
    assert set(bench.core.context.topics) == {"other"}
    topics = [CreateTopic("t", 1, 1, {"retention.ms": "6"}), CreateTopic("third", 1, 1)]
    [(_, error), (_, made)] = bench.run(bench.core.create_topics(topics, bench.chance()))
    assert isinstance(error, TopicAlreadyExistsError)
    assert made is None
    bench.run(bench.core.on_deletions(["t"]))
    assert not any(isinstance(each, RemoveTopic | WriteTopicConfig) for each in bench.commands)
    assert bench.zookeeper.topics["t"] is None
    assert bench.zookeeper.configs["t"] == {"retention.ms": "5"}
