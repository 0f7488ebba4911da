"""How gRPC is set up: every option in one place, each with its reason.

Times are chosen for machines near each other. A connection that is refused fails the call at once
(calls never wait for a connection to become ready) and is tried again after 50 ms, later at most
every 500 ms. A peer whose machine vanished is noticed by keepalive; a stopped process keeps its
connection, so besides that every call has a timeout of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Options: TypeAlias = list[tuple[str, int]]

_UNLIMITED: Options = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Ping after `idle_ms` of silence; the connection is dead if `answer_ms` bring no answer."""

    idle_ms: int = 5_000
    answer_ms: int = 5_000

    def options(self) -> Options:
        return [
            ("grpc.keepalive_time_ms", self.idle_ms),
            ("grpc.keepalive_timeout_ms", self.answer_ms),
            ("grpc.http2.ping_timeout_ms", self.answer_ms),  # its default of 60 s would win
            ("grpc.http2.max_pings_without_data", 0),  # 0: as many as needed
        ]


DEFAULT_KEEPALIVE = Keepalive()


def channel_options(
    connect_timeout_ms: int = 3_000, keepalive: Keepalive = DEFAULT_KEEPALIVE
) -> Options:
    """`connect_timeout_ms` bounds one attempt to connect, handshake included."""
    return [
        *_UNLIMITED,
        *keepalive.options(),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.min_reconnect_backoff_ms", connect_timeout_ms),  # in spite of its name
        # A name may get another address while we run (a container that is started again).
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        # Each channel its own connection: brokers that share a process share no backoff, and a
        # channel that is closed takes its connection with it.
        ("grpc.use_local_subchannel_pool", 1),
        # Brokers are never behind a web proxy, whatever the environment says.
        ("grpc.enable_http_proxy", 0),
        # Retries are ours: they need to know what was asked. gRPC's would buffer every message.
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
    ]


MAX_STREAMS = 1_000
MAX_CALLS = 10_000
_SAID_BY_US_BYTES = 4_096
_HANDSHAKE_MS = 10_000


def server_options(
    keepalive: Keepalive = DEFAULT_KEEPALIVE,
    *,
    max_request_bytes: int = -1,
    max_connections: int | None = None,
    max_idle_ms: int | None = None,
) -> Options:
    """`max_request_bytes`: what is a little larger is refused by us, in a sentence of ours; gRPC
    refuses the rest before it is there. Answers are as large as they are: a follower has to get
    what was stored. `max_idle_ms` without a call ends a connection."""
    received = -1 if max_request_bytes < 0 else max_request_bytes + _SAID_BY_US_BYTES
    limits = [
        ("grpc.max_receive_message_length", min(received, 2**31 - 1)),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", MAX_STREAMS),  # of one connection
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
    ]
    if max_connections is not None:
        limits.append(("grpc.max_allowed_incoming_connections", max(1, max_connections)))
    if max_idle_ms is not None:
        limits.append(("grpc.max_connection_idle_ms", min(max_idle_ms, 2**31 - 1)))
    return [
        *limits,
        *keepalive.options(),
        ("grpc.so_reuseport", 0),  # or two brokers would share a port without a word
        # Clients may ping as often as their Keepalive says.
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_permit_without_calls", 0),
    ]
