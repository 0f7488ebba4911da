"""Plays scenarios: the steps in order, the znodes before and after each, every claim checked.

A claim is false if its proof says so, or if what the step waited for did not happen in time. What
comes after a false claim is not played.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from minikafka.errors import MinikafkaError, UsageError
from minikafka.lab.narrator import Narrator
from minikafka.lab.needs import Needs
from minikafka.lab.scenario import Scenario, Step
from minikafka.lab.stage import LabStage, open_stage
from minikafka.lab.znodes import Tree, diff_lines

Kind = type[Scenario]


class ClaimFailed(MinikafkaError):
    """A claim of a scenario turned out to be false."""

    def __init__(self, claim: str, seen: str) -> None:
        super().__init__(f"claim failed: {claim} Seen: {seen}")
        self.claim = claim


@dataclass(frozen=True, slots=True)
class Outcome:
    """`why`: what failed, or why it was skipped. Seconds without the start of the cluster."""

    scenario: Kind
    verdict: Literal["done", "failed", "skipped"]
    claims: int
    took_s: float
    why: str = ""


def play_all(scenarios: Sequence[Kind], narrator: Narrator) -> list[Outcome]:
    """Each of them, those that need the same cluster on one, in the order given otherwise."""
    outcomes: list[Outcome] = []
    groups: dict[Needs, list[Kind]] = {}
    for each in scenarios:
        groups.setdefault(each.needs(), []).append(each)
    for needs, group in groups.items():
        outcomes += _play_group(needs, group, narrator)
    order = {each: index for index, each in enumerate(scenarios)}
    return sorted(outcomes, key=lambda outcome: order[outcome.scenario])


def _play_group(needs: Needs, group: Sequence[Kind], narrator: Narrator) -> Iterator[Outcome]:
    missing = why_impossible(needs)
    if missing is not None:
        for each in group:
            narrator.heading(each.name, each.title, each.slide, each.says)
            narrator.note(f"Skipped: {missing}")
            yield Outcome(each, "skipped", 0, 0.0, missing)
        return
    waiting = list(group)
    while waiting:
        with open_stage(needs, narrator) as stage:
            while waiting:
                outcome = play(waiting.pop(0), stage, narrator)
                yield outcome
                # After a failure nobody knows what state the cluster is in: take another one.
                if outcome.verdict == "failed" or (waiting and not _restored(stage)):
                    break


def _restored(stage: LabStage) -> bool:
    try:
        stage.restore()
    except MinikafkaError as error:
        stage.narrator.note(f"A new cluster, as this one did not come back whole: {error}")
        return False
    return True


def why_impossible(needs: Needs) -> str | None:
    """What this machine lacks for such a cluster."""
    if not needs.zookeeper.startswith("local"):
        return None
    from minikafka.zookeeper.servers.apache import find_installation

    try:
        find_installation()
    except UsageError as error:
        return f"this needs Apache ZooKeeper on this machine: {error.message}"
    return None


def play(kind: Kind, stage: LabStage, narrator: Narrator) -> Outcome:
    """One scenario, told; never raises because of a claim."""
    begun_s = time.monotonic()
    narrator.heading(kind.name, kind.title, kind.slide, kind.says)
    scenario, steps, proven = kind(stage), kind.steps(), 0
    known: dict[str, Tree] = {}
    try:
        for number, each in enumerate(steps, start=1):
            narrator.begin_step(number, len(steps), each.text)
            proven += _play_step(scenario, each, known, narrator)
    except MinikafkaError as error:
        took_s = time.monotonic() - begun_s
        return Outcome(kind, "failed", proven, took_s, error.message)
    finally:
        stage.close_clients()
    narrator.ending(kind.notice, kind.commands)
    return Outcome(kind, "done", proven, time.monotonic() - begun_s)


def _play_step(scenario: Scenario, step: Step, known: dict[str, Tree], narrator: Narrator) -> int:
    """The number of claims, all of them proven. Raises ClaimFailed."""
    before = _look(scenario, step, known) or known.get(step.record)
    found = list(_collect(step, step.play(scenario)))
    if step.record:
        _tell_znodes(before, _look(scenario, step, known), narrator)
    for claim, (holds, seen) in zip(step.claims, found, strict=False):
        narrator.proof(claim, seen, holds)
        if not holds:
            raise ClaimFailed(claim, seen)
    return len(found)


def _look(scenario: Scenario, step: Step, known: dict[str, Tree]) -> Tree | None:
    """What ZooKeeper holds now, None if it does not answer; `known` keeps it."""
    found = scenario.stage.znodes(step.record)
    if found is not None:
        known[step.record] = found
    return found


def _collect(step: Step, proofs: Iterable[tuple[bool, str]] | None) -> Iterator[tuple[bool, str]]:
    """The proofs up to the first that is false; waiting in vain is one."""
    given = iter(proofs or ())
    for claim in step.claims:
        try:
            holds, seen = next(given)
        except StopIteration:
            raise AssertionError(f"a step has no proof of {claim!r}") from None
        except MinikafkaError as error:
            yield False, error.message
            return
        yield holds, seen
        if not holds:
            return
    with contextlib.suppress(StopIteration):
        next(given)  # what the step still has to do
        raise AssertionError(f"a step has more proofs than claims: {step.text!r}")


def _tell_znodes(before: Tree | None, after: Tree | None, narrator: Narrator) -> None:
    if before is None or after is None:
        narrator.say("ZooKeeper does not answer, so what it holds cannot be shown.")
        return
    lines = diff_lines(before, after)
    if lines:
        narrator.block("What changed in ZooKeeper:", lines)
    else:
        narrator.say("Nothing changed in ZooKeeper.")
