"""The health check of a container, against a real gRPC server in this process."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from minikafka.rpc.healthcheck import main


@pytest.fixture
def served() -> Iterator[tuple[str, health.HealthServicer]]:
    """The address of a server of the health protocol, and where its status is set."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        server = grpc.server(pool)
        servicer = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}", servicer
        server.stop(grace=None).wait()


def test_a_broker_that_serves_is_healthy(
    served: tuple[str, health.HealthServicer], capsys: pytest.CaptureFixture[str]
) -> None:
    address, servicer = served
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    assert main([address]) == 0
    assert capsys.readouterr().err == ""


def test_a_broker_that_is_starting_or_leaving_is_not(
    served: tuple[str, health.HealthServicer], capsys: pytest.CaptureFixture[str]
) -> None:
    address, servicer = served
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert main([address]) == 1
    assert capsys.readouterr().err == f"the broker at {address} is NOT_SERVING\n"


def test_a_broker_that_is_not_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    # Port 1 is privileged and nobody's: the connection is refused.
    assert main(["127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.startswith("no answer from 127.0.0.1:1: UNAVAILABLE")


@pytest.mark.parametrize("arguments", [[], ["a:1", "b:2"]])
def test_wrong_usage_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: ")
