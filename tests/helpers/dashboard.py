"""What a dashboard sees, made up: brokers, partitions, samples, and a state that takes them in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from minikafka.dashboard.history import BrokerView, Event, PartitionView
from minikafka.dashboard.offsets import Sample
from minikafka.dashboard.state import DashboardState
from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
    broker_name,
)
from minikafka.watching.board import (
    BrokerCame,
    BrokerGone,
    Change,
    ControllerChanged,
    PartitionChanged,
)


def broker_info(broker_id: int, broker_epoch: int = 1) -> BrokerInfo:
    name = broker_name(broker_id)
    return BrokerInfo(broker_id, name, "127.0.0.1", 19_000 + broker_id, broker_epoch=broker_epoch)


def broker_view(broker_id: int, registered: bool = True, process: Any = "running") -> BrokerView:
    return BrokerView(broker_id, broker_name(broker_id), registered, process, 1)


def partition(
    number: int = 0,
    *,
    leader: int = 1,
    epoch: int = 0,
    isr: Iterable[int] = (1, 2, 3),
    replicas: Iterable[int] = (1, 2, 3),
    version: int = 0,
    topic: str = "orders",
    topic_id: str = "id",
) -> PartitionMetadata:
    return PartitionMetadata(
        TopicPartition(topic, number),
        topic_id,
        Assignment(tuple(replicas)),
        PartitionState(leader, epoch, tuple(isr), 1, version),
    )


def partition_view(number: int = 0, **fields: Any) -> PartitionView:
    """As `partition`, as a view. `admitted`: broker epochs of ISR members."""
    admitted = fields.pop("admitted", ())
    made = partition(number, **fields)
    state = made.state
    return PartitionView(
        made.topic_partition.topic,
        number,
        made.topic_id,
        made.assignment.replicas,
        state.leader,
        state.leader_epoch,
        state.isr,
        state.partition_version,
        1,
        admitted=admitted,
    )


def sample(end: int, high_watermark: int | None = None, **ends: int) -> Sample:
    """`sample(10, 8, A=10, B=8)`: log ends by broker name, each caught up."""
    mark = end if high_watermark is None else high_watermark
    replicas = tuple((ord(name) - ord("A") + 1, each, 0) for name, each in ends.items())
    return Sample(0, mark, end, replicas)


@dataclass
class Watched:
    """The state of a dashboard and all that it published. Time is set by the test."""

    now_ms: int = 1_000_000
    published: list[tuple[str, Any]] = field(default_factory=list)
    history_limit: int = 5_000

    def __post_init__(self) -> None:
        self.state = DashboardState(
            self.now_ms,
            lambda kind, document: self.published.append((kind, document)),
            self.history_limit,
        )

    def begin(self, brokers: int = 3, partitions: int = 1) -> None:
        """A healthy cluster, controller A, all with processes of this machine."""
        every = tuple(range(1, brokers + 1))
        self.state.expect(broker_view(each, registered=False) for each in every)
        self.see(
            *(BrokerCame(broker_info(each)) for each in every),
            ControllerChanged(1, 1),
            *(
                PartitionChanged(partition(number, isr=every[:3], replicas=every[:3]), None)
                for number in range(partitions)
            ),
        )

    def see(self, *changes: Change) -> None:
        self.state.on_changes(self.now_ms, list(changes))

    def see_state(self, **fields: Any) -> Event:
        """A new state of a partition; returns the event that it became."""
        self.see(PartitionChanged(partition(**fields), None))
        return self.events[-1]

    def see_process(self, broker_id: int, process: Any) -> None:
        self.state.on_processes(self.now_ms, {broker_id: process})

    def see_gone(self, broker_id: int) -> None:
        self.see(BrokerGone(broker_info(broker_id)))

    @property
    def events(self) -> list[Event]:
        return list(self.state.history.events)

    @property
    def told(self) -> list[tuple[str, str]]:
        """Text and reason of every event."""
        return [(each.text, each.reason) for each in self.events]
