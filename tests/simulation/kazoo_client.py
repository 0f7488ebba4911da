"""A stand-in for kazoo's client, on which the real `zookeeper/session.py` and all above it run.

Requests go in order, each after a delay; answers and watch events come back in order. When the
connection breaks, whatever is unanswered is answered with ConnectionLoss, and whether a request had
arrived by then is a matter of chance. It connects again by itself, in the same session if that
still lives, else (EXPIRED) in a new one.

All of it runs in its process: a process that is held hears nothing, and its session ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    ConnectionLoss,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
)
from kazoo.protocol.states import EventType, KazooState, KeeperState, WatchedEvent, ZnodeStat

from minikafka.zookeeper.embedded import model
from tests.simulation.loop import CURRENT
from tests.simulation.zookeeper import PASSWORD, ZOOKEEPER

if TYPE_CHECKING:
    from tests.simulation.world import World

PING_SHARE = 0.15  # how long ago, in session timeouts, the last ping was answered

_ERRORS = {
    model.ErrorCode.NO_NODE: NoNodeError,
    model.ErrorCode.NODE_EXISTS: NodeExistsError,
    model.ErrorCode.BAD_VERSION: BadVersionError,
    model.ErrorCode.NOT_EMPTY: NotEmptyError,
    model.ErrorCode.SESSION_EXPIRED: SessionExpiredError,
    model.ErrorCode.RUNTIME_INCONSISTENCY: RuntimeInconsistency,
    model.ErrorCode.BAD_ARGUMENTS: BadArgumentsError,
    model.ErrorCode.OK: RolledBackError,
}
_EVENTS = {
    model.EventType.NODE_CREATED: EventType.CREATED,
    model.EventType.NODE_DELETED: EventType.DELETED,
    model.EventType.NODE_DATA_CHANGED: EventType.CHANGED,
    model.EventType.NODE_CHILDREN_CHANGED: EventType.CHILD,
}
_WRITES = (model.Multi, model.Create, model.SetData, model.Delete)


class Result:
    """kazoo's IAsyncResult, as far as it is used."""

    __slots__ = ("_link", "exception", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.exception: Exception | None = None
        self._link: Callable[[Result], None] | None = None

    def rawlink(self, link: Callable[[Result], None]) -> None:
        self._link = link

    def successful(self) -> bool:
        return self.exception is None

    def finish(self, value: Any, exception: Exception | None) -> None:
        self.value, self.exception = value, exception
        if self._link is not None:
            self._link(self)


class Transaction:
    """kazoo's TransactionRequest."""

    def __init__(self, client: KazooStandIn) -> None:
        self._client = client
        self._ops: list[model.MultiOp] = []

    def create(
        self, path: str, value: bytes = b"", ephemeral: bool = False, sequence: bool = False
    ) -> None:
        self._ops.append(model.Create(path, value, flags=ephemeral | sequence << 1))

    def delete(self, path: str, version: int = -1) -> None:
        self._ops.append(model.Delete(path, version))

    def set_data(self, path: str, value: bytes, version: int = -1) -> None:
        self._ops.append(model.SetData(path, value, version))

    def check(self, path: str, version: int) -> None:
        self._ops.append(model.Check(path, version))

    def commit_async(self) -> Result:
        return self._client.send(model.Multi(tuple(self._ops)), _multi_value)


class KazooStandIn:
    """KazooClient, as far as `zookeeper/` uses it."""

    def __init__(
        self, *, hosts: str, timeout: float, handler: Any, connection_retry: Any = None
    ) -> None:
        process = CURRENT.get()
        assert process is not None
        self.process: Any = process
        self.world: World = process.world  # type: ignore[attr-defined]
        self.server = self.world.zookeeper
        self.loop = self.world.loop
        self.handler = handler
        self.timeout_s = timeout
        self.client_id: tuple[int, bytes] | None = None
        self.client_state = KeeperState.CONNECTING
        self.connected = False
        self._listeners: list[Callable[[str], None]] = []
        self._stopped = False
        self._connection = 0  # the number of the connection: raised when one breaks
        self._unanswered: dict[Result, tuple[model.Request, bool]] = {}  # arrived?
        self._last_arrival = self._last_answer = 0.0
        self._lossy = False  # something got lost in a cut link: the connection cannot go on
        self._data_watchers: dict[str, dict[Any, None]] = {}
        self._child_watchers: dict[str, dict[Any, None]] = {}
        process.zookeeper_client = self  # type: ignore[attr-defined]

    # --- what session.py calls -------------------------------------------------------------------

    def add_listener(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    def start_async(self) -> None:
        self._connect_later(self.world.network.delay())

    def stop(self) -> None:
        """Ends the session, if the server can be told."""
        if self.connected and self.client_id is not None and self.reaches_server:
            session_id = self.client_id[0]
            self.server.clients.pop(session_id, None)
            self.server.request(session_id, model.CloseSession())
        self._stopped = True
        self._drop_connection()

    def close(self) -> None:
        pass

    def get_async(self, path: str, watch: Any = None) -> Result:
        return self.send(model.GetData(path, watch is not None), _data_value, watch)

    def exists_async(self, path: str, watch: Any = None) -> Result:
        return self.send(model.Exists(path, watch is not None), _exists_value, watch)

    def get_children_async(self, path: str, watch: Any = None) -> Result:
        return self.send(model.GetChildren(path, watch is not None), _children_value, watch)

    def create_async(
        self,
        path: str,
        value: bytes = b"",
        ephemeral: bool = False,
        sequence: bool = False,
        include_data: bool = False,
    ) -> Result:
        flags = int(ephemeral) | 2 * int(sequence)
        convert = _created_with_stat if include_data else _created_value
        return self.send(model.Create(path, value, flags=flags), convert)

    def set_async(self, path: str, value: bytes, version: int = -1) -> Result:
        return self.send(model.SetData(path, value, version), _stat_value)

    def delete_async(self, path: str, version: int = -1) -> Result:
        return self.send(model.Delete(path, version), _done_value)

    def sync_async(self, path: str) -> Result:
        return self.send(model.Sync(path), _done_value)

    def transaction(self) -> Transaction:
        return Transaction(self)

    # --- requests on their way -------------------------------------------------------------------

    @property
    def reaches_server(self) -> bool:
        return self.world.network.connects(self.process.number, ZOOKEEPER)

    @property
    def pings(self) -> bool:
        """Does the server hear of this client now and then?"""
        return self.connected and self.process.running and self.reaches_server

    def send(
        self, request: model.Request, convert: Callable[[Any], Any], watch: Any = None
    ) -> Result:
        result = Result()
        if not self.connected:
            self.loop.call_soon(result.finish, None, ConnectionLoss())
            return result
        self._unanswered[result] = (request, False)
        self._last_arrival = max(self._last_arrival, self.loop.time() + self.world.network.delay())
        self.loop.call_at(
            self._last_arrival,
            self._arrive,
            self._connection,
            result,
            request,
            convert,
            watch,
            context=self.world.context,
        )
        return result

    def _arrive(
        self,
        connection: int,
        result: Result,
        request: model.Request,
        convert: Callable[[Any], Any],
        watch: Any,
    ) -> None:
        """At the server."""
        if connection != self._connection:
            return
        if not self.reaches_server:
            self._lossy = True
            return
        assert self.client_id is not None
        session_id = self.client_id[0]
        if self.server.clients.get(session_id) is not self:
            return  # the session is over, and the connection closed
        if isinstance(request, _WRITES):
            faults = self.server.faults.get(self.process.number)
            fault = faults.pop(0) if faults else "pass"
            if fault != "pass":
                self.world.tell(
                    f"ZooKeeper's connection with {self.process.name} breaks at a write, "
                    + ("which counts" if fault == "applied" else "which is lost")
                )
                if fault == "applied":
                    self.server.request(session_id, request)
                self._unanswered[result] = (request, True)
                self.break_connection()
                return
        outcome = self.server.request(session_id, request)
        if result in self._unanswered:
            self._unanswered[result] = (request, True)
        self.answer_later(self._on_answer, result, request, outcome.result, convert, watch)

    def answer_later(self, take: Callable[..., None], *args: Any) -> None:
        """To the client, in order, unless the connection breaks first."""
        self._last_answer = max(self._last_answer, self.loop.time() + self.world.network.delay())
        self.loop.call_at(
            self._last_answer,
            self._take,
            self._connection,
            take,
            args,
            context=self.process.context,
        )

    def _take(self, connection: int, take: Callable[..., None], args: tuple[Any, ...]) -> None:
        if connection != self._connection or not self.connected:
            return
        if not self.reaches_server:
            self._lossy = True
            return
        self.handler.last_heard = self.loop.time()
        take(*args)

    def _on_answer(
        self,
        result: Result,
        request: model.Request,
        answer: model.Result,
        convert: Callable[[Any], Any],
        watch: Any,
    ) -> None:
        self._unanswered.pop(result, None)
        failed = isinstance(answer, model.Failed)
        if watch is not None:
            no_node = failed and answer.error == model.ErrorCode.NO_NODE
            if isinstance(request, model.GetChildren):
                if not failed:
                    self._child_watchers.setdefault(request.path, {})[watch] = None
            elif not failed or (isinstance(request, model.Exists) and no_node):
                self._data_watchers.setdefault(request.path, {})[watch] = None
        if failed and not (convert is _exists_value and answer.error == model.ErrorCode.NO_NODE):
            result.finish(None, _ERRORS[answer.error]())
        else:
            result.finish(convert(answer), None)

    def on_event(self, event: model.WatchEvent) -> None:
        tables = [self._data_watchers]
        if event.type is model.EventType.NODE_CHILDREN_CHANGED:
            tables = [self._child_watchers]
        elif event.type is model.EventType.NODE_DELETED:
            tables = [self._data_watchers, self._child_watchers]
        told = WatchedEvent(_EVENTS[event.type], KeeperState.CONNECTED, event.path)
        for table in tables:
            for watcher in table.pop(event.path, ()):
                watcher(told)

    # --- connections -----------------------------------------------------------------------------

    def server_hangs_up(self) -> None:
        """The server ends the connection: the client hears of it a little later."""
        self.note_heard()
        self.loop.call_later(
            self.world.network.delay(), self._broken, self._connection, context=self.process.context
        )

    def note_heard(self) -> None:
        """Up to now it has had answers to its pings, which are not played one by one."""
        if self.connected and self.process.running:
            self.handler.last_heard = max(
                self.handler.last_heard, self.loop.time() - PING_SHARE * self.timeout_s
            )

    def break_connection(self) -> None:
        """The connection breaks now; what is on its way arrives, or does not."""
        if not self.connected:
            return
        self.note_heard()
        chance = self.world.chance
        if self.client_id is not None and self.reaches_server:
            for result, (request, arrived) in self._unanswered.items():
                if not arrived:
                    if chance.random() < 0.5:
                        break  # and nothing after it, either
                    self._unanswered[result] = (request, True)
                    self.server.request(self.client_id[0], request)
        self._detach()
        self.loop.call_later(
            self.world.network.delay(), self._broken, self._connection, context=self.process.context
        )
        self._connection_is_dead()

    def _connection_is_dead(self) -> None:
        """Nothing passes over it any more, though the client does not know yet."""
        self._connection += 1

    def lose_contact(self) -> None:
        """The link was cut: the client finds out when it has heard nothing for a while."""
        if self.connected:
            self.note_heard()
            patience_s = self.timeout_s * (0.2 + 0.5 * self.world.chance.random())
            self.loop.call_later(
                patience_s, self._out_of_patience, self._connection, context=self.process.context
            )

    def _out_of_patience(self, connection: int) -> None:
        if connection == self._connection and (self._lossy or not self.reaches_server):
            self._detach()
            self._broken(connection)

    def _detach(self) -> None:
        if self.client_id is not None:
            session_id = self.client_id[0]
            if self.server.clients.get(session_id) is self:
                del self.server.clients[session_id]
                self.server.tree.detach(session_id)

    def _broken(self, _: int) -> None:
        """The client notices that its connection is gone."""
        if not self.connected or self._stopped:
            return
        self._drop_connection()
        self._tell(KazooState.SUSPENDED)
        unanswered, self._unanswered = self._unanswered, {}
        for result in unanswered:
            result.finish(None, ConnectionLoss())
        self._connect_later(0.02 + 0.3 * self.world.chance.random())

    def _drop_connection(self) -> None:
        self._detach()
        self.connected = False
        self.client_state = KeeperState.CONNECTING
        self._connection += 1
        self._data_watchers.clear()
        self._child_watchers.clear()

    def _connect_later(self, delay_s: float) -> None:
        self.loop.call_later(delay_s, self._connect, context=self.process.context)

    def _connect(self) -> None:
        if self._stopped or self.connected:
            return
        if not self.reaches_server:
            self._connect_later(0.1 + 0.4 * self.world.chance.random())
            return
        now_ms = self.world.now_ms()
        tree, timeout_ms = self.server.tree, int(self.timeout_s * 1000)
        if self.client_id is not None:
            session_id = self.client_id[0]
            if tree.attach(session_id, PASSWORD, timeout_ms, now_ms) is None:
                self.client_id = None
                self.client_state = KeeperState.EXPIRED_SESSION
                self._tell(KazooState.LOST)
                self._connect_later(self.world.network.delay())
                return
        else:
            opened = tree.open_session(timeout_ms, PASSWORD, now_ms)
            self.server.on_written(opened.transaction)
            self.client_id = (opened.session_id, PASSWORD)
            self.process.sessions.append(opened.session_id)
        self.server.clients[self.client_id[0]] = self
        self.connected, self._lossy = True, False
        self.client_state = KeeperState.CONNECTED
        self.handler.last_heard = self.loop.time()
        self._tell(KazooState.CONNECTED)

    def _tell(self, state: str) -> None:
        for listener in self._listeners:
            listener(state)


class HandlerStandIn:
    """session.py's handler of kazoo's threads: here, only when the server was last heard of."""

    def __init__(self, session_timeout_ms: int) -> None:
        process = CURRENT.get()
        assert process is not None
        self.last_heard = process.loop.time()


def stop_at_once(client: KazooStandIn, on_stopped: Callable[[], None]) -> None:
    """Stands in for session.stop_client_in_thread."""
    client.stop()
    client.close()
    on_stopped()


# --- answers, as kazoo gives them ----------------------------------------------------------------


def _stat(stat: model.Stat) -> ZnodeStat:
    return ZnodeStat(*stat)


def _data_value(answer: Any) -> Any:
    return answer.data, _stat(answer.stat)


def _exists_value(answer: Any) -> Any:
    return None if isinstance(answer, model.Failed) else _stat(answer.stat)


def _stat_value(answer: Any) -> Any:
    return _stat(answer.stat)


def _children_value(answer: Any) -> Any:
    return list(answer.children)


def _created_value(answer: Any) -> Any:
    return answer.path


def _created_with_stat(answer: Any) -> Any:
    return answer.path, _stat(answer.stat)


def _done_value(_: Any) -> Any:
    return True


def _multi_value(answer: Any) -> Any:
    values: list[Any] = []
    for result in answer.results:
        if isinstance(result, model.Failed):
            values.append(_ERRORS[result.error]())
        elif isinstance(result, model.Created):
            values.append(result.path)
        elif isinstance(result, model.StatResult):
            values.append(_stat(result.stat))
        else:
            values.append(True)
    return values
