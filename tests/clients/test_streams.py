"""Kafka Streams with exactly_once_v2: words are counted by two instances, by way of a topic that
regroups them and a store of counts. One instance is killed with SIGKILL and started again, then a
broker. Every word has been counted 1, 2, 3, … up to as often as it was written, in this order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.clients.clients import STREAMS, Program
from tests.clients.cluster import Cluster, bootstrap, leader, wait, wait_until_whole

PARTITIONS = 3
WORDS = 40
ROUND = 800  # records; each word as often as any other
_DEADLINE_S = 120.0

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]


class Counts:
    """Who reads what the application has committed. `of` has the counts of each word, in the order
    in which they were read."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        settings = {"bootstrap.servers": bootstrap(cluster), "group.id": "judge"}
        settings |= {"isolation.level": "read_committed", "enable.auto.commit": "false"}
        self._consumer = Consumer(settings)
        self._consumer.assign([TopicPartition(topic, each, 0) for each in range(PARTITIONS)])
        self.of: dict[str, list[int]] = defaultdict(list)

    @property
    def total(self) -> int:
        return sum(map(len, self.of.values()))

    def read(self, goal: int) -> bool:
        """A part more; are so many there now?"""
        for message in self._consumer.consume(1_000, 0.2):
            if message.error() is None:
                self.of[message.key().decode()].append(int(message.value()))
        return self.total >= goal

    def close(self) -> None:
        self._consumer.close()


@contextmanager
def counting(cluster: Cluster, topic: str) -> Iterator[Counts]:
    counts = Counts(cluster, topic)
    try:
        yield counts
    finally:
        counts.close()


def write(producer: Producer, topic: str) -> None:
    for number in range(ROUND):
        producer.produce(topic, value=f"word-{number % WORDS}", partition=number % PARTITIONS)
        producer.poll(0)
    assert producer.flush(_DEADLINE_S) == 0


def is_running(program: Program) -> bool:
    states = [each["state"] for each in program.documents if "state" in each]
    return bool(states) and states[-1] == "RUNNING"


def test_every_word_is_counted_exactly_once_whoever_dies(
    mortal_cluster: Cluster, tmp_path: Path
) -> None:
    mortal_cluster.create_topic("words", PARTITIONS)
    mortal_cluster.create_topic("counts", PARTITIONS)
    wait_until_whole(mortal_cluster, "words", "counts")
    settings = {"bootstrap.servers": bootstrap(mortal_cluster), "enable.idempotence": "true"}
    producer = Producer(settings)
    ask = {"id": "word-count", "from": "words", "to": "counts"}
    ask["bootstrap"] = bootstrap(mortal_cluster)

    def start(name: str) -> Program:
        return STREAMS.start("count", state_dir=str(tmp_path / name), **ask)

    with counting(mortal_cluster, "counts") as counts, start("one") as one:
        with start("two") as two:
            for each in (one, two):
                wait(lambda program=each: is_running(program), f"{each} to run", _DEADLINE_S)
            write(producer, "words")
            wait(lambda: counts.read(ROUND // 2), "half of what was written", _DEADLINE_S)
            two.crash()
        write(producer, "words")
        wait(lambda: counts.read(2 * ROUND), "all, of one instance alone", _DEADLINE_S)
        with start("two") as two:
            wait(lambda: is_running(two), "the second instance to run again", _DEADLINE_S)
            write(producer, "words")
            name = leader(mortal_cluster, "words")
            mortal_cluster.kill(name)
            write(producer, "words")
            wait(lambda: counts.read(4 * ROUND), "all, with a broker less", _DEADLINE_S)
            mortal_cluster.restart(name)
            for each in (one, two):
                each.finish()
        counts.read(4 * ROUND + 1)  # is there more than that?
        times = 4 * ROUND // WORDS
        assert dict(counts.of) == {
            f"word-{number}": list(range(1, times + 1)) for number in range(WORDS)
        }
