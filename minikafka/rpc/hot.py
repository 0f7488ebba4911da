"""The messages of the hot paths, to and from bytes: produce, fetch, replicate.

Protobuf copies a `bytes` field into its arena and out again, in each direction, which at 1 MiB
costs more than everything else in a message. So from LARGE_BYTES on, records never enter a protobuf
message: the encoder joins them behind the message that lacks them (fields may come in any order, so
the concatenation is the same message), and the decoder cuts them out before it has the rest parsed.
What travels is ordinary protobuf either way. Below LARGE_BYTES protobuf's own code is faster.

Reading raises DecodeError for bytes that are no such message.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Protocol, TypeAlias, TypeVar

from google.protobuf.message import DecodeError, Message

from minikafka.api.requests import (
    FetchPartition,
    FetchRequest,
    FetchResult,
    FollowerPosition,
    LeaderHint,
    ProducePartition,
    ProduceRequest,
    ProduceResult,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    ReplicaFetchResult,
)
from minikafka.errors import MinikafkaError
from minikafka.model import AbortedTransaction, OffsetAndEpoch
from minikafka.rpc.convert import (
    error_from_wire,
    error_of,
    error_to_wire,
    raise_error_of,
    state_from_wire,
    state_to_wire,
    topic_partition,
    tps_to_wire,
)
from minikafka.rpc.generated import client_pb2, replication_pb2

LARGE_BYTES = 32 * 1024
MAX_FIELDS = 2_000  # partitions of a produce request, each of which is an append

T = TypeVar("T")
M = TypeVar("M", bound=Message)
# A response to one correlation id: its results, or the error of the request as a whole.
Answer: TypeAlias = tuple[int, Sequence[T] | MinikafkaError]

# --- records around protobuf ---------------------------------------------------------------------


def _tag(field_number: int) -> int:
    return field_number << 3 | 2  # 2: length-delimited


_PRODUCE_PARTITIONS = _tag(client_pb2.ProduceRequest.PARTITIONS_FIELD_NUMBER)
_PRODUCE_RECORDS = _tag(client_pb2.ProducePartition.RECORDS_FIELD_NUMBER)
_FETCHED_PARTITIONS = _tag(client_pb2.FetchResponse.PARTITIONS_FIELD_NUMBER)
_FETCHED_RECORDS = _tag(client_pb2.FetchedPartition.RECORDS_FIELD_NUMBER)
_REPLICATED_PARTITIONS = _tag(replication_pb2.ReplicateResponse.PARTITIONS_FIELD_NUMBER)
_REPLICATED_RECORDS = _tag(replication_pb2.ReplicatedPartition.RECORDS_FIELD_NUMBER)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Partition(Protocol):
    records: bytes

    def SerializeToString(self) -> bytes: ...


def _joined(
    head: Message,
    partitions_tag: int,
    partitions: Sequence[tuple[_Partition, bytes]],
    records_tag: int,
) -> bytes:
    """`head` with the partitions appended as its repeated field, each with its records.
    Tags are of field numbers below 16: one byte."""
    pieces = [head.SerializeToString()]
    for partition, records in partitions:
        fields = partition.SerializeToString()
        tail = bytes((records_tag,)) + _varint(len(records))
        size = len(fields) + len(tail) + len(records)
        pieces += [bytes((partitions_tag,)) + _varint(size), fields, tail, records]
    return b"".join(pieces)


def _read_varint(raw: bytes, position: int) -> tuple[int, int]:
    """(value, position behind it)."""
    value = shift = 0
    while True:
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise DecodeError("a varint of more than ten bytes")


def _cut(
    raw: bytes, start: int, end: int, wanted_tag: int, limit: float
) -> tuple[bytes, list[tuple[int, int]]]:
    """(the fields in raw[start:end] other than `wanted_tag`, the bounds of each content of that
    one)."""
    others: list[bytes] = []
    found: list[tuple[int, int]] = []
    position = kept_from = start
    count = 0
    while position < end:
        count += 1
        if count > limit:
            raise DecodeError(f"a message has more than {limit} fields")
        field_start = position
        tag, position = _read_varint(raw, position)
        wire_type = tag & 7
        if wire_type == 0:
            _, position = _read_varint(raw, position)
        elif wire_type == 2:
            size, position = _read_varint(raw, position)
            position += size
        elif wire_type == 5:
            position += 4
        elif wire_type == 1:
            position += 8
        else:
            raise DecodeError(f"wire type {wire_type} is not used by proto3")
        if position > end:
            raise DecodeError("a field reaches beyond its message")
        if tag == wanted_tag:
            others.append(raw[kept_from:field_start])
            kept_from = position
            found.append((position - size, position))
    others.append(raw[kept_from:end])
    return b"".join(others), found


def _detach(
    raw: bytes, head: type[M], partitions_tag: int, records_tag: int, limit: float = inf
) -> tuple[M, list[tuple[bytes, bytes]]]:
    """The message without its partitions, and per partition its other fields and its records."""
    try:
        rest, bounds = _cut(raw, 0, len(raw), partitions_tag, limit)
        partitions = []
        for start, end in bounds:
            fields, contents = _cut(raw, start, end, records_tag, limit)
            partitions.append((fields, raw[slice(*contents[-1])] if contents else b""))
    except IndexError:
        raise DecodeError("the message ends in the middle of a field") from None
    return head.FromString(rest), partitions


# --- produce -------------------------------------------------------------------------------------


def produce_to_wire(correlation_id: int, request: ProduceRequest) -> bytes:
    wire = client_pb2.ProduceRequest(
        correlation_id=correlation_id,
        acks=request.acks,
        timeout_ms=request.timeout_ms,
        transactional_id=request.transactional_id,
        adds_to_transaction=request.adds_to_transaction,
    )
    if any(len(each.records) >= LARGE_BYTES for each in request.partitions):
        partitions = [
            (
                client_pb2.ProducePartition(
                    topic=each.topic_partition.topic, partition=each.topic_partition.partition
                ),
                bytes(each.records),
            )
            for each in request.partitions
        ]
        return _joined(wire, _PRODUCE_PARTITIONS, partitions, _PRODUCE_RECORDS)
    for each in request.partitions:
        tp = each.topic_partition
        wire.partitions.add(topic=tp.topic, partition=tp.partition, records=bytes(each.records))
    return wire.SerializeToString()


def produce_from_wire(raw: bytes) -> tuple[int, ProduceRequest]:
    """(correlation id, request)."""
    if len(raw) >= LARGE_BYTES:
        wire, detached = _detach(
            raw, client_pb2.ProduceRequest, _PRODUCE_PARTITIONS, _PRODUCE_RECORDS, MAX_FIELDS
        )
        partitions = []
        for fields, records in detached:
            each = client_pb2.ProducePartition.FromString(fields)
            partitions.append(
                ProducePartition(topic_partition(each.topic, each.partition), records)
            )
    else:
        wire = client_pb2.ProduceRequest.FromString(raw)
        partitions = [
            ProducePartition(topic_partition(each.topic, each.partition), each.records)
            for each in wire.partitions
        ]
    return wire.correlation_id, ProduceRequest(
        wire.acks,
        wire.timeout_ms,
        partitions,
        transactional_id=wire.transactional_id or None,
        adds_to_transaction=wire.adds_to_transaction,
    )


def _hint_to_wire(hint: LeaderHint | None) -> client_pb2.LeaderHint | None:
    if hint is None:
        return None
    return client_pb2.LeaderHint(leader=hint.leader, leader_epoch=hint.leader_epoch)


def _hint_of(
    wire: client_pb2.ProducedPartition | client_pb2.FetchedPartition,
) -> LeaderHint | None:
    if not wire.HasField("leader_hint"):
        return None
    return LeaderHint(wire.leader_hint.leader, wire.leader_hint.leader_epoch)


def produced_to_wire(correlation_id: int, results: Sequence[ProduceResult]) -> bytes:
    wire = client_pb2.ProduceResponse(correlation_id=correlation_id)
    for result in results:
        tp = result.topic_partition
        each = wire.partitions.add(
            topic=tp.topic,
            partition=tp.partition,
            base_offset=result.base_offset,
            log_start_offset=result.log_start_offset,
            leader_hint=_hint_to_wire(result.leader_hint),
        )
        if result.error is not None:
            each.error.CopyFrom(error_to_wire(result.error))
    return wire.SerializeToString()


def produce_failed_to_wire(correlation_id: int, error: MinikafkaError) -> bytes:
    return client_pb2.ProduceResponse(
        correlation_id=correlation_id, error=error_to_wire(error)
    ).SerializeToString()


def produced_from_wire(raw: bytes) -> Answer[ProduceResult]:
    wire = client_pb2.ProduceResponse.FromString(raw)
    if wire.HasField("error"):
        return wire.correlation_id, error_from_wire(wire.error)
    return wire.correlation_id, [
        ProduceResult(
            topic_partition(each.topic, each.partition),
            error_of(each),
            each.base_offset,
            each.log_start_offset,
            _hint_of(each),
        )
        for each in wire.partitions
    ]


# --- fetch ---------------------------------------------------------------------------------------


def fetch_to_wire(correlation_id: int, request: FetchRequest) -> bytes:
    wire = client_pb2.FetchRequest(
        correlation_id=correlation_id,
        max_wait_ms=request.max_wait_ms,
        min_bytes=request.min_bytes,
        max_bytes=request.max_bytes,
        read_committed=request.read_committed,
    )
    for each in request.partitions:
        wire.partitions.add(
            topic=each.topic_partition.topic,
            partition=each.topic_partition.partition,
            fetch_offset=each.fetch_offset,
            max_bytes=each.max_bytes,
            current_leader_epoch=each.current_leader_epoch,
        )
    return wire.SerializeToString()


def fetch_from_wire(raw: bytes) -> tuple[int, FetchRequest]:
    """(correlation id, request)."""
    wire = client_pb2.FetchRequest.FromString(raw)
    partitions = [
        FetchPartition(
            topic_partition(each.topic, each.partition),
            each.fetch_offset,
            each.max_bytes,
            each.current_leader_epoch,
        )
        for each in wire.partitions
    ]
    return wire.correlation_id, FetchRequest(
        wire.max_wait_ms,
        wire.min_bytes,
        wire.max_bytes,
        partitions,
        read_committed=wire.read_committed,
    )


def _fetched_fields(result: FetchResult) -> client_pb2.FetchedPartition:
    """Everything but the records."""
    wire = client_pb2.FetchedPartition(
        topic=result.topic_partition.topic,
        partition=result.topic_partition.partition,
        high_watermark=result.high_watermark,
        log_start_offset=result.log_start_offset,
        leader_hint=_hint_to_wire(result.leader_hint),
        last_stable_offset=result.last_stable_offset,
    )
    for producer_id, first_offset in result.aborted or ():
        wire.aborted.add(producer_id=producer_id, first_offset=first_offset)
    if result.error is not None:
        wire.error.CopyFrom(error_to_wire(result.error))
    return wire


def fetched_to_wire(correlation_id: int, results: Sequence[FetchResult]) -> bytes:
    head = client_pb2.FetchResponse(correlation_id=correlation_id)
    partitions = [(_fetched_fields(result), result.records) for result in results]
    return _joined(head, _FETCHED_PARTITIONS, partitions, _FETCHED_RECORDS)


def fetch_failed_to_wire(correlation_id: int, error: MinikafkaError) -> bytes:
    return client_pb2.FetchResponse(
        correlation_id=correlation_id, error=error_to_wire(error)
    ).SerializeToString()


def _fetched(each: client_pb2.FetchedPartition, records: bytes) -> FetchResult:
    return FetchResult(
        topic_partition(each.topic, each.partition),
        error_of(each),
        each.high_watermark,
        each.log_start_offset,
        records,
        _hint_of(each),
        last_stable_offset=each.last_stable_offset,
        aborted=[
            AbortedTransaction(aborted.producer_id, aborted.first_offset)
            for aborted in each.aborted
        ]
        or None,
    )


def fetched_from_wire(raw: bytes) -> Answer[FetchResult]:
    if len(raw) >= LARGE_BYTES:
        wire, detached = _detach(
            raw, client_pb2.FetchResponse, _FETCHED_PARTITIONS, _FETCHED_RECORDS
        )
        results = [
            _fetched(client_pb2.FetchedPartition.FromString(fields), records)
            for fields, records in detached
        ]
    else:
        wire = client_pb2.FetchResponse.FromString(raw)
        results = [_fetched(each, each.records) for each in wire.partitions]
    if wire.HasField("error"):
        return wire.correlation_id, error_from_wire(wire.error)
    return wire.correlation_id, results


# --- replicate -----------------------------------------------------------------------------------


def replicate_to_wire(request: ReplicaFetchRequest) -> bytes:
    wire = replication_pb2.ReplicateRequest(
        replica_id=request.replica_id,
        replica_broker_epoch=request.replica_broker_epoch,
        max_wait_ms=request.max_wait_ms,
        min_bytes=request.min_bytes,
        max_bytes=request.max_bytes,
        partition_max_bytes=request.partition_max_bytes,
        session_id=request.session_id,
        session_epoch=request.session_epoch,
        forgotten=tps_to_wire(request.forgotten),
    )
    add = wire.positions.add
    for position in request.positions:
        tp = position.topic_partition
        add(
            topic=tp.topic,
            partition=tp.partition,
            topic_id=position.topic_id,
            fetch_offset=position.fetch_offset,
            last_fetched_epoch=position.last_fetched_epoch,
            current_leader_epoch=position.current_leader_epoch,
            log_start_offset=position.log_start_offset,
        )
    return wire.SerializeToString()


def replicate_from_wire(raw: bytes) -> ReplicaFetchRequest:
    wire = replication_pb2.ReplicateRequest.FromString(raw)
    return ReplicaFetchRequest(
        wire.replica_id,
        wire.replica_broker_epoch,
        wire.max_wait_ms,
        wire.min_bytes,
        wire.max_bytes,
        wire.partition_max_bytes,
        [
            FollowerPosition(
                topic_partition(each.topic, each.partition),
                each.topic_id,
                each.fetch_offset,
                each.last_fetched_epoch,
                each.current_leader_epoch,
                each.log_start_offset,
            )
            for each in wire.positions
        ],
        wire.session_id,
        wire.session_epoch,
        [topic_partition(each.topic, each.partition) for each in wire.forgotten],
    )


def _replicated_fields(result: ReplicaFetchResult) -> replication_pb2.ReplicatedPartition:
    """Everything but the records."""
    wire = replication_pb2.ReplicatedPartition(
        topic=result.topic_partition.topic,
        partition=result.topic_partition.partition,
        high_watermark=result.high_watermark,
        log_start_offset=result.log_start_offset,
        log_end_offset=result.log_end_offset,
    )
    if result.error is not None:
        wire.error.CopyFrom(error_to_wire(result.error))
    if result.state is not None:
        wire.state.CopyFrom(state_to_wire(result.state))
    if result.diverging is not None:
        wire.diverging.SetInParent()
        wire.diverging.end_offset = result.diverging.offset
        wire.diverging.leader_epoch = result.diverging.leader_epoch
    return wire


def replicated_to_wire(response: ReplicaFetchResponse) -> bytes:
    head = replication_pb2.ReplicateResponse(session_id=response.session_id)
    if all(len(result.records) < LARGE_BYTES for result in response.results):
        for result in response.results:
            partition = _replicated_fields(result)
            partition.records = result.records
            head.partitions.append(partition)
        return head.SerializeToString()
    partitions = [(_replicated_fields(result), result.records) for result in response.results]
    return _joined(head, _REPLICATED_PARTITIONS, partitions, _REPLICATED_RECORDS)


def replicate_failed_to_wire(error: MinikafkaError) -> bytes:
    return replication_pb2.ReplicateResponse(error=error_to_wire(error)).SerializeToString()


def _replicated(each: replication_pb2.ReplicatedPartition, records: bytes) -> ReplicaFetchResult:
    diverging = None
    if each.HasField("diverging"):
        diverging = OffsetAndEpoch(each.diverging.end_offset, each.diverging.leader_epoch)
    return ReplicaFetchResult(
        topic_partition(each.topic, each.partition),
        error_of(each),
        state_from_wire(each.state) if each.HasField("state") else None,
        diverging,
        each.high_watermark,
        each.log_start_offset,
        each.log_end_offset,
        records,
    )


def replicated_from_wire(raw: bytes) -> ReplicaFetchResponse:
    """Raises the error of the request as a whole, if the leader answered with one."""
    if len(raw) >= LARGE_BYTES:
        wire, detached = _detach(
            raw, replication_pb2.ReplicateResponse, _REPLICATED_PARTITIONS, _REPLICATED_RECORDS
        )
        results = [
            _replicated(replication_pb2.ReplicatedPartition.FromString(fields), records)
            for fields, records in detached
        ]
    else:
        wire = replication_pb2.ReplicateResponse.FromString(raw)
        results = [_replicated(each, each.records) for each in wire.partitions]
    raise_error_of(wire)
    return ReplicaFetchResponse(results, wire.session_id)
