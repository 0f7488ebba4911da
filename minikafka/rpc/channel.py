"""One client's connection to one broker, in the typed requests of api/requests.py.

The client library knows gRPC through this module only. Nothing is connected before the first call,
and a broken connection is made again by the next one: a channel has no state that a caller needs to
repair. A channel belongs to the event loop of its first call.

Every method raises NetworkError when the broker cannot be reached or does not answer within its
timeout, the typed error that the broker answered with otherwise (errors.py). Errors of single
partitions or topics are in the results.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import grpc.aio
from grpc_health.v1 import health_pb2

from minikafka.api.access import ScramDescription
from minikafka.api.jobs import JobService
from minikafka.api.metrics import BrokerMetrics
from minikafka.api.nodes import NodeService
from minikafka.api.requests import (
    ClusterMetadata,
    ClusterUpdate,
    ControllerRequest,
    ControllerResponse,
    DeleteRecordsRequest,
    DeleteRecordsResult,
    FetchRequest,
    FetchResult,
    ListOffsetsPartition,
    ListOffsetsResult,
    PartitionStatus,
    ProduceRequest,
    ProduceResult,
    TopicConfigEntry,
)
from minikafka.api.service import GroupService
from minikafka.config.overrides import ConfigDescription
from minikafka.errors import NetworkError
from minikafka.model import TopicPartition
from minikafka.rpc import convert_access, hot, mirror
from minikafka.rpc import convert_client as convert
from minikafka.rpc.calls import Connection, raise_for_failure
from minikafka.rpc.convert import HasError, raise_error_of, tps_to_wire
from minikafka.rpc.convert_control import administer_to_wire, administered_from_wire
from minikafka.rpc.generated import client_pb2, metrics_pb2
from minikafka.rpc.generated.client_pb2_grpc import ClientServiceStub
from minikafka.rpc.generated.metrics_pb2_grpc import MetricsServiceStub
from minikafka.rpc.groups import GroupStub
from minikafka.rpc.jobs import JobStub
from minikafka.rpc.nodes import NodeStub
from minikafka.rpc.pipeline import Pipeline
from minikafka.rpc.transactions import TransactionStub
from minikafka.rpc.tuning import DEFAULT_KEEPALIVE, Keepalive, channel_options
from minikafka.security.acl import EntryFilter
from minikafka.security.authorizer import Rule

PRODUCE = "/minikafka.v1.ClientService/Produce"
FETCH = "/minikafka.v1.ClientService/Fetch"

R = TypeVar("R", bound=HasError)


def _health_call(
    channel: grpc.aio.Channel, timeout: float
) -> Awaitable[health_pb2.HealthCheckResponse]:
    check: grpc.aio.UnaryUnaryMultiCallable[
        health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
    ] = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return check(health_pb2.HealthCheckRequest(), timeout=timeout)


class BrokerChannel:
    def __init__(
        self,
        address: str,
        *,
        request_timeout_ms: int = 10_000,
        margin_ms: int = 5_000,
        keepalive: Keepalive = DEFAULT_KEEPALIVE,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """`address` is HOST:PORT. `request_timeout_ms` bounds the calls that do not say how long
        they may take; those that do (produce, fetch, administer) are given `margin_ms` more. With
        `credentials` (credentials.ChannelTls) it is TLS that is spoken."""
        self._request_timeout_ms = request_timeout_ms
        self._margin_ms = margin_ms
        options = channel_options(request_timeout_ms, keepalive)
        self._connection = Connection(address, options, credentials)
        self._produce = Pipeline[ProduceResult](self._connection, PRODUCE, hot.produced_from_wire)
        self._fetch = Pipeline[FetchResult](self._connection, FETCH, hot.fetched_from_wire)
        self._watches: set[grpc.aio.Call] = set()
        self.groups: GroupService = GroupStub(self._connection, request_timeout_ms, margin_ms)
        self.transactions = TransactionStub(self._connection, request_timeout_ms)
        self.nodes: NodeService = NodeStub(self._connection, request_timeout_ms)
        self.jobs: JobService = JobStub(self._connection, request_timeout_ms)

    @property
    def address(self) -> str:
        return self._connection.address

    def produce(self, request: ProduceRequest) -> Awaitable[Sequence[ProduceResult]]:
        """Send, and await the acks. Plain function: the order of calls is the order of sending, and
        the order of appending at the broker, also when many are outstanding on the one stream. When
        the stream breaks, every outstanding request fails with NetworkError (each may have been
        appended, or may be yet) and the next call opens a new stream. With acks=0 the results (base
        offset -1) come once the request was handed to the network. Raises NetworkError itself after
        close()."""
        unanswered = None
        if request.acks == 0:
            unanswered = [ProduceResult(each.topic_partition) for each in request.partitions]
        return self._produce.submit(
            lambda correlation_id: hot.produce_to_wire(correlation_id, request),
            request.timeout_ms + self._margin_ms,
            unanswered,
        )

    async def fetch(self, request: FetchRequest) -> Sequence[FetchResult]:
        """Many may be outstanding; a cancelled one is forgotten."""
        return await self._fetch.submit(
            lambda correlation_id: hot.fetch_to_wire(correlation_id, request),
            request.max_wait_ms + self._margin_ms,
        )

    async def list_offsets(
        self, partitions: Sequence[ListOffsetsPartition]
    ) -> Sequence[ListOffsetsResult]:
        wire = client_pb2.ListOffsetsRequest(
            partitions=mirror.all_to_wire(partitions, client_pb2.ListOffsetsPartition)
        )
        response = await self._call(lambda stub, timeout: stub.ListOffsets(wire, timeout=timeout))
        return mirror.all_from_wire(response.offsets, ListOffsetsResult)

    async def metadata(
        self, topics: Sequence[str] | None = None, allow_auto_create: bool = False
    ) -> ClusterMetadata:
        """None: all topics."""
        wire = convert.get_metadata_to_wire(topics, allow_auto_create)
        response = await self._call(lambda stub, timeout: stub.GetMetadata(wire, timeout=timeout))
        return mirror.from_wire(response, ClusterMetadata)

    async def watch(self, topics: Sequence[str] = ()) -> AsyncIterator[ClusterUpdate]:
        """First everything, then what changes; empty `topics`: all. Ends with NetworkError when the
        broker is gone. Closing the iterator (`aclose`) ends the watch."""
        wire = client_pb2.WatchPartitionsRequest(topics=topics)
        call = ClientServiceStub(self._connection.channel).WatchPartitions(wire)
        self._watches.add(call)
        first = asyncio.get_running_loop().call_later(self._request_timeout_ms / 1000, call.cancel)
        try:
            while True:
                try:
                    response = await call.read()
                except (Exception, asyncio.CancelledError) as failure:
                    raise_for_failure(failure, self.address)
                first.cancel()
                if not isinstance(response, client_pb2.WatchPartitionsResponse):
                    raise NetworkError(f"{self.address} ended the watch")
                raise_error_of(response)
                yield convert.update_from_wire(response)
        finally:
            first.cancel()
            call.cancel()
            self._watches.discard(call)

    async def delete_records(self, request: DeleteRecordsRequest) -> Sequence[DeleteRecordsResult]:
        wire = mirror.to_wire(request, client_pb2.DeleteRecordsRequest)
        response = await self._connection.call(
            lambda channel, timeout: ClientServiceStub(channel).DeleteRecords(
                wire, timeout=timeout
            ),
            request.timeout_ms + self._margin_ms,
        )
        raise_error_of(response)
        return mirror.all_from_wire(response.results, DeleteRecordsResult)

    async def describe_partitions(
        self, partitions: Sequence[TopicPartition]
    ) -> Sequence[PartitionStatus]:
        wire = client_pb2.DescribePartitionsRequest(partitions=tps_to_wire(partitions))
        response = await self._call(
            lambda stub, timeout: stub.DescribePartitions(wire, timeout=timeout)
        )
        return mirror.all_from_wire(response.partitions, PartitionStatus)

    async def describe_topic_configs(self, topic: str) -> Sequence[TopicConfigEntry]:
        wire = client_pb2.DescribeTopicConfigsRequest(topic=topic)
        response = await self._call(
            lambda stub, timeout: stub.DescribeTopicConfigs(wire, timeout=timeout)
        )
        return mirror.all_from_wire(response.entries, TopicConfigEntry)

    async def describe_configs(self, topic: str) -> Sequence[ConfigDescription]:
        return await self._describe(client_pb2.DescribeConfigsRequest(topic=topic))

    async def describe_broker_configs(self, broker: str) -> Sequence[ConfigDescription]:
        """That of the broker at the other end, by its id; "": what is set for all brokers."""
        return await self._describe(client_pb2.DescribeConfigsRequest(broker=broker))

    async def _describe(
        self, wire: client_pb2.DescribeConfigsRequest
    ) -> Sequence[ConfigDescription]:
        response = await self._call(
            lambda stub, timeout: stub.DescribeConfigs(wire, timeout=timeout)
        )
        return mirror.all_from_wire(response.configs, ConfigDescription)

    async def describe_acls(self, asked: EntryFilter) -> Sequence[Rule]:
        """As the broker at the other end knows them."""
        wire = client_pb2.DescribeAclsRequest(filter=convert_access.filter_to_wire(asked))
        response = await self._call(lambda stub, timeout: stub.DescribeAcls(wire, timeout=timeout))
        return [convert_access.rule_from_wire(rule) for rule in response.rules]

    async def describe_scram(self, users: Sequence[str] = ()) -> Sequence[ScramDescription]:
        """Of these users, or of all who have any credential."""
        wire = client_pb2.DescribeScramRequest(users=users)
        response = await self._call(lambda stub, timeout: stub.DescribeScram(wire, timeout=timeout))
        return mirror.all_from_wire(response.users, ScramDescription)

    async def init_producer_id(self) -> tuple[int, int]:
        """(producer id, producer epoch)."""
        wire = client_pb2.InitProducerIdRequest()
        response = await self._call(
            lambda stub, timeout: stub.InitProducerId(wire, timeout=timeout)
        )
        return response.producer_id, response.producer_epoch

    async def administer(self, request: ControllerRequest, timeout_ms: int) -> ControllerResponse:
        """What the controller does, by way of this broker."""
        wire = client_pb2.AdministerClusterRequest(request=administer_to_wire(request, timeout_ms))
        outer = await self._connection.call(
            lambda channel, timeout: ClientServiceStub(channel).AdministerCluster(
                wire, timeout=timeout
            ),
            timeout_ms + self._margin_ms,
        )
        raise_error_of(outer.response)
        return administered_from_wire(outer.response, request)

    async def broker_metrics(self) -> BrokerMetrics:
        """What this broker has done and holds."""
        wire = metrics_pb2.GetBrokerMetricsRequest()
        response = await self._connection.call(
            lambda channel, timeout: MetricsServiceStub(channel).GetBrokerMetrics(
                wire, timeout=timeout
            ),
            self._request_timeout_ms,
        )
        raise_error_of(response)
        return mirror.from_wire(response.metrics, BrokerMetrics)

    async def check_health(self) -> bool:
        """Whether the broker says that it serves (standard gRPC health checking)."""
        response = await self._connection.call(_health_call, self._request_timeout_ms)
        return response.status == health_pb2.HealthCheckResponse.SERVING

    async def close(self) -> None:
        """End the connection; outstanding calls fail with NetworkError. Idempotent."""
        for call in self._watches:
            call.cancel()
        await self._connection.close()

    async def _call(self, start: Callable[[ClientServiceStub, float], Awaitable[R]]) -> R:
        response = await self._connection.call(
            lambda channel, timeout: start(ClientServiceStub(channel), timeout),
            self._request_timeout_ms,
        )
        raise_error_of(response)
        return response
