"""The members of one consumer group: who they are, who leads, what they can agree upon.

State: members by id in the order in which they joined, the static ones also by instance id, ids
that were given out and have not joined yet (KIP-394), the leader.

`size_bytes` is what all members tell of their protocols. Everybody may read; who joined, leads or
was given an id changes only here. A `Member` is a record that whoever deals with it writes.

Invariants: a leader there is exactly while there are members, and it is one of them; an instance id
names one member; a pending id is no member's. An answer that a member waits for is in
`join_token` or `sync_token`, and whoever takes it out answers it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from minikafka.api.groups import (
    GroupMember,
    GroupProtocol,
    JoinedMember,
    JoinGroupRequest,
)
from minikafka.core.groups.consumer_protocol import CONSUMER_PROTOCOL_TYPE, subscribed_topics
from minikafka.core.groups.effects import GroupSnapshot, MemberSnapshot
from minikafka.errors import (
    FencedInstanceIdError,
    InvalidRequestError,
    UnknownMemberIdError,
)

# Of all members together; whoever names more is not looked at.
MAX_SUBSCRIBED = 50_000
# Ids that are given out and not yet used. The oldest goes for the next: its client joins anew.
MAX_PENDING = 2_000
_ONE_BYTES = 512  # of a member, besides what it tells


def size_of(protocols: Iterable[GroupProtocol]) -> int:
    return sum(len(each.name) + len(each.metadata) for each in protocols)


@dataclass(slots=True)
class Member:
    """One member. `is_new`: it has not been told of a generation yet, so nobody knows whether it
    is still there. `session_deadline_ms` does not count while it waits for an answer (see
    `expires_at_ms`)."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    protocols: tuple[GroupProtocol, ...]
    session_timeout_ms: int
    rebalance_timeout_ms: int
    session_deadline_ms: int
    assignment: bytes = b""
    join_token: object | None = None
    sync_token: object | None = None
    is_new: bool = True

    @property
    def size_bytes(self) -> int:
        """What it told of its protocols."""
        return size_of(self.protocols)

    @property
    def awaits_join(self) -> bool:
        return self.join_token is not None

    @property
    def expires_at_ms(self) -> int | None:
        """When its session ends; None while it waits for an answer of ours, which keeps it."""
        waits = self.awaits_join or self.sync_token is not None
        return None if waits and not self.is_new else self.session_deadline_ms

    def metadata(self, protocol_name: str | None) -> bytes:
        """What it told for this protocol; empty if it does not support it."""
        return next((each.metadata for each in self.protocols if each.name == protocol_name), b"")

    def vote(self, candidates: frozenset[str]) -> str:
        """The candidate that it likes best."""
        return next(each.name for each in self.protocols if each.name in candidates)

    def take_join_token(self) -> object | None:
        token, self.join_token = self.join_token, None
        return token

    def take_sync_token(self) -> object | None:
        token, self.sync_token = self.sync_token, None
        return token

    def extend_session(self, now_ms: int) -> None:
        """It is there: its session begins anew."""
        self.session_deadline_ms = now_ms + self.session_timeout_ms


def new_member(
    request: JoinGroupRequest, member_id: str, token: object, deadline_ms: int
) -> Member:
    return Member(
        member_id,
        request.instance_id,
        request.client_id,
        request.client_host,
        tuple(request.protocols),
        request.session_timeout_ms,
        request.rebalance_timeout_ms,
        deadline_ms,
        join_token=token,
    )


def restored_member(stored: MemberSnapshot, protocol_name: str | None, now_ms: int) -> Member:
    """A member as the last coordinator wrote it down; its session begins anew."""
    return Member(
        stored.member_id,
        stored.instance_id,
        stored.client_id,
        stored.client_host,
        (GroupProtocol(protocol_name or "", stored.subscription),),
        stored.session_timeout_ms,
        stored.rebalance_timeout_ms,
        now_ms + stored.session_timeout_ms,
        stored.assignment,
        is_new=False,
    )


class Members:
    """See the module."""

    def __init__(self) -> None:
        self._by_id: dict[str, Member] = {}
        self._static: dict[str, str] = {}  # instance id -> member id
        self._pending: dict[str, int] = {}  # member id -> when it is forgotten
        self.leader_id: str | None = None
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_id.values())

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._by_id

    def __getitem__(self, member_id: str) -> Member:
        return self._by_id[member_id]

    def static_id(self, instance_id: str) -> str | None:
        """The id of the member with this instance id, if there is one."""
        return self._static.get(instance_id)

    def current(self, member_id: str, instance_id: str | None) -> Member:
        """The member who asks. Raises FencedInstanceIdError if another one has its instance id
        now, UnknownMemberIdError if there is no such member."""
        if instance_id is not None:
            holder = self._static.get(instance_id)
            if holder is not None and holder != member_id:
                raise FencedInstanceIdError(
                    f"{instance_id!r} is member {holder!r} now, no longer {member_id!r}"
                )
            if holder is None:
                raise UnknownMemberIdError(f"the group has no member of instance {instance_id!r}")
        if member_id not in self._by_id:
            raise UnknownMemberIdError(f"the group has no member {member_id!r}")
        return self._by_id[member_id]

    @property
    def held_bytes(self) -> int:
        """About how much memory is kept for them, and for ids that were given out."""
        return self.size_bytes + _ONE_BYTES * (len(self._by_id) + len(self._pending))

    # --- ids that were given out -----------------------------------------------------------------

    @property
    def pending(self) -> Mapping[str, int]:
        """The ids that nobody has joined with yet, and when each is forgotten."""
        return self._pending

    def give_out(self, member_id: str, until_ms: int) -> None:
        """An id that its client has still to join with."""
        if len(self._pending) >= MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[member_id] = until_ms

    def take_back(self, member_id: str) -> bool:
        """Nobody will join with this id any more. False if it was not given out."""
        return self._pending.pop(member_id, None) is not None

    def take_back_due(self, now_ms: int) -> None:
        """Those whose time is over are forgotten."""
        for member_id, until_ms in list(self._pending.items()):
            if until_ms <= now_ms:
                del self._pending[member_id]

    def take_back_all(self) -> None:
        self._pending.clear()

    # --- changes ---------------------------------------------------------------------------------

    def add(self, member: Member) -> None:
        assert member.member_id not in self._by_id, member.member_id
        self._pending.pop(member.member_id, None)
        self._by_id[member.member_id] = member
        self.size_bytes += member.size_bytes
        if member.instance_id is not None:
            assert member.instance_id not in self._static, member.instance_id
            self._static[member.instance_id] = member.member_id
        if self.leader_id is None:
            self.leader_id = member.member_id

    def remove(self, member_id: str) -> Member:
        member = self._by_id.pop(member_id)
        self.size_bytes -= member.size_bytes
        if member.instance_id is not None:
            del self._static[member.instance_id]
        if self.leader_id == member_id:
            self.leader_id = next(iter(self._by_id), None)
        return member

    def tell(self, member: Member, protocols: tuple[GroupProtocol, ...]) -> None:
        """A member tells something else of its protocols."""
        self.size_bytes += size_of(protocols) - member.size_bytes
        member.protocols = protocols

    def update(self, member: Member, request: JoinGroupRequest, token: object) -> None:
        """A member joins again: with what it tells now, and it waits for an answer to `token`."""
        assert member.join_token is None, member.member_id
        self.tell(member, tuple(request.protocols))
        member.session_timeout_ms = request.session_timeout_ms
        member.rebalance_timeout_ms = request.rebalance_timeout_ms
        member.join_token = token

    def rename(self, old_id: str, new_id: str) -> Member:
        """A static member goes on under another id, in its place."""
        self._by_id = {
            new_id if member_id == old_id else member_id: member
            for member_id, member in self._by_id.items()
        }
        member = self._by_id[new_id]
        assert member.instance_id is not None, old_id
        member.member_id = new_id
        self._static[member.instance_id] = new_id
        if self.leader_id == old_id:
            self.leader_id = new_id
        return member

    def elect_joined_leader(self) -> bool:
        """See that the leader is one who waits for the next generation; False if nobody does."""
        if self.leader_id is not None and not self._by_id[self.leader_id].awaits_join:
            joined = next((each.member_id for each in self if each.awaits_join), None)
            if joined is None:
                return False
            self.leader_id = joined
        return self.leader_id is not None

    # --- agreement -------------------------------------------------------------------------------

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest that anyone needs."""
        return max((each.rebalance_timeout_ms for each in self), default=0)

    @property
    def all_joined(self) -> bool:
        return not self._pending and all(each.awaits_join for each in self)

    def candidates(self) -> frozenset[str]:
        """The protocols that every member supports."""
        return frozenset.intersection(
            *(frozenset(protocol.name for protocol in each.protocols) for each in self)
        )

    def supports_any(self, protocols: Sequence[GroupProtocol]) -> bool:
        candidates = self.candidates()
        return any(protocol.name in candidates for protocol in protocols)

    def select_protocol(self) -> str:
        """Each member votes for the candidate that it likes best; of equals, the one that was
        voted for first."""
        candidates = self.candidates()
        assert candidates, "members without a common protocol"
        votes = Counter(each.vote(candidates) for each in self)
        return votes.most_common(1)[0][0]

    def subscribed_topics(
        self, protocol_type: str | None, protocol_name: str | None
    ) -> frozenset[str] | None:
        """The topics that the members read; None if that cannot be told, as for other protocols
        than consumers'."""
        if protocol_type != CONSUMER_PROTOCOL_TYPE:
            return None
        topics: set[str] = set()
        left = MAX_SUBSCRIBED
        try:
            for each in self:
                of_member = subscribed_topics(each.metadata(protocol_name), left)
                left -= len(of_member)
                topics.update(of_member)
        except InvalidRequestError:
            return None
        return frozenset(topics)

    # --- as others see them ----------------------------------------------------------------------

    def joined(self, protocol_name: str | None) -> tuple[JoinedMember, ...]:
        """As the leader is told of them."""
        return tuple(
            JoinedMember(each.member_id, each.instance_id, each.metadata(protocol_name))
            for each in self
        )

    def described(self, protocol_name: str | None, with_assignments: bool) -> list[GroupMember]:
        return [
            GroupMember(
                each.member_id,
                each.instance_id,
                each.client_id,
                each.client_host,
                each.metadata(protocol_name) if with_assignments else b"",
                each.assignment if with_assignments else b"",
            )
            for each in self
        ]

    def stored(
        self, protocol_name: str | None, assignments: dict[str, bytes]
    ) -> tuple[MemberSnapshot, ...]:
        return tuple(
            MemberSnapshot(
                each.member_id,
                each.instance_id,
                each.client_id,
                each.client_host,
                each.rebalance_timeout_ms,
                each.session_timeout_ms,
                each.metadata(protocol_name),
                assignments[each.member_id],
            )
            for each in self
        )

    def restore(self, snapshot: GroupSnapshot, now_ms: int) -> None:
        for stored in snapshot.members:
            self.add(restored_member(stored, snapshot.protocol_name, now_ms))
        if snapshot.leader_id in self._by_id:
            self.leader_id = snapshot.leader_id

    def check(self) -> None:
        """The invariants of the module."""
        assert self.size_bytes == sum(each.size_bytes for each in self), self.size_bytes
        assert (self.leader_id is None) == (not self._by_id), self.leader_id
        assert self.leader_id is None or self.leader_id in self._by_id, self.leader_id
        assert not self._pending.keys() & self._by_id.keys(), self._pending
        for instance_id, member_id in self._static.items():
            assert self._by_id[member_id].instance_id == instance_id, instance_id


def deadlines(members: Iterable[Member]) -> Iterator[int]:
    """When the sessions end that can end."""
    for each in members:
        if (deadline_ms := each.expires_at_ms) is not None:
            yield deadline_ms
