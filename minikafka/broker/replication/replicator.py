"""The follower's side of replication: one loop per leader broker, all shared partitions in it.

Each loop keeps one stream to its leader, one fetch outstanding, and a session in which it names
what has changed since the fetch before (replica_fetch_session.py). When a partition is to be
fetched while a fetch is parked at the leader, the stream is closed and opened again, and the
session begins anew, with a full fetch; that happens only when leadership moves. Where that moves of
one partition, it will soon of others: for a second after, fetches are parked only briefly, and
whatever comes waits for the end of that. So thousands of partitions that begin to be followed one
after another cost a full fetch once, and not each.

A partition that the leader refuses is left out for a while (20 ms, doubling up to
replica.fetch.backoff.ms), the others go on. Those that got records go to the end of the next fetch:
the leader fills an answer in the order in which they were named, and nobody shall starve.

Replicas out of sync that are throttled are left out while the throttle holds; the others go on.

With flush.before.ack what was fetched is flushed before the next fetch, which acknowledges it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from minikafka.api.requests import (
    FollowerPosition,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    ReplicaFetchResult,
)
from minikafka.broker.ports import Peers, ReplicationStream
from minikafka.broker.replication.replica import Replica
from minikafka.broker.replication.replica_fetch_session import ReplicaFetchSession
from minikafka.config import BrokerConfig
from minikafka.core.replication.effects import Role
from minikafka.core.replication.events import BatchesReceived, Diverged, OutOfRange
from minikafka.core.replication.throttle import ReplicationThrottle
from minikafka.errors import (
    CorruptMessageError,
    FencedLeaderEpochError,
    FetchSessionIdNotFoundError,
    InvalidFetchSessionEpochError,
    InvalidRecordError,
    MinikafkaError,
    NetworkError,
    OffsetOutOfRangeError,
)
from minikafka.model import BrokerInfo, TopicPartition
from minikafka.records.header import split, verify_crc

logger = logging.getLogger(__name__)

FIRST_BACKOFF_MS = 20
MORE_TO_COME_MS = 1_000  # after a partition was to be fetched while a fetch was parked
BRIEF_WAIT_MS = 50  # how long a fetch is parked then
LATE_MS = 2_000  # after which the answer of such a fetch is not waited for; a leader may be busy


@dataclass(slots=True)
class _Backoff:
    delay_ms: int
    until_ms: int


class Replicator:
    """`find_broker(id)` gives a live broker or None; `incarnation()` this broker's (id, epoch);
    `on_bug` hears of failures that were not foreseen. They are logged, and end no loop."""

    def __init__(
        self,
        config: BrokerConfig,
        peers: Peers,
        find_broker: Callable[[int], BrokerInfo | None],
        incarnation: Callable[[], tuple[int, int]],
        now_ms: Callable[[], int],
        on_bug: Callable[[Exception], None],
    ) -> None:
        self.config = config
        self.peers = peers
        self.find_broker = find_broker
        self.incarnation = incarnation
        self.now_ms = now_ms
        self.on_bug = on_bug
        self.throttle = ReplicationThrottle()
        self._closed = False
        self._followed: dict[TopicPartition, int] = {}  # the leader that a replica is fetched from
        self._loops: dict[int, LeaderLoop] = {}

    def on_role_changed(self, replica: Replica) -> None:
        """Begin, move or end the fetching of one partition."""
        if self._closed:
            return
        topic_partition = replica.topic_partition
        position = None if replica.core.failed is not None else replica.core.fetch_position()
        state = replica.core.state
        leader = state.leader if position is not None and state is not None else -1
        before = self._followed.pop(topic_partition, -1)
        if before not in (-1, leader):
            self._loops[before].remove(topic_partition)
        if leader == -1:
            return
        self._followed[topic_partition] = leader
        loop = self._loops.get(leader)
        if loop is None:
            loop = self._loops[leader] = LeaderLoop(self, leader)
        loop.put(replica)

    def forget(self, topic_partition: TopicPartition) -> None:
        """The replica is gone from this broker."""
        leader = self._followed.pop(topic_partition, -1)
        if leader != -1:
            self._loops[leader].remove(topic_partition)

    def set_throttled_rate(self, bytes_per_s: int) -> None:
        """Of all replicas that are throttled; who waits, may go on at once."""
        if bytes_per_s != self.throttle.bytes_per_s:
            self.throttle.set_rate(bytes_per_s, self.now_ms())
            self.on_brokers_changed()

    def is_throttled(self, replica: Replica) -> bool:
        """Whether it counts: one that is in sync never does."""
        here, state = self.incarnation()[0], replica.core.state
        partition = replica.topic_partition.partition
        return (
            state is not None
            and here not in state.isr
            and replica.config.throttles_follower(partition, here)
        )

    def on_brokers_changed(self) -> None:
        """A leader may be back, or have another address: try at once."""
        for loop in self._loops.values():
            loop.kick()

    async def close(self) -> None:
        """Follow nobody any more, whatever is still to come."""
        self._closed = True
        self._followed.clear()
        loops, self._loops = list(self._loops.values()), {}
        for loop in loops:
            loop.task.cancel()
        await asyncio.gather(*(loop.task for loop in loops), return_exceptions=True)


class LeaderLoop:
    """Fetches from one leader."""

    def __init__(self, owner: Replicator, leader_id: int) -> None:
        self._owner = owner
        self._leader_id = leader_id
        self._replicas: dict[TopicPartition, Replica] = {}
        self._backoffs: dict[TopicPartition, _Backoff] = {}
        self._throttled_until_ms = 0  # while some replica is left out for that
        self._session = ReplicaFetchSession()
        self._stream: ReplicationStream | None = None
        self._stream_address: tuple[str, int] | None = None
        self._changed = asyncio.Event()
        self._outstanding: asyncio.Future[ReplicaFetchResponse] | None = None
        self._interrupted = False
        self._more_to_come_until_ms = 0
        self._brief_until_ms = 0  # the outstanding fetch is brief, and is to be answered by then
        self._late: asyncio.TimerHandle | None = None  # interrupts it if it is not
        self.task = asyncio.get_running_loop().create_task(self._run())

    def put(self, replica: Replica) -> None:
        """Fetch this replica too, from where it stands now, at once."""
        topic_partition = replica.topic_partition
        self._replicas[topic_partition] = replica
        self._backoffs.pop(topic_partition, None)
        self._session.moved[topic_partition] = None
        replica.moved = self._session.moved
        self._change()

    def remove(self, topic_partition: TopicPartition) -> None:
        replica = self._replicas.pop(topic_partition, None)
        if replica is not None:
            replica.moved = None
        self._backoffs.pop(topic_partition, None)
        self._session.forget(topic_partition)

    def kick(self) -> None:
        """End a pause; a fetch that is under way goes on."""
        self._changed.set()

    async def _run(self) -> None:
        try:
            await self._fetch_for_ever()
        finally:
            self._close_stream()

    async def _fetch_for_ever(self) -> None:
        failures = 0
        while True:
            try:
                fetched = await self._fetch_once()
                failures = 0 if fetched else failures
                if not fetched:
                    await self._wait_for_work()
            except NetworkError as error:
                self._close_stream()
                failures += 1
                logger.info("fetching from broker %d: %s", self._leader_id, error)
                await self._pause(min(FIRST_BACKOFF_MS << min(failures, 10), self._max_backoff_ms))
            except MinikafkaError as error:
                self._close_stream()
                logger.warning("fetching from broker %d: %s", self._leader_id, error)
                await self._pause(self._max_backoff_ms)
            except Exception as error:
                self._close_stream()
                logger.critical("fetching from broker %d failed", self._leader_id, exc_info=error)
                self._owner.on_bug(error)
                await self._pause(self._max_backoff_ms)

    @property
    def _max_backoff_ms(self) -> int:
        return max(FIRST_BACKOFF_MS, self._owner.config.replica_fetch_backoff_ms)

    async def _pause(self, delay_ms: int | None) -> None:
        """Until something changes, at most for so long (None: for ever)."""
        try:
            async with asyncio.timeout(None if delay_ms is None else delay_ms / 1000):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _wait_for_work(self) -> None:
        """Nothing to fetch now: wait for a partition, or for the end of the shortest backoff."""
        await self._pause(self._shortest_backoff_ms())

    def _shortest_backoff_ms(self) -> int | None:
        told = self._session.told
        due_ms = [each.until_ms for name, each in self._backoffs.items() if name not in told]
        if self._throttled_until_ms:
            due_ms.append(self._throttled_until_ms)
        return max(1, min(due_ms) - self._owner.now_ms()) if due_ms else None

    def _move_what_is_due(self) -> None:
        """Those that were left out and need not be any longer are named again."""
        now_ms, session = self._owner.now_ms(), self._session
        for topic_partition, backoff in self._backoffs.items():
            if backoff.until_ms <= now_ms and topic_partition not in session.told:
                session.moved[topic_partition] = None
        if self._throttled_until_ms:
            session.moved.update(dict.fromkeys(self._replicas))

    def _positions(self) -> list[FollowerPosition]:
        """What is to be named: all in a full fetch, else where the leader does not know it yet."""
        session = self._session
        now_ms = self._owner.now_ms()
        throttled_ms = self._owner.throttle.wait_ms(now_ms)
        self._throttled_until_ms = 0
        everything = throttled_ms or not session.is_open
        moved = list(self._replicas if everything else session.moved)
        session.moved.clear()
        positions = []
        for topic_partition in moved:
            replica = self._replicas.get(topic_partition)
            backoff = self._backoffs.get(topic_partition)
            if replica is None or (backoff is not None and backoff.until_ms > now_ms):
                continue
            if throttled_ms and self._owner.is_throttled(replica):
                self._throttled_until_ms = now_ms + throttled_ms
                session.forget(topic_partition)
                continue
            try:
                position = replica.core.fetch_position()
            except Exception as error:
                replica.fail(error, "it is not known what to fetch")
                continue
            if position is None:
                session.forget(topic_partition)
            elif not session.is_open or position != session.told.get(topic_partition):
                positions.append(position)
        return positions

    async def _fetch_once(self) -> bool:
        """One fetch and what follows from it; False if there was nothing to fetch."""
        broker = self._owner.find_broker(self._leader_id)
        self._changed.clear()
        if broker is None:
            return False
        self._move_what_is_due()
        await self._flush_what_must()
        self._require_stream_to(broker)
        request = self._next_request()
        if request is None:
            return False
        try:
            response = await self._exchange(request)
        except (FetchSessionIdNotFoundError, InvalidFetchSessionEpochError) as error:
            logger.info("fetching from broker %d in full: %s", self._leader_id, error)
            self._session.close()
            return True
        if response is not None:
            self._session.end_request(response.session_id)
            self._take_all(response, self._session.told)
        return True

    def _next_request(self) -> ReplicaFetchRequest | None:
        """None if there is nothing to fetch."""
        config, session = self._owner.config, self._session
        broker_id, broker_epoch = self._owner.incarnation()
        session.require((broker_id, broker_epoch))
        positions = self._positions()
        if not positions and not (session.is_open and session.told):
            return None
        forgotten = session.begin_request(positions)
        max_wait_ms, now_ms = self._max_wait_ms(), self._owner.now_ms()
        self._brief_until_ms = 0
        if now_ms < self._more_to_come_until_ms:
            max_wait_ms = min(max_wait_ms, BRIEF_WAIT_MS)
            self._brief_until_ms = now_ms + max_wait_ms + LATE_MS
        return ReplicaFetchRequest(
            broker_id,
            broker_epoch,
            max_wait_ms,
            config.replica_fetch_min_bytes,
            config.replica_fetch_response_max_bytes,
            config.replica_fetch_max_bytes,
            positions,
            session.session_id,
            session.session_epoch,
            forgotten,
        )

    def _max_wait_ms(self) -> int:
        """Not longer than until a backed-off partition is due."""
        wait_ms = self._owner.config.replica_fetch_wait_max_ms
        backoff_ms = self._shortest_backoff_ms()
        return wait_ms if backoff_ms is None else min(wait_ms, backoff_ms)

    def _require_stream_to(self, broker: BrokerInfo) -> None:
        address = (broker.grpc_address, broker.broker_epoch)
        if self._stream is None or self._stream_address != address:
            self._close_stream()
            self._stream = self._owner.peers.open_replication(broker)
            self._stream_address = address

    async def _exchange(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse | None:
        """Send and wait; None if the set of partitions changed first (the stream is closed then, so
        that the parked answer cannot be taken for the next one)."""
        assert self._stream is not None, "opened before"
        self._interrupted = False
        self._outstanding = asyncio.ensure_future(self._stream.fetch(request))
        try:
            return await self._outstanding
        except asyncio.CancelledError:
            if not self._interrupted or self.task.cancelling():
                raise
            self._close_stream()
            return None
        finally:
            self._outstanding.cancel()
            self._outstanding = None
            if self._late is not None:
                self._late.cancel()
                self._late = None

    def _change(self) -> None:
        """The set of partitions changed: whatever the loop waits for, it is to look again, at once
        or after a brief fetch."""
        self._changed.set()
        if self._outstanding is None or self._outstanding.done():
            return
        now_ms = self._owner.now_ms()
        self._more_to_come_until_ms = now_ms + MORE_TO_COME_MS
        wait_ms = self._brief_until_ms - now_ms
        if wait_ms <= 0:
            self._interrupt()
        elif self._late is None:
            loop = asyncio.get_running_loop()
            self._late = loop.call_later(wait_ms / 1000, self._interrupt)

    def _interrupt(self) -> None:
        if self._outstanding is not None and not self._outstanding.done():
            self._interrupted = True
            self._outstanding.cancel()

    def _close_stream(self) -> None:
        """And with it the session: it is not known what the leader has heard."""
        self._session.close()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    # --- taking answers --------------------------------------------------------------------------

    async def _flush_what_must(self) -> None:
        """To fetch on from an offset is to say that what is below it counts."""
        session = self._session
        moved = session.moved if session.is_open else self._replicas
        replicas = [self._replicas[each] for each in moved if each in self._replicas]
        to_flush = [replica for replica in replicas if replica.must_flush]
        if to_flush:
            await asyncio.gather(*(replica.flush() for replica in to_flush))

    def _take_all(
        self, response: ReplicaFetchResponse, asked: dict[TopicPartition, FollowerPosition]
    ) -> None:
        for result in response.results:
            topic_partition = result.topic_partition
            replica, position = self._replicas.get(topic_partition), asked.get(topic_partition)
            if replica is None or position is None:
                continue
            if result.error is not None or result.diverging is not None:
                self._session.name_again(topic_partition)
            try:
                self._take(replica, position, result)
            except MinikafkaError as error:
                self._back_off(topic_partition, error)
                continue
            except Exception as error:
                replica.fail(error, "the leader's answer could not be taken")
                continue
            self._backoffs.pop(topic_partition, None)
            if result.records and topic_partition in self._replicas:
                self._replicas[topic_partition] = self._replicas.pop(topic_partition)

    def _take(
        self, replica: Replica, position: FollowerPosition, result: ReplicaFetchResult
    ) -> None:
        core = replica.core
        error = result.error
        if error is not None:
            if isinstance(error, FencedLeaderEpochError) and result.state is not None:
                if core.role is Role.FOLLOWER:
                    replica.adopt(result.state, core.assignment)
                if core.fetch_position() != position:
                    return
            if isinstance(error, OffsetOutOfRangeError):
                replica.step(OutOfRange(position, result.log_start_offset, result.log_end_offset))
                if core.fetch_position() != position:
                    return
            raise error
        if result.diverging is not None:
            replica.step(Diverged(position, result.diverging))
            return
        if not core.awaits(position):
            return
        replica.note_leader_end(result.log_end_offset)
        headers = split(result.records) if result.records else []
        at = 0
        for header in headers:
            verify_crc(result.records, at, header)
            at += header.size_bytes
        replica.step(BatchesReceived(position, headers))
        if not core.accepts(headers):
            raise InvalidRecordError(f"the leader sent batches that do not follow on {position}")
        if headers and self._owner.is_throttled(replica):
            self._owner.throttle.on_bytes(len(result.records), self._owner.now_ms())
        replica.append_as_follower(
            result.records, headers, result.high_watermark, result.log_start_offset
        )

    def _back_off(self, topic_partition: TopicPartition, error: MinikafkaError) -> None:
        self._session.forget(topic_partition)
        before = self._backoffs.get(topic_partition)
        delay_ms = FIRST_BACKOFF_MS if before is None else 2 * before.delay_ms
        delay_ms = min(delay_ms, self._max_backoff_ms)
        self._backoffs[topic_partition] = _Backoff(delay_ms, self._owner.now_ms() + delay_ms)
        level = logging.ERROR if isinstance(error, CorruptMessageError) else logging.INFO
        logger.log(
            level, "%s: fetching from broker %d: %s", topic_partition, self._leader_id, error
        )
