from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.kafka.plot import PICTURES, Curve, Point, curves, main


def _row(figure: str, **medians: float) -> dict[str, Any]:
    return {
        "figure": figure,
        "systems": {
            name: {"median": value, "min": value / 2, "max": value * 2, "rounds": 3}
            for name, value in medians.items()
        },
    }


ROWS = [
    _row("3000 sleeping partitions: lone record p50, ms", ours=4.0, theirs=2.0),
    _row("500 sleeping partitions: lone record p50, ms", ours=2.0, theirs=1.0),
    _row("500 sleeping partitions: lone record p99, ms", ours=8.0),
    _row("500 sleeping partitions: idle broker, % of a core", ours=9.0),
    _row("start of the cluster, s", ours=3.0),
]


def test_a_curve_has_its_points_in_order_and_only_what_was_compared() -> None:
    found = curves(ROWS, PICTURES["sleeping-lone"].pattern)
    assert found == [
        Curve("ours", "p50", (Point(500, 2.0, 1.0, 4.0), Point(3000, 4.0, 2.0, 8.0))),
        Curve("theirs", "p50", (Point(500, 1.0, 0.5, 2.0), Point(3000, 2.0, 1.0, 4.0))),
        Curve("ours", "p99", (Point(500, 8.0, 4.0, 16.0),)),
    ]


def test_pictures_are_drawn_of_what_is_there(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"compared": ROWS}))
    assert main([str(result), str(tmp_path / "drawn")]) == 0
    drawn = {path.name: ElementTree.parse(path) for path in (tmp_path / "drawn").iterdir()}
    assert set(drawn) == {"sleeping-lone.svg", "sleeping-idle.svg"}
    space = "{http://www.w3.org/2000/svg}"
    lone = drawn["sleeping-lone.svg"]
    assert len(lone.findall(f"{space}polyline")) == 3
    texts = {text.text for text in lone.findall(f"{space}text")}
    assert {"ours p50", "ours p99", "theirs p50", "500", "3,000"} <= texts
