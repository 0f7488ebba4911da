"""The Kafka door: its listeners, their connections, what these have in common, and when they end.

State: the listeners, the open connections, which are numbered as they are accepted, the fetch
sessions, the memory of unanswered requests (shared with the other doors), and the connections that
wait for room in it. A connection on which nothing happened for connections.max.idle.ms is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count as count_from
from time import monotonic

from minikafka.api.features import Features
from minikafka.api.requests import FetchRequest, FetchResult, ProduceRequest, ProduceResult
from minikafka.api.service import BrokerService
from minikafka.broker.counters import RequestCounters
from minikafka.broker.request_memory import RequestMemory
from minikafka.errors import MinikafkaError
from minikafka.kafka import api_versions, fetch, messages, produce
from minikafka.kafka.acceptor import Acceptor, ServedListener
from minikafka.kafka.admission import Admission, ConnectionLimits
from minikafka.kafka.apis import APIS, SASL, ApiKey
from minikafka.kafka.arriving import Arriving
from minikafka.kafka.authenticating import Unproved, answer_sasl
from minikafka.kafka.connection import Body, Call, CloseConnection, Connection
from minikafka.kafka.encoding import LongAnswerError
from minikafka.kafka.fetch import MAX_PARTITIONS, KafkaFetch
from minikafka.kafka.fetch_sessions import FetchSessions
from minikafka.kafka.handlers.cluster import HANDLERS
from minikafka.kafka.handlers.handler import Handler, RequestT
from minikafka.kafka.lobby import Lobby
from minikafka.kafka.reach import Reachable, reachable
from minikafka.kafka.wire import (
    LongRequestError,
    MalformedRequestError,
    PacedReader,
    Reader,
)
from minikafka.model import TopicPartition
from minikafka.security.principal import ANONYMOUS, Caller
from minikafka.security.sasl import Exchange, State
from minikafka.turns import aside, next_turn

log = logging.getLogger(__name__)

# Of records together, where files are sent at all; fewer are read as cheaply. They are not, by
# default: what it saves here it costs a client on the same machine (docs/decisions/0027).
SEND_FILES_FROM_BYTES = 64 * 1024
READING_PATIENCE_S = 10.0  # with a client that reads nothing, when memory is scarce
QUICK_ITEMS = 2_000  # so many items of a request are read at once on the loop
_LONG_AT_ONCE = 2  # what is read of a long request takes some hundred times its bytes
_PARTITIONS_IN_A_TURN = 100

# What becomes of some partitions of a produce request, and those that are refused already.
_Started = tuple[Awaitable[Sequence[ProduceResult]] | None, dict[TopicPartition, MinikafkaError]]

# As Kafka names requests in its metrics: ListOffsets, ApiVersions; followers fetch over gRPC.
_KINDS = {api: "".join(part.capitalize() for part in api.name.split("_")) for api in ApiKey}
_KINDS[ApiKey.FETCH] = "FetchConsumer"


class KafkaServer:
    """Implements connection.Door, and authenticating.LobbyService, over a BrokerService.
    `service_for(caller)` is the broker as that caller may use it; without it everybody may do
    everything."""

    def __init__(
        self,
        service: BrokerService,
        memory: RequestMemory,
        *,
        max_request_bytes: int,
        max_idle_ms: int,
        max_fetch_sessions: int,
        counters: RequestCounters | None = None,
        limits: ConnectionLimits | None = None,
        send_files_from_bytes: int | None = None,
        features: Callable[[], Features | None] = lambda: None,
        service_for: Callable[[Caller], BrokerService] | None = None,
        failure_delay_ms: int = 100,
    ) -> None:
        self._service = service
        self._service_for = service_for or (lambda caller: service)
        self._memory = memory
        self._max_request_bytes = max_request_bytes
        self._max_idle_s = max_idle_ms / 1000
        self._counters = counters or RequestCounters()
        self._sessions = FetchSessions(max_fetch_sessions)
        self._arriving = Arriving(memory, monotonic)
        self._numbers = count_from(1)
        self._unread: dict[Connection, None] = {}
        self._admission: Admission[Connection | Unproved]
        self._admission = Admission(limits or ConnectionLimits(), monotonic)
        self._failure_delay_s = failure_delay_ms / 1000
        self._lobby = Lobby(self._failure_delay_s)
        self._acceptors: list[Acceptor] = []
        self._reaper: asyncio.TimerHandle | None = None
        self._reaped_s = 0.0
        self._loading: asyncio.Future[None] | None = None
        self._send_files_from_bytes = send_files_from_bytes  # None: never
        self._features = features  # of the cluster, as of now; None: not known
        self._long = asyncio.Semaphore(_LONG_AT_ONCE)
        self._telling: set[asyncio.Future[Body | None]] = set()

    # --- life ---

    async def start(
        self, listeners: Sequence[ServedListener], *, serving: bool = True
    ) -> dict[str, int]:
        """Take the ports, and return them by the listeners' names: free ones for port 0.
        Connections are refused until it is `serving` (see start_serving). PortTakenError, or
        UsageError if a host is not this machine's."""
        ports: dict[str, int] = {}
        for each in listeners:
            acceptor = Acceptor(each, self._begin)
            ports[each.name] = await acceptor.bind()
            self._acceptors.append(acceptor)
        self._arm_reaper()
        if serving:
            await self.start_serving()
        return ports

    async def start_serving(self) -> None:
        """Take connections from now on. PortTakenError if another process was quicker to listen.

        To be called once the broker knows the cluster: before that it would deny topics that there
        are, and a client that hears so may give them up; refused, it asks another broker."""
        assert self._acceptors, "start comes first"
        for each in self._acceptors:
            each.listen()

    @property
    def connection_count(self) -> int:
        return len(self._admission)

    async def stop(self) -> None:
        """Take no more connections and close those that are there. Idempotent."""
        acceptors, self._acceptors = self._acceptors, []
        for each in acceptors:
            await each.close()
        if self._reaper is not None:
            self._reaper.cancel()
        for connection in self._admission:
            connection.close()

    def _begin(self, listener: ServedListener, host: str) -> Connection | Unproved | None:
        """A connection from this address, if it may come in."""
        if self._loading is None:
            self._loading = asyncio.get_running_loop().run_in_executor(None, messages.load)
        newcomer: Connection | Unproved | None
        if listener.mechanisms is None and listener.name_of is None:
            newcomer = self._connection(Caller(ANONYMOUS, host, listener.name), next(self._numbers))
        else:
            newcomer = self._lobby.begin(self, listener, host, next(self._numbers))
        if newcomer is None or self._admission.admit(newcomer):
            return newcomer
        newcomer.abandon()
        return None

    def _connection(
        self, caller: Caller, number: int, exchange: Exchange | None = None
    ) -> Connection:
        service = self._service_for(caller)
        return Connection(
            self, self._max_request_bytes, monotonic, number, caller, service, exchange
        )

    def _arm_reaper(self) -> None:
        loop = asyncio.get_running_loop()
        self._reaper = loop.call_later(min(max(self._max_idle_s / 4, 0.01), 1.0), self._reap)

    def _reap(self) -> None:
        """About every second: those that others wait for. The idle ones less often."""
        self._arriving.check()
        patience_s = READING_PATIENCE_S if self._memory.scarce else self._max_idle_s
        for connection in list(self._unread):
            if not connection.check_unread(patience_s):
                self._unread.pop(connection, None)
        now_s = monotonic()
        if now_s - self._reaped_s < self._max_idle_s / 4:
            self._arm_reaper()
            return
        self._reaped_s = now_s
        for each in self._admission:
            if each.idle and now_s - each.last_active_s > self._max_idle_s:
                each.close()
        self._arm_reaper()

    # --- what those without a name call ---

    @property
    def cluster_features(self) -> Features | None:
        return self._features()

    def open(self, newcomer: Unproved, caller: Caller, exchange: Exchange | None) -> Connection:
        self._lobby.leave(newcomer)
        connection = self._connection(caller, newcomer.number, exchange)
        self._admission.replace(newcomer, connection)
        return connection

    def on_failed(self, newcomer: Unproved, reason: str) -> float:
        return self._lobby.on_failed(newcomer, reason)

    def on_lost(self, newcomer: Unproved) -> None:
        self._lobby.leave(newcomer)
        self._admission.leave(newcomer)

    # --- what connections call ---

    def has_room(self) -> bool:
        return self._memory.has_room

    def take(self, size_bytes: int) -> None:
        self._memory.take(size_bytes)

    def give_back(self, size_bytes: int) -> None:
        self._memory.give_back(size_bytes)

    def wait_for_room(self, connection: Connection) -> None:
        self._memory.call_when_room(connection.advance)

    def on_arrived(self, connection: Connection, waiting_bytes: int) -> bool:
        return self._arriving.on_part(connection, waiting_bytes)

    def on_unread(self, connection: Connection) -> None:
        self._unread[connection] = None

    def on_unsendable(self, error: OSError) -> None:
        if self._send_files_from_bytes is not None:
            log.warning("files of the logs cannot be sent, and are read from now on: %s", error)
            self._send_files_from_bytes = None

    def on_closed(self, connection: Connection) -> None:
        self._arriving.forget(connection)
        self._unread.pop(connection, None)
        self._admission.leave(connection)
        for session_id in connection.fetch_sessions:
            self._sessions.close(session_id)

    def count(self, api: ApiKey, duration_s: float) -> None:
        self._counters.add(_KINDS[api], duration_s)

    def unsupported_version(self) -> Body:
        """Of ApiVersions: the client comes back with one that is served."""
        return [api_versions.write_unsupported()]

    async def serve(self, call: Call, body: memoryview) -> Body:
        """Any request but produce and fetch."""
        if call.api is ApiKey.API_VERSIONS:
            return [api_versions.write_response(call.version, features=self._features())]
        if call.api in SASL:
            return self._serve_sasl(call, body)
        if self._loading is not None and not self._loading.done():
            await asyncio.shield(self._loading)
        handler = HANDLERS[call.api]
        form = handler.request
        try:
            request = messages.read(call.api, call.version, body, form, QUICK_ITEMS)
        except LongRequestError:
            async with self._long:
                request = await aside(messages.read_paced, call.api, call.version, body, form)
                return await self._handle(call, handler, request)
        return await self._handle(call, handler, request)

    def _serve_sasl(self, call: Call, body: memoryview) -> Body:
        """Of one who has a name, and proves it again; or need not."""
        exchange = call.session.exchange or Exchange({}).opened()
        reader = Reader(body, flexible=call.version >= APIS[call.api].first_flexible)
        answer = answer_sasl(exchange, call.api, call.version, reader)
        if exchange.state is State.FAILED:
            loop = asyncio.get_running_loop()
            loop.call_later(self._failure_delay_s, call.session.close, exchange.reason)
        if answer is None:
            raise CloseConnection(exchange.reason)
        return [answer]

    async def _handle(self, call: Call, handler: Handler[RequestT], request: RequestT) -> Body:
        values = await handler.answer(call.session.service, call, request)
        try:
            return [messages.write(call.api, call.version, values)]
        except LongAnswerError:
            return [await aside(messages.write_paced, call.api, call.version, values)]

    # --- produce ---

    def produce(self, call: Call, reader: Reader) -> Awaitable[Body | None]:
        request = produce.read_request(reader, call.version, call.session)
        started, refused = self._start_produce(call, request)
        if type(started) is not asyncio.Future or refused:
            return self._answer_produce(call, request.acks, [(started, refused)])
        # Nearly always: all is in the log, and the acks are waited for. That takes no task.
        answer: asyncio.Future[Body | None] = started.get_loop().create_future()
        started.add_done_callback(partial(self._on_produced, answer, call, request.acks))
        return answer

    async def produce_long(self, call: Call, reader: PacedReader) -> Body | None:
        """A few partitions in a turn of the loop: each is an append."""
        async with self._long:
            request = await aside(produce.read_request, reader, call.version, call.session)
            if len(request.partitions) > MAX_PARTITIONS:
                raise MalformedRequestError(
                    f"a produce request for {len(request.partitions)} partitions: "
                    f"{MAX_PARTITIONS} may be in one"
                )
            started = []
            for start in range(0, len(request.partitions), _PARTITIONS_IN_A_TURN):
                some = request.partitions[start : start + _PARTITIONS_IN_A_TURN]
                part = replace(request, partitions=some)
                started.append(self._start_produce(call, part))
                await next_turn()
            return await self._answer_produce(call, request.acks, started)

    def _start_produce(self, call: Call, request: ProduceRequest) -> _Started:
        refused = {
            item.topic_partition: error
            for item in request.partitions
            if (error := produce.refusal(memoryview(item.records), call.version)) is not None
        }
        if refused:
            request.partitions = [
                item for item in request.partitions if item.topic_partition not in refused
            ]
        try:
            return call.session.service.produce(request), refused
        except MinikafkaError as error:
            return None, refused | {item.topic_partition: error for item in request.partitions}

    async def _answer_produce(
        self,
        call: Call,
        acks: int,
        started: Sequence[_Started],
    ) -> Body | None:
        results: list[ProduceResult] = []
        for appended, refused in started:
            results += [] if appended is None else await appended
            results += [ProduceResult(tp, error) for tp, error in refused.items()]
        named = produce.leaders_named(results, call.version)
        leaders = await self._reachable(call, named) if named else None
        return self._produced(call, acks, results, leaders)

    def _on_produced(
        self,
        answer: asyncio.Future[Body | None],
        call: Call,
        acks: int,
        started: asyncio.Future[Sequence[ProduceResult]],
    ) -> None:
        if answer.done():  # the client is gone
            return
        try:
            results = started.result()
            if produce.leaders_named(results, call.version):
                self._tell_leaders(answer, call, acks, started)
            else:
                answer.set_result(self._produced(call, acks, results))
        except asyncio.CancelledError:
            answer.cancel()
        except Exception as error:
            answer.set_exception(error)

    def _tell_leaders(
        self,
        answer: asyncio.Future[Body | None],
        call: Call,
        acks: int,
        started: asyncio.Future[Sequence[ProduceResult]],
    ) -> None:
        """The same answer, with where the leaders are."""
        told = asyncio.ensure_future(self._answer_produce(call, acks, [(started, {})]))
        self._telling.add(told)

        def on_told(told: asyncio.Future[Body | None]) -> None:
            self._telling.discard(told)
            if answer.done():  # the client is gone
                return
            if told.cancelled():
                answer.cancel()
            elif (error := told.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(told.result())

        told.add_done_callback(on_told)

    async def _reachable(self, call: Call, broker_ids: set[int]) -> dict[int, Reachable]:
        """Those of them that this client can reach."""
        found = await self._service.metadata([], False)
        named = (broker for broker in found.brokers if broker.broker_id in broker_ids)
        return reachable(named, call.listener)

    @staticmethod
    def _produced(
        call: Call,
        acks: int,
        results: Sequence[ProduceResult],
        leaders: Mapping[int, Reachable] | None = None,
    ) -> Body | None:
        if acks != 0:
            return [b"".join(produce.write_response(results, call.version, leaders))]
        failed = next((result for result in results if result.error is not None), None)
        if failed is not None:
            # The only way to make a producer notice that does not ask for an answer.
            raise CloseConnection(f"produce with acks=0 failed: {failed.error}")
        return None

    # --- fetch ---

    async def _fetch(self, connection: Connection, call: Call, asked: KafkaFetch) -> Body:
        if asked.refused is not None:
            refused = [
                FetchResult(each.topic_partition, asked.refused) for each in asked.partitions
            ]
            return fetch.write_response(refused, call.version)
        try:
            session, full = self._sessions.take(asked, connection.caller.principal)
        except MinikafkaError as error:
            return fetch.write_response([], call.version, error_code=error.code)
        session_id = 0
        partitions = asked.partitions
        if session is not None:
            session_id = session.session_id
            connection.fetch_sessions.add(session_id)
            partitions = list(session.partitions.values())
        lend_from_bytes = self._send_files_from_bytes if connection.can_send_files else None
        request = FetchRequest(
            asked.max_wait_ms,
            asked.min_bytes,
            asked.max_bytes,
            partitions,
            lend_from_bytes,
            asked.read_committed,
        )
        results = await self._results(connection.service, request)
        if session is not None:
            results = session.select(results, full=full)
        return fetch.write_response(results, call.version, session_id=session_id)

    @staticmethod
    async def _results(service: BrokerService, request: FetchRequest) -> Sequence[FetchResult]:
        try:
            return await service.fetch(request)
        except MinikafkaError as error:
            return [FetchResult(item.topic_partition, error) for item in request.partitions]

    def fetch(self, call: Call, reader: Reader) -> Awaitable[Body]:
        connection = call.session
        assert isinstance(connection, Connection)
        start = reader.position
        try:
            asked = fetch.read_request(reader, call.version)
        except LongRequestError:
            paced = PacedReader(reader.data, start, flexible=reader.flexible)
            return self._fetch_long(connection, call, paced)
        return self._fetch(connection, call, asked)

    async def _fetch_long(self, connection: Connection, call: Call, reader: PacedReader) -> Body:
        async with self._long:
            asked = await aside(fetch.read_request, reader, call.version)
        return await self._fetch(connection, call, asked)
