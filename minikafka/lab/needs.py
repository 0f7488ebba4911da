"""What a scenario needs: brokers, settings, a kind of ZooKeeper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# A person should not wait; a session of less is lost on a machine that is busy.
SESSION_TIMEOUT_MS = 2_000
# A follower that lags is a scenario of its own: elsewhere a busy machine must not drop one.
SETTINGS: Mapping[str, str] = {
    "zookeeper.session.timeout.ms": str(SESSION_TIMEOUT_MS),
    "replica.lag.time.max.ms": "10000",
    "node.status.interval.ms": "1000",
    "controlled.shutdown.max.retries": "1",
    "controlled.shutdown.retry.backoff.ms": "200",
}
THREE = 3


@dataclass(frozen=True, slots=True)
class Needs:
    """The cluster that a scenario plays on: those that need the same can share one."""

    brokers: int
    zookeeper: str
    settings: tuple[tuple[str, str], ...]
