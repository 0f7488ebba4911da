"""A client that means well, while others lie: what it is told, how long it waits, what it reads."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

TOPIC = "honest"
PARTITIONS = 3
_EVERY_S = 0.02
_LAST_S = 60.0


@dataclass
class Honest:
    """Sends numbered records, one at a time to each partition in turn, and reads them meanwhile.

    `slowest_ms`: from the sending of a record to its acknowledgement, or from that to its reading.
    """

    bootstrap: str
    acknowledged: dict[int, float] = field(default_factory=dict)  # monotonic seconds, by number
    read: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for run in (self._produce, self._consume):
            thread = threading.Thread(target=self._guarded, args=(run,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def finish(self) -> None:
        """No more records; what was sent is waited for, and read to its end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(3 * _LAST_S)
            if thread.is_alive():
                self.problems.append("the honest client does not come to an end")
        unread = sorted(set(self.acknowledged) - set(self.read))
        if unread:
            self.problems.append(f"{len(unread)} acknowledged were not read, from {unread[0]} on")
        if len(set(self.read)) != len(self.read):
            twice = len(self.read) - len(set(self.read))
            self.problems.append(f"{twice} were read twice")

    def _guarded(self, run: Any) -> None:
        try:
            run()
        except Exception as error:  # told with the findings
            self.problems.append(f"the honest client: {error!r}")

    def _produce(self) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "acks": "all",
                "linger.ms": 0,
                "enable.idempotence": True,
                "message.timeout.ms": int(_LAST_S * 1_000),
                "log_level": 0,
            }
        )
        number = 0
        while not self._stop.is_set():
            producer.produce(
                TOPIC,
                b"%d" % number,
                partition=number % PARTITIONS,
                on_delivery=self._delivered(number, time.monotonic()),
            )
            number += 1
            producer.poll(0)
            self._stop.wait(_EVERY_S)
            producer.poll(0)
        producer.flush(_LAST_S)

    def _delivered(self, number: int, sent: float) -> Any:
        def told(error: Any, _: Any) -> None:
            now = time.monotonic()
            self.slowest_ms = max(self.slowest_ms, (now - sent) * 1_000)
            if error is not None:
                self.problems.append(f"record {number} was refused: {error}")
            else:
                self.acknowledged[number] = now

        return told

    def _consume(self) -> None:
        settings = {"bootstrap.servers": self.bootstrap, "group.id": "honest", "log_level": 0}
        consumer = Consumer(settings | {"enable.auto.commit": False})
        consumer.assign([TopicPartition(TOPIC, each, 0) for each in range(PARTITIONS)])
        patience: float | None = None
        while True:
            message = consumer.poll(0.1)
            now = time.monotonic()
            if message is not None and message.error() is None:
                number = int(message.value())
                self.read.append(number)
                # The acknowledgement may be on its way yet.
                since = now - self.acknowledged.get(number, now)
                self.slowest_ms = max(self.slowest_ms, since * 1_000)
            if self._stop.is_set() and not self._threads[0].is_alive():
                patience = now + _LAST_S if patience is None else patience
                if len(set(self.read)) >= len(self.acknowledged) or now > patience:
                    break
        consumer.close()
