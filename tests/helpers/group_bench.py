"""A consumer group with time, tokens and a log in hand: for tests of core/groups/group.py.

Requests get numbered tokens; what is answered is in `answers`. Appends wait in `unwritten` until
`written()` or `fail_writes(error)`; with `writes_at_once` they are committed immediately.
"""

from __future__ import annotations

from collections.abc import Sequence

from minikafka.api.groups import (
    GroupProtocol,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupResult,
    LeaveGroupRequest,
    LeavingMember,
    LeftMember,
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    SyncGroupRequest,
    SyncGroupResult,
)
from minikafka.core.groups.consumer_protocol import Subscription, encode_subscription
from minikafka.core.groups.effects import (
    Append,
    Effect,
    GroupRecord,
    Now,
    OffsetAndMetadata,
    OffsetRecord,
    Record,
    Reply,
)
from minikafka.core.groups.group import Group
from minikafka.core.groups.settings import GroupSettings
from minikafka.errors import MinikafkaError, UnstableOffsetCommitError
from minikafka.model import TopicPartition

WALL_MS = 1_700_000_000_000
SESSION_MS = 10_000
REBALANCE_MS = 60_000
DELAY_MS = 3_000


def subscription(*topics: str) -> bytes:
    return encode_subscription(Subscription(topics))


RANGE = (GroupProtocol("range", subscription("orders")),)


class GroupBench:
    def __init__(self, group: Group | None = None, **settings: int) -> None:
        self.now = Now(0, WALL_MS)
        chosen = GroupSettings(**{"initial_rebalance_delay_ms": DELAY_MS, **settings})
        self.group = group or Group("g", chosen, self.now)
        self.answers: dict[int, object] = {}
        self.unwritten: list[Append] = []
        self.records: list[Record] = []
        self.writes_at_once = True
        self._tokens = 0

    # --- effects ---------------------------------------------------------------------------------

    def apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                if effect.token is not None:
                    assert isinstance(effect.token, int)
                    assert effect.token not in self.answers, "a second answer"
                    self.answers[effect.token] = effect.result
            else:
                self.unwritten.append(effect)
        if self.writes_at_once:
            self.written()

    def written(self) -> None:
        """The log has taken all that waits."""
        while self.unwritten:
            append = self.unwritten.pop(0)
            base_offset = len(self.records)
            self.records += append.records
            self.apply(self.group.on_appended(append.write, None, self.now, base_offset))

    def fail_writes(self, error: MinikafkaError) -> None:
        waiting, self.unwritten = self.unwritten, []
        for append in waiting:
            self.apply(self.group.on_appended(append.write, error, self.now, -1))

    def token(self) -> int:
        self._tokens += 1
        return self._tokens

    def tick(self, ms: int) -> None:
        """Time passes; whatever becomes due does so at its moment."""
        end_ms = self.now.ms + ms
        while (due_ms := self.group.next_deadline_ms()) is not None and due_ms <= end_ms:
            self._go_to(max(due_ms, self.now.ms))
            self.apply(self.group.on_time(self.now))
        self._go_to(end_ms)

    def _go_to(self, ms: int) -> None:
        self.now = Now(ms, WALL_MS + ms)

    # --- requests --------------------------------------------------------------------------------

    def join(
        self,
        member_id: str = "",
        *,
        fresh: str = "",
        instance_id: str | None = None,
        protocols: Sequence[GroupProtocol] = RANGE,
        protocol_type: str = "consumer",
        session_timeout_ms: int = SESSION_MS,
        rebalance_timeout_ms: int = REBALANCE_MS,
        requires_id: bool = False,
        skips: bool = True,
    ) -> int:
        """`fresh` is the id that a new member is given. Returns the token."""
        token = self.token()
        request = JoinGroupRequest(
            "g",
            member_id,
            protocol_type,
            protocols,
            session_timeout_ms,
            rebalance_timeout_ms,
            instance_id,
            "client",
            "127.0.0.1",
            "because",
            requires_id,
            skips,
        )
        self.apply(self.group.join(request, fresh or f"new-{token}", token, self.now))
        return token

    def sync(
        self,
        member_id: str,
        assignments: Sequence[tuple[str, bytes]] = (),
        *,
        generation_id: int | None = None,
        instance_id: str | None = None,
        protocol_type: str | None = None,
        protocol_name: str | None = None,
    ) -> int:
        token = self.token()
        request = SyncGroupRequest(
            "g",
            self.group.generation.generation_id if generation_id is None else generation_id,
            member_id,
            assignments,
            instance_id,
            protocol_type,
            protocol_name,
        )
        self.apply(self.group.sync(request, token, self.now))
        return token

    def heartbeat(
        self, member_id: str, generation_id: int | None = None, instance_id: str | None = None
    ) -> MinikafkaError | None:
        generation_id = (
            self.group.generation.generation_id if generation_id is None else generation_id
        )
        try:
            self.group.heartbeat(
                HeartbeatRequest("g", generation_id, member_id, instance_id), self.now
            )
        except MinikafkaError as error:
            return error
        return None

    def leave(self, *members: LeavingMember | str) -> list[LeftMember]:
        leaving = [LeavingMember(each) if isinstance(each, str) else each for each in members]
        left, effects = self.group.leave(LeaveGroupRequest("g", leaving), self.now)
        self.apply(effects)
        return left

    def commit(
        self,
        offset: int = 5,
        *,
        member_id: str = "",
        generation_id: int = -1,
        instance_id: str | None = None,
        topic: str = "orders",
        metadata: str = "",
    ) -> int:
        token = self.token()
        partition = OffsetCommitPartition(TopicPartition(topic, 0), offset, 2, metadata)
        request = OffsetCommitRequest("g", [partition], generation_id, member_id, instance_id)
        self.apply(self.group.commit(request, 16, token, self.now))
        return token

    def stage(self, producer_id: int, offset: int, topic: str = "orders") -> None:
        """A transaction's record is in the log."""
        value = OffsetAndMetadata(offset, -1, "", self.now.timestamp_ms)
        topic_partition = TopicPartition(topic, 0)
        self.group.stage(producer_id, {topic_partition: value}, len(self.records))
        self.records.append(OffsetRecord("g", topic_partition, value))

    def marker(self, producer_id: int, *, commits: bool = True) -> int:
        """It is in the log; returns its offset, for `marker_committed`."""
        offset = len(self.records)
        self.records.append(GroupRecord("", None))  # what takes an offset
        self.group.on_marker(producer_id, offset, commits=commits)
        return offset

    def marker_committed(self, offset: int) -> None:
        self.apply(self.group.on_marker_committed(offset))

    def unstable(self, *topics: str) -> list[str]:
        """The topics of which fetching stable offsets is refused."""
        wanted = [TopicPartition(topic, 0) for topic in topics] if topics else None
        found = self.group.fetch_offsets(wanted, require_stable=True)
        return [
            each.topic_partition.topic
            for each in found
            if isinstance(each.error, UnstableOffsetCommitError)
        ]

    def delete_offsets(self, *topics: str) -> int:
        token = self.token()
        request = OffsetDeleteRequest("g", [TopicPartition(topic, 0) for topic in topics])
        self.apply(self.group.delete_offsets(request, token))
        return token

    def delete(self) -> int:
        token = self.token()
        self.apply(self.group.delete(token, self.now))
        return token

    # --- answers ---------------------------------------------------------------------------------

    def joined(self, token: int) -> JoinGroupResult:
        answer = self.answers[token]
        assert isinstance(answer, JoinGroupResult)
        return answer

    def synced(self, token: int) -> SyncGroupResult:
        answer = self.answers[token]
        assert isinstance(answer, SyncGroupResult)
        return answer

    def error(self, token: int) -> type[MinikafkaError] | None:
        """The class of the error of an answer."""
        answer = self.answers[token]
        error = getattr(answer, "error", None)
        if error is None and hasattr(answer, "partitions"):
            error = next(iter(answer.partitions)).error
        return None if error is None else type(error)

    def offset(self, topic: str = "orders") -> int:
        return self.group.fetch_offsets([TopicPartition(topic, 0)])[0].offset

    # --- groups that have come somewhere ---------------------------------------------------------

    def completing(self, *names: str, static: Sequence[str] = ()) -> None:
        """These members (`static` ones with an instance id of the same name) have joined."""
        for name in names:
            self.join(fresh=name, instance_id=name if name in static else None)
        self.tick(DELAY_MS)
        if self.group.generation.generation_id == 0:
            self.tick(DELAY_MS)  # the first delay was extended for those who came in it
        assert self.group.state.value == "CompletingRebalance"

    def stable(self, *names: str, static: Sequence[str] = ()) -> None:
        """A stable group of these; each is assigned its own name."""
        self.completing(*names, static=static)
        for name in names[1:]:
            self.sync(name)
        self.sync(names[0], [(name, name.encode()) for name in names])
        assert self.group.state.value == "Stable"
