"""The in-sync replicas as their leader sees them: progress of each follower, the committed ISR, and
the change that is proposed.

Two sets, and which one counts where:

- `committed` is what ZooKeeper holds: it decides whether enough replicas are in sync;
- `maximal` is committed plus every addition that was ever proposed over the held version: the high
  watermark waits for all of them, because the controller may have admitted them already (rule R5).
  It gets smaller only when a newer version is adopted.

A proposed removal therefore still counts, a proposed addition counts already.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from minikafka.model import UNKNOWN_BROKER_EPOCH, UNKNOWN_OFFSET, IsrProposal

NEVER_MS = -(2**62)


@dataclass(slots=True)
class FollowerProgress:
    """One follower, as its fetches tell. Times are `now_ms` of the leader; offset -1: unknown."""

    caught_up_ms: int = NEVER_MS
    broker_epoch: int = UNKNOWN_BROKER_EPOCH
    log_end_offset: int = UNKNOWN_OFFSET
    last_fetch_ms: int = NEVER_MS
    leader_end_at_last_fetch: int = UNKNOWN_OFFSET
    log_start_offset: int = UNKNOWN_OFFSET
    refused_ms: int = NEVER_MS  # when the controller last found it ineligible

    def record_fetch(
        self, fetch_offset: int, broker_epoch: int, leader_end_offset: int, now_ms: int
    ) -> None:
        """A valid fetch from `fetch_offset` arrived while the leader's log ended at
        `leader_end_offset`. A new incarnation starts from nothing: what the one before it had
        caught up with says nothing of its log, and the high watermark must not wait on that."""
        if broker_epoch != self.broker_epoch:
            if self.broker_epoch != UNKNOWN_BROKER_EPOCH:
                self.caught_up_ms = self.refused_ms = NEVER_MS
            self.broker_epoch = broker_epoch
            self.leader_end_at_last_fetch = UNKNOWN_OFFSET
        if fetch_offset >= leader_end_offset:
            self.caught_up_ms = max(self.caught_up_ms, now_ms)
        elif 0 <= self.leader_end_at_last_fetch <= fetch_offset:
            self.caught_up_ms = max(self.caught_up_ms, self.last_fetch_ms)
        self.log_end_offset = fetch_offset
        self.leader_end_at_last_fetch = leader_end_offset
        self.last_fetch_ms = now_ms

    def forget_position(self) -> None:
        """What its fetches told so far does not count any more."""
        self.caught_up_ms = NEVER_MS
        self.log_end_offset = self.leader_end_at_last_fetch = UNKNOWN_OFFSET

    def caught_up(self, leader_end_offset: int, now_ms: int, lag_time_max_ms: int) -> bool:
        """In sync by Kafka's rule: at the leader's end, or there not longer ago than allowed."""
        return (
            self.log_end_offset == leader_end_offset
            or now_ms - self.caught_up_ms <= lag_time_max_ms
        )


_NOBODY: Set[int] = frozenset()  # one for all partitions


@dataclass(slots=True)
class IsrTracker:
    """Committed ISR, proposed additions, and the one proposal in flight."""

    committed: tuple[int, ...]
    additions: Set[int] = _NOBODY
    pending: IsrProposal | None = None

    @property
    def maximal(self) -> set[int]:
        return {*self.additions, *self.committed}

    def propose(self, proposal: IsrProposal) -> None:
        """A proposal is on its way; what it adds counts from now on."""
        self.pending = proposal
        self.additions = self.additions | self._added(member for member, _ in proposal.isr)

    def adopt(self, committed: tuple[int, ...]) -> None:
        """A newer version: whatever was proposed over an older one is void."""
        self.committed = committed
        self.additions = _NOBODY
        self.pending = None

    def _added(self, members: Iterable[int]) -> set[int]:
        return set(members).difference(self.committed)


class LagCheckSchedule:
    """When to look for laggards: every half of replica.lag.time.max.ms. A check that comes late by
    more than another half is skipped, once: this broker was stalled itself, and must not blame
    followers for what it did not hear (replication.md section 3)."""

    __slots__ = ("_interval_ms", "_last_ms")

    def __init__(self, lag_time_max_ms: int, now_ms: int) -> None:
        self._interval_ms = max(1, lag_time_max_ms // 2)
        self._last_ms = now_ms

    @property
    def next_ms(self) -> int:
        return self._last_ms + self._interval_ms

    def due(self, now_ms: int) -> bool:
        """Is a check to be made now? Call it whenever the timer fires."""
        late_ms = now_ms - self.next_ms
        if late_ms < 0:
            return False
        self._last_ms = now_ms
        return late_ms <= self._interval_ms
