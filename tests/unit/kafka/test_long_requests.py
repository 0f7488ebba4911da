"""Requests with very many items: refused before anything is allocated, or done beside the loop."""

from __future__ import annotations

import asyncio
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from minikafka.api.requests import FetchResult, ProduceResult
from minikafka.kafka import fetch, fetch_sessions, messages
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.encoding import QUICK_ITEMS, LongAnswerError
from minikafka.kafka.fetch_sessions import FetchSessions
from minikafka.kafka.handlers.configs import describe_configs
from minikafka.kafka.partitions import ask_each
from minikafka.kafka.requests import (
    DeleteRecordsPartition,
    DeleteRecordsTopic,
    DescribeConfigs,
    DescribedResource,
    ListOffsets,
    Metadata,
)
from minikafka.kafka.wire import (
    MAX_ITEMS,
    MAX_TAGS,
    LongRequestError,
    MalformedRequestError,
    PacedReader,
    Reader,
)
from minikafka.model import TopicPartition
from tests.helpers.kio_messages import plain
from tests.helpers.waiting import until
from tests.unit.kafka.conftest import Ground

NAMES_V4 = struct.Struct(">i")


def metadata(names: int) -> memoryview:
    """Of version 4, by names of one letter."""
    return memoryview(NAMES_V4.pack(names) + b"\x00\x01a" * names + b"\x00")


def fetch_of(partitions: list[int], version: int = 4) -> memoryview:
    head = struct.pack(">iiiib", -1, 0, 1, 1_000, 0)
    items = b"".join(struct.pack(">iqi", index, 0, 100) for index in partitions)
    topics = struct.pack(">i", 1) + b"\x00\x01t" + struct.pack(">i", len(partitions)) + items
    return memoryview(head + topics)


# --- reading -------------------------------------------------------------------------------------


def test_as_many_items_as_may_be_are_read_and_one_more_is_malformed() -> None:
    request = messages.read_paced(ApiKey.METADATA, 4, metadata(MAX_ITEMS), Metadata)
    assert len(request.topics) == MAX_ITEMS
    with pytest.raises(MalformedRequestError, match="more than 20000 items"):
        messages.read_paced(ApiKey.METADATA, 4, metadata(MAX_ITEMS + 1), Metadata)


def test_items_are_counted_over_the_whole_request() -> None:
    # ListOffsets: many topics of a few partitions each.
    partition = struct.pack(">iq", 0, -1)
    topic = b"\x00\x01t" + struct.pack(">i", 9) + partition * 9
    raw = struct.pack(">ii", -1, MAX_ITEMS // 10 + 1) + topic * (MAX_ITEMS // 10 + 1)
    with pytest.raises(MalformedRequestError, match="more than 20000 items"):
        messages.read_paced(ApiKey.LIST_OFFSETS, 1, memoryview(raw), ListOffsets)


def test_an_array_cannot_claim_more_items_than_there_are_bytes() -> None:
    with pytest.raises(MalformedRequestError, match="claims 50 items, and 49 bytes are left"):
        messages.read(ApiKey.METADATA, 4, memoryview(NAMES_V4.pack(50) + bytes(49)), Metadata)


def test_a_request_that_is_not_read_quickly_says_so_and_is_read_in_another_way() -> None:
    raw = metadata(3_000)
    assert len(messages.read(ApiKey.METADATA, 4, raw, Metadata, 3_000).topics) == 3_000
    with pytest.raises(LongRequestError):
        messages.read(ApiKey.METADATA, 4, raw, Metadata, 2_999)
    paced = messages.read_paced(ApiKey.METADATA, 4, raw, Metadata)
    assert plain(paced) == plain(messages.read(ApiKey.METADATA, 4, raw, Metadata))


def test_tagged_fields_are_counted_too() -> None:
    tag = b"\x63\x00"
    body = b"\x01\x00\x00\x00"  # no topics, three flags

    def with_tags(count: int) -> memoryview:
        number = bytes((count & 0x7F | 0x80, count >> 7 & 0x7F | 0x80, count >> 14))
        return memoryview(body + number + tag * count)

    messages.read(ApiKey.METADATA, 9, with_tags(MAX_TAGS), Metadata)
    with pytest.raises(MalformedRequestError, match="tagged fields"):
        messages.read(ApiKey.METADATA, 9, with_tags(MAX_TAGS + 1), Metadata)


def test_a_compact_string_is_no_longer_than_another() -> None:
    reader = Reader(memoryview(b"\x81\x80\x02" + bytes(2**15)), flexible=True)
    with pytest.raises(MalformedRequestError, match="a string has 32768 bytes"):
        reader.string()


def test_what_is_left_of_items_goes_into_a_part_of_a_message_and_back() -> None:
    reader = PacedReader(memoryview(b""), flexible=True)
    reader.items_left, reader.tags_left = 7, 8
    part = reader.within(memoryview(b"abc"))
    assert (type(part), part.items_left, part.tags_left) == (PacedReader, 7, 8)
    assert part.flexible


# --- answers -------------------------------------------------------------------------------------


def test_a_long_answer_says_so_and_is_written_in_another_way() -> None:
    topic = {"name": "t", "partitions": []}
    values = {"throttle_time": 0, "topics": [topic] * (QUICK_ITEMS + 1)}
    with pytest.raises(LongAnswerError):
        messages.write(ApiKey.LIST_OFFSETS, 5, values)
    assert messages.write_paced(ApiKey.LIST_OFFSETS, 5, values) == (
        struct.pack(">ii", 0, QUICK_ITEMS + 1) + (b"\x00\x01t" + bytes(4)) * (QUICK_ITEMS + 1)
    )


# --- repetitions ---------------------------------------------------------------------------------


def test_a_fetch_names_a_partition_once_as_it_was_named_last() -> None:
    request = fetch.read_request(Reader(fetch_of([0, 1, 0] * 100)), 4)
    assert [item.topic_partition.partition for item in request.partitions] == [0, 1]


def test_a_fetch_of_more_partitions_than_may_be_is_malformed() -> None:
    fetch.read_request(Reader(fetch_of(list(range(fetch.MAX_PARTITIONS)))), 4)
    with pytest.raises(MalformedRequestError, match="a fetch of 10001 partitions"):
        fetch.read_request(Reader(fetch_of(list(range(fetch.MAX_PARTITIONS + 1)))), 4)


def test_a_fetch_session_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_sessions, "MAX_PARTITIONS", 150)
    sessions = FetchSessions()
    asked = fetch.read_request(Reader(fetch_of(list(range(100)))), 4)
    asked.session_epoch = 0
    session, _ = sessions.take(asked)
    assert session is not None
    more = fetch.read_request(Reader(fetch_of(list(range(100, 200)))), 4)
    more.session_id, more.session_epoch = session.session_id, 1
    with pytest.raises(MalformedRequestError, match="a fetch session of 200 partitions"):
        sessions.take(more)


async def test_a_partition_is_asked_once_and_answered_wherever_it_was_named() -> None:
    asked: list[list[tuple[TopicPartition, int]]] = []

    async def ask(questions: list[tuple[TopicPartition, int]]) -> list[Any]:
        asked.append(questions)
        return [SimpleNamespace(topic_partition=tp, error=None, at=at) for tp, at in questions]

    item = DeleteRecordsPartition({"partition_index": 0, "offset": 1})
    later = DeleteRecordsPartition({"partition_index": 0, "offset": 2})
    topic = DeleteRecordsTopic({"name": "t", "partitions": [item, later]})
    answer = await ask_each(
        [topic, DeleteRecordsTopic({"name": "empty", "partitions": []}), topic],
        lambda tp, item: (tp, item.offset),
        ask,
        lambda result: {"at": result.at},
    )
    assert asked == [[(TopicPartition("t", 0), 2)]]
    one = {"partition_index": 0, "error_code": 0, "at": 2}
    assert answer == [
        {"name": "t", "partitions": [one, one]},
        {"name": "empty", "partitions": []},
        {"name": "t", "partitions": [one, one]},
    ]


async def test_the_configuration_of_a_resource_is_told_once() -> None:
    calls: list[str] = []

    class Service:
        async def describe_configs(self, name: str) -> list[Any]:
            calls.append(name)
            return []

    resource = DescribedResource(
        {"resource_type": 2, "resource_name": "t", "configuration_keys": None}
    )
    request = DescribeConfigs({"resources": [resource] * 1_000, "include_synonyms": False})
    call: Any = None
    answer = await describe_configs(Service(), call, request)  # type: ignore[arg-type]
    assert calls == ["t"]
    assert len(answer["results"]) == 1


# --- on a connection -----------------------------------------------------------------------------


@pytest.fixture
async def wide(ground: Ground) -> Ground:
    await ground.start(max_request_bytes=10_000_000)
    return ground


async def test_a_long_request_is_answered_and_others_are_served_meanwhile(wide: Ground) -> None:
    client, other = await wide.connect(), await wide.connect()
    client.send_frame(struct.pack(">hhih", 3, 4, 7, -1) + bytes(metadata(15_000)))
    client.send_frame(struct.pack(">hhih", 18, 0, 8, -1))
    assert (await other.ask(ApiKey.API_VERSIONS, 0, {})).error_code == 0
    assert (await client.receive_frame())[:4] == struct.pack(">i", 7)
    assert (await client.receive_frame())[:4] == struct.pack(">i", 8), "not before the long one"


async def test_a_request_with_too_many_items_ends_its_connection_only(wide: Ground) -> None:
    client, other = await wide.connect(), await wide.connect()
    client.send_frame(struct.pack(">hhih", 3, 4, 7, -1) + bytes(metadata(MAX_ITEMS + 1)))
    await client.receive_end()
    assert (await other.ask(ApiKey.API_VERSIONS, 0, {})).error_code == 0
    assert wide.memory.used_bytes == 0


async def test_a_long_produce_is_appended_in_parts_and_answered_as_one(wide: Ground) -> None:
    client = await wide.connect()
    count = 1_000
    items = b"".join(struct.pack(">iib", index, 1, 0) for index in range(count))
    body = struct.pack(">hhii", -1, -1, 1_000, 1) + b"\x00\x01t" + struct.pack(">i", count) + items
    client.send_frame(struct.pack(">hhih", 0, 8, 7, -1) + body)
    await until(lambda: sum(len(each.partitions) for each in wide.broker.produced) == count)
    assert max(len(each.partitions) for each in wide.broker.produced) <= 100
    for each in list(wide.broker.produced):
        wide.broker.produce_answers.put_nowait(
            [ProduceResult(item.topic_partition, None, 5, 0) for item in each.partitions]
        )
    frame = await client.receive_frame()
    assert frame[:4] == struct.pack(">i", 7)
    assert frame.count(struct.pack(">hq", 0, 5)) == count


async def test_a_long_fetch_is_served(wide: Ground) -> None:
    client = await wide.connect()
    client.send_frame(struct.pack(">hhih", 1, 4, 7, -1) + bytes(fetch_of(list(range(1_000)))))
    await until(lambda: wide.broker.fetched)
    [request] = wide.broker.fetched
    assert len(request.partitions) == 1_000
    wide.broker.fetch_answers.put_nowait(
        [FetchResult(item.topic_partition, None, 0, 0, b"") for item in request.partitions]
    )
    assert (await client.receive_frame())[:4] == struct.pack(">i", 7)


async def test_long_requests_of_many_clients_are_done_a_few_at_a_time(wide: Ground) -> None:
    wide.broker.metadata_gate.clear()
    waiting = 0

    async def gate(topics: object, allow_auto_create: bool) -> Any:
        nonlocal waiting
        waiting += 1
        await wide.broker.metadata_gate.wait()
        return wide.broker.cluster

    wide.broker.metadata = gate  # type: ignore[method-assign]
    clients = [await wide.connect() for _ in range(8)]
    for client in clients:
        client.send_frame(struct.pack(">hhih", 3, 4, 7, -1) + bytes(metadata(3_000)))
    await until(lambda: waiting == 2)
    for _ in range(50):
        await asyncio.sleep(0)
    assert waiting == 2
    wide.broker.metadata_gate.set()
    for client in clients:
        await client.receive_frame()
