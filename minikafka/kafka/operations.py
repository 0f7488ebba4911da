"""What a client may do, as clients ask for it (KIP-430): where nobody restricts, everything.

A set of operations is a number with the bit of each. Which operations there are for a resource is
Apache Kafka's.
"""

from __future__ import annotations

from minikafka.security.acl import SUPPORTED, ResourceType

NOT_ASKED_FOR = -(2**31)


def _bits(resource_type: ResourceType) -> int:
    return sum(1 << operation for operation in SUPPORTED[resource_type])


ON_CLUSTER = _bits(ResourceType.CLUSTER)
ON_TOPIC = _bits(ResourceType.TOPIC)
ON_GROUP = _bits(ResourceType.GROUP)
