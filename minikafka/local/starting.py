"""Starts ZooKeeper and brokers of a data directory in order, and ends them in order.

Used by `up` and `demo`. If anything does not start, everything that did is ended again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from minikafka.local import clusterfile, telling
from minikafka.local.cluster import LocalCluster
from minikafka.local.clusterfile import ClusterFile, ZooKeeperEntry
from minikafka.local.freeports import ZOOKEEPER_PORT

Tell = Callable[[str], None]


def start_zookeeper(local: LocalCluster, plan: ClusterFile, first_port: int) -> ZooKeeperEntry:
    """Start, or with HOST:PORT,... just look for, the ZooKeeper of this cluster.

    Its processes are in cluster.json before they are waited for, so that the guardian ends them if
    this process is killed meanwhile; if they do not serve, cluster.json is as it was.

    Its processes are in a session of their own: Ctrl-C must not reach them before the brokers end.
    Raises what the launcher raises: UsageError.
    """
    from minikafka.zookeeper.servers.launcher import launch, parse_mode

    def take_note(pids: Sequence[int]) -> None:
        starting = plan.zookeeper.with_processes(pids)
        clusterfile.save(data_dir, replace(plan, zookeeper=starting))

    data_dir = local.layout.data_dir
    mode = parse_mode(plan.zookeeper.mode)
    before = local.load()
    try:
        running = launch(mode, local.layout.zookeeper, first_port, detached=True, started=take_note)
    except BaseException:
        if before is not None:
            clusterfile.save(data_dir, before)
        else:
            clusterfile.path_of(data_dir).unlink(missing_ok=True)
        raise
    return ZooKeeperEntry(running.mode, running.hosts).with_processes(running.pids)


def start_all(
    local: LocalCluster,
    plan: ClusterFile,
    settings: Mapping[str, str],
    tell: Tell,
    *,
    zookeeper_port: int = ZOOKEEPER_PORT,
) -> ClusterFile:
    """Start what `plan` says, and return it with pids and ZooKeeper's address.

    Raises ProcessTrouble, or what the ZooKeeper launcher raises; nothing is left running then.
    """
    try:
        return _start(local, plan, settings, tell, zookeeper_port)
    except BaseException:
        if local.load() is not None:
            stop_all(local, lambda _: None, timeout_s=2)
        raise


def _start(
    local: LocalCluster,
    plan: ClusterFile,
    settings: Mapping[str, str],
    tell: Tell,
    zookeeper_port: int,
) -> ClusterFile:
    local.layout.data_dir.mkdir(parents=True, exist_ok=True)
    zookeeper = start_zookeeper(local, plan, zookeeper_port)
    plan = replace(plan, zookeeper=zookeeper)
    clusterfile.save(local.layout.data_dir, plan)
    tell(f"ZooKeeper ({zookeeper.mode}) at {zookeeper.hosts}")
    local.configure(plan, settings)
    started = [local.start_broker(broker) for broker in plan.brokers]
    started = local.wait_serving(started, tell=telling.tell)
    for broker in started:
        kafka = f", for Kafka's clients at {broker.kafka}" if broker.kafka else ""
        metrics = f", http://{broker.metrics}/metrics" if broker.metrics else ""
        where = f"{broker.grpc}{kafka}{metrics}"
        tell(f"broker {broker.name} ({broker.id}) at {where}, process {broker.pid}")
    return replace(plan, brokers=tuple(started))


def stop_all(
    local: LocalCluster,
    tell: Tell,
    timeout_s: float = 15.0,
    hurry: Callable[[], bool] = lambda: False,
) -> None:
    """End the brokers, the last first, then ZooKeeper; take note in cluster.json."""
    local.stop_brokers(tell, timeout_s, hurry)
    if local.require().zookeeper.pids:
        local.stop_zookeeper()
        tell("ZooKeeper ended")
    local.record_ended()


@contextlib.contextmanager
def running_cluster(
    local: LocalCluster,
    plan: ClusterFile,
    settings: Mapping[str, str],
    tell: Tell,
    zookeeper_port: int = ZOOKEEPER_PORT,
    *,
    gently: bool = True,
) -> Iterator[ClusterFile]:
    """A cluster for the time of a `with`, ended however that is left; unless `gently`, without
    waiting for controlled shutdowns."""
    cluster = start_all(local, plan, settings, tell, zookeeper_port=zookeeper_port)
    try:
        yield cluster
    finally:
        stop_all(local, lambda _: None, hurry=lambda: not gently)
