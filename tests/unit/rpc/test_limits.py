"""Fields of a message are counted before protobuf makes objects of them."""

from __future__ import annotations

import threading
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message import DecodeError

from minikafka.api.requests import PartitionStatus
from minikafka.errors import InvalidRequestError, NetworkError
from minikafka.model import TopicPartition
from minikafka.rpc import mirror, unary
from minikafka.rpc.calls import error_for_status
from minikafka.rpc.generated import client_pb2, control_pb2
from minikafka.rpc.hot import produce_from_wire
from minikafka.rpc.limits import check_fields
from tests.unit.rpc.test_channel_and_server import soon


def partitions(count: int) -> bytes:
    wire = client_pb2.DescribePartitionsRequest()
    for number in range(count):
        wire.partitions.add(topic="t", partition=number + 1)
    return wire.SerializeToString()


def test_nested_fields_are_counted() -> None:
    raw = partitions(10)
    kind = client_pb2.DescribePartitionsRequest
    assert check_fields(raw, kind, 30) == 30
    with pytest.raises(InvalidRequestError, match="more than 29 fields"):
        check_fields(raw, kind, 29)


def test_empty_messages_are_fields_too() -> None:
    field = client_pb2.DescribePartitionsRequest.PARTITIONS_FIELD_NUMBER
    raw = bytes((field << 3 | 2, 0)) * 1_000_000
    with pytest.raises(InvalidRequestError):
        check_fields(raw, client_pb2.DescribePartitionsRequest, 50_000)


def test_packed_numbers_count_by_their_bytes() -> None:
    raw = control_pb2.ReplicaList(broker_ids=range(1, 101)).SerializeToString()
    assert check_fields(raw, control_pb2.ReplicaList, 1_000) == 101


def test_bytes_and_text_are_one_field_however_long() -> None:
    raw = client_pb2.GetMetadataRequest(topics=["x" * 100_000]).SerializeToString()
    assert check_fields(raw, client_pb2.GetMetadataRequest, 10) == 1


@pytest.mark.parametrize(
    "raw", [b"\x0a", b"\x0a\x05ab", b"\x0b", b"\xff" * 11, b"\x0d\x00", b"\x09\x00"]
)
def test_what_is_no_message_is_said(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        check_fields(raw, client_pb2.GetMetadataRequest, 10)


def test_the_loop_is_given_way_to() -> None:
    ways: list[None] = []
    check_fields(
        partitions(1_000), client_pb2.DescribePartitionsRequest, 5_000, lambda: ways.append(None)
    )
    assert len(ways) == 3


def test_a_produce_request_of_many_tiny_fields_is_not_walked_through_to_its_end() -> None:
    with pytest.raises(DecodeError, match="more than"):
        produce_from_wire(b"\x10\x01" * 100_000)


async def test_a_call_with_too_many_fields_is_refused_with_a_sentence_and_others_go_on(
    loopback: Any,
) -> None:
    await loopback.start()
    channel = loopback.channel()
    with pytest.raises(InvalidRequestError, match="more than 50000 fields"):
        await soon(channel.metadata(["t"] * (unary.MAX_FIELDS + 1)))
    assert loopback.service.of("metadata").requests == []


def test_a_server_with_too_much_to_do_may_be_asked_again() -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert isinstance(error_for_status(code, "Concurrent RPC limit exceeded!", "a:1"), NetworkError)


async def test_a_long_call_is_answered_in_full_and_made_beside_the_loop(
    loopback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    to_wire = mirror.all_to_wire

    def noted(values: Any, kind: Any) -> Any:
        if kind is client_pb2.PartitionStatus:
            threads.add(threading.current_thread().name)
        return to_wire(values, kind)

    monkeypatch.setattr(mirror, "all_to_wire", noted)
    await loopback.start()
    tps = [TopicPartition("t", number) for number in range(3_000)]
    loopback.service.replies["describe_partitions"] = [PartitionStatus(each, None) for each in tps]
    channel = loopback.channel()
    found = await soon(channel.describe_partitions(tps))
    assert [each.topic_partition for each in found] == tps
    assert threads == {"aside_0"}
    await soon(channel.describe_partitions(tps[:1]))
    assert threads == {"aside_0", "MainThread"}
