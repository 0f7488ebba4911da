"""One consumer group. It hands each event to the part that it concerns, and what all parts want
done comes out. What it decides itself is which offsets expire, and when the group ends.

    Membership       who comes, stays and goes; it asks Admission who may join, and StaticMembers
                     deals with those who come back under a new id
    Rebalance        the rounds, from one generation to the next; Membership tells it of members
    GroupOffsets     committed offsets, and those that transactions have staged
    shared by them   Lifecycle (the state), Generation (what was agreed upon), Members (who),
                     Outgoing (the effects of this event)

A group is there as long as it has members, offsets (committed or staged), or a generation that is
written down. Offsets expire when the group has been Empty for `offsets.retention.minutes`, or, in a
Stable group of consumers, for topics that nobody reads; in a group that never had members, so long
after their commit. A group that has nothing left goes.

Pure: what it is told and the time come in, effects go out (core/groups/effects.py). Everything that
counts is an Append first and takes effect in `on_appended`.

State: its parts. Invariants: an event ends with its effects taken out and the invariants of the
parts checked (`_done`); only an Empty group is buried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from minikafka.api.groups import (
    CommittedOffset,
    GroupDescription,
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    LeftMember,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetDeleteResult,
    SyncGroupRequest,
)
from minikafka.api.transactions import TxnOffsetCommitRequest
from minikafka.core.groups.admission import Admission
from minikafka.core.groups.consumer_protocol import CONSUMER_PROTOCOL_TYPE
from minikafka.core.groups.effects import (
    DeleteGroupResult,
    Effect,
    GroupRecord,
    GroupSnapshot,
    Now,
    OffsetAndMetadata,
)
from minikafka.core.groups.generation import Generation
from minikafka.core.groups.lifecycle import GroupState, Lifecycle
from minikafka.core.groups.members import Members
from minikafka.core.groups.membership import Membership
from minikafka.core.groups.offset_table import OffsetTable
from minikafka.core.groups.offsets import ForgetWrite, GroupOffsets, OffsetsWrite
from minikafka.core.groups.outgoing import Outgoing
from minikafka.core.groups.rebalance import AssignmentWrite, EmptyWrite, Rebalance
from minikafka.core.groups.settings import GroupSettings
from minikafka.core.groups.static_members import StaticMembers, StaticMemberWrite
from minikafka.errors import GroupIdNotFoundError, MinikafkaError, NonEmptyGroupError
from minikafka.model import TopicPartition


@dataclass(frozen=True, slots=True)
class BuryWrite:
    """That the group is gone is on its way."""

    token: object


class Group:
    """See the module. The parts without an underscore are for reading, from outside."""

    def __init__(self, group_id: str, settings: GroupSettings, now: Now) -> None:
        self.group_id = group_id
        self.lifecycle = lifecycle = Lifecycle(group_id, now)
        self.generation = generation = Generation(group_id)
        self.members = members = Members()
        self._outgoing = outgoing = Outgoing()
        self.rebalance = rebalance = Rebalance(
            settings.initial_rebalance_delay_ms, lifecycle, generation, members, outgoing
        )
        self._static_members = StaticMembers(lifecycle, generation, members, rebalance, outgoing)
        self._membership = Membership(
            Admission(settings, lifecycle, generation, members),
            lifecycle,
            generation,
            members,
            rebalance,
            self._static_members,
            outgoing,
        )
        self.offsets = GroupOffsets(group_id, outgoing)
        self._max_size = settings.max_size

    @property
    def state(self) -> GroupState:
        return self.lifecycle.state

    @property
    def is_over(self) -> bool:
        """Is it gone, or was there never anything? Then nobody has to remember it."""
        if self._outgoing.writes_under_way:
            return False
        vacant = (
            self.state is GroupState.EMPTY
            and self.generation.generation_id == 0
            and not self.members.pending
            and not self.offsets
        )
        return vacant or self.state is GroupState.DEAD

    def _done(self) -> list[Effect]:
        """The end of every event: what is to be done."""
        self.members.check()
        self.rebalance.check()
        assert self.state is not GroupState.EMPTY or not self.members, self.lifecycle.explain(
            "members"
        )
        return self._outgoing.take()

    # --- coming and going of the coordinator -----------------------------------------------------

    def restore(
        self, snapshot: GroupSnapshot | None, offsets: OffsetTable, now: Now
    ) -> list[Effect]:
        """Become what the last coordinator wrote down. The sessions of all members begin anew."""
        self.offsets.restore(offsets)
        if snapshot is not None:
            self.members.restore(snapshot, now.ms)
            self.generation.restore(snapshot, self.members)
            state = GroupState.STABLE if self.members else GroupState.EMPTY
            self.lifecycle.restore(state, snapshot.state_timestamp_ms)
            if len(self.members) > self._max_size:
                self.rebalance.prepare(now, "it has more members than group.max.size")
        return self._done()

    def unload(self, error: MinikafkaError) -> list[Effect]:
        """Another broker coordinates now: whoever waits is told `error`."""
        for each in self.members:
            self._outgoing.refuse_join(each, error)
            self._outgoing.refuse_sync(each, error)
        return self._done()

    # --- members ---------------------------------------------------------------------------------

    def join(
        self, request: JoinGroupRequest, fresh_member_id: str, token: object, now: Now
    ) -> list[Effect]:
        """A member wants to be part of the next generation. `fresh_member_id` is its id if it has
        none yet."""
        self._membership.join(request, fresh_member_id, token, now)
        return self._done()

    def sync(self, request: SyncGroupRequest, token: object, now: Now) -> list[Effect]:
        """A member asks for its part; the leader brings everybody's."""
        self.rebalance.sync(request, token, now)
        return self._done()

    def heartbeat(self, request: HeartbeatRequest, now: Now) -> None:
        """A member is there. Raises what it is to be told, RebalanceInProgressError among it."""
        self._membership.heartbeat(request, now)

    def leave(self, request: LeaveGroupRequest, now: Now) -> tuple[list[LeftMember], list[Effect]]:
        """Members leave. Raises CoordinatorNotAvailableError for a group that is being deleted."""
        left = self._membership.leave(request, now)
        return left, self._done()

    # --- writes and time -------------------------------------------------------------------------

    def on_appended(
        self, write: object, error: MinikafkaError | None, now: Now, base_offset: int
    ) -> list[Effect]:
        """The records of an Append are committed, from `base_offset` on; or they are not in the log
        (then `error` is what to answer)."""
        self._outgoing.on_appended()
        match write:
            case AssignmentWrite():
                self.rebalance.on_assignment_stored(write, error, now)
            case StaticMemberWrite():
                self._static_members.on_stored(write, error, now)
            case OffsetsWrite():
                self.offsets.on_committed(write, error, base_offset)
            case ForgetWrite():
                self.offsets.on_forgotten(write, error, base_offset)
            case BuryWrite(token):
                self._on_buried(token, error, now)
            case _:
                assert isinstance(write, EmptyWrite), write
        return self._done()

    def next_deadline_ms(self) -> int | None:
        """When `on_time` has something to do, unless an event comes first; None: never."""
        candidates = [*self._membership.deadlines()]
        if self.rebalance.deadline_ms is not None:
            candidates.append(self.rebalance.deadline_ms)
        return min(candidates, default=None)

    def on_time(self, now: Now) -> list[Effect]:
        """Time has passed: end what is due. Calling it early does no harm."""
        self._membership.on_time(now)
        self.rebalance.on_time(now)
        return self._done()

    # --- offsets ---------------------------------------------------------------------------------

    def commit(
        self, request: OffsetCommitRequest, max_metadata_bytes: int, token: object, now: Now
    ) -> list[Effect]:
        """Commit offsets for a member, or, while the group is Empty, for anybody."""
        try:
            self._membership.check_commit(request, now)
        except MinikafkaError as error:
            self.offsets.refuse_commit(request.partitions, error.with_traceback(None), token)
        else:
            self.offsets.commit(request.partitions, max_metadata_bytes, token, now)
        return self._done()

    def fetch_offsets(
        self, partitions: Sequence[TopicPartition] | None, *, require_stable: bool = False
    ) -> list[CommittedOffset]:
        """Committed offsets (None: all); -1 where there is none. `require_stable`:
        UnstableOffsetCommitError for those that a transaction may yet move."""
        if partitions is None:
            partitions = sorted(self.offset_partitions(require_stable=require_stable))
        if self.state is GroupState.DEAD:
            return [CommittedOffset(each) for each in partitions]
        return self.offsets.fetch(partitions, require_stable=require_stable)

    def offset_partitions(self, *, require_stable: bool = False) -> list[TopicPartition]:
        """Those of which there are offsets, in no order: a group may have very many."""
        if self.state is GroupState.DEAD:
            return []
        return self.offsets.partitions(require_stable=require_stable)

    def delete_offsets(self, request: OffsetDeleteRequest, token: object) -> list[Effect]:
        """Forget offsets, except of topics that members read."""
        try:
            self._check_delete_offsets()
        except MinikafkaError as error:
            self._outgoing.reply(token, OffsetDeleteResult(error))
        else:
            self.offsets.delete(request.partitions, self._reads, token)
        return self._done()

    def _check_delete_offsets(self) -> None:
        if self.state is GroupState.DEAD:
            raise self._not_found()
        if self.members and self.generation.protocol_type != CONSUMER_PROTOCOL_TYPE:
            raise NonEmptyGroupError(
                f"group {self.group_id!r} has {len(self.members)} members, and which topics they "
                "use cannot be told"
            )

    def _reads(self, topic: str) -> bool:
        """Some member reads it, or may."""
        topics = self.generation.subscribed_topics
        return bool(self.members) and (topics is None or topic in topics)

    def _not_found(self) -> GroupIdNotFoundError:
        return GroupIdNotFoundError(f"there is no group {self.group_id!r}")

    def forget_partitions(self, gone: Callable[[TopicPartition], bool]) -> list[Effect]:
        """Topics have been deleted: their offsets go, whoever reads them."""
        if self.state is not GroupState.DEAD:
            self.offsets.forget(sorted({each for each in self.offsets.known() if gone(each)}))
        return self._done()

    # --- offsets of transactions, as they come into the log --------------------------------------

    def check_transactional_commit(self, request: TxnOffsetCommitRequest) -> None:
        """May offsets be committed in a transaction like this? Raises what is to be told if not."""
        self._membership.check_transactional_commit(request)

    def stage(
        self,
        producer_id: int,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        base_offset: int,
    ) -> None:
        """Offsets of a transaction are in the log, in this order from `base_offset` on. They count
        when it is committed."""
        self.offsets.stage(producer_id, offsets, base_offset)

    def on_marker(self, producer_id: int, marker_offset: int, *, commits: bool) -> None:
        """The transaction of this producer ends in the log; not yet for whoever asks."""
        self.offsets.table.end(producer_id, marker_offset, commits=commits)

    def on_marker_committed(self, marker_offset: int) -> list[Effect]:
        """What it has committed counts, what it has aborted is gone."""
        self.offsets.table.settle(marker_offset)
        return self._done()

    # --- ending ----------------------------------------------------------------------------------

    def expire_offsets(self, retention_ms: int, now: Now) -> list[Effect]:
        """Forget what has not been needed for so long; and the group, if nothing is left."""
        if self._outgoing.writes_under_way or self.state is GroupState.DEAD:
            return []
        partitions = self._expired(retention_ms, now.timestamp_ms)
        offsets = self.offsets
        everything = len(partitions) == len(offsets.committed) and not offsets.table.any_staged
        if everything and self.state is GroupState.EMPTY and not self.members.pending:
            self._bury(None, now, "nothing is left of it")
        else:
            offsets.forget(partitions)
        return self._done()

    def _expired(self, retention_ms: int, timestamp_ms: int) -> list[TopicPartition]:
        expired, topics = self.offsets.expired, self.generation.subscribed_topics
        if self.generation.protocol_type is None:
            return expired(timestamp_ms, retention_ms, lambda each: each.commit_timestamp_ms)
        if self.state is GroupState.EMPTY:
            empty_since_ms = self.lifecycle.state_timestamp_ms
            return expired(timestamp_ms, retention_ms, lambda _: empty_since_ms)
        if self.state is GroupState.STABLE and topics is not None:
            return expired(
                timestamp_ms, retention_ms, lambda each: each.commit_timestamp_ms, topics
            )
        return []

    def delete(self, token: object, now: Now) -> list[Effect]:
        """End the group with all its offsets. NonEmptyGroupError while it has members."""
        if self.state is GroupState.DEAD:
            self._outgoing.reply(token, DeleteGroupResult(self._not_found()))
        elif self.state is not GroupState.EMPTY:
            error = NonEmptyGroupError(
                f"group {self.group_id!r} has {len(self.members)} members: "
                "end them before you delete it"
            )
            self._outgoing.reply(token, DeleteGroupResult(error))
        else:
            self._bury(token, now, "somebody deletes it")
        return self._done()

    def _bury(self, token: object, now: Now, why: str) -> None:
        self.lifecycle.enter(GroupState.DEAD, now, why)
        self.members.take_back_all()
        self.offsets.forget_all(GroupRecord(self.group_id, None), BuryWrite(token))

    def _on_buried(self, token: object, error: MinikafkaError | None, now: Now) -> None:
        if error is not None:
            self.lifecycle.enter(GroupState.EMPTY, now, f"it could not be deleted: {error}")
        self._outgoing.reply(token, DeleteGroupResult(error))

    # --- as others see it ------------------------------------------------------------------------

    def describe(self) -> GroupDescription:
        """What the members told and were given is shown once the group is Stable, as Kafka does."""
        stable = self.state is GroupState.STABLE
        generation = self.generation
        return GroupDescription(
            self.group_id,
            None,
            self.state.value,
            generation.protocol_type or "",
            (generation.protocol_name or "") if stable else "",
            self.members.described(generation.protocol_name, with_assignments=stable),
        )
