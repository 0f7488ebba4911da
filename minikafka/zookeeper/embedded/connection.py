"""One client connection: frames in, answers out, strictly in order.

State: NEW until the first frame, OPEN while it carries a session, CLOSED afterwards. Everything
to be sent waits in `_held`, each with the zxid of the newest transaction that it may reveal, and
leaves when that transaction is durable. So nobody is ever told of something that a crash could
take back, watch events keep their place among the answers, and a client reads its own writes.

Both directions are bounded: a connection with too much in `_held`, or whose peer does not read,
is not read from until that has changed; a peer that reads nothing at all while its watches go on
firing is disconnected.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol, cast

from minikafka.zookeeper.embedded import wire
from minikafka.zookeeper.embedded.jute import Malformed
from minikafka.zookeeper.embedded.model import (
    AuthId,
    CloseSession,
    ErrorCode,
    Request,
    Transaction,
    WatchEvent,
)
from minikafka.zookeeper.embedded.tree import Tree
from minikafka.zookeeper.embedded.words import WORDS, ConnectionInfo, Counters

log = logging.getLogger("minikafka.zookeeper.embedded")

_MAX_HELD_MESSAGES = 4096
_MAX_HELD_BYTES = 4 * 1024 * 1024
_MAX_UNREAD_BYTES = 32 * 1024 * 1024
_FIRST_FRAME_DEADLINE_S = 30.0
_REFUSAL_DELAY_S = 0.1


class _State(enum.Enum):
    NEW = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class _Held(NamedTuple):
    """A message that waits until `zxid` is durable. `arrived_s` is None for watch events."""

    zxid: int
    message: bytes
    arrived_s: float | None


class Shared(Protocol):
    """What all connections share (the server): the tree, and what becomes of its changes."""

    tree: Tree
    counters: Counters
    connections: set[Connection]
    loop: asyncio.AbstractEventLoop

    def now_ms(self) -> int: ...
    def new_password(self) -> bytes: ...
    def answer_word(self, word: bytes) -> bytes: ...
    def commit(self, txn: Transaction, events: Iterable[WatchEvent]) -> None:
        """Send an applied transaction on its way to the disk, and its events to their sessions."""

    def deliver(self, events: Iterable[WatchEvent]) -> None: ...
    def on_session_attached(self, connection: Connection) -> None: ...
    def on_session_closed(self, connection: Connection) -> None: ...
    def on_connection_lost(self, connection: Connection) -> None: ...
    def on_message_held(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """The protocol side of one TCP connection."""

    def __init__(self, server: Shared, max_frame_bytes: int) -> None:
        self._server = server
        self._state = _State.NEW
        self._frames = wire.FrameBuffer(max_frame_bytes)
        self._held: deque[_Held] = deque()
        self._held_bytes = 0
        self._listens = True  # False once nothing more that the client says matters
        self._close_when_sent = False
        self._reading = True
        self._peer_reads = True
        self._received = 0
        self._sent = 0
        self.session_id = 0
        self.timeout_ms = 0

    # --- the transport's side --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername") or ("?", 0)
        self._host = str(peer[0])
        self.peer = f"{peer[0]}:{peer[1]}"
        self._server.connections.add(self)
        loop = self._server.loop
        self._first_frame_timer = loop.call_later(_FIRST_FRAME_DEADLINE_S, self._on_silence)

    def _on_silence(self) -> None:
        if self._state is _State.NEW:
            self.abort("has not sent anything")

    def data_received(self, data: bytes) -> None:
        if self._listens:
            self._frames.feed(data)
            self._process()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = _State.CLOSED
        self._first_frame_timer.cancel()
        self._held.clear()
        self._server.on_connection_lost(self)

    def pause_writing(self) -> None:
        self._peer_reads = False
        self._stop_reading()

    def resume_writing(self) -> None:
        self._peer_reads = True
        self._maybe_read_on()

    # --- requests --------------------------------------------------------------------------------

    def _process(self) -> None:
        try:
            while self._reading and self._listens and self._state is not _State.CLOSED:
                if self._state is _State.NEW and self._answer_word():
                    return
                frame = self._frames.next_frame()
                if frame is None:
                    return
                self._received += 1
                self._server.counters.received += 1
                if self._state is _State.NEW:
                    self._on_connect(wire.decode_connect(frame))
                else:
                    self._on_frame(frame)
                if self._holds_more_than(_MAX_HELD_MESSAGES, _MAX_HELD_BYTES):
                    self._stop_reading()
        except Malformed as error:
            self.abort(f"sent what is not the protocol: {error}")

    def _answer_word(self) -> bool:
        word = self._frames.peek_word()
        if word not in WORDS:
            return False
        self._state = _State.CLOSED
        self._transport.write(self._server.answer_word(word))
        self._transport.close()
        return True

    def _on_connect(self, request: wire.ConnectRequest) -> None:
        server, tree, now_ms = self._server, self._server.tree, self._server.now_ms()
        if request.last_zxid_seen > tree.last_zxid:
            self.abort(
                f"has seen zxid {request.last_zxid_seen:#x}, but here the last is "
                f"{tree.last_zxid:#x}: it knows another server"
            )
            return
        session_id, password = request.session_id, request.password
        if session_id == 0:
            password = server.new_password()
            opened = tree.open_session(request.timeout_ms, password, now_ms)
            server.commit(opened.transaction, ())
            session_id = opened.session_id
        session = tree.attach(
            session_id, password, request.timeout_ms, now_ms, (AuthId("ip", self._host),)
        )
        arrived_s = time.monotonic()
        if session is None:
            self._close_after_this()
            self._send(wire.encode_session_expired(request.knows_read_only), arrived_s)
            return
        self._state = _State.OPEN
        self.session_id, self.timeout_ms = session_id, session.timeout_ms
        server.on_session_attached(self)
        response = wire.encode_connected(
            session.timeout_ms, session_id, password, request.knows_read_only
        )
        self._send(response, arrived_s)

    def _on_frame(self, frame: bytes) -> None:
        arrived_s = time.monotonic()
        xid, opcode = wire.decode_header(frame)
        server, tree = self._server, self._server.tree
        if opcode == wire.OP_PING:
            tree.touch(self.session_id, server.now_ms())
            self._send(wire.encode_header(wire.XID_PING, tree.last_zxid), arrived_s)
            return
        if opcode == wire.OP_AUTH:
            self._on_credentials(xid, wire.decode_credentials(frame), arrived_s)
            return
        if opcode == wire.OP_SASL:
            # Clients take a lost connection, and nothing else, for a failed exchange. It is lost
            # only after a moment, so that one which tries again and again does not spin.
            self._listens = False
            why = "wants SASL, which this server does not have"
            server.loop.call_later(_REFUSAL_DELAY_S, self.abort, why)
            return
        try:
            request = wire.decode_request(opcode, frame)
        except Malformed as error:
            log.warning("client %s: request %d cannot be read: %s", self.peer, opcode, error)
            tree.touch(self.session_id, server.now_ms())
            error_reply = wire.encode_header(xid, tree.last_zxid, ErrorCode.MARSHALLING_ERROR)
            self._send(error_reply, arrived_s)
            return
        self._on_request(xid, request, arrived_s)

    def _on_request(self, xid: int, request: Request, arrived_s: float) -> None:
        server = self._server
        outcome = server.tree.request(self.session_id, request, server.now_ms())
        if outcome.transaction is not None:
            server.commit(outcome.transaction, outcome.events)
        else:
            server.deliver(outcome.events)
        if isinstance(request, CloseSession):
            self._close_after_this()
            server.on_session_closed(self)
        reply = wire.encode_reply(xid, server.tree.last_zxid, request, outcome.result)
        self._send(reply, arrived_s)

    def _on_credentials(self, xid: int, credentials: wire.Credentials, arrived_s: float) -> None:
        tree = self._server.tree
        tree.touch(self.session_id, self._server.now_ms())
        known = tree.authenticate(self.session_id, credentials.scheme, credentials.credential)
        if not known:
            log.warning("client %s: cannot prove itself by %r", self.peer, credentials.scheme)
            self._close_after_this()
        error = ErrorCode.OK if known else ErrorCode.AUTH_FAILED
        self._send(wire.encode_header(xid, tree.last_zxid, error), arrived_s)

    # --- answers ---------------------------------------------------------------------------------

    def _close_after_this(self) -> None:
        """What is sent next is the last that the client gets."""
        self._listens = False
        self._close_when_sent = True

    def send_event(self, event: WatchEvent) -> None:
        self._send(wire.encode_event(event), None)

    def _send(self, message: bytes, arrived_s: float | None) -> None:
        if self._state is _State.CLOSED:
            return
        self._held_bytes += len(message)
        self._held.append(_Held(self._server.tree.last_zxid, message, arrived_s))
        self._server.on_message_held(self)

    def release(self, durable_zxid: int) -> bool:
        """Send what may be told by now. Returns whether nothing is held any more."""
        held = self._held
        ready: list[bytes] = []
        now_s = time.monotonic()
        while held and held[0].zxid <= durable_zxid:
            _, message, arrived_s = held.popleft()
            ready.append(message)
            self._held_bytes -= len(message)
            if arrived_s is not None:
                self._server.counters.on_answer((now_s - arrived_s) * 1000.0)
        if ready and self._state is not _State.CLOSED:
            self._sent += len(ready)
            self._server.counters.sent += len(ready)
            self._transport.write(b"".join(ready))
            if self._transport.get_write_buffer_size() > _MAX_UNREAD_BYTES:
                self.abort("does not read what it is sent")
        if not held and self._close_when_sent:
            self._transport.close()
        self._maybe_read_on()
        return not held

    def abort(self, why: str) -> None:
        """Disconnect at once; what was not sent is dropped."""
        if self._state is not _State.CLOSED:
            log.warning("client %s (session %#x) %s: disconnected", self.peer, self.session_id, why)
            self.drop()

    def drop(self) -> None:
        """Disconnect without a word."""
        self._state = _State.CLOSED
        self._held.clear()
        self._transport.abort()

    def _stop_reading(self) -> None:
        if self._reading and not self._is_ending():
            self._reading = False
            self._transport.pause_reading()

    def _is_ending(self) -> bool:
        return self._state is _State.CLOSED or self._transport.is_closing()

    def _holds_more_than(self, messages: int, size_bytes: int) -> bool:
        return len(self._held) > messages or self._held_bytes > size_bytes

    def _maybe_read_on(self) -> None:
        if self._reading or not (self._peer_reads and self._listens) or self._is_ending():
            return
        if self._holds_more_than(_MAX_HELD_MESSAGES // 2, _MAX_HELD_BYTES // 2):
            return
        self._reading = True
        self._transport.resume_reading()
        # Whole frames may have been left in the buffer. Not from here: we may be in `release`.
        self._server.loop.call_soon(self._process)

    def info(self) -> ConnectionInfo:
        return ConnectionInfo(
            self.peer, self.session_id, self._received, self._sent, len(self._held), self.timeout_ms
        )
