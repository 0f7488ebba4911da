"""The markers that a broker's coordinators have to deliver, until each partition has confirmed its.

To each broker one message is under way, with all that waits for it as far as it has room; what
comes meanwhile waits for the next. An answer counts only if it is to the message under way: what a
message did that was given up, nobody says. What could not be delivered is tried again for ever, in
`FIRST_RETRY_MS` to `LAST_RETRY_MS`, wherever the partition's leader is by then.

    confirmed   the marker is committed; or the partition is past its epoch (PAST: giving up would
                leave the transaction in its Prepare for ever, KAFKA-19999); or it is deleted
    fenced      a partition knows a later coordinator: this one ends, and nothing of it is confirmed

State: the shards (leaderships of partitions of `__transaction_state`) with their leader epochs;
each marker in one of three places: `_queues` by broker, `_in_flight`, `_retries` by time.
Invariants: a marker is confirmed once, and only to the shard that sent it: when a shard is closed
its markers are nobody's, also those under way. Numbers of messages rise.

Pure: events and the time come in, with `route`, which says where a partition's marker goes (see
markers.py); effects come out.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from minikafka.core.transactions.markers import (
    Deleted,
    Incarnation,
    Leader,
    MarkerEntry,
    MarkerMessage,
    Route,
)
from minikafka.core.transactions.values import Marker
from minikafka.errors import (
    InvalidProducerEpochError,
    MinikafkaError,
    TransactionCoordinatorFencedError,
)
from minikafka.model import TopicPartition

FIRST_RETRY_MS = 20
LAST_RETRY_MS = 1_000
MAX_MESSAGE_BYTES = 1_048_576
ENTRY_BYTES = 64  # of one entry in a message, without the names in it

FindRoute = Callable[[TopicPartition], Route]
# Of a message: what became of each entry, by producer id and partition; None: it is written.
Outcomes = Mapping[tuple[int, TopicPartition], MinikafkaError | None]


class Shard(NamedTuple):
    """The coordinator of a partition of `__transaction_state`, among all that this broker has had
    for it: each has a number of its own."""

    partition: int
    number: int


class How(Enum):
    """Why a marker needs no further word."""

    WRITTEN = "written"
    PAST = "past"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class SendMessage:
    message: MarkerMessage


@dataclass(frozen=True, slots=True)
class Confirmed:
    shard: Shard
    transactional_id: str
    partition: TopicPartition
    how: How


@dataclass(frozen=True, slots=True)
class ShardFenced:
    """End this coordinator; its markers are gone already."""

    shard: Shard


OutboxEffect = SendMessage | Confirmed | ShardFenced


@dataclass(slots=True)
class Item:
    """A marker for one partition that is not confirmed."""

    shard: Shard
    marker: Marker
    partition: TopicPartition
    since_ms: int = 0
    failures: int = 0

    @property
    def key(self) -> tuple[int, TopicPartition]:
        return self.marker.producer_id, self.partition

    @property
    def size_bytes(self) -> int:
        return ENTRY_BYTES + len(self.marker.transactional_id) + len(self.partition.topic)


@dataclass(frozen=True, slots=True)
class InFlight:
    number: int
    items: tuple[Item, ...]


class MarkerOutbox:
    """See the module. `own` is this broker as its messages name it; it is registered anew at times,
    with another epoch."""

    def __init__(self, own: Incarnation, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.own = own
        self._max_message_bytes = max_message_bytes
        self._shards: dict[Shard, int] = {}
        self._queues: dict[Incarnation, deque[Item]] = {}
        self._in_flight: dict[Incarnation, InFlight] = {}
        self._retries: list[tuple[int, int, Item]] = []  # a heap; due, tie-break, what
        self._retries_made = 0
        self._number = 0
        self._effects: list[OutboxEffect] = []

    def _done(self) -> list[OutboxEffect]:
        effects, self._effects = self._effects, []
        return effects

    # --- shards ----------------------------------------------------------------------------------

    def open(self, shard: Shard, coordinator_epoch: int) -> None:
        """A coordinator begins; or the leader epoch has moved under it."""
        self._shards[shard] = coordinator_epoch

    def close(self, shard: Shard) -> None:
        """It has ended. Its markers go as they are met."""
        self._shards.pop(shard, None)

    # --- markers ---------------------------------------------------------------------------------

    def add(
        self,
        shard: Shard,
        marker: Marker,
        partitions: Iterable[TopicPartition],
        now_ms: int,
        route: FindRoute,
    ) -> list[OutboxEffect]:
        """The marker is for these partitions."""
        assert shard in self._shards, shard
        items = [Item(shard, marker, each, now_ms) for each in partitions]
        self._place(items, now_ms, route)
        return self._done()

    def on_answer(
        self,
        target: Incarnation,
        number: int,
        outcomes: Outcomes,
        now_ms: int,
        route: FindRoute,
    ) -> list[OutboxEffect]:
        """The target has answered a message. What it says nothing of has to be sent again."""
        for item in self._landed(target, number):
            error = outcomes.get(item.key, _UNSAID)
            if item.shard not in self._shards:
                continue
            if error is None:
                self._confirm(item, How.WRITTEN)
            elif isinstance(error, InvalidProducerEpochError):
                self._confirm(item, How.PAST)
            elif isinstance(error, TransactionCoordinatorFencedError):
                self.close(item.shard)
                self._effects.append(ShardFenced(item.shard))
            else:
                self._retry_later(item, now_ms)
        self._send({target}, now_ms, route)
        return self._done()

    def on_lost(
        self, target: Incarnation, number: int, now_ms: int, route: FindRoute
    ) -> list[OutboxEffect]:
        """No answer comes: the connection is gone, it took too long, or the target is another
        incarnation by now. The message may still arrive."""
        for item in self._landed(target, number):
            self._retry_later(item, now_ms)
        self._send({target}, now_ms, route)
        return self._done()

    def _landed(self, target: Incarnation, number: int) -> Sequence[Item]:
        in_flight = self._in_flight.get(target)
        if in_flight is None or in_flight.number != number:
            return ()
        del self._in_flight[target]
        return in_flight.items

    def _confirm(self, item: Item, how: How) -> None:
        transactional_id = item.marker.transactional_id
        self._effects.append(Confirmed(item.shard, transactional_id, item.partition, how))

    # --- time ------------------------------------------------------------------------------------

    def next_deadline_ms(self) -> int | None:
        """When `on_time` has something to do; None: never."""
        return self._retries[0][0] if self._retries else None

    def on_time(self, now_ms: int, route: FindRoute) -> list[OutboxEffect]:
        """Try again what is due. Calling it early does no harm."""
        due = []
        while self._retries and self._retries[0][0] <= now_ms:
            due.append(heapq.heappop(self._retries)[2])
        self._place(due, now_ms, route)
        return self._done()

    def _retry_later(self, item: Item, now_ms: int) -> None:
        delay_ms = min(FIRST_RETRY_MS << min(item.failures, 16), LAST_RETRY_MS)
        item.failures += 1
        self._retries_made += 1
        heapq.heappush(self._retries, (now_ms + delay_ms, self._retries_made, item))

    # --- as others see it ------------------------------------------------------------------------

    def oldest_since_ms(self) -> int | None:
        """Since when the marker has waited that has waited longest; None: there is none. It looks
        at all of them: for who wants to know now and then."""
        places = [
            *self._queues.values(),
            *(each.items for each in self._in_flight.values()),
            [each[2] for each in self._retries],
        ]
        waiting = [item for place in places for item in place if item.shard in self._shards]
        return min((item.since_ms for item in waiting), default=None)

    # --- sending ---------------------------------------------------------------------------------

    def _place(self, items: Iterable[Item], now_ms: int, route: FindRoute) -> None:
        """Put them where they go now, and send what can be sent."""
        touched: dict[Incarnation, None] = {}  # in order
        for item in items:
            target = self._target(item, now_ms, route)
            if target is not None:
                self._queues.setdefault(target.incarnation, deque()).append(item)
                touched[target.incarnation] = None
        self._send(touched, now_ms, route)

    def _target(self, item: Item, now_ms: int, route: FindRoute) -> Leader | None:
        """Who leads its partition; None if it needs no leader, or has to wait for one."""
        if item.shard not in self._shards:
            return None
        found = route(item.partition)
        if isinstance(found, Leader):
            return found
        if isinstance(found, Deleted):
            self._confirm(item, How.DELETED)
        else:
            self._retry_later(item, now_ms)
        return None

    def _send(self, targets: Iterable[Incarnation], now_ms: int, route: FindRoute) -> None:
        """A message to each of these that has none under way. A partition whose leader has moved
        since goes to that one's queue, and on."""
        pending = list(targets)
        while pending:
            incarnation = pending.pop(0)
            if incarnation in self._in_flight or incarnation not in self._queues:
                continue
            items, entries = self._taken(incarnation, pending, now_ms, route)
            if items:
                self._dispatch(incarnation, tuple(items), tuple(entries))

    def _taken(
        self, incarnation: Incarnation, pending: list[Incarnation], now_ms: int, route: FindRoute
    ) -> tuple[list[Item], list[MarkerEntry]]:
        """Out of its queue, what goes into its next message. `pending`: to whose queues others
        went."""
        queue = self._queues.pop(incarnation)
        items: list[Item] = []
        entries: list[MarkerEntry] = []
        size_bytes = 0
        while queue:
            size_bytes += queue[0].size_bytes
            if items and size_bytes > self._max_message_bytes:
                self._queues[incarnation] = queue
                break
            item = queue.popleft()
            target = self._target(item, now_ms, route)
            if target is None:
                continue
            if target.incarnation == incarnation:
                items.append(item)
                entries.append(self._entry(item, target))
            else:
                self._queues.setdefault(target.incarnation, deque()).append(item)
                pending.append(target.incarnation)
        return items, entries

    def _entry(self, item: Item, target: Leader) -> MarkerEntry:
        coordinator_epoch = self._shards[item.shard]
        return MarkerEntry(item.marker, item.partition, target.leader_epoch, coordinator_epoch)

    def _dispatch(
        self, target: Incarnation, items: tuple[Item, ...], entries: tuple[MarkerEntry, ...]
    ) -> None:
        self._number += 1
        self._in_flight[target] = InFlight(self._number, items)
        message = MarkerMessage(self.own, target, self._number, entries)
        self._effects.append(SendMessage(message))


_UNSAID = MinikafkaError("nothing is said of it")
