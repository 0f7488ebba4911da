"""What a scenario is: a slide of the lecture, made to happen on a cluster of real processes.

A scenario is a class. Its texts do not vary from run to run, so that docs/lab.md can be made of
them; its steps are methods, in their order, each with what is done in words and what is claimed:

    class Election(Scenario):
        name = "controller-election"

        @step("Kill the controller.", "Another broker takes over.")
        def kill(self) -> Proofs:
            ...
            yield after != before, f"it was {before}, it is {after}"

A step yields one proof a claim, in the order of the claims: whether it holds, and what was seen.
Values of this very run (who leads, which epoch) are told with `say` and in what was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from minikafka.lab.needs import SETTINGS, THREE, Needs

if TYPE_CHECKING:
    from minikafka.lab.stage import LabStage

Proofs = Iterator[tuple[bool, str]]
Play = Callable[[Any], Proofs | None]
Method = TypeVar("Method", bound=Play)


@dataclass(frozen=True, slots=True)
class Step:
    """`text` is what is done; `record` the znode whose tree is compared before and after (empty:
    none)."""

    text: str
    claims: tuple[str, ...]
    record: str
    play: Play


class Scenario:
    """See the module's docstring. `slide`: which one it is; `says`: what the slide says; `notice`:
    what to take home; `commands`: what to try next."""

    name: ClassVar[str]
    title: ClassVar[str]
    slide: ClassVar[str]
    says: ClassVar[str]
    notice: ClassVar[str]
    commands: ClassVar[tuple[str, ...]]
    brokers: ClassVar[int] = THREE
    zookeeper: ClassVar[str] = "embedded"
    settings: ClassVar[Mapping[str, str]] = {}

    def __init__(self, stage: LabStage) -> None:
        self.stage = stage
        self.say = stage.say

    @classmethod
    def steps(cls) -> list[Step]:
        return [each.step for each in vars(cls).values() if hasattr(each, "step")]

    @classmethod
    def needs(cls) -> Needs:
        settings = {**SETTINGS, **cls.settings}
        return Needs(cls.brokers, cls.zookeeper, tuple(sorted(settings.items())))


def step(text: str, *claims: str, record: str = "/") -> Callable[[Method], Method]:
    """Make a method a step. One with claims yields a proof for each; one without returns None."""

    def mark(method: Method) -> Method:
        method.step = Step(text, claims, record, method)  # type: ignore[attr-defined]
        return method

    return mark
