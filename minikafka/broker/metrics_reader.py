"""Reads the metrics of a broker (metrics.py) from its counters and its state.

Nothing is kept here: all is read when it is asked for, on the broker's loop. Partitions are looked
at in slices, each once, so that what is summed of them fits together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from minikafka.api.metrics import (
    BrokerMetrics,
    ControllerMetrics,
    GroupMetrics,
    ProcessUsage,
    ReplicaMetrics,
    RequestMetrics,
    TopicMetrics,
)
from minikafka.broker.counters import BrokerCounters, TopicCounters
from minikafka.broker.groups.shards import GroupShards
from minikafka.broker.replication.replica import FetchWaiter, Replica
from minikafka.broker.replication.replica_manager import ReplicaManager
from minikafka.broker.transactions.shards import TransactionShards
from minikafka.core.control.context import ControllerCounters
from minikafka.core.control.controller import Controller
from minikafka.core.groups.lifecycle import GroupState
from minikafka.model import NO_LEADER, TopicPartition
from minikafka.turns import UPKEEP, in_slices

QUANTILES = (0.5, 0.99)
LATE_MS = 300_000  # beyond transaction.max.timeout.ms, as in Kafka


class ControllerView(Protocol):
    """What is read of the ControllerRuntime."""

    @property
    def core(self) -> Controller | None: ...
    @property
    def counters(self) -> ControllerCounters: ...


class MetricsReader:
    """`connected` says whether ZooKeeper is in touch; `oldest_marker_ms`, since when the marker of
    a transaction waits that waits longest; `read_process` is app/'s."""

    def __init__(
        self,
        replicas: ReplicaManager,
        controller: ControllerView,
        groups: GroupShards,
        transactions: TransactionShards,
        oldest_marker_ms: Callable[[], int | None],
        connected: Callable[[], bool],
        now_ms: Callable[[], int],
        now_timestamp_ms: Callable[[], int],
        read_process: Callable[[], ProcessUsage] = ProcessUsage,
    ) -> None:
        self.replicas = replicas
        self.controller = controller
        self.groups = groups
        self.transactions = transactions
        self._oldest_marker_ms = oldest_marker_ms
        self._connected = connected
        self._now_ms = now_ms
        self._now_timestamp_ms = now_timestamp_ms
        self._read_process = read_process
        self._started_ms = now_ms()

    @property
    def counters(self) -> BrokerCounters:
        return self.replicas.counters

    async def read(self) -> BrokerMetrics:
        """A reading of now."""
        held = _Held()
        async for replica in in_slices(list(self.replicas.replicas.values()), UPKEEP):
            held.add(replica)
        total, topics = self._topics(held.topics)
        counters = self.counters
        return BrokerMetrics(
            self.replicas.config.broker_id,
            self.replicas.broker_epoch,
            self._now_ms() - self._started_ms,
            self._now_timestamp_ms(),
            self._read_process(),
            total,
            topics,
            self._replicas(held),
            self._controller(),
            self._groups(),
            self._requests(),
            self._connected(),
            counters.zookeeper_disconnects,
            counters.zookeeper_expires,
        )

    async def count_waiting(self) -> Waiting:
        """The requests that wait for something here."""
        produces, fetches = 0, set[FetchWaiter]()
        async for topic_partition in in_slices(list(self.replicas.led), UPKEEP):
            replica = self.replicas.replicas.get(topic_partition)
            if replica is not None:
                produces += replica.parked_count
                fetches.update(replica.waiting_fetches())
        return Waiting(produces, len(fetches))

    def marker_wait_ms(self) -> int:
        """For how long the marker has waited that waits longest; 0 if there is none."""
        since_ms = self._oldest_marker_ms()
        return 0 if since_ms is None else max(0, self._now_ms() - since_ms)

    def is_late(self, replica: Replica) -> bool:
        """Does this leader have a transaction that nobody has written to for longer than any may
        last, and some minutes? (It hangs, if its coordinator does not know it.)"""
        log = replica.core.log_state
        if not replica.core.is_leader or log.last_stable_offset == log.high_watermark:
            return False
        limit_ms = self.replicas.config.transaction_max_timeout_ms + LATE_MS
        before_ms = self._now_timestamp_ms() - limit_ms
        return any(
            known.is_open and known.last_timestamp_ms < before_ms
            for _, known in log.producers.items()
        )

    def _topics(self, held: dict[str, list[int]]) -> tuple[TopicMetrics, list[TopicMetrics]]:
        """All together, and each, by name."""
        counters = self.counters
        topics = [_topic_metrics(name, held[name], counters.of(name)) for name in sorted(held)]
        sums = [sum(column) for column in zip(*held.values(), strict=True)] or [0, 0, 0]
        return _topic_metrics("", sums, counters.total()), topics

    def _replicas(self, held: _Held) -> ReplicaMetrics:
        return ReplicaMetrics(
            held.replicas,
            held.led,
            len(self.replicas.failed),
            held.under_replicated,
            held.under_min_isr,
            held.at_min_isr,
            held.max_lag,
            self.counters.isr_shrinks,
            self.counters.isr_expands,
        )

    def _controller(self) -> ControllerMetrics:
        counters = self.controller.counters
        core = self.controller.core
        if core is None:
            return ControllerMetrics(
                elections=counters.elections, unclean_elections=counters.unclean_elections
            )
        context = core.context
        partitions = offline = imbalance = 0
        for name in context.topics.keys() - context.deletions:
            for partition, assignment in context.topics[name].assignments.items():
                state = context.states.get(TopicPartition(name, partition))
                leader = NO_LEADER if state is None else state.leader
                partitions += 1
                offline += leader == NO_LEADER
                imbalance += leader != assignment.replicas[0]
        return ControllerMetrics(
            True,
            context.controller_epoch,
            len(context.brokers),
            len(context.topics) - len(context.deletions & context.topics.keys()),
            partitions,
            offline,
            imbalance,
            len(context.deletions),
            counters.elections,
            counters.unclean_elections,
        )

    def _groups(self) -> GroupMetrics:
        groups = self.groups.loaded_groups()
        states = [group.state for group in groups]
        return GroupMetrics(
            len(groups),
            sum(len(group.offsets.committed) for group in groups),
            states.count(GroupState.EMPTY),
            states.count(GroupState.PREPARING_REBALANCE),
            states.count(GroupState.COMPLETING_REBALANCE),
            states.count(GroupState.STABLE),
        )

    def _requests(self) -> list[RequestMetrics]:
        return [
            RequestMetrics(kind, counter.count, counter.total_us, *counter.quantiles_us(QUANTILES))
            for kind, counter in sorted(self.counters.requests.kinds.items())
        ]


class Waiting(NamedTuple):
    """Requests that wait: for replication, and for records (consumers and followers)."""

    produces: int
    fetches: int


class _Held:
    """What is summed of the replicas. Of each topic: partitions, leaders, bytes."""

    def __init__(self) -> None:
        self.topics: dict[str, list[int]] = {}
        self.replicas = self.led = self.max_lag = 0
        self.under_replicated = self.under_min_isr = self.at_min_isr = 0

    def add(self, replica: Replica) -> None:
        sums = self.topics.setdefault(replica.topic_partition.topic, [0, 0, 0])
        sums[0] += 1
        sums[2] += replica.log.size_bytes
        self.replicas += 1
        health = isr_health(replica)
        if health is None:
            self.max_lag = max(self.max_lag, replica.lag)
            return
        sums[1] += 1
        self.led += 1
        self.under_replicated += health.under_replicated
        self.under_min_isr += health.under_min_isr
        self.at_min_isr += health.at_min_isr


@dataclass(frozen=True, slots=True)
class IsrHealth:
    """How the in-sync replicas of a partition stand, by its leader."""

    replicas: int
    in_sync: int
    under_replicated: bool
    under_min_isr: bool
    at_min_isr: bool


def isr_health(replica: Replica) -> IsrHealth | None:
    """None unless this replica leads."""
    if not replica.core.is_leader:
        return None
    state = replica.core.state
    assert state is not None, "a leader has a State"
    isr, replicas = state.isr, replica.core.assignment.replicas
    minimum = replica.core.effective_min_insync()
    return IsrHealth(
        len(replicas),
        len(isr),
        any(replica not in isr for replica in replicas),
        len(isr) < minimum,
        len(isr) == minimum,
    )


def _topic_metrics(name: str, held: Sequence[int], counters: TopicCounters) -> TopicMetrics:
    partitions, leaders, size_bytes = held
    return TopicMetrics(
        name,
        partitions,
        leaders,
        size_bytes,
        counters.messages_in,
        counters.bytes_in,
        counters.bytes_out,
        counters.replication_bytes_in,
        counters.replication_bytes_out,
        counters.produce_requests,
        counters.fetch_requests,
        counters.failed_produce_requests,
        counters.failed_fetch_requests,
    )
