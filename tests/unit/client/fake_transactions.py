"""A transaction coordinator that is played, for the cluster in memory (fake_cluster.py).

It keeps the rules of TV2 that a client can see: every end, and every init, raises the epoch, and
markers carry it to the partitions in which the transaction is open; a repetition of the last end is
known. Its own faults, `scripted`, are tried in order, once each: functions of the request that give
a Said, or None for requests that they are not about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from minikafka.api.groups import (
    FindCoordinatorResult,
    FoundCoordinator,
    OffsetCommitPartitionResult,
    OffsetCommitResult,
)
from minikafka.api.transactions import (
    EndTransactionRequest,
    InitProducerIdRequest,
    ListedTransaction,
    ListTransactionsResult,
    ProducerIdentity,
    TransactionDescription,
)
from minikafka.errors import (
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    MinikafkaError,
    ProducerFencedError,
    TransactionAbortableError,
    TransactionalIdNotFoundError,
)
from minikafka.model import CONTROL, EndMarker, TopicPartition
from minikafka.records.markers import build_marker, read_marker
from minikafka.records.read import iter_records


@dataclass
class Said:
    """What becomes of one request: is it carried out, and what is answered (None: what came of it;
    a NetworkError is raised)."""

    error: MinikafkaError | None
    done: bool = False


Script = Callable[[Any], Said | None]


@dataclass
class Known:
    producer_id: int
    producer_epoch: int = 0
    last_epoch: int = -1
    committed: bool | None = None  # how the last one ended; None: none did
    timeout_ms: int = 0
    staged: list[Any] = field(default_factory=list)


class PlayedCoordinator:
    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.broker_id = 1
        self.ids: dict[str, Known] = {}
        self.asked: list[Any] = []
        self.scripted: list[Script] = []
        self.offsets: dict[tuple[str, TopicPartition], int] = {}
        self.offset_errors: list[MinikafkaError] = []
        self.answers: dict[str, Any] = {}  # of describe_producers and so on, by method

    def script(self, kind: type, *said: Said) -> None:
        """The next requests of this kind are answered so, one after another."""
        for each in said:
            self.scripted.append(lambda request, each=each: isinstance(request, kind) and each)

    async def handle(self, channel: Any, request: Any, do: Callable[[Any], Any]) -> Any:
        await channel.arrive(type(request).__name__)
        self.asked.append(request)
        for script in self.scripted:
            said = script(request)
            if said:
                self.scripted.remove(script)
                break
        else:
            return do(request)
        if said.done:
            answer = do(request)
            if said.error is None:
                return answer
        if isinstance(said.error, MinikafkaError) and said.error.code == 13:
            raise said.error
        return ProducerIdentity(said.error)

    def init(self, request: InitProducerIdRequest) -> ProducerIdentity:
        known = self.ids.get(request.transactional_id)
        if known is None:
            self.cluster.next_producer_id += 1
            known = self.ids[request.transactional_id] = Known(self.cluster.next_producer_id)
        else:
            self.end_open(known, False)
            known.last_epoch = -1
        known.timeout_ms = request.timeout_ms
        return ProducerIdentity(None, known.producer_id, known.producer_epoch)

    def end(self, request: EndTransactionRequest) -> ProducerIdentity:
        known = self.ids[request.transactional_id]
        if request.producer_id != known.producer_id:
            return ProducerIdentity(InvalidProducerIdMappingError("another producer id"))
        if request.producer_epoch == known.producer_epoch:
            if request.commits and not self.open_at(known) and not known.staged:
                return ProducerIdentity(InvalidTxnStateError("nothing is open"))
            self.end_open(known, request.commits)
        elif request.producer_epoch != known.last_epoch:
            return ProducerIdentity(ProducerFencedError("another epoch"))
        elif known.committed != request.commits:
            error = TransactionAbortableError if request.commits else InvalidTxnStateError
            return ProducerIdentity(error("it has ended in the other way"))
        return ProducerIdentity(None, known.producer_id, known.producer_epoch)

    def open_at(self, known: Known) -> list[Any]:
        partitions = [each for topic in self.cluster.topics.values() for each in topic]
        states = [(each, each.producers.get(known.producer_id)) for each in partitions]
        return [each for each, state in states if state is not None and state.is_open]

    def end_open(self, known: Known, commits: bool) -> None:
        """Also what a timeout does."""
        partitions = self.open_at(known)
        known.last_epoch, known.committed = known.producer_epoch, commits
        known.producer_epoch += 1
        for each in partitions:
            marker = EndMarker(commits, 0)
            each.append(build_marker(known.producer_id, known.producer_epoch, marker, 0))
        for group_id, partition, offset in known.staged if commits else ():
            self.offsets[group_id, partition] = offset
        known.staged = []

    def stage(self, request: Any) -> OffsetCommitResult:
        known = self.ids[request.transactional_id]
        error = self.offset_errors.pop(0) if self.offset_errors else None
        if request.producer_epoch != known.producer_epoch:
            error = ProducerFencedError("another epoch")
        if error is None:
            known.staged += [
                (request.group_id, each.topic_partition, each.offset) for each in request.partitions
            ]
        return OffsetCommitResult(
            [
                OffsetCommitPartitionResult(each.topic_partition, error)
                for each in request.partitions
            ]
        )


class FakeTransactions:
    """The transactions of a FakeChannel."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.played: PlayedCoordinator = channel.cluster.coordination

    async def find_coordinator(self, request: Any) -> FindCoordinatorResult:
        await self.channel.arrive("find_coordinator")
        [key] = request.keys
        broker = self.channel.cluster.brokers[self.played.broker_id]
        return FindCoordinatorResult([FoundCoordinator(key, None, broker)])

    async def init_producer_id(self, request: InitProducerIdRequest) -> ProducerIdentity:
        return await self.played.handle(self.channel, request, self.played.init)

    async def end(self, request: EndTransactionRequest) -> ProducerIdentity:
        return await self.played.handle(self.channel, request, self.played.end)

    async def list_transactions(self, request: Any) -> ListTransactionsResult:
        await self.channel.arrive("list_transactions")
        listed = self.played.answers.get("list", {}).get(self.channel.broker_id)
        if listed is None:
            return ListTransactionsResult(None)
        if isinstance(listed, ListTransactionsResult):
            return listed
        return ListTransactionsResult(
            None,
            [
                ListedTransaction(each.transactional_id, each.producer_id, each.state)
                for each in listed
                if not request.producer_ids or each.producer_id in request.producer_ids
            ],
        )

    async def describe_transactions(self, transactional_ids: Any) -> list[TransactionDescription]:
        await self.channel.arrive("describe_transactions")
        by_broker = self.played.answers["list"].values()  # broker 1 is told to coordinate them all
        known = {each.transactional_id: each for listed in by_broker for each in listed}
        return [
            known.get(each)
            or TransactionDescription(each, TransactionalIdNotFoundError(f"no id {each!r}"))
            for each in transactional_ids
        ]

    async def describe_producers(self, partitions: Any) -> list[Any]:
        await self.channel.arrive("describe_producers")
        return [
            self.played.answers["producers"](self.channel.broker_id, each) for each in partitions
        ]

    async def abort_partitions(self, partitions: Any) -> list[MinikafkaError | None]:
        await self.channel.arrive("abort_partitions")
        self.played.asked += partitions
        return [self.played.answers["abort"] for _ in partitions]


class FakeGroups:
    """The groups of a FakeChannel: offsets of transactions, nothing else."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.played: PlayedCoordinator = channel.cluster.coordination

    async def find_coordinator(self, request: Any) -> FindCoordinatorResult:
        await self.channel.arrive("find_coordinator")
        [key] = request.keys
        broker = self.channel.cluster.brokers[self.played.broker_id]
        return FindCoordinatorResult([FoundCoordinator(key, None, broker)])

    async def commit_offsets_in_transaction(self, request: Any) -> OffsetCommitResult:
        return await self.played.handle(self.channel, request, self.played.stage)


def committed(partition: Any) -> list[bytes]:
    """The values that a reader of committed records sees, as the markers say."""
    seen: list[bytes] = []
    open_values: dict[int, list[tuple[int, bytes]]] = {}
    done: list[tuple[int, bytes]] = []
    for header, data in partition.batches:
        if header.attributes & CONTROL:
            marker = read_marker(data, header)
            values = open_values.pop(header.producer_id, [])
            if marker is not None and marker.commits:
                done += values
            continue
        values = open_values.setdefault(header.producer_id, [])
        values += [(record.offset, record.value) for record in iter_records(data, header)]
    seen += [value for _, value in sorted(done)]
    return seen
