"""What a consumer group asks of its runtime, in the order to be done.

A group's records reach `__consumer_offsets` by `Append`: the runtime writes them as one batch with
acks=all and calls `Group.on_appended` with the same `write` once they are committed, or with the
error if they are not in the log, and will not be. There is no third outcome but the end of the
leadership, upon which it calls `unload`. Appends of one group are answered in the order in which
they were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from minikafka.api.groups import (
    JoinGroupResult,
    OffsetCommitResult,
    OffsetDeleteResult,
    SyncGroupResult,
)
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition


class Now(NamedTuple):
    """The time: `ms` is monotonic and counts for deadlines, `timestamp_ms` is wall-clock time and
    goes into records."""

    ms: int
    timestamp_ms: int


# --- records -------------------------------------------------------------------------------------


class OffsetAndMetadata(NamedTuple):
    """A committed offset as it is stored. `expire_timestamp_ms` -1: by the broker's retention
    (only old records of Kafka's have another). `record_offset`: where its record lies in the log,
    which no record says of itself; -1 before it is there."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_timestamp_ms: int
    expire_timestamp_ms: int = -1
    record_offset: int = -1

    def at(self, record_offset: int) -> OffsetAndMetadata:
        """The same, with its place in the log."""
        return OffsetAndMetadata(*self[:-1], record_offset)


@dataclass(frozen=True, slots=True)
class MemberSnapshot:
    """A member as it is stored. `subscription` is what it said for the chosen protocol."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True)
class GroupSnapshot:
    """A group as it is stored: without members it was Empty, with members Stable."""

    protocol_type: str
    generation_id: int
    protocol_name: str | None
    leader_id: str | None
    state_timestamp_ms: int
    members: tuple[MemberSnapshot, ...]


@dataclass(frozen=True, slots=True)
class OffsetRecord:
    """`value` None: the offset is forgotten."""

    group_id: str
    topic_partition: TopicPartition
    value: OffsetAndMetadata | None


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """`value` None: the group is gone."""

    group_id: str
    value: GroupSnapshot | None


Record = OffsetRecord | GroupRecord


# --- effects -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeleteGroupResult:
    """How the deletion of a group ended."""

    error: MinikafkaError | None


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a request. `token` is the runtime's and was given with the request (None: nobody
    waits, as for what the group does by itself)."""

    token: object
    result: (
        JoinGroupResult
        | SyncGroupResult
        | OffsetCommitResult
        | OffsetDeleteResult
        | DeleteGroupResult
    )


@dataclass(frozen=True, slots=True)
class Append:
    """Write these records. `write` is the group's own note of what they are for."""

    records: tuple[Record, ...]
    write: object


Effect = Reply | Append
