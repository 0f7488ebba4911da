"""One partition of a coordinator's topic (as `__consumer_offsets`), on the broker that leads it.

Life: made when this broker begins to lead; `read` gives out what the coordinators before have
written, up to where the log ended then, as far as that is committed (so what was acknowledged by
the last leader is there: it waits until the high watermark has come that far); `append` writes.
`end` when another leads, or the broker stops. A bump of the epoch under the same leader changes
nothing.

Invariant: what `append` and `write` say is written is below the high watermark of this leadership.
Its outcome is awaited for as long as it takes, also when a client has been told that it takes too
long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from minikafka.broker.replication.replica import FetchWaiter, Replica
from minikafka.core.replication.partition import Partition
from minikafka.errors import BrokerNotAvailableError, MinikafkaError
from minikafka.model import TopicPartition
from minikafka.records.header import is_control, split
from minikafka.records.read import iter_records
from minikafka.turns import in_slices

logger = logging.getLogger(__name__)

READ_BYTES = 262_144
_WAIT_S = 60.0

# Appends a batch to this partition; the future yields None or the error once all in-sync replicas
# have it. Raises MinikafkaError if nothing was appended.
AppendBatch = Callable[[TopicPartition, bytes], asyncio.Future[object]]
# Takes one record: its offset, key and value.
Take = Callable[[int, bytes | None, bytes | None], None]
Done = Callable[[MinikafkaError | None], None]


class CoordinatorPartition:
    """See the module. It is read under one leadership."""

    def __init__(self, replica: Replica, append: AppendBatch) -> None:
        self.topic_partition = replica.topic_partition
        replica.core.require_leader()
        self._replica = replica
        self._leadership = replica.core.leaderships
        self._append = append
        self._ended = False
        self._late: set[asyncio.Task[None]] = set()

    @property
    def core(self) -> Partition:
        return self._replica.core

    @property
    def leads(self) -> bool:
        return not self._ended and self.is_of(self._replica)

    def is_of(self, replica: Replica) -> bool:
        """Is it read under the leadership that this replica has now?"""
        core = replica.core
        return replica is self._replica and core.is_leader and core.leaderships == self._leadership

    def end(self) -> None:
        self._ended = True
        for task in self._late:
            task.cancel()

    async def read(self, take: Take) -> bool:
        """Give out all records, in order. False if another leads by then. KafkaStorageError if the
        disk fails."""
        target = self._replica.core.log_state.log_end_offset
        position = self._replica.core.log_state.log_start_offset
        while position < target and self.leads:
            end = min(self._replica.core.log_state.high_watermark, target)
            if position >= end:
                await self._wait_for_high_watermark()
                continue
            data = self._replica.read(position, READ_BYTES, end)
            position = await self._give_out(data, position, take) if data else end
            await asyncio.sleep(0)  # others have their turn
        return self.leads

    async def _wait_for_high_watermark(self) -> None:
        waiter = FetchWaiter()
        self._replica.add_consumer_waiter(waiter)
        try:
            await waiter.wait(_WAIT_S)
        finally:
            self._replica.discard_waiter(waiter)

    async def _give_out(self, data: bytes, position: int, take: Take) -> int:
        """The records of whole batches; returns the offset after them."""
        at = 0
        for header in split(data):
            batch = memoryview(data)[at : at + header.size_bytes]
            at += header.size_bytes
            if not is_control(header):
                try:
                    async for record in in_slices(iter_records(batch, header)):
                        if record.offset >= position:
                            take(record.offset, record.key, record.value)
                except MinikafkaError as error:
                    logger.error(
                        "%s: the batch at offset %d is left out from where it cannot be read: %s",
                        self.topic_partition,
                        header.base_offset,
                        error,
                    )
            position = header.next_offset
        return position

    def write(self, batch: bytes, on_committed: Callable[[], None]) -> None:
        """Write a batch with acks=all. Raises MinikafkaError if it is not in the log and will not
        be. Else it is there when this returns, and `on_committed` is called when it is committed,
        unless the leadership ends before; too few replicas in sync delay that, and no more."""
        appended = self._append(self.topic_partition, batch)
        end_offset = self._replica.core.log_state.log_end_offset
        appended.add_done_callback(partial(self._on_outcome, end_offset, on_committed))

    def _on_outcome(
        self, end_offset: int, on_committed: Callable[[], None], appended: asyncio.Future[object]
    ) -> None:
        if not appended.cancelled() and appended.result() is None:
            on_committed()
        elif self.leads:
            waiting = self._await_commit(end_offset, on_committed)
            task = asyncio.get_running_loop().create_task(waiting)
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _await_commit(self, end_offset: int, on_committed: Callable[[], None]) -> None:
        while self.leads:
            if self._replica.core.log_state.high_watermark >= end_offset:
                on_committed()
                return
            await self._wait_for_high_watermark()

    def append(self, batch: bytes, done: Done) -> None:
        """Write a batch with acks=all; `done` is called once, never within this call."""
        try:
            written = self._append(self.topic_partition, batch)
        except MinikafkaError as error:
            asyncio.get_running_loop().call_soon(done, error)
            return
        written.add_done_callback(partial(_on_appended, done))


def _on_appended(done: Done, appended: asyncio.Future[object]) -> None:
    stopping = BrokerNotAvailableError("the broker is stopping")
    outcome = stopping if appended.cancelled() else appended.result()
    assert outcome is None or isinstance(outcome, MinikafkaError), outcome
    done(outcome)
