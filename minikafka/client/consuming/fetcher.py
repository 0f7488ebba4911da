"""Fetches ahead of what a consumer takes: one task per request, at most two requests per leader.

State per assigned partition: `position`, the next offset that the user gets; `fetch_offset`, the
next that is asked for; between them the answers that were not taken yet. Invariants: position <=
fetch_offset (but for a seek, which drops everything in between); an answer counts only if it is of
the present `generation`, which every seek moves on; a partition is in at most one live request.

A change of leader or epoch moves neither: the fetch is repeated where the partition is led now.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from minikafka.api.requests import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    FetchPartition,
    FetchRequest,
    FetchResult,
)
from minikafka.client.backoff import Backoff
from minikafka.client.consuming.isolation import aborted_batches
from minikafka.client.consuming.offsets import lookup_offsets
from minikafka.client.metadata import Cluster, LeaderView
from minikafka.client.options import FetcherOptions
from minikafka.client.values import ConsumerRecord
from minikafka.errors import (
    CorruptMessageError,
    MinikafkaError,
    NetworkError,
    OffsetOutOfRangeError,
    RequestTimedOutError,
    UnknownServerError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import BatchHeader, TopicPartition
from minikafka.records.header import is_control, split, verify_crc
from minikafka.records.read import iter_records

_REQUESTS_PER_LEADER = 2  # so that a partition that was just sought need not wait for a parked one
_PATIENCE_S = 1.0  # beyond max_wait_ms, before it is asked whether the leader still leads
_LOOKS_AGAIN_S = 0.5
_LOOKS_FOR_PARTITION = 3

_logger = logging.getLogger(__name__)
_make_record: Any = partial(tuple.__new__, ConsumerRecord)
_T = TypeVar("_T")


class FetchedBatches:
    """Whole record batches of one partition, as they came: the fast path for who counts or copies.

    `first_offset` is the first that was asked for: the first batch may begin below it. `hidden` has
    the base offsets of batches that are not to be seen: control batches are not either, without
    being named there.
    """

    __slots__ = ("data", "first_offset", "headers", "hidden", "high_watermark", "topic_partition")

    def __init__(
        self,
        topic_partition: TopicPartition,
        first_offset: int,
        data: bytes,
        headers: Sequence[BatchHeader],
        high_watermark: int,
        hidden: frozenset[int] = frozenset(),
    ) -> None:
        self.hidden = hidden
        self.topic_partition = topic_partition
        self.first_offset = first_offset
        self.data = data
        self.headers = headers
        self.high_watermark = high_watermark

    @property
    def next_offset(self) -> int:
        return self.headers[-1].next_offset

    @property
    def record_count(self) -> int:
        """Records from `first_offset` on; an upper bound where a compacted batch begins below
        it."""
        count = sum(header.record_count for header in self.headers if self._is_seen(header))
        below = max(self.first_offset - self.headers[0].base_offset, 0)
        return count - below if self._is_seen(self.headers[0]) else count

    def _is_seen(self, header: BatchHeader) -> bool:
        return not is_control(header) and header.base_offset not in self.hidden

    def records(self, check_crcs: bool = True) -> Iterator[ConsumerRecord]:
        """The records from `first_offset` on. CorruptMessageError names the partition."""
        view = memoryview(self.data)
        first_offset = self.first_offset
        prefix = (self.topic_partition.topic, self.topic_partition.partition)
        end = 0
        for header in self.headers:
            start, end = end, end + header.size_bytes
            if header.next_offset <= first_offset or not self._is_seen(header):
                continue
            try:
                if check_crcs:
                    verify_crc(view, start, header)
                records = iter_records(view[start:end], header)
                if header.base_offset < first_offset:
                    records = (record for record in records if record.offset >= first_offset)
                for record in records:
                    yield _make_record(prefix + record)
            except CorruptMessageError as error:
                raise CorruptMessageError(f"{self.topic_partition}: {error}") from error


class Assigned:
    """One assigned partition (see the module's docstring). `reset`: the position has to be asked
    for first, as EARLIEST_TIMESTAMP or LATEST_TIMESTAMP."""

    __slots__ = (
        "backoff",
        "buffered_bytes",
        "chunks",
        "error",
        "failed_view",
        "fetch_offset",
        "generation",
        "high_watermark",
        "in_flight",
        "looks",
        "missing_since_s",
        "position",
        "reset",
        "retry_at_s",
        "topic_partition",
    )

    def __init__(self, topic_partition: TopicPartition, backoff: Backoff) -> None:
        self.topic_partition = topic_partition
        self.backoff = backoff
        self.generation = 0
        self.high_watermark = -1
        self.restart(None, None)

    def restart(self, position: int | None, reset: int | None) -> None:
        """Go on from another position; what is fetched or asked for is void."""
        self.position = position
        self.fetch_offset = position
        self.reset = reset
        self.generation += 1
        self.chunks: deque[FetchedBatches] = deque()
        self.buffered_bytes = 0
        self.in_flight = False
        self.error: MinikafkaError | None = None
        self.retry_at_s = 0.0
        self.failed_view: LeaderView | None = None
        self.missing_since_s: float | None = None
        self.looks = 0


class Fetcher:
    """The fetching half of a consumer. Belongs to one event loop."""

    def __init__(self, cluster: Cluster, options: FetcherOptions) -> None:
        self.assigned: dict[TopicPartition, Assigned] = {}
        self._cluster = cluster
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._in_flight: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pump_handle: asyncio.Handle | None = None
        self._pump_timer: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()
        self._closed = False
        cluster.on_change(self.wake)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Exactly these from now on; those that stay keep their positions."""
        self.assigned = {
            each: self.assigned.get(each) or Assigned(each, Backoff(self._cluster.uniform))
            for each in partitions
        }
        for each in partitions:
            self._cluster.track(each.topic)
        self.wake()

    async def close(self) -> None:
        self._closed = True
        for timer in (self._pump_handle, self._pump_timer):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def wake(self) -> None:
        if self._pump_handle is None and not self._closed:
            self._pump_handle = self._loop.call_soon(self._pump)

    async def wait_for_news(self, timeout_s: float | None) -> None:
        """Until something was fetched or failed; or until the time is over."""
        self._news.clear()
        try:
            await asyncio.wait_for(self._news.wait(), timeout_s)
        except TimeoutError:
            return

    def nudge(self) -> None:
        """Whoever waits for news looks again."""
        self._news.set()

    def take_chunk(self, state: Assigned) -> FetchedBatches | None:
        """The next answer for this partition; makes room for fetching on."""
        if not state.chunks:
            return None
        chunk = state.chunks.popleft()
        state.buffered_bytes -= len(chunk.data)
        self.wake()
        return chunk

    # --- asking ----------------------------------------------------------------------------------

    def _pump(self) -> None:
        self._pump_handle = None
        now_s = self._loop.time()
        wake_at_s = now_s + 3600
        by_leader: dict[int, list[Assigned]] = {}
        for state in self.assigned.values():
            if state.in_flight or state.error is not None:
                continue
            view = self._cluster.leader(state.topic_partition)
            if state.retry_at_s > now_s and (view is None or view == state.failed_view):
                wake_at_s = min(wake_at_s, state.retry_at_s)
            elif view is None:
                self._look_for_leader(state, now_s)
                wake_at_s = min(wake_at_s, state.retry_at_s)
            elif state.fetch_offset is None:
                self._start(self._find_position(state, state.generation), [state])
            elif state.buffered_bytes < self._options.max_partition_bytes:
                by_leader.setdefault(view.leader, []).append(state)
        for leader, states in by_leader.items():
            if self._in_flight.get(leader, 0) < _REQUESTS_PER_LEADER:
                self._in_flight[leader] = self._in_flight.get(leader, 0) + 1
                # Now, not when the task takes its first step: a seek may come in between.
                generations = {state.topic_partition: state.generation for state in states}
                wanted = self._wanted(states)
                self._start(self._fetch(leader, states, generations, wanted), states)
        if self._pump_timer is not None:
            self._pump_timer.cancel()
        self._pump_timer = self._loop.call_later(wake_at_s - now_s, self.wake)

    def _start(self, work: Any, states: Sequence[Assigned]) -> None:
        for state in states:
            state.in_flight = True
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._on_task_done, states))

    def _on_task_done(self, states: Sequence[Assigned], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            _logger.error("fetching failed in an unforeseen way", exc_info=bug)
            for state in states:
                self._fail(state, UnknownServerError(f"{type(bug).__name__}: {bug}"))
        self.wake()

    def _look_for_leader(self, state: Assigned, now_s: float) -> None:
        """No leader is known: look again soon; give up on what does not exist."""
        topic_partition = state.topic_partition
        topic = self._cluster.topics.get(topic_partition.topic)
        state.failed_view = None
        state.retry_at_s = now_s + state.backoff.next_s()
        if topic is not None and topic.partitions and topic.error is None:
            state.looks += 1
            exists = topic_partition.partition in topic.partitions
            if not exists and state.looks >= _LOOKS_FOR_PARTITION:
                self._fail(
                    state,
                    UnknownTopicOrPartitionError(
                        f"topic {topic.name!r} has no partition {topic_partition.partition}; "
                        f"it has 0 to {topic.partition_count - 1}"
                    ),
                )
                return
        elif topic is not None and topic.error is not None:
            if state.missing_since_s is None:
                state.missing_since_s = now_s
            waited_ms = (now_s - state.missing_since_s) * 1000
            if not topic.error.retriable or waited_ms >= self._options.max_block_ms:
                self._fail(state, type(topic.error)(f"topic {topic.name!r}: {topic.error}"))
                return
        self._cluster.refresh_soon()

    async def _fetch(
        self,
        leader: int,
        states: Sequence[Assigned],
        generations: dict[TopicPartition, int],
        wanted: list[FetchPartition],
    ) -> None:
        options = self._options
        request = FetchRequest(
            options.max_wait_ms,
            1,
            options.max_bytes,
            wanted,
            read_committed=options.read_committed,
        )
        results: Sequence[FetchResult] = ()
        failure: MinikafkaError | None = None
        try:
            answer = self._cluster.channel(leader).fetch(request)
            results = await self._answer(leader, states, answer)
        except MinikafkaError as error:
            failure = error
            if isinstance(error, NetworkError | RequestTimedOutError):
                self._cluster.broker_failed(leader)
        finally:
            self._in_flight[leader] -= 1
        by_partition = {result.topic_partition: result for result in results}
        for state in states:
            if generations[state.topic_partition] != state.generation:
                continue
            state.in_flight = False
            result = by_partition.get(state.topic_partition)
            if result is not None:
                self._on_result(state, result)
            elif failure is not None:
                self._on_error(state, FetchResult(state.topic_partition, failure))

    def _wanted(self, states: Sequence[Assigned]) -> list[FetchPartition]:
        wanted = []
        for state in states:
            view = self._cluster.leader(state.topic_partition)
            assert view is not None, "only partitions with a leader are fetched"
            assert state.fetch_offset is not None, "only partitions with a position are fetched"
            wanted.append(
                FetchPartition(
                    state.topic_partition,
                    state.fetch_offset,
                    self._options.max_partition_bytes,
                    view.leader_epoch,
                )
            )
        return wanted

    async def _answer(self, leader: int, states: Sequence[Assigned], answer: Awaitable[_T]) -> _T:
        """Wait for a fetch; but not for a broker that turns out to lead these partitions no
        more."""
        future = asyncio.ensure_future(answer)
        deadline = self._loop.time() + self._options.request_timeout_ms / 1000
        patience_s = self._options.max_wait_ms / 1000 + _PATIENCE_S
        try:
            while True:
                done, _ = await asyncio.wait([future], timeout=patience_s)
                if done:
                    return future.result()
                views = [self._cluster.leader(state.topic_partition) for state in states]
                if all(view is not None and view.leader != leader for view in views):
                    raise NetworkError(f"broker {leader} does not answer and no longer leads")
                if self._loop.time() >= deadline:
                    raise RequestTimedOutError(f"broker {leader} did not answer a fetch in time")
                self._cluster.refresh_soon()
                patience_s = _LOOKS_AGAIN_S
        finally:
            future.cancel()

    # --- answers ---------------------------------------------------------------------------------

    def _on_result(self, state: Assigned, result: FetchResult) -> None:
        if result.error is not None:
            self._on_error(state, result)
            return
        state.backoff.reset()
        state.looks = 0
        state.missing_since_s = None
        readable_end = result.high_watermark
        if self._options.read_committed:
            readable_end = result.last_stable_offset
        state.high_watermark = readable_end
        if not result.records:
            return
        assert state.fetch_offset is not None
        try:
            headers = split(result.records)
            if headers[-1].next_offset <= state.fetch_offset:
                raise CorruptMessageError(
                    f"the answer ends at offset {headers[-1].next_offset}, "
                    f"below what was asked for, {state.fetch_offset}"
                )
            hidden = aborted_batches(result.records, headers, result.aborted or ())
        except MinikafkaError as error:
            self._fail(state, type(error)(f"{state.topic_partition}: {error}"))
            return
        state.chunks.append(
            FetchedBatches(
                state.topic_partition,
                state.fetch_offset,
                result.records,
                headers,
                readable_end,
                hidden,
            )
        )
        state.buffered_bytes += len(result.records)
        state.fetch_offset = headers[-1].next_offset
        self._news.set()

    def _on_error(self, state: Assigned, result: FetchResult) -> None:
        error = result.error
        assert error is not None
        if isinstance(error, OffsetOutOfRangeError):
            if state.chunks:  # first what is there; then it is asked again
                self._retry_later(state)
            else:
                self._start(self._check_range(state, state.generation), [state])
        elif error.retriable:
            hinted = self._cluster.apply_hint(state.topic_partition, result.leader_hint)
            if error.refresh_metadata and not hinted:
                self._cluster.refresh_soon()
            if not hinted:
                self._retry_later(state)
        else:
            self._fail(state, error)

    def _retry_later(self, state: Assigned) -> None:
        state.failed_view = self._cluster.leader(state.topic_partition)
        state.retry_at_s = self._loop.time() + state.backoff.next_s()

    def _fail(self, state: Assigned, error: MinikafkaError) -> None:
        """The user gets this error, after what was fetched before it."""
        state.in_flight = False
        state.error = error
        self._news.set()

    # --- positions -------------------------------------------------------------------------------

    async def _find_position(self, state: Assigned, generation: int) -> None:
        """Where a partition without a position begins."""
        timestamp = state.reset
        if timestamp is None:
            timestamp = {"earliest": EARLIEST_TIMESTAMP, "latest": LATEST_TIMESTAMP}.get(
                self._options.reset
            )
        if timestamp is None:
            self._fail(
                state,
                OffsetOutOfRangeError(
                    f"{state.topic_partition} has no position and auto_offset_reset is error; "
                    "seek first"
                ),
            )
            return
        try:
            offset = (await self._lookup(state, timestamp)).offset
        except MinikafkaError as error:
            if state.generation == generation:
                self._fail(state, error)
            return
        if state.generation == generation:
            state.restart(offset, None)
            self._news.set()

    async def _check_range(self, state: Assigned, generation: int) -> None:
        """The leader says OFFSET_OUT_OF_RANGE. Right after an election it may only lag behind; so
        ask for the range, and reset only what is really outside. One that was cut off does not know
        yet that another leads and has more; so before its word for the end counts, ask all."""
        try:
            start = (await self._lookup(state, EARLIEST_TIMESTAMP)).offset
            view = self._cluster.leader(state.topic_partition)
            end = (await self._lookup(state, LATEST_TIMESTAMP)).offset
            moved = False
            if state.fetch_offset is not None and state.fetch_offset > end:
                await self._cluster.ask_everybody()
                moved = self._cluster.leader(state.topic_partition) != view
        except MinikafkaError as error:
            if state.generation == generation:
                self._fail(state, error)
            return
        if state.generation != generation:
            return
        state.in_flight = False
        assert state.fetch_offset is not None
        if moved or start <= state.fetch_offset <= end:
            self._retry_later(state)
        elif self._options.reset == "error":
            self._fail(
                state,
                OffsetOutOfRangeError(
                    f"offset {state.fetch_offset} of {state.topic_partition} is outside of what is "
                    f"there, {start} to {end}; seek, or set auto_offset_reset to earliest or latest"
                ),
            )
        else:
            state.restart(start if self._options.reset == "earliest" else end, None)

    async def _lookup(self, state: Assigned, timestamp: int) -> Any:
        topic_partition = state.topic_partition
        options = self._options
        found = await lookup_offsets(
            self._cluster,
            {topic_partition: timestamp},
            options.max_block_ms,
            read_committed=options.read_committed,
        )
        return found[topic_partition]
