"""A broker that listens at an IPv6 address, and is written about in brackets everywhere."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from minikafka.local.freeports import free_ports
from tests.helpers.waiting import happens
from tests.helpers.zookeeper import start_zookeeper


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")


def minikafka(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "minikafka", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_works_at_an_ipv6_address(tmp_path: Path) -> None:
    ports = free_ports(0, 0, tmp_path)
    grpc, kafka, metrics = (f"[::1]:{next(ports)}" for _ in range(3))
    zookeeper = start_zookeeper("embedded", tmp_path / "zookeeper")
    settings = {
        "broker.id": "1",
        "zookeeper.connect": zookeeper.hosts,
        "log.dirs": str(tmp_path / "data"),
        "grpc.listener": grpc,
        "listeners": f"PLAINTEXT://{kafka}",
        "metrics.listener": metrics,
        "default.replication.factor": "1",
    }
    sets = [text for pair in settings.items() for text in ("--set", "=".join(pair))]
    broker = subprocess.Popen(
        [sys.executable, "-m", "minikafka", "broker", *sets],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert broker.stdout is not None
        serving = broker.stdout.readline()
        assert grpc in serving
        assert kafka in serving
        at = ("--bootstrap", grpc)
        minikafka("topics", "create", "t", *at)
        minikafka("produce", "t", *at, stdin="one\n")
        assert minikafka("consume", "t", *at) == "one\n"
        [told] = json.loads(minikafka("status", *at, "--format", "json"))["brokers"]
        assert (told["grpc"], told["kafka"]) == (grpc, kafka)
        assert grpc in minikafka("status", *at)
        with socket.create_connection(("::1", int(metrics.rpartition(":")[2])), 10) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert connection.recv(20).startswith(b"HTTP/1")
        assert happens(lambda: broker.poll() is None, 0)
    finally:
        broker.kill()
        broker.wait()
        assert broker.stdout is not None
        broker.stdout.close()
        zookeeper.stop()
