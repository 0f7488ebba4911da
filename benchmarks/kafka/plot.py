"""Draws what compare.py has written with --json, as SVG by hand: no library, and text that a diff
can show.

    python -m benchmarks.kafka.plot RESULT.json FOLDER

Three pictures, of those that the file has figures for: `sleeping-lone.svg` (a lone record beside
sleeping partitions, p50 and p99), `sleeping-idle.svg` (an idle broker's processor then),
`latency.svg` (by rate, p50 and p99). A point is the median of the rounds that are a comparison; a
line goes up from the least of them to the most. What is no comparison is not drawn.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 64, 48
_COLORS = ("#0b6e4f", "#b23a48", "#33658a", "#8a6d3b")
_DASHES = {"p50": "", "p99": "6 4"}
_LEAST = 1e-3  # of a logarithm


@dataclass(frozen=True)
class Point:
    x: float
    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Curve:
    system: str
    kind: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Picture:
    """`pattern` finds in the name of a figure its x, and its kind if there are several."""

    title: str
    x_title: str
    pattern: re.Pattern[str]


PICTURES = {
    "sleeping-lone": Picture(
        "A lone record, acks=all, ms",
        "partitions that nobody writes to",
        re.compile(r"(?P<x>\d+) sleeping partitions: lone record (?P<kind>p50|p99), ms"),
    ),
    "sleeping-idle": Picture(
        "An idle broker, % of a core",
        "partitions that nobody writes to",
        re.compile(r"(?P<x>\d+) sleeping partitions: idle broker, % of a core"),
    ),
    "latency": Picture(
        "From due to received, acks=all, ms",
        "MB/s",
        re.compile(r"latency at (?P<x>[\d.]+) MB/s (?P<kind>p50|p99), ms"),
    ),
}


def curves(rows: Sequence[Mapping[str, Any]], pattern: re.Pattern[str]) -> list[Curve]:
    """Of `compared` in the document; a curve a system and kind, its points by x."""
    points: dict[tuple[str, str], list[Point]] = {}
    for row in rows:
        match = pattern.fullmatch(row["figure"])
        if match is None:
            continue
        kind = match.groupdict().get("kind", "")
        for system, found in row["systems"].items():
            point = Point(float(match["x"]), found["median"], found["min"], found["max"])
            points.setdefault((system, kind), []).append(point)
    return [
        Curve(system, kind, tuple(sorted(several, key=lambda point: point.x)))
        for (system, kind), several in points.items()
    ]


def svg(picture: Picture, drawn: Sequence[Curve]) -> str:
    """The x are evenly apart, in their order; the y are a logarithm."""
    every = [point for curve in drawn for point in curve.points]
    places = sorted({point.x for point in every})
    low = math.floor(math.log10(max(min(point.least for point in every), _LEAST)))
    high = max(math.ceil(math.log10(max(max(point.most for point in every), _LEAST))), low + 1)
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(places), 1)

    def at_x(value: float) -> float:
        return _LEFT + step * (places.index(value) + 0.5)

    def at_y(value: float) -> float:
        share = (math.log10(max(value, _LEAST)) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, 20, picture.title, "start", ' font-size="15"'),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, picture.x_title),
    ]
    for power in range(low, high + 1):
        y = at_y(10.0**power)
        parts.append(_line((_LEFT, y), (_WIDTH - _RIGHT, y), "#ddd"))
        parts.append(_text(_LEFT - 8, y + 4, f"{10.0**power:g}", "end"))
    parts += [_text(at_x(x), _HEIGHT - _BOTTOM + 18, f"{x:,g}") for x in places]
    systems = list(dict.fromkeys(curve.system for curve in drawn))
    for number, curve in enumerate(drawn):
        color = _COLORS[systems.index(curve.system) % len(_COLORS)]
        dash = _DASHES.get(curve.kind, "")
        line = " ".join(f"{at_x(p.x):.1f},{at_y(p.median):.1f}" for p in curve.points)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
        for point in curve.points:
            x, y = at_x(point.x), at_y(point.median)
            parts.append(_line((x, at_y(point.least)), (x, at_y(point.most)), color))
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>')
        left, top = _LEFT + number % 3 * 180, 38 + number // 3 * 14
        label = f"{curve.system} {curve.kind}".strip()
        parts.append(_line((left, top - 4), (left + 22, top - 4), color, dash))
        parts.append(_text(left + 28, top, label, "start"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(start: tuple[float, float], end: tuple[float, float], color: str, dash: str = "") -> str:
    (x1, y1), (x2, y2) = start, end
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" '
        f'stroke-dasharray="{dash}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: python -m benchmarks.kafka.plot RESULT.json FOLDER", file=sys.stderr)
        return 2
    rows = json.loads(Path(arguments[0]).read_text())["compared"]
    folder = Path(arguments[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in PICTURES.items():
        drawn = curves(rows, picture.pattern)
        if drawn:
            (folder / f"{name}.svg").write_text(svg(picture, drawn))
            print(folder / f"{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
