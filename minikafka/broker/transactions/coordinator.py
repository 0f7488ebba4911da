"""The transaction coordinator of a broker: the TransactionService of api/service.py, what partition
leaders ask of it, and what this broker asks of others as a partition leader.

A transactional id belongs to the partition `hash(id) % partitions` of `__transaction_state`, and is
coordinated by the broker that leads it. Here a request finds its shard (shards.py), is handed to it
(core/transactions/ decides, shard.py carries out), and its answer is awaited.

State: the newest connection of each id (T10).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

from minikafka.api.features import TRANSACTION_VERSION
from minikafka.api.groups import FindCoordinatorRequest, FindCoordinatorResult, FoundCoordinator
from minikafka.api.transactions import (
    AbortPartition,
    ActiveProducer,
    AddOffsetsRequest,
    AddPartitionsRequest,
    CheckedPartition,
    CheckPartitionsRequest,
    CheckPartitionsResult,
    DescribedProducers,
    EndTransactionRequest,
    InitProducerIdRequest,
    ListedTransaction,
    ListTransactionsRequest,
    ListTransactionsResult,
    NewestOf,
    ProducerIdentity,
    TransactionDescription,
)
from minikafka.broker.coordinators.topic import CoordinatorTopic
from minikafka.broker.metadata import MetadataCache
from minikafka.broker.ports import Peers
from minikafka.broker.replication.replica import Replica
from minikafka.broker.replication.transactional import end_transaction
from minikafka.broker.transactions.shard import TransactionShard
from minikafka.broker.transactions.shards import TransactionShards
from minikafka.core.replication.effects import TransactionQuestion
from minikafka.core.replication.transactional import TransactionEnd
from minikafka.core.transactions.connections import NewestConnections
from minikafka.core.transactions.marker_outbox import Confirmed, Shard
from minikafka.core.transactions.requests import (
    AddRequest,
    Answer,
    EndRequest,
    InitRequest,
    Request,
    Result,
    VerifyAnswer,
    VerifyRequest,
)
from minikafka.core.transactions.values import (
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    TransactionState,
    TransactionValue,
)
from minikafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidRequestError,
    InvalidTopicError,
    MinikafkaError,
    NotCoordinatorError,
    OperationNotAttemptedError,
    ProducerFencedError,
    RequestTimedOutError,
    TransactionalIdNotFoundError,
)
from minikafka.model import INTERNAL_TOPICS, OFFSETS_TOPIC, TopicPartition
from minikafka.turns import in_slices

ANSWER_TIMEOUT_S = 5.0
QUESTION_TIMEOUT_MS = 2_000

STATES: Mapping[str, TransactionState] = {
    "".join(word.capitalize() for word in state.name.split("_")): state
    for state in TransactionState
}
_NAMES = {state: name for name, state in STATES.items()}


class TransactionCoordinator:
    """`shards` has the ids that this broker coordinates, `topic` knows who has the others; `agreed`
    says whether all brokers of the cluster know of transactions."""

    def __init__(
        self,
        broker_id: int,
        metadata: MetadataCache,
        peers: Peers,
        topic: CoordinatorTopic,
        offsets_topic: CoordinatorTopic,
        shards: TransactionShards,
        find: Callable[[TopicPartition], Replica],
        now_ms: Callable[[], int],
        now_timestamp_ms: Callable[[], int],
        agreed: Callable[[], bool],
    ) -> None:
        self._agreed = agreed
        self._broker_id = broker_id
        self._metadata = metadata
        self._peers = peers
        self._topic = topic
        self._offsets_topic = offsets_topic
        self._offsets_problem: MinikafkaError | None = None  # why it is not there
        self._shards = shards
        self._find = find
        self._now_ms = now_ms
        self._now_timestamp_ms = now_timestamp_ms
        self._newest = NewestConnections()

    # --- for clients -----------------------------------------------------------------------------

    def fences(self, transactional_id: str, producer_id: int, producer_epoch: int) -> bool:
        try:
            value = self._value(self._shards.of_id(transactional_id), transactional_id)
        except MinikafkaError:
            return False  # who does not coordinate the id knows of nobody who is fenced
        return value.fences(producer_id, producer_epoch)

    def hears(self, transactional_id: str, kind: NewestOf, connection: int) -> bool:
        return self._newest.hears(transactional_id, kind, connection)

    async def find_coordinator(self, request: FindCoordinatorRequest) -> FindCoordinatorResult:
        try:
            self._check_agreed()
            self._shards.check_in_touch()  # or the client would be sent to who led before
        except MinikafkaError as error:
            keys = in_slices(dict.fromkeys(request.keys))
            return FindCoordinatorResult([self._is_coordinator(k, error) async for k in keys])
        return await self._topic.find_coordinators(request.keys)

    def _check_agreed(self) -> None:
        """A replica that knows of no transactions would not keep which of them were aborted."""
        if not self._agreed():
            raise CoordinatorNotAvailableError(
                f"not all brokers are known to know of transactions yet ({TRANSACTION_VERSION})"
            )

    def _is_coordinator(self, transactional_id: str, error: MinikafkaError) -> FoundCoordinator:
        """What a broker out of touch still knows: of which ids it is the coordinator itself."""
        try:
            self._shards.of_id(transactional_id)
        except MinikafkaError:
            return FoundCoordinator(transactional_id, error)
        return FoundCoordinator(transactional_id, None, self._metadata.brokers.get(self._broker_id))

    async def init_producer_id(self, request: InitProducerIdRequest) -> ProducerIdentity:
        known = (request.producer_id, request.producer_epoch)
        if (known[0] == NO_PRODUCER_ID) != (known[1] == NO_PRODUCER_EPOCH):
            return ProducerIdentity(
                InvalidRequestError(
                    f"producer id {known[0]} with epoch {known[1]}: both are given, or both are -1"
                )
            )
        wanted = InitRequest(request.timeout_ms, *known)
        return await self._identity(request.transactional_id, wanted)

    async def end(self, request: EndTransactionRequest) -> ProducerIdentity:
        wanted = EndRequest(
            request.producer_id, request.producer_epoch, request.commits, request.version
        )
        return await self._identity(request.transactional_id, wanted)

    async def _identity(self, transactional_id: str, request: Request) -> ProducerIdentity:
        try:
            answer = await self._ask(transactional_id, request)
        except MinikafkaError as error:
            return ProducerIdentity(error.with_traceback(None))
        assert isinstance(answer, Answer), answer
        return ProducerIdentity(answer.error, answer.producer_id, answer.producer_epoch)

    async def add_partitions(
        self, request: AddPartitionsRequest
    ) -> Mapping[TopicPartition, MinikafkaError | None]:
        wanted = dict.fromkeys(request.partitions)
        wrong: dict[TopicPartition, MinikafkaError | None] = {
            each: error
            async for each in in_slices(wanted)
            if (error := self._problem_of(each)) is not None
        }
        if wrong:
            refused = OperationNotAttemptedError("another partition of the request is wrong")
            return {each: wrong.get(each, refused) async for each in in_slices(wanted)}
        if not wanted:
            return {}
        error = await self._add(
            request.transactional_id, request.producer_id, request.producer_epoch, wanted
        )
        return dict.fromkeys(wanted, error)

    def _problem_of(self, topic_partition: TopicPartition) -> MinikafkaError | None:
        if topic_partition.topic in INTERNAL_TOPICS:
            return InvalidTopicError(f"{topic_partition.topic} is the brokers' own topic")
        return self._unknown(topic_partition)

    def _unknown(self, topic_partition: TopicPartition) -> MinikafkaError | None:
        """What is not known here cannot be added: its markers would have nowhere to go."""
        if self._metadata.partition(topic_partition) is None:
            return self._metadata.missing(f"there is no partition {topic_partition}")
        return None

    async def prepare_offsets(self) -> None:
        self._offsets_problem = await self._offsets_topic.ensure()

    async def add_offsets(self, request: AddOffsetsRequest) -> MinikafkaError | None:
        """Handed to the shard before anything is awaited (see `hears`)."""
        number = self._offsets_topic.partition_of(request.group_id)
        if number is None:
            return CoordinatorNotAvailableError(
                f"{OFFSETS_TOPIC} is not there yet: {self._offsets_problem}"
            )
        return await self._add(
            request.transactional_id,
            request.producer_id,
            request.producer_epoch,
            [TopicPartition(OFFSETS_TOPIC, number)],
        )

    async def _add(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        partitions: Iterable[TopicPartition],
        *,
        knows_abortable: bool = False,
    ) -> MinikafkaError | None:
        wanted = AddRequest(producer_id, producer_epoch, frozenset(partitions), knows_abortable)
        try:
            answer = await self._ask(transactional_id, wanted)
        except MinikafkaError as error:
            return error.with_traceback(None)
        assert isinstance(answer, Answer), answer
        return answer.error

    async def _ask(self, transactional_id: str, request: Request) -> Result:
        """The answer, in time. Raises what the shard cannot be found for."""
        answer = self._shards.of_id(transactional_id).handle(transactional_id, request)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await answer
        except TimeoutError:
            raise CoordinatorNotAvailableError(
                f"not all in-sync replicas of {self._topic.name} had the record within "
                f"{ANSWER_TIMEOUT_S:.0f} s; it may yet be committed"
            ) from None

    # --- for leaders of partitions ---------------------------------------------------------------

    async def check_partitions(self, request: CheckPartitionsRequest) -> CheckPartitionsResult:
        """Answers for each partition: None, it is in the transaction."""
        partitions = frozenset(request.partitions)
        refused: Mapping[TopicPartition, MinikafkaError | None]
        if request.adds:
            refused = await self._check_by_adding(request, partitions)
        else:
            refused = await self._check_by_asking(request, partitions)
        return CheckPartitionsResult(
            [CheckedPartition(each, refused.get(each)) for each in request.partitions]
        )

    async def _check_by_adding(
        self, request: CheckPartitionsRequest, partitions: frozenset[TopicPartition]
    ) -> Mapping[TopicPartition, MinikafkaError | None]:
        unknown = {each: error for each in partitions if (error := self._unknown(each)) is not None}
        known = partitions.difference(unknown)
        if not known:
            return unknown
        error = await self._add(
            request.transactional_id,
            request.producer_id,
            request.producer_epoch,
            known,
            knows_abortable=request.knows_abortable,
        )
        return {**unknown, **dict.fromkeys(known, error)}

    async def _check_by_asking(
        self, request: CheckPartitionsRequest, partitions: frozenset[TopicPartition]
    ) -> Mapping[TopicPartition, MinikafkaError | None]:
        wanted = VerifyRequest(
            request.producer_id, request.producer_epoch, partitions, request.knows_abortable
        )
        try:
            self._check_newest(request)
            answer = await self._ask(request.transactional_id, wanted)
        except MinikafkaError as error:
            return dict.fromkeys(partitions, error.with_traceback(None))
        assert isinstance(answer, VerifyAnswer), answer
        return answer.refused

    def _check_newest(self, request: CheckPartitionsRequest) -> None:
        """What is only asked is told from memory: not by a coordinator of whose successor the
        partition knows. Raises NotCoordinatorError."""
        own_epoch = self._shards.of_id(request.transactional_id).partition.leader_epoch
        if own_epoch < request.coordinator_epoch:
            raise NotCoordinatorError(
                f"the partition of transactional id {request.transactional_id!r} is at leader "
                f"epoch {own_epoch} here, and {request.coordinator_epoch} has ended a transaction"
            )

    async def is_in_transaction(self, question: TransactionQuestion) -> None:
        """The TransactionCoordinators of ports.py: asks whoever coordinates, here or elsewhere."""
        request = CheckPartitionsRequest(
            question.transactional_id,
            question.producer_id,
            question.producer_epoch,
            [question.topic_partition],
            question.adds,
            coordinator_epoch=question.coordinator_epoch,
        )
        broker = self._topic.coordinator_of(question.transactional_id)
        if broker.broker_id == self._broker_id:
            result = await self.check_partitions(request)
        else:
            result = await self._peers.check_partitions(broker, request, QUESTION_TIMEOUT_MS)
        [checked] = result.partitions
        if isinstance(checked.error, ProducerFencedError):
            raise InvalidProducerEpochError(str(checked.error))
        if checked.error is not None:
            raise checked.error

    # --- what the channel of markers tells -------------------------------------------------------

    def on_confirmed(self, confirmed: Confirmed) -> None:
        shard = self._shards.of_key(confirmed.shard)
        if shard is not None:
            shard.on_confirmed(confirmed.transactional_id, confirmed.partition)

    def on_fenced(self, key: Shard) -> None:
        self._shards.fence(key)

    # --- administration --------------------------------------------------------------------------

    async def list_transactions(self, request: ListTransactionsRequest) -> ListTransactionsResult:
        unknown = [name for name in dict.fromkeys(request.states) if name not in STATES]
        wanted = {STATES[name] for name in request.states if name in STATES}
        producer_ids = frozenset(request.producer_ids)
        if self._shards.loading:
            loading = CoordinatorLoadInProgressError(
                f"broker {self._broker_id} still reads some of its transactional ids"
            )
            return ListTransactionsResult(loading, (), unknown)
        found = []
        async for transactional_id, value in self._values():
            if request.states and value.state not in wanted:
                continue
            if producer_ids and value.producer_id not in producer_ids:
                continue
            if request.longer_than_ms >= 0 and not self._is_older(value, request.longer_than_ms):
                continue
            found.append(
                ListedTransaction(transactional_id, value.producer_id, _NAMES[value.state])
            )
        return ListTransactionsResult(None, found, unknown)

    async def _values(self) -> AsyncIterator[tuple[str, TransactionValue]]:
        for shard in self._shards.serving():
            async for transactional_id in in_slices(shard.coordinator.transactional_ids()):
                value = shard.coordinator.value(transactional_id)
                if value is not None:
                    yield transactional_id, value

    def _is_older(self, value: TransactionValue, than_ms: int) -> bool:
        return (
            not value.state.is_quiet
            and self._now_timestamp_ms() - value.start_timestamp_ms > than_ms
        )

    async def describe_transactions(
        self, transactional_ids: Sequence[str]
    ) -> Sequence[TransactionDescription]:
        return [self._describe(each) async for each in in_slices(dict.fromkeys(transactional_ids))]

    def _describe(self, transactional_id: str) -> TransactionDescription:
        try:
            if not transactional_id:
                raise InvalidRequestError("the transactional id is empty")
            value = self._value(self._shards.of_id(transactional_id), transactional_id)
        except MinikafkaError as error:
            return TransactionDescription(transactional_id, error.with_traceback(None))
        return TransactionDescription(
            transactional_id,
            None,
            _NAMES[value.state],
            value.timeout_ms,
            -1 if value.state.is_quiet else value.start_timestamp_ms,
            value.producer_id,
            value.producer_epoch,
            sorted(value.partitions),
        )

    def _value(self, shard: TransactionShard, transactional_id: str) -> TransactionValue:
        if not shard.serving:
            raise CoordinatorLoadInProgressError("the coordinator still reads its records")
        value = shard.coordinator.value(transactional_id)
        if value is None:
            raise TransactionalIdNotFoundError(f"there is no id {transactional_id!r}")
        return value

    async def describe_producers(
        self, partitions: Sequence[TopicPartition]
    ) -> Sequence[DescribedProducers]:
        return [await self._producers(each) async for each in in_slices(dict.fromkeys(partitions))]

    async def _producers(self, topic_partition: TopicPartition) -> DescribedProducers:
        """A follower tells it, too: `kafka-transactions.sh find-hanging` asks of all replicas."""
        try:
            core = self._find(topic_partition).core
        except MinikafkaError as error:
            return DescribedProducers(topic_partition, error.with_traceback(None))
        return DescribedProducers(
            topic_partition,
            None,
            [
                ActiveProducer(
                    producer_id,
                    known.producer_epoch,
                    known.batches[-1].last_sequence if known.batches else -1,
                    known.last_timestamp_ms,
                    known.coordinator_epoch,
                    known.open_first_offset,
                )
                async for producer_id, known in in_slices(list(core.log_state.producers.items()))
            ],
        )

    async def abort_partitions(
        self, partitions: Sequence[AbortPartition]
    ) -> Sequence[MinikafkaError | None]:
        return [await self._abort(each) async for each in in_slices(partitions)]

    async def _abort(self, wanted: AbortPartition) -> MinikafkaError | None:
        """An abort marker, for what is open here: under the epoch that it has, or a higher one."""
        try:
            replica = self._find(wanted.topic_partition)
            replica.core.require_leader()
            known = replica.core.log_state.producers.get(wanted.producer_id)
            if known is None or not known.is_open:
                raise InvalidProducerIdMappingError(
                    f"producer {wanted.producer_id} has no transaction open at "
                    f"{wanted.topic_partition}"
                )
            end = TransactionEnd(
                wanted.producer_id,
                wanted.producer_epoch,
                wanted.coordinator_epoch,
                commits=False,
                raised=False,
            )
            written = end_transaction(replica, end, self._now_timestamp_ms())
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                outcome = await written
        except TimeoutError:
            return RequestTimedOutError("the marker is written, and not committed yet")
        except MinikafkaError as error:
            return error.with_traceback(None)
        assert outcome is None or isinstance(outcome, MinikafkaError), outcome
        return outcome
