"""More requests of Kafka's protocol without a client library: CreateTopics, DescribeQuorum and
InitProducerId.

For the same reason as in tests/helpers/kafka_probe.py: a library has its own idea of when to ask
again, which would be measured along.
"""

from __future__ import annotations

import socket
import struct

_TIMEOUT_S = 1.0
_MOST_BYTES = 1024 * 1024
_CREATE_TOPICS, _INIT_PRODUCER_ID, _DESCRIBE_QUORUM = 19, 22, 55
_NONE, _TOPIC_ALREADY_EXISTS = 0, 36
_TRANSACTION_TIMEOUT_MS = 60_000
_METADATA_TOPIC = b"__cluster_metadata"


def creates_topic(address: str, name: str, replicas: int) -> bool:
    """Whether the broker at HOST:PORT has the topic created (or it was already, as by a try before
    whose answer did not come)."""
    answer = _ask(address, create_topic_frame(name, replicas))
    return answer is not None and created_in(answer)


def create_topic_frame(name: str, replicas: int) -> bytes:
    """CreateTopics v2 of one topic with one partition."""
    topic = _string(name) + struct.pack(">ihii", 1, replicas, 0, 0)
    body = struct.pack(">i", 1) + topic + struct.pack(">i?", int(_TIMEOUT_S * 1e3), False)
    return _frame(struct.pack(">hhi", _CREATE_TOPICS, 2, 1) + _string("probe") + body)


def created_in(answer: bytes) -> bool:
    """An answer is the correlation id, throttling, one topic: its name, an error, a message."""
    try:
        count, name_bytes = struct.unpack_from(">ih", answer, 8)
        (error,) = struct.unpack_from(">h", answer, 14 + name_bytes)
    except struct.error:
        return False
    return count == 1 and error in (_NONE, _TOPIC_ALREADY_EXISTS)


def quorum_leader(address: str) -> int | None:
    """The leader of the metadata quorum, as the broker at HOST:PORT hears it; None if nobody leads,
    or tells."""
    answer = _ask(address, describe_quorum_frame())
    return None if answer is None else leader_in(answer)


def describe_quorum_frame() -> bytes:
    """DescribeQuorum v0 of the one partition. Lengths are of the compact kind (one more), and a
    zero follows each structure, for no tagged fields."""
    name = bytes([len(_METADATA_TOPIC) + 1]) + _METADATA_TOPIC
    partitions = bytes([2]) + struct.pack(">i", 0) + b"\0"
    body = bytes([2]) + name + partitions + b"\0" + b"\0"
    return _frame(struct.pack(">hhi", _DESCRIBE_QUORUM, 0, 1) + _string("probe") + b"\0" + body)


def leader_in(answer: bytes) -> int | None:
    """None if there is an error in it."""
    position = 4 + 1  # the correlation id, no tagged fields
    try:
        (error,) = struct.unpack_from(">h", answer, position)
        if error or answer[position + 2] != 2:  # one topic
            return None
        position += 3
        position += answer[position]  # the name, whose length is counted with its own byte
        position += 1 + 4  # one partition, its index
        error, leader_id = struct.unpack_from(">hi", answer, position)
    except (struct.error, IndexError):
        return None
    return leader_id if not error and leader_id > 0 else None


def init_producer_id_frame(transactional_id: str) -> bytes:
    """InitProducerId v1: begin anew under this id."""
    body = _string(transactional_id) + struct.pack(">i", _TRANSACTION_TIMEOUT_MS)
    return _frame(struct.pack(">hhi", _INIT_PRODUCER_ID, 1, 1) + _string("probe") + body)


def producer_id_error_in(answer: bytes) -> int:
    """0 if there is a producer id in it. ValueError if it cannot be read."""
    try:
        _correlation_id, _throttled_ms, error = struct.unpack_from(">iih", answer)
    except struct.error as short:
        raise ValueError(f"an answer of {len(answer)} bytes") from short
    return int(error)


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _frame(request: bytes) -> bytes:
    return struct.pack(">i", len(request)) + request


def _ask(address: str, frame: bytes) -> bytes | None:
    """The answer, without its length; None if there is none in time."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), _TIMEOUT_S) as connection:
            connection.sendall(frame)
            with connection.makefile("rb") as stream:
                (size,) = struct.unpack(">i", stream.read(4))
                return stream.read(min(size, _MOST_BYTES))
    except (OSError, struct.error):
        return None
