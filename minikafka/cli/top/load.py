"""What brokers do per second, out of the readings of their metrics. Pure; times are arguments.

State: the last two readings of each broker, and when the last one came. A broker that was started
anew has no rates until its second reading: its counters begin at zero, and so does its uptime.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from minikafka.api.metrics import BrokerMetrics, TopicMetrics


@dataclass(frozen=True, slots=True)
class Traffic:
    """Per second."""

    records_in: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    replication_in: float = 0.0
    failed_requests: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.records_in + other.records_in,
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
            self.replication_in + other.replication_in,
            self.failed_requests + other.failed_requests,
        )


@dataclass(frozen=True, slots=True)
class BrokerLoad:
    """`metrics` is the last reading, `heard_s` when it came; `traffic`, `cpu` (1.0 is a whole core)
    and `requests` a second are None until there are two."""

    metrics: BrokerMetrics
    heard_s: float
    traffic: Traffic | None = None
    cpu: float | None = None
    requests: float | None = None
    topics: Mapping[str, Traffic] = field(default_factory=dict)


class Loads:
    """By broker id."""

    def __init__(self) -> None:
        self.brokers: dict[int, BrokerLoad] = {}

    def take(self, metrics: BrokerMetrics, now_s: float) -> None:
        """A reading came."""
        before = self.brokers.get(metrics.broker_id)
        load = BrokerLoad(metrics, now_s)
        if before is not None and _goes_on(before.metrics, metrics):
            load = _between(before.metrics, metrics, now_s)
        self.brokers[metrics.broker_id] = load

    def forget(self, broker_id: int) -> None:
        """It did not answer: what it did last says nothing of now."""
        self.brokers.pop(broker_id, None)

    def topics(self) -> dict[str, Traffic]:
        """Each topic over all brokers."""
        found: dict[str, Traffic] = {}
        for load in self.brokers.values():
            for topic, traffic in load.topics.items():
                found[topic] = found.get(topic, Traffic()) + traffic
        return found

    def total(self) -> Traffic:
        total = Traffic()
        for load in self.brokers.values():
            total += load.traffic or Traffic()
        return total


def _goes_on(before: BrokerMetrics, after: BrokerMetrics) -> bool:
    """Are both of one life of the process?"""
    counts = (before.total.messages_in, before.total.produce_requests, before.process.cpu_ms)
    counts_after = (after.total.messages_in, after.total.produce_requests, after.process.cpu_ms)
    grown = all(one <= other for one, other in zip(counts, counts_after, strict=True))
    return grown and after.uptime_ms > before.uptime_ms


def _between(before: BrokerMetrics, after: BrokerMetrics, now_s: float) -> BrokerLoad:
    elapsed_s = (after.uptime_ms - before.uptime_ms) / 1000
    known = {each.topic: each for each in before.topics}
    return BrokerLoad(
        after,
        now_s,
        _traffic(before.total, after.total, elapsed_s),
        (after.process.cpu_ms - before.process.cpu_ms) / 1000 / elapsed_s,
        (_requests(after) - _requests(before)) / elapsed_s,
        {
            each.topic: _traffic(known[each.topic], each, elapsed_s)
            for each in after.topics
            if each.topic in known
        },
    )


def _requests(metrics: BrokerMetrics) -> int:
    return sum(each.count for each in metrics.requests)


def _traffic(before: TopicMetrics, after: TopicMetrics, elapsed_s: float) -> Traffic:
    """A topic that was made anew has smaller counters: nothing is known of it then."""

    def rate(*names: str) -> float:
        grown: int = sum(getattr(after, name) - getattr(before, name) for name in names)
        return max(0.0, grown / elapsed_s)

    return Traffic(
        rate("messages_in"),
        rate("bytes_in"),
        rate("bytes_out"),
        rate("replication_bytes_in"),
        rate("failed_produce_requests", "failed_fetch_requests"),
    )


def p99_ms(metrics: BrokerMetrics, kinds: Iterable[str]) -> float | None:
    """The largest 99th percentile among these kinds of requests; None if there were none."""
    wanted = set(kinds)
    found = [each.p99_us for each in metrics.requests if each.request in wanted and each.count]
    return max(found) / 1000 if found else None
