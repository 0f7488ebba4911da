"""The errors of this package beyond minikafka.errors and ports.SessionLostError.

CorruptNodeError      what a znode holds is not what belongs there; names the path
ConnectionLostError   of a command: the connection to ZooKeeper was lost, and perhaps the session
NodeNotFoundError     `minikafka zk` was asked for a path that is not there
ZooKeeperError        ZooKeeper refused in a way that no part of minikafka expects
OutcomeUnknownError   internal: the connection broke before the answer; never leaves the package
"""

from __future__ import annotations

from minikafka.broker.ports import UnreadableNodeError
from minikafka.errors import FatalError, NetworkError


class CorruptNodeError(UnreadableNodeError):
    """The data of a znode cannot be read: not JSON, not of a known version, or a field is wrong."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"the ZooKeeper node {path} cannot be read: {why}")
        self.path = path
        self.why = why


class ConnectionLostError(NetworkError):
    """The connection of a command to ZooKeeper was lost before the answer came."""


class NodeNotFoundError(FatalError):
    """There is no znode at this path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"ZooKeeper has no node {path}")
        self.path = path


class ZooKeeperError(FatalError):
    """ZooKeeper answered with an error that has no place in the protocol (no permission, say)."""


class OutcomeUnknownError(Exception):
    """The connection was lost before the answer came: the request took effect, or did not, but it
    will not take effect later than a request that is sent after this was raised (one session's
    requests are in order, and what an abandoned connection still carries is refused)."""
