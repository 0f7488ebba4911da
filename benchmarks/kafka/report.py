"""Rounds of figures of two systems -> medians, ratios and goals, as a table and as a document."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

Rounds = Mapping[str, Sequence[Mapping[str, float]]]


def is_more_better(name: str) -> bool:
    return name.endswith("MB/s")


def goal(name: str) -> tuple[str, float] | None:
    """What minikafka's ratio to Apache Kafka should be: (at least or at most, how much)."""
    if is_more_better(name):
        return ("≥", 1.0)
    if name.startswith("latency") and name.endswith("p99, ms"):
        return ("≤", 0.5)
    if "RSS of a" in name:
        return ("≤", 0.1)
    return None


def compared(rounds: Rounds, ours: str, theirs: str) -> list[dict[str, Any]]:
    """A row a figure that any round has: medians, extremes, the ratio of the medians."""
    names = list(dict.fromkeys(name for each in rounds.values() for one in each for name in one))
    rows = []
    for name in names:
        row: dict[str, Any] = {"figure": name}
        for title in (ours, theirs):
            values = [one[name] for one in rounds.get(title, ()) if name in one]
            row[title] = statistics.median(values) if values else None
            row[f"{title} min"] = min(values, default=None)
            row[f"{title} max"] = max(values, default=None)
        row["ratio"] = row[ours] / row[theirs] if row[ours] is not None and row[theirs] else None
        wanted = goal(name)
        if wanted is not None and row["ratio"] is not None:
            sign, limit = wanted
            row["goal"] = f"{sign} {limit:g}"
            row["met"] = row["ratio"] >= limit if sign == "≥" else row["ratio"] <= limit
        rows.append(row)
    return rows


def table(rows: Sequence[Mapping[str, Any]], ours: str, theirs: str) -> Table:
    drawn = Table("figure (median)", title=f"{ours} and {theirs}", title_justify="left")
    for title in (ours, theirs, "ratio", "goal", ""):
        drawn.add_column(title, justify="right")
    for row in rows:
        met = {True: "met", False: "missed", None: ""}[row.get("met")]
        cells = [_number(row[title]) for title in (ours, theirs, "ratio")]
        drawn.add_row(row["figure"], *cells, row.get("goal", ""), met)
    return drawn


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
