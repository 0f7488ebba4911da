"""Transactions over gRPC, between brokers: served, and called (the part of the port Peers)."""

from __future__ import annotations

from google.protobuf.message import Message

from minikafka.api.service import BrokerService
from minikafka.api.transactions import (
    CheckPartitionsRequest,
    CheckPartitionsResult,
    WriteMarkersRequest,
    WriteMarkersResult,
)
from minikafka.rpc.calls import Connection
from minikafka.rpc.convert import raise_error_of
from minikafka.rpc.generated import transaction_pb2 as wire
from minikafka.rpc.generated.transaction_pb2_grpc import TransactionPeerServiceStub
from minikafka.rpc.mirror import from_wire, to_wire
from minikafka.rpc.unary import Method

PEER_SERVICE = "minikafka.v1.TransactionPeerService"


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
