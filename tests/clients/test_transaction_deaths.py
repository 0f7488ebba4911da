"""A stream of transactions, while the leader of their data, their coordinator, the controller, and
then all brokers at once are killed with SIGKILL and started again.

The client does what its documentation wants done about each error: it asks again, aborts, or a new
producer takes the transactional id over, as where the client itself gives up. In the end each
transaction is committed, aborted, or of an outcome that nobody was told. Who reads what is
committed finds the committed ones whole, once and in order, of the aborted ones nothing, and of the
others all or nothing. Nothing is left open, or the readers would not get to the end.

Each client loses its coordinator, and two lose all brokers; with MINIKAFKA_AMOUNT=long each of them
lives through all of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.clients.clients import (
    AIOKAFKA,
    CONFLUENT,
    JAVA,
    JAVA_4,
    KAFKAJS,
    Client,
    Document,
    Program,
)
from tests.clients.cluster import (
    Cluster,
    bootstrap,
    controller,
    leader,
    transaction_coordinator,
    wait,
    wait_until_whole,
)
from tests.helpers.amounts import IS_LONG

PARTITIONS = 3
RECORDS = 2  # of a transaction, in each partition
PROGRESS = 10
_BEAT_S = 0.02
_DEADLINE_S = 90.0
_TIMEOUT_MS = 30_000

Place = Callable[[Cluster, str], str]
PLACES: dict[str, Place] = {
    "leader": lambda cluster, topic: leader(cluster, topic),
    "coordinator": transaction_coordinator,
    "controller": lambda cluster, _: controller(cluster),
}
ALL = "all"
# What each client lives through as a rule.
USUAL: dict[Client, Sequence[str]] = {
    CONFLUENT: ("leader", "coordinator", "controller"),
    JAVA: ("coordinator",),
    JAVA_4: ("coordinator", ALL),
    AIOKAFKA: ("coordinator",),
    KAFKAJS: ("coordinator", ALL),
}


@dataclass
class Stream:
    """Transactions of one id, the name of the topic; they are numbered, and each fourth aborted."""

    cluster: Cluster
    client: Client
    topic: str
    committed: list[int] = field(default_factory=list)
    aborted: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    problem: BaseException | None = None
    _program: Program | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _commits: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        number = 0
        try:
            while not self._stopped.wait(_BEAT_S):
                self._one(number)
                number += 1
        except BaseException as error:  # told by whoever waits for progress
            self.problem = error
        finally:
            self._leave()

    def stop(self) -> None:
        self._stopped.set()

    def progress(self) -> bool:
        """Waits until more transactions have been committed."""
        goal = len(self.committed) + PROGRESS
        wait(
            lambda: self.problem is not None or len(self.committed) >= goal,
            f"transactions of {self.client.name}; its errors: {self.errors[-3:]}",
            _DEADLINE_S,
        )
        if self.problem is not None:
            raise self.problem
        return True

    def wait_for_commit(self) -> None:
        """Until it is just being asked for one."""
        self._commits.clear()
        wait(self._commits.is_set, f"a commit of {self.client.name}", _DEADLINE_S)

    def _one(self, number: int) -> None:
        if self._program is None:
            self._program = self._begun()
        written = self._call("begin")[0] and all(
            self._call("send", topic=self.topic, partition=each, values=values(number, each))[0]
            for each in range(PARTITIONS)
        )
        commits = written and number % 4 != 3
        if commits:
            self._commits.set()
            done, then = self._call("commit")
            if done:
                self.committed.append(number)
                return
            if then == "die":
                self._give_up(number)
                return
        aborted, _ = self._call("abort")
        if aborted or not commits:
            # No commit of it has been asked for, or the coordinator has not obeyed.
            self.aborted.append(number)
            if not aborted:
                self._leave()
        else:
            self._give_up(number)

    def _give_up(self, number: int) -> None:
        """It asked for a commit, and nobody says what became of that."""
        self.unknown.append(number)
        self._leave()

    def _begun(self) -> Program:
        """With a transactional id. Who is not told to ask again is replaced."""
        ask = {"id": self.topic, "timeout_ms": _TIMEOUT_MS}

        def begun() -> Program | None:
            program = self.client.start("transact", bootstrap=bootstrap(self.cluster), **ask)
            while not self._done(answer := program.answer("init")):
                if answer["then"] != "retry":
                    program.__exit__()
                    return None
            return program

        return wait(begun, "an id", _DEADLINE_S)

    def _call(self, name: str, **ask: object) -> tuple[bool, str]:
        """Is it done? And what else is to be done? It asks again as long as that is wanted."""
        assert self._program is not None
        answer: Document = {}

        def final() -> bool:
            assert self._program is not None
            nonlocal answer
            answer = self._program.answer(name, **ask)
            return self._done(answer) or name == "send" or answer["then"] != "retry"

        wait(final, f"an end of {name}", _DEADLINE_S)
        return "error" not in answer, answer.get("then", "")

    def _done(self, answer: Document) -> bool:
        if "error" in answer:
            self.errors.append(answer["error"])
        return "error" not in answer

    def _leave(self) -> None:
        if self._program is not None:
            self._program.__exit__()
            self._program = None


def values(number: int, partition: int) -> list[str]:
    return [f"{number} {partition} {each}" for each in range(RECORDS)]


@contextmanager
def streaming(cluster: Cluster, client: Client) -> Iterator[Stream]:
    topic = f"transactions-{client.name}"
    cluster.create_topic(topic, PARTITIONS)
    wait_until_whole(cluster, topic)
    stream = Stream(cluster, client, topic)
    thread = threading.Thread(target=stream.run)
    thread.start()
    try:
        yield stream
    finally:
        stream.stop()
        thread.join(_DEADLINE_S)
    assert not thread.is_alive()
    if stream.problem is not None:
        raise stream.problem


def lose_one(stream: Stream, name: str) -> None:
    """In the middle of a commit; it goes on meanwhile."""
    stream.wait_for_commit()
    stream.cluster.kill_at_once(name)
    stream.progress()
    stream.cluster.restart(name)


def lose_all(stream: Stream) -> None:
    names = list(stream.cluster.addresses)
    stream.wait_for_commit()
    stream.cluster.kill_at_once(*names)
    with ThreadPoolExecutor(len(names)) as each:
        list(each.map(stream.cluster.restart, names))


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", USUAL, ids=lambda client: client.name)
def test_what_is_read_is_what_was_committed_whichever_brokers_die(
    mortal_cluster: Cluster, client: Client
) -> None:
    with streaming(mortal_cluster, client) as stream:
        for death in (*PLACES, ALL) if IS_LONG else USUAL[client]:
            stream.progress()
            if death == ALL:
                lose_all(stream)
            else:
                lose_one(stream, PLACES[death](mortal_cluster, stream.topic))
            wait_until_whole(mortal_cluster, stream.topic, "__transaction_state")
        stream.progress()
    judge(stream)


def judge(stream: Stream) -> None:
    read = [read_committed(stream, partition) for partition in range(PARTITIONS)]
    found = {int(value.split()[0]) for value in read[0]}
    assert found >= set(stream.committed)
    assert found <= {*stream.committed, *stream.unknown}
    for partition, there in enumerate(read):
        assert there == [each for number in sorted(found) for each in values(number, partition)]
    assert stream.aborted


def read_committed(stream: Stream, partition: int) -> list[str]:
    settings = {"bootstrap.servers": bootstrap(stream.cluster), "group.id": "judge"}
    settings |= {"isolation.level": "read_committed", "enable.auto.commit": "false"}
    consumer = Consumer(settings | {"enable.partition.eof": "true"})
    place = TopicPartition(stream.topic, partition, 0)
    read: list[str] = []

    def over() -> bool:
        """At the end, which is that of all records: what is open would be in the way."""
        _, end = consumer.get_watermark_offsets(place, timeout=30)
        for message in consumer.consume(1_000, 1.0):
            if message.error() is None:
                read.append(message.value().decode())
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF
                return bool(message.offset() >= end)
        return False

    try:
        consumer.assign([place])
        wait(over, f"the end of {stream.topic}-{partition}, after {len(read)} records", _DEADLINE_S)
    finally:
        consumer.close()
    return read
