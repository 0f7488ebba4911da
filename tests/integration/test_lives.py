"""Replicas of real brokers keep nothing that did not come in as an event: a life that was recorded
in a broker process is lived again, event by event, in a partition of the core alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikafka.client import Admin, Producer
from minikafka.core.replication.events import BatchesFollowed
from tests.helpers.lives import Life
from tests.helpers.recorded_broker import read_lives
from tests.helpers.waiting import DEADLINE_S, happens
from tests.helpers.zookeeper import start_zookeeper

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
TOPIC = "t"


class Recorded:
    """Three brokers as processes that write down the lives of their replicas when they end."""

    def __init__(self, path: Path, zookeeper: str) -> None:
        self.path = path
        self._zookeeper = zookeeper
        self._started = 0
        self.processes: dict[int, subprocess.Popen[str]] = {}
        self.addresses: dict[int, str] = {}

    def start(self, broker_id: int) -> None:
        settings = {
            "broker.id": broker_id,
            "broker.name": "ABC"[broker_id - 1],
            "zookeeper.connect": self._zookeeper,
            "log.dirs": self.path / f"broker-{broker_id}",
            "grpc.listener": "127.0.0.1:0",
            "zookeeper.session.timeout.ms": 1500,
            "replica.lag.time.max.ms": 1500,
            "default.replication.factor": 3,
            "min.insync.replicas": 2,
        }
        self._started += 1
        command = [sys.executable, "-m", "tests.helpers.recorded_broker"]
        command += [str(self.path / f"lives-{self._started}"), "broker"]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        with (self.path / f"broker-{self._started}.log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.processes[broker_id] = process
        assert process.stdout is not None
        line = process.stdout.readline()
        assert " serves gRPC at " in line, (line, self.path)
        self.addresses[broker_id] = line.split(" serves gRPC at ")[1].split(",")[0].strip()

    def end(self, broker_id: int, number: int) -> None:
        process = self.processes.pop(broker_id)
        process.send_signal(number)
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()
        del self.addresses[broker_id]

    @property
    def bootstrap(self) -> str:
        return ",".join(self.addresses.values())

    def lives(self) -> list[Life]:
        files = sorted(self.path.glob("lives-*"))
        return [life for file in files for life in read_lives(file)]


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Recorded]:
    zookeeper = start_zookeeper("embedded", tmp_path / "zookeeper")
    recorded = Recorded(tmp_path, zookeeper.hosts)
    try:
        yield recorded
    finally:
        for broker_id in list(recorded.processes):
            recorded.end(broker_id, signal.SIGKILL)
        zookeeper.stop()


def produce(brokers: Recorded, count: int) -> None:
    with Producer(brokers.bootstrap) as producer:
        for number in range(count):
            producer.send(TOPIC, str(number).encode())
        producer.flush(60_000)


def isr_of(brokers: Recorded) -> set[int]:
    with Admin(brokers.bootstrap) as admin:
        return set(admin.describe_topic(TOPIC).partitions[0].state.isr)


def test_the_lives_of_real_replicas_can_be_lived_again(brokers: Recorded) -> None:
    for broker_id in (1, 2, 3):
        brokers.start(broker_id)
    with Admin(brokers.bootstrap) as admin:
        admin.create_topic(TOPIC, 1, 3)
    produce(brokers, 300)
    with Admin(brokers.bootstrap) as admin:
        leader = admin.describe_topic(TOPIC).partitions[0].state.leader
    brokers.end(leader, signal.SIGKILL)  # nobody knows what it was told last
    assert happens(lambda: leader not in isr_of(brokers), DEADLINE_S)
    produce(brokers, 200)
    brokers.start(leader)
    assert happens(lambda: len(isr_of(brokers)) == 3, DEADLINE_S)
    produce(brokers, 100)
    for broker_id in (1, 2, 3):
        brokers.end(broker_id, signal.SIGTERM)

    lives = [life for life in brokers.lives() if life.topic_partition.topic == TOPIC]
    assert len(lives) == 3  # whom SIGKILL ended has written nothing
    events = Counter(type(moment.event).__name__ for life in lives for moment in life.moments)
    for kind in (
        "StateReceived",
        "BatchesAppended",
        "ProduceParked",
        "ReplicaFetched",
        "BatchesReceived",
        "BatchesFollowed",
        "ProposalAnswered",
        "LagCheckDue",
        "Stopped",
    ):
        assert events[kind], events
    for life in lives:
        partition = life.live_again()
        assert partition.log_state.log_end_offset == 600
    # What was lived otherwise is noticed.
    life = lives[0]
    index = next(
        index
        for index, moment in enumerate(life.moments)
        if isinstance(moment.event, BatchesFollowed) and moment.event.headers
    )
    del life.moments[index]
    with pytest.raises(AssertionError, match="last events"):
        life.live_again()
