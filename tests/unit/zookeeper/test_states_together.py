"""States of many partitions: how they share multis, and that nobody sees it from outside."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control.commands import StateChange
from minikafka.model import PartitionState, TopicPartition
from minikafka.zookeeper import codec
from minikafka.zookeeper.fence import Fence, Lease
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.stores.fenced import FencedWriter
from minikafka.zookeeper.unreadable import UnreadableNodes
from tests.helpers.fenced_nodes import Cut, Nodes

WRITTEN, CONFLICT, DEPOSED = WriteOutcome.WRITTEN, WriteOutcome.CONFLICT, WriteOutcome.DEPOSED
LAYOUT = Layout("")
STATE = PartitionState(
    leader=1,
    leader_epoch=0,
    isr=(1, 2, 3),
    controller_epoch=1,
    partition_version=0,
    isr_storage={1: "a", 2: "b", 3: "c"},
)


def path(number: int) -> str:
    return LAYOUT.state("words", number)


def birth(number: int) -> StateChange:
    return StateChange(TopicPartition("words", number), None, STATE, "created")


def change(number: int, **changes) -> StateChange:
    """Over version 0."""
    new = replace(STATE, leader_epoch=1, partition_version=1, **changes)
    return StateChange(TopicPartition("words", number), STATE, new, "a test")


class Writer:
    """A controller of epoch 1, and `born` partitions that have a State."""

    def __init__(self, *cuts: Cut, born: int = 0) -> None:
        self.nodes = Nodes({LAYOUT.controller_epoch: (b"1", 5)}, list(cuts))
        self.lease: Lease | None = Lease(1, 5)
        for number in range(born):
            self.nodes.held[LAYOUT.partition("words", number)] = (b"", 0)
            self.nodes.held[path(number)] = (codec.encode_state(STATE), 0)
        fence = Fence(self.nodes, LAYOUT.controller_epoch, lambda: self.lease)  # type: ignore[arg-type]
        self.writer = FencedWriter(self.nodes, LAYOUT, fence, UnreadableNodes())  # type: ignore[arg-type]

    async def write(self, *changes: StateChange) -> list[WriteOutcome]:
        return await self.writer.write_states(changes)

    def versions(self, count: int) -> list[int]:
        return [self.nodes.held.get(path(number), (b"", -1))[1] for number in range(count)]


def election(nodes: Nodes) -> None:
    nodes.set(LAYOUT.controller_epoch, b"2")


async def test_nothing_to_write_is_nothing_to_send():
    bench = Writer()
    assert await bench.write() == []
    assert bench.nodes.sent == 0


async def test_many_states_are_sent_as_few_multis_each_with_one_check():
    bench = Writer()
    assert await bench.write(*map(birth, range(250))) == [WRITTEN] * 250
    assert bench.nodes.sizes == [201, 201, 101]  # the check, and two nodes for each
    assert await bench.write(*map(change, range(250))) == [WRITTEN] * 250
    assert bench.nodes.sizes[3:] == [101, 101, 51]
    assert bench.versions(250) == [1] * 250


async def test_a_multi_stays_far_below_what_zookeeper_takes():
    bench = Writer(born=30)
    long = {1: "x" * 50_000}
    assert await bench.write(*(change(n, isr_storage=long) for n in range(30))) == [WRITTEN] * 30
    assert set(bench.nodes.sizes) == {6}
    # One that is too large for any company goes alone.
    bench = Writer(born=3)
    huge = [change(0), change(1, isr_storage={1: "x" * 400_000}), change(2)]
    assert await bench.write(*huge) == [WRITTEN] * 3
    assert bench.nodes.sizes == [2, 2, 2]


@pytest.mark.parametrize("spoilt", [0, 49, 99])
async def test_a_conflict_of_one_keeps_no_other_from_being_written(spoilt):
    bench = Writer(born=120)
    bench.nodes.set(path(spoilt), b"by hand")
    outcomes = [WRITTEN] * 120
    outcomes[spoilt] = CONFLICT
    assert await bench.write(*map(change, range(120))) == outcomes
    assert bench.nodes.held[path(spoilt)] == (b"by hand", 1)
    assert bench.versions(120) == [1] * 120
    # One multi in vain, then each by itself; the other multi is not concerned.
    assert sorted(bench.nodes.sizes) == [2] * 100 + [21, 101]


async def test_partitions_that_were_made_by_halves_get_their_states_among_others():
    bench = Writer()
    bench.nodes.held[LAYOUT.partition("words", 1)] = (b"", 0)
    assert await bench.write(*map(birth, range(3))) == [WRITTEN] * 3
    assert bench.versions(3) == [0, 0, 0]


async def test_two_writes_of_one_partition_are_made_in_their_order():
    bench = Writer()
    assert await bench.write(birth(0), change(0), birth(1)) == [WRITTEN] * 3
    assert bench.versions(2) == [1, 0]
    assert await bench.write(change(0), change(1)) == [CONFLICT, WRITTEN]


async def test_births_and_changes_go_together():
    bench = Writer(born=1)
    assert await bench.write(change(0), birth(1)) == [WRITTEN] * 2
    assert bench.nodes.sizes == [4]


async def test_what_was_decided_under_another_controller_epoch_goes_with_nobody():
    bench = Writer(born=3)
    of_before = change(1, controller_epoch=0)
    assert await bench.write(change(0), of_before, change(2)) == [WRITTEN, DEPOSED, WRITTEN]
    assert bench.versions(3) == [1, 0, 1]


async def test_whoever_is_deposed_writes_nothing():
    bench = Writer(born=250)
    election(bench.nodes)
    assert await bench.write(*map(change, range(250))) == [DEPOSED] * 250
    assert bench.nodes.sent == 3
    assert bench.versions(250) == [0] * 250


# --- lost answers ---


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("born", [0, 250])
async def test_each_state_is_written_once_whichever_answer_is_lost(at, arrives, born):
    bench = Writer(born=born)
    bench.nodes.pass_first(at)
    bench.nodes.cuts.append(Cut(arrives))
    wanted = list(map(change if born else birth, range(250)))
    assert await bench.write(*wanted) == [WRITTEN] * 250
    assert bench.versions(250) == [1 if born else 0] * 250


@pytest.mark.parametrize("arrives", [True, False])
async def test_what_is_written_alone_may_lose_its_answer_too(arrives):
    bench = Writer(Cut(False), Cut(arrives), Cut(arrives), born=4)
    assert await bench.write(*map(change, range(4))) == [WRITTEN] * 4
    assert bench.versions(4) == [1] * 4


@pytest.mark.parametrize("arrives", [True, False])
async def test_the_next_controllers_states_are_not_taken_for_ones_own(arrives):
    def meanwhile(nodes: Nodes) -> None:
        election(nodes)
        nodes.set(path(1), codec.encode_state(replace(STATE, leader=3, controller_epoch=2)))

    bench = Writer(Cut(arrives, meanwhile), born=3)
    own = WRITTEN if arrives else DEPOSED
    assert await bench.write(*map(change, range(3))) == [own, DEPOSED, own]
    assert json.loads(bench.nodes.held[path(1)][0])["leader"] == 3


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_state_that_another_wrote_over_is_a_conflict_of_its_own(arrives):
    bench = Writer(Cut(arrives, lambda nodes: nodes.set(path(2), b"by hand")), born=4)
    assert await bench.write(*map(change, range(4))) == [WRITTEN, WRITTEN, CONFLICT, WRITTEN]
    assert bench.nodes.held[path(2)][0] == b"by hand"
