"""Offsets that are committed in transactions, as a group deals with them: who may, what is told of
them, and what becomes of them whatever comes in between (transactions.md, T8, races 36 to 38)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations

import pytest

from minikafka.api.groups import (
    NO_GENERATION,
    UNKNOWN_MEMBER,
    CommittedOffset,
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetDeleteRequest,
)
from minikafka.api.transactions import TxnOffsetCommitRequest
from minikafka.core.groups.effects import (
    Append,
    Effect,
    GroupRecord,
    Now,
    OffsetAndMetadata,
    OffsetRecord,
)
from minikafka.core.groups.group import Group
from minikafka.core.groups.offset_table import OffsetTable
from minikafka.core.groups.settings import GroupSettings
from minikafka.errors import (
    CoordinatorNotAvailableError,
    FencedInstanceIdError,
    IllegalGenerationError,
    MinikafkaError,
    NotCoordinatorError,
    UnknownMemberIdError,
)
from minikafka.model import TopicPartition
from tests.helpers.group_bench import WALL_MS, GroupBench

ORDERS, OTHER = TopicPartition("orders", 0), TopicPartition("other", 0)


@pytest.fixture
def bench() -> GroupBench:
    return GroupBench()


# --- who may (KIP-447) ---------------------------------------------------------------------------


def refused(
    bench: GroupBench,
    generation_id: int = NO_GENERATION,
    member_id: str = UNKNOWN_MEMBER,
    instance_id: str | None = None,
) -> type[MinikafkaError] | None:
    request = TxnOffsetCommitRequest("id", 7, 0, "g", [], generation_id, member_id, instance_id)
    try:
        bench.group.check_transactional_commit(request)
    except MinikafkaError as error:
        return type(error)
    return None


def test_who_names_no_member_may_whoever_is_in_the_group(bench: GroupBench) -> None:
    assert refused(bench) is None
    bench.stable("a")
    assert refused(bench) is None
    bench.join(fresh="b")
    assert refused(bench) is None, "while it rebalances, too"


def test_who_names_a_member_has_to_be_one_of_this_generation(bench: GroupBench) -> None:
    assert refused(bench, 1, "a") is UnknownMemberIdError
    bench.stable("a", "i", static=("i",))
    assert refused(bench, 1, "a") is None
    assert refused(bench, 1, "i", "i") is None
    assert refused(bench, 0, "a") is IllegalGenerationError
    assert refused(bench, 2, "a") is IllegalGenerationError
    assert refused(bench, 1, "ghost") is UnknownMemberIdError
    assert refused(bench, 1, "a", "i") is FencedInstanceIdError
    assert refused(bench, NO_GENERATION, "ghost") is UnknownMemberIdError
    assert refused(bench, NO_GENERATION, UNKNOWN_MEMBER, "i") is not None
    bench.leave("a", "i")
    assert refused(bench, NO_GENERATION, "ghost") is None, "nobody is left to be told apart from"


def test_the_old_member_of_a_generation_that_has_ended_may_not(bench: GroupBench) -> None:
    bench.stable("a")
    assert refused(bench, 1, "a") is None
    bench.join(fresh="b")
    assert refused(bench, 1, "a") is None, "its generation goes on until all have joined"
    bench.join("a")
    assert bench.group.generation.generation_id == 2
    assert refused(bench, 1, "a") is IllegalGenerationError
    assert refused(bench, 2, "a") is None, "also before it has its assignment"


def test_a_group_that_is_being_deleted_takes_none(bench: GroupBench) -> None:
    bench.writes_at_once = False
    bench.delete()
    assert refused(bench) is CoordinatorNotAvailableError


# --- what is told --------------------------------------------------------------------------------


def test_they_count_when_the_transaction_is_committed_and_not_before(bench: GroupBench) -> None:
    bench.commit(1)
    bench.stage(7, 5)
    assert (bench.offset(), bench.unstable("orders", "other")) == (1, ["orders"])
    marker = bench.marker(7)
    assert (bench.offset(), bench.unstable("orders", "other")) == (1, ["orders"])
    bench.marker_committed(marker)
    assert (bench.offset(), bench.unstable("orders", "other")) == (5, [])


def test_aborted_ones_leave_the_last_and_a_group_that_has_nothing_else_is_over(
    bench: GroupBench,
) -> None:
    bench.commit(1)
    bench.stage(7, 5)
    bench.marker_committed(bench.marker(7, commits=False))
    assert (bench.offset(), bench.unstable()) == (1, [])
    new = GroupBench()
    new.stage(7, 5)
    assert not new.group.is_over
    marker = new.marker(7, commits=False)
    assert not new.group.is_over
    new.marker_committed(marker)
    assert new.group.is_over


def test_exactly_those_that_are_staged_are_refused_to_who_wants_stable_ones(
    bench: GroupBench,
) -> None:
    bench.commit(1)
    bench.commit(2, topic="other")
    bench.stage(7, 5)
    bench.stage(8, 6, "third")
    assert bench.unstable() == ["orders", "third"], "all of them, also where none is committed yet"
    assert bench.unstable("third", "other") == ["third"]
    wanted = [ORDERS, OTHER]
    [orders, other] = bench.group.fetch_offsets(wanted, require_stable=True)
    assert (orders.offset, other) == (-1, CommittedOffset(OTHER, 2, 2))
    assert [each.offset for each in bench.group.fetch_offsets(wanted)] == [1, 2]
    assert [each.topic_partition for each in bench.group.fetch_offsets(None)] == wanted


def test_a_group_that_is_being_deleted_has_no_offsets_that_could_move(bench: GroupBench) -> None:
    bench.stage(7, 5)
    bench.writes_at_once = False
    bench.delete()
    assert bench.unstable("orders") == []
    assert bench.group.fetch_offsets(None, require_stable=True) == []


# --- what keeps them, and what takes them --------------------------------------------------------

RETENTION_MS = 1_000_000


def test_what_is_staged_keeps_its_partition_from_expiring_and_the_group_from_ending(
    bench: GroupBench,
) -> None:
    bench.commit(1)
    bench.commit(2, topic="other")
    bench.stage(7, 5)
    bench.tick(RETENTION_MS)
    bench.apply(bench.group.expire_offsets(RETENTION_MS, bench.now))
    assert list(bench.group.offsets.committed) == [ORDERS]
    bench.marker_committed(bench.marker(7, commits=False))
    bench.apply(bench.group.expire_offsets(RETENTION_MS, bench.now))
    assert bench.group.is_over


def test_a_group_in_which_nothing_is_committed_yet_does_not_end(bench: GroupBench) -> None:
    bench.stage(7, 5)
    bench.tick(RETENTION_MS)
    assert bench.group.expire_offsets(RETENTION_MS, bench.now) == []
    marker = bench.marker(7)
    assert bench.group.expire_offsets(RETENTION_MS, bench.now) == []
    bench.marker_committed(marker)
    assert bench.offset() == 5


def test_deleting_offsets_takes_staged_ones_too(bench: GroupBench) -> None:
    bench.stage(7, 5)
    token = bench.delete_offsets("orders", "other")
    assert bench.error(token) is None
    assert bench.records[-1] == OffsetRecord("g", ORDERS, None)
    assert bench.unstable() == []
    bench.marker_committed(bench.marker(7))
    assert bench.offset() == -1


def test_a_deletion_that_is_not_written_leaves_them(bench: GroupBench) -> None:
    bench.stage(7, 5)
    bench.writes_at_once = False
    bench.delete_offsets("orders")
    bench.fail_writes(NotCoordinatorError())
    bench.marker_committed(bench.marker(7))
    assert bench.offset() == 5


def test_with_a_topic_go_its_offsets_staged_and_on_their_way(bench: GroupBench) -> None:
    bench.stage(7, 5)
    bench.stage(7, 6, "other")
    bench.writes_at_once = False
    bench.commit(3, topic="third")
    bench.apply(bench.group.forget_partitions(lambda each: each.topic != "other"))
    bench.written()
    bench.marker_committed(bench.marker(7))
    assert {each.topic for each in bench.group.offsets.committed} == {"other"}


def test_a_deleted_group_leaves_tombstones_of_staged_ones_too(bench: GroupBench) -> None:
    bench.stage(7, 5)
    assert bench.error(bench.delete()) is None
    assert bench.records[-2:] == [OffsetRecord("g", ORDERS, None), GroupRecord("g", None)]
    assert bench.group.is_over


# --- in every order ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """Of the log: a record, of a transaction or not; or a marker."""

    record: OffsetRecord | GroupRecord | None = None
    producer_id: int | None = None
    commits: bool = False


class World:
    """A group and its log. What is appended is committed by `commit_all`, and the group hears of it
    in the order of the log, as from its shard. A group that is over is forgotten."""

    def __init__(self, *, at_once: bool, commits: bool) -> None:
        self.log: list[Entry] = []
        self.high_watermark = 0
        self._at_once, self._commits = at_once, commits
        self._waiting: deque[tuple[int, Callable[[], Sequence[Effect]]]] = deque()
        self._now = Now(10**9, WALL_MS + 10**9)
        self.group = self._new_group()

    def _new_group(self) -> Group:
        return Group("g", GroupSettings(), self._now)

    def apply(self, group: Group, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Append):
                base_offset = len(self.log)
                self.log += [Entry(each) for each in effect.records]
                told = partial(group.on_appended, effect.write, None, self._now, base_offset)
                self._wait(group, told)
        if self._at_once:
            self.commit_all()
        if self.group.is_over:
            self.group = self._new_group()

    def _wait(self, group: Group, told: Callable[[], Sequence[Effect]]) -> None:
        self._waiting.append((len(self.log), lambda: self.apply(group, told()) or ()))

    def commit_all(self) -> None:
        self.high_watermark = len(self.log)
        while self._waiting and self._waiting[0][0] <= self.high_watermark:
            self._waiting.popleft()[1]()

    # --- what happens ----------------------------------------------------------------------------

    def transaction(self) -> None:
        """Of producer 7, in two partitions; if the group takes it."""
        try:
            self.group.check_transactional_commit(TxnOffsetCommitRequest("id", 7, 0, "g", []))
        except CoordinatorNotAvailableError:
            return
        offsets = {each: OffsetAndMetadata(50, -1, "", WALL_MS) for each in (ORDERS, OTHER)}
        self.group.stage(7, offsets, len(self.log))
        self.log += [Entry(OffsetRecord("g", *each), 7) for each in offsets.items()]
        self.apply(self.group, ())

    def marker(self) -> None:
        offset, group = len(self.log), self.group
        self.log.append(Entry(None, 7, self._commits))
        group.on_marker(7, offset, commits=self._commits)
        self._wait(group, partial(group.on_marker_committed, offset))
        self.apply(group, ())

    def plain_commit(self) -> None:
        partitions = [OffsetCommitPartition(ORDERS, 20)]
        request = OffsetCommitRequest("g", partitions)
        self.apply(self.group, self.group.commit(request, 0, None, self._now))

    def tombstone(self) -> None:
        request = OffsetDeleteRequest("g", [ORDERS])
        self.apply(self.group, self.group.delete_offsets(request, None))

    def expiry(self) -> None:
        self.apply(self.group, self.group.expire_offsets(0, self._now))

    def group_deletion(self) -> None:
        self.apply(self.group, self.group.delete(None, self._now))

    def topic_deletion(self) -> None:
        self.apply(self.group, self.group.forget_partitions(lambda each: each == OTHER))

    # --- what must be ----------------------------------------------------------------------------

    def check(self) -> None:
        """Memory is the replay of the log, and the replay of what compaction leaves of it; and of
        each partition the highest committed record counts, as a look at the log says."""
        table = self.group.offsets.table
        log = list(enumerate(self.log))
        assert replayed(log, self.high_watermark) == table, self.log
        if self.high_watermark == len(log):
            for tombstones in (True, False):
                left = compacted(log, tombstones=tombstones)
                assert replayed(left, len(log)) == table, (self.log, left)
        expected = {}
        for each in (ORDERS, OTHER):
            newest = [entry for _, entry in decided(log[: self.high_watermark], each)][-1:]
            if newest and newest[0].record is not None and newest[0].record.value is not None:
                expected[each] = newest[0].record.value.offset
        assert {each: value.offset for each, value in table.committed.items()} == expected, self.log


def marker_of(log: Sequence[tuple[int, Entry]], offset: int, producer_id: int) -> Entry | None:
    """What ends the transaction that this record is of."""
    for other, entry in log:
        if other > offset and entry.record is None and entry.producer_id == producer_id:
            return entry
    return None


def decided(log: Sequence[tuple[int, Entry]], key: TopicPartition) -> Iterator[tuple[int, Entry]]:
    """The records of a partition that count, if nothing is above them."""
    for offset, entry in log:
        if isinstance(entry.record, OffsetRecord) and entry.record.topic_partition == key:
            if entry.producer_id is not None:
                end = marker_of(log, offset, entry.producer_id)
                if end is None or not end.commits:
                    continue
            yield offset, entry


def compacted(log: Sequence[tuple[int, Entry]], *, tombstones: bool) -> list[tuple[int, Entry]]:
    """As log/compaction.py does it: nothing is judged from the first open transaction on; aborted
    records go; of a key the highest stays, if it is a tombstone then for a while; a marker stays
    with records of its transaction."""
    undecided = (
        offset
        for offset, entry in log
        if entry.record is not None
        and entry.producer_id is not None
        and marker_of(log, offset, entry.producer_id) is None
    )
    closed_until = next(undecided, len(log))
    newest = {
        offset: entry
        for each in (ORDERS, OTHER)
        for offset, entry in list(decided(log[:closed_until], each))[-1:]
    }
    left, with_records = [], False
    for offset, entry in log[:closed_until]:
        if entry.record is None:
            if with_records:
                left.append((offset, entry))
            with_records = False
        elif offset in newest and (tombstones or entry.record.value is not None):
            left.append((offset, entry))
            with_records = with_records or entry.producer_id is not None
    return [*left, *log[closed_until:]]


def replayed(log: Sequence[tuple[int, Entry]], high_watermark: int) -> OffsetTable:
    """As a shard loads it; of what is not committed, what a shard that was there would know."""
    table = OffsetTable()
    for offset, entry in log:
        record, producer_id = entry.record, entry.producer_id
        if record is None:
            assert producer_id is not None
            table.end(producer_id, offset, commits=entry.commits)
            if offset < high_watermark:
                table.settle(offset)
        elif isinstance(record, OffsetRecord):
            if producer_id is not None:
                assert record.value is not None
                table.stage(producer_id, record.topic_partition, record.value.at(offset))
            elif offset < high_watermark and record.value is None:
                table.forget(record.topic_partition, offset)
            elif offset < high_watermark and record.value is not None:
                table.put(record.topic_partition, record.value.at(offset))
    return table


EVENTS: tuple[Callable[[World], None], ...] = (
    World.transaction,
    World.marker,
    World.plain_commit,
    World.tombstone,
    World.expiry,
    World.group_deletion,
    World.topic_deletion,
)


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "abort"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "at the end"])
def test_in_whatever_order_things_come_memory_is_the_log(commits: bool, at_once: bool) -> None:
    """Each event once, in all 5,040 orders; what is appended is committed at once, or all of it
    when everything has happened."""
    for order in permutations(EVENTS):
        world = World(at_once=at_once, commits=commits)
        for event in order:
            event(world)
            world.check()
        world.commit_all()
        world.check()
