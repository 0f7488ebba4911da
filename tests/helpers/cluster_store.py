"""ZooKeeper as the broker sees it, in memory: `FakeZooKeeper` is the tree, shared by all, and a
`FakeClusterStore` is one broker's session with it (the `ClusterStore` port).

It keeps what matters of the real one: data versions, one rising transaction id that gives brokers
their epochs, ephemeral nodes that go with their session, the fence of the controller epoch, hints
to every session. Tests end sessions (`expire`), cut them off (`suspend`, `reconnect`) and make
calls fail or answer otherwise (`inject`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import (
    ControllerElection,
    SessionLostError,
    StoreEvent,
    Takeover,
)
from minikafka.core.control.commands import StateChange
from minikafka.errors import NotControllerError, UsageError
from minikafka.model import BrokerInfo, PartitionState, TopicDescription, TopicPartition


@dataclass
class Written:
    """One State that was written, in the order of writing, for tests to check."""

    topic_partition: TopicPartition
    state: PartitionState


class FakeZooKeeper:
    """What ZooKeeper holds. All calls take effect at once."""

    def __init__(self) -> None:
        self.zxid = 0
        self.controller: tuple[int, object] | None = None  # broker id, session
        self.controller_epoch = 0
        self.brokers: dict[int, tuple[BrokerInfo, object]] = {}
        self.topics: dict[str, TopicDescription] = {}
        self.states: dict[TopicPartition, PartitionState] = {}
        self.configs: dict[str, dict[str, str]] = {}
        self.broker_configs: dict[str, dict[str, str]] = {}
        self.deletions: set[str] = set()
        self.preferred_election: list[TopicPartition] | None = None
        self.next_producer_id = 0
        self.feature: tuple[int, int] | None = None  # level and version
        self.history: list[Written] = []
        self.takeovers: list[Takeover] = []
        self.listeners: list[Callable[[StoreEvent], None]] = []

    def _changed(self, event: StoreEvent) -> None:
        self.zxid += 1
        for listener in list(self.listeners):
            listener(event)

    # --- sessions and ephemeral nodes ---

    def end_session(self, session: object) -> None:
        gone = [b for b, (_, owner) in self.brokers.items() if owner is session]
        for broker_id in gone:
            del self.brokers[broker_id]
        if gone:
            self._changed(StoreEvent.BROKERS_CHANGED)
        if self.controller is not None and self.controller[1] is session:
            self.controller = None
            self._changed(StoreEvent.CONTROLLER_CHANGED)

    def register(self, broker: BrokerInfo, session: object) -> int:
        """Returns the broker epoch."""
        if broker.broker_id in self.brokers:
            raise UsageError(f"broker id {broker.broker_id} is taken")
        self._changed(StoreEvent.BROKERS_CHANGED)
        self.brokers[broker.broker_id] = (replace(broker, broker_epoch=self.zxid), session)
        return self.zxid

    def live_brokers(self) -> dict[int, BrokerInfo]:
        return {broker_id: info for broker_id, (info, _) in sorted(self.brokers.items())}

    # --- the controller ---

    def elect(self, broker_id: int, session: object) -> ControllerElection:
        if self.controller is None:
            self.controller = (broker_id, session)
            self.controller_epoch += 1
            self._changed(StoreEvent.CONTROLLER_CHANGED)
        elected, owner = self.controller
        return ControllerElection(owner is session, elected, self.controller_epoch)

    def resign(self, session: object) -> None:
        if self.controller is not None and self.controller[1] is session:
            self.controller = None
            self._changed(StoreEvent.CONTROLLER_CHANGED)

    # --- fenced writes ---

    def write_state(self, change: StateChange, controller_epoch: int) -> WriteOutcome:
        if controller_epoch != self.controller_epoch:
            return WriteOutcome.DEPOSED
        held = self.states.get(change.topic_partition)
        if held is None and change.topic_partition in self.states:
            return WriteOutcome.CONFLICT  # it is there, and cannot be read
        if (-1 if held is None else held.partition_version) != change.expected_version:
            return WriteOutcome.CONFLICT
        assert change.new.partition_version == change.expected_version + 1
        self.states[change.topic_partition] = change.new
        self.history.append(Written(change.topic_partition, change.new))
        self.zxid += 1
        return WriteOutcome.WRITTEN

    def create_topic(
        self, topic: TopicDescription, overrides: Mapping[str, str], controller_epoch: int
    ) -> WriteOutcome:
        if controller_epoch != self.controller_epoch:
            return WriteOutcome.DEPOSED
        if topic.name in self.topics:
            return WriteOutcome.CONFLICT
        self.topics[topic.name] = topic
        self.configs[topic.name] = dict(overrides)
        self._changed(StoreEvent.CONFIG_CHANGED)
        self._changed(StoreEvent.TOPICS_CHANGED)
        return WriteOutcome.WRITTEN

    def update_topic(self, topic: TopicDescription, controller_epoch: int) -> WriteOutcome:
        if controller_epoch != self.controller_epoch:
            return WriteOutcome.DEPOSED
        if topic.name not in self.topics:
            return WriteOutcome.CONFLICT
        self.topics[topic.name] = topic
        self._changed(StoreEvent.TOPICS_CHANGED)
        return WriteOutcome.WRITTEN

    def remove_topic(self, topic: TopicDescription, controller_epoch: int) -> WriteOutcome:
        if controller_epoch != self.controller_epoch:
            return WriteOutcome.DEPOSED
        held = self.topics.get(topic.name)
        if held is None and topic.name in self.topics:
            return WriteOutcome.CONFLICT  # it is there, and cannot be read
        if held is not None and held.topic_id != topic.topic_id:
            return WriteOutcome.CONFLICT
        for tp in [tp for tp in self.states if tp.topic == topic.name]:
            del self.states[tp]
        self.configs.pop(topic.name, None)
        if self.topics.pop(topic.name, None) is not None:
            self._changed(StoreEvent.TOPICS_CHANGED)
        self.deletions.discard(topic.name)
        self._changed(StoreEvent.DELETE_TOPICS_CHANGED)
        return WriteOutcome.WRITTEN

    def clear_preferred_election(self, controller_epoch: int) -> WriteOutcome:
        if controller_epoch != self.controller_epoch:
            return WriteOutcome.DEPOSED
        self.preferred_election = None
        self._changed(StoreEvent.PREFERRED_ELECTION_CHANGED)
        return WriteOutcome.WRITTEN

    def allocate_producer_ids(self, count: int) -> tuple[int, int]:
        start = self.next_producer_id
        self.next_producer_id += count
        return start, start + count

    # --- by anybody ---

    def mark_topic_deleted(self, topic: str) -> None:
        if topic not in self.deletions:
            self.deletions.add(topic)
            self._changed(StoreEvent.DELETE_TOPICS_CHANGED)

    def request_preferred_election(self, partitions: Sequence[TopicPartition]) -> None:
        self.preferred_election = list(partitions)
        self._changed(StoreEvent.PREFERRED_ELECTION_CHANGED)

    def write_topic_config(
        self, topic: str, overrides: Mapping[str, str], controller_epoch: int | None = None
    ) -> WriteOutcome:
        """Without an epoch: by hand."""
        if controller_epoch not in (None, self.controller_epoch):
            return WriteOutcome.DEPOSED
        self.configs[topic] = dict(overrides)
        self._changed(StoreEvent.CONFIG_CHANGED)
        return WriteOutcome.WRITTEN

    def write_broker_config(
        self, broker: str, overrides: Mapping[str, str], controller_epoch: int | None = None
    ) -> WriteOutcome:
        """Without an epoch: by hand."""
        if controller_epoch not in (None, self.controller_epoch):
            return WriteOutcome.DEPOSED
        self.broker_configs[broker] = dict(overrides)
        self._changed(StoreEvent.CONFIG_CHANGED)
        return WriteOutcome.WRITTEN

    def read_states(
        self, topics: Mapping[str, TopicDescription]
    ) -> dict[TopicPartition, PartitionState]:
        return {tp: state for tp, state in self.states.items() if tp.topic in topics}


class FakeClusterStore:
    """One broker's session. Calls made while it is suspended wait; when it has expired they raise
    SessionLostError, until the store begins a new session, which it does at once, as kazoo does."""

    def __init__(self, zookeeper: FakeZooKeeper | None = None) -> None:
        self.zookeeper = zookeeper or FakeZooKeeper()
        self.events: asyncio.Queue[StoreEvent] = asyncio.Queue()
        self.calls: list[str] = []
        self.out_of_turn: list[bool] = []  # of each time that it stood for election
        self.out_of_touch_ms = 0
        self._session = object()
        self._in_touch = asyncio.Event()
        self._in_touch.set()
        self._controller_epoch = -1  # of the election that this session has won
        self._injected: dict[str, deque[object]] = defaultdict(deque)
        self.zookeeper.listeners.append(self._hear)

    # --- what tests do to it ---

    def inject(self, call: str, *results: object) -> None:
        """The next calls of that name raise these (exceptions), return these, or (None) are served
        as usual. A callable is called first, in the middle of the call, which then goes on."""
        self._injected[call].extend(results)

    def forget_injected(self, call: str) -> None:
        """They are served as usual again."""
        self._injected[call].clear()

    def suspend(self) -> None:
        """Cut it off: the session lives on."""
        self._in_touch.clear()
        self.events.put_nowait(StoreEvent.SUSPENDED)

    def reconnect(self) -> None:
        self._in_touch.set()
        self.events.put_nowait(StoreEvent.RECONNECTED)

    def expire(self) -> None:
        """End the session, with its ephemeral nodes; a new one begins."""
        session, self._session = self._session, object()
        self._controller_epoch = -1
        self.events.put_nowait(StoreEvent.LOST)
        self._in_touch.set()
        self.zookeeper.end_session(session)

    def _hear(self, event: StoreEvent) -> None:
        if self._in_touch.is_set():
            self.events.put_nowait(event)

    async def _call(self, name: str) -> object | None:
        """The start of each call; returns an injected result."""
        self.calls.append(name)
        session = self._session
        await asyncio.sleep(0)
        await self._in_touch.wait()
        if session is not self._session:
            raise SessionLostError("the session has expired")
        injected = self._injected[name].popleft() if self._injected[name] else None
        if isinstance(injected, BaseException):
            raise injected
        if callable(injected):
            injected()
            return None
        return injected

    # --- the port ---

    @property
    def connected(self) -> bool:
        return self._in_touch.is_set()

    async def start(self) -> None:
        await self._call("start")

    async def close(self) -> None:
        self.zookeeper.listeners.remove(self._hear)
        self.zookeeper.end_session(self._session)

    async def sync(self) -> None:
        await self._call("sync")

    async def cluster_id(self) -> str:
        await self._call("cluster_id")
        return "cluster-of-a-test-0000"

    async def register_broker(self, broker: BrokerInfo) -> int:
        await self._call("register_broker")
        return self.zookeeper.register(broker, self._session)

    async def unregister_broker(self) -> None:
        await self._call("unregister_broker")
        for broker_id, (_, owner) in list(self.zookeeper.brokers.items()):
            if owner is self._session:
                del self.zookeeper.brokers[broker_id]
                self.zookeeper._changed(StoreEvent.BROKERS_CHANGED)

    async def elect_controller(
        self, broker_id: int, *, out_of_turn: bool = False
    ) -> ControllerElection:
        """Everybody is at the head of the queue."""
        self.out_of_turn.append(out_of_turn)
        injected = await self._call("elect_controller")
        if isinstance(injected, ControllerElection):
            return injected
        election = self.zookeeper.elect(broker_id, self._session)
        if election.won:
            self._controller_epoch = election.controller_epoch
        return election

    async def resign_controller(self) -> None:
        await self._call("resign_controller")
        self._controller_epoch = -1
        self.zookeeper.resign(self._session)

    async def read_controller(self, *, watch: bool = False) -> ControllerElection:
        await self._call("read_controller")
        elected, owner = self.zookeeper.controller or (-1, None)
        return ControllerElection(owner is self._session, elected, self.zookeeper.controller_epoch)

    async def read_brokers(self, *, watch: bool = True) -> dict[int, BrokerInfo]:
        await self._call("read_brokers")
        return self.zookeeper.live_brokers()

    async def read_topics(self) -> dict[str, TopicDescription]:
        await self._call("read_topics")
        return dict(self.zookeeper.topics)

    async def read_states(
        self, topics: Mapping[str, TopicDescription]
    ) -> dict[TopicPartition, PartitionState]:
        await self._call("read_states")
        return self.zookeeper.read_states(topics)

    async def write_states(self, changes: Sequence[StateChange]) -> list[WriteOutcome]:
        """An injected WriteOutcome is that of every write, none of which takes effect."""
        injected = await self._call("write_states")
        if isinstance(injected, WriteOutcome):
            return [injected for _ in changes]
        return [self.zookeeper.write_state(change, self._controller_epoch) for change in changes]

    async def create_topic(
        self, topic: TopicDescription, overrides: Mapping[str, str] = MappingProxyType({})
    ) -> WriteOutcome:
        injected = await self._call("create_topic")
        if isinstance(injected, WriteOutcome):
            return injected
        return self.zookeeper.create_topic(topic, overrides, self._controller_epoch)

    async def update_topic(self, topic: TopicDescription) -> WriteOutcome:
        await self._call("update_topic")
        return self.zookeeper.update_topic(topic, self._controller_epoch)

    async def delete_topic_nodes(self, topic: TopicDescription) -> WriteOutcome:
        await self._call("delete_topic_nodes")
        return self.zookeeper.remove_topic(topic, self._controller_epoch)

    async def clear_preferred_election(self) -> WriteOutcome:
        await self._call("clear_preferred_election")
        return self.zookeeper.clear_preferred_election(self._controller_epoch)

    async def record_takeover(self, takeover: Takeover) -> WriteOutcome:
        await self._call("record_takeover")
        if self._controller_epoch != self.zookeeper.controller_epoch:
            return WriteOutcome.DEPOSED
        self.zookeeper.takeovers.append(takeover)
        return WriteOutcome.WRITTEN

    async def allocate_producer_ids(self, broker_id: int, count: int) -> tuple[int, int]:
        """NotControllerError if another controller has been elected."""
        await self._call("allocate_producer_ids")
        if self._controller_epoch != self.zookeeper.controller_epoch:
            raise NotControllerError("this broker is no longer the controller")
        return self.zookeeper.allocate_producer_ids(count)

    async def read_feature(self) -> tuple[int, int] | None:
        await self._call("read_feature")
        return self.zookeeper.feature

    async def raise_feature(self, level: int) -> WriteOutcome:
        await self._call("raise_feature")
        if self._controller_epoch != self.zookeeper.controller_epoch:
            return WriteOutcome.DEPOSED
        known = self.zookeeper.feature
        if known is None or known[0] < level:
            self.zookeeper.feature = (level, 0 if known is None else known[1] + 1)
            self.zookeeper._changed(StoreEvent.CONFIG_CHANGED)
        return WriteOutcome.WRITTEN

    async def mark_topic_deleted(self, topic: str) -> None:
        await self._call("mark_topic_deleted")
        self.zookeeper.mark_topic_deleted(topic)

    async def read_deletions(self) -> set[str]:
        await self._call("read_deletions")
        return set(self.zookeeper.deletions)

    async def read_preferred_election(self) -> list[TopicPartition] | None:
        await self._call("read_preferred_election")
        return self.zookeeper.preferred_election

    async def read_topic_configs(self) -> dict[str, dict[str, str]]:
        await self._call("read_topic_configs")
        return {topic: dict(config) for topic, config in self.zookeeper.configs.items()}

    async def write_topic_config(self, topic: str, overrides: Mapping[str, str]) -> WriteOutcome:
        await self._call("write_topic_config")
        return self.zookeeper.write_topic_config(topic, overrides, self._controller_epoch)

    async def read_broker_configs(self) -> dict[str, dict[str, str]]:
        await self._call("read_broker_configs")
        return {broker: dict(config) for broker, config in self.zookeeper.broker_configs.items()}

    async def write_broker_config(self, broker: str, overrides: Mapping[str, str]) -> WriteOutcome:
        await self._call("write_broker_config")
        return self.zookeeper.write_broker_config(broker, overrides, self._controller_epoch)
