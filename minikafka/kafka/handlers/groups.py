"""Consumer groups: membership, committed offsets, coordinators and their administration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from minikafka.api.groups import (
    COORDINATES_TRANSACTIONS,
    CommittedOffset,
    DeleteGroupsRequest,
    DescribeGroupsRequest,
    FindCoordinatorRequest,
    FoundCoordinator,
    GroupDescription,
    GroupProtocol,
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    LeavingMember,
    ListGroupsRequest,
    OffsetCommitPartition,
    OffsetCommitPartitionResult,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchGroup,
    OffsetFetchGroupResult,
    OffsetFetchRequest,
    SyncGroupRequest,
)
from minikafka.api.service import BrokerService
from minikafka.errors import (
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    MinikafkaError,
)
from minikafka.kafka import requests
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.connection import Call
from minikafka.kafka.encoding import Values
from minikafka.kafka.handlers.handler import Handler, Handlers
from minikafka.kafka.operations import on_group
from minikafka.model import TopicPartition, topic_partition
from minikafka.turns import in_slices

# From these versions of JoinGroup and OffsetFetch on.
_MEMBER_ID_REQUIRED = 4
_SKIPS_ASSIGNMENT = 9
_NULLABLE_PROTOCOL = 7
_GROUP_ERRORS = 2
_SEVERAL_GROUPS = 8
_SEVERAL_KEYS = 4
_SEVERAL_MEMBERS = 3
_PROTOCOL_REQUIRED = 5


def code(error: MinikafkaError | None) -> int:
    return 0 if error is None else error.code


# --- coordinators --------------------------------------------------------------------------------


async def find_coordinator(
    service: BrokerService, call: Call, request: requests.FindCoordinator
) -> Values:
    keys = request.coordinator_keys if call.version >= _SEVERAL_KEYS else [request.key]
    wanted = FindCoordinatorRequest(keys, request.key_type)
    kind = service.transactions if wanted.key_type == COORDINATES_TRANSACTIONS else service.groups
    found = (await kind.find_coordinator(wanted)).coordinators
    answers = [_coordinator(each, call.listener) async for each in in_slices(found)]
    if call.version >= _SEVERAL_KEYS:
        return {"throttle_time": 0, "coordinators": answers}
    return {"throttle_time": 0, **answers[0]}


def _coordinator(found: FoundCoordinator, listener: str) -> Values:
    broker, error = found.broker, found.error
    at = None if broker is None else broker.kafka_listener(listener)
    if broker is not None and at is None:
        error = CoordinatorNotAvailableError(f"broker {broker.name} has no listener {listener}")
    if error is not None or broker is None or at is None:
        return {
            "key": found.key,
            "error_code": code(error),
            "error_message": str(error),
            "node_id": -1,
            "host": "",
            "port": -1,
        }
    return {
        "key": found.key,
        "error_code": 0,
        "error_message": None,
        "node_id": broker.broker_id,
        "host": at.host,
        "port": at.port,
    }


# --- membership ----------------------------------------------------------------------------------


async def join_group(service: BrokerService, call: Call, request: requests.JoinGroup) -> Values:
    rebalance_timeout_ms = request.rebalance_timeout
    if (
        rebalance_timeout_ms is None
    ):  # before there was one, a rebalance lasted as long as a session
        rebalance_timeout_ms = request.session_timeout
    result = await service.groups.join_group(
        JoinGroupRequest(
            request.group_id,
            request.member_id,
            request.protocol_type,
            [GroupProtocol(each.name, each.metadata) for each in request.protocols],
            request.session_timeout,
            rebalance_timeout_ms,
            request.group_instance_id,
            call.client_id,
            call.client_host,
            requires_known_member_id=call.version >= _MEMBER_ID_REQUIRED,
            supports_skipping_assignment=call.version >= _SKIPS_ASSIGNMENT,
        )
    )
    nullable = call.version >= _NULLABLE_PROTOCOL
    return {
        "throttle_time": 0,
        "error_code": code(result.error),
        "generation_id": result.generation_id,
        "protocol_type": result.protocol_type,
        "protocol_name": result.protocol_name if nullable else result.protocol_name or "",
        "leader": result.leader_id,
        "skip_assignment": result.skip_assignment,
        "member_id": result.member_id,
        "members": [
            {
                "member_id": each.member_id,
                "group_instance_id": each.instance_id,
                "metadata": each.metadata,
            }
            for each in result.members
        ],
    }


async def sync_group(service: BrokerService, call: Call, request: requests.SyncGroup) -> Values:
    if call.version >= _PROTOCOL_REQUIRED and None in (
        request.protocol_type,
        request.protocol_name,
    ):
        return {
            "throttle_time": 0,
            "error_code": InconsistentGroupProtocolError.code,
            "protocol_type": None,
            "protocol_name": None,
            "assignment": b"",
        }
    result = await service.groups.sync_group(
        SyncGroupRequest(
            request.group_id,
            request.generation_id,
            request.member_id,
            [(each.member_id, each.assignment) for each in request.assignments],
            request.group_instance_id,
            request.protocol_type,
            request.protocol_name,
        )
    )
    return {
        "throttle_time": 0,
        "error_code": code(result.error),
        "protocol_type": result.protocol_type,
        "protocol_name": result.protocol_name,
        "assignment": result.assignment,
    }


async def heartbeat(service: BrokerService, call: Call, request: requests.Heartbeat) -> Values:
    result = await service.groups.heartbeat(
        HeartbeatRequest(
            request.group_id,
            request.generation_id,
            request.member_id,
            request.group_instance_id,
        )
    )
    return {"throttle_time": 0, "error_code": code(result.error)}


async def leave_group(service: BrokerService, call: Call, request: requests.LeaveGroup) -> Values:
    if call.version >= _SEVERAL_MEMBERS:
        members = [
            LeavingMember(each.member_id, each.group_instance_id) for each in request.members
        ]
    else:
        members = [LeavingMember(request.member_id)]
    result = await service.groups.leave_group(LeaveGroupRequest(request.group_id, members))
    error = result.error
    if error is None and call.version < _SEVERAL_MEMBERS:
        error = result.members[0].error
    return {
        "throttle_time": 0,
        "error_code": code(error),
        "members": [
            {
                "member_id": each.member_id,
                "group_instance_id": each.instance_id,
                "error_code": code(each.error),
            }
            for each in result.members
        ],
    }


# --- offsets -------------------------------------------------------------------------------------


async def offset_commit(
    service: BrokerService, call: Call, request: requests.OffsetCommit
) -> Values:
    """A retention time, which old versions give, is not heeded."""
    commit = OffsetCommitRequest(
        request.group_id,
        await offsets_of(request.topics),
        request.generation_id_or_member_epoch,
        request.member_id,
        request.group_instance_id,
    )
    result = await service.groups.commit_offsets(commit)
    return {"throttle_time": 0, "topics": await partition_errors(result.partitions)}


async def offsets_of(topics: Sequence[requests.OffsetCommitTopic]) -> list[OffsetCommitPartition]:
    """What is to be committed."""
    return [
        OffsetCommitPartition(
            topic_partition(name, each.partition_index),
            each.committed_offset,
            each.committed_leader_epoch,
            each.committed_metadata or "",
        )
        async for name, each in in_slices(
            (topic.name, each) for topic in topics for each in topic.partitions
        )
    ]


async def partition_errors(
    results: Iterable[OffsetCommitPartitionResult],
    told: Callable[[MinikafkaError | None], int] = code,
) -> list[Values]:
    """By topic; `told` is the code of an error."""
    topics: dict[str, list[Values]] = {}
    async for each in in_slices(results):
        partition = {
            "partition_index": each.topic_partition.partition,
            "error_code": told(each.error),
        }
        topics.setdefault(each.topic_partition.topic, []).append(partition)
    return [{"name": name, "partitions": items} for name, items in topics.items()]


async def offset_fetch(service: BrokerService, call: Call, request: requests.OffsetFetch) -> Values:
    if call.version >= _SEVERAL_GROUPS:
        groups = [
            OffsetFetchGroup(each.group_id, await _named(each.topics))
            async for each in in_slices(request.groups)
        ]
    else:
        groups = [OffsetFetchGroup(request.group_id, await _named(request.topics))]
    fetch = OffsetFetchRequest(groups, request.require_stable)
    results = (await service.groups.fetch_offsets(fetch)).groups
    if call.version >= _SEVERAL_GROUPS:
        answers = [
            {
                "group_id": each.group_id,
                "topics": await _committed(each.partitions),
                "error_code": code(each.error),
            }
            async for each in in_slices(results)
        ]
        return {"throttle_time": 0, "groups": answers}
    return {"throttle_time": 0, **await _only_group(call.version, groups[0], results[0])}


async def _named(topics: Sequence[requests.PartitionIndexes] | None) -> list[TopicPartition] | None:
    if topics is None:
        return None
    named = ((topic.name, index) for topic in topics for index in topic.partition_indexes)
    each = [topic_partition(name, index) async for name, index in in_slices(named)]
    return list(dict.fromkeys(each))


async def _only_group(
    version: int, asked: OffsetFetchGroup, result: OffsetFetchGroupResult
) -> Values:
    """At first there was no error of a group, so each partition says it."""
    partitions = result.partitions
    if result.error is not None and version < _GROUP_ERRORS:
        partitions = [CommittedOffset(each, error=result.error) for each in asked.partitions or ()]
    return {"topics": await _committed(partitions), "error_code": code(result.error)}


async def _committed(partitions: Iterable[CommittedOffset]) -> list[Values]:
    topics: dict[str, list[Values]] = {}
    async for each in in_slices(partitions):
        partition = {
            "partition_index": each.topic_partition.partition,
            "committed_offset": each.offset,
            "committed_leader_epoch": each.leader_epoch,
            "metadata": each.metadata,
            "error_code": code(each.error),
        }
        topics.setdefault(each.topic_partition.topic, []).append(partition)
    return [{"name": name, "partitions": items} for name, items in topics.items()]


async def offset_delete(
    service: BrokerService, call: Call, request: requests.OffsetDelete
) -> Values:
    wanted = [
        topic_partition(name, each.partition_index)
        async for name, each in in_slices(
            (topic.name, each) for topic in request.topics for each in topic.partitions
        )
    ]
    result = await service.groups.delete_offsets(OffsetDeleteRequest(request.group_id, wanted))
    return {
        "throttle_time": 0,
        "error_code": code(result.error),
        "topics": await partition_errors(result.partitions),
    }


# --- administration ------------------------------------------------------------------------------


async def describe_groups(
    service: BrokerService, call: Call, request: requests.DescribeGroups
) -> Values:
    result = await service.groups.describe_groups(DescribeGroupsRequest(request.groups))
    asked_for = request.include_authorized_operations

    def answer(group: GroupDescription) -> Values:
        refused = isinstance(group.error, GroupAuthorizationFailedError)
        operations = on_group(service, group.group_id, asked_for=asked_for and not refused)
        return _described(group, operations)

    return {
        "throttle_time": 0,
        "groups": [answer(each) async for each in in_slices(result.groups)],
    }


def _described(group: GroupDescription, operations: int) -> Values:
    return {
        "error_code": code(group.error),
        "group_id": group.group_id,
        "group_state": group.state,
        "protocol_type": group.protocol_type,
        "protocol_data": group.protocol_name,
        "members": [
            {
                "member_id": each.member_id,
                "group_instance_id": each.instance_id,
                "client_id": each.client_id,
                "client_host": each.client_host,
                "member_metadata": each.metadata,
                "member_assignment": each.assignment,
            }
            for each in group.members
        ],
        "authorized_operations": operations,
    }


async def list_groups(service: BrokerService, call: Call, request: requests.ListGroups) -> Values:
    wanted = ListGroupsRequest(request.states_filter)
    result = await service.groups.list_groups(wanted)
    return {
        "throttle_time": 0,
        "error_code": code(result.error),
        "groups": [
            {
                "group_id": each.group_id,
                "protocol_type": each.protocol_type,
                "group_state": each.state,
                "group_type": each.group_type,
            }
            for each in result.groups
        ],
    }


async def delete_groups(
    service: BrokerService, call: Call, request: requests.DeleteGroups
) -> Values:
    result = await service.groups.delete_groups(
        DeleteGroupsRequest(list(dict.fromkeys(request.groups_names)))
    )
    return {
        "throttle_time": 0,
        "results": [
            {"group_id": each.group_id, "error_code": code(each.error)}
            async for each in in_slices(result.groups)
        ],
    }


HANDLERS: Handlers = {
    ApiKey.OFFSET_COMMIT: Handler(requests.OffsetCommit, offset_commit),
    ApiKey.OFFSET_FETCH: Handler(requests.OffsetFetch, offset_fetch),
    ApiKey.FIND_COORDINATOR: Handler(requests.FindCoordinator, find_coordinator),
    ApiKey.JOIN_GROUP: Handler(requests.JoinGroup, join_group),
    ApiKey.HEARTBEAT: Handler(requests.Heartbeat, heartbeat),
    ApiKey.LEAVE_GROUP: Handler(requests.LeaveGroup, leave_group),
    ApiKey.SYNC_GROUP: Handler(requests.SyncGroup, sync_group),
    ApiKey.DESCRIBE_GROUPS: Handler(requests.DescribeGroups, describe_groups),
    ApiKey.LIST_GROUPS: Handler(requests.ListGroups, list_groups),
    ApiKey.DELETE_GROUPS: Handler(requests.DeleteGroups, delete_groups),
    ApiKey.OFFSET_DELETE: Handler(requests.OffsetDelete, offset_delete),
}
