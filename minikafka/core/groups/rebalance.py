"""How a consumer group goes from one generation to the next: Kafka's classic rebalance protocol.

    Empty --join--> PreparingRebalance --all joined, or time is over--> CompletingRebalance
      ^                |      ^                                              |
      |            all left   +--- someone joins, leaves or is silent ---+   | the leader's
      +----------------+                                                 |   v assignment is stored
                                                                        Stable

Whoever joins waits for the generation to begin; then the leader is told of all members, assigns,
and everyone waits for its part (sync). The assignment is given out once it is stored. A group
without members waits `initial_rebalance_delay_ms` for more, again for each one who comes, up to the
rebalance timeout.

Pure: requests, answers to writes and the time come in, effects go out (core/groups/effects.py).

State: members, generation, chosen protocol, deadlines. Invariants: the generation never falls; an
answer is given to each token exactly once; `awaiting_sync` are members who were told of this
generation and have not asked for their part. Behaviour is that of GroupCoordinator in Apache Kafka
3.x; what differs is said where it does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from minikafka.api.groups import (
    JoinedMember,
    JoinGroupResult,
    SyncGroupRequest,
    SyncGroupResult,
)
from minikafka.core.groups.effects import Append, Effect, GroupRecord, GroupSnapshot, Now, Reply
from minikafka.core.groups.members import Member, Members, deadlines
from minikafka.errors import (
    CoordinatorNotAvailableError,
    IllegalGenerationError,
    InconsistentGroupProtocolError,
    MinikafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

_HISTORY_LENGTH = 16
MAX_GENERATION = 2**31 - 1  # the next one is 1 again
LOOK_AGAIN_MS = 1_000  # while nobody has joined, whatever timeout they ask for


class GroupState(Enum):
    """In Kafka's words, as tools print them."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


_COMES_AFTER = {
    GroupState.EMPTY: (GroupState.PREPARING_REBALANCE, GroupState.DEAD),
    GroupState.PREPARING_REBALANCE: (
        GroupState.EMPTY,
        GroupState.COMPLETING_REBALANCE,
        GroupState.STABLE,
    ),
    GroupState.COMPLETING_REBALANCE: (GroupState.PREPARING_REBALANCE,),
    GroupState.STABLE: (GroupState.COMPLETING_REBALANCE,),
    GroupState.DEAD: tuple(GroupState),
}


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """The broker's group.* properties."""

    min_session_timeout_ms: int = 6_000
    max_session_timeout_ms: int = 1_800_000
    initial_rebalance_delay_ms: int = 3_000
    max_size: int = 2**31 - 1


@dataclass(frozen=True, slots=True)
class AssignmentWrite:
    """The leader's assignment of this generation is on its way."""

    generation_id: int
    assignments: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class EmptyWrite:
    """That the group has no members any more is on its way."""


class Rebalance:
    """The rounds of a group; core/groups/membership.py adds who comes and goes."""

    def __init__(self, group_id: str, settings: GroupSettings, now: Now) -> None:
        self.group_id = group_id
        self.settings = settings
        self.state = GroupState.EMPTY
        self.state_timestamp_ms = now.timestamp_ms
        self.generation_id = 0
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        self.subscribed_topics: frozenset[str] | None = None
        self.members = Members()
        self.awaiting_sync: set[str] = set()
        self._rebalance_deadline_ms: int | None = None  # of joining, or of syncing
        self._initial_remaining_ms: int | None = None  # not None: the first rebalance, with delay
        self._somebody_new = False
        self._effects: list[Effect] = []
        self._history: deque[str] = deque(maxlen=_HISTORY_LENGTH)

    def _done(self) -> list[Effect]:
        """The end of every event: what is to be done."""
        self.members.check()
        assert self.state is not GroupState.EMPTY or not self.members, self.explain("members")
        assert all(each in self.members for each in self.awaiting_sync), self.explain("syncs")
        effects, self._effects = self._effects, []
        return effects

    def explain(self, problem: str) -> str:
        """For assertions: what came before."""
        return f"group {self.group_id!r}, {self.state.value}: {problem}; {list(self._history)}"

    def _enter(self, state: GroupState, now: Now, why: str) -> None:
        self._history.append(f"{state.value} at {now.ms}: {why}")
        assert self.state in _COMES_AFTER[state], self.explain(f"from {self.state.value}")
        self.state = state
        self.state_timestamp_ms = now.timestamp_ms

    def _refuse_if_dead(self) -> None:
        if self.state is GroupState.DEAD:
            raise CoordinatorNotAvailableError(f"group {self.group_id!r} is being deleted")

    def _check_generation(self, generation_id: int) -> None:
        if generation_id != self.generation_id:
            raise IllegalGenerationError(
                f"group {self.group_id!r} is in generation {self.generation_id}, "
                f"not {generation_id}"
            )

    def _rebalancing(self) -> RebalanceInProgressError:
        return RebalanceInProgressError(f"group {self.group_id!r} rebalances: join again")

    # --- rebalancing -----------------------------------------------------------------------------

    def _maybe_prepare_rebalance(self, now: Now, why: str) -> None:
        if self.state is not GroupState.PREPARING_REBALANCE:
            self._prepare_rebalance(now, why)

    def _prepare_rebalance(self, now: Now, why: str) -> None:
        if self.state is GroupState.COMPLETING_REBALANCE:
            self._fail_syncs(
                RebalanceInProgressError("somebody has joined or left: join again"), now
            )
        self.awaiting_sync.clear()
        timeout_ms = self.members.rebalance_timeout_ms
        if self.state is GroupState.EMPTY:
            delay_ms = self.settings.initial_rebalance_delay_ms
            self._initial_remaining_ms = max(timeout_ms - delay_ms, 0)
            self._rebalance_deadline_ms = now.ms + delay_ms
        else:
            self._initial_remaining_ms = None
            self._rebalance_deadline_ms = now.ms + timeout_ms
        self._somebody_new = False
        self._enter(GroupState.PREPARING_REBALANCE, now, why)
        self._maybe_complete_join(now)

    def _maybe_complete_join(self, now: Now) -> None:
        if (
            self.state is GroupState.PREPARING_REBALANCE
            and self._initial_remaining_ms is None
            and self.members.all_joined
        ):
            self._complete_join(now)

    def _on_join_deadline(self, now: Now) -> None:
        if self._initial_remaining_ms and self._somebody_new:
            self._somebody_new = False
            delay_ms = min(self.settings.initial_rebalance_delay_ms, self._initial_remaining_ms)
            self._initial_remaining_ms -= delay_ms
            self._rebalance_deadline_ms = now.ms + delay_ms
        else:
            self._complete_join(now)

    def _note_subscriptions(self) -> None:
        self.subscribed_topics = self.members.subscribed_topics(
            self.protocol_type, self.protocol_name
        )

    def _complete_join(self, now: Now) -> None:
        """The next generation begins with those who have joined, and with static members."""
        for each in [each for each in self.members if not each.awaits_join]:
            if each.instance_id is None:
                self.members.remove(each.member_id)
        if self.members and not self.members.elect_joined_leader():
            # Static members only, and none of them has joined: their sessions decide.
            self._initial_remaining_ms = None
            timeout_ms = max(self.members.rebalance_timeout_ms, LOOK_AGAIN_MS)
            self._rebalance_deadline_ms = now.ms + timeout_ms
            return
        self.generation_id = self.generation_id % MAX_GENERATION + 1
        self._rebalance_deadline_ms = None
        self._initial_remaining_ms = None
        if not self.members:
            self.protocol_name = None
            self._note_subscriptions()
            self._enter(GroupState.EMPTY, now, "nobody is left")
            self._store({}, EmptyWrite())
            return
        self.protocol_name = self.members.select_protocol()
        self._note_subscriptions()
        self._enter(GroupState.COMPLETING_REBALANCE, now, f"generation {self.generation_id}")
        self._rebalance_deadline_ms = now.ms + self.members.rebalance_timeout_ms
        for each in self.members:
            leads = each.member_id == self.members.leader_id
            shown = self.members.joined(self.protocol_name) if leads else ()
            token = each.take_join_token()
            if token is not None:
                self._effects.append(Reply(token, self._joined_result(each, shown)))
            each.session_deadline_ms = now.ms + each.session_timeout_ms
            each.is_new = False
            self.awaiting_sync.add(each.member_id)

    def _joined_result(
        self, member: Member, shown: tuple[JoinedMember, ...] = ()
    ) -> JoinGroupResult:
        return JoinGroupResult(
            None,
            member.member_id,
            self.generation_id,
            self.protocol_type,
            self.protocol_name,
            self.members.leader_id or "",
            shown,
        )

    # --- syncing ---------------------------------------------------------------------------------

    def sync(self, request: SyncGroupRequest, token: object, now: Now) -> list[Effect]:
        """A member asks for its part; the leader brings everybody's."""
        try:
            member = self._check_sync(request)
        except MinikafkaError as error:
            self._effects.append(Reply(token, SyncGroupResult(error)))
            return self._done()
        self.awaiting_sync.discard(member.member_id)
        if not self.awaiting_sync:
            self._rebalance_deadline_ms = None
        if self.state is GroupState.STABLE:
            self._reply_synced(member, token, now)
        else:
            self._reply_sync(
                member, RebalanceInProgressError("the member has asked to sync again since")
            )
            member.sync_token = token
            if member.member_id == self.members.leader_id:
                given = dict(request.assignments)
                assignments = {
                    each.member_id: given.get(each.member_id, b"") for each in self.members
                }
                self._store(assignments, AssignmentWrite(self.generation_id, assignments))
        return self._done()

    def _check_sync(self, request: SyncGroupRequest) -> Member:
        self._refuse_if_dead()
        member = self.members.current(request.member_id, request.instance_id)
        self._check_generation(request.generation_id)
        for given, chosen in (
            (request.protocol_type, self.protocol_type),
            (request.protocol_name, self.protocol_name),
        ):
            if given is not None and given != chosen:
                raise InconsistentGroupProtocolError(
                    f"group {self.group_id!r} has chosen {chosen!r}, not {given!r}"
                )
        if self.state is GroupState.PREPARING_REBALANCE:
            raise self._rebalancing()
        return member

    def on_assignment_stored(
        self, write: AssignmentWrite, error: MinikafkaError | None, now: Now
    ) -> None:
        """Give everybody its part, unless a rebalance has begun meanwhile."""
        if (
            self.state is not GroupState.COMPLETING_REBALANCE
            or self.generation_id != write.generation_id
        ):
            return
        if error is not None:
            self._fail_syncs(error, now)
            self._prepare_rebalance(now, f"the assignment could not be stored: {error}")
            return
        self._enter(GroupState.STABLE, now, "the assignment is stored")
        for each in self.members:
            each.assignment = write.assignments[each.member_id]
            token = each.take_sync_token()
            if token is not None:
                self._reply_synced(each, token, now)

    def _reply_synced(self, member: Member, token: object, now: Now) -> None:
        member.session_deadline_ms = now.ms + member.session_timeout_ms
        result = SyncGroupResult(None, member.assignment, self.protocol_type, self.protocol_name)
        self._effects.append(Reply(token, result))

    def _fail_syncs(self, error: MinikafkaError, now: Now) -> None:
        for each in self.members:
            each.assignment = b""
            if each.sync_token is not None:  # it needed no heartbeat while it waited
                each.session_deadline_ms = now.ms + each.session_timeout_ms
            self._reply_sync(each, error)

    def _on_sync_deadline(self, now: Now) -> None:
        """Who was told of the generation and has not asked for its part is gone."""
        silent = sorted(self.awaiting_sync)
        for member_id in silent:
            self._drop(member_id, "it did not sync in time")
        self._prepare_rebalance(now, f"{', '.join(silent)} did not sync in time")

    # --- leaving ---------------------------------------------------------------------------------

    def _remove(self, member_id: str, now: Now, why: str) -> None:
        self._drop(member_id, why)
        self._maybe_prepare_rebalance(now, f"{member_id}: {why}")
        self._maybe_complete_join(now)

    def _drop(self, member_id: str, why: str) -> None:
        """Out of the group. If its client is there after all, it joins anew."""
        member = self.members.remove(member_id)
        self.awaiting_sync.discard(member_id)
        gone = UnknownMemberIdError(f"{member_id!r} is no longer a member: {why}")
        self._reply_join(member, gone)
        self._reply_sync(member, gone)

    def _reply_join(self, member: Member, error: MinikafkaError) -> None:
        token = member.take_join_token()
        if token is not None:
            self._effects.append(Reply(token, JoinGroupResult(error, member.member_id)))

    def _reply_sync(self, member: Member, error: MinikafkaError) -> None:
        token = member.take_sync_token()
        if token is not None:
            self._effects.append(Reply(token, SyncGroupResult(error)))

    # --- time ------------------------------------------------------------------------------------

    def next_deadline_ms(self) -> int | None:
        """When `on_time` has something to do, unless an event comes first; None: never."""
        candidates = [*self.members.pending.values(), *deadlines(self.members)]
        if self._rebalance_deadline_ms is not None:
            candidates.append(self._rebalance_deadline_ms)
        return min(candidates, default=None)

    def on_time(self, now: Now) -> list[Effect]:
        """Time has passed: end what is due. Calling it early does no harm."""
        for member_id, deadline_ms in list(self.members.pending.items()):
            if deadline_ms <= now.ms:
                del self.members.pending[member_id]
        self._maybe_complete_join(now)
        for each in list(self.members):
            # An earlier one in this loop may have changed what this one waits for.
            expires_at_ms = each.expires_at_ms if each.member_id in self.members else None
            if expires_at_ms is not None and expires_at_ms <= now.ms:
                self._remove(each.member_id, now, "its session ended without a heartbeat")
        if self._rebalance_deadline_ms is not None and self._rebalance_deadline_ms <= now.ms:
            if self.state is GroupState.PREPARING_REBALANCE:
                self._on_join_deadline(now)
            else:
                self._on_sync_deadline(now)
        return self._done()

    # --- storing ---------------------------------------------------------------------------------

    def _store(self, assignments: dict[str, bytes], write: object) -> None:
        record = GroupRecord(self.group_id, self.snapshot(assignments))
        self._effects.append(Append((record,), write))

    def snapshot(self, assignments: dict[str, bytes]) -> GroupSnapshot:
        """The group as it is to be stored, with these assignments."""
        return GroupSnapshot(
            self.protocol_type or "",
            self.generation_id,
            self.protocol_name,
            self.members.leader_id,
            self.state_timestamp_ms,
            self.members.stored(self.protocol_name, assignments),
        )
