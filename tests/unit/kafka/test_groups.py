"""kafka/handlers/groups.py: the messages of consumer groups, in every version that is served."""

from __future__ import annotations

from typing import Any

import pytest

from minikafka.api import groups as requests
from minikafka.errors import (
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    IllegalGenerationError,
    MemberIdRequiredError,
    MinikafkaError,
    NonEmptyGroupError,
    NotCoordinatorError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.model import BrokerInfo, TopicPartition
from tests.helpers.listeners import plaintext_at
from tests.unit.kafka.conftest import Ground

TP = TopicPartition("t", 3)
A = BrokerInfo(1, "A", "grpc", 1, plaintext_at("kafka-host", 9092))


class Groups:
    """Gives the answer, whatever is asked; keeps the request."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.request = answer, None

    def __getattr__(self, name: str) -> Any:
        async def call(request: Any) -> Any:
            self.request = request
            return self.answer

        return call


async def ask(
    ground: Ground, api: ApiKey, version: int, values: dict[str, Any], answer: Any
) -> Any:
    """(what the broker was asked, what the client was answered)."""
    groups = Groups(answer)
    ground.broker.groups = groups  # type: ignore[attr-defined]
    if ground.listener is None:
        await ground.start()
    client = await ground.connect()
    response = await client.ask(api, version, values)
    return groups.request, response


def versions(api: ApiKey) -> Any:
    served = APIS[api]
    return pytest.mark.parametrize("version", range(served.min_version, served.max_version + 1))


@versions(ApiKey.FIND_COORDINATOR)
async def test_find_coordinator(ground: Ground, version: int) -> None:
    keys = ["g", "h"] if version >= 4 else ["g"]
    values = {"key": "g", "key_type": 0, "coordinator_keys": keys}
    found = requests.FindCoordinatorResult([requests.FoundCoordinator(k, None, A) for k in keys])
    request, response = await ask(ground, ApiKey.FIND_COORDINATOR, version, values, found)
    assert list(request.keys) == keys
    answers = response.coordinators if version >= 4 else [response]
    assert [(each.error_code, each.node_id, each.host, each.port) for each in answers] == [
        (0, 1, "kafka-host", 9092)
    ] * len(keys)


@pytest.mark.parametrize("version", [0, 4])
async def test_a_coordinator_that_is_not_there_or_cannot_be_reached(
    ground: Ground, version: int
) -> None:
    values = {"key": "g", "key_type": 0, "coordinator_keys": ["g"]}
    deaf = BrokerInfo(1, "A", "grpc", 1)
    for found in (
        requests.FoundCoordinator("g", CoordinatorNotAvailableError("not yet")),
        requests.FoundCoordinator("g", None, deaf),
    ):
        answer = requests.FindCoordinatorResult([found])
        _, response = await ask(ground, ApiKey.FIND_COORDINATOR, version, values, answer)
        one = response.coordinators[0] if version >= 4 else response
        assert (one.error_code, one.node_id, one.host, one.port) == (15, -1, "", -1)


JOIN = {
    "group_id": "g",
    "session_timeout": 10_000,
    "rebalance_timeout": 60_000,
    "member_id": "m",
    "protocol_type": "consumer",
    "protocols": [{"name": "range", "metadata": b"sub"}],
}


@versions(ApiKey.JOIN_GROUP)
async def test_join_group(ground: Ground, version: int) -> None:
    values = {**JOIN, **({"group_instance_id": "i"} if version >= 5 else {})}
    member = requests.JoinedMember("m", "i" if version >= 5 else None, b"sub")
    joined = requests.JoinGroupResult(None, "m", 4, "consumer", "range", "m", [member])
    request, response = await ask(ground, ApiKey.JOIN_GROUP, version, values, joined)
    assert request == requests.JoinGroupRequest(
        "g",
        "m",
        "consumer",
        [requests.GroupProtocol("range", b"sub")],
        10_000,
        60_000 if version >= 1 else 10_000,
        "i" if version >= 5 else None,
        "test",
        "/127.0.0.1",
        "",
        requires_known_member_id=version >= 4,
        supports_skipping_assignment=False,
    )
    assert (response.error_code, response.generation_id, response.leader) == (0, 4, "m")
    assert (response.protocol_name, response.member_id) == ("range", "m")
    assert [(each.member_id, each.metadata) for each in response.members] == [("m", b"sub")]


@versions(ApiKey.JOIN_GROUP)
async def test_a_join_that_is_refused(ground: Ground, version: int) -> None:
    refused = requests.JoinGroupResult(MemberIdRequiredError(), "m-1")
    _, response = await ask(ground, ApiKey.JOIN_GROUP, version, JOIN, refused)
    assert (response.error_code, response.member_id, response.generation_id) == (79, "m-1", -1)
    assert response.protocol_name == (None if version >= 7 else "")


@versions(ApiKey.SYNC_GROUP)
async def test_sync_group(ground: Ground, version: int) -> None:
    values = {
        "group_id": "g",
        "generation_id": 4,
        "member_id": "m",
        "assignments": [{"member_id": "m", "assignment": b"as"}],
        "protocol_type": "consumer",
        "protocol_name": "range",
    }
    answer = requests.SyncGroupResult(None, b"as", "consumer", "range")
    request, response = await ask(ground, ApiKey.SYNC_GROUP, version, values, answer)
    assert (request.group_id, request.generation_id, request.member_id) == ("g", 4, "m")
    assert list(request.assignments) == [("m", b"as")]
    assert request.protocol_name == ("range" if version >= 5 else None)
    assert (response.error_code, response.assignment) == (0, b"as")
    answer = requests.SyncGroupResult(RebalanceInProgressError())
    _, response = await ask(ground, ApiKey.SYNC_GROUP, version, values, answer)
    assert (response.error_code, response.assignment) == (27, b"")


@versions(ApiKey.HEARTBEAT)
async def test_heartbeat(ground: Ground, version: int) -> None:
    values = {"group_id": "g", "generation_id": 4, "member_id": "m"}
    answer = requests.HeartbeatResult(IllegalGenerationError())
    request, response = await ask(ground, ApiKey.HEARTBEAT, version, values, answer)
    assert request == requests.HeartbeatRequest("g", 4, "m")
    assert response.error_code == 22


@versions(ApiKey.LEAVE_GROUP)
async def test_leave_group(ground: Ground, version: int) -> None:
    values = {
        "group_id": "g",
        "member_id": "m",
        "members": [{"member_id": "m", "group_instance_id": "i"}],
    }
    left = requests.LeftMember("m", "i" if version >= 3 else None, UnknownMemberIdError())
    answer = requests.LeaveGroupResult(None, [left])
    request, response = await ask(ground, ApiKey.LEAVE_GROUP, version, values, answer)
    assert [each.member_id for each in request.members] == ["m"]
    if version < 3:
        assert response.error_code == 25
    else:
        assert response.error_code == 0
        assert [each.error_code for each in response.members] == [25]
    answer = requests.LeaveGroupResult(NotCoordinatorError())
    _, response = await ask(ground, ApiKey.LEAVE_GROUP, version, values, answer)
    assert response.error_code == 16


@versions(ApiKey.OFFSET_COMMIT)
async def test_offset_commit(ground: Ground, version: int) -> None:
    partition = {
        "partition_index": 3,
        "committed_offset": 7,
        "committed_leader_epoch": 2,
        "committed_metadata": None,
    }
    values = {
        "group_id": "g",
        "generation_id_or_member_epoch": 4,
        "member_id": "m",
        "retention_time": 5,
        "topics": [{"name": "t", "partitions": [partition]}],
    }
    error: MinikafkaError | None = None
    for error in (None, RebalanceInProgressError()):
        results = [requests.OffsetCommitPartitionResult(TP, error)]
        answer = requests.OffsetCommitResult(results)
        request, response = await ask(ground, ApiKey.OFFSET_COMMIT, version, values, answer)
        epoch = 2 if version >= 6 else -1
        commit = requests.OffsetCommitPartition(TP, 7, epoch, "")
        assert request == requests.OffsetCommitRequest("g", [commit], 4, "m", None)
        [topic] = response.topics
        assert topic.name == "t"
        assert [(each.partition_index, each.error_code) for each in topic.partitions] == [
            (3, 27 if error else 0)
        ]


def fetch_values(version: int, topics: Any) -> dict[str, Any]:
    if version >= 8:
        return {"groups": [{"group_id": "g", "topics": topics}], "require_stable": True}
    return {"group_id": "g", "topics": topics, "require_stable": True}


@versions(ApiKey.OFFSET_FETCH)
async def test_offset_fetch(ground: Ground, version: int) -> None:
    values = fetch_values(version, [{"name": "t", "partition_indexes": [3]}])
    committed = requests.CommittedOffset(TP, 7, 2, "note")
    answer = requests.OffsetFetchResult([requests.OffsetFetchGroupResult("g", None, [committed])])
    request, response = await ask(ground, ApiKey.OFFSET_FETCH, version, values, answer)
    assert request.groups == [requests.OffsetFetchGroup("g", [TP])]
    assert request.require_stable is (version >= 7)
    [topic] = response.groups[0].topics if version >= 8 else response.topics
    [found] = topic.partitions
    assert (found.partition_index, found.committed_offset, found.metadata) == (3, 7, "note")
    answer = requests.OffsetFetchResult(
        [requests.OffsetFetchGroupResult("g", NotCoordinatorError())]
    )
    _, response = await ask(ground, ApiKey.OFFSET_FETCH, version, values, answer)
    if version >= 8:
        assert response.groups[0].error_code == 16
    elif version >= 2:
        assert response.error_code == 16
    else:
        [topic] = response.topics
        assert [(each.partition_index, each.error_code) for each in topic.partitions] == [(3, 16)]


@pytest.mark.parametrize("version", range(2, 9))
async def test_offsets_of_all_partitions_are_fetched(ground: Ground, version: int) -> None:
    answer = requests.OffsetFetchResult([requests.OffsetFetchGroupResult("g", None)])
    request, _ = await ask(
        ground, ApiKey.OFFSET_FETCH, version, fetch_values(version, None), answer
    )
    assert request.groups == [requests.OffsetFetchGroup("g", None)]


@versions(ApiKey.DESCRIBE_GROUPS)
async def test_describe_groups(ground: Ground, version: int) -> None:
    values = {"groups": ["g", "h"], "include_authorized_operations": False}
    member = requests.GroupMember("m", None, "c", "/host", b"sub", b"as")
    answer = requests.DescribeGroupsResult(
        [
            requests.GroupDescription("g", None, "Stable", "consumer", "range", [member]),
            requests.GroupDescription("h", NotCoordinatorError()),
        ]
    )
    request, response = await ask(ground, ApiKey.DESCRIBE_GROUPS, version, values, answer)
    assert list(request.group_ids) == ["g", "h"]
    first, second = response.groups
    assert (first.error_code, first.group_state, first.protocol_data) == (0, "Stable", "range")
    [shown] = first.members
    assert (shown.client_id, shown.client_host) == ("c", "/host")
    assert (shown.member_metadata, shown.member_assignment) == (b"sub", b"as")
    assert second.error_code == 16


@versions(ApiKey.LIST_GROUPS)
async def test_list_groups(ground: Ground, version: int) -> None:
    values = {"states_filter": ["Stable"]}
    answer = requests.ListGroupsResult(None, [requests.ListedGroup("g", "consumer", "Stable")])
    request, response = await ask(ground, ApiKey.LIST_GROUPS, version, values, answer)
    assert list(request.states) == (["Stable"] if version >= 4 else [])
    [group] = response.groups
    assert (response.error_code, group.group_id, group.protocol_type) == (0, "g", "consumer")


@versions(ApiKey.DELETE_GROUPS)
async def test_delete_groups(ground: Ground, version: int) -> None:
    values = {"groups_names": ["g", "h"]}
    answer = requests.DeleteGroupsResult(
        [requests.DeletedGroup("g"), requests.DeletedGroup("h", NonEmptyGroupError())]
    )
    request, response = await ask(ground, ApiKey.DELETE_GROUPS, version, values, answer)
    assert list(request.group_ids) == ["g", "h"]
    assert [(each.group_id, each.error_code) for each in response.results] == [("g", 0), ("h", 68)]


async def test_offset_delete(ground: Ground) -> None:
    values = {
        "group_id": "g",
        "topics": [{"name": "t", "partitions": [{"partition_index": 3}]}],
    }
    done = requests.OffsetDeleteResult(None, [requests.OffsetCommitPartitionResult(TP)])
    request, response = await ask(ground, ApiKey.OFFSET_DELETE, 0, values, done)
    assert request == requests.OffsetDeleteRequest("g", [TP])
    [topic] = response.topics
    assert (response.error_code, [each.error_code for each in topic.partitions]) == (0, [0])
    failed = requests.OffsetDeleteResult(GroupIdNotFoundError())
    _, response = await ask(ground, ApiKey.OFFSET_DELETE, 0, values, failed)
    assert (response.error_code, list(response.topics)) == (69, [])
