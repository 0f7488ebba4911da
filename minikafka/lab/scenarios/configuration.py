"""Configuration management: setData, and a watch."""

from __future__ import annotations

from minikafka.lab.scenario import Proofs, Scenario, step

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
        yield self._refuses_big()
        now = [self.stage.pid(each) for each in self.stage.broker_ids]
        yield now == self.pids, f"processes {', '.join(map(str, now))}, as before"

    @step(
        "Take the setting away again.",
        "Every broker is back at the default, and the record is taken.",
    )
    def back(self) -> Proofs:
        self.admin.alter_topic_config(TOPIC, {"max.message.bytes": None})
        seen = self._until_all_have(None)
        offset = self.producer.send(TOPIC, BIG).result(25).offset
        yield offset > 0, f"{seen}; the record is at offset {offset}"

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

    def _refuses_big(self) -> tuple[bool, str]:
        from minikafka.errors import MessageTooLargeError

        def refused() -> str:
            try:
                self.producer.send(TOPIC, BIG).result(25)
            except MessageTooLargeError as error:
                return error.message
            return ""

        return True, self.stage.until(refused, "the leader to refuse the record")
