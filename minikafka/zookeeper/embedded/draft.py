"""Deciding a write: from a request to a transaction body or a refusal, without touching the tree.

A `Draft` reads through to the stored znodes and keeps its own changes on top, so the ops of a multi
see the effects of those before them and a refusal has nothing to undo.

Checks are made in the order of Apache ZooKeeper, since the first failing one names the error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from minikafka.zookeeper.embedded import acl as access
from minikafka.zookeeper.embedded.model import (
    ANY_VERSION,
    FLAG_EPHEMERAL,
    FLAG_SEQUENTIAL,
    PERM_ADMIN,
    PERM_CREATE,
    PERM_DELETE,
    PERM_READ,
    PERM_WRITE,
    Check,
    Create,
    CreateTxn,
    Delete,
    DeleteTxn,
    ErrorCode,
    NodeTxn,
    SetAcl,
    SetAclTxn,
    SetData,
    SetDataTxn,
    Znode,
    parent_of,
)
from minikafka.zookeeper.embedded.sessions import Session

# Part of every tree from its birth, and never deleted.
SPECIAL_PATHS = ("/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota")

# Containers, and znodes with a time to live.
_FLAGS_OF_OTHER_KINDS = (4, 5, 6)

# Control characters, surrogates and private use, specials, and all that Java holds as surrogates.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\U0010ffff]")
_FORBIDDEN_NAMES = frozenset(("", ".", ".."))


class Refused(Exception):
    """A write that cannot be done, with the protocol's error."""

    def __init__(self, error: ErrorCode) -> None:
        super().__init__(error.name)
        self.error = error


def is_valid_path(path: str) -> bool:
    """Whether a znode may have this path."""
    if path == "/":
        return True
    if not path.startswith("/") or _FORBIDDEN.search(path):
        return False
    return _FORBIDDEN_NAMES.isdisjoint(path[1:].split("/"))


class Draft:
    """Decides the ops of one request of one session, each on top of those before it."""

    def __init__(
        self, nodes: Mapping[str, Znode], children: Mapping[str, dict[str, None]], session: Session
    ) -> None:
        self._nodes = nodes
        self._children = children
        self._session = session
        self._changed: dict[str, Znode | None] = {}
        self._child_count: dict[str, int] = {}

    def decide(self, op: Create | Delete | SetData | SetAcl | Check) -> NodeTxn | None:
        """The transaction body of one op, None for a check that holds.

        Raises Refused. After a refusal the draft is of no further use.
        """
        match op:
            case Create():
                return self._create(op)
            case Delete():
                return self._delete(op)
            case SetData():
                return self._set_data(op)
            case SetAcl():
                return self._set_acl(op)
            case Check():
                self._check(op)
                return None

    def _create(self, op: Create) -> CreateTxn:
        if op.flags in _FLAGS_OF_OTHER_KINDS:
            raise Refused(ErrorCode.UNIMPLEMENTED)
        if not 0 <= op.flags <= FLAG_EPHEMERAL | FLAG_SEQUENTIAL:
            raise Refused(ErrorCode.BAD_ARGUMENTS)
        _require_slash(op.path)
        acl = access.normalize(op.acl, self._session.identities)
        if acl is None:
            raise Refused(ErrorCode.INVALID_ACL)
        sequential = op.flags & FLAG_SEQUENTIAL
        if op.path == "/" and not sequential:
            raise Refused(ErrorCode.NODE_EXISTS)
        parent_path = parent_of(op.path)
        parent = self._existing(parent_path)
        self._require(parent, PERM_CREATE)
        path = f"{op.path}{parent.child_creates:010d}" if sequential else op.path
        _require_valid(path)
        if self._node(path) is not None:
            raise Refused(ErrorCode.NODE_EXISTS)
        if parent.ephemeral_owner:
            raise Refused(ErrorCode.NO_CHILDREN_FOR_EPHEMERALS)
        owner = self._session.session_id if op.flags & FLAG_EPHEMERAL else 0
        self._changed[path] = Znode(op.data, acl, 0, 0, 0, 0, 0, 0, 0, 0, owner)
        self._child_count[path] = 0
        self._changed[parent_path] = parent._replace(child_creates=parent.child_creates + 1)
        self._child_count[parent_path] = self._count(parent_path) + 1
        return CreateTxn(path, op.data, acl, owner)

    def _delete(self, op: Delete) -> DeleteTxn:
        _require_slash(op.path)
        if op.path in SPECIAL_PATHS:
            raise Refused(ErrorCode.BAD_ARGUMENTS)
        parent_path = parent_of(op.path)
        parent = self._existing(parent_path)
        self._require(parent, PERM_DELETE)
        node = self._existing(op.path)
        _require_version(node.version, op.version)
        if self._count(op.path):
            raise Refused(ErrorCode.NOT_EMPTY)
        self._changed[op.path] = None
        self._child_count[parent_path] = self._count(parent_path) - 1
        return DeleteTxn(op.path)

    def _set_data(self, op: SetData) -> SetDataTxn:
        _require_valid(op.path)
        node = self._existing(op.path)
        self._require(node, PERM_WRITE)
        _require_version(node.version, op.version)
        self._changed[op.path] = node._replace(data=op.data, version=node.version + 1)
        return SetDataTxn(op.path, op.data)

    def _set_acl(self, op: SetAcl) -> SetAclTxn:
        _require_valid(op.path)
        acl = access.normalize(op.acl, self._session.identities)
        if acl is None:
            raise Refused(ErrorCode.INVALID_ACL)
        node = self._existing(op.path)
        self._require(node, PERM_ADMIN)
        _require_version(node.aversion, op.version)
        self._changed[op.path] = node._replace(acl=acl, aversion=node.aversion + 1)
        return SetAclTxn(op.path, acl)

    def _check(self, op: Check) -> None:
        _require_valid(op.path)
        node = self._existing(op.path)
        self._require(node, PERM_READ)
        _require_version(node.version, op.version)

    def _node(self, path: str) -> Znode | None:
        if path in self._changed:
            return self._changed[path]
        return self._nodes.get(path)

    def _existing(self, path: str) -> Znode:
        node = self._node(path)
        if node is None:
            raise Refused(ErrorCode.NO_NODE)
        return node

    def _count(self, path: str) -> int:
        count = self._child_count.get(path)
        return len(self._children.get(path, ())) if count is None else count

    def _require(self, node: Znode, permission: int) -> None:
        if not access.grants(node.acl, permission, self._session.identities):
            raise Refused(ErrorCode.NO_AUTH)


def _require_slash(path: str) -> None:
    """The little that is asked of a path before anything is looked up."""
    if "/" not in path or "\x00" in path:
        raise Refused(ErrorCode.BAD_ARGUMENTS)


def _require_valid(path: str) -> None:
    if not is_valid_path(path):
        raise Refused(ErrorCode.BAD_ARGUMENTS)


def _require_version(actual: int, expected: int) -> None:
    if expected not in (ANY_VERSION, actual):
        raise Refused(ErrorCode.BAD_VERSION)
