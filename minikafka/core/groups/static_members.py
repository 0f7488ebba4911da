"""How a static member (KIP-345) comes back: under a new member id, in its old place.

It has an instance id, by which it is known. Its old member id is fenced. In a stable group nothing
is shared out anew, if all still agree upon the same protocol: the new id is stored, and then the
member is answered.

State: none of its own. What to go back to if the new id cannot be stored is in the write.
"""

from __future__ import annotations

from dataclasses import dataclass

from minikafka.api.groups import (
    UNKNOWN_MEMBER,
    GroupProtocol,
    JoinGroupRequest,
    JoinGroupResult,
)
from minikafka.core.groups.effects import Now
from minikafka.core.groups.generation import Generation
from minikafka.core.groups.lifecycle import GroupState, Lifecycle
from minikafka.core.groups.members import Members
from minikafka.core.groups.outgoing import Outgoing
from minikafka.core.groups.rebalance import Rebalance
from minikafka.errors import FencedInstanceIdError, MinikafkaError


@dataclass(frozen=True, slots=True)
class StaticMemberWrite:
    """A static member came back to a stable group: its new id is on its way, and what to go back to
    if that cannot be stored."""

    generation_id: int
    token: object
    member_id: str
    old_member_id: str
    old_leader_id: str | None
    old_protocols: tuple[GroupProtocol, ...]
    old_timeouts_ms: tuple[int, int]
    supports_skipping_assignment: bool


class StaticMembers:
    """See the module."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        generation: Generation,
        members: Members,
        rebalance: Rebalance,
        outgoing: Outgoing,
    ) -> None:
        self._lifecycle = lifecycle
        self._generation = generation
        self._members = members
        self._rebalance = rebalance
        self._outgoing = outgoing

    def come_back(
        self, request: JoinGroupRequest, old_id: str, member_id: str, token: object, now: Now
    ) -> None:
        """The instance that was member `old_id` joins; it is `member_id` from now on."""
        old_leader_id = self._members.leader_id
        member = self._members[old_id]
        fenced = FencedInstanceIdError(f"{request.instance_id!r} has joined under another id since")
        self._outgoing.refuse_join(member, fenced)
        self._outgoing.refuse_sync(member, fenced)
        old_protocols = member.protocols
        old_timeouts_ms = (member.session_timeout_ms, member.rebalance_timeout_ms)
        self._rename(old_id, member_id)
        self._members.update(member, request, token)
        member.extend_session(now.ms)
        if self._lifecycle.state is not GroupState.STABLE:
            # While it is assigned, the leader assigns to the old id; so all over again.
            self._rebalance.maybe_prepare(now, f"{request.instance_id} comes back")
        elif self._members.select_protocol() != self._generation.protocol_name:
            why = f"{request.instance_id} changes what can be agreed upon"
            self._rebalance.prepare(now, why)
        else:
            write = StaticMemberWrite(
                self._generation.generation_id,
                token,
                member_id,
                old_id,
                old_leader_id,
                old_protocols,
                old_timeouts_ms,
                request.supports_skipping_assignment,
            )
            assignments = {each.member_id: each.assignment for each in self._members}
            self._rebalance.store(assignments, write)

    def _rename(self, old_id: str, new_id: str) -> None:
        self._members.rename(old_id, new_id)
        self._rebalance.on_renamed(old_id, new_id)

    def on_stored(self, write: StaticMemberWrite, error: MinikafkaError | None, now: Now) -> None:
        """If a rebalance has begun meanwhile, its end is the answer, or the member is gone."""
        members = self._members
        unchanged = (
            self._lifecycle.state is GroupState.STABLE
            and self._generation.generation_id == write.generation_id
            and write.member_id in members
            and members[write.member_id].join_token is write.token
        )
        if not unchanged:
            return
        member = members[write.member_id]
        member.extend_session(now.ms)
        member.take_join_token()
        if error is not None:
            self._outgoing.reply(write.token, JoinGroupResult(error, UNKNOWN_MEMBER))
            members.tell(member, write.old_protocols)
            member.session_timeout_ms, member.rebalance_timeout_ms = write.old_timeouts_ms
            self._rename(write.member_id, write.old_member_id)
            return
        self._outgoing.reply(write.token, self._told(write))

    def _told(self, write: StaticMemberWrite) -> JoinGroupResult:
        leader_id = self._members.leader_id
        if not write.supports_skipping_assignment:
            # Told that it leads, it would assign, and wait for the others in vain.
            return self._generation.joined(write.member_id, write.old_leader_id)
        if leader_id != write.member_id:
            return self._generation.joined(write.member_id, leader_id)
        shown = self._members.joined(self._generation.protocol_name)
        result = self._generation.joined(write.member_id, leader_id, shown)
        result.skip_assignment = True
        return result
