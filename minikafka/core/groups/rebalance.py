"""The rounds of a group, from one generation to the next: Kafka's classic rebalance protocol.

Whoever joins waits for the generation to begin; then the leader is told of all members, assigns,
and everyone waits for its part (sync). The assignment is given out once it is stored. A group
without members waits `initial_rebalance_delay_ms` for more, again for each one who comes, up to the
rebalance timeout. The states are in lifecycle.py.

Who joins and who goes is not decided here (membership.py): it is told of them, and sees what that
means for the round.

State: the deadline of the round (of joining, or of syncing), what is left of the first delay, who
was told of this generation and has not asked for its part (`awaiting_sync`). Invariants: those in
`awaiting_sync` are members; there is a deadline while the group prepares. Behaviour is that of
GroupCoordinator in Apache Kafka 3.x; what differs is said where it does.
"""

from __future__ import annotations

from dataclasses import dataclass

from minikafka.api.groups import SyncGroupRequest, SyncGroupResult
from minikafka.core.groups.effects import GroupRecord, GroupSnapshot, Now
from minikafka.core.groups.generation import Generation
from minikafka.core.groups.lifecycle import GroupState, Lifecycle
from minikafka.core.groups.members import Member, Members
from minikafka.core.groups.outgoing import Outgoing
from minikafka.errors import MinikafkaError, RebalanceInProgressError, UnknownMemberIdError

LOOK_AGAIN_MS = 1_000  # while nobody has joined, whatever timeout they ask for


@dataclass(frozen=True, slots=True)
class AssignmentWrite:
    """The leader's assignment of this generation is on its way."""

    generation_id: int
    assignments: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class EmptyWrite:
    """That the group has no members any more is on its way."""


class Rebalance:
    """See the module. `initial_delay_ms` is group.initial.rebalance.delay.ms."""

    def __init__(
        self,
        initial_delay_ms: int,
        lifecycle: Lifecycle,
        generation: Generation,
        members: Members,
        outgoing: Outgoing,
    ) -> None:
        self.awaiting_sync: set[str] = set()
        self.deadline_ms: int | None = None  # of joining, or of syncing
        self._initial_remaining_ms: int | None = None  # not None: the first rebalance, with delay
        self._somebody_new = False
        self._initial_delay_ms = initial_delay_ms
        self._lifecycle = lifecycle
        self._generation = generation
        self._members = members
        self._outgoing = outgoing

    def check(self) -> None:
        """The invariants of the module."""
        explain = self._lifecycle.explain
        assert all(each in self._members for each in self.awaiting_sync), explain("syncs")
        preparing = self._lifecycle.state is GroupState.PREPARING_REBALANCE
        assert not preparing or self.deadline_ms is not None, explain("no deadline")

    # --- what happens to members -----------------------------------------------------------------

    def on_added(self, now: Now, why: str) -> None:
        """Somebody is a member now who was none."""
        if self._lifecycle.state is GroupState.PREPARING_REBALANCE:
            self._somebody_new = True
        self.maybe_prepare(now, why)

    def on_renamed(self, old_id: str, new_id: str) -> None:
        """A static member goes on under another id."""
        if old_id in self.awaiting_sync:
            self.awaiting_sync.discard(old_id)
            self.awaiting_sync.add(new_id)

    def remove(self, member_id: str, now: Now, why: str) -> None:
        """A member is to go; the others share what it had."""
        self._drop(member_id, why)
        self.maybe_prepare(now, f"{member_id}: {why}")
        self.maybe_complete_join(now)

    def _drop(self, member_id: str, why: str) -> None:
        """Out of the group. If its client is there after all, it joins anew."""
        member = self._members.remove(member_id)
        self.awaiting_sync.discard(member_id)
        gone = UnknownMemberIdError(f"{member_id!r} is no longer a member: {why}")
        self._outgoing.refuse_join(member, gone)
        self._outgoing.refuse_sync(member, gone)

    # --- joining ---------------------------------------------------------------------------------

    def maybe_prepare(self, now: Now, why: str) -> None:
        """A round begins, unless one has."""
        if self._lifecycle.state is not GroupState.PREPARING_REBALANCE:
            self.prepare(now, why)

    def prepare(self, now: Now, why: str) -> None:
        """A round begins: all are to join."""
        if self._lifecycle.state is GroupState.COMPLETING_REBALANCE:
            self._fail_syncs(
                RebalanceInProgressError("somebody has joined or left: join again"), now
            )
        self.awaiting_sync.clear()
        timeout_ms = self._members.rebalance_timeout_ms
        if self._lifecycle.state is GroupState.EMPTY:
            self._initial_remaining_ms = max(timeout_ms - self._initial_delay_ms, 0)
            self.deadline_ms = now.ms + self._initial_delay_ms
        else:
            self._initial_remaining_ms = None
            self.deadline_ms = now.ms + timeout_ms
        self._somebody_new = False
        self._lifecycle.enter(GroupState.PREPARING_REBALANCE, now, why)
        self.maybe_complete_join(now)

    def maybe_complete_join(self, now: Now) -> None:
        """The next generation begins if all have joined, and it is not the first of a group."""
        if (
            self._lifecycle.state is GroupState.PREPARING_REBALANCE
            and self._initial_remaining_ms is None
            and self._members.all_joined
        ):
            self._complete_join(now)

    def _on_join_deadline(self, now: Now) -> None:
        if self._initial_remaining_ms and self._somebody_new:
            self._somebody_new = False
            delay_ms = min(self._initial_delay_ms, self._initial_remaining_ms)
            self._initial_remaining_ms -= delay_ms
            self.deadline_ms = now.ms + delay_ms
        else:
            self._complete_join(now)

    def _complete_join(self, now: Now) -> None:
        """The next generation begins with those who have joined, and with static members."""
        members = self._members
        for each in [each for each in members if not each.awaits_join]:
            if each.instance_id is None:
                members.remove(each.member_id)
        self._initial_remaining_ms = None
        if members and not members.elect_joined_leader():
            # Static members only, and none of them has joined: their sessions decide.
            self.deadline_ms = now.ms + max(members.rebalance_timeout_ms, LOOK_AGAIN_MS)
            return
        self._generation.advance(members)
        if members:
            self._begin_syncing(now)
        else:
            self.deadline_ms = None
            self._lifecycle.enter(GroupState.EMPTY, now, "nobody is left")
            self.store({}, EmptyWrite())

    def _begin_syncing(self, now: Now) -> None:
        """All are told of the generation that has begun, and are to ask for their part."""
        generation, members = self._generation, self._members
        self._lifecycle.enter(
            GroupState.COMPLETING_REBALANCE, now, f"generation {generation.generation_id}"
        )
        self.deadline_ms = now.ms + members.rebalance_timeout_ms
        for each in members:
            leads = each.member_id == members.leader_id
            shown = members.joined(generation.protocol_name) if leads else ()
            token = each.take_join_token()
            if token is not None:
                told = generation.joined(each.member_id, members.leader_id, shown)
                self._outgoing.reply(token, told)
            each.extend_session(now.ms)
            each.is_new = False
            self.awaiting_sync.add(each.member_id)

    # --- syncing ---------------------------------------------------------------------------------

    def sync(self, request: SyncGroupRequest, token: object, now: Now) -> None:
        """A member asks for its part; the leader brings everybody's."""
        try:
            member = self._check_sync(request)
        except MinikafkaError as error:
            self._outgoing.reply(token, SyncGroupResult(error))
            return
        self.awaiting_sync.discard(member.member_id)
        if not self.awaiting_sync:
            self.deadline_ms = None
        if self._lifecycle.state is GroupState.STABLE:
            self._reply_synced(member, token, now)
            return
        self._outgoing.refuse_sync(
            member, RebalanceInProgressError("the member has asked to sync again since")
        )
        member.sync_token = token
        if member.member_id == self._members.leader_id:
            given = dict(request.assignments)
            assignments = {each.member_id: given.get(each.member_id, b"") for each in self._members}
            write = AssignmentWrite(self._generation.generation_id, assignments)
            self.store(assignments, write)

    def _check_sync(self, request: SyncGroupRequest) -> Member:
        self._lifecycle.refuse_if_dead()
        member = self._members.current(request.member_id, request.instance_id)
        self._generation.check(request.generation_id)
        self._generation.check_protocol(request.protocol_type, request.protocol_name)
        self._lifecycle.refuse_while_joining()
        return member

    def on_assignment_stored(
        self, write: AssignmentWrite, error: MinikafkaError | None, now: Now
    ) -> None:
        """Give everybody its part, unless a rebalance has begun meanwhile."""
        if (
            self._lifecycle.state is not GroupState.COMPLETING_REBALANCE
            or self._generation.generation_id != write.generation_id
        ):
            return
        if error is not None:
            self._fail_syncs(error, now)
            self.prepare(now, f"the assignment could not be stored: {error}")
            return
        self._lifecycle.enter(GroupState.STABLE, now, "the assignment is stored")
        for each in self._members:
            each.assignment = write.assignments[each.member_id]
            token = each.take_sync_token()
            if token is not None:
                self._reply_synced(each, token, now)

    def _reply_synced(self, member: Member, token: object, now: Now) -> None:
        member.extend_session(now.ms)
        self._outgoing.reply(token, self._generation.assigned(member.assignment))

    def _fail_syncs(self, error: MinikafkaError, now: Now) -> None:
        for each in self._members:
            each.assignment = b""
            if each.sync_token is not None:  # it needed no heartbeat while it waited
                each.extend_session(now.ms)
            self._outgoing.refuse_sync(each, error)

    def _on_sync_deadline(self, now: Now) -> None:
        """Who was told of the generation and has not asked for its part is gone."""
        silent = sorted(self.awaiting_sync)
        for member_id in silent:
            self._drop(member_id, "it did not sync in time")
        self.prepare(now, f"{', '.join(silent)} did not sync in time")

    # --- time ------------------------------------------------------------------------------------

    def on_time(self, now: Now) -> None:
        """Time has passed: the round ends if it is due."""
        if self.deadline_ms is not None and self.deadline_ms <= now.ms:
            if self._lifecycle.state is GroupState.PREPARING_REBALANCE:
                self._on_join_deadline(now)
            else:
                self._on_sync_deadline(now)

    # --- storing ---------------------------------------------------------------------------------

    def store(self, assignments: dict[str, bytes], write: object) -> None:
        """The group as it is, with these assignments, is to be written down."""
        snapshot = GroupSnapshot(
            self._generation.protocol_type or "",
            self._generation.generation_id,
            self._generation.protocol_name,
            self._members.leader_id,
            self._lifecycle.state_timestamp_ms,
            self._members.stored(self._generation.protocol_name, assignments),
        )
        self._outgoing.append((GroupRecord(self._lifecycle.group_id, snapshot),), write)
