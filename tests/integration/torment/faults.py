"""What is done to the cluster, one class a kind of fault.

Each has `inject`, which returns what it did in words, and `recover`, which takes it back (and may
find that half of it never happened). Whom it hits is drawn from its own random numbers: a leader,
the controller, or anybody. `hold_s` is for how long it acts.
"""

from __future__ import annotations

import asyncio
import random
from typing import ClassVar

from minikafka.model import broker_name
from tests.integration.torment.network import CLIENTS, ZOOKEEPER, broker_node
from tests.integration.torment.world import World

_SHUTDOWN_S = 20.0


class Fault:
    """One fault of this kind. `combines`: may be one of several at once."""

    kind: ClassVar[str]
    hold_s: ClassVar[tuple[float, float]] = (2.0, 8.0)
    combines: ClassVar[bool] = True

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.problems: list[str] = []  # what should not have happened

    @classmethod
    def possible(cls, world: World) -> bool:
        return True

    async def inject(self) -> str:
        raise NotImplementedError

    async def recover(self) -> None:
        raise NotImplementedError

    async def some_broker(self) -> tuple[int, str]:
        """One that runs, and how to speak of it."""
        running = [
            each
            for each, process in self.world.brokers.items()
            if each not in self.world.down and not process.paused
        ]
        role = self.rng.choice(("leader", "controller", "any", "any"))
        fallback = self.rng.choice(running or self.world.broker_ids)
        partition = self.rng.choice(self.world.partitions)
        if role == "leader":
            found, words = await self.world.leader_of(partition), f"leader of {partition}"
        elif role == "controller":
            found, words = await self.world.controller(), "controller"
        else:
            found, words = fallback, ""
        if found not in running:
            found, words = fallback, ""
        return found, broker_name(found) + (f" ({words})" if words else "")


class Kill(Fault):
    kind = "kill"
    hold_s = (0.2, 6.0)

    async def inject(self) -> str:
        self.victim, words = await self.some_broker()
        await self.world.kill_broker(self.victim)
        return f"SIGKILL {words}"

    async def recover(self) -> None:
        await self.world.start_broker(self.victim)


class Terminate(Fault):
    kind = "terminate"
    hold_s = (0.0, 4.0)

    async def inject(self) -> str:
        self.victim, words = await self.some_broker()
        if not await self.world.terminate_broker(self.victim, _SHUTDOWN_S):
            self.problems.append(f"{words} did not end within {_SHUTDOWN_S:g} s of SIGTERM")
        return f"SIGTERM {words}"

    async def recover(self) -> None:
        await self.world.start_broker(self.victim)


class Pause(Fault):
    kind = "pause"
    hold_s = (0.3, 7.0)

    async def inject(self) -> str:
        victim, words = await self.some_broker()
        self.process = self.world.brokers[victim]
        self.process.pause()
        return f"SIGSTOP {words}"

    async def recover(self) -> None:
        self.process.resume()


class KillAll(Fault):
    kind = "kill all"
    hold_s = (0.0, 3.0)
    combines = False

    async def inject(self) -> str:
        await asyncio.gather(*(self.world.kill_broker(each) for each in self.world.broker_ids))
        return "SIGKILL every broker"

    async def recover(self) -> None:
        order = self.rng.sample(self.world.broker_ids, len(self.world.broker_ids))
        for each in order:
            await self.world.start_broker(each)


class RollingRestart(Fault):
    kind = "rolling restart"
    hold_s = (0.0, 0.0)
    combines = False

    async def inject(self) -> str:
        for each in self.world.broker_ids:
            if not await self.world.terminate_broker(each, _SHUTDOWN_S):
                self.problems.append(f"{broker_name(each)} did not end after SIGTERM")
            await self.world.start_broker(each)
            await self.world.until_whole()
        return "each broker by SIGTERM, the next when all replicas are in sync"

    async def recover(self) -> None: ...


# --- network -------------------------------------------------------------------------------------


class _NetworkFault(Fault):
    killed: int | None = None

    async def recover(self) -> None:
        self.world.network.heal()
        if self.killed is not None:
            await self.world.start_broker(self.killed)

    async def maybe_kill(self, broker_id: int, chance: float = 0.5) -> str:
        """After a while, SIGKILL; says so."""
        if self.rng.random() >= chance:
            return ""
        after_s = round(self.rng.uniform(0.2, 2.5), 2)
        await asyncio.sleep(after_s)
        if broker_id in self.world.down:
            return ""
        self.killed = broker_id
        await self.world.kill_broker(broker_id)
        return f", and SIGKILL after {after_s:g} s"

    def both_ways(self, one: str, other: str) -> None:
        self.world.network.block(one, other)
        self.world.network.block(other, one)

    def others(self, broker_id: int) -> list[str]:
        brokers = [broker_node(each) for each in self.world.broker_ids if each != broker_id]
        return [*brokers, ZOOKEEPER, CLIENTS]


class Cut(_NetworkFault):
    kind = "cut off"

    async def inject(self) -> str:
        victim, words = await self.some_broker()
        for each in self.others(victim):
            self.both_ways(broker_node(victim), each)
        return f"{words} from everybody, both ways"


class CutBetweenBrokers(_NetworkFault):
    kind = "cut between brokers"

    async def inject(self) -> str:
        one, words = await self.some_broker()
        other = self.rng.choice([each for each in self.world.broker_ids if each != one])
        self.both_ways(broker_node(one), broker_node(other))
        return f"{words} from {broker_name(other)}, both ways"


class CutOneWay(_NetworkFault):
    kind = "cut one way"

    async def inject(self) -> str:
        victim, words = await self.some_broker()
        outward = self.rng.random() < 0.5
        peers = self.others(victim)
        if self.rng.random() < 0.5:
            peers = [self.rng.choice(peers)]
        for each in peers:
            ends = (broker_node(victim), each)
            self.world.network.block(*(ends if outward else ends[::-1]))
        return f"what {words} {'sends to' if outward else 'would hear from'} {', '.join(peers)}"


class CutFromZooKeeper(_NetworkFault):
    kind = "cut from ZooKeeper"

    async def inject(self) -> str:
        victim, words = await self.some_broker()
        node = broker_node(victim)
        ways = self.rng.choice(("both", "both", "to", "from"))
        if ways != "from":
            self.world.network.block(node, ZOOKEEPER)
        if ways != "to":
            self.world.network.block(ZOOKEEPER, node)
        return f"{words} from ZooKeeper ({ways})"


class CutFromClients(_NetworkFault):
    kind = "cut from clients"

    async def inject(self) -> str:
        victim, words = await self.some_broker()
        self.both_ways(broker_node(victim), CLIENTS)
        return f"{words} from the clients, both ways"


class CutFromBrokers(_NetworkFault):
    """It goes on to serve clients, and must acknowledge nothing that nobody else has: half the
    time it is killed before it can hand anything on."""

    kind = "cut from the other brokers"

    async def inject(self) -> str:
        victim, words = await self.some_broker()
        for each in self.world.broker_ids:
            if each != victim:
                self.both_ways(broker_node(victim), broker_node(each))
        return f"{words}, both ways{await self.maybe_kill(victim)}"


class SlowThenKilled(_NetworkFault):
    """What it has acknowledged must be elsewhere, however slow the way there is."""

    kind = "slow link then SIGKILL"

    async def inject(self) -> str:
        victim, words = await self.some_broker()
        self.world.network.slow(broker_node(victim))
        return f"everything to and from {words}{await self.maybe_kill(victim, 1.0)}"


class Slow(_NetworkFault):
    kind = "slow link"
    hold_s = (4.0, 9.0)

    async def inject(self) -> str:
        victim, words = await self.some_broker()
        self.world.network.slow(broker_node(victim))
        return f"everything to and from {words}"


class Unplug(_NetworkFault):
    kind = "unplug"

    async def inject(self) -> str:
        victim, words = await self.some_broker()
        self.world.network.unplug(broker_node(victim))
        return f"the interface of {words} goes down"


class Flap(_NetworkFault):
    kind = "flapping link"
    combines = False

    async def inject(self) -> str:
        victim, words = await self.some_broker()
        self._task = asyncio.create_task(self._flap(broker_node(victim), self.others(victim)))
        return f"{words} is cut off and back, again and again"

    async def _flap(self, node: str, others: list[str]) -> None:
        while True:
            for each in others:
                self.both_ways(node, each)
            await asyncio.sleep(self.rng.uniform(0.05, 1.2))
            self.world.network.heal()
            await asyncio.sleep(self.rng.uniform(0.05, 0.8))

    async def recover(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await super().recover()


# --- disks and ZooKeeper -------------------------------------------------------------------------


class FullDisk(Fault):
    kind = "full disk"
    hold_s = (2.0, 6.0)

    @classmethod
    def possible(cls, world: World) -> bool:
        return any(disk.can_be_filled for disk in world.disks.values())

    async def inject(self) -> str:
        found, words = await self.some_broker()
        able = [each for each, disk in self.world.disks.items() if disk.can_be_filled]
        self.victim = found if found in able else self.rng.choice(able)
        self.world.disks[self.victim].fill()
        return f"under {words if found == self.victim else broker_name(self.victim)}"

    async def recover(self) -> None:
        """As docs/operating.md says: mend it and restart the broker."""
        self.world.disks[self.victim].free()
        if self.victim not in self.world.down:
            await self.world.terminate_broker(self.victim, _SHUTDOWN_S)
            await self.world.start_broker(self.victim)


class KillZooKeeper(Fault):
    kind = "kill a ZooKeeper server"
    hold_s = (0.2, 5.0)

    async def inject(self) -> str:
        servers = self.world.zookeepers.servers
        running = [number for number, each in enumerate(servers) if each.is_running]
        self.victim = self.rng.choice(running)
        mode = await asyncio.to_thread(self.world.zookeepers.mode_of, self.victim)
        await servers[self.victim].kill()
        return f"SIGKILL {servers[self.victim].name} ({mode or 'not serving'})"

    async def recover(self) -> None:
        await self.world.zookeepers.restart(self.victim)


class PauseZooKeeper(Fault):
    kind = "pause a ZooKeeper server"
    hold_s = (0.3, 6.0)

    async def inject(self) -> str:
        running = [each for each in self.world.zookeepers.servers if each.is_running]
        self.server = self.rng.choice(running)
        self.server.pause()
        return f"SIGSTOP {self.server.name}"

    async def recover(self) -> None:
        self.server.resume()


class Several(Fault):
    kind = "several at once"
    combines = False

    async def inject(self) -> str:
        able = [each for each in KINDS.values() if each.combines and each.possible(self.world)]
        chosen = self.rng.sample(able, self.rng.choice((2, 2, 3)))
        if {KillZooKeeper, PauseZooKeeper} <= set(chosen):
            chosen.remove(PauseZooKeeper)  # of one server there is nothing left to pause
        self.parts: list[Fault] = []
        words = []
        for each in chosen:
            part = each(self.world, self.rng)
            words.append(f"{part.kind}: {await part.inject()}")
            self.parts.append(part)
            await asyncio.sleep(self.rng.uniform(0, 1.0))
        return "; ".join(words)

    async def recover(self) -> None:
        for part in self.rng.sample(self.parts, len(self.parts)):
            await part.recover()
            self.problems += part.problems


_ALL: tuple[type[Fault], ...] = (
    Kill,
    Terminate,
    Pause,
    KillAll,
    RollingRestart,
    Cut,
    CutBetweenBrokers,
    CutOneWay,
    CutFromZooKeeper,
    CutFromClients,
    CutFromBrokers,
    Slow,
    SlowThenKilled,
    Unplug,
    Flap,
    FullDisk,
    KillZooKeeper,
    PauseZooKeeper,
    Several,
)
KINDS: dict[str, type[Fault]] = {each.kind: each for each in _ALL}
