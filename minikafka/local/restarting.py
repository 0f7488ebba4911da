"""One broker of a data directory starts again, on its data."""

from __future__ import annotations

import time
from collections.abc import Callable

from minikafka.local.cluster import LocalCluster
from minikafka.local.discovery import NoCluster


def restart_broker(
    local: LocalCluster, broker_id: str, timeout_s: float, tell: Callable[[str], object]
) -> None:
    """What the command does. Raises UsageError, NoCluster, ProcessTrouble."""
    cluster = local.require()
    broker = cluster.broker(broker_id)
    if cluster.zookeeper.pids and not local.zookeeper_is_running(cluster.zookeeper):
        raise NoCluster(
            f"the cluster in {local.layout.data_dir} does not run: `minikafka up` starts it"
        )
    begun = time.monotonic()
    if local.is_running(broker):
        local.stop_broker(broker, timeout_s)
        tell(f"broker {broker.name} ({broker.id}): ended")
    broker = local.with_free_ports(broker)
    started = local.start_broker(broker)
    [broker] = local.wait_serving([started], timeout_s, tell)
    took_s = time.monotonic() - begun
    tell(
        f"broker {broker.name} ({broker.id}): serves at {broker.grpc}, "
        f"process {broker.pid}, after {took_s:.1f} s"
    )
