"""`minikafka restart ID`: one broker of the data directory starts again, on its data."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click

from minikafka.cli.cluster import LocalCluster
from minikafka.cli.discovery import NoCluster
from minikafka.cli.options import data_dir_option


@click.command("restart")
@click.argument("broker_id", metavar="ID")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="Seconds for the shutdown; and for the start, in which nothing is seen to happen.",
)
@data_dir_option
def command(broker_id: str, timeout_s: float, data_dir: Path) -> None:
    """Start broker ID (a number or a name) if it is dead; if it lives, end it by a controlled
    shutdown first. Returns when it serves."""
    restart_broker(LocalCluster(data_dir), broker_id, timeout_s, click.echo)


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
