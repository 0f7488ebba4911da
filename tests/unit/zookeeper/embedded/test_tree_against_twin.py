"""The tree against a deliberately naive twin, on random sequences of requests.

The twin keeps one flat dictionary, finds children by looking at every path, and takes a whole
copy to undo a multi. It knows nothing of zxids, watches or ACLs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from minikafka.zookeeper.embedded.model import (
    FLAG_EPHEMERAL,
    FLAG_SEQUENTIAL,
    Check,
    CloseSession,
    Create,
    Created,
    Delete,
    Done,
    ErrorCode,
    Failed,
    Multi,
    MultiOp,
    MultiResult,
    Request,
    Result,
    SetData,
    StatResult,
    Transaction,
)
from minikafka.zookeeper.embedded.records import (
    decode_image,
    decode_transaction,
    encode_image,
    encode_transaction,
)
from minikafka.zookeeper.embedded.tree import Tree
from tests.helpers.amounts import amount

SESSIONS = 3


@dataclass
class TwinNode:
    data: bytes | None = None
    version: int = 0
    ever_created: int = 0
    owner: int | None = None


@dataclass
class Twin:
    nodes: dict[str, TwinNode] = field(default_factory=lambda: {"/": TwinNode(b"")})

    def children(self, path: str) -> set[str]:
        return {p for p in self.nodes if p != "/" and (p.rsplit("/", 1)[0] or "/") == path}

    def one(self, owner: int, op: MultiOp) -> str:
        """ "" on success (the path for a create), else the error's name."""
        if isinstance(op, Create):
            return self.create(owner, op)
        node = self.nodes.get(op.path)
        if node is None:
            return "NO_NODE"
        if op.version not in (-1, node.version):
            return "BAD_VERSION"
        if isinstance(op, Delete):
            if self.children(op.path):
                return "NOT_EMPTY"
            del self.nodes[op.path]
        elif isinstance(op, SetData):
            node.data = op.data
            node.version += 1
        return ""

    def create(self, owner: int, op: Create) -> str:
        parent = self.nodes.get(op.path.rsplit("/", 1)[0] or "/")
        if parent is None:
            return "NO_NODE"
        path = op.path
        if op.flags & FLAG_SEQUENTIAL:
            path += str(parent.ever_created).zfill(10)
        if path in self.nodes:
            return "NODE_EXISTS"
        if parent.owner is not None:
            return "NO_CHILDREN_FOR_EPHEMERALS"
        parent.ever_created += 1
        self.nodes[path] = TwinNode(op.data, owner=owner if op.flags & FLAG_EPHEMERAL else None)
        return path

    def multi(self, owner: int, ops: tuple[MultiOp, ...]) -> list[str]:
        before = copy.deepcopy(self.nodes)
        results: list[str] = []
        for index, op in enumerate(ops):
            results.append(self.one(owner, op))
            if results[-1] in ErrorCode.__members__:
                self.nodes = before
                rest = len(ops) - index - 1
                return ["OK"] * index + [results[-1]] + ["RUNTIME_INCONSISTENCY"] * rest
        return results

    def close(self, owner: int) -> None:
        self.nodes = {path: node for path, node in self.nodes.items() if node.owner != owner}


def summary(result: Result) -> str:
    match result:
        case Failed():
            return result.error.name
        case Created():
            return result.path
        case Done() | StatResult():
            return ""
    raise AssertionError(result)


paths = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(lambda n: "/" + "/".join(n))
versions = st.sampled_from((-1, -1, 0, 1, 2))
values = st.sampled_from((None, b"", b"x"))
ops = st.one_of(
    st.builds(Create, paths, values, flags=st.integers(0, 3)),
    st.builds(Create, paths, values),
    st.builds(Delete, paths, versions),
    st.builds(SetData, paths, values, versions),
    st.builds(Check, paths, versions),
)
requests = st.one_of(
    ops,
    ops,
    st.lists(ops, max_size=5).map(lambda several: Multi(tuple(several))),
    st.just(CloseSession()),
)
steps = st.lists(st.tuples(st.integers(0, SESSIONS - 1), requests), max_size=40)


class Pair:
    """The tree and its twin, with the transactions that the tree made."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.twin = Twin()
        self.journal: list[Transaction] = []
        self.session_ids = [self.open() for _ in range(SESSIONS)]

    def open(self) -> int:
        opened = self.tree.open_session(5_000, b"p" * 16, 0)
        self.journal.append(opened.transaction)
        return opened.session_id

    def step(self, slot: int, request: Request) -> None:
        session_id = self.session_ids[slot]
        outcome = self.tree.request(session_id, request, now_ms=len(self.journal))
        if outcome.transaction is not None:
            self.journal.append(outcome.transaction)
        if isinstance(request, CloseSession):
            self.twin.close(session_id)
            self.session_ids[slot] = self.open()
        elif isinstance(request, Multi):
            assert isinstance(outcome.result, MultiResult)
            told = [summary(result) for result in outcome.result.results]
            assert told == self.twin.multi(session_id, request.ops)
        else:
            assert isinstance(request, MultiOp)
            assert summary(outcome.result) == self.twin.one(session_id, request)
        self.compare()

    def compare(self) -> None:
        self.tree.check_invariants()
        stored = {
            path: TwinNode(n.data, n.version, n.child_creates, n.ephemeral_owner or None)
            for path, n in self.tree.image().nodes.items()
            if not path.startswith("/zookeeper")
        }
        assert stored == self.twin.nodes
        for path in stored:
            names = {name.rsplit("/", 1)[1] for name in self.twin.children(path)}
            assert set(self.tree.children(path)) - {"zookeeper"} == names


@given(steps)
@settings(max_examples=amount(200), deadline=None)
def test_the_tree_does_what_its_twin_does(taken: list[tuple[int, Request]]) -> None:
    pair = Pair()
    for slot, request in taken:
        pair.step(slot, request)


@given(steps, st.integers(0, 40))
@settings(max_examples=amount(100), deadline=None)
def test_replaying_the_journal_from_any_snapshot_gives_the_same_tree(
    taken: list[tuple[int, Request]], snapshot_after: int
) -> None:
    pair = Pair()
    snapshot = pair.tree.image()
    for index, (slot, request) in enumerate(taken):
        pair.step(slot, request)
        if index == snapshot_after:
            snapshot = pair.tree.image()
    replayed = Tree()
    replayed.load(decode_image(b"".join(encode_image(snapshot))), now_ms=0)
    for txn in pair.journal:
        if txn.zxid > snapshot.last_zxid:
            replayed.apply(decode_transaction(encode_transaction(txn)))
    replayed.check_invariants()
    assert replayed.image() == pair.tree.image()
    assert list(replayed.image().nodes) == list(pair.tree.image().nodes)
