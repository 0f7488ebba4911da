"""What happened: every operation of a client with its outcome, and every fault, in JSON lines.

Times are seconds of the monotonic clock of this machine, so all processes share them. A record's
value is `<producer>:<n>`, with n rising by one for each record that this producer sends to this
partition; it names its record wherever that turns up.

State of `History`: what was recorded, in the order in which it ended, also in memory. Invariant:
each operation is written once, when its outcome is known, whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TextIO

OK = "ok"
FAILED = "failed"  # certainly not written
UNKNOWN = "unknown"
NOTHING = -1  # the offset of a group that has committed nothing
NEVER = "NEVER: the client never told"  # the error of a send without an outcome


@dataclass(frozen=True, slots=True)
class Send:
    """One record sent. `offset` is -1 unless the outcome is OK, and may be -1 even then: not told.
    `once`: by an idempotent producer with acks=all; others may lose, repeat and reorder."""

    op: ClassVar[str] = "send"
    by: str
    partition: str
    value: str
    start: float
    end: float
    outcome: str
    offset: int = -1
    once: bool = True
    error: str = ""


@dataclass(frozen=True, slots=True)
class Poll:
    """Records of one partition that one consumer was given at once, as (offset, value).
    `high_watermark` is what came with them, -1 if the consumer was not told."""

    op: ClassVar[str] = "poll"
    by: str
    partition: str
    start: float
    end: float
    records: list[tuple[int, str]]
    high_watermark: int = -1


@dataclass(frozen=True, slots=True)
class Seek:
    """A consumer goes on at `offset`; also said of its first position."""

    op: ClassVar[str] = "seek"
    by: str
    partition: str
    start: float
    offset: int


@dataclass(frozen=True, slots=True)
class End:
    """A client asked for the end of a partition."""

    op: ClassVar[str] = "end"
    by: str
    partition: str
    start: float
    end: float
    offset: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A member of the group committed `offset`; FAILED: that has certainly changed nothing."""

    op: ClassVar[str] = "commit"
    by: str
    partition: str
    start: float
    end: float
    offset: int
    outcome: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Committed:
    """A member of the group asked what is committed, and was told `offset` (or NOTHING)."""

    op: ClassVar[str] = "committed"
    by: str
    partition: str
    start: float
    end: float
    offset: int


@dataclass(frozen=True, slots=True)
class Fault:
    """From the moment when a fault began to act until it was taken back."""

    op: ClassVar[str] = "fault"
    kind: str
    what: str
    start: float
    end: float


Operation = Send | Poll | Seek | End | Commit | Committed | Fault
_KINDS = {each.op: each for each in (Send, Poll, Seek, End, Commit, Committed, Fault)}


@dataclass
class History:
    """`path`: where the lines go, as they come; None: memory only. `last_ok`: per partition, when
    the last acks=all write was acknowledged."""

    path: Path | None = None
    operations: list[Operation] = field(default_factory=list)
    last_ok: dict[str, float] = field(default_factory=dict)
    _file: TextIO | None = None

    def __enter__(self) -> History:
        if self.path is not None:
            self._file = self.path.open("a")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        if isinstance(operation, Send) and operation.once and operation.outcome == OK:
            self.last_ok[operation.partition] = operation.end
        if self._file is not None:
            self._file.write(to_line(operation))


def to_line(operation: Operation) -> str:
    return json.dumps({"op": operation.op, **asdict(operation)}, separators=(",", ":")) + "\n"


def from_lines(lines: Iterable[str]) -> Iterator[Operation]:
    for line in lines:
        document = json.loads(line)
        kind = _KINDS[document.pop("op")]
        if kind is Poll:
            document["records"] = [(offset, value) for offset, value in document["records"]]
        yield kind(**document)


def producer_of(value: str) -> tuple[str, int]:
    """Who sent it, and its number. ValueError if that is no value of ours."""
    producer, _, number = value.rpartition(":")
    if not producer:
        raise ValueError(value)
    return producer, int(number)
