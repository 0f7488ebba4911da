"""How a life comes about from a seed: what the cluster is like (`Plan`), and which action is next.

A walk looks at the cluster and prefers the hard spots: whoever leads, whoever is controller, the
moment right after a record was sent; half of what it does are short stories (`_gambit`) that lead
to one of the races of replication.md section 8. Each life has its own mixture of mishaps, so that
some lives have few and go deep (swarm testing). When much is broken, repairing becomes likely.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from minikafka.model import NO_LEADER
from tests.simulation.actions import Action
from tests.simulation.liar import KNOWN
from tests.simulation.states import PartitionLedger
from tests.simulation.world import Host, World

MISHAPS = (
    "kill",
    "terminate",
    "power",
    "disk",
    "full",
    "pause",
    "cut",
    "one-way",
    "isolate",
    "expire",
    "fault",
    "break",
    "hold",
    "clock",
    "topics",
    "records",
    "configs",
    "elections",
)


@dataclass(frozen=True)
class Plan:
    """What a life begins with."""

    brokers: int
    settings: dict[str, str]
    topics: tuple[tuple[str, ...], ...]  # words of `create`, without the broker that is asked
    mishaps: tuple[str, ...]
    trouble: float
    slowness: float
    gambits: float
    transactions: bool = False
    coordinated: bool = False

    @classmethod
    def of(cls, seed: int) -> Plan:
        chance = Random(f"plan {seed}")
        brokers = chance.choices((3, 4, 5), (65, 25, 10))[0]
        names = "ABCDE"[:brokers]
        factor = min(brokers, chance.choices((1, 2, 3, 5), (4, 20, 72, 4))[0])
        minimum = min(factor, chance.choices((1, 2, 3), (45, 50, 5))[0])
        partitions = chance.choices((1, 2, 3), (65, 25, 10))[0]
        assignment = ",".join("".join(chance.sample(names, factor)) for _ in range(partitions))
        words = ["t", assignment, f"min.insync.replicas={minimum}"]
        if chance.random() < 0.15:
            words.append("flush.before.ack=true")
        if chance.random() < 0.1:
            words.append("unclean.leader.election.enable=true")
        if chance.random() < 0.1:
            words.append(f"retention.ms={chance.choice((2_000, 6_000, 20_000))}")
        topics = [tuple(words)]
        if chance.random() < 0.1:
            topics.append(("u", "".join(chance.sample(names, min(2, brokers)))))
        settings = {
            "replica.lag.time.max.ms": chance.choice(("600", "1500", "3000")),
            "zookeeper.session.timeout.ms": chance.choice(("600", "1500", "1500")),
        }
        mishaps = tuple(each for each in MISHAPS if chance.random() < 0.4)
        if Random(f"reassign {seed}").random() < 0.5:
            mishaps += ("reassign",)
        if Random(f"liar {seed}").random() < 0.3:
            mishaps += ("liar",)
        return cls(
            brokers,
            settings,
            tuple(topics),
            mishaps or ("kill",),
            chance.choice((0.0, 0.0, 0.004, 0.03)),
            chance.choice((0.0, 0.01, 0.05)),
            chance.choice((0.1, 0.4, 0.7)),
            Random(f"transactions {seed}").random() < 0.25,
            Random(f"coordinated {seed}").random() < 0.25,
        )


class Walk:
    """The actions of one life, one after the other: `next` looks at the world as it is."""

    def __init__(self, seed: int, plan: Plan, world: World) -> None:
        self.chance = Random(f"walk {seed}")
        self._transactions = Random(f"transactions {seed}") if plan.transactions else None
        self._coordinated = Random(f"coordinated {seed}") if plan.coordinated else None
        self.plan = plan
        self.world = world
        self._queue: list[Action] = []
        self._produced = 0

    def next(self) -> Action:
        if self._transactions is not None and self._transactions.random() < 0.4:
            return self._transact(self._transactions)
        if self._coordinated is not None and self._coordinated.random() < 0.3:
            return self._coordinate(self._coordinated)
        if not self._queue:
            chance = self.chance
            broken = self._broken()
            if broken and chance.random() < 0.12 + 0.13 * len(broken):
                self._queue = [self._act(*chance.choice(broken))]
            elif chance.random() < 0.5:
                self._queue = [self._use()]
            elif chance.random() < self.plan.gambits:
                self._queue = list(self._gambit())
            else:
                self._queue = list(self._mishap(chance.choice(self.plan.mishaps)))
            self._queue = self._queue or [self._use()]
        return self._queue.pop(0)

    def _act(self, *words: object, run_ms: float | None = None) -> Action:
        if run_ms is None:
            run_ms = self._duration()
        return Action(tuple(str(word) for word in words), run_ms, self.chance.getrandbits(32))

    def _duration(self) -> float:
        """Mostly short: what is interesting happens while messages are on their way."""
        chance = self.chance
        kind = chance.random()
        if kind < 0.5:
            return round(10 * chance.random(), 3)
        if kind < 0.88:
            return round(120 * chance.random(), 3)
        if kind < 0.99:
            return round(150 + 500 * chance.random(), 3)
        return round(1000 + 2500 * chance.random(), 3)

    # --- looking ---------------------------------------------------------------------------------

    def _alive(self) -> list[Host]:
        return [host for host in self.world.hosts.values() if host.alive]

    def _some_host(self) -> Host:
        """Often one that matters."""
        chance = self.chance
        kind = chance.random()
        if kind < 0.35:
            leader = self._leader(self._partition())
            if leader is not None:
                return leader
        elif kind < 0.5:
            controller = self.world.controller()
            if controller is not None:
                return controller
        elif kind < 0.75:
            follower = self._follower(self._partition())
            if follower is not None:
                return follower
        return chance.choice(list(self.world.hosts.values()))

    def _partition(self) -> PartitionLedger | None:
        live = self.world.ledger.live()
        return self.chance.choice(live) if live else None

    def _leader(self, ledger: PartitionLedger | None) -> Host | None:
        if ledger is None or ledger.state is None or ledger.state.leader == NO_LEADER:
            return None
        return self.world.hosts[ledger.state.leader]

    def _follower(self, ledger: PartitionLedger | None) -> Host | None:
        if ledger is None or ledger.state is None:
            return None
        others = [
            member
            for member in self._replicas(ledger)
            if member != ledger.state.leader and member in self.world.hosts
        ]
        return self.world.hosts[self.chance.choice(others)] if others else None

    def _replicas(self, ledger: PartitionLedger) -> tuple[int, ...]:
        topic = self.world.topics[ledger.topic_partition.topic]
        assignment = topic.assignments.get(ledger.topic_partition.partition)
        return assignment.replicas if assignment is not None else ()

    def _broken(self) -> list[tuple[str, ...]]:
        """What could be repaired."""
        repairs: list[tuple[str, ...]] = []
        for host in self.world.hosts.values():
            if not host.alive:
                repairs.append(("restart", host.name))
            elif not host.runs:
                repairs.append(("resume", host.name))
            if host.disk.full:
                repairs.append(("free", host.name))
            elif host.has_failed_replicas:
                repairs.append(("kill", host.name))
        if self.world.network.cut:
            repairs.append(("heal",))
        if self.world.network.filters:
            repairs.append(("release",))
        return repairs

    # --- using the cluster -----------------------------------------------------------------------

    def _use(self, run_ms: float | None = None) -> Action:
        chance = self.chance
        ledger = self._partition()
        if ledger is None:
            if not self.world.ledger.topic_ids and chance.random() < 0.5:
                return self._act("create", self._some_host().name, *self.plan.topics[0])
            return self._act("wait", run_ms=200)
        kind = chance.random()
        name = ledger.topic_partition
        host = self._leader(ledger) if chance.random() < 0.85 else None
        host = host or chance.choice(list(self.world.hosts.values()))
        if kind < 0.75:
            return self._produce(ledger, host, run_ms=run_ms)
        if kind < 0.83:
            offset = max(0, ledger.committed_end - chance.randrange(6))
            return self._act("consume", host.name, name, offset, run_ms=run_ms)
        if kind < 0.9:
            return self._act("latest", host.name, name, run_ms=run_ms)
        return self._act("wait")

    def _produce(
        self,
        ledger: PartitionLedger,
        host: Host,
        acks: str | None = None,
        run_ms: float | None = None,
    ) -> Action:
        chance = self.chance
        acks = acks or chance.choices(("all", "1", "0"), (65, 30, 5))[0]
        words: list[object] = ["produce", host.name, ledger.topic_partition, acks]
        words.append(chance.choice((1, 1, 1, 2)))
        if acks == "all" and chance.random() < 0.4:
            words += ["producer", chance.randrange(2)]
        return self._act(*words, run_ms=run_ms)

    def _transact(self, chance: Random) -> Action:
        """With a chance of its own: lives without transactions stay as they were."""
        ledgers = self.world.ledger.live()
        if not ledgers:
            return Action(("wait",), 5)
        ledger = chance.choice(ledgers)
        host = self._leader(ledger) if chance.random() < 0.9 else None
        name = (host or chance.choice(list(self.world.hosts.values()))).name
        kind, slot = chance.random(), str(chance.randrange(4))
        words: tuple[str, ...] = ("txn-write", name, str(ledger.topic_partition), slot)
        if kind > 0.97:
            words = ("txn-coordinator",)
        elif kind > 0.8:
            offset = max(0, ledger.committed_end - chance.randrange(12))
            words = ("txn-consume", name, str(ledger.topic_partition), str(offset))
        elif kind > 0.55:
            words = ("txn-end", slot, chance.choice(("commit", "commit", "abort")))
        run_ms = round(chance.choice((3, 10, 10, 40, 150)) * chance.random(), 3)
        return Action(words, run_ms, chance.getrandbits(32))

    def _coordinate(self, chance: Random) -> Action:
        """As `_transact`, of clients that ask the coordinators of the product."""
        ledgers = self.world.ledger.live()
        if not ledgers:
            return Action(("wait",), 5)
        ledger = chance.choice(ledgers)
        words: tuple[str, ...]
        kind, group = chance.random(), f"g{chance.randrange(2)}:{ledger.topic_partition}"
        if kind < 0.08:
            words = ("offset-commit", group)
        elif kind < 0.2:
            words = ("offset-fetch", group, chance.choice(("stable", "stable", "any")))
        elif kind < 0.4:
            host = self._leader(ledger) or chance.choice(list(self.world.hosts.values()))
            offset = max(0, ledger.committed_end - chance.randrange(12))
            words = ("txn-consume", host.name, str(ledger.topic_partition), str(offset))
        else:
            slot = chance.randrange(3)
            outcome = chance.choice(("commit", "commit", "abort"))
            chosen = chance.sample(ledgers, min(len(ledgers), chance.choice((1, 2, 2))))
            words = ("transact", str(slot), str(1 + slot % 2), outcome)
            words += tuple(str(each.topic_partition) for each in chosen)
            words += (group,) if chance.random() < 0.7 else ()
        run_ms = round(chance.choice((3, 10, 40, 150, 600)) * chance.random(), 3)
        return Action(words, run_ms, chance.getrandbits(32))

    # --- mishaps ---------------------------------------------------------------------------------

    def _mishap(self, kind: str) -> Iterator[Action]:
        chance, act = self.chance, self._act
        host = self._some_host()
        name = host.name
        match kind:
            case "kill":
                yield act("kill", name)
                if chance.random() < 0.4:
                    yield act("restart", name)
            case "terminate":
                yield act("terminate", name)
                if chance.random() < 0.3:
                    yield self._use()
            case "power":
                yield act("power", name, round(chance.random(), 2))
                if chance.random() < 0.7:
                    yield act("restart", name)
            case "disk" if chance.random() < 0.5:
                yield act("replace-disk", name)
                if chance.random() < 0.7:
                    yield act("restart", name)
            case "full" if chance.random() < 0.4:
                yield act("fill", name)
            case "pause":
                yield act("pause", name)
                if chance.random() < 0.6:
                    yield self._use()
                    yield act("resume", name)
            case "cut" | "one-way":
                other = chance.choice(["Z", *(h.name for h in self.world.hosts.values())])
                if other != name:
                    one_way = kind == "one-way" and other != "Z"
                    yield act("cut-one-way" if one_way else "cut", name, other)
            case "isolate":
                yield act("isolate", name)
            case "expire":
                yield act("expire", name)
            case "fault":
                controller = self.world.controller() or host
                who = controller.name if chance.random() < 0.8 else name
                yield act("fault", who, chance.choice(("lost", "applied")))
                yield from self._mishap(chance.choice(("kill", "expire", "pause")))
            case "break":
                yield act("break", name)
            case "hold":
                yield from self._hold_back()
            case "clock":
                yield act("clock", name, chance.choice((-60_000, 3_000, 60_000)))
            case "reassign":
                yield from self._reassign()
            case "liar":
                yield from self._lies(host)
            case "topics" | "records" | "configs" | "elections":
                yield from self._administer(kind)

    def _lies(self, host: Host) -> Iterator[Action]:
        """Somebody lies to whoever leads or to anybody, sometimes in a flood, and then does not."""
        chance, act = self.chance, self._act
        ledger = self._partition()
        if ledger is None:
            return
        asked = self._leader(ledger) or host
        for _ in range(chance.choice((1, 3, 10))):
            lie, times = chance.choice(list(KNOWN)), chance.choice((1, 1, 1, 20))
            yield act(
                "lie", asked.name, ledger.topic_partition, lie, chance.randrange(1000), times,
                run_ms=round(3 * chance.random(), 3),
            )  # fmt: skip
        yield self._produce(ledger, asked)

    def _hold_back(self) -> Iterator[Action]:
        """Messages of one kind stay on their way while something else happens, and come late."""
        chance, act = self.chance, self._act
        if self.world.network.filters:
            yield act("break-off")
            yield act("release")
            return
        ledger = self._partition()
        leader, follower = self._leader(ledger), self._follower(ledger)
        if ledger is None or leader is None or follower is None:
            return
        kind, source, target = chance.choice(
            (
                ("update_state", "*", leader.name),
                ("update_state", "*", follower.name),
                ("alter_partition", leader.name, "*"),
                ("replica_fetch", follower.name, leader.name),
            )
        )
        yield act("hold", kind, source, target)
        yield from self._records(ledger, leader)
        mishaps = [each for each in self.plan.mishaps if each != "hold"]
        if mishaps and chance.random() < 0.7:
            yield from self._mishap(chance.choice(mishaps))
        if chance.random() < 0.5:
            yield act("break-off")
            yield from self._records(ledger, leader)
        if chance.random() < 0.7:
            yield act("release")

    def _administer(self, kind: str) -> Iterator[Action]:
        chance, act = self.chance, self._act
        ledger = self._partition()
        alive = self._alive()
        if ledger is None or not alive:
            return
        asked, topic = chance.choice(alive).name, ledger.topic_partition.topic
        if kind == "topics" and chance.random() < 0.3:
            yield act("delete", asked, topic)
            if topic == "t":
                yield self._use()
                yield act("create", asked, *self.plan.topics[0])
        elif kind == "records":
            leader = self._leader(ledger)
            before = max(0, ledger.committed_end - chance.choice((0, 1, 2, 5)))
            yield act("delete-records", leader.name if leader else asked, ledger, before)
        elif kind == "configs":
            yield act(
                "configure", asked, topic, f"min.insync.replicas={chance.choice((1, 1, 2, 2, 3))}"
            )
        elif kind == "elections" and chance.random() < 0.2:
            yield act("depose", *(["softly"] if chance.random() < 0.5 else []))
        elif kind == "elections":
            unclean = chance.random() < 0.02
            how = "unclean" if unclean else "preferred"
            yield act("elect", asked, ledger.topic_partition, how)

    def _reassign(self) -> Iterator[Action]:
        """Replicas move; then something else happens, and perhaps another wish."""
        chance, act = self.chance, self._act
        ledger, alive = self._partition(), self._alive()
        if ledger is None or not alive:
            return
        yield act("reassign", chance.choice(alive).name, ledger, self._target(ledger))
        leader = self._leader(ledger)
        if leader is not None and chance.random() < 0.6:
            yield from self._records(ledger, leader)
        if chance.random() < 0.4:
            yield from self._mishap(chance.choice(self.plan.mishaps))
        if chance.random() < 0.3:
            again = "cancel" if chance.random() < 0.6 else self._target(ledger)
            yield act("reassign", chance.choice(alive).name, ledger, again)

    def _target(self, ledger: PartitionLedger) -> str:
        """Mostly as many replicas as there are; of brokers that matter, or of any."""
        chance, names = self.chance, [host.name for host in self.world.hosts.values()]
        count = len(self._replicas(ledger)) if chance.random() < 0.7 else chance.randint(1, 3)
        return "".join(chance.sample(names, min(max(count, 1), len(names))))

    # --- stories ---------------------------------------------------------------------------------

    def _gambit(self) -> Iterator[Action]:
        """One of the races, as far as the life allows its mishaps."""
        ledger = self._partition()
        leader, follower = self._leader(ledger), self._follower(ledger)
        if ledger is None or leader is None or follower is None:
            return
        stories = [
            (self._kill_while_replicating, ("kill",)),
            (self._flip_flop, ("kill",)),
            (self._everybody_dies, ("kill", "power")),
            (self._zombie, ("pause", "isolate", "cut")),
            (self._bounce_with_new_disk, ("disk", "power")),
            (self._controller_in_trouble, ("fault", "pause")),
            (self._lag, ("cut", "pause", "one-way")),
            (self._expired, ("expire",)),
            (self._skipped_term, ("pause", "cut")),
        ]
        possible = [
            story for story, needs in stories if any(need in self.plan.mishaps for need in needs)
        ]
        if possible:
            yield from self.chance.choice(possible)(ledger, leader, follower)

    def _records(self, ledger: PartitionLedger, host: Host, most: int = 3) -> Iterator[Action]:
        for _ in range(1 + self.chance.randrange(most)):
            yield self._produce(ledger, host, run_ms=round(4 * self.chance.random(), 3))

    def _kill_while_replicating(
        self, ledger: PartitionLedger, leader: Host, follower: Host
    ) -> Iterator[Action]:
        victim = self.chance.choice((leader, leader, follower))
        yield from self._records(ledger, leader)
        yield self._act("kill", victim.name)
        yield from self._records(ledger, self.chance.choice((leader, follower)))
        yield self._act("restart", victim.name)

    def _flip_flop(self, ledger: PartitionLedger, leader: Host, follower: Host) -> Iterator[Action]:
        """One-record epochs (KIP-279)."""
        pair = [leader, follower]
        for _ in range(self.chance.choice((2, 3, 4))):
            yield self._produce(ledger, pair[0], "1", run_ms=round(3 * self.chance.random(), 3))
            yield self._act("kill", pair[0].name, run_ms=600 + 1500 * self.chance.random())
            yield self._produce(ledger, pair[1], "1", run_ms=round(3 * self.chance.random(), 3))
            yield self._act("restart", pair[0].name)
            pair.reverse()

    def _everybody_dies(
        self, ledger: PartitionLedger, leader: Host, follower: Host
    ) -> Iterator[Action]:
        hosts = [self.world.hosts[member] for member in self._replicas(ledger)]
        self.chance.shuffle(hosts)
        power = "power" in self.plan.mishaps and self.chance.random() < 0.5
        for host in hosts:
            words = ("power", host.name, "0.5") if power else ("kill", host.name)
            yield self._act(*words)
            yield from self._records(ledger, self.chance.choice(hosts), 1)
        self.chance.shuffle(hosts)
        for host in hosts:
            yield self._act("restart", host.name)
            if self.chance.random() < 0.5:
                yield from self._records(ledger, host, 1)

    def _zombie(self, ledger: PartitionLedger, leader: Host, follower: Host) -> Iterator[Action]:
        how = self.chance.choice(
            [each for each in ("pause", "isolate", "cut") if each in self.plan.mishaps]
        )
        yield from self._records(ledger, leader)
        words = (how, leader.name, "Z") if how == "cut" else (how, leader.name)
        yield self._act(*words, run_ms=3 * self.chance.random())
        yield from self._records(ledger, leader)
        yield self._act("wait", run_ms=700 + 1500 * self.chance.random())
        yield from self._records(ledger, follower)
        yield from self._records(ledger, leader)
        if how == "pause":
            yield self._act("resume", leader.name)
        else:
            yield self._act("heal")

    def _bounce_with_new_disk(
        self, ledger: PartitionLedger, leader: Host, follower: Host
    ) -> Iterator[Action]:
        """A follower returns empty, or lacking something, while the leader goes too (KIP-903)."""
        chance = self.chance
        yield from self._records(ledger, leader)
        if "disk" in self.plan.mishaps and chance.random() < 0.7:
            yield self._act("replace-disk", follower.name, run_ms=10 * chance.random())
        else:
            yield self._act("power", follower.name, "0.0", run_ms=10 * chance.random())
        yield self._act("restart", follower.name, run_ms=chance.choice((5, 300, 1500, 2500)))
        if chance.random() < 0.6:
            yield self._act(chance.choice(("kill", "pause")), leader.name)
        yield from self._records(ledger, follower)

    def _controller_in_trouble(
        self, ledger: PartitionLedger, leader: Host, follower: Host
    ) -> Iterator[Action]:
        chance = self.chance
        controller = self.world.controller()
        if controller is None:
            return
        victim = chance.choice((leader, follower))
        if "fault" in self.plan.mishaps and chance.random() < 0.6:
            for _ in range(chance.choice((1, 2))):
                fault = chance.choice(("lost", "applied"))
                yield self._act("fault", controller.name, fault, run_ms=0)
            yield self._act("expire", victim.name)
        else:
            yield self._act("expire", victim.name, run_ms=4 * chance.random())
            yield self._act("pause", controller.name, run_ms=300 + 1800 * chance.random())
            yield from self._records(ledger, leader)
            yield self._act("resume", controller.name)
        yield from self._records(ledger, leader)

    def _lag(self, ledger: PartitionLedger, leader: Host, follower: Host) -> Iterator[Action]:
        chance = self.chance
        how = chance.choice(
            [each for each in ("cut", "pause", "one-way") if each in self.plan.mishaps]
        )
        words = {
            "cut": ("cut", leader.name, follower.name),
            "one-way": ("cut-one-way", follower.name, leader.name),
            "pause": ("pause", follower.name),
        }[how]
        yield from self._records(ledger, leader)
        yield self._act(*words)
        yield from self._records(ledger, leader)
        yield self._act("wait", run_ms=500 + 3500 * chance.random())
        yield from self._records(ledger, leader)
        yield self._act("resume", follower.name) if how == "pause" else self._act("heal")
        yield from self._records(ledger, leader)

    def _expired(self, ledger: PartitionLedger, leader: Host, follower: Host) -> Iterator[Action]:
        victim = self.chance.choice((leader, follower))
        yield from self._records(ledger, leader)
        yield self._act("expire", victim.name, run_ms=5 * self.chance.random())
        yield from self._records(ledger, leader)

    def _skipped_term(
        self, ledger: PartitionLedger, leader: Host, follower: Host
    ) -> Iterator[Action]:
        """A leads, then B, then A again, and A has not heard of B's term (R4)."""
        chance = self.chance
        if "pause" in self.plan.mishaps:
            yield self._act("pause", leader.name, run_ms=900 + 1500 * chance.random())
        else:
            yield self._act("isolate", leader.name, run_ms=900 + 1500 * chance.random())
        yield from self._records(ledger, follower)
        if "pause" in self.plan.mishaps:
            yield self._act("resume", leader.name, run_ms=50 * chance.random())
        else:
            yield self._act("heal", run_ms=50 * chance.random())
        yield self._act("elect", follower.name, ledger.topic_partition, "preferred")
        yield self._act("kill", follower.name)
        yield from self._records(ledger, leader)
