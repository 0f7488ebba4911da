"""aiokafka: see common.py for what is spoken here."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    TopicPartition,
)
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, KafkaTimeoutError, ProducerFenced

from tests.clients.programs import common


async def produce(ask: dict[str, Any]) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=ask["bootstrap"],
        acks={"0": 0, "1": 1, "all": "all"}[ask["acks"]],
        compression_type=None if ask["codec"] == "none" else ask["codec"],
        enable_idempotence=ask["idempotent"],
        linger_ms=5,
        request_timeout_ms=60_000,
    )
    await producer.start()
    waiting: set[asyncio.Task[None]] = set()

    async def follow(value: str | None, future: Any) -> None:
        try:
            metadata = await future
        except Exception as error:
            common.failed(value, error)
        else:
            if metadata is None:  # acks=0 promises nothing
                common.acknowledged(value, -1, -1)
            else:
                common.acknowledged(value, metadata.partition, metadata.offset)

    async for record in _records():
        value = record.get("value")
        future = await producer.send(
            ask["topic"],
            value=common.data(value),
            key=common.data(record.get("key")),
            headers=[(name, each.encode()) for name, each in record.get("headers") or ()],
            partition=record.get("partition"),
            timestamp_ms=record.get("timestamp_ms"),
        )
        task = asyncio.create_task(follow(value, future))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    await producer.flush()
    while waiting:
        await asyncio.wait(waiting)
    await producer.stop()


async def _records() -> AsyncIterator[dict[str, Any]]:
    lines = common.records()
    while (record := await asyncio.to_thread(next, lines, False)) is not False:
        if record is not None:
            assert isinstance(record, dict)
            yield record


async def consume(ask: dict[str, Any]) -> None:
    isolation = {"isolation_level": ask["isolation"]} if "isolation" in ask else {}
    consumer = AIOKafkaConsumer(bootstrap_servers=ask["bootstrap"], **isolation)
    await consumer.start()
    partition = TopicPartition(ask["topic"], ask["partition"])
    consumer.assign([partition])
    begin = ask["from"]
    if begin == "earliest":
        await consumer.seek_to_beginning(partition)
    elif begin == "latest":
        await consumer.seek_to_end(partition)
    elif "offset" in begin:
        consumer.seek(partition, begin["offset"])
    else:
        found = await consumer.offsets_for_times({partition: begin["timestamp_ms"]})
        consumer.seek(partition, found[partition].offset)
    for _ in range(ask["count"]):
        _emit(await consumer.getone())
    await consumer.stop()


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


class _Changes(ConsumerRebalanceListener):  # type: ignore[misc]
    def on_partitions_revoked(self, revoked: Any) -> None:
        pass

    def on_partitions_assigned(self, assigned: Any) -> None:
        common.emit(assigned=sorted(each.partition for each in assigned))


async def group(ask: dict[str, Any]) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=ask["bootstrap"],
        group_id=ask["group"],
        session_timeout_ms=ask["session_timeout_ms"],
        heartbeat_interval_ms=500,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    consumer.subscribe([ask["topic"]], listener=_Changes())
    await consumer.start()
    while not ending.is_set():
        found = await consumer.getmany(timeout_ms=200)
        for records in found.values():
            for record in records:
                _emit(record)
        if found:
            # As may be when the coordinator dies, or the partition has passed on: it is told again.
            with suppress(KafkaError):
                await consumer.commit()
    await consumer.stop()


# --- transactions --------------------------------------------------------------------------------


class _Transactor:
    def __init__(self, ask: dict[str, Any]) -> None:
        self._bootstrap = ask["bootstrap"]
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            transactional_id=ask["id"],
            transaction_timeout_ms=ask["timeout_ms"],
            linger_ms=5,
        )
        self._consumer: AIOKafkaConsumer | None = None
        self._group = ""

    async def call(self, ask: dict[str, Any]) -> Any:
        return await getattr(self, f"_{ask.pop('call')}")(**ask)

    async def close(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
        await self._producer.stop()

    async def _init(self) -> None:
        await self._producer.start()

    async def _begin(self) -> None:
        await self._producer.begin_transaction()

    async def _send(self, topic: str, partition: int, values: list[str]) -> None:
        sent = [
            await self._producer.send(topic, common.data(value), partition=partition)
            for value in values
        ]
        await asyncio.gather(*sent)

    async def _commit(self) -> None:
        await self._producer.commit_transaction()

    async def _abort(self) -> None:
        await self._producer.abort_transaction()

    async def _join(self, topic: str, group: str, session_timeout_ms: int) -> None:
        self._group = group
        self._consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=self._bootstrap,
            group_id=group,
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=500,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        await self._consumer.start()

    async def _poll(self, count: int) -> list[Any]:
        assert self._consumer is not None
        found = [await self._consumer.getone() for _ in range(count)]
        return [(each.partition, each.offset, common.text(each.value)) for each in found]

    async def _send_offsets(self, topic: str, offsets: dict[str, int]) -> None:
        places = {TopicPartition(topic, int(number)): offset for number, offset in offsets.items()}
        await self._producer.send_offsets_to_transaction(places, self._group)

    async def _rewind(self) -> None:
        assert self._consumer is not None
        await self._consumer.seek_to_committed()


async def transact(ask: dict[str, Any]) -> None:
    transactor = _Transactor(ask)
    async for wanted in _records():
        try:
            common.emit(result=await transactor.call(wanted))
        except Exception as error:
            common.emit(error=repr(error), then=_then(error))
    await transactor.close()


def _then(error: Exception) -> str:
    if isinstance(error, ProducerFenced):
        return "die"
    return "retry" if isinstance(error, KafkaTimeoutError) else "abort"


# --- admin ---------------------------------------------------------------------------------------


async def admin(ask: dict[str, Any]) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=ask["bootstrap"])
    await client.start()
    async for wanted in _records():
        try:
            common.emit(result=await _CALLS[wanted["call"]](client, ask | wanted))
        except Exception as error:
            common.emit(error=repr(error))
    await client.close()


def _check(response: Any, field: str) -> None:
    for entry in getattr(response, field):
        if entry[1] != 0:
            raise RuntimeError(f"{field}: {entry}")


async def _create_topic(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> None:
    topic = NewTopic(
        ask["topic"], ask["partitions"], ask["replication"], topic_configs=ask["configs"]
    )
    _check(await client.create_topics([topic]), "topic_errors")


async def _topics(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> dict[str, int]:
    return {each["topic"]: len(each["partitions"]) for each in await client.describe_topics()}


def _resource(ask: dict[str, Any], configs: dict[str, str] | None = None) -> ConfigResource:
    return ConfigResource(ConfigResourceType.TOPIC, ask["topic"], configs=configs)


async def _config(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> str:
    (response,) = await client.describe_configs([_resource(ask)])
    entries = response.resources[0][4]
    return str(next(entry[1] for entry in entries if entry[0] == ask["name"]))


async def _set_config(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> None:
    (response,) = await client.alter_configs([_resource(ask, {ask["name"]: ask["value"]})])
    if response.resources[0][0] != 0:
        raise RuntimeError(f"alter configs: {response.resources[0]}")


def _broker(ask: dict[str, Any], configs: dict[str, str] | None = None) -> ConfigResource:
    return ConfigResource(ConfigResourceType.BROKER, str(ask["broker"]), configs=configs)


async def _broker_config(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> str:
    for response in await client.describe_configs([_broker(ask)]):
        for resource in response.resources:
            return str(next(entry[1] for entry in resource[4] if entry[0] == ask["name"]))
    raise RuntimeError("no answer")


async def _set_broker_config(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> None:
    """This client has the older way only, which replaces all that is set."""
    wanted = {} if ask["value"] is None else {ask["name"]: ask["value"]}
    for response in await client.alter_configs([_broker(ask, wanted)]):
        for resource in response.resources:
            if resource[0] != 0:
                raise RuntimeError(f"alter configs: {resource}")


async def _add_partitions(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> None:
    wanted = {ask["topic"]: NewPartitions(ask["partitions"])}
    _check(await client.create_partitions(wanted), "topic_errors")


async def _delete_topic(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> None:
    _check(await client.delete_topics([ask["topic"]]), "topic_error_codes")


async def _delete_records(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> int:
    partition = TopicPartition(ask["topic"], ask["partition"])
    found = await client.delete_records({partition: RecordsToDelete(before_offset=ask["before"])})
    return found[partition]


async def _offsets(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> list[int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=ask["bootstrap"])
    await consumer.start()
    partition = TopicPartition(ask["topic"], ask["partition"])
    ends = [await consumer.beginning_offsets([partition]), await consumer.end_offsets([partition])]
    await consumer.stop()
    return [each[partition] for each in ends]


async def _groups(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> list[str]:
    return [each[0] for each in await client.list_consumer_groups()]


async def _group(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> dict[str, Any]:
    (response,) = await client.describe_consumer_groups([ask["group"]])
    found = response.groups[0]
    return {"state": found[2], "members": len(found[5])}


async def _committed(client: AIOKafkaAdminClient, ask: dict[str, Any]) -> dict[str, int]:
    found = await client.list_consumer_group_offsets(ask["group"])
    return {str(each.partition): value.offset for each, value in found.items() if value.offset >= 0}


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
}

if __name__ == "__main__":
    asked = common.command()
    _does = {"produce": produce, "consume": consume, "group": group, "admin": admin}
    _does["transact"] = transact
    asyncio.run(_does[asked["do"]](asked))
