"""Which groups this broker coordinates: a shard for each partition of `__consumer_offsets` that it
leads.

State: the shards, by partition, and the tasks that read them. ReplicaManager tells of every change
of role. Invariants: a shard is there exactly while this broker leads its partition; it is read anew
exactly when this broker begins to lead, not when the epoch moves under it. Nobody is given the
shard of a group while another broker may lead instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from minikafka.broker.coordinators.partition import AppendBatch
from minikafka.broker.coordinators.topic import MAX_KEY_BYTES, CoordinatorTopic
from minikafka.broker.groups.shard import GroupShard
from minikafka.broker.metadata import MetadataCache
from minikafka.broker.replication.produce import ALL_ACKS
from minikafka.broker.replication.replica import Replica
from minikafka.config import BrokerConfig
from minikafka.core.groups.effects import Now
from minikafka.core.groups.group import Group
from minikafka.core.groups.settings import GroupSettings
from minikafka.core.replication.partition import Partition
from minikafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    InvalidGroupIdError,
    MinikafkaError,
    NotCoordinatorError,
)
from minikafka.model import OFFSETS_TOPIC

logger = logging.getLogger(__name__)

_MS_PER_MINUTE = 60_000


class GroupShards:
    """`append` writes to a partition that this broker leads; `serving` raises while another may
    lead instead of that leader (out of touch with ZooKeeper), and for None while others may lead
    anything; `now` gives both times."""

    def __init__(
        self,
        config: BrokerConfig,
        metadata: MetadataCache,
        topic: CoordinatorTopic,
        append: AppendBatch,
        serving: Callable[[Partition | None, int], None],
        now: Callable[[], Now],
        on_task_done: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._settings = GroupSettings(
            config.group_min_session_timeout_ms,
            config.group_max_session_timeout_ms,
            config.group_initial_rebalance_delay_ms,
            config.group_max_size,
        )
        self._config = config
        self._metadata = metadata
        self._topic = topic
        self._append = append
        self._serving = serving
        self._now = now
        self._on_task_done = on_task_done
        self._shards: dict[int, GroupShard] = {}
        self._loads: set[asyncio.Task[None]] = set()

    # --- coming and going ------------------------------------------------------------------------

    def on_role_changed(self, replica: Replica) -> None:
        """A replica of this broker has another role, leader or epoch; or it is stopped."""
        if replica.topic_partition.topic != OFFSETS_TOPIC:
            return
        number = replica.topic_partition.partition
        shard = self._shards.get(number)
        leads = replica.core.is_leader and not replica.stopped
        if shard is not None:
            if leads and shard.is_of(replica):
                return  # another epoch of the same leadership
            del self._shards[number]
            shard.unload()
        if leads:
            shard = GroupShard(replica, self._settings, self._append, self._now)
            self._shards[number] = shard
            task = asyncio.get_running_loop().create_task(self._load(shard))
            self._loads.add(task)
            task.add_done_callback(self._on_load_done)

    async def _load(self, shard: GroupShard) -> None:
        try:
            await shard.load()
        except MinikafkaError as error:
            # The disk: the replica is fenced by now, and leads no more.
            logger.error("%s: its groups cannot be read: %s", shard.topic_partition, error)

    def _on_load_done(self, task: asyncio.Task[None]) -> None:
        self._loads.discard(task)
        self._on_task_done(task)

    def close(self) -> None:
        """The broker ends: whoever waits is told."""
        for shard in self._shards.values():
            shard.unload()
        self._shards.clear()
        for task in self._loads:
            task.cancel()

    # --- for as long as the broker lives ---------------------------------------------------------

    async def run_expiry(self) -> None:
        """Forget offsets that nobody needs any more."""
        retention_ms = self._config.offsets_retention_minutes * _MS_PER_MINUTE
        while True:
            await asyncio.sleep(self._config.offsets_retention_check_interval_ms / 1000)
            for shard in self._loaded():
                await shard.expire_offsets(retention_ms)

    async def run_topic_deletions(self) -> None:
        """Offsets of deleted topics go."""
        async with aclosing(self._metadata.watch()) as updates:
            async for update in updates:
                deleted = [name for name, _ in update.deleted_topics]
                if deleted:
                    for shard in list(self._shards.values()):
                        await shard.forget_topics(deleted)

    # --- what is there ---------------------------------------------------------------------------

    def loaded_groups(self) -> list[Group]:
        """The groups that this broker coordinates, for reading."""
        return [group for shard in self._loaded() for group in shard.groups.values()]

    def _loaded(self) -> list[GroupShard]:
        return [shard for shard in self._shards.values() if shard.loaded]

    @property
    def loading(self) -> bool:
        """Are there groups that are not known yet?"""
        return any(not shard.loaded for shard in self._shards.values())

    @property
    def held_bytes(self) -> int:
        """What is kept for the members of all groups."""
        return sum(shard.held_bytes for shard in self._shards.values())

    # --- whose group is it -----------------------------------------------------------------------

    def of_group(self, group_id: str, *, empty_id: bool = False) -> GroupShard:
        """The shard of a group. Raises InvalidGroupIdError, NotCoordinatorError,
        CoordinatorNotAvailableError, or CoordinatorLoadInProgressError. `empty_id`: the empty one
        will do (as of old consumers that only keep offsets)."""
        if not group_id and not empty_id:
            raise InvalidGroupIdError("the group id is empty")
        if len(group_id.encode()) > MAX_KEY_BYTES:
            raise InvalidGroupIdError(
                f"a group id of {len(group_id)} characters: it is stored in {MAX_KEY_BYTES} bytes"
            )
        number = self._topic.partition_of(group_id)
        shard = None if number is None else self._shards.get(number)
        if shard is None:
            raise NotCoordinatorError(
                f"broker {self._config.broker_id} does not coordinate group {group_id!r}"
            )
        self._check_serving(shard.partition)
        if not shard.loaded:
            raise CoordinatorLoadInProgressError(
                f"broker {self._config.broker_id} still reads the groups of {shard.topic_partition}"
            )
        return shard

    def check_in_touch(self) -> None:
        """Raises CoordinatorNotAvailableError while others may lead what this broker leads."""
        self._check_serving(None)

    def _check_serving(self, partition: Partition | None) -> None:
        try:
            self._serving(partition, ALL_ACKS)
        except MinikafkaError as error:
            raise CoordinatorNotAvailableError(str(error)) from None
