"""A small cluster with one topic for directed scenarios: actions one after the other, and messages
that are held back until the scenario lets them go.

    with DirectedCluster("ABC", minimum=2) as cluster:
        held = cluster.hold("update_state", target="A")
        cluster.do("kill B", run_ms=2_000)
        cluster.release(held)
        cluster.end()

After every action all invariants are checked; `end` heals everything and asks for liveness, as at
the end of a life. A violation is raised with the story so far."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType

from minikafka.model import PartitionState, TopicPartition
from tests.simulation import life
from tests.simulation.actions import Action, Player
from tests.simulation.network import Exchange
from tests.simulation.states import PartitionLedger, Violation
from tests.simulation.walk import Plan
from tests.simulation.world import World, patched

T0 = TopicPartition("t", 0)


class DirectedCluster:
    """`replicas` by name, the preferred leader first; `brokers` may be more. The first broker that
    starts is controller: `controller`."""

    def __init__(
        self,
        replicas: str = "ABC",
        *,
        brokers: int = 3,
        minimum: int = 1,
        controller: str = "A",
        settings: Mapping[str, str] | None = None,
        configs: str = "",
    ) -> None:
        self.replicas = replicas
        self.settings = {"leader.imbalance.check.interval.seconds": "1000", **(settings or {})}
        self.world = World(brokers, self.settings, seed=1, story=True)
        self.world.network.slowness = 0.0
        words = ("t", replicas, f"min.insync.replicas={minimum}", *configs.split())
        self._plan = Plan(brokers, dict(self.settings), (words,), (), 0.0, 0.0, 0.0)
        self._first = controller
        self.player = Player(self.world)
        self._life = life._Life(self.world, self._plan)
        self._stack = ExitStack()
        self._words = words

    def __enter__(self) -> DirectedCluster:
        gc.disable()
        self._stack.enter_context(patched(self.world))
        self.do(f"restart {self._first}", run_ms=500)
        for name in self.world.names.values():
            self.do(f"restart {name}")
        self.until(
            lambda: len(self.world.zookeeper.tree.children("/brokers/ids")) == len(self.world.hosts)
        )
        self.run(200)
        self.do(f"create {self._first} {' '.join(self._words)}", run_ms=200)
        self.do("producer A 0")
        self.until(lambda: 0 in self.player.clients.producers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            life.close(self.world)
        finally:
            self._stack.close()
            gc.enable()
        if isinstance(error, Violation):
            raise AssertionError("\n".join(self.world.lines)) from error

    # --- doing -----------------------------------------------------------------------------------

    def do(self, line: str, run_ms: float = 0) -> None:
        """An action in the words of actions.py."""
        self.player.play(Action(tuple(line.split()), run_ms, 1))
        self._check()

    def run(self, run_ms: float) -> None:
        self.world.run(run_ms)
        self._check()

    def _check(self) -> None:
        self._life.check()

    def until(self, condition: Callable[[], object], most_ms: float = 20_000) -> None:
        """Let the world run until this is so."""
        waited_ms = 0.0
        while not condition():
            assert waited_ms < most_ms, "\n".join(self.world.lines[-60:])
            self.run(5)
            waited_ms += 5

    def produce(self, leader: str, acks: str = "all", run_ms: float = 0, more: str = "") -> None:
        self.do(f"produce {leader} t-0 {acks} 1 {more}", run_ms)

    def end(self) -> None:
        """Everything is healed: it comes into sync, takes records, and has all that it took."""
        self._life.end()

    # --- messages --------------------------------------------------------------------------------

    def hold(
        self,
        kind: str,
        *,
        source: str = "",
        target: str = "",
        where: Callable[[Exchange], bool] = lambda _: True,
        answers: bool = False,
    ) -> list[Exchange]:
        """Keep back the requests of this kind from now on, or the answers to them; the list fills.
        The callers wait."""
        held: list[Exchange] = []
        number = {host.name: host.number for host in self.world.hosts.values()}

        def choose(exchange: Exchange) -> str | None:
            if exchange.kind != kind or not where(exchange):
                return None
            if source and exchange.source_number != number[source]:
                return None
            if target and exchange.target != number[target]:
                return None
            held.append(exchange)
            return "hold answer" if answers else "hold"

        self.world.network.filters.append(choose)
        return held

    def unanswered(self, kind: str, source: str) -> None:
        """From now on such requests are handled, but the connection breaks before the answer."""
        number = self.player.host(source).number
        self.world.network.filters.append(
            lambda exchange: (
                "unanswered" if (exchange.kind, exchange.source_number) == (kind, number) else None
            )
        )

    def pass_all(self) -> None:
        """Nothing is held back any more, but for what is held already."""
        self.world.network.filters.clear()

    def release(self, held: list[Exchange], run_ms: float = 20) -> None:
        """What was held arrives, in the order in which it was sent."""
        for exchange in list(held):
            exchange.arrive()
            self.run(1)
        self.run(run_ms)

    def break_off(self, held: list[Exchange], run_ms: float = 5) -> None:
        """The callers are told that the connection broke; the requests are still on their way."""
        for exchange in list(held):
            exchange.fail_later(0.0, "the connection broke")
        self.run(run_ms)

    # --- looking ---------------------------------------------------------------------------------

    @property
    def ledger(self) -> PartitionLedger:
        found = self.world.ledger.current(T0)
        assert found is not None
        return found

    @property
    def state(self) -> PartitionState:
        assert self.ledger.state is not None
        return self.ledger.state

    @property
    def leader(self) -> str:
        return "none" if self.state.leader == -1 else self.world.name(self.state.leader)

    def leads(self, name: str) -> bool:
        """Does that broker know that it leads t-0? `leader` is what ZooKeeper says."""
        return self.world.leads(self.player.host(name), self.ledger.topic_partition)

    @property
    def isr(self) -> str:
        return "".join(sorted(self.world.name(member) for member in self.state.isr))

    @property
    def acknowledged(self) -> int:
        """Batches that were acknowledged with acks=all."""
        return len(self.ledger.acknowledged)

    def said(self, words: str) -> bool:
        """Is this in the story?"""
        return any(words in line for line in self.world.lines)

    def start_of(self, name: str) -> int:
        """Where the log of t-0 begins there; -1 without one."""
        log = self.world.ledger.log_of(self.ledger, self.player.host(name).number)
        return -1 if log is None else log.base

    def end_of(self, name: str) -> int:
        """Where the log of t-0 ends there; -1 without one."""
        log = self.world.ledger.log_of(self.ledger, self.player.host(name).number)
        return -1 if log is None else log.end


@contextmanager
def a_term_that_a_missed(before: int = 0) -> Iterator[tuple[DirectedCluster, list[Exchange]]]:
    """After `before` records that all have: A leads and sends C two records that B does not get;
    then B leads, without A's hearing of it, and C cuts them off; then A leads again. Gives C's
    fetch after the two records, still on its way."""
    settings = {"replica.lag.time.max.ms": "20000"}
    with DirectedCluster("BAC", brokers=4, controller="D", settings=settings) as cluster:
        for _ in range(before):
            cluster.produce("B", run_ms=100)
        cluster.do("kill B")
        cluster.until(lambda: cluster.leader == "A")
        cluster.do("restart B")
        cluster.until(lambda: cluster.isr == "ABC")
        cluster.run(100)
        cluster.do("cut-one-way A B")
        cluster.produce("A", "1", run_ms=20)
        old = cluster.hold("replica_fetch", source="C", target="A")
        cluster.produce("A", "1", run_ms=20)
        assert old
        assert (cluster.end_of("C") - before, cluster.end_of("B") - before) == (2, 0)
        held = cluster.hold("update_state", source="D", target="A")
        cluster.do("elect D t-0 preferred", run_ms=100)
        cluster.produce("B", "1", run_ms=100)
        assert cluster.leader == "B"
        assert [cluster.end_of(name) - before for name in "ACB"] == [2, 1, 1]
        cluster.do("kill B")
        cluster.do("expire-dead B", run_ms=100)
        assert (cluster.leader, cluster.isr) == ("A", "AC")
        cluster.pass_all()
        cluster.hold("replica_fetch", source="C", target="A")
        cluster.break_off(held, run_ms=500)
        yield cluster, old
