"""Rounds of figures of several systems -> medians with their spread, ratios and goals.

A figure of a round that is no comparison (conditions.py) goes into no median; it is listed apart,
with its reason, so that nothing is hidden.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks.kafka.found import Found

Rounds = Mapping[str, Sequence[Found]]


def is_more_better(name: str) -> bool:
    return name.endswith(("MB/s", "transactions/s"))


def goal(name: str) -> tuple[str, float] | None:
    """What minikafka's ratio to Apache Kafka should be: (at least or at most, how much)."""
    if is_more_better(name):
        return ("≥", 1.0)
    if name.startswith("latency") and name.endswith("p99, ms") and "late p99" not in name:
        return ("≤", 0.5)
    if name.endswith("transactions/s: commit p99, ms"):
        return ("≤", 0.5)
    if "RSS of a" in name:
        return ("≤", 0.1)
    return None


def own_goal(name: str) -> tuple[str, float] | None:
    """What minikafka's own figure should be, whatever others have: as `goal`."""
    return next((goal for ending, goal in _OWN_GOALS.items() if name.endswith(ending)), None)


_OWN_GOALS = {
    "transactions/s: commit p50, ms": ("≤", 3.0),
    "transactions/s: commit p99, ms": ("≤", 15.0),
    "stream in transactions of 100 ms, % of without": ("≥", 95.0),
    "read_committed, % of without": ("≥", 98.0),
    "100000 transactional ids: until a next coordinator had read its own, s": ("≤", 2.0),
}


def is_condition(name: str) -> bool:
    """Whether a figure says how it was measured, and not how good a system is: no ratio of it."""
    return any(
        part in name
        for part in (
            "client late",
            "waited for a core",
            "machine busy",
            "on this machine",
            "stolen",
        )
    )


def compared(rounds: Rounds, ours: str, peers: Sequence[str]) -> list[dict[str, Any]]:
    """A row a figure that any round has: by system the median, least and most of the rounds that
    count and their number; by peer the ratio of the medians, and whether it meets the goal; and
    whether our own median meets its own."""
    rows = []
    for name in _names(rounds):
        row: dict[str, Any] = {"figure": name, "systems": {}, "ratios": {}}
        for title in (ours, *peers):
            values = [
                each.figures[name]
                for each in rounds.get(title, ())
                if name in each.figures and name not in each.no_comparison
            ]
            if values:
                row["systems"][title] = {
                    "median": statistics.median(values),
                    "min": min(values),
                    "max": max(values),
                    "rounds": len(values),
                }
        own = row["systems"].get(ours)
        if own is not None and not is_condition(name):
            for peer in peers:
                other = row["systems"].get(peer)
                if other is not None and other["median"]:
                    row["ratios"][peer] = own["median"] / other["median"]
        wanted = goal(name)
        if wanted is not None and row["ratios"]:
            row["goal"] = _told(wanted)
            row["met"] = {peer: _meets(ratio, wanted) for peer, ratio in row["ratios"].items()}
        own_wanted = own_goal(name)
        if own_wanted is not None and own is not None:
            row["own goal"] = _told(own_wanted)
            row["own met"] = _meets(own["median"], own_wanted)
        rows.append(row)
    return rows


def _told(wanted: tuple[str, float]) -> str:
    sign, limit = wanted
    return f"{sign} {limit:g}"


def _meets(value: float, wanted: tuple[str, float]) -> bool:
    sign, limit = wanted
    return value >= limit if sign == "≥" else value <= limit


def left_out(rounds: Rounds) -> list[dict[str, Any]]:
    """What is no comparison: a row a figure, system and round."""
    return [
        {"figure": name, "system": title, "round": number, "value": each.figures[name], "why": why}
        for title, found in rounds.items()
        for number, each in enumerate(found, start=1)
        for name, why in each.no_comparison.items()
    ]


def _names(rounds: Rounds) -> list[str]:
    every = (name for found in rounds.values() for each in found for name in each.figures)
    return list(dict.fromkeys(every))


def table(rows: Sequence[Mapping[str, Any]], ours: str, peers: Sequence[str]) -> Table:
    drawn = Table("figure: median (least to most)", title_justify="left")
    drawn.title = f"{ours} and {', '.join(peers) or 'nobody'}"
    drawn.add_column(ours, justify="right")
    for peer in peers:
        drawn.add_column(peer, justify="right")
        drawn.add_column("ratio", justify="right")
    drawn.add_column("goal", justify="right")
    for row in rows:
        cells = [_spread(row["systems"].get(ours)) + _WORD[row.get("own met")]]
        for peer in peers:
            cells += [_spread(row["systems"].get(peer)), _ratio(row, peer)]
        if any(cell != "-" for cell in cells):
            drawn.add_row(row["figure"], *cells, _goals(row))
    return drawn


def table_left_out(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line for all that one reason holds of, with what it says of percentiles."""
    drawn = Table("no comparison", "round", "figures", "why", title_justify="left")
    reasons: dict[tuple[str, int, str], list[str]] = {}
    for row in rows:
        if not is_condition(row["figure"]):
            told = f"{row['figure']}: {_number(row['value'])}"
            reasons.setdefault((row["system"], row["round"], row["why"]), []).append(told)
    for (system, number, why), figures in reasons.items():
        drawn.add_row(system, str(number), "\n".join(figures), why)
    return drawn


def _goals(row: Mapping[str, Any]) -> str:
    """That of the ratio; that of our own figure says so."""
    own = f"own {row['own goal']}" if "own goal" in row else ""
    return ", ".join(each for each in (row.get("goal", ""), own) if each)


_WORD = {True: " met", False: " missed", None: ""}


def _ratio(row: Mapping[str, Any], peer: str) -> str:
    ratio = row["ratios"].get(peer)
    if ratio is None:
        return "-"
    return _number(ratio) + _WORD[row.get("met", {}).get(peer)]


def _spread(values: Mapping[str, float] | None) -> str:
    if values is None:
        return "-"
    median = _number(values["median"])
    if values["rounds"] == 1:
        return median
    return f"{median} ({_number(values['min'])}..{_number(values['max'])})"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
