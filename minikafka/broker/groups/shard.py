"""The groups of one partition of `__consumer_offsets`, on the broker that leads it.

State: the groups, by id; the leadership (`leader`) under which they were read; one timer a group;
in which groups a producer's transaction has offsets staged. The pure groups (core/groups/group.py)
decide; here their answers are given, their records written, and the time is told to them.

Life: made when this broker begins to lead; until `load` has read what is there
(coordinators/partition.py) it is not `loaded` and serves nothing; `unload` ends it.

An offset moves when its record is committed, as a later coordinator will see it, also when its
client has been told that it takes too long.

Transactions: offsets are staged when their record is in the log, and the shard hears of a marker
when that is (it listens to its replica): all of it in the order of the log. While it loads, none is
appended. It hears of a marker's commitment before whoever waits for its confirmation does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from functools import partial

from minikafka.broker.coordinators.partition import AppendBatch, CoordinatorPartition, Done
from minikafka.broker.coordinators.timers import Timers
from minikafka.broker.groups.records import decode, encode_batch
from minikafka.broker.groups.stored import StoredGroups
from minikafka.broker.replication.replica import Replica
from minikafka.core.groups.effects import (
    Append,
    Effect,
    GroupSnapshot,
    Now,
    OffsetAndMetadata,
    OffsetRecord,
    Record,
    Reply,
)
from minikafka.core.groups.group import Group
from minikafka.core.groups.offset_table import OffsetTable
from minikafka.core.groups.settings import GroupSettings
from minikafka.core.replication.partition import Partition
from minikafka.errors import (
    BrokerNotAvailableError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    CorruptMessageError,
    InvalidCommitOffsetSizeError,
    KafkaStorageError,
    MessageTooLargeError,
    MinikafkaError,
    NotCoordinatorError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import EndMarker, TopicPartition
from minikafka.turns import UPKEEP, in_slices

logger = logging.getLogger(__name__)


class GroupShard:
    """See the module."""

    def __init__(
        self,
        replica: Replica,
        settings: GroupSettings,
        append: AppendBatch,
        now: Callable[[], Now],
    ) -> None:
        self._partition = CoordinatorPartition(replica, append)
        self.topic_partition = self._partition.topic_partition
        self.groups: dict[str, Group] = {}
        self.held_bytes = 0  # for members of all groups
        self._held_bytes: dict[str, int] = {}  # by group, where there is any
        self.loaded = False
        self._settings = settings
        self._now = now
        self._staging: dict[int, set[str]] = {}  # producer id -> ids of groups
        self._deleted: set[str] = set()  # topics, while this is not loaded
        self._timers = Timers(lambda: now().ms, self._on_timer)
        replica.marker_listener = self

    @property
    def replica(self) -> Replica:
        return self._partition.replica

    @property
    def partition(self) -> Partition:
        """Under whose leadership it coordinates."""
        return self._partition.core

    def is_of(self, replica: Replica) -> bool:
        """Does it coordinate under the leadership that this replica has now?"""
        return self._partition.is_of(replica)

    # --- loading ---------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read what the coordinators before have written. KafkaStorageError if the disk fails."""
        began_ms = self._now().ms
        stored = StoredGroups()
        reader = _Reader(self.topic_partition, stored)
        await self._partition.read(reader.take, reader)
        async for group_id in in_slices(stored.group_ids()):
            if not self._partition.leads:
                return
            self._restore(group_id, stored.snapshot(group_id), stored.offsets(group_id))
        if not self._partition.leads:
            return
        self._staging = stored.staging
        self.loaded = True
        if self._deleted:
            await self.forget_topics(self._deleted)
        logger.info(
            "%s: coordinates %d groups now, read in %d ms",
            self.topic_partition,
            len(self.groups),
            self._now().ms - began_ms,
        )

    def _restore(
        self,
        group_id: str,
        snapshot: GroupSnapshot | None,
        offsets: OffsetTable,
    ) -> None:
        """A group whose members make no sense keeps its offsets; the others do not hear of it."""
        try:
            group = Group(group_id, self._settings, self._now())
            effects = group.restore(snapshot, offsets, self._now())
        except Exception:
            logger.exception(
                "%s: the members of group %s cannot be what is stored of them: they join anew",
                self.topic_partition,
                group_id,
            )
            group = Group(group_id, self._settings, self._now())
            effects = group.restore(None, offsets, self._now())
        self.groups[group_id] = group
        self.apply(group, effects)

    def unload(self) -> None:
        """Another broker coordinates these groups now: whoever waits is told so."""
        self._partition.end()
        if self.replica.marker_listener is self:
            self.replica.marker_listener = None
        self.loaded = False
        error = NotCoordinatorError(f"{self.topic_partition} is led by another broker now")
        groups = list(self.groups.values())
        self.groups.clear()
        self._staging.clear()
        self._timers.close()
        self._held_bytes.clear()
        self.held_bytes = 0
        for group in groups:
            self._carry_out(group, group.unload(error))

    # --- groups ----------------------------------------------------------------------------------

    def get_or_create(self, group_id: str) -> Group:
        group = self.groups.get(group_id)
        if group is None:
            group = self.groups[group_id] = Group(group_id, self._settings, self._now())
        return group

    def apply(self, group: Group, effects: Sequence[Effect]) -> None:
        """Carry out what a group wants, and see that it hears of its next deadline."""
        self._carry_out(group, effects)
        if self.groups.get(group.group_id) is not group:
            return
        held_bytes = 0 if group.is_over else group.members.held_bytes
        self.held_bytes += held_bytes - self._held_bytes.pop(group.group_id, 0)
        if held_bytes:
            self._held_bytes[group.group_id] = held_bytes
        if group.is_over:
            del self.groups[group.group_id]
            self._timers.cancel(group.group_id)
        else:
            self._timers.arm(group.group_id, group.next_deadline_ms())

    def _carry_out(self, group: Group, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply(token, result):
                    if isinstance(token, asyncio.Future) and not token.done():
                        token.set_result(result)
                case Append(records, write):
                    self._write(group, records, write)

    async def expire_offsets(self, retention_ms: int) -> None:
        async for group in self._every_group():
            self.apply(group, group.expire_offsets(retention_ms, self._now()))

    async def forget_topics(self, topics: Collection[str]) -> None:
        """These topics are deleted; if this is not loaded yet, once it is."""
        if not self.loaded:
            self._deleted.update(topics)
            return
        gone = frozenset(topics)
        async for group in self._every_group():
            self.apply(group, group.forget_partitions(lambda each: each.topic in gone))

    async def _every_group(self) -> AsyncIterator[Group]:
        """Those that are there now, in slices: of those that end meanwhile none comes."""
        async for group in in_slices(list(self.groups.values()), UPKEEP):
            if self.groups.get(group.group_id) is group:
                yield group

    # --- writing ---------------------------------------------------------------------------------

    def _write(self, group: Group, records: Sequence[Record], write: object) -> None:
        try:
            batch = encode_batch(records, self._now().timestamp_ms)
        except MinikafkaError as error:
            # Not within the event that asked for it.
            asyncio.get_running_loop().call_soon(self._on_written, group, records, write, error)
            return
        base_offset = self.partition.log_state.log_end_offset
        self._partition.append(
            batch, partial(self._on_written, group, records, write, base_offset=base_offset)
        )

    def _on_written(
        self,
        group: Group,
        records: Sequence[Record],
        write: object,
        error: MinikafkaError | None,
        base_offset: int = -1,
    ) -> None:
        if error is not None:
            logger.info(
                "%s: group %s: not written: %s", self.topic_partition, group.group_id, error
            )
            of_offsets = isinstance(records[0], OffsetRecord)
            error = coordinator_error(error, of_offsets=of_offsets)
        self.apply(group, group.on_appended(write, error, self._now(), base_offset))

    # --- transactions ----------------------------------------------------------------------------

    def stage(
        self,
        group_id: str,
        producer_id: int,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        base_offset: int,
        done: Done,
    ) -> None:
        """Offsets of a transaction are in the log, from `base_offset` on; `done` is called when
        they are committed, or the leadership ends."""
        self.get_or_create(group_id).stage(producer_id, offsets, base_offset)
        self._staging.setdefault(producer_id, set()).add(group_id)
        self._partition.when_committed(base_offset + len(offsets), done)

    def check_takes_markers(self) -> None:
        if not self.loaded:
            raise CoordinatorLoadInProgressError(
                f"the groups of {self.topic_partition} are still being read"
            )

    def on_marker(self, producer_id: int, marker: EndMarker, offset: int) -> None:
        assert self.loaded, (self.topic_partition, offset)
        ending = []
        for group_id in self._staging.pop(producer_id, ()):
            group = self.groups.get(group_id)
            if group is not None:
                group.on_marker(producer_id, offset, commits=marker.commits)
                ending.append(group)
        if ending:
            self._partition.when_committed(offset + 1, partial(self._on_ended, ending, offset))

    def _on_ended(
        self, groups: Sequence[Group], marker_offset: int, error: MinikafkaError | None
    ) -> None:
        if error is None:  # else the leadership is over, and with it all that is known here
            for group in groups:
                self.apply(group, group.on_marker_committed(marker_offset))

    # --- time ------------------------------------------------------------------------------------

    def _on_timer(self, group_id: str) -> None:
        group = self.groups[group_id]
        self.apply(group, group.on_time(self._now()))


class _Reader:
    """Takes what is read of a partition; what cannot be read is left out."""

    def __init__(self, topic_partition: TopicPartition, stored: StoredGroups) -> None:
        self._topic_partition = topic_partition
        self._stored = stored

    def _decode(self, offset: int, key: bytes | None, value: bytes | None) -> Record | None:
        try:
            return decode(key, value, offset)
        except CorruptMessageError as error:
            logger.error("%s: offset %d is left out: %s", self._topic_partition, offset, error)
            return None

    def take(self, record_offset: int, key: bytes | None, value: bytes | None) -> None:
        record = self._decode(record_offset, key, value)
        if record is not None:
            self._stored.take(record, record_offset)

    def stage(
        self, record_offset: int, key: bytes | None, value: bytes | None, producer_id: int
    ) -> None:
        record = self._decode(record_offset, key, value)
        if record is not None:
            self._stored.stage(record, producer_id)

    def end(self, marker_offset: int, producer_id: int, *, commits: bool) -> None:
        self._stored.end(producer_id, marker_offset, commits=commits)


_MEANS: Mapping[type[MinikafkaError], type[MinikafkaError]] = {
    UnknownTopicOrPartitionError: CoordinatorNotAvailableError,
    NotEnoughReplicasError: CoordinatorNotAvailableError,
    NotEnoughReplicasAfterAppendError: CoordinatorNotAvailableError,
    BrokerNotAvailableError: CoordinatorNotAvailableError,
    NotLeaderOrFollowerError: NotCoordinatorError,
    KafkaStorageError: NotCoordinatorError,
}


def coordinator_error(error: MinikafkaError, *, of_offsets: bool) -> MinikafkaError:
    """What a client of the group is to be told when a record could not be written."""
    if isinstance(error, MessageTooLargeError) and of_offsets:
        return InvalidCommitOffsetSizeError(str(error))
    kind = _MEANS.get(type(error))
    return error if kind is None else kind(f"the group's records cannot be written: {error}")
