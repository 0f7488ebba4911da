"""The ZooKeeper client protocol, sans I/O: bytes in, requests out; results in, bytes out.

A connection carries frames: a 4-byte length and that many bytes. The first frame of a client is a
ConnectRequest, answered by a ConnectResponse. Every other frame of a client is

    xid (int)  opcode (int)  body            and is answered by
    xid (int)  zxid (long)  error (int)  body if there was no error

in the order of the requests. Negative xids are special: -1 a watch event, -2 a ping, -4
credentials, -8 setWatches. Instead of its first frame a client may send one of the four-letter
words.

State: `FrameBuffer` holds the bytes of an incomplete frame and nothing else here holds any.
Invariant: no frame above `max_frame_bytes` is ever buffered.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import NamedTuple

from minikafka.zookeeper.embedded.jute import (
    BOOL,
    Malformed,
    Reader,
    pack_buffer,
    pack_int,
    pack_string,
)
from minikafka.zookeeper.embedded.model import (
    Acl,
    AclResult,
    Check,
    ChildrenResult,
    CloseSession,
    Create,
    Created,
    DataResult,
    Delete,
    Done,
    ErrorCode,
    Exists,
    Failed,
    GetAcl,
    GetChildren,
    GetData,
    Multi,
    MultiOp,
    MultiResult,
    Request,
    Result,
    SetAcl,
    SetData,
    SetWatches,
    StatResult,
    Sync,
    SyncResult,
    Unsupported,
    WatchEvent,
)

DEFAULT_MAX_FRAME_BYTES = 0xFFFFF  # ZooKeeper's default of jute.maxbuffer

OP_CREATE = 1
OP_DELETE = 2
OP_EXISTS = 3
OP_GET_DATA = 4
OP_SET_DATA = 5
OP_GET_ACL = 6
OP_SET_ACL = 7
OP_GET_CHILDREN = 8
OP_SYNC = 9
OP_PING = 11
OP_GET_CHILDREN2 = 12
OP_CHECK = 13
OP_MULTI = 14
OP_CREATE2 = 15
OP_RECONFIG = 16
OP_AUTH = 100
OP_SET_WATCHES = 101
OP_SASL = 102
OP_CLOSE = -11
OP_ERROR = -1

XID_WATCH_EVENT = -1
XID_PING = -2

_STATE_SYNC_CONNECTED = 3

_CONNECT = struct.Struct(">iqiq")
_HEADER = struct.Struct(">ii")
_REPLY = struct.Struct(">iiqi")  # with the length of the frame in front
_CONNECTED = struct.Struct(">iiq")
_STAT = struct.Struct(">qqqqiiiqiiq")
_MULTI_HEADER = struct.Struct(">iBi")
_EVENT = struct.Struct(">ii")
_PASSWORD_BYTES = 16


class ConnectRequest(NamedTuple):
    """A client's first frame. `session_id` 0 asks for a new session."""

    protocol_version: int
    last_zxid_seen: int
    timeout_ms: int
    session_id: int
    password: bytes
    knows_read_only: bool


class Credentials(NamedTuple):
    """An auth packet."""

    scheme: str
    credential: bytes


class FrameBuffer:
    """Cuts a stream of bytes into frames."""

    def __init__(self, max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._offset = 0

    def feed(self, data: bytes) -> None:
        if self._offset:
            del self._buffer[: self._offset]
            self._offset = 0
        self._buffer += data

    def peek_word(self) -> bytes | None:
        """The first four bytes, for telling a four-letter word from a frame."""
        return bytes(self._buffer[:4]) if len(self._buffer) >= 4 else None

    def next_frame(self) -> bytes | None:
        """The next complete frame without its length, None until there is one.

        Raises Malformed for a length that is negative or above the bound; after that the stream
        is of no further use.
        """
        start = self._offset + 4
        if len(self._buffer) < start:
            return None
        length = int.from_bytes(self._buffer[self._offset : start], "big", signed=True)
        if not 0 <= length <= self._max_frame_bytes:
            raise Malformed(f"frame of {length} bytes, the bound is {self._max_frame_bytes}")
        end = start + length
        if len(self._buffer) < end:
            return None
        frame = bytes(memoryview(self._buffer)[start:end])
        self._offset = end
        return frame


# --- from the client -----------------------------------------------------------------------------


def decode_connect(frame: bytes) -> ConnectRequest:
    reader = Reader(frame)
    version, last_zxid_seen, timeout_ms, session_id = reader.unpack(_CONNECT)
    password = reader.buffer() or b""
    knows_read_only = reader.remaining > 0  # clients before 3.4 end here
    return ConnectRequest(
        version, last_zxid_seen, timeout_ms, session_id, password, knows_read_only
    )


def decode_header(frame: bytes) -> tuple[int, int]:
    """(xid, opcode) of any frame after the first. Raises Malformed."""
    try:
        xid, opcode = _HEADER.unpack_from(frame)
    except struct.error:
        raise Malformed(f"a request of {len(frame)} bytes") from None
    return xid, opcode


def decode_credentials(frame: bytes) -> Credentials:
    reader = Reader(frame, _HEADER.size)
    reader.int32()  # a type that nobody uses
    return Credentials(reader.string(), reader.buffer() or b"")


def decode_request(opcode: int, frame: bytes) -> Request:
    """The request in a frame (header included). Raises Malformed."""
    reader = Reader(frame, _HEADER.size)
    match opcode:
        case 3:
            return Exists(reader.string(), reader.flag())
        case 4:
            return GetData(reader.string(), reader.flag())
        case 8 | 12:
            return GetChildren(reader.string(), reader.flag(), opcode == OP_GET_CHILDREN2)
        case 1 | 2 | 5 | 13 | 15:
            return _read_write(opcode, reader)
        case 6:
            return GetAcl(reader.string())
        case 7:
            return SetAcl(reader.string(), _read_acl(reader), reader.int32())
        case 9:
            return Sync(reader.string())
        case 14:
            return _read_multi(reader)
        case 101:
            return SetWatches(reader.int64(), reader.strings(), reader.strings(), reader.strings())
        case -11:
            return CloseSession()
        case 16:
            return Unsupported(opcode, ErrorCode.RECONFIG_DISABLED)
        case _:
            return Unsupported(opcode, ErrorCode.UNIMPLEMENTED)


def _read_write(opcode: int, reader: Reader) -> MultiOp:
    path = reader.string()
    if opcode in (OP_CREATE, OP_CREATE2):
        data, acl, flags = reader.buffer(), _read_acl(reader), reader.int32()
        return Create(path, data, acl, flags, opcode == OP_CREATE2)
    if opcode == OP_SET_DATA:
        return SetData(path, reader.buffer(), reader.int32())
    version = reader.int32()
    return Delete(path, version) if opcode == OP_DELETE else Check(path, version)


def _read_acl(reader: Reader) -> tuple[Acl, ...]:
    return tuple(
        Acl(reader.int32(), reader.string(), reader.string()) for _ in range(reader.count())
    )


def _read_multi(reader: Reader) -> Multi:
    ops: list[MultiOp] = []
    while True:
        opcode, done, _ = reader.unpack(_MULTI_HEADER)
        if done:
            return Multi(tuple(ops))
        if opcode not in (OP_CREATE, OP_CREATE2, OP_DELETE, OP_SET_DATA, OP_CHECK):
            raise Malformed(f"operation {opcode} in a multi")
        ops.append(_read_write(opcode, reader))


# --- to the client -------------------------------------------------------------------------------


def encode_connected(
    timeout_ms: int, session_id: int, password: bytes, knows_read_only: bool
) -> bytes:
    """The ConnectResponse; this server is never read-only."""
    body = _CONNECTED.pack(0, timeout_ms, session_id) + pack_buffer(password)
    if knows_read_only:
        body += BOOL[False]
    return pack_int(len(body)) + body


def encode_session_expired(knows_read_only: bool) -> bytes:
    """The ConnectResponse that tells a client that its session is gone."""
    return encode_connected(0, 0, bytes(_PASSWORD_BYTES), knows_read_only)


def encode_reply(xid: int, zxid: int, request: Request, result: Result) -> bytes:
    """The answer to a request, as a frame."""
    if isinstance(result, Failed):
        return encode_header(xid, zxid, result.error)
    body = _result_body(request, result)
    return _REPLY.pack(_REPLY.size - 4 + len(body), xid, zxid, 0) + body


def encode_header(xid: int, zxid: int, error: ErrorCode = ErrorCode.OK) -> bytes:
    """An answer that is only a header: errors, pings, credentials."""
    return _REPLY.pack(_REPLY.size - 4, xid, zxid, error)


def encode_event(event: WatchEvent) -> bytes:
    body = _EVENT.pack(event.type, _STATE_SYNC_CONNECTED) + pack_string(event.path)
    return _REPLY.pack(_REPLY.size - 4 + len(body), XID_WATCH_EVENT, -1, 0) + body


def _result_body(request: Request, result: Result) -> bytes:
    match result:
        case Done() | Failed():
            return b""
        case DataResult():
            return pack_buffer(result.data) + _STAT.pack(*result.stat)
        case StatResult():
            return _STAT.pack(*result.stat)
        case ChildrenResult():
            names = [pack_string(name) for name in result.children]
            body = pack_int(len(names)) + b"".join(names)
            wants_stat = isinstance(request, GetChildren) and request.want_stat
            return body + _STAT.pack(*result.stat) if wants_stat else body
        case Created():
            body = pack_string(result.path)
            wants_stat = isinstance(request, Create) and request.want_stat
            return body + _STAT.pack(*result.stat) if wants_stat else body
        case AclResult():
            entries = [
                pack_int(entry.perms) + pack_string(entry.scheme) + pack_string(entry.id)
                for entry in result.acl
            ]
            return pack_int(len(entries)) + b"".join(entries) + _STAT.pack(*result.stat)
        case SyncResult():
            return pack_string(result.path)
        case MultiResult():
            assert isinstance(request, Multi)
            return _multi_body(request, result)


def _multi_body(request: Multi, result: MultiResult) -> bytes:
    parts: list[bytes] = []
    for op, outcome in zip(request.ops, result.results, strict=True):
        if isinstance(outcome, Failed):
            parts.append(_MULTI_HEADER.pack(OP_ERROR, 0, outcome.error))
            parts.append(pack_int(outcome.error))
        else:
            parts.append(_MULTI_HEADER.pack(_opcode_of(op), 0, 0))
            # As Apache ZooKeeper does it, a create in a multi is answered without a Stat.
            plain = replace(op, want_stat=False) if isinstance(op, Create) else op
            parts.append(_result_body(plain, outcome))
    parts.append(_MULTI_HEADER.pack(OP_ERROR, 1, -1))
    return b"".join(parts)


def _opcode_of(op: MultiOp) -> int:
    match op:
        case Create():
            return OP_CREATE
        case Delete():
            return OP_DELETE
        case SetData():
            return OP_SET_DATA
        case Check():
            return OP_CHECK
