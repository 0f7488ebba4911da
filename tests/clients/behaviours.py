"""What every Kafka client must be able to do; one file a client takes it over (test_kcat.py, …).

Topics and groups have names of their own for each test, so all share one cluster of three brokers.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from tests.clients import clients
from tests.clients.clients import Client, Document, Program
from tests.clients.cluster import Cluster, bootstrap, leader, wait
from tests.helpers.waiting import happens

_names = itertools.count()
SESSION_TIMEOUT_MS = 3_000
NOW_MS = 1_700_000_000_000


def numbered(begin: int, end: int, **more: Any) -> list[Document]:
    return [{"value": f"v{number}", **more} for number in range(begin, end)]


def values(begin: int, end: int) -> list[str]:
    return [f"v{number}" for number in range(begin, end)]


class Means:
    """What tests of a client do with it."""

    client: ClassVar[Client]

    @pytest.fixture(autouse=True)
    def _use(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.bootstrap = bootstrap(cluster)

    def topic(self, partitions: int = 1, **configs: str) -> str:
        name = f"{self.client.name}-{next(_names)}"
        self.cluster.create_topic(name, partitions, **configs)
        leader(self.cluster, name)
        return name

    def producer(
        self, topic: str, *, acks: str = "all", codec: str = "none", idempotent: bool = False
    ) -> Program:
        ask = {"topic": topic, "acks": acks, "codec": codec, "idempotent": idempotent}
        return self.client.start("produce", bootstrap=self.bootstrap, **ask)

    def produce(self, topic: str, records: list[Document], **how: Any) -> list[Document]:
        """Send, and see all acknowledged; returns the acknowledgements."""
        with self.producer(topic, **how) as program:
            program.send(records)
            program.finish()
        assert program.failed == []
        sent = [record.get("value") for record in records]
        assert sorted(map(str, program.acknowledged)) == sorted(map(str, sent))
        return program.documents

    def consumer(
        self,
        topic: str,
        count: int,
        begin: Any = "earliest",
        partition: int = 0,
        isolation: str | None = None,
    ) -> Program:
        ask = {"topic": topic, "partition": partition, "from": begin, "count": count}
        if isolation is not None:
            ask["isolation"] = isolation
        return self.client.start("consume", bootstrap=self.bootstrap, **ask)

    def consume(self, topic: str, count: int, *how: Any, **more: Any) -> list[Document]:
        with self.consumer(topic, count, *how, **more) as program:
            program.finish()
        return program.records


class Behaviours(Means):
    @pytest.fixture(scope="class")
    @classmethod
    def administrator(cls, cluster: Cluster) -> Iterator[Program]:
        """One for all tests of a client: a Java machine takes a second of CPU to start."""
        with cls.client.start("admin", bootstrap=bootstrap(cluster)) as program:
            yield program

    @pytest.fixture(autouse=True)
    def _administer(self, administrator: Program) -> None:
        self.admin = administrator.call

    def need(self, *calls: str) -> None:
        missing = set(calls) - self.client.calls
        if missing:
            pytest.skip(f"{self.client.name} has no {', '.join(sorted(missing))}")

    def member(self, topic: str, group: str) -> Program:
        ask = {"topic": topic, "group": group, "session_timeout_ms": SESSION_TIMEOUT_MS}
        return self.client.start("group", bootstrap=self.bootstrap, **ask)

    def offsets(self, topic: str, partition: int = 0) -> list[int]:
        return list(self.admin("offsets", topic=topic, partition=partition))

    # --- records ---------------------------------------------------------------------------------

    def test_keys_values_headers_and_timestamps_come_back_as_they_were_sent(self) -> None:
        topic = self.topic()
        sent: list[Document] = [
            {"value": "plain"},
            {"value": "with a key", "key": "k"},
            {"value": "grüße, 世界", "key": "schlüssel"},
            {"value": None, "key": "tombstone"},
            {"value": "with headers", "headers": [["a", "1"], ["b", "zwei"]]},
        ]
        if self.client.timestamps:
            sent.append({"value": "of old", "timestamp_ms": NOW_MS})
        before_ms = time.time() * 1000 - 1
        self.produce(topic, sent)
        found = self.consume(topic, len(sent))
        assert [record["offset"] for record in found] == list(range(len(sent)))
        for wanted, record in zip(sent, found, strict=True):
            assert record["value"] == wanted.get("value")
            assert record["key"] == wanted.get("key")
            assert record["headers"] == wanted.get("headers", [])
            if "timestamp_ms" in wanted:
                assert record["timestamp_ms"] == wanted["timestamp_ms"]
            else:
                assert before_ms <= record["timestamp_ms"] <= time.time() * 1000 + 1

    def test_every_codec_and_every_level_of_acknowledgement(self) -> None:
        topic = self.topic()
        expected: list[str] = []
        for codec in self.client.codecs:
            records = [{"value": f"{codec}-{number}-" + "x" * 200} for number in range(50)]
            self.produce(topic, records, codec=codec)
            expected += [record["value"] for record in records]
        for acks in ("1", "0"):
            self.produce(topic, [{"value": f"acks={acks}"}], acks=acks)
            expected.append(f"acks={acks}")
        assert [record["value"] for record in self.consume(topic, len(expected))] == expected

    def test_acknowledgements_tell_partition_and_offset(self) -> None:
        if not self.client.offsets:
            pytest.skip(f"{self.client.name} does not tell offsets")
        topic = self.topic(partitions=2)
        told = self.produce(topic, numbered(0, 20, partition=1), idempotent=True)
        found = [(each["acknowledged"], each["partition"], each["offset"]) for each in told]
        assert sorted(found, key=lambda each: each[2]) == [
            (value, 1, offset) for offset, value in enumerate(values(0, 20))
        ]

    def test_reading_begins_wherever_one_wants(self) -> None:
        topic = self.topic()
        at = (lambda number: {"timestamp_ms": NOW_MS + number}) if self.client.timestamps else None
        records = [{"value": f"v{n}", **(at(n) if at else {})} for n in range(100)]
        self.produce(topic, records)
        assert [each["value"] for each in self.consume(topic, 100)] == values(0, 100)
        # In the middle of a batch, too.
        found = self.consume(topic, 3, {"offset": 42})
        assert [(each["offset"], each["value"]) for each in found] == [
            (42, "v42"),
            (43, "v43"),
            (44, "v44"),
        ]
        if at:
            found = self.consume(topic, 1, {"timestamp_ms": NOW_MS + 57})
            assert found[0]["value"] == "v57"
        # From the end: nothing of what is there, but what comes. When that begins is not told, so
        # records keep coming.
        with self.consumer(topic, 1, "latest") as reading, self.producer(topic) as program:
            for number in range(100, 1_000):
                program.send(numbered(number, number + 1))
                if happens(lambda: reading.records, within_s=0.05):
                    break
            if self.client is clients.KCAT:
                program.finish()
            reading.wait_for_records(1)
        assert int(reading.values[0][1:]) >= 100

    def test_large_records_and_batches_that_exceed_a_fetch(self) -> None:
        topic = self.topic()
        big = [{"value": letter * 900_000} for letter in "abc"]
        self.produce(topic, big)
        found = self.consume(topic, 3)
        assert [each["value"] for each in found] == [each["value"] for each in big]

    def test_a_topic_that_is_not_there_is_made_by_the_first_record(self) -> None:
        topic = f"{self.client.name}-fresh-{next(_names)}"
        self.produce(topic, numbered(0, 3, partition=0))
        assert [each["value"] for each in self.consume(topic, 3)] == values(0, 3)

    def test_an_idempotent_producer_writes_each_record_once_and_in_order(self) -> None:
        topic = self.topic()
        self.produce(topic, numbered(0, 500), idempotent=True)
        assert [each["value"] for each in self.consume(topic, 500)] == values(0, 500)

    # --- groups ----------------------------------------------------------------------------------

    def test_a_group_goes_on_where_it_was(self) -> None:
        topic, group = self.topic(partitions=3), f"group-{next(_names)}"
        self.produce(topic, [{"value": f"v{n}", "partition": n % 3} for n in range(30)])
        with self.member(topic, group) as first:
            first.wait_for_records(30)
            assert sorted(first.values) == sorted(values(0, 30))
            first.leave()
        self.produce(topic, [{"value": f"v{n}", "partition": n % 3} for n in range(30, 36)])
        with self.member(topic, group) as second:
            second.wait_for_records(6)
            assert sorted(second.values) == sorted(values(30, 36))
            second.leave()

    def test_members_share_the_partitions_come_leave_and_crash(self) -> None:
        topic, group = self.topic(partitions=4), f"group-{next(_names)}"
        everything, half = [0, 1, 2, 3], 2
        with self.member(topic, group) as first:
            first.wait_for_assignment(lambda got: got == everything)
            with self.member(topic, group) as second, self.producer(topic) as program:
                second.wait_for_assignment(lambda got: len(got) == half)
                first.wait_for_assignment(lambda got: len(got) == half)
                assert set(first.assigned or ()).isdisjoint(second.assigned or ())
                program.send({"value": f"v{n}", "partition": n % 4} for n in range(40))
                program.finish()
                wait(lambda: len({*first.values, *second.values}) == 40, "all records")
                assert first.values
                assert second.values
                second.leave()
                first.wait_for_assignment(lambda got: got == everything)
            with self.member(topic, group) as third:
                third.wait_for_assignment(lambda got: len(got) == half)
                first.wait_for_assignment(lambda got: len(got) == half)
                first.crash()
                third.wait_for_assignment(lambda got: got == everything)
                self.produce(topic, [{"value": f"v{n}", "partition": n % 4} for n in range(40, 48)])
                wait(lambda: set(values(40, 48)) <= {*third.values}, "the records after a crash")
                third.leave()

    def test_a_group_can_be_looked_at_and_deleted(self) -> None:
        self.need("groups", "group", "committed")
        topic, group = self.topic(partitions=1), f"group-{next(_names)}"
        self.produce(topic, numbered(0, 5))
        with self.member(topic, group) as member:
            member.wait_for_records(5)
            wait(
                lambda: self.admin("group", group=group) == {"state": "Stable", "members": 1}, group
            )
            assert group in self.admin("groups")
            wait(
                lambda: self.admin("committed", group=group, topic=topic) == {"0": 5},
                "a commit of 5",
            )
            member.leave()
        if "delete_group" in self.client.calls:
            self.admin("delete_group", group=group)
            wait(lambda: group not in self.admin("groups"), f"{group} to be gone")

    # --- administration --------------------------------------------------------------------------

    def test_topics_are_made_changed_and_deleted(self) -> None:
        self.need(
            "create_topic", "topics", "config", "set_config", "add_partitions", "delete_topic"
        )
        topic = f"{self.client.name}-made-{next(_names)}"
        configs = {"retention.ms": "3600000"}
        self.admin("create_topic", topic=topic, partitions=2, replication=3, configs=configs)
        wait(lambda: self.admin("topics").get(topic) == 2, f"{topic} with two partitions")
        assert self.admin("config", topic=topic, name="retention.ms") == "3600000"
        self.admin("set_config", topic=topic, name="retention.ms", value="7200000")
        wait(
            lambda: self.admin("config", topic=topic, name="retention.ms") == "7200000",
            "the changed retention",
        )
        self.admin("add_partitions", topic=topic, partitions=4)
        wait(lambda: self.admin("topics").get(topic) == 4, f"{topic} with four partitions")
        self.produce(topic, numbered(0, 3, partition=3))
        assert [each["value"] for each in self.consume(topic, 3, partition=3)] == values(0, 3)
        self.admin("delete_topic", topic=topic)
        wait(lambda: topic not in self.admin("topics"), f"{topic} to be gone")

    def test_settings_of_a_broker_and_of_all_brokers_are_altered_while_they_run(self) -> None:
        self.need("broker_config", "set_broker_config")
        name = "log.segment.delete.delay.ms"

        def value(broker: int) -> Any:
            return self.admin("broker_config", broker=broker, name=name)

        defaults = [value(broker) for broker in (1, 2, 3)]
        try:
            self.admin("set_broker_config", broker=2, name=name, value="61001")
            wait(lambda: value(2) == "61001", "the setting of broker 2")
            assert [value(1), value(3)] == [defaults[0], defaults[2]]
            if "set_broker_default" in self.client.calls:
                self.admin("set_broker_default", name=name, value="61002")
                expected = ["61002", "61001", "61002"]
                wait(
                    lambda: [value(broker) for broker in (1, 2, 3)] == expected,
                    "the setting of all brokers",
                )
            with pytest.raises(AssertionError, match="set_broker_config"):
                self.admin("set_broker_config", broker=2, name=name, value="soon")
            with pytest.raises(AssertionError, match="set_broker_config"):
                self.admin("set_broker_config", broker=2, name="zookeeper.connect", value="x:1")
            assert value(2) == "61001"
        finally:
            self.admin("set_broker_config", broker=2, name=name, value=None)
            if "set_broker_default" in self.client.calls:
                self.admin("set_broker_default", name=name, value=None)
        wait(lambda: [value(b) for b in (1, 2, 3)] == defaults, "the settings as they were")

    def test_offsets_of_a_partition(self) -> None:
        self.need("offsets")
        topic = self.topic()
        assert self.offsets(topic) == [0, 0]
        self.produce(topic, numbered(0, 10))
        assert self.offsets(topic) == [0, 10]

    def test_records_can_be_deleted_up_to_an_offset(self) -> None:
        self.need("delete_records", "offsets")
        topic = self.topic()
        self.produce(topic, numbered(0, 10))
        assert self.admin("delete_records", topic=topic, partition=0, before=4) == 4
        assert self.offsets(topic) == [4, 10]
        assert [each["value"] for each in self.consume(topic, 6)] == values(4, 10)
