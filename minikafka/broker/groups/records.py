"""The records of `__consumer_offsets`, in Apache Kafka's own schema, so that its tools read them.

    key    version int16, then
           0, 1  offset   group string, topic string, partition int32
           2     group    group string
    value of an offset (null: forgotten)
           version int16, offset int64, [3: leader epoch int32], metadata string,
           commit timestamp int64, [1: expire timestamp int64]            versions 0 to 3
    value of a group (null: gone)
           version int16, protocol type string, generation int32, protocol string or null,
           leader string or null, [2: state timestamp int64], members [
               member id string, [3: instance id string or null], client id string,
               client host string, [1: rebalance timeout int32], session timeout int32,
               subscription bytes, assignment bytes]                      versions 0 to 3

In plain fields (core/groups/plain_fields.py). Keys are written in version 1 and 2, values in
version 3. Pure, without state.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import error

from minikafka.core.groups.effects import (
    GroupRecord,
    GroupSnapshot,
    MemberSnapshot,
    OffsetAndMetadata,
    OffsetRecord,
    Record,
)
from minikafka.core.groups.plain_fields import (
    INT16,
    INT32,
    INT64,
    FieldReader,
    blob,
    optional_string,
    string,
)
from minikafka.errors import CorruptMessageError
from minikafka.model import TopicPartition
from minikafka.records.build import BatchBuilder

OFFSET_KEY_VERSION = 1
GROUP_KEY_VERSION = 2
VALUE_VERSION = 3


def encode_batch(
    records: Iterable[Record], timestamp_ms: int, producer: tuple[int, int] | None = None
) -> bytes:
    """One batch of these records. `producer`: they are part of the transaction of this producer id
    and epoch; such a batch has no sequence, since its producer has not written it (KIP-98).
    MessageTooLargeError for a text longer than the format has."""
    builder = BatchBuilder()
    for record in records:
        builder.append(encode_key(record), encode_value(record), (), timestamp_ms)
    if producer is None:
        return builder.build()
    producer_id, producer_epoch = producer
    return builder.build(producer_id=producer_id, producer_epoch=producer_epoch, transactional=True)


def encode_key(record: Record) -> bytes:
    if isinstance(record, OffsetRecord):
        return b"".join(
            [
                INT16.pack(OFFSET_KEY_VERSION),
                string(record.group_id),
                string(record.topic_partition.topic),
                INT32.pack(record.topic_partition.partition),
            ]
        )
    return INT16.pack(GROUP_KEY_VERSION) + string(record.group_id)


def encode_value(record: Record) -> bytes | None:
    if record.value is None:
        return None
    if isinstance(record.value, OffsetAndMetadata):
        value = record.value
        return b"".join(
            [
                INT16.pack(VALUE_VERSION),
                INT64.pack(value.offset),
                INT32.pack(value.leader_epoch),
                string(value.metadata),
                INT64.pack(value.commit_timestamp_ms),
            ]
        )
    group = record.value
    parts = [
        INT16.pack(VALUE_VERSION),
        string(group.protocol_type),
        INT32.pack(group.generation_id),
        optional_string(group.protocol_name),
        optional_string(group.leader_id),
        INT64.pack(group.state_timestamp_ms),
        INT32.pack(len(group.members)),
    ]
    for member in group.members:
        parts += [
            string(member.member_id),
            optional_string(member.instance_id),
            string(member.client_id),
            string(member.client_host),
            INT32.pack(member.rebalance_timeout_ms),
            INT32.pack(member.session_timeout_ms),
            blob(member.subscription),
            blob(member.assignment),
        ]
    return b"".join(parts)


# --- reading -------------------------------------------------------------------------------------


def decode(key: bytes | None, value: bytes | None, record_offset: int = -1) -> Record | None:
    """What lies at this offset. None for a kind of record that is not known (a later version of
    Kafka has others). Raises CorruptMessageError for one that cannot be read."""
    try:
        return _decode(FieldReader(key or b""), value, record_offset)
    except (error, ValueError) as problem:
        raise CorruptMessageError(f"a record of __consumer_offsets: {problem}") from None


def _decode(key: FieldReader, value: bytes | None, record_offset: int) -> Record | None:
    version = key.int16()
    if version in (0, OFFSET_KEY_VERSION):
        group_id, topic, partition = key.string(), key.string(), key.int32()
        offset = None if value is None else _offset(FieldReader(value), record_offset)
        return OffsetRecord(group_id, TopicPartition(topic, partition), offset)
    if version == GROUP_KEY_VERSION:
        group_id = key.string()
        return GroupRecord(group_id, None if value is None else _group(FieldReader(value)))
    return None


def _offset(reader: FieldReader, record_offset: int) -> OffsetAndMetadata:
    version = _known(reader.int16())
    offset = reader.int64()
    leader_epoch = reader.int32() if version >= 3 else -1
    metadata = reader.string()
    commit_timestamp_ms = reader.int64()
    expire_timestamp_ms = reader.int64() if version == 1 else -1
    return OffsetAndMetadata(
        offset, leader_epoch, metadata, commit_timestamp_ms, expire_timestamp_ms, record_offset
    )


def _known(version: int) -> int:
    if not 0 <= version <= VALUE_VERSION:
        raise ValueError(f"a value of version {version}; known are 0 to {VALUE_VERSION}")
    return version


def _group(reader: FieldReader) -> GroupSnapshot:
    version = _known(reader.int16())
    return GroupSnapshot(
        reader.string(),
        reader.int32(),
        reader.optional_string(),
        reader.optional_string(),
        reader.int64() if version >= 2 else -1,
        tuple(_member(reader, version) for _ in range(reader.int32())),
    )


def _member(reader: FieldReader, version: int) -> MemberSnapshot:
    member_id = reader.string()
    instance_id = reader.optional_string() if version >= 3 else None
    client_id, client_host = reader.string(), reader.string()
    rebalance_timeout_ms = reader.int32() if version >= 1 else -1
    session_timeout_ms = reader.int32()
    return MemberSnapshot(
        member_id,
        instance_id,
        client_id,
        client_host,
        session_timeout_ms if rebalance_timeout_ms < 0 else rebalance_timeout_ms,
        session_timeout_ms,
        reader.blob(),
        reader.blob(),
    )
