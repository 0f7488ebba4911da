"""`minikafka kill ID`: a signal to one broker, to see what the others make of it."""

from __future__ import annotations

from pathlib import Path

import click

from minikafka.cli.kit.options import data_dir_option
from minikafka.local.cluster import LocalCluster
from minikafka.local.signals import _WORDS, signal_broker


@click.command("kill")
@click.argument("broker_id", metavar="ID")
@click.option(
    "--signal",
    "signal_name",
    type=click.Choice(list(_WORDS), case_sensitive=False),
    default="KILL",
    show_default=True,
    help="KILL: a crash. TERM: a controlled shutdown. STOP and CONT: pause and resume.",
)
@data_dir_option
def command(broker_id: str, signal_name: str, data_dir: Path) -> None:
    """Send a signal to broker ID, a number or a name (E). It must be one of this machine's."""
    click.echo(signal_broker(LocalCluster(data_dir), broker_id, signal_name.upper()))
