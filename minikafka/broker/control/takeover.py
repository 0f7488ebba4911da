"""How many brokers ZooKeeper woke when the controller changed: the count of the herd, by what the
brokers themselves say.

Each broker counts its wake-ups as a candidate, and says in its first answer to a controller how
many there were since the controller before (UpdateStateResponse.wakeups). When every live broker
has answered, the controller knows how many of them were woken. State: the answers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from minikafka.broker.ports import ControllerElection, Takeover


class WakeupCounter:
    """Of one broker, as a candidate."""

    def __init__(self) -> None:
        self._since = 0  # the controller that has spoken last
        self._told = (-1, 0)  # the controller epoch that was told, and what

    def woken(self) -> None:
        self._since += 1

    def still_is(self, controller_epoch: int) -> None:
        """This one is controller. If it has spoken already, nothing since was about a new one: a
        candidate in the middle of the queue went."""
        if controller_epoch == self._told[0]:
            self._since = 0

    def tell(self, controller_epoch: int) -> int:
        """Wake-ups before this controller: the same however often it asks; 0 to an older one."""
        told_epoch, wakeups = self._told
        if controller_epoch > told_epoch:
            wakeups, self._since = self._since, 0
            self._told = (controller_epoch, wakeups)
        return wakeups if controller_epoch >= told_epoch else 0


class TakeoverCount:
    """Of one controller, over all brokers. `previous`: id and name of the one before it."""

    def __init__(
        self, controller_id: int, election: ControllerElection, previous: tuple[int, str]
    ) -> None:
        self._controller_id = controller_id
        self._election = election
        self._previous_id, self._previous_name = previous
        self._wakeups: dict[int, int] = {}
        self._done = False

    def on_answer(self, broker_id: int, wakeups: int) -> bool:
        """Whether that is news, upon which `finish` may have something."""
        if self._done or broker_id in self._wakeups:
            return False
        self._wakeups[broker_id] = wakeups
        return True

    def finish(self, live: Collection[int]) -> Takeover | None:
        """Once, when all of these brokers have answered."""
        if self._done or not live or not set(live) <= set(self._wakeups):
            return None
        self._done = True
        return Takeover(
            self._previous_id,
            self._controller_id,
            self._election.controller_epoch,
            woken=sum(wakeups > 0 for wakeups in self._wakeups.values()),
            waiting=self._election.candidates,
            previous_name=self._previous_name,
        )


def describe_takeover(takeover: Takeover, names: Mapping[int, str]) -> str:
    """`controller moved from A to B, controller epoch 4, woke 1 of 4 waiting brokers`."""
    winner = names.get(takeover.controller_id, str(takeover.controller_id))
    moved = f"controller is {winner}"
    if takeover.previous_id not in (-1, takeover.controller_id):
        moved = f"controller moved from {takeover.previous_name} to {winner}"
    return (
        f"{moved}, controller epoch {takeover.controller_epoch}, "
        f"woke {takeover.woken} of {takeover.waiting} waiting broker"
        f"{'' if takeover.waiting == 1 else 's'}"
    )
