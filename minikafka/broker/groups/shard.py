"""The groups of one partition of `__consumer_offsets`, on the broker that leads it.

State: the groups, by id; the leadership (`leader`) under which they were read; one timer a group.
The pure groups (core/groups/group.py) decide; here their answers are given, their records written,
and the time is told to them.

Life: made when this broker begins to lead; `load` replays the log up to where it ended then, as
far as that is committed (so a commit that was acknowledged by the last leader is there: it waits
until the high watermark has come that far); until then it is not `loaded` and serves nothing. A
bump of the epoch under the same leader changes nothing. `unload` ends it.

Invariant: what a group counts as written is below the high watermark of this leadership. The
outcome of an append is awaited for as long as it takes, also when the client has been told that it
takes too long: the offset then moves when it is committed, as a later coordinator will see it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from minikafka.broker.groups.records import decode, encode_batch
from minikafka.broker.replication.replica import FetchWaiter, Replica
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
from minikafka.core.groups.rebalance import GroupSettings
from minikafka.core.replication.leader import Leader
from minikafka.errors import (
    BrokerNotAvailableError,
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
from minikafka.model import TopicPartition
from minikafka.records.header import is_control, split
from minikafka.records.read import iter_records

logger = logging.getLogger(__name__)

LOAD_CHUNK_BYTES = 262_144
_LOAD_WAIT_S = 60.0

# Appends a batch to this partition; the future yields None or the error once all in-sync replicas
# have it. Raises MinikafkaError if nothing was appended.
AppendBatch = Callable[[TopicPartition, bytes], asyncio.Future[object]]


class GroupShard:
    """See the module."""

    def __init__(
        self,
        replica: Replica,
        settings: GroupSettings,
        append: AppendBatch,
        now: Callable[[], Now],
    ) -> None:
        self.topic_partition = replica.topic_partition
        self.leader: Leader = replica.core.leader()
        self.groups: dict[str, Group] = {}
        self.held_bytes = 0  # for members of all groups
        self._held_bytes: dict[str, int] = {}  # by group, where there is any
        self.loaded = False
        self._unloaded = False
        self._replica = replica
        self._settings = settings
        self._append = append
        self._now = now
        self._timers: dict[str, tuple[float, asyncio.Handle]] = {}  # when (of the loop's time)
        self._loop = asyncio.get_running_loop()

    # --- loading ---------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read what the coordinators before have written. KafkaStorageError if the disk fails."""
        began_ms = self._now().ms
        target = self._replica.core.log.log_end_offset
        offsets: dict[str, dict[TopicPartition, OffsetAndMetadata]] = {}
        snapshots: dict[str, GroupSnapshot] = {}
        position = self._replica.core.log.log_start_offset
        while position < target and self._leads():
            end = min(self._replica.core.log.high_watermark, target)
            if position >= end:
                await self._wait_for_high_watermark()
                continue
            data = self._replica.read(position, LOAD_CHUNK_BYTES, end)
            position = self._replay(data, position, snapshots, offsets) if data else end
            await asyncio.sleep(0)  # others have their turn
        if not self._leads():
            return
        for group_id in snapshots.keys() | offsets.keys():
            self._restore(group_id, snapshots.get(group_id), offsets.get(group_id, {}))
        self.loaded = True
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
        committed: dict[TopicPartition, OffsetAndMetadata],
    ) -> None:
        """A group whose members make no sense keeps its offsets; the others do not hear of it."""
        try:
            group = Group(group_id, self._settings, self._now())
            effects = group.restore(snapshot, committed, self._now())
        except Exception:
            logger.exception(
                "%s: the members of group %s cannot be what is stored of them: they join anew",
                self.topic_partition,
                group_id,
            )
            group = Group(group_id, self._settings, self._now())
            effects = group.restore(None, committed, self._now())
        self.groups[group_id] = group
        self.apply(group, effects)

    def _leads(self) -> bool:
        core = self._replica.core
        return not self._unloaded and core.is_leader and core.leader() is self.leader

    async def _wait_for_high_watermark(self) -> None:
        waiter = FetchWaiter()
        self._replica.add_consumer_waiter(waiter)
        try:
            await waiter.wait(_LOAD_WAIT_S)
        finally:
            self._replica.discard_waiter(waiter)

    def _replay(
        self,
        data: bytes,
        position: int,
        snapshots: dict[str, GroupSnapshot],
        offsets: dict[str, dict[TopicPartition, OffsetAndMetadata]],
    ) -> int:
        """Take over whole batches; returns the offset after them."""
        at = 0
        for header in split(data):
            batch = memoryview(data)[at : at + header.size_bytes]
            at += header.size_bytes
            if not is_control(header):
                try:
                    for record in iter_records(batch, header):
                        if record.offset >= position:
                            self._take(record.offset, record.key, record.value, snapshots, offsets)
                except MinikafkaError as error:
                    logger.error(
                        "%s: the batch at offset %d is left out from where it cannot be read: %s",
                        self.topic_partition,
                        header.base_offset,
                        error,
                    )
            position = header.next_offset
        return position

    def _take(
        self,
        at_offset: int,
        key: bytes | None,
        value: bytes | None,
        snapshots: dict[str, GroupSnapshot],
        offsets: dict[str, dict[TopicPartition, OffsetAndMetadata]],
    ) -> None:
        try:
            record = decode(key, value)
        except CorruptMessageError as error:
            logger.error("%s: offset %d is left out: %s", self.topic_partition, at_offset, error)
            return
        if isinstance(record, OffsetRecord):
            of_group = offsets.setdefault(record.group_id, {})
            if record.value is None:
                of_group.pop(record.topic_partition, None)
                if not of_group:
                    del offsets[record.group_id]
            else:
                of_group[record.topic_partition] = record.value
        elif record is not None:
            if record.value is None:
                snapshots.pop(record.group_id, None)
            else:
                snapshots[record.group_id] = record.value

    def unload(self) -> None:
        """Another broker coordinates these groups now: whoever waits is told so."""
        self._unloaded = True
        self.loaded = False
        error = NotCoordinatorError(f"{self.topic_partition} is led by another broker now")
        groups = list(self.groups.values())
        self.groups.clear()
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
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
            self._cancel_timer(group)
        else:
            self._arm(group)

    def _carry_out(self, group: Group, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply(token, result):
                    if isinstance(token, asyncio.Future) and not token.done():
                        token.set_result(result)
                case Append(records, write):
                    self._write(group, records, write)

    def expire_offsets(self, retention_ms: int) -> None:
        for group in list(self.groups.values()):
            self.apply(group, group.expire_offsets(retention_ms, self._now()))

    def forget_topics(self, topics: Iterable[str]) -> None:
        """These topics are deleted."""
        gone = frozenset(topics)
        for group in list(self.groups.values()):
            self.apply(group, group.forget_partitions(lambda each: each.topic in gone))

    # --- writing ---------------------------------------------------------------------------------

    def _write(self, group: Group, records: Sequence[Record], write: object) -> None:
        try:
            batch = encode_batch(records, self._now().timestamp_ms)
            written = self._append(self.topic_partition, batch)
        except MinikafkaError as error:
            # Not within the event that asked for it.
            self._loop.call_soon(self._on_written, group, records, write, error)
            return
        written.add_done_callback(partial(self._on_append_done, group, records, write))

    def _on_append_done(
        self, group: Group, records: Sequence[Record], write: object, done: asyncio.Future[object]
    ) -> None:
        stopping = BrokerNotAvailableError("the broker is stopping")
        outcome = stopping if done.cancelled() else done.result()
        assert outcome is None or isinstance(outcome, MinikafkaError), outcome
        self._on_written(group, records, write, outcome)

    def _on_written(
        self, group: Group, records: Sequence[Record], write: object, error: MinikafkaError | None
    ) -> None:
        if error is not None:
            logger.info(
                "%s: group %s: not written: %s", self.topic_partition, group.group_id, error
            )
            of_offsets = isinstance(records[0], OffsetRecord)
            error = coordinator_error(error, of_offsets=of_offsets)
        self.apply(group, group.on_appended(write, error, self._now()))

    # --- time ------------------------------------------------------------------------------------

    def _arm(self, group: Group) -> None:
        """A deadline that has moved on is noticed when the old one has come: a heartbeat costs no
        timer. When a timer is due is kept here: on uvloop one that is due at once is a plain handle
        and cannot say."""
        deadline_ms = group.next_deadline_ms()
        if deadline_ms is None:
            self._cancel_timer(group)
            return
        when_s = self._loop.time() + max(deadline_ms - self._now().ms, 0) / 1000
        if (armed := self._timers.get(group.group_id)) is not None:
            armed_s, timer = armed
            if armed_s <= when_s:
                return
            timer.cancel()
        self._timers[group.group_id] = (
            when_s,
            self._loop.call_at(when_s, self._on_timer, group),
        )

    def _on_timer(self, group: Group) -> None:
        self._timers.pop(group.group_id, None)
        self.apply(group, group.on_time(self._now()))

    def _cancel_timer(self, group: Group) -> None:
        armed = self._timers.pop(group.group_id, None)
        if armed is not None:
            armed[1].cancel()


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
