"""Every scenario of `minikafka lab` on real processes. Those that need the same cluster share one,
as they do in `lab all`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from minikafka.lab.catalogue import SCENARIOS
from minikafka.lab.narrator import TerminalNarrator
from minikafka.lab.needs import Needs
from minikafka.lab.play import play
from minikafka.lab.scenario import Scenario
from minikafka.lab.stage import LabStage, open_stage
from tests.helpers.zookeeper import require

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

# In this order a cluster is started as rarely as possible.
IN_GROUPS = sorted(
    SCENARIOS, key=lambda each: (each.zookeeper, each.brokers, each.needs().settings)
)


class Theatre:
    """One cluster at a time: the last one is kept while it serves the next scenario as well."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._needs: Needs | None = None
        self._stage: LabStage | None = None

    def stage(self, needs: Needs) -> LabStage:
        if self._stage is not None and self._needs == needs:
            self._stage.restore()
            return self._stage
        self.close()
        self._stage = self._open.enter_context(open_stage(needs, TerminalNarrator()))
        self._needs = needs
        return self._stage

    def close(self) -> None:
        self._stage = None
        self._open.close()


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    made = Theatre()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("scenario", IN_GROUPS, ids=lambda each: each.name)
def test_what_a_scenario_claims_happens(scenario: type[Scenario], theatre: Theatre) -> None:
    require(scenario.zookeeper)
    outcome = play(scenario, theatre.stage(scenario.needs()), TerminalNarrator())
    if outcome.verdict != "done":
        theatre.close()
    assert outcome.verdict == "done", outcome.why
    assert outcome.claims == sum(len(step.claims) for step in scenario.steps())


def test_a_scenario_runs_as_a_command_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minikafka", "lab", "run", "api"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓" in done.stdout
    assert list(tmp_path.iterdir()) == []
