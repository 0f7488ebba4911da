"""The unary methods that a broker serves: each reads its message, calls the BrokerService, and
answers with results or with the error of the request as a whole, in a response of the same type.

The tables say for each method: the request's message, the response's message, what to do. Requests
arrive as bytes, so that their size is known before anything is parsed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from minikafka.api.requests import (
    AllocateProducerIdsRequest,
    AlterPartitionRequest,
    ClusterMetadata,
    ControlledShutdownRequest,
    ControllerRequest,
    ControllerResponse,
    DeleteRecordsRequest,
    ListOffsetsPartition,
    ListOffsetsResult,
    PartitionStatus,
    ReportFailedReplicas,
)
from minikafka.api.service import BrokerService
from minikafka.broker.counters import RequestCounters
from minikafka.broker.request_memory import RequestMemory
from minikafka.errors import InvalidRequestError
from minikafka.rpc import convert_access, convert_client, convert_control, mirror
from minikafka.rpc.convert import error_for_peer, error_to_wire, tps_from_wire
from minikafka.rpc.generated import client_pb2, control_pb2, metrics_pb2
from minikafka.rpc.limits import SHORT_BYTES, check_fields
from minikafka.rpc.many_partitions import update_state_from_wire
from minikafka.rpc.streams import Context, too_large
from minikafka.turns import aside, give_way, in_slices

# How Kafka calls the request of a method that we call otherwise: requests are counted by its name.
_IN_KAFKAS_WORDS = {
    "GetMetadata": "Metadata",
    "CommitOffsets": "OffsetCommit",
    "FetchOffsets": "OffsetFetch",
    "DeleteOffsets": "OffsetDelete",
    "CommitOffsetsInTransaction": "TxnOffsetCommit",
    "InitProducer": "InitProducerId",
    "EndTransaction": "EndTxn",
    "AbortPartitions": "WriteTxnMarkers",
}


V = TypeVar("V")
R = TypeVar("R")

MAX_FIELDS = 50_000
_FEW = 500
_MAX_BYTES = 8 * 1024 * 1024  # none of these carries records; protobuf copies all of it in one go
_OF_BROKERS = 1_000_000  # a controller tells a broker of all partitions that there are


class Method(NamedTuple):
    """`serve(service, request message)` gives the response message, or raises. `error_holder` names
    the field of the response that holds the message with the error; empty: the response itself.
    `host_field`: the field of the request in which the broker notes where it came from.
    `max_fields`: how many fields a request may have (limits.py)."""

    request: type[Message]
    response: type[Message]
    serve: Callable[[BrokerService, Any], Awaitable[Message]]
    error_holder: str = ""
    host_field: str = ""
    max_fields: int = MAX_FIELDS


def unary_handler(
    name: str,
    method: Method,
    service: BrokerService,
    max_request_bytes: int,
    counters: RequestCounters,
    memory: RequestMemory,
) -> grpc.RpcMethodHandler[bytes, bytes]:
    kind = _IN_KAFKAS_WORDS.get(name, name)

    limit_bytes = min(max_request_bytes, _MAX_BYTES)

    async def handle(raw: bytes, context: Context) -> bytes:
        started_s = perf_counter()
        memory.take(len(raw))
        try:
            if len(raw) > limit_bytes:
                raise too_large(len(raw), limit_bytes)
            if len(raw) > SHORT_BYTES:
                await aside(check_fields, raw, method.request, method.max_fields, give_way)
            request = method.request.FromString(raw)
            if method.host_field:
                setattr(request, method.host_field, host_of(context.peer()))
            response = await method.serve(service, request)
            return response.SerializeToString()
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{name}: unreadable message")
        except Exception as raised:
            return _failed(method, raised, name)
        finally:
            memory.give_back(len(raw))
            counters.add(kind, perf_counter() - started_s)

    return grpc.unary_unary_rpc_method_handler(handle)


def host_of(peer: str) -> str:
    """The host of a peer as gRPC names it (`ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`), in the
    way that Kafka writes hosts of clients."""
    kind, _, address = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return peer
    return "/" + address.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")


def _failed(method: Method, raised: Exception, name: str) -> bytes:
    response: Any = method.response()
    holder = getattr(response, method.error_holder) if method.error_holder else response
    holder.error.CopyFrom(error_to_wire(error_for_peer(raised, name)))
    return bytes(response.SerializeToString())


async def converted(convert: Callable[[V], R], value: V, *, of: Message, more: int = 0) -> R:
    """The message of an answer, or the value of a request: made beside the loop if the request was
    long, or if the answer has `more` to tell than a few things."""
    if of.ByteSize() > SHORT_BYTES or more > _FEW:
        return await aside(convert, value)
    return convert(value)


# --- brokers -------------------------------------------------------------------------------------


async def _update_state(service: BrokerService, wire: control_pb2.UpdateStateRequest) -> Message:
    response = await service.update_state(await update_state_from_wire(wire))
    return mirror.to_wire(response, control_pb2.UpdateStateResponse)


async def _alter_partition(
    service: BrokerService, wire: control_pb2.AlterPartitionRequest
) -> Message:
    response = await service.alter_partition(mirror.from_wire(wire, AlterPartitionRequest))
    return mirror.to_wire(response, control_pb2.AlterPartitionResponse)


async def _controlled_shutdown(
    service: BrokerService, wire: control_pb2.ControlledShutdownRequest
) -> Message:
    request = mirror.from_wire(wire, ControlledShutdownRequest)
    response = await service.controlled_shutdown(request)
    return mirror.to_wire(response, control_pb2.ControlledShutdownResponse)


async def _report_failed_replicas(
    service: BrokerService, wire: control_pb2.ReportFailedReplicasRequest
) -> Message:
    await service.controller_call(mirror.from_wire(wire, ReportFailedReplicas))
    return control_pb2.ReportFailedReplicasResponse()


async def _allocate_producer_ids(
    service: BrokerService, wire: control_pb2.AllocateProducerIdsRequest
) -> Message:
    block = await service.controller_call(mirror.from_wire(wire, AllocateProducerIdsRequest))
    return control_pb2.AllocateProducerIdsResponse(
        producer_id_start=block.producer_id_start, producer_id_end=block.producer_id_end
    )


async def _administer(service: BrokerService, wire: control_pb2.AdministerRequest) -> Message:
    response = await service.controller_call(convert_control.administer_from_wire(wire))
    return convert_control.administered_to_wire(response)


# --- clients -------------------------------------------------------------------------------------


async def _list_offsets(service: BrokerService, wire: client_pb2.ListOffsetsRequest) -> Message:
    asked = mirror.all_from_wire(wire.partitions, ListOffsetsPartition)

    def answer(results: Sequence[ListOffsetsResult]) -> Message:
        offsets = mirror.all_to_wire(results, client_pb2.ListedOffset)
        return client_pb2.ListOffsetsResponse(offsets=offsets)

    return await converted(answer, await service.list_offsets(asked), of=wire)


async def _delete_records(service: BrokerService, wire: client_pb2.DeleteRecordsRequest) -> Message:
    results = await service.delete_records(mirror.from_wire(wire, DeleteRecordsRequest))
    return client_pb2.DeleteRecordsResponse(
        results=mirror.all_to_wire(results, client_pb2.DeleteRecordsResult)
    )


async def _get_metadata(service: BrokerService, wire: client_pb2.GetMetadataRequest) -> Message:
    topics = convert_client.wanted_topics(wire)
    metadata = await service.metadata(topics, wire.allow_auto_topic_creation)
    partitions = sum(len(topic.partitions) for topic in metadata.topics)

    def answer(metadata: ClusterMetadata) -> Message:
        return mirror.to_wire(metadata, client_pb2.GetMetadataResponse)

    return await converted(answer, metadata, of=wire, more=partitions)


async def _describe_partitions(
    service: BrokerService, wire: client_pb2.DescribePartitionsRequest
) -> Message:
    def answer(statuses: Sequence[PartitionStatus]) -> Message:
        partitions = mirror.all_to_wire(statuses, client_pb2.PartitionStatus)
        return client_pb2.DescribePartitionsResponse(partitions=partitions)

    statuses = await service.describe_partitions(tps_from_wire(wire.partitions))
    return await converted(answer, statuses, of=wire)


async def _describe_topic_configs(
    service: BrokerService, wire: client_pb2.DescribeTopicConfigsRequest
) -> Message:
    entries = await service.describe_topic_configs(wire.topic)
    return client_pb2.DescribeTopicConfigsResponse(
        entries=mirror.all_to_wire(entries, client_pb2.TopicConfigEntry)
    )


async def _describe_configs(
    service: BrokerService, wire: client_pb2.DescribeConfigsRequest
) -> Message:
    match wire.WhichOneof("resource"):
        case "topic":
            configs = await service.describe_configs(wire.topic)
        case "broker":
            configs = await service.describe_broker_configs(wire.broker)
        case _:
            raise InvalidRequestError("the request names neither a topic nor a broker")
    return client_pb2.DescribeConfigsResponse(
        configs=mirror.all_to_wire(configs, client_pb2.ConfigDescription)
    )


async def _describe_acls(service: BrokerService, wire: client_pb2.DescribeAclsRequest) -> Message:
    rules = await service.describe_acls(convert_access.filter_from_wire(wire.filter))
    return client_pb2.DescribeAclsResponse(
        rules=[convert_access.rule_to_wire(rule) async for rule in in_slices(rules)]
    )


async def _describe_scram(service: BrokerService, wire: client_pb2.DescribeScramRequest) -> Message:
    described = await service.describe_scram(list(wire.users))
    return client_pb2.DescribeScramResponse(
        users=mirror.all_to_wire(described, client_pb2.ScramDescription)
    )


async def _init_producer_id(
    service: BrokerService, wire: client_pb2.InitProducerIdRequest
) -> Message:
    producer_id, producer_epoch = await service.init_producer_id()
    return client_pb2.InitProducerIdResponse(producer_id=producer_id, producer_epoch=producer_epoch)


async def _administer_cluster(
    service: BrokerService, wire: client_pb2.AdministerClusterRequest
) -> Message:
    request: ControllerRequest = convert_control.administer_from_wire(wire.request)
    response: ControllerResponse = await service.administer(request, wire.request.timeout_ms)
    return client_pb2.AdministerClusterResponse(
        response=convert_control.administered_to_wire(response)
    )


# --- people --------------------------------------------------------------------------------------


async def _get_broker_metrics(
    service: BrokerService, wire: metrics_pb2.GetBrokerMetricsRequest
) -> Message:
    metrics = await service.broker_metrics()
    return metrics_pb2.GetBrokerMetricsResponse(
        metrics=mirror.to_wire(metrics, metrics_pb2.BrokerMetrics)
    )


BROKER_CONTROL = {
    "UpdateState": Method(
        control_pb2.UpdateStateRequest,
        control_pb2.UpdateStateResponse,
        _update_state,
        max_fields=_OF_BROKERS,
    ),
}

CONTROLLER = {
    "AlterPartition": Method(
        control_pb2.AlterPartitionRequest,
        control_pb2.AlterPartitionResponse,
        _alter_partition,
        max_fields=_OF_BROKERS,
    ),
    "ControlledShutdown": Method(
        control_pb2.ControlledShutdownRequest,
        control_pb2.ControlledShutdownResponse,
        _controlled_shutdown,
    ),
    "ReportFailedReplicas": Method(
        control_pb2.ReportFailedReplicasRequest,
        control_pb2.ReportFailedReplicasResponse,
        _report_failed_replicas,
        max_fields=_OF_BROKERS,
    ),
    "AllocateProducerIds": Method(
        control_pb2.AllocateProducerIdsRequest,
        control_pb2.AllocateProducerIdsResponse,
        _allocate_producer_ids,
    ),
    "Administer": Method(
        control_pb2.AdministerRequest, control_pb2.AdministerResponse, _administer
    ),
}

CLIENT = {
    "ListOffsets": Method(
        client_pb2.ListOffsetsRequest, client_pb2.ListOffsetsResponse, _list_offsets
    ),
    "DeleteRecords": Method(
        client_pb2.DeleteRecordsRequest, client_pb2.DeleteRecordsResponse, _delete_records
    ),
    "GetMetadata": Method(
        client_pb2.GetMetadataRequest, client_pb2.GetMetadataResponse, _get_metadata
    ),
    "DescribePartitions": Method(
        client_pb2.DescribePartitionsRequest,
        client_pb2.DescribePartitionsResponse,
        _describe_partitions,
    ),
    "DescribeTopicConfigs": Method(
        client_pb2.DescribeTopicConfigsRequest,
        client_pb2.DescribeTopicConfigsResponse,
        _describe_topic_configs,
    ),
    "DescribeAcls": Method(
        client_pb2.DescribeAclsRequest, client_pb2.DescribeAclsResponse, _describe_acls
    ),
    "DescribeScram": Method(
        client_pb2.DescribeScramRequest, client_pb2.DescribeScramResponse, _describe_scram
    ),
    "DescribeConfigs": Method(
        client_pb2.DescribeConfigsRequest,
        client_pb2.DescribeConfigsResponse,
        _describe_configs,
    ),
    "InitProducerId": Method(
        client_pb2.InitProducerIdRequest, client_pb2.InitProducerIdResponse, _init_producer_id
    ),
    "AdministerCluster": Method(
        client_pb2.AdministerClusterRequest,
        client_pb2.AdministerClusterResponse,
        _administer_cluster,
        error_holder="response",
    ),
}

METRICS = {
    "GetBrokerMetrics": Method(
        metrics_pb2.GetBrokerMetricsRequest,
        metrics_pb2.GetBrokerMetricsResponse,
        _get_broker_metrics,
    ),
}
