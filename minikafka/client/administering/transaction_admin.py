"""Administration of transactions: the part of AsyncAdmin that goes to their coordinators, and to
the leaders of partitions where they are open.

No state of its own. A call about several things has an error in each result; a list is complete, or
its call raises.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from minikafka.api.requests import ClusterMetadata
from minikafka.api.transactions import (
    AbortPartition,
    ActiveProducer,
    CheckedPartition,
    DescribedProducers,
    ListedTransaction,
    ListTransactionsRequest,
    TransactionDescription,
)
from minikafka.client.administering.every_broker import ask_every_broker
from minikafka.client.channel import Channel, TransactionCalls
from minikafka.client.metadata import Cluster
from minikafka.client.producing.coordinator import TransactionCoordinator
from minikafka.config.overrides import ConfigDescription
from minikafka.errors import InvalidRequestError, MinikafkaError
from minikafka.model import TopicPartition

A = TypeVar("A", DescribedProducers, CheckedPartition)
MAX_TIMEOUT = "transaction.max.timeout.ms"
HANGING_MARGIN_MS = 5 * 60_000  # what a coordinator may take, beyond the timeout
ENDS_BY_ITSELF = ("Ongoing", "PrepareCommit", "PrepareAbort")


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that is open at a partition, as the partition's leader knows it. `owner`: the
    transactional id whose coordinator will end it; None: it hangs, unless it has just begun or
    ended."""

    topic_partition: TopicPartition
    producer: ActiveProducer
    owner: str | None = None


class TransactionAdmin:
    """What it needs of the rest of the admin stands first."""

    _cluster: Cluster
    _timeout_ms: float

    @abstractmethod
    async def metadata(self, topics: Sequence[str] | None = None) -> ClusterMetadata: ...

    @abstractmethod
    async def describe_broker_configs(self, broker: int | None) -> Sequence[ConfigDescription]: ...

    @abstractmethod
    async def _ask_leaders(
        self,
        partitions: Sequence[TopicPartition],
        call: Callable[[Channel, Sequence[TopicPartition]], Awaitable[Sequence[A]]],
        failed: Callable[[TopicPartition, MinikafkaError], A],
    ) -> dict[TopicPartition, A]: ...

    async def list_transactions(
        self,
        states: Iterable[str] = (),
        producer_ids: Iterable[int] = (),
        longer_than_ms: int = -1,
    ) -> list[ListedTransaction]:
        """All transactional ids of the cluster, by name: or those in one of these states (Empty,
        Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort), of one of these
        producer ids, or with a transaction that is open for longer than this. Every live broker has
        to answer, or some would be missing: one that dies is waited for until it is known to be
        dead, one that still loads until it has loaded."""
        request = ListTransactionsRequest(tuple(states), tuple(producer_ids), longer_than_ms)

        async def ask(channel: Channel) -> Sequence[ListedTransaction]:
            result = await channel.transactions.list_transactions(request)
            if result.error is not None:
                raise result.error
            if result.unknown_states:
                raise InvalidRequestError(
                    f"{', '.join(result.unknown_states)}: transactions have no such state"
                )
            return result.transactions

        answers = await ask_every_broker(self._cluster, self.metadata, ask, self._timeout_ms)
        found = {each.transactional_id: each for listed in answers for each in listed}
        return [found[name] for name in sorted(found)]

    async def describe_transactions(
        self, transactional_ids: Iterable[str]
    ) -> list[TransactionDescription]:
        """State, producer and partitions of each, in the order asked for:
        TransactionalIdNotFoundError in the result of one that is not there."""

        async def describe(transactional_id: str) -> TransactionDescription:
            async def ask(service: TransactionCalls) -> TransactionDescription:
                [only] = await service.describe_transactions([transactional_id])
                return only

            coordinator = TransactionCoordinator(self._cluster, transactional_id)
            try:
                return await coordinator.call(ask, self._timeout_ms)
            except MinikafkaError as error:
                return TransactionDescription(transactional_id, error)

        return list(await asyncio.gather(*(describe(each) for each in transactional_ids)))

    async def describe_producers(
        self, partitions: Iterable[TopicPartition]
    ) -> list[DescribedProducers]:
        """The producers that the leader of each partition remembers, in the order asked for. An
        entry has an error where there is no leader or it does not answer."""
        wanted = list(partitions)

        def ask(
            channel: Channel, asked: Sequence[TopicPartition]
        ) -> Awaitable[Sequence[DescribedProducers]]:
            return channel.transactions.describe_producers(asked)

        found = await self._ask_leaders(wanted, ask, DescribedProducers)
        return [found[each] for each in wanted]

    async def open_transactions(
        self, partitions: Iterable[TopicPartition], min_age_ms: float = 0
    ) -> list[OpenTransaction]:
        """What is open at these partitions and has written nothing for as long. Raises the error of
        the first partition that has one."""
        found = await self._open_at(partitions, min_age_ms)
        owners = await self._owners(found)
        return [
            replace(each, owner=owners.get((each.producer.producer_id, each.topic_partition)))
            for each in found
        ]

    async def find_hanging_transactions(
        self, partitions: Iterable[TopicPartition] | None = None, max_age_ms: float | None = None
    ) -> list[OpenTransaction]:
        """Those that nobody will end (None: of all partitions): open at a partition, without a new
        record for `max_age_ms` (None: the longest timeout that the cluster allows, and five
        minutes), and not in what their coordinator has to end. Raises the error of the first
        partition that has one."""
        if max_age_ms is None:
            max_age_ms = await self.max_transaction_timeout_ms() + HANGING_MARGIN_MS
        if partitions is None:
            partitions = [
                each.topic_partition
                for topic in (await self.metadata(None)).topics
                for each in topic.partitions
            ]
        wanted = list(partitions)
        hanging = [
            each for each in await self.open_transactions(wanted, max_age_ms) if not each.owner
        ]
        if not hanging:
            return []
        # One that was ended between the two questions is no longer open.
        again = await self._open_at({each.topic_partition: None for each in hanging}, max_age_ms)
        return [each for each in again if each in hanging]

    async def abort_transaction(
        self,
        topic_partition: TopicPartition,
        producer_id: int,
        producer_epoch: int,
        coordinator_epoch: int = -1,
    ) -> None:
        """End a transaction that hangs at a partition: an abort marker, there only. It must not be
        used on one that its coordinator knows: what that one commits elsewhere would be torn.
        InvalidProducerIdMappingError if nothing of this producer is open."""
        wanted = AbortPartition(topic_partition, producer_id, producer_epoch, coordinator_epoch)

        async def ask(
            channel: Channel, asked: Sequence[TopicPartition]
        ) -> Sequence[CheckedPartition]:
            errors = await channel.transactions.abort_partitions([wanted for _ in asked])
            return [CheckedPartition(*each) for each in zip(asked, errors, strict=True)]

        found = await self._ask_leaders([topic_partition], ask, CheckedPartition)
        error = found[topic_partition].error
        if error is not None:
            raise error

    async def max_transaction_timeout_ms(self) -> int:
        """The longest that a producer may ask for, at any live broker."""
        brokers = (await self.metadata([])).brokers
        configs = [await self.describe_broker_configs(each.broker_id) for each in brokers]
        values = [each.value for config in configs for each in config if each.name == MAX_TIMEOUT]
        return max(int(each) for each in values if each is not None)

    async def _open_at(
        self, partitions: Iterable[TopicPartition], min_age_ms: float
    ) -> list[OpenTransaction]:
        found = []
        latest_ms = time.time() * 1000 - min_age_ms
        for partition in await self.describe_producers(partitions):
            if partition.error is not None:
                raise type(partition.error)(f"{partition.topic_partition}: {partition.error}")
            found += [
                OpenTransaction(partition.topic_partition, each)
                for each in partition.producers
                if each.open_first_offset >= 0 and each.last_timestamp_ms <= latest_ms
            ]
        return found

    async def _owners(
        self, transactions: Sequence[OpenTransaction]
    ) -> Mapping[tuple[int, TopicPartition], str]:
        """By producer id and partition: the transactional id in whose transaction it is."""
        producer_ids = {each.producer.producer_id for each in transactions}
        if not producer_ids:
            return {}
        listed = await self.list_transactions(ENDS_BY_ITSELF, producer_ids)
        described = await self.describe_transactions([each.transactional_id for each in listed])
        return {
            (each.producer_id, partition): each.transactional_id
            for each in described
            if each.error is None and each.state in ENDS_BY_ITSELF
            for partition in each.partitions
        }
