"""The consumer: reads the records of assigned partitions, in the order of each partition.

State: the assignment and positions (in fetcher.py), per partition the answer that is being read,
records that an iteration has taken but not given out. Invariant: a position is the offset after the
last record that the user was given; records come in offset order, each once, whatever leads when.
In a group (client/consuming/subscribing.py) the assignment is the group's, and positions begin
where it has committed.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from itertools import islice
from types import TracebackType

from minikafka.api.requests import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    ListOffsetsResult,
)
from minikafka.client.backoff import Random
from minikafka.client.channel import Connect, connect_over_grpc
from minikafka.client.consuming.fetcher import Assigned, FetchedBatches, Fetcher
from minikafka.client.consuming.isolation import (
    ISOLATION_LEVELS,
    READ_COMMITTED,
    READ_UNCOMMITTED,
)
from minikafka.client.consuming.offsets import lookup_offsets
from minikafka.client.consuming.subscribing import Partition, Subscribing, as_partition
from minikafka.client.metadata import METADATA_MAX_AGE_MS, Cluster
from minikafka.client.options import FetcherOptions
from minikafka.client.values import ConsumerRecord, check_positive
from minikafka.errors import MinikafkaError, UsageError
from minikafka.model import TopicPartition

FETCH_MAX_BYTES = 50 * 1024 * 1024
MAX_PARTITION_FETCH_BYTES = 1024 * 1024
_RESETS = ("earliest", "latest", "error")


class _Reading:
    """The answer that a partition's records are being taken from."""

    __slots__ = ("chunk", "generation", "records")

    def __init__(self, chunk: FetchedBatches, generation: int, check_crcs: bool) -> None:
        self.chunk = chunk
        self.generation = generation
        self.records: Iterator[ConsumerRecord] = chunk.records(check_crcs)


class AsyncConsumer(Subscribing):
    """Reads records. Belongs to one event loop; `await start()` first, or use it with `async
    with`."""

    def __init__(
        self,
        bootstrap: str | Iterable[str],
        *,
        auto_offset_reset: str = "latest",
        isolation: str = READ_UNCOMMITTED,
        fetch_max_wait_ms: int = 500,
        fetch_max_bytes: int = FETCH_MAX_BYTES,
        max_partition_fetch_bytes: int = MAX_PARTITION_FETCH_BYTES,
        check_crcs: bool = True,
        request_timeout_ms: float = 30_000,
        max_block_ms: float = 60_000,
        metadata_max_age_ms: float = METADATA_MAX_AGE_MS,
        connect: Connect = connect_over_grpc,
        uniform: Random = random.random,
    ) -> None:
        """`bootstrap`: "host:port,host:port" or a list of such; any live broker will do.

        `auto_offset_reset`: where to begin without a position, and when the position is outside of
        what is there: "earliest", "latest", or "error" (OffsetOutOfRangeError from poll).
        `isolation`: "read_committed" gives the records of transactions only once these are
        committed, and none of what comes after one that is still open; "read_uncommitted" gives
        all.
        `max_block_ms`: how long to wait for a topic to appear and for offsets that are asked for.
        """
        if auto_offset_reset not in _RESETS:
            raise UsageError(
                f"auto_offset_reset is {auto_offset_reset!r}; valid are {', '.join(_RESETS)}"
            )
        if isolation not in ISOLATION_LEVELS:
            raise UsageError(
                f"isolation is {isolation!r}; valid are {' and '.join(ISOLATION_LEVELS)}"
            )
        check_positive(
            fetch_max_bytes=fetch_max_bytes,
            max_partition_fetch_bytes=max_partition_fetch_bytes,
            request_timeout_ms=request_timeout_ms,
            max_block_ms=max_block_ms,
            metadata_max_age_ms=metadata_max_age_ms,
        )
        if fetch_max_wait_ms < 0:
            raise UsageError(f"fetch_max_wait_ms is {fetch_max_wait_ms}; it must not be negative")
        self._options = FetcherOptions(
            max_wait_ms=fetch_max_wait_ms,
            max_bytes=fetch_max_bytes,
            max_partition_bytes=max_partition_fetch_bytes,
            check_crcs=check_crcs,
            reset=auto_offset_reset,
            request_timeout_ms=request_timeout_ms,
            max_block_ms=max_block_ms,
            read_committed=isolation == READ_COMMITTED,
        )
        self._cluster = Cluster(
            bootstrap, connect=connect, metadata_max_age_ms=metadata_max_age_ms, uniform=uniform
        )
        self._fetcher: Fetcher | None = None
        self._readings: dict[TopicPartition, _Reading] = {}
        self._iterated: deque[ConsumerRecord] = deque()
        self._turn: deque[TopicPartition] = deque()  # whose records come next
        self._group = None

    async def __aenter__(self) -> AsyncConsumer:
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
        await self.close(failed=error is not None)

    async def start(self) -> None:
        """Find the cluster. NetworkError names all addresses if none of them answers."""
        await self._cluster.start()
        self._fetcher = Fetcher(self._cluster, self._options)

    async def close(self, *, failed: bool = False) -> None:
        """End; leave the group, if there is one. `failed`: what was given last is not done (see
        GroupMember.close). Idempotent."""
        await self.unsubscribe(failed=failed)
        if self._fetcher is not None:
            await self._fetcher.close()
        await self._cluster.close()

    # --- what to read ----------------------------------------------------------------------------

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Read exactly these from now on. Those that were assigned before keep their positions; new
        ones begin by `auto_offset_reset` unless `seek` says otherwise."""
        if self._group is not None:
            raise UsageError("the group assigns the partitions; unsubscribe first")
        self._assign(partitions)

    def _assign(self, partitions: Iterable[Partition]) -> None:
        wanted = list(dict.fromkeys(as_partition(each) for each in partitions))
        self._running().assign(wanted)
        self._turn = deque(wanted)
        self._readings = {each: self._readings[each] for each in wanted if each in self._readings}
        self._iterated = deque(record for record in self._iterated if record[:2] in _keys(wanted))

    def assignment(self) -> list[TopicPartition]:
        return list(self._running().assigned)

    async def partitions_of(self, topic: str) -> list[TopicPartition]:
        """All partitions of a topic; UnknownTopicOrPartitionError if it does not appear in time."""
        self._running()
        view = await self._cluster.wait_for_topic(topic, self._options.max_block_ms)
        return [TopicPartition(topic, number) for number in range(view.partition_count)]

    def seek(self, partition: Partition, offset: int) -> None:
        """Go on at this offset."""
        if offset < 0:
            raise UsageError(f"cannot seek to offset {offset}; offsets begin at 0")
        self._reposition(partition, offset, None)

    def seek_to_beginning(self, *partitions: Partition) -> None:
        """Go on at the first record there is; without arguments in all assigned partitions."""
        for each in partitions or self.assignment():
            self._reposition(each, None, EARLIEST_TIMESTAMP)

    def seek_to_end(self, *partitions: Partition) -> None:
        """Go on after the last record there is; without arguments in all assigned partitions."""
        for each in partitions or self.assignment():
            self._reposition(each, None, LATEST_TIMESTAMP)

    async def seek_to_timestamp(self, partition: Partition, timestamp_ms: int) -> int:
        """Go on at the first record of this time (ms since 1970) or later, or at the end if there
        is none. Returns the offset."""
        topic_partition = as_partition(partition)
        self._assigned(topic_partition)
        offset = (await self.offsets_for_times({topic_partition: timestamp_ms}))[topic_partition]
        if offset is None:
            offset = (await self.end_offsets([topic_partition]))[topic_partition]
        self.seek(topic_partition, offset)
        return offset

    async def position(self, partition: Partition) -> int:
        """The offset of the next record that the user is given; finds it out if it has to."""
        topic_partition = as_partition(partition)
        for record in self._iterated:
            if record[:2] == (topic_partition.topic, topic_partition.partition):
                return record.offset
        state = self._assigned(topic_partition)
        while state.position is None:
            self._raise_error(state)
            await self._running().wait_for_news(None)
        return state.position

    def high_watermark(self, partition: Partition) -> int:
        """The end of what could be read at the last fetch (with isolation "read_committed", the
        last stable offset); -1 before the first."""
        return self._assigned(as_partition(partition)).high_watermark

    async def beginning_offsets(self, partitions: Iterable[Partition]) -> dict[TopicPartition, int]:
        """The first offset that is there, for any partitions."""
        found = await self._lookup({as_partition(each): EARLIEST_TIMESTAMP for each in partitions})
        return {each: result.offset for each, result in found.items()}

    async def end_offsets(self, partitions: Iterable[Partition]) -> dict[TopicPartition, int]:
        """The offset after the last record that can be read, for any partitions."""
        found = await self._lookup({as_partition(each): LATEST_TIMESTAMP for each in partitions})
        return {each: result.offset for each, result in found.items()}

    async def offsets_for_times(
        self, timestamps_ms: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int | None]:
        """The offset of the first record at or after a time (ms since 1970); None: there is
        none."""
        for each, timestamp_ms in timestamps_ms.items():
            if timestamp_ms < 0:
                raise UsageError(f"timestamp {timestamp_ms} of {each} is before 1970")
        found = await self._lookup(timestamps_ms)
        return {
            each: None if result.offset < 0 else result.offset for each, result in found.items()
        }

    # --- reading ---------------------------------------------------------------------------------

    async def poll(
        self, timeout_ms: float | None = 500, max_records: int = 500
    ) -> list[ConsumerRecord]:
        """The next records, at least one and at most `max_records`; [] if there are none within
        `timeout_ms` (None: wait for some).

        Raises what a partition cannot go on for: OffsetOutOfRangeError,
        UnknownTopicOrPartitionError, CorruptMessageError. The position stays where it is, so that
        one can seek and go on.
        """
        check_positive(max_records=max_records)
        deadline = _deadline(timeout_ms)
        if self._group is not None:
            await self._group.before_poll()
        while True:
            if not await self._in_group(deadline):
                return []
            if self._iterated:
                count = min(len(self._iterated), max_records)
                return [self._iterated.popleft() for _ in range(count)]
            records = self._take(max_records)
            if records or not await self._wait(deadline):
                return records

    async def poll_batches(self, timeout_ms: float | None = 500) -> list[FetchedBatches]:
        """Everything fetched so far, as whole batches, without a look at the records: for speed.
        [] if there is nothing within `timeout_ms`. The positions move on as with `poll`."""
        deadline = _deadline(timeout_ms)
        if self._group is not None:
            await self._group.before_poll()
        while True:
            if not await self._in_group(deadline):
                return []
            batches = self._take_batches()
            if batches or not await self._wait(deadline):
                return batches

    def __aiter__(self) -> AsyncIterator[ConsumerRecord]:
        return self

    async def __anext__(self) -> ConsumerRecord:
        """One record after another, without end: wait for more where there is none."""
        await self.fill()
        return self.pop()

    async def fill(self) -> None:
        """Have a record for `pop`."""
        while not self._iterated:
            records = await self.poll(None)  # a rebalance in it gives `_iterated` anew
            self._iterated.extend(records)

    def pop(self) -> ConsumerRecord:
        """The next record that `fill` took; IndexError if there is none."""
        return self._iterated.popleft()

    # --- inside ----------------------------------------------------------------------------------

    async def _wait(self, deadline: float | None) -> bool:
        """Wait for news; False when the time is over. Raises a partition's error first."""
        fetcher = self._running()
        for state in fetcher.assigned.values():
            self._raise_error(state)
        remaining_s = None
        if deadline is not None:
            remaining_s = deadline - asyncio.get_running_loop().time()
            if remaining_s <= 0:
                return False
        with self._polling():
            await fetcher.wait_for_news(remaining_s)
        return True

    def _raise_error(self, state: Assigned) -> None:
        error = state.error
        if error is not None and not state.chunks:
            state.error = None  # the next poll tries again
            self._running().wake()
            raise error

    def _take(self, max_records: int) -> list[ConsumerRecord]:
        """Up to `max_records` from what is fetched; the partitions take turns."""
        taken: list[ConsumerRecord] = []
        for _ in range(len(self._turn)):
            topic_partition = self._turn[0]
            self._turn.rotate(-1)
            state = self._running().assigned[topic_partition]
            while len(taken) < max_records:
                reading = self._reading(state)
                if reading is None:
                    break
                self._read(state, reading, taken, max_records)
        return taken

    def _reading(self, state: Assigned) -> _Reading | None:
        """The answer to read from; the next one if there is none."""
        reading = self._readings.get(state.topic_partition)
        if reading is not None and reading.generation == state.generation:
            return reading
        chunk = self._running().take_chunk(state)
        if chunk is None:
            return None
        reading = _Reading(chunk, state.generation, self._options.check_crcs)
        self._readings[state.topic_partition] = reading
        return reading

    def _read(
        self, state: Assigned, reading: _Reading, taken: list[ConsumerRecord], max_records: int
    ) -> None:
        """Take records from one answer; at damage keep what came before it, and raise next time."""
        room = max_records - len(taken)
        before = len(taken)
        try:
            taken.extend(islice(reading.records, room))
        except MinikafkaError as error:
            del self._readings[state.topic_partition]
            position = taken[-1].offset + 1 if len(taken) > before else state.position
            state.restart(position, None)
            state.error = error
            return
        if len(taken) - before == room:
            state.position = taken[-1].offset + 1
        else:
            state.position = reading.chunk.next_offset
            del self._readings[state.topic_partition]

    def _take_batches(self) -> list[FetchedBatches]:
        batches: list[FetchedBatches] = []
        for state in self._running().assigned.values():
            reading = self._readings.pop(state.topic_partition, None)
            if reading is not None and reading.generation == state.generation:
                assert state.position is not None
                reading.chunk.first_offset = state.position
                batches.append(reading.chunk)
            while (chunk := self._running().take_chunk(state)) is not None:
                batches.append(chunk)
            if batches and batches[-1].topic_partition == state.topic_partition:
                state.position = batches[-1].next_offset
        return batches

    def _reposition(self, partition: Partition, offset: int | None, reset: int | None) -> None:
        topic_partition = as_partition(partition)
        self._assigned(topic_partition).restart(offset, reset)
        self._iterated = deque(
            record for record in self._iterated if record[:2] not in _keys([topic_partition])
        )
        self._running().wake()

    def _assigned(self, topic_partition: TopicPartition) -> Assigned:
        state = self._running().assigned.get(topic_partition)
        if state is None:
            raise UsageError(f"{topic_partition} is not assigned; assign it first")
        return state

    def _running(self) -> Fetcher:
        if self._fetcher is None:
            raise UsageError("the consumer is not started: await start(), or use `async with`")
        return self._fetcher

    async def _lookup(
        self, wanted: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, ListOffsetsResult]:
        self._running()
        options = self._options
        return await lookup_offsets(
            self._cluster, wanted, options.max_block_ms, read_committed=options.read_committed
        )


def _keys(partitions: Iterable[TopicPartition]) -> set[tuple[str, int]]:
    return {(each.topic, each.partition) for each in partitions}


def _deadline(timeout_ms: float | None) -> float | None:
    if timeout_ms is None:
        return None
    return asyncio.get_running_loop().time() + timeout_ms / 1000
