"""A cluster in memory, as clients see it: brokers with channels, leaders, logs that check
sequences.

All replicas of a partition share one log, so a change of leader loses nothing. Faults are injected
by `cluster.faults`, functions of (broker id, partition, batch header) tried in order; each gives a
Fault for a batch, or None. Answers take `answer_s`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from minikafka.api.requests import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    AlterBrokerConfigRequest,
    AlterReassignmentsRequest,
    AlterTopicConfigRequest,
    ClusterMetadata,
    ClusterUpdate,
    ControllerResponse,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteRecordsResult,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    FetchResult,
    LeaderHint,
    ListOffsetsResult,
    ListReassignmentsRequest,
    NamedResult,
    PartitionResult,
    PartitionStatus,
    ProduceResult,
    TopicConfigEntry,
    TopicMetadata,
)
from minikafka.config.overrides import DEFAULT_BROKER, ConfigDescription, ConfigSource
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.errors import (
    FencedLeaderEpochError,
    InvalidTopicError,
    MessageTooLargeError,
    MinikafkaError,
    NetworkError,
    NotLeaderOrFollowerError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownLeaderEpochError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import (
    AbortedTransaction,
    Assignment,
    BatchHeader,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from minikafka.records.header import (
    STAMP_BYTES,
    TRANSACTIONAL,
    is_control,
    parse_header,
    split,
    stamp,
    verify_crc,
)
from minikafka.records.markers import read_marker
from minikafka.records.read import iter_records
from tests.helpers.metrics import metrics_of
from tests.unit.client.fake_transactions import FakeGroups, FakeTransactions, PlayedCoordinator


@dataclass
class Fault:
    """`append`: write the batch; then `error` (None: the regular answer), `hang` (no answer at
    all) or `disconnect` (the connection breaks for everything outstanding)."""

    append: bool = False
    error: MinikafkaError | None = None
    hint: LeaderHint | None = None
    hang: bool = False
    disconnect: bool = False


FaultRule = Callable[[int, TopicPartition, BatchHeader], Fault | None]


@dataclass
class FakePartition:
    topic_partition: TopicPartition
    topic_id: str
    replicas: tuple[int, ...]
    leader: int
    leader_epoch: int = 0
    version: int = 0
    log_start_offset: int = 0
    batches: list[tuple[BatchHeader, bytes]] = field(default_factory=list)
    producers: ProducerStateTable = field(default_factory=ProducerStateTable)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    aborted: list[tuple[int, AbortedTransaction]] = field(default_factory=list)  # by marker

    @property
    def last_stable_offset(self) -> int:
        """All that there is is committed."""
        self.producers.unstable.settle(self.log_end_offset)
        first = self.producers.unstable.first()
        return self.log_end_offset if first is None else first

    @property
    def log_end_offset(self) -> int:
        return self.batches[-1][0].next_offset if self.batches else self.log_start_offset

    def metadata(self) -> PartitionMetadata:
        state = PartitionState(self.leader, self.leader_epoch, self.replicas, 1, self.version)
        return PartitionMetadata(
            self.topic_partition, self.topic_id, Assignment(self.replicas), state
        )

    def append(self, data: bytes) -> int:
        """Append one batch as a leader does; returns its base offset (the first one's of a
        repetition)."""
        [header] = split(data)
        verify_crc(data, 0, header)
        known = self.producers.check(header, from_zero=bool(header.attributes & TRANSACTIONAL))
        if known is not None:
            return known.base_offset
        base_offset = self.log_end_offset
        stamped = stamp(base_offset, len(data), self.leader_epoch) + data[STAMP_BYTES:]
        header = parse_header(stamped)
        marker = read_marker(stamped, header) if is_control(header) else None
        first_offset = self.producers.update(header, marker)
        if marker is not None and not marker.commits:
            aborted = AbortedTransaction(header.producer_id, first_offset)
            self.aborted.append((header.base_offset, aborted))
        self.batches.append((header, stamped))
        self.wake()
        return base_offset

    def wake(self) -> None:
        self.arrived.set()
        self.arrived = asyncio.Event()

    def records(self):
        return [record for header, data in self.batches for record in iter_records(data, header)]

    def values(self) -> list[bytes]:
        return [record.value for record in self.records()]


class FakeCluster:
    def __init__(self, broker_count: int = 3) -> None:
        self.brokers = {
            number: BrokerInfo(number, "", "fake", 9000 + number)
            for number in range(1, broker_count + 1)
        }
        self.down: set[int] = set()
        self.paused: dict[int, asyncio.Event] = {}
        self.topics: dict[str, list[FakePartition]] = {}
        self.configs: dict[str, dict[str, str]] = {}
        self.asked: list[int] = []  # the brokers that broker settings were asked of
        self.faults: list[FaultRule] = []
        self.answer_s = 0.001
        self.auto_create = True
        self.max_batch_bytes = 10**9
        self.next_producer_id = 100
        self.topics_made = 0
        self.channels: list[FakeChannel] = []
        self.calls: list[str] = []
        self.produced: list[tuple[int, list[tuple[TopicPartition, BatchHeader]]]] = []
        self.watchers: list[asyncio.Queue] = []
        self.hints = True
        self.reassignments: dict[TopicPartition, Assignment] = {}
        self.coordination = PlayedCoordinator(self)

    @property
    def bootstrap(self) -> str:
        return self.brokers[1].grpc_address

    def connect(self, address: str) -> "FakeChannel":
        channel = FakeChannel(self, address)
        self.channels.append(channel)
        return channel

    def live(self) -> list[BrokerInfo]:
        return [info for number, info in self.brokers.items() if number not in self.down]

    def create(self, name: str, partitions: int = 1, leader: int | None = None) -> None:
        self.topics_made += 1
        replicas = tuple(self.brokers)
        self.topics[name] = [
            FakePartition(
                TopicPartition(name, number),
                f"id-{self.topics_made}",
                replicas,
                leader or replicas[number % len(replicas)],
            )
            for number in range(partitions)
        ]
        self.tell(self.topics[name])

    def delete(self, name: str) -> None:
        partitions = self.topics.pop(name)
        self.tell([], [(name, partitions[0].topic_id)])

    def partition(self, topic: str, number: int = 0) -> FakePartition:
        return self.topics[topic][number]

    def move(self, topic: str, leader: int, number: int = 0) -> None:
        """Another leader (-1: none), or the same one under a new epoch."""
        partition = self.partition(topic, number)
        partition.leader = leader
        partition.leader_epoch += 1
        partition.version += 1
        partition.wake()
        self.tell([partition])

    def kill(self, broker: int) -> None:
        """The process is gone: connections break. Leadership moves when the test says so."""
        self.down.add(broker)
        for channel in self.channels:
            if channel.broker_id == broker:
                channel.break_connection()

    def restart(self, broker: int) -> None:
        self.down.discard(broker)

    def pause(self, broker: int) -> None:
        self.paused[broker] = asyncio.Event()

    def resume(self, broker: int) -> None:
        self.paused.pop(broker).set()

    def tell(self, partitions, deleted=()) -> None:
        update = ClusterUpdate([each.metadata() for each in partitions], list(deleted), None, 1, 1)
        for watcher in self.watchers:
            watcher.put_nowait(update)

    def find(self, topic_partition: TopicPartition) -> FakePartition:
        partitions = self.topics.get(topic_partition.topic, [])
        if topic_partition.partition >= len(partitions):
            raise UnknownTopicOrPartitionError(f"{topic_partition} does not exist")
        return partitions[topic_partition.partition]


class FakeChannel:
    def __init__(self, cluster: FakeCluster, address: str) -> None:
        self.cluster = cluster
        self.address = address
        ids = [each.broker_id for each in cluster.brokers.values() if each.grpc_address == address]
        self.broker_id = ids[0] if ids else -1
        self.closed = False
        self.outstanding: set[asyncio.Future] = set()
        self.delayed: list[asyncio.Task] = []
        self.transactions = FakeTransactions(self)
        self.groups = FakeGroups(self)

    def break_connection(self) -> None:
        for future in list(self.outstanding):
            if not future.done():
                future.set_exception(NetworkError(f"connection to {self.address} lost"))

    async def close(self) -> None:
        self.closed = True
        self.break_connection()

    def check_reachable(self) -> None:
        if self.closed or self.broker_id < 0 or self.broker_id in self.cluster.down:
            raise NetworkError(f"{self.address} refused the connection")

    async def arrive(self, call: str) -> None:
        """A unary call's way: the network, and the broker's being paused."""
        self.cluster.calls.append(call)
        await asyncio.sleep(0)
        self.check_reachable()
        while self.broker_id in self.cluster.paused:
            await self.cluster.paused[self.broker_id].wait()
        self.check_reachable()

    # --- produce ---------------------------------------------------------------------------------

    def produce(self, request):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self.outstanding.add(future)
        future.add_done_callback(self.outstanding.discard)
        try:
            self.check_reachable()
        except NetworkError as error:
            loop.call_soon(self.answer, future, error)
            return future
        if self.broker_id in self.cluster.paused:
            task = loop.create_task(self.produce_when_resumed(request, future))
            self.delayed.append(task)
        else:
            self.serve_produce(request, future)
        return future

    async def produce_when_resumed(self, request, future) -> None:
        await self.cluster.paused[self.broker_id].wait()
        self.serve_produce(request, future)

    def serve_produce(self, request, future) -> None:
        loop = asyncio.get_running_loop()
        headers = [
            (each.topic_partition, parse_header(each.records)) for each in request.partitions
        ]
        self.cluster.produced.append((self.broker_id, headers))
        results, hang = [], False
        for each in request.partitions:
            header = parse_header(each.records)
            rules = (
                rule(self.broker_id, each.topic_partition, header) for rule in self.cluster.faults
            )
            fault = next((fault for fault in rules if fault is not None), None)
            results.append(self.produce_one(each, fault))
            hang = hang or (fault is not None and fault.hang)
            if fault is not None and fault.disconnect:
                loop.call_later(self.cluster.answer_s, self.break_connection)
                hang = True
        if request.acks == 0:
            loop.call_soon(self.answer, future, [ProduceResult(r.topic_partition) for r in results])
        elif not hang:
            loop.call_later(self.cluster.answer_s, self.answer, future, results)

    def answer(self, future, outcome) -> None:
        if future.done():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def produce_one(self, part, fault):
        topic_partition = part.topic_partition
        result = ProduceResult(topic_partition)
        if fault is not None and not fault.append:
            result.error, result.leader_hint = fault.error, fault.hint
            return result
        try:
            partition = self.cluster.find(topic_partition)
            if partition.leader != self.broker_id:
                if self.cluster.hints and partition.leader >= 0:
                    result.leader_hint = LeaderHint(partition.leader, partition.leader_epoch)
                raise NotLeaderOrFollowerError("not the leader")
            if len(part.records) > self.cluster.max_batch_bytes:
                raise MessageTooLargeError(f"a batch of {len(part.records)} bytes is too large")
            result.base_offset = partition.append(part.records)
        except MinikafkaError as error:
            result.error = error
        if fault is not None and fault.error is not None:
            result.error, result.base_offset = fault.error, -1
        return result

    # --- fetch and offsets -----------------------------------------------------------------------

    async def fetch(self, request):
        future = asyncio.get_running_loop().create_future()
        self.outstanding.add(future)
        serving = asyncio.ensure_future(self.serve_fetch(request))
        try:
            await asyncio.wait([serving, future], return_when=asyncio.FIRST_COMPLETED)
            return future.result() if future.done() else serving.result()
        finally:
            self.outstanding.discard(future)
            serving.cancel()

    async def serve_fetch(self, request):
        await self.arrive("fetch")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.max_wait_ms / 1000
        while True:
            results = [self.fetch_one(each, request) for each in request.partitions]
            urgent = any(result.error is not None or result.records for result in results)
            remaining_s = deadline - loop.time()
            if urgent or remaining_s <= 0:
                return results
            events = [
                asyncio.ensure_future(self.cluster.find(each.topic_partition).arrived.wait())
                for each in request.partitions
            ]
            try:
                await asyncio.wait(events, timeout=remaining_s, return_when=asyncio.FIRST_COMPLETED)
            finally:  # also when the fetch is cancelled: nobody else ends them
                for event in events:
                    event.cancel()

    def fetch_one(self, wanted, request):
        result = FetchResult(wanted.topic_partition)
        try:
            partition = self.cluster.find(wanted.topic_partition)
            self.check_leader(partition, wanted.current_leader_epoch, result)
            end = partition.log_end_offset
            if not partition.log_start_offset <= wanted.fetch_offset <= end:
                raise OffsetOutOfRangeError(f"offset {wanted.fetch_offset} is out of range")
            result.high_watermark = end
            result.log_start_offset = partition.log_start_offset
            result.last_stable_offset = partition.last_stable_offset
            if request.read_committed:
                end = partition.last_stable_offset
                result.aborted = [
                    aborted
                    for marker, aborted in partition.aborted
                    if marker >= wanted.fetch_offset and aborted.first_offset < end
                ]
            chosen, size = [], 0
            for header, data in partition.batches:
                if header.next_offset <= wanted.fetch_offset:
                    continue
                if header.next_offset > end:
                    break
                if chosen and size + len(data) > wanted.max_bytes:
                    break
                chosen.append(data)
                size += len(data)
            result.records = b"".join(chosen)
        except MinikafkaError as error:
            result.error = error
        return result

    def check_leader(self, partition, leader_epoch, result) -> None:
        if self.cluster.hints and partition.leader >= 0:
            hint = LeaderHint(partition.leader, partition.leader_epoch)
        else:
            hint = None
        if partition.leader != self.broker_id:
            result.leader_hint = hint
            raise NotLeaderOrFollowerError("not the leader")
        if 0 <= leader_epoch < partition.leader_epoch:
            result.leader_hint = hint
            raise FencedLeaderEpochError("an old epoch")
        if leader_epoch > partition.leader_epoch:
            raise UnknownLeaderEpochError("an epoch of the future")

    async def list_offsets(self, partitions):
        await self.arrive("list_offsets")
        return [self.list_one(each) for each in partitions]

    def list_one(self, wanted):
        result = ListOffsetsResult(wanted.topic_partition)
        try:
            partition = self.cluster.find(wanted.topic_partition)
            if partition.leader != self.broker_id:
                raise NotLeaderOrFollowerError("not the leader")
        except MinikafkaError as error:
            result.error = error
            return result
        if wanted.timestamp_ms == LATEST_TIMESTAMP:
            result.offset = partition.log_end_offset
            if wanted.read_committed:
                result.offset = partition.last_stable_offset
        elif wanted.timestamp_ms == EARLIEST_TIMESTAMP:
            result.offset = partition.log_start_offset
        else:
            for header, data in partition.batches:
                if header.max_timestamp_ms < wanted.timestamp_ms:
                    continue
                for record in iter_records(data, header):
                    if record.timestamp_ms >= wanted.timestamp_ms:
                        result.offset, result.timestamp_ms = record.offset, record.timestamp_ms
                        return result
        return result

    # --- the rest --------------------------------------------------------------------------------

    async def metadata(self, topics, allow_auto_create):
        await self.arrive("metadata")
        cluster = self.cluster
        found = []
        for name in cluster.topics if topics is None else topics:
            if "/" in name:
                found.append(TopicMetadata(name, error=InvalidTopicError(f"bad name {name!r}")))
                continue
            if name not in cluster.topics and allow_auto_create and cluster.auto_create:
                cluster.create(name)
            if name in cluster.topics:
                partitions = cluster.topics[name]
                found.append(
                    TopicMetadata(
                        name, partitions[0].topic_id, None, [each.metadata() for each in partitions]
                    )
                )
            else:
                error = UnknownTopicOrPartitionError(f"topic {name!r} does not exist")
                found.append(TopicMetadata(name, error=error))
        return ClusterMetadata("fake-cluster", 1, 1, cluster.live(), found)

    async def init_producer_id(self):
        await self.arrive("init_producer_id")
        self.cluster.next_producer_id += 1
        return self.cluster.next_producer_id, 0

    async def watch(self, topics):
        await self.arrive("watch")
        queue = asyncio.Queue()
        everything = [
            each.metadata()
            for name, partitions in self.cluster.topics.items()
            if not topics or name in topics
            for each in partitions
        ]
        queue.put_nowait(ClusterUpdate(everything, [], self.cluster.live(), 1, 1))
        self.cluster.watchers.append(queue)
        broken = asyncio.get_running_loop().create_future()
        self.outstanding.add(broken)
        try:
            while True:
                getting = asyncio.ensure_future(queue.get())
                try:
                    await asyncio.wait([getting, broken], return_when=asyncio.FIRST_COMPLETED)
                    if broken.done():
                        broken.result()
                finally:  # also when the watch is closed or cancelled
                    getting.cancel()
                yield getting.result()
        finally:
            self.cluster.watchers.remove(queue)
            self.outstanding.discard(broken)

    async def delete_records(self, request):
        await self.arrive("delete_records")
        results = []
        for each in request.partitions:
            partition = self.cluster.find(each.topic_partition)
            result = DeleteRecordsResult(each.topic_partition, None, each.before_offset)
            if partition.leader != self.broker_id:
                result.error = NotLeaderOrFollowerError("not the leader")
            elif each.before_offset > partition.log_end_offset:
                result.error = OffsetOutOfRangeError("above the high watermark")
            results.append(result)
        return results

    async def broker_metrics(self):
        await self.arrive("broker_metrics")
        return metrics_of(self.broker_id)

    async def describe_partitions(self, partitions):
        await self.arrive("describe_partitions")
        statuses = []
        for each in partitions:
            partition = self.cluster.find(each)
            if partition.leader == self.broker_id:
                end = partition.log_end_offset
                statuses.append(PartitionStatus(each, None, 0, end, end))
            else:
                statuses.append(PartitionStatus(each, NotLeaderOrFollowerError("not the leader")))
        return statuses

    async def describe_topic_configs(self, topic):
        await self.arrive("describe_topic_configs")
        if topic not in self.cluster.topics:
            raise UnknownTopicOrPartitionError(f"topic {topic!r} does not exist")
        configs = self.cluster.configs.get(topic, {})
        return [TopicConfigEntry(name, value, False) for name, value in configs.items()]

    async def describe_configs(self, topic):
        await self.arrive("describe_configs")
        return self.described(topic, ConfigSource.TOPIC)

    async def describe_broker_configs(self, broker):
        await self.arrive("describe_broker_configs")
        self.cluster.asked.append(self.broker_id)
        return self.described(broker or DEFAULT_BROKER, ConfigSource.DYNAMIC_BROKER)

    def described(self, resource, source):
        configs = self.cluster.configs.get(resource, {})
        return [
            ConfigDescription(name, value, "text", "", True, source, [])
            for name, value in configs.items()
        ]

    async def administer(self, request, timeout_ms):
        await self.arrive("administer")
        cluster = self.cluster
        results = []
        match request:
            case CreateTopicsRequest(topics=topics):
                for topic in topics:
                    error = None
                    if topic.name in cluster.topics:
                        error = TopicAlreadyExistsError(f"topic {topic.name!r} already exists")
                    elif not request.validate_only:
                        cluster.create(topic.name, max(topic.num_partitions, 1))
                    results.append(NamedResult(topic.name, error))
            case DeleteTopicsRequest(names=names):
                for name in names:
                    error = None
                    if name in cluster.topics:
                        cluster.delete(name)
                    else:
                        error = UnknownTopicOrPartitionError(f"topic {name!r} does not exist")
                    results.append(NamedResult(name, error))
            case CreatePartitionsRequest(topic=topic, total_count=total):
                old = cluster.topics[topic]
                for number in range(len(old), total):
                    partition = TopicPartition(topic, number)
                    old.append(FakePartition(partition, old[0].topic_id, old[0].replicas, 1))
                results.append(NamedResult(topic))
            case AlterTopicConfigRequest(topic=topic, changes=changes):
                cluster.configs.setdefault(topic, {}).update(changes)
                results.append(NamedResult(topic))
            case AlterBrokerConfigRequest(broker=broker, changes=changes):
                cluster.configs.setdefault(broker, {}).update(changes)
                cluster.asked.append(self.broker_id)
                results.append(NamedResult(broker))
            case ElectLeadersRequest(partitions=partitions):
                return ControllerResponse(partitions=[PartitionResult(each) for each in partitions])
            case AlterReassignmentsRequest(targets=targets):
                altered = []
                for each, replicas in targets.items():
                    known = each.topic in cluster.topics
                    error = None if known else UnknownTopicOrPartitionError(f"no {each}")
                    altered.append(PartitionResult(each, error))
                    if known and replicas is not None:
                        cluster.reassignments[each] = Assignment(tuple(replicas))
                return ControllerResponse(partitions=altered)
            case ListReassignmentsRequest(partitions=partitions):
                found = cluster.reassignments
                return ControllerResponse(
                    reassignments={each: found[each] for each in partitions or found}
                )
            case other:
                raise AssertionError(f"unforeseen request {other}")
        return ControllerResponse(results)


async def pass_time(seconds: float) -> None:
    """Let the virtual clock go on (conftest.py): takes no time."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(seconds, passed.set_result, None)
    await passed
