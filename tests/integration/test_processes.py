"""Real brokers as processes over real ZooKeeper protocol, killed, paused and stopped under load."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikafka.api.requests import EARLIEST_TIMESTAMP
from minikafka.client import AsyncAdmin, AsyncProducer
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition, broker_name
from tests.helpers.processes import Load, ProcessCluster, read_numbers, until_isr, until_words
from tests.helpers.waiting import until
from tests.helpers.zookeeper import require

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ProcessCluster]:
    cluster = ProcessCluster(tmp_path)
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.mark.parametrize("zookeeper", ["embedded", "local:3"])
async def test_nothing_acknowledged_is_lost_while_brokers_die_pause_and_leave(
    cluster: ProcessCluster, zookeeper: str
) -> None:
    require(zookeeper)
    cluster.up(5, zookeeper)
    async with AsyncAdmin(cluster.bootstrap) as admin:
        await admin.create_topic(
            "t", configs={"min.insync.replicas": "2"}, assignments={0: [1, 2, 3, 4, 5]}
        )
        await until_words(admin, "t", "Leader=A Epoch=0 ISR={A,B,C,D,E}")
        async with Load(cluster.bootstrap, "t") as load:
            await load.more(50)
            cluster.kill("E")
            await until_words(admin, "t", "Leader=A Epoch=1 ISR={A,B,C,D}")
            await load.more(50)
            cluster.kill("A")
            await until_words(admin, "t", "Leader=B Epoch=2 ISR={B,C,D}")
            await load.more(50)
            cluster.kill("C", "STOP")
            await until_words(admin, "t", "Leader=B Epoch=3 ISR={B,D}")
            await load.more(50)
            cluster.kill("C", "CONT")
            cluster.restart("A")
            cluster.restart("E")
            await until_isr(admin, "t", 5)
            await load.more(50)
            leader = (await until_isr(admin, "t", 5)).leader
            cluster.kill(broker_name(leader), "TERM")
            await until_isr(admin, "t", 4)
            await load.more(50)
            cluster.restart(broker_name(leader))
            await until_isr(admin, "t", 5)
    state, version = cluster.state_in_zookeeper("t")
    assert set(state["isr"]) == {1, 2, 3, 4, 5}  # type: ignore[call-overload]
    assert version > 0
    load.judge(await read_numbers(cluster.bootstrap, "t"))


async def test_a_cluster_that_was_killed_whole_carries_on_with_its_data(
    cluster: ProcessCluster,
) -> None:
    cluster.up(3, "embedded")
    async with AsyncAdmin(cluster.bootstrap) as admin:
        await admin.create_topic("t", 1, 3, configs={"min.insync.replicas": "2"})
        async with Load(cluster.bootstrap, "t") as load:
            await load.more(100)
    for name in ("A", "B", "C"):
        cluster.kill(name)
    cluster.minikafka("down", check=False)
    cluster.up(3, "embedded")
    async with AsyncAdmin(cluster.bootstrap) as admin:
        await until_isr(admin, "t", 3)
    load.judge(await read_numbers(cluster.bootstrap, "t"))


async def test_a_paused_zookeeper_stops_no_records_and_the_cluster_goes_on_after_it(
    cluster: ProcessCluster,
) -> None:
    cluster.up(3, "embedded", "zookeeper.session.timeout.ms=3000")
    pids = cluster.document()["zookeeper"]["pids"]  # type: ignore[index]
    async with AsyncAdmin(cluster.bootstrap) as admin:
        await admin.create_topic("t", 1, 3, configs={"min.insync.replicas": "2"})
        async with Load(cluster.bootstrap, "t") as load:
            await load.more(50)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                await load.more(50)
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
            await load.more(50)
        await until_isr(admin, "t", 3)
    load.judge(await read_numbers(cluster.bootstrap, "t"))


async def test_settings_that_are_altered_at_one_broker_hold_at_all_without_a_restart(
    cluster: ProcessCluster,
) -> None:
    """By their effects: what may be produced, and what retention deletes, at leaders on every
    broker and at the followers."""
    cluster.up(3, "embedded", "log.retention.check.interval.ms=200")
    pids = [broker["pid"] for broker in cluster.document()["brokers"]]  # type: ignore[attr-defined]
    partitions = [TopicPartition("t", number) for number in range(3)]
    async with (
        AsyncAdmin(cluster.bootstrap) as admin,
        AsyncProducer(cluster.bootstrap, batch_size=1, linger_ms=0) as producer,
    ):
        await admin.create_topic("t", assignments={0: [1, 2, 3], 1: [2, 3, 1], 2: [3, 1, 2]})

        async def produce(size: int) -> list[str]:
            """What became of a record for each partition: "" if it was acknowledged."""
            outcomes = []
            for each in partitions:
                try:
                    future = await producer.send("t", b"x" * size, partition=each.partition)
                    await future
                except MinikafkaError as error:
                    outcomes.append(type(error).__name__)
                else:
                    outcomes.append("")
            return outcomes

        assert await produce(500) == [""] * 3
        await admin.alter_broker_config(None, {"message.max.bytes": "300"})

        async def all_refuse() -> bool:
            return await produce(500) == ["MessageTooLargeError"] * 3

        await until(all_refuse)
        assert await produce(100) == [""] * 3
        await admin.alter_broker_config(2, {"message.max.bytes": "1000"})

        async def one_accepts() -> bool:
            refused = "MessageTooLargeError"
            return await produce(500) == [refused, "", refused]

        await until(one_accepts)
        changes = {"log.retention.bytes": "0", "log.segment.delete.delay.ms": "0"}
        await admin.alter_broker_config(None, {**changes, "log.segment.bytes": "200"})

        def segments() -> list[int]:
            """How many segment files there are of each replica."""
            return [
                len(list(cluster.path.glob(f"broker-{broker}/{each}/*.log")))
                for broker in (1, 2, 3)
                for each in partitions
            ]

        async def old_segments_are_gone() -> bool:
            assert await produce(100) == [""] * 3  # each makes a new segment
            starts = await admin.list_offsets(dict.fromkeys(partitions, EARLIEST_TIMESTAMP))
            return all(each.offset > 0 for each in starts.values()) and max(segments()) <= 3

        await until(old_segments_are_gone, 40)
    assert min(segments()) > 0
    assert pids == [broker["pid"] for broker in cluster.document()["brokers"]]  # type: ignore[attr-defined]


async def test_without_a_majority_of_zookeeper_records_go_on_and_the_isr_stands(
    cluster: ProcessCluster,
) -> None:
    """Two servers of three are killed, for longer than a session lasts; then one comes back."""
    require("local:3")
    cluster.up(3, "local:3")
    pids: list[int] = cluster.document()["zookeeper"]["pids"]  # type: ignore[index]
    commands = [read_command(pid) for pid in pids]
    started: list[subprocess.Popen[bytes]] = []
    try:
        async with AsyncAdmin(cluster.bootstrap) as admin:
            configs = {"min.insync.replicas": "2"}
            await admin.create_topic("t", configs=configs, assignments={0: [1, 2, 3]})
            load = Load(cluster.bootstrap, "t", delivery_timeout_ms=200_000)
            async with load:
                await load.more(50)
                for pid in pids[:2]:
                    os.kill(pid, signal.SIGKILL)
                # Once acks=1 is refused, every broker is at its session's end, or past it.
                await until_refused(cluster.bootstrap, "t")
                await load.more(100)
                assert len(await read_numbers(cluster.bootstrap, "t")) >= 150
                await until_words(admin, "t", "Leader=A Epoch=0 ISR={A,B,C}")
                cluster.kill("C")
                # Nobody can take it out of the ISR: nothing more is acknowledged, until one can.
                await until_words(admin, "t", "Leader=A Epoch=0 ISR={A,B,C}")
                started.append(run_again(commands[0]))
                await until_words(admin, "t", "Leader=A Epoch=1 ISR={A,B}")
                await load.more(50)
                cluster.restart("C")
                await until_isr(admin, "t", 3)
                await load.more(50)
        load.judge(await read_numbers(cluster.bootstrap, "t"))
    finally:
        for process in started:
            process.kill()
            process.wait()


def run_again(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def read_command(pid: int) -> list[str]:
    """The command line of a process."""
    raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    return [word.decode() for word in raw.rstrip(b"\0").split(b"\0")]


async def until_refused(bootstrap: str, topic: str) -> None:
    """Until a record with acks=1 is refused for as long as a producer tries."""
    async with AsyncProducer(bootstrap, acks=1, delivery_timeout_ms=1_500) as producer:
        numbers = itertools.count(-1, -1)  # none of those that a Load counts

        async def is_refused() -> bool:
            try:
                await (await producer.send(topic, b"%d" % next(numbers)))
            except MinikafkaError:
                return True
            return False

        await until(is_refused, 40)


def broker_command(path: Path, **properties: str) -> list[str]:
    settings = {"broker.id": "1", "log.dirs": str(path / "data"), **properties}
    sets = [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
    return [sys.executable, "-m", "minikafka", "broker", *sets]


def refused(command: list[str], status: int = 2) -> str:
    """The message of a broker that does not start: an exit status, no traceback."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


async def test_a_broker_that_cannot_start_says_why_with_an_exit_status(
    cluster: ProcessCluster, tmp_path: Path
) -> None:
    cluster.up(1, "embedded")
    document = cluster.document()
    hosts = document["zookeeper"]["hosts"]  # type: ignore[index]
    broker = document["brokers"][0]  # type: ignore[index]
    connect = {"zookeeper.connect": hosts, "grpc.listener": "127.0.0.1:0"}
    other = tmp_path / "elsewhere"

    assert "id 1" in refused(broker_command(other, **connect))
    in_use = {**connect, "log.dirs": str(tmp_path / "broker-1"), "broker.id": "1"}
    assert "in use" in refused(broker_command(other, **in_use))
    taken = {**connect, "grpc.listener": broker["grpc"], "broker.id": "2"}
    assert broker["grpc"].split(":")[1] in refused(broker_command(other / "2", **taken), 3)
    unreachable = {"zookeeper.connect": "127.0.0.1:1", "zookeeper.connection.timeout.ms": "500"}
    assert "127.0.0.1:1" in refused(broker_command(other / "3", **unreachable))
    misspelt = {**connect, "min.insync.replica": "2"}
    assert "min.insync.replicas" in refused(broker_command(other / "4", **misspelt))

    cluster.kill("A", "TERM")
    await until(lambda: not Path(f"/proc/{broker['pid']}").exists())
    moved = {**connect, "log.dirs": str(tmp_path / "broker-1"), "broker.id": "7"}
    message = refused(broker_command(other, **moved))
    assert "7" in message
    assert "1" in message


async def test_unknown_topics_bad_names_and_too_many_replicas_are_named_errors(
    cluster: ProcessCluster,
) -> None:
    cluster.up(1, "embedded", "auto.create.topics.enable=false")
    too_many = cluster.minikafka("topics", "create", "t", "--replication-factor", "3", check=False)
    assert too_many.returncode == 1
    assert "3" in too_many.stderr
    bad = cluster.minikafka("topics", "create", "no/slash", check=False)
    assert bad.returncode in (1, 2)
    assert "no/slash" in bad.stderr
    unknown = cluster.minikafka("consume", "nothing", check=False)
    assert unknown.returncode == 1
    assert "nothing" in unknown.stderr
    cluster.minikafka("topics", "create", "t")
    partition = cluster.minikafka("consume", "t", "--partition", "5", check=False)
    assert partition.returncode in (1, 2)
    assert "5" in partition.stderr
    misspelt = cluster.minikafka("topics", "create", "u", "--config", "retention.m=1", check=False)
    assert "retention.ms" in misspelt.stderr
    for failed in (too_many, bad, unknown, partition, misspelt):
        assert "Traceback" not in failed.stderr


async def test_garbage_in_zookeeper_stops_what_it_is_about_and_nothing_else(
    cluster: ProcessCluster,
) -> None:
    cluster.up(3, "embedded")
    async with AsyncAdmin(cluster.bootstrap) as admin:
        for topic, leader in (("bad", 3), ("good", 3), ("worse", 2)):
            others = [each for each in (1, 2, 3) if each != leader]
            await admin.create_topic(topic, assignments={0: [leader, *others]})
        await until_isr(admin, "good", 3)
        written = {
            "/brokers/topics/bad/partitions/0/state": b'{"version":1,"leader":"C"}',
            "/brokers/topics/worse": b"\xff garbage",
            "/config/topics/bad": b"[",
            "/brokers/ids/x": b"",
            "/admin/preferred_replica_election": b"{}",
        }
        cluster.write_to_zookeeper(written)
        cluster.announce_config("topics/bad")
        before = (await admin.describe_controller()).controller_epoch
        cluster.kill("C")
        await until_words(admin, "good", "Leader=A Epoch=1 ISR={A,B}")
        # Also the next controller, who reads all of it anew, takes over, and makes topics.
        controller = (await admin.describe_controller()).controller_id
        cluster.restart("C")
        await until_isr(admin, "good", 3)
        cluster.kill(broker_name(controller))
        await admin.create_topic("new", 1, 1)
        survivor = next(each for each in "AB" if each != broker_name(controller))
        await until(lambda: "new" in cluster.minikafka("topics", "list").stdout)
        report = await admin.describe_controller()
        assert report.controller_epoch <= before + 2  # one election for each death at most
        status = cluster.minikafka("status", check=False)
    assert status.returncode == 1
    for path in written:
        assert f"{path} in ZooKeeper cannot be read: " in status.stdout
    assert cluster.read_from_zookeeper(written) == written
    log = cluster.log_of(survivor)
    assert log.count("/brokers/topics/bad/partitions/0/state cannot be read") <= 1
    assert "Traceback" not in log
