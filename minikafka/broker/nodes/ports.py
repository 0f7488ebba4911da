"""What brokers tell of themselves in ZooKeeper, and the port by which it is told and read.

Each broker keeps an ephemeral node with its status, so that who is gone is missing. Whoever is
controller keeps a lasting note of everybody that was seen, so that who is missing has a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from minikafka.api.nodes import (
    ControllerReport,
    NodeStatus,
)
from minikafka.api.outcomes import WriteOutcome


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
