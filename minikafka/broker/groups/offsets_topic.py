"""The topic `__consumer_offsets`: which group belongs where, and how the topic comes to be.

State: none of its own; partitions and leaders are the metadata cache's. The topic is created when a
coordinator is first asked for, through the controller, with as many replicas as
offsets.topic.replication.factor says, or as brokers live if those are fewer
(docs/decisions/0006-offsets-topic.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from minikafka.api.groups import (
    COORDINATES_GROUPS,
    COORDINATES_TRANSACTIONS,
    FindCoordinatorRequest,
    FindCoordinatorResult,
    FoundCoordinator,
)
from minikafka.api.requests import (
    ControllerRequest,
    ControllerResponse,
    CreateTopic,
    CreateTopicsRequest,
)
from minikafka.broker.metadata import MetadataCache
from minikafka.config import BrokerConfig
from minikafka.errors import (
    CoordinatorNotAvailableError,
    InvalidRequestError,
    MinikafkaError,
    TopicAlreadyExistsError,
    UnsupportedVersionError,
)
from minikafka.model import OFFSETS_TOPIC, BrokerInfo, TopicPartition
from minikafka.turns import in_slices

logger = logging.getLogger(__name__)

_CREATE_TIMEOUT_MS = 10_000

Administer = Callable[[ControllerRequest, int], Awaitable[ControllerResponse]]


def java_hash(text: str) -> int:
    """String.hashCode of Java: over UTF-16 units, 32 bits, signed."""
    value = 0
    units = text.encode("utf-16-be", "surrogatepass")
    for at in range(0, len(units), 2):
        value = (31 * value + (units[at] << 8 | units[at + 1])) & 0xFFFFFFFF
    return value - 0x1_0000_0000 if value & 0x8000_0000 else value


def partition_for(group_id: str, partitions: int) -> int:
    """As Kafka's Utils.abs(hashCode) % partitions: the sign bit is dropped, not the sign."""
    hashed = java_hash(group_id)
    return (0 if hashed == -(2**31) else abs(hashed)) % partitions


class OffsetsTopic:
    """`administer(request, timeout in ms)` reaches the controller, and waits until a topic that was
    created is known here."""

    def __init__(
        self, config: BrokerConfig, metadata: MetadataCache, administer: Administer
    ) -> None:
        self._config = config
        self._metadata = metadata
        self._administer = administer
        self._creating = asyncio.Lock()

    def partition_of(self, group_id: str) -> int | None:
        """None while there is no such topic."""
        partitions = self._metadata.topics.get(OFFSETS_TOPIC)
        return partition_for(group_id, len(partitions)) if partitions else None

    async def find_coordinators(self, request: FindCoordinatorRequest) -> FindCoordinatorResult:
        """One answer a key, however often it is asked for."""
        if request.key_type != COORDINATES_GROUPS:
            error: MinikafkaError
            if request.key_type == COORDINATES_TRANSACTIONS:
                error = UnsupportedVersionError(
                    "transactions are not supported: this version of minikafka has none"
                )
            else:
                error = InvalidRequestError(f"coordinators of kind {request.key_type} do not exist")
            return FindCoordinatorResult(
                [FoundCoordinator(key, error) for key in dict.fromkeys(request.keys)]
            )
        problem = await self.ensure() if request.keys else None
        found = [self._find(key, problem) async for key in in_slices(dict.fromkeys(request.keys))]
        return FindCoordinatorResult(found)

    def _find(self, group_id: str, problem: MinikafkaError | None) -> FoundCoordinator:
        number = self.partition_of(group_id)
        if number is None:
            missing = CoordinatorNotAvailableError(f"{OFFSETS_TOPIC} is not there yet: {problem}")
            return FoundCoordinator(group_id, missing)
        broker = self._leader_of(number)
        if broker is None:
            error = CoordinatorNotAvailableError(f"{OFFSETS_TOPIC}-{number} has no leader")
            return FoundCoordinator(group_id, error)
        return FoundCoordinator(group_id, None, broker)

    def _leader_of(self, number: int) -> BrokerInfo | None:
        known = self._metadata.partition(TopicPartition(OFFSETS_TOPIC, number))
        return None if known is None else self._metadata.brokers.get(known.state.leader)

    async def ensure(self) -> MinikafkaError | None:
        """Create the topic if it is not there; returns why that did not work."""
        if OFFSETS_TOPIC in self._metadata.topics:
            return None
        async with self._creating:
            if OFFSETS_TOPIC in self._metadata.topics:
                return None
            live = len(self._metadata.eligible)
            wanted = self._config.offsets_topic_replication_factor
            if live < wanted:
                logger.warning(
                    "%s is created with %d replicas: offsets.topic.replication.factor is %d, "
                    "but so many brokers do not live",
                    OFFSETS_TOPIC,
                    live,
                    wanted,
                )
            topic = CreateTopic(
                OFFSETS_TOPIC,
                self._config.offsets_topic_num_partitions,
                max(1, min(live, wanted)),
                {
                    "cleanup.policy": "compact",
                    "segment.bytes": str(self._config.offsets_topic_segment_bytes),
                },
            )
            try:
                response = await self._administer(CreateTopicsRequest([topic]), _CREATE_TIMEOUT_MS)
            except MinikafkaError as error:
                return error
            [result] = response.results
            if result.error is None or isinstance(result.error, TopicAlreadyExistsError):
                return None
            return result.error
