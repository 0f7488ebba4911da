"""The command as a person uses it, on a cluster of real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from minikafka import processes
from tests.helpers.processes import ProcessCluster

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


class Command:
    """A command that runs on, with its output by the line."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minikafka", *arguments],
            env=os.environ | {"MINIKAFKA_DATA_DIR": str(data_dir)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    @property
    def stdin(self) -> IO[str]:
        assert self.process.stdin is not None
        return self.process.stdin

    def until(self, words: str) -> str:
        """The next line of output that has these words (pytest's timeout is the deadline)."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            if words in line:
                return line.rstrip("\n")
            seen.append(line)
        assert self.process.stderr is not None
        raise AssertionError(f"never {words!r}: {seen} {self.process.stderr.read()}")

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        """(exit status, rest of standard output, standard error) after a signal."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out, err


def create(cluster: ProcessCluster, topic: str, *options: str) -> str:
    cluster.minikafka("topics", "create", topic, *options)
    return topic


def produce(cluster: ProcessCluster, topic: str, content: bytes, *options: str) -> str:
    file = cluster.path / "produced"
    file.write_bytes(content)
    return cluster.minikafka("produce", topic, str(file), *options).stdout


def consume(cluster: ProcessCluster, topic: str, *options: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "minikafka", "consume", topic, *options],
        env=os.environ | {"MINIKAFKA_DATA_DIR": str(cluster.path)},
        capture_output=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- groups --------------------------------------------------------------------------------------


def groups(cluster: ProcessCluster, *arguments: str) -> str:
    return cluster.minikafka("groups", *arguments).stdout


def test_a_group_goes_on_where_it_has_committed_and_can_be_reset(cluster: ProcessCluster) -> None:
    topic = create(cluster, "grouped", "--partitions", "1")
    produce(cluster, topic, b"1\n2\n3\n4\n")
    assert consume(cluster, topic, "--group", "readers", "--max-messages", "1") == b"1\n"
    assert consume(cluster, topic, "--group", "readers") == b"2\n3\n4\n"
    assert consume(cluster, topic, "--group", "readers") == b""
    assert "readers" in groups(cluster, "list")
    [listed] = json.loads(groups(cluster, "list", "--state", "empty", "--format", "json"))
    assert listed == {"group": "readers", "state": "Empty", "protocol_type": "consumer"}
    reset = ("reset-offsets", "readers", "--topic", f"{topic}:0", "--shift-by", "-2")
    assert groups(cluster, *reset).splitlines()[1].split() == ["readers", topic, "0", "4", "2"]
    assert consume(cluster, topic, "--group", "readers") == b""  # that was a dry run
    done = json.loads(groups(cluster, *reset, "--execute", "--format", "json"))
    assert done["executed"] is True
    lag = groups(cluster, "describe", "readers").splitlines()
    assert lag[0].split() == [
        "GROUP",
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]
    assert lag[1].split() == ["readers", topic, "0", "2", "4", "2", "-", "-", "-"]
    assert consume(cluster, topic, "--group", "readers") == b"3\n4\n"
    groups(cluster, "delete-offsets", "readers", "--topic", topic)
    assert json.loads(groups(cluster, "describe", "readers", "--format", "json"))[0]["lag"] == 0
    assert groups(cluster, "delete", "readers") == "group readers deleted\n"
    missing = cluster.minikafka("groups", "describe", "readers", check=False)
    assert missing.returncode == 1
    assert "there is no group 'readers'" in missing.stderr


def test_members_are_shown_keep_their_group_from_changes_and_leave_by_ctrl_c(
    cluster: ProcessCluster,
) -> None:
    topic = create(cluster, "followed", "--partitions", "2")
    command = ("consume", topic, "--group", "followers", "--follow", "--from-beginning")
    with Command(cluster.path, *command) as follower:
        produce(cluster, topic, b"hello\n", "--partition", "1")
        follower.until("hello")
        [document] = json.loads(groups(cluster, "describe", "followers", "--format", "json"))
        assert document["state"] == "Stable"
        [member] = document["members"]
        assert (member["client_id"], member["host"]) == ("minikafka-consume", "/127.0.0.1")
        assert [each["partition"] for each in member["partitions"]] == [0, 1]
        shown = groups(cluster, "describe", "followers", "--members").splitlines()
        assert shown[1].split()[-1] == f"{topic}-0,{topic}-1"
        for refused in (
            ("groups", "delete", "followers"),
            ("groups", "reset-offsets", "followers", "--topic", topic, "--to-earliest"),
            ("groups", "delete-offsets", "followers", "--topic", topic),
        ):
            assert cluster.minikafka(*refused, check=False).returncode == 1
        status, _, _ = follower.end(signal.SIGINT)
        assert status == 0
    [document] = json.loads(groups(cluster, "describe", "followers", "--format", "json"))
    assert document["state"] == "Empty"  # it has left, and did not wait for its session to end
    assert [each["current_offset"] for each in document["partitions"]] == [1]


# --- records -------------------------------------------------------------------------------------


def test_a_file_comes_back_byte_for_byte(cluster: ProcessCluster) -> None:
    topic = create(cluster, "bytes", "--partitions", "1")
    content = bytes(range(256)) * 50 + b"\n\n\r\n" + b"x" * 100_000 + b"\nlast\n"
    told = produce(cluster, topic, content)
    records = content.count(b"\n")
    size = len(content) - records
    assert told == (
        f"acknowledged {records} records ({size} bytes) to bytes: "
        f"partition 0 offsets 0..{records - 1}\n"
    )
    assert consume(cluster, topic) == content


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_file_comes_back_through_every_codec(cluster: ProcessCluster, codec: str) -> None:
    topic = create(cluster, f"codec-{codec}", "--partitions", "1")
    content = b"".join(b"line %d\n" % number for number in range(2000))
    produce(cluster, topic, content, "--compression", codec)
    assert consume(cluster, topic) == content


def test_a_last_line_without_newline_is_a_record_and_gets_one(cluster: ProcessCluster) -> None:
    topic = create(cluster, "unended", "--partitions", "1")
    produce(cluster, topic, b"a\nb")
    assert consume(cluster, topic) == b"a\nb\n"


def test_keys_partitions_and_formats(cluster: ProcessCluster) -> None:
    topic = create(cluster, "keyed", "--partitions", "2")
    produce(cluster, topic, b"k:v\nk:w\n", "--key-separator", ":", "--partition", "1")
    printed = consume(cluster, topic, "--output", "%t %p %o %k %v")
    assert printed == b"keyed 1 0 k v\nkeyed 1 1 k w\n"
    documents = consume(cluster, topic, "--format", "json").splitlines()
    assert [json.loads(line)["value"] for line in documents] == ["v", "w"]


def test_where_to_begin_and_when_to_end(cluster: ProcessCluster) -> None:
    topic = create(cluster, "starts", "--partitions", "1")
    produce(cluster, topic, b"0\n1\n2\n3\n")
    assert consume(cluster, topic, "--offset", "2") == b"2\n3\n"
    assert consume(cluster, topic, "--offset", "4") == b""
    assert consume(cluster, topic, "--max-messages", "1") == b"0\n"
    assert consume(cluster, topic, "--since", "1h") == b"0\n1\n2\n3\n"
    assert consume(cluster, topic, "--since", "2999-01-01T00:00:00Z") == b""
    done = cluster.minikafka("consume", topic, "--offset", "5", check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: starts-0 has no offset 5: it begins at 0 and ends before 4\n"


def test_standard_input_is_sent_as_it_comes(cluster: ProcessCluster) -> None:
    topic = create(cluster, "stream", "--partitions", "1")
    with (
        Command(cluster.path, "consume", topic, "--follow", "--from-beginning") as reader,
        Command(cluster.path, "produce", topic) as writer,
    ):
        writer.stdin.write("before the end of input\n")
        writer.stdin.flush()
        assert reader.until("before") == "before the end of input"
        writer.stdin.write("rest")
        writer.stdin.close()
        assert reader.until("rest") == "rest"
        assert writer.until("acknowledged").startswith("acknowledged 2 records (27 bytes)")
        assert writer.process.wait(DEADLINE_S) == 0
        assert reader.end(signal.SIGINT) == (0, "", "")


def test_an_interrupted_producer_tells_what_was_acknowledged(cluster: ProcessCluster) -> None:
    topic = create(cluster, "interrupted", "--partitions", "1")
    with (
        Command(cluster.path, "consume", topic, "--follow", "--from-beginning") as reader,
        Command(cluster.path, "produce", topic) as writer,
    ):
        writer.stdin.write("one\n")
        writer.stdin.flush()
        reader.until("one")
        writer.process.send_signal(signal.SIGINT)
        told = "acknowledged 1 record (3 bytes) to interrupted: partition 0 offsets 0..0"
        assert writer.until("acknowledged") == told
        assert writer.process.wait(DEADLINE_S) == 130


def test_a_reader_that_goes_away_ends_consume_quietly(cluster: ProcessCluster) -> None:
    topic = create(cluster, "pipe", "--partitions", "1")
    produce(cluster, topic, b"".join(b"%d\n" % number for number in range(100_000)))
    with Command(cluster.path, "consume", topic) as reader:
        assert reader.until("0") == "0"
        assert reader.process.stdout is not None
        reader.process.stdout.close()
        assert reader.process.wait(DEADLINE_S) == 0
        assert reader.process.stderr is not None
        assert reader.process.stderr.read() == ""


def test_producing_to_a_partition_that_there_is_not_is_told(cluster: ProcessCluster) -> None:
    topic = create(cluster, "narrow", "--partitions", "1")
    done = cluster.minikafka("produce", topic, "/dev/null", "--partition", "7", check=False)
    assert done.returncode == 1
    assert "topic narrow has no partition 7: it has 1, numbered from 0" in done.stderr


# --- topics and status ---------------------------------------------------------------------------


def test_more_replicas_than_brokers_are_refused(cluster: ProcessCluster) -> None:
    done = cluster.minikafka("topics", "create", "wide", "--replication-factor", "4", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "4" in done.stderr
    assert "3" in done.stderr


def test_a_topic_is_altered_described_and_deleted(cluster: ProcessCluster) -> None:
    topic = create(cluster, "changing", "--partitions", "1")
    cluster.minikafka("topics", "alter", topic, "--partitions", "3", "--config", "retention.ms=5")
    done = cluster.minikafka("topics", "describe", topic, "--configs", "--format", "json")
    document = json.loads(done.stdout)
    assert [each["partition"] for each in document] == [0, 1, 2]
    assert document[0]["configs"]["retention.ms"] == "5"
    cluster.minikafka("topics", "delete", topic)
    done = cluster.minikafka("topics", "describe", topic, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_settings_are_altered_and_described_with_where_they_come_from(
    cluster: ProcessCluster,
) -> None:
    create(cluster, "configured", "--partitions", "1", "--replication-factor", "3")

    def configs(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return cluster.minikafka("configs", *arguments, check=check)

    def described(*arguments: str) -> dict[str, tuple[str, str]]:
        found = json.loads(configs("describe", *arguments, "--format", "json").stdout)
        return {each["name"]: (each["value"], each["source"]) for each in found}

    nothing = configs("describe", "--broker", "B")
    assert (nothing.stdout, nothing.stderr) == (
        "",
        "broker B: nothing is altered; --all shows every property\n",
    )
    sets = ("--set", "log.roll.ms=7000", "--set", "log.retention.ms=8000")
    assert configs("alter", "--broker-default", *sets).stdout == "all brokers altered\n"
    assert configs("alter", "--broker", "b", "--set", "log.roll.ms=9000").returncode == 0
    altered = configs("alter", "--topic", "configured", "--set", "retention.ms=5000")
    assert altered.stdout == "topic configured altered\n"
    assert described("--broker-default") == {
        "log.roll.ms": ("7000", "broker-default"),
        "log.retention.ms": ("8000", "broker-default"),
    }
    assert described("--broker", "2") == {"log.roll.ms": ("9000", "broker")}
    everything = described("--broker", "B", "--all")
    assert everything["log.retention.ms"] == ("8000", "broker-default")
    assert everything["broker.id"] == ("2", "static")
    assert everything["min.insync.replicas"] == ("1", "default")
    assert described("--topic", "configured") == {"retention.ms": ("5000", "topic")}
    table = configs("describe", "--broker", "2", "--all").stdout.splitlines()
    assert table[0].split() == ["PROPERTY", "VALUE", "FROM"]
    assert ["broker.id", "2", "static", "read-only"] in [line.split() for line in table]
    for arguments, status, said in (
        (("--broker", "9", "--set", "log.roll.ms=1"), 1, "there is no live broker 9"),
        (("--broker", "Z", "--set", "log.roll.ms=1"), 2, "there are A (1), B (2), C (3)"),
        (("--topic", "confgured", "--set", "retention.ms=1"), 1, "did you mean configured?"),
        (("--broker-default", "--set", "message.max.bytes=999999999"), 1, "is above socket"),
    ):
        refused = configs("alter", *arguments, check=False)
        assert (refused.returncode, said in refused.stderr) == (status, True), refused.stderr
    deleted = configs("alter", "--broker", "2", "--delete", "log.roll.ms", "--format", "json")
    assert json.loads(deleted.stdout) == []
    configs("alter", "--broker-default", "--delete", "log.roll.ms", "--delete", "log.retention.ms")
    assert described("--broker-default") == {}


def test_a_killed_broker_is_seen_by_status_and_watch_and_comes_back(
    cluster: ProcessCluster,
) -> None:
    topic = create(cluster, "watched", "--replicas", "1,2,3")
    with Command(cluster.path, "topics", "describe", topic, "--watch") as watch:
        assert watch.until("watched-0").endswith(" watched-0 Leader=A Epoch=0 ISR={A,B,C}")
        cluster.kill("c")
        assert watch.until("watched-0").endswith(" watched-0 Leader=A Epoch=1 ISR={A,B}")
        done = cluster.minikafka("status", check=False)
        assert done.returncode == 1
        assert done.stdout.startswith("unhealthy: ")
        cluster.restart("3")
        assert watch.until("watched-0").endswith(" watched-0 Leader=A Epoch=1 ISR={A,B,C}")
        assert watch.end(signal.SIGINT) == (0, "", "")


def test_the_processes_of_a_detached_cluster_are_in_its_file(cluster: ProcessCluster) -> None:
    done = cluster.minikafka("up", check=False)
    assert done.returncode == 2
    assert "already (A, B, C, ZooKeeper): `minikafka down` ends it" in done.stderr


def test_zookeeper_can_be_looked_at(cluster: ProcessCluster) -> None:
    assert cluster.minikafka("zk", "ls", "/brokers/ids").stdout == "1\n2\n3\n"
    document = json.loads(cluster.minikafka("zk", "get", "/controller", "--format", "json").stdout)
    assert document["ephemeral_owner"] != 0
    assert "/  (version 0)" in cluster.minikafka("zk", "tree").stdout


def test_load_is_measured(cluster: ProcessCluster) -> None:
    topic = create(cluster, "load", "--partitions", "2")
    done = cluster.minikafka(*f"perf produce {topic} --num-records 2k --record-size 100".split())
    assert done.stdout.startswith("2000 records sent, ")
    words = f"perf produce {topic} --num-records 500 --transactional-id perf --format json"
    told = json.loads(cluster.minikafka(*words.split(), "--transaction-duration-ms", "1").stdout)
    assert told["transactions"] > 1
    assert 0 < told["commit_p50_ms"] <= told["commit_max_ms"]
    done = cluster.minikafka(*f"perf latency {topic} --num-records 20 --format json".split())
    assert json.loads(done.stdout)["records"] == 20
    done = cluster.minikafka("perf", "consume", topic)
    assert done.stdout.startswith("2570 records read, ")


# --- the life of a cluster -----------------------------------------------------------------------


def assert_nothing_runs(data_dir: Path) -> None:
    """No live process names the directory in its command line."""
    left = [
        (pid, arguments)
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if (arguments := processes.command_line(pid)) is not None
        and any(f"{data_dir}/" in argument for argument in arguments)
    ]
    assert left == []


def test_a_cluster_that_is_started_again_carries_on(tmp_path: Path) -> None:
    cluster = ProcessCluster(tmp_path)
    try:
        cluster.up(2, "embedded")
        before = cluster.document()
        topic = create(cluster, "kept", "--partitions", "1")
        produce(cluster, topic, b"kept\n")
        cluster.minikafka("down")
        assert_nothing_runs(tmp_path)
        cluster.minikafka("up", "--detach")
        after = cluster.document()
        assert [(each["id"], each["grpc"]) for each in after["brokers"]] == [
            (each["id"], each["grpc"]) for each in before["brokers"]
        ]
        assert after["zookeeper"]["hosts"] == before["zookeeper"]["hosts"]
        assert consume(cluster, topic) == b"kept\n"
    finally:
        cluster.down()
    assert_nothing_runs(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_foreground_cluster_ends_with_its_command(tmp_path: Path, number: signal.Signals) -> None:
    cluster = ProcessCluster(tmp_path)
    try:
        with Command(tmp_path, "up", "--brokers", "2") as up:
            up.until("the cluster runs; Ctrl-C ends it")
            create(cluster, "seen", "--replicas", "1,2")
            assert up.until("seen-0").endswith(" seen-0 Leader=A Epoch=0 ISR={A,B}")
            pids = [each["pid"] for each in cluster.document()["brokers"]]
            pids += cluster.document()["zookeeper"]["pids"]
            status, _, _ = up.end(number)
        assert status == (-9 if number == signal.SIGKILL else 0)
        for pid in pids:
            assert processes.wait_ended(processes.Process(pid, None, str(tmp_path)), DEADLINE_S)
    finally:
        cluster.down()


def test_a_foreground_cluster_can_be_ended_from_elsewhere(tmp_path: Path) -> None:
    cluster = ProcessCluster(tmp_path)
    try:
        with Command(tmp_path, "up", "--brokers", "1") as up:
            up.until("the cluster runs")
            done = cluster.minikafka("up", check=False)
            assert done.returncode == 2
            assert f"(process {up.process.pid}): `minikafka down` ends it" in done.stderr
            cluster.minikafka("down")
            assert up.process.wait(DEADLINE_S) == 0
        assert_nothing_runs(tmp_path)
    finally:
        cluster.down()


def test_a_broker_that_cannot_start_ends_up_with_its_log(tmp_path: Path) -> None:
    cluster = ProcessCluster(tmp_path)
    (tmp_path / "broker-1").write_text("a file where the data should be")
    try:
        done = cluster.minikafka("up", "--brokers", "1", check=False)
        assert done.returncode == 1
        assert "broker A (1) ended instead of serving; the end of" in done.stderr
        assert_nothing_runs(tmp_path)
    finally:
        cluster.down()


# --- the demo ------------------------------------------------------------------------------------


def test_the_demo_loses_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("first line\n\nthird line\n")
    done = subprocess.run(
        [sys.executable, "-m", "minikafka", "demo", "--file", str(text), "--format", "json"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert (document["lost"], document["duplicated"], document["isr"]) == (0, 0, [1, 2, 3, 4, 5])
    first = document["events"][0]
    assert (first["event"], first["after"]) == ("kill E", "Leader=A Epoch=1 ISR={A,B,C,D}")
    assert " demo-0 Leader=A Epoch=1 ISR={A,B,C,D}\n" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
    assert_nothing_runs(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_broken_off_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Command(tmp_path, "demo") as demo:
        demo.until("--- kill E")
        status, _, _ = demo.end(number)
    assert status == 130
    assert list(tmp_path.iterdir()) == []
    assert_nothing_runs(tmp_path)
