"""Records: produced, fetched, deleted, and the offsets of a partition."""

from __future__ import annotations

import struct
from typing import Any

from crc32c import crc32c

from minikafka.kafka.apis import ApiKey
from tests.conformance.cases_topics import settled
from tests.conformance.exchange import Case

TIME_MS = 1_700_000_000_000
_BATCH = struct.Struct(">hiqqqhii")


def batch(*values: bytes, time_ms: int = TIME_MS) -> bytes:
    """A plain batch, its records a second apart. Small: every length is one byte."""
    records = b""
    for number, value in enumerate(values):
        body = b"\0" + _zigzag(1_000 * number) + _zigzag(number) + b"\x01"
        body += _zigzag(len(value)) + value + b"\0"
        records += _zigzag(len(body)) + body
    last = len(values) - 1
    rest = _BATCH.pack(0, last, time_ms, time_ms + 1_000 * last, -1, -1, -1, len(values)) + records
    rest = struct.pack(">ib", -1, 2) + struct.pack(">I", crc32c(rest)) + rest
    return struct.pack(">qi", 0, len(rest)) + rest


def _zigzag(number: int) -> bytes:
    left, out = number << 1, bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def _produce(
    name: str, topic: str, index: int, records: bytes | None, versions: Any = None, **more: Any
) -> Case:
    data = [{"name": topic, "partition_data": [{"index": index, "records": records}]}]
    values = {"transactional_id": None, "acks": -1, "timeout": 30_000, "topic_data": data}
    until = more.pop("until", None)
    return Case(name, ApiKey.PRODUCE, values | more, versions, until)


SETUP = [
    _produce("filling", "filled", 0, batch(b"one", b"two"), [3], until=settled),
    _produce("filling more", "filled", 0, batch(b"three", time_ms=TIME_MS + 60_000), [7]),
    _produce("filling the compacted", "compacted", 0, batch(), [7], until=settled),
]
PRODUCE = [
    _produce("a topic that is not there", "nowhere", 0, batch(b"x")),
    _produce("a partition that is not there", "plain", 9, batch(b"x")),
    _produce("a partition below 0", "plain", -1, batch(b"x")),
    _produce("acks that mean nothing", "plain", 0, batch(b"x"), acks=7),
    _produce("a record", "plain", 0, batch(b"x"), range(3, 10), until=settled),
    _produce("with acks=1", "plain", 0, batch(b"x"), range(3, 10), acks=1),
    _produce("with a timeout below 0", "plain", 0, batch(b"x"), range(3, 10), timeout=-1),
    _produce("no topics", "plain", 0, None, topic_data=[]),
]


def _fetch(name: str, topic: str = "filled", versions: Any = None, **more: Any) -> Case:
    partition = {
        "partition": more.pop("partition", 0),
        "current_leader_epoch": more.pop("epoch", -1),
        "fetch_offset": more.pop("offset", 0),
        "last_fetched_epoch": more.pop("last_epoch", -1),
        "log_start_offset": -1,
        "partition_max_bytes": more.pop("partition_max_bytes", 1_000_000),
    }
    values = {
        "cluster_id": None,
        "replica_id": -1,
        "max_wait": 0,
        "min_bytes": 1,
        "max_bytes": 1_000_000,
        "isolation_level": 0,
        "session_id": 0,
        "session_epoch": -1,
        "topics": [{"topic": topic, "partitions": [partition] * more.pop("times", 1)}],
        "forgotten_topics_data": [],
        "rack_id": "",
    }
    return Case(name, ApiKey.FETCH, values | more, versions)


FETCH = [
    _fetch("from the beginning"),
    _fetch("from the middle of a batch", offset=1),
    _fetch("from the end", offset=3),
    _fetch("beyond the end", offset=4),
    _fetch("below 0", offset=-1),
    _fetch("a topic that is not there", "no-such"),
    _fetch("a partition that is not there", partition=9),
    _fetch("a partition below 0", partition=-1),
    _fetch("a partition twice", times=2),
    _fetch("what is committed", isolation_level=1),
    _fetch("an unknown isolation level", isolation_level=7),
    _fetch("at most 0 bytes", max_bytes=0),
    _fetch("at most 0 bytes of the partition", partition_max_bytes=0),
    _fetch("at most -1 bytes of the partition", partition_max_bytes=-1),
    _fetch("an epoch that is over", versions=range(9, 13), epoch=-2),
    _fetch("the epoch that is", versions=range(9, 13), epoch=0),
    _fetch("an epoch to come", versions=range(9, 13), epoch=9),
    _fetch("after an epoch that is not there", versions=[12], last_epoch=9),
    _fetch("as a replica that is none", replica_id=9),
    _fetch("as a broker that does not replicate it", replica_id=1),
    _fetch("as a debugger", replica_id=-2),
    _fetch("with a new session", versions=range(7, 13), session_epoch=0),
    _fetch(
        "with a session that is not there", versions=range(7, 13), session_id=9, session_epoch=1
    ),
    _fetch("ending a session that is not there", versions=range(7, 13), session_id=9),
    _fetch("without topics", topics=[]),
    _fetch("from a rack", versions=[11, 12], rack_id="r1"),
]


def _offsets(name: str, timestamp: int, versions: Any = None, **more: Any) -> Case:
    partition = {
        "partition_index": more.pop("partition", 0),
        "current_leader_epoch": more.pop("epoch", -1),
        "timestamp": timestamp,
    }
    listed = {"name": more.pop("topic", "filled"), "partitions": [partition] * more.pop("times", 1)}
    values = {"replica_id": -1, "isolation_level": 0, "topics": [listed]}
    return Case(name, ApiKey.LIST_OFFSETS, values | more, versions)


LIST_OFFSETS = [
    *(_offsets(f"at {timestamp}", timestamp) for timestamp in (-1, -2, -3, -4, -5, -6, -9, 0)),
    _offsets("at the first", TIME_MS),
    _offsets("after the first", TIME_MS + 1),
    _offsets("after the second", TIME_MS + 1_001),
    _offsets("after the last", TIME_MS + 60_001),
    _offsets("the largest of an empty partition", -3, topic="plain", partition=1),
    _offsets("the latest of an empty partition", -1, topic="plain", partition=1),
    _offsets("by time of an empty partition", 0, topic="plain", partition=1),
    _offsets("a topic that is not there", -1, topic="no-such"),
    _offsets("a bad name", -1, topic="a b"),
    _offsets("a partition that is not there", -1, partition=9),
    _offsets("a partition below 0", -1, partition=-1),
    _offsets("a partition twice", -1, times=2),
    _offsets("a partition three times", -2, times=3),
    _offsets("what is committed", -1, isolation_level=1, versions=range(2, 8)),
    _offsets("an unknown isolation level", -1, isolation_level=7, versions=range(2, 8)),
    _offsets("the epoch that is", -1, range(4, 8), epoch=0),
    _offsets("an epoch to come", -1, range(4, 8), epoch=9),
    _offsets("an epoch to come, at a time", 0, range(4, 8), epoch=9),
    _offsets("an epoch below -1", -1, range(4, 8), epoch=-2),
    _offsets("as a debugger", -1, replica_id=-2),
    _offsets("as a replica that is none", -1, replica_id=9),
    _offsets("no topics", -1, topics=[]),
]


def _epoch(name: str, epoch: int, **more: Any) -> Case:
    partition = {
        "partition": more.pop("partition", 0),
        "current_leader_epoch": more.pop("current", -1),
        "leader_epoch": epoch,
    }
    topics = [{"topic": more.pop("topic", "filled"), "partitions": [partition]}]
    values = {"replica_id": -1, "topics": topics}
    return Case(name, ApiKey.OFFSET_FOR_LEADER_EPOCH, values | more)


EPOCHS = [
    _epoch("the epoch that is", 0),
    _epoch("an epoch to come", 9),
    _epoch("epoch -1", -1),
    _epoch("epoch -2", -2),
    _epoch("known to be the leader's", 0, current=0),
    _epoch("the leader's to come", 0, current=9),
    _epoch("the leader's below -1", 0, current=-2),
    _epoch("of an empty partition", 0, topic="plain", partition=1),
    _epoch("of an empty partition to come", 9, topic="plain", partition=1),
    _epoch("a topic that is not there", 0, topic="no-such"),
    _epoch("a partition that is not there", 0, partition=9),
    _epoch("no topics", 0, topics=[]),
]


def _delete(name: str, offset: int, **more: Any) -> Case:
    partition = {"partition_index": more.pop("partition", 0), "offset": offset}
    topics = [{"name": more.pop("topic", "filled"), "partitions": [partition]}]
    return Case(name, ApiKey.DELETE_RECORDS, {"topics": topics, "timeout": 30_000} | more)


DELETE_RECORDS = [
    _delete("nothing", 0),
    _delete("a record", 1),
    _delete("what is gone", 0),
    _delete("beyond the end", 99),
    _delete("below -1", -2),
    _delete("of a compacted topic", 0, topic="compacted"),
    _delete("of a topic that is not there", 0, topic="no-such"),
    _delete("of a bad name", 0, topic="a b"),
    _delete("of a partition that is not there", 0, partition=9),
    _delete("of no topics", 0, topics=[]),
    _delete("with a timeout of 0", 1, timeout=0),
    _delete("everything", -1),
]


def _producer(name: str, transactional_id: str | None = None, **more: Any) -> Case:
    values = {"transactional_id": transactional_id, "transaction_timeout": 60_000}
    versions, until = more.pop("versions", None), more.pop("until", None)
    return Case(name, ApiKey.INIT_PRODUCER_ID, values | more, versions, until)


PRODUCERS = [
    _producer("a producer", until=settled),
    _producer("with a timeout of 0", transaction_timeout=0),
    _producer("with an epoch and no id", producer_epoch=3, versions=[3, 4]),
    _producer("with an id and no epoch", producer_id=3, versions=[3, 4]),
    _producer("with an id of its own", producer_id=3, producer_epoch=2, versions=[3, 4]),
    _producer("with an empty transactional id", ""),
]


def _dirs(name: str, topics: Any) -> Case:
    listed = topics and [{"topic": t, "partitions": p} for t, p in topics]
    return Case(name, ApiKey.DESCRIBE_LOG_DIRS, {"topics": listed})


LOG_DIRS = [
    _dirs("of a topic", [("filled", [0])]),
    _dirs("of a partition that is not there", [("filled", [9])]),
    _dirs("of a topic that is not there", [("no-such", [0])]),
    _dirs("of no topics", []),
]
CASES = [*PRODUCE, *FETCH, *LIST_OFFSETS, *EPOCHS, *LOG_DIRS, *PRODUCERS, *DELETE_RECORDS]
