"""In which of Kafka's five states a group is, since when, and how it came there.

    Empty --join--> PreparingRebalance --all joined, or time is over--> CompletingRebalance
      ^                |      ^                                              |
      |            all left   +--- someone joins, leaves or is silent ---+   | the leader's
      +----------------+                                                 |   v assignment is stored
                                                                        Stable

State: the state, the wall-clock time at which it was entered, the last states for assertions.
Invariants: a state follows only one of those in `_COMES_AFTER`; a Dead group stays so, unless its
tombstones could not be written, and answers CoordinatorNotAvailableError meanwhile.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from minikafka.core.groups.effects import Now
from minikafka.errors import CoordinatorNotAvailableError, RebalanceInProgressError

_HISTORY_LENGTH = 16


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


class Lifecycle:
    """See the module. Everybody may read `state`; only `enter` and `restore` change it."""

    def __init__(self, group_id: str, now: Now) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.state_timestamp_ms = now.timestamp_ms
        self._history: deque[str] = deque(maxlen=_HISTORY_LENGTH)

    def enter(self, state: GroupState, now: Now, why: str) -> None:
        self._history.append(f"{state.value} at {now.ms}: {why}")
        assert self.state in _COMES_AFTER[state], self.explain(f"from {self.state.value}")
        self.state = state
        self.state_timestamp_ms = now.timestamp_ms

    def restore(self, state: GroupState, state_timestamp_ms: int) -> None:
        """As the last coordinator wrote it down. A negative time, of an old format: since now."""
        self.state = state
        if state_timestamp_ms >= 0:
            self.state_timestamp_ms = state_timestamp_ms

    def refuse_if_dead(self) -> None:
        if self.state is GroupState.DEAD:
            raise CoordinatorNotAvailableError(f"group {self.group_id!r} is being deleted")

    def refuse_while_joining(self) -> None:
        """The next generation is on its way: whoever asks for something of this one joins it."""
        if self.state is GroupState.PREPARING_REBALANCE:
            raise RebalanceInProgressError(f"group {self.group_id!r} rebalances: join again")

    def explain(self, problem: str) -> str:
        """For assertions: what came before."""
        return f"group {self.group_id!r}, {self.state.value}: {problem}; {list(self._history)}"
