"""`minikafka restart ID`: one broker of the data directory starts again, on its data."""

from __future__ import annotations

from pathlib import Path

import click

from minikafka.cli.kit.options import data_dir_option
from minikafka.local.cluster import LocalCluster
from minikafka.local.restarting import restart_broker


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
