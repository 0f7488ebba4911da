"""What brokers ask of each other, over loopback."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from minikafka.api.requests import (
    AllocateProducerIdsRequest,
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterPartitionResult,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    ControllerResponse,
    DeleteTopicsRequest,
    FollowerPosition,
    IsrProposal,
    NamedResult,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    ReplicaFetchResult,
    ReportFailedReplicas,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.broker.ports import Peers
from minikafka.errors import (
    MessageTooLargeError,
    NetworkError,
    NotControllerError,
    NotLeaderOrFollowerError,
    StaleBrokerEpochError,
    UnknownServerError,
)
from minikafka.model import BrokerInfo, PartitionState, TopicPartition
from minikafka.rpc.peers import GrpcPeers

TP = TopicPartition("topic", 0)
STATE = PartitionState(1, 2, (1, 3), 4, 5, {1: "a"})
LARGE = b"\x92" * (1 << 20)

UPDATE_STATE = UpdateStateRequest(1, 2, 3, (), (), ())
ALTER = AlterPartitionRequest(1, 7, (IsrProposal(TP, "id", 2, 5, ((1, 7), (3, -1)), "lag"),))


def fetch(offset: int = 0, max_wait_ms: int = 30_000) -> ReplicaFetchRequest:
    position = FollowerPosition(TP, "id", offset, 1, 2, 0)
    return ReplicaFetchRequest(3, 8, max_wait_ms, 1, 1 << 20, 1 << 20, [position])


def fetched(records: bytes) -> ReplicaFetchResponse:
    return ReplicaFetchResponse([ReplicaFetchResult(TP, None, None, None, 1, 0, 2, records)])


async def soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, 20)


CALLS = {
    "update_state": lambda peers, to: peers.update_state(to, UPDATE_STATE, 5_000),
    "alter_partition": lambda peers, to: peers.alter_partition(to, ALTER, 5_000),
    "controlled_shutdown": lambda peers, to: peers.controlled_shutdown(
        to, ControlledShutdownRequest(1, 7), 5_000
    ),
    "controller_call": lambda peers, to: peers.controller_call(
        to, DeleteTopicsRequest(["topic"]), 5_000
    ),
    "replica_fetch": lambda peers, to: peers.open_replication(to).fetch(fetch()),
}


def test_it_is_what_the_broker_asks_for() -> None:
    peers: Peers = GrpcPeers()
    assert peers is not None


async def test_control_calls_carry_arguments_and_results(loopback: Any) -> None:
    await loopback.start()
    peers, broker, replies = loopback.peers(), loopback.broker(), loopback.service.replies

    replies["update_state"] = UpdateStateResponse(((TP, "id"),), ())
    assert await peers.update_state(broker, UPDATE_STATE, 5_000) == replies["update_state"]
    assert loopback.service.of("update_state").requests == [UPDATE_STATE]

    replies["alter_partition"] = AlterPartitionResponse(4, (AlterPartitionResult(TP, None, STATE),))
    assert await peers.alter_partition(broker, ALTER, 5_000) == replies["alter_partition"]
    assert loopback.service.of("alter_partition").requests == [ALTER]

    replies["controlled_shutdown"] = ControlledShutdownResponse((TP,))
    leaving = ControlledShutdownRequest(1, 7)
    answer = await peers.controlled_shutdown(broker, leaving, 5_000)
    assert answer == replies["controlled_shutdown"]
    assert loopback.service.of("controlled_shutdown").requests == [leaving]


async def test_every_request_to_the_controller_finds_its_method(loopback: Any) -> None:
    await loopback.start()
    peers, broker, replies = loopback.peers(), loopback.broker(), loopback.service.replies

    failed = ReportFailedReplicas(1, 7, ((TP, "id"),))
    replies["controller_call"] = ControllerResponse()
    assert await peers.controller_call(broker, failed, 5_000) == ControllerResponse()

    replies["controller_call"] = ControllerResponse(producer_id_start=1_000, producer_id_end=2_000)
    block = await peers.controller_call(broker, AllocateProducerIdsRequest(1, 7), 5_000)
    assert (block.producer_id_start, block.producer_id_end) == (1_000, 2_000)

    replies["controller_call"] = ControllerResponse((NamedResult("topic"),))
    deletion = DeleteTopicsRequest(("topic",))
    assert await peers.controller_call(broker, deletion, 5_000) == replies["controller_call"]

    asked = loopback.service.of("controller_call").requests
    assert asked == [failed, AllocateProducerIdsRequest(1, 7), deletion]


@pytest.mark.parametrize(
    "request_to_controller",
    [ReportFailedReplicas(1, 7, ()), AllocateProducerIdsRequest(1, 7), DeleteTopicsRequest(("t",))],
    ids=lambda request: type(request).__name__,
)
async def test_who_is_not_the_controller_says_so(loopback: Any, request_to_controller: Any) -> None:
    await loopback.start()
    loopback.service.replies["controller_call"] = NotControllerError("B is")
    with pytest.raises(NotControllerError, match=r"^B is$"):
        await loopback.peers().controller_call(loopback.broker(), request_to_controller, 5_000)


@pytest.mark.parametrize("method", CALLS)
async def test_a_typed_error_arrives_as_it_was_raised(loopback: Any, method: str) -> None:
    await loopback.start()
    loopback.service.replies[method] = StaleBrokerEpochError("7 is no more")
    with pytest.raises(StaleBrokerEpochError, match=r"^7 is no more$"):
        await soon(CALLS[method](loopback.peers(), loopback.broker()))


@pytest.mark.parametrize("method", CALLS)
async def test_a_bug_becomes_an_unknown_server_error(loopback: Any, method: str) -> None:
    await loopback.start()
    loopback.service.replies[method] = KeyError("a secret of the broker")
    with pytest.raises(UnknownServerError) as caught:
        await soon(CALLS[method](loopback.peers(), loopback.broker()))
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("method", CALLS)
async def test_a_refused_connection_is_a_network_error(
    loopback: Any, free_port: int, method: str
) -> None:
    with pytest.raises(NetworkError, match=str(free_port)):
        await soon(CALLS[method](loopback.peers(), BrokerInfo(1, "A", "127.0.0.1", free_port)))


async def test_a_silent_peer_is_a_network_error(loopback: Any, silent_port: int) -> None:
    silent = BrokerInfo(1, "A", "127.0.0.1", silent_port)
    peers = loopback.peers(margin_ms=50)
    with pytest.raises(NetworkError, match="did not answer in time"):
        await soon(peers.update_state(silent, UPDATE_STATE, 50))
    with pytest.raises(NetworkError, match="no answer within 60 ms"):
        await soon(peers.open_replication(silent).fetch(fetch(max_wait_ms=10)))


# --- replication ---------------------------------------------------------------------------------


async def test_fetches_follow_each_other_on_one_stream(loopback: Any) -> None:
    await loopback.start()
    stream = loopback.peers().open_replication(loopback.broker())
    calls = loopback.service.of("replica_fetch")
    for number, records in enumerate((b"small", LARGE, b"")):
        answer = asyncio.ensure_future(stream.fetch(fetch(number)))
        await calls.count(number + 1)
        assert calls.requests[number] == fetch(number)
        calls.answers[number].set_result(fetched(records))
        assert await soon(answer) == fetched(records)
    stream.close()


async def test_a_stream_outlives_a_typed_error_of_the_whole_request(loopback: Any) -> None:
    await loopback.start()
    stream = loopback.peers().open_replication(loopback.broker())
    loopback.service.replies["replica_fetch"] = NotLeaderOrFollowerError("ask B")
    with pytest.raises(NotLeaderOrFollowerError):
        await soon(stream.fetch(fetch()))
    loopback.service.replies["replica_fetch"] = fetched(b"x")
    assert await soon(stream.fetch(fetch())) == fetched(b"x")
    stream.close()


async def test_a_leader_that_falls_silent_is_a_network_error(loopback: Any) -> None:
    """Whatever the fetches before were given: a short one is not waited for as long as they."""
    await loopback.start()
    stream = loopback.peers(margin_ms=50).open_replication(loopback.broker())
    calls = loopback.service.of("replica_fetch")
    for number, max_wait_ms in enumerate((30_000, 30_000, 10)):
        answer = asyncio.ensure_future(stream.fetch(fetch(number, max_wait_ms)))
        await calls.count(number + 1)
        if number < 2:
            calls.answers[number].set_result(fetched(b""))
            await soon(answer)
    with pytest.raises(NetworkError, match="no answer within 60 ms"):
        await soon(answer)
    await calls.until(lambda: calls.answers[2].cancelled())
    with pytest.raises(NetworkError, match="closed"):
        await stream.fetch(fetch())


async def test_a_later_fetch_is_given_its_own_time(loopback: Any) -> None:
    await loopback.start()
    stream = loopback.peers(margin_ms=50).open_replication(loopback.broker())
    calls = loopback.service.of("replica_fetch")
    for number, max_wait_ms in enumerate((10, 10, 200)):
        answer = asyncio.ensure_future(stream.fetch(fetch(number, max_wait_ms)))
        await calls.count(number + 1)
        if number < 2:
            calls.answers[number].set_result(fetched(b""))
            await soon(answer)
    with pytest.raises(NetworkError, match="no answer within 250 ms"):
        await soon(answer)


async def test_a_fetch_above_the_limit_is_refused(loopback: Any) -> None:
    await loopback.start(max_request_bytes=100)
    stream = loopback.peers().open_replication(loopback.broker())
    request = replace(fetch(), positions=[FollowerPosition(TP, "i" * 100, 0, 0, 0, 0)])
    with pytest.raises(MessageTooLargeError):
        await soon(stream.fetch(request))
    stream.close()


async def test_the_leader_stops_waiting_when_the_follower_closes_the_stream(loopback: Any) -> None:
    await loopback.start()
    stream = loopback.peers().open_replication(loopback.broker())
    waiting = asyncio.ensure_future(stream.fetch(fetch()))
    calls = loopback.service.of("replica_fetch")
    await calls.count(1)
    stream.close()
    with pytest.raises(NetworkError):
        await soon(waiting)
    await calls.until(lambda: calls.answers[0].cancelled())
    with pytest.raises(NetworkError, match="closed"):
        await stream.fetch(fetch())


async def test_a_cancelled_fetch_closes_its_stream_so_that_no_answer_is_taken_for_another(
    loopback: Any,
) -> None:
    await loopback.start()
    stream = loopback.peers().open_replication(loopback.broker())
    waiting = asyncio.ensure_future(stream.fetch(fetch()))
    calls = loopback.service.of("replica_fetch")
    await calls.count(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await calls.until(lambda: calls.answers[0].cancelled())
    with pytest.raises(NetworkError, match="closed"):
        await stream.fetch(fetch())


async def test_closing_a_stream_ends_a_fetch_that_still_waits_for_the_connection(
    loopback: Any, silent_port: int, until: Any
) -> None:
    peers = loopback.peers()
    for close in (lambda stream: stream.close(), lambda _: peers.close()):
        stream = peers.open_replication(BrokerInfo(1, "A", "127.0.0.1", silent_port))
        waiting = asyncio.ensure_future(stream.fetch(fetch()))
        await until(lambda: stream._waiting is not None)  # noqa: B023  (awaited at once)
        if (closing := close(stream)) is not None:
            await closing
        with pytest.raises(NetworkError, match="the stream was closed"):
            await soon(waiting)


async def test_a_stream_ends_with_a_network_error_when_the_leader_stops(loopback: Any) -> None:
    server = await loopback.start()
    stream = loopback.peers().open_replication(loopback.broker())
    waiting = asyncio.ensure_future(stream.fetch(fetch()))
    await loopback.service.of("replica_fetch").count(1)
    await server.stop()
    with pytest.raises(NetworkError):
        await soon(waiting)


# --- connections ---------------------------------------------------------------------------------


async def test_an_incarnation_keeps_its_connection_and_the_next_one_gets_its_own(
    loopback: Any,
) -> None:
    await loopback.start()
    peers = loopback.peers()
    first = peers._connection(loopback.broker(broker_epoch=7))
    assert peers._connection(loopback.broker(broker_epoch=7)) is first
    restarted = peers._connection(loopback.broker(broker_epoch=8))
    assert restarted is not first
    moved = replace(loopback.broker(broker_epoch=8), grpc_port=1)
    assert peers._connection(moved) is not restarted


async def test_a_restarted_broker_is_reached_at_once(loopback: Any) -> None:
    server = await loopback.start()
    peers = loopback.peers()
    loopback.service.replies["update_state"] = UpdateStateResponse()
    await peers.update_state(loopback.broker(7), UPDATE_STATE, 5_000)
    await server.stop(0)
    for _ in range(5):
        with pytest.raises(NetworkError):
            await peers.update_state(loopback.broker(7), UPDATE_STATE, 5_000)
    await loopback.start(loopback.port)
    assert await peers.update_state(loopback.broker(8), UPDATE_STATE, 5_000)


async def test_closing_fails_what_is_outstanding_and_what_comes_later(loopback: Any) -> None:
    await loopback.start()
    peers = loopback.peers()
    stream = peers.open_replication(loopback.broker())
    waiting = [
        asyncio.ensure_future(stream.fetch(fetch())),
        asyncio.ensure_future(peers.update_state(loopback.broker(), UPDATE_STATE, 30_000)),
    ]
    await loopback.service.of("replica_fetch").count(1)
    await loopback.service.of("update_state").count(1)
    await peers.close()
    for future in waiting:
        with pytest.raises(NetworkError):
            await soon(future)
    with pytest.raises(NetworkError, match="is stopping"):
        await peers.update_state(loopback.broker(), UPDATE_STATE, 5_000)
