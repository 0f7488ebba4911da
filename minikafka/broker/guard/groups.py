"""Consumer groups as one caller may use them. What a call needs stands with it: on the group, where
nothing else is said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from minikafka.api.groups import (
    COORDINATES_GROUPS,
    CommittedOffset,
    DeletedGroup,
    DeleteGroupsRequest,
    DeleteGroupsResult,
    DescribeGroupsRequest,
    DescribeGroupsResult,
    FindCoordinatorRequest,
    FindCoordinatorResult,
    FoundCoordinator,
    GroupDescription,
    HeartbeatRequest,
    HeartbeatResult,
    JoinGroupRequest,
    JoinGroupResult,
    LeaveGroupRequest,
    LeaveGroupResult,
    ListGroupsRequest,
    ListGroupsResult,
    OffsetCommitPartition,
    OffsetCommitPartitionResult,
    OffsetCommitRequest,
    OffsetCommitResult,
    OffsetDeleteRequest,
    OffsetDeleteResult,
    OffsetFetchGroup,
    OffsetFetchGroupResult,
    OffsetFetchRequest,
    OffsetFetchResult,
    SyncGroupRequest,
    SyncGroupResult,
)
from minikafka.api.service import GroupService
from minikafka.api.transactions import TxnOffsetCommitRequest
from minikafka.broker.guard.asking import Asking, Refusals, merged, without
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition
from minikafka.security.acl import Operation, ResourceType
from minikafka.turns import in_slices

_GROUP, _TOPIC = ResourceType.GROUP, ResourceType.TOPIC
_OFFSET_FETCH = "OffsetFetch"
_READ, _DESCRIBE, _DELETE = Operation.READ, Operation.DESCRIBE, Operation.DELETE


class GuardedGroups:
    """Implements GroupService over another one."""

    def __init__(self, groups: GroupService, asking: Asking) -> None:
        self._groups = groups
        self._asking = asking

    async def find_coordinator(self, request: FindCoordinatorRequest) -> FindCoordinatorResult:
        """Describe. (There are no coordinators of other kinds: the raw service says so.)"""
        if request.key_type != COORDINATES_GROUPS:
            return await self._groups.find_coordinator(request)
        return await find_coordinators(self._asking, _GROUP, request, self._groups.find_coordinator)

    # --- membership: Read -------------------------------------------------------------------------

    async def join_group(self, request: JoinGroupRequest) -> JoinGroupResult:
        error = self._asking.refusal("JoinGroup", _READ, _GROUP, request.group_id)
        if error is not None:
            return JoinGroupResult(error, request.member_id)
        return await self._groups.join_group(request)

    async def sync_group(self, request: SyncGroupRequest) -> SyncGroupResult:
        error = self._asking.refusal("SyncGroup", _READ, _GROUP, request.group_id)
        if error is not None:
            return SyncGroupResult(error)
        return await self._groups.sync_group(request)

    async def heartbeat(self, request: HeartbeatRequest) -> HeartbeatResult:
        error = self._asking.refusal("Heartbeat", _READ, _GROUP, request.group_id)
        if error is not None:
            return HeartbeatResult(error)
        return await self._groups.heartbeat(request)

    async def leave_group(self, request: LeaveGroupRequest) -> LeaveGroupResult:
        error = self._asking.refusal("LeaveGroup", _READ, _GROUP, request.group_id)
        if error is not None:
            return LeaveGroupResult(error)
        return await self._groups.leave_group(request)

    # --- offsets ----------------------------------------------------------------------------------

    async def commit_offsets(self, request: OffsetCommitRequest) -> OffsetCommitResult:
        """Read, and Read on the topics."""
        error = self._asking.refusal("OffsetCommit", _READ, _GROUP, request.group_id)
        if error is not None:
            return await _all_refused(request.partitions, error)

        async def commit(allowed: Sequence[OffsetCommitPartition]) -> OffsetCommitResult:
            if allowed is not request.partitions:
                return await self._groups.commit_offsets(replace(request, partitions=allowed))
            return await self._groups.commit_offsets(request)

        return await self._commit("OffsetCommit", request.partitions, commit)

    async def commit_offsets_in_transaction(
        self, request: TxnOffsetCommitRequest
    ) -> OffsetCommitResult:
        """Write on the transactional id, Read, and Read on the topics."""
        name, transactional_id = "TxnOffsetCommit", ResourceType.TRANSACTIONAL_ID
        error = self._asking.refusal(
            name, Operation.WRITE, transactional_id, request.transactional_id
        ) or self._asking.refusal(name, _READ, _GROUP, request.group_id)
        if error is not None:
            return await _all_refused(request.partitions, error)

        async def commit(allowed: Sequence[OffsetCommitPartition]) -> OffsetCommitResult:
            if allowed is not request.partitions:
                request_of_rest = replace(request, partitions=allowed)
                return await self._groups.commit_offsets_in_transaction(request_of_rest)
            return await self._groups.commit_offsets_in_transaction(request)

        return await self._commit(name, request.partitions, commit)

    async def _commit(
        self,
        name: str,
        partitions: Sequence[OffsetCommitPartition],
        commit: Callable[[Sequence[OffsetCommitPartition]], Awaitable[OffsetCommitResult]],
    ) -> OffsetCommitResult:
        """A partition that is named again is answered once."""
        topics = (each.topic_partition.topic for each in partitions)
        refused = await self._asking.refusals(name, _READ, _TOPIC, topics)
        if not refused:
            return await commit(partitions)
        allowed = await without(partitions, refused)
        found = await commit(allowed) if allowed else OffsetCommitResult([])
        named = (each.topic_partition for each in partitions)
        return OffsetCommitResult(await _with_refused(named, refused, found.partitions))

    async def fetch_offsets(self, request: OffsetFetchRequest) -> OffsetFetchResult:
        """Describe; and of the topics those that may be described: others that are named are
        refused, of all that there are they are left out."""
        groups = (each.group_id for each in request.groups)
        refused = await self._asking.refusals(_OFFSET_FETCH, _DESCRIBE, _GROUP, groups)
        plans = [
            _Plan(each, refused[each.group_id])
            if each.group_id in refused
            else await self._plan(each)
            async for each in in_slices(request.groups)
        ]
        asked = [plan.rest for plan in plans if plan.rest is not None]
        if all(plan.rest is plan.group for plan in plans):
            found = await self._groups.fetch_offsets(request)
        elif asked:
            found = await self._groups.fetch_offsets(replace(request, groups=asked))
        else:
            found = OffsetFetchResult([])
        results = iter(found.groups)
        return OffsetFetchResult(
            [
                _refused_group(plan)
                if plan.rest is None
                else await self._allowed_group(plan, next(results))
                async for plan in in_slices(plans)
            ]
        )

    async def _plan(self, group: OffsetFetchGroup) -> _Plan:
        if group.partitions is None:
            return _Plan(group, None, {}, group)
        topics = (each.topic for each in group.partitions)
        refused = await self._asking.refusals(_OFFSET_FETCH, _DESCRIBE, _TOPIC, topics)
        if not refused:
            return _Plan(group, None, {}, group)
        partitions = in_slices(group.partitions)
        allowed = [each async for each in partitions if each.topic not in refused]
        rest = OffsetFetchGroup(group.group_id, allowed) if allowed else None
        return _Plan(group, None, refused, rest)

    async def _allowed_group(
        self, plan: _Plan, found: OffsetFetchGroupResult
    ) -> OffsetFetchGroupResult:
        named = plan.group.partitions
        if found.error is not None or (named is not None and not plan.refused):
            return found
        if named is not None:
            offsets = merged(named, plan.refused, found.partitions, _no_offset)
            return replace(found, partitions=offsets)
        topics = (each.topic_partition.topic for each in found.partitions)
        hidden = await self._asking.hidden(_OFFSET_FETCH, _DESCRIBE, _TOPIC, topics)
        if not hidden:
            return found
        seen = [
            each
            async for each in in_slices(found.partitions)
            if each.topic_partition.topic not in hidden
        ]
        return replace(found, partitions=seen)

    async def delete_offsets(self, request: OffsetDeleteRequest) -> OffsetDeleteResult:
        """Delete, and Read on the topics."""
        name = "OffsetDelete"
        error = self._asking.refusal(name, _DELETE, _GROUP, request.group_id)
        if error is not None:
            return OffsetDeleteResult(error)
        topics = (each.topic for each in request.partitions)
        refused = await self._asking.refusals(name, _READ, _TOPIC, topics)
        if not refused:
            return await self._groups.delete_offsets(request)
        partitions = in_slices(request.partitions)
        allowed = [each async for each in partitions if each.topic not in refused]
        if not allowed:
            found = OffsetDeleteResult(None)
        else:
            found = await self._groups.delete_offsets(replace(request, partitions=allowed))
        if found.error is not None:
            return found
        results = await _with_refused(request.partitions, refused, found.partitions)
        return OffsetDeleteResult(None, results)

    # --- administration ---------------------------------------------------------------------------

    async def describe_groups(self, request: DescribeGroupsRequest) -> DescribeGroupsResult:
        """Describe."""

        async def describe(allowed: Sequence[str]) -> Sequence[GroupDescription]:
            rest = request
            if allowed is not request.group_ids:
                rest = DescribeGroupsRequest(allowed)
            return (await self._groups.describe_groups(rest)).groups

        groups = await self._asking.of_names(
            "DescribeGroups", _DESCRIBE, _GROUP, request.group_ids, describe, GroupDescription
        )
        return DescribeGroupsResult(groups)

    async def list_groups(self, request: ListGroupsRequest) -> ListGroupsResult:
        """Describe on the cluster; else those that may be described."""
        name = "ListGroups"
        found = await self._groups.list_groups(request)
        if self._asking.may(name, _DESCRIBE, named=False):
            return found
        groups = (each.group_id for each in found.groups)
        hidden = await self._asking.hidden(name, _DESCRIBE, _GROUP, groups)
        if not hidden:
            return found
        return replace(found, groups=[each for each in found.groups if each.group_id not in hidden])

    async def delete_groups(self, request: DeleteGroupsRequest) -> DeleteGroupsResult:
        """Delete."""

        async def delete(allowed: Sequence[str]) -> Sequence[DeletedGroup]:
            rest = request
            if allowed is not request.group_ids:
                rest = DeleteGroupsRequest(allowed)
            return (await self._groups.delete_groups(rest)).groups

        groups = await self._asking.of_names(
            "DeleteGroups", _DELETE, _GROUP, request.group_ids, delete, DeletedGroup
        )
        return DeleteGroupsResult(groups)


@dataclass(slots=True)
class _Plan:
    """What becomes of a group whose offsets are asked for: it is refused, or some of its topics
    are, and `rest` is what the raw service is asked; None: nothing."""

    group: OffsetFetchGroup
    error: MinikafkaError | None
    refused: Refusals = field(default_factory=dict)
    rest: OffsetFetchGroup | None = None


def _no_offset(topic_partition: TopicPartition, error: MinikafkaError) -> CommittedOffset:
    return CommittedOffset(topic_partition, error=error)


def _refused_group(plan: _Plan) -> OffsetFetchGroupResult:
    if plan.error is not None:
        return OffsetFetchGroupResult(plan.group.group_id, plan.error)
    offsets = merged(plan.group.partitions or (), plan.refused, (), _no_offset)
    return OffsetFetchGroupResult(plan.group.group_id, None, offsets)


async def _all_refused(
    partitions: Sequence[OffsetCommitPartition], error: MinikafkaError
) -> OffsetCommitResult:
    named = dict.fromkeys(each.topic_partition for each in partitions)
    return OffsetCommitResult(
        [OffsetCommitPartitionResult(each, error) async for each in in_slices(named)]
    )


async def _with_refused(
    named: Iterable[TopicPartition],
    refused: Refusals,
    found: Sequence[OffsetCommitPartitionResult],
) -> list[OffsetCommitPartitionResult]:
    """One result for each partition, in order; those that were found come in any."""
    results = {each.topic_partition: each for each in found}
    return [
        OffsetCommitPartitionResult(each, refused[each.topic])
        if each.topic in refused
        else results[each]
        async for each in in_slices(dict.fromkeys(named))
    ]


async def find_coordinators(
    asking: Asking,
    type: ResourceType,
    request: FindCoordinatorRequest,
    find: Callable[[FindCoordinatorRequest], Awaitable[FindCoordinatorResult]],
) -> FindCoordinatorResult:
    """Of those keys, ids of resources of this type, that may be described."""

    async def ask(allowed: Sequence[str]) -> Sequence[FoundCoordinator]:
        rest = request if allowed is request.keys else replace(request, keys=allowed)
        return (await find(rest)).coordinators

    found = await asking.of_names(
        "FindCoordinator", _DESCRIBE, type, request.keys, ask, FoundCoordinator
    )
    return FindCoordinatorResult(found)
