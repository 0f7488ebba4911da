"""Long requests for the controller go to it in parts."""

from __future__ import annotations

import pytest

from minikafka.api.access import (
    AclDeletion,
    AlterScramRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    ScramAlteration,
)
from minikafka.api.requests import (
    AlterReassignmentsRequest,
    AlterTopicConfigRequest,
    ControllerResponse,
    CreateTopic,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    ListReassignmentsRequest,
    NamedResult,
    PartitionResult,
)
from minikafka.broker.control.parts import (
    MAX_NEW_PARTITIONS,
    NAMES_IN_PART,
    check_size,
    failed,
    joined,
    parts_of,
)
from minikafka.errors import NotControllerError, PolicyViolationError
from minikafka.model import Assignment, TopicPartition
from minikafka.security.acl import (
    Entry,
    EntryFilter,
    Operation,
    Pattern,
    Permission,
    ResourceType,
)
from minikafka.security.authorizer import Rule
from minikafka.security.principal import Principal

MANY = 2 * NAMES_IN_PART + 1
NAMES = [f"t{number}" for number in range(MANY)]
PARTITIONS = [TopicPartition("t", number) for number in range(MANY)]


@pytest.mark.parametrize(
    "request_of",
    [
        lambda names: CreateTopicsRequest([CreateTopic(name) for name in names], True),
        DeleteTopicsRequest,
        lambda names: ElectLeadersRequest(True, [TopicPartition(name, 0) for name in names]),
        lambda names: AlterReassignmentsRequest({TopicPartition(n, 0): [1] for n in names}),
        lambda names: ListReassignmentsRequest([TopicPartition(name, 0) for name in names]),
    ],
)
def test_a_part_names_so_many_and_all_of_them_name_all(request_of: object) -> None:
    assert callable(request_of)
    parts = parts_of(request_of(NAMES))
    assert parts == [
        request_of(NAMES[:NAMES_IN_PART]),
        request_of(NAMES[NAMES_IN_PART : 2 * NAMES_IN_PART]),
        request_of(NAMES[2 * NAMES_IN_PART :]),
    ]


@pytest.mark.parametrize(
    "short",
    [
        CreateTopicsRequest([]),
        ElectLeadersRequest(False, []),
        ListReassignmentsRequest([]),
        AlterTopicConfigRequest("t", dict.fromkeys(NAMES)),
        DeleteTopicsRequest(["t"]),
    ],
)
def test_what_cannot_be_cut_or_is_short_goes_as_it_is(short: object) -> None:
    assert parts_of(short) == [short]  # type: ignore[arg-type]


def test_what_is_said_of_the_parts_is_said_of_the_whole() -> None:
    results = [PartitionResult(each) for each in PARTITIONS[:2]]
    first = ControllerResponse(
        [NamedResult("a")], results[:1], reassignments={PARTITIONS[0]: Assignment((1,))}
    )
    second = ControllerResponse(
        [NamedResult("b")], results[1:], reassignments={PARTITIONS[1]: Assignment((2,))}
    )
    assert joined([first]) is first
    assert joined([first, second]) == ControllerResponse(
        [NamedResult("a"), NamedResult("b")],
        results,
        reassignments={PARTITIONS[0]: Assignment((1,)), PARTITIONS[1]: Assignment((2,))},
    )


def test_a_part_that_failed_has_its_error_for_each_name() -> None:
    error = NotControllerError("moved")
    assert failed(DeleteTopicsRequest(["a", "b"]), error).results == [
        NamedResult("a", error),
        NamedResult("b", error),
    ]
    part = CreateTopicsRequest([CreateTopic("t-0")])
    assert failed(part, error) == ControllerResponse([NamedResult("t-0", error)])
    for part in (
        ElectLeadersRequest(False, PARTITIONS[:1]),
        AlterReassignmentsRequest({PARTITIONS[0]: None}),
    ):
        result = PartitionResult(PARTITIONS[0], error)
        assert failed(part, error) == ControllerResponse(partitions=[result])
    assert failed(ListReassignmentsRequest(PARTITIONS), error) == ControllerResponse()


def test_one_request_makes_no_more_partitions_than_so_many() -> None:
    check_size(CreateTopicsRequest([CreateTopic("a", MAX_NEW_PARTITIONS - 1), CreateTopic("b")]))
    check_size(CreateTopicsRequest([CreateTopic("its own error says why", 2**31 - 1)]))
    check_size(DeleteTopicsRequest(NAMES))
    with pytest.raises(PolicyViolationError, match="10001 partitions would be made at once"):
        check_size(CreateTopicsRequest([CreateTopic("a", MAX_NEW_PARTITIONS), CreateTopic("b")]))


def test_entries_and_credentials_go_in_parts_and_come_back_in_order() -> None:
    rules = [
        Rule(
            Pattern(ResourceType.TOPIC, str(number)),
            Entry(Principal("User", "a"), "*", Operation.READ, Permission.ALLOW),
        )
        for number in range(450)
    ]
    created = parts_of(CreateAclsRequest(rules))
    assert [len(part.rules) for part in created] == [200, 200, 50]
    error = NotControllerError("gone")
    answer = failed(created[2], error)
    assert [(each.name, each.error) for each in answer.results] == [
        (str(rule), error) for rule in rules[400:]
    ]

    filters = [EntryFilter(name=str(number)) for number in range(201)]
    deleted = parts_of(DeleteAclsRequest(filters))
    assert [list(part.filters) for part in deleted] == [filters[:200], filters[200:]]
    first = ControllerResponse(acl_deletions=[AclDeletion()] * 200)
    whole = joined([first, failed(deleted[1], error)])
    assert [each.error for each in whole.acl_deletions] == [None] * 200 + [error]


def test_what_is_altered_of_one_user_stays_together() -> None:
    alterations = [
        ScramAlteration(str(number), mechanism) for mechanism in "ab" for number in range(201)
    ]
    altered = parts_of(AlterScramRequest(alterations))
    users = [[each.user for each in part.alterations] for part in altered]
    assert users[1] == ["200", "200"]
    assert users[0] == [str(number) for number in range(200) for _ in "ab"]
    answer = failed(altered[1], NotControllerError("gone"))
    assert [each.name for each in answer.results] == ["200"]


@pytest.mark.parametrize(
    "request_",
    [
        CreateAclsRequest(range(10_001)),  # type: ignore[arg-type]
        DeleteAclsRequest([EntryFilter()] * 1_001),
        AlterScramRequest([ScramAlteration("a", "b")] * 10_001),
    ],
)
def test_more_than_one_request_may_ask_for_is_refused(request_) -> None:
    with pytest.raises(PolicyViolationError, match="in one request"):
        check_size(request_)
