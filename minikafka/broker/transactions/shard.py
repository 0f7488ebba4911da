"""The transactional ids of one partition of `__transaction_state`, on the broker that leads it.

The pure coordinator (core/transactions/) decides; here its answers are given, its records written,
its markers handed on, and the time is told to it.

State: the coordinator, under the leadership by which its records were read; the records that go
into the next batch; one timer an id. What the ids of a turn of the loop want to have written is one
batch.

Life: made when this broker begins to lead; until `load` has read what is there
(coordinators/partition.py) it serves nothing; `unload` ends it, as does a partition that knows a
later coordinator (`fence`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from minikafka.broker.coordinators.errors import coordinator_error
from minikafka.broker.coordinators.partition import AppendBatch, CoordinatorPartition
from minikafka.broker.coordinators.timers import Timers
from minikafka.broker.replication.replica import Replica
from minikafka.broker.transactions.records import decode, encode_batch
from minikafka.core.replication.partition import Partition
from minikafka.core.transactions.coordinator import Coordinator, Phase
from minikafka.core.transactions.effects import (
    Append,
    Effect,
    Reply,
    ReserveProducerId,
    SendMarkers,
)
from minikafka.core.transactions.marker_outbox import Shard
from minikafka.core.transactions.requests import Request, Result
from minikafka.core.transactions.settings import TransactionSettings
from minikafka.core.transactions.values import Marker, Now, TransactionState
from minikafka.errors import CorruptMessageError, MessageTooLargeError, MinikafkaError
from minikafka.model import TopicPartition
from minikafka.turns import in_slices

logger = logging.getLogger(__name__)

BATCH_BYTES = 262_144  # about; of the records of a turn
ROOM_BYTES = 256  # by which an end of a transaction may be larger than the transaction
RESERVE_RETRY_S = 0.2
EXPIRED_AT_ONCE = 500


class MarkerSender(Protocol):
    """Who delivers markers (markers.py)."""

    def open(self, shard: Shard, coordinator_epoch: int) -> None: ...
    def close(self, shard: Shard) -> None: ...
    def send(self, shard: Shard, marker: Marker, partitions: Sequence[TopicPartition]) -> None: ...


class TransactionShard:
    """`number` tells it from others of this partition; `append` writes a batch to a partition that
    this broker leads, whatever its size; `new_producer_id` gets one from the controller."""

    def __init__(
        self,
        replica: Replica,
        number: int,
        settings: TransactionSettings,
        append: AppendBatch,
        markers: MarkerSender,
        new_producer_id: Callable[[], Awaitable[int]],
        now: Callable[[], Now],
    ) -> None:
        self._partition = CoordinatorPartition(replica, append)
        self.topic_partition = self._partition.topic_partition
        self.key = Shard(self.topic_partition.partition, number)
        self.coordinator = Coordinator(settings)
        self._replica = replica
        self._markers = markers
        self._new_producer_id = new_producer_id
        self._now = now
        self._timers = Timers(lambda: now().ms, self._on_timer)
        self._to_write: list[Append] = []
        self._reserving: asyncio.Task[None] | None = None

    @property
    def partition(self) -> Partition:
        """Under whose leadership it coordinates."""
        return self._partition.core

    @property
    def serving(self) -> bool:
        return self.coordinator.phase is Phase.SERVING

    def is_of(self, replica: Replica) -> bool:
        """Does it coordinate under the leadership that this replica has now?"""
        return self._partition.is_of(replica)

    # --- coming and going ------------------------------------------------------------------------

    async def load(self) -> None:
        """Read what the coordinators before have written. KafkaStorageError if the disk fails."""
        began_ms = self._now().ms
        await self._partition.read(self._take)
        if not self._partition.leads:
            return
        self.on_epoch()
        self._carry_out(self.coordinator.serve(self._now()))
        async for transactional_id in in_slices(self.coordinator.awake()):
            self._arm(transactional_id)
        logger.info(
            "%s: coordinates %d transactional ids now, read in %d ms",
            self.topic_partition,
            len(self.coordinator.transactional_ids()),
            self._now().ms - began_ms,
        )

    def _take(self, at_offset: int, key: bytes | None, value: bytes | None) -> None:
        try:
            record = decode(key, value)
        except CorruptMessageError as error:
            logger.error("%s: offset %d is left out: %s", self.topic_partition, at_offset, error)
            return
        if record is not None:
            self.coordinator.load(record)

    def on_epoch(self) -> None:
        """The leader epoch may have moved under it."""
        self._markers.open(self.key, self.partition.leader_epoch)

    def unload(self) -> None:
        """Another broker coordinates these ids now: whoever waits is told so."""
        self._partition.end()
        self._markers.close(self.key)
        self._timers.close()
        self._to_write.clear()
        if self._reserving is not None:
            self._reserving.cancel()
        self._carry_out(self.coordinator.end())

    # --- events ----------------------------------------------------------------------------------

    def handle(self, transactional_id: str, request: Request) -> asyncio.Future[Result]:
        """The answer comes when what it says is committed."""
        token: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._after(
            transactional_id,
            self.coordinator.handle(transactional_id, request, token, self._now()),
        )
        return token

    def on_confirmed(self, transactional_id: str, partition: TopicPartition) -> None:
        """The marker of this id needs no further word at this partition."""
        effects = self.coordinator.on_confirmed(transactional_id, partition, self._now())
        self._after(transactional_id, effects)

    def expire(self) -> bool:
        """Forget ids that nobody uses; whether there may be more of them."""
        effects = self.coordinator.expire(self._now(), EXPIRED_AT_ONCE)
        self._carry_out(effects)
        return len(effects) >= EXPIRED_AT_ONCE

    def _on_timer(self, transactional_id: str) -> None:
        self._after(transactional_id, self.coordinator.on_time(transactional_id, self._now()))

    def _after(self, transactional_id: str, effects: Sequence[Effect]) -> None:
        self._carry_out(effects)
        self._arm(transactional_id)

    def _arm(self, transactional_id: str) -> None:
        if self.serving:
            deadline_ms = self.coordinator.next_deadline_ms(transactional_id)
            self._timers.arm(transactional_id, deadline_ms)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply(token, result):
                    if isinstance(token, asyncio.Future) and not token.done():
                        token.set_result(result)
                case Append():
                    if not self._to_write:
                        asyncio.get_running_loop().call_soon(self._write)
                    self._to_write.append(effect)
                case SendMarkers(marker, partitions):
                    self._markers.send(self.key, marker, partitions)
                case ReserveProducerId():
                    self._reserve()

    # --- producer ids ----------------------------------------------------------------------------

    def _reserve(self) -> None:
        if self._reserving is None and self._partition.leads:
            self._reserving = asyncio.get_running_loop().create_task(self._get_producer_id())

    async def _get_producer_id(self) -> None:
        """Until there is one: who needs it is told to come again meanwhile."""
        try:
            while self._partition.leads:
                try:
                    self.coordinator.on_producer_id(await self._new_producer_id())
                    return
                except MinikafkaError as error:
                    logger.info("%s: no producer id yet: %s", self.topic_partition, error)
                    await asyncio.sleep(RESERVE_RETRY_S)
        finally:
            self._reserving = None

    # --- writing ---------------------------------------------------------------------------------

    def _write(self) -> None:
        appends, self._to_write = self._to_write, []
        for batch in _batches(appends):
            if self.serving:
                self._write_batch(batch)

    def _write_batch(self, appends: Sequence[Append]) -> None:
        try:
            timestamp_ms = self._now().timestamp_ms
            batch = encode_batch([each.record for each in appends], timestamp_ms)
            self._check_size(appends, len(batch))
            self._partition.write(batch, partial(self._on_committed, appends))
        except MinikafkaError as error:
            if isinstance(error, MessageTooLargeError) and len(appends) > 1:
                for each in appends:
                    self._write_batch([each])
            else:
                self._on_refused(appends, error.with_traceback(None))
            return
        for each in appends:
            transactional_id = each.record.transactional_id
            effects = self.coordinator.on_appended(transactional_id, each.number, self._now())
            self._after(transactional_id, effects)

    def _check_size(self, appends: Sequence[Append], size_bytes: int) -> None:
        """What is open must be able to end: only what grows is bounded, with room for the end."""
        limit_bytes = self._replica.config.max_message_bytes - ROOM_BYTES
        if size_bytes > limit_bytes and any(self._grows(each) for each in appends):
            raise MessageTooLargeError(
                f"the transaction has too many partitions: its record would have {size_bytes} "
                f"bytes, and {self.topic_partition} takes {limit_bytes}"
            )

    def _grows(self, append: Append) -> bool:
        value = append.record.value
        if value is None or value.state is not TransactionState.ONGOING:
            return False
        return value != self.coordinator.value(append.record.transactional_id)

    def _on_refused(self, appends: Sequence[Append], error: MinikafkaError) -> None:
        logger.info("%s: %d ids: not written: %s", self.topic_partition, len(appends), error)
        told = coordinator_error(error)
        for each in appends:
            if self.serving:
                transactional_id = each.record.transactional_id
                effects = self.coordinator.on_refused(
                    transactional_id, each.number, told, self._now()
                )
                self._after(transactional_id, effects)

    def _on_committed(self, appends: Sequence[Append]) -> None:
        for each in appends:
            if self.serving:
                transactional_id = each.record.transactional_id
                effects = self.coordinator.on_committed(transactional_id, each.number, self._now())
                self._after(transactional_id, effects)


def _batches(appends: Sequence[Append]) -> Iterator[Sequence[Append]]:
    """In order, as many together as make a batch of a fair size."""
    batch: list[Append] = []
    size_bytes = 0
    for append in appends:
        value = append.record.value
        count = 0 if value is None else len(value.partitions)
        own_bytes = 100 + len(append.record.transactional_id) + 8 * count
        if batch and size_bytes + own_bytes > BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
        batch.append(append)
        size_bytes += own_bytes
    if batch:
        yield batch
