"""A transactional producer, by typed requests to the brokers of a BrokerCluster: for tests of the
coordinator at run time."""

from __future__ import annotations

from minikafka.api.groups import FindCoordinatorRequest
from minikafka.api.requests import FetchPartition, FetchRequest, ProducePartition, ProduceRequest
from minikafka.api.service import TransactionService
from minikafka.api.transactions import (
    AddPartitionsRequest,
    EndTransactionRequest,
    InitProducerIdRequest,
    ProducerIdentity,
)
from minikafka.client.consuming.isolation import aborted_batches
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition
from minikafka.records.build import BatchBuilder
from minikafka.records.header import is_control, split
from minikafka.records.read import iter_records
from tests.helpers.brokers import BrokerCluster
from tests.helpers.waiting import until

TV1, TV2 = 4, 5  # versions of EndTxn


class TransactionClient:
    """Goes to the coordinator, and again as long as that moves, loads or is busy."""

    def __init__(self, cluster: BrokerCluster, transactional_id: str, version: int = TV1) -> None:
        self.cluster, self.transactional_id, self.version = cluster, transactional_id, version
        self.producer_id = self.producer_epoch = -1
        self.timeout_ms = 60_000
        self._sequences: dict[TopicPartition, int] = {}

    async def coordinator(self) -> int:
        async def find() -> int | None:
            request = FindCoordinatorRequest([self.transactional_id], 1)
            for anyone in list(self.cluster.running):
                service = self.cluster.service(anyone).transactions
                [found] = (await service.find_coordinator(request)).coordinators
                if found.broker is not None and found.broker.broker_id in self.cluster.running:
                    return found.broker.broker_id
            return None

        found = await until(find)
        assert found is not None
        return found

    async def service(self) -> TransactionService:
        return self.cluster.service(await self.coordinator()).transactions

    async def init(self, *, goes_on: bool = False) -> MinikafkaError | None:
        known = (self.producer_id, self.producer_epoch) if goes_on else (-1, -1)
        request = InitProducerIdRequest(self.transactional_id, self.timeout_ms, *known)

        async def attempt() -> ProducerIdentity | None:
            return _unless_busy(await (await self.service()).init_producer_id(request))

        identity = await until(attempt)
        assert identity is not None
        self._become(identity)
        return identity.error

    def _become(self, identity: ProducerIdentity) -> None:
        if identity.error is None and identity.producer_id >= 0:
            self._sequences.clear()
            self.producer_id, self.producer_epoch = identity.producer_id, identity.producer_epoch

    async def add(self, *partitions: TopicPartition) -> MinikafkaError | None:
        request = AddPartitionsRequest(
            self.transactional_id, self.producer_id, self.producer_epoch, partitions
        )

        async def attempt() -> list[MinikafkaError | None] | None:
            errors = list((await (await self.service()).add_partitions(request)).values())
            return None if any(each is not None and each.retriable for each in errors) else errors

        errors = await until(attempt)
        assert errors is not None
        return next((each for each in errors if each is not None), None)

    async def produce_once(
        self, leader: int, topic_partition: TopicPartition, *values: bytes
    ) -> MinikafkaError | None:
        builder = BatchBuilder()
        for value in values:
            builder.append(None, value, (), 1_700_000_000_000)
        sequence = self._sequences.get(topic_partition, 0)
        records = builder.build(
            producer_id=self.producer_id,
            producer_epoch=self.producer_epoch,
            base_sequence=sequence,
            transactional=True,
        )
        request = ProduceRequest(
            -1,
            2_000,
            [ProducePartition(topic_partition, records)],
            transactional_id=self.transactional_id,
            adds_to_transaction=self.version >= TV2,
        )
        [result] = await self.cluster.service(leader).produce(request)
        if result.error is None:
            self._sequences[topic_partition] = sequence + len(values)
        return result.error

    async def end(self, *, commits: bool = True) -> MinikafkaError | None:
        request = EndTransactionRequest(
            self.transactional_id, self.producer_id, self.producer_epoch, commits, self.version
        )

        async def attempt() -> ProducerIdentity | None:
            return _unless_busy(await (await self.service()).end(request))

        identity = await until(attempt)
        assert identity is not None
        if self.version >= TV2:
            self._become(identity)
        return identity.error


def _unless_busy(identity: ProducerIdentity) -> ProducerIdentity | None:
    return None if identity.error is not None and identity.error.retriable else identity


async def committed(
    cluster: BrokerCluster, leader: int, topic_partition: TopicPartition
) -> list[bytes | None]:
    """The values that a reader of committed records sees."""
    partition = FetchPartition(topic_partition, 0, 10**6)
    request = FetchRequest(0, 1, 10**6, [partition], read_committed=True)
    [result] = await cluster.service(leader).fetch(request)
    assert result.error is None, result.error
    headers = split(result.records)
    hidden = aborted_batches(result.records, headers, result.aborted or ())
    values, at = [], 0
    for header in headers:
        batch = result.records[at : at + header.size_bytes]
        at += header.size_bytes
        if not is_control(header) and header.base_offset not in hidden:
            values += [record.value for record in iter_records(batch, header)]
    return values
