from __future__ import annotations

from benchmarks.kafka.load import summary_ms
from benchmarks.kafka.report import compared, goal


def test_ratios_are_of_medians_and_goals_are_told() -> None:
    rounds = {
        "ours": [
            {"produce, MB/s": 100.0, "latency at 1 MB/s p99, ms": 2.0},
            {"produce, MB/s": 300.0, "latency at 1 MB/s p99, ms": 8.0},
            {"produce, MB/s": 120.0, "latency at 1 MB/s p99, ms": 4.0},
        ],
        "theirs": [{"produce, MB/s": 60.0, "latency at 1 MB/s p99, ms": 5.0}],
    }
    produce, latency = compared(rounds, "ours", "theirs")
    assert (produce["ours"], produce["ours min"], produce["ours max"]) == (120.0, 100.0, 300.0)
    assert (produce["ratio"], produce["goal"], produce["met"]) == (2.0, "≥ 1", True)
    assert (latency["ratio"], latency["goal"], latency["met"]) == (0.8, "≤ 0.5", False)


def test_a_figure_that_one_system_lacks_has_no_ratio() -> None:
    (row,) = compared({"ours": [], "theirs": [{"start, s": 9.0}]}, "ours", "theirs")
    assert (row["ours"], row["theirs"], row["ratio"]) == (None, 9.0, None)
    assert "met" not in row


def test_memory_of_brokers_has_a_goal_and_that_of_zookeeper_has_none() -> None:
    assert goal("RSS of an idle broker, MB") == ("≤", 0.1)
    assert goal("RSS of ZooKeeper, MB") is None


def test_percentiles_are_of_the_ordered_values() -> None:
    taken_ns = [number * 1_000_000 for number in range(1001)]
    assert summary_ms(taken_ns[::-1]) == {
        "p50_ms": 500.0,
        "p99_ms": 990.0,
        "p99.9_ms": 999.0,
        "max_ms": 1000.0,
    }
