"""dashboard/load.py: rates from two readings of a broker's counters."""

from __future__ import annotations

from dataclasses import replace

from minikafka.api.metrics import (
    BrokerMetrics,
    ControllerMetrics,
    GroupMetrics,
    ProcessUsage,
    ReplicaMetrics,
    RequestMetrics,
    TopicMetrics,
)
from minikafka.dashboard.load import Loads
from minikafka.model import broker_name


def reading(uptime_ms: int, cpu_ms: int, counted: int) -> BrokerMetrics:
    total = TopicMetrics(
        "", 3, 1, 5_000, counted, counted * 10, counted * 20, counted * 30, counted * 40, 0, 0, 0, 0
    )
    return BrokerMetrics(
        2,
        7,
        uptime_ms,
        0,
        ProcessUsage(cpu_ms, 60_000_000, 20),
        total,
        [],
        ReplicaMetrics(isr_shrinks=1, isr_expands=2),
        ControllerMetrics(),
        GroupMetrics(),
        [RequestMetrics("Produce", 5, 10_000, 900, 2_345), RequestMetrics("Fetch", 0, 0, 0, 0)],
        True,
        0,
        0,
    )


def test_two_readings_give_rates_by_the_brokers_own_clock() -> None:
    loads = Loads()
    loads.take(reading(1_000, 100, 50))
    [first] = loads.documents(broker_name)
    assert (first["name"], first["memory_bytes"], first["produce_p99_ms"]) == ("B", 60_000_000, 2.3)
    assert (first["cpu_percent"], first["bytes_in"]) == (None, None)
    loads.take(reading(3_000, 600, 250))
    [second] = loads.documents(broker_name)
    assert second["cpu_percent"] == 25.0
    assert second["records_in"] == 100.0
    assert (second["bytes_in"], second["bytes_out"]) == (1_000.0, 2_000.0)
    assert (second["replication_in"], second["replication_out"]) == (3_000.0, 4_000.0)


def test_a_broker_that_was_started_anew_begins_again() -> None:
    loads = Loads()
    loads.take(reading(9_000, 900, 900))
    loads.take(reading(500, 10, 0))
    [only] = loads.documents(broker_name)
    assert (only["uptime_ms"], only["cpu_percent"]) == (500, None)


def test_a_kind_of_request_that_never_came_has_no_duration() -> None:
    loads = Loads()
    loads.take(replace(reading(1, 1, 1), requests=[RequestMetrics("Produce", 0, 0, 0, 0)]))
    assert loads.documents(broker_name)[0]["produce_p99_ms"] is None


def test_a_broker_that_is_gone_has_no_load() -> None:
    loads = Loads()
    loads.take(reading(1, 1, 1))
    loads.forget(2)
    loads.forget(3)
    assert loads.documents(broker_name) == []
