"""One node of the tree as people are shown it."""

from __future__ import annotations

from dataclasses import dataclass

from kazoo.protocol.states import ZnodeStat


@dataclass(frozen=True, slots=True)
class NodeStat:
    """Times are wall clock, zxids are transaction ids, `ephemeral_owner` is a session id or 0."""

    version: int
    czxid: int
    mzxid: int
    pzxid: int
    ctime_ms: int
    mtime_ms: int
    cversion: int
    ephemeral_owner: int
    data_bytes: int
    num_children: int


@dataclass(frozen=True, slots=True)
class Node:
    """`children` in order of name; only `tree` fills them."""

    path: str
    data: bytes
    stat: NodeStat
    children: tuple[Node, ...] = ()

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2] or "/"


def join_path(parent: str, name: str) -> str:
    return f"/{name}" if parent == "/" else f"{parent}/{name}"


def node_stat(stat: ZnodeStat) -> NodeStat:
    return NodeStat(
        version=stat.version,
        czxid=stat.czxid,
        mzxid=stat.mzxid,
        pzxid=stat.pzxid,
        ctime_ms=stat.ctime,
        mtime_ms=stat.mtime,
        cversion=stat.cversion,
        ephemeral_owner=stat.ephemeralOwner,
        data_bytes=stat.dataLength,
        num_children=stat.numChildren,
    )
