"""The vocabulary of the embedded server: immutable values, no behaviour beyond small derivations.

Everything here is frozen. A znode is replaced as a whole by every change to it, so that a
snapshot of the tree is a shallow copy of one dictionary and can be written while the server goes
on.

Five families:

- `Acl`, `Znode`, `Stat`: what is stored and what a client sees of it.
- requests: what a client asks, decoded from the wire or built by a simulator.
- results: what a client is told, one per request; `Failed` carries the protocol's error code.
- `Outcome`, `Opened`, `Expired`: what the tree hands to whoever drives it.
- transaction bodies: the effect of a successful write with every choice already made (the sequence
  number is in the path, the ACL is expanded), so that applying one is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

ANY_VERSION = -1

FLAG_EPHEMERAL = 1
FLAG_SEQUENTIAL = 2

PERM_READ = 1
PERM_WRITE = 2
PERM_CREATE = 4
PERM_DELETE = 8
PERM_ADMIN = 16
PERM_ALL = 31


class ErrorCode(IntEnum):
    """Error codes of the ZooKeeper protocol that this server can answer with."""

    OK = 0
    RUNTIME_INCONSISTENCY = -2
    MARSHALLING_ERROR = -5
    UNIMPLEMENTED = -6
    BAD_ARGUMENTS = -8
    NO_NODE = -101
    NO_AUTH = -102
    BAD_VERSION = -103
    NO_CHILDREN_FOR_EPHEMERALS = -108
    NODE_EXISTS = -110
    NOT_EMPTY = -111
    SESSION_EXPIRED = -112
    INVALID_ACL = -114
    AUTH_FAILED = -115
    RECONFIG_DISABLED = -123


class EventType(IntEnum):
    """What a watch reports, with the protocol's numbers."""

    NODE_CREATED = 1
    NODE_DELETED = 2
    NODE_DATA_CHANGED = 3
    NODE_CHILDREN_CHANGED = 4


class AuthId(NamedTuple):
    """An identity: of a connection, or named by an ACL entry."""

    scheme: str
    id: str


class Acl(NamedTuple):
    """One ACL entry: a bit set of permissions granted to one identity."""

    perms: int
    scheme: str
    id: str


WORLD_ALL: tuple[Acl, ...] = (Acl(PERM_ALL, "world", "anyone"),)


class Stat(NamedTuple):
    """A znode's metadata as clients see it, in the order of the wire."""

    czxid: int
    mzxid: int
    ctime_ms: int
    mtime_ms: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int


class Znode(NamedTuple):
    """A stored znode. `child_creates` counts children ever created: the next sequence number."""

    data: bytes | None
    acl: tuple[Acl, ...]
    czxid: int
    mzxid: int
    pzxid: int
    ctime_ms: int
    mtime_ms: int
    version: int
    aversion: int
    child_creates: int
    ephemeral_owner: int

    def stat(self, num_children: int) -> Stat:
        """The client's view. `cversion` counts creations and deletions of children alike."""
        return Stat(
            czxid=self.czxid,
            mzxid=self.mzxid,
            ctime_ms=self.ctime_ms,
            mtime_ms=self.mtime_ms,
            version=self.version,
            cversion=2 * self.child_creates - num_children,
            aversion=self.aversion,
            ephemeral_owner=self.ephemeral_owner,
            data_length=len(self.data) if self.data is not None else 0,
            num_children=num_children,
            pzxid=self.pzxid,
        )


def parent_of(path: str) -> str:
    """The parent of a path other than "/" ("/a" and "/a/" have the parents "/" and "/a")."""
    return path[: path.rfind("/")] or "/"


def name_of(path: str) -> str:
    """The last element of a path."""
    return path[path.rfind("/") + 1 :]


# --- requests ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Create:
    """Create a znode; with `want_stat` the answer carries its Stat (the protocol's create2)."""

    path: str
    data: bytes | None = b""
    acl: tuple[Acl, ...] = WORLD_ALL
    flags: int = 0
    want_stat: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    path: str
    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class Exists:
    path: str
    watch: bool = False


@dataclass(frozen=True, slots=True)
class GetData:
    path: str
    watch: bool = False


@dataclass(frozen=True, slots=True)
class SetData:
    path: str
    data: bytes | None
    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class GetAcl:
    path: str


@dataclass(frozen=True, slots=True)
class SetAcl:
    path: str
    acl: tuple[Acl, ...]
    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class GetChildren:
    path: str
    watch: bool = False
    want_stat: bool = False


@dataclass(frozen=True, slots=True)
class Sync:
    path: str


@dataclass(frozen=True, slots=True)
class Check:
    path: str
    version: int


@dataclass(frozen=True, slots=True)
class Multi:
    ops: tuple[MultiOp, ...]


@dataclass(frozen=True, slots=True)
class SetWatches:
    """Watches that a client had before it reconnected, with the last zxid it saw."""

    relative_zxid: int
    data_paths: tuple[str, ...] = ()
    exist_paths: tuple[str, ...] = ()
    child_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CloseSession:
    """The client's orderly goodbye: its ephemeral znodes go with the session."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A request that this server refuses as a whole, with the error to answer."""

    opcode: int
    error: ErrorCode


MultiOp = Create | Delete | SetData | Check
Request = (
    Create
    | Delete
    | Exists
    | GetData
    | SetData
    | GetAcl
    | SetAcl
    | GetChildren
    | Sync
    | Check
    | Multi
    | SetWatches
    | CloseSession
    | Unsupported
)


# --- results -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """Success without a body: delete, check, setWatches, closeSession."""


@dataclass(frozen=True, slots=True)
class Failed:
    error: ErrorCode


@dataclass(frozen=True, slots=True)
class Created:
    path: str
    stat: Stat


@dataclass(frozen=True, slots=True)
class StatResult:
    stat: Stat


@dataclass(frozen=True, slots=True)
class DataResult:
    data: bytes | None
    stat: Stat


@dataclass(frozen=True, slots=True)
class AclResult:
    acl: tuple[Acl, ...]
    stat: Stat


@dataclass(frozen=True, slots=True)
class ChildrenResult:
    children: tuple[str, ...]
    stat: Stat


@dataclass(frozen=True, slots=True)
class SyncResult:
    path: str


@dataclass(frozen=True, slots=True)
class MultiResult:
    """One result per op. If any op failed then all are `Failed` and nothing was changed."""

    results: tuple[Result, ...]


Result = (
    Done
    | Failed
    | Created
    | StatResult
    | DataResult
    | AclResult
    | ChildrenResult
    | SyncResult
    | MultiResult
)


# --- transactions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateTxn:
    path: str
    data: bytes | None
    acl: tuple[Acl, ...]
    ephemeral_owner: int


@dataclass(frozen=True, slots=True)
class DeleteTxn:
    path: str


@dataclass(frozen=True, slots=True)
class SetDataTxn:
    path: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class SetAclTxn:
    path: str
    acl: tuple[Acl, ...]


@dataclass(frozen=True, slots=True)
class MultiTxn:
    ops: tuple[NodeTxn, ...]


@dataclass(frozen=True, slots=True)
class OpenSessionTxn:
    session_id: int
    timeout_ms: int
    password: bytes


@dataclass(frozen=True, slots=True)
class CloseSessionTxn:
    """Ends a session; which ephemerals go with it follows from the tree."""

    session_id: int


NodeTxn = CreateTxn | DeleteTxn | SetDataTxn | SetAclTxn
TxnBody = NodeTxn | MultiTxn | OpenSessionTxn | CloseSessionTxn


@dataclass(frozen=True, slots=True)
class Transaction:
    """One step of the tree. zxids are consecutive; `time_ms` stamps ctime and mtime."""

    zxid: int
    time_ms: int
    body: TxnBody


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """What one session has to be told."""

    session_id: int
    type: EventType
    path: str


class SessionRecord(NamedTuple):
    """The durable part of a session."""

    session_id: int
    timeout_ms: int
    password: bytes


@dataclass(frozen=True, slots=True)
class TreeImage:
    """A consistent picture of the whole state at `last_zxid`: what a snapshot holds."""

    last_zxid: int
    nodes: dict[str, Znode]
    sessions: tuple[SessionRecord, ...]


# --- what the tree hands to its driver -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one request did: the answer, whom to tell, what to make durable first."""

    result: Result
    events: tuple[WatchEvent, ...] = ()
    transaction: Transaction | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A new session; its transaction has to be durable before the client hears of it."""

    session_id: int
    timeout_ms: int
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class Expired:
    """A session that ended without a goodbye."""

    session_id: int
    events: tuple[WatchEvent, ...]
    transaction: Transaction
