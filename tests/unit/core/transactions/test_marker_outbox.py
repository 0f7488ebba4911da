"""core/transactions/marker_outbox.py and markers.py: both ends of the way of a marker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minikafka.core.transactions.marker_outbox import (
    Confirmed,
    How,
    MarkerOutbox,
    SendMessage,
    Shard,
    ShardFenced,
)
from minikafka.core.transactions.markers import (
    Deleted,
    Incarnation,
    Leader,
    MarkerEntry,
    MarkerFilter,
    MarkerMessage,
    Nowhere,
    is_for_leadership,
)
from minikafka.core.transactions.values import Marker
from minikafka.errors import (
    InvalidProducerEpochError,
    NotLeaderOrFollowerError,
    TransactionCoordinatorFencedError,
)
from minikafka.model import TopicPartition

OWN = Incarnation(1, 10)
X, Y = Incarnation(2, 20), Incarnation(3, 30)
A, B, C = (TopicPartition("t", number) for number in range(3))
SHARD, OTHER = Shard(0, 1), Shard(1, 1)
MARKER, LATER = Marker("id", 7, 1, True, True), Marker("id", 7, 2, False, True)
ELSEWHERE = Marker("other", 8, 1, True, True)
MOVED = NotLeaderOrFollowerError("it moved")


class Bench:
    def __init__(self, max_message_bytes: int = 10_000) -> None:
        self.outbox = MarkerOutbox(OWN, max_message_bytes)
        self.outbox.open(SHARD, 5)
        self.leaders = {A: Leader(X, 3), B: Leader(X, 4), C: Leader(Y, 0)}

    def route(self, partition: TopicPartition):
        return self.leaders[partition]

    def add(self, *partitions: TopicPartition, marker: Marker = MARKER, shard=SHARD, now_ms=0):
        return self.outbox.add(shard, marker, partitions, now_ms, self.route)

    def answer(self, message: MarkerMessage, now_ms: int = 0, **errors):
        """All is written, but for the partitions that are named."""
        outcomes = {
            (each.marker.producer_id, each.partition): errors.get("abc"[each.partition.partition])
            for each in message.entries
        }
        return self.outbox.on_answer(message.target, message.number, outcomes, now_ms, self.route)

    def lose(self, message: MarkerMessage, now_ms: int = 0):
        return self.outbox.on_lost(message.target, message.number, now_ms, self.route)

    def pass_to(self, now_ms: int):
        return self.outbox.on_time(now_ms, self.route)


def entry(partition: TopicPartition, leader_epoch: int, marker: Marker = MARKER) -> MarkerEntry:
    return MarkerEntry(marker, partition, leader_epoch, 5)


def confirmed(partition: TopicPartition, how: How = How.WRITTEN, marker=MARKER) -> Confirmed:
    return Confirmed(SHARD, marker.transactional_id, partition, how)


def messages(effects) -> list[MarkerMessage]:
    return [each.message for each in effects if isinstance(each, SendMessage)]


def test_to_each_leader_goes_one_message() -> None:
    bench = Bench()
    to_x = MarkerMessage(OWN, X, 1, (entry(A, 3), entry(B, 4)))
    to_y = MarkerMessage(OWN, Y, 2, (entry(C, 0),))
    assert bench.add(A, B, C) == [SendMessage(to_x), SendMessage(to_y)]
    assert bench.answer(to_x) == [confirmed(A), confirmed(B)]
    assert bench.answer(to_y) == [confirmed(C)]
    assert bench.outbox.next_deadline_ms() is None


def test_what_comes_while_one_is_under_way_goes_together_with_the_next() -> None:
    bench = Bench()
    [first] = messages(bench.add(A))
    assert bench.add(B) == []
    assert bench.add(A, marker=ELSEWHERE) == []
    bench.outbox.open(SHARD, 6)  # the epoch moved under the same leader
    *done, sent = bench.answer(first)
    assert done == [confirmed(A)]
    assert sent.message.number == 2
    assert sent.message.entries == (
        replace(entry(B, 4), coordinator_epoch=6),
        replace(entry(A, 3, ELSEWHERE), coordinator_epoch=6),
    )


def test_a_message_has_a_bounded_size() -> None:
    size_bytes = 64 + len("id") + len("t")
    bench = Bench(2 * size_bytes)
    bench.leaders[C] = Leader(X, 0)
    [first] = messages(bench.add(A, B, C))
    assert [each.partition for each in first.entries] == [A, B]
    [second] = messages(bench.answer(first))
    assert [each.partition for each in second.entries] == [C]
    bench = Bench(1)
    [first] = messages(bench.add(A, B))
    [second] = messages(bench.answer(first))
    assert [len(each.entries) for each in (first, second)] == [1, 1]


def test_an_answer_that_comes_after_all_counts_for_nothing() -> None:
    """What the later copy will do, nobody knows yet: it has not been answered."""
    bench = Bench()
    [first] = messages(bench.add(A))
    assert bench.lose(first) == []
    [again] = messages(bench.pass_to(20))
    assert again == replace(first, number=2)
    assert bench.answer(first) == []
    assert bench.lose(first) == []
    assert bench.answer(again) == [confirmed(A)]
    assert bench.answer(again) == []


def test_it_is_tried_for_ever_ever_more_slowly() -> None:
    bench = Bench()
    now_ms = 0
    delays = []
    effects = bench.add(A)
    for _ in range(40):
        [message] = messages(effects)
        assert bench.answer(message, now_ms, a=MOVED) == []
        due_ms = bench.outbox.next_deadline_ms()
        delays.append(due_ms - now_ms)
        assert bench.pass_to(due_ms - 1) == []
        now_ms = due_ms
        effects = bench.pass_to(now_ms)
    assert delays[:8] == [20, 40, 80, 160, 320, 640, 1_000, 1_000]
    assert set(delays[8:]) == {1_000}


def test_the_leader_is_looked_up_anew() -> None:
    bench = Bench()
    [first] = messages(bench.add(A))
    bench.answer(first, a=MOVED)
    bench.leaders[A] = Leader(Y, 4)
    assert bench.pass_to(20) == [SendMessage(MarkerMessage(OWN, Y, 2, (entry(A, 4),)))]


def test_also_of_what_waited_behind_a_message() -> None:
    bench = Bench()
    [first] = messages(bench.add(A))
    bench.add(B)
    bench.leaders[B] = Leader(Y, 9)
    [to_y] = messages(bench.answer(first))
    assert to_y == MarkerMessage(OWN, Y, 2, (entry(B, 9),))
    bench.add(A)
    bench.leaders[A] = Leader(X, 7)
    bench.add(B)  # behind the one to Y
    assert messages(bench.answer(to_y)) == [MarkerMessage(OWN, Y, 4, (entry(B, 9),))]


def test_without_a_leader_it_waits_and_without_a_topic_it_is_done() -> None:
    bench = Bench()
    bench.leaders[A] = Nowhere()
    assert bench.add(A) == []
    assert bench.outbox.next_deadline_ms() == 20
    bench.leaders[A] = Deleted()
    assert bench.pass_to(20) == [confirmed(A, How.DELETED)]
    [message] = messages(bench.add(B))
    bench.add(B, marker=ELSEWHERE)
    bench.leaders[B] = Deleted()
    assert bench.answer(message) == [confirmed(B), confirmed(B, How.DELETED, ELSEWHERE)]


def test_a_partition_that_is_past_the_epoch_needs_no_marker() -> None:
    bench = Bench()
    [message] = messages(bench.add(A))
    error = InvalidProducerEpochError("it is past that")
    assert bench.answer(message, a=error) == [confirmed(A, How.PAST)]


def test_the_marker_is_known_that_has_waited_longest() -> None:
    bench = Bench()
    assert bench.outbox.oldest_since_ms() is None
    bench.leaders[C] = Nowhere()
    bench.add(C, now_ms=3)
    [message] = messages(bench.add(A, now_ms=5))
    bench.add(B, now_ms=7)
    assert bench.outbox.oldest_since_ms() == 3
    bench.leaders[C] = Deleted()
    bench.pass_to(23)
    assert bench.outbox.oldest_since_ms() == 5
    bench.answer(message)
    assert bench.outbox.oldest_since_ms() == 7
    bench.outbox.close(SHARD)
    assert bench.outbox.oldest_since_ms() is None


def test_where_a_later_coordinator_is_known_this_one_ends() -> None:
    bench = Bench()
    bench.outbox.open(OTHER, 2)
    [message] = messages(bench.add(A, B))
    bench.outbox.add(OTHER, ELSEWHERE, [A], 0, bench.route)
    fenced = TransactionCoordinatorFencedError("a later one")
    ended, sent = bench.answer(message, a=fenced, b=fenced)
    assert ended == ShardFenced(SHARD)
    assert [each.marker for each in sent.message.entries] == [ELSEWHERE]


def test_of_a_coordinator_that_has_ended_nothing_is_confirmed() -> None:
    bench = Bench()
    [message] = messages(bench.add(A))
    bench.add(B)
    bench.leaders[C] = Nowhere()
    bench.add(C)
    bench.outbox.close(SHARD)
    bench.outbox.close(SHARD)
    bench.outbox.open(Shard(0, 2), 6)  # it leads again, and has read everything anew
    assert bench.answer(message) == []
    assert bench.pass_to(20) == []
    assert bench.outbox.next_deadline_ms() is None


def test_what_an_answer_does_not_speak_of_is_sent_again() -> None:
    bench = Bench()
    [message] = messages(bench.add(A))
    assert bench.outbox.on_answer(X, message.number, {}, 0, bench.route) == []
    assert bench.outbox.next_deadline_ms() == 20


def test_a_later_transaction_goes_the_same_way() -> None:
    bench = Bench()
    [first] = messages(bench.add(A))
    bench.answer(first)
    assert bench.add(A, marker=LATER) == [
        SendMessage(MarkerMessage(OWN, X, 2, (entry(A, 3, LATER),)))
    ]


# --- the receiving end ---------------------------------------------------------------------------


def message(number: int, sender: Incarnation = OWN, target: Incarnation = X) -> MarkerMessage:
    return MarkerMessage(sender, target, number, ())


def test_a_number_that_is_not_above_the_last_is_dropped() -> None:
    takes = MarkerFilter(X).takes
    assert takes(message(2))
    assert not takes(message(2))
    assert not takes(message(1))
    assert takes(message(3))


def test_a_message_for_another_incarnation_is_dropped() -> None:
    takes = MarkerFilter(X).takes
    assert not takes(message(1, target=Incarnation(2, 19)))
    assert not takes(message(1, target=Incarnation(2, 21)))
    assert takes(message(1))


def test_an_older_incarnation_of_a_sender_is_dropped_and_a_newer_one_counts_anew() -> None:
    takes = MarkerFilter(X).takes
    assert takes(message(5))
    assert takes(message(1, Incarnation(1, 11)))
    assert not takes(message(9))
    assert takes(message(1, Incarnation(4, 2)))


@pytest.mark.parametrize(("leader_epoch", "taken"), [(2, False), (3, True), (4, True)])
def test_what_was_sent_to_an_earlier_leadership_is_not_for_this_one(
    leader_epoch: int, taken: bool
) -> None:
    """A bump of the epoch under the same leader begins no leadership."""
    assert is_for_leadership(entry(A, leader_epoch), 3) is taken
