"""What waits for each broker, merged."""

from __future__ import annotations

import pytest

from minikafka.core.control.outbox import Outbox, UpdateStateBatch
from minikafka.model import Assignment, PartitionMetadata, PartitionState, TopicPartition
from tests.helpers.controller_bench import broker

TP = TopicPartition("t", 0)
A = broker(1, 10)
B = broker(2, 20)


def told(version: int, topic_id: str = "id", tp: TopicPartition = TP) -> PartitionMetadata:
    return PartitionMetadata(tp, topic_id, Assignment((1,)), PartitionState(1, 0, (1,), 1, version))


def outbox() -> Outbox:
    box = Outbox()
    box.open(A)
    box.open(B)
    for known in (A, B):
        box.take(known.broker_id, known.broker_epoch)
    return box


def test_a_new_broker_is_told_even_if_there_is_nothing_but_who_lives() -> None:
    box = Outbox()
    box.open(A)
    assert box.take(1, 10) == UpdateStateBatch(A, full=True)
    assert box.take(1, 10) is None


def test_a_first_message_that_failed_still_names_everything_there_is() -> None:
    box = Outbox()
    box.open(A)
    box.put_state(told(1))
    first = box.take(1, 10)
    assert first == UpdateStateBatch(A, (told(1),), full=True)
    box.put_state(told(1, tp=TopicPartition("u", 0)))
    box.put_back(first)
    assert box.take(1, 10) == UpdateStateBatch(
        A, (told(1), told(1, tp=TopicPartition("u", 0))), full=True
    )


def test_states_wait_in_order_and_the_newest_replaces_older_ones() -> None:
    box = outbox()
    other = told(3, tp=TopicPartition("a", 1))
    box.put_state(told(1))
    box.put_state(other)
    box.put_state(told(2), to=[1, 9])
    assert box.take(1, 10) == UpdateStateBatch(A, (other, told(2)))
    assert box.take(2, 20) == UpdateStateBatch(B, (other, told(1)))


def test_an_older_state_after_a_newer_one_is_a_bug() -> None:
    box = outbox()
    box.put_state(told(2))
    with pytest.raises(AssertionError, match="older State"):
        box.put_state(told(1))
    box.put_state(told(0, topic_id="made again"))


def test_a_message_is_for_one_incarnation() -> None:
    box = outbox()
    box.put_state(told(1))
    assert box.take(1, 9) is None
    assert box.take(3, 30) is None
    box.open(broker(1, 11))
    assert box.take(1, 10) is None
    assert box.take(1, 11) == UpdateStateBatch(broker(1, 11), full=True)


def test_who_is_gone_is_told_nothing() -> None:
    box = outbox()
    box.close(1)
    box.close(1)
    box.put_deletion(1, TP, "id")
    assert box.take(1, 10) is None
    assert box.brokers() == {2: B}


def test_an_announcement_reaches_everybody() -> None:
    box = outbox()
    box.announce()
    assert (box.take(1, 10), box.take(2, 20)) == (UpdateStateBatch(A), UpdateStateBatch(B))


def test_a_topic_to_forget_takes_its_waiting_states_along() -> None:
    box = outbox()
    kept = told(0, topic_id="id", tp=TopicPartition("other", 0))
    box.put_state(told(1))
    box.put_state(told(0, topic_id="made again", tp=TopicPartition("t", 1)))
    box.put_state(kept)
    box.put_deletion(1, TP, "id")
    box.put_deleted_topic("t", "id", to=[1])
    message = box.take(1, 10)
    assert message is not None
    assert [m.topic_partition for m in message.partitions] == [
        TopicPartition("other", 0),
        TopicPartition("t", 1),
    ]
    assert message.deletions == ((TP, "id"),)
    assert message.deleted_topics == (("t", "id"),)


def test_a_message_that_failed_waits_again_beneath_what_is_newer() -> None:
    box = outbox()
    other = TopicPartition("u", 0)
    for metadata in (
        told(1),
        told(1, tp=other),
        told(1, topic_id="gone", tp=TopicPartition("g", 0)),
    ):
        box.put_state(metadata)
    box.put_deletion(1, TP, "old")
    box.put_deleted_topic("t", "old")
    failed = box.take(1, 10)
    assert failed is not None
    box.put_state(told(2))
    box.put_deletion(1, other, "older")
    box.put_deleted_topic("g", "gone")
    box.put_back(failed)
    assert box.take(1, 10) == UpdateStateBatch(
        A,
        (told(2), told(1, tp=other)),
        ((TP, "old"), (other, "older")),
        (("t", "old"), ("g", "gone")),
    )


def test_a_message_to_an_incarnation_that_is_over_is_dropped() -> None:
    box = outbox()
    box.put_state(told(1))
    failed = box.take(1, 10)
    assert failed is not None
    box.open(broker(1, 11))
    box.take(1, 11)
    box.put_back(failed)
    assert box.take(1, 11) is None
    box.close(1)
    box.put_back(failed)
    assert box.take(1, 10) is None


# --- drops ---------------------------------------------------------------------------------------


def elsewhere(version: int) -> PartitionMetadata:
    """The partition is on C alone."""
    state = PartitionState(3, 0, (3,), 1, version)
    return PartitionMetadata(TP, "id", Assignment((3,)), state)


def test_a_drop_holds_for_the_newest_state_that_is_told_with_it() -> None:
    box = outbox()
    box.put_drop(1, elsewhere(4))
    box.put_drop(9, elsewhere(4))
    assert box.is_to_go(1, TP, "id")
    assert not box.is_to_go(2, TP, "id")
    box.put_state(elsewhere(6))
    assert box.take(1, 10) == UpdateStateBatch(A, (elsewhere(6),), drops=((TP, "id", 6),))
    assert not box.is_to_go(1, TP, "id")
    assert box.take(2, 20) == UpdateStateBatch(B, (elsewhere(6),))


def test_a_drop_that_was_not_done_waits_again_for_newer_states_too() -> None:
    box = outbox()
    box.put_drop(1, elsewhere(4))
    message = box.take(1, 10)
    assert message is not None
    box.put_state(elsewhere(5))
    box.put_back(message)
    assert box.take(1, 10) == UpdateStateBatch(A, (elsewhere(5),), drops=((TP, "id", 5),))


def test_a_drop_is_void_once_the_replica_is_wanted_again() -> None:
    box = outbox()
    box.put_drop(1, elsewhere(4))
    box.put_state(told(5))
    assert box.take(1, 10) == UpdateStateBatch(A, (told(5),))
    box.put_drop(1, elsewhere(6))
    message = box.take(1, 10)
    assert message is not None
    box.put_state(told(7))
    box.put_back(message)
    assert box.take(1, 10) == UpdateStateBatch(A, (told(7),))


def test_a_replica_that_a_state_counts_on_is_never_dropped() -> None:
    box = outbox()
    with pytest.raises(AssertionError, match="Assignment"):
        box.put_drop(1, told(3))


def test_a_state_is_heard_when_the_message_with_it_is_acknowledged() -> None:
    box = outbox()
    other = TopicPartition("u", 0)
    assert not box.has_heard(1, TP), "its first message is on its way"
    box.open(A)
    assert not box.has_heard(1, TP)
    first = box.take(1, 10)
    assert first is not None
    box.acknowledge(first)
    assert box.has_heard(1, TP)
    assert not box.has_heard(9, TP)

    box.put_state(told(1))
    assert not box.has_heard(1, TP)
    message = box.take(1, 10)
    assert message is not None
    assert not box.has_heard(1, TP)
    assert box.has_heard(1, other)
    box.acknowledge(first)
    assert not box.has_heard(1, TP), "that was another message"
    box.put_back(message)
    assert not box.has_heard(1, TP)
    again = box.take(1, 10)
    assert again is not None
    box.acknowledge(again)
    assert box.has_heard(1, TP)
    box.close(1)
    box.acknowledge(again)
