"""Records on their way: deliveries, batches, and one lane per partition.

A `Delivery` is one record's receipt: three references, no future until somebody awaits it. A
`Batch` is resolved as a whole, once. A `Lane` keeps the unresolved batches of one partition in the
order in which their records were given, and the sequences that go with them. The sender
(sender.py) moves them.

State of a lane: `batches`, of which the first `sent` are with a broker or have just failed there;
the last one may be open. `in_flight` requests of it are not answered. Invariants:

- sequences of the batches that have one are contiguous, in lane order, within one producer epoch;
- from the oldest batch that has a sequence and no outcome to the newest there are at most five:
  that is how many a broker remembers, and so knows again; only one until the first was
  acknowledged under this epoch, as a broker takes any first sequence of a producer that it does
  not know (but a transaction has to begin with 0 everywhere);
- after a failure nothing is sent until every request in flight is answered or given up
  (`draining`); then everything unresolved goes again, with unchanged sequences, the oldest alone
  until it is acknowledged (`probing`): an outage is not answered with load;
- a batch whose fate is unknown is never sent under another epoch: it would risk a duplicate.

A *transactional* lane never takes another epoch by itself: each transaction has its own, and with
the first batch that fails all of the transaction is dropped (`reset`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

from minikafka.client.backoff import Backoff
from minikafka.client.metadata import LeaderView
from minikafka.client.values import UNKNOWN_RECORD_OFFSET, RecordMetadata
from minikafka.core.replication.producer_state import BATCHES_REMEMBERED, sequence_after
from minikafka.errors import MinikafkaError, RequestTimedOutError
from minikafka.model import TopicPartition
from minikafka.records.build import BatchBuilder, record_size_bound
from minikafka.records.compression import Codec
from minikafka.records.header import parse_header
from minikafka.records.read import iter_records
from minikafka.records.restamp import restamp

NO_SEQUENCE = -1
MAX_PRODUCER_EPOCH = 2**15 - 1


class Batch:
    """Records of one partition that are sent, and resolved, together.

    `reserved_bytes` is what it holds of the buffer memory. `created_s` is loop time.
    `maybe_written`: some attempt ended without a clear no. `orphaned`: an earlier batch failed for
    good, so this one needs a new sequence; `orphan_error` is set if it was not a clear no for that
    one.
    """

    __slots__ = (
        "_base_offset",
        "_builder",
        "_data",
        "_listeners",
        "_parts",
        "append",
        "created_s",
        "done",
        "error",
        "lane",
        "maybe_written",
        "number",
        "orphan_error",
        "orphaned",
        "record_count",
        "reserved_bytes",
        "sealed",
        "sequence",
    )

    def __init__(self, lane: Lane, created_s: float) -> None:
        self.lane = lane
        self.created_s = created_s
        self._builder = BatchBuilder()
        self.append = self._builder.append
        self.record_count = 0  # final once sealed
        self.reserved_bytes = 0
        self.sealed = False
        self.done = False
        self.error: BaseException | None = None
        self.sequence = NO_SEQUENCE
        self.number = 0
        self.maybe_written = False
        self.orphaned = False
        self.orphan_error: MinikafkaError | None = None
        self._data = b""
        self._base_offset = UNKNOWN_RECORD_OFFSET
        self._listeners: list[Callable[[], object]] = []
        self._parts: list[tuple[int, Batch]] = []  # (index of its first record, part) after a split

    def seal(self) -> None:
        """No more records."""
        if not self.sealed:
            self.sealed = True
            self.record_count = self._builder.record_count
            if self.lane.open is self:
                self.lane.open = None

    def encoded(self, codec: Codec) -> bytes:
        """The batch as it goes to the broker, under its present sequence; compressed only once."""
        if not self._data:
            lane = self.lane
            self._data = self._builder.build(
                codec,
                lane.producer_id,
                lane.producer_epoch,
                self.sequence,
                transactional=lane.transactional,
            )
            self._builder = BatchBuilder()
        return self._data

    def set_sequence(self, producer_id: int, producer_epoch: int, sequence: int) -> None:
        self.sequence = sequence
        self.orphaned, self.orphan_error = False, None
        if self._data:
            self._data = restamp(self._data, producer_id, producer_epoch, sequence)

    def resolve(self, base_offset: int, error: BaseException | None) -> None:
        """The end: written at `base_offset`, or failed."""
        assert not self.done, "a batch is resolved once"
        self.done = True
        self.error = error
        self._base_offset = base_offset
        self._data = b""
        self._builder = BatchBuilder()
        self._tell()

    def split(self) -> list[Batch]:
        """Two halves with the same records, in order, for a broker that takes no batch of this
        size. The batch is done when both are."""
        header = parse_header(self._data)
        middle = self.record_count // 2
        halves = [Batch(self.lane, self.created_s), Batch(self.lane, self.created_s)]
        for index, record in enumerate(iter_records(self._data, header)):
            half = halves[index >= middle]
            half.append(record.key, record.value, record.headers, record.timestamp_ms)
            half.reserved_bytes += record_size_bound(record.key, record.value, record.headers)
        self._parts = [(0, halves[0]), (middle, halves[1])]
        self._data = b""
        for half in halves:
            half.seal()
            half.on_done(self._part_done)
        return halves

    def _part_done(self) -> None:
        if all(part.done for _, part in self._parts):
            errors = [part.error for _, part in self._parts if part.error is not None]
            self.resolve(UNKNOWN_RECORD_OFFSET, errors[0] if errors else None)

    def leaf(self, index: int) -> tuple[Batch, int]:
        """The batch that record `index` is in after any splits, and its index there."""
        batch = self
        while batch._parts:
            first, part = batch._parts[index >= batch._parts[1][0]]
            batch, index = part, index - first
        return batch, index

    def offset_of(self, index: int) -> int:
        """The offset of a record of a written batch; -1 if nobody told."""
        if self._base_offset == UNKNOWN_RECORD_OFFSET:
            return UNKNOWN_RECORD_OFFSET
        return self._base_offset + index

    def on_done(self, listener: Callable[[], object]) -> None:
        """Call it when resolved; at once if it is."""
        if self.done:
            listener()
        else:
            self._listeners.append(listener)

    def forget(self, listener: Callable[[], object]) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    def _tell(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def watched(self) -> bool:
        """Does anybody wait to hear how it ends?"""
        return bool(self._listeners)

    async def wait(self) -> None:
        """Until it is resolved. Cancelling the wait leaves the batch alone."""
        if not self.done:
            future = asyncio.get_running_loop().create_future()

            def wake() -> None:
                if not future.done():
                    future.set_result(None)

            self._listeners.append(wake)
            try:
                await future
            finally:
                self.forget(wake)


class Delivery:
    """The receipt of one record: await it for its RecordMetadata, or for the error that it failed
    with.

    Like an asyncio.Future, but it cannot be cancelled: a record that was given away may be written.
    """

    __slots__ = ("_batch", "_index", "timestamp_ms")

    def __init__(self, batch: Batch, index: int, timestamp_ms: int) -> None:
        self._batch = batch
        self._index = index
        self.timestamp_ms = timestamp_ms

    def done(self) -> bool:
        return self._batch.leaf(self._index)[0].done

    def exception(self) -> BaseException | None:
        """The error of a record that failed. InvalidStateError if it is not done."""
        batch, _ = self._batch.leaf(self._index)
        if not batch.done:
            raise asyncio.InvalidStateError("the record is not delivered yet")
        return batch.error

    def result(self) -> RecordMetadata:
        """Where the record is. Raises its error, or InvalidStateError if it is not done."""
        error = self.exception()
        if error is not None:
            raise error.with_traceback(None)
        batch, index = self._batch.leaf(self._index)
        topic_partition = batch.lane.topic_partition
        return RecordMetadata(
            topic_partition.topic,
            topic_partition.partition,
            batch.offset_of(index),
            self.timestamp_ms,
        )

    def add_done_callback(self, callback: Callable[[Delivery], object]) -> None:
        """Call it once the record is delivered or has failed; at once if it is."""
        self._batch.on_done(lambda: callback(self))

    def __await__(self) -> Generator[Any, None, RecordMetadata]:
        while not self.done():
            yield from self._batch.leaf(self._index)[0].wait().__await__()
        return self.result()


class Lane:
    """The unresolved batches of one partition (see the module's docstring)."""

    __slots__ = (
        "acknowledged",
        "backoff",
        "batch_limit_bytes",
        "batches",
        "draining",
        "failed_view",
        "in_flight",
        "last_error",
        "needs_epoch",
        "needs_producer_id",
        "next_number",
        "next_sequence",
        "open",
        "probing",
        "producer_epoch",
        "producer_id",
        "retry_at_s",
        "sent",
        "target",
        "topic_id",
        "topic_partition",
        "transactional",
    )

    def __init__(
        self,
        topic_partition: TopicPartition,
        batch_limit_bytes: int,
        backoff: Backoff,
        *,
        transactional: bool = False,
    ) -> None:
        self.topic_partition = topic_partition
        self.transactional = transactional
        self.topic_id = ""
        self.batch_limit_bytes = batch_limit_bytes
        self.backoff = backoff
        self.batches: deque[Batch] = deque()
        self.open: Batch | None = None
        self.sent = 0
        self.in_flight = 0
        self.target = -1  # the broker that the requests in flight went to
        self.draining = False
        self.probing = False
        self.retry_at_s = 0.0
        self.last_error: MinikafkaError | None = None
        self.failed_view: LeaderView | None = None  # who led when it failed last
        self.producer_id = -1
        self.producer_epoch = -1
        self.next_sequence = 0
        self.next_number = 0  # counts the batches that got a sequence
        self.acknowledged = False  # some batch, under this producer epoch
        self.needs_epoch = False
        self.needs_producer_id = True

    def new_batch(self, now_s: float) -> Batch:
        """The next open batch; the one before is sealed."""
        if self.open is not None:
            self.open.seal()
        batch = self.open = Batch(self, now_s)
        self.batches.append(batch)
        return batch

    def may_number(self) -> bool:
        """May another batch get a sequence now (see the invariants)?"""
        if not self.sent:
            return True
        if self.needs_epoch or self.needs_producer_id:
            return False
        if not (self.acknowledged or self.transactional):
            return False
        return self.next_number - self.batches[0].number < BATCHES_REMEMBERED

    def next_unsent(self) -> Batch | None:
        return self.batches[self.sent] if self.sent < len(self.batches) else None

    def assign_sequence(self, batch: Batch, producer_id: int, producer_epoch: int) -> None:
        """Number a batch that has no valid sequence, under a new epoch of its own or, if that is
        due, under the producer id and epoch that the cluster gave."""
        assert batch.sequence == NO_SEQUENCE
        if self.needs_producer_id:
            self.producer_id, self.producer_epoch = producer_id, producer_epoch
            self._restart_sequence()
        elif self.needs_epoch:
            self.producer_epoch += 1
            self._restart_sequence()
        batch.set_sequence(self.producer_id, self.producer_epoch, self.next_sequence)
        batch.number = self.next_number
        self.next_number += 1
        self.next_sequence = sequence_after(self.next_sequence, batch.record_count)

    def begin_under(self, identity: tuple[int, int] | None) -> None:
        """The next batch is of the transaction of this producer id and epoch."""
        if identity != (self.producer_id, self.producer_epoch):
            self.needs_producer_id = True

    def split(self, batch: Batch) -> list[Batch]:
        """Put two halves in the place of a batch that is too large as a whole, and is certainly not
        written."""
        self.draining = True
        if batch.sequence != NO_SEQUENCE and not self.transactional:
            self.orphan_after(batch, None)
        position = self.batches.index(batch)
        self.remove(batch)
        halves = batch.split()
        if self.transactional:  # together they take the sequences that it had
            sequence = batch.sequence
            for half in halves:
                half.set_sequence(self.producer_id, self.producer_epoch, sequence)
                half.number = batch.number
                sequence = sequence_after(sequence, half.record_count)
        for half in reversed(halves):
            self.batches.insert(position, half)
        return halves

    def reset(self) -> None:
        """All of it is resolved, and no answer is waited for: as it was in the beginning."""
        assert not self.batches, self.batches
        self.sent = self.in_flight = 0
        self.draining = self.probing = False
        self.retry_at_s = 0.0
        self.last_error = None
        self.needs_producer_id = True

    def _restart_sequence(self) -> None:
        self.next_sequence = 0
        self.acknowledged = False
        self.needs_epoch = self.needs_producer_id = False

    def remove(self, batch: Batch) -> None:
        """Take a batch that is resolved (or split) out of the lane."""
        position = self.batches.index(batch)
        del self.batches[position]
        if position < self.sent:
            self.sent -= 1

    def orphan_after(self, batch: Batch, error: MinikafkaError | None) -> None:
        """`batch` had a sequence and failed for good: the later ones cannot keep theirs. `error`:
        it is not known whether it was written."""
        self.draining = True
        self.needs_epoch = True
        if self.producer_epoch >= MAX_PRODUCER_EPOCH:
            self.needs_producer_id = True
        position = self.batches.index(batch)
        for later in list(self.batches)[position + 1 :]:
            if later.sequence != NO_SEQUENCE:
                later.orphaned = True
                later.orphan_error = later.orphan_error or error

    def settle(self) -> list[tuple[Batch, MinikafkaError]]:
        """Nothing is in flight any more after a failure: begin again at the oldest batch. Returns
        the batches (removed from the lane) that fail because their fate is unknown and their
        sequence void."""
        assert self.in_flight == 0
        lost: list[tuple[Batch, MinikafkaError]] = []
        for batch in [batch for batch in self.batches if batch.orphaned]:
            batch.sequence = NO_SEQUENCE
            batch.orphaned = False
            if batch.maybe_written and batch.orphan_error is not None:
                self.remove(batch)
                lost.append((batch, _unknown_fate(batch)))
            batch.maybe_written = False
        self.draining = False
        self.probing = True
        self.sent = 0
        return lost


def _unknown_fate(batch: Batch) -> MinikafkaError:
    return RequestTimedOutError(
        f"it is not known whether {batch.record_count} records for {batch.lane.topic_partition} "
        "were written, and they cannot be sent again without risking duplicates, as records before "
        f"them failed ({batch.orphan_error})"
    )
