"""A coordinating broker of the model: the real Transaction and MarkerOutbox, built from a value,
given one event, read back.

Time stands at 0; what waits for time is told that it has come. Records go through the real codec.
An append is in the log, or refused, within the event: `Step.appended` are those in the log.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from minikafka.api.transactions import NewestOf
from minikafka.broker.transactions.records import decode, encode_key, encode_value
from minikafka.core.transactions.connections import NewestConnections
from minikafka.core.transactions.effects import (
    Append,
    Effect,
    Reply,
    ReserveProducerId,
    SendMarkers,
)
from minikafka.core.transactions.journal import Uncommitted
from minikafka.core.transactions.marker_outbox import (
    Confirmed,
    InFlight,
    Item,
    MarkerOutbox,
    OutboxEffect,
    SendMessage,
    Shard,
    ShardFenced,
)
from minikafka.core.transactions.markers import Incarnation, Leader, Nowhere, Route
from minikafka.core.transactions.producer_ids import SpareProducerIds
from minikafka.core.transactions.requests import Result, VerifyAnswer
from minikafka.core.transactions.settings import TransactionSettings
from minikafka.core.transactions.transaction import Transaction
from minikafka.core.transactions.values import (
    Now,
    TransactionRecord,
    TransactionState,
    TransactionValue,
)
from minikafka.errors import CoordinatorNotAvailableError, NotCoordinatorError
from minikafka.model import TopicPartition
from tests.exhaustive.transactions.values import ID, Broker, Outbox, Txn

TIMEOUT_MS, HOLD_MS, RETRY_MS = 10_000, 500, 100
NOW = Now(0, 0)
GONE = NotCoordinatorError("another broker")
TOO_FEW = CoordinatorNotAvailableError("too few replicas are in sync")

Outcome = tuple[Any, ...]  # ok, producer id, epoch; or the name of an error


class Surroundings(NamedTuple):
    """What a coordinator's step depends on besides its own value: `leader` of the partitions;
    `known`: do the metadata speak of their topics?"""

    shrunk: bool
    next_producer_id: int
    leader: Leader
    known: bool = True


class Step(NamedTuple):
    """`replies`: (token, outcome). `sent`: that a marker left, for which record."""

    broker: Broker
    appended: tuple[TransactionValue | None, ...] = ()
    replies: tuple[tuple[Any, Outcome], ...] = ()
    sent: tuple[TransactionValue, ...] = ()
    next_producer_id: int = 0
    violation: str | None = None


def stored(value: TransactionValue | None) -> TransactionValue | None:
    """As the log has it, and gives it back."""
    record = TransactionRecord(ID, value)
    found = decode(encode_key(record), encode_value(record))
    assert found is not None
    return found.value


def outcome_of(result: Result) -> Outcome:
    if isinstance(result, VerifyAnswer):
        for error in result.refused.values():
            return (error.name,)
        return ("ok", -1, -1)
    if result.error is not None:
        return (result.error.name,)
    return "ok", result.producer_id, result.producer_epoch


class LiveCoordinator:
    """The core of one broker between two values."""

    def __init__(
        self, broker_id: int, broker: Broker, surroundings: Surroundings, max_epoch: int
    ) -> None:
        self.broker_id = broker_id
        self.broker = broker
        self.surroundings = surroundings
        self.appended: list[TransactionValue | None] = []
        self.replies: list[tuple[Any, Outcome]] = []
        self.sent: list[TransactionValue] = []
        self.wire = broker.wire
        self.outcome = broker.outcome
        self.role = broker.role
        self.next_producer_id = surroundings.next_producer_id
        self.shard = Shard(0, broker.leader_epoch)
        settings = TransactionSettings(hold_ms=HOLD_MS, retry_ms=RETRY_MS, max_epoch=max_epoch)
        self.ids = SpareProducerIds(*broker.spare)
        self.transaction = Transaction(ID, settings, self.ids)
        self._thaw_transaction(broker.txn)
        self.outbox = MarkerOutbox(Incarnation(broker_id, broker.incarnation))
        self._thaw_outbox(broker.outbox)

    # --- from a value ---

    def _thaw_transaction(self, txn: Txn) -> None:
        transaction, journal = self.transaction, self.transaction._journal
        journal.value = txn.value
        for number, (value, due) in enumerate(txn.uncommitted, 1):
            journal._uncommitted.append(Uncommitted(number, value, due))
        journal._number = len(txn.uncommitted)
        transaction._held = deque(txn.held)
        transaction._unconfirmed = txn.unconfirmed
        transaction._retry_at_ms = RETRY_MS if txn.retries else None
        if txn.value is not None and txn.value.state is TransactionState.ONGOING:
            transaction._timeout_at_ms = TIMEOUT_MS

    def _thaw_outbox(self, value: Outbox) -> None:
        outbox = self.outbox
        if self.role != "none":
            outbox.open(self.shard, self.broker.leader_epoch)
        outbox._number = value.number
        if value.in_flight is not None:
            target, number, items = value.in_flight
            in_flight = InFlight(number, tuple(Item(*item) for item in items))
            outbox._in_flight[target] = in_flight
        if value.queue:
            outbox._queues[self.surroundings.leader.incarnation] = deque(
                Item(*item) for item in value.queue
            )
        for number, item in enumerate(value.retries):
            outbox._retries.append((0, number, Item(*item)))
            outbox._retries_made = number + 1

    # --- back to a value ---

    def value(self) -> Broker:
        if self.role == "none":
            self.outbox.close(self.shard)
            txn, spare, leader_epoch = Txn(), (), -1
        else:
            txn, leader_epoch = self._txn(), self.broker.leader_epoch
            spare = tuple(self.ids._ids)
        return self.broker._replace(
            role=self.role,
            leader_epoch=leader_epoch,
            spare=spare,
            txn=txn,
            outbox=self._outbox(),
            wire=self.wire,
            outcome=self.outcome,
        )

    def _txn(self) -> Txn:
        transaction, journal = self.transaction, self.transaction._journal
        transaction.check()
        assert journal.writing is None
        assert not transaction._queue
        return Txn(
            journal.value,
            tuple((each.value, each.due) for each in journal._uncommitted),
            tuple(each for each in transaction._held),
            transaction._unconfirmed,
            transaction._retry_at_ms is not None,
        )

    def _outbox(self) -> Outbox:
        outbox = self.outbox
        flights = [
            (target, flight.number, _items(flight.items))
            for target, flight in outbox._in_flight.items()
        ]
        assert len(flights) <= 1, flights
        queues = [_items(queue) for queue in outbox._queues.values()]
        retries = _items(each[2] for each in sorted(outbox._retries))
        open_shard = self.shard if self.role != "none" else None
        return Outbox(
            outbox._number,
            flights[0] if flights else None,
            tuple(item for queue in queues for item in queue if item[0] == open_shard),
            tuple(item for item in retries if item[0] == open_shard),
        )

    # --- events ---

    def handle(self, event: tuple[Any, ...]) -> None:
        transaction = self.transaction
        match event:
            case ("serve", value):
                self.do(transaction.restore(value, NOW))
            case ("request", request, token):
                self._request(request, token)
            case ("question", request, token):
                self.do(transaction.handle(request, token, NOW))
            case ("committed",):
                number = transaction._journal._number
                self.do(transaction.on_committed(number, NOW))
            case ("timeout",):
                self.do(transaction.on_time(Now(TIMEOUT_MS, TIMEOUT_MS)))
            case ("hold",):
                self.do(transaction.on_time(Now(HOLD_MS, HOLD_MS)))
            case ("again",):
                self.do(transaction.on_time(Now(RETRY_MS, RETRY_MS)))
                self.post(self.outbox.on_time(RETRY_MS, self.route))
            case ("end",):
                self.do(transaction.unload(GONE))
                self.role = "none"
            case ("answered",):
                self._answered()
            case ("lost",):
                self.wire = self.outcome = None
                target, number, _ = self.broker.outbox.in_flight or (None, 0, ())
                self.post(self.outbox.on_lost(target, number, 0, self.route))
            case _:
                raise AssertionError(event)
        self._fill()

    def _fill(self) -> None:
        """The controller is quick: there is always an id to spare."""
        if self.role != "none" and not self.ids:
            self.ids.put(self.next_producer_id)
            self.next_producer_id += 1

    def _request(self, request: Any, token: tuple[int, int]) -> None:
        value = self.transaction.value
        if value is not None and value.fences(request.producer_id, request.producer_epoch):
            self.do(self.transaction.handle(request, token, NOW))
        elif hears(self.broker.newest, token[1]):
            self.broker = self.broker._replace(newest=max(self.broker.newest, token[1]))
            self.do(self.transaction.handle(request, token, NOW))
        else:
            self.replies.append((token, ("closed",)))

    def _answered(self) -> None:
        assert self.broker.outbox.in_flight is not None
        target, number, _ = self.broker.outbox.in_flight
        assert self.outcome is not None
        outcomes = dict(self.outcome)
        self.outcome = None
        self.post(self.outbox.on_answer(target, number, outcomes, 0, self.route))

    def route(self, partition: TopicPartition) -> Route:
        if not self.surroundings.known:
            return unknown_topic()
        return self.surroundings.leader

    # --- effects ---

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply(token, result):
                    self.replies.append((token, outcome_of(result)))
                case Append(record, number):
                    self._append(record.value, number)
                case SendMarkers(marker, partitions):
                    assert self.transaction.value is not None
                    self.sent.append(self.transaction.value)
                    if self.role != "none":
                        self.post(self.outbox.add(self.shard, marker, partitions, 0, self.route))
                case ReserveProducerId():
                    self._fill()

    def _append(self, value: TransactionValue | None, number: int) -> None:
        if self.surroundings.shrunk:
            self.do(self.transaction.on_refused(number, TOO_FEW, NOW))
        else:
            self.appended.append(stored(value))
            self.do(self.transaction.on_appended(number, NOW))

    def post(self, effects: list[OutboxEffect]) -> None:
        for effect in effects:
            match effect:
                case SendMessage(message):
                    assert self.wire is None
                    self.wire = message
                case Confirmed(shard, _, partition, _):
                    assert shard == self.shard
                    self.do(self.transaction.on_confirmed(partition, NOW))
                case ShardFenced():
                    self.do(self.transaction.unload(GONE))
                    self.role = "none"


def hears(newest: int, connection: int, kind: NewestOf = NewestOf.COORDINATION) -> bool:
    """The real rule, asked about these."""
    connections = NewestConnections()
    if newest:
        connections.hears(ID, kind, newest)
    return connections.hears(ID, kind, connection)


def unknown_topic() -> Route:
    """A broker that has just started does not know all topics: that is no deletion."""
    return Nowhere()


def _items(items: Any) -> tuple[Any, ...]:
    return tuple((item.shard, item.marker, item.partition) for item in items)


def step(
    broker_id: int,
    broker: Broker,
    event: tuple[Any, ...],
    surroundings: Surroundings,
    max_epoch: int,
) -> Step:
    """Never raises: a failed assertion is a violation."""
    live = LiveCoordinator(broker_id, broker, surroundings, max_epoch)
    try:
        live.handle(event)
        after = live.value()
    except AssertionError as failed:
        return Step(broker, violation=f"assertion in the core: {failed}")
    return Step(
        after,
        tuple(live.appended),
        tuple(live.replies),
        tuple(live.sent),
        live.next_producer_id,
    )
