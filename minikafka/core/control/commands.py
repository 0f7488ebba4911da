"""What the controller's core asks of the world, and how it gets the answers.

Handling an event is an `Operation`: a generator that yields commands and is sent their results,
and that returns what is to be answered to whoever asked. So the code of an operation reads from top
to bottom, although every write in it waits for ZooKeeper; and it stays pure: the runtime executes
commands with asyncio, tests and the simulator as they like.

| command | result |
|---|---|
| WriteStates | one WriteOutcome for each change |
| ReadStates | dict of TopicPartition to PartitionState, or None for one that cannot be read |
| CreateTopicNode, UpdateTopicNode, RemoveTopic, ClearPreferredElection | WriteOutcome |
| ReadTopicConfigs | dict of topic to overrides |
| ReadBrokerConfigs | dict of broker (id as text, or DEFAULT_BROKER) to overrides |
| WriteTopicConfig, WriteBrokerConfig | WRITTEN or DEPOSED |
| MarkTopicDeleted | None |
| AllocateProducerIds | (first, exclusive end) |
| NextTurn | None: others have had their turn; the core is as it was |
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from minikafka.api.outcomes import WriteOutcome
from minikafka.errors import MinikafkaError
from minikafka.model import PartitionState, TopicDescription, TopicPartition, describe_state


class DeposedError(Exception):
    """Another controller has been elected: this one must stop at once."""


class GaveUpError(Exception):
    """A write met conflicts again and again: something else writes what only we may."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """A partition's State before (None: it has none yet) and after, and why. `reassigned`: its
    assignment changes with it."""

    topic_partition: TopicPartition
    old: PartitionState | None
    new: PartitionState
    reason: str
    unclean: bool = False
    reassigned: bool = False

    @property
    def expected_version(self) -> int:
        return -1 if self.old is None else self.old.partition_version

    def describe(self, names: Mapping[int, str]) -> str:
        """In the words of the slide: `topic-0: Leader=A Epoch=1 ISR={A,B,C,D} (E died)`."""
        state = describe_state(self.new.leader, self.new.leader_epoch, self.new.isr, names)
        return f"{self.topic_partition}: {state} ({self.reason})"


@dataclass(frozen=True, slots=True)
class WriteStates:
    changes: tuple[StateChange, ...]


@dataclass(frozen=True, slots=True)
class ReadStates:
    topics: Mapping[str, TopicDescription]


@dataclass(frozen=True, slots=True)
class CreateTopicNode:
    """With its configuration, over what an earlier topic of that name may have left."""

    topic: TopicDescription
    overrides: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UpdateTopicNode:
    topic: TopicDescription


@dataclass(frozen=True, slots=True)
class RemoveTopic:
    """States, topic, configuration, and the deletion marker last. Nodes that are not there are no
    conflict: it must be possible to remove a marker for a topic that does not exist."""

    topic: TopicDescription


@dataclass(frozen=True, slots=True)
class ClearPreferredElection:
    pass


@dataclass(frozen=True, slots=True)
class ReadTopicConfigs:
    pass


@dataclass(frozen=True, slots=True)
class WriteTopicConfig:
    topic: str
    overrides: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReadBrokerConfigs:
    pass


@dataclass(frozen=True, slots=True)
class WriteBrokerConfig:
    broker: str
    overrides: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MarkTopicDeleted:
    topic: str


@dataclass(frozen=True, slots=True)
class AllocateProducerIds:
    broker_id: int


@dataclass(frozen=True, slots=True)
class NextTurn:
    pass


Command: TypeAlias = (
    WriteStates
    | ReadStates
    | CreateTopicNode
    | UpdateTopicNode
    | RemoveTopic
    | ClearPreferredElection
    | ReadTopicConfigs
    | WriteTopicConfig
    | ReadBrokerConfigs
    | WriteBrokerConfig
    | MarkTopicDeleted
    | AllocateProducerIds
    | NextTurn
)

T = TypeVar("T")
# Commands have results of different types: each `yield` names the one that it expects.
Operation: TypeAlias = Generator[Command, Any, T]

# What a request comes to, for each thing that it names: a topic, a partition, a broker.
Results: TypeAlias = list[tuple[str, MinikafkaError | None]]  # by the name of a topic or broker
PartitionResults: TypeAlias = list[tuple[TopicPartition, MinikafkaError | None]]


def require_term(outcome: WriteOutcome) -> None:
    """Raises DeposedError if a write was refused since the term is over."""
    if outcome is WriteOutcome.DEPOSED:
        raise DeposedError("another controller has been elected")
