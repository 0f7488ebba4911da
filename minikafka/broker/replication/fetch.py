"""Fetch requests of consumers: read what may be read, or wait for it. Those of followers go to
replica_fetch.py.

What there is for a fetch is counted, not read, until it is enough: bytes are read once, for the
answer. A fetch that does not find enough parks with a waiter at each of its replicas, and is woken
by the high watermark, or by a change of role or epoch. Then it looks at those that
changed, and only at them, from the start: what held when it was parked need not hold now. The
answer looks at all of them once more.

Who wants committed records only reads up to the last stable offset, which moves with the high
watermark alone, and is told which transactions in the answer were aborted.

No state of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from minikafka.api.pieces import release
from minikafka.api.requests import (
    FetchPartition,
    FetchRequest,
    FetchResult,
    LeaderHint,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
)
from minikafka.broker.counters import BrokerCounters
from minikafka.broker.replication.counted import Counted
from minikafka.broker.replication.produce import ALL_ACKS, Serving
from minikafka.broker.replication.replica import FetchWaiter, Replica
from minikafka.broker.replication.replica_fetch import ReplicaFetchHandler
from minikafka.broker.request_memory import RequestMemory
from minikafka.core.replication.log_state import LogState
from minikafka.core.replication.throttle import ReplicationThrottle
from minikafka.errors import (
    MinikafkaError,
    NotLeaderOrFollowerError,
)
from minikafka.model import TopicPartition
from minikafka.turns import next_turn

FindReplica = Callable[..., Replica]

# What a consumer can make this broker read at once, whatever it asks for; nobody else is served
# meanwhile. (Kafka's fetch.max.bytes is 55 MiB, read as it is sent.)
MAX_FETCH_BYTES = 16 * 1024 * 1024
UNLIMITED_BYTES = 2**62
# Partitions of a consumer's fetch that are looked at in one go: by number, not by time, so that the
# same events have the same course in every run.
_SLICE = 256
_MAX_RANGES = 32  # of files in one answer: each takes two of the broker's descriptors
_PEEKED = 8  # partitions that are looked at before anything is prepared for a wait


def _readable_end(log: LogState, read_committed: bool) -> int:
    return log.last_stable_offset if read_committed else log.high_watermark


def _consumable_bytes(
    replica: Replica, item: FetchPartition, wanted_bytes: int, read_committed: bool
) -> int:
    """What there is to read; only whether there is any, where that is enough."""
    replica.core.check_consumer_fetch(item.fetch_offset, item.current_leader_epoch)
    end_offset = _readable_end(replica.core.log_state, read_committed)
    if item.fetch_offset >= end_offset:
        return 0
    if wanted_bytes == 1:  # what is committed ends with a batch: at least that one is there
        return 1
    return replica.size_of(item.fetch_offset, max(item.max_bytes, 1), end_offset)


class FetchHandler:
    """`find_replica(topic_partition)` gives the replica or raises what the fetcher is to be told;
    `now_ms` is the broker's monotonic clock. `serving(partition, acks)` raises while another broker
    may lead instead of that one (out of touch with ZooKeeper). What is read for consumers is in
    the account of `memory`, which says how much may be."""

    def __init__(
        self,
        find_replica: FindReplica,
        now_ms: Callable[[], int],
        serving: Serving = lambda partition, acks: None,
        counters: BrokerCounters | None = None,
        throttle: ReplicationThrottle | None = None,
        memory: RequestMemory | None = None,
    ) -> None:
        self._memory = memory or RequestMemory(UNLIMITED_BYTES)
        self._find_replica = find_replica
        self._now_ms = now_ms
        self._serving = serving
        self._counters = counters or BrokerCounters()
        self._followers = ReplicaFetchHandler(
            find_replica, now_ms, self._counters, throttle or ReplicationThrottle()
        )

    # --- consumers -------------------------------------------------------------------------------

    async def fetch(self, request: FetchRequest) -> Sequence[FetchResult]:
        """See BrokerService.fetch. An error in any partition ends the wait at once.

        What is here may be read also while another may lead: it is committed. But who has waited
        for nothing is told, or would wait here for ever while records arrive elsewhere.
        """
        if not self._begins_with_records(request):
            await self._wait_for_consumer(request)
        results: list[FetchResult] = []
        try:
            size_bytes, failed = await self._read_all(request, results)
        except BaseException:
            for result in results:
                release(result.pieces)
            raise
        finally:
            self._memory.hand_over(sum(result.held_bytes for result in results))
        if not size_bytes and not failed:
            self._tell_if_another_may_lead(results)
        self._count(results)
        return results

    def _begins_with_records(self, request: FetchRequest) -> bool:
        """Whether one record is enough, and is there: seen at once by who reads what there is."""
        if request.min_bytes > 1:
            return False
        for item in request.partitions[:_PEEKED]:
            try:
                log = self._find_replica(item.topic_partition).core.log_state
            except MinikafkaError:
                return True  # the answer says why
            if item.fetch_offset < _readable_end(log, request.read_committed):
                return True
        return False

    async def _wait_for_consumer(self, request: FetchRequest) -> None:
        """Until there is as much as is wanted (more than an answer may hold is not waited for), an
        error to tell, or no time left."""
        deadline_ms = self._now_ms() + request.max_wait_ms
        wanted_bytes = min(request.min_bytes, request.max_bytes, MAX_FETCH_BYTES)
        if not request.partitions or wanted_bytes <= 0 or request.max_wait_ms <= 0:
            return
        counted = Counted(wanted_bytes)
        with _Watch(self._find_replica, Replica.add_consumer_waiter) as watch:
            due: Iterable[int] = range(len(request.partitions))
            by_partition: dict[TopicPartition, list[int]] | None = None
            while True:
                for count, index in enumerate(due, start=1):
                    try:
                        item = request.partitions[index]
                        replica = watch.at(item.topic_partition)
                        there = _consumable_bytes(
                            replica, item, wanted_bytes, request.read_committed
                        )
                        counted.put(index, there)
                    except MinikafkaError:
                        return  # the answer says which
                    if counted.enough:
                        return
                    if count % _SLICE == 0:
                        await next_turn()
                changed = await watch.changed(deadline_ms - self._now_ms())
                if not changed:
                    return
                if by_partition is None:
                    by_partition = defaultdict(list)
                    for index, item in enumerate(request.partitions):
                        by_partition[item.topic_partition].append(index)
                due = [index for each in changed for index in by_partition[each]]

    def _count(self, results: Sequence[FetchResult]) -> None:
        for result in results:
            traffic = self._counters.of(result.topic_partition.topic)
            traffic.fetch_requests += 1
            traffic.bytes_out += result.size_bytes
            traffic.failed_fetch_requests += result.error is not None

    def _tell_if_another_may_lead(self, results: Sequence[FetchResult]) -> None:
        for result in results:
            try:
                core = self._find_replica(result.topic_partition).core
                core.require_leader()
                self._serving(core, ALL_ACKS)
            except MinikafkaError as error:
                result.error = error.with_traceback(None)

    async def _read_all(
        self, request: FetchRequest, results: list[FetchResult]
    ) -> tuple[int, bool]:
        """Adds a result for each partition. Returns how many bytes they have, and whether any
        failed."""
        size_bytes, failed = 0, False
        ranges_left = _MAX_RANGES if request.lend_from_bytes is not None else 0
        max_bytes = min(request.max_bytes, MAX_FETCH_BYTES)
        for count, item in enumerate(request.partitions, start=1):
            result = FetchResult(item.topic_partition)
            room = self._memory.read_room_bytes
            limit = min(item.max_bytes, max_bytes - size_bytes, room)
            try:
                limit = limit if size_bytes else max(limit, 1)
                lend_from_bytes = request.lend_from_bytes if ranges_left > 0 else None
                self._read_consumer(item, result, limit, lend_from_bytes, request.read_committed)
            except MinikafkaError as error:
                result.error, failed = error.with_traceback(None), True
            size_bytes += result.size_bytes
            ranges_left -= len(result.pieces)
            self._memory.take(result.held_bytes)
            results.append(result)
            if count % _SLICE == 0:
                await next_turn()
        return size_bytes, failed

    def _read_consumer(
        self,
        item: FetchPartition,
        result: FetchResult,
        max_bytes: int,
        lend_from_bytes: int | None,
        read_committed: bool,
    ) -> None:
        replica = self._find_replica(item.topic_partition)
        core = replica.core
        try:
            core.check_consumer_fetch(item.fetch_offset, item.current_leader_epoch)
        except NotLeaderOrFollowerError:
            if core.state is not None:
                result.leader_hint = LeaderHint(core.state.leader, core.state.leader_epoch)
            raise
        log = core.log_state
        result.high_watermark = log.high_watermark
        result.log_start_offset = log.log_start_offset
        result.last_stable_offset = log.last_stable_offset
        end_offset = _readable_end(log, read_committed)
        if read_committed:
            result.aborted = ()
        if max_bytes <= 0 or item.fetch_offset >= end_offset:
            return
        if read_committed:
            result.aborted = replica.aborted(item.fetch_offset, max_bytes, end_offset)
        if lend_from_bytes is None or max_bytes < lend_from_bytes:
            result.records = replica.read(item.fetch_offset, max_bytes, end_offset)
            return
        pieces = replica.pieces(item.fetch_offset, max_bytes, end_offset, lend_from_bytes)
        read = [piece for piece in pieces if isinstance(piece, bytes)]
        if len(read) == len(pieces):
            result.records = b"".join(read)
        else:
            result.pieces = pieces

    # --- followers -------------------------------------------------------------------------------

    async def replica_fetch(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse:
        """See BrokerService.replica_fetch."""
        return await self._followers.replica_fetch(request)


class _Watch:
    """A waiter at each of the replicas that a fetch waits for."""

    def __init__(
        self, find_replica: FindReplica, add: Callable[[Replica, FetchWaiter], Any]
    ) -> None:
        self._find_replica = find_replica
        self._add = add
        self._waiter = FetchWaiter()
        self._replicas: dict[TopicPartition, Replica] = {}

    def __enter__(self) -> Self:
        return self

    def at(self, topic_partition: TopicPartition) -> Replica:
        """The replica, from now on watched. Raises what `find_replica` raises."""
        replica = self._find_replica(topic_partition)
        self._add(replica, self._waiter)
        self._replicas[topic_partition] = replica
        return replica

    async def changed(self, timeout_ms: int) -> list[TopicPartition]:
        """Wait for a change; of which partitions there is one, none when the time is over. They
        are watched again when they are looked at again."""
        if timeout_ms > 0:
            await self._waiter.wait(timeout_ms / 1000)
        return self._waiter.take_changed()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for replica in self._replicas.values():
            replica.discard_waiter(self._waiter)
