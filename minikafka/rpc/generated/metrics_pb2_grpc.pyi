from collections.abc import AsyncIterator

import grpc.aio

from minikafka.rpc.generated import metrics_pb2

class MetricsServiceStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    GetBrokerMetrics: grpc.aio.UnaryUnaryMultiCallable[metrics_pb2.GetBrokerMetricsRequest, metrics_pb2.GetBrokerMetricsResponse]

class MetricsServiceServicer:
    async def GetBrokerMetrics(self, request: metrics_pb2.GetBrokerMetricsRequest, context: grpc.aio.ServicerContext[metrics_pb2.GetBrokerMetricsRequest, metrics_pb2.GetBrokerMetricsResponse]) -> metrics_pb2.GetBrokerMetricsResponse: ...

def add_MetricsServiceServicer_to_server(
    servicer: MetricsServiceServicer, server: grpc.aio.Server
) -> None: ...
