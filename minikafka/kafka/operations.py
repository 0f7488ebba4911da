"""What a client may do, as clients ask for it (KIP-430): the bit of each operation."""

from __future__ import annotations

from minikafka.api.service import BrokerService
from minikafka.security.acl import CLUSTER_NAME, ResourceType

NOT_ASKED_FOR = -(2**31)


def on_cluster(service: BrokerService, *, asked_for: bool) -> int:
    if not asked_for:
        return NOT_ASKED_FOR
    return service.authorized_operations(ResourceType.CLUSTER, CLUSTER_NAME)


def on_topic(service: BrokerService, name: str, *, asked_for: bool) -> int:
    """To be asked only of topics that the client may describe."""
    if not asked_for:
        return NOT_ASKED_FOR
    return service.authorized_operations(ResourceType.TOPIC, name)


def on_group(service: BrokerService, name: str, *, asked_for: bool) -> int:
    """As `on_topic`."""
    if not asked_for:
        return NOT_ASKED_FOR
    return service.authorized_operations(ResourceType.GROUP, name)
