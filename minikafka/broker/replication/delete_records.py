"""DeleteRecords: raise the log start of partitions that this broker leads, and wait for the others.

The leader's log start moves at once; the followers hear of it in the answers to their fetches and
tell their own in the next one. A request is answered when every member of the ISR has followed, so
that no election brings deleted records back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minikafka.api.requests import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResult,
)
from minikafka.broker.replication.replica import FetchWaiter, Replica
from minikafka.core.replication.events import RecordsDeleted
from minikafka.errors import (
    InvalidTopicError,
    MinikafkaError,
    PolicyViolationError,
    RequestTimedOutError,
)
from minikafka.model import INTERNAL_TOPICS
from minikafka.turns import in_slices

FindReplica = Callable[..., Replica]


class DeleteRecordsHandler:
    """`find_replica(topic_partition)` gives the replica or raises what the client is to be told;
    `now_ms` is the broker's monotonic clock."""

    def __init__(self, find_replica: FindReplica, now_ms: Callable[[], int]) -> None:
        self._find_replica = find_replica
        self._now_ms = now_ms

    async def delete_records(self, request: DeleteRecordsRequest) -> Sequence[DeleteRecordsResult]:
        """See BrokerService.delete_records."""
        deadline_ms = self._now_ms() + request.timeout_ms
        results = []
        waiting: list[tuple[DeleteRecordsResult, int]] = []
        async for item in in_slices(request.partitions):
            result = DeleteRecordsResult(item.topic_partition)
            results.append(result)
            try:
                waiting.append((result, self._begin(item)))
            except MinikafkaError as error:
                result.error = error.with_traceback(None)
        for result, target in waiting:
            try:
                result.low_watermark = await self._followed(result, target, deadline_ms)
            except MinikafkaError as error:
                result.error = error.with_traceback(None)
        return results

    def _begin(self, item: DeleteRecordsPartition) -> int:
        """Raise the leader's log start; returns where the others' must come."""
        topic_partition = item.topic_partition
        if topic_partition.topic in INTERNAL_TOPICS:
            raise InvalidTopicError(
                f"{topic_partition.topic} is the brokers' own: its records cannot be deleted"
            )
        replica = self._find_replica(topic_partition)
        replica.core.require_leader()
        if not replica.config.deletes:
            raise PolicyViolationError(
                f"records of {topic_partition} cannot be deleted up to an offset: its "
                "cleanup.policy is compact, without delete"
            )
        target = replica.core.deletion_target(item.before_offset)
        replica.step(RecordsDeleted(target))
        return target

    async def _followed(self, result: DeleteRecordsResult, target: int, deadline_ms: int) -> int:
        """Wait until the ISR has followed; returns the low watermark then. Raises what a leader
        that is none any more answers, or RequestTimedOutError."""
        while True:
            replica = self._find_replica(result.topic_partition)
            low_watermark = replica.core.low_watermark()
            if low_watermark >= target:
                return low_watermark
            remaining_ms = deadline_ms - self._now_ms()
            if remaining_ms <= 0:
                raise RequestTimedOutError(
                    f"records of {result.topic_partition} below {target} are deleted on the "
                    "leader, but not all in-sync replicas had followed in time"
                )
            waiter = FetchWaiter()
            replica.add_deletion_waiter(waiter)
            try:
                await waiter.wait(remaining_ms / 1000)
            finally:
                replica.discard_waiter(waiter)
