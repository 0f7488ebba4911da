"""The group coordinator of a broker: the GroupService of ports.py.

A group belongs to the partition `hash(group id) % partitions` of `__consumer_offsets`, and is
coordinated by the broker that leads it. Here a request finds its group (shards.py), is handed to it
(core/groups/group.py decides, shard.py carries out), and its answer is awaited.

State: none of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar
from uuid import uuid4

from minikafka.api.groups import (
    COORDINATES_GROUPS,
    UNKNOWN_MEMBER,
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
    LeftMember,
    ListedGroup,
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
from minikafka.api.transactions import TxnOffsetCommitRequest
from minikafka.broker.coordinators.topic import CoordinatorTopic
from minikafka.broker.groups.shard import GroupShard
from minikafka.broker.groups.shards import GroupShards
from minikafka.broker.groups.transactional import OffsetsAppend, told
from minikafka.broker.metadata import MetadataCache
from minikafka.config import BrokerConfig
from minikafka.core.groups.effects import DeleteGroupResult, Now
from minikafka.core.groups.group import Group
from minikafka.core.groups.lifecycle import GroupState
from minikafka.core.groups.members import size_of
from minikafka.core.groups.offsets import note_outcome, offsets_to_write
from minikafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    IllegalGenerationError,
    InvalidRequestError,
    MinikafkaError,
    RequestTimedOutError,
    UnknownMemberIdError,
)
from minikafka.model import TopicPartition
from minikafka.turns import in_slices

COMMIT_TIMEOUT_S = 5.0  # offsets.commit.timeout.ms in Kafka
CLASSIC = "classic"
_OFFSETS_AT_ONCE = 5_000  # are looked up in one go: a millisecond or two
_SHOWN_OF_CLIENT = 200  # characters of a client's id in its member id, which is stored as well

R = TypeVar("R")


def new_id() -> str:
    return str(uuid4())


class GroupCoordinator:
    """`shards` has the groups that this broker coordinates, `topic` knows who has the others; `now`
    gives both times."""

    def __init__(
        self,
        config: BrokerConfig,
        metadata: MetadataCache,
        topic: CoordinatorTopic,
        shards: GroupShards,
        now: Callable[[], Now],
        make_id: Callable[[], str] = new_id,
    ) -> None:
        self._config = config
        self._metadata = metadata
        self._topic = topic
        self._shards = shards
        self._now = now
        self._make_id = make_id

    # --- whose group is it -----------------------------------------------------------------------

    async def find_coordinator(self, request: FindCoordinatorRequest) -> FindCoordinatorResult:
        if request.key_type != COORDINATES_GROUPS:
            wrong = InvalidRequestError(f"coordinators of kind {request.key_type} do not exist")
            asked = in_slices(dict.fromkeys(request.keys))
            return FindCoordinatorResult([FoundCoordinator(k, wrong) async for k in asked])
        try:
            self._shards.check_in_touch()  # or the client would be sent to who led before
        except MinikafkaError as error:
            keys = in_slices(dict.fromkeys(request.keys))
            return FindCoordinatorResult([self._is_coordinator(k, error) async for k in keys])
        return await self._topic.find_coordinators(request.keys)

    def _is_coordinator(self, group_id: str, error: MinikafkaError) -> FoundCoordinator:
        """What a broker out of touch still knows: of which groups it is the coordinator itself."""
        here = self._metadata.brokers.get(self._config.broker_id)
        try:
            self._shards.of_group(group_id, empty_id=True)
        except MinikafkaError:
            return FoundCoordinator(group_id, error)
        return FoundCoordinator(group_id, None, here)

    # --- membership ------------------------------------------------------------------------------

    async def join_group(self, request: JoinGroupRequest) -> JoinGroupResult:
        try:
            shard = self._shards.of_group(request.group_id)
            if request.member_id == UNKNOWN_MEMBER:
                self._check_room(request)
                group = shard.get_or_create(request.group_id)
            else:
                group = self._known(shard, request.group_id, request.member_id)
                if request.member_id not in group.members:
                    self._check_room(request)
        except MinikafkaError as error:
            return JoinGroupResult(error, request.member_id)
        whose = request.client_id if request.instance_id is None else request.instance_id
        fresh_id = f"{whose[:_SHOWN_OF_CLIENT]}-{self._make_id()}"
        token = _token(JoinGroupResult)
        shard.apply(group, group.join(request, fresh_id, token, self._now()))
        return await token

    def _check_room(self, request: JoinGroupRequest) -> None:
        """What members tell is kept for as long as their sessions last. CoordinatorNotAvailable for
        a new one beyond a quarter of queued.max.request.bytes: those that are there go on."""
        held_bytes = self._shards.held_bytes
        if held_bytes + size_of(request.protocols) > self._config.queued_max_request_bytes // 4:
            raise CoordinatorNotAvailableError(
                f"broker {self._config.broker_id} keeps {held_bytes} bytes for members of groups, "
                "a quarter of queued.max.request.bytes: try again"
            )

    async def sync_group(self, request: SyncGroupRequest) -> SyncGroupResult:
        try:
            shard = self._shards.of_group(request.group_id)
            group = self._known(shard, request.group_id, request.member_id)
        except MinikafkaError as error:
            return SyncGroupResult(error)
        token = _token(SyncGroupResult)
        shard.apply(group, group.sync(request, token, self._now()))
        return await token

    async def heartbeat(self, request: HeartbeatRequest) -> HeartbeatResult:
        try:
            shard = self._shards.of_group(request.group_id)
            self._known(shard, request.group_id, request.member_id).heartbeat(request, self._now())
        except CoordinatorLoadInProgressError:
            return HeartbeatResult(None)  # it will be known soon; its session begins then
        except MinikafkaError as error:
            return HeartbeatResult(error)
        return HeartbeatResult(None)

    async def leave_group(self, request: LeaveGroupRequest) -> LeaveGroupResult:
        try:
            shard = self._shards.of_group(request.group_id)
            group = shard.groups.get(request.group_id)
            if group is None:
                return LeaveGroupResult(
                    None,
                    [
                        LeftMember(each.member_id, each.instance_id, _no_member(each.member_id))
                        for each in request.members
                    ],
                )
            left, effects = group.leave(request, self._now())
        except MinikafkaError as error:
            return LeaveGroupResult(error)
        shard.apply(group, effects)
        return LeaveGroupResult(None, left)

    @staticmethod
    def _known(shard: GroupShard, group_id: str, member_id: str) -> Group:
        group = shard.groups.get(group_id)
        if group is None:
            raise _no_member(member_id)
        return group

    # --- offsets ---------------------------------------------------------------------------------

    async def commit_offsets(self, request: OffsetCommitRequest) -> OffsetCommitResult:
        """A partition that is named more than once counts as it is named last."""
        return await self._commit_known_of(
            request.partitions,
            lambda known: self._commit_known(
                OffsetCommitRequest(
                    request.group_id,
                    known,
                    request.generation_id,
                    request.member_id,
                    request.instance_id,
                )
            ),
        )

    async def commit_offsets_in_transaction(
        self, request: TxnOffsetCommitRequest
    ) -> OffsetCommitResult:
        """As `commit_offsets`, but they are staged until the transaction ends."""
        return await self._commit_known_of(
            request.partitions, lambda known: self._stage_known(replace(request, partitions=known))
        )

    async def _commit_known_of(
        self,
        partitions: Sequence[OffsetCommitPartition],
        commit: Callable[
            [Sequence[OffsetCommitPartition]], Awaitable[Sequence[OffsetCommitPartitionResult]]
        ],
    ) -> OffsetCommitResult:
        """Those that there are; each of the others has an error of its own."""
        wanted = {each.topic_partition: each for each in partitions}
        results = [
            OffsetCommitPartitionResult(each, self._unknown(each))
            async for each in in_slices(wanted)
        ]
        known = [wanted[each.topic_partition] for each in results if each.error is None]
        if known:
            answers = {each.topic_partition: each.error for each in await commit(known)}
            for result in results:
                result.error = answers.get(result.topic_partition, result.error)
        return OffsetCommitResult(results)

    async def _commit_known(
        self, request: OffsetCommitRequest
    ) -> Sequence[OffsetCommitPartitionResult]:
        try:
            shard = self._shards.of_group(request.group_id, empty_id=True)
            if request.generation_id < 0:
                group = shard.get_or_create(request.group_id)
            elif request.group_id in shard.groups:
                group = shard.groups[request.group_id]
            else:
                raise _no_generation(request.group_id, request.generation_id)
            token = _token(OffsetCommitResult)
            limit = self._config.offset_metadata_max_bytes
            shard.apply(group, group.commit(request, limit, token, self._now()))
            return (await _in_time(token)).partitions
        except MinikafkaError as error:
            return [
                OffsetCommitPartitionResult(each.topic_partition, error)
                for each in request.partitions
            ]

    async def _stage_known(
        self, request: TxnOffsetCommitRequest
    ) -> Sequence[OffsetCommitPartitionResult]:
        try:
            shard = self._check_in_transaction(request)
        except MinikafkaError as error:
            refused = told(error.with_traceback(None), request)
            return [
                OffsetCommitPartitionResult(each.topic_partition, refused)
                for each in request.partitions
            ]
        now, limit = self._now(), self._config.offset_metadata_max_bytes
        results, offsets = offsets_to_write(request.partitions, limit, now)
        if offsets:
            check = partial(self._check_in_transaction, request)
            try:
                append = OffsetsAppend(shard, request, offsets, now.timestamp_ms, check)
                append.begin()
                outcome = await append.in_time(COMMIT_TIMEOUT_S)
            except MinikafkaError as error:
                outcome = error.with_traceback(None)
            note_outcome(outcome and told(outcome, request), results, offsets)
        return results

    def _check_in_transaction(self, request: TxnOffsetCommitRequest) -> GroupShard:
        """Where the group is, if it takes this."""
        shard = self._shards.of_group(request.group_id)
        group = shard.groups.get(request.group_id)
        if group is not None:
            group.check_transactional_commit(request)
        elif request.generation_id >= 0:
            raise _no_generation(request.group_id, request.generation_id)
        return shard

    def _unknown(self, topic_partition: TopicPartition) -> MinikafkaError | None:
        if self._metadata.partition(topic_partition) is None:
            return self._metadata.missing(f"there is no partition {topic_partition}")
        return None

    async def fetch_offsets(self, request: OffsetFetchRequest) -> OffsetFetchResult:
        return OffsetFetchResult(
            [
                await self._fetch_group(each, require_stable=request.require_stable)
                async for each in in_slices(request.groups)
            ]
        )

    async def _fetch_group(
        self, wanted: OffsetFetchGroup, *, require_stable: bool
    ) -> OffsetFetchGroupResult:
        """Some partitions in a slice. Between two of them the group may end, or move to another
        broker, so it is looked up for each: then it has no offsets, or the whole has an error."""
        found: list[CommittedOffset] = []
        try:
            partitions = self._offset_partitions(wanted, require_stable=require_stable)
            parts = range(0, len(partitions), _OFFSETS_AT_ONCE)
            async for start in in_slices(parts):
                part = partitions[start : start + _OFFSETS_AT_ONCE]
                group = self._group_of(wanted.group_id)
                if group is None:
                    found += map(CommittedOffset, part)
                else:
                    found += group.fetch_offsets(part, require_stable=require_stable)
        except MinikafkaError as error:
            return OffsetFetchGroupResult(wanted.group_id, error.with_traceback(None))
        return OffsetFetchGroupResult(wanted.group_id, None, found)

    def _offset_partitions(
        self, wanted: OffsetFetchGroup, *, require_stable: bool
    ) -> Sequence[TopicPartition]:
        group = self._group_of(wanted.group_id)
        if wanted.partitions is not None:
            return wanted.partitions
        return [] if group is None else group.offset_partitions(require_stable=require_stable)

    def _group_of(self, group_id: str) -> Group | None:
        """None if there is none. Raises what `of_group` does."""
        return self._shards.of_group(group_id, empty_id=True).groups.get(group_id)

    async def delete_offsets(self, request: OffsetDeleteRequest) -> OffsetDeleteResult:
        """What is not there has an error of its own, unless the group as a whole has one."""
        unknown = [
            OffsetCommitPartitionResult(each, error)
            async for each in in_slices(request.partitions)
            if (error := self._unknown(each)) is not None
        ]
        missing = {result.topic_partition for result in unknown}
        known = [each async for each in in_slices(request.partitions) if each not in missing]
        try:
            shard = self._shards.of_group(request.group_id)
            group = shard.groups.get(request.group_id)
            if group is None:
                raise _no_group(request.group_id)
            token = _token(OffsetDeleteResult)
            reduced = OffsetDeleteRequest(request.group_id, known)
            shard.apply(group, group.delete_offsets(reduced, token))
            result = await _in_time(token)
        except MinikafkaError as error:
            return OffsetDeleteResult(error)
        if result.error is None:
            result.partitions = [*result.partitions, *unknown]
        return result

    # --- administration --------------------------------------------------------------------------

    async def describe_groups(self, request: DescribeGroupsRequest) -> DescribeGroupsResult:
        ids = in_slices(dict.fromkeys(request.group_ids))
        return DescribeGroupsResult([self._describe(each) async for each in ids])

    def _describe(self, group_id: str) -> GroupDescription:
        try:
            group = self._shards.of_group(group_id, empty_id=True).groups.get(group_id)
        except MinikafkaError as error:
            return GroupDescription(group_id, error.with_traceback(None))
        if group is None:
            return GroupDescription(group_id, None, GroupState.DEAD.value)
        return group.describe()

    async def list_groups(self, request: ListGroupsRequest) -> ListGroupsResult:
        states = {state.lower() for state in request.states}
        types = {kind.lower() for kind in request.types}
        groups = [
            ListedGroup(group.group_id, group.generation.protocol_type or "", group.state.value)
            for group in self._shards.loaded_groups()
            if (not states or group.state.value.lower() in states)
            and (not types or CLASSIC in types)
        ]
        error = None
        if self._shards.loading:
            error = CoordinatorLoadInProgressError(
                f"broker {self._config.broker_id} still reads some of its groups"
            )
        return ListGroupsResult(error, sorted(groups, key=lambda each: each.group_id))

    async def delete_groups(self, request: DeleteGroupsRequest) -> DeleteGroupsResult:
        deleting = [
            asyncio.ensure_future(self._delete(each))
            async for each in in_slices(dict.fromkeys(request.group_ids))
        ]
        return DeleteGroupsResult([await each async for each in in_slices(deleting)])

    async def _delete(self, group_id: str) -> DeletedGroup:
        try:
            shard = self._shards.of_group(group_id, empty_id=True)
            group = shard.groups.get(group_id)
            if group is None:
                raise _no_group(group_id)
            token = _token(DeleteGroupResult)
            shard.apply(group, group.delete(token, self._now()))
            return DeletedGroup(group_id, (await _in_time(token)).error)
        except MinikafkaError as error:
            return DeletedGroup(group_id, error.with_traceback(None))


def _no_member(member_id: str) -> UnknownMemberIdError:
    return UnknownMemberIdError(f"there is no member {member_id!r}: its group is gone")


def _no_generation(group_id: str, generation_id: int) -> IllegalGenerationError:
    return IllegalGenerationError(f"group {group_id!r} has no generation {generation_id}")


def _no_group(group_id: str) -> GroupIdNotFoundError:
    return GroupIdNotFoundError(f"there is no group {group_id!r}")


def _token(_: type[R]) -> asyncio.Future[R]:
    """What a group answers with; typed by the kind of answer."""
    return asyncio.get_running_loop().create_future()


async def _in_time(token: asyncio.Future[R]) -> R:
    try:
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            return await token
    except TimeoutError:
        raise RequestTimedOutError(
            f"not all in-sync replicas had the record within {COMMIT_TIMEOUT_S:.0f} s; "
            "it may yet be committed"
        ) from None
