"""Which transactions are not stable yet: by example, and against one list that is sorted anew for
every question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.core.replication.unstable import UnstableTransactions


def test_nothing_is_unstable_at_first():
    unstable = UnstableTransactions()
    assert (unstable.first(), unstable.first_open(), len(unstable)) == (None, None, 0)


def test_the_first_that_is_open_is_the_first():
    unstable = UnstableTransactions()
    unstable.open(3)
    unstable.open(5)
    assert (unstable.first(), unstable.first_open(), unstable.ended()) == (3, 3, [])


def test_what_has_a_marker_is_unstable_until_that_is_committed():
    unstable = UnstableTransactions()
    unstable.open(3)
    unstable.open(5)
    unstable.end(3, 8)
    assert (unstable.first(), unstable.first_open(), unstable.ended()) == (3, 5, [(3, 8)])
    unstable.settle(8)
    assert unstable.first() == 3
    unstable.settle(9)
    assert (unstable.first(), unstable.ended()) == (5, [])
    unstable.end(5, 9)
    unstable.settle(10)
    assert (unstable.first(), unstable.first_open(), len(unstable)) == (None, None, 0)


def test_what_began_later_may_be_stable_earlier():
    unstable = UnstableTransactions()
    unstable.open(3)
    unstable.open(5)
    unstable.end(5, 6)
    unstable.settle(7)
    assert (unstable.first(), unstable.first_open(), len(unstable)) == (3, 3, 1)


def test_they_are_restored_in_any_order():
    unstable = UnstableTransactions()
    unstable.open(9)
    unstable.open(3)
    unstable.open(6)
    unstable.check()
    assert (unstable.first(), unstable.first_open()) == (3, 3)
    unstable.end(3, 10)
    assert unstable.first_open() == 6


def test_two_are_equal_if_the_same_transactions_are_unstable_in_them():
    one, other = UnstableTransactions(), UnstableTransactions()
    one.open(3)
    assert one != other
    other.open(3)
    assert one == other
    one.end(3, 4)
    assert one != other
    assert one != 3


def test_a_transaction_begins_and_ends_once():
    unstable = UnstableTransactions()
    unstable.open(3)
    with pytest.raises(AssertionError):
        unstable.open(3)
    unstable.end(3, 4)
    with pytest.raises(AssertionError):
        unstable.end(3, 5)


@given(st.lists(st.tuples(st.sampled_from(["open", "end", "settle"]), st.integers(0, 5))))
def test_it_agrees_with_a_list(acts):
    unstable = UnstableTransactions()
    open_: list[int] = []
    ended: list[tuple[int, int]] = []  # first offset, marker
    end = high_watermark = 0
    for act, number in acts:
        if act == "open":
            unstable.open(end)
            open_.append(end)
            end += 1
        elif act == "end" and open_:
            first = open_.pop(number % len(open_))
            unstable.end(first, end)
            ended.append((first, end))
            end += 1
        elif act == "settle":
            high_watermark = min(end, high_watermark + number)
            unstable.settle(high_watermark)
            ended = [each for each in ended if each[1] >= high_watermark]
        unstable.check()
        everything = open_ + [first for first, _ in ended]
        assert unstable.first() == min(everything, default=None)
        assert unstable.first_open() == min(open_, default=None)
        assert unstable.ended() == ended
