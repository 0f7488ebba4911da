"""Who listens on a port."""

from __future__ import annotations

import os
import socket

import pytest

from minikafka.zookeeper.addresses import listens


def test_it_is_told_which_process_listens_on_a_port() -> None:
    if not os.path.exists("/proc/net/tcp"):
        pytest.skip("this system has no /proc/net/tcp")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert not listens(os.getpid(), port)
        server.listen()
        assert listens(os.getpid(), port)
        assert not listens(os.getppid(), port)
    assert not listens(os.getpid(), port)
    assert not listens(2**22 + 1, port)
