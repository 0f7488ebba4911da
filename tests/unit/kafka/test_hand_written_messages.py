"""Produce and Fetch, by hand, against kio as the oracle: in every version that is served, what kio
writes is read as it was meant, and kio reads what is written."""

from __future__ import annotations

import struct
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.api.requests import FetchPartition, FetchResult, LeaderHint, ProduceResult
from minikafka.errors import (
    BrokerNotAvailableError,
    InvalidRecordError,
    MinikafkaError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    OffsetOutOfRangeError,
    TransactionAbortableError,
    UnknownTopicOrPartitionError,
)
from minikafka.kafka import fetch, produce
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.reach import Reachable
from minikafka.kafka.wire import MalformedRequestError, Reader
from minikafka.model import AbortedTransaction, TopicPartition
from tests.helpers.kio_messages import read_response, written_request

PRODUCE, FETCH = APIS[ApiKey.PRODUCE], APIS[ApiKey.FETCH]
FETCH_VERSIONS = range(FETCH.min_version, FETCH.max_version + 1)


def written(api: ApiKey, version: int, values: dict[str, Any]) -> memoryview:
    """A request, as kio writes it."""
    return memoryview(written_request(api, version, values))


def read(api: ApiKey, version: int, body: list[bytes]) -> Any:
    """A response, as kio reads it, to its last byte."""
    return read_response(api, version, b"".join(body))


def reader_of(body: memoryview, version: int, api: ApiKey) -> Reader:
    return Reader(body, flexible=version >= APIS[api].first_flexible)


# --- produce -------------------------------------------------------------------------------------

PRODUCED = [("words", 0, b"abc"), ("words", 7, b""), ("längs", 1, b"x" * 300)]


def produce_request(version: int) -> memoryview:
    topics: dict[str, list[dict[str, Any]]] = {}
    for topic, index, records in PRODUCED:
        topics.setdefault(topic, []).append({"index": index, "records": records})
    return written(
        ApiKey.PRODUCE,
        version,
        {
            "transactional_id": None,
            "acks": -1,
            "timeout": 1500,
            "topic_data": [{"name": t, "partition_data": items} for t, items in topics.items()],
        },
    )


@pytest.mark.parametrize("version", range(3, PRODUCE.max_version + 1))
def test_a_produce_request_is_read_as_it_was_meant(version: int) -> None:
    body = produce_request(version)
    request = produce.read_request(reader_of(body, version, ApiKey.PRODUCE), version)
    assert (request.acks, request.timeout_ms) == (-1, 1500)
    found = [
        (item.topic_partition.topic, item.topic_partition.partition, bytes(item.records))
        for item in request.partitions
    ]
    assert found == PRODUCED


@pytest.mark.parametrize("version", range(3, PRODUCE.max_version + 1))
@pytest.mark.parametrize("transactional_id", [None, "", "längs"])
def test_a_produce_request_says_what_its_client_knows_of_transactions(
    version: int, transactional_id: str | None
) -> None:
    values = {"transactional_id": transactional_id, "acks": -1, "timeout": 1, "topic_data": []}
    body = written(ApiKey.PRODUCE, version, values)
    request = produce.read_request(reader_of(body, version, ApiKey.PRODUCE), version)
    assert request.transactional_id == transactional_id
    assert request.adds_to_transaction is (version >= 12)
    assert request.knows_abortable is (version >= 11)


@pytest.mark.parametrize("version", range(3, PRODUCE.max_version + 1))
def test_a_produce_request_that_ends_early_is_malformed_wherever_it_ends(version: int) -> None:
    body = produce_request(version)
    for size in range(len(body)):
        with pytest.raises(MalformedRequestError):
            produce.read_request(reader_of(body[:size], version, ApiKey.PRODUCE), version)


@pytest.mark.parametrize(
    ("version", "rest"),
    [(0, b""), (1, bytes(4)), (2, b"\xff" * 8 + bytes(4))],
)
def test_a_produce_response_of_an_old_version_is_shorter(version: int, rest: bytes) -> None:
    results = [ProduceResult(TopicPartition("w", 2), None, 41, 3)]
    fixed = b"\0\0\0\1" + b"\0\1w" + b"\0\0\0\1" + b"\0\0\0\2" + b"\0\0" + (41).to_bytes(8, "big")
    assert b"".join(produce.write_response(results, version)) == fixed + rest


@pytest.mark.parametrize("version", range(3, PRODUCE.max_version + 1))
def test_a_produce_response_can_be_read(version: int) -> None:
    results = [
        ProduceResult(TopicPartition("words", 0), None, 41, 3),
        ProduceResult(TopicPartition("words", 1), NotEnoughReplicasError("too few")),
        ProduceResult(TopicPartition("other", 0), InvalidRecordError("has no key")),
    ]
    response = read(ApiKey.PRODUCE, version, produce.write_response(results, version))
    words, other = response.responses
    assert (words.name, other.name) == ("words", "other")
    first, second = words.partition_responses
    assert (first.index, int(first.error_code), first.base_offset) == (0, 0, 41)
    assert (int(second.error_code), second.base_offset) == (19, -1)
    if version >= 5:
        assert first.log_start_offset == 3
    if version >= 8:
        assert first.error_message is None
        assert other.partition_responses[0].error_message == "has no key"


def test_a_broker_that_must_not_serve_sends_the_client_to_look_for_the_leader() -> None:
    result = ProduceResult(TopicPartition("words", 0), BrokerNotAvailableError("out of touch"))
    response = read(ApiKey.PRODUCE, 7, produce.write_response([result], 7))
    assert int(response.responses[0].partition_responses[0].error_code) == 6


@pytest.mark.parametrize("version", range(3, PRODUCE.max_version + 1))
def test_that_a_transaction_can_only_be_aborted_is_told_to_those_who_know_the_word(
    version: int,
) -> None:
    result = ProduceResult(TopicPartition("words", 0), TransactionAbortableError())
    response = read(ApiKey.PRODUCE, version, produce.write_response([result], version))
    (partition,) = response.responses[0].partition_responses
    assert int(partition.error_code) == (120 if version >= 11 else 48)


NOT_HERE = NotLeaderOrFollowerError("elsewhere")
HINTED = [
    ProduceResult(TopicPartition("words", 0), NOT_HERE, leader_hint=LeaderHint(2, 7)),
    ProduceResult(TopicPartition("words", 1), NOT_HERE, leader_hint=LeaderHint(3, 8)),
    ProduceResult(TopicPartition("words", 2), NOT_HERE, leader_hint=LeaderHint(-1, 9)),
    ProduceResult(TopicPartition("words", 3), None, 41, 3),
]


@pytest.mark.parametrize("version", range(10, PRODUCE.max_version + 1))
def test_who_came_to_the_wrong_broker_is_told_where_the_leaders_are(version: int) -> None:
    assert produce.leaders_named(HINTED, version) == {2, 3, -1}
    leaders = {
        2: Reachable(2, "host-2", 9093, "rack"),
        3: Reachable(3, "host-3" * 40, 9094, None),
    }
    response = read(ApiKey.PRODUCE, version, produce.write_response(HINTED, version, leaders))
    told = [
        (each.current_leader.leader_id, each.current_leader.leader_epoch)
        for each in response.responses[0].partition_responses
    ]
    assert told == [(2, 7), (3, 8), (-1, -1), (-1, -1)]
    endpoints = [
        (each.node_id, each.host, each.port, each.rack) for each in response.node_endpoints
    ]
    assert endpoints == [(2, "host-2", 9093, "rack"), (3, "host-3" * 40, 9094, None)]


@pytest.mark.parametrize("version", range(3, PRODUCE.max_version + 1))
def test_of_leaders_that_cannot_be_reached_nothing_is_told(version: int) -> None:
    body = produce.write_response(HINTED, version)
    assert body == produce.write_response(HINTED, version, {})
    response = read(ApiKey.PRODUCE, version, body)
    if version >= 10:
        assert response.node_endpoints == ()
        leaders = {p.current_leader.leader_id for p in response.responses[0].partition_responses}
        assert leaders == {-1}
    else:
        assert produce.leaders_named(HINTED, version) == set()


def batch(magic: int = 2, attributes: int = 0, length: int = 49, more: int = 0) -> memoryview:
    """As much of a record batch as the door looks at."""
    head = struct.pack(">qiibIh", 0, length, -1, magic, 0, attributes)
    return memoryview(head + bytes(61 - len(head) + more))


@pytest.mark.parametrize(
    ("records", "version", "code"),
    [
        (batch(), 3, None),
        (batch(), 9, None),
        (memoryview(b""), 9, None),
        (memoryview(bytes(16)), 9, None),
        (batch(magic=1), 2, 43),
        (batch(magic=0)[:34], 0, 43),
        (batch(magic=1), 3, 87),
        (batch(magic=0), 9, 87),
        (batch(magic=3), 9, None),  # whoever parses it tells what is wrong
        (batch(attributes=4), 6, 76),
        (batch(attributes=4), 7, None),
        (batch(attributes=3), 3, None),
        (batch(more=61), 3, 87),
        (batch(length=50), 9, None),
        (batch(length=-5), 9, None),
    ],
)
def test_what_a_version_of_produce_must_not_carry(
    records: memoryview, version: int, code: int | None
) -> None:
    refused = produce.refusal(records, version)
    assert (None if refused is None else refused.code) == code


def test_the_records_that_are_wrong_are_named() -> None:
    error = InvalidRecordError("no keys", ((1, "it has no key"), (5, "nor has it")))
    result = ProduceResult(TopicPartition("t", 0), error)
    for version in (8, 9):
        answer = read(ApiKey.PRODUCE, version, produce.write_response([result], version))
        (partition,) = answer.responses[0].partition_responses
        named = [
            (each.batch_index, each.batch_index_error_message) for each in partition.record_errors
        ]
        assert named == [(1, "it has no key"), (5, "nor has it")], version
        assert partition.error_message == "no keys"


def test_a_partition_that_is_named_twice_counts_as_it_was_named_last() -> None:
    def partition(index: int, records: bytes) -> bytes:
        return struct.pack(">ii", index, len(records)) + records

    body = struct.pack(">hhii", -1, 1, 1000, 1) + b"\x00\x01t" + struct.pack(">i", 3)
    body += partition(0, b"first") + partition(1, b"other") + partition(0, b"last")
    request = produce.read_request(Reader(memoryview(body)), 8)
    found = [(item.topic_partition.partition, bytes(item.records)) for item in request.partitions]
    assert found == [(0, b"last"), (1, b"other")]


# --- fetch ---------------------------------------------------------------------------------------


def fetch_request(version: int) -> memoryview:
    def partition(index: int, offset: int) -> dict[str, Any]:
        return {
            "partition": index,
            "current_leader_epoch": 4,
            "fetch_offset": offset,
            "last_fetched_epoch": -1,
            "log_start_offset": -1,
            "partition_max_bytes": 1000 + index,
        }

    return written(
        ApiKey.FETCH,
        version,
        {
            "replica_id": -1,
            "max_wait": 500,
            "min_bytes": 1,
            "max_bytes": 50_000,
            "isolation_level": 1,
            "session_id": 77,
            "session_epoch": 3,
            "topics": [
                {"topic": "words", "partitions": [partition(0, 10), partition(1, 2**40)]},
                {"topic": "other", "partitions": [partition(5, 0)]},
            ],
            "forgotten_topics_data": [{"topic": "gone", "partitions": [3, 4]}],
            "rack_id": "r1",
        },
    )


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_a_fetch_request_is_read_as_it_was_meant(version: int) -> None:
    body = fetch_request(version)
    request = fetch.read_request(reader_of(body, version, ApiKey.FETCH), version)
    assert (request.max_wait_ms, request.min_bytes, request.max_bytes) == (500, 1, 50_000)
    session = (77, 3) if version >= 7 else (0, -1)
    assert (request.session_id, request.session_epoch) == session
    epoch = 4 if version >= 9 else -1
    assert request.partitions == [
        FetchPartition(TopicPartition("words", 0), 10, 1000, epoch),
        FetchPartition(TopicPartition("words", 1), 2**40, 1001, epoch),
        FetchPartition(TopicPartition("other", 5), 0, 1005, epoch),
    ]
    gone = [TopicPartition("gone", 3), TopicPartition("gone", 4)]
    assert request.forgotten == (gone if version >= 7 else [])


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_a_fetch_request_that_ends_early_is_malformed_wherever_it_ends(version: int) -> None:
    body = fetch_request(version)
    for size in range(len(body)):
        with pytest.raises(MalformedRequestError):
            fetch.read_request(reader_of(body[:size], version, ApiKey.FETCH), version)


@pytest.mark.parametrize(
    ("at", "replaced", "code"),
    [
        (0, (2).to_bytes(4, "big"), 6),
        (0, (-2).to_bytes(4, "big", signed=True), None),
        (16, b"\x01", None),
        (16, b"\x07", 42),
    ],
    ids=["a broker", "a debugger", "what is committed", "an isolation level that is none"],
)
def test_a_fetch_that_brokers_or_nobody_could_send_is_refused(
    at: int, replaced: bytes, code: int | None
) -> None:
    body = bytearray(fetch_request(11))
    body[at : at + len(replaced)] = replaced
    asked = fetch.read_request(reader_of(memoryview(body), 11, ApiKey.FETCH), 11)
    assert (asked.refused and asked.refused.code) == code


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_a_fetch_response_can_be_read(version: int) -> None:
    error: MinikafkaError = OffsetOutOfRangeError("below the start")
    results = [
        FetchResult(
            TopicPartition("words", 0), None, 12, 1, b"records of words", last_stable_offset=7
        ),
        FetchResult(TopicPartition("words", 1), error),
        FetchResult(TopicPartition("other", 0), None, 5, 0, b""),
    ]
    body = fetch.write_response(results, version, error_code=0, session_id=9)
    assert b"records of words" in body, "records are not copied"
    response = read(ApiKey.FETCH, version, body)
    assert response.throttle_time == timedelta(0)
    if version >= 7:
        assert (int(response.error_code), response.session_id) == (0, 9)
    words, other = response.responses
    first, second = words.partitions
    assert (words.topic, first.partition_index, first.high_watermark) == ("words", 0, 12)
    assert (first.last_stable_offset, bytes(first.records)) == (7, b"records of words")
    assert (first.aborted_transactions, other.partitions[0].aborted_transactions) == (None, None)
    assert (second.partition_index, int(second.error_code)) == (1, 1)
    assert (other.partitions[0].high_watermark, bytes(other.partitions[0].records)) == (5, b"")
    if version >= 5:
        assert first.log_start_offset == 1
    if version >= 11:
        assert first.preferred_read_replica == -1


@pytest.mark.parametrize("version", FETCH_VERSIONS)
@pytest.mark.parametrize("level", [0, 1])
def test_a_fetch_says_whether_it_wants_committed_records_only(version: int, level: int) -> None:
    body = bytearray(fetch_request(version))
    body[16] = level
    asked = fetch.read_request(reader_of(memoryview(body), version, ApiKey.FETCH), version)
    assert (asked.read_committed, asked.refused) == (bool(level), None)


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_who_wants_committed_records_is_told_what_was_aborted(version: int) -> None:
    aborted = [AbortedTransaction(5, 2**40), AbortedTransaction(7, 2**41)]
    results = [
        FetchResult(TopicPartition("words", 0), None, 12, 1, b"x", aborted=aborted),
        FetchResult(TopicPartition("words", 1), None, 12, 1, b"", aborted=()),
        FetchResult(TopicPartition("words", 2), OffsetOutOfRangeError("below the start")),
        FetchResult(TopicPartition("words", 3), UnknownTopicOrPartitionError("none")),
    ]
    response = read(ApiKey.FETCH, version, fetch.write_response(results, version))
    some, none, failed, unknown = response.responses[0].partitions
    told = [(each.producer_id, each.first_offset) for each in some.aborted_transactions]
    assert told == [(5, 2**40), (7, 2**41)]
    assert bytes(some.records) == b"x"
    assert none.aborted_transactions == unknown.aborted_transactions == ()
    assert failed.aborted_transactions is None


# --- whatever else comes -------------------------------------------------------------------------


@given(raw=st.binary(max_size=300), version=st.sampled_from(FETCH_VERSIONS))
def test_no_bytes_make_a_fetch_reader_fail_otherwise(raw: bytes, version: int) -> None:
    with suppress(MalformedRequestError):
        fetch.read_request(reader_of(memoryview(raw), version, ApiKey.FETCH), version)


@given(data=st.data(), version=st.sampled_from(range(3, PRODUCE.max_version + 1)))
def test_a_damaged_produce_request_is_read_or_malformed(data: st.DataObject, version: int) -> None:
    body = bytearray(produce_request(version))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MalformedRequestError):
        produce.read_request(reader_of(memoryview(body), version, ApiKey.PRODUCE), version)


def test_a_count_of_items_that_are_not_there_costs_nothing() -> None:
    raw = memoryview(b"\x7f\xff\xff\xff")
    with pytest.raises(MalformedRequestError, match="claims 2147483647 items, and 0 bytes are"):
        Reader(raw).array(Reader.int32)
    with pytest.raises(MalformedRequestError, match="-5 items"):
        Reader(memoryview(b"\xff\xff\xff\xfb")).array(Reader.int32)


def test_a_varint_has_an_end() -> None:
    with pytest.raises(MalformedRequestError, match="more than five bytes"):
        Reader(memoryview(b"\xff" * 9)).varint()
