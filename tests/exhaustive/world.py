"""The whole world of the model, and every event that may happen in it.

State: a tuple of numbers (`Interner`): the brokers, ZooKeeper, two controllers (one may be deposed
and not know it), a reply and an answer on its way to each broker, messages that are late, the
ledger, the budget. An event is a tuple of its kind and its arguments; `successors` yields each
enabled event with the state that it leads to, or with what it violates.

What is abstracted from, and why that leaves nothing out:

- a follower always has a fetch on its way and a leader its proposal: so both are read off the
  sender when they arrive (`fetch`, `propose`); what arrives when the sender has moved on since is a
  late message (`late`, then `deliver`), as is what arrives twice;
- a reply or an answer is lost when the next one takes its place;
- time stands still and `age` lets it pass, follower by follower: any order of clocks may happen;
- broker epochs are counted per broker, not by one czxid: they are compared per broker only;
- controllers live outside of the replicas: so their deaths may, but need not, coincide.

Invariant: a step of a broker or of a controller depends on its value and the event alone, and is
remembered: the core computes it once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.exhaustive import replica as replica_module
from tests.exhaustive.checks import (
    check_acknowledged,
    check_commit,
    check_world,
    check_writes,
)
from tests.exhaustive.machine import ACTIVE, OLD, Event, Machine, Violation, World
from tests.exhaustive.replica import Produce, Register, Retain
from tests.exhaustive.values import (
    Answer,
    Broker,
    Budget,
    Fetch,
    Late,
    Reply,
    Term,
    UpdateStateBatch,
    ZooKeeper,
    start_of,
)


class Model(Machine):
    """Successors of states of the world, under the bounds of the machine."""

    # --- the beginning ---

    def start(self) -> World:
        """The topic has just been made, everybody has heard of it, and fetches."""
        n = self.count
        ids = range(1, n + 1)
        zookeeper = ZooKeeper(tuple((i, 1, 0, False) for i in ids), (1,) * n, 0, None)
        begun = self.term.begin(zookeeper)
        parts = [Broker(True, 1)] * n
        late: tuple[int, ...] = ()
        rest = [None] * (2 * n)
        everything = [*parts, begun.zookeeper, None, begun.term, *rest, late, (), Budget(0, 0)]
        world = self.settle(tuple(self.parts.number(part) for part in everything))
        return self.changed(world, (self.at_budget, self.bounds.budget))

    def start_with_preferred_waiting(self) -> World:
        """Broker A, the preferred leader, died, came back and is in sync again: B leads."""
        return self._after("kill", 1, "restart")

    def start_alone(self) -> World:
        """The last replica died and is out of the ISR: A leads the others."""
        return self._after("kill", self.count)

    def _after(self, kind: str, me: int, *more: str) -> World:
        world = self.changed(self.start(), (self.at_budget, Budget(0, 1)))
        for what in (kind, *more):
            world = self.settle(self.take(world, what, me)[1])
        return self.changed(world, (self.at_budget, self.bounds.budget))

    def begin(self, start: str) -> World:
        """By name: fresh, preferred-waiting, alone."""
        starts = {
            "fresh": self.start,
            "preferred-waiting": self.start_with_preferred_waiting,
            "alone": self.start_alone,
        }
        return starts[start]()

    def take(self, world: World, *wanted: Any) -> tuple[Event, World]:
        """The first enabled event that begins so, and the state that it leads to."""
        for event, after in self.successors(world):
            if event[: len(wanted)] == wanted:
                assert not isinstance(after, Violation), (event, after)
                return event, after
        raise AssertionError(f"{wanted} is not enabled")

    def settle(self, world: World) -> World:
        """Let everything that costs nothing happen, until nothing changes (nobody comes back)."""
        kinds = ("register", "expire", "read", "message", "propose", "answer", "reply", "fetch")
        for _ in range(500):
            enabled = {event[0]: after for event, after in self.successors(world)}
            kind = next((kind for kind in kinds if kind in enabled), None)
            if kind is None:
                return world
            after = enabled[kind]
            assert not isinstance(after, Violation), after
            world = after
        raise AssertionError("the world does not come to rest")

    # --- events ---

    def successors(self, world: World) -> Iterator[tuple[Event, World | Violation]]:
        """Every enabled event that changes anything, with what it leads to."""
        yield from self._replication(world)
        yield from self._control(world)
        yield from self._trouble(world)
        budget = self.budget(world)
        if budget.late:
            yield from self._delays(world)
        yield from self._late_arrivals(world)

    def _replication(self, world: World) -> Iterator[tuple[Event, World | Violation]]:
        """Fetches, replies, appends, laggards."""
        values, budget = self.parts.values, self.budget(world)
        for me in range(1, self.count + 1):
            broker = values[world[me - 1]]
            if not broker.up:
                continue
            leader, fetch, _ = self._offer(me, world[me - 1])
            if fetch and values[world[leader - 1]].up:
                yield from self._at_leader(("fetch", me), world, leader, fetch)
            if reply := world[self.at_replies + me - 1]:
                cleared = self.placed(world, self.at_replies + me - 1, 0)
                yield from self._at_broker(("reply", me), cleared, me, reply, world)
            if budget.retentions and broker.state is not None:
                event = self.parts.number(Retain())
                spent = self.spent(world, "retentions")
                if self._does_something(me, world[me - 1], event):
                    yield from self._at_broker(("retain", me), spent, me, event, world)
            if broker.lead is None:
                continue
            if budget.records:
                payload = self.bounds.budget.records - budget.records + 1
                spent = self.spent(world, "records")
                for acks in self.bounds.acks:
                    event = self.parts.number(Produce(payload, acks))
                    if self._does_something(me, world[me - 1], event):
                        name = ("produce", me, payload, acks)
                        yield from self._at_broker(name, spent, me, event, world)
            if budget.lags:
                spent = self.spent(world, "lags")
                for event in self._ages[me]:
                    if self._does_something(me, world[me - 1], event):
                        name = ("age", me, values[event].followers)
                        yield from self._at_broker(name, spent, me, event, world)

    def _at_broker(
        self, name: Event, world: World, me: int, event: int, before: World
    ) -> Iterator[tuple[Event, World | Violation]]:
        """An event at one broker; `world` is `before` without what the event used up."""
        number, _, acknowledged, violation = self._step(me, world[me - 1], event)
        if violation is not None and self._counts(world, violation):
            yield name, violation
            return
        after = self.placed(world, me - 1, number)
        if after != before:
            yield name, self._finish(after, me, acknowledged)

    def _counts(self, world: World, violation: Violation) -> bool:
        """After an unclean election what was committed may be cut (no. 12)."""
        return bool(world[self.at_ledger]) or not violation.startswith("no. 12")

    def _at_leader(
        self, name: Event, world: World, leader: int, fetch: int
    ) -> Iterator[tuple[Event, World | Violation]]:
        """A fetch arrives; the reply takes the place of one that is on its way."""
        number, reply, acknowledged, violation = self._step(leader, world[leader - 1], fetch)
        if violation is not None:
            yield name, violation
            return
        me = self.parts.values[fetch].replica_id
        follower, said = self.broker(world, me), self.parts.values[reply]
        idle = said is not None and said.kind == "data" and not said.batches
        if idle and said.offsets[1] <= follower.high_watermark:
            idle = said.offsets[0] <= start_of(follower.log)
            reply = 0 if idle else reply
        reply = reply if follower.up else 0
        after = self.placed(world, leader - 1, number)
        after = self.placed(after, self.at_replies + me - 1, reply)
        if after != world:
            yield name, self._finish(after, leader, acknowledged)

    def _control(self, world: World) -> Iterator[tuple[Event, World | Violation]]:
        """Messages, proposals, answers, and what the active controller does."""
        values, budget = self.parts.values, self.budget(world)
        active = world[self.at_terms + ACTIVE]
        zookeeper = self.zookeeper(world)
        for which in (OLD, ACTIVE):
            if world[self.at_terms + which]:
                yield from self._correspondence(world, which)
        for me in range(1, self.count + 1):
            if answer := world[self.at_answers + me - 1]:
                cleared = self.placed(world, self.at_answers + me - 1, 0)
                yield from self._at_broker(("answer", me), cleared, me, answer, world)
        faults = (None, "lost", "applied") if budget.faults else (None,)
        if active and values[active].brokers != zookeeper.registrations:
            for fault in faults:
                key = ("read", active, world[self.at_zookeeper], fault)
                yield from self._at_term(("read", fault), world, ACTIVE, key)
        if active and budget.elections:
            key = ("elect", active, world[self.at_zookeeper])
            spent = self.spent(world, "elections")
            result = self._term_step(*key)
            if result.writes or result.violation is not None:
                yield from self._at_term(("elect",), spent, ACTIVE, key)
        if active and budget.shutdowns:
            spent = self.spent(world, "shutdowns")
            for entry in values[active].brokers:
                key = ("leave", active, world[self.at_zookeeper], entry[0], entry[1])
                yield from self._at_term(("leave", entry[0]), spent, ACTIVE, key)
        if budget.failovers:
            spent = self.spent(world, "failovers")
            deposed = list(spent)
            deposed[self.at_terms + OLD] = active
            key = ("begin", world[self.at_zookeeper])
            yield from self._at_term(("failover",), tuple(deposed), ACTIVE, key)

    def _correspondence(
        self, world: World, which: int
    ) -> Iterator[tuple[Event, World | Violation]]:
        """Messages of one controller, and proposals to it."""
        place = self.at_terms + which
        term: Term = self.value(world, place)
        for target, message in term.messages:
            broker = self.broker(world, target)
            if broker.up and not replica_module.message_is_fenced(broker, message):
                sent = self.placed(world, place, self._messages("sent", world[place], target))
                event = self.parts.number(message)
                yield from self._at_broker(("message", which, target), sent, target, event, world)
            lost = self._messages("lost", world[place], target)
            if lost != world[place]:
                yield ("lose", which, target), self.placed(world, place, lost)
        faults = (None, "lost", "applied") if self.budget(world).faults else (None,)
        for me in range(1, self.count + 1):
            propose = self._offer(me, world[me - 1])[2]
            if propose:
                for fault in faults:
                    name = ("propose", which, me, fault)
                    yield from self._judged(name, world, which, propose, fault)

    def _judged(
        self, name: Event, world: World, which: int, propose: int, fault: str | None
    ) -> Iterator[tuple[Event, World | Violation]]:
        """A proposal arrives; the answer takes the place of one that is on its way."""
        term = world[self.at_terms + which]
        key = ("judge", term, world[self.at_zookeeper], propose, fault)
        yield from self._at_term(name, world, which, key)

    def _at_term(
        self, name: Event, world: World, which: int, key: tuple[Any, ...]
    ) -> Iterator[tuple[Event, World | Violation]]:
        """A step of a controller."""
        result = self._term_step(*key)
        if result.violation is not None:
            yield name, Violation(result.violation)
            return
        before = self.zookeeper(world)
        after = self.changed(
            world,
            (self.at_zookeeper, result.zookeeper),
            (self.at_terms + which, result.term),
        )
        if key[0] == "judge":
            me = self.parts.values[key[3]].broker_id
            if self.broker(world, me).up:
                after = self.changed(after, (self.at_answers + me - 1, result.answer))
        fault = key[-1] if key[0] in ("read", "judge") else None
        if fault is not None:
            if before == result.zookeeper and self._term_step(*key[:-1], None) == result:
                return  # nothing was written: the fault struck nothing
            after = self.spent(after, "faults")
        if after == world:
            return
        if result.unclean:
            yield name, self.placed(after, self.at_ledger, 0)
            return
        if result.writes and before.state is not None and world[self.at_ledger]:
            brokers = self.brokers(world)
            found = check_writes(before.state, result.writes, brokers, batch=key[0] == "read")
            if found is not None:
                yield name, Violation(found)
                return
        yield name, self._finish(after, 0, ())

    def _trouble(self, world: World) -> Iterator[tuple[Event, World | Violation]]:
        """Crashes, restarts, sessions."""
        budget, zookeeper = self.budget(world), self.zookeeper(world)
        registered = {registration[0]: registration for registration in zookeeper.registrations}
        for me in range(1, self.count + 1):
            broker = self.broker(world, me)
            if broker.up and budget.crashes:
                yield ("kill", me), self._killed(world, me)
            if me in registered and not broker.up:
                yield ("expire", me), self._expired(world, me)
            elif me in registered and budget.expiries:
                expired = self._expired(world, me)
                yield ("expire", me), self.spent(expired, "expiries")
            if broker.up and me not in registered:
                after, epoch = self._registered(world, me, broker.storage, broker.dirty)
                event = self.parts.number(Register(epoch))
                yield from self._at_broker(("register", me), after, me, event, world)
            if not broker.up:
                yield from self._restarts(world, me, broker)

    def _killed(self, world: World, me: int) -> World:
        """Only the disk is left. Replies and answers go with the process that waits for them; what
        the controller tells it may still reach the next one."""
        broker = self.broker(world, me)
        late: tuple[int, ...] = self.value(world, self.at_late)
        if late:
            messages = [(number, self.parts.values[number]) for number in late]
            late = tuple(
                number
                for number, message in messages
                if message.target != me or not isinstance(message.body, Reply | Answer)
            )
            world = self.changed(world, (self.at_late, late))
        dead = Broker(False, -1, broker.log, broker.high_watermark, broker.epochs, broker.storage)
        world = self.placed(world, me - 1, self.parts.number(dead))
        world = self.placed(world, self.at_replies + me - 1, 0)
        return self.spent(self.placed(world, self.at_answers + me - 1, 0), "crashes")

    def _restarts(
        self, world: World, me: int, broker: Broker
    ) -> Iterator[tuple[Event, World | Violation]]:
        """With the disk as it was; with an older high watermark on it; with a new disk; with the
        tail lost, since the host went down."""
        disks = [("kept", broker)]
        if self.bounds.stale and broker.high_watermark:
            start = start_of(broker.log)
            disks.append(("stale", broker._replace(high_watermark=start)))
        if self.budget(world).losses:
            storage = broker.storage + 1
            disks.append(("empty", Broker(False, -1, storage=storage)))
            if broker.log and broker.log[-1] is not None:
                end = len(broker.log) - 1
                cut = broker._replace(
                    log=broker.log[:-1],
                    high_watermark=min(end, broker.high_watermark),
                    epochs=tuple(entry for entry in broker.epochs if entry[1] <= end),
                    storage=storage,
                    dirty=True,
                )
                disks.append(("tail", cut))
        for how, disk in disks:
            after, epoch = self._registered(world, me, disk.storage, disk.dirty)
            if how in ("empty", "tail"):
                after = self.spent(after, "losses")
            after = self.changed(after, (me - 1, disk._replace(up=True, broker_epoch=epoch)))
            yield ("restart", me, how), self._finish(after, 0, ())

    def _expired(self, world: World, me: int) -> World:
        zookeeper = self.zookeeper(world)
        rest = tuple(entry for entry in zookeeper.registrations if entry[0] != me)
        return self.changed(world, (self.at_zookeeper, zookeeper._replace(registrations=rest)))

    def _registered(self, world: World, me: int, storage: int, dirty: bool) -> tuple[World, int]:
        """A new incarnation; one that was there before is gone."""
        zookeeper = self.zookeeper(world)
        births = list(zookeeper.births)
        births[me - 1] += 1
        epoch = births[me - 1]
        rest = [entry for entry in zookeeper.registrations if entry[0] != me]
        registrations = tuple(sorted([*rest, (me, epoch, storage, dirty)]))
        after = zookeeper._replace(registrations=registrations, births=tuple(births))
        return self.changed(world, (self.at_zookeeper, after)), epoch

    # --- late messages ---

    def _delays(self, world: World) -> Iterator[tuple[Event, World | Violation]]:
        """A copy of anything that is on its way will arrive later."""
        values = self.parts.values
        for me in range(1, self.count + 1):
            if not values[world[me - 1]].up:
                continue
            leader, fetch, propose = self._offer(me, world[me - 1])
            if fetch:
                yield self._delayed(world, "fetch", me, Late(leader, values[fetch]))
            if propose:
                yield self._delayed(world, "propose", me, Late(-1, values[propose]))
            for kind, place in (("reply", self.at_replies), ("answer", self.at_answers)):
                if body := values[world[place + me - 1]]:
                    yield self._delayed(world, kind, me, Late(me, body))
        for which in (OLD, ACTIVE):
            term: Term | None = self.value(world, self.at_terms + which)
            for target, message in term.messages if term is not None else ():
                yield self._delayed(world, "message", target, Late(target, message))

    def _delayed(self, world: World, kind: str, who: int, message: Late) -> tuple[Event, World]:
        number = self.parts.number(message)
        late = tuple(sorted((*self.value(world, self.at_late), number)))
        after = self.changed(world, (self.at_late, late))
        return ("late", kind, who, number), self.spent(after, "late")

    def _late_arrivals(self, world: World) -> Iterator[tuple[Event, World | Violation]]:
        late: tuple[int, ...] = self.value(world, self.at_late)
        for number in dict.fromkeys(late):
            rest = list(late)
            rest.remove(number)
            cleared = self.changed(world, (self.at_late, tuple(rest)))
            message: Late = self.parts.values[number]
            event = self.parts.number(message.body)
            if message.target == -1:
                for which in (OLD, ACTIVE):
                    if world[self.at_terms + which]:
                        name = ("deliver", number, which)
                        yield from self._judged(name, cleared, which, event, None)
                continue
            if not self.broker(world, message.target).up:
                continue
            name = ("deliver", number)
            if isinstance(message.body, Fetch):
                yield from self._at_leader(name, cleared, message.target, event)
            elif not isinstance(
                message.body, UpdateStateBatch
            ) or not replica_module.message_is_fenced(
                self.broker(world, message.target), message.body
            ):
                yield from self._at_broker(name, cleared, message.target, event, world)

    # --- after every event ---

    def _finish(self, world: World, me: int, acknowledged: tuple[int, ...]) -> World | Violation:
        """Bring the ledger up to date after an event at broker `me` (0: none), and check. After an
        unclean election there is no ledger any more."""
        if not world[self.at_ledger]:
            return world
        ledger = self.parts.values[world[self.at_ledger]]
        if me:
            broker = self.parts.values[world[me - 1]]
            if broker.high_watermark > len(ledger):
                found = check_commit(broker, self.min_insync)
                if found is not None:
                    return Violation(found)
                ledger += broker.log[len(ledger) : broker.high_watermark]
                world = self.changed(world, (self.at_ledger, ledger))
            if acknowledged:
                brokers = self.brokers(world)
                found = check_acknowledged(acknowledged, broker, brokers, self.min_insync)
                if found is not None:
                    return Violation(found)
        key = (*world[: self.count + 1], world[self.at_ledger])
        known = self._checks.get(key, key)
        if known is key:
            found = check_world(self.brokers(world), self.zookeeper(world), ledger)
            known = self._checks[key] = None if found is None else Violation(found)
        return world if known is None else known
