"""What consumers of one group tell each other: Kafka's ConsumerProtocol, as bytes.

    subscription  version int16, topics [string], user data bytes
                  from 1: owned partitions [topic string, partitions [int32]]
                  from 2: generation int32          from 3: rack string, or null
    assignment    version int16, partitions [topic string, partitions [int32]], user data bytes

All big-endian; strings have an int16 length, arrays and bytes an int32 one (-1: null). The
coordinator hands them on unread, except that it looks for the topics (offsets of topics that a
group reads are kept). Later versions only add fields at the end, so any is read as far as it is
known (ConsumerProtocolSubscription.json, ConsumerProtocolAssignment.json in Apache Kafka).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct, error

from minikafka.errors import InvalidRequestError
from minikafka.model import TopicPartition

CONSUMER_PROTOCOL_TYPE = "consumer"
_INT16 = Struct(">h")
_INT32 = Struct(">i")
_SUBSCRIPTION_VERSION = 2
_ASSIGNMENT_VERSION = 0


@dataclass(frozen=True, slots=True)
class Subscription:
    """`owned`: the partitions that the member had in `generation_id` (-1: none)."""

    topics: tuple[str, ...]
    user_data: bytes = b""
    owned: tuple[TopicPartition, ...] = ()
    generation_id: int = -1


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position >= len(self._data)

    def int16(self) -> int:
        return self._number(_INT16)

    def int32(self) -> int:
        return self._number(_INT32)

    def _number(self, kind: Struct) -> int:
        value: int = kind.unpack_from(self._data, self._position)[0]
        self._position += kind.size
        return value

    def string(self) -> str:
        return self._take(self.int16()).decode()

    def blob(self) -> bytes:
        """Null reads as empty."""
        return self._take(max(self.int32(), 0))

    def _take(self, length: int) -> bytes:
        end = self._position + length
        if length < 0 or end > len(self._data):
            raise ValueError(f"a length of {length} at byte {self._position}")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def partitions(self) -> tuple[TopicPartition, ...]:
        found = []
        for _ in range(self.int32()):
            topic = self.string()
            found += [TopicPartition(topic, self.int32()) for _ in range(self.int32())]
        return tuple(found)


def decode_subscription(data: bytes) -> Subscription:
    """Raises InvalidRequestError for bytes that are none."""
    reader = _Reader(data)
    try:
        version = reader.int16()
        topics = tuple(reader.string() for _ in range(reader.int32()))
        user_data = b"" if reader.at_end else reader.blob()
        owned = reader.partitions() if version >= 1 and not reader.at_end else ()
        generation_id = reader.int32() if version >= 2 and not reader.at_end else -1
    except (error, ValueError) as problem:
        raise InvalidRequestError(f"this is no subscription of a consumer: {problem}") from None
    return Subscription(topics, user_data, owned, generation_id)


def encode_subscription(subscription: Subscription) -> bytes:
    topics = [_string(topic) for topic in subscription.topics]
    return b"".join(
        [
            _INT16.pack(_SUBSCRIPTION_VERSION),
            _INT32.pack(len(topics)),
            *topics,
            _bytes(subscription.user_data),
            _partitions(subscription.owned),
            _INT32.pack(subscription.generation_id),
        ]
    )


def decode_assignment(data: bytes) -> tuple[TopicPartition, ...]:
    """Empty bytes are an empty assignment. Raises InvalidRequestError for bytes that are none."""
    if not data:
        return ()
    reader = _Reader(data)
    try:
        reader.int16()
        return reader.partitions()
    except (error, ValueError) as problem:
        raise InvalidRequestError(f"this is no assignment of a consumer: {problem}") from None


def encode_assignment(partitions: Sequence[TopicPartition], user_data: bytes = b"") -> bytes:
    return _INT16.pack(_ASSIGNMENT_VERSION) + _partitions(partitions) + _bytes(user_data)


def _string(text: str) -> bytes:
    data = text.encode()
    return _INT16.pack(len(data)) + data


def _bytes(data: bytes) -> bytes:
    return _INT32.pack(len(data)) + data


def _partitions(partitions: Iterable[TopicPartition]) -> bytes:
    by_topic: dict[str, list[int]] = {}
    for each in partitions:
        by_topic.setdefault(each.topic, []).append(each.partition)
    parts = [_INT32.pack(len(by_topic))]
    for topic, numbers in by_topic.items():
        parts += [_string(topic), _INT32.pack(len(numbers)), *map(_INT32.pack, numbers)]
    return b"".join(parts)
