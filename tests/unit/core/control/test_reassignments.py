"""Reassignments by the controller's core: what is written, told and resumed, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control.commands import DeposedError, UpdateTopicNode, WriteStates
from minikafka.errors import (
    EligibleLeadersNotAvailableError,
    IneligibleReplicaError,
    InvalidReplicaAssignmentError,
    MinikafkaError,
    NoReassignmentInProgressError,
    PreferredLeaderNotAvailableError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import Assignment, IsrProposal, TopicPartition
from tests.helpers.controller_bench import Bench

TP = TopicPartition("t", 0)


@pytest.fixture
def bench() -> Bench:
    """Five brokers; topic t on A and B."""
    bench = Bench()
    bench.register(1, 2, 3, 4, 5)
    bench.elect()
    bench.create("t", [1, 2])
    bench.messages()
    return bench


def reassign(
    bench: Bench, target: Sequence[int] | None, tp: TopicPartition = TP
) -> MinikafkaError | None:
    [(name, error)] = bench.run(bench.core.alter_partition_reassignments({tp: target}))
    assert name == tp
    return error


def assignment(bench: Bench, tp: TopicPartition = TP) -> Assignment:
    found = bench.zookeeper.topics[tp.topic].assignments[tp.partition]
    assert bench.core.context.topics[tp.topic].assignments[tp.partition] == found
    return found


def join(bench: Bench, *members: int, tp: TopicPartition = TP) -> MinikafkaError | None:
    """The leader proposes that these come into the ISR."""
    state = bench.zookeeper.states[tp]
    proposal = IsrProposal(
        tp,
        bench.zookeeper.topics[tp.topic].topic_id,
        state.leader_epoch,
        state.partition_version,
        tuple((member, bench.epoch(member)) for member in (*state.isr, *members)),
    )
    [judged] = bench.run(
        bench.core.alter_partition(state.leader, bench.epoch(state.leader), [proposal])
    )
    assert judged.state == bench.zookeeper.states[tp]
    return judged.error


def deleted(bench: Bench, *brokers: int) -> None:
    """These brokers say that they have deleted what they were told to."""
    for broker_id in brokers:
        message = bench.message_to(broker_id)
        done = [(tp, topic_id) for tp, topic_id, _ in message.drops] + list(message.deletions)
        bench.run(bench.core.on_replicas_deleted(broker_id, done))


def writes(bench: Bench) -> list[str]:
    """What was written since the last look: states and topics."""
    kinds = {WriteStates: "state", UpdateTopicNode: "topic"}
    found = [kinds[type(command)] for command in bench.commands if type(command) in kinds]
    bench.commands.clear()
    return found


# --- from the beginning to the end ---------------------------------------------------------------


def test_all_replicas_move(bench: Bench) -> None:
    bench.commands.clear()
    assert reassign(bench, (3, 4)) is None
    assert writes(bench) == ["topic", "state"]
    assert assignment(bench) == Assignment((3, 4, 1, 2), adding=(3, 4), removing=(1, 2))
    assert bench.line() == "Leader=A Epoch=1 ISR={A,B}"
    told = bench.messages()
    assert {b: message.partitions[0].assignment for b, message in told.items()} == dict.fromkeys(
        range(1, 6), assignment(bench)
    )
    assert bench.core.reassignments() == {TP: assignment(bench)}

    assert join(bench, 3) is None
    assert bench.line() == "Leader=A Epoch=1 ISR={A,B,C}"
    assert all(not message.drops for message in bench.messages().values())
    writes(bench)

    assert join(bench, 4) is None
    assert writes(bench) == ["state", "state", "topic"]
    assert bench.line() == "Leader=C Epoch=2 ISR={C,D}"
    assert assignment(bench) == Assignment((3, 4), dropped=(1, 2))
    assert bench.core.reassignments() == {}
    messages = bench.messages()
    topic_id = bench.zookeeper.topics["t"].topic_id
    version = bench.zookeeper.states[TP].partition_version
    assert {b: message.drops for b, message in messages.items()} == {
        1: ((TP, topic_id, version),),
        2: ((TP, topic_id, version),),
        3: (),
        4: (),
        5: (),
    }
    assert all(x.partitions[0].assignment == Assignment((3, 4)) for x in messages.values())

    bench.run(bench.core.on_replicas_deleted(1, [(TP, topic_id)]))
    assert assignment(bench) == Assignment((3, 4), dropped=(2,))
    bench.run(bench.core.on_replicas_deleted(2, [(TP, topic_id)]))
    bench.run(bench.core.on_replicas_deleted(2, [(TP, topic_id)]))
    assert assignment(bench) == Assignment((3, 4))


def test_nobody_is_told_before_state_and_assignment_are_written(bench: Bench) -> None:
    reassign(bench, (3,))
    bench.messages()

    def look() -> None:
        assert bench.messages() == {}

    state = bench.zookeeper.states[TP]
    bench.injected = [None, lambda: bench.messages() and None, look]
    assert join(bench, 3) is None
    assert bench.zookeeper.states[TP].partition_version == state.partition_version + 2
    assert len(bench.messages()) == 5


def test_fewer_replicas_are_complete_at_once(bench: Bench) -> None:
    bench.commands.clear()
    assert reassign(bench, (2,)) is None
    assert writes(bench) == ["topic", "state", "topic"]
    assert bench.line() == "Leader=B Epoch=1 ISR={B}"
    assert assignment(bench) == Assignment((2,), dropped=(1,))
    deleted(bench, 1)
    assert assignment(bench) == Assignment((2,))


def test_another_order_is_told_with_a_new_epoch(bench: Bench) -> None:
    assert reassign(bench, (2, 1)) is None
    assert bench.line() == "Leader=A Epoch=1 ISR={A,B}"
    assert assignment(bench) == Assignment((2, 1))
    bench.commands.clear()
    assert reassign(bench, (2, 1)) is None
    assert writes(bench) == []


def test_a_partition_without_a_state_gets_one_where_it_goes(bench: Bench) -> None:
    bench.put_topic("new", [8])
    bench.elect()
    tp = TopicPartition("new", 0)
    assert tp not in bench.zookeeper.states
    assert reassign(bench, (3,), tp) is None
    assert bench.line("new") == "Leader=C Epoch=1 ISR={C}"
    assert assignment(bench, tp) == Assignment((3,), dropped=(8,))


def test_partitions_of_two_topics_move_in_one_request(bench: Bench) -> None:
    bench.create("u", [1, 2], [1, 2])
    bench.commands.clear()
    one, other = TopicPartition("u", 0), TopicPartition("u", 1)
    results = bench.run(
        bench.core.alter_partition_reassignments(
            {TP: (2,), one: (2,), other: (1, 3), TopicPartition("u", 7): (1,)}
        )
    )
    assert [(name, error and error.name) for name, error in results] == [
        (TP, None),
        (one, None),
        (other, None),
        (TopicPartition("u", 7), "UNKNOWN_TOPIC_OR_PARTITION"),
    ]
    assert writes(bench) == ["topic", "topic", "state", "state", "topic", "topic"]
    assert (bench.line("u", 0), bench.line("u", 1)) == (
        "Leader=B Epoch=1 ISR={B}",
        "Leader=A Epoch=1 ISR={A,B}",
    )


# --- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [(), (1, 1), (-1,), (1, 9)])
def test_a_target_that_cannot_be_is_refused(bench: Bench, target: tuple[int, ...]) -> None:
    bench.commands.clear()
    assert isinstance(reassign(bench, target), InvalidReplicaAssignmentError)
    assert writes(bench) == []


def test_who_shuts_down_takes_no_new_replicas(bench: Bench) -> None:
    bench.run(bench.core.on_controlled_shutdown(3, bench.epoch(3)))
    assert isinstance(reassign(bench, (1, 3)), InvalidReplicaAssignmentError)


def test_the_disk_that_failed_under_a_log_that_is_deleted_is_forgotten(bench: Bench) -> None:
    topic_id = bench.zookeeper.topics["t"].topic_id
    bench.run(bench.core.on_failed_replicas(2, bench.epoch(2), [(TP, topic_id)]))
    assert reassign(bench, (1,)) is None
    assert isinstance(join(bench, 2), IneligibleReplicaError)
    assert assignment(bench) == Assignment((1,), dropped=(2,))
    deleted(bench, 2)
    late = bench.run(bench.core.on_failed_replicas(2, bench.epoch(2), [(TP, topic_id)]))
    assert late == [(TP, None)]
    assert reassign(bench, (1, 2)) is None
    assert join(bench, 2) is None
    assert bench.zookeeper.states[TP].isr == (1, 2)


def test_a_dead_replica_may_stay_and_may_be_replaced(bench: Bench) -> None:
    bench.kill(2)
    bench.see_brokers()
    assert reassign(bench, (2, 1)) is None
    assert reassign(bench, (1, 3)) is None
    assert join(bench, 3) is None
    assert assignment(bench) == Assignment((1, 3), dropped=(2,))
    bench.messages()
    bench.register(2)
    bench.see_brokers()
    deleted(bench, 2)
    assert assignment(bench) == Assignment((1, 3))


def test_what_is_not_under_way_cannot_be_cancelled(bench: Bench) -> None:
    assert isinstance(reassign(bench, None), NoReassignmentInProgressError)


def test_a_topic_that_is_being_deleted_cannot_be_reassigned(bench: Bench) -> None:
    bench.run(bench.core.delete_topics(["t"]))
    assert isinstance(reassign(bench, (3,)), UnknownTopicOrPartitionError)


def test_a_topic_that_vanishes_meanwhile_is_not_reassigned(bench: Bench) -> None:
    bench.injected = [WriteOutcome.CONFLICT]
    assert isinstance(reassign(bench, (3,)), UnknownTopicOrPartitionError)
    assert bench.core.context.topics["t"].assignments[0] == Assignment((1, 2))


# --- cancelled and replaced ----------------------------------------------------------------------


def test_a_cancelled_one_leaves_everything_as_it_was(bench: Bench) -> None:
    reassign(bench, (3, 4))
    join(bench, 3)
    assert reassign(bench, None) is None
    assert bench.line() == "Leader=A Epoch=2 ISR={A,B}"
    assert assignment(bench) == Assignment((1, 2), dropped=(3, 4))
    assert isinstance(join(bench, 3), IneligibleReplicaError)
    deleted(bench, 3, 4)
    assert assignment(bench) == Assignment((1, 2))


def test_who_is_needed_stays_until_others_are_in_sync_and_is_not_let_in_again(
    bench: Bench,
) -> None:
    bench.min_insync = 2
    reassign(bench, (3, 4))
    join(bench, 3)
    bench.kill(2)
    bench.see_brokers()
    assert reassign(bench, None) is None
    assert assignment(bench) == Assignment((1, 2, 3), adding=(3,), removing=(3,), dropped=(4,))
    assert bench.line() == "Leader=A Epoch=3 ISR={A,C}"
    bench.register(3)
    bench.see_brokers()
    assert bench.line() == "Leader=A Epoch=5 ISR={A}"
    assert assignment(bench).in_progress is False


def test_a_member_that_is_not_wanted_any_more_cannot_come_back(bench: Bench) -> None:
    bench.min_insync = 2
    reassign(bench, (3, 4))
    join(bench, 3, 4)
    # As it is in ZooKeeper for a moment: not wanted, and not yet gone.
    topic = bench.core.context.topics["t"]
    cancelled = Assignment((3, 4, 5), adding=(5,), removing=(5,))
    bench.core.context.topics["t"] = type(topic)("t", topic.topic_id, {0: cancelled})
    error = join(bench, 5)
    assert isinstance(error, IneligibleReplicaError)
    assert "cancelled" in str(error)


def test_min_insync_that_falls_lets_go_of_whom_it_kept(bench: Bench) -> None:
    bench.min_insync = 2
    reassign(bench, (3,))
    bench.kill(2)
    bench.see_brokers()
    reassign(bench, (4, 3))
    join(bench, 3)
    reassign(bench, None)
    assert assignment(bench).in_progress
    bench.min_insync = 1
    bench.run(bench.core.on_configs())
    assert not assignment(bench).in_progress


def test_who_is_wanted_again_is_not_told_to_go(bench: Bench) -> None:
    reassign(bench, (1,))
    waiting = bench.message_to(2)
    assert waiting.drops
    bench.core.outbox.put_back(waiting)
    reassign(bench, (1, 2))
    assert assignment(bench) == Assignment((1, 2), adding=(2,))
    assert bench.message_to(2).drops == ()
    bench.core.outbox.put_back(waiting)
    assert bench.message_to(2).drops != ()  # nothing newer waits: the broker looks at its version
    bench.run(bench.core.on_replicas_deleted(2, [(TP, bench.zookeeper.topics["t"].topic_id)]))
    assert assignment(bench) == Assignment((1, 2), adding=(2,))


def test_an_old_answer_is_not_taken_for_that_to_a_newer_drop(bench: Bench) -> None:
    topic_id = bench.zookeeper.topics["t"].topic_id
    reassign(bench, (1,))
    bench.messages()
    reassign(bench, (1, 2))
    bench.messages()
    reassign(bench, (1,))
    bench.run(bench.core.on_replicas_deleted(2, [(TP, topic_id)]))
    assert assignment(bench) == Assignment((1,), dropped=(2,))
    deleted(bench, 2)
    assert assignment(bench) == Assignment((1,))


# --- resumed -------------------------------------------------------------------------------------


def test_another_controller_announces_what_was_only_written_to_the_topic(bench: Bench) -> None:
    bench.injected = [None, [WriteOutcome.DEPOSED]]
    with pytest.raises(DeposedError):
        reassign(bench, (3, 4))
    assert bench.zookeeper.states[TP].leader_epoch == 0
    bench.elect()
    assert bench.line() == "Leader=A Epoch=1 ISR={A,B}"
    message = bench.message_to(3)
    assert message.partitions[0].assignment == Assignment((3, 4, 1, 2), (3, 4), (1, 2))


def test_another_controller_finishes_what_was_only_written_to_the_state(bench: Bench) -> None:
    reassign(bench, (3, 4))
    join(bench, 3)
    bench.injected = [None, None, WriteOutcome.DEPOSED]
    with pytest.raises(DeposedError):
        join(bench, 4)
    assert bench.zookeeper.states[TP].isr == (3, 4)
    assert bench.zookeeper.topics["t"].assignments[0].in_progress
    bench.elect()
    assert bench.line() == "Leader=C Epoch=3 ISR={C,D}"
    assert assignment(bench) == Assignment((3, 4), dropped=(1, 2))
    deleted(bench, 1, 2)
    assert assignment(bench) == Assignment((3, 4))


def test_another_controller_goes_back_where_the_target_has_failed_since(bench: Bench) -> None:
    """The State was shrunk and the topic not: nobody had to delete anything yet."""
    reassign(bench, (3, 4))
    join(bench, 3)
    bench.injected = [None, None, WriteOutcome.DEPOSED]
    with pytest.raises(DeposedError):
        join(bench, 4)
    bench.kill(4)
    bench.elect()
    assert bench.line() == "Leader=C Epoch=3 ISR={C}"
    assert assignment(bench).in_progress
    assert all(not message.drops for message in bench.messages().values())
    assert join(bench, 1, 2) is None


def test_another_controller_asks_again_for_what_was_not_deleted(bench: Bench) -> None:
    reassign(bench, (1,))
    bench.elect()
    deleted(bench, 2)
    assert assignment(bench) == Assignment((1,))


def test_a_conflict_is_read_again_and_decided_again(bench: Bench) -> None:
    reassign(bench, (3, 4))
    join(bench, 3)
    bench.injected = [None, [WriteOutcome.CONFLICT]]
    assert join(bench, 4) is None
    assert bench.line() == "Leader=C Epoch=2 ISR={C,D}"
    assert assignment(bench) == Assignment((3, 4), dropped=(1, 2))


def test_a_write_that_was_applied_after_all_is_not_repeated(bench: Bench) -> None:
    def applied() -> list[WriteOutcome]:
        change = bench.commands[-1].changes[0]  # type: ignore[union-attr]
        bench._write(change, bench.core.context.controller_epoch)
        return [WriteOutcome.CONFLICT]

    reassign(bench, (3, 4))
    bench.injected = [None, applied]
    join(bench, 3, 4)
    assert bench.line() == "Leader=C Epoch=2 ISR={C,D}"
    assert assignment(bench) == Assignment((3, 4), dropped=(1, 2))


def test_a_state_that_vanishes_under_a_conflict_is_left_alone(bench: Bench) -> None:
    def vanish() -> list[WriteOutcome]:
        del bench.zookeeper.states[TP]
        return [WriteOutcome.CONFLICT]

    reassign(bench, (3, 4))
    bench.injected = [None, vanish]
    join_error = None
    state = bench.zookeeper.states[TP]
    proposal = IsrProposal(
        TP,
        bench.zookeeper.topics["t"].topic_id,
        state.leader_epoch,
        state.partition_version,
        tuple((member, bench.epoch(member)) for member in (*state.isr, 3, 4)),
    )
    [judged] = bench.run(bench.core.alter_partition(1, bench.epoch(1), [proposal]))
    join_error = judged.error
    assert join_error is None
    assert TP not in bench.zookeeper.states
    assert assignment(bench).in_progress


# --- beside other things -------------------------------------------------------------------------


def test_the_automatic_rebalance_leaves_it_alone(bench: Bench) -> None:
    reassign(bench, (3, 4))
    join(bench, 3)
    assert bench.run(bench.core.rebalance(0)) == 0


def test_an_election_that_completes_the_target_ends_it(bench: Bench) -> None:
    bench.kill(2)
    bench.see_brokers()
    reassign(bench, (2,))
    bench.kill(1)
    bench.see_brokers()
    bench.register(2)
    bench.see_brokers()
    [(_, error)] = bench.run(bench.core.elect_leaders([TP], unclean=True))
    assert error is None
    assert assignment(bench) == Assignment((2,), dropped=(1,))


def test_a_topic_that_is_deleted_in_the_middle_goes_from_all_its_brokers(bench: Bench) -> None:
    reassign(bench, (1, 3))
    join(bench, 3)
    reassign(bench, (4,))
    assert assignment(bench) == Assignment((4, 1, 3), adding=(4,), removing=(1, 3), dropped=(2,))
    bench.messages()
    bench.run(bench.core.delete_topics(["t"]))
    topic_id = bench.zookeeper.topics["t"].topic_id
    asked = {b for b, message in bench.messages().items() if message.deletions == ((TP, topic_id),)}
    assert asked == {1, 2, 3, 4}
    for broker_id in sorted(asked):
        assert "t" in bench.zookeeper.topics
        bench.run(bench.core.on_replicas_deleted(broker_id, [(TP, topic_id)]))
    assert "t" not in bench.zookeeper.topics


def test_a_topic_grows_again_when_it_is_over_although_a_log_is_left(bench: Bench) -> None:
    bench.kill(2)
    bench.see_brokers()
    reassign(bench, (1,))
    assert assignment(bench) == Assignment((1,), dropped=(2,))
    assert bench.run(bench.core.create_partitions("t", 2, [])) == [("t", None)]
    assert assignment(bench) == Assignment((1,), dropped=(2,))


def test_a_new_replica_leads_against_the_rule_only_once_it_knows(bench: Bench) -> None:
    """It may still be about to delete the log that it had when it was dropped before."""
    bench.unclean_topics.add("t")
    bench.kill(1)
    bench.kill(2)
    bench.see_brokers()
    bench.messages()
    reassign(bench, (3,))
    assert bench.line().startswith("Leader=none")
    assert bench.core.awaits_word
    [(_, refused)] = bench.run(bench.core.elect_leaders([TP], unclean=True))
    assert isinstance(refused, EligibleLeadersNotAvailableError)
    assert str(refused) == "t-0: C: not told yet: try again"
    [(_, refused)] = bench.run(bench.core.elect_leaders([TP], unclean=False))
    assert isinstance(refused, PreferredLeaderNotAvailableError)

    message = bench.message_to(3)
    bench.run(bench.core.on_word())
    assert bench.line().startswith("Leader=none")
    bench.core.outbox.acknowledge(message)
    bench.run(bench.core.on_word())
    assert bench.line() == "Leader=C Epoch=4 ISR={C}"
    assert assignment(bench) == Assignment((3,), dropped=(1, 2))
    assert not bench.core.awaits_word
