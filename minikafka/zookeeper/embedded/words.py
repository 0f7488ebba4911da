"""The four-letter words: short texts about the server for people, monitors and kazoo. PURE.

A client sends four letters instead of a first frame, is answered with text, and is disconnected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from minikafka.zookeeper.embedded.tree import Tree

# kazoo and others read the protocol's level from this.
VERSION = "3.8.0-minikafka"


@dataclass(slots=True)
class Counters:
    """What has passed over the server's sockets. Latency: from arrival of a frame to its answer."""

    received: int = 0
    sent: int = 0
    answered: int = 0
    latency_sum_ms: float = 0.0
    latency_min_ms: float = 0.0
    latency_max_ms: float = 0.0

    def on_answer(self, latency_ms: float) -> None:
        first = self.answered == 0
        self.answered += 1
        self.latency_sum_ms += latency_ms
        self.latency_min_ms = latency_ms if first else min(self.latency_min_ms, latency_ms)
        self.latency_max_ms = max(self.latency_max_ms, latency_ms)

    @property
    def latency_avg_ms(self) -> float:
        return self.latency_sum_ms / self.answered if self.answered else 0.0


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """One client connection as `cons` shows it."""

    peer: str
    session_id: int
    received: int
    sent: int
    queued: int
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that the words tell about."""

    tree: Tree
    counters: Counters
    connections: tuple[ConnectionInfo, ...]
    outstanding: int
    settings: Mapping[str, str]
    environment: Mapping[str, str]


def answer(word: bytes, status: Status) -> bytes:
    """The text for one of `WORDS`."""
    return WORDS[word](status).encode("utf-8")


def _ruok(_status: Status) -> str:
    return "imok"


def _isro(_status: Status) -> str:
    return "rw"


def _srvr(status: Status) -> str:
    counters = status.counters
    return "\n".join(
        (
            f"Zookeeper version: {VERSION}",
            f"Latency min/avg/max: {counters.latency_min_ms:.0f}/{counters.latency_avg_ms:.1f}"
            f"/{counters.latency_max_ms:.0f}",
            f"Received: {counters.received}",
            f"Sent: {counters.sent}",
            f"Connections: {len(status.connections)}",
            f"Outstanding: {status.outstanding}",
            f"Zxid: {status.tree.last_zxid:#x}",
            "Mode: standalone",
            f"Node count: {status.tree.node_count()}",
            "",
        )
    )


def _stat(status: Status) -> str:
    head, rest = _srvr(status).split("\n", 1)
    clients = "".join(
        f" /{c.peer}[1](queued={c.queued},recved={c.received},sent={c.sent})\n"
        for c in status.connections
    )
    return f"{head}\nClients:\n{clients}\n{rest}"


def _cons(status: Status) -> str:
    lines = [
        f" /{c.peer}[1](queued={c.queued},recved={c.received},sent={c.sent},"
        f"sid={c.session_id:#x},to={c.timeout_ms})"
        for c in status.connections
    ]
    return "\n".join([*lines, ""])


def _mntr(status: Status) -> str:
    tree, counters = status.tree, status.counters
    values: dict[str, object] = {
        "zk_version": VERSION,
        "zk_server_state": "standalone",
        "zk_avg_latency": f"{counters.latency_avg_ms:.1f}",
        "zk_max_latency": f"{counters.latency_max_ms:.0f}",
        "zk_min_latency": f"{counters.latency_min_ms:.0f}",
        "zk_packets_received": counters.received,
        "zk_packets_sent": counters.sent,
        "zk_num_alive_connections": len(status.connections),
        "zk_outstanding_requests": status.outstanding,
        "zk_znode_count": tree.node_count(),
        "zk_watch_count": len(tree.watches),
        "zk_ephemerals_count": tree.ephemeral_count(),
        "zk_approximate_data_size": tree.data_size_bytes(),
        "zk_global_sessions": len(tree.sessions),
    }
    return "".join(f"{name}\t{value}\n" for name, value in values.items())


def _conf(status: Status) -> str:
    return "".join(f"{name}={value}\n" for name, value in status.settings.items())


def _envi(status: Status) -> str:
    lines = [f"{name}={value}" for name, value in status.environment.items()]
    return "\n".join(["Environment:", f"zookeeper.version={VERSION}", *lines, ""])


def _dump(status: Status) -> str:
    sessions = list(status.tree.sessions)
    owners = [s for s in sessions if s.ephemerals]
    lines = [f"Sessions ({len(sessions)}):"]
    lines += [f"{s.session_id:#x}\t{s.timeout_ms}ms" for s in sessions]
    lines.append(f"Sessions with Ephemerals ({len(owners)}):")
    for session in owners:
        lines.append(f"{session.session_id:#x}:")
        lines += [f"\t{path}" for path in sorted(session.ephemerals)]
    return "\n".join([*lines, ""])


WORDS: dict[bytes, Callable[[Status], str]] = {
    b"ruok": _ruok,
    b"isro": _isro,
    b"srvr": _srvr,
    b"stat": _stat,
    b"mntr": _mntr,
    b"conf": _conf,
    b"cons": _cons,
    b"envi": _envi,
    b"dump": _dump,
}
