"""Configuration management: setData, and a watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikafka.lab.narrator import plural
from minikafka.lab.scenario import Proofs, Scenario, step

if TYPE_CHECKING:
    from minikafka.client import Producer

TOPIC = "settings"
BIG = b"x" * 5_000


class TopicConfig(Scenario):
    name = "topic-config"
    title = "A setting changes, and everybody hears of it"
    slide = "Configuration Management"
    says = (
        "The administrator writes a znode with setData. The consumer has read it with getData and "
        "a watch, and is notified. In minikafka a topic's settings are in /config/topics/<topic>. "
        "So that a broker need not watch one znode for each topic, a change is also announced: a "
        "sequential znode under /config/changes, whose children every broker watches."
    )
    notice = (
        "the watch carries no data. It says that there is something new, and the broker reads. So "
        "it does not matter if several changes come before it looks: it reads the newest."
    )
    commands = (
        "minikafka up --detach && minikafka topics create t",
        "minikafka topics alter t --config max.message.bytes=2000",
        "minikafka zk tree /config",
        "minikafka topics describe t --configs --format json",
        "minikafka down",
    )

    @step("Create a topic and write a record of 5000 bytes.", "The leader takes it.", record="")
    def create(self) -> Proofs:
        self.say(self.stage.create_topic(TOPIC, [1, 2, 3]))
        self.pids = [self.stage.pid(each) for each in self.stage.broker_ids]
        self.producer = self.stage.producer(acks="all", delivery_timeout_ms=20_000)
        offset = self.producer.send(TOPIC, BIG).result(25).offset
        yield offset == 0, f"it is at offset {offset}"

    @step(
        "Set max.message.bytes=2000 for the topic.",
        "Every broker has the new value.",
        "The leader refuses the next record of 5000 bytes.",
        "Nobody was started again for that.",
    )
    def alter(self) -> Proofs:
        self.admin = self.stage.admin()
        self.admin.alter_topic_config(TOPIC, {"max.message.bytes": "2000"})
        yield True, self._until_all_have("2000")
        yield True, self.stage.until(lambda: refusal(self.producer, TOPIC), "a refusal")
        now = [self.stage.pid(each) for each in self.stage.broker_ids]
        yield now == self.pids, f"processes {', '.join(map(str, now))}, as before"

    @step(
        "Take the setting away again.",
        "Every broker is back at the default, and the record is taken.",
    )
    def back(self) -> Proofs:
        self.admin.alter_topic_config(TOPIC, {"max.message.bytes": None})
        seen = self._until_all_have(None)
        # A broker says what it has read a moment before its logs go by it.
        self.stage.until(lambda: not refusal(self.producer, TOPIC), "the record to be taken")
        yield len(self.stage.read_all(TOPIC)) > 1, f"{seen}; and the record is there"

    def _until_all_have(self, wanted: str | None) -> str:
        """Wait until every broker has this value, or with None the default; returns who has."""
        from minikafka.client import Admin

        def is_so_at(broker_id: int) -> bool:
            with Admin(self.stage.faults.broker(broker_id).grpc) as admin:
                entry = next(
                    each
                    for each in admin.describe_topic_configs(TOPIC)
                    if each.name == "max.message.bytes"
                )
            return entry.is_default if wanted is None else entry.value == wanted

        ids = self.stage.broker_ids
        told = wanted or "the default"
        self.stage.until(lambda: all(is_so_at(each) for each in ids), f"{told} at every broker")
        return f"{self.stage.names(ids)} have {told}"


class BrokerConfig(Scenario):
    name = "broker-config"
    title = "A setting for all brokers, and who wins"
    slide = "Configuration Management"
    says = (
        "The same for brokers: /config/brokers/<id> has the settings of one, and "
        "/config/brokers/<default> those of all. A broker watches, and applies what it reads while "
        "it runs. A topic's own setting wins over that of its broker, this over that of all, and "
        "that over the file with which the broker was started."
    )
    notice = (
        "ZooKeeper holds what somebody has set, and nothing else. What counts in the end is worked "
        "out by each broker from all of it, so taking a setting away is enough to undo it."
    )
    commands = (
        "minikafka up --detach && minikafka topics create t",
        "minikafka configs alter --broker-default --set message.max.bytes=2000",
        "minikafka configs describe --broker A",
        "minikafka zk tree /config",
        "minikafka down",
    )
    topic = "winner"

    @step(
        "Set message.max.bytes=2000 for all brokers.",
        "Every broker has it, and none was started again.",
        "A record of 5000 bytes is refused, although its topic has no setting of its own.",
    )
    def for_all(self) -> Proofs:
        self.say(self.stage.create_topic(self.topic, [1, 2, 3]))
        pids = [self.stage.pid(each) for each in self.stage.broker_ids]
        self.admin = self.stage.admin()
        self.producer = self.stage.producer(acks="all", delivery_timeout_ms=20_000)
        self.admin.alter_broker_config(None, {"message.max.bytes": "2000"})
        self._until_all_have("2000")
        now = [self.stage.pid(each) for each in self.stage.broker_ids]
        yield now == pids, f"processes {', '.join(map(str, now))}, as before"
        yield True, self.stage.until(lambda: refusal(self.producer, self.topic), "a refusal")

    @step(
        "Set max.message.bytes=10000 for the topic.",
        "The topic's own setting wins: the record is taken.",
    )
    def for_the_topic(self) -> Proofs:
        self.admin.alter_topic_config(self.topic, {"max.message.bytes": "10000"})
        self.stage.until(
            lambda: not refusal(self.producer, self.topic), "the leader to take the record"
        )
        count = len(self.stage.read_all(self.topic))
        yield count > 0, f"{plural(count, 'record')} of 5000 bytes in the topic"

    @step(
        "Take the setting of all brokers away.",
        "Every broker is back at what it was started with.",
    )
    def back(self) -> Proofs:
        self.admin.alter_broker_config(None, {"message.max.bytes": None})
        self.stage.until(lambda: "2000" not in self._values(), "no broker to have 2000 any more")
        yield len(set(self._values())) == 1, f"message.max.bytes is {self._values()[0]} everywhere"

    def _values(self) -> list[str]:
        """Of message.max.bytes, at each broker."""
        return [
            entry.value or ""
            for each in self.stage.broker_ids
            for entry in self.admin.describe_broker_configs(each)
            if entry.name == "message.max.bytes"
        ]

    def _until_all_have(self, value: str) -> None:
        self.stage.until(lambda: set(self._values()) == {value}, f"{value} at every broker")


def refusal(producer: Producer, topic: str) -> str:
    """What the leader says of a record of 5000 bytes; empty if it takes it."""
    from minikafka.errors import MessageTooLargeError

    try:
        producer.send(topic, BIG).result(25)
    except MessageTooLargeError as error:
        return error.message
    return ""
