"""The port Peers over gRPC: what a broker asks of the other brokers.

One connection to each broker, for the incarnation (broker epoch) and address that the caller names:
with another incarnation the connection is made anew, so that no call meant for the new process
waits for the backoff of the old one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import inf

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from minikafka.api.requests import (
    AllocateProducerIdsRequest,
    AlterPartitionRequest,
    AlterPartitionResponse,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    ControllerRequest,
    ControllerResponse,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    ReportFailedReplicas,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.api.transactions import (
    CheckPartitionsRequest,
    CheckPartitionsResult,
    WriteMarkersRequest,
    WriteMarkersResult,
)
from minikafka.config.properties import Endpoint
from minikafka.errors import NetworkError
from minikafka.model import BrokerInfo
from minikafka.rpc import convert_control as convert
from minikafka.rpc import mirror, transactions
from minikafka.rpc.calls import Connection, raise_for_failure
from minikafka.rpc.convert import raise_error_of
from minikafka.rpc.generated import control_pb2
from minikafka.rpc.generated.control_pb2_grpc import BrokerControlServiceStub, ControllerServiceStub
from minikafka.rpc.hot import replicate_to_wire, replicated_from_wire
from minikafka.rpc.many_partitions import update_state_to_wire
from minikafka.rpc.tuning import DEFAULT_KEEPALIVE, Keepalive, channel_options

log = logging.getLogger(__name__)

REPLICATE = "/minikafka.v1.ReplicationService/Replicate"


class GrpcReplicationStream:
    """The follower's end of a Replicate stream; opened by the first fetch. After a NetworkError, or
    a fetch that was cancelled, it is closed for good: an answer may be on its way that nobody waits
    for any more, so the next one would be taken for it.

    The first fetch also waits for the connection. After that, there is one timer for many fetches
    (`_timer`), which looks at `_deadline_s` when it fires: that of the fetch that is under way."""

    def __init__(self, connection: Connection, margin_ms: int) -> None:
        self._connection = connection
        self._margin_ms = margin_ms
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] | None = None
        self._closed = False
        self._waiting: asyncio.Timeout | None = None  # of the first fetch, while it is under way
        self._deadline_s = inf  # of a later one
        self._timer: asyncio.TimerHandle | None = None
        self._late = False
        connection.closes(self)

    async def fetch(self, request: ReplicaFetchRequest) -> ReplicaFetchResponse:
        """Raises NetworkError if there is no answer `margin_ms` after `request.max_wait_ms`."""
        address = self._connection.address
        if self._closed:
            raise NetworkError(f"{address}: the replication stream is closed")
        timeout_ms = request.max_wait_ms + self._margin_ms
        try:
            if self._call is None:
                async with asyncio.timeout(timeout_ms / 1000) as self._waiting:
                    self._call = self._connection.open_stream(REPLICATE)
                    raw = await _exchange(self._call, request)
            else:
                self._expect_answer_within(timeout_ms / 1000)
                raw = await _exchange(self._call, request)
        except TimeoutError:
            why = "the stream was closed" if self._closed else f"no answer within {timeout_ms} ms"
            self._end()
            raise NetworkError(f"{address}: {why}") from None
        except (Exception, asyncio.CancelledError) as failure:
            self._end()
            if self._late and not _is_cancelled():
                raise NetworkError(f"{address}: no answer within {timeout_ms} ms") from None
            raise_for_failure(failure, address)
        finally:
            self._waiting = None
            self._deadline_s = inf
        if not isinstance(raw, bytes):
            self._end()
            raise NetworkError(f"{address} ended the replication stream")
        try:
            return replicated_from_wire(raw)
        except DecodeError as failure:
            self._end()
            raise NetworkError(f"{address} sent an unreadable answer: {failure}") from None

    def close(self) -> None:
        """A fetch that is under way fails with NetworkError."""
        self._end()
        if self._waiting is not None and not self._waiting.expired():
            # Cancelling the call does not wake a write that waits for the connection.
            self._waiting.reschedule(asyncio.get_running_loop().time())

    def _expect_answer_within(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = self._deadline_s = loop.time() + timeout_s
        if self._timer is None:
            self._timer = loop.call_at(deadline_s, self._on_time)
        elif deadline_s < self._timer.when():
            self._timer.cancel()
            self._timer = loop.call_at(deadline_s, self._on_time)

    def _on_time(self) -> None:
        """Perhaps that of an earlier fetch."""
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._deadline_s == inf:
            return
        if loop.time() < self._deadline_s:
            self._timer = loop.call_at(self._deadline_s, self._on_time)
            return
        self._late = True
        if self._call is not None:
            self._call.cancel()

    def _end(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._call is not None:
            self._call.cancel()


async def _exchange(
    call: grpc.aio.StreamStreamCall[bytes, bytes], request: ReplicaFetchRequest
) -> object:
    await call.write(replicate_to_wire(request))
    return await call.read()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class GrpcPeers:
    """`margin_ms`: how much longer than the leader may hold a fetch its answer may take.
    `credentials` gives those of the next connection (credentials.ChannelTls); without it none is
    encrypted.

    `_retired`: by broker, a connection with credentials that were replaced since. What is under way
    on it goes on, and so do its streams, until another one is retired or the incarnation goes."""

    def __init__(
        self,
        *,
        margin_ms: int = 2_000,
        connect_timeout_ms: int = 3_000,
        keepalive: Keepalive = DEFAULT_KEEPALIVE,
        credentials: Callable[[], grpc.ChannelCredentials] | None = None,
    ) -> None:
        self._margin_ms = margin_ms
        self._options = channel_options(connect_timeout_ms, keepalive)
        self._credentials = credentials
        self._connections: dict[int, tuple[int, Connection]] = {}  # by id: broker epoch, connection
        self._retired: dict[int, Connection] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def open_replication(self, leader: BrokerInfo) -> GrpcReplicationStream:
        return GrpcReplicationStream(self._connection(leader), self._margin_ms)

    async def update_state(
        self, broker: BrokerInfo, request: UpdateStateRequest, timeout_ms: int
    ) -> UpdateStateResponse:
        wire = await update_state_to_wire(request)
        response = await self._connection(broker).call(
            lambda channel, timeout: BrokerControlServiceStub(channel).UpdateState(
                wire, timeout=timeout
            ),
            timeout_ms,
        )
        raise_error_of(response)
        return mirror.from_wire(response, UpdateStateResponse)

    async def alter_partition(
        self, controller: BrokerInfo, request: AlterPartitionRequest, timeout_ms: int
    ) -> AlterPartitionResponse:
        wire = mirror.to_wire(request, control_pb2.AlterPartitionRequest)
        response = await self._connection(controller).call(
            lambda channel, timeout: ControllerServiceStub(channel).AlterPartition(
                wire, timeout=timeout
            ),
            timeout_ms,
        )
        raise_error_of(response)
        return mirror.from_wire(response, AlterPartitionResponse)

    async def controlled_shutdown(
        self, controller: BrokerInfo, request: ControlledShutdownRequest, timeout_ms: int
    ) -> ControlledShutdownResponse:
        wire = mirror.to_wire(request, control_pb2.ControlledShutdownRequest)
        response = await self._connection(controller).call(
            lambda channel, timeout: ControllerServiceStub(channel).ControlledShutdown(
                wire, timeout=timeout
            ),
            timeout_ms,
        )
        raise_error_of(response)
        return mirror.from_wire(response, ControlledShutdownResponse)

    async def controller_call(
        self, controller: BrokerInfo, request: ControllerRequest, timeout_ms: int
    ) -> ControllerResponse:
        connection = self._connection(controller)
        match request:
            case ReportFailedReplicas():
                failed = mirror.to_wire(request, control_pb2.ReportFailedReplicasRequest)
                reported = await connection.call(
                    lambda channel, timeout: ControllerServiceStub(channel).ReportFailedReplicas(
                        failed, timeout=timeout
                    ),
                    timeout_ms,
                )
                raise_error_of(reported)
                return ControllerResponse()
            case AllocateProducerIdsRequest():
                wanted = mirror.to_wire(request, control_pb2.AllocateProducerIdsRequest)
                block = await connection.call(
                    lambda channel, timeout: ControllerServiceStub(channel).AllocateProducerIds(
                        wanted, timeout=timeout
                    ),
                    timeout_ms,
                )
                raise_error_of(block)
                return ControllerResponse(
                    producer_id_start=block.producer_id_start,
                    producer_id_end=block.producer_id_end,
                )
        wire = convert.administer_to_wire(request, timeout_ms)
        response = await connection.call(
            lambda channel, timeout: ControllerServiceStub(channel).Administer(
                wire, timeout=timeout
            ),
            timeout_ms,
        )
        raise_error_of(response)
        return convert.administered_from_wire(response, request)

    async def check_partitions(
        self, coordinator: BrokerInfo, request: CheckPartitionsRequest, timeout_ms: int
    ) -> CheckPartitionsResult:
        connection = self._connection(coordinator)
        return await transactions.check_partitions(connection, request, timeout_ms)

    async def write_markers(
        self, leader: BrokerInfo, request: WriteMarkersRequest, timeout_ms: int
    ) -> WriteMarkersResult:
        connection = self._connection(leader)
        return await transactions.write_markers(connection, request, timeout_ms)

    async def close(self) -> None:
        """Every outstanding call and stream fails with NetworkError."""
        self._closed = True
        for _, connection in self._connections.values():
            self._close_soon(connection)
        for connection in self._retired.values():
            self._close_soon(connection)
        self._connections.clear()
        self._retired.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def connection(self, broker: BrokerInfo) -> Connection:
        """For other services of brokers. NetworkError when this broker is stopping."""
        return self._connection(broker)

    def _connection(self, broker: BrokerInfo) -> Connection:
        if self._closed:
            raise NetworkError("this broker is stopping: it no longer calls anybody")
        address = str(Endpoint(broker.grpc_host, broker.grpc_port))
        credentials = None if self._credentials is None else self._credentials()
        known = self._connections.get(broker.broker_id)
        if known is not None:
            broker_epoch, connection = known
            same = (broker_epoch, connection.address) == (broker.broker_epoch, address)
            if same and connection.credentials is credentials:
                return connection
            log.info("connecting anew to broker %d at %s", broker.broker_id, address)
            retired = self._retired.pop(broker.broker_id, None)
            if retired is not None:
                self._close_soon(retired)
            if same:
                self._retired[broker.broker_id] = connection
            else:
                self._close_soon(connection)
        connection = Connection(address, self._options, credentials)
        self._connections[broker.broker_id] = broker.broker_epoch, connection
        return connection

    def _close_soon(self, connection: Connection) -> None:
        task = asyncio.get_running_loop().create_task(connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
