"""Offsets that are committed in a transaction: one batch of records on its way into the log of
`__consumer_offsets`, by way of the word of the transaction's coordinator (transactions.md, T3).

Whether the group takes them from whom commits them is asked before the coordinator is, and again
when its word has come: the generation may have ended meanwhile (KIP-447). Who is refused then keeps
nobody behind it from being appended, since such batches have no sequence.

Life of an append: `begin` appends it, or has it wait for the word; when it is in the log, the shard
stages the offsets in the same step; `outcome` is done when it is committed, or refused. What waits
for the word for too long is refused; what is in the log stays there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from minikafka.api.transactions import TxnOffsetCommitRequest
from minikafka.broker.groups.records import encode_batch
from minikafka.broker.groups.shard import GroupShard, coordinator_error
from minikafka.broker.replication.produced import own_batch
from minikafka.broker.replication.transactional import TransactionalAppend
from minikafka.core.groups.effects import OffsetAndMetadata
from minikafka.core.groups.offsets import records_of
from minikafka.core.replication.effects import TransactionQuestion
from minikafka.core.replication.transactional import TransactionalProduce
from minikafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    InvalidTxnStateError,
    MinikafkaError,
    TransactionAbortableError,
)
from minikafka.model import TopicPartition
from minikafka.records.check import check_size


class OffsetsAppend(TransactionalAppend):
    """`check` raises what the client is to be told instead. See the module."""

    def __init__(
        self,
        shard: GroupShard,
        request: TxnOffsetCommitRequest,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        timestamp_ms: int,
        check: Callable[[], object],
    ) -> None:
        """MessageTooLargeError for more than fits into a batch, or into a text of its format."""
        producer = (request.producer_id, request.producer_epoch)
        batch = encode_batch(records_of(request.group_id, offsets), timestamp_ms, producer)
        check_size(len(batch), shard.replica.rules)
        transaction = TransactionalProduce(request.transactional_id, request.adds)
        super().__init__(shard.replica, own_batch(batch), transaction)
        self.outcome: asyncio.Future[MinikafkaError | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._shard = shard
        self._request = request
        self._offsets = offsets
        self._check_group = check

    def begin(self) -> None:
        super().begin()
        self._stage()

    def go_on(self, word: TransactionQuestion) -> None:
        try:
            self._check_group()
        except MinikafkaError as error:
            self.refuse(error.with_traceback(None))
        else:
            super().go_on(word)
            self._stage()

    def _stage(self) -> None:
        """Nothing may come between the append and this: memory is the log."""
        if self.base_offset < 0:
            return
        request, shard = self._request, self._shard
        try:
            shard.stage(
                request.group_id, request.producer_id, self._offsets, self.base_offset, self._end
            )
        except Exception as bug:
            raise shard.replica.fail(bug, "what was appended could not be staged") from bug

    def refuse(self, error: MinikafkaError) -> None:
        super().refuse(error)
        self._end(error)

    def _end(self, error: MinikafkaError | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(error)

    async def in_time(self, timeout_s: float) -> MinikafkaError | None:
        """How it ended; what the client tries again after, if that takes too long. The time is over
        also when nobody waits any more."""
        timer = asyncio.get_running_loop().call_later(timeout_s, self._time_is_over, timeout_s)
        self.outcome.add_done_callback(lambda _: timer.cancel())
        return await asyncio.shield(self.outcome)

    def _time_is_over(self, timeout_s: float) -> None:
        if self.base_offset < 0:
            self.give_up(
                CoordinatorLoadInProgressError(
                    "the coordinator of the transaction gave no word on it within "
                    f"{timeout_s:.0f} s"
                )
            )
        else:
            self._end(
                CoordinatorNotAvailableError(
                    f"not all in-sync replicas had the record within {timeout_s:.0f} s; "
                    "it may yet be committed"
                )
            )


def told(error: MinikafkaError, request: TxnOffsetCommitRequest) -> MinikafkaError:
    """What the client is to be told: an old one knows fewer errors."""
    if isinstance(error, TransactionAbortableError) and not request.knows_abortable:
        return InvalidTxnStateError(str(error))
    return coordinator_error(error, of_offsets=True)
