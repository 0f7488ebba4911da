"""The listener over TCP: order, limits, and what becomes of those who do not speak Kafka."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest

from minikafka.api.features import Feature, Features
from minikafka.api.requests import FetchResult, LeaderHint, ProduceResult
from minikafka.errors import (
    BrokerNotAvailableError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    PortTakenError,
    UsageError,
)
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.model import BrokerInfo, TopicPartition
from tests.helpers.listeners import plaintext_at, start_plaintext
from tests.helpers.waiting import until
from tests.unit.kafka.conftest import MAX_REQUEST_BYTES, Client, Ground

T0 = TopicPartition("t", 0)


def produce(acks: int = -1, records: bytes = b"records") -> dict[str, Any]:
    partition = {"index": 0, "records": records}
    return {
        "transactional_id": None,
        "acks": acks,
        "timeout": 1000,
        "topic_data": [{"name": "t", "partition_data": [partition]}],
    }


def fetch(session_id: int = 0, session_epoch: int = -1) -> dict[str, Any]:
    partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}
    return {
        "replica_id": -1,
        "max_wait": 500,
        "min_bytes": 1,
        "max_bytes": 1000,
        "isolation_level": 0,
        "session_id": session_id,
        "session_epoch": session_epoch,
        "topics": [{"topic": "t", "partitions": [partition]}],
        "forgotten_topics_data": [],
    }


METADATA: dict[str, Any] = {
    "topics": None,
    "allow_auto_topic_creation": False,
    "include_cluster_authorized_operations": False,
    "include_topic_authorized_operations": False,
}


# --- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(4))
async def test_the_versions_that_are_served_are_told(ground: Ground, version: int) -> None:
    await ground.start()
    client = await ground.connect()
    names = {"client_software_name": "test", "client_software_version": "1"}
    response = await client.ask(ApiKey.API_VERSIONS, version, names)
    assert int(response.error_code) == 0
    assert {key.api_key: (key.min_version, key.max_version) for key in response.api_keys} == {
        int(key): (api.min_version, api.max_version) for key, api in APIS.items()
    }


@pytest.mark.parametrize("version", range(4))
async def test_the_features_of_the_cluster_are_told_once_they_are_known(
    ground: Ground, version: int
) -> None:
    known: list[Features | None] = [None]
    await ground.start(features=lambda: known[0])
    client = await ground.connect()
    names = {"client_software_name": "test", "client_software_version": "1"}
    for features, epoch in (
        (None, -1),
        (Features(0, []), 0),
        (Features(2**40, [Feature("transaction.version", 1, 2, 2), Feature("f", 1, 9, 5)]), 2**40),
    ):
        known[0] = features
        response = await client.ask(ApiKey.API_VERSIONS, version, names)
        assert len(response.api_keys) == len(APIS)
        if version < 3:
            continue
        assert response.finalized_features_epoch == epoch
        supported = [
            Feature(each.name, each.min_version, each.max_version, final.max_version_level)
            for each, final in zip(
                response.supported_features, response.finalized_features, strict=True
            )
        ]
        assert supported == list(features.features if features else ())
        finalized = [(each.name, each.min_version_level) for each in response.finalized_features]
        assert finalized == [(each.name, each.finalized_level) for each in supported]


async def test_a_newer_version_of_the_question_is_answered_with_those_that_are_served(
    ground: Ground,
) -> None:
    await ground.start()
    client = await ground.connect()
    client.send_frame(struct.pack(">hhi", 18, 99, 5) + b"whatever it may hold")
    frame = await client.receive_frame()
    served = APIS[ApiKey.API_VERSIONS]
    told = (1, 18, served.min_version, served.max_version)
    assert struct.unpack(">ihihhh", frame) == (5, 35, *told)
    assert struct.pack(">hhh", 18, 0, 3) in frame
    names = {"client_software_name": "test", "client_software_version": "1"}
    assert int((await client.ask(ApiKey.API_VERSIONS, 3, names)).error_code) == 0


# --- order ---------------------------------------------------------------------------------------


async def test_produce_requests_overlap_and_are_answered_in_order(ground: Ground) -> None:
    await ground.start()
    client = await ground.connect()
    sent = [client.send(ApiKey.PRODUCE, 9, produce()) for _ in range(3)]
    await until(lambda: len(ground.broker.produced) == 3)
    for offset in range(3):
        ground.broker.produce_answers.put_nowait([ProduceResult(T0, None, offset, 0)])
    for number, correlation_id in enumerate(sent):
        received, response = await client.receive(ApiKey.PRODUCE, 9)
        assert received == correlation_id
        assert response.responses[0].partition_responses[0].base_offset == number


async def test_an_answer_waits_for_those_before_it(ground: Ground) -> None:
    await ground.start()
    client = await ground.connect()
    first = client.send(ApiKey.PRODUCE, 9, produce())
    second = client.send(ApiKey.FETCH, 12, fetch())
    ground.broker.fetch_answers.put_nowait([FetchResult(T0, None, 0, 0, b"")])
    await until(lambda: ground.broker.fetched and ground.broker.fetch_answers.empty())
    ground.broker.produce_answers.put_nowait([ProduceResult(T0, None, 0, 0)])
    assert (await client.receive(ApiKey.PRODUCE, 9))[0] == first
    assert (await client.receive(ApiKey.FETCH, 12))[0] == second


async def test_nothing_overtakes_any_other_request(ground: Ground) -> None:
    await ground.start()
    client = await ground.connect()
    ground.broker.metadata_gate.clear()
    metadata = client.send(ApiKey.METADATA, 9, METADATA)
    produced = client.send(ApiKey.PRODUCE, 9, produce())
    other = await ground.connect()
    ground.broker.produce_answers.put_nowait([ProduceResult(T0, None, 0, 0)])
    await other.ask(ApiKey.PRODUCE, 9, produce())
    assert len(ground.broker.produced) == 1, "that of the other connection"
    ground.broker.metadata_gate.set()
    assert (await client.receive(ApiKey.METADATA, 9))[0] == metadata
    ground.broker.produce_answers.put_nowait([ProduceResult(T0, None, 1, 0)])
    assert (await client.receive(ApiKey.PRODUCE, 9))[0] == produced


# --- counting ------------------------------------------------------------------------------------


async def test_requests_are_counted_by_kafkas_names(ground: Ground) -> None:
    await ground.start()
    client = await ground.connect()
    ground.broker.produce_answers.put_nowait([ProduceResult(T0, None, 0, 0)])
    ground.broker.fetch_answers.put_nowait([FetchResult(T0, None, 0, 0, b"")])
    await client.ask(ApiKey.API_VERSIONS, 0, {})
    await client.ask(ApiKey.PRODUCE, 9, produce())
    await client.ask(ApiKey.FETCH, 12, fetch())
    await client.ask(ApiKey.METADATA, 9, METADATA)
    counts = {kind: counter.count for kind, counter in ground.counters.kinds.items()}
    assert counts == {"ApiVersions": 1, "Produce": 1, "FetchConsumer": 1, "Metadata": 1}
    assert ground.listener is not None
    assert ground.listener.connection_count == 1


# --- produce and fetch ---------------------------------------------------------------------------


@pytest.mark.parametrize("manner", ["in a while", "at once", "soon"])
@pytest.mark.parametrize(
    ("hint", "leader"),
    [
        (LeaderHint(2, 7), (2, 7)),
        (LeaderHint(3, 7), (-1, -1)),
        (LeaderHint(-1, 7), (-1, -1)),
        (None, (-1, -1)),
    ],
)
async def test_a_producer_at_the_wrong_broker_is_told_who_leads_and_where(
    ground: Ground,
    manner: str,
    hint: LeaderHint | None,
    leader: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = [ProduceResult(T0, NotLeaderOrFollowerError("elsewhere"), leader_hint=hint)]

    def refuse(request: object) -> Awaitable[Sequence[ProduceResult]]:
        loop = asyncio.get_running_loop()
        refused: asyncio.Future[Sequence[ProduceResult]] = loop.create_future()
        if manner == "at once":
            refused.set_result(results)
        elif manner == "soon":
            loop.call_soon(refused.set_result, results)
        else:
            ground.broker.produce_answers.put_nowait(results)
            return ground.broker.produce_answers.get()
        return refused

    monkeypatch.setattr(ground.broker, "produce", refuse)
    ground.broker.cluster.brokers = [
        BrokerInfo(1, "A", "127.0.0.1", 1, plaintext_at("127.0.0.1", 9092)),
        BrokerInfo(2, "B", "127.0.0.1", 2, plaintext_at("host-2", 9093)),
        BrokerInfo(3, "C", "127.0.0.1", 3),
    ]
    await ground.start()
    client = await ground.connect()
    for version in (9, 10, 12):
        response = await client.ask(ApiKey.PRODUCE, version, produce())
        (partition,) = response.responses[0].partition_responses
        assert int(partition.error_code) == 6
        if version >= 10:
            told = partition.current_leader
            assert (told.leader_id, told.leader_epoch) == leader
            endpoints = [(each.node_id, each.host, each.port) for each in response.node_endpoints]
            assert endpoints == ([(2, "host-2", 9093)] if leader[0] == 2 else [])


async def test_a_bug_while_the_leaders_are_looked_for_ends_the_connection(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(topics: object, allow_auto_create: bool) -> None:
        raise ZeroDivisionError("a bug")

    def refuse(request: object) -> Awaitable[Sequence[ProduceResult]]:
        refused: asyncio.Future[Sequence[ProduceResult]]
        refused = asyncio.get_running_loop().create_future()
        error = NotLeaderOrFollowerError("elsewhere")
        refused.set_result([ProduceResult(T0, error, leader_hint=LeaderHint(2, 7))])
        return refused

    await ground.start()
    monkeypatch.setattr(ground.broker, "metadata", fail)
    monkeypatch.setattr(ground.broker, "produce", refuse)
    client = await ground.connect()
    client.send(ApiKey.PRODUCE, 12, produce())
    await client.receive_end()
    assert "a bug" in caplog.text
    assert ground.memory.used_bytes == 0


async def test_produce_with_acks_0_has_no_answer(ground: Ground) -> None:
    await ground.start()
    client = await ground.connect()
    client.send(ApiKey.PRODUCE, 9, produce(acks=0))
    ground.broker.produce_answers.put_nowait([ProduceResult(T0, None, 0, 0)])
    await client.ask(ApiKey.METADATA, 9, METADATA)
    assert ground.broker.produced[0].acks == 0


async def test_produce_with_acks_0_that_fails_ends_the_connection(ground: Ground) -> None:
    await ground.start()
    client = await ground.connect()
    client.send(ApiKey.PRODUCE, 9, produce(acks=0))
    ground.broker.produce_answers.put_nowait([ProduceResult(T0, NotEnoughReplicasError("few"))])
    await client.receive_end()


async def test_a_request_that_fails_as_a_whole_fails_for_each_partition(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: object) -> None:
        raise BrokerNotAvailableError("out of touch")

    await ground.start()
    monkeypatch.setattr(ground.broker, "produce", refuse)
    monkeypatch.setattr(ground.broker, "fetch", refuse)
    client = await ground.connect()
    produced = await client.ask(ApiKey.PRODUCE, 9, produce())
    assert int(produced.responses[0].partition_responses[0].error_code) == 6
    fetched = await client.ask(ApiKey.FETCH, 12, fetch())
    assert int(fetched.responses[0].partitions[0].error_code) == 6


async def test_old_message_formats_are_refused_and_the_rest_is_taken(ground: Ground) -> None:
    await ground.start()
    client = await ground.connect()
    body = struct.pack(">hii", -1, 1000, 1) + b"\x00\x01t" + struct.pack(">i", 2)
    for index, magic in ((0, 1), (1, 2)):
        records = bytes(16) + bytes([magic]) + bytes(20)
        body += struct.pack(">ii", index, len(records)) + records
    client.send_frame(struct.pack(">hhi", 0, 2, 7) + b"\x00\x04test" + body)
    ground.broker.produce_answers.put_nowait([ProduceResult(TopicPartition("t", 1), None, 3, 0)])
    frame = await client.receive_frame()
    assert struct.pack(">ihq", 1, 0, 3) in frame
    assert struct.pack(">ihq", 0, 43, -1) in frame
    assert [item.topic_partition.partition for item in ground.broker.produced[0].partitions] == [1]


async def test_a_fetch_session_lasts_over_fetches_and_ends_with_the_connection(
    ground: Ground,
) -> None:
    await ground.start()
    client = await ground.connect()
    ground.broker.fetch_answers.put_nowait([FetchResult(T0, None, 5, 0, b"records")])
    first = await client.ask(ApiKey.FETCH, 12, fetch(0, 0))
    assert first.session_id > 0
    ground.broker.fetch_answers.put_nowait([FetchResult(T0, None, 5, 0, b"")])
    following = fetch(first.session_id, 1) | {"topics": []}
    second = await client.ask(ApiKey.FETCH, 12, following)
    assert (second.session_id, second.responses) == (first.session_id, ())
    assert [p.topic_partition for p in ground.broker.fetched[1].partitions] == [T0]
    client.writer.close()
    other = await ground.connect()

    async def is_gone() -> bool:
        response = await other.ask(ApiKey.FETCH, 12, fetch(first.session_id, 9))
        return int(response.error_code) == 70

    await until(is_gone)


# --- limits --------------------------------------------------------------------------------------


async def test_a_full_broker_does_not_read_on_until_answers_have_left(ground: Ground) -> None:
    await ground.start(max_queued_bytes=100)
    client, other = await ground.connect(), await ground.connect()
    client.send(ApiKey.PRODUCE, 9, produce(records=b"x" * 200))
    await until(lambda: len(ground.broker.produced) == 1)
    other.send(ApiKey.PRODUCE, 9, produce())
    client.send(ApiKey.PRODUCE, 9, produce())
    third = await ground.connect()
    third.send(ApiKey.METADATA, 9, METADATA)
    await until(lambda: len(ground.memory._waiting) == 3)
    assert len(ground.broker.produced) == 1
    for offset in range(3):
        ground.broker.produce_answers.put_nowait([ProduceResult(T0, None, offset, 0)])
    await client.receive(ApiKey.PRODUCE, 9)
    await client.receive(ApiKey.PRODUCE, 9)
    await other.receive(ApiKey.PRODUCE, 9)
    await third.receive(ApiKey.METADATA, 9)
    assert ground.memory.used_bytes == 0


async def test_the_memory_of_a_client_that_goes_away_is_given_back(ground: Ground) -> None:
    await ground.start()
    client = await ground.connect()
    for _ in range(3):
        client.send(ApiKey.PRODUCE, 9, produce())
    await until(lambda: len(ground.broker.produced) == 3)
    client.writer.close()
    await until(lambda: ground.memory.used_bytes == 0)


async def test_an_idle_connection_is_closed_and_one_that_waits_is_not(ground: Ground) -> None:
    await ground.start(max_idle_ms=200)
    idle, waiting = await ground.connect(), await ground.connect()
    waiting.send(ApiKey.FETCH, 12, fetch())
    await idle.receive_end()
    ground.broker.fetch_answers.put_nowait([FetchResult(T0, None, 0, 0, b"")])
    await waiting.receive(ApiKey.FETCH, 12)


async def test_a_port_that_is_taken_is_named(ground: Ground) -> None:
    await ground.start()
    other = Ground()
    other.listener = None
    assert ground.listener is not None
    with pytest.raises(UsageError, match=f"port {ground.port} on 127.0.0.1 is taken"):
        await start_plaintext(ground.listener, "127.0.0.1", ground.port)
    with pytest.raises(UsageError, match=r"cannot listen on 203\.0\.113\.1"):
        await start_plaintext(ground.listener, "203.0.113.1")


async def test_connections_are_refused_until_it_serves(ground: Ground) -> None:
    await ground.start(serving=False)
    with pytest.raises(ConnectionRefusedError):
        await ground.connect()
    assert ground.listener is not None
    await ground.listener.start_serving()
    await bystander_is_served(await ground.connect())


async def test_a_port_that_another_process_was_quicker_to_listen_at_is_named(
    ground: Ground,
) -> None:
    await ground.start(serving=False)
    assert ground.listener is not None
    with socket.socket() as quicker:
        quicker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        quicker.bind(("127.0.0.1", ground.port))
        quicker.listen()
        with pytest.raises(PortTakenError, match=f"port {ground.port} on 127.0.0.1 is taken"):
            await ground.listener.start_serving()


# --- those who do not speak Kafka ----------------------------------------------------------------


async def bystander_is_served(bystander: Client) -> None:
    response = await bystander.ask(ApiKey.METADATA, 9, METADATA)
    assert response.cluster_id == "cluster"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (struct.pack(">i", MAX_REQUEST_BYTES + 1), "socket.request.max.bytes"),
        (struct.pack(">i", -5), "a request of -5 bytes"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "a request of 1195725856 bytes"),
        (b"\x00\x00\x00\x08" + struct.pack(">hhi", 999, 0, 1), "API key 999 is not served"),
        (b"\x00\x00\x00\x08" + struct.pack(">hhi", 4, 0, 1), "API key 4 is not served"),
        (b"\x00\x00\x00\x08" + struct.pack(">hhi", 3, 99, 1), "METADATA version 99"),
        (b"\x00\x00\x00\x08" + struct.pack(">hhi", 1, 3, 1), "FETCH version 3"),
        (b"\x00\x00\x00\x0a" + struct.pack(">hhih", 3, 9, 1, -1), "bytes are expected"),
        (b"\x00\x00\x00\x0c" + struct.pack(">hhih", 0, 3, 1, -1) + b"\xff\xff", "PRODUCE version"),
        (b"\x00\x00\x00\x0e" + struct.pack(">hhihi", 2, 1, 1, -1, 7), "LIST_OFFSETS version 1"),
    ],
)
async def test_what_cannot_be_read_ends_the_connection_with_a_line_and_nobody_else_notices(
    ground: Ground, raw: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    await ground.start()
    bystander, client = await ground.connect(), await ground.connect()
    await bystander_is_served(bystander)
    with caplog.at_level(logging.WARNING):
        client.writer.write(raw)
        await client.receive_end()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert reason in caplog.text
    assert "closing the connection of /127.0.0.1" in caplog.text
    await bystander_is_served(bystander)
    assert ground.memory.used_bytes == 0


async def test_a_bug_ends_one_connection_and_the_log_has_it(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(topics: object, allow_auto_create: bool) -> None:
        raise ZeroDivisionError("a bug")

    await ground.start()
    client = await ground.connect()
    with monkeypatch.context() as patched:
        patched.setattr(ground.broker, "metadata", fail)
        client.send(ApiKey.METADATA, 9, METADATA)
        await client.receive_end()
    assert "METADATA version 9 failed" in caplog.text
    assert "a bug" in caplog.text
    await bystander_is_served(await ground.connect())


async def test_a_client_that_does_not_read_its_answers_gets_no_more_of_them(
    ground: Ground,
) -> None:
    await ground.start()
    client = await ground.connect()
    transport: Any = client.writer.transport
    transport.pause_reading()
    records = b"x" * 1_000_000
    for number in range(40):
        ground.broker.fetch_answers.put_nowait([FetchResult(T0, None, number, 0, records)])
    for _ in range(40):
        client.send(ApiKey.FETCH, 12, fetch())
    await until(lambda: len(ground.broker.fetched) > 1)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(ground.broker.fetched) < 40
    transport.resume_reading()
    for _ in range(40):
        await client.receive(ApiKey.FETCH, 12)
