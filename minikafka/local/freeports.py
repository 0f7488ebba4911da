"""Ports for a cluster on this machine: the defaults where all are free, else others that are.

All, because a default that is free among others that are not may be that of a broker of another
cluster, which is down and will come back. Others are below the range from which the system takes
ports for outgoing connections, and each data directory looks for them at a place of its own: so a
broker that is down finds its port free when it comes back, also where several clusters are started
on one machine.
"""

from __future__ import annotations

import errno
import os
import socket
import zlib
from collections.abc import Container, Iterator
from pathlib import Path

from minikafka.errors import UsageError

GRPC_PORT = 19092
KAFKA_PORT = 9092
METRICS_PORT = 9404
ZOOKEEPER_PORT = 2181
_LOWEST_OTHER = 20_000
_OTHERS = 10_000
_SEARCHED = 2_000  # the last one is below 32,768


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server can listen there now. A port in TIME_WAIT counts as free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True


def free_ports(
    default: int, count: int, data_dir: Path, taken: Container[int] = ()
) -> Iterator[int]:
    """Free ports except `taken`: the `count` from `default` on if nobody else has one of them, then
    others. Raises UsageError after 2000 tries."""
    defaults = range(default, default + count)
    if not all(port in taken or is_free(port) for port in defaults):
        defaults = range(0)
    others = _LOWEST_OTHER + zlib.crc32(os.fsencode(data_dir.absolute())) % _OTHERS
    for port in (*defaults, *range(others, others + _SEARCHED)):
        if port not in taken and is_free(port):
            yield port
    raise UsageError(f"no free port from {others} to {others + _SEARCHED - 1}")
