"""Transactions: producer ids, what the coordinators of transactions are asked, administration.

A producer that has given a request up goes on over another connection, and the old request may
arrive yet. So whatever is done in the name of a transactional id is done for its youngest
connection only, and an older one is closed (docs/transactions.md, T10); that is asked in the same
step as the deed itself, with no turn of the loop between them. What is refused by its looks alone
is nobody's word, and is just answered; so is what the coordinator refuses because its producer is
fenced.

Errors that came later than some versions are told to those in older words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from minikafka.api.groups import OffsetCommitPartitionResult
from minikafka.api.service import BrokerService
from minikafka.api.transactions import (
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    AbortPartition,
    ActiveProducer,
    AddOffsetsRequest,
    AddPartitionsRequest,
    EndTransactionRequest,
    InitProducerIdRequest,
    ListTransactionsRequest,
    NewestOf,
    ProducerIdentity,
    TransactionDescription,
    TxnOffsetCommitRequest,
)
from minikafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    InvalidProducerEpochError,
    InvalidRequestError,
    InvalidTxnStateError,
    MinikafkaError,
    OperationNotAttemptedError,
    ProducerFencedError,
    TopicAuthorizationFailedError,
    TransactionAbortableError,
)
from minikafka.kafka import requests
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.connection import Call, CloseConnection
from minikafka.kafka.encoding import Values
from minikafka.kafka.errors import partition_code
from minikafka.kafka.handlers.groups import code, offsets_of, partition_errors
from minikafka.kafka.handlers.handler import Handler, Handlers
from minikafka.model import INTERNAL_TOPICS, TopicPartition, topic_partition
from minikafka.turns import in_slices

Errors = Mapping[TopicPartition, MinikafkaError | None]

# The first versions that know an error. TxnOffsetCommit has never learned that somebody is fenced,
# and of AddPartitionsToTxn only a version that is between brokers has heard of the other.
_NEVER = 1_000
_FENCED_KNOWN = {
    ApiKey.INIT_PRODUCER_ID: 4,
    ApiKey.ADD_PARTITIONS_TO_TXN: 2,
    ApiKey.ADD_OFFSETS_TO_TXN: 2,
    ApiKey.END_TXN: 2,
    ApiKey.TXN_OFFSET_COMMIT: _NEVER,
}
_ABORTABLE_KNOWN = {
    ApiKey.INIT_PRODUCER_ID: 5,
    ApiKey.ADD_PARTITIONS_TO_TXN: _NEVER,
    ApiKey.ADD_OFFSETS_TO_TXN: 4,
    ApiKey.END_TXN: 4,
    ApiKey.TXN_OFFSET_COMMIT: 4,
}
# Of TxnOffsetCommit: the first that does not stumble over a coordinator that loads (KAFKA-7296),
# and the first of TV2, which adds the group to the transaction.
_LOADING_KNOWN = 2
_ADDS_OFFSETS = 5
_SHOWN_LENGTH = 100  # of an id, in a line of the log


def _told(call: Call, error: MinikafkaError | None) -> int:
    """The code of an error, in the words that the version knows."""
    if isinstance(error, ProducerFencedError) and call.version < _FENCED_KNOWN[call.api]:
        return InvalidProducerEpochError.code
    if isinstance(error, TransactionAbortableError) and call.version < _ABORTABLE_KNOWN[call.api]:
        return InvalidTxnStateError.code
    return code(error)


def _require_speaker(
    service: BrokerService,
    call: Call,
    transactional_id: str,
    producer_id: int,
    producer_epoch: int,
) -> None:
    """Before what is asked of the coordinator, which is to follow at once: it is refused, or comes
    on the youngest connection."""
    if not service.transactions.fences(transactional_id, producer_id, producer_epoch):
        _require_youngest(service, call, transactional_id, NewestOf.COORDINATION)


def _require_youngest(
    service: BrokerService, call: Call, transactional_id: str, kind: NewestOf
) -> None:
    """To be followed by the deed at once."""
    if not service.transactions.hears(transactional_id, kind, call.connection_number):
        raise CloseConnection(
            f"transactional id {transactional_id[:_SHOWN_LENGTH]!r} is used on a younger connection"
        )


def _nameless() -> MinikafkaError:
    return InvalidRequestError("the transactional id is empty")


async def _partitions_of(topics: Iterable[tuple[str, Sequence[int]]]) -> dict[TopicPartition, None]:
    """In order, each once."""
    named = ((name, index) for name, indexes in topics for index in indexes)
    return {topic_partition(name, index): None async for name, index in in_slices(named)}


# --- producers -----------------------------------------------------------------------------------


async def init_producer_id(
    service: BrokerService, call: Call, request: requests.InitProducerId
) -> Values:
    producer_id, producer_epoch = request.producer_id, request.producer_epoch
    if (producer_id == NO_PRODUCER_ID) != (producer_epoch == NO_PRODUCER_EPOCH):
        found = ProducerIdentity(InvalidRequestError("a producer id and its epoch go together"))
    elif request.transactional_id is None:
        return await _idempotent(service)
    elif not request.transactional_id:
        found = ProducerIdentity(_nameless())
    else:
        _require_speaker(service, call, request.transactional_id, producer_id, producer_epoch)
        found = await service.transactions.init_producer_id(
            InitProducerIdRequest(
                request.transactional_id, request.transaction_timeout, producer_id, producer_epoch
            )
        )
    return {"throttle_time": 0, "error_code": _told(call, found.error), **_identity(found)}


async def _idempotent(service: BrokerService) -> Values:
    """Without transactions. A producer that knows an id already asks for a new one when its epochs
    run out: it gets a new id either way."""
    try:
        found, error_code = ProducerIdentity(None, *await service.init_producer_id()), 0
    except MinikafkaError as error:
        found, error_code = ProducerIdentity(error), partition_code(error)
    return {"throttle_time": 0, "error_code": error_code, **_identity(found)}


def _identity(found: ProducerIdentity) -> Values:
    return {"producer_id": found.producer_id, "producer_epoch": found.producer_epoch}


async def add_partitions_to_txn(
    service: BrokerService, call: Call, request: requests.AddPartitionsToTxn
) -> Values:
    partitions = await _partitions_of((t.name, t.partitions) for t in request.v3_and_below_topics)
    errors = await _added(service, call, request, partitions)
    topics: dict[str, list[Values]] = {}
    async for each in in_slices(partitions):
        result = {
            "partition_index": each.partition,
            "partition_error_code": _told(call, errors[each]),
        }
        topics.setdefault(each.topic, []).append(result)
    return {
        "throttle_time": 0,
        "results_by_topic_v3_and_below": [
            {"name": name, "results_by_partition": results} for name, results in topics.items()
        ],
    }


async def _added(
    service: BrokerService,
    call: Call,
    request: requests.AddPartitionsToTxn,
    partitions: dict[TopicPartition, None],
) -> Errors:
    transactional_id = request.v3_and_below_transactional_id
    if not partitions:
        return {}  # which begins nothing
    if not transactional_id:
        error = _nameless()
        return {each: error async for each in in_slices(partitions)}
    refused = await _internal(partitions)
    if refused:
        return refused
    producer_id = request.v3_and_below_producer_id
    producer_epoch = request.v3_and_below_producer_epoch
    _require_speaker(service, call, transactional_id, producer_id, producer_epoch)
    return await service.transactions.add_partitions(
        AddPartitionsRequest(transactional_id, producer_id, producer_epoch, list(partitions))
    )


async def _internal(partitions: Iterable[TopicPartition]) -> Errors:
    """The brokers' own topics, which nobody else writes: their markers would go into what the
    coordinators remember. Nothing if none is among these; else the others are not added either."""
    names = {each.topic async for each in in_slices(partitions)} & INTERNAL_TOPICS
    if not names:
        return {}
    refused = TopicAuthorizationFailedError(f"only brokers write to {', '.join(sorted(names))}")
    others = OperationNotAttemptedError("another partition of the request was refused")
    return {
        each: refused if each.topic in names else others async for each in in_slices(partitions)
    }


async def add_offsets_to_txn(
    service: BrokerService, call: Call, request: requests.AddOffsetsToTxn
) -> Values:
    if not request.transactional_id:
        return {"throttle_time": 0, "error_code": code(_nameless())}
    await service.transactions.prepare_offsets()
    _require_speaker(
        service, call, request.transactional_id, request.producer_id, request.producer_epoch
    )
    error = await service.transactions.add_offsets(
        AddOffsetsRequest(
            request.transactional_id, request.producer_id, request.producer_epoch, request.group_id
        )
    )
    return {"throttle_time": 0, "error_code": _told(call, error)}


async def end_txn(service: BrokerService, call: Call, request: requests.EndTxn) -> Values:
    if not request.transactional_id:
        found = ProducerIdentity(_nameless())
    else:
        _require_speaker(
            service, call, request.transactional_id, request.producer_id, request.producer_epoch
        )
        found = await service.transactions.end(
            EndTransactionRequest(
                request.transactional_id,
                request.producer_id,
                request.producer_epoch,
                request.committed,
                call.version,
            )
        )
    return {"throttle_time": 0, "error_code": _told(call, found.error), **_identity(found)}


async def txn_offset_commit(
    service: BrokerService, call: Call, request: requests.TxnOffsetCommit
) -> Values:
    partitions = await offsets_of(request.topics)
    results: Sequence[OffsetCommitPartitionResult] = ()
    if not request.transactional_id:
        error = _nameless()
        results = [
            OffsetCommitPartitionResult(each.topic_partition, error)
            async for each in in_slices(partitions)
        ]
    elif partitions:
        _require_youngest(service, call, request.transactional_id, NewestOf.OFFSETS)
        result = await service.groups.commit_offsets_in_transaction(
            TxnOffsetCommitRequest(
                request.transactional_id,
                request.producer_id,
                request.producer_epoch,
                request.group_id,
                partitions,
                request.generation_id,
                request.member_id,
                request.group_instance_id,
                adds=call.version >= _ADDS_OFFSETS,
                knows_abortable=call.version >= _ABORTABLE_KNOWN[call.api],
            )
        )
        results = result.partitions
    topics = await partition_errors(results, partial(_told_of_offsets, call))
    return {"throttle_time": 0, "topics": topics}


def _told_of_offsets(call: Call, error: MinikafkaError | None) -> int:
    if isinstance(error, CoordinatorLoadInProgressError) and call.version < _LOADING_KNOWN:
        return CoordinatorNotAvailableError.code
    return _told(call, error)


# --- administration ------------------------------------------------------------------------------


async def write_txn_markers(
    service: BrokerService, call: Call, request: requests.WriteTxnMarkers
) -> Values:
    """Aborts only, for transactions that hang: what is committed, coordinators alone decide. They
    tell each other over gRPC. Markers of one producer are answered as one, as in Kafka."""
    refused = InvalidRequestError("only coordinators write markers that commit")
    codes: dict[int, dict[TopicPartition, int]] = {}
    aborts: list[AbortPartition] = []
    async for marker, each in in_slices(_marked(request.markers)):
        codes.setdefault(marker.producer_id, {})[each] = refused.code
        if not marker.transaction_result:
            aborts.append(
                AbortPartition(
                    each, marker.producer_id, marker.producer_epoch, marker.coordinator_epoch
                )
            )
    if aborts:
        errors = await service.transactions.abort_partitions(aborts)
        async for abort, error in in_slices(zip(aborts, errors, strict=True)):
            told = 0 if error is None else partition_code(error)
            codes[abort.producer_id][abort.topic_partition] = told
    return {
        "markers": [
            {"producer_id": producer_id, "topics": await _by_topic(found)}
            async for producer_id, found in in_slices(codes.items())
        ]
    }


def _marked(
    markers: Iterable[requests.TxnMarker],
) -> Iterator[tuple[requests.TxnMarker, TopicPartition]]:
    for marker in markers:
        for topic in marker.topics:
            for index in topic.partition_indexes:
                yield marker, topic_partition(topic.name, index)


async def _by_topic(codes: Mapping[TopicPartition, int]) -> list[Values]:
    topics: dict[str, list[Values]] = {}
    async for each, error_code in in_slices(codes.items()):
        result = {"partition_index": each.partition, "error_code": error_code}
        topics.setdefault(each.topic, []).append(result)
    return [{"name": name, "partitions": results} for name, results in topics.items()]


async def describe_producers(
    service: BrokerService, call: Call, request: requests.DescribeProducers
) -> Values:
    partitions = await _partitions_of((t.name, t.partition_indexes) for t in request.topics)
    found = await service.transactions.describe_producers(list(partitions)) if partitions else ()
    topics: dict[str, list[Values]] = {}
    async for each in in_slices(found):
        error = each.error
        result = {
            "partition_index": each.topic_partition.partition,
            "error_code": 0 if error is None else partition_code(error),
            "error_message": None if error is None else str(error),
            "active_producers": [_producer(one) async for one in in_slices(each.producers)],
        }
        topics.setdefault(each.topic_partition.topic, []).append(result)
    return {
        "throttle_time": 0,
        "topics": [{"name": name, "partitions": results} for name, results in topics.items()],
    }


def _producer(producer: ActiveProducer) -> Values:
    return {
        "producer_id": producer.producer_id,
        "producer_epoch": producer.producer_epoch,
        "last_sequence": producer.last_sequence,
        "last_timestamp": producer.last_timestamp_ms,
        "coordinator_epoch": producer.coordinator_epoch,
        "current_txn_start_offset": producer.open_first_offset,
    }


async def describe_transactions(
    service: BrokerService, call: Call, request: requests.DescribeTransactions
) -> Values:
    named = dict.fromkeys(request.transactional_ids)
    found = [TransactionDescription(each, _nameless()) for each in named if not each]
    ids = [each for each in named if each]
    if ids:
        found += await service.transactions.describe_transactions(ids)
    return {
        "throttle_time": 0,
        "transaction_states": [await _described(each) async for each in in_slices(found)],
    }


async def _described(found: TransactionDescription) -> Values:
    """Of one that cannot be told of there are zeros, as in Kafka."""
    if found.error is not None:
        found = TransactionDescription(
            found.transactional_id,
            found.error,
            start_timestamp_ms=0,
            producer_id=0,
            producer_epoch=0,
        )
    topics: dict[str, list[int]] = {}
    async for each in in_slices(found.partitions):
        topics.setdefault(each.topic, []).append(each.partition)
    return {
        "error_code": code(found.error),
        "transactional_id": found.transactional_id,
        "transaction_state": found.state,
        "transaction_timeout": found.timeout_ms,
        "transaction_start_time": found.start_timestamp_ms,
        "producer_id": found.producer_id,
        "producer_epoch": found.producer_epoch,
        "topics": [{"topic": name, "partitions": indexes} for name, indexes in topics.items()],
    }


async def list_transactions(
    service: BrokerService, call: Call, request: requests.ListTransactions
) -> Values:
    """A duration below 0 is any, as in Kafka."""
    result = await service.transactions.list_transactions(
        ListTransactionsRequest(
            request.state_filters,
            request.producer_id_filters,
            max(request.duration_filter, -1),
        )
    )
    return {
        "throttle_time": 0,
        "error_code": code(result.error),
        "unknown_state_filters": list(result.unknown_states),
        "transaction_states": [
            {
                "transactional_id": each.transactional_id,
                "producer_id": each.producer_id,
                "transaction_state": each.state,
            }
            async for each in in_slices(result.transactions)
        ],
    }


HANDLERS: Handlers = {
    ApiKey.INIT_PRODUCER_ID: Handler(requests.InitProducerId, init_producer_id),
    ApiKey.ADD_PARTITIONS_TO_TXN: Handler(requests.AddPartitionsToTxn, add_partitions_to_txn),
    ApiKey.ADD_OFFSETS_TO_TXN: Handler(requests.AddOffsetsToTxn, add_offsets_to_txn),
    ApiKey.END_TXN: Handler(requests.EndTxn, end_txn),
    ApiKey.TXN_OFFSET_COMMIT: Handler(requests.TxnOffsetCommit, txn_offset_commit),
    ApiKey.WRITE_TXN_MARKERS: Handler(requests.WriteTxnMarkers, write_txn_markers),
    ApiKey.DESCRIBE_PRODUCERS: Handler(requests.DescribeProducers, describe_producers),
    ApiKey.DESCRIBE_TRANSACTIONS: Handler(requests.DescribeTransactions, describe_transactions),
    ApiKey.LIST_TRANSACTIONS: Handler(requests.ListTransactions, list_transactions),
}
