"""What is told of the brokers as nodes: their load, who is controller, what cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


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


class NodeService(Protocol):
    """As the doors call it. Raises MinikafkaError."""

    async def list_nodes(self) -> Sequence[NodeReport]:
        """All that live, and those that went not too long ago, by id."""

    async def describe_controller(self) -> ControllerReport:
        """As ZooKeeper has it now, which this broker may not have been told yet."""
