"""For how long nobody could write or read: per kind of fault, from the history. Pure.

The gap of a fault is the longest time without a successful acks=all write that ends after the fault
began and begins before it was taken back: so it runs on until the next success after it, or until
the next fault if that comes first. Told for the whole cluster (no partition could be written) and
for the partition that had it worst. The same for reading: the longest time that a consumer which
follows was given nothing of a partition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from tests.integration.torment.checker import Facts
from tests.integration.torment.history import OK, Poll


@dataclass(frozen=True)
class Availability:
    """Seconds. `times` is how often the kind was tried; the other numbers are of the worst time,
    `median_s` of the middle one (for the worst partition); `read_s` is about reading."""

    kind: str
    times: int
    cluster_s: float
    partition_s: float
    median_s: float
    read_s: float = 0.0


def longest_gap(successes: Sequence[float], start: float, end: float, limit: float) -> float:
    """`successes` are sorted times. From the start of the fault, or from a success after it, to the
    next success, for all that begin before `end`; what lasts longer counts up to `limit`."""
    longest, since = 0.0, start
    for at in successes[bisect_left(successes, start) :]:
        longest = max(longest, min(at, limit) - since)
        since = at
        if at >= end:
            return longest
    return max(longest, limit - since)


def availability(facts: Facts) -> list[Availability]:
    """One row a kind, the longest first."""
    written = _writes(facts)
    read = [
        sorted(each.end for each in reads if isinstance(each, Poll) and each.records)
        for (consumer, _), reads in facts.reads.items()
        if consumer in facts.followers
    ]
    everywhere = sorted(at for times in written for at in times)
    last = everywhere[-1] if everywhere else 0.0
    gaps: dict[str, list[tuple[float, float, float]]] = {}
    for fault, following in zip_longest(facts.faults, facts.faults[1:]):
        limit = following.start if following is not None else max(fault.end, last)
        span = (fault.start, fault.end, limit)
        gaps.setdefault(fault.kind, []).append(
            (longest_gap(everywhere, *span), _worst(written, *span), _worst(read, *span))
        )
    rows = []
    for kind, found in gaps.items():
        cluster, partition, reading = (sorted(numbers) for numbers in zip(*found, strict=True))
        median = partition[len(partition) // 2]
        rows.append(Availability(kind, len(found), cluster[-1], partition[-1], median, reading[-1]))
    return sorted(rows, key=lambda row: -row.partition_s)


def _writes(facts: Facts) -> list[list[float]]:
    """Per partition, when acks=all writes succeeded."""
    by_partition: dict[str, list[float]] = {}
    for send in facts.sends:
        if send.once:
            times = by_partition.setdefault(send.partition, [])
            if send.outcome == OK:
                times.append(send.end)
    return [sorted(times) for times in by_partition.values()]


def _worst(series: Iterable[Sequence[float]], start: float, end: float, limit: float) -> float:
    return max((longest_gap(times, start, end, limit) for times in series), default=0.0)


def table(rows: Iterable[Availability]) -> str:
    lines = [
        "longest time without a successful acks=all write (cluster, worst partition and its "
        "median) and without a record read, in seconds",
        f"{'kind of fault':28} {'times':>5} {'cluster':>8} {'partition':>9} {'median':>7} "
        f"{'read':>7}",
    ]
    lines += [
        f"{row.kind:28} {row.times:5} {row.cluster_s:8.2f} {row.partition_s:9.2f} "
        f"{row.median_s:7.2f} {row.read_s:7.2f}"
        for row in rows
    ]
    return "\n".join(lines)


_ROW, _LEFT, _WIDTH, _BAR = 26, 190, 460, 14


def plot(rows: Sequence[Availability], title: str) -> str:
    """The table as bars, an SVG document: the worst partition, and over it the whole cluster."""
    longest = max((row.partition_s for row in rows), default=0.0) or 1.0
    height = _ROW * len(rows) + 84
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 90}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="20" font-size="14">{_escape(title)}</text>',
        '<rect x="10" y="32" width="12" height="12" fill="#9db4d0"/>'
        '<text x="28" y="42">worst partition</text>'
        '<rect x="140" y="32" width="12" height="12" fill="#27527f"/>'
        '<text x="158" y="42">whole cluster</text>',
    ]
    for number, row in enumerate(rows):
        y = 60 + number * _ROW
        wide, dark = (value / longest * _WIDTH for value in (row.partition_s, row.cluster_s))
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 11}" text-anchor="end">{_escape(row.kind)}'
            f" × {row.times}</text>"
            f'<rect x="{_LEFT}" y="{y}" width="{wide:.1f}" height="{_BAR}" fill="#9db4d0"/>'
            f'<rect x="{_LEFT}" y="{y + 3}" width="{dark:.1f}" height="{_BAR - 6}" '
            'fill="#27527f"/>'
            f'<text x="{_LEFT + wide + 6:.1f}" y="{y + 11}">{row.partition_s:.1f} s</text>'
        )
    axis = 60 + len(rows) * _ROW
    parts.append(f'<text x="{_LEFT}" y="{axis + 12}">seconds without a successful write</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
