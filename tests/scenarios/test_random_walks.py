"""Random scenarios: the commands of the scenario files in any order, all invariants checked after
every step, and at the end everything healed: then the ISR must be whole again and take records.

A walk that fails prints its commands: pasted into a scenario file they play the same.
"""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minikafka.model import NO_LEADER
from tests.helpers.amounts import amount
from tests.scenarios.harness import Cluster
from tests.scenarios.runner import Runner

BROKERS = ("A", "B", "C", "D")
LINKS = ("A->B", "B->A", "A->C", "C->A", "B->C", "C->B", "D->A", "D->B", "D->C", "A->D", "B->D")
KINDS = ("*", "state", "fetch", "reply", "propose", "answer")

names = st.sampled_from(BROKERS)
replicas = st.sampled_from(BROKERS[:3])
moves = st.one_of(
    st.tuples(st.just("produce"), replicas, st.sampled_from(["all", "1"])),
    st.tuples(st.just("produce-leader")),
    st.tuples(st.sampled_from(["kill", "crash", "pause", "expire"]), names),
    st.tuples(st.sampled_from(["restart", "resume", "register"]), names),
    st.tuples(st.just("restart-damaged"), replicas, st.sampled_from(["empty", "dirty lost=1"])),
    st.tuples(st.just("restart-stale"), replicas),
    st.tuples(st.just("cut"), st.sampled_from(["A | B,C,D,ZK", "B | A,C,D,ZK", "A,B | C,D,ZK"])),
    st.tuples(st.just("cut"), st.sampled_from(["A,D | B,C,ZK", "A | B", "C | A,B", "D | ZK"])),
    st.tuples(st.just("heal")),
    st.tuples(st.sampled_from(["hold", "copy"]), st.sampled_from(LINKS), st.sampled_from(KINDS)),
    st.tuples(st.just("free"), st.sampled_from(["", "reversed", "twice", "drop"])),
    st.tuples(st.just("tick"), st.sampled_from(["1s", "4s", "8s", "30s"])),
    st.tuples(st.just("elect")),
    st.tuples(st.just("leave"), replicas),
    st.tuples(st.just("fault"), st.sampled_from(["lost", "applied"])),
)


class Walk:
    """Turns moves into commands that make sense where the cluster is now."""

    def __init__(self, min_insync: int) -> None:
        self.runner = Runner()
        self.commands: list[str] = []
        self.payloads = 0
        self.leaving: set[str] = set()
        self.do(f"cluster A,B,C,D replicas=A,B,C controller=D lag=10s min.insync={min_insync}")

    @property
    def cluster(self) -> Cluster:
        return self.runner.cluster

    def do(self, command: str) -> None:
        self.commands.append(command)
        try:
            self.runner.run(len(self.commands), command)
        except AssertionError as error:
            story = "\n".join(self.commands)
            raise AssertionError(f"{error}\n\nThe walk:\n\n{story}") from error

    def payload(self) -> str:
        self.payloads += 1
        return f"r{self.payloads}"

    def move(self, kind: str, *words: str) -> None:
        node = self.cluster.nodes.get(words[0]) if words else None
        up = node is not None and node.up
        match kind:
            case "produce" if up:
                self.do(f"produce {self.payload()} at={words[0]} acks={words[1]}")
            case "produce-leader":
                self.do(f"produce {self.payload()}")
            case "kill" | "crash" | "pause" | "expire" if up:
                self.do(f"{kind} {words[0]}")
            case "restart" if not up:
                self.do(f"restart {words[0]}")
            case "restart-damaged" if not up:
                self.do(f"restart {words[0]} {words[1]}")
            case "restart-stale" if not up:
                self.do(f"restart {words[0]} stale")
            case "resume" if node is not None and node.paused:
                self.do(f"resume {words[0]}")
            case "register" if node is not None and node.running:
                if self.cluster.reaches(words[0], "ZK"):
                    self.do(f"register {words[0]}")
            case "cut" if len(self.cluster.cuts) < 2:
                self.do(f"partition {words[0]}")
            case "heal" | "fault" | "tick":
                self.do(" ".join([kind, *words]))
            case "elect" if self.cluster.has_controller:
                self.do("elect preferred")
            case "leave" if up and self.cluster.has_controller:
                if node is not None and self.cluster.sees(node):
                    self.do(f"announce-shutdown {words[0]}")
                    self.leaving.add(words[0])
            case "hold" | "copy" if len(self.cluster.links) < 3:
                if not any(f"{li.sender}->{li.target}" == words[0] for li in self.cluster.links):
                    self.do(f"{kind} {words[0]} {words[1]}")
            case "free":
                self.free(words[0])

    def free(self, how: str) -> None:
        """The oldest link is let go."""
        if self.cluster.links:
            link = self.cluster.links[0]
            name = f"{link.sender}->{link.target}"
            if how == "drop" or not link.kept:
                self.do(f"drop {name}")
            else:
                self.do(f"release {name} {how}")

    def heal(self) -> None:
        """Everything works again, and time passes."""
        while self.cluster.links:
            self.free("drop")
        for node in self.cluster.nodes.values():
            if node.paused:
                self.do(f"resume {node.name}")
            if node.up and node.name in self.leaving:
                self.do(f"kill {node.name}")
            if not node.up:
                self.do(f"restart {node.name}")
        self.do("heal")
        self.do("tick 30s")

    def check_end(self, min_insync: int) -> None:
        """No. 19: all is well again. Without a leader only where the last logs were lost."""
        self.heal()
        state = self.cluster.state
        assert state is not None
        if state.leader == NO_LEADER:
            assert all(self.cluster.by_id[member].disk.damaged for member in state.isr), state
            return
        assert set(state.isr) == {1, 2, 3}, state
        last = self.payload()
        self.do(f"produce {last}")
        assert last in self.cluster.ledger.acknowledged
        leader = self.cluster.by_id[state.leader]
        for payload, offset in self.cluster.ledger.acknowledged.items():
            stored = leader.disk.at(offset)
            assert stored is not None
            assert stored.payload == payload


@settings(max_examples=amount(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 3), st.lists(moves, min_size=5, max_size=45))
def test_whatever_happens_nothing_acknowledged_is_lost(min_insync, steps):
    walk = Walk(min_insync)
    for step in steps:
        walk.move(*step)
    walk.check_end(min_insync)


@pytest.mark.parametrize("deaths", list(permutations("ABC")), ids="".join)
@pytest.mark.parametrize("returns", list(permutations("ABC")), ids="".join)
def test_all_die_in_every_order_and_return_in_every_order(deaths, returns):
    """Race 15: a record is acknowledged between any two deaths."""
    walk = Walk(1)
    walk.move("produce-leader")
    for name in deaths:
        walk.do(f"kill {name}")
        walk.move("produce-leader")
    for name in returns:
        walk.do(f"restart {name}")
    walk.check_end(1)
    assert len(walk.cluster.ledger.acknowledged) == 4
