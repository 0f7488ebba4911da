from collections.abc import AsyncIterator

import grpc.aio

from minikafka.rpc.generated import replication_pb2

class ReplicationServiceStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Replicate: grpc.aio.StreamStreamMultiCallable[replication_pb2.ReplicateRequest, replication_pb2.ReplicateResponse]

class ReplicationServiceServicer:
    def Replicate(self, request_iterator: AsyncIterator[replication_pb2.ReplicateRequest], context: grpc.aio.ServicerContext[replication_pb2.ReplicateRequest, replication_pb2.ReplicateResponse]) -> AsyncIterator[replication_pb2.ReplicateResponse]: ...

def add_ReplicationServiceServicer_to_server(
    servicer: ReplicationServiceServicer, server: grpc.aio.Server
) -> None: ...
