"""How a scenario is played, on a stage of cardboard: proofs, false claims, what comes after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from minikafka.errors import UsageError
from minikafka.lab import play as playing
from minikafka.lab.ensemble import NotSeen
from minikafka.lab.needs import Needs
from minikafka.lab.play import Outcome, play_all, why_impossible
from minikafka.lab.scenario import Proofs, Scenario, step
from minikafka.lab.znodes import Tree, Znode


class Notebook:
    """A narrator that writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def heading(self, name: str, title: str, slide: str, says: str) -> None:
        self.lines.append(f"heading {name}")

    def note(self, text: str) -> None:
        self.lines.append(f"note {text}")

    def begin_step(self, number: int, count: int, text: str) -> None:
        self.lines.append(f"step {number}/{count} {text}")

    def say(self, text: str) -> None:
        self.lines.append(text)

    def block(self, title: str, lines: Sequence[str]) -> None:
        self.lines += lines

    def proof(self, claim: str, seen: str, holds: bool) -> None:
        self.lines.append(f"{'yes' if holds else 'no'}: {claim} ({seen})")

    def ending(self, notice: str, commands: Sequence[str]) -> None:
        self.lines.append(f"ending {notice}")


class Cardboard:
    """A stage without a cluster."""

    def __init__(self, narrator: Notebook, restorable: bool = True) -> None:
        self.narrator = narrator
        self.say = narrator.say
        self.tree: dict[str, Znode] | None = {}
        self.restored = 0
        self.closed = 0
        self.restorable = restorable

    def znodes(self, root: str) -> Tree | None:
        return None if self.tree is None else dict(self.tree)

    def close_clients(self) -> None:
        self.closed += 1

    def restore(self) -> None:
        self.restored += 1
        if not self.restorable:
            raise NotSeen("B stays away")


class Example(Scenario):
    name = title = slide = says = notice = "example"
    commands = ()


class True_(Example):
    name = "true"

    @step("Do one thing.", "It is so.", "And so.")
    def one(self) -> Proofs:
        self.stage.tree["/a"] = Znode(b"1", 0, 1, 0)  # type: ignore[union-attr,index]
        yield True, "seen"
        self.say("more happens")
        yield True, "seen too"

    @step("Do another.", record="")
    def two(self) -> None:
        self.say("nothing is claimed here")


class False_(Example):
    name = "false"

    @step("Lie.", "The earth is round.", "The moon is a cheese.", "Never looked at.")
    def one(self) -> Proofs:
        yield True, "it is"
        yield False, "it is of stone"
        raise AssertionError("what comes after a false claim is not played")

    @step("Not played.")
    def two(self) -> None:
        raise AssertionError("what comes after a false claim is not played")


class Waiting(Example):
    name = "waiting"

    @step("Wait.", "It comes.")
    def one(self) -> Proofs:
        raise NotSeen("20 s were not enough for it")
        yield


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[Cardboard]:
    """Those that were opened, in order."""
    opened: list[Cardboard] = []

    @contextmanager
    def open_stage(needs: Needs, narrator: Notebook) -> Iterator[Cardboard]:
        opened.append(Cardboard(narrator))
        yield opened[-1]

    monkeypatch.setattr(playing, "open_stage", open_stage)
    return opened


def verdicts(outcomes: Sequence[Outcome]) -> list[tuple[str, str, int]]:
    return [(each.scenario.name, each.verdict, each.claims) for each in outcomes]


def test_every_claim_is_told_with_what_was_seen_and_the_znodes_that_changed(
    notebook: Notebook, stages: list[Cardboard]
) -> None:
    assert verdicts(play_all([True_], notebook)) == [("true", "done", 2)]
    assert notebook.lines == [
        "heading true",
        "step 1/2 Do one thing.",
        "more happens",
        "+ /a  1",
        "yes: It is so. (seen)",
        "yes: And so. (seen too)",
        "step 2/2 Do another.",
        "nothing is claimed here",
        "ending example",
    ]
    assert stages[0].closed == 1


def test_a_false_claim_ends_the_scenario_and_is_named(
    notebook: Notebook, stages: list[Cardboard]
) -> None:
    [outcome] = play_all([False_], notebook)
    assert outcome.verdict == "failed"
    assert outcome.why == "claim failed: The moon is a cheese. Seen: it is of stone"
    assert notebook.lines[-2:] == [
        "yes: The earth is round. (it is)",
        "no: The moon is a cheese. (it is of stone)",
    ]


def test_waiting_in_vain_makes_the_next_claim_false(
    notebook: Notebook, stages: list[Cardboard]
) -> None:
    [outcome] = play_all([Waiting], notebook)
    assert outcome.why == "claim failed: It comes. Seen: 20 s were not enough for it"


def test_scenarios_with_the_same_needs_share_a_cluster_that_is_restored_between_them(
    notebook: Notebook, stages: list[Cardboard]
) -> None:
    class Five(True_):
        name = "five"
        brokers = 5

    class Again(True_):
        name = "again"

    Five.one, Again.one = True_.one, True_.one  # type: ignore[method-assign]
    outcomes = play_all([True_, Five, Again], notebook)
    assert verdicts(outcomes) == [("true", "done", 2), ("five", "done", 2), ("again", "done", 2)]
    assert [stage.restored for stage in stages] == [1, 0]


def test_after_a_failure_the_next_scenario_gets_a_cluster_of_its_own(
    notebook: Notebook, stages: list[Cardboard]
) -> None:
    assert verdicts(play_all([False_, True_], notebook)) == [
        ("false", "failed", 0),
        ("true", "done", 2),
    ]
    assert len(stages) == 2


def test_a_cluster_that_cannot_be_restored_is_replaced(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    @contextmanager
    def open_stage(needs: Needs, narrator: Notebook) -> Iterator[Cardboard]:
        opened.append(Cardboard(narrator, restorable=False))
        yield opened[-1]

    monkeypatch.setattr(playing, "open_stage", open_stage)
    assert [each.verdict for each in play_all([True_, True_], notebook)] == ["done", "done"]
    assert len(opened) == 2
    assert any("B stays away" in line for line in notebook.lines)


def test_what_needs_an_ensemble_is_skipped_where_zookeeper_is_missing(
    notebook: Notebook, stages: list[Cardboard], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ensemble(True_):
        name = "ensemble"
        zookeeper = "local:3"

    def missing() -> None:
        raise UsageError("there is no java on the PATH")

    monkeypatch.setattr("minikafka.zookeeper.servers.apache.find_installation", missing)
    [outcome] = play_all([Ensemble], notebook)
    assert (outcome.verdict, stages) == ("skipped", [])
    assert "there is no java on the PATH" in outcome.why
    assert notebook.lines[-1].startswith("note Skipped: ")
    assert why_impossible(True_.needs()) is None


def test_a_znode_tree_that_cannot_be_read_is_said_to_be_so(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(Example):
        name = "blind"

        @step("Look.")
        def one(self) -> None:
            self.stage.tree = None  # type: ignore[attr-defined]

    stage = Cardboard(notebook)
    playing.play(Blind, stage, notebook)  # type: ignore[arg-type]
    assert any("does not answer" in line for line in notebook.lines)


@pytest.mark.parametrize("proofs", [0, 1, 3])
def test_proofs_must_be_as_many_as_claims(notebook: Notebook, proofs: int) -> None:
    class Sloppy(Example):
        name = "sloppy"

        @step("Do.", "One.", "Two.")
        def one(self) -> Proofs:
            for _ in range(proofs):
                yield True, "seen"

    with pytest.raises(AssertionError, match="proof"):
        playing.play(Sloppy, Cardboard(notebook), notebook)  # type: ignore[arg-type]
