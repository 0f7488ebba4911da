"""Produce, versions 0 to 12, by hand: records are memoryviews of the frame, never copied.

    request    transactional id (3+), acks, timeout ms, topics: name, partitions: index, records
    response   topics: name, partitions: index, error, base offset, log append time (2+),
               log start offset (5+), record errors and message (8+), [leader (10+)];
               throttle time (1+), [endpoints of those leaders (10+)]

Version 9 is the flexible form of 8. From 10 on a producer that came to the wrong broker is told who
leads, and where that is (KIP-951), in tags. Who speaks 11 knows TRANSACTION_ABORTABLE, and who
speaks 12 has not told the coordinator which partitions it writes to (KIP-890).

Versions below 3 carry old message formats, which are refused batch by batch, as zstd is below
version 7. A partition that is named twice counts once, as it was named last; of each there is one
batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from struct import Struct

from minikafka.api.requests import (
    LeaderHint,
    ProducePartition,
    ProduceRequest,
    ProduceResult,
)
from minikafka.errors import (
    CorruptMessageError,
    InvalidRecordError,
    InvalidTxnStateError,
    MinikafkaError,
    TransactionAbortableError,
    UnsupportedCompressionTypeError,
    UnsupportedForMessageFormatError,
    WrongRecordsError,
)
from minikafka.kafka.errors import partition_code
from minikafka.kafka.reach import Reachable
from minikafka.kafka.wire import INT32, INT64, Reader, count, string, varint
from minikafka.model import TopicPartition, topic_partition
from minikafka.records.compression import Codec
from minikafka.records.header import CODEC_MASK, HEADER_BYTES, LENGTH_PREFIX_BYTES

_FIRST_WITH_LEADERS = 10
_FIRST_ABORTABLE = 11
_FIRST_OF_TV2 = 12
_ACKS_AND_TIMEOUT = Struct(">hi")
_RESULT = Struct(">ihq")
_LEADER = Struct(">ii")
_NOTHING = memoryview(b"")
_LENGTH_POSITION, _MAGIC_POSITION, _CODEC_POSITION = 8, 16, 22
_MAGIC = 2


def read_request(reader: Reader, version: int, source: object = None) -> ProduceRequest:
    """MalformedRequestError if the bytes are no such request."""
    transactional_id = reader.nullable_string() if version >= 3 else None
    acks, timeout_ms = reader.unpack(_ACKS_AND_TIMEOUT)
    partitions: dict[TopicPartition, memoryview] = {}

    def read_topic(reader: Reader) -> None:
        name = reader.string()

        def read_partition(reader: Reader) -> None:
            index = reader.int32()
            records = reader.nullable_bytes()
            reader.tags()
            partitions[topic_partition(name, index)] = records or _NOTHING

        reader.array(read_partition)
        reader.tags()

    reader.array(read_topic)
    reader.tags()
    items = [ProducePartition(each, records) for each, records in partitions.items()]
    return ProduceRequest(
        acks,
        max(timeout_ms, 0),
        items,
        source,
        transactional_id,
        adds_to_transaction=version >= _FIRST_OF_TV2,
        knows_abortable=version >= _FIRST_ABORTABLE,
    )


def refusal(records: memoryview, version: int) -> MinikafkaError | None:
    """What a version must not carry; None if it may. More cannot be told of bytes that are too
    short to be a batch."""
    if len(records) <= _MAGIC_POSITION:
        return None
    magic = records[_MAGIC_POSITION]
    if 0 <= magic < _MAGIC:
        if version < 3:
            return UnsupportedForMessageFormatError(
                f"records in message format {magic}: only v{_MAGIC} is stored"
            )
        return InvalidRecordError(
            f"Produce version {version} carries batches of message format {_MAGIC}, not {magic}"
        )
    if len(records) < HEADER_BYTES:
        return None
    if version < 7 and records[_CODEC_POSITION] & CODEC_MASK == Codec.ZSTD:
        return UnsupportedCompressionTypeError(
            f"zstd comes with Produce version 7 (KIP-110); this is version {version}"
        )
    (length,) = INT32.unpack_from(records, _LENGTH_POSITION)
    if 0 <= length < len(records) - LENGTH_PREFIX_BYTES:
        return InvalidRecordError(
            "a produce request holds one record batch for a partition; bytes follow the first one"
        )
    return None


def write_response(
    results: Sequence[ProduceResult], version: int, leaders: Mapping[int, Reachable] | None = None
) -> list[bytes]:
    """The body after the response header. `leaders`: those of the brokers whom results name as
    leaders that have a Kafka listener, by id; for versions that tell of them."""
    flexible = version >= 9
    tags = b"\x00" if flexible else b""
    topics = [
        (topic, list(group)) for topic, group in groupby(results, lambda r: r.topic_partition.topic)
    ]
    out = [count(len(topics), flexible=flexible)]
    for topic, group in topics:
        out.append(string(topic, flexible=flexible))
        out.append(count(len(group), flexible=flexible))
        for result in group:
            error = result.error
            code = 0 if error is None else _code(error, version)
            out.append(_RESULT.pack(result.topic_partition.partition, code, result.base_offset))
            if version >= 2:
                out.append(INT64.pack(result.log_append_time_ms))
            if version >= 5:
                out.append(INT64.pack(result.log_start_offset))
            if version >= 8:
                out.append(_record_errors(error, flexible=flexible))
                out.append(string(_message(error), flexible=flexible))
            out.append(_leader(result.leader_hint, leaders) if leaders else tags)
        out.append(tags)
    if version >= 1:
        out.append(INT32.pack(0))
    out.append(_endpoints(leaders) if leaders else tags)
    return out


def leaders_named(results: Sequence[ProduceResult], version: int) -> set[int]:
    """The brokers of which the answer tells that they lead."""
    if version < _FIRST_WITH_LEADERS:
        return set()
    return {result.leader_hint.leader for result in results if result.leader_hint is not None}


def _code(error: MinikafkaError, version: int) -> int:
    if isinstance(error, TransactionAbortableError) and version < _FIRST_ABORTABLE:
        return InvalidTxnStateError.code
    return partition_code(error)


def _leader(hint: LeaderHint | None, leaders: Mapping[int, Reachable]) -> bytes:
    """The tags of a partition."""
    if hint is None or hint.leader not in leaders:
        return b"\x00"
    data = _LEADER.pack(hint.leader, hint.leader_epoch) + b"\x00"
    return b"\x01\x00" + varint(len(data)) + data


def _endpoints(leaders: Mapping[int, Reachable]) -> bytes:
    """The tags of the whole."""
    data = count(len(leaders), flexible=True) + b"".join(
        INT32.pack(broker_id)
        + string(broker.host, flexible=True)
        + INT32.pack(broker.port)
        + string(broker.rack, flexible=True)
        + b"\x00"
        for broker_id, broker in leaders.items()
    )
    return b"\x01\x00" + varint(len(data)) + data


def _record_errors(error: MinikafkaError | None, *, flexible: bool) -> bytes:
    named = error.record_errors if isinstance(error, WrongRecordsError) else ()
    tags = b"\x00" if flexible else b""
    return count(len(named), flexible=flexible) + b"".join(
        INT32.pack(place) + string(why, flexible=flexible) + tags for place, why in named
    )


def _message(error: MinikafkaError | None) -> str | None:
    """Only for records that the producer got wrong, as Kafka does."""
    return str(error) if isinstance(error, WrongRecordsError | CorruptMessageError) else None
