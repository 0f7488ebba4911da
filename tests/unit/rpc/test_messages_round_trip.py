"""Every typed request and response is the same after a trip through protobuf."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikafka import errors, model
from minikafka.api import access
from minikafka.api import requests as r
from minikafka.errors import (
    InvalidRequestError,
    MinikafkaError,
    RetriableError,
    UnknownServerError,
)
from minikafka.model import TopicPartition
from minikafka.rpc import convert, convert_client, convert_control, hot, mirror
from minikafka.rpc.generated import client_pb2, common_pb2, control_pb2
from minikafka.security import acl
from minikafka.security.authorizer import Rule
from minikafka.security.principal import Principal
from tests.helpers.amounts import amount

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
RECORDS = st.one_of(
    st.binary(max_size=40),
    st.integers(hot.LARGE_BYTES - 2, hot.LARGE_BYTES + 2).map(lambda size: b"\x92" * size),
)


def several(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=3)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


ERRORS = st.builds(
    lambda kind, text: kind(text),
    st.sampled_from(sorted(errors._ERRORS.values(), key=lambda kind: kind.code)),
    TEXT,
)
TP = st.builds(model.TopicPartition, TEXT, INT32)
STATE = st.builds(
    model.PartitionState,
    INT32,
    INT32,
    several(INT32).map(tuple),
    INT32,
    INT32,
    st.dictionaries(INT32, TEXT, max_size=3),
)
ASSIGNMENT = st.builds(model.Assignment, *[several(INT32).map(tuple)] * 3)
PARTITION = st.builds(model.PartitionMetadata, TP, TEXT, ASSIGNMENT, STATE)
KAFKA_LISTENER = st.builds(
    model.KafkaListener, TEXT, st.sampled_from(model.SecurityProtocol), TEXT, INT32
)
BROKER = st.builds(
    model.BrokerInfo,
    INT32,
    TEXT,
    TEXT,
    INT32,
    several(KAFKA_LISTENER).map(tuple),
    maybe(TEXT),
    TEXT,
    st.booleans(),
    INT64,
    INT32,
)
HINT = st.builds(r.LeaderHint, INT32, INT32)
NEW_TOPIC = st.builds(
    r.CreateTopic,
    TEXT,
    INT32,
    INT32,
    st.dictionaries(TEXT, TEXT, max_size=2),
    st.dictionaries(INT32, several(INT32), max_size=2),
)
PROPOSAL = st.builds(
    r.IsrProposal,
    TP,
    TEXT,
    INT32,
    INT32,
    several(st.tuples(INT32, INT64)).map(tuple),
    TEXT,
)
PRINCIPAL = st.builds(Principal, st.sampled_from(["User", "Group"]), TEXT.filter(bool))
RULE = st.builds(
    Rule,
    st.builds(
        acl.Pattern, st.sampled_from(acl.ResourceType), TEXT, st.sampled_from(acl.PatternType)
    ),
    st.builds(
        acl.Entry,
        PRINCIPAL,
        TEXT,
        st.sampled_from(acl.Operation),
        st.sampled_from(acl.Permission),
    ),
)
FILTER = st.builds(
    acl.EntryFilter,
    maybe(st.sampled_from(acl.ResourceType)),
    maybe(TEXT),
    st.sampled_from(acl.PatternFilter),
    maybe(PRINCIPAL),
    maybe(TEXT),
    maybe(st.sampled_from(acl.Operation)),
    maybe(st.sampled_from(acl.Permission)),
)
ALTERATION = st.builds(
    access.ScramAlteration,
    TEXT,
    TEXT,
    maybe(st.builds(access.ScramUpsertion, INT32, st.binary(max_size=9), st.binary(max_size=9))),
)
DELETION = st.builds(
    access.AclDeletion,
    maybe(ERRORS),
    several(st.builds(access.DeletedRule, RULE, maybe(ERRORS))),
)
REPLICAS = several(st.tuples(TP, TEXT))
PRODUCE = st.builds(
    r.ProduceRequest, INT32, INT32, several(st.builds(r.ProducePartition, TP, RECORDS))
)
ABORTED = st.lists(st.builds(model.AbortedTransaction, INT64, INT64), min_size=1, max_size=3)
FETCHED = st.builds(
    r.FetchResult,
    TP,
    maybe(ERRORS),
    INT64,
    INT64,
    RECORDS,
    maybe(HINT),
    last_stable_offset=INT64,
    aborted=maybe(ABORTED),
)
REPLICATED = st.builds(
    r.ReplicaFetchResult,
    TP,
    maybe(ERRORS),
    maybe(STATE),
    maybe(st.builds(model.OffsetAndEpoch, INT64, INT32)),
    INT64,
    INT64,
    INT64,
    RECORDS,
)


def plain(value: Any) -> Any:
    """A value to compare by: errors by class and sentence, sequences by content."""
    if isinstance(value, MinikafkaError):
        return type(value), value.message
    if dataclasses.is_dataclass(value):
        fields = [plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
        return type(value), fields
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(each) for each in value]
    return value


def mirrored(kind: Any, value_kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return (
        lambda value: mirror.to_wire(value, kind),
        lambda wire: mirror.from_wire(wire, value_kind),
    )


def mirrored_list(kind: Any, value_kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return (
        lambda values: mirror.all_to_wire(values, kind),
        lambda wires: mirror.all_from_wire(wires, value_kind),
    )


Trip = tuple[st.SearchStrategy[Any], Callable[[Any], Any], Callable[[Any], Any]]
TRIPS: dict[str, Trip] = {
    "error": (ERRORS, convert.error_to_wire, convert.error_from_wire),
    "partition": (PARTITION, convert.partition_to_wire, convert.partition_from_wire),
    "broker": (BROKER, *mirrored(common_pb2.Broker, model.BrokerInfo)),
    "produce": (
        PRODUCE,
        lambda value: hot.produce_to_wire(5, value),
        lambda raw: hot.produce_from_wire(raw)[1],
    ),
    "produced": (
        several(st.builds(r.ProduceResult, TP, maybe(ERRORS), INT64, INT64, maybe(HINT))),
        lambda value: hot.produced_to_wire(5, value),
        lambda raw: hot.produced_from_wire(raw)[1],
    ),
    "fetch": (
        st.builds(
            r.FetchRequest,
            INT32,
            INT32,
            INT32,
            several(st.builds(r.FetchPartition, TP, INT64, INT32, INT32)),
            read_committed=st.booleans(),
        ),
        lambda value: hot.fetch_to_wire(5, value),
        lambda raw: hot.fetch_from_wire(raw)[1],
    ),
    "fetched": (
        several(FETCHED),
        lambda value: hot.fetched_to_wire(5, value),
        lambda raw: hot.fetched_from_wire(raw)[1],
    ),
    "replicate": (
        st.builds(
            r.ReplicaFetchRequest,
            INT32,
            INT64,
            INT32,
            INT32,
            INT32,
            INT32,
            several(st.builds(r.FollowerPosition, TP, TEXT, INT64, INT32, INT32, INT64)),
            INT64,
            INT64,
            several(TP),
        ),
        hot.replicate_to_wire,
        hot.replicate_from_wire,
    ),
    "replicated": (
        st.builds(r.ReplicaFetchResponse, several(REPLICATED), INT64),
        hot.replicated_to_wire,
        hot.replicated_from_wire,
    ),
    "list offsets": (
        several(st.builds(r.ListOffsetsPartition, TP, INT64, INT32)),
        *mirrored_list(client_pb2.ListOffsetsPartition, r.ListOffsetsPartition),
    ),
    "listed offsets": (
        several(st.builds(r.ListOffsetsResult, TP, maybe(ERRORS), INT64, INT64, INT32)),
        *mirrored_list(client_pb2.ListedOffset, r.ListOffsetsResult),
    ),
    "wanted topics": (
        maybe(several(TEXT)),
        lambda value: convert_client.get_metadata_to_wire(value, False),
        convert_client.wanted_topics,
    ),
    "metadata": (
        st.builds(
            r.ClusterMetadata,
            TEXT,
            INT32,
            INT32,
            several(BROKER),
            several(st.builds(r.TopicMetadata, TEXT, TEXT, maybe(ERRORS), several(PARTITION))),
        ),
        *mirrored(client_pb2.GetMetadataResponse, r.ClusterMetadata),
    ),
    "update of the cluster": (
        st.builds(
            r.ClusterUpdate,
            several(PARTITION),
            several(st.tuples(TEXT, TEXT)),
            maybe(several(BROKER)),
            INT32,
            INT32,
        ),
        convert_client.update_to_wire,
        convert_client.update_from_wire,
    ),
    "partition statuses": (
        several(
            st.builds(
                r.PartitionStatus,
                TP,
                maybe(ERRORS),
                INT64,
                INT64,
                INT64,
                INT64,
                several(st.builds(r.ReplicaStatus, INT32, INT64, INT64)),
            )
        ),
        *mirrored_list(client_pb2.PartitionStatus, r.PartitionStatus),
    ),
    "topic configs": (
        several(st.builds(r.TopicConfigEntry, TEXT, TEXT, st.booleans())),
        *mirrored_list(client_pb2.TopicConfigEntry, r.TopicConfigEntry),
    ),
    "update state": (
        st.builds(
            r.UpdateStateRequest,
            INT32,
            INT32,
            INT64,
            several(BROKER),
            several(INT32),
            several(PARTITION),
            REPLICAS,
            several(st.tuples(TEXT, TEXT)),
            st.booleans(),
            INT64,
            several(st.tuples(TP, TEXT, INT32)),
        ),
        *mirrored(control_pb2.UpdateStateRequest, r.UpdateStateRequest),
    ),
    "state updated": (
        st.builds(r.UpdateStateResponse, REPLICAS, several(st.tuples(TP, ERRORS))),
        *mirrored(control_pb2.UpdateStateResponse, r.UpdateStateResponse),
    ),
    "alter partition": (
        st.builds(r.AlterPartitionRequest, INT32, INT64, several(PROPOSAL)),
        *mirrored(control_pb2.AlterPartitionRequest, r.AlterPartitionRequest),
    ),
    "partitions altered": (
        st.builds(
            r.AlterPartitionResponse,
            INT32,
            several(st.builds(r.AlterPartitionResult, TP, maybe(ERRORS), maybe(STATE))),
        ),
        *mirrored(control_pb2.AlterPartitionResponse, r.AlterPartitionResponse),
    ),
    "controlled shutdown": (
        st.builds(r.ControlledShutdownRequest, INT32, INT64),
        *mirrored(control_pb2.ControlledShutdownRequest, r.ControlledShutdownRequest),
    ),
    "shut down": (
        st.builds(r.ControlledShutdownResponse, several(TP)),
        *mirrored(control_pb2.ControlledShutdownResponse, r.ControlledShutdownResponse),
    ),
    "failed replicas": (
        st.builds(r.ReportFailedReplicas, INT32, INT64, REPLICAS),
        *mirrored(control_pb2.ReportFailedReplicasRequest, r.ReportFailedReplicas),
    ),
    "producer ids": (
        st.builds(r.AllocateProducerIdsRequest, INT32, INT64),
        *mirrored(control_pb2.AllocateProducerIdsRequest, r.AllocateProducerIdsRequest),
    ),
    "administer": (
        st.one_of(
            st.builds(r.CreateTopicsRequest, several(NEW_TOPIC), st.booleans()),
            st.builds(r.DeleteTopicsRequest, several(TEXT)),
            st.builds(
                r.CreatePartitionsRequest, TEXT, INT32, several(several(INT32)), st.booleans()
            ),
            st.builds(r.ElectLeadersRequest, st.booleans(), several(TP)),
            st.builds(
                r.AlterTopicConfigRequest, TEXT, st.dictionaries(TEXT, maybe(TEXT), max_size=3)
            ),
            st.builds(
                r.AlterReassignmentsRequest,
                st.dictionaries(TP, maybe(several(INT32).map(tuple)), max_size=3),
            ),
            st.builds(r.ListReassignmentsRequest, several(TP)),
            st.builds(access.CreateAclsRequest, several(RULE)),
            st.builds(access.DeleteAclsRequest, several(FILTER)),
            st.builds(access.AlterScramRequest, several(ALTERATION)),
        ),
        lambda value: convert_control.administer_to_wire(value, 30),
        convert_control.administer_from_wire,
    ),
    "administered": (
        st.builds(
            r.ControllerResponse,
            several(st.builds(r.NamedResult, TEXT, maybe(ERRORS))),
            several(st.builds(r.PartitionResult, TP, maybe(ERRORS))),
            reassignments=st.dictionaries(TP, ASSIGNMENT, max_size=3),
            acl_deletions=several(DELETION),
        ),
        convert_control.administered_to_wire,
        lambda wire: convert_control.administered_from_wire(wire, r.ListReassignmentsRequest()),
    ),
}


def test_partitions_that_an_older_broker_only_names_are_those_that_were_asked_for() -> None:
    error = InvalidRequestError("no")
    minus = TopicPartition("t", -1)  # by its name also of a topic `t-`
    answer = r.ControllerResponse(
        partitions=(r.PartitionResult(minus, error), r.PartitionResult(TopicPartition("t-0", 1)))
    )
    wire = convert_control.administered_to_wire(answer)
    assert [each.name for each in wire.results] == ["t--1", "t-0-1"]
    for each in wire.results:
        each.ClearField("topic_partition")
    partitions = [each.topic_partition for each in answer.partitions]
    for request in (
        r.ElectLeadersRequest(False, partitions),
        r.AlterReassignmentsRequest(dict.fromkeys(partitions)),
    ):
        assert repr(convert_control.administered_from_wire(wire, request)) == repr(answer)


@pytest.mark.parametrize("name", TRIPS)
@settings(max_examples=amount(50), deadline=None)
@given(data=st.data())
def test_a_message_comes_back_as_it_went(name: str, data: st.DataObject) -> None:
    values, to_wire, from_wire = TRIPS[name]
    value = data.draw(values)
    wire = to_wire(value)
    if isinstance(wire, list):
        wire = [type(each).FromString(each.SerializeToString()) for each in wire]
    elif not isinstance(wire, bytes):
        wire = type(wire).FromString(wire.SerializeToString())
    assert plain(from_wire(wire)) == plain(value)


def test_every_error_with_a_code_of_its_own_keeps_its_class() -> None:
    for kind in errors._ERRORS.values():
        back = convert.error_from_wire(convert.error_to_wire(kind("why")))
        assert (type(back), back.message, back.retriable) == (kind, "why", kind.retriable)


def test_an_error_of_a_newer_peer_keeps_its_sentence_and_its_retriable_flag() -> None:
    fatal = common_pb2.Error(code=9_999, name="NEW", message="what it says")
    assert plain(convert.error_from_wire(fatal)) == (UnknownServerError, "what it says")
    passing = common_pb2.Error(code=9_999, name="NEW", message="what it says", retriable=True)
    error = convert.error_from_wire(passing)
    assert plain(error) == (RetriableError, "NEW (9999): what it says")


def test_an_error_without_a_code_is_still_an_error() -> None:
    assert isinstance(convert.error_from_wire(common_pb2.Error()), UnknownServerError)


def test_a_sentence_that_is_no_unicode_still_travels() -> None:
    error = InvalidRequestError("no such file: \udcff")
    assert convert.error_to_wire(error).message == "no such file: ?"


@pytest.mark.parametrize(
    "request_of_brokers",
    [r.ReportFailedReplicas(1, 2, []), r.AllocateProducerIdsRequest(1, 2)],
    ids=lambda request: type(request).__name__,
)
def test_what_only_brokers_ask_is_not_among_what_clients_ask(
    request_of_brokers: r.ControllerRequest,
) -> None:
    with pytest.raises(InvalidRequestError, match="a request of brokers, not of clients"):
        convert_control.administer_to_wire(request_of_brokers, 30)


def test_a_request_without_an_operation_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="names no operation"):
        convert_control.administer_from_wire(control_pb2.AdministerRequest(timeout_ms=30))


@pytest.mark.parametrize(
    "wire",
    [
        control_pb2.CreateAcls(rules=[control_pb2.AclRule(principal="User:a")]),
        control_pb2.CreateAcls(
            rules=[
                control_pb2.AclRule(
                    resource_type=2, pattern_type=3, operation=3, permission=3, principal="a"
                )
            ]
        ),
        control_pb2.DeleteAcls(filters=[control_pb2.AclFilter(resource_type=1)]),
        control_pb2.DeleteAcls(filters=[control_pb2.AclFilter(operation=-1)]),
        control_pb2.DeleteAcls(filters=[control_pb2.AclFilter(pattern_type=2**31 - 1)]),
        control_pb2.DeleteAcls(filters=[control_pb2.AclFilter(permission=4)]),
        control_pb2.DeleteAcls(filters=[control_pb2.AclFilter(principal="")]),
    ],
)
def test_a_rule_or_filter_that_means_nothing_is_refused(
    wire: control_pb2.CreateAcls | control_pb2.DeleteAcls,
) -> None:
    creates = isinstance(wire, control_pb2.CreateAcls)
    request = control_pb2.AdministerRequest(**{"create_acls" if creates else "delete_acls": wire})
    with pytest.raises(InvalidRequestError, match=r"there are|is no principal"):
        convert_control.administer_from_wire(request)
