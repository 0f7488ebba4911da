"""How transactions and images of the tree are written down for the journal, as bytes.

A transaction is `zxid (long) time_ms (long) kind (byte)` and the fields of its body in the
primitives of `jute`. An image is its zxid, the sessions, and the znodes in order of creation,
parents first.

Invariant: decoding what was encoded gives an equal value; integrity is the journal's business
(CRC), so whatever does not decode here is `Malformed`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

from minikafka.zookeeper.embedded.jute import (
    Malformed,
    Reader,
    pack_buffer,
    pack_int,
    pack_long,
    pack_string,
)
from minikafka.zookeeper.embedded.model import (
    WORLD_ALL,
    Acl,
    CloseSessionTxn,
    CreateTxn,
    DeleteTxn,
    MultiTxn,
    NodeTxn,
    OpenSessionTxn,
    SessionRecord,
    SetAclTxn,
    SetDataTxn,
    Transaction,
    TreeImage,
    TxnBody,
    Znode,
)

_HEAD = struct.Struct(">qqB")
_KIND = struct.Struct(">B")
_NODE = struct.Struct(">qqqqqiiiq")
_SESSION = struct.Struct(">qi")

_CREATE, _DELETE, _SET_DATA, _SET_ACL, _MULTI, _OPEN_SESSION, _CLOSE_SESSION = range(1, 8)

_NODES_PER_CHUNK = 500


def encode_transaction(txn: Transaction) -> bytes:
    kind, fields = _encode_body(txn.body)
    return _HEAD.pack(txn.zxid, txn.time_ms, kind) + fields


def record_zxid(data: bytes) -> int:
    """The zxid of an encoded transaction, without decoding the rest."""
    return int.from_bytes(data[:8], "big")


def decode_transaction(data: bytes) -> Transaction:
    """Raises Malformed."""
    reader = Reader(data)
    zxid, time_ms, kind = reader.unpack(_HEAD)
    return Transaction(zxid, time_ms, _decode_body(kind, reader))


def _encode_body(body: TxnBody) -> tuple[int, bytes]:
    match body:
        case CreateTxn():
            fields = pack_string(body.path) + pack_buffer(body.data) + _encode_acl(body.acl)
            return _CREATE, fields + pack_long(body.ephemeral_owner)
        case DeleteTxn():
            return _DELETE, pack_string(body.path)
        case SetDataTxn():
            return _SET_DATA, pack_string(body.path) + pack_buffer(body.data)
        case SetAclTxn():
            return _SET_ACL, pack_string(body.path) + _encode_acl(body.acl)
        case MultiTxn():
            parts = [pack_int(len(body.ops))]
            for op in body.ops:
                kind, fields = _encode_body(op)
                parts += (_KIND.pack(kind), fields)
            return _MULTI, b"".join(parts)
        case OpenSessionTxn():
            head = _SESSION.pack(body.session_id, body.timeout_ms)
            return _OPEN_SESSION, head + pack_buffer(body.password)
        case CloseSessionTxn():
            return _CLOSE_SESSION, pack_long(body.session_id)


def _decode_body(kind: int, reader: Reader) -> TxnBody:
    match kind:
        case 1 | 2 | 3 | 4:
            return _decode_node_txn(kind, reader)
        case 5:
            ops = [_decode_node_txn(reader.unpack(_KIND)[0], reader) for _ in range(reader.count())]
            return MultiTxn(tuple(ops))
        case 6:
            session_id, timeout_ms = reader.unpack(_SESSION)
            return OpenSessionTxn(session_id, timeout_ms, reader.buffer() or b"")
        case 7:
            return CloseSessionTxn(reader.int64())
        case _:
            raise Malformed(f"a transaction of unknown kind {kind}")


def _decode_node_txn(kind: int, reader: Reader) -> NodeTxn:
    path = reader.string()
    match kind:
        case 1:
            return CreateTxn(path, reader.buffer(), _decode_acl(reader), reader.int64())
        case 2:
            return DeleteTxn(path)
        case 3:
            return SetDataTxn(path, reader.buffer())
        case 4:
            return SetAclTxn(path, _decode_acl(reader))
        case _:
            raise Malformed(f"a change of unknown kind {kind}")


def _encode_acl(acl: tuple[Acl, ...]) -> bytes:
    if acl == WORLD_ALL:  # nearly all are: an empty list, which no valid ACL is, stands for it
        return pack_int(0)
    entries = [
        pack_int(entry.perms) + pack_string(entry.scheme) + pack_string(entry.id) for entry in acl
    ]
    return pack_int(len(entries)) + b"".join(entries)


def _decode_acl(reader: Reader) -> tuple[Acl, ...]:
    entries = [Acl(reader.int32(), reader.string(), reader.string()) for _ in range(reader.count())]
    return tuple(entries) or WORLD_ALL


def encode_image(image: TreeImage) -> Iterator[bytes]:
    """The image in chunks, so that a large tree is never held twice."""
    head = [pack_long(image.last_zxid), pack_int(len(image.sessions))]
    for session in image.sessions:
        head.append(_SESSION.pack(session.session_id, session.timeout_ms))
        head.append(pack_buffer(session.password))
    head.append(pack_int(len(image.nodes)))
    yield b"".join(head)
    nodes = iter(image.nodes.items())
    while chunk := list(islice(nodes, _NODES_PER_CHUNK)):
        yield b"".join([_encode_node(path, node) for path, node in chunk])


def _encode_node(path: str, node: Znode) -> bytes:
    numbers = _NODE.pack(
        node.czxid,
        node.mzxid,
        node.pzxid,
        node.ctime_ms,
        node.mtime_ms,
        node.version,
        node.aversion,
        node.child_creates,
        node.ephemeral_owner,
    )
    return pack_string(path) + pack_buffer(node.data) + _encode_acl(node.acl) + numbers


def decode_image(data: bytes) -> TreeImage:
    """Raises Malformed."""
    reader = Reader(data)
    last_zxid = reader.int64()
    sessions = []
    for _ in range(reader.count()):
        session_id, timeout_ms = reader.unpack(_SESSION)
        sessions.append(SessionRecord(session_id, timeout_ms, reader.buffer() or b""))
    nodes: dict[str, Znode] = {}
    for _ in range(reader.count()):
        path, content, acl = reader.string(), reader.buffer(), _decode_acl(reader)
        nodes[path] = Znode(content, acl, *reader.unpack(_NODE))
    return TreeImage(last_zxid, nodes, tuple(sessions))
