"""`minikafka rolling-restart`: every broker of the data directory, one at a time.

A broker is restarted only while nothing else is missing: each partition has its leader and all of
its replicas in sync, before the first, and again after each. So at any moment at most one replica
of a partition is away. The controller comes last, so that controllership moves once.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minikafka.cli.kit.options import data_dir_option
from minikafka.cli.kit.output import clock_time, say
from minikafka.errors import MinikafkaError
from minikafka.local.cluster import LocalCluster
from minikafka.local.clusterfile import BrokerEntry, ClusterFile
from minikafka.local.discovery import NoCluster
from minikafka.local.telling import tell

if TYPE_CHECKING:
    from minikafka.zookeeper.recipes.rolling import HeldLock, PartitionHealth, RollingZooKeeper

_POLL_S = 0.2
_SHOWN = 3


class NotWhole(MinikafkaError):
    """A partition lacks its leader or a replica in sync, and did not get it in time."""


@click.command("rolling-restart")
@click.option("--dry-run", is_flag=True, help="Say in which order, and change nothing.")
@click.option("--wait", is_flag=True, help="If another one is under way, wait until it is over.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help="Seconds for each broker to end, to serve again (in which nothing is seen to happen), and "
    "to be in sync again.",
)
@data_dir_option
def command(dry_run: bool, wait: bool, timeout_s: float, data_dir: Path) -> None:
    """Restart every broker, one at a time, each by a controlled shutdown.

    The next one begins when every partition has all its replicas in sync again; the controller is
    the last. Stops with status 1 if that does not come within --timeout: then at most one broker is
    away. A lock in ZooKeeper keeps a second rolling restart from beginning meanwhile.
    """
    local = LocalCluster(data_dir)
    cluster = local.require()
    _require_running(local, cluster)
    import logging

    from minikafka.zookeeper.recipes.rolling import open_rolling

    logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # what matters comes as an error
    with open_rolling(cluster.zookeeper.hosts) as zookeeper:
        if dry_run:
            order = _order(cluster, zookeeper)
            _require_whole(zookeeper, order)
            words = ", ".join(f"{each.name} ({each.id})" for each in order)
            say(f"would restart {words}, in this order; every partition is whole")
            return
        holder = f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}"
        with zookeeper.lock(
            f"{holder}, since {clock_time()[:8]}",
            wait,
            lambda who: tell(f"waiting: a rolling restart is under way ({who})"),
        ) as lock:
            cluster = local.require()
            _require_running(local, cluster)
            _roll(local, cluster, zookeeper, lock, timeout_s)


def _require_running(local: LocalCluster, cluster: ClusterFile) -> None:
    running = local.running(cluster)
    if not running:
        raise NoCluster(
            f"the cluster in {local.layout.data_dir} does not run: `minikafka up` starts it"
        )
    dead = [each for each in cluster.brokers if each not in running]
    if dead:
        names = ", ".join(f"{each.name} ({each.id})" for each in dead)
        raise NoCluster(f"not all brokers run: start {names} first (`minikafka restart ID`)")


def _order(cluster: ClusterFile, zookeeper: RollingZooKeeper) -> list[BrokerEntry]:
    controller = zookeeper.controller()
    return sorted(cluster.brokers, key=lambda each: (each.id == controller, each.id))


def _require_whole(zookeeper: RollingZooKeeper, brokers: Sequence[BrokerEntry]) -> None:
    broken = [each for each in zookeeper.partitions() if not each.whole]
    if broken:
        raise NotWhole(
            f"nothing is restarted while something is missing: {describe(broken, brokers)}"
        )


def describe(broken: Sequence[PartitionHealth], brokers: Sequence[BrokerEntry]) -> str:
    """`orders-0 lacks C (3); orders-1 has no leader; and 4 more`"""
    names = {each.id: f"{each.name} ({each.id})" for each in brokers}
    parts = []
    for each in broken[:_SHOWN]:
        if not each.has_leader:
            parts.append(f"{each.topic_partition} has no leader")
        else:
            missing = ", ".join(names.get(id, str(id)) for id in each.missing)
            parts.append(f"{each.topic_partition} lacks {missing} in sync")
    if len(broken) > _SHOWN:
        parts.append(f"and {len(broken) - _SHOWN} more partitions")
    return "; ".join(parts)


def _roll(
    local: LocalCluster,
    cluster: ClusterFile,
    zookeeper: RollingZooKeeper,
    lock: HeldLock,
    timeout_s: float,
) -> None:
    _require_whole(zookeeper, cluster.brokers)
    begun = time.monotonic()
    waiting = _order(cluster, zookeeper)
    total = len(waiting)
    while waiting:
        # Asked anew each time: controllership may have moved of itself.
        controller = zookeeper.controller()
        waiting.sort(key=lambda each: (each.id == controller, each.id))
        broker = waiting.pop(0)
        lock.check()
        took_s = _restart(local, broker, zookeeper, lock, timeout_s)
        number = total - len(waiting)
        what = ", the controller" if broker.id == controller else ""
        say(
            f"{clock_time()} broker {broker.name} ({broker.id}{what}) restarted and in sync, "
            f"{number} of {total}, after {took_s:.1f} s"
        )
    say(f"{clock_time()} all {total} brokers restarted in {time.monotonic() - begun:.1f} s")


def _restart(
    local: LocalCluster,
    broker: BrokerEntry,
    zookeeper: RollingZooKeeper,
    lock: HeldLock,
    timeout_s: float,
) -> float:
    begun = time.monotonic()
    if not local.stop_broker(broker, timeout_s):
        tell(f"broker {broker.name} did not end within {timeout_s:g} s and was killed")
    # Started also if the lock is lost by now: a broker that this command ended is its own to start.
    started = local.start_broker(local.with_free_ports(broker))
    local.wait_serving([started], timeout_s, tell)
    _wait_whole(lambda: _missing(zookeeper, broker), timeout_s, lock.check, f"broker {broker.name}")
    return time.monotonic() - begun


def _missing(zookeeper: RollingZooKeeper, broker: BrokerEntry) -> str:
    """What is missing yet; empty if nothing is."""
    if broker.id not in zookeeper.registered():
        return f"broker {broker.name} ({broker.id}) is not registered"
    if zookeeper.controller() is None:
        return "there is no controller"
    return describe([each for each in zookeeper.partitions() if not each.whole], [broker])


def _wait_whole(
    missing: Callable[[], str],
    timeout_s: float,
    check: Callable[[], None],
    what: str,
) -> None:
    deadline = time.monotonic() + timeout_s
    while still := missing():
        check()
        if time.monotonic() > deadline:
            raise NotWhole(
                f"stopping: {timeout_s:g} s after {what} served again, {still}; the rest of the "
                "brokers is not restarted"
            )
        time.sleep(_POLL_S)
