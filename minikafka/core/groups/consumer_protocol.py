"""What consumers of one group tell each other: Kafka's ConsumerProtocol, as bytes.

    subscription  version int16, topics [string], user data bytes
                  from 1: owned partitions [topic string, partitions [int32]]
                  from 2: generation int32          from 3: rack string, or null
    assignment    version int16, partitions [topic string, partitions [int32]], user data bytes

In plain fields (plain_fields.py). The coordinator hands them on unread, except that it looks for
the topics (offsets of topics that a group reads are kept). Later versions only add fields at the
end, so any is read as far as it is known (ConsumerProtocolSubscription.json,
ConsumerProtocolAssignment.json in Apache Kafka).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import error

from minikafka.core.groups.plain_fields import INT16, INT32, FieldReader, blob, string
from minikafka.errors import InvalidRequestError
from minikafka.model import TopicPartition

CONSUMER_PROTOCOL_TYPE = "consumer"
_SUBSCRIPTION_VERSION = 2
_ASSIGNMENT_VERSION = 0


@dataclass(frozen=True, slots=True)
class Subscription:
    """`owned`: the partitions that the member had in `generation_id` (-1: none)."""

    topics: tuple[str, ...]
    user_data: bytes = b""
    owned: tuple[TopicPartition, ...] = ()
    generation_id: int = -1


def _read_partitions(reader: FieldReader) -> tuple[TopicPartition, ...]:
    found = []
    for _ in range(reader.int32()):
        topic = reader.string()
        found += [TopicPartition(topic, reader.int32()) for _ in range(reader.int32())]
    return tuple(found)


def decode_subscription(data: bytes) -> Subscription:
    """Raises InvalidRequestError for bytes that are none."""
    reader = FieldReader(data)
    try:
        version = reader.int16()
        topics = tuple(reader.string() for _ in range(reader.int32()))
        user_data = b"" if reader.at_end else reader.blob()
        owned = _read_partitions(reader) if version >= 1 and not reader.at_end else ()
        generation_id = reader.int32() if version >= 2 and not reader.at_end else -1
    except (error, ValueError) as problem:
        raise InvalidRequestError(f"this is no subscription of a consumer: {problem}") from None
    return Subscription(topics, user_data, owned, generation_id)


def subscribed_topics(data: bytes, most: int) -> tuple[str, ...]:
    """The topics of a subscription alone. Raises InvalidRequestError also for more than `most` of
    them: who reads it for somebody else does not take as long as that one likes."""
    reader = FieldReader(data)
    try:
        reader.int16()
        count = reader.int32()
        if count > most:
            raise ValueError(f"{count} topics, at most {most} are looked at")
        return tuple(reader.string() for _ in range(count))
    except (error, ValueError) as problem:
        raise InvalidRequestError(f"this is no subscription of a consumer: {problem}") from None


def encode_subscription(subscription: Subscription) -> bytes:
    topics = [string(topic) for topic in subscription.topics]
    return b"".join(
        [
            INT16.pack(_SUBSCRIPTION_VERSION),
            INT32.pack(len(topics)),
            *topics,
            blob(subscription.user_data),
            _partitions(subscription.owned),
            INT32.pack(subscription.generation_id),
        ]
    )


def decode_assignment(data: bytes) -> tuple[TopicPartition, ...]:
    """Empty bytes are an empty assignment. Raises InvalidRequestError for bytes that are none."""
    if not data:
        return ()
    reader = FieldReader(data)
    try:
        reader.int16()
        return _read_partitions(reader)
    except (error, ValueError) as problem:
        raise InvalidRequestError(f"this is no assignment of a consumer: {problem}") from None


def encode_assignment(partitions: Sequence[TopicPartition], user_data: bytes = b"") -> bytes:
    return INT16.pack(_ASSIGNMENT_VERSION) + _partitions(partitions) + blob(user_data)


def _partitions(partitions: Iterable[TopicPartition]) -> bytes:
    by_topic: dict[str, list[int]] = {}
    for each in partitions:
        by_topic.setdefault(each.topic, []).append(each.partition)
    parts = [INT32.pack(len(by_topic))]
    for topic, numbers in by_topic.items():
        parts += [string(topic), INT32.pack(len(numbers)), *map(INT32.pack, numbers)]
    return b"".join(parts)
