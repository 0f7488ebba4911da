"""Transactions at the leader of a partition: batches that wait for the word of a coordinator, and
the markers with which it ends them (transactions.md section 3).

State of a `TransactionalAppend`: whether its batch is in the log, and the future that is done when
it is committed or refused. It is the token by which the core knows it while it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from minikafka.broker.ports import Buffer
from minikafka.broker.replication.replica import Replica
from minikafka.core.replication.effects import TransactionQuestion
from minikafka.core.replication.events import (
    MarkerReceived,
    TransactionalProduceWaits,
    WaitGivenUp,
)
from minikafka.core.replication.leader import AppendPlan
from minikafka.core.replication.transactional import TransactionalProduce, TransactionEnd
from minikafka.errors import MinikafkaError
from minikafka.records.check import CheckedBatch
from minikafka.records.header import STAMP_BYTES, parse_header, stamp
from minikafka.records.markers import build_marker

ALL_ACKS = -1


class TransactionalAppend:
    """Of one batch that is part of a transaction. `done` yields None or the error; without a time
    limit (`give_up`, `time_out`). `base_offset`: -1 until it is in the log. `check` raises if this
    broker must not append now."""

    def __init__(
        self,
        replica: Replica,
        batch: CheckedBatch,
        transaction: TransactionalProduce,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._batch = batch
        self._replica = replica
        self._check = check
        self._parked: asyncio.Future[object] | None = None
        self._transaction = transaction
        self.base_offset = -1
        self.done: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        """Append it, or have it wait. Raises what `Partition.plan_append` and the log raise: then
        nothing was appended."""
        self._check()
        plan = self._plan(self._transaction)
        if plan.waits:
            header = self._batch.header
            self._replica.step(TransactionalProduceWaits(self, header, self._transaction))
        else:
            self._append(plan)

    def go_on(self, word: TransactionQuestion) -> None:
        """The word was yes. Raises as `begin` does."""
        self._check()
        plan = self._plan(replace(self._transaction, word=word))
        assert not plan.waits, (word, plan)
        self._append(plan)

    def _plan(self, transaction: TransactionalProduce) -> AppendPlan:
        return self._replica.core.plan_append([self._batch.header], ALL_ACKS, transaction)

    def _append(self, plan: AppendPlan) -> None:
        replica = self._replica
        if plan.duplicate is not None:
            self.base_offset = plan.duplicate.base_offset
            end_offset = plan.duplicate.last_offset + 1
        else:
            [header] = plan.headers
            first = stamp(header.base_offset, header.size_bytes, header.leader_epoch)
            buffers: list[Buffer] = [first, *self._batch.pieces]
            replica.append_as_leader(buffers, plan.headers)
            self.base_offset, end_offset = header.base_offset, header.next_offset
            replica.traffic.messages_in += header.record_count
            replica.traffic.bytes_in += header.size_bytes
        self._parked = replica.park(end_offset)
        self._parked.add_done_callback(self._on_committed)

    def _on_committed(self, committed: asyncio.Future[object]) -> None:
        if not self.done.done() and not committed.cancelled():
            self.done.set_result(committed.result())

    def refuse(self, error: MinikafkaError) -> None:
        """It is not appended."""
        if not self.done.done():
            self.done.set_result(error)

    def give_up(self, error: MinikafkaError) -> None:
        """Its time is over: if it waits for a word, it is refused, and what waits behind it."""
        self._replica.step(WaitGivenUp(self, error))

    def time_out(self, waiting: MinikafkaError, appended: MinikafkaError) -> None:
        """As `give_up`; if it is in the log, who produced it is told `appended`."""
        if self._parked is None:
            self.give_up(waiting)
        else:
            self._replica.give_up(self._parked)
            self.refuse(appended)


def end_transaction(
    replica: Replica, end: TransactionEnd, now_timestamp_ms: int
) -> asyncio.Future[object]:
    """Take a marker: the future yields None once it is confirmed, or the error. Raises what
    `Partition.plan_marker` and the log raise: then none was appended. So it is with the retriable
    error of a listener that cannot take it yet; one that can has taken it in when it is confirmed.
    """
    if replica.marker_listener is not None:
        replica.marker_listener.check_takes_markers()
    replica.step(MarkerReceived(end.producer_id, end.producer_epoch, end.raised))
    plan = replica.core.plan_marker(end)
    if plan.header is not None:
        batch = build_marker(end.producer_id, end.producer_epoch, plan.marker, now_timestamp_ms)
        header = parse_header(batch)._replace(
            base_offset=plan.header.base_offset, leader_epoch=plan.header.leader_epoch
        )
        first = stamp(header.base_offset, header.size_bytes, header.leader_epoch)
        markers = {header.base_offset: plan.marker}
        replica.append_as_leader([first, batch[STAMP_BYTES:]], [header], markers)
    committed = replica.park(plan.required_offset)
    return committed if replica.marker_listener is None else _after_the_listener(committed)


def _after_the_listener(committed: asyncio.Future[object]) -> asyncio.Future[object]:
    """The listener has parked before, for the same marker: it hears of the commitment before this
    future has its result. That of `committed` may be there already."""
    confirmed: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def pass_on(_: asyncio.Future[object]) -> None:
        if committed.cancelled():
            confirmed.cancel()
        elif not confirmed.done():
            confirmed.set_result(committed.result())

    committed.add_done_callback(pass_on)
    return confirmed
