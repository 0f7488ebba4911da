"""docs/lab.md: the texts of the scenarios, which do not vary from run to run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from minikafka.lab.catalogue import SCENARIOS
from minikafka.lab.scenario import Scenario

_OPENING = """# The lab

The lecture on ZooKeeper, made to happen. Each scenario is a slide. It starts brokers and a
ZooKeeper as processes of this machine, in a temporary directory and on ports of their own; it does
something to them, shows which znodes changed, and checks every claim that it makes. It ends
everything that it started, also on Ctrl-C.

```
minikafka lab list
minikafka lab run five-replicas          # --step waits for a key before each step
minikafka lab all
```

The exit status is 1 if a claim turned out to be false, with the claim. Scenarios that need an
ensemble start three servers of Apache ZooKeeper; where Java or ZooKeeper is missing, they say so
and are skipped.

This page is made of the scenarios themselves, by `make lab-docs`.
"""


def document() -> str:
    """The whole of docs/lab.md."""
    lines = [_OPENING, *_contents()]
    for each in SCENARIOS:
        lines += ["", *_section(each)]
    return "\n".join(lines) + "\n"


def _contents() -> Iterator[str]:
    yield "| scenario | slide |"
    yield "|---|---|"
    for each in SCENARIOS:
        yield f"| [{each.name}](#{each.name}) | {each.slide} |"


def _section(scenario: type[Scenario]) -> Iterator[str]:
    yield f"## {scenario.name}"
    yield ""
    yield _filled(f"**{scenario.title}.** {scenario.says}")
    yield ""
    for number, step in enumerate(scenario.steps(), start=1):
        yield _filled(f"{number}. {step.text}", "   ")
        for claim in step.claims:
            yield f"   - {claim}"
    yield ""
    yield _filled(f"Notice: {scenario.notice}")
    yield ""
    yield f"Played on {scenario.brokers} brokers and `--zookeeper {scenario.zookeeper}`. Try next:"
    yield ""
    yield "```"
    yield from scenario.commands
    yield "```"


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
