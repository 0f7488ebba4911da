"""All replicas of a broker: which there are, what the controller says of them, and their upkeep.

State: replicas by partition, each with its topic's effective configuration; those of them that are
awake, with something that a check of the lag may find; `live`, this broker's own configuration.
UpdateState messages are taken one at a time, in the order of the controller's numbers: one that was
overtaken changes nothing, be it about topics that have been made anew since, or about who lives.
States are taken by version (rule R3). A broker that has just started has logs but no replicas: a
replica exists once the controller has addressed this incarnation (replication.md section 4); what
arrives before this broker knows its incarnation waits for that.

A replica whose log failed, or could not be opened, stays out for this incarnation. The controller
is told at once, and again in the answer to every message that is about it: another controller, or
the same one after this broker had a new session, does not know yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from minikafka.api.requests import UpdateStateRequest, UpdateStateResponse
from minikafka.broker.counters import BrokerCounters
from minikafka.broker.live_config import BrokerOverrides, LiveConfig
from minikafka.broker.metadata import MetadataCache
from minikafka.broker.ports import LogStore
from minikafka.broker.replication.coordinator_words import CoordinatorWords
from minikafka.broker.replication.isr_proposals import IsrProposals
from minikafka.broker.replication.replica import Replica, ReplicaOwner
from minikafka.broker.replication.replicator import Replicator
from minikafka.config import BrokerConfig, TopicConfig, topic_config
from minikafka.config.overrides import changed_entities
from minikafka.core.replication.effects import AskCoordinator
from minikafka.core.replication.events import IdleProducersDue, Registered
from minikafka.core.replication.isr import LagCheckSchedule
from minikafka.core.replication.throttle import ReplicationThrottle
from minikafka.errors import (
    InvalidConfigError,
    KafkaStorageError,
    MinikafkaError,
    NotLeaderOrFollowerError,
    StaleBrokerEpochError,
    StaleControllerEpochError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import (
    IsrProposal,
    PartitionMetadata,
    TopicPartition,
    describe_state,
)
from minikafka.turns import UPKEEP, in_slices

logger = logging.getLogger(__name__)


_LOGS_AT_ONCE = 64
FOLLOWER_RATE = "follower.replication.throttled.rate"
LEADER_RATE = "leader.replication.throttled.rate"


class StoredConfigs(NamedTuple):
    """Overrides by topic, and by broker."""

    topics: Mapping[str, Mapping[str, str]]
    brokers: BrokerOverrides


class ReplicaManager(ReplicaOwner):
    """`read_configs` reads all overrides from ZooKeeper; `now_ms` is monotonic, `now_timestamp_ms`
    wall-clock time."""

    def __init__(
        self,
        config: BrokerConfig,
        logs: LogStore,
        metadata: MetadataCache,
        replicator: Replicator,
        proposals: IsrProposals,
        read_configs: Callable[[], Awaitable[StoredConfigs]],
        now_ms: Callable[[], int],
        now_timestamp_ms: Callable[[], int],
        on_bug: Callable[[Exception], None],
        counters: BrokerCounters | None = None,
    ) -> None:
        self.config = config
        self.counters = counters or BrokerCounters()
        self.logs = logs
        self.metadata = metadata
        self.broker_epoch = -1
        self.replicas: dict[TopicPartition, Replica] = {}
        self._held: Counter[str] = Counter()  # replicas by topic
        self.led: set[TopicPartition] = set()  # those that this broker leads
        self._awake: dict[Replica, None] = {}  # where a check of the lag may find something
        self.failed: dict[TopicPartition, str] = {}  # topic ids of replicas with a failed disk
        self.failure_reasons: dict[TopicPartition, str] = {}  # of the same
        self.something_failed = asyncio.Event()
        self._replicator = replicator
        self._proposals = proposals
        self._read_configs = read_configs
        self._overrides: Mapping[str, Mapping[str, str]] = {}
        self.live = LiveConfig(config)
        self.leader_throttle = ReplicationThrottle()  # of what followers out of sync read here
        self.live.on_change([FOLLOWER_RATE], self._throttle_followers)
        self.live.on_change([LEADER_RATE], self._throttle_leaders)
        self._now_ms = now_ms
        self._now_timestamp_ms = now_timestamp_ms
        self._on_bug = on_bug
        # Called for every change of a replica's role, leader or epoch, and when it is stopped.
        self.role_listeners: list[Callable[[Replica], None]] = []
        self.words = CoordinatorWords()
        self._one_at_a_time = asyncio.Lock()
        self._registered = asyncio.Event()
        self._session_lost = False
        self._addressed_epoch = -1  # the incarnation that a controller has addressed last
        self._last_message = (-1, -1)  # taken from a controller: its epoch, the message's number

    # --- finding ---------------------------------------------------------------------------------

    def find(self, topic_partition: TopicPartition) -> Replica:
        """The replica of this partition here. Raises UnknownTopicOrPartitionError for one that no
        broker has, NotLeaderOrFollowerError for one that others have, BrokerNotAvailableError while
        that is not known."""
        replica = self.replicas.get(topic_partition)
        if replica is not None:
            return replica
        known = self.metadata.topics.get(topic_partition.topic)
        if known is None:
            raise self.metadata.missing(f"there is no topic {topic_partition.topic!r}")
        if topic_partition.partition not in known:
            raise UnknownTopicOrPartitionError(
                f"topic {topic_partition.topic!r} has partitions 0 to {len(known) - 1}; "
                f"there is no partition {topic_partition.partition}"
            )
        raise NotLeaderOrFollowerError(
            f"broker {self.config.broker_id} has no replica of {topic_partition}"
        )

    def topic_config(self, topic: str) -> TopicConfig:
        """The effective configuration of a topic. An override in ZooKeeper that is wrong (the
        controller writes none; a person may have) counts as not set, the others hold."""
        overrides = self._overrides.get(topic)
        if not overrides:
            return self.live.topic_defaults
        try:
            return topic_config(overrides, self.live.topic_defaults)
        except InvalidConfigError:
            return self._valid_part(topic, overrides)

    def _valid_part(self, topic: str, overrides: Mapping[str, str]) -> TopicConfig:
        config = self.live.topic_defaults
        for name, value in overrides.items():
            try:
                config = topic_config({name: value}, config)
            except InvalidConfigError as error:
                logger.error("topic %s: an override counts as not set: %s", topic, error)
        return config

    def overrides(self, topic: str) -> dict[str, str]:
        """What the topic itself sets."""
        return dict(self._overrides.get(topic, {}))

    # --- from the controller ---------------------------------------------------------------------

    async def update_state(self, request: UpdateStateRequest) -> UpdateStateResponse:
        """Fence, then adopt States, delete replicas, keep metadata; in this order."""
        # A message for the incarnation before this one may still be on its way; it would give this
        # one a role for which its log may be too short.
        await self._registered.wait()
        async with self._one_at_a_time:
            self._fence(request)
            if any(self._is_new_topic(metadata) for metadata in request.partitions):
                stored = await self._read_configs()
                self._fence(request)
                await self._apply_configs(stored)
                self._fence(request)
            order = (request.controller_epoch, request.number)
            if order < self._last_message:
                # It was overtaken by a later one, which said all of it that still holds. Its topics
                # may be gone, and made again under the same names.
                logger.info("an old message of the controller is passed over: %s", order)
                return UpdateStateResponse()
            # Who hears of a new topic here finds its replicas, unless there are very many.
            await self._make_logs(request.partitions[:_LOGS_AT_ONCE])
            self._fence(request)
            self._last_message = order
            self._addressed_epoch = max(self._addressed_epoch, request.target_broker_epoch)
            self.metadata.apply(request)
            errors = await self._adopt_all(request)
            deleted = []
            async for topic_partition, topic_id in in_slices(self._to_delete(request)):
                self._fence(request)
                try:
                    self._delete(topic_partition, topic_id)
                except KafkaStorageError as error:
                    logger.error("%s: cannot be deleted: %s", topic_partition, error)
                    errors.append((topic_partition, error.with_traceback(None)))
                    continue
                except Exception as error:
                    logger.critical("%s: cannot be deleted", topic_partition, exc_info=error)
                    self._on_bug(error)
                    errors.append((topic_partition, KafkaStorageError(repr(error))))
                    continue
                deleted.append((topic_partition, topic_id))
            self._replicator.on_brokers_changed()
            return UpdateStateResponse(deleted, errors)

    async def _adopt_all(
        self, request: UpdateStateRequest
    ) -> list[tuple[TopicPartition, MinikafkaError]]:
        """In order; the logs of replicas that begin here are made before, some at a time (the first
        have been). Returns what could not be taken over."""
        errors: list[tuple[TopicPartition, MinikafkaError]] = []
        for start in range(0, len(request.partitions), _LOGS_AT_ONCE):
            some = request.partitions[start : start + _LOGS_AT_ONCE]
            if start:
                await self._make_logs(some)
            async for metadata in in_slices(some):
                # A session may have been lost while others had their turn.
                self._fence(request)
                try:
                    self._adopt(metadata)
                except KafkaStorageError as error:
                    errors.append((metadata.topic_partition, error.with_traceback(None)))
                except Exception as error:
                    failed = self._on_adopting_failed(metadata, error)
                    errors.append((metadata.topic_partition, failed))
        return errors

    async def _make_logs(self, partitions: Sequence[PartitionMetadata]) -> None:
        wanted = [
            (each.topic_partition, each.topic_id, self.topic_config(each.topic_partition.topic))
            for each in partitions
            if each.topic_partition not in self.replicas
            and self._is_wanted_here(each)
            and self.failed.get(each.topic_partition) != each.topic_id
        ]
        if wanted:
            await self.logs.make(wanted)

    def _is_wanted_here(self, metadata: PartitionMetadata) -> bool:
        here = self.config.broker_id
        return here in metadata.assignment.replicas or here in metadata.state.isr

    def _is_new_topic(self, metadata: PartitionMetadata) -> bool:
        """Not known here, or only under the id of a topic that had the same name: its settings have
        to be read before it is served."""
        return self.metadata.topic_id(metadata.topic_partition.topic) != metadata.topic_id

    @property
    def addressed(self) -> bool:
        """Has a controller spoken to the present incarnation of this broker?"""
        return not self._session_lost and self._addressed_epoch >= self.broker_epoch

    def _fence(self, request: UpdateStateRequest) -> None:
        if request.controller_epoch < self.metadata.controller_epoch:
            raise StaleControllerEpochError(
                f"controller epoch {request.controller_epoch} is over: "
                f"{self.metadata.controller_epoch} has been seen"
            )
        if request.target_broker_epoch < self.broker_epoch:
            raise StaleBrokerEpochError(
                f"broker {self.config.broker_id} is in incarnation {self.broker_epoch} now; "
                f"the message is for {request.target_broker_epoch}"
            )

    def _adopt(self, metadata: PartitionMetadata) -> None:
        """KafkaStorageError if the replica here has failed, now or before."""
        topic_partition, state = metadata.topic_partition, metadata.state
        replica = self.replicas.get(topic_partition)
        if replica is not None and replica.topic_id != metadata.topic_id:
            self._drop(replica)
            replica = None
        if replica is None:
            if not self._is_wanted_here(metadata):
                return
            replica = self._open(metadata)
        before = replica.core.state
        replica.adopt(state, metadata.assignment)
        if replica.core.state is not before and before is not None:
            logger.info("%s: %s", topic_partition, self._describe(replica))
        if replica.core.failed is not None:
            raise KafkaStorageError(f"{topic_partition}: {replica.core.failed}")

    def _on_adopting_failed(
        self, metadata: PartitionMetadata, error: Exception
    ) -> KafkaStorageError:
        """By a bug. That replica is offline, no other is."""
        topic_partition = metadata.topic_partition
        replica = self.replicas.get(topic_partition)
        if replica is not None:
            return replica.fail(error, "its State could not be taken over")
        logger.critical("%s: cannot be opened", topic_partition, exc_info=error)
        self._on_bug(error)
        failed = KafkaStorageError(f"{topic_partition}: cannot be opened: {error!r}")
        self._note_failed(topic_partition, metadata.topic_id, str(failed))
        return failed

    def _describe(self, replica: Replica) -> str:
        state = replica.core.state
        assert state is not None
        names = {broker.broker_id: broker.name for broker in self.metadata.brokers.values()}
        return describe_state(state.leader, state.leader_epoch, state.isr, names)

    def _open(self, metadata: PartitionMetadata) -> Replica:
        topic_partition, topic_id = metadata.topic_partition, metadata.topic_id
        if self.failed.get(topic_partition) == topic_id:
            # The controller counts on it that it stays away until the next incarnation.
            raise KafkaStorageError(self.failure_reasons[topic_partition])
        config = self.topic_config(topic_partition.topic)
        try:
            log = self.logs.open(topic_partition, topic_id, config)
            replica = Replica(
                topic_partition,
                topic_id,
                self.config.broker_id,
                self.broker_epoch,
                log,
                config,
                self.config.replica_lag_time_max_ms,
                self.metadata.eligible,
                self,
                self._now_ms,
                self.counters,
            )
        except KafkaStorageError as error:
            logger.error("%s: cannot open its log: %s", topic_partition, error)
            self._note_failed(topic_partition, topic_id, str(error))
            raise
        self.replicas[metadata.topic_partition] = replica
        self._held[topic_partition.topic] += 1
        self._awake[replica] = None
        return replica

    def _to_delete(self, request: UpdateStateRequest) -> Iterator[tuple[TopicPartition, str]]:
        """What of the message is to be deleted. A replica that was dropped may be wanted again by
        now: then it follows under a newer State, and may be in sync."""
        yield from request.deletions
        for topic_partition, topic_id, partition_version in request.drops:
            replica = self.replicas.get(topic_partition)
            held = None if replica is None else replica.core.state
            if held is not None and held.partition_version > partition_version:
                logger.info("%s: is not dropped, its State is newer than that", topic_partition)
                continue
            yield topic_partition, topic_id

    def _delete(self, topic_partition: TopicPartition, topic_id: str) -> None:
        replica = self.replicas.get(topic_partition)
        if replica is not None and replica.topic_id == topic_id:
            self._drop(replica)
        if self.failed.get(topic_partition) == topic_id:
            del self.failed[topic_partition], self.failure_reasons[topic_partition]
        self.logs.delete(topic_partition, topic_id)

    def _drop(self, replica: Replica) -> None:
        del self.replicas[replica.topic_partition]
        self._awake.pop(replica, None)
        self._replicator.forget(replica.topic_partition)
        topic = replica.topic_partition.topic
        self._held[topic] -= 1
        if not self._held[topic]:
            del self._held[topic]
            self.counters.retire(topic)
        replica.stop(UnknownTopicOrPartitionError(f"{replica.topic_partition} has been deleted"))
        self._tell_role(replica)

    def on_session_lost(self) -> None:
        """From now on others may lead what this broker leads."""
        self._session_lost = True

    def on_registered(self, broker_epoch: int) -> None:
        """This broker has a (new) incarnation. A log that could not be opened may be tried anew."""
        if broker_epoch != self.broker_epoch:
            self.failed = {
                topic_partition: topic_id
                for topic_partition, topic_id in self.failed.items()
                if topic_partition in self.replicas
            }
            self.failure_reasons = {tp: self.failure_reasons[tp] for tp in self.failed}
        self.broker_epoch = broker_epoch
        self._session_lost = False
        self.logs.record_broker_epoch(broker_epoch)
        for replica in self.replicas.values():
            replica.step(Registered(broker_epoch))
        self._registered.set()

    async def reload_configs(self) -> None:
        """Settings of topics or brokers changed in ZooKeeper: apply them without a restart."""
        async with self._one_at_a_time:
            await self._apply_configs(await self._read_configs())

    async def _apply_configs(self, stored: StoredConfigs) -> None:
        """Within `_one_at_a_time`: meanwhile no replica comes or goes."""
        changed = changed_entities(self._overrides, stored.topics)
        defaults = self.live.topic_defaults
        self._overrides = stored.topics
        self.live.take(stored.brokers)
        if self.live.topic_defaults != defaults:
            changed = set(self._held)
        changed &= self._held.keys()
        if not changed:
            return
        configs = {topic: self.topic_config(topic) for topic in changed}
        async for replica in in_slices(list(self.replicas.values()), UPKEEP):
            config = configs.get(replica.topic_partition.topic, replica.config)
            if config is not replica.config and config != replica.config:
                logger.info("%s: new configuration", replica.topic_partition)
                replica.configure(config)

    def _throttle_followers(self, config: BrokerConfig) -> None:
        self._replicator.set_throttled_rate(config.follower_replication_throttled_rate)

    def _throttle_leaders(self, config: BrokerConfig) -> None:
        self.leader_throttle.set_rate(config.leader_replication_throttled_rate, self._now_ms())

    # --- from the replicas -----------------------------------------------------------------------

    def on_role_changed(self, replica: Replica) -> None:
        self._replicator.on_role_changed(replica)
        self._tell_role(replica)

    def _tell_role(self, replica: Replica) -> None:
        topic_partition = replica.topic_partition
        if replica.core.is_leader and not replica.stopped:
            self.led.add(topic_partition)
        elif self.replicas.get(topic_partition, replica) is replica:
            self.led.discard(topic_partition)
        for listener in self.role_listeners:
            listener(replica)

    def on_isr_proposal(self, replica: Replica, proposal: IsrProposal) -> None:
        self._proposals.submit(replica, proposal)

    def on_transaction_question(self, replica: Replica, question: AskCoordinator) -> None:
        self.words.ask(replica, question)

    def on_storage_failed(self, replica: Replica) -> None:
        self._note_failed(replica.topic_partition, replica.topic_id, replica.core.failed or "")

    def on_woken(self, replica: Replica) -> None:
        self._awake[replica] = None

    def on_bug(self, error: Exception) -> None:
        self._on_bug(error)

    def _note_failed(self, topic_partition: TopicPartition, topic_id: str, reason: str) -> None:
        self.failed[topic_partition] = topic_id
        self.failure_reasons[topic_partition] = reason
        self.something_failed.set()

    # --- upkeep ----------------------------------------------------------------------------------

    async def run_lag_checks(self) -> None:
        """For as long as the broker lives."""
        schedule = LagCheckSchedule(self.config.replica_lag_time_max_ms, self._now_ms())
        while True:
            await asyncio.sleep(max(1, schedule.next_ms - self._now_ms()) / 1000)
            if schedule.due(self._now_ms()):
                await self.check_lags()

    async def check_lags(self) -> None:
        """One round, over all that have not been at rest since the last."""
        async for replica in in_slices(list(self._awake), UPKEEP):
            if replica.stopped or self._lags_nowhere(replica):
                self._awake.pop(replica, None)

    @staticmethod
    def _lags_nowhere(replica: Replica) -> bool:
        try:
            return replica.check_lag()
        except Exception as error:
            replica.fail(error, "the lag of its followers could not be judged")
            return False

    async def run_checkpoints(self) -> None:
        """Write offset checkpoints every now and then, off the loop: recovery points at an interval
        of their own."""
        interval_ms = self.config.replica_high_watermark_checkpoint_interval_ms
        flushed_interval_ms = self.config.log_flush_offset_checkpoint_interval_ms
        flushed_due_ms = self._now_ms() + flushed_interval_ms
        while True:
            wait_ms = min(interval_ms, max(1, flushed_due_ms - self._now_ms()))
            await asyncio.sleep(wait_ms / 1000)
            recovery_points = self._now_ms() >= flushed_due_ms
            if recovery_points:
                flushed_due_ms = self._now_ms() + flushed_interval_ms
            try:
                await self.logs.checkpoint(recovery_points)
            except KafkaStorageError as error:
                logger.error("checkpoints could not be written: %s", error)
            self.find_failed_logs()

    def find_failed_logs(self) -> None:
        """Work in the background may have failed under a replica that nobody writes to."""
        for topic_partition in self.logs.fenced_logs():
            replica = self.replicas.get(topic_partition)
            failure = None if replica is None else replica.log.failure
            if replica is not None and failure is not None and replica.core.failed is None:
                replica.fail_storage(KafkaStorageError(failure))

    async def run_retention(self) -> None:
        """Delete old segments and forget idle producers every now and then."""
        interval_s = self.config.log_retention_check_interval_ms / 1000
        while True:
            await asyncio.sleep(interval_s)
            await self.retain(list(self.replicas.values()))

    async def run_compaction(self) -> None:
        """Compact what is dirty enough, one log after another."""
        while True:
            try:
                busy = await self.logs.compact(self._now_timestamp_ms())
            except KafkaStorageError as error:
                logger.error("compaction: %s", error)
                busy = False
            if not busy:
                await asyncio.sleep(self.live.current.log_cleaner_backoff_ms / 1000)

    async def retain(self, replicas: Iterable[Replica]) -> None:
        """One round of retention over these replicas."""
        now_timestamp_ms = self._now_timestamp_ms()
        idle_ms = self.live.current.producer_id_expiration_ms
        async for replica in in_slices(replicas, UPKEEP):
            if replica.core.failed is not None or replica.stopped:
                continue
            try:
                with replica.fenced_by_its_disk():
                    log_start_offset = replica.log.retain(now_timestamp_ms)
                replica.raise_log_start(log_start_offset)
                if len(replica.core.log_state.producers):
                    replica.step(IdleProducersDue(now_timestamp_ms, idle_ms))
                replica.log.expire_producers(now_timestamp_ms, idle_ms)
            except MinikafkaError as error:
                logger.warning("%s: retention: %s", replica.topic_partition, error)
            except Exception as error:
                replica.fail(error, "retention failed")

    def close(self, error: MinikafkaError) -> None:
        """The broker ends: whoever waits is told so."""
        for replica in self.replicas.values():
            replica.stop(error)
        self.words.close()
