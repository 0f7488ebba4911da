"""A consumer's part in a group: it joins, is assigned, heartbeats, commits, and leaves.

Heartbeats go in the background. Everything else happens when the user polls, as in Kafka's own
client: so a rebalance never takes partitions away under records that the user is still at work on,
as long as it polls again within `max_poll_interval_ms`; who does not is taken out of the group.

State: member id, generation, what is assigned, where to the user is through (`_processed`: the
positions at the beginning of the last poll; what was given before it counts as done). Invariants:
with auto commit nothing beyond that is committed, so a record may be read twice and none is left
out; nothing is given out while a rebalance is under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from minikafka.api.groups import (
    NO_GENERATION,
    UNKNOWN_MEMBER,
    CommittedOffset,
    GroupProtocol,
    HeartbeatRequest,
    JoinedMember,
    JoinGroupRequest,
    JoinGroupResult,
    LeaveGroupRequest,
    LeavingMember,
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitResult,
    OffsetFetchGroup,
    OffsetFetchRequest,
    OffsetFetchResult,
    SyncGroupRequest,
)
from minikafka.client.consuming.assignor import RANGE, assign_range, subscribed_topics
from minikafka.client.consuming.coordinator import Coordinator
from minikafka.client.coordination import error_of
from minikafka.client.metadata import Cluster
from minikafka.core.groups.consumer_protocol import (
    CONSUMER_PROTOCOL_TYPE,
    Subscription,
    decode_assignment,
    encode_assignment,
    encode_subscription,
)
from minikafka.errors import (
    FencedInstanceIdError,
    IllegalGenerationError,
    MemberIdRequiredError,
    MinikafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import TopicPartition

_logger = logging.getLogger(__name__)
_AGAIN = (RebalanceInProgressError, IllegalGenerationError, UnknownMemberIdError)
_LEAVE_TIMEOUT_MS = 3_000
_HEARTBEAT_RETRY_S = 0.1
_UNKNOWN_TOPIC_S = 1.0

Positions = Mapping[TopicPartition, int]
Listener = Callable[[Sequence[TopicPartition]], None]


@dataclass(frozen=True, slots=True)
class GroupOptions:
    """How a consumer takes part in its group; see AsyncConsumer.subscribe."""

    topics: tuple[str, ...]
    group_id: str
    instance_id: str | None
    client_id: str
    auto_commit: bool
    auto_commit_interval_ms: float
    session_timeout_ms: int
    heartbeat_interval_ms: float
    max_poll_interval_ms: int
    request_timeout_ms: float
    on_assigned: Listener
    on_revoked: Listener


class Reader(Protocol):
    """What the group needs of the consumer."""

    def positions(self) -> dict[TopicPartition, int]:
        """Of the assigned partitions, as far as they have one: the next record's offset."""

    def read_from(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        """Read exactly these; None: where auto_offset_reset says."""

    def wake(self) -> None:
        """A poll that waits is to look again."""


class GroupMember:
    """Belongs to one event loop."""

    def __init__(self, cluster: Cluster, options: GroupOptions, reader: Reader) -> None:
        self.options = options
        self.member_id = UNKNOWN_MEMBER
        self.generation_id = NO_GENERATION
        self.assigned: tuple[TopicPartition, ...] = ()
        self._polls_waiting = 0
        self._cluster = cluster
        self._reader = reader
        self._coordinator = Coordinator(cluster, options.group_id)
        self._loop = asyncio.get_running_loop()
        self._must_join = True
        self._joining: asyncio.Task[None] | None = None
        self._heartbeats: asyncio.Task[None] | None = None
        self._committing: asyncio.Task[None] | None = None
        self._failure: MinikafkaError | None = None
        self._processed: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._counts: dict[str, int] | None = None  # what the leader assigned by
        self._polled_s = self._loop.time()
        self._next_commit_s = self._loop.time() + options.auto_commit_interval_ms / 1000
        for topic in options.topics:
            cluster.track(topic)
        cluster.on_change(self._on_metadata)

    # --- polling ---------------------------------------------------------------------------------

    async def before_poll(self) -> None:
        """The user asks for more: so it is done with what it was given."""
        self._polled_s = self._loop.time()
        self._processed = self._reader.positions()
        if self.options.auto_commit and self._polled_s >= self._next_commit_s:
            self._commit_in_background()

    @contextmanager
    def while_polling(self) -> Iterator[None]:
        """The user waits for records in here."""
        self._polls_waiting += 1
        try:
            yield
        finally:
            self._polls_waiting -= 1
            self._polled_s = self._loop.time()

    async def ensure_assigned(self, deadline: float | None) -> bool:
        """Take part in a rebalance if there is one; False if it is not over by `deadline`. Raises
        what keeps this consumer out of the group."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._joining is None:
            if not self._must_join:
                return True
            self._joining = self._loop.create_task(self._rebalance())
        remaining_s = None if deadline is None else max(deadline - self._loop.time(), 0)
        await asyncio.wait([self._joining], timeout=remaining_s)
        self._polled_s = self._loop.time()
        if not self._joining.done():
            return False
        joining, self._joining = self._joining, None
        joining.result()  # raises
        return not self._must_join

    @property
    def must_join(self) -> bool:
        """Is there a rebalance to take part in, or an error to be told?"""
        return self._must_join or self._failure is not None

    @property
    def settled(self) -> bool:
        return self.generation_id != NO_GENERATION and not self._must_join and not self._joining

    # --- rebalancing -----------------------------------------------------------------------------

    async def _rebalance(self) -> None:
        await self._stop_heartbeats()
        if self.assigned:
            if self.options.auto_commit and self.member_id != UNKNOWN_MEMBER:
                await self._commit_quietly(self._processed)
            self._revoke()
        self._reader.read_from({})
        self._must_join = False
        try:
            assigned = await self._join_until_assigned()
            offsets = await self._fetch_committed(assigned)
        except BaseException:
            self._must_join = True
            raise
        self.assigned = assigned
        self._committed = {each: offset for each, offset in offsets.items() if offset is not None}
        self._processed = {}
        self._reader.read_from(offsets)
        self._heartbeats = self._loop.create_task(self._run_heartbeats())
        self.options.on_assigned(assigned)

    def _revoke(self) -> None:
        revoked, self.assigned = self.assigned, ()
        self.options.on_revoked(revoked)

    async def _join_until_assigned(self) -> tuple[TopicPartition, ...]:
        while True:
            joined = await self._join()
            if isinstance(joined.error, MemberIdRequiredError):
                self.member_id = joined.member_id
                continue
            if isinstance(joined.error, _AGAIN):
                self._forget_if_unknown(joined.error)
                continue
            if joined.error is not None:
                raise joined.error
            self.member_id, self.generation_id = joined.member_id, joined.generation_id
            assignments = await self._assign(joined)
            request = SyncGroupRequest(
                self.options.group_id,
                self.generation_id,
                self.member_id,
                assignments,
                self.options.instance_id,
                joined.protocol_type,
                joined.protocol_name,
            )
            synced = await self._coordinator.call(
                lambda groups: groups.sync_group(request),  # noqa: B023
                self._held_timeout_ms,
            )
            if synced.error is None:
                return decode_assignment(synced.assignment)
            if not isinstance(synced.error, _AGAIN):
                raise synced.error
            self._forget_if_unknown(synced.error)

    async def _join(self) -> JoinGroupResult:
        options = self.options
        subscription = Subscription(options.topics, b"", (), self.generation_id)
        request = JoinGroupRequest(
            options.group_id,
            self.member_id,
            CONSUMER_PROTOCOL_TYPE,
            [GroupProtocol(RANGE, encode_subscription(subscription))],
            options.session_timeout_ms,
            options.max_poll_interval_ms,
            options.instance_id,
            options.client_id,
        )
        return await self._coordinator.call(
            lambda groups: groups.join_group(request), self._held_timeout_ms
        )

    @property
    def _held_timeout_ms(self) -> float:
        """For what the coordinator holds until the others have come."""
        return self.options.max_poll_interval_ms + self.options.request_timeout_ms

    def _forget_if_unknown(self, error: MinikafkaError) -> None:
        if isinstance(error, UnknownMemberIdError):
            self.member_id, self.generation_id = UNKNOWN_MEMBER, NO_GENERATION

    async def _assign(self, joined: JoinGroupResult) -> list[tuple[str, bytes]]:
        """The leader's work; nothing for anybody else."""
        self._counts = None
        if joined.leader_id != joined.member_id:
            return []
        self._counts = await self._count_partitions(joined.members)
        if joined.skip_assignment:
            return []
        assigned = assign_range(joined.members, self._counts)
        return [(member_id, encode_assignment(each)) for member_id, each in assigned.items()]

    async def _count_partitions(self, members: Sequence[JoinedMember]) -> dict[str, int]:
        topics = subscribed_topics(members)
        for topic in topics:
            self._cluster.track(topic)
        await asyncio.wait([self._cluster.refresh_soon()])
        return self._known_counts(topics)

    def _known_counts(self, topics: set[str]) -> dict[str, int]:
        views = {topic: self._cluster.topics.get(topic) for topic in topics}
        return {
            topic: 0 if view is None or view.error is not None else view.partition_count
            for topic, view in views.items()
        }

    def _on_metadata(self) -> None:
        """As leader: topics that appear, or get more partitions, are to be assigned."""
        if self._counts is None or self._must_join or self._joining is not None:
            return
        known = self._known_counts(set(self._counts))
        if any(known[topic] > count for topic, count in self._counts.items()):
            self._join_again()

    def _join_again(self) -> None:
        self._must_join = True
        self._reader.wake()

    # --- heartbeats ------------------------------------------------------------------------------

    async def _run_heartbeats(self) -> None:
        """Until a rebalance, or the end."""
        options = self.options
        wait_s = options.heartbeat_interval_ms / 1000
        while True:
            await asyncio.sleep(wait_s)
            silent_ms = 0.0 if self._polls_waiting else (self._loop.time() - self._polled_s) * 1000
            if silent_ms > options.max_poll_interval_ms:
                _logger.warning(
                    "group %s: no poll for %d ms (max_poll_interval_ms): leaving the group",
                    options.group_id,
                    options.max_poll_interval_ms,
                )
                await self._send_leave()
                self._join_again()
                return
            request = HeartbeatRequest(
                options.group_id, self.generation_id, self.member_id, options.instance_id
            )
            wait_s = options.heartbeat_interval_ms / 1000
            try:
                async with asyncio.timeout(options.session_timeout_ms / 1000):
                    beat = await self._coordinator.call_once(
                        lambda groups: groups.heartbeat(request)  # noqa: B023
                    )
                error = beat.error
            except TimeoutError:
                error = None
                self._coordinator.forget()
            except MinikafkaError as failure:
                error = failure
            if error is None:
                continue
            if error.retriable:
                if error.refresh_coordinator:
                    self._coordinator.forget()
                wait_s = min(wait_s, _HEARTBEAT_RETRY_S)
                continue
            _logger.info("group %s: %s", options.group_id, error)
            if isinstance(error, FencedInstanceIdError):
                self._failure = error
            else:
                self._forget_if_unknown(error)
            self._join_again()
            return

    async def _stop_heartbeats(self) -> None:
        task, self._heartbeats = self._heartbeats, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    # --- offsets ---------------------------------------------------------------------------------

    async def commit(self, offsets: Positions | None = None) -> None:
        """Commit these, or what the user was given. Raises the first partition's error;
        RebalanceInProgressError, IllegalGenerationError or UnknownMemberIdError say that the
        partitions may be another member's by now: poll, and go on with what is assigned then."""
        wanted = dict(self._reader.positions() if offsets is None else offsets)
        if not wanted:
            return
        if self.member_id == UNKNOWN_MEMBER:
            # As nobody it would commit into an empty group, over what later members have.
            raise UnknownMemberIdError(f"no member of group {self.options.group_id!r}: poll first")
        request = OffsetCommitRequest(
            self.options.group_id,
            [
                OffsetCommitPartition(each, offset, self._leader_epoch(each))
                for each, offset in wanted.items()
            ],
            self.generation_id,
            self.member_id,
            self.options.instance_id,
        )
        result = await self._coordinator.call(
            lambda groups: groups.commit_offsets(request),
            self.options.request_timeout_ms,
            CommitFailure(self._loop.time),
        )
        for each in result.partitions:
            if each.error is not None:
                raise each.error
        self._committed.update(wanted)

    def _leader_epoch(self, topic_partition: TopicPartition) -> int:
        view = self._cluster.leader(topic_partition)
        return -1 if view is None else view.leader_epoch

    async def committed(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, CommittedOffset]:
        """What the group has committed."""
        request = OffsetFetchRequest([OffsetFetchGroup(self.options.group_id, partitions)], True)
        result = await self._coordinator.call(
            lambda groups: groups.fetch_offsets(request),
            self.options.request_timeout_ms,
            _retriable_of_fetch,
        )
        [group] = result.groups
        if group.error is not None:
            raise group.error
        return {each.topic_partition: each for each in group.partitions}

    async def _fetch_committed(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int | None]:
        if not partitions:
            return {}
        found = await self.committed(partitions)
        return {each: found[each].offset if found[each].offset >= 0 else None for each in found}

    def _commit_in_background(self) -> None:
        self._next_commit_s = self._polled_s + self.options.auto_commit_interval_ms / 1000
        if self._committing is None or self._committing.done():
            processed = dict(self._processed)
            self._committing = self._loop.create_task(self._commit_quietly(processed))

    async def _commit_quietly(self, positions: Positions) -> None:
        news = {
            each: offset
            for each, offset in positions.items()
            if each in self.assigned and self._committed.get(each) != offset
        }
        try:
            await self.commit(news)
        except MinikafkaError as error:
            _logger.warning("group %s: offsets are not committed: %s", self.options.group_id, error)

    # --- leaving ---------------------------------------------------------------------------------

    async def close(self, *, failed: bool = False) -> None:
        """Commit what is done (with auto commit), and leave; a static member stays, and comes back
        under its instance id, or is out when its session ends. After a failure of the user's, what
        was given last does not count as done."""
        self._counts = None
        for task in (self._joining, self._committing):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task])
        self._joining = None
        await self._stop_heartbeats()
        if self.assigned:
            if self.options.auto_commit and self.member_id != UNKNOWN_MEMBER:
                await self._commit_quietly(self._processed if failed else self._reader.positions())
            self._revoke()
        if self.options.instance_id is None:
            await self._send_leave()

    async def _send_leave(self) -> None:
        if self.member_id == UNKNOWN_MEMBER:
            return
        member = LeavingMember(self.member_id, None, "the consumer ends or does not poll")
        self._forget_if_unknown(UnknownMemberIdError())
        request = LeaveGroupRequest(self.options.group_id, [member])
        try:
            await self._coordinator.call(
                lambda groups: groups.leave_group(request), _LEAVE_TIMEOUT_MS
            )
        except MinikafkaError as error:
            _logger.info("group %s: not left, the session will end: %s", request.group_id, error)


class CommitFailure:
    """What makes a commit worth repeating. A partition that the coordinator does not know may just
    have been made: it is asked for a while, no longer."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._until_s = now_s() + _UNKNOWN_TOPIC_S

    def __call__(self, result: OffsetCommitResult) -> MinikafkaError | None:
        for each in result.partitions:
            unknown = isinstance(each.error, UnknownTopicOrPartitionError)
            if each.error is not None and not (unknown and self._now_s() >= self._until_s):
                return each.error
        return None


def _retriable_of_fetch(result: OffsetFetchResult) -> MinikafkaError | None:
    for group in result.groups:
        for each in (group, *group.partitions):
            if (error := error_of(each)) is not None:
                return error
    return None
