"""How far a leader may call its log committed (replication.md section 3, "HW").

The high watermark is the smallest log end among the leader, every other member of the maximal ISR,
and every eligible replica that is caught up but still outside: the last lets a fast follower join
under load, since it need only reach a high watermark that waits for it. A member of whom nothing is
known holds it where it is. It does not move at all while the committed ISR is smaller than the
effective min.insync.replicas (the strict rule of KIP-966).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from minikafka.core.replication.isr import FollowerProgress, IsrTracker
from minikafka.model import UNKNOWN_OFFSET


def committed_offset(
    own_end_offset: int,
    leader: int,
    isr: IsrTracker,
    followers: Mapping[int, FollowerProgress],
    min_insync: int,
    waits_for_outsider: Callable[[int, FollowerProgress], bool],
) -> int | None:
    """The offset below which all counted replicas hold the log, or None if it cannot be told.

    `min_insync` is the effective one. `waits_for_outsider(broker_id, progress)` says whether a
    replica outside the maximal ISR is eligible and caught up.
    """
    if len(isr.committed) < min_insync:
        return None
    lowest = own_end_offset
    maximal = isr.maximal if isr.additions else isr.committed
    for member in maximal:
        if member == leader:
            continue
        progress = followers.get(member)
        if progress is None or progress.log_end_offset == UNKNOWN_OFFSET:
            return None
        lowest = min(lowest, progress.log_end_offset)
    if len(followers) + 1 > len(maximal):
        for broker_id, progress in followers.items():
            if (
                broker_id not in maximal
                and progress.log_end_offset != UNKNOWN_OFFSET
                and waits_for_outsider(broker_id, progress)
            ):
                lowest = min(lowest, progress.log_end_offset)
    return lowest
