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


def server_options(keepalive: Keepalive = DEFAULT_KEEPALIVE) -> Options:
    return [
        *_UNLIMITED,
        *keepalive.options(),
        ("grpc.so_reuseport", 0),  # or two brokers would share a port without a word
        # Clients may ping as often as their Keepalive says.
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_permit_without_calls", 0),
    ]
