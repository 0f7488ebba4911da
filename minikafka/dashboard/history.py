"""What the dashboard knows of a cluster, and every change of it since the start. Pure.

A `Picture` is the state at one moment: brokers, controller, partitions, and which sources can be
heard. It changes only by `apply` of a view, which replaces what was known of the same thing. A
`History` is the picture at its beginning, the events since, and the picture now:

- the picture after any event is the one at the beginning with the events up to it applied;
- events are numbered from 1 without gaps, and their times never run backwards;
- at most `limit` events are kept: the oldest are folded into the beginning, so what is kept can
  always be told whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from minikafka.model import NO_LEADER, TopicPartition, broker_name

Process = Literal["", "running", "paused", "ended"]
Status = Literal["live", "paused", "starting", "dead"]
Tone = Literal["good", "bad", "note"]


@dataclass(frozen=True, slots=True)
class BrokerView:
    """A broker that was ever heard of. `registered`: it has a session with ZooKeeper. `process` is
    "" where that is not ours to see (another host, no data directory)."""

    broker_id: int
    name: str
    registered: bool
    process: Process = ""
    broker_epoch: int = -1
    grpc: str = ""
    kafka: str | None = None
    rack: str | None = None

    @property
    def status(self) -> Status:
        """What its process does counts before what ZooKeeper has noticed of it yet."""
        if self.process == "ended":
            return "dead"
        if self.process == "paused":
            return "paused"
        if self.registered:
            return "live"
        return "starting" if self.process == "running" else "dead"


@dataclass(frozen=True, slots=True)
class PartitionView:
    """Where a partition is, and its State."""

    topic: str
    partition: int
    topic_id: str
    replicas: tuple[int, ...]
    leader: int
    leader_epoch: int
    isr: tuple[int, ...]
    partition_version: int
    controller_epoch: int = -1
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    admitted: tuple[tuple[int, int], ...] = ()  # (broker id, broker epoch as it was admitted)

    @property
    def key(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class TopicGone:
    """A topic was deleted, with all its partitions."""

    topic: str


@dataclass(frozen=True, slots=True)
class ControllerView:
    """`controller_id` is -1 while there is none."""

    controller_id: int
    controller_epoch: int


@dataclass(frozen=True, slots=True)
class SourceView:
    """Whether `source` ("brokers" or "zookeeper") can be heard, and why not."""

    source: str
    is_heard: bool
    detail: str = ""


View = BrokerView | PartitionView | TopicGone | ControllerView | SourceView


@dataclass(frozen=True, slots=True)
class Event:
    """One change, in words and as the view that it led to. `at_ms` is wall-clock time."""

    number: int
    at_ms: int
    view: View
    text: str
    reason: str = ""
    tone: Tone = "note"


@dataclass(slots=True)
class Picture:
    """See the module's docstring."""

    brokers: dict[int, BrokerView] = field(default_factory=dict)
    partitions: dict[TopicPartition, PartitionView] = field(default_factory=dict)
    controller: ControllerView = ControllerView(-1, -1)
    sources: dict[str, SourceView] = field(default_factory=dict)

    def apply(self, view: View) -> None:
        match view:
            case BrokerView():
                self.brokers[view.broker_id] = view
            case PartitionView():
                self.partitions[view.key] = view
            case TopicGone(topic):
                for key in [each for each in self.partitions if each.topic == topic]:
                    del self.partitions[key]
            case ControllerView():
                self.controller = view
            case SourceView():
                self.sources[view.source] = view

    def copy(self) -> Picture:
        return Picture(
            dict(self.brokers), dict(self.partitions), self.controller, dict(self.sources)
        )

    def name(self, broker_id: int) -> str:
        known = self.brokers.get(broker_id)
        return known.name if known is not None else broker_name(broker_id)

    @property
    def leaderless(self) -> int:
        return sum(each.leader == NO_LEADER for each in self.partitions.values())

    @property
    def under_replicated(self) -> int:
        return sum(not set(each.replicas) <= set(each.isr) for each in self.partitions.values())


class History:
    """See the module's docstring. `began_ms`: the moment as of which the beginning is known."""

    def __init__(self, began_ms: int, limit: int = 5_000) -> None:
        assert limit > 0
        self.limit = limit
        self.began_ms = began_ms
        self.now = Picture()
        self._beginning = Picture()
        self._events: deque[Event] = deque()
        self._next_number = 1

    def __len__(self) -> int:
        return len(self._events)

    @property
    def events(self) -> Iterator[Event]:
        """What is kept, the oldest first."""
        return iter(self._events)

    @property
    def dropped(self) -> int:
        """How many events are no longer kept."""
        return self._next_number - 1 - len(self._events)

    def begin(self, view: View) -> None:
        """What was so already when the dashboard looked first: no change, so no event. Only for
        what no event tells of yet, or the past would not add up."""
        self._beginning.apply(view)
        self.now.apply(view)

    def record(
        self, at_ms: int, view: View, text: str, reason: str = "", tone: Tone = "note"
    ) -> Event:
        """Take in a change. A time before the last event's (a clock that was set) becomes that."""
        last_ms = self._events[-1].at_ms if self._events else self.began_ms
        event = Event(self._next_number, max(at_ms, last_ms), view, text, reason, tone)
        self._next_number += 1
        self._events.append(event)
        self.now.apply(view)
        if len(self._events) > self.limit:
            oldest = self._events.popleft()
            self._beginning.apply(oldest.view)
            self.began_ms = oldest.at_ms
        return event

    def amend(self, number: int, reason: str) -> Event | None:
        """A better reason, for an event that is still kept."""
        if not self._events or number < self._events[0].number:
            return None
        index = number - self._events[0].number
        self._events[index] = replace(self._events[index], reason=reason)
        return self._events[index]

    def at(self, moment_ms: int) -> Picture:
        """The picture at a moment: with the events up to and at it. What is no longer kept looks
        as at the beginning."""
        picture = self._beginning.copy()
        for event in self._events:
            if event.at_ms > moment_ms:
                break
            picture.apply(event.view)
        return picture

    def after(self, number: int) -> Picture:
        """The picture right after that event (several may be of one millisecond)."""
        picture = self._beginning.copy()
        for event in self._events:
            if event.number > number:
                break
            picture.apply(event.view)
        return picture
