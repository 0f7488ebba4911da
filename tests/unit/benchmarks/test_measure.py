from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("confluent_kafka")

from benchmarks.kafka import compare, measure, sleeping
from benchmarks.kafka.conditions import Conditions
from benchmarks.kafka.found import Found
from benchmarks.kafka.plan import QUICK
from benchmarks.kafka.plot import PICTURES, curves
from benchmarks.kafka.report import compared
from benchmarks.kafka.system import FailedError

QUIET = Conditions(brokers_cores=0.6, brokers_waited=0.2, machine_busy=0.5, others=0.02, stolen=0.0)


def _measured(p50_ms: float, conditions: Conditions = QUIET) -> dict[str, Any]:
    return {
        "p50_ms": p50_ms,
        "p99_ms": p50_ms * 2,
        "p99.9_ms": p50_ms * 3,
        "late_p99_ms": 1.0,
        "brokers_cpu_s_per_gb": 9.0,
        "conditions": conditions.document(),
    }


class _System:
    title = "made up"
    members: list[Any] = []
    zookeeper_pids: list[int] = []


@contextmanager
def _topic(system: object, name: str, partitions: int = 3) -> Iterator[str]:
    yield name


def test_a_rate_at_which_brokers_starved_is_no_comparison_and_the_other_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([_measured(9.0), _measured(715.0)])
    monkeypatch.setattr(measure, "load", lambda *_: next(answers))
    monkeypatch.setattr(measure, "topic", _topic)
    found = measure.latency(_System(), replace(QUICK, rates_mb=(1, 10)))
    assert found.figures["latency at 10 MB/s p50, ms"] == 715.0
    assert found.figures["latency at 1 MB/s, brokers' CPU, % of a core"] == 60.0
    assert {name.split(" MB/s")[0] for name in found.no_comparison} == {"latency at 10"}
    assert "latency at 10 MB/s p99, ms" in found.no_comparison
    (curve, _) = curves(compared({"ours": [found]}, "ours", []), PICTURES["latency"].pattern)
    assert [point.x for point in curve.points] == [1.0]


def test_a_lone_record_is_drawn_by_the_number_of_partitions_that_sleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sleeping, "load", lambda *_: _measured(13.0))
    found = sleeping.lone_record(_System(), QUICK, 500, "lone")
    drawn = curves(compared({"ours": [found]}, "ours", []), PICTURES["sleeping-lone"].pattern)
    assert [(curve.kind, curve.points[0].x, curve.points[0].median) for curve in drawn] == [
        ("p50", 500.0, 13.0),
        ("p99", 500.0, 26.0),
    ]
    assert found.no_comparison == {}


def test_a_lone_record_beside_others_is_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = _measured(13.0, replace(QUIET, others=0.7))
    monkeypatch.setattr(sleeping, "load", lambda *_: measured)
    found = sleeping.lone_record(_System(), QUICK, 500, "lone")
    assert set(found.no_comparison) == set(found.figures)


@pytest.mark.parametrize(
    ("words", "peers"),
    [([], ["kafka-3.9", "kafka-4"]), (["--peers", "kafka-4"], ["kafka-4"]), (["--peers=none"], [])],
)
def test_peers_are_chosen(words: list[str], peers: list[str]) -> None:
    assert compare.parse_options(words).peers == peers


@pytest.mark.parametrize("words", [["--peers=kafka-2"], ["--only=everything"]])
def test_what_is_unknown_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare.parse_options(words)
    assert f"unknown: {words[0].partition('=')[2]}" in capsys.readouterr().err


def test_a_system_that_fails_does_not_end_the_run_and_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order: list[tuple[str, int]] = []

    def round_of(name: str, number: int, chosen: object, how_much: object, found: Found) -> None:
        order.append((name, number))
        found.note({"start of the cluster, s": 3.0})
        if name == "kafka-4" and number == 0:
            raise FailedError("it did not come back")

    monkeypatch.setattr(compare, "_round", round_of)
    result = tmp_path / "result.json"
    assert compare.main(["--rounds=2", "--peers=kafka-4", f"--json={result}"]) == 1
    assert order == [("minikafka", 0), ("kafka-4", 0), ("minikafka", 1), ("kafka-4", 1)]
    found = json.loads(result.read_text())["rounds"]["kafka-4"]
    assert [each["failed"] for each in found] == ["it did not come back", None]
    assert found[0]["figures"] == {"start of the cluster, s": 3.0}
