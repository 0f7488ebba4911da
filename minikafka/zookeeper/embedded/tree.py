"""The ZooKeeper state machine: znodes, sessions, watches. PURE: time and passwords are arguments.

State: the znodes by path with their children, the live sessions with their ephemerals, the watches,
and the zxid of the last transaction.

How it moves: a write is first decided (`draft`: a transaction body with every choice made, or an
error) and then applied. `apply` is the only thing that changes durable state, it is
deterministic, and zxids are consecutive, so a journal that replays transactions in order arrives
at the same tree. A refused write makes no transaction and takes no zxid.

Invariants (`check_invariants`): every znode but "/" has its parent; children and znodes agree;
ephemerals have no children and a live owner, which lists them; `pzxid` and `mzxid` never exceed
`last_zxid`.

A driver (a server, a simulator) does this:

    tree = Tree()
    session_id = tree.open_session(6_000, password, now_ms).session_id
    outcome = tree.request(session_id, Create("/a", b"x"), now_ms)
    outcome.transaction   to be made durable before anyone is told; None if nothing changed
    outcome.events        watch events to deliver, before `result` if it is for the same session
    outcome.result        the answer

`attach` is called whenever a connection takes over a session, `detach` when one is lost: watches
and identities belong to the connection. Time is in milliseconds on one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from minikafka.zookeeper.embedded import acl as access
from minikafka.zookeeper.embedded.draft import SPECIAL_PATHS, Draft, Refused
from minikafka.zookeeper.embedded.model import (
    PERM_ADMIN,
    PERM_READ,
    WORLD_ALL,
    Acl,
    AclResult,
    AuthId,
    Check,
    ChildrenResult,
    CloseSession,
    CloseSessionTxn,
    Create,
    Created,
    CreateTxn,
    DataResult,
    Delete,
    DeleteTxn,
    Done,
    ErrorCode,
    EventType,
    Exists,
    Expired,
    Failed,
    GetAcl,
    GetChildren,
    GetData,
    Multi,
    MultiOp,
    MultiResult,
    MultiTxn,
    NodeTxn,
    Opened,
    OpenSessionTxn,
    Outcome,
    Request,
    Result,
    SessionRecord,
    SetAcl,
    SetAclTxn,
    SetData,
    SetDataTxn,
    SetWatches,
    Stat,
    StatResult,
    Sync,
    SyncResult,
    Transaction,
    TreeImage,
    TxnBody,
    Unsupported,
    WatchEvent,
    Znode,
    name_of,
    parent_of,
)
from minikafka.zookeeper.embedded.sessions import SESSION_ID_BASE, Session, Sessions
from minikafka.zookeeper.embedded.watches import Watches

_READ_ONLY = (Acl(PERM_READ, "world", "anyone"),)
_SESSION_IS_GONE = Outcome(Failed(ErrorCode.SESSION_EXPIRED))


class Tree:
    """The whole replicated state of the service, and the volatile state of its clients."""

    def __init__(self, min_session_timeout_ms: int = 400, max_session_timeout_ms: int = 60_000):
        """Requested session timeouts are clamped to the two bounds."""
        assert 0 < min_session_timeout_ms <= max_session_timeout_ms
        self.min_session_timeout_ms = min_session_timeout_ms
        self.max_session_timeout_ms = max_session_timeout_ms
        self.last_zxid = 0
        self.sessions = Sessions()
        self.watches = Watches()
        birth = Znode(b"", WORLD_ALL, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        self._nodes: dict[str, Znode] = dict.fromkeys(SPECIAL_PATHS, birth)
        self._nodes["/zookeeper/config"] = birth._replace(acl=_READ_ONLY, aversion=-1)
        self._children: dict[str, dict[str, None]] = {
            "/": {"zookeeper": None},
            "/zookeeper": {"config": None, "quota": None},
        }

    # --- sessions --------------------------------------------------------------------------------

    def open_session(self, timeout_ms: int, password: bytes, now_ms: int) -> Opened:
        """Open a session. The caller supplies 16 random bytes as its password."""
        negotiated_ms = self.clamp_timeout(timeout_ms)
        session_id = SESSION_ID_BASE | (self.last_zxid + 1)
        txn = self._next(OpenSessionTxn(session_id, negotiated_ms, password), now_ms)
        self.apply(txn)
        return Opened(session_id, negotiated_ms, txn)

    def clamp_timeout(self, timeout_ms: int) -> int:
        return max(self.min_session_timeout_ms, min(timeout_ms, self.max_session_timeout_ms))

    def attach(
        self,
        session_id: int,
        password: bytes,
        timeout_ms: int,
        now_ms: int,
        identities: Iterable[AuthId] = (),
    ) -> Session | None:
        """A (new) connection takes over a session, with the identities that it has by itself.

        None if there is no such session or the password is wrong: to the client it has expired.
        Watches and identities of an earlier connection are gone.
        """
        session = self.sessions.get(session_id)
        if session is None or session.password != password:
            return None
        self.watches.drop_session(session_id)
        session.identities = tuple(identities)
        session.timeout_ms = self.clamp_timeout(timeout_ms)
        self.sessions.touch(session_id, now_ms)
        return session

    def detach(self, session_id: int) -> None:
        """The connection of a session is lost. The session lives on until its deadline."""
        self.watches.drop_session(session_id)
        session = self.sessions.get(session_id)
        if session is not None:
            session.identities = ()

    def authenticate(self, session_id: int, scheme: str, credential: bytes) -> bool:
        """Add the identity that a credential proves to the session's connection."""
        session = self.sessions.get(session_id)
        identity = access.authenticate(scheme, credential)
        if session is None or identity is None:
            return False
        if identity not in session.identities:
            session.identities += (identity,)
        return True

    def touch(self, session_id: int, now_ms: int) -> None:
        """A sign of life, such as a ping. `request` does this by itself."""
        self.sessions.touch(session_id, now_ms)

    def expire(self, now_ms: int) -> list[Expired]:
        """End every session whose deadline has passed."""
        expired = []
        for session_id in self.sessions.overdue(now_ms):
            txn = self._next(CloseSessionTxn(session_id), now_ms)
            _, events = self.apply(txn)
            expired.append(Expired(session_id, events, txn))
        return expired

    # --- requests --------------------------------------------------------------------------------

    def request(self, session_id: int, request: Request, now_ms: int) -> Outcome:
        """Carry out one request of a session, which counts as a sign of life."""
        session = self.sessions.get(session_id)
        if session is None:
            return _SESSION_IS_GONE
        self.sessions.touch(session_id, now_ms)
        match request:
            case Exists() | GetData() | GetChildren() | GetAcl():
                return Outcome(self._read(session, request))
            case Create() | Delete() | SetData() | SetAcl() | Check():
                return self._write(session, request, now_ms)
            case Multi():
                return self._multi(session, request.ops, now_ms)
            case Sync():
                # There is one server, so whoever reads here reads the latest.
                return Outcome(SyncResult(request.path))
            case SetWatches():
                return Outcome(Done(), self._set_watches(session_id, request))
            case CloseSession():
                txn = self._next(CloseSessionTxn(session_id), now_ms)
                _, events = self.apply(txn)
                return Outcome(Done(), events, txn)
            case Unsupported():
                return Outcome(Failed(request.error))

    def _read(self, session: Session, request: Exists | GetData | GetChildren | GetAcl) -> Result:
        path = request.path
        node = self._nodes.get(path)
        if isinstance(request, Exists):
            if request.watch:  # also on what does not exist yet
                self.watches.watch_data(session.session_id, path)
            return StatResult(self._stat(path)) if node else Failed(ErrorCode.NO_NODE)
        if node is None:
            return Failed(ErrorCode.NO_NODE)
        wanted = PERM_READ | PERM_ADMIN if isinstance(request, GetAcl) else PERM_READ
        if not access.grants(node.acl, wanted, session.identities):
            return Failed(ErrorCode.NO_AUTH)
        stat = self._stat(path)
        match request:
            case GetData():
                if request.watch:
                    self.watches.watch_data(session.session_id, path)
                return DataResult(node.data, stat)
            case GetChildren():
                if request.watch:
                    self.watches.watch_children(session.session_id, path)
                return ChildrenResult(tuple(self._children.get(path, ())), stat)
            case GetAcl():
                return AclResult(access.visible(node.acl, session.identities), stat)

    def _write(
        self, session: Session, request: Create | Delete | SetData | SetAcl | Check, now_ms: int
    ) -> Outcome:
        try:
            body = Draft(self._nodes, self._children, session).decide(request)
        except Refused as refused:
            return Outcome(Failed(refused.error))
        if body is None:
            return Outcome(Done())
        txn = self._next(body, now_ms)
        stats, events = self.apply(txn)
        return Outcome(_written(body, stats[0]), events, txn)

    def _multi(self, session: Session, ops: tuple[MultiOp, ...], now_ms: int) -> Outcome:
        draft = Draft(self._nodes, self._children, session)
        bodies: list[NodeTxn | None] = []
        for index, op in enumerate(ops):
            try:
                bodies.append(draft.decide(op))
            except Refused as refused:
                before = (Failed(ErrorCode.OK),) * index
                after = (Failed(ErrorCode.RUNTIME_INCONSISTENCY),) * (len(ops) - index - 1)
                return Outcome(MultiResult((*before, Failed(refused.error), *after)))
        changes = tuple(body for body in bodies if body is not None)
        if not changes:
            return Outcome(MultiResult((Done(),) * len(ops)))
        txn = self._next(MultiTxn(changes), now_ms)
        stats, events = self.apply(txn)
        in_order = iter(stats)
        results = tuple(_written(body, next(in_order)) if body else Done() for body in bodies)
        return Outcome(MultiResult(results), events, txn)

    def _set_watches(self, session_id: int, request: SetWatches) -> tuple[WatchEvent, ...]:
        """Watch again after a reconnect; what changed since `relative_zxid` is told at once."""
        missed: list[WatchEvent] = []

        def tell(event: EventType, path: str) -> None:
            missed.append(WatchEvent(session_id, event, path))

        for path in request.data_paths:
            node = self._nodes.get(path)
            if node is None:
                tell(EventType.NODE_DELETED, path)
            elif node.mzxid > request.relative_zxid:
                tell(EventType.NODE_DATA_CHANGED, path)
            else:
                self.watches.watch_data(session_id, path)
        for path in request.exist_paths:
            if path in self._nodes:
                tell(EventType.NODE_CREATED, path)
            else:
                self.watches.watch_data(session_id, path)
        for path in request.child_paths:
            node = self._nodes.get(path)
            if node is None:
                tell(EventType.NODE_DELETED, path)
            elif node.pzxid > request.relative_zxid:
                tell(EventType.NODE_CHILDREN_CHANGED, path)
            else:
                self.watches.watch_children(session_id, path)
        return tuple(missed)

    # --- transactions ----------------------------------------------------------------------------

    def _next(self, body: TxnBody, now_ms: int) -> Transaction:
        return Transaction(self.last_zxid + 1, now_ms, body)

    def apply(self, txn: Transaction) -> tuple[tuple[Stat | None, ...], tuple[WatchEvent, ...]]:
        """Carry out a decided transaction: the only way in which durable state changes.

        Returns the Stat of every created or changed znode (None for a deletion or a session), one
        per op, and the watch events that it caused.
        """
        assert txn.zxid == self.last_zxid + 1, (txn.zxid, self.last_zxid)
        self.last_zxid = txn.zxid
        events: list[WatchEvent] = []
        body = txn.body
        match body:
            case MultiTxn():
                stats = tuple(self._apply_to_node(op, txn, events) for op in body.ops)
            case OpenSessionTxn():
                record = SessionRecord(body.session_id, body.timeout_ms, body.password)
                self.sessions.open(record, txn.time_ms)
                stats = (None,)
            case CloseSessionTxn():
                self._apply_close_session(body.session_id, txn, events)
                stats = (None,)
            case CreateTxn() | DeleteTxn() | SetDataTxn() | SetAclTxn():
                stats = (self._apply_to_node(body, txn, events),)
        return stats, tuple(events)

    def _apply_close_session(
        self, session_id: int, txn: Transaction, events: list[WatchEvent]
    ) -> None:
        session = self.sessions.get(session_id)
        assert session is not None, f"session {session_id:#x} closed twice"
        # First its watches: a session is not told of the end of its own ephemerals.
        self.watches.drop_session(session_id)
        for path in sorted(session.ephemerals):
            self._apply_to_node(DeleteTxn(path), txn, events)
        self.sessions.close(session_id)

    def _apply_to_node(
        self, op: NodeTxn, txn: Transaction, events: list[WatchEvent]
    ) -> Stat | None:
        match op:
            case CreateTxn():
                self._insert(op, txn)
                events += self._heard(self.watches.created(op.path))
                return self._stat(op.path)
            case DeleteTxn():
                removed = self._remove(op.path, txn.zxid)
                events += self._heard(self.watches.deleted(op.path), removed)
                return None
            case SetDataTxn():
                node = self._nodes[op.path]
                self._nodes[op.path] = node._replace(
                    data=op.data, version=node.version + 1, mzxid=txn.zxid, mtime_ms=txn.time_ms
                )
                events += self._heard(self.watches.data_changed(op.path))
                return self._stat(op.path)
            case SetAclTxn():
                node = self._nodes[op.path]
                self._nodes[op.path] = node._replace(acl=op.acl, aversion=node.aversion + 1)
                return self._stat(op.path)

    def _insert(self, op: CreateTxn, txn: Transaction) -> None:
        assert op.path not in self._nodes, op.path
        acl = WORLD_ALL if op.acl == WORLD_ALL else op.acl  # nearly all share one object
        self._nodes[op.path] = Znode(
            data=op.data,
            acl=acl,
            czxid=txn.zxid,
            mzxid=txn.zxid,
            pzxid=txn.zxid,
            ctime_ms=txn.time_ms,
            mtime_ms=txn.time_ms,
            version=0,
            aversion=0,
            child_creates=0,
            ephemeral_owner=op.ephemeral_owner,
        )
        parent_path = parent_of(op.path)
        parent = self._nodes[parent_path]
        self._nodes[parent_path] = parent._replace(
            child_creates=parent.child_creates + 1, pzxid=txn.zxid
        )
        self._children.setdefault(parent_path, {})[name_of(op.path)] = None
        if op.ephemeral_owner:
            owner = self.sessions.get(op.ephemeral_owner)
            assert owner is not None, f"ephemeral {op.path} of a session that is gone"
            owner.ephemerals.add(op.path)

    def _remove(self, path: str, zxid: int) -> Znode:
        assert path not in self._children, f"{path} has children"
        node = self._nodes.pop(path)
        parent_path = parent_of(path)
        self._nodes[parent_path] = self._nodes[parent_path]._replace(pzxid=zxid)
        siblings = self._children[parent_path]
        del siblings[name_of(path)]
        if not siblings:
            del self._children[parent_path]
        if node.ephemeral_owner:
            owner = self.sessions.get(node.ephemeral_owner)
            assert owner is not None, f"ephemeral {path} outlived its session"
            owner.ephemerals.discard(path)
        return node

    def _heard(self, fired: list[WatchEvent], removed: Znode | None = None) -> list[WatchEvent]:
        """Who may not read a znode does not hear of it either, though its watch is spent."""
        heard = []
        for event in fired:
            node = self._nodes.get(event.path, removed)
            session = self.sessions.get(event.session_id)
            assert node is not None, event
            assert session is not None, event
            if access.grants(node.acl, PERM_READ, session.identities):
                heard.append(event)
        return heard

    # --- the whole -------------------------------------------------------------------------------

    def image(self) -> TreeImage:
        """A consistent picture of the durable state; later changes do not show in it."""
        return TreeImage(self.last_zxid, dict(self._nodes), self.sessions.records())

    def load(self, image: TreeImage, now_ms: int) -> None:
        """Take over the state of an image. Only for a tree that has applied nothing yet."""
        assert self.last_zxid == 0
        assert not len(self.sessions)
        self.last_zxid = image.last_zxid
        self._nodes = dict(image.nodes)
        self._children = {}
        for record in image.sessions:
            self.sessions.open(record, now_ms)
        for path, node in self._nodes.items():
            if path != "/":
                self._children.setdefault(parent_of(path), {})[name_of(path)] = None
            if node.ephemeral_owner:
                owner = self.sessions.get(node.ephemeral_owner)
                assert owner is not None, f"ephemeral {path} without its session"
                owner.ephemerals.add(path)

    def node(self, path: str) -> Znode | None:
        """The stored znode, regardless of its ACL."""
        return self._nodes.get(path)

    def children(self, path: str) -> tuple[str, ...]:
        """Names of the children, in order of creation."""
        return tuple(self._children.get(path, ()))

    def node_count(self) -> int:
        return len(self._nodes)

    def ephemeral_count(self) -> int:
        return sum(len(session.ephemerals) for session in self.sessions)

    def data_size_bytes(self) -> int:
        """Roughly the bytes of all paths and data."""
        return sum(len(path) + len(node.data or b"") for path, node in self._nodes.items())

    def check_invariants(self) -> None:
        """Assert everything that the module's docstring promises. For tests and simulators."""
        listed = {
            "/" + name if parent == "/" else f"{parent}/{name}"
            for parent, names in self._children.items()
            for name in names
        }
        assert listed == self._nodes.keys() - {"/"}
        assert all(self._children.values()), "an empty table of children was kept"
        for path, node in self._nodes.items():
            assert max(node.czxid, node.mzxid, node.pzxid) <= self.last_zxid, path
            if node.ephemeral_owner:
                owner = self.sessions.get(node.ephemeral_owner)
                assert owner is not None, path
                assert path in owner.ephemerals, path
                assert path not in self._children, path
        assert self.ephemeral_count() == sum(1 for n in self._nodes.values() if n.ephemeral_owner)

    def _stat(self, path: str) -> Stat:
        return self._nodes[path].stat(len(self._children.get(path, ())))


def _written(body: NodeTxn, stat: Stat | None) -> Result:
    """The result of a write whose transaction has been applied."""
    if isinstance(body, DeleteTxn):
        return Done()
    assert stat is not None
    return Created(body.path, stat) if isinstance(body, CreateTxn) else StatResult(stat)
