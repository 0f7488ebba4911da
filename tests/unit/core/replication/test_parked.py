import pytest

from minikafka.core.replication.parked import ParkedProduces


def test_requests_are_settled_in_the_order_of_what_they_wait_for():
    parked = ParkedProduces()
    parked.park("second", 2)
    parked.park("third", 3)
    parked.park("first, again", 1)
    assert list(parked.settle_up_to(0)) == []
    assert list(parked.settle_up_to(2)) == ["first, again", "second"]
    assert parked.waiting() == [("third", 3)]


def test_who_was_given_up_is_not_settled_again():
    parked = ParkedProduces()
    for number in (1, 2, 3):
        parked.park(number, number)
    parked.give_up(2)
    assert len(parked) == 2
    assert list(parked.settle_up_to(2)) == [1]
    parked.give_up(3)
    assert parked.settle_all() == []
    assert len(parked) == 0


def test_who_was_given_up_at_the_head_leaves_no_trace_when_another_parks():
    parked = ParkedProduces()
    parked.park("given up", 1)
    parked.give_up("given up")
    parked.park("last", 1)
    assert parked.waiting() == [("last", 1)]
    assert parked.settle_all() == ["last"]
    assert parked.waiting() == []


def test_giving_up_who_does_not_wait_changes_nothing():
    parked = ParkedProduces()
    parked.park("one", 1)
    assert list(parked.settle_up_to(1)) == ["one"]
    parked.give_up("one")
    assert len(parked) == 0


def test_nobody_waits_for_what_is_committed_and_all_are_in_order():
    parked = ParkedProduces()
    parked.park("one", 1)
    parked.park("two", 2)
    parked.check(0)
    with pytest.raises(AssertionError):
        parked.check(1)
    parked._waiting = {"two": 2, "one": 1}
    with pytest.raises(AssertionError):
        parked.check(0)
