"""Transactions by the command, on a cluster of real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikafka.client import Consumer, Producer
from tests.helpers.processes import ProcessCluster
from tests.helpers.waiting import happens

pytestmark = pytest.mark.slow

DEADLINE_S = 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    made = ProcessCluster(tmp_path_factory.mktemp("cli"))
    try:
        made.up(3, "embedded")
        yield made
    finally:
        made.down()


def create(cluster: ProcessCluster, topic: str) -> str:
    cluster.minikafka("topics", "create", topic, "--partitions", "1")
    return topic


def consume(cluster: ProcessCluster, topic: str, isolation: str = "read_committed") -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "minikafka", "consume", topic, "--isolation", isolation],
        env=os.environ | {"MINIKAFKA_DATA_DIR": str(cluster.path)},
        capture_output=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def transactions(cluster: ProcessCluster, *arguments: str) -> str:
    return cluster.minikafka("transactions", *arguments).stdout


def lines_file(path: Path, *lines: bytes) -> str:
    path.write_bytes(b"\n".join(lines) + b"\n")
    return str(path)


def test_lines_are_written_in_transactions_and_these_are_shown(cluster: ProcessCluster) -> None:
    topic = create(cluster, "copied")
    lines = [b"%d" % number for number in range(25)]
    file = lines_file(cluster.path / "lines", *lines)
    options = ("--transactional-id", "copier", "--transaction-size", "10")
    told = cluster.minikafka("produce", topic, file, *options).stdout
    assert told.startswith("acknowledged 25 records")
    assert consume(cluster, topic).split() == lines

    def ended() -> bool:
        listed = json.loads(transactions(cluster, "list", "--format", "json"))
        return [each["state"] for each in listed] == ["CompleteCommit"]

    assert happens(ended, DEADLINE_S)
    assert transactions(cluster, "list", "--state", "ongoing").splitlines()[1:] == []
    [document] = json.loads(transactions(cluster, "describe", "copier", "--format", "json"))
    assert (document["state"], document["producer_epoch"]) == ("CompleteCommit", 3)
    row = transactions(cluster, "describe", "copier").splitlines()[1].split()
    assert row[0] == "copier"
    [producer] = json.loads(transactions(cluster, "producers", f"{topic}:0", "--format", "json"))
    assert producer["producer_id"] == document["producer_id"]
    assert producer["open_since_offset"] is None
    missing = cluster.minikafka("transactions", "describe", "nobody", check=False)
    assert missing.returncode == 1
    assert "nobody" in missing.stderr


def test_what_is_open_at_an_error_is_aborted(cluster: ProcessCluster) -> None:
    topic = create(cluster, "torn")
    file = lines_file(cluster.path / "keyed", b"a:1", b"a:2", b"b:1", b"oops")
    options = ("--transactional-id", "tearer", "--transaction-size", "2", "--key-separator", ":")
    failed = cluster.minikafka("produce", topic, file, *options, check=False)
    assert failed.returncode == 1
    assert "line 4 has no ':'" in failed.stderr
    assert failed.stdout.startswith("acknowledged 2 records")
    assert consume(cluster, topic).split() == [b"1", b"2"]
    assert consume(cluster, topic, "read_uncommitted").split() == [b"1", b"2", b"1"]
    [document] = json.loads(transactions(cluster, "describe", "tearer", "--format", "json"))
    assert document["state"] in ("PrepareAbort", "CompleteAbort")


def test_ctrl_c_aborts_what_is_open(cluster: ProcessCluster) -> None:
    topic = create(cluster, "interrupted")
    command = subprocess.Popen(
        [sys.executable, "-m", "minikafka", "produce", topic, "--transactional-id", "breaker"],
        env=os.environ | {"MINIKAFKA_DATA_DIR": str(cluster.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert command.stdin is not None
    command.stdin.write(b"one\ntwo\n")
    command.stdin.flush()

    def state() -> str:
        shown = cluster.minikafka("transactions", "describe", "breaker", check=False).stdout
        return " ".join(shown.split())

    assert happens(lambda: "Ongoing" in state(), DEADLINE_S)
    live = cluster.minikafka(
        "transactions", "abort", f"{topic}:0", "--start-offset", "0", check=False
    )
    assert live.returncode == 1
    assert "'breaker'" in live.stderr
    command.send_signal(signal.SIGINT)
    out, _ = command.communicate(timeout=DEADLINE_S)
    assert command.returncode == 130
    assert out.startswith(b"acknowledged 0 records")
    assert happens(lambda: "CompleteAbort" in state(), DEADLINE_S)
    assert consume(cluster, topic) == b""


def test_nothing_hangs_in_a_sound_cluster(cluster: ProcessCluster) -> None:
    found = cluster.minikafka("transactions", "find-hanging")
    assert "no transaction hangs" in found.stderr
    assert json.loads(transactions(cluster, "find-hanging", "--format", "json")) == []
    unknown = cluster.minikafka("transactions", "find-hanging", "nowhere", check=False)
    assert unknown.returncode == 1


def test_every_value_is_read_once_although_brokers_are_killed(cluster: ProcessCluster) -> None:
    topic = create(cluster, "killed")
    committed: list[bytes] = []
    bootstrap = cluster.bootstrap
    accidents = {20: ("kill", "2"), 30: ("restart", "2"), 40: ("kill", "3"), 50: ("restart", "3")}
    with Producer(bootstrap, transactional_id="survivor") as producer:
        producer.init_transactions()
        for number in range(60):
            values = [b"%d-%d" % (number, each) for each in range(20)]
            if number in accidents:
                cluster.minikafka(*accidents[number])
            try:
                with producer.transaction():
                    for value in values:
                        producer.send(topic, value)
                    if number % 4 == 3:
                        raise ZeroDivisionError
                committed += values
            except ZeroDivisionError:
                assert number % 4 == 3
    read: list[bytes | None] = []
    with Consumer(bootstrap, isolation="read_committed", auto_offset_reset="earliest") as consumer:
        consumer.assign(consumer.partitions_of(topic))

        def all_read() -> bool:
            read.extend(record.value for record in consumer.poll(500))
            return len(read) >= len(committed)

        assert happens(all_read, DEADLINE_S)
        [end] = consumer.end_offsets(consumer.assignment()).values()

        def at_the_end() -> bool:
            read.extend(record.value for record in consumer.poll(100))
            return consumer.position((topic, 0)) >= end

        assert happens(at_the_end, DEADLINE_S)
    assert read == committed
