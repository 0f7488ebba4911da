"""A replica while it follows: where it fetches, and how its log is made equal to the leader's.

State: the leader and epoch that it follows. The log state is the partition's. Truncation goes by
leader epoch (KIP-101, KIP-279, KIP-595), never to the own high watermark; every epoch change
validates anew, also under an unchanged leader (replication.md section 4).
"""

from __future__ import annotations

from collections.abc import Sequence

from minikafka.core.replication.effects import (
    Effect,
    HighWatermarkAdvanced,
    RaiseLogStart,
    RestartLog,
    StoreEpochs,
    TruncateLog,
)
from minikafka.core.replication.log_state import LogState
from minikafka.model import (
    NO_LEADER,
    BatchHeader,
    FollowerPosition,
    Markers,
    OffsetAndEpoch,
    PartitionState,
    TopicPartition,
)


class Follower:
    """The following replica's side of a partition: a part of `Partition`, which alone calls it."""

    def __init__(
        self,
        topic_partition: TopicPartition,
        topic_id: str,
        log_state: LogState,
        state: PartitionState,
    ) -> None:
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self.log_state = log_state
        self.state = state

    def position(self) -> FollowerPosition | None:
        """What to ask the leader for next; None while there is no leader."""
        if self.state.leader == NO_LEADER:
            return None
        return FollowerPosition(
            self.topic_partition,
            self.topic_id,
            self.log_state.log_end_offset,
            self.log_state.last_epoch,
            self.state.leader_epoch,
            self.log_state.log_start_offset,
        )

    def answers(self, position: FollowerPosition) -> bool:
        """Is a reply to a fetch from `position` still about this log? Offset, last fetched epoch
        and leader epoch must all be as they were (rule R7)."""
        return (
            position.topic_id == self.topic_id
            and position.fetch_offset == self.log_state.log_end_offset
            and position.last_fetched_epoch == self.log_state.last_epoch
            and position.current_leader_epoch == self.state.leader_epoch
        )

    def on_diverging(self, end: OffsetAndEpoch) -> list[Effect]:
        """The leader has `end.leader_epoch` up to `end.offset`, and not what this log has after.

        Every answer removes at least the latest epoch's surplus here, so that fetching again and
        again ends. Where all epochs here are later than the leader's, everything from the first of
        them on goes: keeping any of it would bring the same answer for ever.
        """
        local = self.log_state.epochs.end_of(end.leader_epoch, self.log_state.log_end_offset)
        if local is None:
            target = end.offset
        elif local.leader_epoch == end.leader_epoch:
            target = min(local.offset, end.offset)
        else:  # not known here: to the end of the largest epoch below it
            target = local.offset
        return self._truncate(min(target, self.log_state.log_end_offset))

    def _truncate(self, offset: int) -> list[Effect]:
        lost = offset < self.log_state.high_watermark
        if not self.log_state.truncated(offset):
            return []
        return [TruncateLog(offset, lost), StoreEpochs(tuple(self.log_state.epochs.entries()))]

    def on_out_of_range(self, leader_log_start: int, leader_log_end: int) -> list[Effect]:
        """The leader has nothing at this log's end: either it is shorter (after an unclean
        election), or its retention has gone past. If that came just to this log's end, and the
        leader cannot tell any more whether what lies below is the same, all of it goes, too."""
        if leader_log_end < self.log_state.log_end_offset:
            return self._truncate(leader_log_end)
        log_start, log_end = self.log_state.log_start_offset, self.log_state.log_end_offset
        if leader_log_start > log_end or log_start < leader_log_start == log_end:
            self.log_state.restarted(leader_log_start)
            return [RestartLog(leader_log_start), StoreEpochs(())]
        return []

    def on_straddling(self, headers: Sequence[BatchHeader]) -> list[Effect]:
        """Before `accepts`: an empty log begins where the leader's does, which may be inside a
        batch, if records were deleted up to there. The batch can only be had whole: then the log
        begins with it. Its first records count as deleted once the log start is told."""
        end = self.log_state.log_end_offset
        empty = self.log_state.log_start_offset == end
        if not empty or not headers or not headers[0].base_offset < end < headers[0].next_offset:
            return []
        self.log_state.restarted(headers[0].base_offset)
        return [RestartLog(headers[0].base_offset), StoreEpochs(())]

    def accepts(self, headers: Sequence[BatchHeader]) -> bool:
        """May these batches of the leader be appended? Each must begin at or after the end of the
        one before it, the first one of the log: above it where the leader's compaction has taken
        what lay between. Their epochs must not fall, nor be of the future."""
        expected, epoch = self.log_state.log_end_offset, self.log_state.last_epoch
        for header in headers:
            if header.base_offset < expected or header.last_offset_delta < 0:
                return False
            if not epoch <= header.leader_epoch <= self.state.leader_epoch:
                return False
            expected, epoch = header.next_offset, header.leader_epoch
        return True

    def on_appended(
        self, headers: Sequence[BatchHeader], markers: Markers | None = None
    ) -> list[Effect]:
        """Batches that `accepts` allowed are in the log."""
        if self.log_state.appended(headers, markers):
            return [StoreEpochs(tuple(self.log_state.epochs.entries()))]
        return []

    def on_leader_offsets(self, high_watermark: int, log_start_offset: int) -> list[Effect]:
        """What the leader says is committed and what it has forgotten; after its data is in."""
        effects: list[Effect] = []
        committed = min(high_watermark, self.log_state.log_end_offset)
        if committed > self.log_state.high_watermark:
            self.log_state.commit(committed)
            effects.append(HighWatermarkAdvanced(committed))
        if self.log_state.raise_log_start(log_start_offset):
            effects.append(RaiseLogStart(self.log_state.log_start_offset))
        return effects
