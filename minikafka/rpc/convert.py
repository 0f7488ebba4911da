"""What nearly all protobuf messages share, to and from the model: errors, partitions, states.

`x_to_wire` makes the message, `x_from_wire` the value. Reading never fails on what another version
of minikafka may send: an error code that is not known keeps its sentence and its retriable flag.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Protocol

from minikafka.errors import (
    MinikafkaError,
    RetriableError,
    UnknownServerError,
    error_for_code,
)
from minikafka.model import (
    Assignment,
    BrokerInfo,
    KafkaListener,
    PartitionMetadata,
    PartitionState,
    SecurityProtocol,
    TopicPartition,
)
from minikafka.model import topic_partition as topic_partition
from minikafka.rpc.generated import common_pb2

log = logging.getLogger(__name__)


class HasError(Protocol):
    """A message with a field `error`, absent when there is none."""

    @property
    def error(self) -> common_pb2.Error: ...
    def HasField(self, field_name: str) -> bool: ...


# --- errors --------------------------------------------------------------------------------------


def error_to_wire(error: MinikafkaError) -> common_pb2.Error:
    sentence = error.message.encode("utf-8", "replace").decode("utf-8")  # a path may be no Unicode
    return common_pb2.Error(
        code=error.code, name=error.name, message=sentence, retriable=error.retriable
    )


def optional_error_to_wire(error: MinikafkaError | None) -> common_pb2.Error | None:
    return None if error is None else error_to_wire(error)


def error_from_wire(wire: common_pb2.Error) -> MinikafkaError:
    """The class of the code. A code from a newer peer becomes UnknownServerError, or RetriableError
    if the peer says so, with the peer's name for it in the sentence."""
    known = error_for_code(wire.code or -1, wire.message)
    if known.code == wire.code or not wire.retriable:
        return known
    return RetriableError(f"{wire.name} ({wire.code}): {wire.message}")


def error_of(message: HasError) -> MinikafkaError | None:
    """The error of a message that may carry one."""
    return error_from_wire(message.error) if message.HasField("error") else None


def raise_error_of(message: HasError) -> None:
    """Raise the error that a response carries as a whole, if it does."""
    if message.HasField("error"):
        raise error_from_wire(message.error)


def error_for_peer(raised: Exception, serving: str) -> MinikafkaError:
    """What a peer is told of an exception: a typed error as it is; of anything else, which is a
    bug of ours, that there was one. The log here has the traceback; the peer gets nothing of it."""
    if isinstance(raised, MinikafkaError):
        return raised
    log.error("unexpected exception while serving %s", serving, exc_info=raised)
    return UnknownServerError(
        f"the broker failed unexpectedly while serving {serving}: its log has the details"
    )


# --- brokers -------------------------------------------------------------------------------------


def broker_to_wire(broker: BrokerInfo) -> common_pb2.Broker:
    plain = broker.kafka_listener(SecurityProtocol.PLAINTEXT)
    return common_pb2.Broker(
        broker_id=broker.broker_id,
        name=broker.name,
        grpc_host=broker.grpc_host,
        grpc_port=broker.grpc_port,
        kafka_host=None if plain is None else plain.host,
        kafka_port=None if plain is None else plain.port,
        rack=broker.rack,
        storage_id=broker.storage_id,
        dirty=broker.dirty,
        broker_epoch=broker.broker_epoch,
        transaction_level=broker.transaction_level,
        kafka_listeners=[
            common_pb2.KafkaListener(
                name=each.name, protocol=each.protocol, host=each.host, port=each.port
            )
            for each in broker.kafka_listeners
        ],
    )


def broker_from_wire(wire: common_pb2.Broker) -> BrokerInfo:
    """A listener that is spoken with in a way that is not known here is left out."""
    listeners = tuple(
        KafkaListener(each.name, SecurityProtocol(each.protocol), each.host, each.port)
        for each in wire.kafka_listeners
        if each.protocol in SecurityProtocol.__members__
    )
    if not wire.kafka_listeners and wire.HasField("kafka_host"):  # it knows of one only
        plaintext = SecurityProtocol.PLAINTEXT
        listeners = (KafkaListener(plaintext, plaintext, wire.kafka_host, wire.kafka_port),)
    return BrokerInfo(
        broker_id=wire.broker_id,
        name=wire.name,
        grpc_host=wire.grpc_host,
        grpc_port=wire.grpc_port,
        kafka_listeners=listeners,
        rack=wire.rack if wire.HasField("rack") else None,
        storage_id=wire.storage_id,
        dirty=wire.dirty,
        broker_epoch=wire.broker_epoch,
        transaction_level=wire.transaction_level,
    )


# --- partitions ----------------------------------------------------------------------------------


def tp_to_wire(value: TopicPartition) -> common_pb2.TopicPartition:
    return common_pb2.TopicPartition(topic=value.topic, partition=value.partition)


def tp_from_wire(wire: common_pb2.TopicPartition) -> TopicPartition:
    return topic_partition(wire.topic, wire.partition)


def tps_to_wire(values: Iterable[TopicPartition]) -> list[common_pb2.TopicPartition]:
    return [tp_to_wire(value) for value in values]


def tps_from_wire(wires: Iterable[common_pb2.TopicPartition]) -> tuple[TopicPartition, ...]:
    return tuple([tp_from_wire(wire) for wire in wires])


def state_to_wire(state: PartitionState) -> common_pb2.PartitionState:
    return common_pb2.PartitionState(
        leader=state.leader,
        leader_epoch=state.leader_epoch,
        isr=state.isr,
        controller_epoch=state.controller_epoch,
        partition_version=state.partition_version,
        isr_storage=state.isr_storage,
    )


def state_from_wire(wire: common_pb2.PartitionState) -> PartitionState:
    return PartitionState(
        leader=wire.leader,
        leader_epoch=wire.leader_epoch,
        isr=tuple(wire.isr),
        controller_epoch=wire.controller_epoch,
        partition_version=wire.partition_version,
        isr_storage=_marks(tuple(wire.isr_storage.items())),
    )


@lru_cache(maxsize=4096)
def _marks(items: tuple[tuple[int, str], ...]) -> Mapping[int, str]:
    """One for all partitions that have the same members: a broker keeps those of each."""
    return dict(items)


def partition_to_wire(value: PartitionMetadata) -> common_pb2.Partition:
    return common_pb2.Partition(
        topic_partition=tp_to_wire(value.topic_partition),
        topic_id=value.topic_id,
        replicas=value.assignment.replicas,
        adding=value.assignment.adding,
        removing=value.assignment.removing,
        state=state_to_wire(value.state),
    )


def partition_from_wire(wire: common_pb2.Partition) -> PartitionMetadata:
    return PartitionMetadata(
        topic_partition=tp_from_wire(wire.topic_partition),
        topic_id=sys.intern(wire.topic_id),
        assignment=Assignment(tuple(wire.replicas), tuple(wire.adding), tuple(wire.removing)),
        state=state_from_wire(wire.state),
    )
