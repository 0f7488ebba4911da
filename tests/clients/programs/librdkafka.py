"""confluent-kafka, which is librdkafka: see common.py for what is spoken here."""

from __future__ import annotations

from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from tests.clients.programs import common

_TIMEOUT_S = 30


def produce(ask: dict[str, Any]) -> None:
    producer = Producer(
        {
            "bootstrap.servers": ask["bootstrap"],
            "acks": ask["acks"],
            "compression.type": ask["codec"],
            "enable.idempotence": ask["idempotent"],
            "linger.ms": 5,
        }
    )

    def on_delivery(error: Any, message: Any) -> None:
        value = common.text(message.value())
        if error is not None:
            common.failed(value, error)
        else:
            common.acknowledged(value, message.partition(), message.offset())

    for record in common.records():
        if record is not None:
            producer.produce(
                ask["topic"],
                common.data(record.get("value")),
                common.data(record.get("key")),
                partition=-1 if record.get("partition") is None else record["partition"],
                timestamp=record.get("timestamp_ms") or 0,
                headers=[(name, value.encode()) for name, value in record.get("headers") or ()],
                on_delivery=on_delivery,
            )
        producer.poll(0)
    producer.flush()


def consume(ask: dict[str, Any]) -> None:
    settings = {"bootstrap.servers": ask["bootstrap"], "group.id": "unused"}
    if "isolation" in ask:
        settings["isolation.level"] = ask["isolation"]
    consumer = Consumer(settings | {"enable.auto.commit": False})
    begin = ask["from"]
    partition = TopicPartition(ask["topic"], ask["partition"])
    if begin == "earliest":
        partition.offset = OFFSET_BEGINNING
    elif begin == "latest":
        partition.offset = OFFSET_END
    elif "offset" in begin:
        partition.offset = begin["offset"]
    else:
        partition.offset = begin["timestamp_ms"]
        partition = consumer.offsets_for_times([partition], timeout=_TIMEOUT_S)[0]
    consumer.assign([partition])
    for _ in range(ask["count"]):
        while (message := consumer.poll(1.0)) is None:
            pass
        _emit(message)
    consumer.close()


def _emit(message: Any) -> None:
    if message.error() is not None:
        raise SystemExit(str(message.error()))
    common.emit_record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        message.headers(),
    )


def group(ask: dict[str, Any]) -> None:
    ending = common.asked_to_end()
    consumer = Consumer(
        {
            "bootstrap.servers": ask["bootstrap"],
            "group.id": ask["group"],
            "session.timeout.ms": ask["session_timeout_ms"],
            "heartbeat.interval.ms": 500,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )

    def on_change(_: Consumer, partitions: list[TopicPartition]) -> None:
        common.emit(assigned=sorted(each.partition for each in partitions))

    consumer.subscribe([ask["topic"]], on_assign=on_change)
    while not ending.is_set():
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            _emit(message)
            consumer.commit(message)
    consumer.close()


# --- transactions --------------------------------------------------------------------------------


class _Transactor:
    def __init__(self, ask: dict[str, Any]) -> None:
        self._bootstrap = ask["bootstrap"]
        self._producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "transactional.id": ask["id"],
                "transaction.timeout.ms": ask["timeout_ms"],
                "linger.ms": 5,
            }
        )
        self._consumer: Consumer | None = None

    def call(self, ask: dict[str, Any]) -> Any:
        return getattr(self, f"_{ask.pop('call')}")(**ask)

    def _init(self) -> None:
        self._producer.init_transactions(_TIMEOUT_S)

    def _begin(self) -> None:
        self._producer.begin_transaction()

    def _send(self, topic: str, partition: int, values: list[str]) -> None:
        problems: list[Any] = []

        def on_delivery(error: Any, _: Any) -> None:
            if error is not None:
                problems.append(error)

        for value in values:
            self._producer.produce(
                topic, common.data(value), partition=partition, on_delivery=on_delivery
            )
        self._producer.flush()
        if problems:
            raise KafkaException(problems[0])

    def _commit(self) -> None:
        self._producer.commit_transaction(_TIMEOUT_S)

    def _abort(self) -> None:
        self._producer.abort_transaction(_TIMEOUT_S)

    def _join(self, topic: str, group: str, session_timeout_ms: int) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": group,
                "session.timeout.ms": session_timeout_ms,
                "heartbeat.interval.ms": 500,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )
        self._consumer.subscribe([topic])

    def _poll(self, count: int) -> list[Any]:
        assert self._consumer is not None
        found: list[Any] = []
        while len(found) < count:
            message = self._consumer.poll(0.5)
            if message is not None and message.error() is None:
                value = common.text(message.value())
                found.append((message.partition(), message.offset(), value))
        return found

    def _send_offsets(self, topic: str, offsets: dict[str, int]) -> None:
        assert self._consumer is not None
        places = [TopicPartition(topic, int(number), offset) for number, offset in offsets.items()]
        self._producer.send_offsets_to_transaction(
            places, self._consumer.consumer_group_metadata(), _TIMEOUT_S
        )

    def _rewind(self) -> None:
        assert self._consumer is not None
        for place in self._consumer.committed(self._consumer.assignment(), timeout=_TIMEOUT_S):
            if place.offset < 0:
                place.offset = OFFSET_BEGINNING
            self._consumer.seek(place)


def transact(ask: dict[str, Any]) -> None:
    common.answer(_Transactor(ask).call, _then)


def _then(error: Exception) -> str:
    of = error.args[0] if isinstance(error, KafkaException) else None
    if of is None or of.fatal():
        return "die"
    return "retry" if of.retriable() else "abort"


# --- admin ---------------------------------------------------------------------------------------


def admin(ask: dict[str, Any]) -> None:
    client = AdminClient({"bootstrap.servers": ask["bootstrap"]})
    common.answer(lambda wanted: _CALLS[wanted["call"]](client, ask | wanted))


def _create_topic(client: AdminClient, ask: dict[str, Any]) -> None:
    topic = NewTopic(ask["topic"], ask["partitions"], ask["replication"], config=ask["configs"])
    client.create_topics([topic])[ask["topic"]].result(_TIMEOUT_S)


def _topics(client: AdminClient, ask: dict[str, Any]) -> dict[str, int]:
    found = client.list_topics(timeout=_TIMEOUT_S).topics
    return {name: len(topic.partitions) for name, topic in found.items()}


def _config(client: AdminClient, ask: dict[str, Any]) -> str:
    resource = ConfigResource("topic", ask["topic"])
    configs = client.describe_configs([resource])[resource].result(_TIMEOUT_S)
    return str(configs[ask["name"]].value)


def _set_config(client: AdminClient, ask: dict[str, Any]) -> None:
    entry = ConfigEntry(ask["name"], ask["value"], incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource("topic", ask["topic"], incremental_configs=[entry])
    client.incremental_alter_configs([resource])[resource].result(_TIMEOUT_S)


def _broker_config(client: AdminClient, ask: dict[str, Any]) -> str:
    resource = ConfigResource("broker", str(ask["broker"]))
    configs = client.describe_configs([resource])[resource].result(_TIMEOUT_S)
    return str(configs[ask["name"]].value)


def _set_broker_config(client: AdminClient, ask: dict[str, Any]) -> None:
    how = AlterConfigOpType.DELETE if ask["value"] is None else AlterConfigOpType.SET
    entry = ConfigEntry(ask["name"], ask["value"], incremental_operation=how)
    resource = ConfigResource("broker", str(ask["broker"]), incremental_configs=[entry])
    client.incremental_alter_configs([resource])[resource].result(_TIMEOUT_S)


def _add_partitions(client: AdminClient, ask: dict[str, Any]) -> None:
    wanted = NewPartitions(ask["topic"], ask["partitions"])
    client.create_partitions([wanted])[ask["topic"]].result(_TIMEOUT_S)


def _delete_topic(client: AdminClient, ask: dict[str, Any]) -> None:
    client.delete_topics([ask["topic"]])[ask["topic"]].result(_TIMEOUT_S)


def _delete_records(client: AdminClient, ask: dict[str, Any]) -> int:
    before = TopicPartition(ask["topic"], ask["partition"], ask["before"])
    (future,) = client.delete_records([before]).values()
    return int(future.result(_TIMEOUT_S).low_watermark)


def _offsets(client: AdminClient, ask: dict[str, Any]) -> list[int]:
    found = []
    for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):
        partition = TopicPartition(ask["topic"], ask["partition"])
        (future,) = client.list_offsets({partition: spec}).values()
        found.append(int(future.result(_TIMEOUT_S).offset))
    return found


def _groups(client: AdminClient, ask: dict[str, Any]) -> list[str]:
    return [each.group_id for each in client.list_consumer_groups().result(_TIMEOUT_S).valid]


def _group(client: AdminClient, ask: dict[str, Any]) -> dict[str, Any]:
    found = client.describe_consumer_groups([ask["group"]])[ask["group"]].result(_TIMEOUT_S)
    return {"state": found.state.name.title(), "members": len(found.members)}


def _committed(client: AdminClient, ask: dict[str, Any]) -> dict[str, int]:
    consumer = Consumer({"bootstrap.servers": ask["bootstrap"], "group.id": ask["group"]})
    count = _topics(client, ask)[ask["topic"]]
    wanted = [TopicPartition(ask["topic"], number) for number in range(count)]
    found = consumer.committed(wanted, timeout=_TIMEOUT_S)
    consumer.close()
    return {str(each.partition): each.offset for each in found if each.offset >= 0}


def _delete_group(client: AdminClient, ask: dict[str, Any]) -> None:
    client.delete_consumer_groups([ask["group"]])[ask["group"]].result(_TIMEOUT_S)


_CALLS = {
    "create_topic": _create_topic,
    "topics": _topics,
    "config": _config,
    "set_config": _set_config,
    "broker_config": _broker_config,
    "set_broker_config": _set_broker_config,
    "add_partitions": _add_partitions,
    "delete_topic": _delete_topic,
    "delete_records": _delete_records,
    "offsets": _offsets,
    "groups": _groups,
    "group": _group,
    "committed": _committed,
    "delete_group": _delete_group,
}

if __name__ == "__main__":
    asked = common.command()
    _does = {"produce": produce, "consume": consume, "group": group, "admin": admin}
    (_does | {"transact": transact})[asked["do"]](asked)
