"""What the znodes hold: JSON with a `version` field, under Kafka's field names where Kafka has the
same thing (replication.md section 1).

Encoding is deterministic: the same value gives the same bytes, by which a write whose answer was
lost is recognised. Decoding raises CorruptNodeError with the path of the node. Numbers that Kafka
writes as text (timestamps, producer id blocks) are text here too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, TypeVar

from minikafka.broker.ports import Takeover
from minikafka.core.control.assignment import is_legal_name
from minikafka.errors import InvalidRequestError
from minikafka.model import (
    NO_LEADER,
    Assignment,
    BrokerInfo,
    PartitionState,
    TopicDescription,
    TopicPartition,
)
from minikafka.zookeeper.errors import CorruptNodeError

# ZooKeeper drops the connection of a client that sends more than jute.maxbuffer (1 MiB - 1) in one
# request. A request that is repeated after a lost connection would then be repeated for ever.
MAX_DATA_BYTES = 1_000_000

# Kafka's ids and epochs are 32 bits. An epoch must still be able to grow by one.
MAX_ID = 2**31 - 1
MAX_EPOCH = 2**31 - 2
_MAX_DIGITS = 19
_SHOWN = 60

CONFIG_CHANGE_VERSION = 2
TOPIC_VERSION = 3

_TOPIC_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")  # 22 of base 64, as we write it

T = TypeVar("T")


class ControllerNode(NamedTuple):
    broker_id: int
    timestamp_ms: int


class ProducerIdBlock(NamedTuple):
    """Producer ids `first` to `last`, both inclusive, given to `broker_id`."""

    broker_id: int
    first: int
    last: int


# --- encoding ------------------------------------------------------------------------------------


def _encode(fields: Mapping[str, Any], version: int = 1) -> bytes:
    data = json.dumps({"version": version, **fields}, separators=(",", ":")).encode()
    if len(data) > MAX_DATA_BYTES:
        raise InvalidRequestError(
            f"{len(data)} bytes are too much for one ZooKeeper node: "
            f"at most {MAX_DATA_BYTES} (fewer partitions or replicas in one topic)"
        )
    return data


def encode_broker(broker: BrokerInfo, timestamp_ms: int) -> bytes:
    """`host` and `port` are the Kafka listener's, as in Kafka: null and -1 if there is none."""
    return _encode(
        {
            "host": broker.kafka_host,
            "port": -1 if broker.kafka_port is None else broker.kafka_port,
            "rack": broker.rack,
            "timestamp": str(timestamp_ms),
            "name": broker.name,
            "grpc_host": broker.grpc_host,
            "grpc_port": broker.grpc_port,
            "storage_id": broker.storage_id,
            "dirty": broker.dirty,
        }
    )


def encode_controller(node: ControllerNode) -> bytes:
    return _encode({"brokerid": node.broker_id, "timestamp": str(node.timestamp_ms)})


def encode_takeover(takeover: Takeover) -> bytes:
    return _encode(asdict(takeover))


def encode_controller_epoch(controller_epoch: int) -> bytes:
    """The one node that is not JSON, as in Kafka: the number as text."""
    return str(controller_epoch).encode()


def encode_topic(topic: TopicDescription) -> bytes:
    partitions = sorted(topic.assignments.items())
    dropped = {str(number): list(a.dropped) for number, a in partitions if a.dropped}
    return _encode(
        {
            "topic_id": topic.topic_id,
            "partitions": {str(number): list(a.replicas) for number, a in partitions},
            "adding_replicas": {
                str(number): list(a.adding) for number, a in partitions if a.adding
            },
            "removing_replicas": {
                str(number): list(a.removing) for number, a in partitions if a.removing
            },
            **({"dropped_replicas": dropped} if dropped else {}),
        },
        version=TOPIC_VERSION,
    )


def encode_state(state: PartitionState) -> bytes:
    """Without the partition version: that is the version of the znode."""
    return _encode(
        {
            "leader": state.leader,
            "leader_epoch": state.leader_epoch,
            "isr": list(state.isr),
            "controller_epoch": state.controller_epoch,
            "isr_storage": {
                str(member): storage_id for member, storage_id in sorted(state.isr_storage.items())
            },
        }
    )


def encode_config(overrides: Mapping[str, str]) -> bytes:
    return _encode({"config": dict(sorted(overrides.items()))})


def encode_config_change(entity_path: str) -> bytes:
    """`entity_path`: `topics/<topic>` or `brokers/<id>`."""
    return _encode({"entity_path": entity_path}, version=CONFIG_CHANGE_VERSION)


def encode_preferred_election(partitions: Sequence[TopicPartition]) -> bytes:
    return _encode(
        {"partitions": [{"topic": tp.topic, "partition": tp.partition} for tp in partitions]}
    )


def encode_producer_id_block(block: ProducerIdBlock) -> bytes:
    return _encode(
        {
            "broker": block.broker_id,
            "block_start": str(block.first),
            "block_end": str(block.last),
        }
    )


def encode_cluster_id(cluster_id: str) -> bytes:
    return _encode({"id": cluster_id})


# --- decoding ------------------------------------------------------------------------------------


class _WrongFieldError(Exception):
    """A field is not what it should be; becomes CorruptNodeError where the path is known."""


class _Fields:
    """The fields of one JSON object, read with their types."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def _get(self, name: str, kind: type[T], what: str) -> T:
        value = self._values.get(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            if name not in self._values:
                raise _WrongFieldError(f"{name} is missing")
            raise _WrongFieldError(f"{name} is {shown(value)}, expected {what}")
        return value

    def whole(self, name: str, low: int = 0, high: int = MAX_ID) -> int:
        value = self._get(name, int, "a whole number")
        if not low <= value <= high:
            raise _WrongFieldError(f"{name} is {shown(value)}, expected {low} to {high}")
        return value

    def text(self, name: str) -> str:
        return self._get(name, str, "text")

    def number_as_text(self, name: str) -> int:
        text = self.text(name)
        number = _natural(text)
        if number is None:
            raise _WrongFieldError(f"{name} is {shown(text)}, expected digits as text")
        return number

    def optional_text(self, name: str) -> str | None:
        return None if self._values.get(name) is None else self.text(name)

    def boolean(self, name: str) -> bool:
        return self._get(name, bool, "true or false")

    def broker_ids(self, name: str) -> tuple[int, ...]:
        return _broker_ids(name, self._get(name, list, "a list of broker ids"))

    def texts_by_name(self, name: str) -> dict[str, str]:
        found = self._get(name, dict, "an object of texts")
        for key, value in found.items():
            if not isinstance(value, str):
                raise _WrongFieldError(f"{name}.{key[:_SHOWN]} is {shown(value)}, expected text")
        return found

    def replicas_by_partition(
        self, name: str, *, optional: bool = False
    ) -> dict[int, tuple[int, ...]]:
        if optional and name not in self._values:
            return {}
        found = self._get(name, dict, "an object of lists of broker ids")
        return {_number(name, key): _broker_ids(name, value) for key, value in found.items()}

    def objects(self, name: str) -> list[_Fields]:
        found = self._get(name, list, "a list of objects")
        if not all(isinstance(value, dict) for value in found):
            raise _WrongFieldError(f"{name} is {shown(found)}, expected a list of objects")
        return [_Fields(value) for value in found]


def _broker_ids(name: str, value: object) -> tuple[int, ...]:
    good = isinstance(value, list) and all(
        isinstance(member, int) and not isinstance(member, bool) and 0 <= member <= MAX_ID
        for member in value
    )
    if not good or len(set(value)) != len(value):  # type: ignore[call-overload,arg-type]
        raise _WrongFieldError(f"{name} has {shown(value)}, expected distinct broker ids")
    return tuple(value)  # type: ignore[arg-type]


def _number(name: str, key: str) -> int:
    number = _natural(key)
    if number is None or number > MAX_ID:
        raise _WrongFieldError(f"{name} has the key {shown(key)}, expected a number")
    return number


def _natural(text: str) -> int | None:
    """A number written in ASCII digits, of 64 bits at most; None for anything else."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        return None
    number = int(text)
    return number if number < 2**63 else None


def _decode(path: str, data: bytes, read: Callable[[_Fields], T], version: int = 1) -> T:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise CorruptNodeError(path, f"{shown(data)} is not JSON") from None
    if not isinstance(values, dict):
        raise CorruptNodeError(path, f"{shown(data)} is not a JSON object")
    found = values.get("version")
    if found != version or isinstance(found, bool):
        raise CorruptNodeError(
            path, f"its version is {shown(found)}, and this minikafka reads version {version}"
        )
    try:
        return read(_Fields(values))
    except _WrongFieldError as error:
        raise CorruptNodeError(path, str(error)) from None


def shown(value: object) -> str:
    """It may be a megabyte, or a number of as many digits as Python does not print."""
    if isinstance(value, int) and abs(value) >= 2**64:
        return "a number of more than 64 bits"
    if isinstance(value, list | dict):
        return f"{type(value).__name__} of {len(value)}" if len(value) > 10 else repr(value)[:200]
    if isinstance(value, str | bytes) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}..."
    return repr(value)


def decode_broker(path: str, data: bytes, broker_id: int, broker_epoch: int) -> BrokerInfo:
    def read(fields: _Fields) -> BrokerInfo:
        kafka_port = fields.whole("port", -1, 65_535)
        return BrokerInfo(
            broker_id=broker_id,
            name=fields.text("name"),
            grpc_host=fields.text("grpc_host"),
            grpc_port=fields.whole("grpc_port", 0, 65_535),
            kafka_host=fields.optional_text("host"),
            kafka_port=None if kafka_port == -1 else kafka_port,
            rack=fields.optional_text("rack"),
            storage_id=fields.text("storage_id"),
            dirty=fields.boolean("dirty"),
            broker_epoch=broker_epoch,
        )

    return _decode(path, data, read)


def broker_id_of(name: str) -> int | None:
    """The id that a registration is called by; None if the name is no id."""
    broker_id = _natural(name)
    return broker_id if broker_id is not None and broker_id <= MAX_ID else None


def decode_controller(path: str, data: bytes) -> ControllerNode:
    return _decode(
        path,
        data,
        lambda fields: ControllerNode(fields.whole("brokerid"), fields.number_as_text("timestamp")),
    )


def decode_takeover(path: str, data: bytes) -> Takeover:
    return _decode(
        path,
        data,
        lambda fields: Takeover(
            fields.whole("previous_id", -1),
            fields.whole("controller_id"),
            fields.whole("controller_epoch"),
            fields.whole("woken"),
            fields.whole("waiting"),
            fields.text("previous_name"),
        ),
    )


def decode_controller_epoch(path: str, data: bytes) -> int:
    number = _natural(data.decode("ascii", errors="replace"))
    if number is None or number > MAX_EPOCH:
        raise CorruptNodeError(path, f"{shown(data)} is not a number of 0 to {MAX_EPOCH}")
    return number


def decode_topic(path: str, data: bytes, name: str) -> TopicDescription:
    if not is_legal_name(name):
        raise CorruptNodeError(path, "a topic cannot have this name")

    def read(fields: _Fields) -> TopicDescription:
        replicas = fields.replicas_by_partition("partitions")
        adding = fields.replicas_by_partition("adding_replicas")
        removing = fields.replicas_by_partition("removing_replicas")
        dropped = fields.replicas_by_partition("dropped_replicas", optional=True)
        if not replicas or sorted(replicas) != list(range(len(replicas))):
            raise _WrongFieldError(f"partitions are {shown(sorted(replicas))}, expected 0, 1, 2, …")
        if not all(replicas.values()):
            raise _WrongFieldError("a partition has no replica")
        topic_id = fields.text("topic_id")
        if not _TOPIC_ID.fullmatch(topic_id):
            raise _WrongFieldError(
                f"topic_id is {shown(topic_id)}, expected up to 36 letters and digits"
            )
        return TopicDescription(
            name=name,
            topic_id=topic_id,
            assignments={
                number: Assignment(
                    replicas[number],
                    adding.get(number, ()),
                    removing.get(number, ()),
                    dropped.get(number, ()),
                )
                for number in sorted(replicas)
            },
        )

    return _decode(path, data, read, version=TOPIC_VERSION)


def decode_state(path: str, data: bytes, partition_version: int) -> PartitionState:
    def read(fields: _Fields) -> PartitionState:
        state = PartitionState(
            leader=fields.whole("leader", NO_LEADER),
            leader_epoch=fields.whole("leader_epoch", high=MAX_EPOCH),
            isr=fields.broker_ids("isr"),
            controller_epoch=fields.whole("controller_epoch", high=MAX_EPOCH),
            partition_version=partition_version,
            isr_storage={
                _number("isr_storage", member): storage_id
                for member, storage_id in fields.texts_by_name("isr_storage").items()
            },
        )
        if state.leader != NO_LEADER and state.leader not in state.isr:
            raise _WrongFieldError(f"the leader, {state.leader}, is not in the isr")
        if not set(state.isr_storage) <= set(state.isr):
            raise _WrongFieldError("isr_storage names brokers that are not in the isr")
        return state

    return _decode(path, data, read)


def decode_config(path: str, data: bytes) -> dict[str, str]:
    return _decode(path, data, lambda fields: fields.texts_by_name("config"))


def decode_preferred_election(path: str, data: bytes) -> list[TopicPartition]:
    def read(fields: _Fields) -> list[TopicPartition]:
        return [
            TopicPartition(one.text("topic"), one.whole("partition"))
            for one in fields.objects("partitions")
        ]

    return _decode(path, data, read)


def decode_producer_id_block(path: str, data: bytes) -> ProducerIdBlock:
    def read(fields: _Fields) -> ProducerIdBlock:
        return ProducerIdBlock(
            fields.whole("broker", -1),
            fields.number_as_text("block_start"),
            fields.number_as_text("block_end"),
        )

    return _decode(path, data, read)


def decode_cluster_id(path: str, data: bytes) -> str:
    return _decode(path, data, lambda fields: fields.text("id"))
