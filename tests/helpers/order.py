"""In which order the files of tests begin.

Each worker takes one file after the other, whole. What takes long must not begin last: the other
workers would have nothing left to do. First come those that need the machine for themselves: each
of their tests waits until all other workers are between two tests, and as long as no other file has
begun, that costs nothing. Then follow the folders, those with real processes before those without,
so that small files are left for the end. Of the first, and in each folder, the files that are
allowed the longest time (`timeout`) are before the others.

Within a file the order stays. xdist keeps to all this with `--no-loadscope-reorder`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDERS = (
    "integration",
    "clients",
    "browser",
    "conformance",
    "simulation",
    "exhaustive",
    "unit",
    "scenarios",
)
_TESTS = Path(__file__).parents[1]


def sort(items: list[pytest.Item]) -> None:
    alone = {item.path for item in items if item.get_closest_marker("alone") is not None}
    timeouts_s: dict[Path, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        if mark is not None:
            timeouts_s[item.path] = max(timeouts_s.get(item.path, 0.0), float(mark.args[0]))

    def rank(item: pytest.Item) -> tuple[int, float]:
        folder = -1 if item.path in alone else _folder(item.path)
        return folder, -timeouts_s.get(item.path, 0.0)

    items.sort(key=rank)


def _folder(path: Path) -> int:
    folder = path.relative_to(_TESTS).parts[0] if path.is_relative_to(_TESTS) else ""
    return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)
