"""A member of a group, by typed requests to the brokers of a BrokerCluster: for tests of the
coordinator at run time."""

from __future__ import annotations

from minikafka.api.groups import (
    CommittedOffset,
    FindCoordinatorRequest,
    GroupProtocol,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupResult,
    LeaveGroupRequest,
    LeavingMember,
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetFetchGroup,
    OffsetFetchRequest,
    SyncGroupRequest,
    SyncGroupResult,
)
from minikafka.api.service import GroupService
from minikafka.errors import MemberIdRequiredError, MinikafkaError
from minikafka.model import TopicPartition
from tests.helpers.brokers import BrokerCluster
from tests.helpers.group_bench import subscription
from tests.helpers.waiting import until

TP = TopicPartition("t", 0)


async def coordinator_of(cluster: BrokerCluster, group_id: str) -> int:
    """The broker that coordinates this group, once one does and is in this cluster."""

    async def find() -> int | None:
        request = FindCoordinatorRequest([group_id])
        for anyone in list(cluster.running):
            [found] = (await cluster.service(anyone).groups.find_coordinator(request)).coordinators
            if found.broker is not None and found.broker.broker_id in cluster.running:
                return found.broker.broker_id
        return None

    found = await until(find)
    assert found is not None
    return found


class GroupClient:
    """Goes to the coordinator, and again as long as that moves or loads."""

    def __init__(self, cluster: BrokerCluster, group_id: str, instance_id: str | None = None):
        self.cluster, self.group_id, self.instance_id = cluster, group_id, instance_id
        self.member_id = ""
        self.generation_id = -1
        self.session_timeout_ms = 10_000
        self.protocols = [GroupProtocol("range", subscription("t"))]

    async def groups(self) -> GroupService:
        return self.cluster.service(await coordinator_of(self.cluster, self.group_id)).groups

    async def join_once(self) -> JoinGroupResult:
        request = JoinGroupRequest(
            self.group_id,
            self.member_id,
            "consumer",
            self.protocols,
            self.session_timeout_ms,
            10_000,
            self.instance_id,
            "client",
            "127.0.0.1",
        )
        return await (await self.groups()).join_group(request)

    async def join(self) -> JoinGroupResult:
        async def attempt() -> JoinGroupResult | None:
            result = await self.join_once()
            if isinstance(result.error, MemberIdRequiredError):
                self.member_id = result.member_id
                result = await self.join_once()
            return self.unless_moving(result)

        result = await until(attempt)
        assert result is not None
        assert result.error is None, result.error
        self.member_id, self.generation_id = result.member_id, result.generation_id
        return result

    @staticmethod
    def unless_moving(result):  # type: ignore[no-untyped-def]
        """The result; None if the coordinator moves or loads."""
        error = result.error
        return None if error is not None and error.retriable else result

    async def sync(self, *assignments: tuple[str, bytes]) -> SyncGroupResult:
        request = SyncGroupRequest(
            self.group_id, self.generation_id, self.member_id, assignments, self.instance_id
        )
        return await (await self.groups()).sync_group(request)

    async def heartbeat(self) -> MinikafkaError | None:
        request = HeartbeatRequest(
            self.group_id, self.generation_id, self.member_id, self.instance_id
        )
        return (await (await self.groups()).heartbeat(request)).error

    async def leave(self) -> MinikafkaError | None:
        request = LeaveGroupRequest(self.group_id, [LeavingMember(self.member_id)])
        result = await (await self.groups()).leave_group(request)
        return result.error or result.members[0].error

    async def commit_once(
        self, offset: int, topic_partition: TopicPartition = TP
    ) -> MinikafkaError | None:
        request = OffsetCommitRequest(
            self.group_id,
            [OffsetCommitPartition(topic_partition, offset, 1, "note")],
            self.generation_id,
            self.member_id,
            self.instance_id,
        )
        return (await (await self.groups()).commit_offsets(request)).partitions[0].error

    async def commit(self, offset: int) -> None:
        """Until it is committed."""

        async def attempt() -> bool:
            error = await self.commit_once(offset)
            assert error is None or error.retriable, error
            return error is None

        await until(attempt)

    async def committed(self) -> CommittedOffset:
        async def attempt() -> CommittedOffset | None:
            request = OffsetFetchRequest([OffsetFetchGroup(self.group_id, [TP])])
            [result] = (await (await self.groups()).fetch_offsets(request)).groups
            if result.error is not None:
                assert result.error.retriable, result.error
                return None
            return result.partitions[0]

        found = await until(attempt)
        assert found is not None
        return found
