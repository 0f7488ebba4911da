"""What consumer groups are asked and answer: the values that the core and the doors share.

Slotted values without behaviour. Errors are in the results, as `MinikafkaError | None`.
Subscriptions (`metadata`) and assignments are opaque bytes which the clients agree upon (Kafka's
ConsumerProtocol, as a rule).

Members are named by `member_id`, which the coordinator gives ("" before that), and, if static
(KIP-345), by `instance_id`, which the member brings along (None for a dynamic member).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minikafka.errors import MinikafkaError
from minikafka.model import BrokerInfo, TopicPartition

NO_GENERATION = -1
UNKNOWN_MEMBER = ""

# --- membership ----------------------------------------------------------------------------------


@dataclass(slots=True)
class GroupProtocol:
    """A way of assigning that a member supports, and what it tells the leader for it."""

    name: str
    metadata: bytes


@dataclass(slots=True)
class JoinGroupRequest:
    """`protocols` in order of preference. `requires_known_member_id` says that the client can take
    MemberIdRequiredError (KIP-394: JoinGroup from version 4 on); `supports_skipping_assignment`
    that, as leader, it heeds `skip_assignment` (KIP-814: from version 9 on)."""

    group_id: str
    member_id: str
    protocol_type: str
    protocols: Sequence[GroupProtocol]
    session_timeout_ms: int
    rebalance_timeout_ms: int
    instance_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    reason: str = ""
    requires_known_member_id: bool = True
    supports_skipping_assignment: bool = True


@dataclass(slots=True)
class JoinedMember:
    """A member as the leader is told of it."""

    member_id: str
    instance_id: str | None
    metadata: bytes


@dataclass(slots=True)
class JoinGroupResult:
    """`members` is given to the leader only. With an error, `member_id` is the id to join again
    with (MemberIdRequiredError) or the one of the request, and the rest is empty."""

    error: MinikafkaError | None
    member_id: str
    generation_id: int = NO_GENERATION
    protocol_type: str | None = None
    protocol_name: str | None = None
    leader_id: str = ""
    members: Sequence[JoinedMember] = ()
    skip_assignment: bool = False


@dataclass(slots=True)
class SyncGroupRequest:
    """`assignments` (member id to bytes) come from the leader only. `protocol_type` and
    `protocol_name` are checked if given (from version 5 on)."""

    group_id: str
    generation_id: int
    member_id: str
    assignments: Sequence[tuple[str, bytes]] = ()
    instance_id: str | None = None
    protocol_type: str | None = None
    protocol_name: str | None = None


@dataclass(slots=True)
class SyncGroupResult:
    error: MinikafkaError | None
    assignment: bytes = b""
    protocol_type: str | None = None
    protocol_name: str | None = None


@dataclass(slots=True)
class HeartbeatRequest:
    group_id: str
    generation_id: int
    member_id: str
    instance_id: str | None = None


@dataclass(slots=True)
class HeartbeatResult:
    error: MinikafkaError | None


@dataclass(slots=True)
class LeavingMember:
    """By member id, or by instance id with an empty member id (what a tool sends)."""

    member_id: str
    instance_id: str | None = None
    reason: str = ""


@dataclass(slots=True)
class LeaveGroupRequest:
    group_id: str
    members: Sequence[LeavingMember]


@dataclass(slots=True)
class LeftMember:
    member_id: str
    instance_id: str | None
    error: MinikafkaError | None = None


@dataclass(slots=True)
class LeaveGroupResult:
    """`members` is in the order of the request, and empty if the request failed as a whole."""

    error: MinikafkaError | None
    members: Sequence[LeftMember] = ()


# --- committed offsets ---------------------------------------------------------------------------


@dataclass(slots=True)
class OffsetCommitPartition:
    """`offset` is the next one to be read. `leader_epoch` -1: not given."""

    topic_partition: TopicPartition
    offset: int
    leader_epoch: int = -1
    metadata: str = ""


@dataclass(slots=True)
class OffsetCommitRequest:
    """`generation_id` -1 with an empty member id: somebody who is no member commits, which only a
    group without members takes. A retention time that old versions give is not heeded."""

    group_id: str
    partitions: Sequence[OffsetCommitPartition]
    generation_id: int = NO_GENERATION
    member_id: str = UNKNOWN_MEMBER
    instance_id: str | None = None


@dataclass(slots=True)
class OffsetCommitPartitionResult:
    topic_partition: TopicPartition
    error: MinikafkaError | None = None


@dataclass(slots=True)
class OffsetCommitResult:
    """One result for each partition of the request, in its order."""

    partitions: Sequence[OffsetCommitPartitionResult]


@dataclass(slots=True)
class OffsetFetchGroup:
    """`partitions` None: all that the group has committed."""

    group_id: str
    partitions: Sequence[TopicPartition] | None


@dataclass(slots=True)
class OffsetFetchRequest:
    """`require_stable`: partitions with offsets of an open transaction answer
    UnstableOffsetCommitError, so that the client asks again (KIP-447)."""

    groups: Sequence[OffsetFetchGroup]
    require_stable: bool = False


@dataclass(slots=True)
class CommittedOffset:
    """`offset` -1: nothing committed."""

    topic_partition: TopicPartition
    offset: int = -1
    leader_epoch: int = -1
    metadata: str = ""
    error: MinikafkaError | None = None


@dataclass(slots=True)
class OffsetFetchGroupResult:
    group_id: str
    error: MinikafkaError | None
    partitions: Sequence[CommittedOffset] = ()


@dataclass(slots=True)
class OffsetFetchResult:
    """One result for each group of the request, in its order."""

    groups: Sequence[OffsetFetchGroupResult]


@dataclass(slots=True)
class OffsetDeleteRequest:
    group_id: str
    partitions: Sequence[TopicPartition]


@dataclass(slots=True)
class OffsetDeleteResult:
    """`error` if the request failed as a whole; then `partitions` is empty."""

    error: MinikafkaError | None
    partitions: Sequence[OffsetCommitPartitionResult] = ()


# --- descriptions --------------------------------------------------------------------------------


@dataclass(slots=True)
class GroupMember:
    """`metadata` is that of the chosen protocol, empty while there is none."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


@dataclass(slots=True)
class GroupDescription:
    """`state` in Kafka's words: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead. A
    group that is not there is Dead, without an error, as Kafka says it."""

    group_id: str
    error: MinikafkaError | None
    state: str = ""
    protocol_type: str = ""
    protocol_name: str = ""
    members: Sequence[GroupMember] = ()


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
