"""What a broker counts while it works, for its metrics: plain integers, from zero at its start.

Counted is once a batch, a partition of a request, or a request; never once a record. Whoever wants
rates takes two readings (metrics.py) and divides.

State: per topic that has a replica here its `TopicCounters`, and `elsewhere` what belongs to no
such topic: requests for unknown ones, and all of those whose last replica has left this broker. So
the sum of them never falls, while a topic that comes back begins anew.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, fields

KEPT_DURATIONS = 1024
_SLOT = KEPT_DURATIONS - 1


@dataclass(slots=True)
class TopicCounters:
    """`in` and `out` without more are those of clients; replication is counted apart. Bytes are
    those of record batches. Requests are counted once for each partition that they name."""

    messages_in: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    replication_bytes_in: int = 0
    replication_bytes_out: int = 0
    produce_requests: int = 0
    fetch_requests: int = 0
    failed_produce_requests: int = 0
    failed_fetch_requests: int = 0

    def add(self, other: TopicCounters) -> None:
        for name in _NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_NAMES = tuple(each.name for each in fields(TopicCounters))


class RequestCounter:
    """One kind of request: how many there were, what they took, and the last durations (Kafka keeps
    a sample, too), in microseconds."""

    __slots__ = ("_durations_us", "count", "total_us")

    def __init__(self) -> None:
        self.count = 0
        self.total_us = 0
        self._durations_us = array("Q")

    def add(self, duration_s: float) -> None:
        duration_us = max(0, int(duration_s * 1_000_000))
        if self.count < KEPT_DURATIONS:
            self._durations_us.append(duration_us)
        else:
            self._durations_us[self.count & _SLOT] = duration_us
        self.count += 1
        self.total_us += duration_us

    def quantiles_us(self, quantiles: tuple[float, ...]) -> list[int]:
        """Of the last KEPT_DURATIONS requests; zeros if there was none."""
        durations_us = sorted(self._durations_us) or [0]
        last = len(durations_us) - 1
        return [durations_us[round(quantile * last)] for quantile in quantiles]


class RequestCounters:
    """By kind of request, in Kafka's words: Produce, FetchConsumer, FetchFollower, Metadata, ..."""

    def __init__(self) -> None:
        self.kinds: dict[str, RequestCounter] = {}

    def add(self, kind: str, duration_s: float) -> None:
        counter = self.kinds.get(kind)
        if counter is None:
            counter = self.kinds[kind] = RequestCounter()
        counter.add(duration_s)


class BrokerCounters:
    """All of them. `isr_shrinks` and `isr_expands` are what this broker has seen as the leader."""

    def __init__(self) -> None:
        self.topics: dict[str, TopicCounters] = {}
        self.elsewhere = TopicCounters()
        self.requests = RequestCounters()
        self.isr_shrinks = 0
        self.isr_expands = 0
        self.zookeeper_disconnects = 0
        self.zookeeper_expires = 0

    def of(self, topic: str) -> TopicCounters:
        """Where to count what concerns this topic."""
        return self.topics.get(topic, self.elsewhere)

    def begin(self, topic: str) -> TopicCounters:
        """The counters of a topic that has a replica here."""
        return self.topics.setdefault(topic, TopicCounters())

    def retire(self, topic: str) -> None:
        """The topic has no replica here any more."""
        self.elsewhere.add(self.topics.pop(topic))

    def moved_bytes(self) -> int:
        """Of record batches, in and out, to and from clients and followers."""
        return sum(
            each.bytes_in + each.bytes_out + each.replication_bytes_in + each.replication_bytes_out
            for each in (self.elsewhere, *self.topics.values())
        )

    def total(self) -> TopicCounters:
        total = TopicCounters()
        for each in (self.elsewhere, *self.topics.values()):
            total.add(each)
        return total
