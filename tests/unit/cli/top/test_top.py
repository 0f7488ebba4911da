"""`minikafka top`: rates out of readings, frames that fit, and a gatherer that outlives brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from minikafka.api.metrics import (
    BrokerMetrics,
    ProcessUsage,
    ReplicaMetrics,
    RequestMetrics,
)
from minikafka.api.requests import ClusterUpdate
from minikafka.cli.main import cli
from minikafka.cli.top.frame import Known, Line, Row, Section, duration, frame, lines
from minikafka.cli.top.gather import Gatherer
from minikafka.cli.top.load import Loads, Traffic, p99_ms
from minikafka.errors import NetworkError
from minikafka.local.discovery import Bootstrap
from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from minikafka.watching.board import Board
from tests.helpers.metrics import metrics_of, topic_of
from tests.helpers.waiting import until

# --- rates ---------------------------------------------------------------------------------------


def reading(uptime_ms: int, records: int, broker_id: int = 1, **changes: Any) -> BrokerMetrics:
    counters = {"messages_in": records, "bytes_in": 10 * records, "bytes_out": 5 * records}
    return metrics_of(
        broker_id,
        uptime_ms=uptime_ms,
        total=topic_of(**counters),
        topics=(topic_of("orders", **counters),),
        **changes,
    )


def test_two_readings_make_rates_by_the_uptime_between_them() -> None:
    loads = Loads()
    requests = RequestMetrics("Produce", 10, 0, 0, 0)
    loads.take(reading(1000, 100, requests=(requests,)), 0.0)
    assert loads.brokers[1].traffic is None
    assert loads.brokers[1].cpu is None
    more = replace(requests, count=30)
    loads.take(reading(3000, 500, requests=(more,), process=ProcessUsage(cpu_ms=500)), 99.0)
    load = loads.brokers[1]
    assert load.traffic == Traffic(200.0, 2000.0, 1000.0)
    assert (load.cpu, load.requests, load.heard_s) == (0.25, 10.0, 99.0)
    assert loads.topics() == {"orders": Traffic(200.0, 2000.0, 1000.0)}


def test_a_broker_that_was_started_anew_has_no_rates_until_its_second_reading() -> None:
    loads = Loads()
    loads.take(reading(60_000, 1000), 0.0)
    loads.take(reading(500, 0), 1.0)
    assert loads.brokers[1].traffic is None
    loads.take(reading(1500, 7), 2.0)
    assert loads.brokers[1].traffic == Traffic(7.0, 70.0, 35.0)


def test_counters_that_fell_are_of_another_life_even_if_the_uptime_grew() -> None:
    loads = Loads()
    loads.take(reading(1000, 100), 0.0)
    loads.take(reading(2000, 3), 1.0)
    assert loads.brokers[1].traffic is None


def test_a_topic_that_was_made_anew_has_no_negative_rate() -> None:
    loads = Loads()
    loads.take(reading(1000, 100), 0.0)
    anew = replace(reading(2000, 200), topics=(topic_of("orders"), topic_of("new")))
    loads.take(anew, 1.0)
    assert loads.topics() == {"orders": Traffic()}


def test_traffic_of_topics_and_of_the_cluster_is_summed_over_brokers() -> None:
    loads = Loads()
    for broker_id in (1, 2):
        loads.take(reading(0, 0, broker_id), 0.0)
        loads.take(reading(1000, 10 * broker_id, broker_id), 1.0)
    assert loads.total() == loads.topics()["orders"] == Traffic(30.0, 300.0, 150.0)
    loads.forget(1)
    loads.forget(7)
    assert loads.total().records_in == 20.0


def test_the_slowest_of_some_kinds_of_requests_is_told() -> None:
    metrics = metrics_of(
        1,
        requests=(
            RequestMetrics("Produce", 1, 0, 0, 1500),
            RequestMetrics("Fetch", 1, 0, 0, 9000),
        ),
    )
    assert p99_ms(metrics, ("Produce",)) == 1.5
    assert p99_ms(metrics, ("Metadata",)) is None


# --- frames --------------------------------------------------------------------------------------


def partition(
    number: int, leader: int, isr: Sequence[int], version: int = 0, topic: str = "orders"
) -> PartitionMetadata:
    state = PartitionState(leader, version, tuple(isr), 1, version)
    return PartitionMetadata(
        TopicPartition(topic, number), f"id-{topic}", Assignment((1, 2, 3)), state
    )


def brokers(*ids: int) -> list[BrokerInfo]:
    return [BrokerInfo(each, chr(64 + each), "h", each, broker_epoch=each) for each in ids]


def known(*partitions: PartitionMetadata, live: Sequence[int] = (1, 2, 3)) -> Known:
    board = Board(names={1: "A", 2: "B", 3: "C"})
    board.apply("h:1", ClusterUpdate(list(partitions), (), brokers(*live), 2, 5))
    return Known(board, Loads(), groups=[])


def text(what: Known, height: int | None = None) -> str:
    return "\n".join(line.text for line in lines(*frame(what, 100.0, "14:03:07"), height))


def row_of(what: Known, first: str) -> list[str]:
    [found] = [line for line in text(what).split("\n") if line.split()[:1] == [first]]
    return found.split()


def test_brokers_are_shown_with_their_load_and_who_is_controller() -> None:
    what = known(partition(0, 1, (1, 2, 3)))
    for broker_id in (1, 2):
        what.loads.take(reading(0, 0, broker_id), 0.0)
        after = reading(
            1000,
            1234,
            broker_id,
            process=ProcessUsage(100, 60_000_000, 5),
            replicas=ReplicaMetrics(7, 3),
            requests=(RequestMetrics("Produce", 50, 0, 0, 2500),),
        )
        what.loads.take(after, 1.0)
    assert row_of(what, "A")[:3] == ["A", "1", "up"]
    shown = ["1,234", "12.3", "kB", "6.2", "kB", "0", "10%", "60.0", "MB", "3", "7", "50"]
    assert row_of(what, "B") == ["B", "2", "controller", *shown, "2.5", "ms", "1s"]
    assert row_of(what, "C")[:4] == ["C", "3", "silent", "-"]
    assert "healthy: 3 brokers, controller B (epoch 5), 1 topic" in text(what)
    assert "2,468 records/s, 24.7 kB/s in, 12.3 kB/s out" in text(what)


def test_a_dead_broker_is_gone_and_its_partitions_are_not_well() -> None:
    what = known(partition(0, 1, (1, 2)), partition(1, -1, (3,)), live=(1, 2))
    what.gone_s[3] = 88.0
    assert row_of(what, "C")[:4] == ["C", "3", "gone", "12s"]
    shown = text(what)
    assert "not well: 1 offline, 1 under-replicated" in shown
    assert row_of(what, "orders-1")[1:4] == ["offline", "Leader=none", "Epoch=0"]
    assert row_of(what, "orders-0")[1] == "under-replicated"
    assert shown.index("orders-1  ") < shown.index("orders-0  ")
    assert "missing: C" in shown


def test_a_cluster_that_is_well_has_no_section_of_what_is_not() -> None:
    assert "not well:" not in text(known(partition(0, 1, (1, 2, 3))))


def test_partitions_of_the_brokers_own_topics_come_last() -> None:
    internal = partition(0, 1, (1,), topic="__consumer_offsets")
    shown = text(known(internal, partition(0, 1, (1,), topic="zebra")))
    assert shown.index("zebra-0") < shown.index("__consumer_offsets-0")


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("bytes in", ["fat", "busy", "idle"]),
        ("records in", ["busy", "fat", "idle"]),
        ("name", ["busy", "fat", "idle"]),
    ],
)
def test_topics_are_ordered_as_was_asked(sort: str, order: list[str]) -> None:
    what = known(*[partition(0, 1, (1, 2, 3), topic=each) for each in ("idle", "busy", "fat")])
    what.sort = sort
    for uptime_ms in (0, 1000):
        traffic = {"busy": (uptime_ms, uptime_ms), "fat": (1, 9 * uptime_ms), "idle": (0, 0)}
        topics = tuple(
            topic_of(name, messages_in=records, bytes_in=size)
            for name, (records, size) in traffic.items()
        )
        what.loads.take(metrics_of(1, uptime_ms=uptime_ms, topics=topics), 0.0)
    shown = [line.split()[0] for line in text(what).split("\n") if line.startswith(tuple(order))]
    assert shown == order


def test_groups_are_shown_with_the_largest_lag_first() -> None:
    what = known(partition(0, 1, (1, 2, 3)))
    what.groups = [
        {"group": "idle", "state": "Empty", "members": [], "lag": 0},
        {"group": "late", "state": "Stable", "members": [{}, {}], "lag": 12345},
    ]
    assert row_of(what, "late") == ["late", "Stable", "2", "12,345"]
    assert text(what).index("late") < text(what).index("idle")
    what.groups, what.groups_note = None, "no answer in time"
    assert "groups (no answer in time)" in text(what)


def test_open_transactions_are_shown_with_what_each_holds_back() -> None:
    what = known(partition(0, 1, (1, 2, 3)))
    assert "transaction" not in text(what)
    held = [{"topic": "t", "partition": number, "from_offset": 1} for number in range(5)]
    common = {"producer_id": 4, "producer_epoch": 0, "timeout_ms": 5_000, "partitions": 5}
    transfer = {**common, "transactional_id": "transfer", "state": "Ongoing"}
    lost = {**common, "transactional_id": None, "state": "hangs", "timeout_ms": None}
    what.transactions = {
        "open": 3,
        "transactions": [
            {**transfer, "started_ms": 1_000, "holds_back": []},
            {**transfer, "transactional_id": "old", "started_ms": -90_000, "holds_back": held},
            {**lost, "started_ms": None, "holds_back": held[:1]},
        ],
    }
    shown = frame(what, 0.0, "14:03:07", 3_000)[1]
    [section] = [each for each in shown if each.title.startswith("transactions")]
    assert section.title == "transactions: 3 open"
    assert [row.cells for row in section.rows] == [
        ("transfer", "Ongoing", "2s", "5", "-"),
        ("old", "Ongoing", "1m33s", "5", "t-0, t-1, t-2 and 2 more"),
        ("(producer 4)", "hangs", "-", "5", "t-0"),
    ]
    assert [row.style for row in section.rows] == ["", "yellow", "red"]


def test_when_nobody_answers_that_stands_first() -> None:
    what = known(partition(0, 1, (1, 2, 3)))
    what.remark = "no broker answers any more"
    assert text(what).startswith("14:03:07  no broker answers any more\n")


def test_where_there_is_little_room_the_ends_of_tables_make_way() -> None:
    what = known(*[partition(0, 1, (1, 2, 3), topic=f"t{number:02}") for number in range(40)])
    what.events = [f"event {number}" for number in range(40)]
    shown = text(what, height=24).split("\n")
    assert len(shown) == 24
    assert [line.split()[0] for line in shown if line[:2] in ("A ", "B ", "C ")] == ["A", "B", "C"]
    assert any("more" in line for line in shown)
    assert shown[-1] == "event 39"
    assert "event 0" in text(what).split("\n")


SECTIONS = st.lists(
    st.builds(
        Section,
        st.sampled_from(["", "title"]),
        st.sampled_from(["a|>b", ""]),
        st.integers(0, 30).map(lambda count: [Row(("x", "1"))] * count),
        st.sampled_from(["nothing"]),
    ),
    min_size=1,
    max_size=5,
)


@given(SECTIONS, st.integers(1, 60))
def test_a_frame_is_never_higher_than_its_screen_nor_lower_than_it_must(
    sections: list[Section], height: int
) -> None:
    head = [Line("head")]
    everything = lines(head, sections)
    shown = lines(head, sections, height)
    assert len(shown) <= height
    if len(everything) <= height:
        assert shown == everything


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0s"), (59.9, "59s"), (750, "12m30s"), (11_100, "3h05m"), (187_200, "2d04h")],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


# --- gathering -----------------------------------------------------------------------------------


class FakeChannel:
    """One broker: says what is put into `told`; `answer` are its metrics, or why there are none."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[ClusterUpdate | NetworkError] = asyncio.Queue()
        self.answer: BrokerMetrics | Exception | None = NetworkError("not yet")

    async def watch(self, topics: Sequence[str]) -> AsyncIterator[ClusterUpdate]:
        while True:
            item = await self.told.get()
            if isinstance(item, NetworkError):
                raise item
            yield item

    async def broker_metrics(self) -> BrokerMetrics:
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer

    async def close(self) -> None: ...


class Stage:
    def __init__(self) -> None:
        self.channels = {f"h:{each}": FakeChannel() for each in (1, 2)}
        cluster = Bootstrap(("h:1", "h:2"), "the test", {1: "A", 2: "B"})
        self.gatherer = Gatherer(cluster, self.channels.__getitem__)  # type: ignore[arg-type]

    def tell(self, source: int, *partitions: PartitionMetadata, live: Sequence[int]) -> None:
        update = ClusterUpdate(list(partitions), (), brokers(*live), 1, 1)
        self.channels[f"h:{source}"].told.put_nowait(update)

    @property
    def known(self) -> Known:
        return self.gatherer.known


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    for each in (1, 2):
        stage.tell(each, partition(0, 1, (1, 2)), live=(1, 2))
    async with stage.gatherer:
        yield stage


async def test_a_broker_that_does_not_answer_is_silent_and_the_others_are_read(
    stage: Stage,
) -> None:
    await until(lambda: len(stage.known.board.brokers) == 2)
    stage.channels["h:1"].answer = reading(0, 0, 1)
    for refusal in (None, NetworkError("gone")):
        stage.channels["h:2"].answer = refusal
        await stage.gatherer.read_metrics(0.05)
        assert stage.known.loads.brokers.keys() == {1}
    stage.channels["h:2"].answer = reading(0, 0, 2)
    await stage.gatherer.read_metrics()
    assert stage.known.loads.brokers.keys() == {1, 2}


async def test_a_broker_that_leaves_is_gone_until_it_comes_back(stage: Stage) -> None:
    for each in (1, 2):
        stage.channels[f"h:{each}"].answer = reading(0, 0, each)
    await until(lambda: len(stage.known.board.brokers) == 2)
    await stage.gatherer.read_metrics()
    stage.tell(1, partition(0, 1, (1,), 1), live=(1,))
    await until(lambda: 2 in stage.known.gone_s)
    assert stage.known.loads.brokers.keys() == {1}
    await until(lambda: len(stage.known.events) == 2)
    said = [event.split(maxsplit=1)[1] for event in stage.known.events]
    assert said == ["broker B left the cluster", "orders-0 Leader=A Epoch=1 ISR={A}"]
    again = [brokers(1)[0], replace(brokers(2)[0], broker_epoch=9)]
    stage.channels["h:1"].told.put_nowait(ClusterUpdate((), (), again, 1, 1))
    await until(lambda: not stage.known.gone_s)


async def test_what_was_so_at_the_start_is_no_change(stage: Stage) -> None:
    stage.tell(1, partition(1, 1, (1, 2)), live=(1, 2))
    await until(lambda: len(stage.known.board.partitions) == 2)
    assert list(stage.known.events) == []


async def test_the_brokers_own_topics_take_one_line_however_many_partitions_change(
    stage: Stage,
) -> None:
    def internal(version: int) -> list[PartitionMetadata]:
        topic = "__consumer_offsets"
        return [partition(number, 1, (1, 2), version, topic) for number in range(50)]

    stage.tell(1, *internal(0), live=(1, 2))
    stage.tell(1, *internal(1), live=(1, 2))
    await until(lambda: stage.known.events)
    [event] = stage.known.events
    assert event.endswith(" 50 partitions of __consumer_offsets changed")


async def test_when_all_fall_silent_that_is_said_until_one_speaks_again(stage: Stage) -> None:
    await until(lambda: len(stage.known.board.brokers) == 2)
    for channel in stage.channels.values():
        channel.told.put_nowait(NetworkError("gone"))
    await until(lambda: stage.known.remark)
    assert "no broker answers" in stage.gatherer.lines()[0].text
    stage.tell(1, partition(0, 2, (2,), 2), live=(1, 2))
    await until(lambda: not stage.known.remark)


async def test_topics_are_ordered_by_each_column_in_turn(stage: Stage) -> None:
    seen = []
    for _ in range(5):
        seen.append(stage.known.sort)
        stage.gatherer.next_sort()
    assert seen == ["bytes in", "bytes out", "records in", "name", "bytes in"]


@pytest.mark.parametrize("interval", ["0", "-1", "fast"])
def test_an_interval_that_is_none_is_refused(interval: str) -> None:
    done = CliRunner().invoke(cli, ["top", "--interval", interval, "--bootstrap", "h:1"])
    assert done.exit_code == 2
    assert "--interval" in done.stderr
