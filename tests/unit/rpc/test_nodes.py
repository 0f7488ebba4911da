"""rpc/nodes.py: the nodes of the cluster over gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from minikafka.api.nodes import ControllerReport, NodeReport, NodeService, NodeStatus
from minikafka.errors import BrokerNotAvailableError
from minikafka.rpc import nodes
from minikafka.rpc.channel import BrokerChannel
from minikafka.rpc.server import GrpcServer
from tests.unit.rpc.conftest import FakeService

REPORTS = [
    NodeReport(NodeStatus(1, "A", 1, 12.5, 2, 3, 4, 5, 6, 7, 8), True, 9, 0),
    NodeReport(NodeStatus(2, "B", 2**41, offline=("t-0: gone",)), False, 2**42, 2**42),
]


CONTROLLERS = [ControllerReport(2, 7, (3, 1)), ControllerReport(-1, 7, ())]


class Nodes(NodeService):
    def __init__(self, answer: Sequence[NodeReport] | None) -> None:
        self.answer = answer
        self.controllers = list(CONTROLLERS)

    async def list_nodes(self) -> Sequence[NodeReport]:
        if self.answer is None:
            raise BrokerNotAvailableError("the nodes cannot be read now")
        return self.answer

    async def describe_controller(self) -> ControllerReport:
        if not self.controllers:
            raise BrokerNotAvailableError("ZooKeeper cannot be read now")
        return self.controllers.pop(0)


async def test_nodes_arrive_as_they_are_and_so_does_an_error() -> None:
    service = Nodes(REPORTS)
    server = GrpcServer(FakeService(), more={nodes.SERVICE: nodes.methods(service)})
    port = await server.start("127.0.0.1", 0)
    channel = BrokerChannel(f"127.0.0.1:{port}")
    try:
        assert list(await channel.nodes.list_nodes()) == REPORTS
        assert [await channel.nodes.describe_controller() for _ in CONTROLLERS] == CONTROLLERS
        with pytest.raises(BrokerNotAvailableError, match="cannot be read now"):
            await channel.nodes.describe_controller()
        service.answer = None
        with pytest.raises(BrokerNotAvailableError, match="cannot be read now"):
            await channel.nodes.list_nodes()
    finally:
        await channel.close()
        await server.stop()
