"""The records of `__transaction_state`, in Apache Kafka's own schema, so that its tools read them.

    key    version int16 (0), transactional id string
    value  version int16 (null: the id is forgotten), then
           producer id int64, producer epoch int16, timeout int32, state int8,
           partitions [topic string, numbers [int32]] or null (exactly if Empty),
           last update int64, start int64                                 versions 0, 1
           tags: 0 previous producer id int64, 1 next producer id int64,
                 2 version of the protocol int16, 1000 last epoch int16   version 1

Version 1 is the flexible one (compact strings and arrays, tags) and is written; version 0 is read.
A tag is written where it says something. The last epoch has a tag of our own, far from Kafka's
(KAFKA-20357 gives it one in a later version): who does not know a tag passes over it.

Pure, without state.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct, error

from minikafka.core.groups.plain_fields import (
    INT16,
    INT32,
    INT64,
    FieldReader,
    string,
)
from minikafka.core.transactions.values import (
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    TransactionRecord,
    TransactionState,
    TransactionValue,
    TransactionVersion,
)
from minikafka.errors import CorruptMessageError
from minikafka.model import TopicPartition
from minikafka.records.build import BatchBuilder

KEY_VERSION = 0
VALUE_VERSION = 1
PREVIOUS_PRODUCER_ID, NEXT_PRODUCER_ID, PROTOCOL_VERSION = 0, 1, 2
LAST_EPOCH = 1000
_KEY = Struct(">hh")
_FIXED = Struct(">hqhib")
_TIMES = Struct(">qq")
_STATES = tuple(TransactionState)
_NO_PARTITIONS: frozenset[TopicPartition] = frozenset()


def encode_batch(records: Iterable[TransactionRecord], timestamp_ms: int) -> bytes:
    """One batch of these records. MessageTooLargeError for a text longer than the format has."""
    builder = BatchBuilder()
    for record in records:
        builder.append(encode_key(record), encode_value(record), (), timestamp_ms)
    return builder.build()


def encode_key(record: TransactionRecord) -> bytes:
    return INT16.pack(KEY_VERSION) + string(record.transactional_id)


def encode_value(record: TransactionRecord) -> bytes | None:
    value = record.value
    if value is None:
        return None
    tags = [
        (PREVIOUS_PRODUCER_ID, INT64, value.previous_producer_id, NO_PRODUCER_ID),
        (NEXT_PRODUCER_ID, INT64, value.next_producer_id, NO_PRODUCER_ID),
        (PROTOCOL_VERSION, INT16, value.version, TransactionVersion.TV1),
        (LAST_EPOCH, INT16, value.last_epoch, NO_PRODUCER_EPOCH),
    ]
    told = [(tag, kind.pack(said)) for tag, kind, said, default in tags if said != default]
    parts = [
        _FIXED.pack(
            VALUE_VERSION,
            value.producer_id,
            value.producer_epoch,
            value.timeout_ms,
            value.state,
        ),
        _partitions(value),
        _TIMES.pack(value.last_update_timestamp_ms, value.start_timestamp_ms),
        _unsigned(len(told)),
    ]
    parts += [_unsigned(tag) + _unsigned(len(data)) + data for tag, data in told]
    return b"".join(parts)


def _partitions(value: TransactionValue) -> bytes:
    """By topic, compact. In order, so that equal values have equal bytes."""
    if value.state is TransactionState.EMPTY:
        return _unsigned(0)
    by_topic: dict[str, list[int]] = {}
    for each in sorted(value.partitions):
        by_topic.setdefault(each.topic, []).append(each.partition)
    parts = [_unsigned(len(by_topic) + 1)]
    for topic, numbers in by_topic.items():
        name = topic.encode()
        parts += [_unsigned(len(name) + 1), name, _unsigned(len(numbers) + 1)]
        parts += [INT32.pack(number) for number in numbers]
        parts.append(_unsigned(0))  # no tags
    return b"".join(parts)


def _unsigned(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


# --- reading -------------------------------------------------------------------------------------


def decode(key: bytes | None, value: bytes | None) -> TransactionRecord | None:
    """None for a kind of record that is not known (a later version of Kafka may have others).
    Raises CorruptMessageError for one that cannot be read."""
    try:
        version, length = _KEY.unpack_from(key or b"")
        if version != KEY_VERSION:
            return None
        assert key is not None
        name = key[_KEY.size : _KEY.size + length]
        if length < 0 or len(name) != length:
            raise ValueError(f"an id of {length} bytes")
        transactional_id = name.decode()
        return TransactionRecord(transactional_id, None if value is None else _value(value))
    except (error, ValueError) as problem:
        raise CorruptMessageError(f"a record of __transaction_state: {problem}") from None


class _FlexibleReader(FieldReader):
    """With the kinds of fields that version 1 has, after the fixed part."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._position = _FIXED.size

    def unsigned(self) -> int:
        position = self._position
        if position < len(self._data) and self._data[position] < 0x80:
            self._position = position + 1
            return self._data[position]
        number = 0
        for shift in (0, 7, 14, 21, 28):
            if self.at_end:
                break
            byte = self._data[self._position]
            self._position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise ValueError(f"a number that does not end before byte {self._position}")

    def length(self, *, compact: bool) -> int:
        """Of an array; -1 for null."""
        return self.unsigned() - 1 if compact else self.int32()

    def name(self, *, compact: bool) -> str:
        return self._take(self.unsigned() - 1).decode() if compact else self.string()

    def times(self) -> tuple[int, int]:
        return _TIMES.unpack(self._take(_TIMES.size))

    def tags(self) -> dict[int, bytes]:
        return {self.unsigned(): self._take(self.unsigned()) for _ in range(self.unsigned())}


def _value(data: bytes) -> TransactionValue:
    version, producer_id, producer_epoch, timeout_ms, state = _FIXED.unpack_from(data)
    if not 0 <= version <= VALUE_VERSION:
        raise ValueError(f"a value of version {version}; known are 0 to {VALUE_VERSION}")
    compact = version >= 1
    reader = _FlexibleReader(data)
    topics = reader.length(compact=compact)
    partitions = _NO_PARTITIONS if topics <= 0 else _read_partitions(reader, topics, compact)
    last_update_ms, start_ms = reader.times()
    tags = reader.tags() if compact else {}
    fixed = (
        producer_id,
        producer_epoch,
        timeout_ms,
        _state(state),
        partitions,
        last_update_ms,
        start_ms,
    )
    if not tags:
        return TransactionValue(*fixed)
    return TransactionValue(
        *fixed,
        _tag(tags, LAST_EPOCH, INT16, NO_PRODUCER_EPOCH),
        _tag(tags, PREVIOUS_PRODUCER_ID, INT64, NO_PRODUCER_ID),
        _tag(tags, NEXT_PRODUCER_ID, INT64, NO_PRODUCER_ID),
        _version(_tag(tags, PROTOCOL_VERSION, INT16, TransactionVersion.TV1)),
    )


def _state(number: int) -> TransactionState:
    if not 0 <= number < len(_STATES):
        raise ValueError(f"a state {number}; known are 0 to {len(_STATES) - 1}")
    return _STATES[number]


def _read_partitions(
    reader: _FlexibleReader, topics: int, compact: bool
) -> frozenset[TopicPartition]:
    return frozenset(
        TopicPartition(*each) for _ in range(topics) for each in _topic(reader, compact=compact)
    )


def _topic(reader: _FlexibleReader, *, compact: bool) -> list[tuple[str, int]]:
    topic = reader.name(compact=compact)
    numbers = [reader.int32() for _ in range(reader.length(compact=compact))]
    if compact:
        reader.tags()
    return [(topic, number) for number in numbers]


def _tag(tags: dict[int, bytes], tag: int, kind: Struct, default: int) -> int:
    said: int = kind.unpack(tags[tag])[0] if tag in tags else default
    return said


def _version(stored: int) -> TransactionVersion:
    """Kafka knows a third one, between the two, in which a producer keeps its epoch as well."""
    return TransactionVersion.TV2 if stored >= TransactionVersion.TV2 else TransactionVersion.TV1
