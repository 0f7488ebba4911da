"""Options of the whole test suite (they must be known before any test file is looked at)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from minikafka import loop_watch
from tests.helpers import amounts, leash, lives, machine, order
from tests.helpers.held_loops import HeldLoops

leash.hold_children()
lives.check_after_every_event()

# A shell that starts us in the background has SIGINT ignored, and whoever we start inherits that:
# then nobody could be ended by Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# For those tests that do not say how many examples they want.
hypothesis.settings.register_profile("amount", max_examples=amounts.amount(100))
hypothesis.settings.load_profile("amount")

# No loop may be held for longer: 50 ms is the rule, and a machine that is busy with others makes
# everything take more CPU time. Where each line is traced, all of it takes a few times as long.
HELD_MS = 150
HELD_IN_PROCESSES_MS = 300  # all that a turn of the loop does, and the machine does as much again
HELD_WHEN_TRACED_MS = 1_000


@pytest.fixture(scope="session", autouse=True)
def held_loops_of_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file to which brokers append who held their loops: all that are started by tests do,
    once they serve, since they inherit the environment."""
    file = tmp_path_factory.mktemp("loops") / "held"
    file.touch()
    before = os.environ.get(loop_watch.VARIABLE)
    os.environ[loop_watch.VARIABLE] = f"{HELD_IN_PROCESSES_MS}:{file}"
    yield file
    if before is None:
        del os.environ[loop_watch.VARIABLE]
    else:
        os.environ[loop_watch.VARIABLE] = before


@pytest.fixture(autouse=True)
def nobody_holds_a_loop(
    request: pytest.FixtureRequest, held_loops_of_processes: Path
) -> Iterator[None]:
    """A test fails if a callback in this process, or a broker that was started, held its loop."""
    seen_bytes = held_loops_of_processes.stat().st_size
    with HeldLoops(HELD_MS if sys.gettrace() is None else HELD_WHEN_TRACED_MS) as held:
        yield
    with held_loops_of_processes.open() as file:
        file.seek(seen_bytes)
        found = held.found + file.read().splitlines()
    if found and request.node.get_closest_marker("holds_the_loop") is None:
        pytest.fail("\n".join(found), pytrace=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-scenarios",
        action="store_true",
        help="write what the scenario files in tests/scenarios really print into them",
    )


# The gate of core/ is for these: what is traced takes several times as long.
TRACED = ("tests/unit/core/", "tests/scenarios/")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        machine.prepare()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        machine.clear()


# The outermost, so that the time for which a test waits is not its own.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with machine.used(order.use_of(item)):
        return (yield)


@pytest.hookimpl(optionalhook=True)  # without xdist there is nobody to deal out to
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    from xdist.scheduler import LoadFileScheduling  # it need not be there

    class Lots(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return order.lot_of(nodeid)

    return Lots(config, log)


# The last, as pytest puts tests together that share a fixture.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order.sort(items)
    for item in items:
        if not item.nodeid.startswith(TRACED):
            item.add_marker(pytest.mark.no_cover)
