"""The typed requests of consumer groups that every door of a broker translates onto.

Slotted values without behaviour, as in requests.py. Errors are in the results, as
`MinikafkaError | None`: a call on the service raises for none of them. Those that the core itself
works on stand in core/group_messages.py and are handed on here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minikafka.core.group_messages import (
    NO_GENERATION,
    UNKNOWN_MEMBER,
    CommittedOffset,
    GroupDescription,
    GroupMember,
    GroupProtocol,
    HeartbeatRequest,
    HeartbeatResult,
    JoinedMember,
    JoinGroupRequest,
    JoinGroupResult,
    LeaveGroupRequest,
    LeaveGroupResult,
    LeavingMember,
    LeftMember,
    OffsetCommitPartition,
    OffsetCommitPartitionResult,
    OffsetCommitRequest,
    OffsetCommitResult,
    OffsetDeleteRequest,
    OffsetDeleteResult,
    OffsetFetchGroup,
    OffsetFetchGroupResult,
    OffsetFetchRequest,
    OffsetFetchResult,
    SyncGroupRequest,
    SyncGroupResult,
)
from minikafka.errors import MinikafkaError
from minikafka.model import BrokerInfo

__all__ = [
    "COORDINATES_GROUPS",
    "COORDINATES_TRANSACTIONS",
    "NO_GENERATION",
    "UNKNOWN_MEMBER",
    "CommittedOffset",
    "DeleteGroupsRequest",
    "DeleteGroupsResult",
    "DeletedGroup",
    "DescribeGroupsRequest",
    "DescribeGroupsResult",
    "FindCoordinatorRequest",
    "FindCoordinatorResult",
    "FoundCoordinator",
    "GroupDescription",
    "GroupMember",
    "GroupProtocol",
    "HeartbeatRequest",
    "HeartbeatResult",
    "JoinGroupRequest",
    "JoinGroupResult",
    "JoinedMember",
    "LeaveGroupRequest",
    "LeaveGroupResult",
    "LeavingMember",
    "LeftMember",
    "ListGroupsRequest",
    "ListGroupsResult",
    "ListedGroup",
    "OffsetCommitPartition",
    "OffsetCommitPartitionResult",
    "OffsetCommitRequest",
    "OffsetCommitResult",
    "OffsetDeleteRequest",
    "OffsetDeleteResult",
    "OffsetFetchGroup",
    "OffsetFetchGroupResult",
    "OffsetFetchRequest",
    "OffsetFetchResult",
    "SyncGroupRequest",
    "SyncGroupResult",
]

# --- coordinators and administration -------------------------------------------------------------

COORDINATES_GROUPS = 0
COORDINATES_TRANSACTIONS = 1


@dataclass(slots=True)
class FindCoordinatorRequest:
    """`key_type`: COORDINATES_GROUPS (keys are group ids) or COORDINATES_TRANSACTIONS."""

    keys: Sequence[str]
    key_type: int = COORDINATES_GROUPS


@dataclass(slots=True)
class FoundCoordinator:
    """`broker` is None exactly with an error."""

    key: str
    error: MinikafkaError | None
    broker: BrokerInfo | None = None


@dataclass(slots=True)
class FindCoordinatorResult:
    """One for each key, in order."""

    coordinators: Sequence[FoundCoordinator]


@dataclass(slots=True)
class DescribeGroupsRequest:
    group_ids: Sequence[str]


@dataclass(slots=True)
class DescribeGroupsResult:
    groups: Sequence[GroupDescription]


@dataclass(slots=True)
class ListGroupsRequest:
    """The groups that this broker coordinates; with `states`, those in one of them (whatever the
    case); with `types`, those of one of them ("classic" is the only one here)."""

    states: Sequence[str] = ()
    types: Sequence[str] = ()


@dataclass(slots=True)
class ListedGroup:
    group_id: str
    protocol_type: str
    state: str
    group_type: str = "classic"


@dataclass(slots=True)
class ListGroupsResult:
    """With CoordinatorLoadInProgressError, `groups` holds what is known already."""

    error: MinikafkaError | None
    groups: Sequence[ListedGroup] = ()


@dataclass(slots=True)
class DeleteGroupsRequest:
    group_ids: Sequence[str]


@dataclass(slots=True)
class DeletedGroup:
    group_id: str
    error: MinikafkaError | None = None


@dataclass(slots=True)
class DeleteGroupsResult:
    groups: Sequence[DeletedGroup]
