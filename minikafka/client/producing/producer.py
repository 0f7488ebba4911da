"""The producer: takes records, gives receipts.

State: per topic its lanes and the sticky partitioner, how much of the buffer memory is taken, who
waits for some. Invariants: records given for one partition are written in the order in which they
were given; every record that was taken has exactly one outcome, written (with its offset) or
failed with an error; with `idempotence` (the default) a record that is reported as written is in
the log exactly once. With a `transactional_id` all records are of transactions (transactions.py).

Budget: a few microseconds a record (benchmarks/client_cpu.py), so `send_nowait` makes no task and
no future, and everything else happens per batch.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Protocol

from minikafka.client.backoff import Backoff, Random
from minikafka.client.channel import Connect, connect_over_grpc
from minikafka.client.metadata import METADATA_MAX_AGE_MS, Cluster
from minikafka.client.options import SenderOptions
from minikafka.client.producing.accumulator import Batch, Delivery, Lane
from minikafka.client.producing.partitioner import StickyPartitioner, partition_for_key
from minikafka.client.producing.sender import Sender
from minikafka.client.producing.transactions import Transactions
from minikafka.client.values import GroupMembership, Headers, WouldBlockError, check_positive
from minikafka.errors import InvalidRecordError, MessageTooLargeError, UsageError
from minikafka.model import TopicPartition
from minikafka.records.build import RECORD_OVERHEAD_BYTES, record_size_bound
from minikafka.records.compression import codec_named

BATCH_SIZE_BYTES = 256 * 1024
BUFFER_MEMORY_BYTES = 64 * 1024 * 1024
MAX_REQUEST_BYTES = 1024 * 1024
TRANSACTION_TIMEOUT_MS = 60_000
_ACKS = {"all": -1, "-1": -1, -1: -1, "1": 1, 1: 1, "0": 0, 0: 0}
_UNACKNOWLEDGED_METADATA_MAX_AGE_MS = 5_000  # with acks=0 no broker says that it leads no more

_INTERRUPTED_CLOSE_MS = 1_000


class InGroup(Protocol):
    """A consumer that is a member of a group."""

    def membership(self) -> GroupMembership: ...


class _Topic:
    """A topic that records go to: a lane for each partition, the partitions that have a leader."""

    __slots__ = ("available", "lanes", "sticky")

    def __init__(self, sticky: StickyPartitioner) -> None:
        self.lanes: list[Lane] = []
        self.available: list[int] = []
        self.sticky = sticky


class AsyncProducer:
    """Writes records. Belongs to one event loop; `await start()` first, or use it with `async
    with`."""

    def __init__(
        self,
        bootstrap: str | Iterable[str],
        *,
        acks: str | int = "all",
        linger_ms: float = 0,
        batch_size: int = BATCH_SIZE_BYTES,
        compression: str = "none",
        idempotence: bool | None = None,
        max_in_flight: int = 5,
        request_timeout_ms: float = 30_000,
        delivery_timeout_ms: float = 120_000,
        max_block_ms: float = 60_000,
        buffer_memory: int = BUFFER_MEMORY_BYTES,
        max_request_size: int = MAX_REQUEST_BYTES,
        metadata_max_age_ms: float = METADATA_MAX_AGE_MS,
        transactional_id: str | None = None,
        transaction_timeout_ms: int = TRANSACTION_TIMEOUT_MS,
        connect: Connect = connect_over_grpc,
        uniform: Random = random.random,
    ) -> None:
        """`bootstrap`: "host:port,host:port" or a list of such; any live broker will do.

        `acks`: "all", 1 or 0. `idempotence`: by default on with acks=all. `linger_ms`: how long an
        open batch waits for more records (0: it goes at once, or when the one before it is
        acknowledged). Sizes are in bytes. `max_block_ms`: how long `send` waits for buffer memory
        or for a topic to appear, and a transaction for its coordinator. `transactional_id`: whoever
        takes it fences who had it; records are then sent in transactions only, and one that is open
        for `transaction_timeout_ms` is aborted. UsageError for a value that cannot work.
        """
        acks_number, idempotence = _read_acks(acks, idempotence, transactional_id)
        if linger_ms < 0:
            raise UsageError(f"linger_ms is {linger_ms}; it must not be negative")
        check_positive(
            batch_size=batch_size,
            max_in_flight=max_in_flight,
            request_timeout_ms=request_timeout_ms,
            delivery_timeout_ms=delivery_timeout_ms,
            max_block_ms=max_block_ms,
            buffer_memory=buffer_memory,
            max_request_size=max_request_size,
            metadata_max_age_ms=metadata_max_age_ms,
            transaction_timeout_ms=transaction_timeout_ms,
        )
        if acks_number == 0:
            metadata_max_age_ms = min(metadata_max_age_ms, _UNACKNOWLEDGED_METADATA_MAX_AGE_MS)
        self._options = SenderOptions(
            acks=acks_number,
            codec=codec_named(compression),
            idempotence=idempotence,
            linger_ms=linger_ms,
            max_in_flight=max_in_flight,
            request_timeout_ms=request_timeout_ms,
            delivery_timeout_ms=delivery_timeout_ms,
            max_request_bytes=max_request_size,
            transactional_id=transactional_id,
        )
        self._transaction_timeout_ms = transaction_timeout_ms
        self._batch_size = batch_size
        self._max_block_ms = max_block_ms
        self._buffer_memory = buffer_memory
        self._max_request_size = max_request_size
        self._uniform = uniform
        self._cluster = Cluster(
            bootstrap, connect=connect, metadata_max_age_ms=metadata_max_age_ms, uniform=uniform
        )
        self._topics: dict[str, _Topic] = {}
        self._buffered_bytes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()  # sends that wait for memory
        self._sender: Sender | None = None
        self._closed = False
        self._transactions: Transactions | None = None
        self._barred = transactional_id is not None  # no record is to be taken: `_known` says why

    async def __aenter__(self) -> AsyncProducer:
        try:
            await self.start()
        except BaseException:
            await self._cluster.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Who is interrupted does not want to wait out an outage.
        interrupted = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
        await self.close(_INTERRUPTED_CLOSE_MS if interrupted else None)

    async def start(self) -> None:
        """Find the cluster. NetworkError names all addresses if none of them answers."""
        self._loop = asyncio.get_running_loop()
        await self._cluster.start()
        self._cluster.on_change(self._learn)
        self._sender = Sender(self._cluster, self._options, self._release, self._on_failed)
        transactional_id = self._options.transactional_id
        if transactional_id is not None:
            self._transactions = Transactions(
                self._cluster,
                self._sender,
                transactional_id,
                self._transaction_timeout_ms,
                self._max_block_ms,
                self._open_or_bar,
            )

    async def close(self, timeout_ms: float | None = None) -> None:
        """Send what is left, at most for `timeout_ms` (None: until each record has its outcome),
        then end. Records that are left then fail with RequestTimedOutError. A transaction that is
        open is aborted. Idempotent."""
        if self._closed:
            return
        self._closed = self._barred = True
        try:
            if self._transactions is not None:
                await self._transactions.close(timeout_ms)
            if self._sender is not None:
                timeout_s = None if timeout_ms is None else timeout_ms / 1000
                with suppress(TimeoutError):  # the records that are left hear of it
                    await asyncio.wait_for(self._sender.flush(), timeout_s)
        finally:
            if self._sender is not None:
                await self._sender.close()
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            await self._cluster.close()

    async def flush(self) -> None:
        """Send everything without lingering; returns when every record given so far has its
        outcome."""
        await self._running().flush()

    @property
    def buffered_bytes(self) -> int:
        """The buffer memory that unresolved records take."""
        return self._buffered_bytes

    async def partition_count(self, topic: str) -> int:
        """The number of partitions; waits for the topic like `send`."""
        return len((await self._topic(topic)).lanes)

    # --- sending ---------------------------------------------------------------------------------

    async def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Take a record; returns its receipt at once, to be awaited for its RecordMetadata.
        `timestamp_ms` defaults to now.

        Waits, for at most `max_block_ms`, only while the topic is not known or buffer memory is
        full; after that UnknownTopicOrPartitionError or WouldBlockError. Also raises
        MessageTooLargeError, InvalidTopicError, and UsageError for a partition that the topic has
        not.
        """
        while True:
            if not self._waiting:
                try:
                    return self.send_nowait(topic, value, key, partition, headers, timestamp_ms)
                except WouldBlockError:
                    pass
            if topic not in self._topics:
                await self._topic(topic)
            else:
                await self._wait_for_memory()
                try:
                    return self.send_nowait(topic, value, key, partition, headers, timestamp_ms)
                except WouldBlockError:
                    continue

    def send_nowait(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Like `send`, but WouldBlockError where that would wait. Nothing is awaited here: give
        the loop a turn now and then."""
        size = RECORD_OVERHEAD_BYTES
        if value is not None:
            if value.__class__ is not bytes:
                value = _as_bytes("value", value)
            size += len(value)
        if key is not None:
            if key.__class__ is not bytes:
                key = _as_bytes("key", key)
            size += len(key)
        if headers:
            size = record_size_bound(key, value, headers)
        buffered = self._buffered_bytes + size
        if buffered > self._buffer_memory and self._buffered_bytes:
            raise WouldBlockError(f"the buffer memory of {self._buffer_memory} bytes is full")
        known = self._topics.get(topic)
        if known is None or self._barred:
            known = self._known(topic)
        if size > self._max_request_size:
            raise MessageTooLargeError(
                f"a record of up to {size} bytes is larger than max_request_size, "
                f"{self._max_request_size} bytes"
            )
        lanes = known.lanes
        if partition is None:
            if key is None:
                partition = known.sticky.choose(size, len(lanes), known.available)
            else:
                partition = partition_for_key(key, len(lanes))
        elif not 0 <= partition < len(lanes):
            raise UsageError(
                f"topic {topic!r} has no partition {partition}; it has 0 to {len(lanes) - 1}"
            )
        if timestamp_ms is None:
            timestamp_ms = int(time.time() * 1000)
        lane = lanes[partition]
        batch = lane.open
        if batch is None or batch.reserved_bytes + size > lane.batch_limit_bytes:
            batch = self._new_batch(lane)
        index = batch.append(key, value, headers, timestamp_ms)
        batch.reserved_bytes += size
        self._buffered_bytes = buffered
        return Delivery(batch, index, timestamp_ms)

    async def send_many(
        self,
        topic: str,
        values: Iterable[bytes | None],
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> list[Delivery]:
        """Take many keyless records, in order; returns their receipts."""
        deliveries: list[Delivery] = []
        for value in values:
            try:
                delivery = self.send_nowait(topic, value, None, partition, (), timestamp_ms)
            except WouldBlockError:
                delivery = await self.send(topic, value, None, partition, (), timestamp_ms)
            deliveries.append(delivery)
        return deliveries

    def _new_batch(self, lane: Lane) -> Batch:
        batch = lane.new_batch(self._loop.time())
        self._running().add(lane)
        return batch

    # --- transactions ----------------------------------------------------------------------------

    async def init_transactions(self) -> None:
        """Once, before the first transaction: aborts what an earlier producer of this
        transactional id has left open, and fences it. What every one of these calls does: it
        repeats what it asks until `max_block_ms`, then raises what kept it (NetworkError,
        RequestTimedOutError, ...), and can be called again. ProducerFencedError,
        InvalidProducerEpochError: another producer has the id, and this one is of no use any
        more."""
        await self._of_transactions().init()

    def begin(self) -> None:
        """Begin a transaction: records that are sent from now on are part of it."""
        self._of_transactions().begin()

    async def commit(self) -> None:
        """Wait for all records of the transaction, then have them count, all together. Raises what
        one of them failed with, and TransactionAbortableError where the cluster has aborted it:
        then `abort` is left, and the next transaction may succeed. After NetworkError and
        RequestTimedOutError it is not known whether it is committed: `commit` asks again."""
        await self._of_transactions().commit()

    async def abort(self) -> None:
        """Have none of the records of the transaction count. Those that are on their way fail."""
        await self._of_transactions().abort()

    async def send_offsets(self, offsets: Mapping[TopicPartition, int], consumer: InGroup) -> None:
        """Commit, as part of the transaction, where the group of `consumer` is to go on reading.
        IllegalGenerationError and the like say that the consumer does not have these partitions any
        more; then, as after any other error here, the transaction can only be aborted."""
        await self._of_transactions().send_offsets(offsets, consumer.membership())

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """A block that is a transaction: begun before it, committed after it, aborted if an
        exception leaves it, or if it cannot be committed (what kept it is raised)."""
        transactions = self._of_transactions()
        transactions.begin()
        try:
            yield
        except BaseException as error:
            await transactions.abandon(error)
            raise
        await transactions.complete()

    def _of_transactions(self) -> Transactions:
        self._running()
        if self._transactions is None:
            raise UsageError("the producer has no transactional_id: it takes part in none")
        return self._transactions

    def _on_failed(self, error: BaseException) -> None:
        if self._transactions is not None:
            self._transactions.on_failed(error)

    def _open_or_bar(self, is_open: bool) -> None:
        self._barred = self._closed or not is_open

    # --- waiting ---------------------------------------------------------------------------------

    def _known(self, topic: str) -> _Topic:
        """The topic, or why a record for it cannot be taken now."""
        self._running()
        if self._options.transactional_id is not None:
            self._of_transactions().check_open()
        known = self._topics.get(topic)
        if known is None:
            raise WouldBlockError(f"the metadata of topic {topic!r} are not known yet")
        return known

    def _running(self) -> Sender:
        if self._closed:
            raise UsageError("the producer is closed")
        if self._sender is None:
            raise UsageError("the producer is not started: await start(), or use `async with`")
        return self._sender

    async def _topic(self, name: str) -> _Topic:
        self._running()
        known = self._topics.get(name)
        if known is None:
            view = await self._cluster.wait_for_topic(
                name, self._max_block_ms, allow_auto_create=True
            )
            # Somebody else may have waited for the same topic.
            known = self._topics.get(view.name)
            if known is None:
                known = _Topic(StickyPartitioner(self._batch_size, self._uniform))
                self._topics[name] = known
                self._learn()
        return known

    def _learn(self) -> None:
        """The metadata changed: lanes for new partitions, who has a leader."""
        for name, topic in self._topics.items():
            view = self._cluster.topics[name]
            for number in range(len(topic.lanes), view.partition_count):
                lane = Lane(
                    TopicPartition(name, number),
                    self._batch_size,
                    Backoff(self._uniform),
                    transactional=self._options.transactional_id is not None,
                )
                topic.lanes.append(lane)
            topic.available = [
                lane.topic_partition.partition
                for lane in topic.lanes
                if self._cluster.leader(lane.topic_partition) is not None
            ]
            topic.sticky.keep_to(topic.available)

    async def _wait_for_memory(self) -> None:
        """Wait in line until some memory is released."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            await asyncio.wait_for(waiter, self._max_block_ms / 1000)
        except TimeoutError:
            raise WouldBlockError(
                f"no buffer memory became free within {self._max_block_ms:.0f} ms; "
                f"{self._buffered_bytes} of {self._buffer_memory} bytes are taken by records that "
                "are not acknowledged yet"
            ) from None
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _release(self, size_bytes: int) -> None:
        self._buffered_bytes -= size_bytes
        while self._waiting and self._buffered_bytes < self._buffer_memory:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)


def _read_acks(
    acks: str | int, idempotence: bool | None, transactional_id: str | None
) -> tuple[int, bool]:
    """(-1, 0 or 1; whether to be idempotent)."""
    if acks not in _ACKS:
        raise UsageError(f"acks is {acks!r}; it must be all, 1 or 0")
    number = _ACKS[acks]
    if idempotence is None:
        idempotence = number == -1
    if idempotence and number != -1:
        raise UsageError(f"idempotence needs acks=all; acks is {acks}")
    if transactional_id is not None and not (transactional_id and idempotence):
        raise UsageError(
            "transactions need a transactional_id that is not empty, and idempotence (acks=all)"
        )
    return number, idempotence


def _as_bytes(what: str, given: object) -> bytes:
    if isinstance(given, bytearray | memoryview):
        return bytes(given)
    raise InvalidRecordError(
        f"a record's {what} must be bytes or None, not {type(given).__name__}; encode it first"
    )
