"""Options of the whole test suite (they must be known before any test file is looked at)."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-scenarios",
        action="store_true",
        help="write what the scenario files in tests/scenarios really print into them",
    )
