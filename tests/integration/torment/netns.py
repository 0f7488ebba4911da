"""A network of namespaces: each broker, and ZooKeeper, has an interface and an address of its own.

    base namespace (clients)      bridge torment0, 10.77.0.1
      ├── zookeeper                 eth0, 10.77.0.2
      ├── broker1                   eth0, 10.77.0.11
      └── …

The base namespace is itself one of our own (isolation.py), so no address can collide with anything
outside. A cut from a to b is a false hardware address for b in a's neighbour table: what a sends to
b goes onto the bridge and nobody takes it. That is silent, per pair and per direction, and needs
neither netfilter nor a kernel module.

Slow links are netem where the kernel has it (delay with jitter), else a token bucket that lets
32 kB/s through and holds the rest in a queue of up to two seconds.

State: what was changed since the last `heal`, as commands that undo it.
"""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.integration.torment.network import (
    CLIENTS,
    ZOOKEEPER,
    Address,
    Door,
    Doors,
    broker_node,
)

_BRIDGE = "torment0"
_SUBNET = ipaddress.ip_network("10.77.0.0/24")
_NOWHERE = "02:00:00:00:00:fe"
_BROKER_PORT = 19092
_KAFKA_PORT = 9092
_TOOLS = ("ip", "tc", "nsenter")
_DELAY = ("netem", "delay", "80ms", "40ms")
_BUCKET = ("tbf", "rate", "256kbit", "burst", "4kb", "latency", "2s")


class NetworkTrouble(Exception):
    """This machine does not allow what the network needs."""


def run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise NetworkTrouble(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


def missing_tools() -> list[str]:
    return [tool for tool in _TOOLS if shutil.which(tool) is None]


class Namespaces:
    """`Network` of namespaces. Belongs into a room of isolation.py, which also takes it away."""

    def __init__(self, brokers: Sequence[int]) -> None:
        self._addresses = {CLIENTS: str(_SUBNET[1]), ZOOKEEPER: str(_SUBNET[2])}
        self._addresses |= {broker_node(each): str(_SUBNET[10 + each]) for each in brokers}
        self._shaper: tuple[str, ...] = _BUCKET
        self._undo: dict[tuple[str, ...], None] = {}
        self.description = "network namespaces"

    async def start(self, zookeepers: int) -> None:
        """NetworkTrouble if any of it is not possible here."""
        Path("/run").mkdir(exist_ok=True)
        run("mount", "-t", "tmpfs", "none", "/run")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", _BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{self._addresses[CLIENTS]}/24", "dev", _BRIDGE)
        run("ip", "link", "set", _BRIDGE, "up")
        for number, node in enumerate(self._addresses):
            if node != CLIENTS:
                self._add_node(node, f"torment{number}")
        self._shaper = _DELAY if self._knows_netem() else _BUCKET
        shaper = "netem" if self._shaper is _DELAY else "tbf: this kernel has no netem"
        self.description = f"network namespaces, slow links by {shaper}"

    def _add_node(self, node: str, outer: str) -> None:
        run("ip", "netns", "add", node)
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", node)
        run("ip", "link", "set", outer, "master", _BRIDGE, "up")
        run("ip", "-n", node, "addr", "add", f"{self._addresses[node]}/24", "dev", "eth0")
        run("ip", "-n", node, "link", "set", "eth0", "up")
        run("ip", "-n", node, "link", "set", "lo", "up")

    def _knows_netem(self) -> bool:
        try:
            run("tc", "-n", ZOOKEEPER, "qdisc", "add", "dev", "eth0", "root", *_DELAY)
        except NetworkTrouble:
            return False
        run("tc", "-n", ZOOKEEPER, "qdisc", "del", "dev", "eth0", "root")
        return True

    async def close(self) -> None:
        """Nothing: the room takes it all away."""

    def zookeeper_host(self) -> str:
        return self._addresses[ZOOKEEPER]

    async def zookeeper_connect(self, node: str, servers: Sequence[Address]) -> str:
        return ",".join(str(server) for server in servers)

    async def broker_doors(self, broker_id: int) -> Doors:
        host = self._addresses[broker_node(broker_id)]
        grpc, kafka = (Address(host, port) for port in (_BROKER_PORT, _KAFKA_PORT))
        return Doors(Door(grpc, grpc), Door(kafka, kafka))

    def command_at(self, node: str, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{node}", *command]

    def started(self, node: str, pid: int) -> None: ...

    # --- faults ----------------------------------------------------------------------------------

    def block(self, source: str, target: str) -> None:
        at = ("ip",) if source == CLIENTS else ("ip", "-n", source)
        device = _BRIDGE if source == CLIENTS else "eth0"
        entry = (self._addresses[target], "dev", device)
        run(*at, "neigh", "replace", *entry[:1], "lladdr", _NOWHERE, *entry[1:], "nud", "permanent")
        self._undo[(*at, "neigh", "del", *entry)] = None

    def slow(self, node: str) -> None:
        outer = f"torment{list(self._addresses).index(node)}"
        for at in (("tc", "-n", node, "qdisc"), ("tc", "qdisc")):
            device = "eth0" if "-n" in at else outer
            run(*at, "replace", "dev", device, "root", *self._shaper)
            self._undo[(*at, "del", "dev", device, "root")] = None

    def unplug(self, node: str) -> None:
        run("ip", "-n", node, "link", "set", "eth0", "down")
        self._undo[("ip", "-n", node, "link", "set", "eth0", "up")] = None

    def heal(self) -> None:
        undo, self._undo = self._undo, {}
        for command in reversed(undo):
            try:
                run(*command)
            except NetworkTrouble:
                if "neigh" not in command:  # an interface that was down has forgotten them
                    raise
