"""Offsets that are committed in transactions, as a group deals with them: who may, what is told of
them, and what becomes of them whatever comes in between (transactions.md, T8, races 36 to 38)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from minikafka.core.groups.lifecycle import GroupState
from minikafka.core.groups.offset_table import OffsetTable
from minikafka.core.groups.offsets import ForgetWrite, GroupOffsets
from minikafka.core.groups.settings import GroupSettings
from minikafka.errors import (
    CoordinatorNotAvailableError,
    FencedInstanceIdError,
    IllegalGenerationError,
    MinikafkaError,
    NotCoordinatorError,
    UnknownMemberIdError,
    UnstableOffsetCommitError,
)
from minikafka.model import TopicPartition
from tests.helpers.amounts import amount, sample
from tests.helpers.group_bench import WALL_MS, GroupBench

ORDERS, OTHER = TopicPartition("orders", 0), TopicPartition("other", 0)
PARTITIONS = (ORDERS, OTHER)


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

    def is_tombstone_of(self, key: TopicPartition) -> bool:
        record = self.record
        is_offset = isinstance(record, OffsetRecord) and record.topic_partition == key
        return is_offset and record is not None and record.value is None


class World:
    """A group and its log. What is appended is committed by `commit_all`, and the group hears of it
    in the order of the log, as from its shard. A group that is over is forgotten."""

    def __init__(self, *, at_once: bool, commits: bool) -> None:
        self.log: list[Entry] = []
        self.ends = [0]  # of batches: the high watermark is one of them
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
                self.add(Entry(each) for each in effect.records)
                told = partial(group.on_appended, effect.write, None, self._now, base_offset)
                self._wait(group, told)
        if self._at_once:
            self.commit_all()
        if self.group.is_over:
            self.group = self._new_group()

    def add(self, batch: Iterable[Entry]) -> None:
        self.log += batch
        self.ends.append(len(self.log))

    def _wait(self, group: Group, told: Callable[[], Sequence[Effect]]) -> None:
        self._waiting.append((len(self.log), lambda: self.apply(group, told()) or ()))

    def commit_all(self) -> None:
        self.commit_until(len(self.log))

    def commit_until(self, end_offset: int) -> None:
        self.high_watermark = max(self.high_watermark, end_offset)
        while self._waiting and self._waiting[0][0] <= self.high_watermark:
            self._waiting.popleft()[1]()

    # --- what happens ----------------------------------------------------------------------------

    def transaction(
        self,
        producer_id: int = 7,
        offset: int = 50,
        partitions: Sequence[TopicPartition] = (ORDERS, OTHER),
    ) -> None:
        """Its record, if the group takes it."""
        try:
            self.group.check_transactional_commit(TxnOffsetCommitRequest("id", 7, 0, "g", []))
        except CoordinatorNotAvailableError:
            return
        offsets = {each: OffsetAndMetadata(offset, -1, "", WALL_MS) for each in partitions}
        self.group.stage(producer_id, offsets, len(self.log))
        self.add(Entry(OffsetRecord("g", *each), producer_id) for each in offsets.items())
        self.apply(self.group, ())

    def marker(self, producer_id: int = 7, *, commits: bool | None = None) -> None:
        commits = self._commits if commits is None else commits
        offset, group = len(self.log), self.group
        self.add([Entry(None, producer_id, commits)])
        group.on_marker(producer_id, offset, commits=commits)
        self._wait(group, partial(group.on_marker_committed, offset))
        self.apply(group, ())

    def plain_commit(
        self, offset: int = 20, partitions: Sequence[TopicPartition] = (ORDERS,)
    ) -> None:
        commits = [OffsetCommitPartition(each, offset) for each in partitions]
        request = OffsetCommitRequest("g", commits)
        self.apply(self.group, self.group.commit(request, 0, None, self._now))

    def tombstone(self, partitions: Sequence[TopicPartition] = (ORDERS,)) -> None:
        request = OffsetDeleteRequest("g", partitions)
        self.apply(self.group, self.group.delete_offsets(request, None))

    def expiry(self) -> None:
        staged = self.group.offsets.table.staged()
        self.apply(self.group, self.group.expire_offsets(0, self._now))
        assert self.group.offsets.table.staged() == staged, "what is staged has expired"

    def group_deletion(self) -> None:
        self.apply(self.group, self.group.delete(None, self._now))

    def topic_deletion(self, gone: TopicPartition = OTHER) -> None:
        self.apply(self.group, self.group.forget_partitions(lambda each: each == gone))

    def failover(self, end_offset: int) -> None:
        """The next coordinator has the log up to here, and reads it when all of it is committed."""
        assert end_offset >= self.high_watermark
        del self.log[end_offset:]
        self.ends = [each for each in self.ends if each <= end_offset]
        self.high_watermark = end_offset
        self._waiting.clear()
        self.group = self._new_group()
        table = replayed(list(enumerate(self.log)), end_offset)
        self.apply(self.group, self.group.restore(None, table, self._now))

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
        if self.group.state is GroupState.DEAD:
            return
        found = self.group.fetch_offsets(PARTITIONS, require_stable=True)
        for each in found:
            if is_pending(log, self.high_watermark, each.topic_partition):
                assert isinstance(each.error, UnstableOffsetCommitError), self.log
            else:
                assert each.error is None, self.log
                offset = newest(log[: self.high_watermark], each.topic_partition)
                assert each.offset == offset, self.log


Log = Sequence[tuple[int, Entry]]


def marker_of(log: Log, offset: int, producer_id: int) -> tuple[int, Entry] | None:
    """What ends the transaction that this record is of."""
    for other, entry in log:
        if other > offset and entry.record is None and entry.producer_id == producer_id:
            return other, entry
    return None


def decided(log: Log, key: TopicPartition) -> Iterator[tuple[int, Entry]]:
    """The records of a partition that count, if nothing is above them."""
    for offset, entry in log:
        if isinstance(entry.record, OffsetRecord) and entry.record.topic_partition == key:
            if entry.producer_id is not None:
                end = marker_of(log, offset, entry.producer_id)
                if end is None or not end[1].commits:
                    continue
            yield offset, entry


def newest(log: Log, key: TopicPartition) -> int:
    """The offset that is committed; -1 if there is none."""
    for _, entry in list(decided(log, key))[-1:]:
        assert isinstance(entry.record, OffsetRecord)
        if entry.record.value is not None:
            return entry.record.value.offset
    return -1


def is_pending(log: Log, high_watermark: int, key: TopicPartition) -> bool:
    """Does a transaction have it that has no marker below the high watermark? Nor is there a
    tombstone above its record."""
    gone_until = max(
        (offset for offset, entry in log[:high_watermark] if entry.is_tombstone_of(key)),
        default=-1,
    )
    return any(
        offset > gone_until
        and entry.producer_id is not None
        and isinstance(entry.record, OffsetRecord)
        and entry.record.topic_partition == key
        and marker_of(log[:high_watermark], offset, entry.producer_id) is None
        for offset, entry in log
    )


def compacted(log: Log, *, tombstones: bool) -> list[tuple[int, Entry]]:
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
    stays = {
        offset: entry
        for each in PARTITIONS
        for offset, entry in [one for one in decided(log, each) if one[0] < closed_until][-1:]
    }
    left, with_records = [], set[int | None]()
    for offset, entry in log[:closed_until]:
        if entry.record is None:
            if entry.producer_id in with_records:
                left.append((offset, entry))
                with_records.remove(entry.producer_id)
        elif offset in stays and (tombstones or entry.record.value is not None):
            left.append((offset, entry))
            with_records.add(entry.producer_id)
    return [*left, *log[closed_until:]]


def replayed(log: Log, high_watermark: int) -> OffsetTable:
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


def play(order: Sequence[Callable[[World], None]], *, at_once: bool, commits: bool) -> None:
    world = World(at_once=at_once, commits=commits)
    for event in order:
        event(world)
        world.check()
    world.commit_all()
    world.check()


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "abort"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "at the end"])
def test_in_whatever_order_things_come_memory_is_the_log(commits: bool, at_once: bool) -> None:
    """Each event once, in all 5,040 orders; what is appended is committed at once, or all of it
    when everything has happened."""
    for order in sample(list(permutations(EVENTS))):
        play(order, at_once=at_once, commits=commits)


@settings(max_examples=amount(150), deadline=None)
@given(st.integers(0, 2**32))
def test_several_transactions_and_coordinators_that_fail_leave_memory_the_log(seed: int) -> None:
    """Of three producers, each of which may write more than once before its marker comes; what is
    appended is committed by and by, and a coordinator that fails loses any part of the rest."""
    dice = Random(seed)
    world = World(at_once=dice.random() < 0.3, commits=True)
    for number in range(60):
        some = dice.sample(PARTITIONS, dice.randint(1, 2))
        uncommitted = [each for each in world.ends if each >= world.high_watermark]
        event = dice.choice(
            ["transaction"] * 4
            + ["marker"] * 3
            + ["commit"] * 3
            + ["plain"] * 2
            + ["tombstone", "topic", "group", "expiry", "failover"]
        )
        match event:
            case "transaction":
                world.transaction(dice.randint(7, 9), number, some)
            case "marker":
                world.marker(dice.randint(7, 9), commits=dice.random() < 0.7)
            case "commit":
                world.commit_until(dice.choice(uncommitted))
            case "plain":
                world.plain_commit(number, some)
            case "tombstone":
                world.tombstone(some)
            case "topic":
                world.topic_deletion(some[0])
            case "group":
                world.group_deletion()
            case "expiry":
                world.expiry()
            case "failover":
                world.failover(dice.choice(uncommitted))
        world.check()
    world.commit_all()
    world.check()


# --- without one of the rules --------------------------------------------------------------------


def what_ended_last_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        OffsetTable, "put", lambda self, each, value: self.committed.update({each: value})
    )


def what_was_written_counts_from_its_marker_on(patch: pytest.MonkeyPatch) -> None:
    def settle(self: OffsetTable, marker_offset: int) -> None:
        commits, offsets = self._ending.pop(marker_offset, (False, {}))
        for each, value in offsets.items() if commits else ():
            self.put(each, value.at(marker_offset))

    patch.setattr(OffsetTable, "settle", settle)


def markers_count_before_they_are_committed(patch: pytest.MonkeyPatch) -> None:
    end = OffsetTable.end

    def at_once(self: OffsetTable, producer_id: int, offset: int, *, commits: bool) -> None:
        end(self, producer_id, offset, commits=commits)
        self.settle(offset)

    patch.setattr(
        Group,
        "on_marker",
        lambda self, pid, offset, *, commits: at_once(
            self.offsets.table, pid, offset, commits=commits
        ),
    )


def tombstones_leave_what_is_staged(patch: pytest.MonkeyPatch) -> None:
    forget = GroupOffsets.on_forgotten

    def on_forgotten(self: GroupOffsets, write: ForgetWrite, error: Any, base: int) -> None:
        staged, self.table._staged = self.table._staged, {}
        forget(self, write, error, base)
        self.table._staged = staged

    patch.setattr(GroupOffsets, "on_forgotten", on_forgotten)


def no_tombstones_for_what_is_staged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroupOffsets, "known", lambda self: set(self.committed) | set(self.pending))


def what_is_staged_expires(patch: pytest.MonkeyPatch) -> None:
    def expired(self: GroupOffsets, *args: Any) -> list[TopicPartition]:
        return [each for each in self.committed if each not in self.pending]

    patch.setattr(GroupOffsets, "expired", expired)


def groups_end_while_something_is_staged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OffsetTable, "any_staged", False)


def nothing_is_unstable(patch: pytest.MonkeyPatch) -> None:
    fetch = GroupOffsets.fetch
    patch.setattr(
        GroupOffsets,
        "fetch",
        lambda self, partitions, *, require_stable: fetch(self, partitions, require_stable=False),
    )


def what_ends_is_stable(patch: pytest.MonkeyPatch) -> None:
    fetch = GroupOffsets.fetch

    def only_open(self: GroupOffsets, partitions: Any, *, require_stable: bool) -> Any:
        ending, self.table._ending = self.table._ending, {}
        found = fetch(self, partitions, require_stable=require_stable)
        self.table._ending = ending
        return found

    patch.setattr(GroupOffsets, "fetch", only_open)


@pytest.mark.parametrize(
    "mutation",
    [
        what_ended_last_counts,
        what_was_written_counts_from_its_marker_on,
        markers_count_before_they_are_committed,
        tombstones_leave_what_is_staged,
        no_tombstones_for_what_is_staged,
        what_is_staged_expires,
        groups_end_while_something_is_staged,
        nothing_is_unstable,
        what_ends_is_stable,
    ],
    ids=lambda mutation: mutation.__name__.replace("_", " "),
)
def test_without_one_of_the_rules_some_order_shows_it(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        play_all()


def play_all() -> None:
    for order in permutations(EVENTS):
        for at_once in (True, False):
            for commits in (True, False):
                play(order, at_once=at_once, commits=commits)
