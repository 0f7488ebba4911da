"""What a broker says of itself when it is asked (metrics_reader.py reads it).

Counters are those since the start of the process; two readings give rates, with `uptime_ms`, which
no change of the clock touches, as the time between them. The gRPC messages of the same names mirror
these classes field by field; `/metrics` is made of the same reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What the broker's process uses: CPU time of all its threads, memory, open files."""

    cpu_ms: int = 0
    resident_bytes: int = 0
    open_files: int = 0


@dataclass(frozen=True, slots=True)
class TopicMetrics:
    """One topic on one broker, or all of them together (`topic` is empty then). The counters are
    those of counters.TopicCounters."""

    topic: str
    partitions: int  # replicas on this broker
    leaders: int  # those of them that lead
    size_bytes: int
    messages_in: int
    bytes_in: int
    bytes_out: int
    replication_bytes_in: int
    replication_bytes_out: int
    produce_requests: int
    fetch_requests: int
    failed_produce_requests: int
    failed_fetch_requests: int


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """One kind of request. The quantiles are of the last 1024 of them."""

    request: str
    count: int
    total_us: int
    p50_us: int
    p99_us: int


@dataclass(frozen=True, slots=True)
class ControllerMetrics:
    """The cluster as the active controller has it; all is 0 on other brokers, except what this
    broker has counted in earlier terms of its own."""

    active: bool = False
    controller_epoch: int = -1
    brokers: int = 0
    topics: int = 0
    partitions: int = 0
    offline_partitions: int = 0
    preferred_imbalance: int = 0  # partitions that another replica leads than the preferred one
    topics_to_delete: int = 0
    elections: int = 0
    unclean_elections: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaMetrics:
    """The replicas of a broker. Those that count under some condition are the leaders'."""

    partitions: int = 0
    leaders: int = 0
    offline: int = 0  # their disk failed
    under_replicated: int = 0
    under_min_isr: int = 0
    at_min_isr: int = 0
    max_lag: int = 0  # records that a follower here is behind its leader
    isr_shrinks: int = 0
    isr_expands: int = 0


@dataclass(frozen=True, slots=True)
class GroupMetrics:
    """The consumer groups that a broker coordinates."""

    groups: int = 0
    offsets: int = 0
    empty: int = 0
    preparing_rebalance: int = 0
    completing_rebalance: int = 0
    stable: int = 0


@dataclass(frozen=True, slots=True)
class BrokerMetrics:
    """`uptime_ms` since the process began to be a broker; `timestamp_ms` by the wall clock."""

    broker_id: int
    broker_epoch: int
    uptime_ms: int
    timestamp_ms: int
    process: ProcessUsage
    total: TopicMetrics
    topics: Sequence[TopicMetrics]
    replicas: ReplicaMetrics
    controller: ControllerMetrics
    groups: GroupMetrics
    requests: Sequence[RequestMetrics]
    zookeeper_connected: bool
    zookeeper_disconnects: int
    zookeeper_expires: int
