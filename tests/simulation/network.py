"""The network of the simulation: the port `Peers`, and the calls of clients, over messages.

A call is an `Exchange`: a request on its way, its handling at the target (a task of the target's
process), an answer on its way back. Each message takes its time; any of these may befall it:

- the link is cut, one way or both: the message is lost, and the caller learns it after a while;
- the connection breaks: the caller gets NetworkError, and the request was handled, or was not, or
  will be handled late (it lay in a buffer);
- a request of a control call is delivered a second time, later.

A target that is held (SIGSTOP) takes requests when it goes on; one that is not there refuses. When
a caller gives up, or ends, the handling is cancelled if the target can be told, as gRPC does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from minikafka.api.requests import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    ControllerRequest,
    ControllerResponse,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.api.transactions import (
    CheckPartitionsRequest,
    CheckPartitionsResult,
    WriteMarkersRequest,
    WriteMarkersResult,
)
from minikafka.broker.service import Service
from minikafka.errors import MinikafkaError, NetworkError, UnknownServerError
from minikafka.model import BrokerInfo

if TYPE_CHECKING:
    from tests.simulation.world import BrokerProcess, World

Serve = Callable[[Service], Awaitable[Any]]

STREAM_MARGIN_MS = 2_000
FAST_S = (0.0002, 0.0018)  # least, and how much more at most
SLOW_S = (0.01, 0.3)
LATE_S = (0.3, 3.0)


class Network:
    """`cut` holds directed pairs (from, to) of numbers: brokers', and 0 for ZooKeeper. `trouble` is
    the chance that a message meets with an accident, `slowness` that it takes long."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cut: dict[tuple[int, int], None] = {}
        self.trouble = 0.0
        self.slowness = 0.02
        self.exchanges: dict[Exchange, None] = {}
        self.filters: list[Callable[[Exchange], str | None]] = []

    def delay(self) -> float:
        """How long a message takes, seconds."""
        chance = self.world.chance.random()
        if chance < self.slowness:
            return SLOW_S[0] + SLOW_S[1] * chance / self.slowness
        return FAST_S[0] + FAST_S[1] * chance

    def passes(self, source: int, target: int) -> bool:
        return (source, target) not in self.cut

    def connects(self, one: int, other: int) -> bool:
        return not self.cut or ((one, other) not in self.cut and (other, one) not in self.cut)

    def cut_link(self, source: int, target: int) -> None:
        """One way. Whoever waits over this link learns after a while that it is in vain."""
        self.cut[source, target] = None
        for exchange in list(self.exchanges):
            if (exchange.source_number, exchange.target) in ((source, target), (target, source)):
                exchange.lose_contact()

    def heal_link(self, source: int, target: int) -> None:
        self.cut.pop((source, target), None)

    def on_ended(self, process: BrokerProcess, silent: bool) -> None:
        """A process is gone. Unless its host went with it (`silent`), the others hear at once."""
        for exchange in list(self.exchanges):
            if exchange.server is process:
                if silent:
                    exchange.lose_contact()
                else:
                    exchange.fail_later(self.delay(), "the connection was reset")
            elif exchange.source is process:
                exchange.abandon()


_SENT_TWICE = ("update_state", "alter_partition", "replica_fetch", "write_markers")


class Exchange:
    """One call. `kind` is the name of the method, `request` for filters and stories. A caller
    without a broker's process is a client, number -1: nothing is cut off from it."""

    def __init__(
        self,
        network: Network,
        source: BrokerProcess | None,
        target: int,
        kind: str,
        request: Any,
        serve: Serve,
        timeout_ms: int,
    ) -> None:
        self.network = network
        self.world = network.world
        self.source = source
        self.source_number = -1 if source is None else source.number
        self.target = target
        self.kind = kind
        self.request = request
        self.serve = serve
        self.server: BrokerProcess | None = None
        self.task: asyncio.Task[Any] | None = None
        self.keeps_answer = False
        self._kept: tuple[Any, MinikafkaError | None] | None = None
        loop = self.world.loop
        self.answer: asyncio.Future[Any] = loop.create_future()
        self._context = self.world.context if source is None else source.context
        self._timer = loop.call_later(
            timeout_ms / 1000, self._time_out, timeout_ms, context=self._context
        )
        network.exchanges[self] = None
        self._send()

    async def result(self) -> Any:
        try:
            return await self.answer
        finally:
            self._timer.cancel()
            self.abandon()

    # --- the request -----------------------------------------------------------------------------

    def _send(self) -> None:
        network, chance = self.network, self.world.chance
        delay = network.delay()
        fate = None
        for choose in network.filters:
            fate = fate or choose(self)
        if fate is None and network.trouble and chance.random() < network.trouble:
            fate = chance.choice(("lost", "late", "unanswered", "twice", "slow"))
        if fate == "hold":
            return
        self.keeps_answer = fate == "hold answer"
        if fate in ("lost", "late"):
            self.fail_later(delay, "the connection broke")
            if fate == "lost":
                return
            delay += LATE_S[0] + LATE_S[1] * chance.random()
        elif fate == "unanswered":
            self.serve = _unanswered(self)
        elif fate == "twice" and self.kind in _SENT_TWICE:
            self._arrive_later(delay + LATE_S[0] * chance.random(), repeated=True)
        elif fate == "slow":
            delay += LATE_S[0] * chance.random()
        self._arrive_later(delay, repeated=False)

    def _arrive_later(self, delay: float, *, repeated: bool) -> None:
        self.world.loop.call_later(delay, self.arrive, repeated, context=self.world.context)

    def arrive(self, repeated: bool = False) -> None:
        """At the target's host."""
        if not self.network.passes(self.source_number, self.target):
            self.lose_contact()
            return
        process = self.world.hosts[self.target].process
        if process is None or process.ended or not process.listens:
            self.fail_later(self.network.delay(), f"broker {self.target} refuses the connection")
            return
        if not repeated:
            self.server = process
        self.world.loop.call_soon(self._begin, process, repeated, context=process.context)

    def _begin(self, process: BrokerProcess, repeated: bool) -> None:
        """In the target's process."""
        if not process.listens:
            self.fail_later(self.network.delay(), f"broker {self.target} has stopped")
            return
        task = self.world.loop.create_task(self._handle(process, repeated))
        if not repeated:
            self.task = task

    async def _handle(self, process: BrokerProcess, repeated: bool) -> None:
        answer: Any = None
        error: MinikafkaError | None = None
        try:
            assert process.broker is not None
            answer = await self.serve(process.broker.service)
        except MinikafkaError as raised:
            error = raised
        except Exception as bug:
            self.world.on_bug(f"{self.kind} at {process.name}", bug)
            error = UnknownServerError(repr(bug))
        if repeated:
            return
        self.task = None
        if self.keeps_answer:
            self._kept = (answer, error)
        elif not self.answer.done():
            self.world.loop.call_later(
                self.network.delay(), self._back, answer, error, context=self._context
            )

    # --- the answer ------------------------------------------------------------------------------

    def release_answer(self) -> None:
        """What was kept back is with the caller now."""
        if self._kept is not None:
            self.world.loop.call_soon(self._back, *self._kept, context=self._context)

    def _back(self, answer: Any, error: MinikafkaError | None) -> None:
        """In the caller's process."""
        if not self.network.passes(self.target, self.source_number):
            self.lose_contact()
        elif not self.answer.done():
            if error is not None:
                self.answer.set_exception(error)
            else:
                self.answer.set_result(answer)

    def lose_contact(self) -> None:
        """The caller waits in vain, and notices after a while."""
        self.fail_later(0.1 + 1.5 * self.world.chance.random(), "nothing is heard any more")

    def fail_later(self, delay: float, why: str) -> None:
        self.world.loop.call_later(delay, self._fail, why, context=self._context)

    def _fail(self, why: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(NetworkError(f"broker {self.target}: {why}"))

    def _time_out(self, timeout_ms: int) -> None:
        self._fail(f"no answer within {timeout_ms} ms")

    def abandon(self) -> None:
        """Nobody waits any more: the handling is cancelled, if the target can be told."""
        self.network.exchanges.pop(self, None)
        if not self.answer.done():
            self.answer.cancel()
        if self.task is not None and self.server is not None:
            self.world.loop.call_later(
                self.network.delay(), self._cancel, context=self.server.context
            )

    def _cancel(self) -> None:
        """In the target's process."""
        if self.task is not None and self.network.passes(self.source_number, self.target):
            self.task.cancel()


def _unanswered(exchange: Exchange) -> Serve:
    """Handled, but the connection breaks before the answer is back."""
    serve = exchange.serve

    async def handled(service: Service) -> Any:
        try:
            return await serve(service)
        finally:
            exchange.fail_later(0.0, "the connection broke")

    return handled


class SimulatedStream:
    """ReplicationStream: requests and answers in order, one at a time."""

    def __init__(self, peers: SimulatedPeers, leader: BrokerInfo) -> None:
        self._peers = peers
        self._leader = leader.broker_id
        self._exchange: Exchange | None = None
        self._closed = False

    async def fetch(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse:
        if self._closed:
            raise NetworkError("the replication stream is closed")
        exchange = self._exchange = Exchange(
            self._peers.network,
            self._peers.process,
            self._leader,
            "replica_fetch",
            request,
            lambda service: service.replica_fetch(request),
            request.max_wait_ms + STREAM_MARGIN_MS,
        )
        try:
            response: ReplicaFetchResponse = await exchange.result()
            return response
        except MinikafkaError as error:  # of the request as a whole: the stream goes on
            self._closed = self._closed or isinstance(error, NetworkError)
            raise
        except BaseException:
            self._closed = True
            raise

    def close(self) -> None:
        self._closed = True
        if self._exchange is not None:
            self._exchange._fail("the stream was closed")


class SimulatedPeers:
    """Peers, of one process."""

    def __init__(self, network: Network, process: BrokerProcess) -> None:
        self.network = network
        self.process = process

    def open_replication(self, leader: BrokerInfo) -> SimulatedStream:
        return SimulatedStream(self, leader)

    async def _call(
        self, broker: BrokerInfo, kind: str, request: Any, serve: Serve, timeout_ms: int
    ) -> Any:
        exchange = Exchange(
            self.network, self.process, broker.broker_id, kind, request, serve, timeout_ms
        )
        return await exchange.result()

    async def update_state(
        self, broker: BrokerInfo, request: UpdateStateRequest, timeout_ms: int
    ) -> UpdateStateResponse:
        ledger, host = self.network.world.ledger, self.network.world.hosts[broker.broker_id]

        async def serve(service: Service) -> UpdateStateResponse:
            response = await service.update_state(request)
            ledger.on_state_message_taken(host, request)
            return response

        response: UpdateStateResponse = await self._call(
            broker, "update_state", request, serve, timeout_ms
        )
        return response

    async def alter_partition(
        self, controller: BrokerInfo, request: AlterPartitionRequest, timeout_ms: int
    ) -> AlterPartitionResponse:
        response: AlterPartitionResponse = await self._call(
            controller,
            "alter_partition",
            request,
            lambda service: service.alter_partition(request),
            timeout_ms,
        )
        return response

    async def controlled_shutdown(
        self, controller: BrokerInfo, request: ControlledShutdownRequest, timeout_ms: int
    ) -> ControlledShutdownResponse:
        response: ControlledShutdownResponse = await self._call(
            controller,
            "controlled_shutdown",
            request,
            lambda service: service.controlled_shutdown(request),
            timeout_ms,
        )
        return response

    async def check_partitions(
        self, coordinator: BrokerInfo, request: CheckPartitionsRequest, timeout_ms: int
    ) -> CheckPartitionsResult:
        response: CheckPartitionsResult = await self._call(
            coordinator,
            "check_partitions",
            request,
            lambda service: service.check_partitions(request),
            timeout_ms,
        )
        return response

    async def write_markers(
        self, leader: BrokerInfo, request: WriteMarkersRequest, timeout_ms: int
    ) -> WriteMarkersResult:
        response: WriteMarkersResult = await self._call(
            leader,
            "write_markers",
            request,
            lambda service: service.write_markers(request),
            timeout_ms,
        )
        return response

    async def controller_call(
        self, controller: BrokerInfo, request: ControllerRequest, timeout_ms: int
    ) -> ControllerResponse:
        response: ControllerResponse = await self._call(
            controller,
            "controller_call",
            request,
            lambda service: service.controller_call(request),
            timeout_ms,
        )
        return response

    async def close(self) -> None:
        """The process ends anyway."""
