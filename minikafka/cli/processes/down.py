"""`minikafka down`: ends the cluster of the data directory, from wherever it was started."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from minikafka import processes
from minikafka.cli.kit.options import data_dir_option
from minikafka.local.cluster import LocalCluster, ProcessTrouble
from minikafka.local.starting import stop_all

_OWNER_WAIT_S = 120.0


@click.command("down")
@data_dir_option
def command(data_dir: Path) -> None:
    """End the brokers, the last first, each by a controlled shutdown, then ZooKeeper.

    The data stay: `minikafka up` on the same directory carries on with them.
    """
    local = LocalCluster(data_dir)
    cluster = local.require()
    owner = local.owner()  # who holds the lock now, so that the pid is its own
    if owner is not None:
        process = processes.Process.of(owner)
        processes.send_signal(process, signal.SIGTERM)
        if not processes.wait_ended(process, _OWNER_WAIT_S):
            raise ProcessTrouble(
                f"waited {_OWNER_WAIT_S:g} s for `minikafka up` (process {owner}) to end its "
                "cluster: it still does not end"
            )
        click.echo(f"`minikafka up` (process {owner}) ended its cluster")
        return
    if not local.running(cluster) and not local.zookeeper_is_running(cluster.zookeeper):
        local.record_ended()
        click.echo(f"nothing runs in {local.layout.data_dir}")
        return
    stop_all(local, click.echo)
