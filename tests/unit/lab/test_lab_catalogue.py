"""The scenarios as a whole, and the page that is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikafka.cli.main import cli
from minikafka.lab.catalogue import SCENARIOS, find
from minikafka.lab.docs import document
from minikafka.lab.scenario import Scenario

PAGE = Path(__file__).parents[3] / "docs" / "lab.md"


def test_the_page_is_what_the_scenarios_say() -> None:
    assert PAGE.read_text() == document(), "make lab-docs writes it anew"


def test_names_are_unique() -> None:
    names = [each.name for each in SCENARIOS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_a_scenario_has_all_its_texts_and_claims_something(scenario: type[Scenario]) -> None:
    assert find(scenario.name) is scenario
    for text in (scenario.title, scenario.slide, scenario.says, scenario.notice):
        assert text.strip() == text
        assert text
    assert any(step.claims for step in scenario.steps())
    assert all(step.text.endswith((".", ":")) for step in scenario.steps())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_the_commands_that_are_to_be_tried_next_exist(scenario: type[Scenario]) -> None:
    for line in scenario.commands:
        for part in line.partition("#")[0].replace("&&", "\n").replace("|", "\n").splitlines():
            words = part.split()
            if words[:1] != ["minikafka"]:
                continue
            found = cli.get_command(None, words[1])  # type: ignore[arg-type]
            assert found is not None, part
            if hasattr(found, "commands"):
                assert words[2] in found.commands, part
