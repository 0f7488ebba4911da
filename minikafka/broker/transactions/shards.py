"""Which transactional ids this broker coordinates: a shard for each partition of
`__transaction_state` that it leads.

State: the shards, by partition, and the tasks that read them. ReplicaManager tells of every change
of role. Invariants: a shard is there exactly while this broker leads its partition, or until it was
fenced; it is read anew exactly when this broker begins to lead, not when the epoch moves under it.
Nobody is given the shard of an id while another broker may lead instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from minikafka.broker.coordinators.partition import AppendBatch
from minikafka.broker.coordinators.topic import MAX_KEY_BYTES, CoordinatorTopic
from minikafka.broker.replication.produce import ALL_ACKS
from minikafka.broker.replication.replica import Replica
from minikafka.broker.transactions.shard import MarkerSender, TransactionShard
from minikafka.config import BrokerConfig
from minikafka.core.replication.partition import Partition
from minikafka.core.transactions.marker_outbox import Shard
from minikafka.core.transactions.settings import TransactionSettings
from minikafka.core.transactions.values import Now, TransactionState
from minikafka.errors import (
    CoordinatorNotAvailableError,
    InvalidRequestError,
    MinikafkaError,
    NotCoordinatorError,
)

logger = logging.getLogger(__name__)

_BETWEEN_EXPIRIES_S = 0.1


class TransactionShards:
    """`append` writes to a partition that this broker leads; `serving` raises while another may
    lead instead of that leader (out of touch with ZooKeeper)."""

    def __init__(
        self,
        config: BrokerConfig,
        topic: CoordinatorTopic,
        append: AppendBatch,
        markers: MarkerSender,
        new_producer_id: Callable[[], Awaitable[int]],
        serving: Callable[[Partition | None, int], None],
        now: Callable[[], Now],
        on_task_done: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._settings = TransactionSettings(
            config.transaction_max_timeout_ms, config.transactional_id_expiration_ms
        )
        self._config = config
        self._topic = topic
        self._append = append
        self._markers = markers
        self._new_producer_id = new_producer_id
        self._serving = serving
        self._now = now
        self._on_task_done = on_task_done
        self._shards: dict[int, TransactionShard] = {}
        self._made = 0
        self._loads: set[asyncio.Task[None]] = set()

    # --- coming and going ------------------------------------------------------------------------

    def on_role_changed(self, replica: Replica) -> None:
        """A replica of this broker has another role, leader or epoch; or it is stopped."""
        if replica.topic_partition.topic != self._topic.name:
            return
        number = replica.topic_partition.partition
        shard = self._shards.get(number)
        leads = replica.core.is_leader and not replica.stopped
        if shard is not None:
            if leads and shard.is_of(replica):
                if shard.serving:
                    shard.on_epoch()
                return
            del self._shards[number]
            shard.unload()
        if leads:
            self._begin(replica)

    def _begin(self, replica: Replica) -> None:
        self._made += 1
        shard = TransactionShard(
            replica,
            self._made,
            self._settings,
            self._append,
            self._markers,
            self._new_producer_id,
            self._now,
        )
        self._shards[replica.topic_partition.partition] = shard
        task = asyncio.get_running_loop().create_task(self._load(shard))
        self._loads.add(task)
        task.add_done_callback(self._on_load_done)

    async def _load(self, shard: TransactionShard) -> None:
        try:
            await shard.load()
        except MinikafkaError as error:
            # The disk: the replica is fenced by now, and leads no more.
            logger.error("%s: it cannot be read: %s", shard.topic_partition, error)

    def _on_load_done(self, task: asyncio.Task[None]) -> None:
        self._loads.discard(task)
        self._on_task_done(task)

    def fence(self, key: Shard) -> None:
        """A partition knows a later coordinator than this one: it ends, and this broker will hear
        from the controller who leads."""
        shard = self.of_key(key)
        if shard is not None:
            logger.warning("%s: a later coordinator has been heard of", shard.topic_partition)
            del self._shards[key.partition]
            shard.unload()

    def close(self) -> None:
        """The broker ends: whoever waits is told."""
        for shard in self._shards.values():
            shard.unload()
        self._shards.clear()
        for task in self._loads:
            task.cancel()

    async def run_expiry(self) -> None:
        """Forget ids that nobody uses any more, for as long as the broker lives."""
        interval_ms = self._config.transaction_remove_expired_transaction_cleanup_interval_ms
        while True:
            await asyncio.sleep(interval_ms / 1000)
            for shard in self.serving():
                await self._expire(shard)

    @staticmethod
    async def _expire(shard: TransactionShard) -> None:
        """Some at a time: others have their turn in between."""
        more = True
        while more:
            more = shard.serving and shard.expire()
            await asyncio.sleep(_BETWEEN_EXPIRIES_S if more else 0)

    # --- what is there ---------------------------------------------------------------------------

    def all(self) -> list[TransactionShard]:
        return list(self._shards.values())

    def serving(self) -> list[TransactionShard]:
        return [shard for shard in self._shards.values() if shard.serving]

    def count_states(self) -> Counter[TransactionState]:
        """How many ids of this broker are in which state."""
        counts: Counter[TransactionState] = Counter()
        for shard in self.serving():
            counts.update(shard.coordinator.count_states())
        return counts

    @property
    def loading(self) -> bool:
        """Are there ids that are not known yet?"""
        return any(not shard.serving for shard in self._shards.values())

    def of_key(self, key: Shard) -> TransactionShard | None:
        """This shard, if it is still there."""
        shard = self._shards.get(key.partition)
        return shard if shard is not None and shard.key == key else None

    def of_id(self, transactional_id: str) -> TransactionShard:
        """The shard of an id; it may still be loading. Raises InvalidRequestError,
        NotCoordinatorError or CoordinatorNotAvailableError."""
        if len(transactional_id.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
            raise InvalidRequestError(
                f"a transactional id of {len(transactional_id)} characters: it is stored in "
                f"{MAX_KEY_BYTES} bytes"
            )
        number = self._topic.partition_of(transactional_id)
        shard = None if number is None else self._shards.get(number)
        if shard is None:
            raise NotCoordinatorError(
                f"broker {self._config.broker_id} does not coordinate transactional id "
                f"{transactional_id!r}"
            )
        try:
            self._serving(shard.partition, ALL_ACKS)
        except MinikafkaError as error:
            raise CoordinatorNotAvailableError(str(error)) from None
        return shard

    def check_in_touch(self) -> None:
        """Raises CoordinatorNotAvailableError while others may lead what this broker leads."""
        try:
            self._serving(None, ALL_ACKS)
        except MinikafkaError as error:
            raise CoordinatorNotAvailableError(str(error)) from None
