"""Produce, versions 0 to 9, by hand: records are memoryviews of the frame, never copied.

    request    transactional id (3+), acks, timeout ms, topics: name, partitions: index, records
    response   topics: name, partitions: index, error, base offset, log append time (2+),
               log start offset (5+), record errors and message (8+); throttle time (1+)

Version 9 is the flexible form of 8. Versions below 3 carry old message formats, which the log
refuses batch by batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from struct import Struct

from minikafka.broker.requests import ProducePartition, ProduceRequest, ProduceResult
from minikafka.errors import (
    CorruptMessageError,
    InvalidRecordError,
    MinikafkaError,
    UnsupportedForMessageFormatError,
)
from minikafka.kafka.errors import partition_code
from minikafka.kafka.wire import INT32, INT64, Reader, count, string
from minikafka.model import topic_partition

_ACKS_AND_TIMEOUT = Struct(">hi")
_RESULT = Struct(">ihq")
_NO_TIMESTAMP = INT64.pack(-1)
_MAGIC_POSITION = 16
_MAGIC = 2


def read_request(reader: Reader, version: int) -> ProduceRequest:
    """MalformedRequestError if the bytes are no such request."""
    if version >= 3:
        reader.nullable_string()  # the transactional id: transactions are not served
    acks, timeout_ms = reader.unpack(_ACKS_AND_TIMEOUT)
    partitions: list[ProducePartition] = []

    def read_topic(reader: Reader) -> None:
        name = reader.string()

        def read_partition(reader: Reader) -> None:
            index = reader.int32()
            records = reader.nullable_bytes()
            reader.tags()
            empty = memoryview(b"")
            partitions.append(ProducePartition(topic_partition(name, index), records or empty))

        reader.array(read_partition)
        reader.tags()

    reader.array(read_topic)
    reader.tags()
    return ProduceRequest(acks, max(timeout_ms, 0), partitions)


def old_format(item: ProducePartition) -> MinikafkaError | None:
    """The error for records in a message format before v2, or None."""
    if len(item.records) > _MAGIC_POSITION and 0 <= item.records[_MAGIC_POSITION] < _MAGIC:
        return UnsupportedForMessageFormatError(
            f"records in message format {item.records[_MAGIC_POSITION]}: only v{_MAGIC} is stored"
        )
    return None


def write_response(results: Sequence[ProduceResult], version: int) -> list[bytes]:
    """The body after the response header."""
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
            code = 0 if error is None else partition_code(error)
            out.append(_RESULT.pack(result.topic_partition.partition, code, result.base_offset))
            if version >= 2:
                out.append(_NO_TIMESTAMP)
            if version >= 5:
                out.append(INT64.pack(result.log_start_offset))
            if version >= 8:
                out.append(count(0, flexible=flexible))
                out.append(string(_message(error), flexible=flexible))
            out.append(tags)
        out.append(tags)
    if version >= 1:
        out.append(INT32.pack(0))
    out.append(tags)
    return out


def _message(error: MinikafkaError | None) -> str | None:
    """Only for records that the producer got wrong, as Kafka does."""
    return str(error) if isinstance(error, InvalidRecordError | CorruptMessageError) else None
