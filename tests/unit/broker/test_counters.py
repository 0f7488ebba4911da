"""What is counted: sums that never fall, and the durations of the last requests."""

from __future__ import annotations

from minikafka.broker.counters import (
    KEPT_DURATIONS,
    BrokerCounters,
    RequestCounter,
    RequestCounters,
    TopicCounters,
)


def test_what_a_topic_has_counted_stays_in_the_total_when_its_last_replica_leaves() -> None:
    counters = BrokerCounters()
    counters.begin("a").bytes_in += 5
    counters.begin("b").bytes_in += 7
    counters.of("nowhere").failed_produce_requests += 1
    before = counters.total()
    counters.retire("a")
    assert counters.total() == before == TopicCounters(bytes_in=12, failed_produce_requests=1)
    assert counters.topics.keys() == {"b"}
    assert counters.begin("a") == TopicCounters()


def test_replicas_of_one_topic_count_together() -> None:
    counters = BrokerCounters()
    assert counters.begin("a") is counters.begin("a") is counters.of("a")


def test_quantiles_are_of_real_durations() -> None:
    counter = RequestCounter()
    assert counter.quantiles_us((0.5,)) == [0]
    for ms in (3, 1, 2, 5, 4):
        counter.add(ms / 1000)
    assert counter.quantiles_us((0.0, 0.5, 0.99, 1.0)) == [1000, 3000, 5000, 5000]
    assert (counter.count, counter.total_us) == (5, 15_000)


def test_quantiles_are_of_the_last_requests_and_sums_of_all() -> None:
    counter = RequestCounter()
    counter.add(9.0)
    for _ in range(KEPT_DURATIONS - 1):
        counter.add(0.001)
    assert counter.quantiles_us((1.0,)) == [9_000_000]
    counter.add(0.001)
    assert counter.quantiles_us((1.0,)) == [1000]
    for _ in range(KEPT_DURATIONS):
        counter.add(0.002)
    assert counter.quantiles_us((0.0, 1.0)) == [2000, 2000]
    assert counter.count == 2 * KEPT_DURATIONS + 1


def test_a_clock_that_steps_back_counts_as_no_time() -> None:
    counters = RequestCounters()
    counters.add("Produce", -1.0)
    assert counters.kinds["Produce"].total_us == 0
    assert counters.kinds["Produce"].count == 1


def test_moved_bytes_are_those_of_clients_and_of_replication() -> None:
    counters = BrokerCounters()
    assert counters.moved_bytes() == 0
    topic = counters.begin("a")
    topic.bytes_in, topic.bytes_out = 1, 10
    topic.replication_bytes_in, topic.replication_bytes_out = 100, 1000
    counters.elsewhere.bytes_in = 10_000
    assert counters.moved_bytes() == 11_111
    counters.retire("a")
    assert counters.moved_bytes() == 11_111
