"""The part of the composition root that is about the duties of a broker beside its logs: to report
its status, and to do jobs. Puts together the modules `node_*` and `job_*` of broker/, and what
belongs to them in zookeeper/ and rpc/."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter

from minikafka.api.jobs import JobService
from minikafka.api.nodes import NodeService
from minikafka.app.guarding import of_caller
from minikafka.broker.broker import Broker
from minikafka.broker.guard import jobs_for, nodes_for, replicas_for
from minikafka.broker.jobs.kinds import JobEnvironment
from minikafka.broker.jobs.master import JobMaster
from minikafka.broker.jobs.ports import ReplicaService
from minikafka.broker.jobs.replicas import ReplicaReader
from minikafka.broker.jobs.service import BrokerJobService
from minikafka.broker.jobs.worker import JobWorker
from minikafka.broker.nodes.status import NodeLister, NodeMonitor, NodeReporter, Usage
from minikafka.config import BrokerConfig
from minikafka.log.store import DiskLogStore
from minikafka.log.verify import VerifiedSlice, verify_slice
from minikafka.metrics.process import read_process
from minikafka.model import TopicPartition
from minikafka.rpc import jobs as rpc_jobs
from minikafka.rpc import nodes as rpc_nodes
from minikafka.rpc.peers import GrpcPeers
from minikafka.rpc.unary import Method
from minikafka.security.authorizer import Authorizer
from minikafka.zookeeper.stores.jobs import ZooKeeperJobs
from minikafka.zookeeper.stores.nodes import ZooKeeperNodes
from minikafka.zookeeper.stores.store import ZooKeeperStore


class BackgroundServices:
    """To be made before the broker starts; `start` makes the folders in ZooKeeper."""

    def __init__(
        self,
        config: BrokerConfig,
        store: ZooKeeperStore,
        broker: Broker,
        logs: DiskLogStore,
        peers: GrpcPeers,
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
        broker.controller.term_listeners.append(self.monitor)
        broker.duties.append(self.reporter.run)
        self._jobs = ZooKeeperJobs(store.znodes(), store.root)
        self._job_service = BrokerJobService(self._jobs, broker.metadata, now_timestamp_ms)
        self._reader = ReplicaReader(broker.replicas.find, partial(_verify, logs))
        self._add_jobs(config, broker, peers, now_ms, now_timestamp_ms)

    def _add_jobs(
        self,
        config: BrokerConfig,
        broker: Broker,
        peers: GrpcPeers,
        now_ms: Callable[[], int],
        now_timestamp_ms: Callable[[], int],
    ) -> None:
        master = JobMaster(
            self._jobs,
            lambda: self.monitor.live,
            config.job_acknowledge_timeout_ms,
            config.job_retention_ms,
            now_ms,
            now_timestamp_ms,
        )
        worker = JobWorker(
            self._jobs,
            config.broker_id,
            lambda: self.reporter.incarnation,
            JobEnvironment(
                broker.metadata,
                rpc_jobs.PeerReplicas(peers, config.broker_id, self._reader),
                broker.controller_client,
                self._jobs,
                config.job_scrub_bytes_per_second,
                config.job_max_reassignments,
            ),
            config.node_status_interval_ms,
        )
        self.monitor.listeners.append(master.look_soon)
        self.reporter.listeners.append(worker.look)
        broker.store_listeners += [master.on_store_event, worker.on_store_event]
        broker.controller.term_listeners.append(master)
        broker.duties.append(worker.run)

    async def start(self) -> None:
        await self._nodes.start()
        await self._jobs.start()

    def services(self, authorizer: Authorizer | None) -> Mapping[str, Mapping[str, Method]]:
        """For GrpcServer; whose callers have names if there is an authorizer."""
        nodes: NodeService = self._lister
        jobs: JobService = self._job_service
        replicas: ReplicaService = self._reader
        return {
            rpc_nodes.SERVICE: rpc_nodes.methods(of_caller(nodes_for, nodes, authorizer)),
            rpc_jobs.JOB_SERVICE: rpc_jobs.job_methods(of_caller(jobs_for, jobs, authorizer)),
            rpc_jobs.REPLICA_SERVICE: rpc_jobs.replica_methods(
                of_caller(replicas_for, replicas, authorizer)
            ),
        }


def _verify(
    logs: DiskLogStore,
    topic_partition: TopicPartition,
    segment: int,
    position: int,
    max_bytes: int,
    end_offset: int,
) -> VerifiedSlice:
    directory = logs.directory / str(topic_partition)
    return verify_slice(directory, segment, position, max_bytes, end_offset)


def read_usage(broker: Broker, log_dirs: str) -> Usage:
    """Of now. Bytes in and out are those of clients and of replication together."""
    process = read_process()
    file_system = os.statvfs(log_dirs)
    traffic = broker.replicas.counters.total()
    replicas = broker.replicas.replicas.values()
    return Usage(
        cpu_ms=process.cpu_ms,
        rss_bytes=process.resident_bytes,
        disk_used_bytes=sum(map(attrgetter("log.size_bytes"), replicas)),
        disk_free_bytes=file_system.f_bavail * file_system.f_frsize,
        bytes_in=traffic.bytes_in + traffic.replication_bytes_in,
        bytes_out=traffic.bytes_out + traffic.replication_bytes_out,
        partitions_led=len(broker.replicas.led),
        partitions_held=len(replicas),
        offline=dict(broker.replicas.failure_reasons),
    )
