"""What the znodes hold: JSON with a `version` field, under Kafka's field names where Kafka has the
same thing (replication.md section 1).

How it is written and read is in json_data.py. Numbers that Kafka writes as text (timestamps,
producer id blocks) are text here too. What nodes and jobs hold is beside their stores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

from minikafka.api.features import MIN_TRANSACTION_LEVEL, TRANSACTION_VERSION
from minikafka.broker.ports import Takeover
from minikafka.config.listeners import MAX_LISTENERS
from minikafka.core.control.assignment import is_legal_name
from minikafka.model import (
    NO_LEADER,
    Assignment,
    BrokerInfo,
    KafkaListener,
    PartitionState,
    SecurityProtocol,
    TopicDescription,
    TopicPartition,
)
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.json_data import (
    MAX_ID,
    Fields,
    WrongFieldError,
    decode,
    encode,
    natural,
    number_of,
    shown,
)

MAX_EPOCH = MAX_ID - 1  # one must still be able to grow by one

FEATURE_VERSION = 2
CONFIG_CHANGE_VERSION = 2
TOPIC_VERSION = 3

_TOPIC_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")  # 22 of base 64, as we write it


class ControllerNode(NamedTuple):
    broker_id: int
    timestamp_ms: int


class ProducerIdBlock(NamedTuple):
    """Producer ids `first` to `last`, both inclusive, given to `broker_id`."""

    broker_id: int
    first: int
    last: int


# --- encoding ------------------------------------------------------------------------------------


def encode_broker(broker: BrokerInfo, timestamp_ms: int) -> bytes:
    """`host` and `port` are of the listener PLAINTEXT, as in Kafka: null and -1 without one."""
    plain = broker.kafka_listener(SecurityProtocol.PLAINTEXT)
    return encode(
        {
            "host": None if plain is None else plain.host,
            "port": -1 if plain is None else plain.port,
            "endpoints": [f"{each.name}://{each.address}" for each in broker.kafka_listeners],
            "listener_security_protocol_map": {
                each.name: each.protocol for each in broker.kafka_listeners
            },
            "rack": broker.rack,
            "timestamp": str(timestamp_ms),
            "name": broker.name,
            "grpc_host": broker.grpc_host,
            "grpc_port": broker.grpc_port,
            "storage_id": broker.storage_id,
            "dirty": broker.dirty,
            "features": _features(broker.transaction_level),
        }
    )


def encode_controller(node: ControllerNode) -> bytes:
    return encode({"brokerid": node.broker_id, "timestamp": str(node.timestamp_ms)})


def encode_takeover(takeover: Takeover) -> bytes:
    return encode(asdict(takeover))


def encode_controller_epoch(controller_epoch: int) -> bytes:
    """The one node that is not JSON, as in Kafka: the number as text."""
    return str(controller_epoch).encode()


def encode_topic(topic: TopicDescription) -> bytes:
    partitions = sorted(topic.assignments.items())
    dropped = {str(number): list(a.dropped) for number, a in partitions if a.dropped}
    return encode(
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
        advice="fewer partitions or replicas in one topic",
    )


def encode_state(state: PartitionState) -> bytes:
    """Without the partition version: that is the version of the znode."""
    return encode(
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
    return encode({"config": dict(sorted(overrides.items()))})


def encode_config_change(entity_path: str) -> bytes:
    """`entity_path`: `topics/<topic>` or `brokers/<id>`."""
    return encode({"entity_path": entity_path}, version=CONFIG_CHANGE_VERSION)


def encode_preferred_election(partitions: Sequence[TopicPartition]) -> bytes:
    return encode(
        {"partitions": [{"topic": tp.topic, "partition": tp.partition} for tp in partitions]}
    )


def encode_producer_id_block(block: ProducerIdBlock) -> bytes:
    return encode(
        {
            "broker": block.broker_id,
            "block_start": str(block.first),
            "block_end": str(block.last),
        }
    )


def encode_cluster_id(cluster_id: str) -> bytes:
    return encode({"id": cluster_id})


# --- decoding ------------------------------------------------------------------------------------


def decode_broker(path: str, data: bytes, broker_id: int, broker_epoch: int) -> BrokerInfo:
    def read(fields: Fields) -> BrokerInfo:
        return BrokerInfo(
            broker_id=broker_id,
            name=fields.text("name"),
            grpc_host=fields.text("grpc_host"),
            grpc_port=fields.whole("grpc_port", 0, 65_535),
            kafka_listeners=_kafka_listeners(fields),
            rack=fields.optional_text("rack"),
            storage_id=fields.text("storage_id"),
            dirty=fields.boolean("dirty"),
            broker_epoch=broker_epoch,
            transaction_level=_transaction_level(fields),
        )

    return decode(path, data, read)


def _kafka_listeners(fields: Fields) -> tuple[KafkaListener, ...]:
    """Brokers from before there were several tell host and port."""
    if "endpoints" not in fields:
        host, port = fields.optional_text("host"), fields.whole("port", -1, 65_535)
        if host is None or port == -1:
            return ()
        plaintext = SecurityProtocol.PLAINTEXT
        return (KafkaListener(plaintext, plaintext, host, port),)
    protocols = fields.texts_by_name("listener_security_protocol_map")
    endpoints = fields.texts("endpoints", MAX_LISTENERS)
    return tuple(_kafka_listener(each, protocols) for each in endpoints)


def _kafka_listener(endpoint: str, protocols: Mapping[str, str]) -> KafkaListener:
    name, _, address = endpoint.partition("://")
    protocol = protocols.get(name, name)
    host, _, port = address.rpartition(":")
    number = natural(port)
    if not host or number is None or number > 65_535:
        raise WrongFieldError(f"endpoints has {shown(endpoint)}, expected NAME://HOST:PORT")
    if protocol not in SecurityProtocol.__members__:
        raise WrongFieldError(
            f"listener_security_protocol_map.{name[:64]} is {shown(protocol)}, expected one of "
            + ", ".join(SecurityProtocol)
        )
    return KafkaListener(name, SecurityProtocol(protocol), host.strip("[]"), number)


def _features(level: int) -> dict[str, dict[str, int]]:
    if not level:
        return {}
    return {TRANSACTION_VERSION: {"min_version": MIN_TRANSACTION_LEVEL, "max_version": level}}


def _transaction_level(fields: Fields) -> int:
    """Brokers from before there were transactions do not say."""
    if "features" not in fields:
        return 0
    features = fields.object("features")
    if TRANSACTION_VERSION not in features:
        return 0
    return features.object(TRANSACTION_VERSION).whole("max_version")


def encode_feature(level: int) -> bytes:
    return encode({"status": 1, "features": {TRANSACTION_VERSION: level}}, version=FEATURE_VERSION)


def decode_feature(path: str, data: bytes) -> int:
    """The level of transaction.version that is finalized; 0 if none is."""

    def read(fields: Fields) -> int:
        features = fields.object("features")
        return features.whole(TRANSACTION_VERSION) if TRANSACTION_VERSION in features else 0

    return decode(path, data, read, FEATURE_VERSION)


def broker_id_of(name: str) -> int | None:
    """The id that a registration is called by; None if the name is no id."""
    broker_id = natural(name)
    return broker_id if broker_id is not None and broker_id <= MAX_ID else None


def decode_controller(path: str, data: bytes) -> ControllerNode:
    return decode(
        path,
        data,
        lambda fields: ControllerNode(fields.whole("brokerid"), fields.number_as_text("timestamp")),
    )


def decode_takeover(path: str, data: bytes) -> Takeover:
    return decode(
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
    number = natural(data.decode("ascii", errors="replace"))
    if number is None or number > MAX_EPOCH:
        raise CorruptNodeError(path, f"{shown(data)} is not a number of 0 to {MAX_EPOCH}")
    return number


def decode_topic(path: str, data: bytes, name: str) -> TopicDescription:
    if not is_legal_name(name):
        raise CorruptNodeError(path, "a topic cannot have this name")

    def read(fields: Fields) -> TopicDescription:
        replicas = fields.replicas_by_partition("partitions")
        adding = fields.replicas_by_partition("adding_replicas")
        removing = fields.replicas_by_partition("removing_replicas")
        dropped = fields.replicas_by_partition("dropped_replicas", optional=True)
        if not replicas or sorted(replicas) != list(range(len(replicas))):
            raise WrongFieldError(f"partitions are {shown(sorted(replicas))}, expected 0, 1, 2, …")
        if not all(replicas.values()):
            raise WrongFieldError("a partition has no replica")
        topic_id = fields.text("topic_id")
        if not _TOPIC_ID.fullmatch(topic_id):
            raise WrongFieldError(
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

    return decode(path, data, read, version=TOPIC_VERSION)


def decode_state(path: str, data: bytes, partition_version: int) -> PartitionState:
    def read(fields: Fields) -> PartitionState:
        state = PartitionState(
            leader=fields.whole("leader", NO_LEADER),
            leader_epoch=fields.whole("leader_epoch", high=MAX_EPOCH),
            isr=fields.broker_ids("isr"),
            controller_epoch=fields.whole("controller_epoch", high=MAX_EPOCH),
            partition_version=partition_version,
            isr_storage={
                number_of("isr_storage", member): storage_id
                for member, storage_id in fields.texts_by_name("isr_storage").items()
            },
        )
        if state.leader != NO_LEADER and state.leader not in state.isr:
            raise WrongFieldError(f"the leader, {state.leader}, is not in the isr")
        if not set(state.isr_storage) <= set(state.isr):
            raise WrongFieldError("isr_storage names brokers that are not in the isr")
        return state

    return decode(path, data, read)


def decode_config(path: str, data: bytes) -> dict[str, str]:
    return decode(path, data, lambda fields: fields.texts_by_name("config"))


def decode_config_change(path: str, data: bytes) -> str:
    """The entity path."""
    return decode(
        path, data, lambda fields: fields.text("entity_path"), version=CONFIG_CHANGE_VERSION
    )


def decode_preferred_election(path: str, data: bytes) -> list[TopicPartition]:
    def read(fields: Fields) -> list[TopicPartition]:
        return [
            TopicPartition(one.text("topic"), one.whole("partition"))
            for one in fields.objects("partitions")
        ]

    return decode(path, data, read)


def decode_producer_id_block(path: str, data: bytes) -> ProducerIdBlock:
    def read(fields: Fields) -> ProducerIdBlock:
        return ProducerIdBlock(
            fields.whole("broker", -1),
            fields.number_as_text("block_start"),
            fields.number_as_text("block_end"),
        )

    return decode(path, data, read)


def decode_cluster_id(path: str, data: bytes) -> str:
    return decode(path, data, lambda fields: fields.text("id"))
