"""`minikafka kill ID`: a signal to one broker, to see what the others make of it."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from minikafka.cli.cluster import LocalCluster
from minikafka.cli.discovery import NoCluster
from minikafka.cli.options import data_dir_option

_WORDS = {
    "KILL": "killed",
    "TERM": "asked to shut down",
    "STOP": "paused",
    "CONT": "resumed",
}


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


def signal_broker(local: LocalCluster, broker_id: str, signal_name: str) -> str:
    """Send KILL, TERM, STOP or CONT; returns what to tell. NoCluster if the broker does not run,
    ProcessTrouble if it outlives SIGKILL."""
    broker = local.require().broker(broker_id)
    number = signal.Signals[f"SIG{signal_name}"]
    kill = number is signal.SIGKILL
    if not (local.kill_broker(broker) if kill else local.send(broker, number)):
        raise NoCluster(
            f"broker {broker.name} ({broker.id}) does not run: "
            f"`minikafka restart {broker.name}` starts it"
        )
    return f"broker {broker.name} ({broker.id}): {_WORDS[signal_name]}"
