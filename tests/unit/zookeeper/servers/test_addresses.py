"""Which ports servers get, and who listens on them."""

from __future__ import annotations

import os
import socket

import pytest

from minikafka.zookeeper.servers.addresses import Ports, listens


def test_it_is_told_which_process_listens_on_a_port() -> None:
    if not os.path.exists("/proc/net/tcp"):
        pytest.skip("this system has no /proc/net/tcp")
    lower = os.dup(0)
    with socket.socket() as server:
        os.close(lower)  # so that what is opened meanwhile, and closed again, comes before it
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert not listens(os.getpid(), port)
        server.listen()
        assert listens(os.getpid(), port)
        assert not listens(os.getppid(), port)
    assert not listens(os.getpid(), port)
    assert not listens(2**22 + 1, port)


def test_without_a_preferred_port_the_system_chooses_them_all() -> None:
    """Ports 1 and 2 would be free, too, for root."""
    ports = Ports.choose("127.0.0.1", 3, 0)
    assert all(port >= 1024 for each in ports for port in each)
    assert len({port for each in ports for port in each}) == 9
