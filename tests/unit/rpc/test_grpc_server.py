"""The server as a whole: ports, health, reflection, stopping, messages of others."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from minikafka.api.requests import (
    FetchPartition,
    FetchRequest,
    ProducePartition,
    ProduceRequest,
    ProduceResult,
)
from minikafka.errors import BrokerNotAvailableError, InvalidRequestError, NetworkError, UsageError
from minikafka.model import TopicPartition
from minikafka.rpc.calls import error_for_failure
from minikafka.rpc.channel import BrokerChannel
from minikafka.rpc.generated import client_pb2
from minikafka.rpc.server import SERVICES, GrpcServer

TP = TopicPartition("topic", 0)


async def soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, 20)


# --- ports ---------------------------------------------------------------------------------------


async def test_port_0_takes_a_free_port_and_tells_it(loopback: Any) -> None:
    await loopback.start()
    assert loopback.port > 0
    assert await loopback.channel().check_health()


async def test_a_port_taken_by_another_broker_is_a_usage_error_that_names_it(loopback: Any) -> None:
    await loopback.start()
    with pytest.raises(UsageError, match=f"port {loopback.port} on 127.0.0.1 is taken"):
        await GrpcServer(loopback.service).start("127.0.0.1", loopback.port)


async def test_a_port_taken_on_one_address_of_a_name_is_taken(loopback: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} on localhost is taken"):
            await GrpcServer(loopback.service).start("localhost", port)
        with pytest.raises(UsageError, match=f"port {port} on 0.0.0.0 is taken"):
            await GrpcServer(loopback.service).start("0.0.0.0", port)


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host"])
async def test_a_host_that_is_not_ours_is_a_usage_error_that_names_it(
    loopback: Any, host: str
) -> None:
    with pytest.raises(UsageError, match=f"cannot listen on {host}:0"):
        await GrpcServer(loopback.service).start(host, 0)


# --- health and reflection -----------------------------------------------------------------------


async def test_health_says_whether_the_broker_serves(loopback: Any) -> None:
    server = await loopback.start()
    channel = loopback.channel()
    assert await channel.check_health()
    await server.set_serving(False)
    assert not await channel.check_health()
    await server.set_serving(True)
    assert await channel.check_health()


async def test_a_server_that_is_started_before_the_broker_serves_says_so(loopback: Any) -> None:
    server = GrpcServer(loopback.service)
    port = await server.start("127.0.0.1", 0, serving=False)
    try:
        assert not await loopback.channel(f"127.0.0.1:{port}").check_health()
    finally:
        await server.stop(0)


async def test_health_is_known_of_each_service(loopback: Any) -> None:
    await loopback.start()
    async with grpc.aio.insecure_channel(loopback.address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        for service in SERVICES:
            response = await check(health_pb2.HealthCheckRequest(service=service))
            assert response.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services_and_describes_their_methods(loopback: Any) -> None:
    await loopback.start()
    async with grpc.aio.insecure_channel(loopback.address) as channel:
        reflect = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        await reflect.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed: Any = await soon(reflect.read())
        names = {service.name for service in listed.list_services_response.service}
        symbol = "minikafka.v1.ClientService"
        await reflect.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
        described: Any = await soon(reflect.read())
        reflect.cancel()
    assert set(SERVICES) < names
    assert "grpc.health.v1.Health" in names
    assert any(
        b"ClientService" in file
        for file in described.file_descriptor_response.file_descriptor_proto
    )


# --- stopping ------------------------------------------------------------------------------------


async def test_a_stopping_server_sends_the_produce_answers_that_are_due(loopback: Any) -> None:
    server = await loopback.start()
    channel = loopback.channel()
    pending = asyncio.ensure_future(
        channel.produce(ProduceRequest(-1, 30_000, [ProducePartition(TP, b"x")]))
    )
    calls = loopback.service.of("produce")
    await calls.count(1)
    stopping = asyncio.ensure_future(server.stop(10_000))
    await asyncio.sleep(0)
    calls.answers[0].set_result([ProduceResult(TP, None, 5, 0)])
    assert await soon(pending) == [ProduceResult(TP, None, 5, 0)]
    await soon(stopping)


async def test_a_stopping_server_ends_long_polls_with_a_retriable_error(loopback: Any) -> None:
    server = await loopback.start()
    pending = asyncio.ensure_future(
        loopback.channel().fetch(FetchRequest(30_000, 1, 1, [FetchPartition(TP, 0, 1)]))
    )
    await loopback.service.of("fetch").count(1)
    await soon(server.stop(10_000))
    with pytest.raises(BrokerNotAvailableError):
        await soon(pending)


async def test_a_stopping_server_ends_idle_streams_without_waiting_for_its_grace(
    loopback: Any,
) -> None:
    server = await loopback.start()
    channel = loopback.channel()
    loopback.service.replies["produce"] = [ProduceResult(TP, None, 5, 0)]
    await soon(channel.produce(ProduceRequest(-1, 30_000, [ProducePartition(TP, b"x")])))
    await soon(server.stop(3_600_000))


async def test_a_stream_that_comes_while_the_server_stops_is_turned_away(loopback: Any) -> None:
    server = await loopback.start()
    server._streams.stop()
    with pytest.raises(NetworkError, match="the broker is stopping"):
        await soon(
            loopback.channel().produce(ProduceRequest(-1, 30_000, [ProducePartition(TP, b"x")]))
        )
    assert loopback.service.of("produce").requests == []


async def test_stopping_twice_is_stopping_once(loopback: Any) -> None:
    server = await loopback.start()
    await server.stop(0)
    await server.stop(0)


async def test_a_stopped_server_leaves_its_port_to_the_next(loopback: Any) -> None:
    server = await loopback.start()
    await server.stop(0)
    await loopback.start(loopback.port)
    assert await loopback.channel().check_health()


# --- others' messages ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["Produce", "Fetch"])
async def test_a_message_that_cannot_be_read_ends_the_stream_with_invalid_argument(
    loopback: Any, method: str
) -> None:
    await loopback.start()
    async with grpc.aio.insecure_channel(loopback.address) as channel:
        call: Any = channel.stream_stream(f"/minikafka.v1.ClientService/{method}")()
        await call.write(b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await soon(call.read())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(error_for_failure(caught.value, "here"), InvalidRequestError)


async def test_an_unreadable_unary_request_is_an_invalid_argument(loopback: Any) -> None:
    await loopback.start()
    async with grpc.aio.insecure_channel(loopback.address) as channel:
        call: Any = channel.unary_unary("/minikafka.v1.ClientService/GetMetadata")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await soon(call(b"\xff\xff\xff"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_half_closed_produce_stream_still_gets_its_answers(loopback: Any) -> None:
    await loopback.start()
    async with grpc.aio.insecure_channel(loopback.address) as channel:
        call: Any = channel.stream_stream(
            "/minikafka.v1.ClientService/Produce",
            request_serializer=client_pb2.ProduceRequest.SerializeToString,
            response_deserializer=client_pb2.ProduceResponse.FromString,
        )()
        await call.write(client_pb2.ProduceRequest(correlation_id=3, acks=1))
        await call.done_writing()
        calls = loopback.service.of("produce")
        await calls.count(1)
        calls.answers[0].set_result([])
        assert (await soon(call.read())).correlation_id == 3
        assert await soon(call.read()) is grpc.aio.EOF


async def test_a_method_that_an_older_broker_lacks_is_an_unsupported_version(loopback: Any) -> None:
    await loopback.start()
    async with grpc.aio.insecure_channel(loopback.address) as channel:
        call: Any = channel.unary_unary("/minikafka.v1.ClientService/FromTheFuture")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await soon(call(b""))
    error = error_for_failure(caught.value, "here")
    assert error.name == "UNSUPPORTED_VERSION"


async def test_clients_that_vanish_leave_no_line_in_the_log(
    loopback: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await loopback.start()
    with caplog.at_level(logging.WARNING):
        channel: BrokerChannel = loopback.channel()
        calls = loopback.service.of("produce")
        pending = [
            asyncio.ensure_future(
                channel.produce(ProduceRequest(-1, 30_000, [ProducePartition(TP, b"x")]))
            )
            for _ in range(20)
        ]
        await calls.count(20)
        closing = asyncio.ensure_future(channel.close())
        for answer in calls.answers[:10]:
            answer.set_result([ProduceResult(TP, None, 1, 0)])
        await closing
        await asyncio.gather(*pending, return_exceptions=True)
        await calls.until(lambda: calls.answers[19].cancelled())
        with pytest.raises(NetworkError):
            await channel.metadata()
    assert [record.getMessage() for record in caplog.records] == []
