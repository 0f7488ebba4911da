"""The part of the composition root that is about the duties of a broker beside its logs: to report
its status. Puts together broker/node_status.py, zookeeper/nodes.py and rpc/nodes.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from minikafka.broker.broker import Broker
from minikafka.broker.node_status import NodeLister, NodeMonitor, NodeReporter, Usage
from minikafka.config import BrokerConfig
from minikafka.metrics.process import read_process
from minikafka.rpc import nodes as rpc_nodes
from minikafka.rpc.unary import Method
from minikafka.zookeeper.nodes import ZooKeeperNodes
from minikafka.zookeeper.store import ZooKeeperStore


class Duties:
    """To be made before the broker starts; `start` makes the folders in ZooKeeper."""

    def __init__(
        self,
        config: BrokerConfig,
        store: ZooKeeperStore,
        broker: Broker,
        now_ms: Callable[[], int],
        now_timestamp_ms: Callable[[], int],
    ) -> None:
        self._nodes = ZooKeeperNodes(store.znodes(), store.root)
        interval_ms = config.node_status_interval_ms
        self.reporter = NodeReporter(
            self._nodes,
            config.broker_id,
            config.name,
            interval_ms,
            lambda: read_usage(broker, config.log_dirs),
            now_ms,
            now_timestamp_ms,
        )
        self.monitor = NodeMonitor(self._nodes, interval_ms, now_timestamp_ms)
        self._lister = NodeLister(self._nodes, now_timestamp_ms)
        broker.store_listeners += [self.reporter.on_store_event, self.monitor.on_store_event]
        broker.controller.companions.append(self.monitor)
        broker.duties.append(self.reporter.run)

    async def start(self) -> None:
        await self._nodes.start()

    def services(self) -> Mapping[str, Mapping[str, Method]]:
        """For GrpcServer."""
        return {rpc_nodes.SERVICE: rpc_nodes.methods(self._lister)}


def read_usage(broker: Broker, log_dirs: str) -> Usage:
    """Of now. Bytes in and out are those of clients and of replication together."""
    process = read_process()
    file_system = os.statvfs(log_dirs)
    traffic = broker.replicas.counters.total()
    replicas = list(broker.replicas.replicas.values())
    return Usage(
        cpu_ms=process.cpu_ms,
        rss_bytes=process.resident_bytes,
        disk_used_bytes=sum(replica.log.size_bytes for replica in replicas),
        disk_free_bytes=file_system.f_bavail * file_system.f_frsize,
        bytes_in=traffic.bytes_in + traffic.replication_bytes_in,
        bytes_out=traffic.bytes_out + traffic.replication_bytes_out,
        partitions_led=sum(replica.core.is_leader for replica in replicas),
        partitions_held=len(replicas),
    )
