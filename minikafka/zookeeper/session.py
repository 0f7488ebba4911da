"""A ZooKeeper session on an asyncio loop, over kazoo.

kazoo runs threads of its own. All state here belongs to the loop; kazoo's threads only post to it
with call_soon_threadsafe, in order, so a change of the session is always processed before an answer
that came after it.

    CONNECTED ── connection drops ──> SUSPENDED ── same session ──> CONNECTED (RECONNECTED)
                                          │
                                          └── session expired ──> LOST ── new session ──> CONNECTED
                                                                                         (LOST)

ZooKeeper alone can say that a session is gone, and a client that is cut off does not hear it. So
while suspended this counts the time since ZooKeeper was last heard of; past the session timeout it
gives up on everything that waits (SessionLostError), because by then the session may be gone.

Invariants:
- a request is handed to kazoo only while connected (but for the instant in which the connection
  drops), and at most MAX_IN_FLIGHT and BULK at once: kazoo wakes its thread by a byte through a
  socket pair that it does not drain while disconnected; some 280 of them fill it and would block
  this loop;
- every call ends: answered, OutcomeUnknownError, or SessionLostError.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from typing import Any, TypeVar

from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import EventType, KazooState, KeeperState, WatchedEvent, ZnodeStat

from minikafka.broker.ports import SessionLostError
from minikafka.zookeeper.client import (
    CONNECT_FOR_EVER,
    SessionHandler,
    new_client,
    stop_client_in_thread,
    translated,
    unreachable,
)
from minikafka.zookeeper.errors import OutcomeUnknownError

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 128
BULK = 96  # reads that are sent, and answered, as one
NO_SESSION = 0
_CLOSE_TIMEOUT_S = 5.0
_CLOSED = "this ZooKeeper client is closed"

T = TypeVar("T")
Operation = Callable[[KazooClient], Any]
Watcher = Callable[[WatchedEvent], None]


class SessionChange(Enum):
    SUSPENDED = "suspended"
    RECONNECTED = "reconnected"
    LOST = "lost"  # and a new session has begun


class ZooKeeperSession:
    """One session after another with the ensemble `hosts` (`host:port,…`, without a chroot).

    `on_change` is called on the loop for every change after the first connection; it must not
    block. Times in milliseconds.
    """

    def __init__(
        self,
        hosts: str,
        session_timeout_ms: int,
        connection_timeout_ms: int,
        on_change: Callable[[SessionChange], None],
    ) -> None:
        self._hosts = hosts
        self._session_timeout_ms = session_timeout_ms
        self._connection_timeout_ms = connection_timeout_ms
        self._on_change = on_change
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: KazooClient | None = None
        self._handler = SessionHandler(session_timeout_ms)
        self._connected = False
        self._lost = False  # and no new session yet
        self._overdue = False  # suspended for longer than the session timeout
        self._closed = False
        self._last_heard = time.monotonic()  # while not connected
        self._overdue_timer: asyncio.TimerHandle | None = None
        self._session_id = NO_SESSION
        self._previous_session_ids: set[int] = set()
        # In order, so that whoever has waited longest goes on first.
        self._waiting: dict[asyncio.Future[None], None] = {}  # for the connection
        self._in_flight: dict[asyncio.Future[Any], None] = {}  # for an answer
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._bulk_slot = asyncio.Lock()

    # --- state ---

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def session_id(self) -> int:
        """The id of the session that lives or is suspended; NO_SESSION before the first."""
        return self._session_id

    @property
    def session_timeout_ms(self) -> int:
        return self._session_timeout_ms

    def had_session(self, session_id: int) -> bool:
        """Whether that was a session of this object before the present one."""
        return session_id in self._previous_session_ids

    @property
    def client_id(self) -> tuple[int, bytes] | None:
        """What another client needs to take over this session; None while not connected."""
        assert self._client is not None
        client_id: tuple[int, bytes] | None = self._client.client_id
        return client_id

    @property
    def out_of_touch_ms(self) -> int:
        """0 while connected; else the milliseconds since ZooKeeper was last heard of."""
        if self._connected:
            return 0
        return int((time.monotonic() - self._last_heard) * 1000)

    # --- life ---

    async def start(self) -> None:
        """Connect. UsageError if no server can be reached within the connection timeout."""
        self._loop = asyncio.get_running_loop()
        connected: asyncio.Future[None] = self._loop.create_future()
        self._waiting[connected] = None
        try:
            self._client = self._begin_client()
            async with asyncio.timeout(self._connection_timeout_ms / 1000):
                await connected
        except TimeoutError:
            await self.close()
            raise unreachable(
                self._hosts,
                self._connection_timeout_ms,
                "check that it runs, that it has a majority of its servers, and zookeeper.connect",
            ) from None
        finally:
            self._waiting.pop(connected, None)

    def _begin_client(self) -> KazooClient:
        self._handler = SessionHandler(self._session_timeout_ms)
        client = new_client(self._hosts, self._session_timeout_ms, self._handler, CONNECT_FOR_EVER)
        client.add_listener(self._listener(client, self._handler))
        client.start_async()
        return client

    async def close(self) -> None:
        """End the session, and with it its ephemeral nodes, if ZooKeeper can be told in time."""
        if self._closed:
            return
        self._closed = True
        self._connected = False
        self._last_heard = time.monotonic()
        self._cancel_overdue_timer()
        self._fail_all(_CLOSED)
        if self._client is None:
            return
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop_client_in_thread(self._client, lambda: _post(loop, stopped.set))
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await stopped.wait()
        except TimeoutError:
            log.warning("ZooKeeper did not confirm the end of the session in time")

    # --- calls ---

    async def call(self, operation: Operation) -> Any:
        """The answer to one request, for example `lambda client: client.get_async(path)`.

        Waits while out of touch. Raises OutcomeUnknownError if the connection was lost before the
        answer, SessionLostError, ZooKeeperError, or the kazoo error that ZooKeeper answered with.
        """
        async with self._slots:
            await self._in_touch()
            assert self._loop is not None
            answer: asyncio.Future[Any] = self._loop.create_future()
            self._in_flight[answer] = None
            try:
                operation(self._client).rawlink(self._finisher(answer))
                return await answer
            finally:
                self._in_flight.pop(answer, None)

    async def repeat(self, operation: Operation) -> Any:
        """As `call`, for requests that may be sent again: after a lost connection they are."""
        while True:
            try:
                return await self.call(operation)
            except OutcomeUnknownError:
                continue

    async def get(
        self, path: str, watcher: Watcher | None = None
    ) -> tuple[bytes, ZnodeStat] | None:
        """A node; None if it is not there, and then nothing is watched."""
        try:
            found: tuple[bytes, ZnodeStat] = await self.repeat(
                lambda client: client.get_async(path, watch=watcher)
            )
        except NoNodeError:
            return None
        return found

    async def get_many(self, paths: Sequence[str]) -> list[tuple[bytes, ZnodeStat] | None]:
        """As `get` of each, in order, without watches. The loop hears of BULK answers at once, and
        has no task for each."""
        found: list[tuple[bytes, ZnodeStat] | None] = []
        for start in range(0, len(paths), BULK):
            some = paths[start : start + BULK]
            nodes = None
            while nodes is None:
                async with self._bulk_slot:
                    await self._in_touch()
                    nodes = await self._get_bulk(some)
            found += nodes
        return found

    async def _get_bulk(self, paths: Sequence[str]) -> list[tuple[bytes, ZnodeStat] | None] | None:
        """None if the connection was lost before all were answered."""
        loop = self._loop
        assert loop is not None
        answered: asyncio.Future[None] = loop.create_future()
        self._in_flight[answered] = None
        results: dict[int, Any] = {}

        def finish() -> None:
            if not answered.done():  # else it was given up on
                answered.set_result(None)

        def answers_to(number: int) -> Callable[[Any], None]:
            def on_kazoo_thread(result: Any) -> None:
                results[number] = result
                if len(results) == len(paths):
                    _post(loop, finish)

            return on_kazoo_thread

        try:
            for number, path in enumerate(paths):
                assert self._client is not None
                self._client.get_async(path).rawlink(answers_to(number))
            await answered
        finally:
            self._in_flight.pop(answered, None)
        try:
            return [_node_of(results[number]) for number in range(len(paths))]
        except OutcomeUnknownError:
            return None

    async def transact(self, build: Callable[[TransactionRequest], None]) -> list[Any]:
        """Commit one multi, filled by `build`. The list has a result or an error for each of its
        operations: `failure` (fence.py) reads it. Raises as `call`."""

        def commit(client: KazooClient) -> Any:
            transaction = client.transaction()
            build(transaction)
            return transaction.commit_async()

        results: list[Any] = await self.call(commit)
        return results

    async def sync(self) -> None:
        """Make later reads see every write that was committed before now."""
        await self.repeat(lambda client: client.sync_async("/"))

    def watcher(self, notify: Callable[[], None]) -> Watcher:
        """A kazoo watch that calls `notify` on the loop when its node changes (not when the watch
        dies with the connection). Use one and the same for every read of a path: kazoo keeps those
        that wait in a set."""
        loop = self._loop
        assert loop is not None

        def on_event(event: WatchedEvent) -> None:
            if event.type != EventType.NONE:
                _post(loop, notify)

        return on_event

    async def _in_touch(self) -> None:
        while not self._connected:
            if self._closed:
                raise SessionLostError(_CLOSED)
            if self._lost:
                raise SessionLostError(self._why_lost())
            if self._overdue:
                raise SessionLostError(self._why_overdue())
            assert self._loop is not None
            connected: asyncio.Future[None] = self._loop.create_future()
            self._waiting[connected] = None
            try:
                await connected
            finally:
                self._waiting.pop(connected, None)

    def _finisher(self, answer: asyncio.Future[Any]) -> Callable[[Any], None]:
        loop = self._loop
        assert loop is not None

        def finish(result: Any) -> None:
            if answer.done():  # given up on
                return
            if result.successful():
                answer.set_result(result.value)
            else:
                answer.set_exception(translated(result.exception))

        def on_kazoo_thread(result: Any) -> None:
            _post(loop, finish, result)

        return on_kazoo_thread

    # --- changes of the session ---

    def _listener(self, client: KazooClient, handler: SessionHandler) -> Callable[[str], None]:
        loop = self._loop
        assert loop is not None

        def on_kazoo_thread(state: str) -> None:
            # Read here, on the thread that changes it: later it may be of the next session.
            client_id = client.client_id
            session_id = client_id[0] if client_id else NO_SESSION
            _post(loop, self._on_kazoo_state, client, state, session_id, handler.last_heard)

        return on_kazoo_thread

    def _on_kazoo_state(
        self, client: KazooClient, state: str, session_id: int, last_heard: float
    ) -> None:
        if self._closed or client is not self._client:
            return
        if state == KazooState.CONNECTED:
            self._on_connected(session_id)
        elif state == KazooState.SUSPENDED:
            self._on_suspended(last_heard)
        else:
            assert state == KazooState.LOST, state
            self._on_lost(client, last_heard)

    def _on_connected(self, session_id: int) -> None:
        is_first = self._session_id == NO_SESSION
        is_new = session_id != self._session_id
        if is_new and not is_first:
            self._previous_session_ids.add(self._session_id)
            if not self._lost:  # kazoo says LOST before; make sure that nothing old waits
                self._fail_all(self._why_lost())
        self._session_id = session_id
        self._connected, self._lost, self._overdue = True, False, False
        self._cancel_overdue_timer()
        for connected in self._waiting:
            if not connected.done():
                connected.set_result(None)
        if not is_first:
            self._on_change(SessionChange.LOST if is_new else SessionChange.RECONNECTED)

    def _on_suspended(self, last_heard: float) -> None:
        assert self._loop is not None
        self._connected = False
        self._last_heard = last_heard
        self._cancel_overdue_timer()
        remaining_s = last_heard + self._session_timeout_ms / 1000 - time.monotonic()
        self._overdue_timer = self._loop.call_later(max(0.0, remaining_s), self._on_overdue)
        self._on_change(SessionChange.SUSPENDED)

    def _on_overdue(self) -> None:
        self._overdue = True
        self._fail_all(self._why_overdue())

    def _on_lost(self, client: KazooClient, last_heard: float) -> None:
        if self._session_id == NO_SESSION:
            return
        if self._connected:
            self._connected = False
            self._last_heard = last_heard
        self._lost = True
        self._cancel_overdue_timer()
        self._fail_all(self._why_lost())
        if client.client_state == KeeperState.CLOSED:
            # Its loop has died of something that it did not expect, for instance of an answer that
            # it could not read, and would never connect again.
            log.error("the ZooKeeper connection has failed beyond repair: beginning a new one")
            stop_client_in_thread(client, lambda: None)
            self._client = self._begin_client()

    def _cancel_overdue_timer(self) -> None:
        if self._overdue_timer is not None:
            self._overdue_timer.cancel()
            self._overdue_timer = None

    def _fail_all(self, why: str) -> None:
        for future in [*self._waiting, *self._in_flight]:
            if not future.done():
                future.set_exception(SessionLostError(why))

    def _why_lost(self) -> str:
        return f"the ZooKeeper session {self._session_id:#x} has expired"

    def _why_overdue(self) -> str:
        return (
            f"ZooKeeper ({self._hosts}) has not been heard of for {self.out_of_touch_ms} ms, "
            f"and the session lasts {self._session_timeout_ms} ms"
        )


def _node_of(result: Any) -> tuple[bytes, ZnodeStat] | None:
    """Of one answer to a read; None: it is not there. Raises as `call`."""
    if result.successful():
        node: tuple[bytes, ZnodeStat] = result.value
        return node
    if isinstance(result.exception, NoNodeError):
        return None
    raise translated(result.exception)


async def gather_all(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in order. If some fail, the first error, but not before all have ended."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]


def _post(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        # The loop is closed: nobody is left to be told. kazoo's daemon threads may outlive it.
        if not loop.is_closed():
            raise
