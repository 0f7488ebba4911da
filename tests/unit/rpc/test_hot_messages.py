"""Records are cut out of and joined to protobuf messages by hand: protobuf itself is the oracle."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from minikafka.api.requests import (
    FetchResult,
    ProducePartition,
    ProduceRequest,
    ReplicaFetchResponse,
    ReplicaFetchResult,
)
from minikafka.errors import NotLeaderOrFollowerError
from minikafka.model import OffsetAndEpoch, PartitionState, TopicPartition
from minikafka.rpc import hot
from minikafka.rpc.generated import client_pb2, replication_pb2

TP = TopicPartition("topic", 3)
LARGE = bytes(range(256)) * (hot.LARGE_BYTES // 128)
SIZES = [0, 1, 127, 128, hot.LARGE_BYTES - 1, hot.LARGE_BYTES, 1 << 20]


@pytest.mark.parametrize("size", SIZES)
def test_protobuf_reads_what_is_written_by_hand(size: int) -> None:
    records = b"r" * size
    produce = client_pb2.ProduceRequest.FromString(
        hot.produce_to_wire(
            9, ProduceRequest(-1, 30, [ProducePartition(TP, records), ProducePartition(TP, b"x")])
        )
    )
    assert (produce.correlation_id, produce.acks, produce.timeout_ms) == (9, -1, 30)
    assert [each.records for each in produce.partitions] == [records, b"x"]
    fetched = client_pb2.FetchResponse.FromString(
        hot.fetched_to_wire(9, [FetchResult(TP, None, 4, 2, records)])
    )
    assert fetched.partitions[0] == client_pb2.FetchedPartition(
        topic="topic",
        partition=3,
        high_watermark=4,
        log_start_offset=2,
        records=records,
        last_stable_offset=-1,
    )
    replicated = replication_pb2.ReplicateResponse.FromString(
        hot.replicated_to_wire(
            ReplicaFetchResponse([ReplicaFetchResult(TP, None, None, None, 1, 2, 3, records)])
        )
    )
    assert replicated.partitions[0].records == records
    assert not replicated.partitions[0].HasField("state")


@pytest.mark.parametrize("size", SIZES)
def test_what_protobuf_writes_is_read_by_hand(size: int) -> None:
    records = b"r" * size
    produce = client_pb2.ProduceRequest(correlation_id=9, acks=1, timeout_ms=30)
    produce.partitions.add(topic="topic", partition=3, records=records)
    produce.partitions.add(topic="topic", partition=4)
    correlation_id, request = hot.produce_from_wire(produce.SerializeToString())
    assert correlation_id == 9
    assert request == ProduceRequest(
        1, 30, [ProducePartition(TP, records), ProducePartition(TopicPartition("topic", 4), b"")]
    )


@pytest.mark.parametrize("size", SIZES)
def test_a_produce_request_of_a_transaction_says_so(size: int) -> None:
    request = ProduceRequest(
        -1,
        30,
        [ProducePartition(TP, b"r" * size)],
        transactional_id="orders",
        adds_to_transaction=True,
    )
    assert hot.produce_from_wire(hot.produce_to_wire(9, request)) == (9, request)
    plain = ProduceRequest(-1, 30, [ProducePartition(TP, b"r" * size)])
    assert hot.produce_from_wire(hot.produce_to_wire(9, plain)) == (9, plain)


def test_errors_states_and_divergence_stand_beside_large_records() -> None:
    state = PartitionState(1, 2, (1, 2), 3, 4, {1: "a"})
    refused = ReplicaFetchResult(TP, NotLeaderOrFollowerError("not here"), state)
    diverging = ReplicaFetchResult(TP, diverging=OffsetAndEpoch(5, 6))
    full = ReplicaFetchResult(TP, records=LARGE)
    results = hot.replicated_from_wire(
        hot.replicated_to_wire(ReplicaFetchResponse([refused, full, diverging]))
    ).results
    assert isinstance(results[0].error, NotLeaderOrFollowerError)
    assert results[0].state == state
    assert list(results[1:]) == [full, diverging]


def _read(read: Any, raw: bytes) -> Any:
    try:
        return read(raw)
    except DecodeError:
        return DecodeError


def _oracle(raw: bytes) -> Any:
    wire = client_pb2.ProduceRequest.FromString(raw)
    return wire.correlation_id, ProduceRequest(
        wire.acks,
        wire.timeout_ms,
        [
            ProducePartition(TopicPartition(each.topic, each.partition), each.records)
            for each in wire.partitions
        ],
        transactional_id=wire.transactional_id or None,
        adds_to_transaction=wire.adds_to_transaction,
    )


def _field(number: int, wire_type: int, content: bytes) -> bytes:
    return hot._varint(number << 3 | wire_type) + content


def _sized(content: bytes) -> bytes:
    return hot._varint(len(content)) + content


VARINT = st.integers(0, 2**64 - 1).map(hot._varint)
NUMBER = st.integers(1, 40)
INNER = st.one_of(
    st.builds(_field, st.just(1), st.just(2), st.text(max_size=3).map(str.encode).map(_sized)),
    st.builds(_field, st.just(2), st.just(0), VARINT),
    st.builds(_field, st.just(3), st.just(2), st.binary(max_size=5).map(_sized)),
    st.builds(_field, NUMBER.filter(lambda n: n > 3), st.just(0), VARINT),
    st.builds(
        _field, NUMBER.filter(lambda n: n > 3), st.just(1), st.binary(min_size=8, max_size=8)
    ),
    st.builds(
        _field, NUMBER.filter(lambda n: n > 3), st.just(5), st.binary(min_size=4, max_size=4)
    ),
)
OUTER = st.one_of(
    st.builds(_field, st.integers(1, 3), st.just(0), VARINT),
    st.builds(
        _field,
        st.just(4),
        st.just(2),
        st.lists(INNER, max_size=4).map(b"".join).map(_sized),
    ),
    st.builds(
        _field, NUMBER.filter(lambda n: n > 4), st.just(2), st.binary(max_size=5).map(_sized)
    ),
)


@settings(deadline=None)
@given(st.lists(OUTER, max_size=5).map(b"".join), st.none() | st.integers(0, 200))
def test_reading_by_hand_agrees_with_protobuf_on_any_order_of_fields_and_any_cut(
    raw: bytes, cut_at: int | None
) -> None:
    raw = raw[:cut_at]
    before = hot.LARGE_BYTES
    hot.LARGE_BYTES = 0
    try:
        by_hand = _read(hot.produce_from_wire, raw)
    finally:
        hot.LARGE_BYTES = before
    assert by_hand == _read(_oracle, raw)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"\x22\x05\x1a", "reaches beyond"),
        (b"\x22", "middle of a field"),
        (b"\x08" + b"\xff" * 11, "varint"),
        (b"\x0b", "wire type 3"),
    ],
)
def test_what_is_no_message_is_said_to_be_none(
    raw: bytes, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot, "LARGE_BYTES", 0)
    with pytest.raises(DecodeError, match=what):
        hot.produce_from_wire(raw)
