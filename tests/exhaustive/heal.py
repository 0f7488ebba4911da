"""No. 19: whatever has happened, when it stops happening all is well again.

Purpose: from any state of the world, `Healing.verdict` lets no more trouble come: who is down comes
back with its disk, late messages are lost, the deposed controller is gone, and everybody does what
is to be done until nothing changes. Then the ISR must be whole, all logs equal and all of it
committed; or, without a leader, nobody in the ISR has its log.

State: what each state comes to, remembered: most states heal by way of another.
"""

from __future__ import annotations

from tests.exhaustive.checks import is_intact
from tests.exhaustive.machine import ACTIVE, OLD, Event, Violation, World
from tests.exhaustive.replica import Age
from tests.exhaustive.values import Budget, agree
from tests.exhaustive.world import Model

STEPS = 300
ORDER = ("register", "restart", "read", "message", "answer", "propose", "reply", "fetch")


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
                self._verdicts[world] = self._judge(world)
            else:
                world = after
        found = self._verdicts.get(world, "no. 19: it does not come to rest")
        for passed in path:
            self._verdicts[passed] = found
        return found

    def _calm(self, world: World) -> World:
        model = self.model
        return model.changed(
            world,
            (model.at_late, ()),
            (model.at_terms + OLD, None),
            (model.at_budget, Budget(0, 0)),
        )

    def _next(self, world: World) -> World | Violation | None:
        enabled: dict[str, World | Violation] = {}
        for event, after in self.model.successors(world):
            if _is_wanted(event):
                enabled.setdefault(event[0], after)
        kind = next((kind for kind in ORDER if kind in enabled), None)
        return self._let_time_pass(world) if kind is None else enabled[kind]

    def _let_time_pass(self, world: World) -> World | None:
        """Who was refused is proposed again after a while."""
        model = self.model
        for me, broker in enumerate(model.brokers(world), 1):
            refused = () if broker.lead is None else broker.lead.followers
            refused = tuple(follower for follower, p in refused if p.refused)
            if refused:
                step = model.replica.step(me, broker, Age(refused))
                return model.changed(world, (me - 1, step.broker))
        return None

    def _judge(self, world: World) -> str | None:
        model = self.model
        brokers, state = model.brokers(world), model.zookeeper(world).state
        assert state is not None
        if state.leader == -1:
            intact = [m for m in state.isr if is_intact(m, state, brokers[m - 1])]
            return f"no. 19: {intact} could lead, and nobody does" if intact else None
        if len(state.isr) != model.count:
            return f"no. 19: the ISR is {state.isr} in the end"
        first = brokers[0]
        for broker in brokers:
            if not agree(broker.log, first.log) or broker.high_watermark != len(broker.log):
                return f"no. 19: not everything is everywhere and committed: {broker}, {first}"
        return None


def _is_wanted(event: Event) -> bool:
    match event:
        case ("propose" | "message", which, *_):
            return bool(which == ACTIVE)
        case ("restart", _, how):
            return bool(how == "kept")
    return True
