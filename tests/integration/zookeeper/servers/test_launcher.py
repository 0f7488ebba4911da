"""Starting and stopping ZooKeeper."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys

import pytest

from minikafka.errors import UsageError
from minikafka.processes import Process
from minikafka.zookeeper.looking.inspect import open_inspector
from minikafka.zookeeper.servers.addresses import serving_mode
from minikafka.zookeeper.servers.launcher import launch, parse_mode, stop_processes
from minikafka.zookeeper.stores.store import ZooKeeperStore
from tests.helpers.waiting import until
from tests.helpers.zookeeper import require


async def test_what_was_written_is_there_after_a_restart_on_the_same_port(
    kind, own_server, new_store
):
    first = own_server(kind)
    store = await new_store(first.hosts)
    cluster_id = await store.cluster_id()
    await store.close()
    first.stop()
    assert serving_mode("127.0.0.1", first.servers[0].port) is None
    second = own_server(kind)
    assert second.hosts == first.hosts
    assert second.pids != first.pids
    assert await (await new_store(second.hosts)).cluster_id() == cluster_id


def test_the_preferred_port_is_taken_when_it_is_free(kind, tmp_path):
    require(kind)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = launch(parse_mode(kind), tmp_path, port)
    try:
        assert running.hosts == f"127.0.0.1:{port}"
    finally:
        running.stop()


def test_another_port_is_found_when_the_preferred_one_is_taken(kind, tmp_path):
    require(kind)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = launch(parse_mode(kind), tmp_path, port)
        try:
            assert running.hosts != f"127.0.0.1:{port}"
            assert serving_mode("127.0.0.1", running.servers[0].port) == "standalone"
        finally:
            running.stop()


def test_a_directory_has_one_server_at_a_time(kind, own_server):
    first = own_server(kind)
    with pytest.raises(UsageError, match="already runs on"):
        own_server(kind)
    assert serving_mode("127.0.0.1", first.servers[0].port) is not None


def test_a_directory_stays_with_its_mode(own_server):
    require("local")
    own_server("embedded").stop()
    with pytest.raises(UsageError, match="was started as embedded"):
        own_server("local")


def test_a_remembered_choice_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "launcher.json").write_text("{}")
    with pytest.raises(UsageError, match=r"launcher\.json cannot be read"):
        launch(parse_mode("embedded"), tmp_path)


def test_stopping_ends_a_paused_server_too_and_may_be_repeated(kind, own_server):
    running = own_server(kind)
    os.kill(running.pids[0], signal.SIGSTOP)
    running.stop()
    assert not running.servers[0].is_running
    running.stop()


def test_a_detached_server_outlives_its_starter_and_is_stopped_by_pid(kind, tmp_path):
    require(kind)
    program = (
        "import sys; from pathlib import Path\n"
        "from minikafka.zookeeper.servers.launcher import launch, parse_mode\n"
        "running = launch(parse_mode(sys.argv[1]), Path(sys.argv[2]), 0, detached=True)\n"
        "print(running.pids[0], running.servers[0].port)\n"
    )
    starter = subprocess.run(
        [sys.executable, "-c", program, kind, str(tmp_path)], capture_output=True, check=True
    )
    pid, port = (int(text) for text in starter.stdout.split())
    try:
        assert serving_mode("127.0.0.1", port) == "standalone"
        stop_processes([Process(pid, "another time"), Process(pid, None, "/another directory")])
        assert serving_mode("127.0.0.1", port) == "standalone", "it is another process"
    finally:
        stop_processes([Process.of(pid)])
    assert serving_mode("127.0.0.1", port) is None


def test_servers_that_run_already_are_checked_and_not_started(own_server, tmp_path):
    server = own_server("embedded")
    found = launch(parse_mode(server.hosts), tmp_path)
    assert (found.hosts, found.pids) == (server.hosts, [])
    found.stop()
    assert server.servers[0].is_running


def test_servers_that_do_not_answer_are_named(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        hosts = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"no ZooKeeper serves at {hosts}"):
            launch(parse_mode(hosts), tmp_path, timeout_s=0.2)


def test_a_server_that_ends_at_once_is_told_with_the_end_of_its_log(tmp_path):
    # A file where the journal should be.
    (tmp_path / "embedded").mkdir()
    (tmp_path / "embedded" / "lock").mkdir()
    with pytest.raises(UsageError, match=r"ended as it was started: its log .*embedded\.log"):
        launch(parse_mode("embedded"), tmp_path, 0)


def test_java_that_is_missing_is_named_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(UsageError, match=r"no java on the PATH.*apt-get install libzookeeper-java"):
        launch(parse_mode("local"), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_zookeeper_home_without_zookeeper_is_named(tmp_path, monkeypatch):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.touch(mode=0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("ZOOKEEPER_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=f"ZOOKEEPER_HOME={tmp_path} has no lib"):
        launch(parse_mode("local"), tmp_path / "data")


def test_a_directory_with_an_unusual_name_is_no_hindrance(kind, tmp_path):
    require(kind)
    running = launch(parse_mode(kind), tmp_path / "Größe = 1 \\ # ünï", 0)
    try:
        with open_inspector(running.hosts) as inspector:
            assert inspector.ls("/") == ["zookeeper"]
    finally:
        running.stop()


async def test_an_ensemble_of_three_serves_with_one_leader_and_comes_back_with_its_data(
    own_server, new_store
):
    first = own_server("local:3")
    modes = sorted(serving_mode("127.0.0.1", server.port) for server in first.servers)
    assert modes == ["follower", "follower", "leader"]
    cluster_id = await (await new_store(first.hosts)).cluster_id()
    first.stop()
    second = own_server("local:3")
    assert second.hosts == first.hosts
    assert await (await new_store(second.hosts)).cluster_id() == cluster_id


async def test_a_store_finds_a_server_that_is_started_after_it(kind, own_server):
    first = own_server(kind)
    first.stop()
    store = ZooKeeperStore(first.hosts, connection_timeout_ms=30_000)
    starting = asyncio.ensure_future(store.start())
    again = own_server(kind)
    assert again.hosts == first.hosts
    await starting
    await until(lambda: store.connected)
    await store.close()
