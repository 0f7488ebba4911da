"""What every Kafka client with transactions must be able to do; its file takes it over.

What is aborted leaves no trace that can be waited for. So each test that reads ends with a record
of an idempotent producer, and the reader is asked for exactly as many records as there must be:
one too many of what was aborted, and the last one is missing.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from tests.clients.behaviours import SESSION_TIMEOUT_MS, Means, numbered
from tests.clients.clients import Program, Transactions

_names = itertools.count()
_TIMEOUT_MS = 60_000
_SHORT_TIMEOUT_MS = 1_500


class TransactionBehaviours(Means):
    @property
    def words(self) -> Transactions:
        assert self.client.transactions is not None
        return self.client.transactions

    def transactor(self, name: str, timeout_ms: int = _TIMEOUT_MS) -> Program:
        ask = {"id": name, "timeout_ms": timeout_ms}
        return self.client.start("transact", bootstrap=self.bootstrap, **ask)

    def end(self, topic: str, partitions: int = 1) -> None:
        records = [{"value": "end", "partition": number} for number in range(partitions)]
        self.produce(topic, records, idempotent=True)

    def read(self, topic: str, count: int, isolation: str, partition: int = 0) -> list[str]:
        found = self.consume(topic, count, partition=partition, isolation=isolation)
        return [each["value"] for each in found]

    def read_committed(self, topic: str, count: int, partition: int = 0) -> list[str]:
        return self.read(topic, count, "read_committed", partition)

    def test_what_is_committed_is_read_and_what_is_aborted_is_not(self) -> None:
        topic, expected = self.topic(partitions=2), {"committed": ["end"], "all": ["end"]}
        with self.transactor(f"id-{topic}") as program:
            program.call("init")
            for number in range(6):
                program.call("begin")
                sent = [f"{number}-{each}" for each in range(3)]
                for partition in (0, 1):
                    program.call("send", topic=topic, partition=partition, values=sent)
                aborted = number in (1, 4)
                program.call("abort" if aborted else "commit")
                expected["all"][-1:-1] = sent
                if not aborted:
                    expected["committed"][-1:-1] = sent
        self.end(topic, partitions=2)
        for partition in (0, 1):
            assert self.read_committed(topic, 13, partition) == expected["committed"]
        assert self.read(topic, 19, "read_uncommitted") == expected["all"]

    def test_a_second_producer_with_the_same_id_fences_the_first(self) -> None:
        topic = self.topic()
        with self.transactor(f"id-{topic}") as first, self.transactor(f"id-{topic}") as second:
            for program, value in ((first, "of the first"), (second, "of the second")):
                program.call("init")
                program.call("begin")
                program.call("send", topic=topic, partition=0, values=[value])
            refused(first, "commit", self.words.fenced)
            second.call("commit")
            assert "error" in first.answer("commit")
        self.end(topic)
        assert self.read_committed(topic, 2) == ["of the second", "end"]

    def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_hears_it(self) -> None:
        topic = self.topic()
        with self.transactor(f"id-{topic}", _SHORT_TIMEOUT_MS) as late:
            late.call("init")
            late.call("begin")
            late.call("send", topic=topic, partition=0, values=["late"])
            self.end(topic)
            # It comes when nothing before it is open any more.
            assert self.read_committed(topic, 1) == ["end"]
            refused(late, "commit", self.words.timed_out)
        with self.transactor(f"id-{topic}") as another:
            another.call("init")
            another.call("begin")
            another.call("send", topic=topic, partition=0, values=["in time"])
            another.call("commit")
        assert self.read_committed(topic, 2) == ["end", "in time"]

    # --- read, change, write ---------------------------------------------------------------------

    def test_what_is_read_and_written_in_transactions_is_written_once(self) -> None:
        source, target = self.topic(partitions=2), self.topic(partitions=2)
        records = [record | {"partition": n % 2} for n, record in enumerate(numbered(0, 24))]
        self.produce(source, records, idempotent=True)
        committed = {0: 0, 1: 0}
        with self.transactor(f"id-{target}") as first:
            self.join(first, source)
            committed |= self.step(first, source, target, 6, "commit")
            self.step(first, source, target, 6, "abort")
            first.call("rewind")
            committed |= self.step(first, source, target, 6, "commit")
            self.step(first, source, target, 6)
            first.crash()
        with self.transactor(f"id-{target}") as second:
            self.join(second, source)
            found = second.call("poll", count=24 - sum(committed.values()))
            begins = {number: min(o for n, o, _ in found if n == number) for number, *_ in found}
            assert begins == {number: offset for number, offset in committed.items() if offset < 12}
            self.write(second, source, target, found, "commit")
        self.end(target, partitions=2)
        for partition in (0, 1):
            found = self.read_committed(target, 13, partition)
            assert found == [f"changed v{n}" for n in range(partition, 24, 2)] + ["end"]

    def join(self, program: Program, source: str) -> None:
        program.call("init")
        group = {"group": f"of-{source}", "session_timeout_ms": SESSION_TIMEOUT_MS}
        program.call("join", topic=source, **group)

    def step(
        self, program: Program, source: str, target: str, count: int, end: str | None = None
    ) -> dict[int, int]:
        found = program.call("poll", count=count)
        return self.write(program, source, target, found, end)

    def write(
        self, program: Program, source: str, target: str, found: list[Any], end: str | None
    ) -> dict[int, int]:
        """One transaction; returns the offsets, by partition."""
        program.call("begin")
        offsets: dict[int, int] = {}
        for partition in (0, 1):
            values = [f"changed {value}" for number, _, value in found if number == partition]
            if values:
                program.call("send", topic=target, partition=partition, values=values)
                offsets[partition] = 1 + max(o for n, o, _ in found if n == partition)
        told = {str(partition): offset for partition, offset in offsets.items()}
        program.call("send_offsets", topic=source, offsets=told)
        if end is not None:
            program.call(end)
        return offsets


def refused(program: Program, call: str, pattern: str, **ask: Any) -> None:
    answer = program.answer(call, **ask)
    assert re.search(pattern, answer.get("error", "")), f"{program}, {call}: {answer}"
