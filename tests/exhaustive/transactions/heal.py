"""No. 35: whatever has happened, when it stops happening every transaction ends.

From any state of the world, `Healing.verdict` lets no more trouble come: what is late is lost, the
ISR is whole again, everybody does what is to be done, clients hear what they have asked for and ask
for no more. What is then still open is timed out. In the end nothing is open, held, under way or
waited for; and a transaction is there whole, or not at all.

State: what each state comes to, remembered: most heal by way of another.
"""

from __future__ import annotations

from tests.exhaustive.machine import Event, Violation, World
from tests.exhaustive.transactions.checks import brief
from tests.exhaustive.transactions.draft import Draft
from tests.exhaustive.transactions.values import BUDGET, LATE, Budget
from tests.exhaustive.transactions.world import Model

STEPS = 300
ORDER = (
    "grow", "notice", "commit", "replicate", "load", "serve", "again", "marker", "outcome", "lose",
    "word", "ask", "hear", "deliver", "timeout",
)  # fmt: skip


class Healing:
    def __init__(self, model: Model) -> None:
        self.model = model
        self._verdicts: dict[World, str | None] = {}

    def verdict(self, world: World) -> str | None:
        """None if all is well in the end, else what is not."""
        world = self._calm(world)
        path: list[World] = []
        while world not in self._verdicts and len(path) < STEPS:
            path.append(world)
            after = self._next(world)
            if isinstance(after, Violation):
                self._verdicts[world] = f"while healing: {after}"
            elif after is None:
                self._verdicts[world] = self._judge(Draft(self.model, world))
            else:
                world = after
        found = self._verdicts.get(world, "no. 35: it does not come to rest")
        for passed in path:
            self._verdicts[passed] = found
        return found

    def _calm(self, world: World) -> World:
        number = self.model.parts.number
        parts = list(world)
        parts[LATE] = number(())
        parts[BUDGET] = number(Budget(0, lost=STEPS, timeouts=1))
        return tuple(parts)

    def _next(self, world: World) -> World | Violation | None:
        now = Draft(self.model, world)
        enabled: dict[str, Event] = {}
        for event in self.model.events(now):
            if self._is_wanted(now, event):
                enabled.setdefault(event[0], event)
        kind = next((kind for kind in ORDER if kind in enabled), None)
        if kind is None:
            return None
        after = self.model.after(world, enabled[kind])
        return after if isinstance(after, Violation) else self._calm(after)

    def _is_wanted(self, now: Draft, event: Event) -> bool:
        if event[0] != "lose":
            return event[0] in ORDER
        broker = now.broker(event[1])
        gone = broker.outbox.in_flight[0].broker_epoch != now.data.incarnation
        return gone or (broker.wire is None and broker.outcome is None)

    def _judge(self, end: Draft) -> str | None:
        log, data = end.log, end.data
        if log.last is not None and not log.last.state.is_quiet:
            return f"no. 35: in the end there is {brief(log.last)}"
        leading = end.broker(log.leader)
        if leading.role != "serving" or leading.txn.held or leading.outbox.in_flight:
            return f"no. 35: in the end the coordinator is {leading}"
        if data.pending or any(pid.opened for part in data.parts for pid in part.pids):
            return f"no. 35: in the end something is open: {data}"
        group = data.group
        if group is not None and (not group.serves or group.memory.staged or group.memory.ending):
            return f"no. 35: in the end the group is {group}"
        for who in range(len(self.model.bounds.tv)):
            client = end.producer(who)
            if client.phase != "dead" and client.request is not None:
                return f"no. 35: in the end a client waits: {client}"
        return self._judge_whole(end)

    def _judge_whole(self, end: Draft) -> str | None:
        """No. 23, in the end: all that was acknowledged, or nothing."""
        for fate in end.ledger.fates:
            outcomes = [dict(part.records).get(fate.label) for part in end.data.parts]
            acknowledged = {outcomes[index] for index in fate.written}
            if "committed" in outcomes and acknowledged != {"committed"}:
                return f"no. 23: {fate} is there in part: {outcomes}"
            if fate.told == "commit" and acknowledged - {"committed"}:
                return f"no. 23: {fate} was committed, and in the end it is {outcomes}"
        return None
