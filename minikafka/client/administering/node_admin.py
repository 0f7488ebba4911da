"""The part of AsyncAdmin that is about the brokers as nodes. No state of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from minikafka.api.nodes import ControllerReport, NodeReport
from minikafka.client.metadata import Cluster


class NodeAdmin:
    """What it needs of the rest of the admin stands first."""

    _cluster: Cluster
    _timeout_ms: float

    async def list_nodes(self) -> Sequence[NodeReport]:
        """The brokers that live, with their load, and those that went in the last days, each with
        when; by id."""
        return await self._cluster.call_any(
            lambda channel: channel.nodes.list_nodes(), self._timeout_ms / 1000
        )

    async def describe_controller(self, address: str | None = None) -> ControllerReport:
        """Who is controller, or that nobody is, and who would be next: as ZooKeeper has it now; and
        what the broker that answers (the one at `address`, if given) cannot read there."""
        if address is not None:
            async with asyncio.timeout(self._timeout_ms / 1000):
                return await self._cluster.channel_to(address).nodes.describe_controller()
        return await self._cluster.call_any(
            lambda channel: channel.nodes.describe_controller(), self._timeout_ms / 1000
        )
