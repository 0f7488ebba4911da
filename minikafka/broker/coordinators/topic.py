"""The topic of a kind of coordinators (`__consumer_offsets`, `__transaction_state`): what belongs
into which of its partitions, who leads that, and how the topic comes to be.

State: none of its own; partitions and leaders are the metadata cache's. The topic is created when a
coordinator is first asked for, through the controller, with as many replicas as it should have, or
as brokers live if those are fewer (docs/decisions/0006-offsets-topic.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from minikafka.api.groups import FindCoordinatorResult, FoundCoordinator
from minikafka.api.requests import (
    ControllerRequest,
    ControllerResponse,
    CreateTopic,
    CreateTopicsRequest,
)
from minikafka.broker.metadata import MetadataCache
from minikafka.errors import (
    CoordinatorNotAvailableError,
    InvalidRequestError,
    MinikafkaError,
    TopicAlreadyExistsError,
)
from minikafka.model import BrokerInfo, TopicPartition
from minikafka.turns import in_slices

logger = logging.getLogger(__name__)

MAX_KEY_BYTES = 32_767  # as the records of coordinators have it
_CREATE_TIMEOUT_MS = 10_000

Administer = Callable[[ControllerRequest, int], Awaitable[ControllerResponse]]


def java_hash(text: str) -> int:
    """String.hashCode of Java: over UTF-16 units, 32 bits, signed."""
    value = 0
    units = text.encode("utf-16-be", "surrogatepass")
    for at in range(0, len(units), 2):
        value = (31 * value + (units[at] << 8 | units[at + 1])) & 0xFFFFFFFF
    return value - 0x1_0000_0000 if value & 0x8000_0000 else value


def partition_for(key: str, partitions: int) -> int:
    """As Kafka's Utils.abs(hashCode) % partitions: the sign bit is dropped, not the sign."""
    hashed = java_hash(key)
    return (0 if hashed == -(2**31) else abs(hashed)) % partitions


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """With what a coordinators' topic is created. `replication_property` says how many replicas it
    should have: for people."""

    name: str
    partitions: int
    replication_factor: int
    replication_property: str
    overrides: Mapping[str, str]


class CoordinatorTopic:
    """`administer(request, timeout in ms)` reaches the controller, and waits until a topic that was
    created is known here."""

    def __init__(self, plan: TopicPlan, metadata: MetadataCache, administer: Administer) -> None:
        self._plan = plan
        self._metadata = metadata
        self._administer = administer
        self._creating = asyncio.Lock()

    @property
    def name(self) -> str:
        return self._plan.name

    def partition_of(self, key: str) -> int | None:
        """None while there is no such topic."""
        partitions = self._metadata.topics.get(self.name)
        return partition_for(key, len(partitions)) if partitions else None

    async def find_coordinators(self, keys: Sequence[str]) -> FindCoordinatorResult:
        """One answer a key, however often it is asked for."""
        problem = await self.ensure() if keys else None
        found = [self._find(key, problem) async for key in in_slices(dict.fromkeys(keys))]
        return FindCoordinatorResult(found)

    def _find(self, key: str, problem: MinikafkaError | None) -> FoundCoordinator:
        if len(key) > MAX_KEY_BYTES:
            wrong = InvalidRequestError(
                f"a key of {len(key)} characters: it is stored in {MAX_KEY_BYTES} bytes"
            )
            return FoundCoordinator(key, wrong)
        try:
            return FoundCoordinator(key, None, self.coordinator_of(key))
        except CoordinatorNotAvailableError as error:
            if problem is not None:
                error = CoordinatorNotAvailableError(f"{error}: {problem}")
            return FoundCoordinator(key, error.with_traceback(None))

    def coordinator_of(self, key: str) -> BrokerInfo:
        """The broker, as far as is known here. Raises CoordinatorNotAvailableError."""
        number = self.partition_of(key)
        if number is None:
            raise CoordinatorNotAvailableError(f"{self.name} is not there yet")
        known = self._metadata.partition(TopicPartition(self.name, number))
        broker = None if known is None else self._metadata.brokers.get(known.state.leader)
        if broker is None:
            raise CoordinatorNotAvailableError(f"{self.name}-{number} has no leader")
        return broker

    async def ensure(self) -> MinikafkaError | None:
        """Create the topic if it is not there; returns why that did not work."""
        if self.name in self._metadata.topics:
            return None
        async with self._creating:
            if self.name in self._metadata.topics:
                return None
            live, plan = len(self._metadata.eligible), self._plan
            if live < plan.replication_factor:
                logger.warning(
                    "%s is created with %d replicas: %s is %d, but so many brokers do not live",
                    self.name,
                    live,
                    plan.replication_property,
                    plan.replication_factor,
                )
            replicas = max(1, min(live, plan.replication_factor))
            topic = CreateTopic(self.name, plan.partitions, replicas, dict(plan.overrides))
            try:
                response = await self._administer(CreateTopicsRequest([topic]), _CREATE_TIMEOUT_MS)
            except MinikafkaError as error:
                return error
            [result] = response.results
            if result.error is None or isinstance(result.error, TopicAlreadyExistsError):
                return None
            return result.error
