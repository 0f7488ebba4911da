"""The nodes of the cluster over gRPC: what a broker serves, and the client's end of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from minikafka.api.nodes import ControllerReport, NodeReport, NodeService
from minikafka.api.service import BrokerService
from minikafka.rpc.calls import Connection
from minikafka.rpc.convert import raise_error_of
from minikafka.rpc.generated import nodes_pb2 as wire
from minikafka.rpc.generated.nodes_pb2_grpc import NodeServiceStub
from minikafka.rpc.mirror import all_from_wire, all_to_wire, from_wire, to_wire
from minikafka.rpc.unary import Method

SERVICE = "minikafka.v1.NodeService"


def methods(nodes: NodeService) -> dict[str, Method]:
    """For GrpcServer."""

    async def list_nodes(_: BrokerService, message: Message) -> Message:
        reports = await nodes.list_nodes()
        return wire.ListNodesResponse(nodes=all_to_wire(reports, wire.NodeReport))

    async def describe_controller(_: BrokerService, message: Message) -> Message:
        report = await nodes.describe_controller()
        return wire.DescribeControllerResponse(controller=to_wire(report, wire.ControllerReport))

    return {
        "ListNodes": Method(wire.ListNodesRequest, wire.ListNodesResponse, list_nodes),
        "DescribeController": Method(
            wire.DescribeControllerRequest, wire.DescribeControllerResponse, describe_controller
        ),
    }


class NodeStub(NodeService):
    """The NodeService of the broker at the other end of a connection. Raises NetworkError besides
    what the broker answers."""

    def __init__(self, connection: Connection, request_timeout_ms: int) -> None:
        self._connection = connection
        self._request_timeout_ms = request_timeout_ms

    async def list_nodes(self) -> Sequence[NodeReport]:
        def start(channel: grpc.aio.Channel, timeout_s: float) -> Any:
            return NodeServiceStub(channel).ListNodes(wire.ListNodesRequest(), timeout=timeout_s)

        response = await self._connection.call(start, self._request_timeout_ms)
        raise_error_of(response)
        return all_from_wire(response.nodes, NodeReport)

    async def describe_controller(self) -> ControllerReport:
        def start(channel: grpc.aio.Channel, timeout_s: float) -> Any:
            request = wire.DescribeControllerRequest()
            return NodeServiceStub(channel).DescribeController(request, timeout=timeout_s)

        response = await self._connection.call(start, self._request_timeout_ms)
        raise_error_of(response)
        return from_wire(response.controller, ControllerReport)
