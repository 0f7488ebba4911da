"""What brokers tell of themselves in ZooKeeper, and the port by which it is told and read.

Each broker keeps an ephemeral node with its status, so that who is gone is missing. Whoever is
controller keeps a lasting note of everybody that was seen, so that who is missing has a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from minikafka.broker.ports import WriteOutcome


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One broker and its load. Times are wall clock; rates and `cpu_percent` (of one core, all
    threads) are means over the time since the status before; `disk_used_bytes` are its logs,
    `disk_free_bytes` what its file system has left for them. `partitions_offline` are replicas
    whose log failed or could not be opened, `offline` says of the first of them which, why, and
    what is to be done."""

    broker_id: int
    name: str
    started_at_ms: int
    cpu_percent: float = 0.0
    rss_bytes: int = 0
    disk_used_bytes: int = 0
    disk_free_bytes: int = 0
    bytes_in_per_s: int = 0
    bytes_out_per_s: int = 0
    partitions_led: int = 0
    partitions_held: int = 0
    partitions_offline: int = 0
    offline: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class LiveNode:
    """A status that is there. `incarnation` is the czxid of its node: another one after the death
    of the broker or of its session."""

    status: NodeStatus
    incarnation: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True)
class SeenNode:
    """The lasting note: the last status that was seen, and when the node went (0: it is there)."""

    status: NodeStatus
    gone_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node as people are told of it: alive with its status, or gone with its last one."""

    status: NodeStatus
    live: bool
    updated_at_ms: int
    gone_at_ms: int


@dataclass(frozen=True, slots=True)
class UnreadableNode:
    """A node of ZooKeeper that does not hold what belongs there; what is wrong, and what to do."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class ControllerReport:
    """Who is controller (-1: nobody, between two of them), the epoch of the last election, and who
    would be controller, first in line first. `unreadable`: what the broker that was asked could not
    read in ZooKeeper, and has left alone; the controller reads most."""

    controller_id: int
    controller_epoch: int
    candidates: Sequence[int] = ()
    unreadable: Sequence[UnreadableNode] = ()


class NodeStore(Protocol):
    """Raises SessionLostError as the ClusterStore does."""

    async def publish(self, status: NodeStatus, *, anew: bool) -> int:
        """Write this broker's status; returns its incarnation. `anew`: a node that is there is of
        an earlier session, and is replaced. Only while this broker is registered: that proves that
        the id is its own."""

    async def read_live(self, notify: Callable[[], None] | None = None) -> Mapping[int, LiveNode]:
        """By broker id. `notify` is called when one comes or goes, once; not if the connection
        breaks before."""

    async def read_seen(self) -> Mapping[int, SeenNode]: ...
    async def write_seen(self, seen: SeenNode) -> WriteOutcome:
        """Fenced: by the controller only."""

    async def forget_seen(self, broker_id: int) -> WriteOutcome: ...
    async def read_controller(self) -> ControllerReport:
        """Nothing is watched."""


class NodeService(Protocol):
    """As the doors call it. Raises MinikafkaError."""

    async def list_nodes(self) -> Sequence[NodeReport]:
        """All that live, and those that went not too long ago, by id."""

    async def describe_controller(self) -> ControllerReport:
        """As ZooKeeper has it now, which this broker may not have been told yet."""
