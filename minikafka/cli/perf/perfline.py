"""Latencies and the line in which Kafka's producer performance tool reports them. Pure.

    N records sent, X records/sec (Y MB/sec), A ms avg latency, B ms max latency, C ms 50th,
    D ms 95th, E ms 99th, F ms 99.9th.

MB are 2**20 bytes, as there. Percentiles are by nearest rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MEBIBYTE = 1024 * 1024
_QUANTILES = (("50th", 0.5), ("95th", 0.95), ("99th", 0.99), ("99.9th", 0.999))


@dataclass(slots=True)
class Latencies:
    """Latencies in milliseconds, each with the number of records that it stands for."""

    _counts: list[tuple[float, int]] = field(default_factory=list)
    records: int = 0
    _sum_ms: float = 0.0

    def add(self, latency_ms: float, records: int = 1) -> None:
        self._counts.append((latency_ms, records))
        self.records += records
        self._sum_ms += latency_ms * records

    @property
    def samples_ms(self) -> list[float]:
        return [latency_ms for latency_ms, _ in self._counts]

    @property
    def average_ms(self) -> float:
        return self._sum_ms / self.records if self.records else 0.0

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """The latency that this share of the records did not exceed, one a share in order."""
        if not self._counts:
            return [0.0 for _ in shares]
        ordered = sorted(self._counts)
        found: list[float] = []
        seen = 0
        ranks = iter([max(1, math.ceil(share * self.records)) for share in shares])
        rank = next(ranks, None)
        for latency_ms, records in ordered:
            seen += records
            while rank is not None and seen >= rank:
                found.append(latency_ms)
                rank = next(ranks, None)
        return found

    @property
    def max_ms(self) -> float:
        return max(self._counts)[0] if self._counts else 0.0


def perf_line(records: int, size_bytes: int, elapsed_s: float, latencies: Latencies) -> str:
    """Kafka's line; `size_bytes` of all values."""
    per_second = records / elapsed_s if elapsed_s > 0 else 0.0
    mb_per_second = size_bytes / elapsed_s / MEBIBYTE if elapsed_s > 0 else 0.0
    values = latencies.quantiles([share for _, share in _QUANTILES])
    quantiles = ", ".join(
        f"{value:.2f} ms {name}" for (name, _), value in zip(_QUANTILES, values, strict=True)
    )
    return (
        f"{records} records sent, {per_second:.1f} records/sec ({mb_per_second:.2f} MB/sec), "
        f"{latencies.average_ms:.2f} ms avg latency, {latencies.max_ms:.2f} ms max latency, "
        f"{quantiles}."
    )


def rate_line(document: dict[str, Any]) -> str:
    """The beginning of Kafka's line, of a document."""
    return (
        f"{document['records']} records sent, {document['records_per_second']:.1f} records/sec "
        f"({document['mb_per_second']:.2f} MB/sec), "
        f"{document['latency_avg_ms']:.2f} ms avg latency, "
        f"{document['latency_max_ms']:.2f} ms max latency."
    )


def perf_document(
    records: int, size_bytes: int, elapsed_s: float, latencies: Latencies | None
) -> dict[str, Any]:
    """The JSON document of a measurement (docs/cli.md)."""
    document: dict[str, Any] = {
        "records": records,
        "bytes": size_bytes,
        "elapsed_ms": round(elapsed_s * 1000, 3),
        "records_per_second": round(records / elapsed_s, 1) if elapsed_s > 0 else 0.0,
        "mb_per_second": round(size_bytes / elapsed_s / MEBIBYTE, 3) if elapsed_s > 0 else 0.0,
    }
    if latencies is not None:
        p50, p95, p99, p999 = latencies.quantiles([share for _, share in _QUANTILES])
        document |= {
            "latency_avg_ms": round(latencies.average_ms, 3),
            "latency_max_ms": round(latencies.max_ms, 3),
            "latency_p50_ms": round(p50, 3),
            "latency_p95_ms": round(p95, 3),
            "latency_p99_ms": round(p99, 3),
            "latency_p999_ms": round(p999, 3),
        }
    return document


def commits_line(commits: Latencies, elapsed_s: float) -> str:
    """Of transactions: how many, and how long their commits took, records that were on their way
    included."""
    p50, p99 = commits.quantiles((0.5, 0.99))
    return (
        f"{commits.records} transactions committed, {commits.records / elapsed_s:.1f} a second, "
        f"{p50:.2f} ms 50th, {p99:.2f} ms 99th, {commits.max_ms:.2f} ms max of a commit."
    )


def commits_document(commits: Latencies, elapsed_s: float) -> dict[str, Any]:
    p50, p99 = commits.quantiles((0.5, 0.99))
    return {
        "transactions": commits.records,
        "transactions_per_second": round(commits.records / elapsed_s, 1),
        "commit_p50_ms": round(p50, 3),
        "commit_p99_ms": round(p99, 3),
        "commit_max_ms": round(commits.max_ms, 3),
    }
