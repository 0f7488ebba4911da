"""One consumer group: its members (core/groups/membership.py) and its offsets, and how it ends.

A group is there as long as it has members, offsets, or a generation that is written down. Members
commit under their member id and generation; whoever is no member commits only while the group is
Empty, which is how offsets are reset. Offsets expire when the group has been Empty for
`offsets.retention.minutes`, or, in a Stable group of consumers, for topics that nobody reads; in
a group that never had members, so long after their commit. A group that has nothing left goes.

Pure: what it is told and the time come in, effects go out (core/groups/effects.py). Everything that
counts is an Append first and takes effect in `on_appended`.

State: membership, offsets, and how many writes are on their way. Invariant: a Dead group stays
so, unless its tombstones could not be written, and answers CoordinatorNotAvailableError meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from minikafka.api.groups import (
    UNKNOWN_MEMBER,
    CommittedOffset,
    GroupDescription,
    OffsetCommitPartitionResult,
    OffsetCommitRequest,
    OffsetCommitResult,
    OffsetDeleteRequest,
    OffsetDeleteResult,
)
from minikafka.core.groups.consumer_protocol import CONSUMER_PROTOCOL_TYPE
from minikafka.core.groups.effects import (
    Append,
    DeleteGroupResult,
    Effect,
    GroupRecord,
    GroupSnapshot,
    Now,
    OffsetAndMetadata,
    OffsetRecord,
    Record,
    Reply,
)
from minikafka.core.groups.membership import Membership, StaticMemberWrite
from minikafka.core.groups.offsets import GroupOffsets
from minikafka.core.groups.rebalance import (
    AssignmentWrite,
    EmptyWrite,
    GroupSettings,
    GroupState,
)
from minikafka.errors import (
    GroupIdNotFoundError,
    GroupSubscribedToTopicError,
    MinikafkaError,
    NonEmptyGroupError,
    OffsetMetadataTooLargeError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from minikafka.model import TopicPartition

# A batch of tombstones is smaller than what any topic takes by default (1 MiB).
MAX_BATCH_BYTES = 500_000
RECORD_BYTES = 64  # of one, without the names in it


@dataclass(frozen=True, slots=True)
class OffsetsWrite:
    """A commit is on its way; `results` are the request's, those that have failed already too."""

    token: object
    results: tuple[OffsetCommitPartitionResult, ...]
    offsets: Mapping[TopicPartition, OffsetAndMetadata]


@dataclass(frozen=True, slots=True)
class ForgetWrite:
    """That these offsets are forgotten is on its way."""

    token: object
    results: tuple[OffsetCommitPartitionResult, ...]
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class BuryWrite:
    """That the group is gone is on its way."""

    token: object


class Group(Membership):
    """See the module."""

    def __init__(self, group_id: str, settings: GroupSettings, now: Now) -> None:
        super().__init__(group_id, settings, now)
        self.offsets = GroupOffsets()
        self._writes = 0

    # --- from the log ----------------------------------------------------------------------------

    def restore(
        self,
        snapshot: GroupSnapshot | None,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        now: Now,
    ) -> list[Effect]:
        """Become what the last coordinator wrote down. The sessions of all members begin anew."""
        self.offsets.committed.update(offsets)
        if snapshot is not None:
            self.protocol_type = snapshot.protocol_type or None
            self.generation_id = snapshot.generation_id
            self.members.restore(snapshot, now.ms)
            self.protocol_name = snapshot.protocol_name if self.members else None
            self._note_subscriptions()
            if self.members:
                self.state = GroupState.STABLE
            if snapshot.state_timestamp_ms >= 0:
                self.state_timestamp_ms = snapshot.state_timestamp_ms
            if len(self.members) > self.settings.max_size:
                self._prepare_rebalance(now, "it has more members than group.max.size")
        return self._done()

    def unload(self, error: MinikafkaError) -> list[Effect]:
        """Another broker coordinates now: whoever waits is told `error`."""
        for each in self.members:
            self._reply_join(each, error)
            self._reply_sync(each, error)
        return self._done()

    # --- writes ----------------------------------------------------------------------------------

    def _done(self) -> list[Effect]:
        effects = super()._done()
        self._writes += sum(isinstance(effect, Append) for effect in effects)
        return effects

    def on_appended(self, write: object, error: MinikafkaError | None, now: Now) -> list[Effect]:
        """The records of an Append are committed, or are not (then `error` is what to answer)."""
        self._writes -= 1
        match write:
            case AssignmentWrite():
                self.on_assignment_stored(write, error, now)
            case StaticMemberWrite():
                self.on_static_member_stored(write, error, now)
            case OffsetsWrite(token, results, offsets):
                self.offsets.finish(offsets, committed=error is None)
                self._answer_partitions(token, results, offsets, error, OffsetCommitResult)
            case ForgetWrite(token, results, partitions):
                if error is None:
                    self.offsets.forget(partitions)
                self._answer_partitions(
                    token, results, partitions, error, lambda each: OffsetDeleteResult(None, each)
                )
            case BuryWrite(token):
                if error is not None:
                    self._enter(GroupState.EMPTY, now, f"it could not be deleted: {error}")
                self._effects.append(Reply(token, DeleteGroupResult(error)))
            case _:
                assert isinstance(write, EmptyWrite), write
        return self._done()

    def _answer_partitions(
        self,
        token: object,
        results: Sequence[OffsetCommitPartitionResult],
        written: Mapping[TopicPartition, OffsetAndMetadata] | Sequence[TopicPartition],
        error: MinikafkaError | None,
        made: Callable[
            [Sequence[OffsetCommitPartitionResult]], OffsetCommitResult | OffsetDeleteResult
        ],
    ) -> None:
        for each in results:
            if each.error is None and each.topic_partition in written:
                each.error = error
        self._effects.append(Reply(token, made(results)))

    @property
    def is_over(self) -> bool:
        """Is it gone, or was there never anything? Then nobody has to remember it."""
        if self._writes:
            return False
        vacant = (
            self.state is GroupState.EMPTY
            and self.generation_id == 0
            and not self.members.pending
            and not self.offsets
        )
        return vacant or self.state is GroupState.DEAD

    # --- offsets ---------------------------------------------------------------------------------

    def commit(
        self, request: OffsetCommitRequest, max_metadata_bytes: int, token: object, now: Now
    ) -> list[Effect]:
        """Commit offsets for a member, or, while the group is Empty, for anybody."""
        results = tuple(
            OffsetCommitPartitionResult(each.topic_partition) for each in request.partitions
        )
        offsets = {}
        try:
            self._check_commit(request, now)
        except MinikafkaError as error:
            for result in results:
                result.error = error.with_traceback(None)
        else:
            for result, each in zip(results, request.partitions, strict=True):
                if len(each.metadata.encode()) > max_metadata_bytes:
                    result.error = OffsetMetadataTooLargeError(
                        f"the metadata is longer than offset.metadata.max.bytes, "
                        f"{max_metadata_bytes}"
                    )
                else:
                    offsets[each.topic_partition] = OffsetAndMetadata(
                        each.offset, each.leader_epoch, each.metadata, now.timestamp_ms
                    )
        if offsets:
            self.offsets.prepare(offsets)
            records = tuple(
                OffsetRecord(self.group_id, each, value) for each, value in offsets.items()
            )
            self._effects.append(Append(records, OffsetsWrite(token, results, offsets)))
        else:
            self._effects.append(Reply(token, OffsetCommitResult(results)))
        return self._done()

    def _check_commit(self, request: OffsetCommitRequest, now: Now) -> None:
        self._refuse_if_dead()
        anonymous = request.member_id == UNKNOWN_MEMBER and request.instance_id is None
        if request.generation_id < 0:
            if self.state is GroupState.EMPTY:
                return
            if anonymous:
                raise UnknownMemberIdError(
                    f"group {self.group_id!r} has members: only they can commit"
                )
        member = self.members.current(request.member_id, request.instance_id)
        self._check_generation(request.generation_id)
        if self.state is GroupState.COMPLETING_REBALANCE:
            raise RebalanceInProgressError(f"group {self.group_id!r} is being assigned: sync first")
        # While others are still joining, the heartbeats tell; what was read can be committed.
        self._extend_session(member, now)

    def fetch_offsets(self, partitions: Sequence[TopicPartition] | None) -> list[CommittedOffset]:
        """Committed offsets (None: all); -1 where there is none."""
        if self.state is GroupState.DEAD:
            return [CommittedOffset(each) for each in partitions or ()]
        return self.offsets.fetch(partitions)

    def delete_offsets(self, request: OffsetDeleteRequest, token: object) -> list[Effect]:
        """Forget offsets, except of topics that members read."""
        results = tuple(OffsetCommitPartitionResult(each) for each in request.partitions)
        try:
            self._check_delete_offsets()
        except MinikafkaError as error:
            self._effects.append(Reply(token, OffsetDeleteResult(error)))
            return self._done()
        for result in results:
            topic = result.topic_partition.topic
            if self.members and (self.subscribed_topics is None or topic in self.subscribed_topics):
                result.error = GroupSubscribedToTopicError(
                    f"group {self.group_id!r} reads topic {topic!r} at the moment"
                )
        partitions = tuple(
            each.topic_partition
            for each in results
            if each.error is None and each.topic_partition in self.offsets.committed
        )
        if partitions:
            self._forget(partitions, ForgetWrite(token, results, partitions))
        else:
            self._effects.append(Reply(token, OffsetDeleteResult(None, results)))
        return self._done()

    def _check_delete_offsets(self) -> None:
        if self.state is GroupState.DEAD:
            raise self._not_found()
        if self.members and self.protocol_type != CONSUMER_PROTOCOL_TYPE:
            raise NonEmptyGroupError(
                f"group {self.group_id!r} has {len(self.members)} members, and which topics they "
                "use cannot be told"
            )

    def _not_found(self) -> GroupIdNotFoundError:
        return GroupIdNotFoundError(f"there is no group {self.group_id!r}")

    def forget_partitions(self, gone: Callable[[TopicPartition], bool]) -> list[Effect]:
        """Topics have been deleted: their offsets go, whoever reads them."""
        partitions = tuple(each for each in self.offsets.committed if gone(each))
        if self.state is not GroupState.DEAD:
            self._forget_all(partitions)
        return self._done()

    def _forget_all(self, partitions: Sequence[TopicPartition]) -> None:
        for some in self._in_batches(partitions):
            self._forget(some, ForgetWrite(None, (), some))

    def _in_batches(
        self, partitions: Sequence[TopicPartition]
    ) -> Iterator[tuple[TopicPartition, ...]]:
        """As many of their records as surely go into one batch of `__consumer_offsets`."""
        some: list[TopicPartition] = []
        size_bytes = 0
        for each in partitions:
            record_bytes = RECORD_BYTES + 4 * (len(self.group_id) + len(each.topic))
            if some and size_bytes + record_bytes > MAX_BATCH_BYTES:
                yield tuple(some)
                some, size_bytes = [], 0
            some.append(each)
            size_bytes += record_bytes
        if some:
            yield tuple(some)

    def _forget(self, partitions: Sequence[TopicPartition], write: object) -> None:
        records = tuple(OffsetRecord(self.group_id, each, None) for each in partitions)
        self._effects.append(Append(records, write))

    # --- ending ----------------------------------------------------------------------------------

    def expire_offsets(self, retention_ms: int, now: Now) -> list[Effect]:
        """Forget what has not been needed for so long; and the group, if nothing is left."""
        if self._writes or self.state is GroupState.DEAD:
            return []
        partitions = self._expired(retention_ms, now)
        everything = len(partitions) == len(self.offsets.committed)
        if everything and self.state is GroupState.EMPTY and not self.members.pending:
            self._bury(None, now, "nothing is left of it")
        else:
            self._forget_all(partitions)
        return self._done()

    def _expired(self, retention_ms: int, now: Now) -> list[TopicPartition]:
        at_ms = now.timestamp_ms
        if self.protocol_type is None:
            return self.offsets.expired(at_ms, retention_ms, lambda each: each.commit_timestamp_ms)
        if self.state is GroupState.EMPTY:
            return self.offsets.expired(at_ms, retention_ms, lambda _: self.state_timestamp_ms)
        if self.state is GroupState.STABLE and self.subscribed_topics is not None:
            return self.offsets.expired(
                at_ms,
                retention_ms,
                lambda each: each.commit_timestamp_ms,
                self.subscribed_topics,
            )
        return []

    def delete(self, token: object, now: Now) -> list[Effect]:
        """End the group with all its offsets. NonEmptyGroupError while it has members."""
        if self.state is GroupState.DEAD:
            self._effects.append(Reply(token, DeleteGroupResult(self._not_found())))
        elif self.state is not GroupState.EMPTY:
            error = NonEmptyGroupError(
                f"group {self.group_id!r} has {len(self.members)} members: "
                "end them before you delete it"
            )
            self._effects.append(Reply(token, DeleteGroupResult(error)))
        else:
            self._bury(token, now, "somebody deletes it")
        return self._done()

    def _bury(self, token: object, now: Now, why: str) -> None:
        self._enter(GroupState.DEAD, now, why)
        self.members.pending.clear()
        # Also those that are on their way: they may be committed before the tombstones are.
        partitions = sorted(self.offsets.committed.keys() | self.offsets.pending.keys())
        *before, last = self._in_batches(partitions) if partitions else [()]
        for some in before:
            self._forget(some, ForgetWrite(None, (), some))
        records: list[Record] = [OffsetRecord(self.group_id, each, None) for each in last]
        records.append(GroupRecord(self.group_id, None))
        self._effects.append(Append(tuple(records), BuryWrite(token)))

    # --- as others see it ------------------------------------------------------------------------

    def describe(self) -> GroupDescription:
        """What the members told and were given is shown once the group is Stable, as Kafka does."""
        stable = self.state is GroupState.STABLE
        return GroupDescription(
            self.group_id,
            None,
            self.state.value,
            self.protocol_type or "",
            (self.protocol_name or "") if stable else "",
            self.members.described(self.protocol_name, with_assignments=stable),
        )
