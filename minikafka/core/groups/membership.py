"""Who comes to a consumer group, who stays and who goes: joining, heartbeats, leaving, silence.

A dynamic member that brings no id is given one and told to join again with it (KIP-394), so that a
join whose answer is lost leaves no ghost behind. Heartbeats keep a session alive and tell of a
rebalance; who waits for an answer of ours needs none.

Static members (KIP-345) have an instance id: they may come back under a new member id without a
rebalance (static_members.py), and a rebalance does not throw out those who have not joined again;
only their session does.

State: none of its own; the members and their sessions are in members.py. Who is a member changes
here, but for those whom a round leaves behind (rebalance.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from minikafka.api.groups import (
    UNKNOWN_MEMBER,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupResult,
    LeaveGroupRequest,
    LeavingMember,
    LeftMember,
    OffsetCommitRequest,
)
from minikafka.api.transactions import TxnOffsetCommitRequest
from minikafka.core.groups.admission import Admission
from minikafka.core.groups.effects import Now
from minikafka.core.groups.generation import Generation
from minikafka.core.groups.lifecycle import GroupState, Lifecycle
from minikafka.core.groups.members import Members, deadlines, new_member
from minikafka.core.groups.outgoing import Outgoing
from minikafka.core.groups.rebalance import Rebalance
from minikafka.core.groups.static_members import StaticMembers
from minikafka.errors import (
    MemberIdRequiredError,
    MinikafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

# How long a member is kept that has joined and was not answered yet: its client may be gone.
NEW_MEMBER_JOIN_TIMEOUT_MS = 300_000


class Membership:
    """See the module."""

    def __init__(
        self,
        admission: Admission,
        lifecycle: Lifecycle,
        generation: Generation,
        members: Members,
        rebalance: Rebalance,
        static_members: StaticMembers,
        outgoing: Outgoing,
    ) -> None:
        self._admission = admission
        self._lifecycle = lifecycle
        self._generation = generation
        self._members = members
        self._rebalance = rebalance
        self._static_members = static_members
        self._outgoing = outgoing

    # --- joining ---------------------------------------------------------------------------------

    def join(
        self, request: JoinGroupRequest, fresh_member_id: str, token: object, now: Now
    ) -> None:
        """A member wants to be part of the next generation. `fresh_member_id` is its id if it has
        none yet."""
        try:
            self._admission.check(request)
            if request.member_id == UNKNOWN_MEMBER:
                self._join_new(request, fresh_member_id, token, now)
            elif request.member_id in self._members.pending:
                self._add(request, request.member_id, token, now)
            else:
                self._join_again(request, token, now)
        except MemberIdRequiredError as error:
            self._outgoing.reply(token, JoinGroupResult(error, fresh_member_id))
        except MinikafkaError as error:
            self._outgoing.reply(token, JoinGroupResult(error, request.member_id))
        self._rebalance.maybe_complete_join(now)

    def _join_new(self, request: JoinGroupRequest, member_id: str, token: object, now: Now) -> None:
        old_id = None
        if request.instance_id is not None:
            old_id = self._members.static_id(request.instance_id)
        if old_id is not None:
            self._static_members.come_back(request, old_id, member_id, token, now)
        elif request.instance_id is None and request.requires_known_member_id:
            self._members.give_out(member_id, now.ms + request.session_timeout_ms)
            raise MemberIdRequiredError("join again with the member id that you are given")
        else:
            self._add(request, member_id, token, now)

    def _join_again(self, request: JoinGroupRequest, token: object, now: Now) -> None:
        member = self._members.current(request.member_id, request.instance_id)
        leader_id = self._members.leader_id
        same = member.protocols == tuple(request.protocols)
        completing = self._lifecycle.state is GroupState.COMPLETING_REBALANCE and same
        leads = leader_id == member.member_id
        # A leader of a stable group who joins again asks for a rebalance.
        if completing or (self._lifecycle.state is GroupState.STABLE and same and not leads):
            # The answer to its join was lost, or it has missed that nothing is to do.
            tells = completing and leads
            shown = self._members.joined(self._generation.protocol_name) if tells else ()
            told = self._generation.joined(member.member_id, leader_id, shown)
            self._outgoing.reply(token, told)
            return
        # A client that asks twice does not listen to the first answer any more. (Kafka never gives
        # it; here every request is answered.)
        self._outgoing.refuse_join(
            member, RebalanceInProgressError("the member has asked to join again since")
        )
        self._members.update(member, request, token)
        why = f"{member.member_id} joins again ({request.reason})"
        self._rebalance.maybe_prepare(now, why)

    def _add(self, request: JoinGroupRequest, member_id: str, token: object, now: Now) -> None:
        if not self._members:
            self._generation.adopt_type(request.protocol_type)
        deadline_ms = now.ms + NEW_MEMBER_JOIN_TIMEOUT_MS
        self._members.add(new_member(request, member_id, token, deadline_ms))
        self._rebalance.on_added(now, f"{member_id} joins ({request.reason})")

    # --- staying ---------------------------------------------------------------------------------

    def heartbeat(self, request: HeartbeatRequest, now: Now) -> None:
        """A member is there. Raises what it is to be told, RebalanceInProgressError among it."""
        self._lifecycle.refuse_if_dead()
        member = self._members.current(request.member_id, request.instance_id)
        self._generation.check(request.generation_id)
        member.extend_session(now.ms)
        self._lifecycle.refuse_while_joining()

    def check_commit(self, request: OffsetCommitRequest, now: Now) -> None:
        """May it commit? A member of this generation may, and is there; whoever is none may while
        the group is Empty. Raises what it is to be told if not."""
        self._lifecycle.refuse_if_dead()
        anonymous = request.member_id == UNKNOWN_MEMBER and request.instance_id is None
        group_id = self._lifecycle.group_id
        if request.generation_id < 0:
            if self._lifecycle.state is GroupState.EMPTY:
                return
            if anonymous:
                raise UnknownMemberIdError(f"group {group_id!r} has members: only they can commit")
        member = self._members.current(request.member_id, request.instance_id)
        self._generation.check(request.generation_id)
        if self._lifecycle.state is GroupState.COMPLETING_REBALANCE:
            raise RebalanceInProgressError(f"group {group_id!r} is being assigned: sync first")
        # While others are still joining, the heartbeats tell; what was read can be committed.
        member.extend_session(now.ms)

    def check_transactional_commit(self, request: TxnOffsetCommitRequest) -> None:
        """May a transaction have offsets of this group in it (KIP-447)? Whoever names no member and
        no generation may, as old clients do; whoever does has to be that, in whatever state the
        group is, since the rest of its transaction is written already. It is no heartbeat."""
        self._lifecycle.refuse_if_dead()
        if request.generation_id < 0:
            anonymous = request.member_id == UNKNOWN_MEMBER and request.instance_id is None
            if anonymous or self._lifecycle.state is GroupState.EMPTY:
                return
        self._members.current(request.member_id, request.instance_id)
        self._generation.check(request.generation_id)

    # --- going -----------------------------------------------------------------------------------

    def leave(self, request: LeaveGroupRequest, now: Now) -> list[LeftMember]:
        """Members leave. Raises CoordinatorNotAvailableError for a group that is being deleted."""
        self._lifecycle.refuse_if_dead()
        left = []
        for each in request.members:
            outcome = LeftMember(each.member_id, each.instance_id)
            try:
                self._leave_one(each, now)
            except MinikafkaError as error:
                outcome.error = error.with_traceback(None)
            left.append(outcome)
        return left

    def _leave_one(self, leaving: LeavingMember, now: Now) -> None:
        if self._members.take_back(leaving.member_id):
            self._rebalance.maybe_complete_join(now)
            return
        member_id = leaving.member_id
        if member_id == UNKNOWN_MEMBER and leaving.instance_id is not None:
            member_id = self._members.static_id(leaving.instance_id) or UNKNOWN_MEMBER
        self._members.current(member_id, leaving.instance_id)
        self._rebalance.remove(member_id, now, f"it leaves ({leaving.reason})")

    def deadlines(self) -> Iterator[int]:
        """When someone goes of whom nothing is heard until then."""
        yield from self._members.pending.values()
        yield from deadlines(self._members)

    def on_time(self, now: Now) -> None:
        """Time has passed: who was silent for too long goes."""
        self._members.take_back_due(now.ms)
        self._rebalance.maybe_complete_join(now)
        for each in list(self._members):
            # An earlier one in this loop may have changed what this one waits for.
            expires_at_ms = each.expires_at_ms if each.member_id in self._members else None
            if expires_at_ms is not None and expires_at_ms <= now.ms:
                why = "its session ended without a heartbeat"
                self._rebalance.remove(each.member_id, now, why)
