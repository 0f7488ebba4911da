"""One connection of a Kafka client: frames in, requests started in order, answers out in order.

    frame     length (int32), API key, version, correlation id, client id, [tags], body
    answer    length (int32), correlation id, [tags], body

Kafka serves one request of a connection after the other. So does this, with one difference that a
client cannot see but for the time: a produce request need not wait for the answer to the one before
it, so that a producer with several requests in flight does not wait a round of replication for
each. It is in the log before the next frame is looked at; every other request is answered first.

State: `_waiting`, frames not started yet; `_slots`, what is started and not written yet, in order;
`_in_turn`, the request that nobody overtakes. Reading pauses while there are frames waiting, that
is, while anything is in the way of starting them: a full broker (RequestMemory), MAX_OUTSTANDING, a
client that does not read its answers; and while others need the memory that the rest of a half-sent
frame would take (`_stopped`). `_files` sends the answers of which parts are ranges of files; while
it is busy nothing else is written. Invariants: answers leave in the order of the requests; every
range that comes here is released, whatever becomes of the connection.

All that is held here is in the broker's account: `_waiting_bytes` and what the splitter holds as
arriving, each slot from its start to its answer, `_unread_bytes` of answers until they are read.
Ranges of files hold no memory. `_unread_mark` is how much was left to be read, ranges too, and
when, the last time that the client had read.

What cannot be read closes the connection, with one line in the log: the rest of the stream could
mean anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple, Protocol, cast

from minikafka.api.pieces import Piece, release
from minikafka.api.service import BrokerService
from minikafka.kafka.acceptor import Newcomer
from minikafka.kafka.apis import APIS, SASL, Api, ApiKey, find
from minikafka.kafka.frames import FrameSplitter
from minikafka.kafka.sending import FileSender, all_bytes, sends_files
from minikafka.kafka.wire import (
    HEADER,
    INT32,
    LongRequestError,
    MalformedRequestError,
    PacedReader,
    Reader,
)
from minikafka.security.principal import Caller
from minikafka.security.sasl import Exchange, State

log = logging.getLogger(__name__)

MAX_OUTSTANDING = 256
READ_AT_LEAST_BYTES = 64 * 1024  # or it does not count as reading
QUICK_ITEMS = 250  # so many partitions of a produce or a fetch are read at once on the loop

Body = Sequence[Piece]


class Session(Protocol):
    """What a request asks of the connection that it came on. `service` is the broker as this caller
    may use it; `exchange` is how the name was proved by SASL, None if it was not."""

    caller: Caller
    service: BrokerService
    exchange: Exchange | None

    def close(self, reason: str = "") -> None: ...


class Call(NamedTuple):
    """A request before its body is read. `client_host` as Kafka writes it: `/127.0.0.1`. `session`
    is the connection that it came on, `connection_number` tells which connection is the younger."""

    api: ApiKey
    version: int
    correlation_id: int
    client_id: str
    client_host: str
    size_bytes: int
    session: Session
    connection_number: int

    @property
    def listener(self) -> str:
        """The name of the listener that it came through."""
        return self.session.caller.listener


class Door(Protocol):
    """What a connection calls (listener.py). Each answers with a body, or None for no answer."""

    def produce(self, call: Call, reader: Reader) -> Awaitable[Body | None]:
        """The records are appended when this returns. MalformedRequestError, LongRequestError."""

    def produce_long(self, call: Call, reader: PacedReader) -> Awaitable[Body | None]:
        """One of so many partitions that `produce` raised LongRequestError: it is in the log when
        it is answered."""

    def fetch(self, call: Call, reader: Reader) -> Awaitable[Body]: ...
    async def serve(self, call: Call, body: memoryview) -> Body: ...
    def unsupported_version(self) -> Body:
        """The answer to an ApiVersions request of a version that is not served."""

    def has_room(self) -> bool: ...
    def take(self, size_bytes: int) -> None: ...
    def give_back(self, size_bytes: int) -> None: ...
    def wait_for_room(self, connection: Connection) -> None: ...
    def on_arrived(self, connection: Connection, waiting_bytes: int) -> bool:
        """A part of a request has arrived, or one that was waiting was started: `waiting_bytes` are
        what still waits. Whether to read on; if not, `read_on` is called later."""

    def on_unread(self, connection: Connection) -> None:
        """The client does not read its answers as fast as they come."""

    def on_unsendable(self, error: OSError) -> None:
        """Files cannot be sent from where the logs are: they are to be read."""

    def on_closed(self, connection: Connection) -> None: ...
    def count(self, api: ApiKey, duration_s: float) -> None:
        """A request was answered."""


@dataclass(slots=True)
class _Slot:
    """A started request. `answer` is what goes to the socket, None until it is ready."""

    size_bytes: int
    started_s: float
    answer: list[Piece] | None = None


class CloseConnection(Exception):
    """The connection is to be closed without an answer; the message is for the log."""


class Connection(Newcomer):
    """See the module. `number` is above that of every connection that was accepted before."""

    def __init__(
        self,
        door: Door,
        max_request_bytes: int,
        now: Callable[[], float],
        number: int,
        caller: Caller,
        service: BrokerService,
        exchange: Exchange | None = None,
    ) -> None:
        self.caller = caller
        self.service = service
        self.exchange = exchange
        self._door = door
        self._now = now
        self._number = number
        self.splitter = FrameSplitter(max_request_bytes)
        self._transport: asyncio.Transport | None = None
        self._files: FileSender | None = None  # made when it is needed first
        self.can_send_files = False
        self._host = f"/{caller.host}"
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._counted = False
        self._stopped = False
        self._unread_bytes = 0
        self._unread_mark = (0, 0.0)
        self._slots: deque[_Slot] = deque()
        self._tasks: set[asyncio.Future[Body | None]] = set()
        self._in_turn = False
        self._reading = True
        self._writable = True
        self.last_active_s = now()
        self.fetch_sessions: set[int] = set()  # the listener's; they go with the connection

    # --- the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has no such base
        self.can_send_files = sends_files(self._transport)

    def abandon(self) -> None:
        self._door.on_closed(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        self._waiting_bytes = 0
        for task in list(self._tasks):
            task.cancel()
        for slot in self._slots:
            self._door.give_back(slot.size_bytes)
            release(slot.answer or ())
        self._slots.clear()
        if self._files is not None:
            self._files.end()
        self._door.give_back(self._unread_bytes)
        self._unread_bytes = 0
        self._door.on_closed(self)

    def pause_writing(self) -> None:
        self._writable = False
        self._on_unread()

    def _on_unread(self) -> None:
        self._unread_mark = (self._count_unread(), self._now())
        self._door.on_unread(self)

    def resume_writing(self) -> None:
        self._writable = True
        self._count_unread()
        if self._files is not None:
            self._files.on_drained()
        self.advance()

    def _count_unread(self) -> int:
        """What the client has not read of its answers; what of it is in memory counts as under
        way."""
        transport, files = self._transport, self._files
        waits = not self._writable and transport is not None
        before = self._unread_bytes
        self._unread_bytes = transport.get_write_buffer_size() if waits and transport else 0
        left = self._unread_bytes
        if files is not None:
            self._unread_bytes += files.held_bytes
            left += files.left_bytes
        if self._unread_bytes > before:
            self._door.take(self._unread_bytes - before)
        else:
            self._door.give_back(before - self._unread_bytes)
        return left

    def check_unread(self, patience_s: float) -> bool:
        """Whether answers are unread still. The connection is closed if almost nothing of them was
        read for `patience_s`."""
        left, now_s = self._count_unread(), self._now()
        marked, since_s = self._unread_mark
        if left <= marked - READ_AT_LEAST_BYTES or left > marked:
            self._unread_mark = (left, now_s)
        elif left and now_s - since_s > patience_s:
            self.close(f"{left} bytes of answers are unread for {now_s - since_s:.0f} s")
        return left > 0

    def data_received(self, data: bytes) -> None:
        self.last_active_s = self._now()
        try:
            for frame in self.splitter.feed(data):
                self._waiting.append(frame)
                self._waiting_bytes += len(frame)
        except MalformedRequestError as error:
            self.close(str(error))
            return
        self.advance()

    @property
    def host(self) -> str:
        """The address of the client."""
        return self.caller.host

    @property
    def idle(self) -> bool:
        """Nothing is under way for this client."""
        return not self._slots and not self._waiting and not self._sending

    @property
    def _sending(self) -> bool:
        """An answer is under way of which parts are ranges of files."""
        return self._files is not None and self._files.busy

    def close(self, reason: str = "") -> None:
        if self._transport is None:
            if self.establishing is not None:
                self.establishing.cancel()
            return
        if reason:
            log.warning("closing the connection of %s: %s", self._host, reason)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._transport.abort()

    # --- requests ---

    def advance(self) -> None:
        """Start what can be started, and read on if nothing is left waiting."""
        while self._waiting and self._can_start():
            frame = self._waiting.popleft()
            self._waiting_bytes -= len(frame)
            self._start(frame)
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._waiting_bytes or self._counted or self.splitter.size_bytes:
            self._counted = True
            self._stopped = not self._door.on_arrived(self, self._waiting_bytes)
            self._counted = bool(self._waiting_bytes or self.splitter.size_bytes)
        self._read_or_not(transport)

    def read_on(self) -> None:
        """There is room again for what arrives here."""
        self._stopped = False
        if self._transport is not None:
            self._read_or_not(self._transport)

    def _read_or_not(self, transport: asyncio.Transport) -> None:
        read = not self._waiting and not self._stopped
        if read == self._reading or transport.is_closing():
            return
        self._reading = read
        if read:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _can_start(self) -> bool:
        if self._in_turn or not self._writable or len(self._slots) >= MAX_OUTSTANDING:
            return False
        if self._sending:
            return False
        if not self._door.has_room():
            self._door.wait_for_room(self)
            return False
        return True

    def _start(self, frame: memoryview) -> None:
        try:
            reader, api = self._read_header(frame)
        except (MalformedRequestError, CloseConnection) as error:
            self.close(str(error))
            return
        call, served = api
        if self.exchange is not None and (why := _unproved(self.exchange, call.api, self._now())):
            self.close(why)
            return
        slot = _Slot(len(frame), perf_counter())
        self._slots.append(slot)
        self._door.take(slot.size_bytes)
        if served is None:
            self._finish(slot, call, self._door.unsupported_version(), flexible=False)
            return
        flexible = call.version >= served.first_flexible and call.api is not ApiKey.API_VERSIONS
        try:
            if call.api is ApiKey.PRODUCE:
                work, in_turn = self._produce(call, reader)
            elif call.api is ApiKey.FETCH:
                work, in_turn = self._door.fetch(call, reader), True
            else:
                work, in_turn = self._door.serve(call, reader.data[reader.position :]), True
        except MalformedRequestError as error:
            self.close(f"{call.api.name} version {call.version}: {error}")
            return
        self._in_turn = in_turn
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._on_done(done, slot, call, in_turn, flexible))

    def _produce(self, call: Call, reader: Reader) -> tuple[Awaitable[Body | None], bool]:
        """(what gives the answer, whether nobody overtakes it)."""
        start = reader.position
        try:
            return self._door.produce(call, reader), False
        except LongRequestError:
            paced = PacedReader(reader.data, start, flexible=reader.flexible)
            return self._door.produce_long(call, paced), True

    def _read_header(self, frame: memoryview) -> tuple[Reader, tuple[Call, Api | None]]:
        reader = Reader(frame, quick_items=QUICK_ITEMS)
        key, version, correlation_id = reader.unpack(HEADER)
        served = find(key)
        if served is None:
            raise CloseConnection(f"API key {key} is not served")
        api = ApiKey(key)
        known = served.min_version <= version <= served.max_version
        if not known and api is not ApiKey.API_VERSIONS:
            raise CloseConnection(
                f"{api.name} version {version} is not served: "
                f"{served.min_version} to {served.max_version} are"
            )
        client_id = ""
        if known:
            client_id = reader.nullable_string() or ""
            reader.flexible = version >= served.first_flexible
            reader.tags()
        size = len(frame)
        call = Call(api, version, correlation_id, client_id, self._host, size, self, self._number)
        return reader, (call, served if known else None)

    def _on_done(
        self,
        task: asyncio.Future[Body | None],
        slot: _Slot,
        call: Call,
        in_turn: bool,
        flexible: bool,
    ) -> None:
        self._tasks.discard(task)
        if in_turn:
            self._in_turn = False
        if self._transport is None:
            if not task.cancelled() and task.exception() is None:  # seen: nobody is left to tell
                release(task.result() or ())
            return
        if task.cancelled():
            self.close()
            return
        error = task.exception()
        if isinstance(error, MalformedRequestError | CloseConnection):
            self.close(f"{call.api.name} version {call.version}: {error}")
        elif error is not None:
            log.error("%s version %d failed", call.api.name, call.version, exc_info=error)
            self.close(f"{call.api.name} failed unexpectedly")
        else:
            self._finish(slot, call, task.result(), flexible=flexible)

    def _finish(self, slot: _Slot, call: Call, body: Body | None, *, flexible: bool) -> None:
        slot.answer = [] if body is None else framed(call.correlation_id, body, flexible=flexible)
        self.last_active_s = self._now()
        self._door.count(call.api, perf_counter() - slot.started_s)
        self._write_ready()
        if self._waiting:
            self.advance()

    def _write_ready(self) -> None:
        """Write the answers that are next; one with ranges of files keeps those behind it here."""
        transport = self._transport
        assert transport is not None
        ready: list[bytes] = []
        while self._slots and self._slots[0].answer is not None and not self._sending:
            slot = self._slots.popleft()
            self._door.give_back(slot.size_bytes)
            assert slot.answer is not None
            if all_bytes(slot.answer):
                ready += slot.answer
                continue
            if ready:
                transport.writelines(ready)
                ready = []
            if self._files is None:
                self._files = FileSender(transport, self)
            self._files.send(slot.answer)
        if ready:
            transport.writelines(ready)

    # --- what the sender of files calls ---

    def on_sent(self) -> None:
        """What was under way is sent, after a while."""
        self._count_unread()
        self._write_ready()
        self.advance()

    def on_blocked(self) -> None:
        """The client has to read before more can be sent."""
        self._on_unread()

    def on_unsendable(self, error: OSError) -> None:
        self._door.on_unsendable(error)


def _unproved(exchange: Exchange, api: ApiKey, now_s: float) -> str:
    """Why a request is not served though there was a proof; empty if it is. A proof that is not
    good any more can be made again; while that is under way, nothing else comes in between."""
    if exchange.state is State.OPEN:
        if api in SASL or api is ApiKey.API_VERSIONS:
            return ""
        return "its session has expired" if exchange.is_over(int(now_s * 1000)) else ""
    if exchange.state is State.TOKENS and api is ApiKey.SASL_AUTHENTICATE:
        return ""
    return f"{api.name} while its name is not proved"


def framed(correlation_id: int, body: Body, *, flexible: bool) -> list[Piece]:
    """An answer as it goes to the socket. A body begins with bytes."""
    tags = b"\x00" if flexible else b""
    size = INT32.size + len(tags) + sum(map(len, body))
    head = INT32.pack(size) + INT32.pack(correlation_id) + tags
    assert isinstance(body[0], bytes)
    return [head + body[0], *body[1:]]


assert set(APIS) <= set(ApiKey)
