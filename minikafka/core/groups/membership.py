"""Who comes to a consumer group, who stays and who goes: joining, heartbeats, leaving.

A dynamic member that brings no id is given one and told to join again with it (KIP-394), so that a
join whose answer is lost leaves no ghost behind. Heartbeats keep a session alive and tell of a
rebalance; who waits for an answer of ours needs none.

Static members (KIP-345) have an instance id: they may come back under a new member id without a
rebalance, the old id is fenced, and a rebalance does not throw out those who have not joined again;
only their session does.

State and invariants: core/groups/rebalance.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from minikafka.api.groups import (
    UNKNOWN_MEMBER,
    GroupProtocol,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupResult,
    LeaveGroupRequest,
    LeavingMember,
    LeftMember,
)
from minikafka.core.groups.effects import Effect, Now, Reply
from minikafka.core.groups.members import Member, new_member, size_of
from minikafka.core.groups.rebalance import GroupState, Rebalance
from minikafka.errors import (
    FencedInstanceIdError,
    GroupMaxSizeReachedError,
    InconsistentGroupProtocolError,
    InvalidRequestError,
    InvalidSessionTimeoutError,
    MemberIdRequiredError,
    MinikafkaError,
    RebalanceInProgressError,
)

# How long a member is kept that has joined and was not answered yet: its client may be gone.
NEW_MEMBER_JOIN_TIMEOUT_MS = 300_000
# Of what members tell. A group is stored as one record, which is smaller than all of this.
MAX_PROTOCOLS = 100
MAX_TEXT = 1_000
MAX_MEMBER_BYTES = 1 << 20
MAX_GROUP_BYTES = 16 << 20


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


class Membership(Rebalance):
    """The half of a group that is about members; core/groups/group.py adds the offsets."""

    # --- joining ---------------------------------------------------------------------------------

    def join(
        self, request: JoinGroupRequest, fresh_member_id: str, token: object, now: Now
    ) -> list[Effect]:
        """A member wants to be part of the next generation. `fresh_member_id` is its id if it has
        none yet."""
        try:
            self._check_join(request)
            if request.member_id == UNKNOWN_MEMBER:
                self._join_new(request, fresh_member_id, token, now)
            elif request.member_id in self.members.pending:
                self._add(request, request.member_id, token, now)
            else:
                self._join_again(request, token, now)
        except MemberIdRequiredError as error:
            self._effects.append(Reply(token, JoinGroupResult(error, fresh_member_id)))
        except MinikafkaError as error:
            self._effects.append(Reply(token, JoinGroupResult(error, request.member_id)))
        self._maybe_complete_join(now)
        return self._done()

    def _check_join(self, request: JoinGroupRequest) -> None:
        self._refuse_if_dead()
        low, high = self.settings.min_session_timeout_ms, self.settings.max_session_timeout_ms
        if not low <= request.session_timeout_ms <= high:
            raise InvalidSessionTimeoutError(
                f"session timeout {request.session_timeout_ms} ms is not within "
                f"group.min.session.timeout.ms={low} and group.max.session.timeout.ms={high}"
            )
        self._check_sizes(request)
        if not self._has_room(request):
            self.members.pending.pop(request.member_id, None)
            raise GroupMaxSizeReachedError(
                f"group {self.group_id!r} has {self.settings.max_size} members, which is "
                "group.max.size"
            )
        if not self._supports(request):
            raise InconsistentGroupProtocolError(
                f"group {self.group_id!r} is of type {self.protocol_type!r}; a member of type "
                f"{request.protocol_type!r} with "
                f"{', '.join(each.name for each in request.protocols) or 'no protocol'} "
                "has nothing in common with all the others"
            )

    def _check_sizes(self, request: JoinGroupRequest) -> None:
        """What could never be stored, or would cost everybody in the group too much."""
        texts = [request.protocol_type, request.instance_id or ""]
        texts += [each.name for each in request.protocols]
        size_bytes = size_of(request.protocols)
        if len(request.protocols) > MAX_PROTOCOLS or max(map(len, texts)) > MAX_TEXT:
            raise InvalidRequestError(
                f"a member has at most {MAX_PROTOCOLS} protocols, and texts of at most {MAX_TEXT} "
                "characters"
            )
        if size_bytes > MAX_MEMBER_BYTES:
            raise InvalidRequestError(
                f"a member tells {size_bytes} bytes of its protocols: at most {MAX_MEMBER_BYTES}"
            )
        others = self.members.size_bytes
        if request.member_id in self.members:
            others -= self.members[request.member_id].size_bytes
        if size_bytes + others > MAX_GROUP_BYTES:
            raise GroupMaxSizeReachedError(
                f"the members of group {self.group_id!r} tell {others} bytes of their protocols: "
                f"together at most {MAX_GROUP_BYTES}"
            )

    def _has_room(self, request: JoinGroupRequest) -> bool:
        member_id = request.member_id
        if member_id == UNKNOWN_MEMBER and request.instance_id is not None:
            # Back in its own place. (Kafka refuses it in a full group.)
            member_id = self.members.static_id(request.instance_id) or UNKNOWN_MEMBER
        if self.state is GroupState.PREPARING_REBALANCE:
            joined = sum(each.awaits_join for each in self.members)
            known = member_id in self.members and self.members[member_id].awaits_join
            return known or joined < self.settings.max_size
        return member_id in self.members or len(self.members) < self.settings.max_size

    def _supports(self, request: JoinGroupRequest) -> bool:
        if not request.protocol_type or not request.protocols:
            return False
        if not self.members:
            return True
        return request.protocol_type == self.protocol_type and self.members.supports_any(
            request.protocols
        )

    def _join_new(self, request: JoinGroupRequest, member_id: str, token: object, now: Now) -> None:
        old_id = None
        if request.instance_id is not None:
            old_id = self.members.static_id(request.instance_id)
        if old_id is not None:
            self._replace_static(request, old_id, member_id, token, now)
        elif request.instance_id is None and request.requires_known_member_id:
            self.members.give_out(member_id, now.ms + request.session_timeout_ms)
            raise MemberIdRequiredError("join again with the member id that you are given")
        else:
            self._add(request, member_id, token, now)

    def _join_again(self, request: JoinGroupRequest, token: object, now: Now) -> None:
        member = self.members.current(request.member_id, request.instance_id)
        same = member.protocols == tuple(request.protocols)
        completing = self.state is GroupState.COMPLETING_REBALANCE and same
        leads = self.members.leader_id == member.member_id
        # A leader of a stable group who joins again asks for a rebalance.
        if completing or (self.state is GroupState.STABLE and same and not leads):
            # The answer to its join was lost, or it has missed that nothing is to do.
            shown = self.members.joined(self.protocol_name) if completing and leads else ()
            self._effects.append(Reply(token, self._joined_result(member, shown)))
            return
        self._update(member, request, token)
        self._maybe_prepare_rebalance(now, f"{member.member_id} joins again ({request.reason})")

    def _add(self, request: JoinGroupRequest, member_id: str, token: object, now: Now) -> None:
        if not self.members:
            self.protocol_type = request.protocol_type
        deadline_ms = now.ms + NEW_MEMBER_JOIN_TIMEOUT_MS
        self.members.add(new_member(request, member_id, token, deadline_ms))
        if self.state is GroupState.PREPARING_REBALANCE:
            self._somebody_new = True
        self._maybe_prepare_rebalance(now, f"{member_id} joins ({request.reason})")

    def _update(self, member: Member, request: JoinGroupRequest, token: object) -> None:
        # A client that asks twice does not listen to the first answer any more. (Kafka never gives
        # it; here every request is answered.)
        self._reply_join(
            member, RebalanceInProgressError("the member has asked to join again since")
        )
        self.members.tell(member, tuple(request.protocols))
        member.session_timeout_ms = request.session_timeout_ms
        member.rebalance_timeout_ms = request.rebalance_timeout_ms
        member.join_token = token

    # --- static members who come back ------------------------------------------------------------

    def _replace_static(
        self, request: JoinGroupRequest, old_id: str, member_id: str, token: object, now: Now
    ) -> None:
        old_leader_id = self.members.leader_id
        member = self.members[old_id]
        fenced = FencedInstanceIdError(f"{request.instance_id!r} has joined under another id since")
        self._reply_join(member, fenced)
        self._reply_sync(member, fenced)
        before = (member.protocols, (member.session_timeout_ms, member.rebalance_timeout_ms))
        self._rename(old_id, member_id)
        self._update(member, request, token)
        member.session_deadline_ms = now.ms + member.session_timeout_ms
        if self.state is not GroupState.STABLE:
            # While it is assigned, the leader assigns to the old id; so all over again.
            self._maybe_prepare_rebalance(now, f"{request.instance_id} comes back")
        elif self.members.select_protocol() != self.protocol_name:
            self._prepare_rebalance(now, f"{request.instance_id} changes what can be agreed upon")
        else:
            assignments = {each.member_id: each.assignment for each in self.members}
            skips = request.supports_skipping_assignment
            write = StaticMemberWrite(
                self.generation_id, token, member_id, old_id, old_leader_id, *before, skips
            )
            self._store(assignments, write)

    def _rename(self, old_id: str, new_id: str) -> None:
        self.members.rename(old_id, new_id)
        if old_id in self.awaiting_sync:
            self.awaiting_sync.discard(old_id)
            self.awaiting_sync.add(new_id)

    def on_static_member_stored(
        self, write: StaticMemberWrite, error: MinikafkaError | None, now: Now
    ) -> None:
        """If a rebalance has begun meanwhile, its end is the answer, or the member is gone."""
        unchanged = (
            self.state is GroupState.STABLE
            and self.generation_id == write.generation_id
            and write.member_id in self.members
            and self.members[write.member_id].join_token is write.token
        )
        if not unchanged:
            return
        member = self.members[write.member_id]
        member.session_deadline_ms = now.ms + member.session_timeout_ms
        if error is not None:
            member.take_join_token()
            self._effects.append(Reply(write.token, JoinGroupResult(error, UNKNOWN_MEMBER)))
            self.members.tell(member, write.old_protocols)
            member.session_timeout_ms, member.rebalance_timeout_ms = write.old_timeouts_ms
            self._rename(write.member_id, write.old_member_id)
            return
        member.take_join_token()
        leads = self.members.leader_id == write.member_id
        result = self._joined_result(member)
        if not write.supports_skipping_assignment:
            # Told that it leads, it would assign, and wait for the others in vain.
            result.leader_id = write.old_leader_id or ""
        elif leads:
            result.members = self.members.joined(self.protocol_name)
            result.skip_assignment = True
        self._effects.append(Reply(write.token, result))

    # --- staying and leaving ---------------------------------------------------------------------

    def heartbeat(self, request: HeartbeatRequest, now: Now) -> None:
        """A member is there. Raises what it is to be told, RebalanceInProgressError among it."""
        self._refuse_if_dead()
        member = self.members.current(request.member_id, request.instance_id)
        self._check_generation(request.generation_id)
        self._extend_session(member, now)
        if self.state is GroupState.PREPARING_REBALANCE:
            raise self._rebalancing()

    @staticmethod
    def _extend_session(member: Member, now: Now) -> None:
        member.session_deadline_ms = now.ms + member.session_timeout_ms

    def leave(self, request: LeaveGroupRequest, now: Now) -> tuple[list[LeftMember], list[Effect]]:
        """Members leave. Raises CoordinatorNotAvailableError for a group that is being deleted."""
        self._refuse_if_dead()
        left = []
        for each in request.members:
            outcome = LeftMember(each.member_id, each.instance_id)
            try:
                self._leave_one(each, now)
            except MinikafkaError as error:
                outcome.error = error.with_traceback(None)
            left.append(outcome)
        return left, self._done()

    def _leave_one(self, leaving: LeavingMember, now: Now) -> None:
        if leaving.member_id in self.members.pending:
            del self.members.pending[leaving.member_id]
            self._maybe_complete_join(now)
            return
        member_id = leaving.member_id
        if member_id == UNKNOWN_MEMBER and leaving.instance_id is not None:
            member_id = self.members.static_id(leaving.instance_id) or UNKNOWN_MEMBER
        self.members.current(member_id, leaving.instance_id)
        self._remove(member_id, now, f"it leaves ({leaving.reason})")
