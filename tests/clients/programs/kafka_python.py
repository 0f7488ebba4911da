"""kafka-python: see common.py for what is spoken here."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from kafka import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    TopicPartition,
)
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError, KafkaTimeoutError, ProducerFencedError

from tests.clients.programs import common


def produce(ask: dict[str, Any]) -> None:
    producer = KafkaProducer(
        bootstrap_servers=ask["bootstrap"],
        acks={"0": 0, "1": 1, "all": "all"}[ask["acks"]],
        compression_type=None if ask["codec"] == "none" else ask["codec"],
        enable_idempotence=ask["idempotent"],
        linger_ms=5,
    )
    for record in common.records():
        if record is None:
            continue
        value = record.get("value")

        def on_success(metadata: Any, value: str | None = value) -> None:
            common.acknowledged(value, metadata.partition, metadata.offset)

        def on_failure(error: BaseException, value: str | None = value) -> None:
            common.failed(value, error)

        future = producer.send(
            ask["topic"],
            value=common.data(value),
            key=common.data(record.get("key")),
            headers=[(name, each.encode()) for name, each in record.get("headers") or ()],
            partition=record.get("partition"),
            timestamp_ms=record.get("timestamp_ms"),
        )
        future.add_callback(on_success)
        future.add_errback(on_failure)
    producer.flush()
    producer.close()


def consume(ask: dict[str, Any]) -> None:
    isolation = {"isolation_level": ask["isolation"]} if "isolation" in ask else {}
    consumer = KafkaConsumer(bootstrap_servers=ask["bootstrap"], **isolation)
    partition = TopicPartition(ask["topic"], ask["partition"])
    consumer.assign([partition])
    begin = ask["from"]
    if begin == "earliest":
        consumer.seek_to_beginning(partition)
    elif begin == "latest":
        consumer.seek_to_end(partition)
    elif "offset" in begin:
        consumer.seek(partition, begin["offset"])
    else:
        found = consumer.offsets_for_times({partition: begin["timestamp_ms"]})
        consumer.seek(partition, found[partition].offset)
    for _ in range(ask["count"]):
        _emit(next(consumer))
    consumer.close()


def _emit(record: Any) -> None:
    common.emit_record(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        record.headers,
    )


class _Changes(ConsumerRebalanceListener):
    def on_partitions_revoked(self, revoked: Any) -> None:
        pass

    def on_partitions_assigned(self, assigned: Any) -> None:
        common.emit(assigned=sorted(each.partition for each in assigned))


def group(ask: dict[str, Any]) -> None:
    ending = common.asked_to_end()
    consumer = KafkaConsumer(
        bootstrap_servers=ask["bootstrap"],
        group_id=ask["group"],
        session_timeout_ms=ask["session_timeout_ms"],
        heartbeat_interval_ms=500,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    consumer.subscribe([ask["topic"]], listener=_Changes())
    while not ending.is_set():
        found = consumer.poll(timeout_ms=200)
        for records in found.values():
            for record in records:
                _emit(record)
        if found:
            # It does not try again when the coordinator dies meanwhile; the next commit has it all.
            with suppress(KafkaError):
                consumer.commit()
    consumer.close()


# --- transactions --------------------------------------------------------------------------------


class _Transactor:
    def __init__(self, ask: dict[str, Any]) -> None:
        self._bootstrap = ask["bootstrap"]
        self._producer = KafkaProducer(
            bootstrap_servers=self._bootstrap,
            transactional_id=ask["id"],
            transaction_timeout_ms=ask["timeout_ms"],
            linger_ms=5,
        )
        self._consumer: KafkaConsumer | None = None

    def call(self, ask: dict[str, Any]) -> Any:
        return getattr(self, f"_{ask.pop('call')}")(**ask)

    def _init(self) -> None:
        self._producer.init_transactions()

    def _begin(self) -> None:
        self._producer.begin_transaction()

    def _send(self, topic: str, partition: int, values: list[str]) -> None:
        sent = [
            self._producer.send(topic, common.data(value), partition=partition) for value in values
        ]
        self._producer.flush()
        for each in sent:
            each.get(timeout=30)

    def _commit(self) -> None:
        self._producer.commit_transaction()

    def _abort(self) -> None:
        self._producer.abort_transaction()

    def _join(self, topic: str, group: str, session_timeout_ms: int) -> None:
        self._consumer = KafkaConsumer(
            topic,
            bootstrap_servers=self._bootstrap,
            group_id=group,
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=500,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
        )

    def _poll(self, count: int) -> list[Any]:
        assert self._consumer is not None
        found = [next(self._consumer) for _ in range(count)]
        return [(each.partition, each.offset, common.text(each.value)) for each in found]

    def _send_offsets(self, topic: str, offsets: dict[str, int]) -> None:
        assert self._consumer is not None
        places = {
            TopicPartition(topic, int(number)): OffsetAndMetadata(offset, "", -1)
            for number, offset in offsets.items()
        }
        self._producer.send_offsets_to_transaction(places, self._consumer.group_metadata())

    def _rewind(self) -> None:
        assert self._consumer is not None
        for partition in self._consumer.assignment():
            offset = self._consumer.committed(partition)
            if offset is None:
                self._consumer.seek_to_beginning(partition)
            else:
                self._consumer.seek(partition, offset)


def transact(ask: dict[str, Any]) -> None:
    common.answer(_Transactor(ask).call, _then)


def _then(error: Exception) -> str:
    if isinstance(error, ProducerFencedError):
        return "die"
    return "retry" if isinstance(error, KafkaTimeoutError) else "abort"


# --- admin ---------------------------------------------------------------------------------------


def admin(ask: dict[str, Any]) -> None:
    client = KafkaAdminClient(bootstrap_servers=ask["bootstrap"])
    common.answer(lambda wanted: _CALLS[wanted["call"]](client, ask | wanted))
    client.close()


def _create_topic(client: KafkaAdminClient, ask: dict[str, Any]) -> None:
    client.create_topics(
        [
            NewTopic(
                ask["topic"], ask["partitions"], ask["replication"], topic_configs=ask["configs"]
            )
        ]
    )


def _topics(client: KafkaAdminClient, ask: dict[str, Any]) -> dict[str, int]:
    return {each["name"]: len(each["partitions"]) for each in client.describe_topics()}


def _resource(ask: dict[str, Any], configs: dict[str, str] | None = None) -> ConfigResource:
    return ConfigResource(ConfigResourceType.TOPIC, ask["topic"], configs=configs)


def _config(client: KafkaAdminClient, ask: dict[str, Any]) -> Any:
    found = client.describe_configs([_resource(ask)], config_filter="all")
    return _find(found, ask["name"])


def _find(found: Any, name: str) -> Any:
    """The value of that property, wherever it lies in the answer."""
    if isinstance(found, dict):
        if name in found:
            value = found[name]
            return value["value"] if isinstance(value, dict) else value
        found = list(found.values())
    if isinstance(found, list):
        for each in found:
            value = _find(each, name)
            if value is not None:
                return value
    return None


def _set_config(client: KafkaAdminClient, ask: dict[str, Any]) -> None:
    client.alter_configs([_resource(ask, {ask["name"]: ask["value"]})])


def _broker(ask: dict[str, Any], configs: dict[str, Any] | None = None) -> ConfigResource:
    return ConfigResource(ConfigResourceType.BROKER, str(ask["broker"]), configs=configs)


def _broker_config(client: KafkaAdminClient, ask: dict[str, Any]) -> Any:
    return _find(client.describe_configs([_broker(ask)], config_filter="all"), ask["name"])


def _set_broker_config(client: KafkaAdminClient, ask: dict[str, Any]) -> None:
    change = ("DELETE", None) if ask["value"] is None else ("SET", ask["value"])
    resource = _broker(ask, {ask["name"]: change})
    found = client.alter_configs([resource], raise_on_unknown=False)
    if any(each != "OK" for of_type in found.values() for each in of_type.values()):
        raise RuntimeError(f"alter configs: {found}")


def _add_partitions(client: KafkaAdminClient, ask: dict[str, Any]) -> None:
    client.create_partitions({ask["topic"]: ask["partitions"]})


def _delete_topic(client: KafkaAdminClient, ask: dict[str, Any]) -> None:
    client.delete_topics([ask["topic"]])


def _delete_records(client: KafkaAdminClient, ask: dict[str, Any]) -> Any:
    partition = TopicPartition(ask["topic"], ask["partition"])
    found = client.delete_records({partition: ask["before"]})[partition]
    return found["low_watermark"] if isinstance(found, dict) else found


def _offsets(client: KafkaAdminClient, ask: dict[str, Any]) -> list[int]:
    consumer = KafkaConsumer(bootstrap_servers=ask["bootstrap"])
    partition = TopicPartition(ask["topic"], ask["partition"])
    ends = [consumer.beginning_offsets([partition]), consumer.end_offsets([partition])]
    consumer.close()
    return [each[partition] for each in ends]


def _groups(client: KafkaAdminClient, ask: dict[str, Any]) -> list[str]:
    return [each["group_id"] for each in client.list_groups()]


def _group(client: KafkaAdminClient, ask: dict[str, Any]) -> dict[str, Any]:
    found = client.describe_groups([ask["group"]])[ask["group"]]
    return {"state": found["group_state"], "members": len(found["members"])}


def _committed(client: KafkaAdminClient, ask: dict[str, Any]) -> dict[str, int]:
    found = client.list_group_offsets([ask["group"]])[ask["group"]]
    return {str(each.partition): value.offset for each, value in found.items()}


def _delete_group(client: KafkaAdminClient, ask: dict[str, Any]) -> None:
    client.delete_groups([ask["group"]])


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
