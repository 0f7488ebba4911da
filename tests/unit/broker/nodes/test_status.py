"""broker/nodes/status.py: what is reported, when it is written, and who is noted to be gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from minikafka.api.nodes import ControllerReport, NodeStatus
from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.nodes.ports import LiveNode, SeenNode
from minikafka.broker.nodes.status import (
    QUIET_INTERVALS,
    SEEN_LIFETIME_MS,
    NodeLister,
    NodeMonitor,
    NodeReporter,
    Usage,
)
from minikafka.broker.ports import SessionLostError, StoreEvent
from minikafka.core.control.commands import DeposedError
from minikafka.errors import BrokerNotAvailableError, MinikafkaError
from minikafka.model import TopicPartition

INTERVAL_MS = 5_000


@dataclass
class FakeNodes:
    """The NodeStore in memory. `error` is raised by whatever comes next."""

    live: dict[int, LiveNode] = field(default_factory=dict)
    seen: dict[int, SeenNode] = field(default_factory=dict)
    published: list[tuple[NodeStatus, bool]] = field(default_factory=list)
    notify: Callable[[], None] | None = None
    outcome: WriteOutcome = WriteOutcome.WRITTEN
    error: Exception | None = None
    incarnation: int = 7

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    async def publish(self, status: NodeStatus, *, anew: bool) -> int:
        self._fail()
        self.published.append((status, anew))
        return self.incarnation

    async def read_live(self, notify: Callable[[], None] | None = None) -> dict[int, LiveNode]:
        self._fail()
        self.notify = notify
        return dict(self.live)

    async def read_controller(self) -> ControllerReport:
        self._fail()
        return ControllerReport(-1, 4, (2, 3))

    async def read_seen(self) -> dict[int, SeenNode]:
        return dict(self.seen)

    async def write_seen(self, seen: SeenNode) -> WriteOutcome:
        if self.outcome is WriteOutcome.WRITTEN:
            self.seen[seen.status.broker_id] = seen
        return self.outcome

    async def forget_seen(self, broker_id: int) -> WriteOutcome:
        del self.seen[broker_id]
        return WriteOutcome.WRITTEN


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


@dataclass
class Reporting:
    store: FakeNodes
    clock: Clock
    usage: list[Usage]
    reporter: NodeReporter


@pytest.fixture
def reporting() -> Reporting:
    store, clock, usage = FakeNodes(), Clock(), [Usage()]
    reporter = NodeReporter(store, 1, "A", INTERVAL_MS, lambda: usage[-1], clock, clock)
    return Reporting(store, clock, usage, reporter)


async def test_rates_are_means_over_the_time_since_the_status_before(reporting: Reporting) -> None:
    reporting.clock.ms += 2_000
    reporting.usage.append(Usage(500, 60 << 20, 10, 1 << 40, 4_000, 2_000, 1, 2))
    await reporting.reporter.report()
    [(status, anew)] = reporting.store.published
    assert anew
    assert status == NodeStatus(1, "A", 1_000_000, 25.0, 60 << 20, 10, 1 << 40, 2_000, 1_000, 1, 2)


async def test_what_did_not_change_is_written_again_only_after_a_long_time(
    reporting: Reporting,
) -> None:
    await reporting.reporter.report()
    for _ in range(QUIET_INTERVALS - 1):
        reporting.clock.ms += INTERVAL_MS
        await reporting.reporter.report()
    assert len(reporting.store.published) == 1
    reporting.clock.ms += INTERVAL_MS
    await reporting.reporter.report()
    assert [anew for _, anew in reporting.store.published] == [True, False]


async def test_the_node_is_made_anew_in_a_new_session_and_has_another_incarnation(
    reporting: Reporting,
) -> None:
    incarnations: list[int] = []
    reporter = reporting.reporter
    reporter.listeners.append(lambda: incarnations.append(reporter.incarnation))
    await reporter.report()
    reporter.on_store_event(StoreEvent.RECONNECTED)
    reporter.on_store_event(StoreEvent.LOST)
    reporting.store.incarnation = 9
    await reporter.report()
    assert [anew for _, anew in reporting.store.published] == [True, True]
    assert incarnations == [7, 0, 9]


async def test_a_status_written_in_a_session_that_ends_meanwhile_does_not_count(
    reporting: Reporting,
) -> None:
    publish = reporting.store.publish

    async def lose(status: NodeStatus, *, anew: bool) -> int:
        reporting.reporter.on_store_event(StoreEvent.LOST)
        return await publish(status, anew=anew)

    reporting.store.publish = lose  # type: ignore[method-assign]
    await reporting.reporter.report()
    assert reporting.reporter.incarnation == 0
    reporting.store.publish = publish  # type: ignore[method-assign]
    await reporting.reporter.report()
    assert [anew for _, anew in reporting.store.published] == [True, True]


@pytest.mark.parametrize("error", [SessionLostError("gone"), MinikafkaError("no permission")])
async def test_a_status_that_cannot_be_written_is_tried_again_in_the_next_session(
    reporting: Reporting, error: Exception
) -> None:
    reporting.store.error = error
    task = asyncio.create_task(reporting.reporter.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    reporting.store.error = None
    reporting.reporter.on_store_event(StoreEvent.LOST)
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    assert len(reporting.store.published) == 1


# --- the monitor ---------------------------------------------------------------------------------


class Term:
    """A queue that is served when the test says so."""

    def __init__(self) -> None:
        self.events: list[Callable[[], Awaitable[None]]] = []

    def enqueue(self, event: Callable[[], Awaitable[None]]) -> None:
        self.events.append(event)

    async def serve(self) -> None:
        while self.events:
            await self.events.pop(0)()


def node(broker_id: int, name: str, started_at_ms: int = 1, cpu: float = 0.0) -> LiveNode:
    return LiveNode(NodeStatus(broker_id, name, started_at_ms, cpu), broker_id * 100, 5)


@dataclass
class Monitoring:
    store: FakeNodes
    clock: Clock
    term: Term
    monitor: NodeMonitor

    async def look(self) -> None:
        self.monitor.on_store_event(StoreEvent.RECONNECTED)
        await self.term.serve()


@pytest.fixture
def monitoring() -> Monitoring:
    store, clock, term = FakeNodes(), Clock(), Term()
    monitor = NodeMonitor(store, INTERVAL_MS, clock)
    return Monitoring(store, clock, term, monitor)


async def test_who_goes_is_noted_with_the_last_status_and_the_time(monitoring: Monitoring) -> None:
    store = monitoring.store
    store.live = {1: node(1, "A"), 2: node(2, "B")}
    monitoring.monitor.begin(monitoring.term)
    await monitoring.term.serve()
    assert store.seen == {1: SeenNode(node(1, "A").status), 2: SeenNode(node(2, "B").status)}
    store.live[2] = node(2, "B", cpu=50.0)
    await monitoring.look()
    del store.live[2]
    assert store.notify is not None
    store.notify()
    store.notify()
    assert len(monitoring.term.events) == 1, "one look that waits is enough"
    await monitoring.term.serve()
    assert store.seen[2] == SeenNode(node(2, "B", cpu=50.0).status, monitoring.clock.ms)
    assert monitoring.monitor.live == {1: node(1, "A")}
    monitoring.monitor.end()


async def test_who_died_together_with_the_controller_is_noted_by_the_next_one(
    monitoring: Monitoring,
) -> None:
    monitoring.store.seen = {1: SeenNode(node(1, "A").status), 2: SeenNode(node(2, "B").status)}
    monitoring.store.live = {2: node(2, "B")}
    monitoring.monitor.begin(monitoring.term)
    await monitoring.term.serve()
    assert monitoring.store.seen[1] == SeenNode(node(1, "A").status, monitoring.clock.ms)
    assert monitoring.store.seen[2].gone_at_ms == 0
    monitoring.monitor.end()


async def test_who_comes_back_is_there_and_who_is_gone_for_days_is_forgotten(
    monitoring: Monitoring,
) -> None:
    gone_at_ms = monitoring.clock.ms
    monitoring.store.seen = {
        1: SeenNode(node(1, "A").status, gone_at_ms),
        2: SeenNode(node(2, "B").status, gone_at_ms),
    }
    monitoring.clock.ms += SEEN_LIFETIME_MS
    monitoring.store.live = {1: node(1, "A", started_at_ms=2)}
    monitoring.monitor.begin(monitoring.term)
    await monitoring.term.serve()
    assert monitoring.store.seen[1] == SeenNode(node(1, "A", started_at_ms=2).status)
    assert monitoring.store.seen[2].gone_at_ms == gone_at_ms
    monitoring.clock.ms += 1
    await monitoring.look()
    assert 2 not in monitoring.store.seen
    monitoring.monitor.end()


async def test_a_deposed_controller_ends_and_an_unreadable_node_does_not_end_it(
    monitoring: Monitoring,
) -> None:
    heard: list[int] = []
    monitoring.monitor.listeners.append(lambda: heard.append(1))
    monitoring.store.error = MinikafkaError("not JSON")
    monitoring.monitor.begin(monitoring.term)
    await monitoring.term.serve()
    assert not heard
    monitoring.store.error = None
    monitoring.store.live = {1: node(1, "A")}
    monitoring.store.outcome = WriteOutcome.DEPOSED
    monitoring.monitor.on_store_event(StoreEvent.RECONNECTED)
    with pytest.raises(DeposedError):
        await monitoring.term.serve()
    monitoring.monitor.end()


async def test_nothing_is_done_for_a_term_that_is_over(monitoring: Monitoring) -> None:
    monitoring.monitor.begin(monitoring.term)
    monitoring.monitor.end()
    monitoring.monitor.on_store_event(StoreEvent.RECONNECTED)
    await monitoring.term.serve()
    assert monitoring.store.notify is None


async def test_a_list_names_the_living_the_gone_and_who_went_just_now() -> None:
    store, clock = FakeNodes(), Clock()
    store.live = {2: node(2, "B")}
    store.seen = {
        1: SeenNode(node(1, "A").status, 44),
        2: SeenNode(node(2, "B").status),
        3: SeenNode(node(3, "C").status),
    }
    lister = NodeLister(store, clock)
    reports = await lister.list_nodes()
    assert [(r.status.name, r.live, r.gone_at_ms) for r in reports] == [
        ("A", False, 44),
        ("B", True, 0),
        ("C", False, clock.ms),
    ]
    store.error = SessionLostError("gone")
    with pytest.raises(BrokerNotAvailableError, match="cannot be read now"):
        await lister.list_nodes()


async def test_who_is_controller_is_told_as_it_is_stored_or_that_it_cannot_be_read() -> None:
    store = FakeNodes()
    lister = NodeLister(store, Clock())
    assert await lister.describe_controller() == ControllerReport(-1, 4, (2, 3))
    store.error = SessionLostError("gone")
    with pytest.raises(BrokerNotAvailableError, match="cannot be read now: gone"):
        await lister.describe_controller()


async def test_a_broker_tells_why_replicas_are_offline_but_not_of_thousands() -> None:
    store, clock = FakeNodes(), Clock()
    offline = {TopicPartition("t", number): f"reason {number}" for number in range(12)}
    offline[TopicPartition("t", 1)] = "the log of t-1 " + "x" * 5000
    usage = Usage(offline=offline)
    reporter = NodeReporter(store, 1, "A", 1000, lambda: usage, clock, clock)
    await reporter.report()
    ((status, _),) = store.published
    assert status.partitions_offline == 12
    assert len(status.offline) == 10
    assert status.offline[0] == "t-0: reason 0"
    assert status.offline[1].startswith("the log of t-1 x")
    assert len(status.offline[1]) == 1000
