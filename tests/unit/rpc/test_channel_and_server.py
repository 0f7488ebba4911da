"""A client's channel against a broker's server, over loopback."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

import pytest

from minikafka.api.access import ScramDescription
from minikafka.api.metrics import (
    BrokerMetrics,
    ControllerMetrics,
    GroupMetrics,
    ProcessUsage,
    ReplicaMetrics,
    RequestMetrics,
    TopicMetrics,
)
from minikafka.api.requests import (
    AlterBrokerConfigRequest,
    AlterTopicConfigRequest,
    ClusterMetadata,
    ControllerResponse,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResult,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    FetchPartition,
    FetchRequest,
    FetchResult,
    LeaderHint,
    ListOffsetsPartition,
    ListOffsetsResult,
    NamedResult,
    PartitionResult,
    PartitionStatus,
    ProducePartition,
    ProduceRequest,
    ProduceResult,
    TopicConfigEntry,
)
from minikafka.broker.counters import RequestCounters
from minikafka.config.overrides import ConfigDescription, ConfigSynonym
from minikafka.errors import (
    InvalidRequestError,
    MessageTooLargeError,
    MinikafkaError,
    NetworkError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    OffsetOutOfRangeError,
    UnknownServerError,
)
from minikafka.model import (
    BrokerInfo,
    TopicPartition,
)
from minikafka.rpc import streams
from minikafka.security.acl import (
    Entry,
    EntryFilter,
    Operation,
    Pattern,
    PatternFilter,
    PatternType,
    Permission,
    ResourceType,
)
from minikafka.security.authorizer import Rule
from minikafka.security.principal import Principal
from tests.helpers.waiting import until

TP = TopicPartition("topic", 0)
LARGE = b"\x92" * (1 << 20)
METRICS = BrokerMetrics(
    1,
    2,
    3,
    1_700_000_000_000,
    ProcessUsage(4, 5_000_000_000, 6),
    TopicMetrics("", *range(10, 22)),
    (TopicMetrics("a", *range(20, 32)), TopicMetrics("b", *range(30, 42))),
    ReplicaMetrics(*range(50, 59)),
    ControllerMetrics(True, *range(60, 69)),
    GroupMetrics(*range(70, 76)),
    (RequestMetrics("Produce", 80, 81, 82, 83),),
    True,
    90,
    91,
)


def produce(number: int = 0, acks: int = -1, records: bytes | None = None) -> ProduceRequest:
    data = b"%d" % number if records is None else records
    return ProduceRequest(acks, 30_000, [ProducePartition(TP, data)])


def produced(offset: int) -> list[ProduceResult]:
    return [ProduceResult(TP, None, offset, 0)]


def fetch(offset: int = 0, max_wait_ms: int = 30_000) -> FetchRequest:
    return FetchRequest(max_wait_ms, 1, 1 << 20, [FetchPartition(TP, offset, 1 << 20)])


async def soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, 20)


# --- produce -------------------------------------------------------------------------------------


async def test_produce_requests_reach_the_service_in_order_before_any_is_answered(
    loopback: Any,
) -> None:
    await loopback.start()
    channel = loopback.channel()
    futures = [asyncio.ensure_future(channel.produce(produce(number))) for number in range(50)]
    calls = loopback.service.of("produce")
    await calls.count(50)
    seen = [request.partitions[0].records for request in calls.requests]
    assert seen == [b"%d" % number for number in range(50)]
    assert not any(future.done() for future in futures)


async def test_produce_answers_find_their_requests_in_whatever_order_they_come(
    loopback: Any,
) -> None:
    await loopback.start()
    channel = loopback.channel()
    futures = [asyncio.ensure_future(channel.produce(produce(number))) for number in range(10)]
    calls = loopback.service.of("produce")
    await calls.count(10)
    for number in (9, 3, 0, 7, 1, 8, 2, 6, 5, 4):
        calls.answers[number].set_result(produced(100 + number))
        assert await soon(futures[number]) == produced(100 + number)


async def test_large_records_arrive_whole_both_ways(loopback: Any) -> None:
    await loopback.start()
    channel = loopback.channel()
    loopback.service.replies["produce"] = produced(5)
    assert await soon(channel.produce(produce(records=LARGE))) == produced(5)
    assert loopback.service.of("produce").requests[0] == produce(records=LARGE)
    loopback.service.replies["fetch"] = [FetchResult(TP, None, 9, 1, LARGE)]
    assert await soon(channel.fetch(fetch())) == [FetchResult(TP, None, 9, 1, LARGE)]


async def test_without_acks_the_results_come_as_soon_as_the_request_is_sent(loopback: Any) -> None:
    await loopback.start()
    channel = loopback.channel()
    assert await soon(channel.produce(produce(1, acks=0))) == [ProduceResult(TP)]
    await loopback.service.of("produce").count(1)


async def test_a_request_without_acks_gets_no_answer_even_if_it_fails(loopback: Any) -> None:
    await loopback.start()
    channel = loopback.channel()
    loopback.service.replies["produce"] = NotEnoughReplicasError("too few")
    await soon(channel.produce(produce(1, acks=0)))
    await loopback.service.of("produce").count(1)
    loopback.service.replies["produce"] = produced(2)
    assert await soon(channel.produce(produce(2))) == produced(2)


async def test_errors_of_partitions_and_leader_hints_are_in_the_results(loopback: Any) -> None:
    await loopback.start()
    refused = ProduceResult(TP, NotLeaderOrFollowerError("B leads"), leader_hint=LeaderHint(2, 7))
    loopback.service.replies["produce"] = [refused]
    (result,) = await soon(loopback.channel().produce(produce()))
    assert isinstance(result.error, NotLeaderOrFollowerError)
    assert result.error.message == "B leads"
    assert result.leader_hint == LeaderHint(2, 7)


@pytest.mark.parametrize("where", ["produce", "produce refuses"])
async def test_a_produce_request_that_fails_as_a_whole_raises_the_typed_error(
    loopback: Any, where: str
) -> None:
    await loopback.start()
    loopback.service.replies[where] = NotEnoughReplicasError("2 in sync, 3 wanted")
    with pytest.raises(NotEnoughReplicasError, match="2 in sync, 3 wanted") as caught:
        await soon(loopback.channel().produce(produce()))
    assert caught.value.retriable


async def test_produce_stops_reading_while_too_many_requests_are_unanswered(
    loopback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MAX_OUTSTANDING", 3)
    await loopback.start()
    channel = loopback.channel()
    futures = [asyncio.ensure_future(channel.produce(produce(number))) for number in range(8)]
    calls = loopback.service.of("produce")
    most = 0
    for answered in range(8):
        await calls.count(min(8, answered + 3))
        # A message that was read although there was no room would have got here before this does.
        await channel.check_health()
        most = max(most, len(calls.requests) - answered)
        calls.answers[answered].set_result(produced(answered))
        assert await soon(futures[answered]) == produced(answered)
    assert most == 3


async def test_produce_stops_reading_while_the_brokers_memory_for_requests_is_full(
    loopback: Any,
) -> None:
    await loopback.start(max_queued_bytes=3_000_000)
    one, other = loopback.channel(), loopback.channel()
    calls = loopback.service.of("produce")
    first = one.produce(produce(records=LARGE))
    await calls.count(1)
    second = other.produce(produce(records=LARGE))
    await calls.count(2)
    third = one.produce(produce(3))
    await one.check_health()
    assert len(calls.requests) == 2
    calls.answers[0].set_result(produced(0))
    calls.answers[1].set_result(produced(1))
    await calls.count(3)
    calls.answers[2].set_result(produced(2))
    assert [await soon(each) for each in (first, second, third)] == [
        produced(number) for number in range(3)
    ]


async def test_a_client_that_goes_away_frees_the_memory_of_its_requests(
    loopback: Any, until: Any
) -> None:
    server = await loopback.start()
    channel = loopback.channel()
    pending = asyncio.ensure_future(channel.produce(produce(records=LARGE)))
    calls = loopback.service.of("produce")
    await calls.count(1)
    memory = server._streams.memory
    assert memory.used_bytes > len(LARGE)
    await channel.close()
    with pytest.raises(NetworkError):
        await soon(pending)
    await calls.until(lambda: calls.answers[0].cancelled())
    await until(lambda: memory.used_bytes == 0)


# --- fetch ---------------------------------------------------------------------------------------


async def test_long_polls_of_one_stream_do_not_hold_each_other_up(loopback: Any) -> None:
    await loopback.start()
    channel = loopback.channel()
    waits = asyncio.ensure_future(channel.fetch(fetch(1)))
    calls = loopback.service.of("fetch")
    await calls.count(1)
    quick = asyncio.ensure_future(channel.fetch(fetch(2)))
    await calls.count(2)
    calls.answers[1].set_result([FetchResult(TP, None, 3, 0, b"quick")])
    assert (await soon(quick))[0].records == b"quick"
    assert not waits.done()
    calls.answers[0].set_result([FetchResult(TP, None, 3, 0, b"late")])
    assert (await soon(waits))[0].records == b"late"


async def test_a_fetch_that_nobody_waits_for_any_more_disturbs_no_other(loopback: Any) -> None:
    await loopback.start()
    channel = loopback.channel()
    forgotten = asyncio.ensure_future(channel.fetch(fetch(1)))
    calls = loopback.service.of("fetch")
    await calls.count(1)
    forgotten.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forgotten
    calls.answers[0].set_result([FetchResult(TP, None, 3, 0, b"for nobody")])
    wanted = asyncio.ensure_future(channel.fetch(fetch(2)))
    await calls.count(2)
    calls.answers[1].set_result([FetchResult(TP, None, 3, 0, b"wanted")])
    assert (await soon(wanted))[0].records == b"wanted"


async def test_long_polls_end_with_their_client(loopback: Any) -> None:
    await loopback.start()
    channel = loopback.channel()
    pending = asyncio.ensure_future(channel.fetch(fetch()))
    calls = loopback.service.of("fetch")
    await calls.count(1)
    await channel.close()
    with pytest.raises(NetworkError):
        await soon(pending)
    await calls.until(lambda: calls.answers[0].cancelled())


# --- errors and limits ---------------------------------------------------------------------------

PORTLESS = [TopicPartition("topic", 0)]
UNARY = {
    "list_offsets": lambda channel: channel.list_offsets([ListOffsetsPartition(TP, -1)]),
    "metadata": lambda channel: channel.metadata(),
    "describe_partitions": lambda channel: channel.describe_partitions([TP]),
    "delete_records": lambda channel: channel.delete_records(DeleteRecordsRequest(1_000, [])),
    "describe_topic_configs": lambda channel: channel.describe_topic_configs("topic"),
    "describe_configs": lambda channel: channel.describe_configs("topic"),
    "describe_broker_configs": lambda channel: channel.describe_broker_configs("1"),
    "describe_acls": lambda channel: channel.describe_acls(EntryFilter()),
    "describe_scram": lambda channel: channel.describe_scram(["alice"]),
    "init_producer_id": lambda channel: channel.init_producer_id(),
    "broker_metrics": lambda channel: channel.broker_metrics(),
    "administer": lambda channel: channel.administer(DeleteTopicsRequest(["topic"]), 1_000),
    "produce": lambda channel: channel.produce(produce()),
    "fetch": lambda channel: channel.fetch(fetch()),
}


@pytest.mark.parametrize("method", UNARY)
async def test_a_typed_error_arrives_as_it_was_raised(loopback: Any, method: str) -> None:
    await loopback.start()
    loopback.service.replies[method] = NotLeaderOrFollowerError("ask B")
    with pytest.raises(NotLeaderOrFollowerError, match=r"^ask B$"):
        await soon(UNARY[method](loopback.channel()))


@pytest.mark.parametrize("method", UNARY)
async def test_a_bug_becomes_an_unknown_server_error_and_only_the_log_has_the_traceback(
    loopback: Any, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    await loopback.start()
    loopback.service.replies[method] = KeyError("a secret of the broker")
    with caplog.at_level(logging.ERROR), pytest.raises(UnknownServerError) as caught:
        await soon(UNARY[method](loopback.channel()))
    assert "its log has the details" in caught.value.message
    assert "secret" not in caught.value.message
    assert "Traceback" not in caught.value.message
    (record,) = [each for each in caplog.records if each.exc_info]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


async def test_a_stream_outlives_the_errors_of_its_requests(loopback: Any) -> None:
    await loopback.start()
    channel = loopback.channel()
    calls = loopback.service.of("produce")
    failing = asyncio.ensure_future(channel.produce(produce(1)))
    fine = asyncio.ensure_future(channel.produce(produce(2)))
    await calls.count(2)
    calls.answers[0].set_exception(RuntimeError("a bug"))
    calls.answers[1].set_result(produced(2))
    with pytest.raises(UnknownServerError):
        await soon(failing)
    assert await soon(fine) == produced(2)


async def test_requests_above_the_limit_are_refused_with_a_sentence_and_others_go_on(
    loopback: Any,
) -> None:
    await loopback.start(max_request_bytes=1_000)
    channel = loopback.channel()
    loopback.service.replies["produce"] = produced(1)
    too_large = channel.produce(produce(records=b"r" * 1_001))
    fits = channel.produce(produce(records=b"r" * 900))
    with pytest.raises(MessageTooLargeError, match=r"socket\.request\.max\.bytes=1000"):
        await soon(too_large)
    assert await soon(fits) == produced(1)
    assert len(loopback.service.of("produce").requests) == 1
    with pytest.raises(MessageTooLargeError):
        await soon(channel.metadata(["t" * 1_001]))
    partitions = [FetchPartition(TopicPartition("t" * 1_001, 0), 0, 1)]
    with pytest.raises(MessageTooLargeError):
        await soon(channel.fetch(FetchRequest(1, 1, 1, partitions)))


async def test_what_no_client_may_ask_is_refused_before_it_is_sent(loopback: Any) -> None:
    from minikafka.api.requests import AllocateProducerIdsRequest

    with pytest.raises(InvalidRequestError):
        await loopback.channel("127.0.0.1:1").administer(AllocateProducerIdsRequest(1, 1), 1_000)


# --- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", UNARY)
async def test_a_refused_connection_is_a_network_error(
    loopback: Any, free_port: int, method: str
) -> None:
    channel = loopback.channel(f"127.0.0.1:{free_port}")
    with pytest.raises(NetworkError, match=str(free_port)):
        await soon(UNARY[method](channel))


@pytest.mark.parametrize("method", UNARY)
async def test_a_silent_peer_is_a_network_error(
    loopback: Any, silent_port: int, method: str
) -> None:
    channel = loopback.channel(
        f"127.0.0.1:{silent_port}", request_timeout_ms=100, margin_ms=100 - 30_000
    )
    if method == "administer":
        waiting = channel.administer(DeleteTopicsRequest(["topic"]), 30_000)
    else:
        waiting = UNARY[method](channel)
    with pytest.raises(NetworkError):
        await soon(waiting)


async def test_a_broker_that_stays_silent_beyond_its_time_fails_all_that_waits_on_the_stream(
    loopback: Any,
) -> None:
    await loopback.start()
    channel = loopback.channel(margin_ms=50)
    calls = loopback.service.of("produce")
    patient = channel.produce(produce(1))
    await calls.count(1)
    hasty = channel.produce(ProduceRequest(-1, 10, [ProducePartition(TP, b"2")]))
    with pytest.raises(NetworkError, match="did not answer within 60 ms"):
        await soon(hasty)
    with pytest.raises(NetworkError):
        await soon(patient)


async def test_when_the_broker_stops_everything_fails_and_the_next_call_connects_anew(
    loopback: Any,
) -> None:
    server = await loopback.start()
    channel = loopback.channel()
    calls = loopback.service.of("produce")
    pending = [asyncio.ensure_future(channel.produce(produce(number))) for number in range(3)]
    await calls.count(3)
    await server.stop(0)
    for future in pending:
        with pytest.raises(MinikafkaError) as caught:
            await soon(future)
        assert caught.value.retriable
    await loopback.start(loopback.port)
    loopback.service.replies["produce"] = produced(7)
    while True:
        try:
            assert await soon(channel.produce(produce())) == produced(7)
            break
        except NetworkError:  # until gRPC's backoff is over
            continue


async def test_a_killed_broker_fails_what_is_outstanding_at_once(
    loopback: Any, broker_process: Any
) -> None:
    port = int(await soon(broker_process.stdout.readline()))
    channel = loopback.channel(f"127.0.0.1:{port}")
    pending = asyncio.ensure_future(channel.produce(produce()))
    assert await soon(broker_process.stdout.readline()) == b"got it\n"
    broker_process.send_signal(signal.SIGKILL)
    with pytest.raises(NetworkError):
        await soon(pending)


async def test_closing_the_channel_fails_what_is_outstanding_and_what_comes_later(
    loopback: Any,
) -> None:
    await loopback.start()
    channel = loopback.channel()
    waiting = [
        asyncio.ensure_future(channel.produce(produce())),
        asyncio.ensure_future(channel.fetch(fetch())),
        asyncio.ensure_future(channel.metadata()),
    ]
    for method in ("produce", "fetch", "metadata"):
        await loopback.service.of(method).count(1)
    await channel.close()
    for future in waiting:
        with pytest.raises(NetworkError):
            await soon(future)
    with pytest.raises(NetworkError, match="closed"):
        await channel.metadata()
    with pytest.raises(NetworkError, match="closed"):
        await channel.produce(produce())
    await channel.close()


async def test_cancelling_a_call_is_not_taken_for_a_network_error(loopback: Any) -> None:
    await loopback.start()
    waiting = asyncio.ensure_future(loopback.channel().metadata())
    await loopback.service.of("metadata").count(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# --- the other calls -----------------------------------------------------------------------------


async def test_unary_calls_carry_arguments_and_results(loopback: Any) -> None:
    await loopback.start()
    channel = loopback.channel()
    replies = loopback.service.replies

    replies["list_offsets"] = (ListOffsetsResult(TP, None, 5, 6, 7),)
    asked = (ListOffsetsPartition(TP, -2, 3),)
    assert await channel.list_offsets(asked) == replies["list_offsets"]
    assert loopback.service.of("list_offsets").requests == [asked]

    replies["metadata"] = ClusterMetadata("cluster", 1, 2, (BrokerInfo(1, "A", "h", 1),), ())
    assert await channel.metadata(["a"], allow_auto_create=True) == replies["metadata"]
    await channel.metadata([])
    await channel.metadata()
    asked_topics = loopback.service.of("metadata").requests
    assert asked_topics == [(("a",), True), ((), False), (None, False)]

    replies["describe_partitions"] = (PartitionStatus(TP, None, 1, 2, 3, 4),)
    assert await channel.describe_partitions([TP]) == replies["describe_partitions"]

    replies["delete_records"] = (
        DeleteRecordsResult(TP, None, 7),
        DeleteRecordsResult(TP, OffsetOutOfRangeError("above the end")),
    )
    deletion = DeleteRecordsRequest(1_234, (DeleteRecordsPartition(TP, -1),))
    good, bad = await channel.delete_records(deletion)
    assert good == replies["delete_records"][0]
    assert (type(bad.error), str(bad.error)) == (OffsetOutOfRangeError, "above the end")
    assert loopback.service.of("delete_records").requests == [deletion]

    replies["describe_topic_configs"] = (TopicConfigEntry("retention.ms", "5", False),)
    assert await channel.describe_topic_configs("topic") == replies["describe_topic_configs"]

    replies["broker_metrics"] = METRICS
    assert await channel.broker_metrics() == METRICS

    synonyms = (ConfigSynonym("a", "1", 2), ConfigSynonym("b", "2", 5))
    described = (ConfigDescription("a", "1", "integer", "An a.", True, 2, synonyms),)
    replies["describe_configs"] = replies["describe_broker_configs"] = described
    assert await channel.describe_configs("topic") == described
    assert await channel.describe_broker_configs("1") == described
    assert await channel.describe_broker_configs("") == described
    assert loopback.service.of("describe_configs").requests == ["topic"]
    assert loopback.service.of("describe_broker_configs").requests == ["1", ""]

    pattern = Pattern(ResourceType.GROUP, "app-", PatternType.PREFIXED)
    entry = Entry(Principal("User", "a"), "*", Operation.READ, Permission.DENY)
    replies["describe_acls"] = [Rule(pattern, entry)]
    asked = EntryFilter(ResourceType.GROUP, "app-1", PatternFilter.MATCH)
    assert await channel.describe_acls(asked) == replies["describe_acls"]
    assert loopback.service.of("describe_acls").requests == [asked]

    replies["describe_scram"] = (
        ScramDescription("alice", None, (("SCRAM-SHA-256", 4096), ("SCRAM-SHA-512", 8192))),
        ScramDescription("bob"),
    )
    assert await channel.describe_scram() == replies["describe_scram"]
    assert await channel.describe_scram(["a", "b"]) == replies["describe_scram"]
    assert loopback.service.of("describe_scram").requests == [[], ["a", "b"]]

    replies["init_producer_id"] = (4_000_000_000, 3)
    assert await channel.init_producer_id() == (4_000_000_000, 3)

    replies["administer"] = ControllerResponse((NamedResult("topic"),))
    change = AlterTopicConfigRequest("topic", {"retention.ms": "5", "retention.bytes": None})
    assert await channel.administer(change, 1_234) == replies["administer"]
    broker_change = AlterBrokerConfigRequest("2", {"log.retention.ms": "5", "log.roll.ms": None})
    assert await channel.administer(broker_change, 1_234) == replies["administer"]
    assert loopback.service.of("administer").requests == [(change, 1_234), (broker_change, 1_234)]

    replies["administer"] = ControllerResponse(
        partitions=(PartitionResult(TopicPartition("t", -1)),)
    )
    election = ElectLeadersRequest(False, ())
    assert await channel.administer(election, 1_234) == replies["administer"]


async def test_requests_are_counted_by_kafkas_names_with_the_time_that_they_took(
    loopback: Any,
) -> None:
    counters = RequestCounters()
    await loopback.start(counters=counters)
    channel = loopback.channel()
    replies = loopback.service.replies
    replies["produce"], replies["fetch"] = produced(0), [FetchResult(TP)]
    replies["metadata"] = ClusterMetadata("cluster", 1, 2, (), ())
    replies["list_offsets"] = UnknownServerError("no")
    await channel.produce(produce())
    await channel.produce(produce(acks=0))
    await channel.fetch(fetch())
    await channel.metadata()
    with pytest.raises(UnknownServerError):
        await channel.list_offsets(())
    counts = {"Produce": 2, "FetchConsumer": 1, "Metadata": 1, "ListOffsets": 1}
    await until(lambda: {name: each.count for name, each in counters.kinds.items()} == counts)
