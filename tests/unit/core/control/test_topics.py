"""Creation, growth and configuration of topics by the controller's core."""

from __future__ import annotations

from typing import Any

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.api.requests import CreateTopic
from minikafka.core.control.commands import (
    CreateTopicNode,
    DeposedError,
)
from minikafka.errors import (
    InvalidConfigError,
    InvalidPartitionsError,
    InvalidReplicaAssignmentError,
    InvalidReplicationFactorError,
    InvalidRequestError,
    InvalidTopicError,
    ReassignmentInProgressError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import Assignment, PartitionState, TopicDescription, TopicPartition
from tests.helpers.controller_bench import Bench, create, only_error

# --- creation ------------------------------------------------------------------------------------


def test_a_topic_gets_its_states_and_everybody_hears_of_it(three: Bench) -> None:
    assert create(three, CreateTopic("t", 2, 3)) == [("t", None)]
    assert three.zookeeper.topics["t"] == TopicDescription(
        "t", "topic-id-1", {0: Assignment((1, 2, 3)), 1: Assignment((2, 3, 1))}
    )
    assert three.line("t", 0) == "Leader=A Epoch=0 ISR={A,B,C}"
    assert three.line("t", 1) == "Leader=B Epoch=0 ISR={A,B,C}"
    state = three.zookeeper.states[TopicPartition("t", 1)]
    assert state == PartitionState(
        2,
        0,
        (2, 3, 1),
        1,
        0,
        {b: f"disk-{n}@{three.epoch(b)}" for b, n in ((2, "B"), (3, "C"), (1, "A"))},
    )
    assert all(len(message.partitions) == 2 for message in three.messages().values())


def test_counts_that_are_not_given_are_the_defaults(three: Bench) -> None:
    create(three, CreateTopic("t"))
    assert three.zookeeper.topics["t"].assignments == {0: Assignment((1,))}


def test_an_explicit_assignment_is_taken(three: Bench) -> None:
    create(three, CreateTopic("t", assignments={0: [3, 1]}))
    assert three.line() == "Leader=C Epoch=0 ISR={A,C}"


def test_configs_are_written_with_the_topic(three: Bench) -> None:
    create(three, CreateTopic("t", configs={"min.insync.replicas": "2"}), CreateTopic("u"))
    written = [each for each in three.commands if isinstance(each, CreateTopicNode)]
    assert [each.overrides for each in written] == [{"min.insync.replicas": "2"}, {}]
    assert three.zookeeper.configs == {"t": {"min.insync.replicas": "2"}, "u": {}}


def test_configs_that_a_half_done_creation_left_are_overwritten(three: Bench) -> None:
    three.zookeeper.configs["t"] = {"retention.ms": "1"}
    create(three, CreateTopic("t"), CreateTopic("u"))
    assert three.zookeeper.configs == {"t": {}, "u": {}}


def test_validation_alone_writes_nothing(three: Bench) -> None:
    before = len(three.commands)
    results = create(
        three,
        CreateTopic("t", configs={"retention.ms": "5"}),
        CreateTopic("a b"),
        validate_only=True,
    )
    assert [(name, type(error)) for name, error in results] == [
        ("t", type(None)),
        ("a b", InvalidTopicError),
    ]
    assert len(three.commands) == before


@pytest.mark.parametrize(
    ("topic", "error", "why"),
    [
        (CreateTopic("old"), TopicAlreadyExistsError, "already exists"),
        (CreateTopic("doomed"), TopicAlreadyExistsError, "still being deleted"),
        (CreateTopic("an.old_one"), InvalidTopicError, "collides"),
        (CreateTopic("t", 0), InvalidPartitionsError, "larger than 0"),
        (
            CreateTopic("t", 1, 4),
            InvalidReplicationFactorError,
            "4 larger than available brokers: 3",
        ),
        (CreateTopic("t", 1, assignments={0: [1]}), InvalidRequestError, "either"),
        (CreateTopic("t", assignments={0: [9]}), InvalidReplicaAssignmentError, "no live broker 9"),
        (CreateTopic("t", configs={"retention.msec": "1"}), InvalidConfigError, "retention.ms"),
    ],
)
def test_a_topic_that_cannot_be_made_says_why(
    three: Bench, topic: CreateTopic, error: type[Exception], why: str
) -> None:
    create(three, CreateTopic("old"), CreateTopic("doomed", 1, 3), CreateTopic("an_old.one"))
    three.run(three.core.delete_topics(["doomed"]))
    refused = only_error(create(three, topic))
    assert isinstance(refused, error)
    assert why in str(refused)


def test_one_name_twice_in_a_request_is_refused_both_times(three: Bench) -> None:
    results = create(three, CreateTopic("t"), CreateTopic("t"), CreateTopic("u"))
    assert [(name, type(error)) for name, error in results] == [
        ("t", InvalidRequestError),
        ("t", InvalidRequestError),
        ("u", type(None)),
    ]


def test_brokers_that_leave_get_no_new_replicas(three: Bench) -> None:
    three.run(three.core.on_controlled_shutdown(2, three.epoch(2)))
    refused = only_error(create(three, CreateTopic("t", 1, 3)))
    assert isinstance(refused, InvalidReplicationFactorError)
    create(three, CreateTopic("u", 1, 2))
    assert three.zookeeper.topics["u"].assignments == {0: Assignment((1, 3))}


def test_a_topic_that_another_made_meanwhile_is_a_conflict(three: Bench) -> None:
    three.put_topic("t", [1])
    assert isinstance(only_error(create(three, CreateTopic("t"))), TopicAlreadyExistsError)


def test_a_deposed_controller_creates_nothing(three: Bench) -> None:
    three.zookeeper.controller_epoch += 1
    with pytest.raises(DeposedError):
        create(three, CreateTopic("t"))


# --- more partitions -----------------------------------------------------------------------------


def grow(bench: Bench, count: int, *assignments: list[int], name: str = "t") -> Any:
    return only_error(bench.run(bench.core.create_partitions(name, count, assignments)))


def test_partitions_are_appended_where_the_ring_goes_on(three: Bench) -> None:
    create(three, CreateTopic("t", 2, 2))
    assert grow(three, 4) is None
    assignments = three.zookeeper.topics["t"].assignments
    assert [assignments[p].replicas for p in range(4)] == [(1, 2), (2, 3), (3, 1), (1, 3)]
    assert three.line("t", 3) == "Leader=A Epoch=0 ISR={A,C}"


def test_whether_a_topic_can_grow_is_told_without_growing_it(three: Bench) -> None:
    create(three, CreateTopic("t", 1, 2))
    for count, error in ((3, None), (1, InvalidPartitionsError)):
        told = three.run(three.core.create_partitions("t", count, [], validate_only=True))
        refused = only_error(told)
        assert refused is None if error is None else isinstance(refused, error)
    assert len(three.zookeeper.topics["t"].assignments) == 1


def test_new_partitions_can_be_assigned_explicitly(three: Bench) -> None:
    create(three, CreateTopic("t", 1, 2))
    assert grow(three, 2, [3, 2]) is None
    assert three.line("t", 1) == "Leader=C Epoch=0 ISR={B,C}"
    assert isinstance(grow(three, 3, [3]), InvalidReplicaAssignmentError)
    assert isinstance(grow(three, 4, [3, 2]), InvalidReplicaAssignmentError)


def test_a_topic_never_shrinks(three: Bench) -> None:
    create(three, CreateTopic("t", 2, 1))
    for count in (0, 1, 2):
        refused = grow(three, count)
        assert isinstance(refused, InvalidPartitionsError)
        assert "currently has 2 partitions" in str(refused)


def test_only_a_topic_that_is_there_and_at_rest_can_grow(three: Bench) -> None:
    assert isinstance(grow(three, 2, name="x"), UnknownTopicOrPartitionError)
    for moving in (Assignment((1, 9), adding=(9,)), Assignment((9, 1), removing=(1,))):
        three.zookeeper.topics["t"] = TopicDescription("t", "id", {0: moving})
        three.elect()
        assert isinstance(grow(three, 2), ReassignmentInProgressError)


def test_a_topic_that_vanishes_while_it_grows_is_a_conflict(three: Bench) -> None:
    create(three, CreateTopic("t"))
    del three.zookeeper.topics["t"]
    assert isinstance(grow(three, 2), UnknownTopicOrPartitionError)
    three.injected.append(WriteOutcome.DEPOSED)
    with pytest.raises(DeposedError):
        grow(three, 2)


# --- configuration -------------------------------------------------------------------------------


def test_overrides_are_merged_and_taken_away(three: Bench) -> None:
    create(three, CreateTopic("t", configs={"retention.ms": "5", "segment.ms": "6"}))
    changes = {"retention.ms": None, "min.insync.replicas": "2"}
    assert only_error(three.run(three.core.alter_topic_config("t", changes))) is None
    assert three.zookeeper.configs["t"] == {"segment.ms": "6", "min.insync.replicas": "2"}


@pytest.mark.parametrize(
    ("name", "changes", "error"),
    [
        ("x", {"retention.ms": "5"}, UnknownTopicOrPartitionError),
        ("t", {"retention.ms": "soon"}, InvalidConfigError),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    three: Bench, name: str, changes: dict[str, str | None], error: type[Exception]
) -> None:
    create(three, CreateTopic("t"))
    assert isinstance(only_error(three.run(three.core.alter_topic_config(name, changes))), error)
    assert three.zookeeper.configs == {"t": {}}


# --- topics that others wrote --------------------------------------------------------------------


def test_topics_and_partitions_that_others_wrote_get_their_states(three: Bench) -> None:
    create(three, CreateTopic("t", 1, 1))
    three.put_topic("u", [2, 3])
    topic = three.zookeeper.topics["t"]
    three.zookeeper.topics["t"] = TopicDescription(
        "t", topic.topic_id, {**topic.assignments, 1: Assignment((3,))}
    )
    three.run(three.core.on_topics(dict(three.zookeeper.topics)))
    assert three.line("u") == "Leader=B Epoch=0 ISR={B,C}"
    assert three.line("t", 1) == "Leader=C Epoch=0 ISR={C}"


def test_topics_that_others_removed_or_replaced_are_forgotten(three: Bench) -> None:
    create(three, CreateTopic("gone", 1, 1), CreateTopic("new", 1, 1))
    three.zookeeper.states.clear()
    del three.zookeeper.topics["gone"]
    three.put_topic("new", [2])
    three.messages()
    three.run(three.core.on_topics(dict(three.zookeeper.topics)))
    assert three.line("new") == "Leader=B Epoch=0 ISR={B}"
    assert sorted(three.core.context.topics) == ["new"]
    assert three.messages()[1].deleted_topics == (("gone", "topic-id-1"), ("new", "topic-id-2"))


@pytest.mark.parametrize(
    "ask",
    [
        lambda bench: create(bench, CreateTopic("u", configs={"retention.ms": "5"})),
        lambda bench: bench.run(bench.core.alter_topic_config("t", {"retention.ms": "5"})),
        lambda bench: bench.run(bench.core.alter_broker_config("1", {"log.retention.ms": "5"})),
    ],
    ids=["creation", "topic", "broker"],
)
def test_a_configuration_is_not_written_over_that_of_the_next_controller(
    three: Bench, ask: Any
) -> None:
    create(three, CreateTopic("t"))
    three.zookeeper.controller_epoch += 1
    with pytest.raises(DeposedError):
        ask(three)
    assert (three.zookeeper.configs, three.zookeeper.broker_configs) == ({"t": {}}, {})
