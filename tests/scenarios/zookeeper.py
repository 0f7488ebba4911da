"""ZooKeeper as the scenarios need it: registrations, topics, States with versions, fenced writes.

One partition is watched: every State that is written is checked against invariant 1 of
replication.md section 7 and told to `on_state`; what the topic's node becomes, to `on_topic`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control.commands import (
    AllocateProducerIds,
    ClearPreferredElection,
    Command,
    CreateTopicNode,
    ReadStates,
    ReadTopicConfigs,
    StateChange,
    UpdateTopicNode,
    WriteStates,
)
from minikafka.model import NO_LEADER, BrokerInfo, PartitionState, TopicDescription, TopicPartition


class MemoryZooKeeper:
    """All data; `fault` is what befalls the next write of States: "lost" (not applied, and the
    writer told so), "applied" (applied, and the writer told of a conflict). `deposes` is after how
    many more writes another controller gets in between, None for never."""

    def __init__(
        self,
        on_state: Callable[[StateChange], None],
        on_topic: Callable[[TopicDescription], None],
    ) -> None:
        self.brokers: dict[int, BrokerInfo] = {}
        self.topics: dict[str, TopicDescription] = {}
        self.states: dict[TopicPartition, PartitionState] = {}
        self.controller = -1
        self.controller_epoch = 0
        self.fault: str | None = None
        self.deposes: int | None = None
        self._zxid = 0
        self._on_state = on_state
        self._on_topic = on_topic

    # --- sessions ---

    def register(self, broker: BrokerInfo) -> int:
        """Create the node of a broker anew; its czxid is the broker epoch."""
        self.expire(broker.broker_id)
        self._zxid += 1
        self.brokers[broker.broker_id] = replace(broker, broker_epoch=self._zxid)
        return self._zxid

    def expire(self, broker_id: int) -> None:
        """The session of a broker is over: its ephemeral nodes go."""
        self.brokers.pop(broker_id, None)
        if self.controller == broker_id:
            self.controller = -1

    def elect(self, broker_id: int) -> int:
        """The broker becomes controller; returns the controller epoch."""
        assert self.controller == -1
        self.controller = broker_id
        self.controller_epoch += 1
        return self.controller_epoch

    # --- commands of a controller ---

    def execute(self, command: Command, controller_epoch: int) -> Any:
        """Carry out one command of the controller of this epoch."""
        if isinstance(command, WriteStates | UpdateTopicNode | CreateTopicNode):
            if self.deposes == 0 and controller_epoch == self.controller_epoch:
                self.deposes, self.controller, self.controller_epoch = (
                    None,
                    -1,
                    controller_epoch + 1,
                )
            elif self.deposes is not None:
                self.deposes -= 1
        match command:
            case WriteStates(changes):
                return self._write_all(changes, controller_epoch)
            case ReadStates():
                return dict(self.states)
            case CreateTopicNode(topic):
                if controller_epoch != self.controller_epoch:
                    return WriteOutcome.DEPOSED
                self.topics[topic.name] = topic
                return WriteOutcome.WRITTEN
            case UpdateTopicNode(topic):
                if controller_epoch != self.controller_epoch:
                    return WriteOutcome.DEPOSED
                self.topics[topic.name] = topic
                self._on_topic(topic)
                return WriteOutcome.WRITTEN
            case ReadTopicConfigs():
                return {}
            case ClearPreferredElection():
                return WriteOutcome.WRITTEN
            case AllocateProducerIds() | _:
                raise AssertionError(f"no scenario needs {command}")

    def _write_all(
        self, changes: tuple[StateChange, ...], controller_epoch: int
    ) -> list[WriteOutcome]:
        if controller_epoch != self.controller_epoch:
            return [WriteOutcome.DEPOSED] * len(changes)
        fault, self.fault = self.fault, None
        if fault == "lost":
            return [WriteOutcome.CONFLICT] * len(changes)
        outcomes = [self._write(change) for change in changes]
        return [WriteOutcome.CONFLICT] * len(changes) if fault == "applied" else outcomes

    def _write(self, change: StateChange) -> WriteOutcome:
        held = self.states.get(change.topic_partition)
        if (-1 if held is None else held.partition_version) != change.expected_version:
            return WriteOutcome.CONFLICT
        if held is not None:
            check_step(held, change.new, change.reassigned)
        self.states[change.topic_partition] = change.new
        self._on_state(change)
        return WriteOutcome.WRITTEN


def check_step(old: PartitionState, new: PartitionState, reassigned: bool = False) -> None:
    """Invariants 1 and 3 (rule R2)."""
    bump = int(new.leader != old.leader or not set(old.isr) <= set(new.isr) or reassigned)
    assert new.partition_version == old.partition_version + 1, (old, new)
    assert new.leader_epoch == old.leader_epoch + bump, (old, new)
    assert new.leader in (NO_LEADER, *new.isr), (old, new)
