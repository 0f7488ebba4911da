"""Administration of consumer groups: the part of AsyncAdmin that goes to coordinators.

No state of its own. A call about one group raises its error; those about several have an error in
each result.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from minikafka.api.groups import (
    CommittedOffset,
    DeletedGroup,
    DeleteGroupsRequest,
    DescribeGroupsRequest,
    GroupDescription,
    ListedGroup,
    ListGroupsRequest,
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchGroup,
    OffsetFetchRequest,
)
from minikafka.api.requests import ClusterMetadata
from minikafka.api.service import GroupService
from minikafka.client.administering.every_broker import ask_every_broker
from minikafka.client.channel import Channel
from minikafka.client.consuming.coordinator import Coordinator
from minikafka.client.metadata import Cluster
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition


class GroupAdmin:
    """What it needs of the rest of the admin stands first."""

    _cluster: Cluster
    _timeout_ms: float

    @abstractmethod
    async def metadata(self, topics: Sequence[str] | None = None) -> ClusterMetadata: ...

    async def list_groups(self, states: Iterable[str] = ()) -> list[ListedGroup]:
        """All groups of the cluster, or those in one of these states (Empty, PreparingRebalance,
        CompletingRebalance, Stable, Dead), by name. Every live broker has to answer, or groups
        would be missing: one that dies is waited for until it is known to be dead, one that still
        loads until it has loaded."""
        request = ListGroupsRequest(tuple(states))

        async def ask(channel: Channel) -> Sequence[ListedGroup]:
            result = await channel.groups.list_groups(request)
            if result.error is not None:
                raise result.error
            return result.groups

        answers = await ask_every_broker(self._cluster, self.metadata, ask, self._timeout_ms)
        found = {each.group_id: each for groups in answers for each in groups}
        return [found[name] for name in sorted(found)]

    async def describe_groups(self, group_ids: Iterable[str]) -> list[GroupDescription]:
        """State, protocol and members of each, in the order asked for. A group that does not exist
        is Dead, and has no error."""

        async def describe(group_id: str) -> GroupDescription:
            request = DescribeGroupsRequest([group_id])

            async def ask(groups: GroupService) -> GroupDescription:
                [only] = (await groups.describe_groups(request)).groups
                return only

            try:
                return await Coordinator(self._cluster, group_id).call(ask, self._timeout_ms)
            except MinikafkaError as error:
                return GroupDescription(group_id, error)

        return list(await asyncio.gather(*(describe(each) for each in group_ids)))

    async def delete_groups(self, group_ids: Iterable[str]) -> list[DeletedGroup]:
        """Delete groups without members, with all their offsets: NonEmptyGroupError,
        GroupIdNotFoundError in the results."""

        async def delete(group_id: str) -> DeletedGroup:
            request = DeleteGroupsRequest([group_id])

            async def ask(groups: GroupService) -> DeletedGroup:
                [only] = (await groups.delete_groups(request)).groups
                return only

            try:
                return await Coordinator(self._cluster, group_id).call(ask, self._timeout_ms)
            except MinikafkaError as error:
                return DeletedGroup(group_id, error)

        return list(await asyncio.gather(*(delete(each) for each in group_ids)))

    async def group_offsets(self, group_id: str) -> dict[TopicPartition, CommittedOffset]:
        """All that a group has committed."""
        request = OffsetFetchRequest([OffsetFetchGroup(group_id, None)])

        async def ask(groups: GroupService) -> Sequence[CommittedOffset]:
            [result] = (await groups.fetch_offsets(request)).groups
            if result.error is not None:
                raise result.error
            return result.partitions

        found = await Coordinator(self._cluster, group_id).call(ask, self._timeout_ms)
        return {each.topic_partition: each for each in found}

    async def alter_group_offsets(
        self, group_id: str, offsets: Mapping[TopicPartition, int]
    ) -> None:
        """Commit for a group that has no members (UnknownMemberIdError if it has)."""
        partitions = [OffsetCommitPartition(each, offset) for each, offset in offsets.items()]
        request = OffsetCommitRequest(group_id, partitions)

        async def ask(groups: GroupService) -> None:
            for each in (await groups.commit_offsets(request)).partitions:
                if each.error is not None:
                    raise each.error

        if partitions:
            await Coordinator(self._cluster, group_id).call(ask, self._timeout_ms)

    async def delete_group_offsets(
        self, group_id: str, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, MinikafkaError | None]:
        """Forget offsets; GroupSubscribedToTopicError for a topic that a member reads."""
        request = OffsetDeleteRequest(group_id, list(partitions))
        coordinator = Coordinator(self._cluster, group_id)
        result = await coordinator.call(
            lambda groups: groups.delete_offsets(request), self._timeout_ms
        )
        if result.error is not None:
            raise result.error
        return {each.topic_partition: each.error for each in result.partitions}
