"""What a broker does for those who call it: the BrokerService of api/service.py, over its parts.

Thin: each call goes to the part that knows. What clients may see of the cluster comes from the
metadata cache; what changes the cluster goes to the controller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import islice

from minikafka.api.access import (
    AlterScramRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    ScramDescription,
)
from minikafka.api.features import Features
from minikafka.api.metrics import BrokerMetrics
from minikafka.api.requests import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
    AllocateProducerIdsRequest,
    AlterBrokerConfigRequest,
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterTopicConfigRequest,
    ClusterMetadata,
    ClusterUpdate,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    ControllerRequest,
    ControllerResponse,
    CreateTopic,
    CreateTopicsRequest,
    DeleteRecordsRequest,
    DeleteRecordsResult,
    EpochEnd,
    EpochEndQuery,
    FetchRequest,
    FetchResult,
    ListOffsetsPartition,
    ListOffsetsResult,
    PartitionStatus,
    ProduceRequest,
    ProduceResult,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    ReplicaStatus,
    TopicConfigEntry,
    TopicMetadata,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.api.transactions import (
    CheckPartitionsRequest,
    CheckPartitionsResult,
    WriteMarkersRequest,
    WriteMarkersResult,
)
from minikafka.broker.access.access import NO_AUTHORIZER, Access
from minikafka.broker.control.client import ControllerClient, LocalController
from minikafka.broker.control.parts import check_size, failed, joined, parts_of
from minikafka.broker.coordinators.topic import CoordinatorTopic, TopicPlan
from minikafka.broker.groups.coordinator import GroupCoordinator
from minikafka.broker.groups.shards import GroupShards
from minikafka.broker.metadata import MetadataCache
from minikafka.broker.notices import notices
from minikafka.broker.ports import ClusterStore, Peers
from minikafka.broker.replication.delete_records import DeleteRecordsHandler
from minikafka.broker.replication.fetch import FetchHandler
from minikafka.broker.replication.produce import ALL_ACKS, ProduceHandler
from minikafka.broker.replication.produced import RecordChecker
from minikafka.broker.replication.replica import Replica
from minikafka.broker.replication.replica_manager import ReplicaManager
from minikafka.broker.request_memory import RequestMemory
from minikafka.broker.transactions.coordinator import TransactionCoordinator
from minikafka.broker.transactions.markers import MarkerChannel, MarkerWriter
from minikafka.broker.transactions.shards import TransactionShards
from minikafka.config import BrokerConfig, topic_config, validate_topic_overrides
from minikafka.config.overrides import (
    DEFAULT_BROKER,
    ConfigDescription,
    ConfigSource,
    broker_entity_name,
    changed_layers,
    describe_all_brokers,
    describe_broker,
    describe_topic,
)
from minikafka.core.control.assignment import validate_topic_name
from minikafka.core.groups.effects import Now
from minikafka.core.replication.isr import NEVER_MS
from minikafka.core.replication.partition import Partition
from minikafka.core.transactions.values import Now as TransactionTimes
from minikafka.errors import (
    BrokerNotAvailableError,
    FencedLeaderEpochError,
    InvalidRequestError,
    InvalidTopicError,
    MinikafkaError,
    SecurityDisabledError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import (
    INTERNAL_TOPICS,
    NO_EPOCH,
    OFFSETS_TOPIC,
    TRANSACTIONS_TOPIC,
    TopicPartition,
)
from minikafka.security.acl import SUPPORTED, EntryFilter, ResourceType, bits_of
from minikafka.security.authorizer import Rule
from minikafka.turns import in_slices

logger = logging.getLogger(__name__)

AUTO_CREATE_TIMEOUT_MS = 10_000
METADATA_WAIT_MS = 5_000
MAX_NOTICES = 20  # of one request
MAX_AUTO_CREATED = 100  # by one request for metadata: a client asks again for what is missing
FETCH_MARGIN_MS = 1_000
LOOKUPS_AT_ONCE = 2  # by timestamp, in threads
_EVERYTHING = {each: bits_of(operations) for each, operations in SUPPORTED.items()}


class Service:
    """Implements BrokerService."""

    def __init__(
        self,
        config: BrokerConfig,
        cluster_id: str,
        metadata: MetadataCache,
        replicas: ReplicaManager,
        controller: LocalController,
        controller_client: ControllerClient,
        store: ClusterStore,
        peers: Peers,
        now_ms: Callable[[], int],
        now_timestamp_ms: Callable[[], int],
        on_task_done: Callable[[asyncio.Task[None]], None],
        read_metrics: Callable[[], Awaitable[BrokerMetrics]],
    ) -> None:
        self._config = config
        self._cluster_id = cluster_id
        self._metadata = metadata
        self._replicas = replicas
        self._controller = controller
        self._controller_client = controller_client
        self._store = store
        self._now_ms = now_ms
        self._read_metrics = read_metrics
        self._produce = ProduceHandler(
            replicas.find, self._check_leads, RecordChecker(now_timestamp_ms), replicas.counters
        )
        self.features: Features | None = None  # of the cluster, once it has agreed
        self.access: Access | None = None  # to be given before the broker starts
        self.memory = RequestMemory(config.queued_max_request_bytes)
        self._fetch = FetchHandler(
            replicas.find,
            now_ms,
            self._check_leads,
            replicas.counters,
            replicas.leader_throttle,
            self.memory,
        )
        self._delete_records = DeleteRecordsHandler(replicas.find, now_ms)
        self._offsets_topic = CoordinatorTopic(_offsets_topic(config), metadata, self.administer)

        def both_times() -> Now:
            return Now(now_ms(), now_timestamp_ms())

        self.group_shards = GroupShards(
            config,
            metadata,
            self._offsets_topic,
            self._produce.append,
            self._check_leads,
            both_times,
            on_task_done,
        )
        self.groups = GroupCoordinator(
            config, metadata, self._offsets_topic, self.group_shards, both_times
        )
        replicas.role_listeners.append(self.group_shards.on_role_changed)
        self._marker_writer = MarkerWriter(
            replicas.find,
            self._check_leads,
            self._incarnation,
            lambda broker_id: broker_id in metadata.brokers,
            now_timestamp_ms,
        )
        self.markers = MarkerChannel(
            metadata, peers, self._incarnation, self._marker_writer, now_ms, on_task_done
        )
        self._transactions_topic = CoordinatorTopic(
            _transactions_topic(config), metadata, self.administer
        )
        self.transaction_shards = TransactionShards(
            config,
            self._transactions_topic,
            self._produce.append_any,
            self.markers,
            self._new_producer_id,
            self._check_leads,
            lambda: TransactionTimes(now_ms(), now_timestamp_ms()),
            on_task_done,
        )
        self.transactions = TransactionCoordinator(
            config.broker_id,
            metadata,
            peers,
            self._transactions_topic,
            self._offsets_topic,
            self.transaction_shards,
            replicas.find,
            now_ms,
            now_timestamp_ms,
            lambda: self.features is not None,
        )
        self.markers.source = self.transactions
        replicas.words.coordinators = self.transactions
        replicas.role_listeners.append(self.transaction_shards.on_role_changed)
        self._lookups = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._producer_ids = (0, 0)
        self._producer_ids_lock = asyncio.Lock()

    @property
    def broker_id(self) -> int:
        return self._config.broker_id

    def _incarnation(self) -> tuple[int, int]:
        return self._config.broker_id, self._replicas.broker_epoch

    def close(self) -> None:
        """The broker ends: whoever waits for a coordinator is told."""
        self.group_shards.close()
        self.transaction_shards.close()
        self.markers.shut_down()

    # --- records ---------------------------------------------------------------------------------

    def produce(self, request: ProduceRequest) -> Awaitable[Sequence[ProduceResult]]:
        return self._produce.produce(request)

    def _check_leads(self, partition: Partition | None, acks: int) -> None:
        """Where another may lead by now, this broker must not take what it may have to lose, nor
        keep consumers waiting for what arrives elsewhere (replication.md section 3). None: whatever
        it leads.

        All is safe without this, with acks=all: what cannot be committed is not acknowledged. But
        out of touch with ZooKeeper for longer than a session lasts, the followers alone can tell
        that nobody has taken over; and from the end of a session until the controller has addressed
        the next incarnation, nobody can.
        """
        limit_ms = self._config.zookeeper_session_timeout_ms
        if self._store.out_of_touch_ms > limit_ms:
            doubt: str | None = "only records with acks=all are taken"
            if partition is None:
                doubt = "it may not know who leads"
            elif acks == ALL_ACKS:
                replica = self._replicas.replicas.get(partition.topic_partition)
                if replica is not None:
                    replica.settle_watches()
                doubt = partition.doubt(self._now_ms(), self._silence_ms)
            if doubt is not None:
                raise BrokerNotAvailableError(
                    f"broker {self._config.broker_id} has not reached ZooKeeper for more than "
                    f"{limit_ms} ms; another broker may lead by now: {doubt}"
                )
        if not self._replicas.addressed:
            raise BrokerNotAvailableError(
                f"broker {self._config.broker_id} has not heard from the controller in its present "
                "ZooKeeper session; another broker may lead"
            )

    @property
    def _silence_ms(self) -> int:
        """What a follower that lives does not exceed between two fetches: each is answered after
        replica.fetch.wait.max.ms at the latest."""
        return 2 * self._config.replica_fetch_wait_max_ms + FETCH_MARGIN_MS

    async def fetch(self, request: FetchRequest) -> Sequence[FetchResult]:
        return await self._fetch.fetch(request)

    async def replica_fetch(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse:
        return await self._fetch.replica_fetch(request)

    async def list_offsets(
        self, partitions: Sequence[ListOffsetsPartition]
    ) -> Sequence[ListOffsetsResult]:
        results = []
        async for item in in_slices(partitions):
            result = ListOffsetsResult(item.topic_partition)
            try:
                await self._list_offset(item, result)
            except MinikafkaError as error:
                result.error = error.with_traceback(None)  # which would hold whole frames
            results.append(result)
        return results

    async def delete_records(self, request: DeleteRecordsRequest) -> Sequence[DeleteRecordsResult]:
        return await self._delete_records.delete_records(request)

    async def _list_offset(self, item: ListOffsetsPartition, result: ListOffsetsResult) -> None:
        replica = self._replicas.find(item.topic_partition)
        core = replica.core
        _check_epoch(core, item.current_leader_epoch)
        if item.timestamp_ms == EARLIEST_TIMESTAMP:
            result.offset = core.log_state.log_start_offset
            result.leader_epoch = _epoch_at(core, result.offset)
            return
        latest = core.latest_offset(read_committed=item.read_committed)
        if item.timestamp_ms == LATEST_TIMESTAMP:
            result.offset, result.leader_epoch = latest, core.leader_epoch
            return
        if item.timestamp_ms < 0 and item.timestamp_ms != MAX_TIMESTAMP:
            raise InvalidRequestError(
                f"timestamp {item.timestamp_ms} has no meaning; give one from 0 on, "
                "-1 (latest), -2 (earliest) or -3 (of the largest timestamp)"
            )
        async with self._lookups:
            with replica.fenced_by_its_disk():
                if item.timestamp_ms == MAX_TIMESTAMP:
                    found = await replica.log.max_timestamp()
                else:
                    found = await replica.log.offset_for_timestamp(item.timestamp_ms)
        if found is not None and found[0] < latest:
            result.offset, result.timestamp_ms = found
            result.leader_epoch = _epoch_at(core, result.offset)

    async def epoch_ends(self, queries: Sequence[EpochEndQuery]) -> Sequence[EpochEnd]:
        results = []
        async for query in in_slices(queries):
            result = EpochEnd(query.topic_partition)
            try:
                core = self._replicas.find(query.topic_partition).core
                _check_epoch(core, query.current_leader_epoch)
                if query.leader_epoch == NO_EPOCH or query.leader_epoch > core.leader_epoch:
                    results.append(result)  # nobody has written in it
                    continue
                log = core.log_state
                end = log.epochs.end_of(query.leader_epoch, log.log_end_offset)
            except MinikafkaError as error:
                result.error = error.with_traceback(None)
            else:
                if end is not None:
                    result.leader_epoch, result.end_offset = end.leader_epoch, end.offset
            results.append(result)
        return results

    async def init_producer_id(self) -> tuple[int, int]:
        async with self._producer_ids_lock:
            start, end = self._producer_ids
            if start == end:
                response = await self._controller_client.call(
                    AllocateProducerIdsRequest(self._config.broker_id, self._replicas.broker_epoch),
                    AUTO_CREATE_TIMEOUT_MS,
                )
                start, end = response.producer_id_start, response.producer_id_end
                assert start < end, response
            self._producer_ids = (start + 1, end)
            return start, 0

    async def _new_producer_id(self) -> int:
        producer_id, _ = await self.init_producer_id()
        return producer_id

    # --- the cluster -----------------------------------------------------------------------------

    async def metadata(
        self, topics: Sequence[str] | None, allow_auto_create: bool
    ) -> ClusterMetadata:
        names = sorted(self._metadata.topics) if topics is None else list(dict.fromkeys(topics))
        if allow_auto_create and self._config.auto_create_topics_enable:
            errors = await self._auto_create([n for n in names if n not in self._metadata.topics])
        else:
            errors = {}
        return ClusterMetadata(
            self._cluster_id,
            self._metadata.controller_id,
            self._metadata.controller_epoch,
            list(self._metadata.brokers.values()),
            [self._topic_metadata(name, errors.get(name)) async for name in in_slices(names)],
        )

    def _topic_metadata(self, name: str, error: MinikafkaError | None) -> TopicMetadata:
        partitions = self._metadata.topics.get(name)
        if partitions is None:
            return TopicMetadata(name, error=error or self._no_topic(name))
        ordered = [partitions[number] for number in sorted(partitions)]
        return TopicMetadata(name, ordered[0].topic_id, None, ordered)

    def _no_topic(self, name: str) -> MinikafkaError:
        """Why there is none: no topic can be called so, or none is."""
        try:
            validate_topic_name(name, ())
        except InvalidTopicError as error:
            return error
        return self._metadata.missing(f"there is no topic {name!r}")

    async def _auto_create(self, names: list[str]) -> dict[str, MinikafkaError]:
        errors: dict[str, MinikafkaError] = {}
        for topic in (self._offsets_topic, self._transactions_topic):
            if topic.name in names:  # made as the coordinators need it, not by the defaults
                error = await topic.ensure()
                if error is not None:
                    errors[topic.name] = error
        names = [name for name in names if name not in INTERNAL_TOPICS][:MAX_AUTO_CREATED]
        if not names:
            return errors
        request = CreateTopicsRequest([CreateTopic(name) for name in names])
        try:
            response = await self.administer(request, AUTO_CREATE_TIMEOUT_MS)
        except MinikafkaError as error:
            return errors | dict.fromkeys(names, error)
        return errors | {
            result.name: result.error
            for result in response.results
            if result.error is not None and not isinstance(result.error, TopicAlreadyExistsError)
        }

    def watch(self) -> AsyncIterator[ClusterUpdate]:
        return self._metadata.watch()

    async def describe_partitions(
        self, partitions: Sequence[TopicPartition]
    ) -> Sequence[PartitionStatus]:
        statuses = []
        async for topic_partition in in_slices(dict.fromkeys(partitions)):
            try:
                statuses.append(self._status(self._replicas.find(topic_partition)))
            except MinikafkaError as error:
                statuses.append(PartitionStatus(topic_partition, error.with_traceback(None)))
        return statuses

    def _status(self, replica: Replica) -> PartitionStatus:
        core, log = replica.core, replica.core.log_state
        core.require_leader()
        replica.settle_watches()
        now_ms = self._now_ms()
        progress = [ReplicaStatus(self._config.broker_id, log.log_end_offset, 0)]
        for broker_id, end_offset, caught_up_ms in core.followers():
            lag_ms = now_ms - caught_up_ms if end_offset != log.log_end_offset else 0
            known = caught_up_ms > NEVER_MS
            progress.append(ReplicaStatus(broker_id, end_offset, lag_ms if known else -1))
        return PartitionStatus(
            replica.topic_partition,
            None,
            log.log_start_offset,
            log.log_end_offset,
            log.high_watermark,
            replica.log.size_bytes,
            progress,
        )

    async def describe_topic_configs(self, topic: str) -> Sequence[TopicConfigEntry]:
        return [
            TopicConfigEntry(each.name, each.value or "", each.source != ConfigSource.TOPIC)
            for each in await self.describe_configs(topic)
        ]

    async def describe_configs(self, topic: str) -> Sequence[ConfigDescription]:
        if topic not in self._metadata.topics:
            raise self._no_topic(topic)
        return describe_topic(
            self._replicas.live.layers,
            self._replicas.overrides(topic),
            self._replicas.topic_config(topic),
        )

    def describe_new_topic(self, topic: CreateTopic) -> tuple[int, int, list[ConfigDescription]]:
        layers = self._replicas.live.layers
        effective = layers.effective()
        partitions, factor = topic.num_partitions, topic.replication_factor
        if topic.assignments:
            partitions = len(topic.assignments)
            factor = len(next(iter(topic.assignments.values())))
        return (
            effective.num_partitions if partitions == -1 else partitions,
            effective.default_replication_factor if factor == -1 else factor,
            describe_topic(
                layers, topic.configs, topic_config(topic.configs, effective.topic_defaults())
            ),
        )

    async def describe_broker_configs(self, broker: str) -> Sequence[ConfigDescription]:
        name = broker_entity_name(broker)
        if name == DEFAULT_BROKER:
            return describe_all_brokers(self._replicas.live.layers)
        if name != str(self._config.broker_id):
            raise InvalidRequestError(
                f"broker {self._config.broker_id} knows its own configuration only, not that of "
                f"{name}: ask that broker"
            )
        return describe_broker(self._replicas.live.layers)

    def broker_overrides(self, broker: str) -> Mapping[str, str]:
        return self._replicas.live.overrides(broker_entity_name(broker))

    def check_topic_configs(self, topic: str, overrides: Mapping[str, str]) -> None:
        if topic not in self._metadata.topics:
            raise UnknownTopicOrPartitionError(f"there is no topic {topic!r}")
        validate_topic_overrides(overrides)

    def authorized_operations(self, type: ResourceType, name: str) -> int:
        """Everything: who is restricted asks a guard."""
        return _EVERYTHING[type]

    def check_broker_configs(self, broker: str, changes: Mapping[str, str | None]) -> None:
        changed_layers(self._replicas.live.layers, broker_entity_name(broker), changes)

    async def describe_log_dir(self) -> tuple[str, Sequence[tuple[TopicPartition, int, int]]]:
        sizes = []
        for topic_partition, replica in sorted(self._replicas.replicas.items()):
            log = replica.core.log_state
            behind = max(0, log.high_watermark - log.log_end_offset)
            sizes.append((topic_partition, replica.log.size_bytes, behind))
        return self._config.log_dirs, sizes

    async def broker_metrics(self) -> BrokerMetrics:
        return await self._read_metrics()

    # --- who may do what -------------------------------------------------------------------------

    def _access(self) -> Access:
        if self.access is None:
            raise SecurityDisabledError(NO_AUTHORIZER)
        return self.access

    async def describe_acls(self, asked: EntryFilter) -> Sequence[Rule]:
        return await self._access().describe_acls(asked)

    async def describe_scram(self, users: Sequence[str] | None) -> Sequence[ScramDescription]:
        return await self._access().describe_scram(users)

    # --- to and from the controller --------------------------------------------------------------

    async def administer(self, request: ControllerRequest, timeout_ms: int) -> ControllerResponse:
        deadline_ms = self._now_ms() + timeout_ms
        if isinstance(request, AlterBrokerConfigRequest):
            # Here, since only a broker itself knows what it was started with.
            self.check_broker_configs(request.broker, request.changes)
        if isinstance(request, CreateAclsRequest | DeleteAclsRequest):
            self._access().require_authorizer()
        check_size(request)
        responses: list[ControllerResponse] = []
        for part in parts_of(request):
            remaining_ms = max(deadline_ms - self._now_ms(), 1)
            try:
                responses.append(await self._controller_client.call(part, remaining_ms))
            except MinikafkaError as error:
                if not responses:
                    raise
                responses.append(failed(part, error))
        response = joined(responses)
        for notice in islice(notices(request), MAX_NOTICES):
            logger.warning("%s", notice)
        if isinstance(request, AlterTopicConfigRequest | AlterBrokerConfigRequest):
            await self._apply_configs(deadline_ms)
        if isinstance(request, CreateAclsRequest | DeleteAclsRequest | AlterScramRequest):
            wait_ms = max(1, min(deadline_ms - self._now_ms(), METADATA_WAIT_MS))
            await self._access().catch_up(request, wait_ms / 1000)
        if isinstance(request, CreateTopicsRequest) and not request.validate_only:
            # So that the client finds its topic when it asks this broker next.
            there = [
                result.name
                for result in response.results
                if result.error is None or isinstance(result.error, TopicAlreadyExistsError)
            ]
            remaining_ms = max(0, deadline_ms - self._now_ms())
            await self._metadata.wait_for_topics(there, min(remaining_ms, METADATA_WAIT_MS))
        return response

    async def _apply_configs(self, deadline_ms: int) -> None:
        """What has just been altered, so that the client finds it when it asks this broker next.
        The watch does the same, only a moment later; it also makes up for a failure here."""
        try:
            async with asyncio.timeout(max(deadline_ms - self._now_ms(), 1) / 1000):
                await self._replicas.reload_configs()
        except (TimeoutError, MinikafkaError) as error:
            logger.info("what was altered is not applied here yet: %s", error)

    async def update_state(self, request: UpdateStateRequest) -> UpdateStateResponse:
        response = await self._replicas.update_state(request)
        return self._controller.with_wakeups(request, response)

    async def check_partitions(self, request: CheckPartitionsRequest) -> CheckPartitionsResult:
        return await self.transactions.check_partitions(request)

    async def write_markers(self, request: WriteMarkersRequest) -> WriteMarkersResult:
        return await self._marker_writer.write(request)

    async def alter_partition(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        return await self._controller.alter_partition(request)

    async def controlled_shutdown(
        self, request: ControlledShutdownRequest
    ) -> ControlledShutdownResponse:
        return await self._controller.controlled_shutdown(request)

    async def controller_call(self, request: ControllerRequest) -> ControllerResponse:
        return await self._controller.controller_call(request)


def _offsets_topic(config: BrokerConfig) -> TopicPlan:
    return TopicPlan(
        OFFSETS_TOPIC,
        config.offsets_topic_num_partitions,
        config.offsets_topic_replication_factor,
        "offsets.topic.replication.factor",
        {
            "cleanup.policy": "compact",
            "segment.bytes": str(config.offsets_topic_segment_bytes),
        },
    )


def _transactions_topic(config: BrokerConfig) -> TopicPlan:
    return TopicPlan(
        TRANSACTIONS_TOPIC,
        config.transaction_state_log_num_partitions,
        config.transaction_state_log_replication_factor,
        "transaction.state.log.replication.factor",
        {
            "cleanup.policy": "compact",
            "compression.type": "uncompressed",
            "min.insync.replicas": str(config.transaction_state_log_min_isr),
            "segment.bytes": str(config.transaction_state_log_segment_bytes),
            "unclean.leader.election.enable": "false",
        },
    )


def _check_epoch(partition: Partition, current_leader_epoch: int) -> None:
    """As for any fetcher; and of what is asked for offsets, only -1 stands for no epoch."""
    if current_leader_epoch < NO_EPOCH:
        raise FencedLeaderEpochError(f"there is no leader epoch {current_leader_epoch}")
    partition.check_leader_epoch(current_leader_epoch)


def _epoch_at(partition: Partition, offset: int) -> int:
    """The epoch that the record at an offset was written in; -1 if that is not known."""
    epoch = partition.log_state.epochs.epoch_at(offset)
    return NO_EPOCH if epoch is None else epoch
