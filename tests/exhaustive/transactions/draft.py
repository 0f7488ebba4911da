"""The next state of the world of transactions, while it is being made out of the last one.

An event of the world (world.py) takes parts out of a draft, changes them and lets brokers take
their steps (`Draft.step`); the replies, records and words that come of a step go to whom they are
for. `Draft.end` checks what must hold and makes a state of it, in which connections are numbered
densely: only their order counts.

State: the parts, as values; the first violation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from minikafka.core.transactions.journal import Waiting
from tests.exhaustive.machine import Violation, World
from tests.exhaustive.transactions import checks, producer
from tests.exhaustive.transactions.coordinator import Step, Surroundings
from tests.exhaustive.transactions.values import (
    BUDGET,
    DATA_AT,
    LATE,
    LEDGER,
    LOG,
    PRODUCERS,
    Broker,
    Budget,
    Data,
    Late,
    Ledger,
    Producer,
    StateLog,
)
from tests.exhaustive.values import Interner


@dataclass(frozen=True)
class Bounds:
    """What a search is about. `tv`: which version each producer speaks; one that is not named does
    not come. `max_epoch`: the last that a client may hold. `group`: what is written to the first
    partition are offsets of a group."""

    tv: tuple[int, ...] = (2,)
    partitions: int = 1
    max_epoch: int = 2
    budget: Budget = field(default_factory=Budget)
    group: bool = False


class Steps(Protocol):
    """What a draft asks of its model."""

    bounds: Bounds
    parts: Interner

    def step(
        self, which: int, broker: Broker, event: tuple[Any, ...], surroundings: Surroundings
    ) -> Step: ...
    def judge(self, world: World) -> str | None: ...


class Draft:
    """The next state of the world, being made."""

    def __init__(self, model: Steps, world: World) -> None:
        self.model = model
        self.parts = [model.parts.values[number] for number in world]
        self.violation: str | None = None

    @property
    def log(self) -> StateLog:
        found: StateLog = self.parts[LOG]
        return found

    @property
    def data(self) -> Data:
        found: Data = self.parts[DATA_AT]
        return found

    @data.setter
    def data(self, data: Data) -> None:
        self.parts[DATA_AT] = data

    @property
    def ledger(self) -> Ledger:
        found: Ledger = self.parts[LEDGER]
        return found

    def broker(self, which: int) -> Broker:
        found: Broker = self.parts[which]
        return found

    def producer(self, who: int) -> Producer:
        found: Producer = self.parts[PRODUCERS + who]
        return found

    def violate(self, what: str | None) -> None:
        if what is not None and self.violation is None:
            self.violation = what

    def set_producer(self, who: int, value: Producer) -> None:
        self.parts[PRODUCERS + who] = value

    def spend(self, kind: str) -> None:
        budget = self.parts[BUDGET]
        self.parts[BUDGET] = budget._replace(**{kind: getattr(budget, kind) - 1})

    def add_late(self, late: Any) -> None:
        self.parts[LATE] = tuple(sorted({*self.parts[LATE], late}, key=repr))

    # --- steps of a coordinator ---

    def step(self, which: int, event: tuple[Any, ...], *, known: bool = True) -> None:
        """Let a broker handle this, and see to what it wants."""
        log, broker = self.log, self.broker(which)
        leads = log.leader == which
        surroundings = Surroundings(
            log.shrunk and leads, log.next_producer_id, self.data.leader, known
        )
        step = self.model.step(which, broker, event, surroundings)
        self.violate(step.violation)
        if step.violation is not None:
            return
        self.parts[which] = step.broker
        for value in step.sent:
            self.violate(checks.check_sent(log, value, leads=leads))
        log = log._replace(next_producer_id=step.next_producer_id)
        if leads:
            for value in step.appended:
                self.violate(checks.check_decisions(log.last, value))
                log = log._replace(tail=(*log.tail, value))
        self.parts[LOG] = log
        if leads and step.broker.role == "serving":
            self.violate(checks.check_memory(step.broker, log))
        for token, outcome in step.replies:
            self._reply(token, outcome)

    def _reply(self, token: Any, outcome: tuple[Any, ...]) -> None:
        if token[0] == "question":
            self._word(token, outcome[0])
            return
        who, connection, begins = token
        value = self.producer(who)
        if outcome[0] == "ok" and who in self.ledger.fenced:
            self.violate(f"no. 30: producer {who} was fenced by another, and is told ok")
        if outcome[0] == "ok" and begins:
            self.fence_others(who, "fenced")
        if value.connection != connection or value.request is None or value.sent:
            return  # it has given that up
        if outcome[0] == "closed":
            self.set_producer(who, self.connected(value._replace(sent=True)))
        else:
            self.set_producer(who, value._replace(reply=outcome))

    def fence_others(self, who: int, how: str) -> None:
        """Somebody has begun anew (`fenced`), or will have once that is committed (`fencing`)."""
        known = {each for each in range(2) if each != who and self.producer(each).phase != "new"}
        fenced = {*getattr(self.ledger, how), *known}
        self.parts[LEDGER] = self.ledger._replace(**{how: tuple(sorted(fenced))})

    def _word(self, token: Any, word: str) -> None:
        """The coordinator's answer to a question goes back to the partitions' leader."""
        _, produce, asked = token
        pending = []
        for each in self.data.pending:
            if (each.produce, each.asked) == (produce, asked):
                again = word in producer.AGAIN
                each = each._replace(asked=None) if again else each._replace(word=word)
            pending.append(each)
        self.data = self.data._replace(pending=tuple(pending))

    def connected(self, value: Producer) -> Producer:
        """On a new connection, younger than all."""
        youngest = max(connections(self.parts), default=0)
        return value._replace(connection=youngest + 1)

    # --- the end ---

    def end(self) -> World | Violation:
        if self.violation is None:
            self._renumber()
            world = tuple(map(self.model.parts.number, self.parts))
            self.violate(self.model.judge(world))
        if self.violation is not None:
            return Violation(self.violation)
        return world

    def _renumber(self) -> None:
        numbers = sorted({0, *connections(self.parts)})
        if numbers[-1] == len(numbers) - 1:
            return
        rank = {number: index for index, number in enumerate(numbers)}
        for which in range(2):
            broker = self.broker(which)
            self.parts[which] = rename_broker(broker, rank)
        for who in range(2):
            value = self.producer(who)
            self.set_producer(who, value._replace(connection=rank[value.connection]))
        pending = tuple(
            each._replace(token=(each.token[0], rank.get(each.token[1], 0)))
            for each in self.data.pending
        )
        self.data = renamed_group(self.data._replace(pending=pending), rank)
        self.parts[LATE] = tuple(
            each._replace(token=renamed(each.token, rank)) if isinstance(each, Late) else each
            for each in self.parts[LATE]
        )


def renamed_group(data: Data, rank: dict[int, int]) -> Data:
    if data.group is None:
        return data
    waiting = tuple(
        (end, (who, rank.get(connection, 0))) for end, (who, connection) in data.group.waiting
    )
    newest = rank[data.group.newest]
    return data._replace(group=data.group._replace(waiting=waiting, newest=newest))


def renamed(token: Any, rank: dict[int, int]) -> Any:
    return token if token[0] == "question" else (token[0], rank.get(token[1], 0), token[2])


def rename_broker(broker: Broker, rank: dict[int, int]) -> Broker:
    """With these connections in the place of those."""

    def waiting(of: Waiting) -> Waiting:
        return replace(of, token=renamed(of.token, rank))

    txn = broker.txn
    uncommitted = tuple(
        (value, tuple(replace(due, waiting=waiting(due.waiting)) for due in dues))
        for value, dues in txn.uncommitted
    )
    txn = txn._replace(uncommitted=uncommitted, held=tuple(map(waiting, txn.held)))
    return broker._replace(newest=rank[broker.newest], txn=txn)


def connections(parts: list[Any]) -> Iterator[int]:
    """Those whose order counts."""
    yield from (broker.newest for broker in parts[:2])
    yield from (client.connection for client in parts[PRODUCERS : PRODUCERS + 2])
    group = parts[DATA_AT].group
    if group is not None:
        yield group.newest
    yield from (late.token[1] for late in parts[LATE] if isinstance(late, Late))
