"""`minikafka lab list|run|all|docs`: the lecture on ZooKeeper, made to happen."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from minikafka.cli.kit.lazy import SuggestingGroup
from minikafka.cli.kit.options import format_option
from minikafka.cli.kit.output import print_json, print_table
from minikafka.errors import UsageError
from minikafka.local.telling import tell

if TYPE_CHECKING:
    from minikafka.lab.narrator import Narrator
    from minikafka.lab.play import Outcome
    from minikafka.lab.scenario import Scenario


@click.group("lab", cls=SuggestingGroup)
def command() -> None:
    """Watch the lecture on ZooKeeper happen, on real processes.

    Each scenario is a slide: a few brokers and a ZooKeeper start in a temporary directory,
    something is done to them, what ZooKeeper holds before and after is shown, and every claim is
    checked.
    """


@command.command("list")
@format_option
def list_command(output_format: str) -> None:
    """List the scenarios, in the order of the lecture."""
    from minikafka.lab.catalogue import SCENARIOS

    if output_format == "json":
        print_json([scenario_document(each) for each in SCENARIOS])
    else:
        print_table(
            ("name", "what", "slide"), [[each.name, each.title, each.slide] for each in SCENARIOS]
        )


@command.command("run")
@click.argument("name")
@click.option("--step", is_flag=True, help="Wait for a key before each step.")
@click.option("--markdown", is_flag=True, help="Tell it as Markdown.")
@click.pass_context
def run(ctx: click.Context, name: str, step: bool, markdown: bool) -> None:
    """Play the scenario NAME. Exit status 1 if something that it claims did not happen."""
    from minikafka.lab.catalogue import find

    scenario = find(name)
    outcomes = _play([scenario], _narrator(step, markdown))
    ctx.exit(_conclude(outcomes))


@command.command("all")
@click.option("--step", is_flag=True, help="Wait for a key before each step.")
@click.option("--markdown", is_flag=True, help="Tell them as Markdown.")
@click.pass_context
def run_all(ctx: click.Context, step: bool, markdown: bool) -> None:
    """Play all scenarios, and end with a table."""
    from minikafka.lab.catalogue import SCENARIOS

    outcomes = _play(SCENARIOS, _narrator(step, markdown))
    click.echo()
    print_table(
        ("scenario", "verdict", "claims", "took"),
        [
            [each.scenario.name, each.verdict, each.claims, f"{each.took_s:.1f} s"]
            for each in outcomes
        ],
    )
    ctx.exit(_conclude(outcomes))


@command.command("docs")
def docs() -> None:
    """Print docs/lab.md, which is made of the scenarios."""
    from minikafka.lab.docs import document

    click.echo(document(), nl=False)


def scenario_document(scenario: type[Scenario]) -> dict[str, object]:
    """The JSON document of `lab list` (docs/cli.md)."""
    return {
        "name": scenario.name,
        "title": scenario.title,
        "slide": scenario.slide,
        "brokers": scenario.brokers,
        "zookeeper": scenario.zookeeper,
        "claims": [claim for step in scenario.steps() for claim in step.claims],
    }


def _narrator(step: bool, markdown: bool) -> Narrator:
    """Raises UsageError if there is nobody to press a key."""
    from minikafka.lab.narrator import MarkdownNarrator, TerminalNarrator

    if markdown and step:
        raise UsageError("--step waits for a key at a terminal, --markdown writes a document")
    if step and not sys.stdin.isatty():
        raise UsageError("--step waits for a key, and standard input is no terminal")
    return MarkdownNarrator() if markdown else TerminalNarrator(step)


def _play(scenarios: Sequence[type[Scenario]], narrator: Narrator) -> list[Outcome]:
    from minikafka.cli.kit.interrupts import Interrupts
    from minikafka.lab.play import play_all

    with Interrupts():
        return play_all(scenarios, narrator)


def _conclude(outcomes: Sequence[Outcome]) -> int:
    """Say what went wrong; returns the exit status."""
    for each in outcomes:
        if each.verdict == "failed":
            tell(f"Error: {each.scenario.name}: {each.why}")
        elif each.verdict == "skipped":
            tell(f"{each.scenario.name} was skipped: {each.why}")
    return 1 if any(each.verdict == "failed" for each in outcomes) else 0
