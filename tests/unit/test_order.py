"""The order in which files of tests begin (tests/helpers/order.py)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.helpers import order
from tests.helpers.machine import Use

TESTS = Path(order.__file__).parents[1]


def item(
    path: str, name: str = "", timeout_s: float = 0, *, alone: bool = False, slow: bool = False
) -> Any:
    marks = {name: SimpleNamespace() for name, on in (("alone", alone), ("slow", slow)) if on}
    if timeout_s:
        marks["timeout"] = SimpleNamespace(args=(timeout_s,))
    return SimpleNamespace(path=TESTS / path, name=name, get_closest_marker=marks.get)


def sorted_names(*items: Any) -> list[str]:
    listed = list(items)
    order.sort(listed)
    return [each.name for each in listed]


def test_files_that_need_the_machine_then_those_that_compute_then_those_with_processes() -> None:
    assert sorted_names(
        item("scenarios/test_a.py", "scenario"),
        item("unit/log/test_a.py", "unit"),
        item("clients/test_a.py", "client"),
        item("integration/test_quick.py", "quick"),
        item("integration/test_long.py", "long", 240),
        item("integration/zookeeper/test_longer.py", "longer", 420),
        item("clients/test_deaths.py", "deaths", 900, alone=True),
        item("integration/test_fuzz.py", "fuzz", 240, alone=True),
    ) == ["deaths", "fuzz", "unit", "scenario", "longer", "long", "quick", "client"]


def test_a_file_stays_together_and_in_order() -> None:
    assert sorted_names(
        item("integration/test_a.py", "1"),
        item("integration/test_a.py", "2", 300),
        item("integration/test_b.py", "3", 240),
        item("clients/test_c.py", "4"),
        item("clients/test_c.py", "5", alone=True),
        item("elsewhere/test_d.py", "6"),
    ) == ["4", "5", "1", "2", "3", "6"]


def test_what_computes_goes_on_beside_a_test_that_is_alone() -> None:
    assert order.use_of(item("unit/log/test_a.py")) is Use.ASIDE
    assert order.use_of(item("unit/log/test_a.py", slow=True)) is Use.SHARED
    assert order.use_of(item("integration/test_a.py")) is Use.SHARED
    assert order.use_of(item("integration/test_a.py", slow=True, alone=True)) is Use.ALONE


def test_all_files_with_tests_that_are_alone_are_one_lot() -> None:
    lots = {
        file.relative_to(TESTS).as_posix()
        for file in TESTS.rglob("test_*.py")
        if order.lot_of(f"{file.relative_to(TESTS.parent).as_posix()}::test_x[a::b]") == order.LOT
    }
    assert lots >= {"clients/test_deaths.py", "integration/torment/test_torment.py"}
    assert not any(file.startswith(order.COMPUTING) for file in lots)
    assert order.lot_of("tests/unit/test_turns.py::TestX::test_y") == "tests/unit/test_turns.py"


def test_every_folder_of_tests_has_its_place() -> None:
    folders = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    assert folders == set(order.FOLDERS)
