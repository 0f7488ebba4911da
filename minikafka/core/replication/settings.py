"""What a partition's behaviour depends on; dynamic, so it may be replaced at any time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """Of one partition, from its topic's configuration and its broker's."""

    min_insync_replicas: int = 1
    replica_lag_time_max_ms: int = 30_000
    flush_before_ack: bool = False


@lru_cache(maxsize=1024)
def shared_settings(
    min_insync_replicas: int, replica_lag_time_max_ms: int, flush_before_ack: bool
) -> PartitionSettings:
    """One for all partitions that have the same."""
    return PartitionSettings(min_insync_replicas, replica_lag_time_max_ms, flush_before_ack)
