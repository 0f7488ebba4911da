"""A broker's gRPC server: its services, most of them over one BrokerService, health checking,
reflection."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from functools import partial

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from minikafka.api.service import BrokerService
from minikafka.broker.counters import RequestCounters
from minikafka.broker.request_memory import RequestMemory
from minikafka.config.properties import Endpoint
from minikafka.errors import UsageError
from minikafka.rpc import groups, transactions, unary
from minikafka.rpc.credentials import CallerOf, Handle, Refusals, knowing
from minikafka.rpc.generated import (
    client_pb2,
    control_pb2,
    group_pb2,
    metrics_pb2,
    replication_pb2,
    transaction_pb2,
)
from minikafka.rpc.streams import Streams
from minikafka.rpc.tuning import DEFAULT_KEEPALIVE, MAX_CALLS, Keepalive, server_options

SERVICES = tuple(
    service.full_name
    for module in (
        replication_pb2,
        control_pb2,
        client_pb2,
        group_pb2,
        metrics_pb2,
        transaction_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
)
_DEFAULT_MAX_REQUEST_BYTES = 104_857_600
_DEFAULT_MAX_QUEUED_BYTES = 268_435_456


class GrpcServer:
    """`max_request_bytes` is socket.request.max.bytes, `max_queued_bytes` is
    queued.max.request.bytes: the memory of what clients send and do not read, which is `memory` if
    other doors share it. `counters` is where requests are counted. `more`: methods of further
    services, by full name. `max_connections`, and how long each may be without a call.
    `credentials` (credentials.ServerTls): TLS is spoken, and reflection is not offered. `caller_of`
    names who makes each call, but for health checks: see credentials.current_caller; `refusals`
    has how many it could not name."""

    def __init__(
        self,
        service: BrokerService,
        *,
        max_request_bytes: int = _DEFAULT_MAX_REQUEST_BYTES,
        max_queued_bytes: int = _DEFAULT_MAX_QUEUED_BYTES,
        memory: RequestMemory | None = None,
        keepalive: Keepalive = DEFAULT_KEEPALIVE,
        counters: RequestCounters | None = None,
        more: Mapping[str, Mapping[str, unary.Method]] | None = None,
        max_connections: int | None = None,
        max_idle_ms: int | None = None,
        credentials: grpc.ServerCredentials | None = None,
        caller_of: CallerOf | None = None,
    ) -> None:
        self._service = service
        self._credentials = credentials
        self._caller_of = caller_of
        self.refusals = Refusals()
        self._more = dict(more or {})
        self._max_request_bytes = max_request_bytes
        self._keepalive = keepalive
        self._max_connections = max_connections
        self._max_idle_ms = max_idle_ms
        self._counters = counters or RequestCounters()
        self._memory = memory or RequestMemory(max_queued_bytes)
        self._streams = Streams(
            service,
            max_request_bytes=max_request_bytes,
            memory=self._memory,
            counters=self._counters,
        )
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int, *, serving: bool = True) -> int:
        """Listen; returns the port, which is a free one for port 0. `serving` is what health checks
        hear (see set_serving). Raises PortTakenError, or UsageError if the host is not ours."""
        assert self._server is None, "a GrpcServer is started once"
        _check_can_listen(host, port)
        options = server_options(
            self._keepalive,
            max_request_bytes=self._max_request_bytes,
            max_connections=self._max_connections,
            max_idle_ms=self._max_idle_ms,
        )
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CALLS)
        server.add_generic_rpc_handlers(self._handlers())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._credentials is None:
            reflection.enable_server_reflection(
                (*SERVICES, *self._more, health.SERVICE_NAME, reflection.SERVICE_NAME), server
            )
        address = str(Endpoint(host, port))
        try:
            if self._credentials is None:
                bound_port = server.add_insecure_port(address)
            else:
                bound_port = server.add_secure_port(address, self._credentials)
        except RuntimeError as failure:
            _check_can_listen(host, port)  # somebody may have been quicker
            raise UsageError(f"cannot listen on {Endpoint(host, port)}: {failure}") from None
        await self.set_serving(serving)
        await server.start()
        self._server = server
        return bound_port

    async def set_serving(self, serving: bool) -> None:
        """What health checks hear, of the broker as a whole and of each of its services."""
        statuses = health_pb2.HealthCheckResponse
        status = statuses.SERVING if serving else statuses.NOT_SERVING
        for name in (health.OVERALL_HEALTH, *SERVICES, *self._more):
            await self._health.set(name, status)

    async def stop(self, grace_ms: int = 1_000) -> None:
        """Take no more requests, send the answers that are due within `grace_ms`, end.
        Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        await self._health.enter_graceful_shutdown()
        self._streams.stop()
        await server.stop(grace_ms / 1000)

    def _handlers(self) -> list[grpc.GenericRpcHandler]:
        streams = self._streams
        bidirectional = grpc.stream_stream_rpc_method_handler
        tables: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {
            "minikafka.v1.ReplicationService": {"Replicate": bidirectional(streams.replicate)},
            "minikafka.v1.BrokerControlService": self._unary(unary.BROKER_CONTROL),
            "minikafka.v1.ControllerService": self._unary(unary.CONTROLLER),
            "minikafka.v1.ClientService": {
                **self._unary(unary.CLIENT),
                "Produce": bidirectional(streams.produce),
                "Fetch": bidirectional(streams.fetch),
                "WatchPartitions": grpc.unary_stream_rpc_method_handler(streams.watch),
            },
            groups.SERVICE: self._unary(groups.SERVED),
            transactions.SERVICE: self._unary(transactions.METHODS),
            transactions.PEER_SERVICE: self._unary(transactions.PEER_METHODS),
            "minikafka.v1.MetricsService": self._unary(unary.METRICS),
        }
        assert tables.keys() == set(SERVICES)
        tables.update((name, self._unary(methods)) for name, methods in self._more.items())
        if self._caller_of is not None:
            wrap = partial(knowing, self._caller_of, refusals=self.refusals)
            for methods in tables.values():
                for name, handler in methods.items():
                    methods[name] = _wrapped(wrap, handler)
        return [
            grpc.method_handlers_generic_handler(name, methods) for name, methods in tables.items()
        ]

    def _unary(
        self, methods: Mapping[str, unary.Method]
    ) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        return {
            name: unary.unary_handler(
                name, method, self._service, self._max_request_bytes, self._counters, self._memory
            )
            for name, method in methods.items()
        }


def _wrapped(
    wrap: Callable[[Handle], Handle], handler: grpc.RpcMethodHandler[bytes, bytes]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """The same method, wrapped. Those of brokers are of these three kinds."""
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(wrap(handler.unary_unary))
    if handler.unary_stream is not None:
        return grpc.unary_stream_rpc_method_handler(wrap(handler.unary_stream))
    assert handler.stream_stream is not None
    return grpc.stream_stream_rpc_method_handler(wrap(handler.stream_stream))


def _check_can_listen(host: str, port: int) -> None:
    """gRPC binds as many of a name's addresses as it can, and does not say why it could not bind
    one: so each is tried here first. PortTakenError or UsageError unless all that this machine has
    are free."""
    endpoint = Endpoint(host, port)
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as failure:
        raise endpoint.cannot_listen(failure) from None
    refused: OSError | None = None
    tried = 0
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            tried += 1
        except OSError as failure:
            if failure.errno == errno.EADDRINUSE:
                raise endpoint.cannot_listen(failure) from None
            refused = failure
    if not tried:
        reason = refused.strerror if refused is not None else "no such address"
        raise UsageError(f"cannot listen on {endpoint}: {reason}")
