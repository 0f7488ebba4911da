"""A bench for the controller's core: carries operations out on a `FakeZooKeeper`, without a loop.

Broker 1 is A, 2 is B and so on. `register` and `kill` change who lives; `controller()` makes a core
that has won an election; `run` carries an operation out and returns its result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from minikafka.api.outcomes import WriteOutcome
from minikafka.api.requests import AlterPartitionResult, CreateTopic
from minikafka.core.control.commands import (
    AllocateProducerIds,
    ClearPreferredElection,
    Command,
    CreateTopicNode,
    MarkTopicDeleted,
    NextTurn,
    Operation,
    ReadBrokerConfigs,
    ReadStates,
    ReadTopicConfigs,
    RemoveTopic,
    Results,
    StateChange,
    UpdateTopicNode,
    WriteBrokerConfig,
    WriteStates,
    WriteTopicConfig,
)
from minikafka.core.control.controller import ClusterRead, Controller
from minikafka.core.control.election import after_failures
from minikafka.core.control.outbox import UpdateStateBatch
from minikafka.core.control.topics import NewTopicDefaults
from minikafka.errors import MinikafkaError
from minikafka.model import (
    Assignment,
    BrokerInfo,
    IsrProposal,
    TopicDescription,
    TopicPartition,
    broker_name,
)
from tests.helpers.cluster_store import FakeZooKeeper

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

TP = TopicPartition("t", 0)
ALL = (1, 2, 3, 4, 5)


def broker(
    broker_id: int,
    broker_epoch: int = -1,
    storage_id: str | None = None,
    dirty: bool = False,
    rack: str | None = None,
) -> BrokerInfo:
    name = broker_name(broker_id)
    return BrokerInfo(
        broker_id,
        name,
        "127.0.0.1",
        9000 + broker_id,
        rack=rack,
        storage_id=storage_id or f"disk-{name}",
        dirty=dirty,
        broker_epoch=broker_epoch,
    )


def apart(found: Mapping[K, V | None]) -> tuple[dict[K, V], frozenset[K]]:
    """What can be read, and what is there and cannot (None)."""
    readable = {key: value for key, value in found.items() if value is not None}
    return readable, frozenset(found.keys() - readable.keys())


def check_settled(core: Controller) -> None:
    """What an event leaves: the indexes say what the whole says, and nobody who is not in sync is
    in an ISR that has a leader, looked for in all partitions."""
    core.context.check_indexes()
    assert not core.context.unsettled
    assert all(after_failures(view) is None for _, view in core.context.views())


class Bench:
    """One ZooKeeper, one controller at a time."""

    def __init__(self) -> None:
        self.zookeeper = FakeZooKeeper()
        self.core: Controller = None  # type: ignore[assignment]
        self.unclean_topics: set[str] = set()
        self.min_insync = 1
        self.commands: list[Command] = []
        self.changes: list[StateChange] = []
        self.injected: list[Any] = []  # results for the next WriteStates, CreateTopicNode and so on
        self._topic_ids = 0

    # --- the cluster ---

    def register(self, *broker_ids: int, **properties: Any) -> None:
        """Start brokers (again): each gets a new broker epoch."""
        for broker_id in broker_ids:
            self.zookeeper.brokers.pop(broker_id, None)
            self.zookeeper.register(broker(broker_id, **properties), self)

    def kill(self, *broker_ids: int) -> None:
        for broker_id in broker_ids:
            del self.zookeeper.brokers[broker_id]

    def epoch(self, broker_id: int) -> int:
        return self.zookeeper.brokers[broker_id][0].broker_epoch

    # --- the controller ---

    def elect(self) -> Controller:
        """A new controller takes over."""
        self.zookeeper.controller = None
        epoch = self.zookeeper.elect(1, object()).controller_epoch
        self.core = Controller(
            1, epoch, lambda topic: topic in self.unclean_topics, lambda _: self.min_insync
        )
        preferred = self.zookeeper.preferred_election
        topics, unreadable_topics = apart(self.zookeeper.topics)
        states, unreadable = apart(self.zookeeper.read_states(topics))
        self.run(
            self.core.load(
                ClusterRead(
                    self.zookeeper.live_brokers(),
                    topics,
                    states,
                    frozenset(self.zookeeper.deletions),
                    None if preferred is None else tuple(preferred),
                    unreadable_topics,
                    unreadable,
                )
            )
        )
        return self.core

    def see_topics(self) -> None:
        self.run(self.core.on_topics(*apart(self.zookeeper.topics)))

    def see_brokers(self) -> Any:
        return self.run(self.core.on_brokers(self.zookeeper.live_brokers()))

    def chance(self, start: int = 0) -> NewTopicDefaults:
        def topic_id() -> str:
            self._topic_ids += 1
            return f"topic-id-{self._topic_ids}"

        return NewTopicDefaults(lambda bound: start % bound, topic_id)

    def create(self, name: str, *replicas: Sequence[int]) -> None:
        """A topic with these replicas for each partition."""
        topic = CreateTopic(name, assignments=dict(enumerate(replicas)))
        assert self.run(self.core.create_topics([topic], self.chance())) == [(name, None)]

    def put_topic(self, name: str, *replicas: Sequence[int]) -> None:
        """A topic that is in ZooKeeper without its States."""
        assignments = {p: Assignment(tuple(r)) for p, r in enumerate(replicas)}
        self.zookeeper.topics[name] = TopicDescription(name, f"id-of-{name}", assignments)

    def line(self, name: str = "t", partition: int = 0) -> str:
        """The State in ZooKeeper, as people read it."""
        tp = TopicPartition(name, partition)
        state = self.zookeeper.states[tp]
        assert self.core.context.states[tp] == state
        return StateChange(tp, None, state, "").describe({}).removesuffix(" ()").partition(": ")[2]

    def messages(self) -> dict[int, Any]:
        """Take everything that waits for the brokers."""
        found = {}
        for broker_id, info in self.core.outbox.brokers().items():
            message = self.core.outbox.take(broker_id, info.broker_epoch)
            if message is not None:
                found[broker_id] = message
        return found

    def message_to(self, broker_id: int) -> UpdateStateBatch:
        """Take what waits for one broker; there is something."""
        broker_epoch = self.core.outbox.brokers()[broker_id].broker_epoch
        message = self.core.outbox.take(broker_id, broker_epoch)
        assert message is not None
        return message

    # --- carrying out ---

    def run(self, operation: Operation[T]) -> T:
        result: Any = None
        try:
            while True:
                try:
                    command = operation.send(result)
                except StopIteration as stop:
                    value: T = stop.value
                    check_settled(self.core)
                    return value
                self.commands.append(command)
                result = self._execute(command)
        finally:
            operation.close()

    def _execute(self, command: Command) -> Any:
        zookeeper, epoch = self.zookeeper, self.core.context.controller_epoch
        if self.injected and not isinstance(
            command, ReadStates | ReadTopicConfigs | ReadBrokerConfigs
        ):
            injected = self.injected.pop(0)
            if callable(injected):
                injected = injected()
            if injected is not None:
                return injected
        match command:
            case WriteStates():
                return [self._write(change, epoch) for change in command.changes]
            case ReadStates():
                return zookeeper.read_states(command.topics)
            case CreateTopicNode():
                return zookeeper.create_topic(command.topic, command.overrides, epoch)
            case UpdateTopicNode():
                return zookeeper.update_topic(command.topic, epoch)
            case RemoveTopic():
                return zookeeper.remove_topic(command.topic, epoch)
            case ClearPreferredElection():
                return zookeeper.clear_preferred_election(epoch)
            case ReadTopicConfigs():
                return dict(zookeeper.configs)
            case WriteTopicConfig():
                return zookeeper.write_topic_config(command.topic, command.overrides, epoch)
            case ReadBrokerConfigs():
                return dict(zookeeper.broker_configs)
            case WriteBrokerConfig():
                return zookeeper.write_broker_config(command.broker, command.overrides, epoch)
            case MarkTopicDeleted():
                return zookeeper.mark_topic_deleted(command.topic)
            case AllocateProducerIds():
                return zookeeper.allocate_producer_ids(1000)
            case NextTurn():
                return None

    def _write(self, change: StateChange, epoch: int) -> WriteOutcome:
        outcome = self.zookeeper.write_state(change, epoch)
        if outcome is WriteOutcome.WRITTEN:
            self.changes.append(change)
        return outcome


def reasons(bench: Bench) -> list[str]:
    return [change.reason for change in bench.changes]


def kinds(results: list[tuple[str, MinikafkaError | None]]) -> list[tuple[str, type | None]]:
    return [(name, error and type(error)) for name, error in results]  # type: ignore[misc]


def proposal(bench: Bench, *isr: int, tp: TopicPartition = TP, **changes: object) -> IsrProposal:
    """Over the current State, with the incarnations of now."""
    state = bench.core.context.states[tp]
    fields: dict[str, object] = {
        "topic_partition": tp,
        "topic_id": bench.core.context.topics[tp.topic].topic_id,
        "leader_epoch": state.leader_epoch,
        "partition_version": state.partition_version,
        "isr": tuple((m, bench.epoch(m)) for m in isr),
    }
    return IsrProposal(**{**fields, **changes})  # type: ignore[arg-type]


def alter(bench: Bench, *proposals: IsrProposal, broker_id: int = 1) -> list[AlterPartitionResult]:
    return bench.run(bench.core.alter_partition(broker_id, bench.epoch(broker_id), list(proposals)))


def create(bench: Bench, *topics: CreateTopic, **options: Any) -> Results:
    return bench.run(bench.core.create_topics(topics, bench.chance(), **options))


def only_error(results: Results) -> Any:
    [(_, error)] = results
    return error


def shut_down(bench: Bench, broker_id: int) -> list[TopicPartition]:
    return bench.run(bench.core.on_controlled_shutdown(broker_id, bench.epoch(broker_id)))
