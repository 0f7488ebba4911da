"""How a follower's log is made equal to its leader's, against lists of (epoch, payload).

Logs are made by a naive cluster: in each epoch one replica leads, some of the others copy a part of
its log, and it appends. Whatever such a history leaves behind, the exchange of fetches and answers
ends, the logs agree after it, and what both had in common is never cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from minikafka.core.replication.epochs import EpochCache
from minikafka.core.replication.events import BatchesFollowed, Diverged, OutOfRange, StateReceived
from minikafka.core.replication.leader import Leader
from minikafka.core.replication.log_state import LogState
from minikafka.core.replication.partition import Partition
from minikafka.errors import OffsetOutOfRangeError
from minikafka.model import Assignment, EpochEntry, PartitionState
from tests.helpers.core_builders import batch, leader_of, replica

Record = tuple[int, str]  # (epoch, payload)
REPLICAS = 3


@dataclass
class History:
    """What each replica holds, and the epoch that it led last without writing (-1: none)."""

    logs: list[list[Record]] = field(default_factory=lambda: [[] for _ in range(REPLICAS)])
    idle: list[int] = field(default_factory=lambda: [-1] * REPLICAS)
    epoch: int = -1

    def reign(self, leader: int, copies: dict[int, int], records: int) -> None:
        """One epoch: `copies` of the leader's records reach each follower, before and after."""
        self.epoch += 1
        log = self.logs[leader]
        log += [(self.epoch, f"{self.epoch}.{n}") for n in range(records)]
        self.idle[leader] = -1 if records else self.epoch
        for follower, count in copies.items():
            if follower != leader:
                common = common_prefix(self.logs[follower], log)
                self.logs[follower] = log[: max(common, min(count, len(log)))]
                self.idle[follower] = -1


def common_prefix(one: list[Record], other: list[Record]) -> int:
    for index, (mine, yours) in enumerate(zip(one, other, strict=False)):
        if mine != yours:
            return index
    return min(len(one), len(other))


@st.composite
def histories(draw: st.DrawFn) -> History:
    history = History()
    for _ in range(draw(st.integers(1, 7))):
        leader = draw(st.integers(0, REPLICAS - 1))
        copies = draw(st.dictionaries(st.integers(0, REPLICAS - 1), st.integers(0, 12)))
        history.reign(leader, copies, draw(st.integers(0, 3)))
    return history


def partition_over(broker_id: int, history: History, index: int, log_start: int) -> Partition:
    """A replica that restarted with this log, its start raised to `log_start`."""
    records = history.logs[index]
    epochs = EpochCache()
    for offset, (epoch, _) in enumerate(records):
        epochs.assign(epoch, offset)
    if history.idle[index] > (epochs.latest_epoch or -1):
        epochs.assign(history.idle[index], len(records))
    epochs.truncate_from_start(log_start)
    log = LogState(log_start, len(records), log_start, epochs)
    return replica(broker_id, log)


class Exchange:
    """One follower that fetches from one leader until there is nothing more to do."""

    def __init__(self, history: History, leader_start: int, follower_start: int) -> None:
        self.leader_records = history.logs[0]
        self.records = list(history.logs[1])
        self.leader_start = leader_start
        self.lowest_cut = len(self.records)
        self.restarted = False
        self.partitions = (
            partition_over(1, history, 0, leader_start),
            partition_over(2, history, 1, follower_start),
        )
        adopted = PartitionState(1, history.epoch + 1, (1,), 1, 0)
        for partition in self.partitions:
            partition.step(StateReceived(adopted, Assignment((1, 2))), 0)

    def run(self, rounds: int) -> None:
        """Fetch until both logs end at the same offset; fails if `rounds` do not suffice."""
        leader, follower = leader_of(self.partitions[0]), self.partitions[1]
        for _ in range(rounds):
            position = follower.fetch_position()
            assert position is not None
            before = (follower.log_state.log_end_offset, follower.log_state.epochs.entries())
            try:
                end = leader.check_replica_fetch(2, position)
            except OffsetOutOfRangeError:
                leads = leader.log_state
                outside = OutOfRange(position, leads.log_start_offset, leads.log_end_offset)
                follower.step(outside, 0)
                self.restarted = True
            else:
                if end is None:
                    self.copy(leader, follower)
                    if follower.log_state.log_end_offset == leader.log_state.log_end_offset:
                        return
                else:
                    follower.step(Diverged(position, end), 0)
            after = (follower.log_state.log_end_offset, follower.log_state.epochs.entries())
            assert after != before, "an answer that changes nothing would come for ever"
            self.lowest_cut = min(self.lowest_cut, follower.log_state.log_end_offset)
            if not self.restarted:
                del self.records[follower.log_state.log_end_offset :]
        raise AssertionError(f"still not equal after {rounds} rounds")

    def copy(self, leader: Leader, follower: Partition) -> None:
        """Everything that the leader has above the follower's end."""
        first = follower.log_state.log_end_offset
        if self.restarted:
            self.records = [(-1, "gone")] * first
        headers = [
            batch(offset, leader_epoch=self.leader_records[offset][0])
            for offset in range(first, len(self.leader_records))
        ]
        position = follower.fetch_position()
        assert position is not None
        assert follower.awaits(position)
        assert follower.accepts(headers)
        self.records = self.records[:first] + self.leader_records[first:]
        leads = leader.log_state
        follower.step(BatchesFollowed(headers, leads.high_watermark, leads.log_start_offset), 0)


@given(histories(), st.floats(0, 1), st.floats(0, 1))
def test_fetching_ends_with_equal_logs_and_cuts_nothing_that_was_common(history, above, below):
    common = common_prefix(history.logs[0], history.logs[1])
    leader_start = round(above * len(history.logs[0]))
    follower_start = round(below * common)
    exchange = Exchange(history, leader_start, follower_start)
    exchange.run(2 * history.epoch + 5)
    leader, follower = (partition.log_state for partition in exchange.partitions)
    assert exchange.records[leader_start:] == history.logs[0][leader_start:]
    if not exchange.restarted:
        assert exchange.lowest_cut >= common
        visible = follower.log_start_offset
        assert exchange.records[visible:] == history.logs[0][visible:]
    assert follower.log_end_offset == leader.log_end_offset
    written = [
        entry for entry in follower.epochs.entries() if entry.start_offset < len(history.logs[0])
    ]
    epochs = EpochCache()
    for offset in range(follower.log_start_offset, len(history.logs[0])):
        epochs.assign(history.logs[0][offset][0], offset)
    assert written == epochs.entries()


def test_a_log_whose_epochs_are_all_later_is_cut_and_not_asked_for_ever():
    """Leader: epoch 1 throughout, then 4. Follower: only what it wrote in epoch 3, from its log
    start on."""
    follower = replica(2, LogState(5, 10, 5, EpochCache([EpochEntry(3, 5)])))
    leader_log = LogState(0, 8, 0, EpochCache([EpochEntry(1, 0)]))
    partition = replica(1, leader_log)
    for one in (partition, follower):
        one.step(StateReceived(PartitionState(1, 4, (1,), 1, 0), Assignment((1, 2))), 0)
    asked = follower.fetch_position()
    assert asked is not None
    end = partition.check_replica_fetch(2, asked)
    assert end is not None
    assert follower.step(Diverged(asked, end), 0) != []
    asked = follower.fetch_position()
    assert asked is not None
    assert (asked.fetch_offset, asked.last_fetched_epoch) == (5, -1)
    assert partition.check_replica_fetch(2, asked) is None
