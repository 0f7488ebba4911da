"""What each broker does, from two readings of its counters: rates, CPU, memory. Pure.

Rates are over the broker's own clock (`uptime_ms`); a broker that was started anew begins again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minikafka.api.metrics import BrokerMetrics


class Loads:
    """State: the last two readings of each broker, by id."""

    def __init__(self) -> None:
        self._before: dict[int, BrokerMetrics] = {}
        self._now: dict[int, BrokerMetrics] = {}

    def take(self, metrics: BrokerMetrics) -> None:
        held = self._now.get(metrics.broker_id)
        is_same_process = held is not None and held.uptime_ms < metrics.uptime_ms
        if held is not None and is_same_process:
            self._before[metrics.broker_id] = held
        else:
            self._before.pop(metrics.broker_id, None)
        self._now[metrics.broker_id] = metrics

    def forget(self, broker_id: int) -> None:
        """It is gone, or does not answer."""
        self._now.pop(broker_id, None)
        self._before.pop(broker_id, None)

    def documents(self, name: Callable[[int], str]) -> list[dict[str, Any]]:
        """One a broker that answers, by id. Rates are a second, and null after one reading."""
        return [self._document(self._now[each], name(each)) for each in sorted(self._now)]

    def _document(self, now: BrokerMetrics, name: str) -> dict[str, Any]:
        before = self._before.get(now.broker_id)
        latency = {each.request.lower(): each.p99_us for each in now.requests if each.count}

        def rate(count: Callable[[BrokerMetrics], int]) -> float | None:
            if before is None:
                return None
            elapsed_s = (now.uptime_ms - before.uptime_ms) / 1000
            return round(max(count(now) - count(before), 0) / elapsed_s, 1)

        cpu_ms = rate(lambda each: each.process.cpu_ms)
        return {
            "id": now.broker_id,
            "name": name,
            "uptime_ms": now.uptime_ms,
            "cpu_percent": None if cpu_ms is None else round(cpu_ms / 10, 1),
            "memory_bytes": now.process.resident_bytes,
            "size_bytes": now.total.size_bytes,
            "records_in": rate(lambda each: each.total.messages_in),
            "bytes_in": rate(lambda each: each.total.bytes_in),
            "bytes_out": rate(lambda each: each.total.bytes_out),
            "replication_in": rate(lambda each: each.total.replication_bytes_in),
            "replication_out": rate(lambda each: each.total.replication_bytes_out),
            "produce_p99_ms": _milliseconds(latency.get("produce")),
            "isr_shrinks": now.replicas.isr_shrinks,
            "isr_expands": now.replicas.isr_expands,
        }


def _milliseconds(us: int | None) -> float | None:
    return None if us is None else round(us / 1000, 1)
