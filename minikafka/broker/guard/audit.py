"""What is said of verdicts, in the logger `minikafka.authorizer`: Kafka's sentence, then the rule.

    Principal = User:alice is Denied Operation = Write from host = 10.1.2.3 on resource =
    Topic:LITERAL:orders for request = Produce with resourceRefCount = 3: nothing allows ...

State: by level, what was said in the last WINDOW_S, in the order in which it was said, each with
how often it was to be said again since. What came again is counted in one line, when its window is
over (seen at the next verdict that is to be told, or by `flush`). Bounded: MAX_LINES of a level,
each of a few hundred characters; more than those are only counted. Names come from whoever asks:
they are escaped and cut.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from minikafka.escaping import escaped
from minikafka.security.acl import Operation, ResourceType
from minikafka.security.principal import Caller

logger = logging.getLogger("minikafka.authorizer")

WINDOW_S = 10.0
MAX_LINES = 2_000  # of one level, in a window
SHOWN_CHARACTERS = 256
ANY_RESOURCE = "NONE"  # as Kafka calls whichever it be


def shown(name: str) -> str:
    """A name from outside, as it may be logged."""
    return escaped(name[:SHOWN_CHARACTERS])[:SHOWN_CHARACTERS]


class Question(NamedTuple):
    """What was judged. `name` as it is shown; `request` as Kafka names it."""

    principal: str
    host: str
    request: str
    operation: Operation
    type: ResourceType
    name: str
    allowed: bool

    def sentence(self, count: int) -> str:
        verdict = "Allowed" if self.allowed else "Denied"
        return (
            f"Principal = {self.principal} is {verdict} Operation = {self.operation.word} from "
            f"host = {self.host} on resource = {self.type.word}:LITERAL:{self.name} for request = "
            f"{self.request} with resourceRefCount = {count}"
        )


def question_of(
    caller: Caller,
    request: str,
    operation: Operation,
    type: ResourceType,
    name: str,
    allowed: bool,
) -> Question:
    principal = shown(str(caller.principal))
    return Question(principal, caller.host, request, operation, type, shown(name), allowed)


@dataclass(slots=True)
class _Said:
    at_s: float
    again: int = 0


@dataclass(slots=True)
class _Lines:
    """Of one level. `unsaid`: how many there were beyond MAX_LINES, and are not told of yet."""

    said: dict[Question, _Said] = field(default_factory=dict)
    unsaid: int = 0


class Audit:
    """`now_s` is monotonic time."""

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        self._now_s = now_s
        self._levels: dict[int, _Lines] = {}

    def tell(
        self,
        level: int,
        question: Question,
        count: int,
        why: Callable[[], str],
        failure: BaseException | None = None,
    ) -> None:
        """Say it, unless an equal one was said not long ago. `why` is asked if it is said."""
        lines = self._levels.setdefault(level, _Lines())
        now_s = self._now_s()
        _forget(level, lines, now_s - WINDOW_S)
        before = lines.said.get(question)
        if before is not None:
            before.again += 1
        elif len(lines.said) >= MAX_LINES:
            lines.unsaid += 1
        else:
            lines.said[question] = _Said(now_s)
            logger.log(level, "%s: %s", question.sentence(count), why(), exc_info=failure)

    def flush(self) -> None:
        """Say what has only been counted so far."""
        for level, lines in self._levels.items():
            _forget(level, lines, float("inf"))


AUDIT = Audit()  # of this process


def _forget(level: int, lines: _Lines, until_s: float) -> None:
    """What was said before then may be said again."""
    while lines.said:
        question, said = next(iter(lines.said.items()))
        if said.at_s > until_s:
            return
        del lines.said[question]
        if said.again:
            logger.log(
                level, "%s, and %d times more in %d s", question.sentence(1), said.again, WINDOW_S
            )
    if lines.unsaid:
        logger.log(level, "%d verdicts more, which are not listed", lines.unsaid)
        lines.unsaid = 0
