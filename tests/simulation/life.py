"""One life of a simulated cluster, from a seed: its actions, its checks, its end.

    begin     start everybody, make the topics, give the producers their ids
    steps     one action of the walk each, then every invariant
    heal      all links, disks and processes work again; within HEAL_MS everything is in sync
    last word a record for each partition, acknowledged by all; what was acknowledged is there

A life that fails keeps its actions: `replay` plays a list of them over the same plan (shrink.py).
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass

from minikafka.model import NO_LEADER
from tests.simulation import invariants
from tests.simulation.actions import Action, Player
from tests.simulation.loop import CirclingError
from tests.simulation.states import PartitionLedger, Violation
from tests.simulation.walk import Plan, Walk
from tests.simulation.world import World, patched

HEAL_MS = 60_000
LAST_WORD_MS = 8_000
FULL_CHECK_STEPS = 25


@dataclass
class Outcome:
    """How a life went. `lines` is the story; `digest` a hash of all that happened."""

    seed: int
    actions: list[Action]
    steps: int
    digest: str
    violation: str | None
    lines: list[str]
    acknowledged: int
    virtual_ms: int
    callbacks: int


def live(seed: int, steps: int, *, story: bool = False) -> Outcome:
    """A whole life: a random walk of so many steps."""
    return _play(seed, None, steps, story)


def replay(seed: int, actions: Sequence[Action], *, story: bool = False) -> Outcome:
    """The same begin, these actions, the same end."""
    return _play(seed, actions, len(actions), story)


def _play(seed: int, actions: Sequence[Action] | None, steps: int, story: bool) -> Outcome:
    plan = Plan.of(seed)
    world = World(plan.brokers, plan.settings, seed=seed, story=story)
    played: list[Action] = []
    was_enabled = gc.isenabled()
    gc.disable()  # what is collected when must not matter
    try:
        with patched(world):
            life = _Life(world, plan)
            try:
                life.begin()
                walk = Walk(seed, plan, world)
                for index in range(steps):
                    action = walk.next() if actions is None else actions[index]
                    played.append(action)
                    life.step(action)
                life.end()
            except Violation:
                pass
            except CirclingError as error:
                world.violation("liveness", f"runs in circles: {error}")
            world.tell(f"the end: {world.loop.handles_run} callbacks")
            outcome = Outcome(
                seed,
                played,
                len(played),
                world.digest(),
                None if world.first is None else str(world.first),
                world.lines,
                world.ledger.acknowledged_count,
                world.elapsed_ms(),
                world.loop.handles_run,
            )
            close(world)
    finally:
        if was_enabled:
            gc.enable()
    return outcome


def close(world: World) -> None:
    """End every coroutine that is left, so that none is found by the collector later."""
    world.over = True
    for task in asyncio.all_tasks(world.loop):
        try:
            task.get_coro().close()  # type: ignore[union-attr]
        except (Exception, asyncio.CancelledError):  # it wants to await something: too late
            continue


class _Life:
    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.player = Player(world)
        self._steps = 0

    def begin(self) -> None:
        world, player = self.world, self.player
        for name in world.names.values():
            player.play(Action(("restart", name), 0, 1))
        world.run(600)
        for words in self.plan.topics:
            player.play(Action(("create", "A", *words), 300, 2))
        player.play(Action(("producer", "A", "0"), 50, 3))
        player.play(Action(("producer", "B", "1"), 50, 4))
        world.network.trouble = self.plan.trouble
        world.network.slowness = self.plan.slowness
        self.check()

    def step(self, action: Action) -> None:
        self.player.play(action)
        self._steps += 1
        self.check()
        if self._steps % FULL_CHECK_STEPS == 0:
            invariants.check_epochs(self.world)

    def check(self) -> None:
        if self.world.first is not None:
            raise self.world.first
        invariants.check_step(self.world)

    # --- the end ---------------------------------------------------------------------------------

    def end(self) -> None:
        self.heal()
        self.settle()
        self.last_word()
        invariants.check_epochs(self.world)
        self.world.zookeeper.tree.check_invariants()

    def heal(self) -> None:
        world = self.world
        world.tell("everything is healed")
        world.chance.seed(5)
        network = world.network
        network.trouble, network.slowness = 0.0, 0.01
        self.player.release()
        world.transactions.end_all()
        world.zookeeper.faults.clear()
        world.heal_links()
        for host in world.hosts.values():
            host.disk.full = False
            process = host.process
            if process is None:
                continue
            process.go_on()
            if host.has_failed_replicas:
                world.kill(host)

    def settle(self) -> None:
        """No. 19."""
        world = self.world
        deadline_ms = world.now_ms() + HEAL_MS
        why: str | None = "nothing was looked at"
        while why is not None:
            if world.now_ms() > deadline_ms:
                raise world.violation("19", f"{HEAL_MS} ms after everything was healed: {why}")
            for host in world.hosts.values():
                if not host.alive:
                    world.start(host)
                elif host.has_failed_replicas:
                    world.kill(host)
            world.run(200)
            self.check()
            why = invariants.unsettled(world)
        world.tell("everything is in sync")
        world.transactions.check_end()
        world.coordinated.check_end()
        world.grouped.check_end()

    def last_word(self) -> None:
        """Whoever leads takes records with acks=all, from everybody; unless the topic goes now: it
        was asked for before, and waited for a controller."""
        world = self.world
        partitions = [
            ledger
            for ledger in world.ledger.live()
            if ledger.state is not None and ledger.state.leader != NO_LEADER
        ]
        before = {ledger.topic_partition: len(ledger.acknowledged) for ledger in partitions}
        waited_ms = 0
        while True:
            live = {id(ledger) for ledger in world.ledger.live()}
            left = [
                led
                for led in partitions
                if len(led.acknowledged) <= before[led.topic_partition]
                and id(led) in live
                and not world.is_marked_deleted(led.topic_partition.topic)
            ]
            if not left:
                break
            if waited_ms > LAST_WORD_MS:
                raise world.violation("19", "a healed cluster does not take records")
            if waited_ms % 1_000 == 0:
                self._produce_to(left)
            world.run(100)
            waited_ms += 100
            self.check()
        for ledger in partitions:
            for end, crc in ledger.acknowledged.items():
                if ledger.committed.get(end, (0, -1))[1] != crc:
                    raise world.violation("10", f"{ledger}: {end} was acknowledged, and is gone")

    def _produce_to(self, partitions: Sequence[PartitionLedger]) -> None:
        for ledger in partitions:
            if ledger.state is not None and ledger.state.leader != NO_LEADER:
                leader = self.world.name(ledger.state.leader)
                words = ("produce", leader, str(ledger.topic_partition), "all", "1")
                self.player.play(Action(words, 0, 6))
