"""The token bucket of replication."""

from __future__ import annotations

from minikafka.config import UNTHROTTLED
from minikafka.core.replication.throttle import ReplicationThrottle


def test_without_a_rate_nothing_waits() -> None:
    throttle = ReplicationThrottle()
    throttle.on_bytes(10**12, 0)
    assert throttle.wait_ms(0) == 0


def test_a_seconds_worth_goes_at_once_and_then_the_rate_holds() -> None:
    throttle = ReplicationThrottle()
    throttle.set_rate(1_000, 5_000)
    throttle.on_bytes(999, 5_000)
    assert throttle.wait_ms(5_000) == 0
    throttle.on_bytes(1, 5_000)
    assert throttle.wait_ms(5_000) == 1
    assert throttle.wait_ms(5_001) == 0


def test_an_answer_that_takes_more_than_there_is_is_waited_for_afterwards() -> None:
    throttle = ReplicationThrottle()
    throttle.set_rate(1_000, 0)
    throttle.on_bytes(11_000, 0)
    assert throttle.wait_ms(0) == 10_001
    assert throttle.wait_ms(4_000) == 6_001
    assert throttle.wait_ms(10_000) == 1
    assert throttle.wait_ms(10_001) == 0


def test_no_more_than_a_second_is_saved_up() -> None:
    throttle = ReplicationThrottle()
    throttle.set_rate(1_000, 0)
    throttle.on_bytes(500, 0)
    throttle.on_bytes(2_000, 60_000)
    assert throttle.wait_ms(60_000) == 1_001


def test_on_average_the_rate_is_kept_whatever_the_size_of_the_answers() -> None:
    for size in (10, 999, 5_000):
        throttle = ReplicationThrottle()
        throttle.set_rate(1_000, 0)
        now_ms = copied = 0
        while now_ms < 100_000:
            now_ms += throttle.wait_ms(now_ms)
            throttle.on_bytes(size, now_ms)
            copied += size
        assert now_ms - size <= copied <= now_ms + 1_000 + size


def test_a_change_of_the_rate_counts_from_then_on() -> None:
    throttle = ReplicationThrottle()
    throttle.set_rate(1_000, 0)
    throttle.on_bytes(11_000, 0)
    throttle.set_rate(1_000, 1_000)
    throttle.set_rate(10_000, 1_000)
    assert throttle.wait_ms(1_000) == 901
    throttle.set_rate(UNTHROTTLED, 1_000)
    assert throttle.wait_ms(1_000) == 0
    throttle.set_rate(100, 2_000)
    assert throttle.wait_ms(2_000) == 0


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    throttle = ReplicationThrottle()
    throttle.set_rate(1_000, 1_000)
    throttle.on_bytes(2_000, 1_000)
    assert throttle.wait_ms(500) == 1_001
