"""Counting whom ZooKeeper woke when the controller changed."""

from __future__ import annotations

import pytest

from minikafka.broker.control.takeover import TakeoverCount, WakeupCounter, describe_takeover
from minikafka.broker.ports import ControllerElection, Takeover

NAMES = {1: "A", 2: "B"}
ELECTION = ControllerElection(True, 2, 4, ahead=0, candidates=4)


def test_a_controller_hears_of_the_wakeups_since_the_one_before_it_however_often_it_asks():
    counter = WakeupCounter()
    counter.woken()
    counter.woken()
    assert [counter.tell(3), counter.tell(3)] == [2, 2]
    counter.woken()
    assert counter.tell(3) == 2
    assert counter.tell(2) == 0, "a controller of the past"
    assert counter.tell(4) == 1
    assert counter.tell(5) == 0


def test_a_wakeup_after_which_the_same_controller_was_found_does_not_count():
    counter = WakeupCounter()
    counter.woken()
    assert counter.tell(3) == 1
    counter.woken()
    counter.still_is(3)
    assert counter.tell(4) == 0
    counter.woken()
    counter.still_is(5)
    assert counter.tell(5) == 1, "it had not spoken when it was found"


def test_the_count_is_finished_once_when_every_live_broker_has_answered():
    count = TakeoverCount(2, ELECTION, (1, "A"))
    assert count.finish([]) is None
    assert count.on_answer(2, 1)
    assert not count.on_answer(2, 0), "the first answer counts"
    assert count.finish([2, 3, 4]) is None
    count.on_answer(3, 0)
    assert count.finish([2, 3]) == Takeover(1, 2, 4, woken=1, waiting=4, previous_name="A")
    assert count.finish([2, 3]) is None
    assert not count.on_answer(4, 1)


@pytest.mark.parametrize(
    ("takeover", "line"),
    [
        (
            Takeover(1, 2, 4, 1, 4, "A"),
            "controller moved from A to B, controller epoch 4, woke 1 of 4 waiting brokers",
        ),
        (
            Takeover(-1, 2, 1, 0, 1),
            "controller is B, controller epoch 1, woke 0 of 1 waiting broker",
        ),
        (
            Takeover(7, 8, 2, 3, 3, "A"),
            "controller moved from A to 8, controller epoch 2, woke 3 of 3 waiting brokers",
        ),
    ],
)
def test_a_takeover_is_told_in_a_line(takeover, line):
    assert describe_takeover(takeover, NAMES) == line
