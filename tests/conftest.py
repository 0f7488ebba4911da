"""Options of the whole test suite (they must be known before any test file is looked at)."""

from __future__ import annotations

import signal

import pytest

from tests.helpers import leash

leash.hold_children()

# A shell that starts us in the background has SIGINT ignored, and whoever we start inherits that:
# then nobody could be ended by Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-scenarios",
        action="store_true",
        help="write what the scenario files in tests/scenarios really print into them",
    )


# Too many steps of the core to be traced: they would take five times as long, and the gate of core/
# is for its unit tests and scenarios anyway.
UNTRACED = ("tests/exhaustive/", "tests/simulation/", "tests/clients/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(UNTRACED):
            item.add_marker(pytest.mark.no_cover)
