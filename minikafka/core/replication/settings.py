"""What a partition's behaviour depends on; dynamic, so it may be replaced at any time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """Of one partition, from its topic's configuration and its broker's."""

    min_insync_replicas: int = 1
    replica_lag_time_max_ms: int = 30_000
    flush_before_ack: bool = False
