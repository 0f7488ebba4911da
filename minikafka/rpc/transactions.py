"""Transactions over gRPC: what clients and administrators ask, and what brokers ask each other (the
part of the port Peers). Served, and called.

Clients speak the protocol in which every end gives the next epoch (TV2): a request that arrives
late is fenced by its epoch, so connections need no numbers here (T10 of transactions.md). Only an
InitProducer that arrives late is obeyed: it fences who sent it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from minikafka.api.groups import FindCoordinatorRequest, FindCoordinatorResult
from minikafka.api.service import BrokerService
from minikafka.api.transactions import (
    AbortPartition,
    CheckedPartition,
    CheckPartitionsRequest,
    CheckPartitionsResult,
    DescribedProducers,
    EndTransactionRequest,
    InitProducerIdRequest,
    ListTransactionsRequest,
    ListTransactionsResult,
    ProducerIdentity,
    TransactionDescription,
    WriteMarkersRequest,
    WriteMarkersResult,
)
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition
from minikafka.rpc.calls import Connection
from minikafka.rpc.convert import HasError, raise_error_of, tps_from_wire, tps_to_wire
from minikafka.rpc.generated import group_pb2
from minikafka.rpc.generated import transaction_pb2 as wire
from minikafka.rpc.generated.group_pb2_grpc import GroupServiceStub
from minikafka.rpc.generated.transaction_pb2_grpc import (
    TransactionPeerServiceStub,
    TransactionServiceStub,
)
from minikafka.rpc.mirror import all_from_wire, all_to_wire, from_wire, to_wire
from minikafka.rpc.unary import Method, converted

SERVICE = "minikafka.v1.TransactionService"
PEER_SERVICE = "minikafka.v1.TransactionPeerService"


R = TypeVar("R", bound=HasError)

# --- for clients ---------------------------------------------------------------------------------


async def _init_producer(service: BrokerService, message: wire.InitProducerRequest) -> Message:
    request = from_wire(message, InitProducerIdRequest)
    return to_wire(await service.transactions.init_producer_id(request), wire.InitProducerResponse)


async def _end_transaction(service: BrokerService, message: wire.EndTransactionRequest) -> Message:
    request = from_wire(message, EndTransactionRequest)
    return to_wire(await service.transactions.end(request), wire.EndTransactionResponse)


async def _list_transactions(
    service: BrokerService, message: wire.ListTransactionsRequest
) -> Message:
    def answer(result: ListTransactionsResult) -> Message:
        return to_wire(result, wire.ListTransactionsResponse)

    request = from_wire(message, ListTransactionsRequest)
    result = await service.transactions.list_transactions(request)
    return await converted(answer, result, of=message, more=len(result.transactions))


async def _describe_transactions(
    service: BrokerService, message: wire.DescribeTransactionsRequest
) -> Message:
    def answer(found: Sequence[TransactionDescription]) -> Message:
        transactions = all_to_wire(found, wire.TransactionDescription)
        return wire.DescribeTransactionsResponse(transactions=transactions)

    found = await service.transactions.describe_transactions(list(message.transactional_ids))
    count = sum(len(each.partitions) for each in found)
    return await converted(answer, found, of=message, more=count)


async def _describe_producers(
    service: BrokerService, message: wire.DescribeProducersRequest
) -> Message:
    def answer(found: Sequence[DescribedProducers]) -> Message:
        partitions = all_to_wire(found, wire.DescribedProducers)
        return wire.DescribeProducersResponse(partitions=partitions)

    found = await service.transactions.describe_producers(tps_from_wire(message.partitions))
    count = sum(len(each.producers) for each in found)
    return await converted(answer, found, of=message, more=count)


async def _abort_partitions(
    service: BrokerService, message: wire.AbortPartitionsRequest
) -> Message:
    wanted = all_from_wire(message.partitions, AbortPartition)
    errors = await service.transactions.abort_partitions(wanted)
    results = [
        CheckedPartition(each.topic_partition, error)
        for each, error in zip(wanted, errors, strict=True)
    ]
    return wire.AbortPartitionsResponse(partitions=all_to_wire(results, wire.CheckedPartition))


METHODS = {
    "InitProducer": Method(wire.InitProducerRequest, wire.InitProducerResponse, _init_producer),
    "EndTransaction": Method(
        wire.EndTransactionRequest, wire.EndTransactionResponse, _end_transaction
    ),
    "ListTransactions": Method(
        wire.ListTransactionsRequest, wire.ListTransactionsResponse, _list_transactions
    ),
    "DescribeTransactions": Method(
        wire.DescribeTransactionsRequest,
        wire.DescribeTransactionsResponse,
        _describe_transactions,
    ),
    "DescribeProducers": Method(
        wire.DescribeProducersRequest, wire.DescribeProducersResponse, _describe_producers
    ),
    "AbortPartitions": Method(
        wire.AbortPartitionsRequest, wire.AbortPartitionsResponse, _abort_partitions
    ),
}


class TransactionStub:
    """What clients ask of the TransactionService of the broker at the other end of a connection.
    Besides the errors in results, NetworkError is raised when the broker cannot be reached or does
    not answer in time."""

    def __init__(self, connection: Connection, request_timeout_ms: int) -> None:
        self._connection = connection
        self._request_timeout_ms = request_timeout_ms

    async def find_coordinator(self, request: FindCoordinatorRequest) -> FindCoordinatorResult:
        message = to_wire(request, group_pb2.FindCoordinatorRequest)
        response = await self._connection.call(
            lambda channel, timeout: GroupServiceStub(channel).FindCoordinator(
                message, timeout=timeout
            ),
            self._request_timeout_ms,
        )
        raise_error_of(response)
        return from_wire(response, FindCoordinatorResult)

    async def init_producer_id(self, request: InitProducerIdRequest) -> ProducerIdentity:
        message = to_wire(request, wire.InitProducerRequest)
        response = await self._call(
            lambda stub, timeout: stub.InitProducer(message, timeout=timeout)
        )
        return from_wire(response, ProducerIdentity)

    async def end(self, request: EndTransactionRequest) -> ProducerIdentity:
        message = to_wire(request, wire.EndTransactionRequest)
        response = await self._call(
            lambda stub, timeout: stub.EndTransaction(message, timeout=timeout)
        )
        return from_wire(response, ProducerIdentity)

    async def list_transactions(self, request: ListTransactionsRequest) -> ListTransactionsResult:
        message = to_wire(request, wire.ListTransactionsRequest)
        response = await self._call(
            lambda stub, timeout: stub.ListTransactions(message, timeout=timeout)
        )
        return from_wire(response, ListTransactionsResult)

    async def describe_transactions(
        self, transactional_ids: Sequence[str]
    ) -> Sequence[TransactionDescription]:
        message = wire.DescribeTransactionsRequest(transactional_ids=transactional_ids)
        response = await self._call(
            lambda stub, timeout: stub.DescribeTransactions(message, timeout=timeout)
        )
        raise_error_of(response)
        return all_from_wire(response.transactions, TransactionDescription)

    async def describe_producers(
        self, partitions: Sequence[TopicPartition]
    ) -> Sequence[DescribedProducers]:
        message = wire.DescribeProducersRequest(partitions=tps_to_wire(partitions))
        response = await self._call(
            lambda stub, timeout: stub.DescribeProducers(message, timeout=timeout)
        )
        raise_error_of(response)
        return all_from_wire(response.partitions, DescribedProducers)

    async def abort_partitions(
        self, partitions: Sequence[AbortPartition]
    ) -> Sequence[MinikafkaError | None]:
        message = wire.AbortPartitionsRequest(
            partitions=all_to_wire(partitions, wire.AbortPartition)
        )
        response = await self._call(
            lambda stub, timeout: stub.AbortPartitions(message, timeout=timeout)
        )
        raise_error_of(response)
        return [each.error for each in all_from_wire(response.partitions, CheckedPartition)]

    async def _call(self, start: Callable[[TransactionServiceStub, float], Awaitable[R]]) -> R:
        return await self._connection.call(
            lambda channel, timeout: start(TransactionServiceStub(channel), timeout),
            self._request_timeout_ms,
        )


# --- between brokers -----------------------------------------------------------------------------


async def _check_partitions(
    service: BrokerService, message: wire.CheckPartitionsRequest
) -> Message:
    result = await service.check_partitions(from_wire(message, CheckPartitionsRequest))
    return to_wire(result, wire.CheckPartitionsResponse)


async def _write_markers(service: BrokerService, message: wire.WriteMarkersRequest) -> Message:
    result = await service.write_markers(from_wire(message, WriteMarkersRequest))
    return to_wire(result, wire.WriteMarkersResponse)


PEER_METHODS = {
    "CheckPartitions": Method(
        wire.CheckPartitionsRequest, wire.CheckPartitionsResponse, _check_partitions
    ),
    "WriteMarkers": Method(wire.WriteMarkersRequest, wire.WriteMarkersResponse, _write_markers),
}


async def check_partitions(
    connection: Connection, request: CheckPartitionsRequest, timeout_ms: int
) -> CheckPartitionsResult:
    message = to_wire(request, wire.CheckPartitionsRequest)
    response = await connection.call(
        lambda channel, timeout: TransactionPeerServiceStub(channel).CheckPartitions(
            message, timeout=timeout
        ),
        timeout_ms,
    )
    raise_error_of(response)
    return from_wire(response, CheckPartitionsResult)


async def write_markers(
    connection: Connection, request: WriteMarkersRequest, timeout_ms: int
) -> WriteMarkersResult:
    message = to_wire(request, wire.WriteMarkersRequest)
    response = await connection.call(
        lambda channel, timeout: TransactionPeerServiceStub(channel).WriteMarkers(
            message, timeout=timeout
        ),
        timeout_ms,
    )
    raise_error_of(response)
    return from_wire(response, WriteMarkersResult)
