"""One partition of a coordinator's topic (as `__consumer_offsets`), on the broker that leads it.

Life: made when this broker begins to lead; `read` gives out what the coordinators before have
written, up to where the log ended then, as far as that is committed (so what was acknowledged by
the last leader is there: it waits until the high watermark has come that far); `append` writes.
`end` when another leads, or the broker stops. A bump of the epoch under the same leader changes
nothing.

Invariants: an append is refused, and nothing of it is in the log; or it is committed, below the
high watermark of this leadership; or the leadership ends. Too few in-sync replicas delay it and
fail nothing: what is in the log may yet be committed, and then it counts for whoever reads it. The
outcome is awaited for as long as it takes, also when a client has been told that it takes too long.
Outcomes come in the order of the log, so what is done upon them is what a replay would do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from minikafka.broker.replication.replica import FetchWaiter, Replica
from minikafka.core.replication.partition import Partition
from minikafka.errors import (
    BrokerNotAvailableError,
    MinikafkaError,
    NotEnoughReplicasAfterAppendError,
)
from minikafka.model import BatchHeader, TopicPartition
from minikafka.records.header import is_control, is_transactional, split
from minikafka.records.markers import read_marker
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


class TransactionsRead(Protocol):
    """Takes what is part of transactions, in the order of the log, between plain records."""

    def stage(
        self, record_offset: int, key: bytes | None, value: bytes | None, producer_id: int
    ) -> None: ...
    def end(self, marker_offset: int, producer_id: int, *, commits: bool) -> None: ...


class CoordinatorPartition:
    """See the module. It is read under one leadership."""

    def __init__(self, replica: Replica, append: AppendBatch) -> None:
        self.topic_partition = replica.topic_partition
        replica.core.require_leader()
        self._replica = replica
        self._leadership = replica.core.leaderships
        self._append = append
        self._ended = False

    @property
    def replica(self) -> Replica:
        return self._replica

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

    async def read(self, take: Take, transactions: TransactionsRead | None = None) -> bool:
        """Give out all records, in order; those of transactions and their ends go to
        `transactions`, which is for topics that have some. False if another leads by then.
        KafkaStorageError if the disk fails."""
        target = self._replica.core.log_state.log_end_offset
        position = self._replica.core.log_state.log_start_offset
        while position < target and self.leads:
            end = min(self._replica.core.log_state.high_watermark, target)
            if position >= end:
                await self._wait_for_high_watermark()
                continue
            data = self._replica.read(position, READ_BYTES, end)
            position = await self._give_out(data, position, take, transactions) if data else end
            await asyncio.sleep(0)  # others have their turn
        return self.leads

    async def _wait_for_high_watermark(self) -> None:
        waiter = FetchWaiter()
        self._replica.add_consumer_waiter(waiter)
        try:
            await waiter.wait(_WAIT_S)
        finally:
            self._replica.discard_waiter(waiter)

    async def _give_out(
        self, data: bytes, position: int, take: Take, transactions: TransactionsRead | None
    ) -> int:
        """The records of whole batches; returns the offset after them."""
        at = 0
        for header in split(data):
            batch = memoryview(data)[at : at + header.size_bytes]
            at += header.size_bytes
            try:
                if not is_control(header):
                    of_header = _taking(take, header, transactions)
                    async for record in in_slices(iter_records(batch, header)):
                        if record.offset >= position:
                            of_header(record.offset, record.key, record.value)
                elif transactions is not None:
                    marker = read_marker(batch, header)
                    if marker is not None:
                        transactions.end(
                            header.base_offset, header.producer_id, commits=marker.commits
                        )
            except MinikafkaError as error:
                logger.error(
                    "%s: the batch at offset %d is left out from where it cannot be read: %s",
                    self.topic_partition,
                    header.base_offset,
                    error,
                )
            position = header.next_offset
        return position

    # --- writing ---------------------------------------------------------------------------------

    def write(self, batch: bytes, on_committed: Callable[[], None]) -> None:
        """Write a batch with acks=all. Raises MinikafkaError if it is not in the log and will not
        be. Else it is there when this returns, and `on_committed` is called when it is committed,
        unless the leadership ends before."""
        written = self._append(self.topic_partition, batch)

        def done(error: MinikafkaError | None) -> None:
            if error is None:
                on_committed()

        written.add_done_callback(
            partial(self._on_outcome, self.core.log_state.log_end_offset, done)
        )

    def append(self, batch: bytes, done: Done) -> None:
        """Write a batch with acks=all, at the end that the log has now, or not at all; `done` is
        called once, never within this call."""
        try:
            written = self._append(self.topic_partition, batch)
        except MinikafkaError as error:
            asyncio.get_running_loop().call_soon(done, error)
            return
        end_offset = self.core.log_state.log_end_offset
        written.add_done_callback(partial(self._on_outcome, end_offset, done))

    def when_committed(self, end_offset: int, done: Done) -> None:
        """Wait for what is in the log below `end_offset`, as `append` does."""
        committed = self._replica.park(end_offset)
        committed.add_done_callback(partial(self._on_outcome, end_offset, done))

    def _on_outcome(self, end_offset: int, done: Done, written: asyncio.Future[object]) -> None:
        stopping = BrokerNotAvailableError("the broker is stopping")
        outcome = stopping if written.cancelled() else written.result()
        assert outcome is None or isinstance(outcome, MinikafkaError), outcome
        if isinstance(outcome, NotEnoughReplicasAfterAppendError) and self.leads:
            if self.core.log_state.high_watermark < end_offset:
                self.when_committed(end_offset, done)
                return
            outcome = None
        done(outcome)


def _taking(take: Take, header: BatchHeader, transactions: TransactionsRead | None) -> Take:
    if transactions is None or not is_transactional(header):
        return take
    return partial(transactions.stage, producer_id=header.producer_id)
