"""Many partitions: an event costs what it is about, and what is long is done in turns."""

from __future__ import annotations

from typing import Any

import pytest

from minikafka.core.control.commands import NextTurn, WriteStates
from minikafka.core.control.context import ClusterContext
from minikafka.core.control.turns import AT_ONCE
from minikafka.model import NO_LEADER, TopicPartition
from tests.helpers.controller_bench import Bench

MANY = 2 * AT_ONCE + 10
ONE = TopicPartition("one", 0)


@pytest.fixture
def bench() -> Bench:
    """Four brokers; a topic of many partitions on A, B and C, and one of a single partition."""
    bench = Bench()
    bench.register(1, 2, 3, 4)
    bench.elect()
    bench.create("many", *[[1 + p % 3, 1 + (p + 1) % 3] for p in range(MANY)])
    bench.create("one", [4, 1])
    bench.messages()
    bench.commands.clear()
    return bench


def seen_in(monkeypatch: pytest.MonkeyPatch, bench: Bench, event: Any) -> set[TopicPartition]:
    """The partitions that are looked at while an event is handled."""
    seen: set[TopicPartition] = set()
    view = ClusterContext.view

    def noted(self: ClusterContext, tp: TopicPartition) -> Any:
        seen.add(tp)
        return view(self, tp)

    operation, result = event, None
    with monkeypatch.context() as patch:
        patch.setattr(ClusterContext, "view", noted)
        while True:
            try:
                result = bench._execute(operation.send(result))
            except StopIteration:
                return seen


def turns(bench: Bench) -> list[int | None]:
    """How many States were written at once, and where others had their turn (None)."""
    found: list[int | None] = []
    for command in bench.commands:
        if isinstance(command, WriteStates):
            found.append(len(command.changes))
        elif isinstance(command, NextTurn):
            found.append(None)
    bench.commands.clear()
    return found


def test_a_broker_that_dies_is_looked_for_where_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.kill(4)
    live = bench.zookeeper.live_brokers()
    assert seen_in(monkeypatch, bench, bench.core.on_brokers(live)) == {ONE}
    assert bench.line("one") == "Leader=A Epoch=1 ISR={A}"


def test_what_is_as_it_was_is_not_looked_at(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = dict(bench.zookeeper.topics)
    assert seen_in(monkeypatch, bench, bench.core.on_topics(topics)) == set()
    assert seen_in(monkeypatch, bench, bench.core.on_configs()) == set()


def test_a_failed_disk_is_about_its_partitions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = [(ONE, bench.zookeeper.topics["one"].topic_id)]
    event = bench.core.on_failed_replicas(1, bench.epoch(1), failed)
    assert seen_in(monkeypatch, bench, event) == {ONE}
    bench.run(bench.core.delete_topics(["one"]))
    bench.messages()
    for broker_id in (1, 4):
        bench.run(bench.core.on_replicas_deleted(broker_id, failed))
    assert "one" not in bench.zookeeper.topics
    assert bench.core.context.failed_replicas == {}
    bench.core.context.check_indexes()


def test_many_partitions_get_their_states_in_turns(bench: Bench) -> None:
    bench.create("more", *[[1, 2]] * (AT_ONCE + 1))
    assert turns(bench) == [AT_ONCE, None, 1]


def test_a_dead_broker_of_many_partitions_leaves_in_turns(bench: Bench) -> None:
    bench.kill(2)
    bench.see_brokers()
    held = sum(2 in (1 + p % 3, 1 + (p + 1) % 3) for p in range(MANY))
    assert turns(bench) == [AT_ONCE, None, held - AT_ONCE]
    assert not bench.core.context.in_isr_of(2)
    bench.register(2)
    bench.see_brokers()
    assert turns(bench) == [None, None], "it is told of everything"
    assert len(bench.message_to(2).partitions) == MANY + 1


def test_a_broker_of_many_partitions_shuts_down_in_turns(bench: Bench) -> None:
    led = bench.run(bench.core.on_controlled_shutdown(1, bench.epoch(1)))
    assert led == []
    held = sum(1 in (1 + p % 3, 1 + (p + 1) % 3) for p in range(MANY)) + 1
    assert turns(bench) == [AT_ONCE, None, held - AT_ONCE]


def test_what_was_broken_off_is_looked_at_by_the_next_event(bench: Bench) -> None:
    bench.kill(2)
    operation = bench.core.on_brokers(bench.zookeeper.live_brokers())
    written = operation.send(None)
    assert isinstance(written, WriteStates)
    operation.send(bench._execute(written))
    operation.close()
    bench.run(bench.core.rebalance(100))
    states = bench.zookeeper.states.values()
    assert not any(2 in state.isr for state in states if state.leader != NO_LEADER)
