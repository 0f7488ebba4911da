"""Signals to a broker of this machine, in the words of people."""

from __future__ import annotations

import signal

from minikafka.local.cluster import LocalCluster
from minikafka.local.discovery import NoCluster

_WORDS = {
    "KILL": "killed",
    "TERM": "asked to shut down",
    "STOP": "paused",
    "CONT": "resumed",
}


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
