from collections.abc import AsyncIterator

import grpc.aio

from minikafka.rpc.generated import nodes_pb2

class NodeServiceStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    ListNodes: grpc.aio.UnaryUnaryMultiCallable[nodes_pb2.ListNodesRequest, nodes_pb2.ListNodesResponse]
    DescribeController: grpc.aio.UnaryUnaryMultiCallable[nodes_pb2.DescribeControllerRequest, nodes_pb2.DescribeControllerResponse]

class NodeServiceServicer:
    async def ListNodes(self, request: nodes_pb2.ListNodesRequest, context: grpc.aio.ServicerContext[nodes_pb2.ListNodesRequest, nodes_pb2.ListNodesResponse]) -> nodes_pb2.ListNodesResponse: ...
    async def DescribeController(self, request: nodes_pb2.DescribeControllerRequest, context: grpc.aio.ServicerContext[nodes_pb2.DescribeControllerRequest, nodes_pb2.DescribeControllerResponse]) -> nodes_pb2.DescribeControllerResponse: ...

def add_NodeServiceServicer_to_server(
    servicer: NodeServiceServicer, server: grpc.aio.Server
) -> None: ...
