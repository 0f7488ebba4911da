"""Reaching the coordinator of a group (client/coordination.py). No state of its own."""

from __future__ import annotations

from minikafka.api.groups import FindCoordinatorRequest, FindCoordinatorResult
from minikafka.api.service import GroupService
from minikafka.client.channel import Channel
from minikafka.client.coordination import Coordination
from minikafka.client.metadata import Cluster


class Coordinator(Coordination[GroupService]):
    """Of one group, for one client."""

    def __init__(self, cluster: Cluster, group_id: str) -> None:
        super().__init__(cluster, f"group {group_id!r}")
        self.group_id = group_id

    async def _ask_who(self, channel: Channel) -> FindCoordinatorResult:
        return await channel.groups.find_coordinator(FindCoordinatorRequest([self.group_id]))

    def _service(self, channel: Channel) -> GroupService:
        return channel.groups
