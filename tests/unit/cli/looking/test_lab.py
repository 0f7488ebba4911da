"""`minikafka lab`: names, exit statuses, what it prints; nothing is started here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from minikafka.cli.main import cli
from minikafka.lab import catalogue, play
from minikafka.lab.docs import document
from minikafka.lab.needs import Needs
from minikafka.lab.scenario import Proofs, Scenario, step


class Truth(Scenario):
    name = title = slide = says = notice = "truth"
    commands = ("minikafka status",)

    @step("Look.", "It is so.", record="")
    def look(self) -> Proofs:
        yield True, "it was seen"


class Lie(Truth):
    name = "lie"

    @step("Look.", "Two and two are five.", record="")
    def look(self) -> Proofs:
        yield False, "they are four"


@pytest.fixture(autouse=True)
def theatre(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two scenarios, and no processes."""

    @contextmanager
    def open_stage(needs: Needs, narrator: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(
            say=print,
            znodes=lambda root: None,
            close_clients=lambda: None,
            restore=lambda: None,
            narrator=narrator,
        )

    monkeypatch.setattr(catalogue, "SCENARIOS", (Truth, Lie))
    monkeypatch.setattr(play, "open_stage", open_stage)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["lab", *arguments], prog_name="minikafka")


def test_the_list_names_every_scenario_with_its_slide() -> None:
    done = run("list")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.output.splitlines()] == ["NAME", "truth", "lie"]


def test_the_list_as_json_has_the_claims() -> None:
    listed = json.loads(run("list", "--format", "json").output)
    assert listed[1] == {
        "name": "lie",
        "title": "truth",
        "slide": "truth",
        "brokers": 3,
        "zookeeper": "embedded",
        "claims": ["Two and two are five."],
    }


def test_a_scenario_whose_claims_hold_ends_with_0() -> None:
    done = run("run", "truth")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "✓ It is so." in done.output
    assert "minikafka status" in done.output


def test_a_scenario_whose_claim_is_false_ends_with_1_and_names_the_claim() -> None:
    done = run("run", "lie")
    assert done.exit_code == 1
    assert "✗ Two and two are five." in done.stdout
    assert done.stderr == "Error: lie: claim failed: Two and two are five. Seen: they are four\n"


@pytest.mark.parametrize(
    ("name", "hint"), [("truht", "did you mean truth?"), ("zzz", "`minikafka lab list` has them")]
)
def test_an_unknown_scenario_ends_with_2_and_a_suggestion(name: str, hint: str) -> None:
    done = run("run", name)
    assert done.exit_code == 2
    assert done.stderr == f"Error: there is no scenario '{name}'; {hint}\n"


def test_all_of_them_end_with_a_table_and_with_1_if_one_failed() -> None:
    done = run("all")
    assert done.exit_code == 1
    table = [line.split() for line in done.stdout.splitlines()[-3:]]
    assert table[0] == ["SCENARIO", "VERDICT", "CLAIMS", "TOOK"]
    assert [row[:3] for row in table[1:]] == [["truth", "done", "1"], ["lie", "failed", "0"]]


def test_it_can_be_told_as_markdown() -> None:
    done = run("run", "truth", "--markdown")
    assert done.exit_code == 0
    assert "## truth" in done.output
    assert "- ✓ It is so. (it was seen)" in done.output


@pytest.mark.parametrize(
    ("options", "why"),
    [(["--step"], "standard input is no terminal"), (["--step", "--markdown"], "a document")],
)
def test_keys_are_waited_for_at_a_terminal_only(options: Sequence[str], why: str) -> None:
    done = run("run", "truth", *options)
    assert done.exit_code == 2
    assert why in done.stderr


def test_the_page_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("docs")
    assert (done.exit_code, done.output) == (0, document())
