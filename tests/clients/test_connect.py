"""Kafka Connect, distributed, with exactly-once support for sources: a source writes the numbers
from 0 on, with where it stands in the same transactions. A worker is killed with SIGKILL and
another goes on, then the coordinator of its transactions is killed. Who reads what is committed
finds each number once, in order."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.clients.clients import CONNECT, Program
from tests.clients.cluster import (
    Cluster,
    bootstrap,
    transaction_coordinator,
    wait,
    wait_until_whole,
)

LIMIT = 3_000
TOPIC = "numbers"
_DEADLINE_S = 120.0
_NOT_YET = (404, 409, 500, 503)

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]


def worker(cluster: Cluster) -> Program:
    settings = {
        "bootstrap.servers": bootstrap(cluster),
        "group.id": "connect",
        "exactly.once.source.support": "enabled",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "listeners": "http://127.0.0.1:0",
        "plugin.discovery": "only_scan",
        "session.timeout.ms": "6000",
        "heartbeat.interval.ms": "1000",
        "scheduled.rebalance.max.delay.ms": "0",  # the tasks of one that is gone move at once
    }
    for kind in ("config", "offset", "status"):
        settings[f"{kind}.storage.topic"] = f"connect-{kind}"
        settings[f"{kind}.storage.replication.factor"] = "3"
    settings["offset.storage.partitions"] = settings["status.storage.partitions"] = "3"
    return CONNECT.start("work", settings=settings)


def rest(program: Program) -> str:
    program.wait_for(lambda: any("rest" in each for each in program.documents), "REST", _DEADLINE_S)
    [url] = [each["rest"] for each in program.documents if "rest" in each]
    return str(url).rstrip("/")


def create(program: Program) -> None:
    config = {"connector.class": "Worker$Numbers", "tasks.max": "1"}
    config |= {"topic": TOPIC, "limit": str(LIMIT)}
    request = urllib.request.Request(
        f"{rest(program)}/connectors",
        json.dumps({"name": "numbers", "config": config}).encode(),
        {"Content-Type": "application/json"},
    )

    def created() -> bool:
        """Once the worker is in its group; until then it says so."""
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return bool(answer.status == 201)
        except urllib.error.HTTPError as refused:
            if refused.code not in _NOT_YET:
                raise AssertionError(refused.read()) from None
            return False

    wait(created, "the connector", _DEADLINE_S)


class Numbers:
    """Who reads what the source has committed."""

    def __init__(self, cluster: Cluster) -> None:
        settings = {"bootstrap.servers": bootstrap(cluster), "group.id": "judge"}
        settings |= {"isolation.level": "read_committed", "enable.auto.commit": "false"}
        self._consumer = Consumer(settings)
        self._consumer.assign([TopicPartition(TOPIC, 0, 0)])
        self.read: list[int] = []

    def reach(self, count: int) -> bool:
        """A part more; are so many there now?"""
        for message in self._consumer.consume(1_000, 0.2):
            if message.error() is None:
                self.read.append(int(message.value()))
        return len(self.read) >= count

    def close(self) -> None:
        self._consumer.close()


def test_a_source_writes_everything_exactly_once_whoever_dies(mortal_cluster: Cluster) -> None:
    mortal_cluster.create_topic(TOPIC, 1)
    wait_until_whole(mortal_cluster, TOPIC)
    numbers = Numbers(mortal_cluster)
    try:
        with worker(mortal_cluster) as first:
            create(first)
            wait(lambda: numbers.reach(LIMIT // 10), "the first numbers", _DEADLINE_S)
            first.crash()
        with worker(mortal_cluster) as second:
            rest(second)
            goal = len(numbers.read) + LIMIT // 10
            wait(lambda: numbers.reach(goal), "numbers of the second worker", _DEADLINE_S)
            name = transaction_coordinator(mortal_cluster, "connect-numbers-0")
            mortal_cluster.kill(name)
            wait(lambda: numbers.reach(LIMIT), "all numbers", _DEADLINE_S)
            mortal_cluster.restart(name)
            second.finish()
        numbers.reach(LIMIT + 1)  # is there more than that?
        assert numbers.read == list(range(LIMIT))
    finally:
        numbers.close()
