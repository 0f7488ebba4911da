from collections.abc import AsyncIterator

import grpc.aio

from minikafka.rpc.generated import transaction_pb2

class TransactionPeerServiceStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    CheckPartitions: grpc.aio.UnaryUnaryMultiCallable[transaction_pb2.CheckPartitionsRequest, transaction_pb2.CheckPartitionsResponse]
    WriteMarkers: grpc.aio.UnaryUnaryMultiCallable[transaction_pb2.WriteMarkersRequest, transaction_pb2.WriteMarkersResponse]

class TransactionPeerServiceServicer:
    async def CheckPartitions(self, request: transaction_pb2.CheckPartitionsRequest, context: grpc.aio.ServicerContext[transaction_pb2.CheckPartitionsRequest, transaction_pb2.CheckPartitionsResponse]) -> transaction_pb2.CheckPartitionsResponse: ...
    async def WriteMarkers(self, request: transaction_pb2.WriteMarkersRequest, context: grpc.aio.ServicerContext[transaction_pb2.WriteMarkersRequest, transaction_pb2.WriteMarkersResponse]) -> transaction_pb2.WriteMarkersResponse: ...

def add_TransactionPeerServiceServicer_to_server(
    servicer: TransactionPeerServiceServicer, server: grpc.aio.Server
) -> None: ...
