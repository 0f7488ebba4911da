"""Producer and Consumer for code without asyncio: blocking, safe to use from several threads. (The
Admin is in administering/sync.py.) The async clients live in one background thread (blocking.py).

State of a Producer: an inbox of records that the loop has not taken yet. Invariant: the records of
one thread are taken in the order of its calls.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from minikafka.client.blocking import Blocking
from minikafka.client.consuming.consumer import AsyncConsumer
from minikafka.client.consuming.fetcher import FetchedBatches
from minikafka.client.consuming.subscribing import Partition
from minikafka.client.producing.accumulator import Delivery
from minikafka.client.producing.producer import AsyncProducer, InGroup
from minikafka.client.values import (
    ConsumerRecord,
    GroupMembership,
    Headers,
    RecordMetadata,
    WouldBlockError,
)
from minikafka.errors import TransactionAbortableError, UsageError
from minikafka.model import TopicPartition

_T = TypeVar("_T")
_INBOX_RECORDS = 100_000  # beyond this `send` waits for the loop


class _Sent(NamedTuple):
    """A record in the inbox: the arguments of `send`, and what its sender holds."""

    arguments: tuple[
        str, bytes | None, bytes | None, int | None, Headers, int
    ]  # topic, value, key, partition, headers, timestamp
    receipt: Future[RecordMetadata]


class Producer(Blocking):
    """Writes records; see AsyncProducer for the options. Use it with `with`, or close it."""

    def __init__(self, bootstrap: str | Iterable[str], **options: Any) -> None:
        self._producer = AsyncProducer(bootstrap, **options)
        super().__init__()
        self._inbox: deque[_Sent] = deque()
        self._taking = False  # the loop knows of the inbox
        self._inbox_lock = threading.Lock()
        self._room = threading.Condition(self._inbox_lock)
        self._taker: asyncio.Task[None] | None = None
        self._start(self._producer.start(), self._producer.close)

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(1_000 if isinstance(error, KeyboardInterrupt) else None)

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> Future[RecordMetadata]:
        """Take a record; `.result(timeout)` of what this returns is its RecordMetadata, or raises
        its error (everything that AsyncProducer.send raises comes that way). Waits only for
        room."""
        if timestamp_ms is None:
            timestamp_ms = int(time.time() * 1000)
        receipt: Future[RecordMetadata] = Future()
        sent = _Sent((topic, value, key, partition, headers, timestamp_ms), receipt)
        with self._inbox_lock:
            while self._open and len(self._inbox) >= _INBOX_RECORDS:
                self._room.wait()
            if not self._open:
                raise UsageError("the client is closed")
            self._inbox.append(sent)
            wake, self._taking = not self._taking, True
        if wake:
            self._loop.call_soon_threadsafe(self._take)
        return receipt

    def flush(self, timeout_ms: float | None = None) -> None:
        """Returns when every record sent before has its outcome; TimeoutError if that takes longer
        than `timeout_ms`."""
        self._call(self._flush(), None if timeout_ms is None else timeout_ms / 1000)

    def init_transactions(self) -> None:
        self._call(self._producer.init_transactions())

    def begin(self) -> None:
        """Records sent from now on are part of the transaction."""
        self._call(self._begin())

    def commit(self) -> None:
        """Also raises what AsyncProducer.send would have raised for a record of the transaction."""
        self._call(self._commit())

    def abort(self) -> None:
        self._call(self._abort())

    def send_offsets(self, offsets: Mapping[TopicPartition, int], consumer: InGroup) -> None:
        self._call(self._producer.send_offsets(offsets, consumer))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block that is a transaction; see AsyncProducer.transaction."""
        self.begin()
        try:
            yield
        except BaseException as error:
            self._call(self._abandon(error))
            raise
        self._call(self._complete())

    def close(self, timeout_ms: float | None = None) -> None:
        """Send what is left, at most for `timeout_ms`, then end. A transaction that is open is
        aborted. Idempotent."""
        self._close(self._finish(timeout_ms))
        with self._inbox_lock:
            self._room.notify_all()

    # On the loop.

    def _take(self) -> None:
        self._taker = self._loop.create_task(self._take_all())

    async def _take_all(self) -> None:
        """Move the inbox to the producer, in order."""
        while True:
            with self._inbox_lock:
                taken = list(self._inbox)
                self._inbox.clear()
                self._taking = bool(taken)
                self._room.notify_all()
            if not taken:
                return
            for sent in taken:
                try:
                    try:
                        delivery = self._producer.send_nowait(*sent.arguments)
                    except WouldBlockError:
                        delivery = await self._producer.send(*sent.arguments)
                except Exception as error:
                    sent.receipt.set_exception(error)
                    self._producer._on_failed(error)  # nobody else may look before the commit
                else:
                    delivery.add_done_callback(_Settle(sent.receipt))

    async def _taken(self) -> None:
        """All that was sent is in the producer, or was refused."""
        while (taker := self._taker) is not None and not taker.done():
            await asyncio.wait([taker])

    async def _flush(self) -> None:
        await self._taken()
        await self._producer.flush()

    async def _begin(self) -> None:
        await self._taken()  # what was sent before is not part of it
        self._producer.begin()

    async def _commit(self) -> None:
        await self._taken()
        await self._producer.commit()

    async def _abort(self) -> None:
        self._producer._on_failed(TransactionAbortableError("the transaction is aborted"))
        await self._taken()  # refused, so that it is not part of the next one
        await self._producer.abort()

    async def _complete(self) -> None:
        await self._taken()
        await self._producer._of_transactions().complete()

    async def _abandon(self, error: BaseException) -> None:
        self._producer._on_failed(TransactionAbortableError("the transaction is aborted"))
        await self._taken()
        await self._producer._of_transactions().abandon(error)

    async def _finish(self, timeout_ms: float | None) -> None:
        timeout_s = None if timeout_ms is None else timeout_ms / 1000
        began_s = self._loop.time()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._flush(), timeout_s)
        finally:
            if timeout_ms is not None:
                timeout_ms = max(timeout_ms - (self._loop.time() - began_s) * 1000, 0)
            await self._producer.close(timeout_ms)
            if self._taker is not None:
                await asyncio.wait([self._taker])


class _Settle:
    """Hands a delivery's outcome to the thread that waits for it."""

    __slots__ = ("_receipt",)

    def __init__(self, receipt: Future[RecordMetadata]) -> None:
        self._receipt = receipt

    def __call__(self, delivery: Delivery) -> None:
        if not self._receipt.set_running_or_notify_cancel():
            return
        error = delivery.exception()
        if error is not None:
            self._receipt.set_exception(error)
        else:
            self._receipt.set_result(delivery.result())


class Consumer(Blocking):
    """Reads records; see AsyncConsumer for options, arguments and errors. Use it with `with`, or
    close it. Threads that share one consumer share its positions."""

    def __init__(self, bootstrap: str | Iterable[str], **options: Any) -> None:
        self._consumer = AsyncConsumer(bootstrap, **options)
        super().__init__()
        self._start(self._consumer.start(), self._consumer.close)

    def __enter__(self) -> Consumer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(failed=error is not None)

    def close(self, *, failed: bool = False) -> None:
        self._close(self._consumer.close(failed=failed))

    def assign(self, partitions: Iterable[Partition]) -> None:
        self._do(lambda: self._consumer.assign(partitions))

    def assignment(self) -> list[TopicPartition]:
        return self._do(self._consumer.assignment)

    def partitions_of(self, topic: str) -> list[TopicPartition]:
        return self._call(self._consumer.partitions_of(topic))

    def seek(self, partition: Partition, offset: int) -> None:
        self._do(lambda: self._consumer.seek(partition, offset))

    def seek_to_beginning(self, *partitions: Partition) -> None:
        self._do(lambda: self._consumer.seek_to_beginning(*partitions))

    def seek_to_end(self, *partitions: Partition) -> None:
        self._do(lambda: self._consumer.seek_to_end(*partitions))

    def seek_to_timestamp(self, partition: Partition, timestamp_ms: int) -> int:
        return self._call(self._consumer.seek_to_timestamp(partition, timestamp_ms))

    def position(self, partition: Partition) -> int:
        return self._call(self._consumer.position(partition))

    def high_watermark(self, partition: Partition) -> int:
        return self._do(lambda: self._consumer.high_watermark(partition))

    def beginning_offsets(self, partitions: Iterable[Partition]) -> dict[TopicPartition, int]:
        return self._call(self._consumer.beginning_offsets(partitions))

    def end_offsets(self, partitions: Iterable[Partition]) -> dict[TopicPartition, int]:
        return self._call(self._consumer.end_offsets(partitions))

    def offsets_for_times(
        self, timestamps_ms: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int | None]:
        return self._call(self._consumer.offsets_for_times(timestamps_ms))

    def subscribe(self, topics: str | Iterable[str], group_id: str, **options: Any) -> None:
        """Callbacks (`on_assigned`, `on_revoked`) run in the client's own thread."""
        self._do(lambda: self._consumer.subscribe(topics, group_id, **options))

    def unsubscribe(self) -> None:
        self._call(self._consumer.unsubscribe())

    def membership(self) -> GroupMembership:
        return self._consumer.membership()

    def commit(self, offsets: Mapping[TopicPartition, int] | None = None) -> None:
        self._call(self._consumer.commit(offsets))

    def committed(self, *partitions: Partition) -> dict[TopicPartition, int | None]:
        return self._call(self._consumer.committed(*partitions))

    def poll(self, timeout_ms: float | None = 500, max_records: int = 500) -> list[ConsumerRecord]:
        return self._call(self._consumer.poll(timeout_ms, max_records))

    def poll_batches(self, timeout_ms: float | None = 500) -> list[FetchedBatches]:
        return self._call(self._consumer.poll_batches(timeout_ms))

    def __iter__(self) -> Iterator[ConsumerRecord]:
        """One record after another, without end. The position is that of the record given last."""
        while True:
            try:
                record = self._consumer.pop()
            except IndexError:
                self._call(self._consumer.fill())
            else:
                yield record

    def _do(self, function: Callable[[], _T]) -> _T:
        async def run() -> _T:
            return function()

        return self._call(run())
