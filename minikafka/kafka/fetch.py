"""Fetch, versions 4 to 12, by hand: the records go to the socket as they came from the log.

    request    replica id, max wait ms, min bytes, max bytes, isolation level (4+), session id and
               epoch (7+), topics: name, partitions: index, current leader epoch (9+), fetch offset,
               last fetched epoch (12+), log start offset (5+), max bytes;
               forgotten topics: name, partitions (7+); rack id (11+)
    response   throttle time, error and session id (7+), topics: name, partitions: index, error,
               high watermark, last stable offset, log start offset (5+), aborted transactions
               (null unless only committed records are wanted): producer id, first offset;
               preferred read replica (11+), records

Version 12 is the flexible form of 11, with the last fetched epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from struct import Struct

from minikafka.api.pieces import Piece
from minikafka.api.requests import FetchPartition, FetchResult
from minikafka.errors import (
    InvalidRequestError,
    MinikafkaError,
    NotLeaderOrFollowerError,
    UnknownTopicOrPartitionError,
)
from minikafka.kafka.errors import partition_code
from minikafka.kafka.wire import INT8, INT16, INT32, INT64, MalformedRequestError, Reader, string
from minikafka.kafka.wire import count as write_count
from minikafka.model import TopicPartition, topic_partition

_LIMITS = Struct(">iiii")  # replica id, max wait ms, min bytes, max bytes
_SESSION = Struct(">ii")  # id, epoch
_RESULT = Struct(">ihqq")  # index, error, high watermark, last stable offset
_ABORTED = Struct(">qq")  # producer id, first offset
_NO_REPLICA = INT32.pack(-1)
_BEFORE_THE_LOG = (UnknownTopicOrPartitionError, InvalidRequestError)
READ_COMMITTED = 1
ISOLATION_LEVELS = (0, READ_COMMITTED)
CONSUMER = -1
MAX_PARTITIONS = 10_000  # of a fetch and of a session: each is looked at whenever one has news
NO_SESSION = 0


@dataclass(slots=True)
class KafkaFetch:
    """A consumer's fetch as it was asked. Before version 7 it has no session: id 0, epoch -1.
    A partition that is named more than once counts as it is named last, as in Kafka.
    `refused`: what all of it is answered with."""

    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    session_id: int
    session_epoch: int
    partitions: list[FetchPartition]
    forgotten: list[TopicPartition]
    refused: MinikafkaError | None = None
    read_committed: bool = False


def read_request(reader: Reader, version: int) -> KafkaFetch:
    """MalformedRequestError if the bytes are no such request."""
    replica_id, max_wait_ms, min_bytes, max_bytes = reader.unpack(_LIMITS)
    (isolation_level,) = reader.unpack(INT8)
    session_id, session_epoch = reader.unpack(_SESSION) if version >= 7 else (NO_SESSION, -1)
    partitions: dict[TopicPartition, FetchPartition] = {}
    forgotten: list[TopicPartition] = []

    def read_partition(item: Reader, topic: str) -> None:
        partition = _read_partition(item, topic, version)
        partitions[partition.topic_partition] = partition

    def read_topic(reader: Reader) -> None:
        name = reader.string()
        reader.array(lambda item: read_partition(item, name))
        reader.tags()

    def read_forgotten(reader: Reader) -> None:
        name = reader.string()
        forgotten.extend(topic_partition(name, index) for index in reader.array(Reader.int32))
        reader.tags()

    reader.array(read_topic)
    if version >= 7:
        reader.array(read_forgotten)
    if version >= 11:
        reader.nullable_string()  # the rack: consumers read from the leader
    reader.tags()
    if len(partitions) > MAX_PARTITIONS:
        raise MalformedRequestError(
            f"a fetch of {len(partitions)} partitions: {MAX_PARTITIONS} may be in one"
        )
    return KafkaFetch(
        max(max_wait_ms, 0),
        min_bytes,
        max_bytes,
        session_id,
        session_epoch,
        list(partitions.values()),
        forgotten,
        _refused(replica_id, isolation_level),
        isolation_level == READ_COMMITTED,
    )


def _refused(replica_id: int, isolation_level: int) -> MinikafkaError | None:
    """Below -1 are debuggers, who read what consumers read."""
    if replica_id > CONSUMER:
        return NotLeaderOrFollowerError("no broker replicates over Kafka's protocol: over gRPC")
    if isolation_level not in ISOLATION_LEVELS:
        return InvalidRequestError(f"there is no isolation level {isolation_level}")
    return None


def _partition_layout(version: int) -> Struct:
    epoch = "i" if version >= 9 else ""
    last_epoch = "i" if version >= 12 else ""
    log_start = "q" if version >= 5 else ""
    return Struct(f">i{epoch}q{last_epoch}{log_start}i")


_PARTITION = {version: _partition_layout(version) for version in range(4, 13)}


def _read_partition(reader: Reader, topic: str, version: int) -> FetchPartition:
    values = reader.unpack(_PARTITION[version])
    reader.tags()
    epoch, offset = (values[1], values[2]) if version >= 9 else (-1, values[1])
    return FetchPartition(topic_partition(topic, values[0]), offset, values[-1], epoch)


def write_response(
    results: Sequence[FetchResult], version: int, *, error_code: int = 0, session_id: int = 0
) -> list[Piece]:
    """The body after the response header: small pieces joined, records as they are."""
    flexible = version >= 12
    tags = b"\x00" if flexible else b""
    out: list[Piece] = []
    head = [INT32.pack(0)]
    if version >= 7:
        head += [INT16.pack(error_code), INT32.pack(session_id)]
    topics = _by_topic(results)
    head.append(write_count(len(topics), flexible=flexible))
    for topic, group in topics:
        head.append(string(topic, flexible=flexible))
        head.append(write_count(len(group), flexible=flexible))
        for result in group:
            _write_result(result, version, head)
            if result.pieces:
                out += (b"".join(head), *result.pieces)
                head = []
            elif result.records:
                out += (b"".join(head), result.records)
                head = []
            head.append(tags)
        head.append(tags)
    head.append(tags)
    out.append(b"".join(head))
    return out


def _by_topic(results: Iterable[FetchResult]) -> list[tuple[str, list[FetchResult]]]:
    return [
        (topic, list(group)) for topic, group in groupby(results, lambda r: r.topic_partition.topic)
    ]


def _write_result(result: FetchResult, version: int, out: list[bytes]) -> None:
    """All but the records and what follows them."""
    flexible = version >= 12
    code = 0 if result.error is None else partition_code(result.error)
    index = result.topic_partition.partition
    out.append(_RESULT.pack(index, code, result.high_watermark, result.last_stable_offset))
    if version >= 5:
        out.append(INT64.pack(result.log_start_offset))
    aborted = result.aborted
    if aborted is None and isinstance(result.error, _BEFORE_THE_LOG):
        aborted = ()  # as Kafka; clients take both alike
    out.append(write_count(-1 if aborted is None else len(aborted), flexible=flexible))
    for each in aborted or ():
        out.append(_ABORTED.pack(*each))
        if flexible:
            out.append(b"\x00")
    if version >= 11:
        out.append(_NO_REPLICA)
    out.append(write_count(result.size_bytes, flexible=flexible))
