"""Consumer groups over gRPC: the methods that a broker serves, and the client's end of them.

Both sides convert by mirror.py; METHODS is the one table of what there is.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import grpc.aio
from google.protobuf.message import Message

from minikafka.api import groups as requests
from minikafka.api.groups import COORDINATES_TRANSACTIONS
from minikafka.api.service import BrokerService, GroupService, TransactionService
from minikafka.api.transactions import TxnOffsetCommitRequest
from minikafka.rpc.calls import Connection
from minikafka.rpc.convert import raise_error_of
from minikafka.rpc.generated import group_pb2 as wire
from minikafka.rpc.mirror import from_wire, to_wire
from minikafka.rpc.unary import Method, converted

SERVICE = "minikafka.v1.GroupService"
R = TypeVar("R")


class _Kinds(NamedTuple):
    """`call` is the name in GroupService (ports.py); then the dataclasses and their messages."""

    call: str
    request: type[Any]
    result: type[Any]
    request_message: type[Message]
    response_message: type[Message]


METHODS = {
    "FindCoordinator": _Kinds(
        "find_coordinator",
        requests.FindCoordinatorRequest,
        requests.FindCoordinatorResult,
        wire.FindCoordinatorRequest,
        wire.FindCoordinatorResponse,
    ),
    "JoinGroup": _Kinds(
        "join_group",
        requests.JoinGroupRequest,
        requests.JoinGroupResult,
        wire.JoinGroupRequest,
        wire.JoinGroupResponse,
    ),
    "SyncGroup": _Kinds(
        "sync_group",
        requests.SyncGroupRequest,
        requests.SyncGroupResult,
        wire.SyncGroupRequest,
        wire.SyncGroupResponse,
    ),
    "Heartbeat": _Kinds(
        "heartbeat",
        requests.HeartbeatRequest,
        requests.HeartbeatResult,
        wire.HeartbeatRequest,
        wire.HeartbeatResponse,
    ),
    "LeaveGroup": _Kinds(
        "leave_group",
        requests.LeaveGroupRequest,
        requests.LeaveGroupResult,
        wire.LeaveGroupRequest,
        wire.LeaveGroupResponse,
    ),
    "CommitOffsets": _Kinds(
        "commit_offsets",
        requests.OffsetCommitRequest,
        requests.OffsetCommitResult,
        wire.CommitOffsetsRequest,
        wire.CommitOffsetsResponse,
    ),
    "CommitOffsetsInTransaction": _Kinds(
        "commit_offsets_in_transaction",
        TxnOffsetCommitRequest,
        requests.OffsetCommitResult,
        wire.CommitOffsetsInTransactionRequest,
        wire.CommitOffsetsInTransactionResponse,
    ),
    "FetchOffsets": _Kinds(
        "fetch_offsets",
        requests.OffsetFetchRequest,
        requests.OffsetFetchResult,
        wire.FetchOffsetsRequest,
        wire.FetchOffsetsResponse,
    ),
    "DeleteOffsets": _Kinds(
        "delete_offsets",
        requests.OffsetDeleteRequest,
        requests.OffsetDeleteResult,
        wire.DeleteOffsetsRequest,
        wire.DeleteOffsetsResponse,
    ),
    "DescribeGroups": _Kinds(
        "describe_groups",
        requests.DescribeGroupsRequest,
        requests.DescribeGroupsResult,
        wire.DescribeGroupsRequest,
        wire.DescribeGroupsResponse,
    ),
    "ListGroups": _Kinds(
        "list_groups",
        requests.ListGroupsRequest,
        requests.ListGroupsResult,
        wire.ListGroupsRequest,
        wire.ListGroupsResponse,
    ),
    "DeleteGroups": _Kinds(
        "delete_groups",
        requests.DeleteGroupsRequest,
        requests.DeleteGroupsResult,
        wire.DeleteGroupsRequest,
        wire.DeleteGroupsResponse,
    ),
}


# --- serving -------------------------------------------------------------------------------------


def _method(kinds: _Kinds) -> Method:
    async def serve(service: BrokerService, message: Message) -> Message:
        def read(message: Message) -> Any:
            return from_wire(message, kinds.request)

        def write(result: Any) -> Message:
            return to_wire(result, kinds.response_message)

        request = await converted(read, message, of=message)
        result = await getattr(_asked(service, request), kinds.call)(request)
        return await converted(write, result, of=message)

    names_host = "client_host" in kinds.request_message.DESCRIPTOR.fields_by_name
    host_field = "client_host" if names_host else ""
    return Method(kinds.request_message, kinds.response_message, serve, host_field=host_field)


def _asked(service: BrokerService, request: object) -> GroupService | TransactionService:
    """Groups; but who coordinates a transactional id is asked in the same way."""
    if isinstance(request, requests.FindCoordinatorRequest) and (
        request.key_type == COORDINATES_TRANSACTIONS
    ):
        return service.transactions
    return service.groups


SERVED = {name: _method(kinds) for name, kinds in METHODS.items()}


# --- calling -------------------------------------------------------------------------------------


class GroupStub(GroupService):
    """The GroupService of the broker at the other end of a connection. Besides the errors in
    results, NetworkError is raised when the broker cannot be reached or does not answer in time;
    a join and a sync are given `rebalance_timeout_ms` more."""

    def __init__(self, connection: Connection, request_timeout_ms: int, margin_ms: int) -> None:
        self._connection = connection
        self._request_timeout_ms = request_timeout_ms
        self._margin_ms = margin_ms
        self._rebalance_timeout_ms = 0

    async def find_coordinator(
        self, request: requests.FindCoordinatorRequest
    ) -> requests.FindCoordinatorResult:
        return await self._call("FindCoordinator", request, requests.FindCoordinatorResult)

    async def join_group(self, request: requests.JoinGroupRequest) -> requests.JoinGroupResult:
        self._rebalance_timeout_ms = request.rebalance_timeout_ms
        return await self._call("JoinGroup", request, requests.JoinGroupResult, held=True)

    async def sync_group(self, request: requests.SyncGroupRequest) -> requests.SyncGroupResult:
        return await self._call("SyncGroup", request, requests.SyncGroupResult, held=True)

    async def heartbeat(self, request: requests.HeartbeatRequest) -> requests.HeartbeatResult:
        return await self._call("Heartbeat", request, requests.HeartbeatResult)

    async def leave_group(self, request: requests.LeaveGroupRequest) -> requests.LeaveGroupResult:
        return await self._call("LeaveGroup", request, requests.LeaveGroupResult)

    async def commit_offsets(
        self, request: requests.OffsetCommitRequest
    ) -> requests.OffsetCommitResult:
        return await self._call("CommitOffsets", request, requests.OffsetCommitResult)

    async def commit_offsets_in_transaction(
        self, request: TxnOffsetCommitRequest
    ) -> requests.OffsetCommitResult:
        return await self._call("CommitOffsetsInTransaction", request, requests.OffsetCommitResult)

    async def fetch_offsets(
        self, request: requests.OffsetFetchRequest
    ) -> requests.OffsetFetchResult:
        return await self._call("FetchOffsets", request, requests.OffsetFetchResult)

    async def delete_offsets(
        self, request: requests.OffsetDeleteRequest
    ) -> requests.OffsetDeleteResult:
        return await self._call("DeleteOffsets", request, requests.OffsetDeleteResult)

    async def describe_groups(
        self, request: requests.DescribeGroupsRequest
    ) -> requests.DescribeGroupsResult:
        return await self._call("DescribeGroups", request, requests.DescribeGroupsResult)

    async def list_groups(self, request: requests.ListGroupsRequest) -> requests.ListGroupsResult:
        return await self._call("ListGroups", request, requests.ListGroupsResult)

    async def delete_groups(
        self, request: requests.DeleteGroupsRequest
    ) -> requests.DeleteGroupsResult:
        return await self._call("DeleteGroups", request, requests.DeleteGroupsResult)

    async def _call(self, name: str, request: object, result: type[R], *, held: bool = False) -> R:
        kinds = METHODS[name]
        message = to_wire(request, kinds.request_message)
        timeout_ms = self._request_timeout_ms
        if held:
            timeout_ms = max(timeout_ms, self._rebalance_timeout_ms + self._margin_ms)

        def start(channel: grpc.aio.Channel, timeout_s: float) -> Any:
            call: Any = channel.unary_unary(
                f"/{SERVICE}/{name}",
                request_serializer=kinds.request_message.SerializeToString,
                response_deserializer=kinds.response_message.FromString,
            )
            return call(message, timeout=timeout_s)

        response: Any = await self._connection.call(start, timeout_ms)
        if "error" not in kinds.result.__dataclass_fields__:
            raise_error_of(response)
        return from_wire(response, result)
