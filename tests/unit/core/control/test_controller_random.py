"""The controller under random events, beside a naive twin, and with its invariants checked.

The twin knows nothing of marks, contexts or outboxes. It writes down for each member of an ISR with
which registration it was admitted, and after each event recomputes each partition from the rules as
they stand in replication.md, in plain sets. Invariants 1, 3, 13 and 14 (section 7) are checked on
every State that reaches ZooKeeper, whoever wrote it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minikafka.core.control.commands import DeposedError, StateChange
from minikafka.errors import MinikafkaError
from minikafka.model import NO_LEADER, BrokerInfo, IsrProposal, PartitionState, TopicPartition
from tests.helpers.amounts import amount
from tests.helpers.cluster_store import FakeZooKeeper
from tests.helpers.controller_bench import Bench

BROKERS = (1, 2, 3, 4)
REPLICAS = ([1, 2, 3], [2, 3], [3], [4, 1, 2, 3])


# --- the twin ------------------------------------------------------------------------------------


@dataclass
class TwinPartition:
    """`isr`: member -> the registration with which it was admitted."""

    replicas: list[int]
    leader: int
    leader_epoch: int
    version: int
    isr: dict[int, BrokerInfo]

    def set(self, leader: int, isr: dict[int, BrokerInfo]) -> None:
        if leader != self.leader or set(self.isr) - set(isr):
            self.leader_epoch += 1
        self.leader, self.isr, self.version = leader, isr, self.version + 1


def same(admitted: BrokerInfo, now: BrokerInfo | None) -> bool:
    return now is not None and now.broker_epoch == admitted.broker_epoch


def lost(admitted: BrokerInfo, now: BrokerInfo | None) -> bool:
    return (
        now is not None
        and now.broker_epoch != admitted.broker_epoch
        and (now.dirty or now.storage_id != admitted.storage_id)
    )


@dataclass
class Twin:
    partitions: dict[TopicPartition, TwinPartition] = field(default_factory=dict)
    live: dict[int, BrokerInfo] = field(default_factory=dict)
    leaving: set[int] = field(default_factory=set)
    unclean: bool = False

    def take_brokers(self, live: dict[int, BrokerInfo]) -> None:
        known, self.live = self.live, dict(live)
        self.leaving -= {b for b in self.leaving if live.get(b) != known.get(b)}
        for p in self.partitions.values():
            self.fail(p)
            self.start(p)

    def fail(self, p: TwinPartition) -> None:
        failed = {m for m in p.isr if not same(p.isr[m], self.live.get(m))}
        if p.leader == NO_LEADER or not failed:
            return
        rest = {m: b for m, b in p.isr.items() if m not in failed}
        if not rest:
            p.set(NO_LEADER, {m: b for m, b in p.isr.items() if not lost(b, self.live.get(m))})
        elif p.leader in rest:
            p.set(p.leader, rest)
        else:
            first = [r for r in p.replicas if r in rest]
            p.set(([r for r in first if r not in self.leaving] or first)[0], rest)

    def start(self, p: TwinPartition) -> None:
        if p.leader != NO_LEADER:
            return
        gone = {m for m, b in p.isr.items() if lost(b, self.live.get(m))}
        able = [r for r in p.replicas if r in p.isr and r in self.live and r not in gone]
        able = [r for r in able if r not in self.leaving] or able
        if able:
            p.set(able[0], {r: self.live[r] for r in able})
            return
        anybody = [r for r in p.replicas if r in self.live]
        anybody = [r for r in anybody if r not in gone] or anybody
        anybody = [r for r in anybody if r not in self.leaving] or anybody
        if self.unclean and anybody:
            p.set(anybody[0], {anybody[0]: self.live[anybody[0]]})
        elif gone:
            p.set(NO_LEADER, {m: b for m, b in p.isr.items() if m not in gone})

    def shut_down(self, leaver: int) -> None:
        self.leaving.add(leaver)
        for p in self.partitions.values():
            rest = {m: b for m, b in p.isr.items() if m != leaver}
            heirs = [r for r in p.replicas if r in rest and r not in self.leaving]
            if p.leader == leaver and heirs:
                p.set(heirs[0], rest)
            elif leaver in p.isr and p.leader not in (leaver, NO_LEADER):
                p.set(p.leader, rest)

    def propose(self, tp: TopicPartition, proposer: BrokerInfo, proposal: IsrProposal) -> None:
        """Takes it over, if the rules allow it."""
        p = self.partitions[tp]
        members = {member for member, _ in proposal.isr}
        eligible = all(
            member in p.replicas
            and member in self.live
            and member not in self.leaving
            and self.live[member].broker_epoch == epoch
            for member, epoch in proposal.isr
            if member not in p.isr
        )
        if (
            self.live.get(proposer.broker_id) == proposer
            and p.leader == proposer.broker_id
            and (proposal.leader_epoch, proposal.partition_version) == (p.leader_epoch, p.version)
            and proposer.broker_id in members
            and eligible
        ):
            p.set(p.leader, {m: p.isr.get(m) or self.live[m] for m in members})


# --- the machine ---------------------------------------------------------------------------------


@dataclass
class Machine:
    bench: Bench = field(default_factory=Bench)
    twin: Twin = field(default_factory=Twin)
    old_proposals: list[tuple[BrokerInfo, IsrProposal]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bench.register(*BROKERS)
        self.bench.put_topic("t", *REPLICAS)
        self.bench.elect()
        self.twin.live = self.bench.zookeeper.live_brokers()
        for tp, state in self.bench.zookeeper.states.items():
            isr = {m: self.twin.live[m] for m in state.isr}
            self.twin.partitions[tp] = TwinPartition(
                REPLICAS[tp.partition], state.leader, 0, 0, isr
            )

    def set_unclean(self, allowed: bool) -> None:
        self.bench.unclean_topics = {"t"} if allowed else set()
        self.twin.unclean = allowed

    def see(self) -> None:
        self.bench.see_brokers()
        self.twin.take_brokers(self.bench.zookeeper.live_brokers())

    def elect(self) -> None:
        self.twin.leaving.clear()  # a new controller does not know who was about to leave
        self.bench.elect()
        self.twin.take_brokers(self.bench.zookeeper.live_brokers())

    def shut_down(self, broker_id: int) -> None:
        known = self.bench.core.context.brokers.get(broker_id)
        if known is not None:
            self.bench.run(self.bench.core.on_controlled_shutdown(broker_id, known.broker_epoch))
            self.twin.shut_down(broker_id)

    def propose(self, rng: random.Random) -> None:
        """A leader proposes some ISR of known or outdated incarnations; perhaps it is an old
        proposal that comes again."""
        if self.old_proposals and rng.random() < 0.3:
            proposer, proposal = rng.choice(self.old_proposals)
        else:
            tp = TopicPartition("t", rng.randrange(len(REPLICAS)))
            state = self.bench.zookeeper.states[tp]
            leader = rng.choice(BROKERS) if rng.random() < 0.1 else state.leader
            live = self.bench.zookeeper.live_brokers()
            if leader not in live:
                return
            proposer = live[leader]
            members = [m for m in BROKERS if m == leader or rng.random() < 0.6]
            isr = tuple(
                (m, live[m].broker_epoch - (rng.random() < 0.1)) for m in members if m in live
            )
            proposal = IsrProposal(
                tp,
                self.bench.zookeeper.topics["t"].topic_id,
                state.leader_epoch - (rng.random() < 0.1),
                state.partition_version - (rng.random() < 0.1),
                isr,
            )
            self.old_proposals.append((proposer, proposal))
        try:
            self.bench.run(
                self.bench.core.alter_partition(
                    proposer.broker_id, proposer.broker_epoch, [proposal]
                )
            )
        except MinikafkaError:
            assert self.twin.live.get(proposer.broker_id) != proposer
        self.twin.propose(proposal.topic_partition, proposer, proposal)

    def compare(self) -> None:
        for tp, twin in self.twin.partitions.items():
            state = self.bench.zookeeper.states[tp]
            assert (state.leader, state.leader_epoch, state.partition_version) == (
                twin.leader,
                twin.leader_epoch,
                twin.version,
            ), tp
            assert {m: state.isr_storage[m] for m in state.isr} == {
                m: f"{b.storage_id}@{b.broker_epoch}" for m, b in twin.isr.items()
            }, tp
            assert self.bench.core.context.states[tp] == state


def step(machine: Machine, rng: random.Random) -> None:
    zookeeper, broker_id = machine.bench.zookeeper, rng.choice(BROKERS)
    match rng.choice(["kill", "start", "lose", "see", "see", "propose", "leave", "elect", "allow"]):
        case "kill":
            if broker_id in zookeeper.brokers:
                machine.bench.kill(broker_id)
        case "start":
            machine.bench.register(broker_id, dirty=rng.random() < 0.15)
        case "lose":
            if rng.random() < 0.3:
                machine.bench.register(broker_id, storage_id=f"disk-{zookeeper.zxid}")
        case "see":
            machine.see()
        case "propose":
            for _ in range(4):
                machine.propose(rng)
        case "leave":
            machine.shut_down(broker_id)
        case "elect":
            machine.elect()
        case "allow":
            machine.set_unclean(rng.random() < 0.2)
            machine.bench.run(machine.bench.core.on_configs())
            machine.twin.take_brokers(machine.twin.live)


# --- invariants ----------------------------------------------------------------------------------


def check_history(zookeeper: FakeZooKeeper, changes: list[StateChange]) -> None:
    """Invariants 1 and 3 of everything that was written."""
    last: dict[TopicPartition, PartitionState] = {}
    for written, change in zip(zookeeper.history, changes, strict=True):
        new, old = written.state, last.get(written.topic_partition)
        assert new == change.new
        last[written.topic_partition] = new
        assert new.leader == NO_LEADER or new.leader in new.isr
        assert new.isr or "lost its log" in change.reason
        if old is not None:
            assert new.partition_version == old.partition_version + 1
            moved = new.leader != old.leader or bool(set(old.isr) - set(new.isr))
            assert new.leader_epoch == old.leader_epoch + moved


@settings(max_examples=amount(150), deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
@example(seed=8370126, steps=20)
def test_the_controller_does_what_its_naive_twin_does(seed: int, steps: int) -> None:
    rng, machine = random.Random(seed), Machine()
    for _ in range(steps):
        step(machine, rng)
        machine.compare()
    check_history(machine.bench.zookeeper, machine.bench.changes)


@settings(max_examples=amount(60), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_brokers_are_told_ends_as_the_truth(seed: int) -> None:
    """Messages that are lost, merged and put back at random: every live broker ends with the newest
    State of every partition, and is never told an older one after a newer one."""
    rng, machine = random.Random(seed), Machine()
    told: dict[tuple[int, int], dict[TopicPartition, int]] = {}

    def deliver(reliable: bool) -> None:
        outbox = machine.bench.core.outbox
        for broker_id, info in outbox.brokers().items():
            message = outbox.take(broker_id, info.broker_epoch)
            if message is None:
                continue
            heard = told.setdefault((broker_id, info.broker_epoch), {})
            for metadata in message.partitions:
                version = metadata.state.partition_version
                assert version >= heard.get(metadata.topic_partition, 0)
                heard[metadata.topic_partition] = version
            if not reliable and rng.random() < 0.4:
                outbox.put_back(message)

    for _ in range(30):
        step(machine, rng)
        deliver(reliable=False)
    machine.see()
    deliver(reliable=True)
    truth = {tp: s.partition_version for tp, s in machine.bench.zookeeper.states.items()}
    for broker_id, info in machine.bench.zookeeper.live_brokers().items():
        assert told[broker_id, info.broker_epoch] == truth


@settings(max_examples=amount(60), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_deposed_controller_changes_nothing_whatever_it_tries(seed: int) -> None:
    """Two controllers: the older one goes on at random, and its writes have no effect."""
    rng, machine = random.Random(seed), Machine()
    for _ in range(10):
        step(machine, rng)
    zombie = machine.bench.core
    machine.elect()
    active = machine.bench.core
    for _ in range(20):
        machine.bench.core = active
        step(machine, rng)
        active = machine.bench.core
        machine.bench.core = zombie
        before = dict(machine.bench.zookeeper.states)
        live = machine.bench.zookeeper.live_brokers()
        for attempt in (zombie.on_brokers(live), zombie.rebalance(0)):
            try:
                machine.bench.run(attempt)
            except DeposedError:
                continue
        assert machine.bench.zookeeper.states == before


def test_the_twin_can_tell_right_from_wrong() -> None:
    """A controller that fails dead brokers before bounced ones is caught."""
    machine = Machine()
    machine.bench.kill(1)
    machine.bench.register(2, storage_id="empty")
    live = machine.bench.zookeeper.live_brokers()
    stale = {**live, 2: machine.bench.core.context.brokers[2]}
    machine.bench.run(machine.bench.core.on_brokers(stale))
    machine.bench.run(machine.bench.core.on_brokers(live))
    machine.twin.take_brokers(live)
    with pytest.raises(AssertionError):
        machine.compare()
