from __future__ import annotations

from io import StringIO

from rich.console import Console

from benchmarks.kafka.found import Found
from benchmarks.kafka.report import compared, goal, left_out, own_goal, table, table_left_out

P99 = "latency at 1 MB/s p99, ms"


def test_ratios_are_of_medians_and_goals_are_told() -> None:
    rounds = {
        "ours": [
            Found({"produce, MB/s": 100.0, P99: 2.0}),
            Found({"produce, MB/s": 300.0, P99: 8.0}),
            Found({"produce, MB/s": 120.0, P99: 4.0}),
        ],
        "theirs": [Found({"produce, MB/s": 60.0, P99: 5.0})],
    }
    produce, latency = compared(rounds, "ours", ["theirs"])
    assert produce["systems"]["ours"] == {"median": 120.0, "min": 100.0, "max": 300.0, "rounds": 3}
    assert (produce["ratios"], produce["goal"], produce["met"]) == (
        {"theirs": 2.0},
        "≥ 1",
        {"theirs": True},
    )
    assert (latency["ratios"], latency["goal"], latency["met"]) == (
        {"theirs": 0.8},
        "≤ 0.5",
        {"theirs": False},
    )


def test_each_peer_has_its_own_ratio() -> None:
    rounds = {
        "ours": [Found({"produce, MB/s": 60.0})],
        "old": [Found({"produce, MB/s": 30.0})],
        "new": [Found({"produce, MB/s": 120.0})],
    }
    (row,) = compared(rounds, "ours", ["old", "new"])
    assert row["ratios"] == {"old": 2.0, "new": 0.5}
    assert row["met"] == {"old": True, "new": False}


def test_a_figure_that_one_system_lacks_has_no_ratio() -> None:
    (row,) = compared({"ours": [], "theirs": [Found({"start, s": 9.0})]}, "ours", ["theirs"])
    assert (row["ratios"], list(row["systems"])) == ({}, ["theirs"])
    assert "met" not in row


def test_what_was_starved_is_in_no_median_and_listed_with_its_reason() -> None:
    starved = Found()
    starved.note({P99: 2403.0}, "starved: a p50 of 1587 ms is a queue")
    rounds = {
        "ours": [Found({P99: 26.0})],
        "theirs": [Found({P99: 40.0}), starved],
    }
    (row,) = compared(rounds, "ours", ["theirs"])
    assert row["systems"]["theirs"]["max"] == 40.0
    assert row["ratios"] == {"theirs": 0.65}
    assert left_out(rounds) == [
        {
            "figure": P99,
            "system": "theirs",
            "round": 2,
            "value": 2403.0,
            "why": "starved: a p50 of 1587 ms is a queue",
        }
    ]


def test_a_peer_that_was_starved_in_every_round_has_no_ratio_and_no_goal() -> None:
    starved = Found()
    starved.note({P99: 2403.0}, "starved")
    rounds = {"ours": [Found({P99: 26.0})], "theirs": [starved]}
    rows = compared(rounds, "ours", ["theirs"])
    assert (rows[0]["ratios"], "goal" in rows[0]) == ({}, False)
    shown = _printed(table(rows, "ours", ["theirs"]))
    assert "26" in shown
    assert "2403" not in shown
    apart = _printed(table_left_out(left_out(rounds)))
    assert "2403" in apart
    assert "starved" in apart


def test_the_reason_of_a_whole_measurement_holds_of_all_its_figures() -> None:
    part = Found({"produce, MB/s": 60.0})
    part.note({P99: 900.0}, "starved")
    found = Found()
    found.add(part, "others had 40% of the machine")
    assert found.no_comparison == {
        "produce, MB/s": "others had 40% of the machine",
        P99: "starved; others had 40% of the machine",
    }


def test_conditions_have_no_ratio() -> None:
    name = "latency at 1 MB/s, machine busy, %"
    rounds = {"ours": [Found({name: 50.0})], "theirs": [Found({name: 80.0})]}
    (row,) = compared(rounds, "ours", ["theirs"])
    assert (row["ratios"], len(row["systems"])) == ({}, 2)


def test_the_spread_is_told_beside_the_median() -> None:
    rounds = {"ours": [Found({"start, s": 3.0}), Found({"start, s": 5.0})], "theirs": []}
    shown = _printed(table(compared(rounds, "ours", ["theirs"]), "ours", ["theirs"]))
    assert "4 (3..5)" in shown


def test_memory_of_brokers_has_a_goal_and_that_of_zookeeper_has_none() -> None:
    assert goal("RSS of an idle broker, MB") == ("≤", 0.1)
    assert goal("RSS of ZooKeeper, MB") is None
    assert goal("latency at 1 MB/s, client late p99, ms") is None


COMMIT = "20 transactions/s: commit p99, ms"


def test_a_commit_has_a_goal_beside_others_and_one_of_its_own() -> None:
    rounds = {"ours": [Found({COMMIT: 16.0})], "theirs": [Found({COMMIT: 40.0})]}
    (row,) = compared(rounds, "ours", ["theirs"])
    assert (row["goal"], row["met"]) == ("≤ 0.5", {"theirs": True})
    assert (row["own goal"], row["own met"]) == ("≤ 15", False)
    shown = _printed(table([row], "ours", ["theirs"]))
    assert "16 missed" in shown
    assert "0.4 met" in shown
    assert "≤ 0.5, own ≤ 15" in shown


def test_our_own_goal_is_told_without_peers_and_not_without_a_figure_that_counts() -> None:
    share = "stream in transactions of 100 ms, % of without"
    (row,) = compared({"ours": [Found({share: 96.0})]}, "ours", [])
    assert (row["own goal"], row["own met"], "goal" in row) == ("≥ 95", True, False)
    disturbed = Found()
    disturbed.note({share: 60.0}, "others had 40% of the machine")
    (row,) = compared({"ours": [disturbed]}, "ours", [])
    assert "own goal" not in row


def test_more_transactions_are_better_and_each_of_them_has_a_goal() -> None:
    assert goal("one record each, 8 producers, transactions/s") == ("≥", 1.0)
    assert goal("one record each, 8 producers: commit p99, ms") is None
    assert own_goal("consume transactions read_committed, % of without") == ("≥", 98.0)
    assert own_goal("consume transactions read_committed, MB/s") is None


def _printed(drawn: object) -> str:
    stream = StringIO()
    Console(file=stream, width=140).print(drawn)
    return stream.getvalue()
