"""What the tests need of a network that they can break.

Nodes are the brokers (`broker_node(1)`, …), `ZOOKEEPER` (all servers of it) and `CLIENTS`
(producers and consumers). A cut has a direction: `block(a, b)` loses what a sends to b, silently,
on open connections and on new ones. What is blocked stays so until `heal`.

Two kinds: namespaces (netns.py), where packets are lost as on a wire that was cut, and proxies
(proxy.py) for a machine that does not let us make any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

ZOOKEEPER = "zookeeper"
CLIENTS = "clients"


def broker_node(broker_id: int) -> str:
    return f"broker{broker_id}"


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Door(NamedTuple):
    """Where a broker listens, and what it tells others."""

    listener: Address
    advertised: Address


class Doors(NamedTuple):
    grpc: Door
    kafka: Door


class Network(Protocol):
    """`description` says in a line how faults are made here."""

    description: str

    async def start(self, zookeepers: int) -> None: ...
    async def close(self) -> None: ...

    def zookeeper_host(self) -> str:
        """Where ZooKeeper's servers listen."""

    async def zookeeper_connect(self, node: str, servers: Sequence[Address]) -> str:
        """What `node` has to connect to in order to reach these servers."""

    async def broker_doors(self, broker_id: int) -> Doors:
        """The doors of a broker; the same whenever it is asked."""

    def command_at(self, node: str, command: Sequence[str]) -> list[str]:
        """The command that runs `command` at `node`."""

    def started(self, node: str, pid: int) -> None:
        """A process of `node` was started."""

    def block(self, source: str, target: str) -> None: ...

    def slow(self, node: str) -> None:
        """Everything to and from `node` takes long."""

    def unplug(self, node: str) -> None:
        """The interface of `node` goes down: it hears at once that it cannot send."""

    def heal(self) -> None:
        """All of it is as it was."""
