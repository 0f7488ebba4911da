from collections.abc import AsyncIterator

import grpc.aio

from minikafka.rpc.generated import control_pb2

class BrokerControlServiceStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    UpdateState: grpc.aio.UnaryUnaryMultiCallable[control_pb2.UpdateStateRequest, control_pb2.UpdateStateResponse]

class BrokerControlServiceServicer:
    async def UpdateState(self, request: control_pb2.UpdateStateRequest, context: grpc.aio.ServicerContext[control_pb2.UpdateStateRequest, control_pb2.UpdateStateResponse]) -> control_pb2.UpdateStateResponse: ...

def add_BrokerControlServiceServicer_to_server(
    servicer: BrokerControlServiceServicer, server: grpc.aio.Server
) -> None: ...

class ControllerServiceStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    AlterPartition: grpc.aio.UnaryUnaryMultiCallable[control_pb2.AlterPartitionRequest, control_pb2.AlterPartitionResponse]
    ControlledShutdown: grpc.aio.UnaryUnaryMultiCallable[control_pb2.ControlledShutdownRequest, control_pb2.ControlledShutdownResponse]
    ReportFailedReplicas: grpc.aio.UnaryUnaryMultiCallable[control_pb2.ReportFailedReplicasRequest, control_pb2.ReportFailedReplicasResponse]
    AllocateProducerIds: grpc.aio.UnaryUnaryMultiCallable[control_pb2.AllocateProducerIdsRequest, control_pb2.AllocateProducerIdsResponse]
    Administer: grpc.aio.UnaryUnaryMultiCallable[control_pb2.AdministerRequest, control_pb2.AdministerResponse]

class ControllerServiceServicer:
    async def AlterPartition(self, request: control_pb2.AlterPartitionRequest, context: grpc.aio.ServicerContext[control_pb2.AlterPartitionRequest, control_pb2.AlterPartitionResponse]) -> control_pb2.AlterPartitionResponse: ...
    async def ControlledShutdown(self, request: control_pb2.ControlledShutdownRequest, context: grpc.aio.ServicerContext[control_pb2.ControlledShutdownRequest, control_pb2.ControlledShutdownResponse]) -> control_pb2.ControlledShutdownResponse: ...
    async def ReportFailedReplicas(self, request: control_pb2.ReportFailedReplicasRequest, context: grpc.aio.ServicerContext[control_pb2.ReportFailedReplicasRequest, control_pb2.ReportFailedReplicasResponse]) -> control_pb2.ReportFailedReplicasResponse: ...
    async def AllocateProducerIds(self, request: control_pb2.AllocateProducerIdsRequest, context: grpc.aio.ServicerContext[control_pb2.AllocateProducerIdsRequest, control_pb2.AllocateProducerIdsResponse]) -> control_pb2.AllocateProducerIdsResponse: ...
    async def Administer(self, request: control_pb2.AdministerRequest, context: grpc.aio.ServicerContext[control_pb2.AdministerRequest, control_pb2.AdministerResponse]) -> control_pb2.AdministerResponse: ...

def add_ControllerServiceServicer_to_server(
    servicer: ControllerServiceServicer, server: grpc.aio.Server
) -> None: ...
