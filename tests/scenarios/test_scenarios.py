"""Every scenario file beside this one plays as it is written (see docs/contributing.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.runner import check

FILES = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_scenario_plays_as_it_is_written(path: Path, request: pytest.FixtureRequest) -> None:
    check(path, request.config.getoption("--rewrite-scenarios"))
