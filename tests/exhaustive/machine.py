"""The layout of a state of the world, and the steps of its parts, remembered.

Purpose: what is the same for every event: where which part stands in a state, and what a broker or
a controller makes of an event. Both depend on its value and the event alone, so that the core
computes each of them once, in however many states of the world it happens.

State: the numbers of all parts seen so far, and what their steps came to. It only grows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from tests.exhaustive.replica import Age, ReplicaStep
from tests.exhaustive.term import TermResult, TermStep
from tests.exhaustive.values import Broker, Budget, Fetch, Interner, Propose, ZooKeeper

World = tuple[int, ...]
Event = tuple[Any, ...]

OLD, ACTIVE = 0, 1  # which controller


@dataclass(frozen=True)
class Bounds:
    """What a search is about. `acks`: those that producers use; `stale`: a restarted broker may
    find an older high watermark on its disk. `unclean`: the topic allows unclean elections; after
    one, what was committed may be gone, and only nos. 1, 3, 8, 14, 15 and 19 are checked."""

    replicas: int = 2
    min_insync: int = 1
    budget: Budget = field(default_factory=Budget)
    acks: tuple[int, ...] = (-1,)
    stale: bool = False
    unclean: bool = False


class Violation(str):
    """What a step violates."""

    __slots__ = ()


class Machine:
    """Parts of states under these bounds, and their steps."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.count = n = bounds.replicas
        self.min_insync = min(bounds.min_insync, n)
        self.replica = ReplicaStep(n, bounds.min_insync)
        self.term = TermStep(n, bounds.unclean)
        self.parts = Interner()
        self.at_zookeeper, self.at_terms = n, n + 1
        self.at_replies, self.at_answers = n + 3, 2 * n + 3
        self.at_late, self.at_ledger, self.at_budget = 3 * n + 3, 3 * n + 4, 3 * n + 5
        subsets = [c for size in range(1, n) for c in combinations(range(1, n + 1), size)]
        self._ages = {
            me: [self.parts.number(Age(c)) for c in subsets if me not in c]
            for me in range(1, n + 1)
        }
        self._steps: dict[tuple[int, int, int], tuple[int, int, tuple[int, ...], Any]] = {}
        self._terms: dict[Any, Any] = {}
        self._offers: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._budgets: dict[tuple[int, str], int] = {}
        self._checks: dict[tuple[int, ...], Any] = {}

    # --- parts of a state ---

    def value(self, world: World, place: int) -> Any:
        return self.parts.values[world[place]]

    def broker(self, world: World, broker_id: int) -> Broker:
        found: Broker = self.parts.values[world[broker_id - 1]]
        return found

    def brokers(self, world: World) -> list[Broker]:
        return [self.parts.values[number] for number in world[: self.count]]

    def zookeeper(self, world: World) -> ZooKeeper:
        found: ZooKeeper = self.value(world, self.at_zookeeper)
        return found

    def budget(self, world: World) -> Budget:
        found: Budget = self.value(world, self.at_budget)
        return found

    def changed(self, world: World, *changes: tuple[int, Any]) -> World:
        """With these places holding these values."""
        parts = list(world)
        for place, value in changes:
            parts[place] = self.parts.number(value)
        return tuple(parts)

    def placed(self, world: World, place: int, number: int) -> World:
        """With this number in this place."""
        return (*world[:place], number, *world[place + 1 :])

    def spent(self, world: World, kind: str) -> World:
        """With one of this kind less to come."""
        key = (world[self.at_budget], kind)
        number = self._budgets.get(key)
        if number is None:
            budget = self.budget(world)
            left = budget._replace(**{kind: getattr(budget, kind) - 1})
            number = self._budgets[key] = self.parts.number(left)
        return self.placed(world, self.at_budget, number)

    # --- remembered steps ---

    def _step(self, broker_id: int, number: int, event: int) -> tuple[int, int, Any, Any]:
        """A step of one broker: (number after it, that of a reply, acknowledged, violation)."""
        key = (broker_id, number, event)
        found = self._steps.get(key)
        if found is None:
            values = self.parts.values
            step = self.replica.step(broker_id, values[number], values[event])
            found = self._steps[key] = (
                self.parts.number(step.broker),
                self.parts.number(step.reply),
                step.acknowledged,
                None if step.violation is None else Violation(step.violation),
            )
        return found

    def _does_something(self, broker_id: int, number: int, event: int) -> bool:
        """Does an event that costs something change the broker, or violate anything?"""
        after, _, _, violation = self._step(broker_id, number, event)
        return after != number or violation is not None

    def _term_step(self, *key: Any) -> TermResult:
        """A step of a controller: key is (what, term number, ...)."""
        found: TermResult | None = self._terms.get(key)
        if found is None:
            values = self.parts.values
            match key:
                case ("begin", zookeeper):
                    found = self.term.begin(values[zookeeper])
                case ("read", term, zookeeper, fault):
                    found = self.term.read_brokers(values[term], values[zookeeper], fault)
                case ("elect", term, zookeeper):
                    found = self.term.elect_preferred(values[term], values[zookeeper])
                case ("leave", term, zookeeper, *who):
                    found = self.term.leave(values[term], values[zookeeper], *who)
                case ("judge", term, zookeeper, propose, fault):
                    found = self.term.judge(values[term], values[zookeeper], values[propose], fault)
            assert found is not None
            self._terms[key] = found
        return found

    def _messages(self, what: str, term: int, broker_id: int) -> int:
        """The number of a term after a message was sent or lost."""
        key = (what, term, broker_id)
        found: int | None = self._terms.get(key)
        if found is None:
            change = self.term.sent if what == "sent" else self.term.lost
            found = self.parts.number(change(self.parts.values[term], broker_id))
            self._terms[key] = found
        return found

    def _offer(self, broker_id: int, number: int) -> tuple[int, int, int]:
        """What a broker has to send: (leader, fetch, proposal), numbers, 0 each for nothing."""
        key = (broker_id, number)
        found = self._offers.get(key)
        if found is None:
            broker: Broker = self.parts.values[number]
            leader = fetch = propose = 0
            found_position = self.replica.position(broker_id, broker)
            if found_position is not None:
                leader, position = found_position
                fetch = self.parts.number(Fetch(broker_id, broker.broker_epoch, leader, position))
            if broker.lead is not None and broker.lead.pending is not None:
                propose = self.parts.number(
                    Propose(broker_id, broker.broker_epoch, broker.lead.pending)
                )
            found = self._offers[key] = (leader, fetch, propose)
        return found
