"""Asks one broker for its health, for a container's health check.

    python -m minikafka.rpc.healthcheck HOST:PORT

Exit status 0 if the broker says that it serves (gRPC's health protocol, the server as a whole, with
the empty service name), 1 with a line on standard error if it does not or does not answer, 2 for
wrong usage. It says nothing of other brokers: `minikafka status` is for the cluster.
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2

TIMEOUT_SECONDS = 4.0


def problem_of(address: str, timeout_seconds: float = TIMEOUT_SECONDS) -> str | None:
    """What is wrong with the broker at HOST:PORT, as a sentence; None if it serves."""
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)
        except grpc.RpcError as error:
            reason = (
                f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else ""
            )
            return f"no answer from {address}: {reason or error}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return f"the broker at {address} is {name}"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m minikafka.rpc.healthcheck HOST:PORT", file=sys.stderr)
        return 2
    problem = problem_of(arguments[0])
    if problem is not None:
        print(problem, file=sys.stderr)
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
