"""Reaching the coordinator of a transactional id (client/coordination.py). No state of its own."""

from __future__ import annotations

from minikafka.api.groups import (
    COORDINATES_TRANSACTIONS,
    FindCoordinatorRequest,
    FindCoordinatorResult,
)
from minikafka.client.channel import Channel, TransactionCalls
from minikafka.client.coordination import Coordination
from minikafka.client.metadata import Cluster


class TransactionCoordinator(Coordination[TransactionCalls]):
    """Of one transactional id, for one client."""

    def __init__(self, cluster: Cluster, transactional_id: str) -> None:
        super().__init__(cluster, f"transactional id {transactional_id!r}")
        self._request = FindCoordinatorRequest([transactional_id], COORDINATES_TRANSACTIONS)

    async def _ask_who(self, channel: Channel) -> FindCoordinatorResult:
        return await channel.transactions.find_coordinator(self._request)

    def _service(self, channel: Channel) -> TransactionCalls:
        return channel.transactions
