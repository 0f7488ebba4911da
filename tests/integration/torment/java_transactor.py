"""Transactions by Apache Kafka's Java client, a program of tests/clients: that of 3.9 speaks the
first version of the protocol, that of 4 the second. They are absent where Java or their jars are:
nothing is fetched here.

Each has one transactional id. A producer ends now and then, or is left in the middle of a
transaction: when the next one has taken the id over, it is asked to commit after all.

State of a transactor: the programs that run, which end with it.
"""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor

from minikafka.errors import UsageError
from minikafka.model import TopicPartition
from tests.clients.clients import JAVA, JAVA_4, Client, Program
from tests.helpers import kafka_java
from tests.helpers.waiting import happens
from tests.integration.torment.attempts import (
    ABORTED,
    CALL_MS,
    COMMITTED,
    PARTITIONS,
    TIMEOUT_MS,
    TOPIC,
    Attempt,
    Attempts,
)
from tests.integration.torment.values import encode

_PROPERTIES = {
    "max.block.ms": str(CALL_MS),
    "delivery.timeout.ms": str(TIMEOUT_MS),
    "request.timeout.ms": "5000",
    "reconnect.backoff.max.ms": "1000",
}
_ANSWER_S = 60.0  # no call of it lasts as long
_TRIES = 3
_LIFE = (10, 30)  # transactions of a producer: it takes seconds to begin
_END = {COMMITTED: "commit", ABORTED: "abort"}
_DONE, _RETRY, _DIE = "", "retry", "die"


def available() -> tuple[list[Client], list[str]]:
    """Those that can be started here, compiled; and what to say of the others."""
    found, absent = [], []
    for client, version in ((JAVA, kafka_java.VERSION), (JAVA_4, kafka_java.VERSION_4)):
        try:
            if not kafka_java.is_fetched(version):
                raise UsageError(f"the jars of Apache Kafka {version} have not been fetched")
            client.command()
            found.append(client)
        except UsageError as error:
            absent.append(f"no transactions by Java {version}: {error}")
    return found, absent


class JavaTransactor:
    """One transaction after the other, in a thread of its own."""

    def __init__(
        self, client: Client, bootstrap: str, attempts: Attempts, rng: random.Random
    ) -> None:
        self._client = client
        self._bootstrap = bootstrap
        self._attempts = attempts
        self._rng = rng
        self._running: list[Program] = []

    async def run(self, stop: threading.Event) -> None:
        with ThreadPoolExecutor(1, self._client.name) as own:
            await asyncio.get_running_loop().run_in_executor(own, self._work, stop)

    def _work(self, stop: threading.Event) -> None:
        producer = None
        try:
            while not stop.is_set():
                producer = producer or self._begun(stop)
                if producer is not None:
                    producer = self._live(producer, stop)
        finally:
            while self._running:
                self._end(self._running[0])

    def _live(self, producer: Program, stop: threading.Event) -> Program | None:
        """Up to where this one ends; returns who has taken its id over, if there is one."""
        for _ in range(self._rng.randint(*_LIFE)):
            if stop.is_set():
                return None
            if not self._transact(producer):
                self._end(producer)
                return None
        if self._rng.random() < 0.5:
            return self._taken_over(producer, stop)
        self._end(producer)
        return None

    def _begun(self, stop: threading.Event) -> Program | None:
        """With its transactional id. None: told to stop."""
        while not stop.is_set():
            producer = self._client.start(
                "transact",
                bootstrap=self._bootstrap,
                id=self._client.name,
                timeout_ms=TIMEOUT_MS,
                properties=_PROPERTIES,
            )
            self._running.append(producer)
            then = _RETRY
            while then == _RETRY and not stop.is_set():
                then = self._ask(producer, "init")
            if then == _DONE:
                return producer
            self._end(producer)
        return None

    def _end(self, producer: Program) -> None:
        self._running.remove(producer)
        producer.__exit__()

    def _taken_over(self, zombie: Program, stop: threading.Event) -> Program | None:
        """By the next one, in the middle of a transaction."""
        attempt = self._attempts.begin(self._client.name)
        left_open = self._write(zombie, attempt, PARTITIONS[:2], 1) == _DONE
        successor = self._begun(stop)
        if left_open and successor is not None and self._ask(zombie, "commit") == _DONE:
            attempt.outcome = COMMITTED  # which is wrong, and will be missed
        self._end(zombie)
        return successor

    def _transact(self, producer: Program) -> bool:
        """Whether this producer can go on."""
        attempt = self._attempts.begin(self._client.name)
        wanted = COMMITTED if self._rng.random() < 0.7 else ABORTED
        partitions = self._rng.sample(PARTITIONS, self._rng.choice((1, 2, 2, 3)))
        then = self._write(producer, attempt, partitions, self._rng.randint(1, 3))
        if then == _DONE:
            then = self._ask(producer, _END[wanted])
        if then == _DONE:
            attempt.outcome = wanted
            return True
        if then == _DIE or self._ask(producer, "abort") != _DONE:
            return False
        attempt.outcome = ABORTED
        return True

    def _write(
        self, producer: Program, attempt: Attempt, partitions: list[TopicPartition], count: int
    ) -> str:
        then = self._ask(producer, "begin")
        for each in partitions:
            if then == _DONE:
                values = [encode(attempt.next_value(each)).decode() for _ in range(count)]
                ask = {"topic": TOPIC, "partition": each.partition, "values": values}
                then = self._ask(producer, "send", **ask)
        return then

    def _ask(self, producer: Program, call: str, **ask: object) -> str:
        """What is to be done then. What has been sent is not sent again. Raises TimeoutError if it
        does not answer, and OSError if it has ended."""
        then = _RETRY
        for _ in range(1 if call == "send" else _TRIES):
            before = len(producer.documents)
            producer.send([{"call": call, **ask}])
            if not happens(lambda: len(producer.documents) > before, _ANSWER_S):  # noqa: B023
                raise TimeoutError(f"{producer} has no answer to {call}: {producer.errors()}")
            answer = producer.documents[before]
            then = str(answer.get("then", _DONE))
            if then != _RETRY:
                break
        return then
