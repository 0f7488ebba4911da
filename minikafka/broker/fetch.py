"""Fetch requests of consumers and of followers: read what may be read, or wait for it.

A fetch that finds nothing parks with a waiter at each of its replicas, is woken by an append, by
the high watermark, or by a change of role or epoch, and looks again from the start: what held when
it was parked need not hold now. A follower's position counts once, when its fetch arrives.

State: which high watermark and log start each follower was told last, so that an answer with one
partition's records also carries what is new of the others: otherwise a busy partition would keep
the news of all quiet ones from it. An answer that got lost is made good by the one at the end of a
wait, which tells all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from minikafka.broker.counters import BrokerCounters
from minikafka.broker.produce import ALL_ACKS, Serving
from minikafka.broker.replica import FetchWaiter, Replica
from minikafka.broker.requests import (
    FetchPartition,
    FetchRequest,
    FetchResult,
    LeaderHint,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    ReplicaFetchResult,
)
from minikafka.core.throttle import ReplicationThrottle
from minikafka.errors import (
    FencedLeaderEpochError,
    InconsistentTopicIdError,
    MinikafkaError,
    NotLeaderOrFollowerError,
    OffsetOutOfRangeError,
)
from minikafka.model import FollowerPosition, TopicPartition

FindReplica = Callable[..., Replica]

# What a consumer can make this broker read at once, whatever it asks for (Kafka's fetch.max.bytes).
MAX_FETCH_BYTES = 55 * 1024 * 1024


class FetchHandler:
    """`find_replica(topic_partition)` gives the replica or raises what the fetcher is to be told;
    `now_ms` is the broker's monotonic clock. `serving(leader, acks)` raises while another broker
    may lead instead of that leader (out of touch with ZooKeeper)."""

    def __init__(
        self,
        find_replica: FindReplica,
        now_ms: Callable[[], int],
        serving: Serving = lambda leader, acks: None,
        counters: BrokerCounters | None = None,
        throttle: ReplicationThrottle | None = None,
    ) -> None:
        self._throttle = throttle or ReplicationThrottle()
        self._find_replica = find_replica
        self._now_ms = now_ms
        self._serving = serving
        self._counters = counters or BrokerCounters()
        self._told: dict[int, _Told] = {}  # by follower

    # --- consumers -------------------------------------------------------------------------------

    async def fetch(self, request: FetchRequest) -> Sequence[FetchResult]:
        """See BrokerService.fetch. An error in any partition ends the wait at once.

        What is here may be read also while another may lead: it is committed. But who has waited
        for nothing is told, or would wait here for ever while records arrive elsewhere.
        """
        deadline_ms = self._now_ms() + request.max_wait_ms
        while True:
            results, size_bytes, failed = self._read_all(request)
            remaining_ms = deadline_ms - self._now_ms()
            if failed or size_bytes >= request.min_bytes or remaining_ms <= 0:
                if not size_bytes and not failed:
                    self._tell_if_another_may_lead(results)
                self._count(results)
                return results
            waiter = FetchWaiter()
            replicas = [self._find_replica(item.topic_partition) for item in request.partitions]
            await _park(waiter, replicas, Replica.add_consumer_waiter, remaining_ms)

    def _count(self, results: Sequence[FetchResult]) -> None:
        for result in results:
            traffic = self._counters.of(result.topic_partition.topic)
            traffic.fetch_requests += 1
            traffic.bytes_out += len(result.records)
            traffic.failed_fetch_requests += result.error is not None

    def _tell_if_another_may_lead(self, results: Sequence[FetchResult]) -> None:
        for result in results:
            try:
                self._serving(self._find_replica(result.topic_partition).core.leader(), ALL_ACKS)
            except MinikafkaError as error:
                result.error = error

    def _read_all(self, request: FetchRequest) -> tuple[list[FetchResult], int, bool]:
        results = []
        size_bytes, failed = 0, False
        max_bytes = min(request.max_bytes, MAX_FETCH_BYTES)
        for item in request.partitions:
            result = FetchResult(item.topic_partition)
            limit = min(item.max_bytes, max_bytes - size_bytes)
            try:
                self._read_consumer(item, result, limit if size_bytes else max(limit, 1))
            except MinikafkaError as error:
                result.error, failed = error, True
            size_bytes += len(result.records)
            results.append(result)
        return results, size_bytes, failed

    def _read_consumer(self, item: FetchPartition, result: FetchResult, max_bytes: int) -> None:
        replica = self._find_replica(item.topic_partition)
        try:
            leader = replica.core.leader()
        except NotLeaderOrFollowerError:
            if replica.core.state is not None:
                state = replica.core.state
                result.leader_hint = LeaderHint(state.leader, state.leader_epoch)
            raise
        log = replica.core.log
        leader.check_consumer_fetch(item.fetch_offset, item.current_leader_epoch)
        result.high_watermark = log.high_watermark
        result.log_start_offset = log.log_start_offset
        if max_bytes > 0 and item.fetch_offset < log.high_watermark:
            result.records = replica.read(item.fetch_offset, max_bytes, log.high_watermark)

    # --- followers -------------------------------------------------------------------------------

    async def replica_fetch(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse:
        """See BrokerService.replica_fetch."""
        deadline_ms = self._now_ms() + request.max_wait_ms
        first = True
        while True:
            results, urgent = self._answer_all(request, first)
            first = False
            remaining_ms = deadline_ms - self._now_ms()
            if urgent or remaining_ms <= 0:
                return self._select(request, results, urgent)
            if throttled_ms := self._throttle.wait_ms(self._now_ms()):
                remaining_ms = min(remaining_ms, throttled_ms)
            waiter = FetchWaiter()
            replicas = [self._find_replica(item.topic_partition) for item in request.positions]
            await _park(waiter, replicas, Replica.add_follower_waiter, remaining_ms)

    def _answer_all(
        self, request: ReplicaFetchRequest, first: bool
    ) -> tuple[list[ReplicaFetchResult], bool]:
        """An answer for each position; whether any cannot wait."""
        results = []
        budget = request.max_bytes
        urgent = False
        for position in request.positions:
            result = ReplicaFetchResult(position.topic_partition)
            limit = min(request.partition_max_bytes, budget)
            try:
                self._answer_follower(request, position, result, limit, first)
            except MinikafkaError as error:
                result.error = error
            budget -= len(result.records)
            urgent = urgent or _is_urgent(result)
            results.append(result)
        return results, urgent

    def _answer_follower(
        self,
        request: ReplicaFetchRequest,
        position: FollowerPosition,
        result: ReplicaFetchResult,
        max_bytes: int,
        first: bool,
    ) -> None:
        replica = self._find_replica(position.topic_partition)
        if replica.topic_id != position.topic_id:
            raise InconsistentTopicIdError(
                f"{position.topic_partition} has topic id {replica.topic_id} here, "
                f"not {position.topic_id}"
            )
        leader = replica.core.leader()
        log = replica.core.log
        try:
            result.diverging = leader.check_replica_fetch(request.replica_id, position)
        except FencedLeaderEpochError:
            result.state = replica.core.state
            raise
        except OffsetOutOfRangeError:
            result.log_start_offset = log.log_start_offset
            result.log_end_offset = log.log_end_offset
            raise
        if result.diverging is not None:
            return
        if first:
            replica.apply(
                leader.record_replica_fetch(
                    request.replica_id, request.replica_broker_epoch, position, self._now_ms()
                )
            )
            replica.on_follower_fetched()
        result.high_watermark = log.high_watermark
        result.log_start_offset = log.log_start_offset
        result.log_end_offset = log.log_end_offset
        if max_bytes <= 0 or position.fetch_offset >= log.log_end_offset:
            return
        throttled = self._is_throttled(replica, request.replica_id)
        if throttled and self._throttle.wait_ms(self._now_ms()):
            return
        result.records = replica.read(position.fetch_offset, max_bytes, log.log_end_offset)
        if throttled:
            self._throttle.on_bytes(len(result.records), self._now_ms())

    def _is_throttled(self, replica: Replica, follower: int) -> bool:
        """Whether what this follower reads here counts: never that of one that is in sync."""
        leader, partition = replica.core.leader(), replica.topic_partition.partition
        return (
            replica.config.throttles_leader(partition, leader.state.leader)
            and follower not in leader.isr.maximal
        )

    def _select(
        self, request: ReplicaFetchRequest, results: list[ReplicaFetchResult], urgent: bool
    ) -> ReplicaFetchResponse:
        """What of the results is worth sending: at the end of a wait all, else what says anything
        that this follower has not heard."""
        told = self._told.get(request.replica_id)
        if told is None or told.broker_epoch != request.replica_broker_epoch:
            told = self._told[request.replica_id] = _Told(request.replica_broker_epoch)
        selected = []
        for result in results:
            offsets = (result.high_watermark, result.log_start_offset)
            known = told.offsets.get(result.topic_partition)
            if not urgent or _is_urgent(result) or known != offsets:
                selected.append(result)
                if result.records:
                    traffic = self._counters.of(result.topic_partition.topic)
                    traffic.replication_bytes_out += len(result.records)
            if result.error is None and result.diverging is None:
                told.offsets[result.topic_partition] = offsets
            else:
                told.offsets.pop(result.topic_partition, None)
        if len(told.offsets) > len(results):  # it does not follow all of them any more
            told.offsets = {
                result.topic_partition: told.offsets[result.topic_partition]
                for result in results
                if result.topic_partition in told.offsets
            }
        return ReplicaFetchResponse(selected)


@dataclass(slots=True)
class _Told:
    """High watermark and log start that one incarnation of a follower was told last."""

    broker_epoch: int
    offsets: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict)


def _is_urgent(result: ReplicaFetchResult) -> bool:
    """It cannot wait for the end of the fetch."""
    return result.error is not None or result.diverging is not None or bool(result.records)


async def _park(
    waiter: FetchWaiter,
    replicas: Sequence[Replica],
    add: Callable[[Replica, FetchWaiter], Any],
    timeout_ms: int,
) -> None:
    for replica in replicas:
        add(replica, waiter)
    try:
        await waiter.wait(timeout_ms / 1000)
    finally:
        for replica in replicas:
            replica.discard_waiter(waiter)
