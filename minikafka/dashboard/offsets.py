"""Samples of offsets: where each replica of a partition was, and when; rates from them. Pure.

A sample is kept when it differs from the one before, at most `limit` for a partition and a number
for all together, the oldest being forgotten; so a quiet partition costs nothing, and its last
sample holds until the next.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from minikafka.model import TopicPartition

_IN_ALL = 60_000
_LEAST = 60
_RATE_WINDOW_MS = 3_000


@dataclass(frozen=True, slots=True)
class Sample:
    """What a leader tells of its partition. `replicas`: (broker id, log end offset, lag in ms),
    -1 where it does not know."""

    log_start_offset: int
    high_watermark: int
    log_end_offset: int
    replicas: tuple[tuple[int, int, int], ...]

    def moved(self, other: Sample) -> bool:
        """Whether offsets differ, not only times."""
        return (
            self.log_start_offset,
            self.high_watermark,
            self.log_end_offset,
            [each[:2] for each in self.replicas],
        ) != (
            other.log_start_offset,
            other.high_watermark,
            other.log_end_offset,
            [each[:2] for each in other.replicas],
        )


class Offsets:
    """See the module's docstring. Times are wall-clock milliseconds."""

    def __init__(self, limit: int = 1_200) -> None:
        self.limit = limit
        self._samples: dict[TopicPartition, deque[tuple[int, Sample]]] = {}
        self._latest: dict[TopicPartition, tuple[int, Sample]] = {}

    def record(self, at_ms: int, samples: Mapping[TopicPartition, Sample]) -> list[TopicPartition]:
        """Take in what was heard. Returns the partitions whose offsets moved."""
        moved = []
        for key, sample in samples.items():
            kept = self._samples.setdefault(key, deque())
            if not kept or sample.moved(kept[-1][1]):
                if kept and self._latest[key][0] > kept[-1][0]:
                    kept.append((self._latest[key][0], kept[-1][1]))  # it stood still until then
                kept.append((at_ms, sample))
                moved.append(key)
                self._bound(kept)
            self._latest[key] = (at_ms, sample)
        return moved

    def _bound(self, kept: deque[tuple[int, Sample]]) -> None:
        most = min(self.limit, max(_LEAST, _IN_ALL // len(self._samples)))
        while len(kept) > most:
            kept.popleft()

    def forget_topic(self, topic: str) -> None:
        for key in [each for each in self._samples if each.topic == topic]:
            del self._samples[key], self._latest[key]

    def latest(self, key: TopicPartition) -> Sample | None:
        found = self._latest.get(key)
        return None if found is None else found[1]

    def now(self) -> dict[TopicPartition, Sample]:
        return {key: sample for key, (_, sample) in self._latest.items()}

    def at(self, moment_ms: int) -> dict[TopicPartition, Sample]:
        """The last sample of each partition up to a moment; none where nothing is kept of it."""
        found = {}
        for key, kept in self._samples.items():
            index = bisect.bisect_right(kept, moment_ms, key=lambda each: each[0])
            if index:
                found[key] = kept[index - 1][1]
        return found

    def series(self, key: TopicPartition) -> list[tuple[int, Sample]]:
        """What is kept of one partition, the oldest first, up to the last time it was heard."""
        kept = list(self._samples.get(key, ()))
        if kept and self._latest[key][0] > kept[-1][0]:
            kept.append(self._latest[key])
        return kept

    def rate(self, key: TopicPartition, now_ms: int) -> float:
        """Records a second that the leader appended, over the last three seconds."""
        kept = self._samples.get(key)
        if not kept or kept[-1][0] < now_ms - _RATE_WINDOW_MS:
            return 0.0
        index = bisect.bisect_left(kept, now_ms - _RATE_WINDOW_MS, key=lambda each: each[0])
        first_ms, first = kept[max(index - 1, 0)]
        first_ms = max(first_ms, now_ms - 2 * _RATE_WINDOW_MS)
        last_ms, last = kept[-1]
        elapsed_ms = max(now_ms, last_ms) - first_ms
        if elapsed_ms <= 0:
            return 0.0
        return max(last.log_end_offset - first.log_end_offset, 0) * 1000 / elapsed_ms
