"""broker/groups/coordinator.py and its shards, over whole brokers: they come, load and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minikafka import turns
from minikafka.api.groups import (
    COORDINATES_TRANSACTIONS,
    DeleteGroupsRequest,
    DescribeGroupsRequest,
    FindCoordinatorRequest,
    GroupProtocol,
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    LeavingMember,
    ListGroupsRequest,
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchGroup,
    OffsetFetchGroupResult,
    OffsetFetchRequest,
    SyncGroupRequest,
)
from minikafka.api.requests import AlterTopicConfigRequest, DeleteTopicsRequest
from minikafka.broker.coordinators.topic import partition_for
from minikafka.broker.groups import coordinator
from minikafka.broker.groups.records import encode_batch
from minikafka.core.groups.effects import GroupRecord, GroupSnapshot, MemberSnapshot
from minikafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    IllegalGenerationError,
    InvalidCommitOffsetSizeError,
    InvalidGroupIdError,
    InvalidRequestError,
    InvalidTopicError,
    KafkaStorageError,
    MemberIdRequiredError,
    NonEmptyGroupError,
    NotCoordinatorError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import OFFSETS_TOPIC, TopicPartition
from minikafka.records.build import BatchBuilder
from tests.helpers.brokers import BrokerCluster
from tests.helpers.group_bench import subscription
from tests.helpers.group_client import TP, GroupClient, coordinator_of
from tests.helpers.waiting import until
from tests.integration.torment import lies

SETTINGS = {
    "group.initial.rebalance.delay.ms": "10",
    "group.min.session.timeout.ms": "100",
    "offsets.topic.num.partitions": "4",
}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[BrokerCluster]:
    cluster = BrokerCluster(tmp_path, SETTINGS)
    yield cluster
    await cluster.close()


def offsets_partition(group_id: str) -> TopicPartition:
    return TopicPartition(OFFSETS_TOPIC, partition_for(group_id, 4))


async def stable(cluster: BrokerCluster, group_id: str = "g") -> GroupClient:
    """A group with one member, who has been assigned something."""
    client = GroupClient(cluster, group_id)
    joined = await client.join()
    assert (await client.sync((joined.member_id, b"all"))).assignment == b"all"
    return client


async def test_the_topic_is_created_when_a_coordinator_is_first_asked_for(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    assert OFFSETS_TOPIC not in cluster.service(1)._metadata.topics
    request = FindCoordinatorRequest(["g", "", "h"])
    found = (await cluster.service(1).groups.find_coordinator(request)).coordinators
    assert [each.key for each in found] == ["g", "", "h"]
    assert all(each.broker is not None for each in found), "of the empty group as well"
    partitions = cluster.service(1)._metadata.topics[OFFSETS_TOPIC]
    assert len(partitions) == 4
    assert {len(each.assignment.replicas) for each in partitions.values()} == {2}


async def test_a_client_that_asks_for_the_topic_of_offsets_has_it_made_as_it_should_be(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    wanted = [OFFSETS_TOPIC, "__transaction_state", "t"]
    found = await cluster.service(1).metadata(wanted, True)
    assert [len(topic.partitions) for topic in found.topics] == [4, 50, 1]


@pytest.mark.parametrize("kind", [COORDINATES_TRANSACTIONS, 7])
async def test_groups_have_coordinators_of_one_kind(cluster: BrokerCluster, kind: int) -> None:
    await cluster.start(1)
    request = FindCoordinatorRequest(["g"], kind)
    [found] = (await cluster.service(1).groups.find_coordinator(request)).coordinators
    assert isinstance(found.error, InvalidRequestError)


async def test_members_join_are_assigned_commit_and_leave(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    await cluster.create_topic("t", [1, 2])
    a = await stable(cluster)
    b = GroupClient(cluster, "g")
    joining = asyncio.ensure_future(b.join())

    async def rebalances() -> bool:
        return isinstance(await a.heartbeat(), RebalanceInProgressError)

    await until(rebalances)
    result, _ = await asyncio.gather(a.join(), joining)
    assert result.leader_id == a.member_id
    assert len(result.members) == 2
    parts = [(a.member_id, b"A"), (b.member_id, b"B")]
    for_b, for_a = await asyncio.gather(b.sync(), a.sync(*parts))
    assert (for_a.assignment, for_b.assignment) == (b"A", b"B")
    assert await b.commit_once(5) is None
    assert (await a.committed()).offset == 5
    assert await a.leave() is None
    assert isinstance(await a.heartbeat(), UnknownMemberIdError)


async def test_a_broker_that_does_not_coordinate_a_group_says_so(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    await cluster.create_topic("t", [1, 2])
    coordinator = await coordinator_of(cluster, "g")
    groups = cluster.service(3 - coordinator).groups
    join = JoinGroupRequest("g", "", "consumer", [], 10_000, 10_000)
    assert isinstance((await groups.join_group(join)).error, NotCoordinatorError)
    sync = SyncGroupRequest("g", 1, "m")
    assert isinstance((await groups.sync_group(sync)).error, NotCoordinatorError)
    beat = HeartbeatRequest("g", 1, "m")
    assert isinstance((await groups.heartbeat(beat)).error, NotCoordinatorError)
    leave = LeaveGroupRequest("g", [LeavingMember("m")])
    assert isinstance((await groups.leave_group(leave)).error, NotCoordinatorError)
    commit = OffsetCommitRequest("g", [OffsetCommitPartition(TP, 1)])
    [one] = (await groups.commit_offsets(commit)).partitions
    assert isinstance(one.error, NotCoordinatorError)
    fetch = OffsetFetchRequest([OffsetFetchGroup("g", None)])
    assert isinstance((await groups.fetch_offsets(fetch)).groups[0].error, NotCoordinatorError)
    forget = OffsetDeleteRequest("g", [TP])
    assert isinstance((await groups.delete_offsets(forget)).error, NotCoordinatorError)
    [described] = (await groups.describe_groups(DescribeGroupsRequest(["g"]))).groups
    assert isinstance(described.error, NotCoordinatorError)
    [deleted] = (await groups.delete_groups(DeleteGroupsRequest(["g"]))).groups
    assert isinstance(deleted.error, NotCoordinatorError)


async def test_a_group_that_is_not_there_is_unknown_empty_or_dead(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    await coordinator_of(cluster, "g")
    client = GroupClient(cluster, "g")
    await until_loaded(cluster, 1)
    client.member_id, client.generation_id = "m", 1
    groups = cluster.service(1).groups
    assert isinstance((await client.join_once()).error, UnknownMemberIdError)
    assert isinstance((await client.sync()).error, UnknownMemberIdError)
    assert isinstance(await client.heartbeat(), UnknownMemberIdError)
    assert isinstance(await client.leave(), UnknownMemberIdError)
    assert isinstance(await client.commit_once(1), IllegalGenerationError)
    assert (await client.committed()).offset == -1
    forget = OffsetDeleteRequest("g", [TP])
    assert isinstance((await groups.delete_offsets(forget)).error, GroupIdNotFoundError)
    [described] = (await groups.describe_groups(DescribeGroupsRequest(["g"]))).groups
    assert (described.state, described.error) == ("Dead", None)
    [deleted] = (await groups.delete_groups(DeleteGroupsRequest(["g"]))).groups
    assert isinstance(deleted.error, GroupIdNotFoundError)


async def until_loaded(cluster: BrokerCluster, broker_id: int) -> None:
    async def loaded() -> bool:
        return (
            await cluster.service(broker_id).groups.list_groups(ListGroupsRequest())
        ).error is None

    await until(loaded)


async def test_a_coordinator_that_zookeeper_may_have_replaced_serves_nobody(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    client = GroupClient(cluster, "g")
    await client.commit(3)
    cluster.running[1].broker.replicas.on_session_lost()
    groups = cluster.service(1).groups
    fetch = OffsetFetchRequest([OffsetFetchGroup("g", None)])
    [answer] = (await groups.fetch_offsets(fetch)).groups
    assert isinstance(answer.error, CoordinatorNotAvailableError)
    [found] = (await groups.find_coordinator(FindCoordinatorRequest(["g"]))).coordinators
    assert isinstance(found.error, CoordinatorNotAvailableError)


async def test_many_offsets_are_looked_up_in_parts_and_others_have_a_turn(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    client = GroupClient(cluster, "g")
    await client.commit(3)
    monkeypatch.setattr(coordinator, "_OFFSETS_AT_ONCE", 2)
    monkeypatch.setattr(turns, "SLICE_S", 0.0)
    groups = cluster.service(1).groups
    wanted = [TP, *(TopicPartition("t", number) for number in range(10, 15)), TP]

    async def fetched(partitions: list[TopicPartition] | None) -> OffsetFetchGroupResult:
        request = OffsetFetchRequest([OffsetFetchGroup("g", partitions)])
        [answer] = (await groups.fetch_offsets(request)).groups
        return answer

    answer = await fetched(wanted)
    assert answer.error is None
    assert [each.topic_partition for each in answer.partitions] == wanted
    assert [each.offset for each in answer.partitions] == [3, -1, -1, -1, -1, -1, 3]
    assert [each.offset for each in (await fetched(None)).partitions] == [3]
    assert (await fetched([])).partitions == []

    # What happens to the group in between is not passed over.
    under_way = asyncio.create_task(fetched(wanted))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not under_way.done()
    cluster.running[1].broker.replicas.on_session_lost()
    answer = await under_way
    assert isinstance(answer.error, CoordinatorNotAvailableError)
    assert not answer.partitions


async def test_without_zookeeper_a_coordinator_goes_on_and_says_itself_that_it_is_the_one(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    await cluster.create_topic("t", [1, 2])
    client = GroupClient(cluster, "g")
    await client.commit(3)
    here = await coordinator_of(cluster, "g")
    for running in cluster.running.values():
        running.store.out_of_touch_ms = 1001
    for broker_id in (1, 2):
        request = FindCoordinatorRequest(["g"])
        [found] = (await cluster.service(broker_id).groups.find_coordinator(request)).coordinators
        if broker_id == here:
            assert found.error is None
            assert found.broker is not None
            assert found.broker.broker_id == here
        else:
            assert isinstance(found.error, CoordinatorNotAvailableError)
    await client.commit(4)
    cluster.network.isolate(here)  # another may have become coordinator now

    async def is_in_doubt() -> bool:
        fetch = OffsetFetchRequest([OffsetFetchGroup("g", None)])
        [answer] = (await cluster.service(here).groups.fetch_offsets(fetch)).groups
        return isinstance(answer.error, CoordinatorNotAvailableError)

    await until(is_in_doubt)
    cluster.network.heal()


async def test_members_and_offsets_survive_the_death_of_the_coordinator(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2, 3)
    await cluster.create_topic("t", [1, 2, 3])
    client = await stable(cluster)
    await client.commit(7)
    dead = await coordinator_of(cluster, "g")
    await cluster.kill(dead)
    committed = await client.committed()
    assert (committed.offset, committed.leader_epoch, committed.metadata) == (7, 1, "note")
    assert await coordinator_of(cluster, "g") != dead
    assert await client.heartbeat() is None  # it is a member still, in the same generation
    assert (await client.sync()).assignment == b"all"
    await client.commit(8)
    await cluster.kill(await coordinator_of(cluster, "g"))
    assert (await client.committed()).offset == 8


async def test_who_waits_when_the_coordinator_moves_is_told(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2, 3)
    await cluster.create_topic("t", [1, 2, 3])
    await stable(cluster)
    coordinator = await coordinator_of(cluster, "g")
    other = GroupClient(cluster, "g", "static")  # joins at once, and waits for the first one
    joining = asyncio.ensure_future(other.join_once())
    shard = cluster.service(coordinator).group_shards._shards[partition_for("g", 4)]
    await until(lambda: len(shard.groups["g"].members) == 2)
    await cluster.stop(coordinator)
    assert isinstance((await joining).error, NotCoordinatorError)


async def test_a_bump_of_the_epoch_under_the_same_leader_reads_nothing_again(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2, 3)
    await cluster.create_topic("t", [1, 2, 3])
    client = await stable(cluster)
    coordinator = await coordinator_of(cluster, "g")
    shard = cluster.service(coordinator).group_shards._shards[partition_for("g", 4)]
    before = cluster.state(offsets_partition("g"), coordinator)
    assert before is not None
    await cluster.kill(next(each for each in (1, 2, 3) if each != coordinator))
    after = await cluster.until_state(
        offsets_partition("g"), lambda state: len(state.isr) == 2, coordinator
    )
    assert after.leader_epoch > before.leader_epoch
    assert cluster.service(coordinator).group_shards._shards[partition_for("g", 4)] is shard
    assert await client.heartbeat() is None


async def test_nothing_is_served_before_all_that_was_committed_is_read(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    client = GroupClient(cluster, "g")
    await client.commit(3)
    groups = cluster.service(1).groups
    shard = cluster.service(1).group_shards._shards[partition_for("g", 4)]
    shard.loaded = False
    assert isinstance(await client.commit_once(4), CoordinatorLoadInProgressError)
    assert await client.heartbeat() is None  # whoever it is, it will be known soon
    listed = await groups.list_groups(ListGroupsRequest())
    assert isinstance(listed.error, CoordinatorLoadInProgressError)
    shard.groups.clear()
    await shard.load()
    assert (await client.committed()).offset == 3


async def test_a_commit_that_too_few_replicas_can_take_does_not_move_the_offset(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    await cluster.create_topic("t", [1, 2])
    client = GroupClient(cluster, "g")
    await client.commit(1)
    change = AlterTopicConfigRequest(OFFSETS_TOPIC, {"min.insync.replicas": "2"})
    await cluster.service(1).administer(change, 5000)
    coordinator = await coordinator_of(cluster, "g")
    await cluster.kill(3 - coordinator)
    await cluster.until_state(offsets_partition("g"), lambda state: len(state.isr) == 1)

    async def refused() -> bool:
        return isinstance(await client.commit_once(2), CoordinatorNotAvailableError)

    await until(refused)
    assert (await client.committed()).offset == 1


async def test_a_commit_that_is_too_large_for_the_topic_is_refused(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    client = GroupClient(cluster, "g")
    await client.commit(1)
    await cluster.service(1).administer(
        AlterTopicConfigRequest(OFFSETS_TOPIC, {"max.message.bytes": "70"}), 5000
    )

    async def refused() -> bool:
        return isinstance(await client.commit_once(2), InvalidCommitOffsetSizeError)

    await until(refused)


async def test_a_partition_that_does_not_exist_fails_alone(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    client = GroupClient(cluster, "g")
    await client.commit(1)
    unknown = TopicPartition("t", 9)
    assert isinstance(await client.commit_once(1, unknown), UnknownTopicOrPartitionError)
    request = OffsetCommitRequest(
        "g", [OffsetCommitPartition(unknown, 1), OffsetCommitPartition(TP, 4)]
    )
    result = await cluster.service(1).groups.commit_offsets(request)
    assert [each.topic_partition for each in result.partitions] == [unknown, TP]
    assert isinstance(result.partitions[0].error, UnknownTopicOrPartitionError)
    assert result.partitions[1].error is None
    assert (await client.committed()).offset == 4


async def test_groups_are_listed_described_and_deleted(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    client = await stable(cluster)
    await GroupClient(cluster, "lonely").commit(1)
    groups = cluster.service(1).groups

    async def listed(*states: str, types: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
        result = await groups.list_groups(ListGroupsRequest(states, types))
        return [(each.group_id, each.protocol_type, each.state) for each in result.groups]

    assert await listed() == [("g", "consumer", "Stable"), ("lonely", "", "Empty")]
    assert await listed("stable") == [("g", "consumer", "Stable")]
    assert await listed(types=("consumer",)) == []
    assert len(await listed(types=("Classic",))) == 2
    [described] = (await groups.describe_groups(DescribeGroupsRequest(["g"]))).groups
    assert described.members[0].assignment == b"all"
    request = DeleteGroupsRequest(["g", "lonely", ""])
    errors = [
        each.error and type(each.error) for each in (await groups.delete_groups(request)).groups
    ]
    assert errors == [NonEmptyGroupError, None, GroupIdNotFoundError]
    assert await client.leave() is None
    unknown = TopicPartition("t", 9)
    forget = OffsetDeleteRequest("g", [unknown, TP])
    await client_commits_alone(client)
    forgotten = await groups.delete_offsets(forget)
    codes = {each.topic_partition: each.error and each.error.code for each in forgotten.partitions}
    assert (forgotten.error, codes) == (None, {TP: None, unknown: 3})
    assert (await client.committed()).offset == -1


async def client_commits_alone(client: GroupClient) -> None:
    client.member_id, client.generation_id = "", -1
    await client.commit(1)


async def test_a_member_without_heartbeats_is_out(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    client = GroupClient(cluster, "g")
    client.session_timeout_ms = 200
    joined = await client.join()
    assert (await client.sync((joined.member_id, b"all"))).error is None
    assert await client.heartbeat() is None
    group = cluster.service(1).group_shards._shards[partition_for("g", 4)].groups["g"]
    await until(lambda: group.state.value == "Empty")


async def test_all_who_join_a_new_group_in_one_turn_of_the_loop_are_answered(
    tmp_path: Path,
) -> None:
    # The first makes the group due at once; the others come before its timer has run.
    cluster = BrokerCluster(tmp_path, SETTINGS | {"group.initial.rebalance.delay.ms": "0"})
    await cluster.start(1)
    await coordinator_of(cluster, "g")
    await until_loaded(cluster, 1)
    groups = cluster.service(1).groups
    request = JoinGroupRequest(
        "g",
        "",
        "consumer",
        [GroupProtocol("range", subscription("t"))],
        10_000,
        10_000,
        requires_known_member_id=False,
    )
    joining = [asyncio.ensure_future(groups.join_group(request)) for _ in range(8)]
    results = await asyncio.wait_for(asyncio.gather(*joining), 5)
    assert [each.error for each in results] == [None] * 8
    assert {each.generation_id for each in results} == {1}
    [leader] = [each for each in results if each.members]
    assert {each.member_id for each in leader.members} == {each.member_id for each in results}
    await cluster.close()


async def test_offsets_expire_and_those_of_deleted_topics_go(tmp_path: Path) -> None:
    settings = {**SETTINGS, "offsets.retention.check.interval.ms": "50"}
    cluster = BrokerCluster(tmp_path, settings)
    try:
        await cluster.start(1)
        await cluster.create_topic("t", [1])
        other = await cluster.create_topic("other", [1])
        client = GroupClient(cluster, "g")
        await client.commit(1)
        await until_committed(client, other)
        await cluster.service(1).administer(DeleteTopicsRequest(["other"]), 5000)
        shard = cluster.service(1).group_shards._shards[partition_for("g", 4)]
        await until(lambda: list(shard.groups["g"].offsets.committed) == [TP])
        value = shard.groups["g"].offsets.committed[TP]
        old = type(value)(value.offset, value.leader_epoch, value.metadata, 0)
        shard.groups["g"].offsets.committed[TP] = old
        await until(lambda: "g" not in shard.groups)
    finally:
        await cluster.close()


async def test_a_topic_that_is_deleted_while_groups_are_read_is_forgotten_afterwards(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    other = await cluster.create_topic("other", [1])
    client = GroupClient(cluster, "g")
    await client.commit(1)
    await until_committed(client, other)
    shard = cluster.service(1).group_shards._shards[partition_for("g", 4)]
    shard.loaded = False
    await cluster.service(1).administer(DeleteTopicsRequest(["other"]), 5000)
    await until(lambda: shard._deleted == {"other"})
    assert shard.groups["g"].offsets.committed.keys() == {TP, other}
    await shard.load()
    await until(lambda: shard.groups["g"].offsets.committed.keys() == {TP})


async def until_committed(client: GroupClient, topic_partition: TopicPartition) -> None:
    async def committed() -> bool:
        return await client.commit_once(1, topic_partition) is None

    await until(committed)


async def test_clients_cannot_write_to_the_topic_of_offsets(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    await coordinator_of(cluster, "g")
    result = await cluster.produce(TopicPartition(OFFSETS_TOPIC, 0), b"x")
    assert isinstance(result.error, InvalidTopicError)


async def test_what_compaction_has_left_is_read(tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "offsets.topic.segment.bytes": "400",
        "log.cleaner.min.cleanable.ratio": "0",
        "log.cleaner.backoff.ms": "3600000",  # only as is asked for here
    }
    cluster = BrokerCluster(tmp_path, settings)
    try:
        await cluster.start(1)
        await cluster.create_topic("t", [1])
        client = GroupClient(cluster, "g")
        for offset in range(40):
            await client.commit(offset)
        shard = cluster.service(1).group_shards._shards[partition_for("g", 4)]
        logs = cluster.running[1].logs
        size = shard._partition._replica.log.size_bytes

        async def compacted() -> bool:
            await logs.compact(2**62)
            return shard._partition._replica.log.size_bytes < size / 2

        await until(compacted)
        shard.loaded = False
        shard.groups.clear()
        await shard.load()
        assert (await client.committed()).offset == 39
    finally:
        await cluster.close()


async def test_records_that_cannot_be_read_are_left_out(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    client = GroupClient(cluster, "g")
    await client.commit(3)
    shard = cluster.service(1).group_shards._shards[partition_for("g", 4)]
    builder = BatchBuilder()
    builder.append(b"\0\1\0\x09", b"damaged", (), 1)
    builder.append(b"\0\x63", b"of a later Kafka", (), 1)
    twice = MemberSnapshot("m", None, "client", "host", 1, 1, b"", b"")
    record = GroupRecord("g", GroupSnapshot("consumer", 7, "range", "m", 1, (twice, twice)))
    for batch in (
        builder.build(),
        encode_batch([record], 1),
        lies.batch(b"\xff" * 30, 2),
        lies.batch(b"no zstd", 1, attributes=lies.ZSTD),
    ):
        await cluster.service(1)._produce.append(shard.topic_partition, batch)
    await client.commit(4)
    shard.loaded = False
    shard.groups.clear()
    await shard.load()
    assert (await client.committed()).offset == 4
    assert len(shard.groups["g"].members) == 0


async def test_names_that_cannot_be_stored_are_refused_or_shortened(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    client = await stable(cluster)
    groups = await client.groups()
    request = JoinGroupRequest("g" * 32_768, "", "consumer", [], 10_000, 10_000)
    assert isinstance((await groups.join_group(request)).error, InvalidGroupIdError)
    request = JoinGroupRequest(
        "g", "", "consumer", [GroupProtocol("range", b"")], 10_000, 10_000, client_id="c" * 30_000
    )
    joined = await groups.join_group(request)
    assert isinstance(joined.error, MemberIdRequiredError)
    assert len(joined.member_id) < 300


async def test_a_shard_that_is_unloaded_while_it_reads_stays_unloaded(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    await GroupClient(cluster, "g").commit(3)
    shard = cluster.service(1).group_shards._shards[partition_for("g", 4)]
    shard.loaded = False
    loading = asyncio.ensure_future(shard.load())
    await asyncio.sleep(0)
    shard.unload()
    await loading
    assert (shard.loaded, shard.groups) == (False, {})


async def test_a_disk_that_fails_ends_the_coordinator_and_nothing_else(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    await cluster.create_topic("t", [1])
    client = GroupClient(cluster, "g")
    await client.commit(3)
    number = partition_for("g", 4)
    shard = cluster.service(1).group_shards._shards[number]
    shard._partition._replica.fail_storage(KafkaStorageError("broken"))
    assert number not in cluster.service(1).group_shards._shards
    assert isinstance(await client.commit_once(4), NotCoordinatorError)


async def test_what_members_tell_is_bounded_over_all_groups(tmp_path: Path) -> None:
    """Who is there goes on; who comes with too much is asked to come later; and what a member
    leaves is room for others."""
    least = ("queued.max.request.bytes", "socket.request.max.bytes", "message.max.bytes")
    cluster = BrokerCluster(tmp_path, SETTINGS | dict.fromkeys(least, "40000"))
    try:
        await cluster.start(1)
        first = GroupClient(cluster, "first")
        first.protocols = [GroupProtocol("range", b"x" * 2_000)]
        joined = await first.join()
        await first.sync((joined.member_id, b"all"))
        long, short = GroupClient(cluster, "long"), GroupClient(cluster, "short")
        long.protocols = [GroupProtocol("range", b"x" * 9_000)]
        refused = (await long.join_once()).error
        assert isinstance(refused, CoordinatorNotAvailableError)
        assert "a quarter of queued.max.request.bytes" in str(refused)
        assert (await short.join()).error is None
        assert await first.heartbeat() is None
        assert await short.leave() is None
        assert await first.leave() is None
        assert (await long.join()).error is None
    finally:
        await cluster.close()
