"""How gRPC is set up."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from minikafka.rpc.tuning import Keepalive, channel_options, server_options


@pytest.mark.parametrize(("given", "expected"), [(None, "NONE"), ("debug", "debug")])
def test_grpc_is_quiet_unless_the_environment_says_otherwise(
    given: str | None, expected: str
) -> None:
    environment = {key: text for key, text in os.environ.items() if key != "GRPC_VERBOSITY"}
    if given is not None:
        environment["GRPC_VERBOSITY"] = given
    code = (
        "import minikafka.rpc, os, sys; print(os.environ['GRPC_VERBOSITY'], 'grpc' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert printed == f"{expected} False\n"


def test_what_is_sent_to_a_server_is_limited_and_what_a_follower_gets_is_not() -> None:
    options = server_options(max_request_bytes=1_000, max_connections=0, max_idle_ms=5_000)
    named = dict(options)
    assert len(named) == len(options)
    assert 1_000 <= named["grpc.max_receive_message_length"] <= 6_000
    assert named["grpc.max_send_message_length"] == -1
    assert named["grpc.max_allowed_incoming_connections"] == 1
    assert named["grpc.max_connection_idle_ms"] == 5_000
    largest = dict(server_options(max_request_bytes=2**31 - 1))
    assert largest["grpc.max_receive_message_length"] == 2**31 - 1
    assert dict(channel_options())["grpc.max_receive_message_length"] == -1


def test_messages_are_not_limited_by_grpc_and_keepalive_is_configurable() -> None:
    keepalive = Keepalive(idle_ms=11, answer_ms=22)
    for options in (channel_options(33, keepalive), server_options(keepalive)):
        named = dict(options)
        assert len(named) == len(options)
        assert named["grpc.max_receive_message_length"] == -1
        assert named["grpc.max_send_message_length"] == -1
        assert named["grpc.keepalive_time_ms"] == 11
        assert named["grpc.keepalive_timeout_ms"] == 22
    assert dict(channel_options(33))["grpc.min_reconnect_backoff_ms"] == 33
    assert dict(server_options())["grpc.so_reuseport"] == 0
