"""Clients of the simulated cluster: they ask a broker once, and note in the ledger what it says.

State: idempotent producers with the batch that each is not sure of (it is sent again as it is until
it is acknowledged), and how many batches were made (each has content of its own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minikafka.api.requests import (
    LATEST_TIMESTAMP,
    AlterReassignmentsRequest,
    AlterTopicConfigRequest,
    ControllerRequest,
    CreateTopic,
    CreateTopicsRequest,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    FetchPartition,
    FetchRequest,
    ListOffsetsPartition,
    ProducePartition,
    ProduceRequest,
)
from minikafka.broker.service import Service
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition
from minikafka.records.build import BatchBuilder
from minikafka.records.header import parse_header, split
from tests.simulation.network import Exchange
from tests.simulation.states import Violation

if TYPE_CHECKING:
    from tests.simulation.states import PartitionLedger
    from tests.simulation.world import Host, World

REQUEST_MS = 2_000


@dataclass
class Producer:
    """An idempotent producer. Per partition (of one topic id) its producer epoch, the next
    sequence, and the batch that is not acknowledged yet, with its number of records.

    A topic that was made anew gets a new epoch. What was sent to its predecessor may still be on
    its way and be appended there, since requests name topics by name alone: under the same epoch a
    new batch of the same sequence would be taken for a repetition of it, and never be written."""

    producer_id: int
    epochs: dict[tuple[str, int], int] = field(default_factory=dict)
    sequences: dict[tuple[str, int], int] = field(default_factory=dict)
    unsure: dict[tuple[str, int], tuple[bytes, int]] = field(default_factory=dict)


class Clients:
    def __init__(self, world: World) -> None:
        self.world = world
        self.producers: dict[int, Producer] = {}
        self._made = 0
        self._producer_ids: set[int] = set()

    def _spawn(self, work: Any) -> None:
        self.world.loop.create_task(work, context=self.world.context)

    async def _ask(self, host: Host, kind: str, request: Any, serve: Any, timeout_ms: int) -> Any:
        return await Exchange(
            self.world.network, None, host.number, kind, request, serve, timeout_ms
        ).result()

    # --- produce ---------------------------------------------------------------------------------

    def batch(
        self,
        count: int,
        producer_id: int = -1,
        producer_epoch: int = -1,
        base_sequence: int = -1,
    ) -> bytes:
        """One that differs from every other."""
        builder = BatchBuilder()
        timestamp_ms = self.world.now_ms() + 1_700_000_000_000
        for _ in range(count):
            self._made += 1
            builder.append(None, b"%d" % self._made, (), timestamp_ms)
        return builder.build(0, producer_id, producer_epoch, base_sequence)  # type: ignore[arg-type]

    def _numbered_batch(
        self, producer: Producer, ledger: PartitionLedger, key: tuple[str, int], count: int
    ) -> bytes:
        epoch = producer.epochs.get(key)
        if epoch is None:
            epoch = producer.epochs[key] = len(producer.epochs)
            ledger.producer_epochs.add((producer.producer_id, epoch))
        sequence = producer.sequences.get(key, 0)
        return self.batch(count, producer.producer_id, epoch, sequence)

    def produce(
        self,
        host: Host,
        topic_partition: TopicPartition,
        acks: int,
        count: int = 1,
        slot: int | None = None,
    ) -> None:
        """Send one batch; with `slot` by the idempotent producer of that number."""
        self._spawn(self._produce(host, topic_partition, acks, count, slot))

    async def _produce(
        self,
        host: Host,
        topic_partition: TopicPartition,
        acks: int,
        count: int,
        slot: int | None,
    ) -> None:
        producer = None if slot is None else self.producers.get(slot)
        ledger = self.world.ledger.current(topic_partition)
        if ledger is None:
            return
        key = (ledger.topic_id, topic_partition.partition)
        if producer is None:
            batch = self.batch(count)
        else:
            acks = -1
            if key not in producer.unsure:
                producer.unsure[key] = self._numbered_batch(producer, ledger, key, count), count
            batch, count = producer.unsure[key]
        request = ProduceRequest(acks, REQUEST_MS, [ProducePartition(topic_partition, batch)])
        told = f"{'' if producer is None else f'producer {slot}: '}{_crc(batch):08x}"
        try:
            await self._ask(
                host,
                "produce",
                request,
                lambda service: self._serve_produce(service, host, request, ledger, batch, told),
                REQUEST_MS + 1_000,
            )
        except (MinikafkaError, Violation):
            return
        if producer is not None and producer.unsure.get(key, (None,))[0] is batch:
            del producer.unsure[key]
            producer.sequences[key] = producer.sequences.get(key, 0) + count

    async def _serve_produce(
        self,
        service: Service,
        host: Host,
        request: ProduceRequest,
        ledger: PartitionLedger,
        batch: bytes,
        told: str,
    ) -> None:
        """At the broker. Raises the error, if there is one."""
        topic_partition = ledger.topic_partition
        replica = host.replica(topic_partition)
        if replica is not None and replica.topic_id != ledger.topic_id:
            ledger = self.world.ledger.of(replica.topic_id, topic_partition)
        [result] = await service.produce(request)
        acks = "all" if request.acks == -1 else request.acks
        said = f"at {result.base_offset}" if result.error is None else result.error.name
        self.world.tell(f"{host.name} {topic_partition} acks={acks} {told}: {said}")
        if result.error is not None:
            raise result.error
        if request.acks == -1:
            header = parse_header(batch)
            end_offset = result.base_offset + header.record_count
            self.world.ledger.on_acknowledged(ledger, replica, end_offset, header.crc)

    def new_producer(self, host: Host, slot: int) -> None:
        """An idempotent producer gets its id from the cluster."""
        self._spawn(self._new_producer(host, slot))

    async def _new_producer(self, host: Host, slot: int) -> None:
        async def serve(service: Service) -> int:
            producer_id, _ = await service.init_producer_id()
            return producer_id

        try:
            producer_id = await self._ask(host, "init_producer_id", None, serve, 10_000)
        except MinikafkaError:
            return
        if producer_id in self._producer_ids:
            self.world.violation("16", f"producer id {producer_id} is given twice")
        self._producer_ids.add(producer_id)
        self.producers[slot] = Producer(producer_id)
        self.world.tell(f"producer {slot} has id {producer_id}")

    # --- consume ---------------------------------------------------------------------------------

    def consume(self, host: Host, topic_partition: TopicPartition, offset: int) -> None:
        """One fetch from `offset`."""
        self._spawn(self._consume(host, topic_partition, offset))

    async def _consume(self, host: Host, topic_partition: TopicPartition, offset: int) -> None:
        request = FetchRequest(300, 1, 10_000, [FetchPartition(topic_partition, offset, 10_000)])

        async def serve(service: Service) -> None:
            before = host.replica(topic_partition)
            [result] = await service.fetch(request)
            replica = host.replica(topic_partition)
            if result.error is None and replica is not None and replica is before:
                ledger = self.world.ledger.of(replica.topic_id, topic_partition)
                headers = split(result.records) if result.records else []
                self.world.ledger.on_consumed(ledger, replica, result.high_watermark, headers)

        await self._ask_quietly(host, "fetch", request, serve)

    def latest(self, host: Host, topic_partition: TopicPartition) -> None:
        """Where is the end?"""

        async def serve(service: Service) -> None:
            [result] = await service.list_offsets(
                [ListOffsetsPartition(topic_partition, LATEST_TIMESTAMP)]
            )
            replica = host.replica(topic_partition)
            if result.error is None and replica is not None:
                ledger = self.world.ledger.of(replica.topic_id, topic_partition)
                self.world.ledger.on_latest(ledger, replica, result.leader_epoch, result.offset)

        self._spawn(self._ask_quietly(host, "list_offsets", None, serve))

    async def _ask_quietly(self, host: Host, kind: str, request: Any, serve: Any) -> None:
        try:
            await self._ask(host, kind, request, serve, REQUEST_MS)
        except (MinikafkaError, Violation):
            return

    # --- administration --------------------------------------------------------------------------

    def administer(self, host: Host, request: ControllerRequest) -> None:
        self._spawn(
            self._ask_quietly(
                host,
                "administer",
                request,
                lambda service: service.administer(request, REQUEST_MS),
            )
        )

    def create_topic(
        self,
        host: Host,
        name: str,
        assignments: Mapping[int, Sequence[int]],
        configs: Mapping[str, str],
    ) -> None:
        topic = CreateTopic(name, -1, -1, configs, assignments)
        self.administer(host, CreateTopicsRequest([topic]))

    def delete_topic(self, host: Host, name: str) -> None:
        self.administer(host, DeleteTopicsRequest([name]))

    def configure(self, host: Host, name: str, changes: Mapping[str, str | None]) -> None:
        self.administer(host, AlterTopicConfigRequest(name, changes))

    def delete_records(self, host: Host, topic_partition: TopicPartition, before: int) -> None:
        """Everything below this offset."""
        request = DeleteRecordsRequest(
            REQUEST_MS, [DeleteRecordsPartition(topic_partition, before)]
        )

        async def serve(service: Service) -> None:
            await service.delete_records(request)

        self._spawn(self._ask_quietly(host, "delete_records", request, serve))

    def elect(self, host: Host, partitions: Sequence[TopicPartition], *, unclean: bool) -> None:
        if unclean:
            for topic_partition in partitions:
                ledger = self.world.ledger.current(topic_partition)
                if ledger is not None:
                    ledger.unclean_allowed = True
        self.administer(host, ElectLeadersRequest(unclean, partitions))

    def reassign(
        self, host: Host, topic_partition: TopicPartition, replicas: Sequence[int] | None
    ) -> None:
        self.administer(host, AlterReassignmentsRequest({topic_partition: replicas}))


def _crc(batch: bytes) -> int:
    return parse_header(batch).crc
