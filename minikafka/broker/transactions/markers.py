"""Markers on their way from coordinators to the leaders of partitions: both ends of it.

The pure outbox (core/transactions/marker_outbox.py) says what goes where and when again;
`MarkerChannel` sends, over the network or to this broker itself. `MarkerWriter` is the receiving
end: what a message says that counts (core/transactions/markers.py) is written into the logs of
partitions that this broker leads, and answered when it is committed, or after `ANSWER_S`: one
partition with too few replicas in sync keeps no other waiting.

State: the outbox and the messages under way, the filter. They are of one incarnation of this broker
each: with another broker epoch the filter begins anew, as nothing for the old one counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from minikafka.api.transactions import (
    CheckedPartition,
    MarkerToWrite,
    WriteMarkersRequest,
    WriteMarkersResult,
)
from minikafka.broker.metadata import MetadataCache
from minikafka.broker.ports import Peers
from minikafka.broker.replication.replica import Replica
from minikafka.broker.replication.transactional import end_transaction
from minikafka.core.replication.partition import Partition
from minikafka.core.replication.transactional import TransactionEnd
from minikafka.core.transactions.marker_outbox import (
    Confirmed,
    MarkerOutbox,
    OutboxEffect,
    SendMessage,
    Shard,
    ShardFenced,
)
from minikafka.core.transactions.markers import (
    Deleted,
    Incarnation,
    Leader,
    MarkerEntry,
    MarkerFilter,
    MarkerMessage,
    Nowhere,
    Route,
    is_for_leadership,
)
from minikafka.core.transactions.values import Marker
from minikafka.errors import (
    FencedLeaderEpochError,
    MinikafkaError,
    RequestTimedOutError,
    StaleBrokerEpochError,
    UnknownServerError,
)
from minikafka.model import TopicPartition
from minikafka.turns import in_slices

logger = logging.getLogger(__name__)

SEND_TIMEOUT_MS = 5_000
ANSWER_S = 0.5
ALL_ACKS = -1


class MarkerSource(Protocol):
    """Who has markers sent (shards.py)."""

    def on_confirmed(self, confirmed: Confirmed) -> None: ...
    def on_fenced(self, shard: Shard) -> None: ...


class MarkerChannel:
    """`incarnation` is this broker's id and epoch now; `writer` serves what is for itself."""

    def __init__(
        self,
        metadata: MetadataCache,
        peers: Peers,
        incarnation: Callable[[], tuple[int, int]],
        writer: MarkerWriter,
        now_ms: Callable[[], int],
        on_task_done: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self.source: MarkerSource | None = None  # set before anything is sent
        self.outbox = MarkerOutbox(Incarnation(*incarnation()))
        self._metadata = metadata
        self._peers = peers
        self._incarnation = incarnation
        self._writer = writer
        self._now_ms = now_ms
        self._on_task_done = on_task_done
        self._sending: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def open(self, shard: Shard, coordinator_epoch: int) -> None:
        """A coordinator begins; or the leader epoch has moved under it."""
        self.outbox.open(shard, coordinator_epoch)

    def close(self, shard: Shard) -> None:
        """It has ended: its markers are nobody's."""
        self.outbox.close(shard)

    def send(self, shard: Shard, marker: Marker, partitions: Sequence[TopicPartition]) -> None:
        """Until each partition has confirmed it, or is known to be deleted."""
        self.outbox.own = Incarnation(*self._incarnation())
        self._carry_out(self.outbox.add(shard, marker, partitions, self._now_ms(), self.route))

    def route(self, topic_partition: TopicPartition) -> Route:
        """Where the marker for a partition goes now."""
        known = self._metadata.partition(topic_partition)
        if known is None:
            return Deleted() if self._metadata.is_complete else Nowhere()
        broker = self._metadata.brokers.get(known.state.leader)
        if broker is None:
            return Nowhere()
        return Leader(Incarnation(broker.broker_id, broker.broker_epoch), known.state.leader_epoch)

    def _carry_out(self, effects: Sequence[OutboxEffect]) -> None:
        assert self.source is not None
        for effect in effects:
            match effect:
                case SendMessage(message):
                    task = asyncio.get_running_loop().create_task(self._send(message))
                    self._sending.add(task)
                    task.add_done_callback(self._on_sent)
                case Confirmed():
                    self.source.on_confirmed(effect)
                case ShardFenced(shard):
                    self.source.on_fenced(shard)
        self._arm()

    def _on_sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._on_task_done(task)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self.outbox.next_deadline_ms()
        if deadline_ms is not None and not self._closed:
            delay_s = max(deadline_ms - self._now_ms(), 0) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.outbox.own = Incarnation(*self._incarnation())
        self._carry_out(self.outbox.on_time(self._now_ms(), self.route))

    async def _send(self, message: MarkerMessage) -> None:
        target, number = message.target, message.number
        try:
            results = (await self._exchange(message)).partitions
            if len(results) != len(message.entries):
                raise UnknownServerError(
                    f"broker {target.broker_id} answered {len(results)} markers "
                    f"of {len(message.entries)}"
                )
        except MinikafkaError as error:
            logger.debug("markers for broker %d: %s", target.broker_id, error)
            self._carry_out(self.outbox.on_lost(target, number, self._now_ms(), self.route))
            return
        outcomes = {
            (entry.marker.producer_id, entry.partition): result.error
            for entry, result in zip(message.entries, results, strict=True)
        }
        self._carry_out(self.outbox.on_answer(target, number, outcomes, self._now_ms(), self.route))

    async def _exchange(self, message: MarkerMessage) -> WriteMarkersResult:
        request = _to_request(message)
        if message.target == Incarnation(*self._incarnation()):
            return await self._writer.write(request)
        broker = self._metadata.brokers.get(message.target.broker_id)
        if broker is None or broker.broker_epoch != message.target.broker_epoch:
            raise StaleBrokerEpochError(f"broker {message.target.broker_id} is another one now")
        return await self._peers.write_markers(broker, request, SEND_TIMEOUT_MS)

    def shut_down(self) -> None:
        """The broker ends."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._sending:
            task.cancel()


class MarkerWriter:
    """`find` gives a replica of this broker, or raises; `serving` raises while another may lead
    instead of that one. `is_broker`: is there a broker of this id? Of others nothing is kept."""

    def __init__(
        self,
        find: Callable[[TopicPartition], Replica],
        serving: Callable[[Partition, int], None],
        incarnation: Callable[[], tuple[int, int]],
        is_broker: Callable[[int], bool],
        now_timestamp_ms: Callable[[], int],
    ) -> None:
        self._is_broker = is_broker
        self._find = find
        self._serving = serving
        self._incarnation = incarnation
        self._now_timestamp_ms = now_timestamp_ms
        self._filter = MarkerFilter(Incarnation(*incarnation()))

    async def write(self, request: WriteMarkersRequest) -> WriteMarkersResult:
        """Raises StaleBrokerEpochError if the message does not count: see MarkerFilter."""
        own = Incarnation(*self._incarnation())
        if self._filter.own != own:
            self._filter = MarkerFilter(own)
        message = _to_message(request)
        if not self._is_broker(message.sender.broker_id):
            raise StaleBrokerEpochError(f"broker {message.sender.broker_id} is not known here")
        if not self._filter.takes(message):
            raise StaleBrokerEpochError(
                f"markers of broker {message.sender.broker_id} for another incarnation of broker "
                f"{own.broker_id}, or older than what was heard already"
            )
        written = [self._begin(entry) async for entry in in_slices(message.entries)]
        waiting = [each for each in written if isinstance(each, asyncio.Future)]
        if waiting:
            await asyncio.wait(waiting, timeout=ANSWER_S)
        return WriteMarkersResult(
            [
                CheckedPartition(entry.partition, _outcome(each))
                for entry, each in zip(message.entries, written, strict=True)
            ]
        )

    def _begin(self, entry: MarkerEntry) -> asyncio.Future[object] | MinikafkaError:
        try:
            return self._write(entry)
        except MinikafkaError as error:
            return error.with_traceback(None)

    def _write(self, entry: MarkerEntry) -> asyncio.Future[object]:
        replica = self._find(entry.partition)
        core = replica.core
        if not is_for_leadership(entry, core.first_leader_epoch()):
            raise FencedLeaderEpochError(
                f"the marker is for {entry.partition} under leader epoch {entry.leader_epoch}; "
                f"this leadership began with {core.first_leader_epoch()}"
            )
        self._serving(core, ALL_ACKS)
        marker = entry.marker
        end = TransactionEnd(
            marker.producer_id,
            marker.producer_epoch,
            entry.coordinator_epoch,
            marker.commits,
            marker.raised,
        )
        return end_transaction(replica, end, self._now_timestamp_ms())


def _outcome(written: asyncio.Future[object] | MinikafkaError) -> MinikafkaError | None:
    if isinstance(written, MinikafkaError):
        return written
    if not written.done():
        return RequestTimedOutError("the marker is written, and not committed yet")
    error = written.result()
    assert error is None or isinstance(error, MinikafkaError), error
    return error


def _to_request(message: MarkerMessage) -> WriteMarkersRequest:
    return WriteMarkersRequest(
        *message.sender,
        *message.target,
        message.number,
        [
            MarkerToWrite(
                each.partition,
                each.marker.transactional_id,
                each.marker.producer_id,
                each.marker.producer_epoch,
                each.marker.commits,
                each.marker.raised,
                each.leader_epoch,
                each.coordinator_epoch,
            )
            for each in message.entries
        ],
    )


def _to_message(request: WriteMarkersRequest) -> MarkerMessage:
    return MarkerMessage(
        Incarnation(request.sender_id, request.sender_epoch),
        Incarnation(request.target_id, request.target_epoch),
        request.number,
        tuple(
            MarkerEntry(
                Marker(
                    each.transactional_id,
                    each.producer_id,
                    each.producer_epoch,
                    each.commits,
                    each.raised,
                ),
                each.topic_partition,
                each.leader_epoch,
                each.coordinator_epoch,
            )
            for each in request.markers
        ),
    )
