"""In which order the files of tests begin, and who shares a worker.

Each worker takes one file after the other, whole. All files with tests that need the machine for
themselves are one lot, and come first: one worker has it, while the others have a long row of files
that only compute, and may go on beside it (machine.py). Then follow the folders with real
processes. What takes long must not begin last, when the other workers have nothing left to do: in
each folder, the files that are allowed the longest time (`timeout`) are before the others.

Within a file the order stays. xdist keeps to all this with `--no-loadscope-reorder`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.helpers.machine import Use

COMPUTING = ("exhaustive", "simulation", "unit", "scenarios")
FOLDERS = (*COMPUTING, "integration", "clients", "browser", "conformance")
LOT = "alone"
_TESTS = Path(__file__).parents[1]


def sort(items: list[pytest.Item]) -> None:
    alone = {item.path for item in items if item.get_closest_marker("alone") is not None}
    timeouts_s: dict[Path, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        if mark is not None:
            timeouts_s[item.path] = max(timeouts_s.get(item.path, 0.0), float(mark.args[0]))

    def rank(item: pytest.Item) -> tuple[int, float]:
        folder = -1 if item.path in alone else _number(_folder(item.path))
        return folder, -timeouts_s.get(item.path, 0.0)

    items.sort(key=rank)


def use_of(item: pytest.Item) -> Use:
    """How a test uses the machine. What is slow may start processes."""
    if item.get_closest_marker("alone") is not None:
        return Use.ALONE
    if _folder(item.path) in COMPUTING and item.get_closest_marker("slow") is None:
        return Use.ASIDE
    return Use.SHARED


def lot_of(nodeid: str) -> str:
    """What has to be done by one worker: a file, or all files with tests that are alone."""
    file = nodeid.partition("::")[0]
    return LOT if _has_some_alone(_TESTS.parent / file) else file


@cache
def _has_some_alone(file: Path) -> bool:
    """By its text: whoever deals out the tests has no more than their names."""
    return file.is_file() and "pytest.mark." + LOT in file.read_text()


def _folder(path: Path) -> str:
    return path.relative_to(_TESTS).parts[0] if path.is_relative_to(_TESTS) else ""


def _number(folder: str) -> int:
    return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)
