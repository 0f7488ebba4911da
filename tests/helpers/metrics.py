"""Metrics of a broker for tests: zeros, but for what a test is about."""

from __future__ import annotations

from typing import Any

from minikafka.api.metrics import (
    BrokerMetrics,
    ControllerMetrics,
    GroupMetrics,
    ProcessUsage,
    ReplicaMetrics,
    TopicMetrics,
)


def topic_of(topic: str = "", **counters: int) -> TopicMetrics:
    names = [each for each in TopicMetrics.__dataclass_fields__ if each != "topic"]
    assert counters.keys() <= set(names), counters
    return TopicMetrics(topic, *(counters.get(name, 0) for name in names))


def metrics_of(broker_id: int, **changes: Any) -> BrokerMetrics:
    values: dict[str, Any] = {
        "broker_id": broker_id,
        "broker_epoch": 0,
        "uptime_ms": 0,
        "timestamp_ms": 1_700_000_000_000,
        "process": ProcessUsage(),
        "total": topic_of(),
        "topics": (),
        "replicas": ReplicaMetrics(),
        "controller": ControllerMetrics(),
        "groups": GroupMetrics(),
        "requests": (),
        "zookeeper_connected": True,
        "zookeeper_disconnects": 0,
        "zookeeper_expires": 0,
    }
    return BrokerMetrics(**(values | changes))
