from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("confluent_kafka")

from benchmarks.kafka import measure, plan, transactions
from benchmarks.kafka.conditions import Conditions
from benchmarks.kafka.plan import QUICK
from benchmarks.kafka.report import own_goal

QUIET = Conditions(brokers_cores=0.6, brokers_waited=0.2, machine_busy=0.5, others=0.02, stolen=0.0)
CROWDED = replace(QUIET, others=0.4)


class _System:
    title = "made up"
    members: list[Any] = []
    zookeeper_pids: list[int] = []


def _ms(p50_ms: float) -> dict[str, float]:
    return {"p50_ms": p50_ms, "p99_ms": p50_ms * 4}


class _Loads:
    """Answers what a test says, and keeps what was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any]) -> None:
        self._answers = iter(answers)
        self.asked: list[tuple[str, ...]] = []
        monkeypatch.setattr(transactions, "load", self._load)

    def _load(self, system: object, what: str, topic: str, *options: str) -> dict[str, Any]:
        self.asked.append((what, *options))
        return next(self._answers)


def _streamed(mb_per_s: float, conditions: Conditions = QUIET) -> dict[str, Any]:
    return {"mb_per_s": mb_per_s, "conditions": conditions.document(), "whole": _ms(130.0)}


def test_a_stream_in_transactions_is_beside_the_mean_of_one_without_before_and_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = _Loads(monkeypatch, _streamed(90.0), _streamed(95.0), _streamed(110.0))
    found = transactions.stream(_System(), QUICK, "transactions")
    assert found.figures["stream of an idempotent producer, MB/s"] == 100.0
    assert found.figures["stream in transactions of 100 ms, MB/s"] == 95.0
    assert found.figures["stream in transactions of 100 ms, % of without"] == 95.0
    assert found.no_comparison == {}
    assert ["--transaction-ms=100" in asked for asked in loads.asked] == [False, True, False]


def test_a_stream_beside_which_others_worked_is_no_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _Loads(monkeypatch, _streamed(90.0), _streamed(95.0), _streamed(110.0, CROWDED))
    found = transactions.stream(_System(), QUICK, "transactions")
    assert set(found.no_comparison) == set(found.figures)


def test_readers_are_compared_by_what_of_the_log_they_get_past(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filled = {"records": 1000, "aborted": 100}
    loads = _Loads(monkeypatch, filled, _streamed(200.0), _streamed(180.0), _streamed(200.0))
    found = transactions.reading(_System(), QUICK, "read")
    # A tenth of the log is aborted: 180 MB/s of records are 200 MB/s of the log.
    assert found.figures["consume transactions read_committed, MB/s"] == pytest.approx(200.0)
    assert found.figures["consume transactions read_committed, % of without"] == pytest.approx(100)
    assert "--visible=900" in loads.asked[2]
    assert "--visible=1000" in loads.asked[3]


def test_a_commit_at_a_modest_rate_on_which_its_brokers_starved_is_no_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starving = replace(QUIET, machine_busy=0.99, brokers_waited=0.7)
    measured = {"commit": _ms(2.0), "whole": _ms(9.0), "late_p99_ms": 1.0}
    _Loads(
        monkeypatch,
        measured | {"conditions": QUIET.document()},
        measured | {"conditions": starving.document()},
    )
    found = transactions.steady(_System(), QUICK, "transactions")
    assert found.figures["20 transactions/s: commit p99, ms"] == 8.0
    assert found.figures["20 transactions/s: transaction p50, ms"] == 9.0
    assert found.no_comparison == {}
    found = transactions.steady(_System(), QUICK, "transactions")
    assert set(found.no_comparison) == set(found.figures)


def test_transactions_of_one_record_are_told_by_the_number_of_producers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = {
        "transactions_per_s": 300.0,
        "brokers_cpu_ms": 4.0,
        "client_cpu_ms": 1.0,
        "commit": _ms(2.0),
        "whole": _ms(9.0),
        "conditions": QUIET.document(),
    }
    loads = _Loads(monkeypatch, measured)
    found = transactions.one_record(_System(), QUICK, "transactions", 8)
    assert found.figures["one record each, 8 producers, transactions/s"] == 300.0
    assert found.figures["one record each, 8 producers: commit p99, ms"] == 8.0
    assert found.figures["one record each, 8 producers: the client's CPU of one, ms"] == 1.0
    assert "--producers=8" in loads.asked[0]


def test_all_goals_of_our_own_are_of_figures_that_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _Loads(
        monkeypatch,
        *(_streamed(100.0),) * 3,
        {"records": 1000, "aborted": 100},
        *(_streamed(100.0),) * 3,
        {
            "commit": _ms(2.0),
            "whole": _ms(9.0),
            "late_p99_ms": 1.0,
            "conditions": QUIET.document(),
        },
    )
    names = [
        *transactions.stream(_System(), QUICK, "transactions").figures,
        *transactions.reading(_System(), QUICK, "read").figures,
        *transactions.steady(_System(), QUICK, "transactions").figures,
    ]
    with_goals = [name for name in names if own_goal(name)]
    assert with_goals == [
        "stream in transactions of 100 ms, % of without",
        "consume transactions read_committed, % of without",
        "20 transactions/s: commit p50, ms",
        "20 transactions/s: commit p99, ms",
    ]


def test_transactions_have_a_cluster_of_their_own_and_judge_themselves() -> None:
    assert measure.MEASUREMENTS["transactions"] is transactions.transactions
    assert "transactions" in measure.ALONE & measure.JUDGED_BY_THEMSELVES


def test_more_is_asked_of_a_longer_run() -> None:
    runs = [plan.QUICK, plan.FULL, plan.LONG]
    assert [each.transactional_ids for each in runs] == [1000, 10_000, 100_000]
    assert [each.steady_seconds for each in runs] == sorted({each.steady_seconds for each in runs})
    assert all(each.producers == (1, 8) for each in runs)
