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

All big-endian; strings have an int16 length, arrays and bytes an int32 one (-1: null). Keys are
written in version 1 and 2, values in version 3. Pure, without state.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct, error

from minikafka.core.group_effects import (
    GroupRecord,
    GroupSnapshot,
    MemberSnapshot,
    OffsetAndMetadata,
    OffsetRecord,
    Record,
)
from minikafka.errors import CorruptMessageError, MessageTooLargeError
from minikafka.model import TopicPartition
from minikafka.records.build import BatchBuilder

OFFSET_KEY_VERSION = 1
GROUP_KEY_VERSION = 2
VALUE_VERSION = 3
_LONGEST_STRING = 2**15 - 1

_INT16 = Struct(">h")
_INT32 = Struct(">i")
_INT64 = Struct(">q")


def encode_batch(records: Iterable[Record], timestamp_ms: int) -> bytes:
    """One batch of these records. MessageTooLargeError for a text longer than the format has."""
    builder = BatchBuilder()
    for record in records:
        builder.append(encode_key(record), encode_value(record), (), timestamp_ms)
    return builder.build()


def encode_key(record: Record) -> bytes:
    if isinstance(record, OffsetRecord):
        return b"".join(
            [
                _INT16.pack(OFFSET_KEY_VERSION),
                _string(record.group_id),
                _string(record.topic_partition.topic),
                _INT32.pack(record.topic_partition.partition),
            ]
        )
    return _INT16.pack(GROUP_KEY_VERSION) + _string(record.group_id)


def encode_value(record: Record) -> bytes | None:
    if record.value is None:
        return None
    if isinstance(record.value, OffsetAndMetadata):
        value = record.value
        return b"".join(
            [
                _INT16.pack(VALUE_VERSION),
                _INT64.pack(value.offset),
                _INT32.pack(value.leader_epoch),
                _string(value.metadata),
                _INT64.pack(value.commit_timestamp_ms),
            ]
        )
    group = record.value
    parts = [
        _INT16.pack(VALUE_VERSION),
        _string(group.protocol_type),
        _INT32.pack(group.generation_id),
        _optional_string(group.protocol_name),
        _optional_string(group.leader_id),
        _INT64.pack(group.state_timestamp_ms),
        _INT32.pack(len(group.members)),
    ]
    for member in group.members:
        parts += [
            _string(member.member_id),
            _optional_string(member.instance_id),
            _string(member.client_id),
            _string(member.client_host),
            _INT32.pack(member.rebalance_timeout_ms),
            _INT32.pack(member.session_timeout_ms),
            _INT32.pack(len(member.subscription)),
            member.subscription,
            _INT32.pack(len(member.assignment)),
            member.assignment,
        ]
    return b"".join(parts)


def _string(text: str) -> bytes:
    data = text.encode()
    if len(data) > _LONGEST_STRING:
        raise MessageTooLargeError(f"a text of {len(data)} bytes; the format has {_LONGEST_STRING}")
    return _INT16.pack(len(data)) + data


def _optional_string(text: str | None) -> bytes:
    return _INT16.pack(-1) if text is None else _string(text)


# --- reading -------------------------------------------------------------------------------------


def decode(key: bytes | None, value: bytes | None) -> Record | None:
    """None for a kind of record that is not known (a later version of Kafka has others). Raises
    CorruptMessageError for one that cannot be read."""
    try:
        return _decode(_Reader(key or b""), value)
    except (error, ValueError) as problem:
        raise CorruptMessageError(f"a record of __consumer_offsets: {problem}") from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def number(self, kind: Struct) -> int:
        value: int = kind.unpack_from(self._data, self._position)[0]
        self._position += kind.size
        return value

    def string(self) -> str:
        return self._take(self.number(_INT16)).decode()

    def optional_string(self) -> str | None:
        length = self.number(_INT16)
        return None if length < 0 else self._take(length).decode()

    def blob(self) -> bytes:
        return self._take(max(self.number(_INT32), 0))

    def _take(self, length: int) -> bytes:
        end = self._position + length
        if length < 0 or end > len(self._data):
            raise ValueError(f"a length of {length} at byte {self._position}")
        taken = self._data[self._position : end]
        self._position = end
        return taken


def _decode(key: _Reader, value: bytes | None) -> Record | None:
    version = key.number(_INT16)
    if version in (0, OFFSET_KEY_VERSION):
        group_id, topic, partition = key.string(), key.string(), key.number(_INT32)
        offset = None if value is None else _offset(_Reader(value))
        return OffsetRecord(group_id, TopicPartition(topic, partition), offset)
    if version == GROUP_KEY_VERSION:
        group_id = key.string()
        return GroupRecord(group_id, None if value is None else _group(_Reader(value)))
    return None


def _offset(reader: _Reader) -> OffsetAndMetadata:
    version = _known(reader.number(_INT16))
    offset = reader.number(_INT64)
    leader_epoch = reader.number(_INT32) if version >= 3 else -1
    metadata = reader.string()
    commit_timestamp_ms = reader.number(_INT64)
    expire_timestamp_ms = reader.number(_INT64) if version == 1 else -1
    return OffsetAndMetadata(
        offset, leader_epoch, metadata, commit_timestamp_ms, expire_timestamp_ms
    )


def _known(version: int) -> int:
    if not 0 <= version <= VALUE_VERSION:
        raise ValueError(f"a value of version {version}; known are 0 to {VALUE_VERSION}")
    return version


def _group(reader: _Reader) -> GroupSnapshot:
    version = _known(reader.number(_INT16))
    return GroupSnapshot(
        reader.string(),
        reader.number(_INT32),
        reader.optional_string(),
        reader.optional_string(),
        reader.number(_INT64) if version >= 2 else -1,
        tuple(_member(reader, version) for _ in range(reader.number(_INT32))),
    )


def _member(reader: _Reader, version: int) -> MemberSnapshot:
    member_id = reader.string()
    instance_id = reader.optional_string() if version >= 3 else None
    client_id, client_host = reader.string(), reader.string()
    rebalance_timeout_ms = reader.number(_INT32) if version >= 1 else -1
    session_timeout_ms = reader.number(_INT32)
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
