"""Fetches of followers: look at what is due in the follower's session, or wait for it.

What there is to read is counted, not read, until it is enough: bytes are read once, for the answer.
A fetch that does not find enough waits in its session (follower_sessions.py), and is woken by an
append or a change of role or epoch. Then it looks at those that changed, and only at them; if that
is enough, the answer looks at all that is due. Where nothing else is due, as nearly always, that is
one look. With any answer goes all that the follower has not heard of the offsets of quiet
partitions.

No state of its own: the sessions have it.
"""

from __future__ import annotations

from collections.abc import Callable

from minikafka.api.requests import ReplicaFetchRequest, ReplicaFetchResponse, ReplicaFetchResult
from minikafka.broker.counters import BrokerCounters
from minikafka.broker.replication.counted import Counted
from minikafka.broker.replication.follower_sessions import (
    Followed,
    FollowerSession,
    FollowerSessions,
)
from minikafka.broker.replication.replica import FetchWaiter, Replica
from minikafka.core.replication.throttle import ReplicationThrottle
from minikafka.errors import (
    FencedLeaderEpochError,
    InconsistentTopicIdError,
    MinikafkaError,
    OffsetOutOfRangeError,
)
from minikafka.model import TopicPartition

FindReplica = Callable[..., Replica]


class ReplicaFetchHandler:
    """`find_replica(topic_partition)` gives the replica or raises what the follower is to be told;
    `now_ms` is the broker's monotonic clock."""

    def __init__(
        self,
        find_replica: FindReplica,
        now_ms: Callable[[], int],
        counters: BrokerCounters,
        throttle: ReplicationThrottle,
    ) -> None:
        self._find_replica = find_replica
        self._now_ms = now_ms
        self._counters = counters
        self._throttle = throttle
        self.sessions = FollowerSessions(now_ms)

    async def replica_fetch(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse:
        """See BrokerService.replica_fetch. Raises what FollowerSessions.on_request does, and its
        last two also when the session takes another turn meanwhile."""
        deadline_ms = self._now_ms() + request.max_wait_ms
        session = self.sessions.on_request(request)
        for topic_partition in request.forgotten:
            session.drop(topic_partition)
        for position in request.positions:
            session.name(position)
        session.count_outside()
        counted = Counted(min(request.min_bytes, request.max_bytes))
        looked = self._look_at_due(session, request, counted)
        kept = self.sessions.keep(session)
        if request.max_wait_ms > 0 and not counted.enough and not any(map(_is_refused, looked)):
            looked = await self._wait(session, request, counted, deadline_ms)
        # Nothing has come between the look and this: what was counted is what is read.
        results = self._answer(session, request, counted, looked)
        return ReplicaFetchResponse(results, session.session_id if kept else 0)

    async def _wait(
        self,
        session: FollowerSession,
        request: ReplicaFetchRequest,
        counted: Counted,
        deadline_ms: int,
    ) -> list[ReplicaFetchResult]:
        """Until there is as much as is wanted, something that cannot wait, or no time left. Returns
        what a look at all that is due gives then."""
        session_epoch = session.session_epoch
        waiter = session.waiter = FetchWaiter()
        try:
            while True:
                remaining_ms = deadline_ms - self._now_ms()
                if remaining_ms <= 0:
                    break
                throttled_ms = self._throttle.wait_ms(self._now_ms())
                if throttled_ms:
                    remaining_ms = min(remaining_ms, throttled_ms)
                await waiter.wait(remaining_ms / 1000)
                session.require_current(session_epoch)
                changed = waiter.take_changed()
                if not changed and not throttled_ms:
                    break
                if len(session.due) <= len(changed):
                    looked = self._look_at_due(session, request, counted)
                    if counted.enough or any(map(_is_refused, looked)):
                        return looked
                    continue
                # No change: the throttle may let them go on.
                if any(
                    self._is_enough(session, request, counted, topic_partition)
                    for topic_partition in changed or list(session.due)
                ):
                    break
        finally:
            if session.waiter is waiter:
                session.waiter = None
        return self._look_at_due(session, request, counted)

    def _is_enough(
        self,
        session: FollowerSession,
        request: ReplicaFetchRequest,
        counted: Counted,
        topic_partition: TopicPartition,
    ) -> bool:
        """One that has changed: is it to be answered now?"""
        followed = session.due.get(topic_partition)
        if followed is None:  # a change of what is not followed any more
            return False
        result = ReplicaFetchResult(topic_partition)
        try:
            size_bytes = self._look(session, request, followed, result, request.partition_max_bytes)
        except MinikafkaError:
            return True  # the answer says which
        counted.put(topic_partition, size_bytes)
        return counted.enough or result.diverging is not None

    def _look_at_due(
        self, session: FollowerSession, request: ReplicaFetchRequest, counted: Counted
    ) -> list[ReplicaFetchResult]:
        """What cannot wait: refusals, divergences, and what has records, which are counted. Those
        of which nothing is left to send are not due any more."""
        results = []
        counted.clear()
        for topic_partition, followed in list(session.due.items()):
            result = ReplicaFetchResult(topic_partition)
            limit = min(request.partition_max_bytes, request.max_bytes - counted.size_bytes)
            try:
                size_bytes = self._look(session, request, followed, result, limit)
            except MinikafkaError as error:
                result.error = error.with_traceback(None)
                size_bytes = 0
            counted.put(topic_partition, size_bytes, limit)
            if _is_refused(result):
                session.drop(topic_partition)
                results.append(result)
            elif size_bytes:
                results.append(result)
            elif followed.position.fetch_offset >= result.log_end_offset:
                del session.due[topic_partition]
        return results

    def _look(
        self,
        session: FollowerSession,
        request: ReplicaFetchRequest,
        followed: Followed,
        result: ReplicaFetchResult,
        max_bytes: int,
    ) -> int:
        """Fill in all but the records; returns how many bytes of them there are. What is valid is
        followed, and the fetch has counted."""
        position = followed.position
        replica = self._find_replica(position.topic_partition)
        if replica.topic_id != position.topic_id:
            raise InconsistentTopicIdError(
                f"{position.topic_partition} has topic id {replica.topic_id} here, "
                f"not {position.topic_id}"
            )
        log = replica.core.log_state
        try:
            result.diverging = replica.core.check_replica_fetch(session.replica_id, position)
        except FencedLeaderEpochError:
            result.state = replica.core.state
            raise
        except OffsetOutOfRangeError:
            result.log_start_offset = log.log_start_offset
            result.log_end_offset = log.log_end_offset
            raise
        if result.diverging is not None:
            return 0
        session.keep(followed, replica)
        followed.count(replica)
        self._fill(replica, result)
        if followed.told != (result.high_watermark, result.log_start_offset):
            session.news[position.topic_partition] = followed
        if max_bytes <= 0 or position.fetch_offset >= log.log_end_offset:
            return 0
        if self._throttle.wait_ms(self._now_ms()) and self._is_throttled(replica, session):
            return 0
        return replica.size_of(position.fetch_offset, max_bytes, log.log_end_offset)

    @staticmethod
    def _fill(replica: Replica, result: ReplicaFetchResult) -> None:
        log = replica.core.log_state
        result.high_watermark = log.high_watermark
        result.log_start_offset = log.log_start_offset
        result.log_end_offset = log.log_end_offset

    @staticmethod
    def _is_throttled(replica: Replica, session: FollowerSession) -> bool:
        """Whether what this follower reads here counts: never that of one that is in sync."""
        core, partition = replica.core, replica.topic_partition.partition
        return (
            replica.config.throttles_leader(partition, core.broker_id)
            and session.replica_id not in core.maximal_isr()
        )

    def _answer(
        self,
        session: FollowerSession,
        request: ReplicaFetchRequest,
        counted: Counted,
        looked: list[ReplicaFetchResult],
    ) -> list[ReplicaFetchResult]:
        """What cannot wait, with its records, and then all that is news."""
        results = {}
        for result in looked:
            topic_partition = result.topic_partition
            if limit_bytes := counted.limits.get(topic_partition, 0):
                self._read(session, session.followed[topic_partition], result, limit_bytes)
            results[topic_partition] = result
        for topic_partition, followed in session.news.items():
            known = results.get(topic_partition)
            if known is None:
                assert followed.replica is not None, "what is news is followed"
                known = ReplicaFetchResult(topic_partition)
                self._fill(followed.replica, known)
                offsets = (known.high_watermark, known.log_start_offset)
                if followed.told == offsets:
                    continue
                results[topic_partition] = known
            followed.told = (known.high_watermark, known.log_start_offset)
        session.news.clear()
        return list(results.values())

    def _read(
        self,
        session: FollowerSession,
        followed: Followed,
        result: ReplicaFetchResult,
        max_bytes: int,
    ) -> None:
        replica, position = followed.replica, followed.position
        assert replica is not None, "what was found valid is followed"
        throttled = self._is_throttled(replica, session)
        if throttled and self._throttle.wait_ms(self._now_ms()):
            return
        try:
            result.records = replica.read(position.fetch_offset, max_bytes, result.log_end_offset)
        except MinikafkaError as error:
            result.error = error.with_traceback(None)
            session.drop(result.topic_partition)
        traffic = self._counters.of(result.topic_partition.topic)
        traffic.replication_bytes_out += len(result.records)
        if throttled:
            self._throttle.on_bytes(len(result.records), self._now_ms())


def _is_refused(result: ReplicaFetchResult) -> bool:
    return result.error is not None or result.diverging is not None
