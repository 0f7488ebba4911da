"""The whole world of the model of transactions, and every event that may happen in it.

State: a tuple of numbers, as in tests/exhaustive/world.py: two brokers that may coordinate, the log
of the state partition, the broker that leads the partitions, two producers, what is late, the
ledger, the budget. `successors` yields each enabled event with what it leads to or violates.

What is abstracted from, and why that leaves nothing out:

- a request, a question, a marker message is read off its sender when it arrives; one that its
  sender has given up is late, and arrives at any time or never;
- the log of the state partition is one log, and what another leader finds of its uncommitted end is
  any part of it; the partitions are led by one broker and what is in their logs is committed;
- time stands still: what waits for it may be told that it has come;
- only the order of connections counts: they are numbered anew, densely, after each event;
- a client whose connection is closed, or whose broker died, asks again on a new one at once;
- with a group (`Bounds.group`) the first partition has a log that is committed record by record; a
  new leadership finds any part of what is not committed there, and its shard reads it before it
  serves. A marker there is confirmed when it is committed, and the answer does not wait for ever.

Invariant: a step of a coordinator depends on its value, its surroundings and the event alone, and
is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minikafka.api.transactions import NewestOf
from minikafka.core.transactions.markers import Incarnation, MarkerMessage
from minikafka.core.transactions.requests import AddRequest, InitRequest, VerifyRequest
from minikafka.core.transactions.values import TransactionValue
from tests.exhaustive.machine import Event, Violation, World
from tests.exhaustive.transactions import checks, coordinator, group, leader, producer
from tests.exhaustive.transactions.coordinator import Step, Surroundings
from tests.exhaustive.transactions.draft import Bounds, Draft
from tests.exhaustive.transactions.values import (
    BUDGET,
    DATA,
    DATA_AT,
    LATE,
    LEDGER,
    LOG,
    OFFSETS,
    OTHER,
    PARTITIONS,
    PLAIN,
    Broker,
    Budget,
    Data,
    Fate,
    GroupPart,
    Late,
    Ledger,
    Part,
    Produce,
    Producer,
    StateLog,
    Until,
)
from tests.exhaustive.values import Interner


class Model:
    """Successors of states of the world, within bounds."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.parts = Interner()
        self.rows: set[tuple[str, ...]] = set()
        self._steps: dict[Any, Step] = {}
        self._judged: dict[tuple[int, int], str | None] = {}

    def start(self) -> World:
        """Broker 0 coordinates, and nothing is known."""
        parts = (Part(),) * self.bounds.partitions
        clients = [Producer(tv) for tv in self.bounds.tv]
        clients += [Producer(0, "absent")] * (2 - len(clients))
        leading = Broker(1, 0, "serving", 0)
        values: list[Any] = [leading, Broker(1), StateLog(None, (), 0, 0, False, 0)]
        data = Data(1, parts, group=GroupPart() if self.bounds.group else None)
        values += [data, *clients, (), Ledger(), self.bounds.budget]
        return tuple(map(self.parts.number, values))

    def step(
        self, which: int, broker: Broker, event: tuple[Any, ...], surroundings: Surroundings
    ) -> Step:
        key = (which, broker, event, surroundings)
        found = self._steps.get(key)
        if found is None:
            found = coordinator.step(which, broker, event, surroundings, self.bounds.max_epoch)
            self._steps[key] = found
        return found

    def judge(self, world: World) -> str | None:
        """What is violated in a state, as the ledger and the partitions say it."""
        key = (world[LEDGER], world[DATA_AT])
        if key not in self._judged:
            ledger, data = (self.parts.values[number] for number in key)
            violated = checks.check_world(ledger, data)
            self._judged[key] = violated or checks.check_group(ledger, data)
        return self._judged[key]

    # --- events ---

    def successors(self, world: World) -> Iterator[tuple[Event, World | Violation]]:
        """Every enabled event that changes anything, with what it leads to."""
        for event in self.events(Draft(self, world)):
            after = self.after(world, event)
            if after != world:
                yield event, after

    def after(self, world: World, event: Event) -> World | Violation:
        draft = Draft(self, world)
        getattr(self, "_" + event[0])(draft, *event[1:])
        return draft.end()

    def events(self, now: Draft) -> Iterator[Event]:
        budget: Budget = now.parts[BUDGET]
        for who in range(len(self.bounds.tv)):
            yield from self._client_events(now, who, budget)
        for which in range(2):
            yield from self._broker_events(now, which, budget)
        log, data = now.log, now.data
        serves = now.broker(log.leader).role == "serving"
        if log.tail and not log.shrunk:
            yield ("commit",)
        if log.shrunk:
            yield ("grow",)
        elif budget.shrinks:
            yield ("shrink",)
        for index, pending in enumerate(data.pending):
            if pending.word is not None:
                yield ("word", index)
            elif pending.asked is None and serves and leader.asks(data, index):
                yield ("ask", index)
        for end in self._ends(data):
            if budget.restarts:
                yield ("restart", *end)
            if budget.moves:
                yield ("move", *end)
        if data.group is not None:
            yield from self._group_events(data.group, budget)
        for late in now.parts[LATE]:
            target = late.target.broker_id
            if isinstance(late, MarkerMessage) or late.target == self._incarnation(now, target):
                yield ("late", late)

    def _ends(self, data: Data) -> Iterator[tuple[int, ...]]:
        """Where the group's log, if there is one, may end for the next leadership."""
        if data.group is None:
            yield ()
            return
        log_end = len(data.group.log)
        yield from ((end,) for end in range(data.group.high_watermark, log_end + 1))

    def _group_events(self, part: GroupPart, budget: Budget) -> Iterator[Event]:
        if part.high_watermark < len(part.log):
            yield ("replicate",)
        if 0 <= part.load_end <= part.high_watermark:
            yield ("load",)
        if budget.plain and part.serves:
            yield ("plain",)

    def _incarnation(self, now: Draft, broker_id: int) -> Incarnation:
        if broker_id == DATA:
            return Incarnation(DATA, now.data.incarnation)
        return Incarnation(broker_id, now.broker(broker_id).incarnation)

    def _client_events(self, now: Draft, who: int, budget: Budget) -> Iterator[Event]:
        value = now.producer(who)
        if value.phase == "dead":
            return
        if value.request is None:
            bounds = self.bounds
            found = producer.choices(who, value, bounds.partitions, group=bounds.group)
            for what, request in found:
                if what != "begin" or budget.transactions:
                    yield ("send", who, what, request)
            return
        if value.reply is not None:
            yield ("hear", who)
        elif value.sent:
            if isinstance(value.request, Produce):
                if not producer.is_of_offsets(value.request) or group_serves(now.data):
                    yield ("deliver", who)
            elif now.broker(now.log.leader).role == "serving":
                yield ("deliver", who)
        if budget.retries:
            yield ("retry", who)

    def _broker_events(self, now: Draft, which: int, budget: Budget) -> Iterator[Event]:
        broker, log = now.broker(which), now.log
        leads = log.leader == which
        if broker.wire is not None:
            yield ("marker", which)
        if broker.outcome is not None and not open_yet(broker, now.data):
            yield ("outcome", which)
        elif broker.outcome is not None and budget.lost:
            yield ("tardy", which)
        if broker.outbox.in_flight is not None:
            gone = broker.outbox.in_flight[0].broker_epoch != now.data.incarnation
            if gone or budget.lost:
                yield ("lose", which)
        if broker.txn.retries or (broker.outbox.retries and not is_loading(now.data)):
            yield ("again", which)
        if broker.role == "loading" and not log.tail:
            yield ("serve", which)
        if broker.role == "deposed":
            yield ("notice", which)
        if broker.role == "serving":
            value = broker.txn.value
            ongoing = value is not None and value.state.name == "ONGOING"
            if ongoing and budget.timeouts:
                yield ("timeout", which)
            if broker.txn.held and budget.holds:
                yield ("hold", which)
        if leads and broker.role in ("serving", "loading"):
            for kept in range(len(log.tail) + 1):
                if budget.crashes:
                    yield ("crash", which, kept)
                if budget.depositions and now.broker(1 - which).role == "none":
                    yield ("depose", which, kept)

    # --- clients ---

    def _send(self, draft: Draft, who: int, what: str, request: Any) -> None:
        value = draft.producer(who)
        if what == "begin":
            draft.spend("transactions")
            ledger = draft.ledger
            fate = Fate((who, value.number + 1))
            draft.parts[LEDGER] = ledger._replace(fates=(*ledger.fates, fate))
        if what == "commit":
            checks.note(draft, who, asked=True)
        if not value.connection:
            value = draft.connected(value)
        draft.set_producer(who, producer.asked(value, what, request, self.bounds.partitions))

    def _deliver(self, draft: Draft, who: int) -> None:
        value = draft.producer(who)
        draft.set_producer(who, value._replace(sent=False))
        if not isinstance(value.request, Produce):
            self._ask_coordinator(draft, draft.log.leader, token_of(who, value), value.request)
            return
        self._at_data(draft, value.request, (who, value.connection))

    def _ask_coordinator(self, draft: Draft, which: int, token: Any, request: Any) -> None:
        if coordinator.hears(draft.broker(which).newest, token[1]):
            self._note_row(draft, which, request)
        before = len(draft.log.tail)
        draft.step(which, ("request", request, token))
        if token[2] and len(draft.log.tail) > before:
            draft.fence_others(token[0], "fencing")

    def _at_data(self, draft: Draft, produce: Produce, token: tuple[int, int]) -> None:
        if producer.is_of_offsets(produce) and not self._hears(draft, token):
            return
        before = draft.data
        draft.data, reply = leader.on_produce(before, produce, token)
        draft.violate(checks.check_appended(before, draft.data, produce))
        if reply is not None:
            self._to_client(draft, token, reply)

    def _hears(self, draft: Draft, token: tuple[int, int]) -> bool:
        """T10 for commits of offsets; a connection that is not heard is closed."""
        part, (who, connection) = draft.data.group, token
        assert part is not None
        if coordinator.hears(part.newest, connection, NewestOf.OFFSETS):
            newest = max(part.newest, connection)
            draft.data = draft.data._replace(group=part._replace(newest=newest))
            return True
        value = draft.producer(who)
        if value.connection == connection and producer.is_of_offsets(value.request):
            draft.set_producer(who, draft.connected(value._replace(sent=True)))
        return False

    def _to_client(self, draft: Draft, token: tuple[int, int], reply: tuple[Any, ...]) -> None:
        who, connection = token
        value = draft.producer(who)
        waits = isinstance(value.request, Produce) and not value.sent
        if waits and value.connection == connection:
            draft.set_producer(who, value._replace(reply=reply))

    def _hear(self, draft: Draft, who: int) -> None:
        value = draft.producer(who)
        assert value.reply is not None
        checks.note_told(draft, who, value.request, value.reply[0])
        try:
            after = producer.hear(value, value.reply)
        except producer.Confused as confused:
            draft.violate(f"a client is confused: {confused}")
            return
        draft.violate(checks.check_client(draft, who, after, self.bounds))
        draft.set_producer(who, after)

    def _retry(self, draft: Draft, who: int) -> None:
        draft.spend("retries")
        value = draft.producer(who)
        if value.sent:
            at = DATA if isinstance(value.request, Produce) else draft.log.leader
            target = self._incarnation(draft, at)
            draft.add_late(Late(target, token_of(who, value), value.request))
        draft.set_producer(who, draft.connected(producer.given_up(value)))

    def _late(self, draft: Draft, late: Any) -> None:
        rest = [each for each in draft.parts[LATE] if each != late]
        draft.parts[LATE] = tuple(rest)
        if isinstance(late, MarkerMessage):
            self._take_markers(draft, late)
        elif late.target.broker_id == DATA:
            if not producer.is_of_offsets(late.request) or group_serves(draft.data):
                self._at_data(draft, late.request, late.token[:2])
        elif draft.broker(late.target.broker_id).role == "serving":
            self._ask_coordinator(draft, late.target.broker_id, late.token, late.request)

    # --- the partitions' leader ---

    def _ask(self, draft: Draft, index: int) -> None:
        data, which = draft.data, draft.log.leader
        pending = data.pending[index]
        asked = self._incarnation(draft, which)
        pending = pending._replace(asked=asked)
        waiting = (*data.pending[:index], pending, *data.pending[index + 1 :])
        draft.data = data._replace(pending=waiting)
        produce = pending.produce
        kind = AddRequest if produce.tv == 2 else VerifyRequest
        partitions = frozenset({PARTITIONS[produce.partition]})
        request = kind(produce.producer_id, produce.producer_epoch, partitions)
        self._note_row(draft, which, request)
        draft.step(which, ("question", request, ("question", produce, asked)))

    def _word(self, draft: Draft, index: int) -> None:
        before = draft.data
        produce = before.pending[index].produce
        draft.data, answered, opens = leader.on_word(before, index)
        if opens:
            draft.violate(checks.check_opened(draft.log, produce))
        draft.violate(checks.check_appended(before, draft.data, produce))
        self._answer(draft, answered)

    def _answer(self, draft: Draft, answered: list[leader.Answered]) -> None:
        for pending, answer in answered:
            if answer is not None:
                self._to_client(draft, pending.token, answer)

    def _take_markers(self, draft: Draft, message: MarkerMessage) -> tuple[Any, ...] | None:
        data, outcomes = leader.on_markers(draft.data, message)
        draft.data, answered = leader.refused_by_markers(data)
        self._answer(draft, answered)
        return outcomes

    def _restart(self, draft: Draft, end: int | None = None) -> None:
        """The partitions' leader dies and comes back: what waited there is asked for anew, or
        given up; numbers of messages are forgotten."""
        draft.spend("restarts")
        data = draft.data
        data = data._replace(incarnation=data.incarnation + 1, pending=(), heard=(), other_heard=())
        draft.data = leader.group_taken_over(data, end)
        self._settle_outcomes(draft, None)
        self._ask_data_again(draft)

    def _move(self, draft: Draft, end: int | None = None) -> None:
        """Another broker leads the partitions, or the first one again. Guards are of a leadership;
        numbers of messages are of a broker."""
        draft.spend("moves")
        data = draft.data
        data = data._replace(
            pending=(),
            heard=data.other_heard,
            other_heard=data.heard,
            broker_id=OTHER if data.broker_id == DATA else DATA,
            leader_epoch=data.leader_epoch + 1,
        )
        draft.data = leader.group_taken_over(data, end)
        self._settle_outcomes(draft, leader.NOT_LEADER)
        self._ask_data_again(draft)

    def _settle_outcomes(self, draft: Draft, error: Exception | None) -> None:
        """The leadership is over under which markers waited to be committed: they are refused, or
        the answer never comes."""
        for which in range(2):
            broker = draft.broker(which)
            if any(isinstance(outcome, Until) for _, outcome in broker.outcome or ()):
                outcome = None if error is None else settled(broker, -1, error)
                draft.parts[which] = broker._replace(outcome=outcome)

    def _ask_data_again(self, draft: Draft) -> None:
        draft.parts[LATE] = tuple(
            each
            for each in draft.parts[LATE]
            if not isinstance(each, Late) or each.target.broker_id != DATA
        )
        for who in range(2):
            value = draft.producer(who)
            if isinstance(value.request, Produce) and value.reply is None:
                draft.set_producer(who, value._replace(sent=True))

    # --- the group ---

    def _replicate(self, draft: Draft) -> None:
        """One more record of the group's log is committed."""
        assert draft.data.group is not None
        part, answered = group.replicated(draft.data.group)
        draft.data = draft.data._replace(group=part)
        for token in answered:
            self._to_client(draft, token, leader.OK)

    def _load(self, draft: Draft) -> None:
        assert draft.data.group is not None
        draft.data = draft.data._replace(group=group.loaded(draft.data.group))

    def _plain(self, draft: Draft) -> None:
        draft.spend("plain")
        number = self.bounds.budget.plain - draft.parts[BUDGET].plain
        assert draft.data.group is not None
        part = group.committed_plainly(draft.data.group, number, PLAIN)
        parts = leader.with_part(draft.data._replace(group=part), OFFSETS, leader.part_of(part.log))
        draft.data = parts

    # --- coordinators ---

    def _marker(self, draft: Draft, which: int) -> None:
        broker = draft.broker(which)
        assert broker.wire is not None
        outcomes = self._take_markers(draft, broker.wire)
        draft.parts[which] = broker._replace(wire=None, outcome=outcomes)

    def _outcome(self, draft: Draft, which: int) -> None:
        """The answer to a message: where markers are not committed yet, it is to be asked again."""
        broker, part = draft.broker(which), draft.data.group
        if part is not None:
            outcome = settled(broker, part.high_watermark, leader.LATER)
            draft.parts[which] = broker._replace(outcome=outcome)
        draft.step(which, ("answered",))

    def _tardy(self, draft: Draft, which: int) -> None:
        draft.spend("lost")
        self._outcome(draft, which)

    def _lose(self, draft: Draft, which: int) -> None:
        broker = draft.broker(which)
        assert broker.outbox.in_flight is not None
        if broker.outbox.in_flight[0].broker_epoch == draft.data.incarnation:
            draft.spend("lost")
        if broker.wire is not None:
            draft.add_late(broker.wire)
        draft.step(which, ("lost",))

    def _again(self, draft: Draft, which: int) -> None:
        draft.step(which, ("again",))

    def _timeout(self, draft: Draft, which: int) -> None:
        draft.spend("timeouts")
        draft.parts[LEDGER] = draft.ledger._replace(timed_out=True)
        self._note_row(draft, which, "timeout")
        draft.step(which, ("timeout",))

    def _hold(self, draft: Draft, which: int) -> None:
        draft.spend("holds")
        draft.step(which, ("hold",))

    def _commit(self, draft: Draft) -> None:
        log = draft.log
        draft.parts[LOG] = log._replace(committed=log.last, tail=())
        if draft.broker(log.leader).role == "serving":
            draft.step(log.leader, ("committed",))
        ledger = draft.ledger
        fenced = tuple(sorted({*ledger.fenced, *ledger.fencing}))
        draft.parts[LEDGER] = ledger._replace(fenced=fenced, fencing=())

    def _shrink(self, draft: Draft) -> None:
        draft.spend("shrinks")
        draft.parts[LOG] = draft.log._replace(shrunk=True)

    def _grow(self, draft: Draft) -> None:
        draft.parts[LOG] = draft.log._replace(shrunk=False)

    def _serve(self, draft: Draft, which: int) -> None:
        value = draft.log.committed
        draft.parts[which] = draft.broker(which)._replace(role="serving")
        if value is not None:
            broker = draft.broker(which)
            draft.parts[which] = broker._replace(txn=broker.txn._replace(value=value))
            # What its partitions' topics are, it may not know yet.
            draft.step(which, ("serve", loaded(value)), known=False)

    def _notice(self, draft: Draft, which: int) -> None:
        draft.step(which, ("end",))

    def _crash(self, draft: Draft, which: int, kept: int) -> None:
        draft.spend("crashes")
        broker = draft.broker(which)
        if broker.wire is not None:
            draft.add_late(broker.wire)
        draft.parts[which] = Broker(broker.incarnation + 1)
        self._forget_waiting(draft, which)
        self._take_over(draft, which, kept)

    def _depose(self, draft: Draft, which: int, kept: int) -> None:
        draft.spend("depositions")
        broker = draft.broker(which)
        draft.parts[which] = broker._replace(role="deposed")
        self._take_over(draft, which, kept)

    def _take_over(self, draft: Draft, which: int, kept: int) -> None:
        """The other leads the state partition, which has so much of its uncommitted end."""
        log, other = draft.log, draft.broker(1 - which)
        if kept < len(log.tail):
            draft.parts[LEDGER] = draft.ledger._replace(fencing=())
        draft.parts[LOG] = log._replace(
            tail=log.tail[:kept],
            leader=1 - which,
            leader_epoch=log.leader_epoch + 1,
            shrunk=False,
        )
        if other.role == "deposed":
            draft.step(1 - which, ("end",))
            other = draft.broker(1 - which)
        draft.parts[1 - which] = other._replace(role="loading", leader_epoch=log.leader_epoch + 1)

    def _forget_waiting(self, draft: Draft, which: int) -> None:
        """Its connections are gone: who waited for an answer asks again."""
        asked = Incarnation(which, draft.broker(which).incarnation - 1)
        for who in range(2):
            value = draft.producer(who)
            waits = value.request is not None and not isinstance(value.request, Produce)
            if waits and not value.sent and value.reply is None:
                draft.set_producer(who, draft.connected(value._replace(sent=True)))
        data = draft.data
        draft.data = data._replace(
            pending=tuple(
                each._replace(asked=None) if each.asked == asked and each.word is None else each
                for each in data.pending
            )
        )
        draft.parts[LATE] = tuple(
            each for each in draft.parts[LATE] if not isinstance(each, Late) or each.target != asked
        )

    # --- which rows were reached ---

    def _note_row(self, draft: Draft, which: int, request: Any) -> None:
        broker = draft.broker(which)
        self.rows.add(checks.row_of(broker.txn.value, request, self.bounds.max_epoch))


def loaded(value: TransactionValue) -> TransactionValue:
    """What a coordinator reads of the last record. (For the mutations.)"""
    return value


def is_loading(data: Data) -> bool:
    """Then a marker that is sent again is refused again, and all is as before but for the numbers
    of messages, of which only the order counts."""
    return data.group is not None and not group.takes_markers(data.group)


def group_serves(data: Data) -> bool:
    return data.group is not None and data.group.serves


def open_yet(broker: Broker, data: Data) -> bool:
    """Does the answer to its message wait for what is to be committed?"""
    high_watermark = 0 if data.group is None else data.group.high_watermark
    outcomes = [outcome for _, outcome in broker.outcome or ()]
    return any(
        isinstance(outcome, Until) and outcome.end_offset > high_watermark for outcome in outcomes
    )


def settled(broker: Broker, high_watermark: int, error: Exception) -> tuple[Any, ...] | None:
    """Its outcomes, none of them open: confirmed so far, else with this error."""
    if broker.outcome is None:
        return None
    outcomes = []
    for key, outcome in broker.outcome:
        if isinstance(outcome, Until):
            outcome = None if outcome.end_offset <= high_watermark else error
        outcomes.append((key, outcome))
    return tuple(outcomes)


def token_of(who: int, value: Producer) -> tuple[int, int, bool]:
    """`begins`: it is an Init of somebody who begins anew, and so fences others."""
    request = value.request
    begins = isinstance(request, InitRequest) and request.producer_id < 0
    return who, value.connection, begins
