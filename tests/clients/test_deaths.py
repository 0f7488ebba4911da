"""All clients at once, while each broker in turn is killed with SIGKILL and started again.

Every topic has a partition on each broker, so each kill takes a leader from every client; the first
one takes the controller, and three of them take the coordinator of every group. What was
acknowledged must be there, once and in order, and the groups must have read all of it.

They are killed by a command, while next to nothing is under way. Of what is, two clients lose by
themselves: KafkaJS 2.2.4 may say that records are acknowledged which it never sent again
(kafkajs/program.js), and Sarama 1.43 sends what was appended and not acknowledged again in one
batch with later records, which is out of order for every broker: it says so, and of those records
nothing is asked.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.clients import clients
from tests.clients.behaviours import SESSION_TIMEOUT_MS
from tests.clients.clients import CLIENTS, KCAT, SARAMA_OLD, Client, Document, Program
from tests.clients.cluster import Cluster, bootstrap, controller, wait, wait_until_whole
from tests.helpers.waiting import happens

PARTITIONS = 3
PROGRESS = 20
_BEAT_S = 0.02
_DEADLINE_S = 90.0


@dataclass
class Lane:
    """One client: a topic, a producer of numbered records, and a group of one member."""

    client: Client
    producer: Program
    member: Program
    sent: int = 0

    @property
    def topic(self) -> str:
        return topic_of(self.client)

    def send(self) -> None:
        record = {"value": str(self.sent), "partition": self.sent % PARTITIONS}
        self.producer.send([record])
        self.sent += 1

    @property
    def progress(self) -> int:
        """kcat tells nothing before its end."""
        return self.sent if self.client is KCAT else len(self.producer.acknowledged)


def topic_of(client: Client) -> str:
    return f"deaths-{client.name}"


@pytest.fixture
def lanes(mortal_cluster: Cluster) -> Iterator[list[Lane]]:
    missing = clients.missing()
    servers = bootstrap(mortal_cluster)
    with ExitStack() as stack:
        found = []
        for client in CLIENTS:
            if client.name in missing:
                continue
            topic = topic_of(client)
            mortal_cluster.create_topic(topic, PARTITIONS)
            producing = {"acks": "all", "codec": "none", "idempotent": True}
            member = {"group": topic, "session_timeout_ms": SESSION_TIMEOUT_MS}
            lane = Lane(
                client,
                client.start("produce", bootstrap=servers, topic=topic, **producing),
                client.start("group", bootstrap=servers, topic=topic, **member),
            )
            found.append(lane)
            stack.enter_context(lane.producer)
            stack.enter_context(lane.member)
        yield found


@pytest.mark.alone
@pytest.mark.timeout(900)  # with the time that it takes to build the clients in Go
@pytest.mark.slow
def test_nothing_acknowledged_is_lost_or_doubled_whichever_broker_dies(
    mortal_cluster: Cluster, lanes: list[Lane]
) -> None:
    topics = [lane.topic for lane in lanes]
    wait_until_whole(mortal_cluster, *topics)
    produce_for_a_while(lanes)
    first = controller(mortal_cluster)
    for name in [first, *sorted({"A", "B", "C"} - {first})]:
        mortal_cluster.kill(name)
        produce_for_a_while(lanes)
        mortal_cluster.restart(name)
        keep_producing_until_whole(mortal_cluster, lanes)
    problems = {
        lane.client.name: problem for lane in lanes if (problem := judge(mortal_cluster, lane))
    }
    assert problems == {}


def produce_for_a_while(lanes: list[Lane]) -> None:
    """Until every client has had more records acknowledged, after all that it had sent before."""
    goals = [lane.sent + PROGRESS for lane in lanes]

    def behind() -> list[Lane]:
        return [lane for lane, goal in zip(lanes, goals, strict=True) if lane.progress < goal]

    deadline = time.monotonic() + _DEADLINE_S
    # A beat, so that a client does not get thousands of records while a leader is dead.
    while not happens(lambda: not behind(), within_s=_BEAT_S):
        for lane in lanes:
            lane.send()
        if time.monotonic() > deadline:
            said = [(str(lane.producer), lane.producer.errors()) for lane in behind()]
            raise AssertionError(f"no acknowledgements after {_DEADLINE_S:g} s: {said}")


def keep_producing_until_whole(cluster: Cluster, lanes: list[Lane]) -> None:
    for lane in lanes:
        lane.send()
    wait_until_whole(cluster, *(lane.topic for lane in lanes))


def judge(cluster: Cluster, lane: Lane) -> str | None:
    """What is wrong with a client's records; None if nothing."""
    try:
        lane.producer.finish(_DEADLINE_S)
    except AssertionError as error:
        return str(error)
    failed = [each for each in lane.producer.failed if not _lost_by_itself(lane.client, each)]
    if failed:
        return f"{len(failed)} failed: {failed[:3]}"
    acknowledged = {int(value) for value in lane.producer.acknowledged}
    if len(acknowledged) + len(lane.producer.failed) != lane.sent:
        return f"{lane.sent} sent, but {len(acknowledged)} acknowledged"
    read = [read_all(cluster, lane.topic, partition) for partition in range(PARTITIONS)]
    times = Counter(itertools.chain(*read))
    if lost := sorted(acknowledged - set(times)):
        return f"lost {len(lost)}: {lost[:10]}"
    if doubled := sorted(number for number, count in times.items() if count > 1):
        return f"doubled {len(doubled)}: {doubled[:10]}"
    if any(numbers != sorted(numbers) for numbers in read):
        return "out of order"
    try:
        wait(lambda: {*map(int, lane.member.values)} >= acknowledged, "the group", _DEADLINE_S)
    except AssertionError:
        unread = sorted(acknowledged - {*map(int, lane.member.values)})
        errors = lane.member.errors()
        return f"its group has not read {len(unread)}, from {unread[:5]} on: {errors}"
    return None


def _lost_by_itself(client: Client, failed: Document) -> bool:
    """Its own check of what it puts into a batch may find it before a broker does."""
    said = str(failed)
    return client is SARAMA_OLD and (
        "out of order sequence" in said or "out of sequence added to a batch" in said
    )


def read_all(cluster: Cluster, topic: str, partition: int) -> list[int]:
    settings = {"bootstrap.servers": bootstrap(cluster), "group.id": "judge"}
    consumer = Consumer(settings | {"enable.auto.commit": False})
    try:
        place = TopicPartition(topic, partition, 0)
        _, end = consumer.get_watermark_offsets(place, timeout=30)
        consumer.assign([place])
        numbers: list[int] = []
        deadline = time.monotonic() + _DEADLINE_S
        while len(numbers) < end:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                numbers.append(int(message.value()))
            assert time.monotonic() < deadline, f"{len(numbers)} of {end} records came"
        return numbers
    finally:
        consumer.close()
