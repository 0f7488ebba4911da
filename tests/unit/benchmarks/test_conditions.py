from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.kafka.conditions import (
    Conditions,
    conditions_over,
    disturbed,
    starved,
    why_no_comparison,
)
from benchmarks.kafka.procfs import Machine, Scheduled

QUIET = Conditions(brokers_cores=0.6, brokers_waited=0.2, machine_busy=0.5, others=0.02, stolen=0.0)
HEALTHY = {"p50_ms": 9.0, "p99_ms": 26.0, "late_p99_ms": 2.0}


def test_shares_are_of_all_cores_over_the_stretch() -> None:
    found = conditions_over(
        seconds=10.0,
        cores=2,
        machine=(Machine(100.0, 7.0), Machine(114.0, 8.0)),
        brokers=Scheduled(ran_s=6.0, waited_s=2.0),
        beside_s=4.0,
    )
    assert found == Conditions(
        brokers_cores=0.6,
        brokers_waited=0.25,
        machine_busy=0.75,
        others=0.2,
        stolen=0.05,
    )


def test_brokers_that_did_not_run_did_not_wait() -> None:
    still = (Machine(1.0, 0.0), Machine(1.0, 0.0))
    found = conditions_over(1.0, 2, still, Scheduled(0.0, 0.0), 0.1)
    assert (found.brokers_waited, found.others) == (0.0, 0.0)


def test_a_quiet_run_is_a_comparison() -> None:
    assert why_no_comparison(QUIET, **HEALTHY) is None


def test_conditions_go_through_a_document() -> None:
    assert Conditions.of(QUIET.document()) == QUIET


def test_a_p50_of_a_second_is_a_queue_whatever_the_machine_did() -> None:
    why = starved(QUIET, p50_ms=1587.0, p99_ms=2403.0, late_p99_ms=2.0)
    assert why == "starved: a p50 of 1587 ms is a queue"


@pytest.mark.parametrize(
    ("busy", "waited", "is_starved"),
    [(1.0, 0.73, True), (1.0, 0.3, False), (0.7, 0.73, False), (0.5, 0.1, False)],
)
def test_brokers_are_starved_if_they_waited_longer_than_they_ran_and_no_core_was_free(
    busy: float, waited: float, is_starved: bool
) -> None:
    conditions = replace(QUIET, machine_busy=busy, brokers_waited=waited)
    assert (starved(conditions, **HEALTHY) is not None) == is_starved


@pytest.mark.parametrize(
    ("late_ms", "p99_ms", "is_late"), [(30.0, 40.0, True), (15.0, 20.0, False), (30.0, 90.0, False)]
)
def test_a_client_that_was_late_itself_measured_itself(
    late_ms: float, p99_ms: float, is_late: bool
) -> None:
    why = starved(QUIET, p50_ms=9.0, p99_ms=p99_ms, late_p99_ms=late_ms)
    assert (why is not None and "client" in why) == is_late


def test_others_and_a_host_disturb_what_is_measured() -> None:
    assert disturbed(others=0.09, stolen=0.04) is None
    assert disturbed(others=0.42, stolen=0.0) == "other processes had 42% of the machine"
    assert disturbed(others=0.0, stolen=0.2) == "20% of the machine was stolen by its host"


def test_all_reasons_are_told() -> None:
    conditions = replace(QUIET, others=0.44)
    why = why_no_comparison(conditions, p50_ms=800.0, p99_ms=900.0, late_p99_ms=1.0)
    assert why == "starved: a p50 of 800 ms is a queue; other processes had 44% of the machine"
