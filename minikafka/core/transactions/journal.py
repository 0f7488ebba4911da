"""What stands in the log of one transactional id, what is on its way there, and what waits for it.

State: the last record in the log (`value`), the one that is being written, if any, and those in the
log that are not committed yet, oldest first, each with what is due once it is (answers, mostly).

Invariants: memory is the log. A record counts from when it is in the log, and nothing counts
before; at most one is being written, so that one that is refused leaves nothing to be taken back.
What is due leaves the broker only when its record, and so all before it, is committed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from minikafka.core.transactions.effects import Append
from minikafka.core.transactions.requests import Request, Result
from minikafka.core.transactions.values import TransactionRecord, TransactionValue


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that is not answered. `above`: the newest record in the log when it came.
    `held_until_ms` None: it was never held."""

    request: Request
    token: object
    above: int
    held_until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """An answer that waits for a record to be committed."""

    waiting: Waiting
    result: Result


@dataclass(frozen=True, slots=True)
class Writing:
    """A record on its way to the log. `cause` says who wants it: a request that waits, or what the
    coordinator does by itself; `result` is the request's (None: it is held)."""

    number: int
    value: TransactionValue | None
    cause: object
    result: Result | None = None
    uses_fresh: bool = False


@dataclass(frozen=True, slots=True)
class Uncommitted:
    """A record in the log, and what is due once it is committed."""

    number: int
    value: TransactionValue | None
    due: tuple[Due, ...]


class Journal:
    """See the module. Everybody may read `value` and `writing`."""

    def __init__(self, transactional_id: str) -> None:
        self.value: TransactionValue | None = None
        self.writing: Writing | None = None
        self._uncommitted: deque[Uncommitted] = deque()
        self._transactional_id = transactional_id
        self._number = 0

    @property
    def is_committed(self) -> bool:
        """Is everything in the log committed, and nothing on its way there?"""
        return self.writing is None and not self._uncommitted

    @property
    def newest(self) -> int:
        """The number of the newest record that this broker put into the log."""
        return self._number if self.writing is None else self._number - 1

    def restore(self, value: TransactionValue) -> None:
        """As it stood in the log when this broker began to lead; that is committed."""
        self.value = value

    def write(
        self,
        value: TransactionValue | None,
        cause: object,
        result: Result | None = None,
        *,
        uses_fresh: bool = False,
    ) -> Append:
        assert self.writing is None, (self.writing, value)
        self._number += 1
        self.writing = Writing(self._number, value, cause, result, uses_fresh)
        return Append(TransactionRecord(self._transactional_id, value), self._number)

    def on_appended(self, number: int) -> Writing:
        written = self._taken(number)
        self.value = written.value
        self._uncommitted.append(Uncommitted(number, written.value, ()))
        return written

    def on_refused(self, number: int) -> Writing:
        return self._taken(number)

    def _taken(self, number: int) -> Writing:
        writing, self.writing = self.writing, None
        assert writing is not None, f"nobody writes record {number}"
        assert writing.number == number, (writing, number)
        return writing

    def when_committed(self, due: Due, above: int = 0) -> bool:
        """Keep it until all that is in the log is committed. False: nothing there above record
        `above` has to be."""
        if not self._uncommitted or self._uncommitted[-1].number <= above:
            return False
        newest = self._uncommitted.pop()
        self._uncommitted.append(Uncommitted(newest.number, newest.value, (*newest.due, due)))
        return True

    def on_committed(self, number: int) -> list[Uncommitted]:
        """This record is, and all before it are. Returns them."""
        committed = []
        while self._uncommitted and self._uncommitted[0].number <= number:
            committed.append(self._uncommitted.popleft())
        return committed

    def unload(self) -> list[Waiting]:
        """Nothing more will be heard of it. Returns who waited for an answer."""
        waiting = [due.waiting for each in self._uncommitted for due in each.due]
        self._uncommitted.clear()
        if self.writing is not None and isinstance(self.writing.cause, Waiting):
            waiting.append(self.writing.cause)
        self.writing = None
        return waiting
